"""What each ingredient of the thesis's model is worth: named variants, trained and measured alike (chapter 13).

::

    python -m helpers.experiments.ablations --preset tiny --out runs/tiny        # a check, a minute or two
    python -m helpers.experiments.ablations --preset course --out runs/course    # the hypotheses: 11 arms × 8 seeds
    python -m helpers.experiments.ablations --collect runs/course --to data/results/hypotheses.json

    # one arm more beside the recorded ones, which are not trained again
    python -m helpers.experiments.ablations --preset course --add-to data/results/hypotheses.json --out runs/course \
        --variants latent-held

    # exploration: many variants, few seeds, no correction, no verdicts
    python -m helpers.experiments.ablations --preset laptop --out runs/laptop    # 32 variants × 3 seeds, CPU
    python -m helpers.experiments.ablations --preset longer --out runs/longer    # 7 of them, three times the steps
    python -m helpers.experiments.ablations --preset full --out runs/full --data my/photos   # for a GPU
    python -m helpers.experiments.ablations --collect runs/laptop --to data/results/ablations.json

Every variant differs from the thesis in one thing, is trained for the same number of steps on the same faces in the
same order, and measured on the same test faces. Each run is a file in the folder ``--out``; a run that is there is not
done again, so the command goes on where it was stopped, and several processes may share a folder (``--seeds``).
Seed after seed, all variants are trained: an experiment that is ended early has equally many seeds of each.

``--preset course`` writes its hypotheses into the folder before the first run (:mod:`helpers.experiments.hypotheses`)
and judges them at the end.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from helpers.data import ImageError, denormalise, load_parameters, load_split, square
from helpers.degrade import Degradation
from helpers.engine import runs
from helpers.engine.acceleration import look_every
from helpers.engine.commands import bare_parser, count_int, exit_on_error
from helpers.engine.devices import device_for
from helpers.engine.folders import write_errors, write_json
from helpers.engine.loading import StepBatches
from helpers.engine.precision import PRECISIONS, autocast, precision_for, scaler_for
from helpers.engine.runs import Stopped, TrainingError, hardware
from helpers.engine.updates import set_rate, update
from helpers.experiments import hypotheses
from helpers.experiments.adversarial import Adversary
from helpers.experiments.records import write_missing
from helpers.experiments.results import collect, differences, told, unpack
from helpers.experiments.skip_model import SkipModel
from helpers.experiments.skip_training import fidelity_loss
from helpers.experiments.variants import (
    ALL,
    PRESETS,
    Preset,
    Variant,
    blur,
    claim_preset,
    other_degradations,
    seed_of,
)
from helpers.losses import TotalLoss, l1_loss
from helpers.metrics import measure
from helpers.networks import DeblurModel
from helpers.pairs import Pairs
from helpers.perceptual import Lpips, load_lpips
from helpers.probes import fit_probes
from helpers.realism import sliced_wasserstein
from helpers.seeds import SEED, seed_everything

SECOND = "LPIPS, random trunk"  # a perceptual measure that nothing was trained on


def load_pictures(preset: Preset, photographs: str | Path | None = None) -> dict[str, dict[str, np.ndarray]]:
    """{"faces": {"train": uint8 N×size×size×3, "val": ..., "test": ...}, "photographs": ...} as the preset wants."""

    def sized(source, split, limit):
        images = load_split(source, split, limit)
        return np.stack([square(image, preset.image_size) for image in images])

    sources = {"faces": None} | ({"photographs": photographs} if photographs else {})
    splits = zip(("train", "val", "test"), preset.faces, strict=True)
    limits = list(splits)
    return {name: {s: sized(source, s, n) for s, n in limits} for name, source in sources.items()}


# ---------------------------------------------------------------------------------------------------------------------
# One run


class Feed:
    """Pairs as a variant sees them: :meth:`inputs` puts its kind of edge map into the fourth channel."""

    def __init__(self, images: np.ndarray, variant: Variant, degradation: Degradation, seed: int = SEED, flip=False):
        edges = "oracle" if variant.edges == "oracle" else "blurred"
        self.kind = variant.edges
        self.pairs = Pairs(images, degradation, edges=edges, thresholds=variant.thresholds, flip=flip, seed=seed)

    def inputs(self, inputs: torch.Tensor) -> torch.Tensor:
        """A batch's input (N×4×H×W) with the edge map that the variant gets; the batch's own stays as it was."""
        inputs = inputs.clone()
        if self.kind == "none":
            inputs[:, 3] = 0
        elif self.kind == "shuffled":
            inputs[:, 3] = inputs[:, 3].roll(1, 0)
        return inputs


def build(variant: Variant, preset: Preset) -> DeblurModel | SkipModel:
    """The untrained network of a variant, at the preset's size."""
    if variant.network == "skip":
        w = 2 * preset.width
        return SkipModel(preset.code_of(variant), preset.image_size, (w, w, 2 * w, 2 * w), (1, 1, 1, 1))
    model = DeblurModel(preset.code_of(variant), preset.image_size, preset.width)
    if not variant.pooled:
        encoder, side = model.deblur_encoder, preset.image_size // 32
        encoder.avgpool = nn.Identity()
        encoder.fc = nn.Linear(encoder.fc.in_features * side**2, encoder.fc.out_features)
    return model


def first_stage(variant: Variant, preset: Preset, number: int) -> bool:
    """Whether the step ``number`` (from 0) trains LatentEncoder and Generator alone: a staged run's first half."""
    return variant.latent == "staged" and number < preset.steps // 2


def freeze(*networks: nn.Module) -> None:
    """Neither weights nor batch statistics change any more."""
    for network in networks:
        network.eval().requires_grad_(False)


def restore_in_training(model, variant: Variant, inputs: torch.Tensor, target: torch.Tensor, first: bool) -> tuple:
    """One pass in training: restored, mean (None where the network has no such end), z_deblur, z_gt.

    In the ``first`` stage of a staged run the Generator draws from the code of the sharp picture.
    """
    if variant.network == "skip":
        return model(inputs, target)
    z_gt = model.latent_encoder(target)
    z_deblur = z_gt if first else model.deblur_encoder(inputs)
    return model.generator(z_deblur), None, z_deblur, z_gt


def total_loss(model, variant: Variant, loss: TotalLoss, outputs: tuple, target: torch.Tensor) -> torch.Tensor:
    """The five weighted terms of equation 41, and what the variant adds; ``outputs`` of :func:`restore_in_training`."""
    restored, mean, z_deblur, z_gt = outputs
    total = loss(restored, target, z_deblur, z_gt.detach() if variant.latent == "stop" else z_gt)["total"]
    if mean is not None:
        total = total + 0.1 * fidelity_loss(mean, target)  # as helpers.experiments.skip_training does
    if variant.latent == "anchored":
        total = total + variant.weights.l1 * l1_loss(model.generator(z_gt).float(), target)
    if variant.latent == "held":  # the Generator as it is: no gradient, and its batch statistics stay
        as_it_is = {k: v.detach().clone() for k, v in model.generator.state_dict().items()}
        drawn = torch.func.functional_call(model.generator, as_it_is, (z_gt,))
        total = total + variant.weights.l1 * l1_loss(drawn.float(), target)
    return total


def train(
    variant: Variant, preset: Preset, images: np.ndarray, seed: int, lpips: Lpips | None, degradation: Degradation,
    validation: np.ndarray, progress: bool = True, out: str | Path | None = None, precision: str = "auto",
    make: Callable[[Variant, Preset], nn.Module] = build,
) -> tuple[DeblurModel | SkipModel, list[dict]]:  # fmt: skip
    """Train one variant; the model and its curve (at most twelve points: step, mean loss since the last, val_L1).

    In a *staged* run the first half of the steps trains LatentEncoder and Generator on sharp pictures; then both are
    frozen and the DeblurEncoder learns to give the code.

    Parameters
    ----------
    images, validation : sharp pictures, uint8 N×H×W×3; the validation L1 is of the first 64
    lpips : None where its weight is 0
    out : folder of the run's state, from which the same call goes on; without it nothing is kept
    make : gives the network, called after the seed was set

    Raises
    ------
    TrainingError
        if the loss is not finite, or the folder is another run's; ``Stopped`` after Ctrl-C
    """
    device = device_for()
    seed_everything(seed)
    model = make(variant, preset).to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=preset.rate, fused=True)
    scaler = scaler_for(device, precision)
    adversary = Adversary(preset.rate, device, precision) if variant.adversarial else None
    loss, feed = TotalLoss(lpips, variant.weights), Feed(images, variant, degradation, seed, flip=True)
    batches = StepBatches(feed.pairs, preset.batch_size, device)

    def step(number: int) -> dict[str, torch.Tensor]:
        set_rate(optimiser, preset.rate_at(number))
        inputs, target = batches(number)
        inputs = feed.inputs(inputs)
        first = first_stage(variant, preset, number)
        if variant.latent == "staged" and not first:
            freeze(model.generator, model.latent_encoder)
        with autocast(device, precision):
            outputs = restore_in_training(model, variant, inputs, target, first)
            total = total_loss(model, variant, loss, outputs, target)
            if adversary:
                total = total + variant.adversarial * adversary.wish(outputs[0])
        update(total, scaler, optimiser)
        if adversary:
            with autocast(device, precision):
                judged = adversary.loss(target, outputs[0])
            update(judged, adversary.scaler, adversary.optimiser)
        return {"loss": total.detach()}

    def validate() -> dict[str, float]:
        restored = restore_all(model, Feed(validation[:64], variant, degradation))
        return {"L1": float(np.abs(restored / 127.5 - validation[:64] / 127.5).mean())}

    settings = {"variant": asdict(variant), "preset": preset.identity(), "seed": seed}
    settings |= {"pictures": runs.fingerprint(images), "precision": precision}
    parts = {"model": model, "optimiser": optimiser, "scaler": scaler} | (adversary.parts if adversary else {})
    points = -(-preset.steps // 12)
    try:
        curve = runs.run(
            out, settings, parts, step, preset.steps, save_every=points, validate=validate, desc=variant.title,
            progress=progress, look_every=look_every(device),
        )  # fmt: skip
    except Stopped:
        raise
    except TrainingError as error:
        raise TrainingError(f"{variant.title}, seed {seed}, {error}") from None
    return model.eval(), curve


@torch.no_grad()
def restore_all(model: DeblurModel | SkipModel, feed: Feed, batch_size: int = 50) -> np.ndarray:
    """What the model makes of all pictures of ``feed``: uint8 N×H×W×3. Each part of the model keeps its mode."""
    device, modes = next(model.parameters()).device, [(part, part.training) for part in model.modules()]
    model.eval()
    out = [denormalise(model(feed.inputs(batch.input).to(device))) for batch in feed.pairs.batches(batch_size)]
    for part, training in modes:
        part.training = training
    return np.concatenate(out)


def examine(restored: np.ndarray, sharp: np.ndarray, lpips: Lpips, second: Lpips) -> pd.DataFrame:
    """The five measures of each picture, and LPIPS on a random trunk as a second opinion."""
    table = measure(restored, sharp, lpips).rename(columns={lpips.name: "LPIPS"})
    table[SECOND] = measure(restored, sharp, second)[second.name]
    return table


@torch.no_grad()
def examine_codes(model: DeblurModel | SkipModel, variant: Variant, pictures: dict, degradation: Degradation) -> dict:
    """How much the two codes vary from face to face, how far apart they are, and what a linear probe reads in them.

    Variance is the mean over the code's numbers of the variance over the test faces. R² is that of ``helpers.probes``
    on the test faces, learnt on (at most 1,500) training faces.
    """
    device, codes = next(model.parameters()).device, {"z_deblur": [], "z_gt": []}
    encode = model.encode if variant.network == "skip" else model.deblur_encoder
    for images in (pictures["train"][:1500], pictures["test"]):
        feed, found = Feed(images, variant, degradation), {"z_deblur": [], "z_gt": []}
        for batch in feed.pairs.batches(50):
            found["z_deblur"].append(encode(feed.inputs(batch.input).to(device)).float().cpu())
            found["z_gt"].append(model.latent_encoder(batch.target.to(device)).float().cpu())
        for name, parts in found.items():
            codes[name].append(torch.cat(parts).numpy())
    tables = [load_parameters(s)[: len(c)] for s, c in zip(("train", "test"), codes["z_gt"], strict=True)]
    out = {"distance": float(np.mean((codes["z_deblur"][1] - codes["z_gt"][1]) ** 2))}
    for name, (known, unseen) in codes.items():
        probes = fit_probes(known, tables[0], unseen, tables[1])
        out[name] = {
            "variance": float(unseen.var(0).mean()),
            "probes": {property_: round(p.accuracy, 4) for property_, p in probes.items()},
        }
    return out


def run(
    name: str, seed: int, preset: Preset, pictures: dict, lpips: Lpips, second: Lpips, progress: bool = True,
    out: str | Path | None = None, precision: str = "auto",
) -> dict:  # fmt: skip
    """Train the variant ``name`` with ``seed`` and measure it on everything; a record for the JSON.

    ``out`` is a folder for the training's state, see :func:`train`; the seconds recorded are those of this call.

    Raises
    ------
    ImageError
        if the variant wants photographs and ``pictures`` has none
    """
    variant, degradation = ALL[name], blur(preset.image_size, preset.strength)
    if variant.data != "faces" and "photographs" not in pictures:
        raise ImageError(f"{name} is trained on photographs: name a folder of them")
    sources = ["faces", "photographs"] if variant.data == "both" else [variant.data]
    images = np.concatenate([pictures[s]["train"] for s in sources])
    started = time.perf_counter()
    precision = precision_for(device_for(), precision)
    validation = pictures["faces"]["val"]
    model, curve = train(variant, preset, images, seed, lpips, degradation, validation, progress, out, precision)
    record = {
        "variant": name, "seed": seed, "settings": asdict(variant), "training_images": len(images),
        "images_seen": preset.steps * preset.batch_size, "seconds": round(time.perf_counter() - started, 1),
        "parameters": sum(p.numel() for n in (model.deblur_encoder, model.generator) for p in n.parameters()),
        "precision": precision, "curve": curve,
    }  # fmt: skip
    faces = pictures["faces"]

    def on(images, degradation=degradation):
        restored = restore_all(model, Feed(images, variant, degradation))
        return restored, examine(restored, images, lpips, second)

    record["val"] = on(faces["val"])[1].mean().to_dict()
    restored, table = on(faces["test"])
    record["test"] = {column: [float(f"{v:.5g}") for v in table[column]] for column in table}
    record["SWD"] = sliced_wasserstein(restored, faces["val"])["mean"]
    if "photographs" in pictures:
        record["photographs"] = on(pictures["photographs"]["test"])[1].mean().to_dict()
    if name == "thesis":
        record["other degradations"] = {
            kind: on(faces["test"], other)[1].mean().to_dict()
            for kind, other in other_degradations(preset.image_size, preset.strength).items()
        }
    record["codes"] = examine_codes(model, variant, faces, degradation)
    return record


# ---------------------------------------------------------------------------------------------------------------------
# Many runs, and what they say


def run_all(
    preset: Preset, out: str | Path, names=None, seeds=None, photographs=None, lpips: Lpips | None = None,
    progress: bool = True, precision: str = "auto",
) -> None:  # fmt: skip
    """Every variant of the preset with every seed, each into its own file in ``out``; what is there is kept.

    While a run is trained its state lies in a folder below ``out/states``.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    claim_preset(out, preset)
    if preset.confirms:
        hypotheses.claim(out)
    device = device_for()
    # The layout of what the networks draw, or every call would copy AlexNet's weights.
    lpips = (lpips or load_lpips()).to(device, memory_format=torch.channels_last)
    second = Lpips(None).to(device, memory_format=torch.channels_last)
    pictures = load_pictures(preset, photographs)
    names = [n for n in names or preset.variants if photographs or ALL[n].data == "faces"]
    wanted = [(name, seed_of(name, i)) for i in (seeds or range(preset.seeds)) for name in names]
    input_file = out / "blurred.json"
    if not input_file.exists():
        write_json(input_file, _blurred(preset, pictures, lpips, second))

    def record(name: str, seed: int, state: Path) -> dict:
        about = {"hardware": hardware(device), "date": date.today().isoformat(), "torch": torch.__version__}
        found = run(name, seed, preset, pictures, lpips, second, progress, state, precision)
        return found | about | {"lpips": lpips.name}

    records = {out / f"{name}-{seed}.json": partial(record, name, seed) for name, seed in wanted}
    write_missing(records, progress=progress)


def _blurred(preset: Preset, pictures: dict, lpips: Lpips, second: Lpips) -> dict:
    """The measures of the blurred inputs themselves, and how far sharp faces are from sharp faces."""
    out = {}
    for source, splits in pictures.items():
        batch = Pairs(splits["test"], blur(preset.image_size, preset.strength)).batch(range(len(splits["test"])))
        out[source] = examine(batch.blurred, batch.sharp, lpips, second).mean().to_dict()
        if source == "faces":
            out["SWD"] = sliced_wasserstein(batch.blurred, splits["val"])["mean"]
            out["SWD of sharp faces"] = sliced_wasserstein(batch.sharp, splits["val"])["mean"]
    sharp = pictures["faces"]["test"]
    out["other degradations"] = {}
    for kind, other in other_degradations(preset.image_size, preset.strength).items():
        batch = Pairs(sharp, other).batch(range(len(sharp)))
        out["other degradations"][kind] = examine(batch.blurred, batch.sharp, lpips, second).mean().to_dict()
    return out


def main(argv: list[str] | None = None) -> None:
    parser = bare_parser("helpers.experiments.ablations", __doc__)
    parser.add_argument("--preset", choices=list(PRESETS), default="tiny")
    parser.add_argument("--out", help="folder of the runs; the same command goes on where it stopped")
    parser.add_argument("--variants", nargs="+", choices=list(ALL), help="all of the preset's by default")
    parser.add_argument("--seeds", type=count_int, nargs="+", help="numbers of the seeds, from 0; all by default")
    parser.add_argument(
        "--data", help="folder of photographs with train/, val/ and test/: trains and measures there too"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="what is faster on the device, or ...")
    parser.add_argument("--add-to", help="a file that --collect wrote: --out begins with its runs, and can have more")
    parser.add_argument("--collect", help="a folder of finished runs")
    parser.add_argument("--to", help="with --collect: the JSON file to write")
    args = parser.parse_args(argv)
    if bool(args.collect) != bool(args.to) or not (args.out or args.collect):
        parser.error("give --out, or --collect and --to")
    if args.add_to and not args.out:
        parser.error("--add-to needs --out, the folder of the runs")
    with exit_on_error():
        if args.add_to:
            unpack(args.add_to, args.out)
        if args.out:
            run_all(PRESETS[args.preset], args.out, args.variants, args.seeds, args.data, precision=args.precision)
        if args.collect:
            results = collect(args.collect)
            with write_errors(args.to):
                Path(args.to).parent.mkdir(parents=True, exist_ok=True)
                write_json(args.to, results, indent=None)
            print(f"wrote {len(results['runs'])} runs to {args.to}")
    if args.out and list(Path(args.out).glob("thesis-[0-9]*.json")):
        results = collect(args.out)
        print(told(results) if PRESETS[args.preset].confirms else _explored(results))


def _explored(results: dict) -> str:
    table = differences(results, "PSNR").drop(columns=["group", "verdict"])
    return "exploration, which judges nothing:\n" + table.to_string(float_format=lambda v: f"{v:.3f}")


if __name__ == "__main__":
    main()
