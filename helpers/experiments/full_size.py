"""Is the edge map worth anything at full size, in the thesis's model and in the skip model? (chapter 13)

::

    python -m helpers.experiments.full_size --out runs/full-size --to data/results/full_size.json

The miniature of :mod:`helpers.experiments.hypotheses` has a quarter of the thesis's width and half of its picture.
Here both networks have the size in which they ship, 128×128 pixels, and each is trained twice from the same weights,
on the same faces in the same order: once with its edge map, once with an empty one.

- The skip model starts from random weights, with its own loss and a rate of 1e-3.
- The thesis's model would need days of one processor core. It starts from the shipped weights and is trained on. Those
  weights learnt with the map, so the arm without it has something to make up for: what the map seems worth here is
  rather too much than too little. ``before`` holds what an empty map costs the shipped weights without any training.
  The recorded arms began with the weights that shipped at the time (98,880 images seen, 22.29 dB), not with today's.

One seed each: the intervals are over the test faces, and another seed would move the difference too. Each arm is a file
in ``--out``, with its state beside it while it is trained; the same command goes on where it was stopped, and two
processes may share the folder (``--arms``).
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from helpers.engine.checkpoints import load_checkpoint
from helpers.engine.commands import bare_parser, exit_on_error
from helpers.engine.devices import device_for
from helpers.engine.errors import TrainingError
from helpers.engine.folders import data_folder, write_errors, write_json
from helpers.engine.precision import precision_for
from helpers.engine.runs import hardware
from helpers.experiments.ablations import Feed, load_pictures, restore_all, train
from helpers.experiments.bootstrap import paired_interval
from helpers.experiments.records import write_missing
from helpers.experiments.skip_model import SkipModel
from helpers.experiments.skip_training import WEIGHTS
from helpers.experiments.variants import VARIANTS, Preset, Variant, blur
from helpers.metrics import measure
from helpers.networks import DeblurModel
from helpers.perceptual import Lpips, load_lpips
from helpers.seeds import SEED

RESULTS = "full_size.json"
FACES = (6600, 100, 400)
MEASURES = ("PSNR", "SSIM", "LPIPS")  # that are kept of each face


@dataclass(frozen=True)
class Pair:
    """Two arms that differ in the edge map alone: names of :data:`helpers.experiments.variants.VARIANTS`."""

    title: str
    arms: tuple[str, str]  # with the map, without it
    preset: Preset
    start: str | None  # the shipped checkpoint to begin with, or None for random weights


PAIRS = {
    "thesis": Pair(
        "thesis's model",
        ("thesis", "edges-none"),
        Preset(128, 64, 600, 16, 1, FACES, schedule="cosine", rate=2e-4),
        "thesis",
    ),
    "skip": Pair(
        "skip model",
        ("skip", "skip-edges-none"),
        Preset(128, 64, 800, 16, 1, FACES, schedule="cosine", rate=1e-3),
        None,
    ),
}


def variant_of(name: str) -> Variant:
    """The variant of an arm; a skip model with the loss that it ships with."""
    variant = VARIANTS[name]
    return replace(variant, weights=WEIGHTS) if variant.network == "skip" else variant


def network(variant: Variant, preset: Preset, start: str | None) -> nn.Module:
    """A network as it ships, with the weights of the shipped checkpoint ``start``, or with random ones."""
    model = SkipModel(image_size=preset.image_size) if variant.network == "skip" else DeblurModel()
    if start:
        load_checkpoint(data_folder() / "checkpoints" / f"{start}.safetensors", model)
    return model


def train_all(
    out: str | Path, pairs: dict[str, Pair] = PAIRS, arms: Sequence[str] | None = None, lpips: Lpips | None = None,
    progress: bool = True, precision: str = "auto", make=network,
) -> dict:  # fmt: skip
    """Train every arm that is not there yet and give all that ``out`` holds.

    Parameters
    ----------
    arms : those of this process; all by default
    make : gives the network of (variant, preset, start)

    Returns
    -------
    pair -> arm -> record, see :func:`_run`; an arm that is not finished is left out

    Raises
    ------
    TrainingError
        if the folder's records are of another preset
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    lpips = (lpips or load_lpips()).to(device_for(), memory_format=torch.channels_last)

    def record(name: str, pair: Pair, state: Path) -> dict:
        return _settings(pair) | _run(name, pair, lpips, state, progress, precision, make)

    _load(out, pairs)  # another preset's folder is refused before anything is trained
    wanted = [(name, pair) for pair in pairs.values() for name in pair.arms if arms is None or name in arms]
    write_missing({out / f"{name}.json": partial(record, name, pair) for name, pair in wanted}, progress=progress)
    return _load(out, pairs)


def _load(out: Path, pairs: dict[str, Pair]) -> dict:
    """pair -> arm -> record, for the arms that have one."""
    found: dict[str, dict] = {}
    for title, pair in pairs.items():
        for path in (out / f"{name}.json" for name in pair.arms):
            if path.exists():
                record = json.loads(path.read_text(encoding="utf-8"))
                if any(record[k] != v for k, v in _settings(pair).items()):
                    raise TrainingError(f"{path} is of another preset; choose another folder")
                found.setdefault(title, {})[path.stem] = record
    return found


def _settings(pair: Pair) -> dict:
    """What the record of an arm says of its training, in JSON's own types."""
    return {"preset": json.loads(json.dumps(asdict(pair.preset))), "start": pair.start}


def _run(name: str, pair: Pair, lpips: Lpips, state: Path, progress: bool, precision: str, make) -> dict:
    """Train one arm and measure it: measures of each test face before and after, the curve, what it took."""
    started, variant, preset = time.perf_counter(), variant_of(name), pair.preset
    faces, degradation = load_pictures(preset)["faces"], blur(preset.image_size, preset.strength)
    precision, start = precision_for(device_for(), precision), partial(make, start=pair.start)

    def on_test(model: nn.Module) -> dict[str, list[float]]:
        restored = restore_all(model, Feed(faces["test"], variant, degradation))
        table = measure(restored, faces["test"], lpips).rename(columns={lpips.name: "LPIPS"})
        return {column: [float(f"{v:.5g}") for v in table[column]] for column in MEASURES}

    before = on_test(start(variant, preset).to(device_for())) if pair.start else None
    model, curve = train(
        variant, preset, faces["train"], SEED, lpips, degradation, faces["val"], progress, state, precision, start
    )
    return {
        "before": before, "test": on_test(model), "curve": curve, "images_seen": preset.steps * preset.batch_size,
        "settings": asdict(variant), "seed": SEED, "precision": precision, "lpips": lpips.name,
        "hardware": hardware(device_for()), "torch": torch.__version__, "date": date.today().isoformat(),
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip


def shipped_results() -> dict:
    """The recorded arms that came with the course, as :func:`train_all` gives them."""
    return json.loads((data_folder() / "results" / RESULTS).read_text(encoding="utf-8"))


def table(results: dict, columns: Sequence[str] = ("PSNR", "LPIPS"), when: str = "test") -> pd.DataFrame:
    """Each pair in one row for each measure: with the map, without it, and the difference with its interval.

    Parameters
    ----------
    when : "test", or "before" the first step (of pairs that began with shipped weights)

    Returns
    -------
    columns "pair", "title", "measure", "with", "without", "difference" (without minus with), "low", "high" (95 %)
    """
    rows = []
    for name, records in results.items():
        pair = PAIRS[name]
        one, other = (records[arm][when] for arm in pair.arms)
        for column in columns if one else ():
            between, low, high = paired_interval(other[column], one[column])
            means = {"with": float(np.mean(one[column])), "without": float(np.mean(other[column]))}
            rows.append({"pair": name, "title": pair.title, "measure": column, **means})
            rows[-1] |= {"difference": between, "low": low, "high": high}
    return pd.DataFrame(rows)


def main(argv: list[str] | None = None) -> None:
    """The command line: train what is missing, write a JSON file once all arms are there, print the table."""
    names = [name for pair in PAIRS.values() for name in pair.arms]
    parser = bare_parser("helpers.experiments.full_size", __doc__)
    parser.add_argument("--out", required=True, help="folder of the arms; the same command goes on where it stopped")
    parser.add_argument("--to", help="the JSON file to write once all four arms are there")
    parser.add_argument("--arms", nargs="+", choices=names, help="those of this process; all by default")
    args = parser.parse_args(argv)
    with exit_on_error():
        results = train_all(args.out, arms=args.arms)
        whole = {title: found for title, found in results.items() if len(found) == len(PAIRS[title].arms)}
        if args.to and len(whole) == len(PAIRS):
            with write_errors(args.to):
                Path(args.to).parent.mkdir(parents=True, exist_ok=True)
                write_json(args.to, whole, indent=None)
        elif args.to:
            print(f"{args.to} waits for the arms that are not there yet", file=sys.stderr)
    if whole:
        print(table(whole).to_string(index=False, float_format=lambda v: f"{v:.4f}"))


if __name__ == "__main__":
    main()
