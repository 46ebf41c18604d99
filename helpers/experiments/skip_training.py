"""How the skip model is trained, and how its knob is chosen and measured (chapter 13). In a shell::

    python -m helpers.experiments.skip_training --out runs/skip                      # on the shipped faces
    python -m helpers.experiments.skip_training --out runs/photos --data my/photos   # on photographs
    python -m helpers.experiments.skip_training --out runs/no-map --in-channels 3    # without an edge map
    python -m helpers.experiments.skip_training --out runs/skip --measure            # choose the knob, measure all

Blind (chapter 14), for photographs that nobody knows the blur of; the portraits are those that ``python -m
helpers.portraits`` fetches::

    python -m helpers.experiments.skip_training --out runs/blind --name blind --degradation blind --augment \\
        --data portraits --data grey-portraits --data faces --shares 2 1 1 --start data/checkpoints/skip.safetensors \\
        --rate 7e-4 --batch-size 8
    python -m helpers.experiments.skip_training --out runs/blind --export blind.safetensors   # as it is by now
    python -m helpers.experiments.skip_training --out runs/blind --name blind --measure --data portraits

The knob is chosen on validation pictures by :func:`best_knob`: the lowest LPIPS between the ends, among the positions
whose PSNR is at most 0.5 dB below the best. For a blind model both are means over the cases of
:data:`helpers.degrade.MATRIX`, in which the PSNR of a case counts 42 dB at most: a sharp picture that came back that
close has come back as it was, and 60 dB are no better.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from helpers.augment import Augment
from helpers.data import denormalise
from helpers.degrade import MATRIX, PRESETS, Degradation, preset
from helpers.engine import commands, runs
from helpers.engine.acceleration import look_every
from helpers.engine.checkpoints import load_checkpoint, read_about, save_checkpoint
from helpers.engine.commands import count_int, positive_float
from helpers.engine.devices import device_for
from helpers.engine.ema import Ema
from helpers.engine.errors import TrainingError
from helpers.engine.folders import write_errors, write_json
from helpers.engine.loading import StepBatches
from helpers.engine.precision import autocast, precision_for, scaler_for
from helpers.engine.updates import cosine_rate, set_rate, update
from helpers.experiments.skip_model import SkipModel, model_of
from helpers.losses import TotalLoss, Weights
from helpers.metrics import MOST_PSNR, RETURNED, means, measure
from helpers.mixed import OPTIONS, described, named_set, named_sets, names_of, training_set
from helpers.pairs import Pairs
from helpers.perceptual import Lpips, load_lpips
from helpers.realism import sliced_wasserstein
from helpers.seeds import seed_everything

# A first guess that was kept, not a search. No total variation: it was not tried here (chapter 13 measures +0.06 dB for
# it in the small thesis's model). The latent term is light, since equation 41's 0.2 would be large beside a picture
# loss this small.
WEIGHTS = Weights(l1=0.5, lpips=0.5, ssim=0.25, tv=0.0, latent=0.02)
VALIDATED = 100  # validation pictures at most, while a model is trained


def fidelity_loss(mean: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Half the logarithm of each picture's MSE, averaged: PSNR (equation 45) turned into a loss, as NAFNet does.

    A gain of 1 dB counts the same on a picture that is hard and on one that is easy.
    """
    return 0.5 * (mean.float() - target).square().mean((1, 2, 3)).clamp(min=1e-8).log().mean()


def train(
    images,
    out: str | Path | None,
    steps: int,
    batch_size: int = 16,
    seed: int = 2025,
    rate: float = 1e-3,
    fidelity: float = 0.1,
    weights: Weights = WEIGHTS,
    degradation: str = "celebablur",
    lpips: Lpips | None = None,
    start: str | Path | None = None,
    progress: bool = True,
    validation: np.ndarray | None = None,
    validate_every: int = 1000,
    precision: str = "auto",
    augment: Callable | None = None,
    source: str = "",
    **shape,
) -> tuple[SkipModel, list[dict]]:
    """Train on sharp ``images`` (uint8 N×H×W×3), or go on in the folder ``out``; the averaged model and its history.

    AdamW, a rate that rises and falls (``engine.updates.cosine_rate``), an average of the weights over 1,000 steps.

    Parameters
    ----------
    out : None keeps nothing
    fidelity : weight of :func:`fidelity_loss` on the mean, beside the thesis's five terms on the perceptual end
    degradation : the name of a preset; "blind" for photographs
    start : a checkpoint to begin with, to train on with other weights or on other pictures
    validation : sharp pictures, uint8 N×H×W×3, on which the averaged model is measured every ``validate_every`` steps;
        a blind one in every case of :data:`helpers.degrade.MATRIX`
    augment : changes the sharp pictures first, see :class:`helpers.pairs.Pairs`
    source : what the images are, for the checkpoint to tell
    precision : see :func:`helpers.engine.precision.precision_for`
    shape : what else :class:`SkipModel` takes
    """
    device = device_for()
    precision = precision_for(device, precision)
    seed_everything(seed)
    model = SkipModel(image_size=images[0].shape[0], **shape)
    edges = "blurred" if model.deblur_encoder.in_channels == 4 else "none"
    pairs = Pairs(images, degradation, edges=edges, flip=True, seed=seed, augment=augment)
    batches = StepBatches(pairs, batch_size, device)
    if start:
        load_checkpoint(start, model)
    model.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=1e-2, fused=True)
    lpips = (lpips or load_lpips()).to(device)
    loss, ema, scaler = TotalLoss(lpips, weights), Ema(model, 0.999), scaler_for(device, precision)

    def step(number: int) -> dict[str, torch.Tensor]:
        set_rate(optimiser, cosine_rate(number, steps, rate))
        inputs, target = batches(number)
        with autocast(device, precision):
            perceptual, mean, z_deblur, z_gt = model(inputs, target)
            parts = loss(perceptual, target, z_deblur, z_gt)
        parts["fidelity"] = fidelity_loss(mean, target)
        update(parts["total"] + fidelity * parts["fidelity"], scaler, optimiser)
        return {k: v.detach() for k, v in parts.items()}

    def validate() -> dict[str, float]:
        measures = {}
        for case, one in (cases := cases_of(degradation)).items():
            for end in along_the_knob(ema.module, Pairs(validation, one), lpips, None, (0, 1)):
                named = f"at {end.pop('knob')}" + (f", {case}" if len(cases) > 1 else "")
                measures |= {f"{k} {named}": v for k, v in end.items()}
        return measures

    settings = {"steps": steps, "batch_size": batch_size, "seed": seed, "rate": rate, "fidelity": fidelity}
    settings |= {"weights": vars(weights), "degradation": degradation, "precision": precision, **model.shape}
    settings |= {"images": len(images), "pictures": runs.fingerprint(images)}
    settings |= {"start": str(start)} if start else {}
    settings |= ({"augment": repr(augment)} if augment else {}) | ({"training_data": source} if source else {})
    history = runs.run(
        out, settings, {"model": model, "opt": optimiser, "scaler": scaler}, step, steps, (ema,),
        validate=None if validation is None else validate, validate_every=validate_every, desc="skip model",
        progress=progress, look_every=look_every(device),
    )  # fmt: skip
    return ema.module, history


def cases_of(degradation: str) -> dict[str, Degradation]:
    """Name -> degradation, in which a model trained for the preset ``degradation`` is judged: all for a blind one."""
    return MATRIX if degradation == "blind" else {degradation: preset(degradation)}


KNOBS = tuple(k / 5 for k in range(7))  # a little past the perceptual end as well


def along_the_knob(model: SkipModel, pairs: Pairs, lpips: Lpips, reference, knobs=KNOBS, batch_size: int = 25) -> list:
    """The measures at every position of the knob, on the same pictures.

    Parameters
    ----------
    pairs : test or validation set
    reference : other sharp pictures, uint8 N×H×W×3, for the realism distance; without them it is left out

    Returns
    -------
    a dict for each position: knob, the means of the five measures (PSNR at most 60 dB a picture), SWD
    """
    device, ends, sharp = next(model.parameters()).device, ([], []), []
    with torch.no_grad():
        for batch in pairs.batches(batch_size):
            inputs = batch.input[:, : model.deblur_encoder.in_channels].to(device, memory_format=torch.channels_last)
            for end, image in zip(ends, model.eval().both(inputs), strict=False):
                end.append(image.float().cpu())
            sharp.append(batch.sharp)
    (mean, perceptual), sharp, rows = map(torch.cat, ends), np.concatenate(sharp), []
    for knob in tqdm(knobs, desc="knob", disable=None):
        restored = denormalise(torch.lerp(mean, perceptual, knob))
        table = measure(restored, sharp, lpips)
        measures = means(table.assign(PSNR=table["PSNR"].clip(upper=MOST_PSNR))).to_dict()
        if reference is not None:
            measures["SWD"] = sliced_wasserstein(restored, reference)["mean"]
        rows.append({"knob": knob, **measures})
    return rows


def best_knob(rows: list[dict]) -> float:
    """The position of the lowest LPIPS between the ends, among those whose PSNR is at most 0.5 dB below the best.

    What lies past the perceptual end is measured, not chosen: the theory speaks of the line between the ends.
    """
    metric = next(k for k in rows[0] if k.startswith("LPIPS"))
    near = [r for r in rows if r["PSNR"] >= max(q["PSNR"] for q in rows) - 0.5 and 0 <= r["knob"] <= 1]
    return min(near, key=lambda r: r[metric])["knob"]


def over_cases(rows: dict[str, list[dict]], most: float = MOST_PSNR) -> list[dict]:
    """Means over the cases at each position of the knob; the PSNR of a case counts ``most`` dB at most.

    Parameters
    ----------
    rows : case -> what :func:`along_the_knob` gave, the same positions for each
    """
    capped = [[{**row, "PSNR": min(row["PSNR"], most)} for row in case] for case in rows.values()]
    means_of = [pd.DataFrame(same).mean().to_dict() for same in zip(*capped, strict=True)]
    return [mean | {"knob": same[0]["knob"]} for mean, same in zip(means_of, zip(*capped, strict=True), strict=True)]


def measure_knob(path: str | Path, data: list[str] | None, limit: int | None, elsewhere: str | None) -> None:
    """Choose the knob on the validation set, write it into the checkpoint's JSON, print the test set along the knob.

    Parameters
    ----------
    path : the checkpoint
    data : names of sets, see :func:`helpers.mixed.named_set`
    elsewhere : another set whose test pictures are measured at the chosen place too
    """
    path, device = Path(path), device_for()
    about = read_about(path)
    model = model_of(about)
    load_checkpoint(path, model)
    model.to(device, memory_format=torch.channels_last)
    lpips, cases = load_lpips(device=device), cases_of(about.get("degradation", "celebablur"))

    def measured(sharp: np.ndarray, reference, *knobs) -> dict[str, list[dict]]:
        reference = reference if len(cases) == 1 else None  # realism is judged for one blur, not for a mixture
        return {case: along_the_knob(model, Pairs(sharp, one), lpips, reference, *knobs) for case, one in cases.items()}

    sets = {split: named_sets(data, split, limit) for split in ("val", "test")}
    sharp = {split: np.concatenate([np.stack(list(s)) for s in parts]) for split, parts in sets.items()}
    rows = {"val": measured(sharp["val"], None), "test": measured(sharp["test"], sharp["val"])}
    knob = best_knob(over_cases(rows["val"], RETURNED))
    about |= {"knob": knob, "along the knob": {split: over_cases(part) for split, part in rows.items()}}
    about["measured on"] = {split: described(names_of(data, split), parts) for split, parts in sets.items()}
    if len(cases) > 1:
        about["matrix"] = {case: next(r for r in row if r["knob"] == knob) for case, row in rows["test"].items()}
    if elsewhere:
        one, other = (np.stack(list(named_set(elsewhere, split, limit))) for split in ("test", "val"))
        (row,) = over_cases(measured(one, other, (knob,)))
        about["elsewhere"] = {"rendered faces" if elsewhere == "faces" else "photographs": row}
    write_json(path.with_suffix(".json"), about)
    print(pd.DataFrame(about["along the knob"]["test"]).to_string(index=False, float_format=lambda v: f"{v:.4f}"))
    print(f"chosen on the validation set: knob {knob}")


# ---------------------------------------------------------------------------------------------------------------------
# The checkpoint of a run


def export(
    out: str | Path,
    path: str | Path,
    trained_on: str = "",
    hours: float | None = None,
    precision: str = "auto",
) -> dict:
    """Write the averaged weights of the run in the folder ``out`` as a checkpoint, trained to the end or not.

    What the JSON says comes from the run's own state: settings, steps done, images seen, hours, the last record. Runs
    of earlier versions did not note all of it.

    Parameters
    ----------
    path : the checkpoint, ``.safetensors``; its name is the model's
    trained_on, hours, precision : what to say of the pictures, the time and the number format where the run does not

    Returns
    -------
    the JSON's content

    Raises
    ------
    TrainingError
        if there is no such run, it is another network's, or nothing says what it was trained on
    """
    noted, path = ("batch_size", "seed", "rate", "fidelity", "degradation", "weights", "augment"), Path(path)
    model, settings, about = runs.averaged_network(out, _untrained, "skip model", noted)
    if not (told := settings.get("training_data", trained_on)):
        raise TrainingError(f"{out}: does not say what it was trained on; --trained-on names it")
    if hours is not None:
        about.setdefault("hours", float(f"{hours:.3g}"))
    precision = settings.get("precision", precision)
    about = commands.facts({"name": path.stem, **about}, None, told, device_for(), precision) | model.shape
    about |= {"before": _history_of(settings["start"])} if "start" in settings else {}
    with write_errors(path):
        save_checkpoint(path, model, about, precision="8-bit")
    return read_about(path)


def _untrained(run: dict) -> SkipModel:
    """The network of a run of this training, which names the weight of its fidelity term."""
    if "fidelity" not in run:
        raise KeyError("fidelity")
    return model_of(run)


def _history_of(start: str) -> list[dict]:
    """How the checkpoint ``start`` was made: its own stages before, and its last one; its name if nothing says it."""
    about = read_about(start)
    names = (
        "steps", "batch_size", "rate", "seed", "weights", "degradation", "training_data", "augment",
        "hours", "hardware", "stopped",
    )  # fmt: skip
    last = {k: about[k] for k in names if k in about}
    return [*about.get("before", []), last or {"checkpoint": Path(start).name}]


# ---------------------------------------------------------------------------------------------------------------------
# In a shell


def main(argv: list[str] | None = None) -> None:
    extra = {"--measure": {"action": "store_true", "help": "choose the knob and measure what is trained already"}}
    extra["--export"] = {"help": "write the checkpoint of the run as it is by now to this file (.safetensors)"}
    extra["--trained-on"] = {"default": "", "help": "with --export: the pictures in words, if the run does not tell"}
    extra["--hours"] = {"type": positive_float, "help": "with --export: how long it trained, if the run does not tell"}
    extra["--name"] = {"default": "skip", "help": "of the checkpoint in the folder of the run"}
    extra |= OPTIONS
    extra["--degradation"] = {"choices": list(PRESETS), "default": "celebablur", "help": "'blind' for photographs"}
    extra["--augment"] = {"action": "store_true", "help": "faces of many sizes, softer, in other colours"}
    extra["--start"] = {"help": "a checkpoint to begin with, to train on"}
    extra["--rate"] = {"type": positive_float, "default": 1e-3, "help": "the highest learning rate"}
    extra["--lpips-weight"] = {"type": float, "default": WEIGHTS.lpips, "help": "λ of the perceptual loss"}
    extra["--fidelity"] = {"type": float, "default": 0.1, "help": "weight of the loss of the mean"}
    extra["--in-channels"] = {"type": int, "choices": (3, 4), "default": 4, "help": "3 for a model without an edge map"}
    extra["--validate-every"] = {"type": count_int, "default": 1000, "help": "steps between two validations; 0: none"}
    extra["--elsewhere"] = {"help": "measure on another set's test pictures too, named as with --data"}
    args = commands.parser("helpers.experiments.skip_training", __doc__, {"train": 6000}, extra).parse_args(argv)
    path = Path(args.export) if args.export else Path(args.out) / f"{args.name}.safetensors"
    with commands.exit_on_error():
        if args.export:
            about = export(args.out, path, args.trained_on, args.hours, args.precision)
            print(f"wrote {path}: {about.get('stopped', 'trained to the end')}")
        if args.measure:
            measure_knob(path, args.data, args.limit, args.elsewhere)
        if not args.export and not args.measure:
            _train(args, path)


def _train(args, path: Path) -> None:
    """What the command line asks for: train, and write the checkpoint in its shipped form."""
    images, source = training_set(args.data, args.shares, args.limit)
    train(
        images, args.out, args.train_steps, args.batch_size, args.seed, args.rate, args.fidelity,
        weights=Weights(**(vars(WEIGHTS) | {"lpips": args.lpips_weight})), degradation=args.degradation,
        start=args.start, validation=_validation(args) if args.validate_every else None,
        validate_every=args.validate_every, precision=args.precision, augment=Augment() if args.augment else None,
        source=source, in_channels=args.in_channels,
    )  # fmt: skip
    export(args.out, path, source)
    print(f"wrote {path}")


def _validation(args) -> np.ndarray:
    """The first validation pictures of every set that has some, 100 together at most: uint8 N×H×W×3."""
    most = min(args.limit or VALIDATED, VALIDATED)
    sets = named_sets(args.data, "val", most)
    return np.concatenate([np.stack(list(images[: -(-most // len(sets))])) for images in sets])


if __name__ == "__main__":
    main()
