"""What each ingredient of the thesis's model is worth: named variants, trained and measured alike (chapter 13).

::

    python -m helpers.ablations --preset tiny --out runs/tiny                    # a check, a minute or two
    python -m helpers.ablations --preset laptop --out runs/laptop                # 32 variants × 3 seeds, CPU
    python -m helpers.ablations --preset longer --out runs/longer                # 7 of them, three times as many steps
    python -m helpers.ablations --preset full --out runs/full --data my/photos   # for a GPU
    python -m helpers.ablations --collect runs/laptop --to data/results/ablations.json

Every variant differs from the thesis in one thing, is trained for the same number of steps on the same faces in the
same order, and measured on the same test faces. Each run is a file in the folder ``--out``; a run that is there is not
done again, so the command goes on where it was stopped, and several processes may share a folder (``--seeds``).
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from helpers.adversarial import PatchDiscriminator, discriminator_loss, generator_loss
from helpers.bootstrap import judgement, paired_interval
from helpers.checkpoints import write_json
from helpers.data import ImageError, data_folder, denormalise, load_parameters, load_split, square
from helpers.degrade import Compose, DefocusBlur, Degradation, GaussianBlur, GaussianNoise, MotionBlur
from helpers.devices import device_for
from helpers.edges import THRESHOLDS
from helpers.losses import TotalLoss, Weights, l1_loss
from helpers.metrics import HIGHER_IS_BETTER, measure
from helpers.networks import DeblurModel
from helpers.pairs import Pairs
from helpers.perceptual import Lpips, load_lpips
from helpers.probes import fit_probes
from helpers.realism import sliced_wasserstein
from helpers.resumable import batch_of
from helpers.seeds import SEED, seed_everything
from helpers.skip_model import SkipModel, fidelity_loss
from helpers.training import TrainingError, hardware

SECOND = "LPIPS, random trunk"  # a perceptual measure that nothing was trained on
RESULTS = {"laptop": "ablations.json", "longer": "ablations_longer.json"}


@dataclass(frozen=True)
class Variant:
    """The thesis's model with one thing changed."""

    group: str
    title: str  # what a figure calls it
    edges: str = "blurred"  # "none": an empty channel; "oracle": from the sharp image; "shuffled": another face's
    thresholds: tuple[float, float] = THRESHOLDS
    weights: Weights = field(default_factory=Weights)
    latent: str = "joint"  # "stop": no gradient through z_gt; "anchored": z_gt is decoded too; "staged": see train
    latent_dim: int = 512
    adversarial: float = 0.0
    data: str = "faces"  # or "photographs", "both"
    network: str = "thesis"  # or "skip": the better model, small, where a map need not pass through the code


def _weights(**changed: float) -> Weights:
    return Weights(**(asdict(Weights()) | changed))


def _alone(name: str) -> Weights:
    return Weights(**{k: v if k == name else 0.0 for k, v in asdict(Weights()).items()})


VARIANTS: dict[str, Variant] = {
    "thesis": Variant("baseline", "as the thesis"),
    "edges-none": Variant("edges", "no edges", edges="none"),
    "edges-oracle": Variant("edges", "edges of the sharp image (leakage)", edges="oracle"),
    "edges-shuffled": Variant("edges", "another face's edges", edges="shuffled"),
    "edges-many": Variant("edges", "thresholds 2, 6", thresholds=(2, 6)),
    "edges-few": Variant("edges", "thresholds 30, 90", thresholds=(30, 90)),
    **{
        f"without-{name}": Variant("losses left out", f"without {name}", weights=_weights(**{name: 0.0}))
        for name in asdict(Weights())
    },
    **{f"only-{name}": Variant("losses alone", f"{name} alone", weights=_alone(name)) for name in asdict(Weights())},
    # Candidates for better weights; the validation faces choose one of them (chosen_weights).
    "weights-sharp": Variant("weights", "LPIPS 0.6, no TV", weights=_weights(lpips=0.6, tv=0.0)),
    "weights-pixel": Variant("weights", "L1 1, LPIPS 0.15, no TV", weights=_weights(l1=1.0, lpips=0.15, tv=0.0)),
    "weights-ssim": Variant("weights", "SSIM 0.5, no TV", weights=_weights(ssim=0.5, tv=0.0)),
    "latent-stop": Variant("latent", "no gradient through z_gt", latent="stop"),
    "latent-anchored": Variant("latent", "z_gt decoded too", latent="anchored"),
    "latent-staged": Variant("latent", "staged training", latent="staged"),
    **{f"code-{n}": Variant("code size", f"{n} numbers", latent_dim=n) for n in (64, 256, 1024)},
    **{
        f"adversarial-{w:g}": Variant("adversarial", f"discriminator, weight {w:g}", adversarial=w)
        for w in (0.01, 0.05)
    },
    "data-photographs": Variant("data", "trained on photographs", data="photographs"),
    "data-both": Variant("data", "trained on both", data="both"),
    # A second baseline, "skip", and its edges: through skips a map can reach the picture.
    "skip": Variant("edges, with skips", "skip model", network="skip"),
    **{
        f"skip-edges-{kind}": Variant("edges, with skips", f"skip model, {title}", edges=kind, network="skip")
        for kind, title in {"none": "no edges", "oracle": "edges of the sharp image"}.items()
    },
}


@dataclass(frozen=True)
class Preset:
    """How large the experiment is. The blur is 4 to 8 pixels at 128×128 and shrinks with the picture."""

    image_size: int
    width: int  # feature maps after the first layer; the thesis has 64
    steps: int
    batch_size: int
    seeds: int
    faces: tuple[int, int, int]  # at most so many to train, validate and test on
    rate: float = 1e-3  # halved after each quarter of the steps, as equation 42 does in 60 epochs
    variants: tuple[str, ...] = tuple(VARIANTS)


# What is asked again after three times as many steps: claims about learning early need not hold later.
LONGER = ("thesis", "edges-none", "edges-shuffled", "edges-oracle", "skip", "skip-edges-none", "skip-edges-oracle")
PRESETS = {
    "tiny": Preset(64, 8, 12, 4, 2, (48, 12, 12), variants=("thesis", "edges-none", "only-l1", "latent-staged")),
    "laptop": Preset(64, 16, 300, 16, 3, (6600, 100, 200)),
    "longer": Preset(64, 16, 900, 16, 3, (6600, 100, 200), variants=LONGER),
    "full": Preset(128, 64, 24_000, 32, 3, (20_000, 400, 400), rate=2e-4),
}


def blur(size: int, factor: float = 1.0) -> GaussianBlur:
    """The preset ``celebablur`` for pictures of ``size`` pixels, ``factor`` times as strong."""
    scale = size / 128
    return GaussianBlur((4 * scale * factor, 8 * scale * factor), 2 * round(10 * scale * max(factor, 1)) + 1)


def other_degradations(size: int) -> dict[str, Degradation]:
    """What the model was not trained for."""
    scale = size / 128
    return {
        "blur half as strong": blur(size, 0.5),
        "blur 1.5 times as strong": blur(size, 1.5),
        "motion, 10 to 25 px of 128": MotionBlur((10 * scale, 25 * scale)),
        "defocus, 5 to 10 px of 128": DefocusBlur((5 * scale, 10 * scale)),
        "the same blur, noise 0.02": Compose(blur(size), GaussianNoise(0.02)),
    }


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

    def inputs(self, batch) -> torch.Tensor:
        """N×4×H×W of a batch, with the edge map that the variant gets."""
        inputs = batch.input.clone()  # the batch stays as it was
        if self.kind == "none":
            inputs[:, 3] = 0
        elif self.kind == "shuffled":
            inputs[:, 3] = inputs[:, 3].roll(1, 0)
        return inputs


def train(
    variant: Variant, preset: Preset, images: np.ndarray, seed: int, lpips: Lpips, degradation: Degradation,
    validation: np.ndarray, progress: bool = True,
) -> tuple[DeblurModel | SkipModel, list[dict]]:  # fmt: skip
    """Train one variant; the model and its curve (at twelve points: step, mean loss since the last, validation L1).

    In a *staged* run the first half of the steps trains LatentEncoder and Generator on sharp pictures; then both are
    frozen and the DeblurEncoder learns to give the code.
    """
    device = device_for()
    seed_everything(seed)
    model = build(variant, preset)
    model.to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=preset.rate, fused=True)
    loss, feed = TotalLoss(lpips, variant.weights), Feed(images, variant, degradation, seed, flip=True)
    judge = PatchDiscriminator().to(device) if variant.adversarial else None
    judge_optimiser = torch.optim.Adam(judge.parameters(), lr=preset.rate, betas=(0.5, 0.999)) if judge else None
    curve, losses, half = [], [], preset.steps // 2
    marks = {round(preset.steps * i / 12) for i in range(1, 13)}
    for number in tqdm(range(preset.steps), desc=variant.title, unit="step", disable=not progress, leave=False):
        for group in optimiser.param_groups:
            group["lr"] = preset.rate * 0.5 ** (4 * number // preset.steps)
        batch = batch_of(feed.pairs, number, preset.batch_size)
        inputs = feed.inputs(batch).to(device, memory_format=torch.channels_last)
        target = batch.target.to(device, memory_format=torch.channels_last)
        first_stage = variant.latent == "staged" and number < half
        if variant.latent == "staged" and number == half:
            for network in (model.generator, model.latent_encoder):
                network.eval().requires_grad_(False)
        with torch.autocast(device.type, torch.bfloat16):
            if variant.network == "skip":
                restored, mean, z_deblur, z_gt = model(inputs, target)
            else:
                z_gt = model.latent_encoder(target)
                z_deblur = z_gt if first_stage else model.deblur_encoder(inputs)
                restored = model.generator(z_deblur)
            parts = loss(restored, target, z_deblur, z_gt.detach() if variant.latent == "stop" else z_gt)
            total = parts["total"]
            if variant.network == "skip":
                total = total + 0.1 * fidelity_loss(mean, target)  # as helpers.skip_model trains it
            if variant.latent == "anchored":
                total = total + variant.weights.l1 * l1_loss(model.generator(z_gt).float(), target)
            if judge:
                judge.requires_grad_(False)
                total = total + variant.adversarial * generator_loss(judge(restored))
        if not torch.isfinite(total):
            raise TrainingError(f"{variant.title}, seed {seed}, step {number + 1}: the loss is not finite")
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        optimiser.step()
        if judge:
            judge.requires_grad_(True)
            with torch.autocast(device.type, torch.bfloat16):
                judged = discriminator_loss(judge(target), judge(restored.detach()))
            judge_optimiser.zero_grad(set_to_none=True)
            judged.backward()
            judge_optimiser.step()
        losses.append(total.item())
        if number + 1 in marks:
            restored = restore_all(model, Feed(validation[:64], variant, degradation))
            l1 = np.abs(restored / 127.5 - validation[:64] / 127.5).mean()
            curve.append({"step": number + 1, "loss": float(np.mean(losses)), "val_L1": float(l1)})
            losses = []
    return model.eval(), curve


def build(variant: Variant, preset: Preset) -> DeblurModel | SkipModel:
    """The untrained network of a variant, at the preset's size."""
    if variant.network == "skip":
        w = 2 * preset.width
        return SkipModel(variant.latent_dim, preset.image_size, (w, w, 2 * w, 2 * w), (1, 1, 1, 1))
    return DeblurModel(variant.latent_dim, preset.image_size, preset.width)


@torch.no_grad()
def restore_all(model: DeblurModel | SkipModel, feed: Feed, batch_size: int = 50) -> np.ndarray:
    """What the model makes of all pictures of ``feed``: uint8 N×H×W×3. Each part of the model keeps its mode."""
    device, modes = next(model.parameters()).device, [(part, part.training) for part in model.modules()]
    model.eval()
    out = [denormalise(model(feed.inputs(batch).to(device))) for batch in feed.pairs.batches(batch_size)]
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
            found["z_deblur"].append(encode(feed.inputs(batch).to(device)).float().cpu())
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
    name: str, seed: int, preset: Preset, pictures: dict, lpips: Lpips, second: Lpips, progress: bool = True
) -> dict:
    """Train the variant ``name`` with ``seed`` and measure it on everything; a record for the JSON.

    Raises
    ------
    ImageError
        if the variant wants photographs and ``pictures`` has none
    """
    variant, degradation = VARIANTS[name], blur(preset.image_size)
    if variant.data != "faces" and "photographs" not in pictures:
        raise ImageError(f"{name} is trained on photographs: name a folder of them")
    sources = ["faces", "photographs"] if variant.data == "both" else [variant.data]
    images = np.concatenate([pictures[s]["train"] for s in sources])
    started = time.perf_counter()
    model, curve = train(variant, preset, images, seed, lpips, degradation, pictures["faces"]["val"], progress)
    record = {
        "variant": name, "seed": seed, "settings": asdict(variant), "training_images": len(images),
        "images_seen": preset.steps * preset.batch_size, "seconds": round(time.perf_counter() - started, 1),
        "parameters": sum(p.numel() for n in (model.deblur_encoder, model.generator) for p in n.parameters()),
        "curve": curve,
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
            for kind, other in other_degradations(preset.image_size).items()
        }
    record["codes"] = examine_codes(model, variant, faces, degradation)
    return record


# ---------------------------------------------------------------------------------------------------------------------
# Many runs, and what they say


def run_all(
    preset: Preset, out: str | Path, names=None, seeds=None, photographs=None, lpips: Lpips | None = None,
    progress: bool = True,
) -> None:  # fmt: skip
    """Every variant of the preset with every seed, each into its own file in ``out``; what is there is kept."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    _claim(out, preset)
    device = device_for()
    lpips, second = (lpips or load_lpips()).to(device), Lpips(None).to(device)
    pictures = load_pictures(preset, photographs)
    names = [n for n in names or preset.variants if photographs or VARIANTS[n].data == "faces"]
    wanted = [(name, SEED + i) for i in (seeds or range(preset.seeds)) for name in names]
    input_file = out / "blurred.json"
    if not input_file.exists():
        write_json(input_file, _blurred(preset, pictures, lpips, second))
    with tqdm(total=len(wanted), desc="ablations", unit="run", disable=not progress) as bar:
        for name, seed in wanted:
            path = out / f"{name}-{seed}.json"
            if not path.exists():
                record = run(name, seed, preset, pictures, lpips, second, progress)
                record |= {"hardware": hardware(device), "date": date.today().isoformat(), "torch": torch.__version__}
                record["lpips"] = lpips.name
                write_json(path, record)
            bar.update()


def _claim(out: Path, preset: Preset) -> None:
    """Write the preset into the folder ``out``; runs of two sizes in one folder would be compared with each other."""
    path, content = out / "preset.json", json.loads(json.dumps(asdict(preset)))
    if path.exists():
        then = json.loads(path.read_text())
        free = ("seeds", "variants")  # more of them may be asked for later
        changed = [f"{k}: {then.get(k)} -> {v}" for k, v in content.items() if k not in free and then.get(k) != v]
        if changed:
            raise TrainingError(f"{out} holds runs of another preset ({'; '.join(changed)}); choose another folder")
    write_json(path, content)


def _blurred(preset: Preset, pictures: dict, lpips: Lpips, second: Lpips) -> dict:
    """The measures of the blurred inputs themselves, and how far sharp faces are from sharp faces."""
    out = {}
    for source, splits in pictures.items():
        batch = Pairs(splits["test"], blur(preset.image_size)).batch(range(len(splits["test"])))
        out[source] = examine(batch.blurred, batch.sharp, lpips, second).mean().to_dict()
        if source == "faces":
            out["SWD"] = sliced_wasserstein(batch.blurred, splits["val"])["mean"]
            out["SWD of sharp faces"] = sliced_wasserstein(batch.sharp, splits["val"])["mean"]
    sharp = pictures["faces"]["test"]
    out["other degradations"] = {}
    for kind, other in other_degradations(preset.image_size).items():
        batch = Pairs(sharp, other).batch(range(len(sharp)))
        out["other degradations"][kind] = examine(batch.blurred, batch.sharp, lpips, second).mean().to_dict()
    return out


def collect(out: str | Path) -> dict:
    """All finished runs of a folder as one dictionary: preset, blurred, runs."""
    out = Path(out)
    files = sorted(out.glob("*-*.json"))
    if not files or not all((out / name).exists() for name in ("preset.json", "blurred.json")):
        raise ImageError(f"{out}: holds no ablations; run python -m helpers.ablations --out {out} first")
    return {
        "preset": json.loads((out / "preset.json").read_text()),
        "blurred": json.loads((out / "blurred.json").read_text()),
        "runs": [json.loads(f.read_text()) for f in files],
    }


def shipped_results(preset: str = "laptop") -> dict:
    """The recorded experiment that came with the course, of the preset "laptop" or "longer"."""
    return json.loads((data_folder() / "results" / RESULTS[preset]).read_text())


def values_of(results: dict, name: str, column: str) -> np.ndarray:
    """A measure of one variant: S×N, seeds in ascending order, test faces in their own."""
    runs = sorted((r for r in results["runs"] if r["variant"] == name), key=lambda r: r["seed"])
    return np.array([r["test"][column] for r in runs])


def differences(results: dict, column: str, baseline: str = "thesis", groups=None) -> pd.DataFrame:
    """Every variant against the baseline in one measure, with its interval and what that says.

    Returns
    -------
    a table with the columns group, title, mean, seeds (standard deviation of the seeds' means), difference, low, high,
    verdict; a row for each variant that was run with the baseline's seeds

    Raises
    ------
    ImageError
        if there is no run of the baseline
    """
    seeds = {name: sorted(r["seed"] for r in results["runs"] if r["variant"] == name) for name in VARIANTS}
    if not seeds[baseline]:
        raise ImageError(f"there is no run of {baseline} to compare with")
    base, rows = values_of(results, baseline, column), {}
    better = HIGHER_IS_BETTER.get(column, False)
    for name, variant in VARIANTS.items():
        if seeds[name] != seeds[baseline] or (groups and variant.group not in groups):
            continue
        values = values_of(results, name, column)
        difference, low, high = paired_interval(values, base)
        rows[name] = {
            "group": variant.group, "title": variant.title, "mean": values.mean(),
            "seeds": values.mean(1).std(ddof=1) if len(values) > 1 else float("nan"),
            "difference": difference, "low": low, "high": high,
            "verdict": "baseline" if name == baseline else judgement(low, high, better),
        }  # fmt: skip
    return pd.DataFrame(rows).T


def chosen_weights(results: dict) -> str:
    """The variant of group "weights", or the thesis, that the validation faces prefer: the best mean rank over the five
    measures. The test faces have no say in it."""
    names = ["thesis", *[n for n, v in VARIANTS.items() if v.group == "weights"]]
    means = pd.DataFrame(
        {n: pd.DataFrame([r["val"] for r in results["runs"] if r["variant"] == n]).mean() for n in names}
    ).T
    ranks = pd.DataFrame({c: means[c].rank(ascending=not up) for c, up in HIGHER_IS_BETTER.items()})
    return ranks.mean(axis=1).idxmin()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m helpers.ablations", description=__doc__.split("\n\n")[0])
    parser.add_argument("--preset", choices=list(PRESETS), default="tiny")
    parser.add_argument("--out", help="folder of the runs; the same command goes on where it stopped")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), help="all of the preset's by default")
    parser.add_argument("--seeds", type=int, nargs="+", help="numbers of the seeds, from 0; all by default")
    parser.add_argument(
        "--data", help="folder of photographs with train/, val/ and test/: trains and measures there too"
    )
    parser.add_argument("--collect", help="a folder of finished runs")
    parser.add_argument("--to", help="with --collect: the JSON file to write")
    args = parser.parse_args(argv)
    if bool(args.collect) != bool(args.to) or not (args.out or args.collect):
        parser.error("give --out, or --collect and --to")
    try:
        if args.out:
            run_all(PRESETS[args.preset], args.out, args.variants, args.seeds, args.data)
        if args.collect:
            results = collect(args.collect)
            Path(args.to).parent.mkdir(parents=True, exist_ok=True)
            write_json(args.to, results)
            print(f"wrote {len(results['runs'])} runs to {args.to}")
    except (ImageError, TrainingError) as error:
        raise SystemExit(f"error: {error}") from None
    if args.out and list(Path(args.out).glob("thesis-*.json")):
        table = differences(collect(args.out), "PSNR")
        print(table.drop(columns="group").to_string(float_format=lambda v: f"{v:.3f}"))


if __name__ == "__main__":
    main()
