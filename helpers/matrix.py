"""Methods on many degradations at once: the matrix of chapter 14, on any folders of pictures.

::

    python -m helpers.matrix --data my/photos --data faces --out runs/matrix.json   # every fast method, test pictures
    python -m helpers.matrix --data portraits --methods skip --skip runs/blind/blind.safetensors --zoom 0.6 1 1.5
    python -m helpers.matrix --data my/photos --methods skip blind --size 256 --out runs/large.json

Each case of :data:`helpers.degrade.MATRIX` degrades the same pictures, the same way each time. Every cell holds mean
PSNR, SSIM and LPIPS with 95 % bootstrap intervals over the pictures, the paired gain over the degraded input, and the
share of pictures that the method has spoilt, which a mean hides. A run that was stopped goes on with the same command.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from helpers.augment import zoomed
from helpers.data import SIZE, SPLITS
from helpers.degrade import MATRIX, Degradation
from helpers.engine import commands
from helpers.engine.devices import device_for
from helpers.engine.errors import ImageError
from helpers.engine.folders import write_errors, write_json
from helpers.engine.runs import hardware
from helpers.experiments.bootstrap import mean_intervals
from helpers.methods import Method, Skip, available, load_method, measurable
from helpers.metrics import MOST_PSNR, RETURNED, measure
from helpers.mixed import NAMES, TITLES, named_set
from helpers.pairs import Pairs
from helpers.perceptual import Lpips, load_lpips
from helpers.photos import open_folder
from helpers.restore import restore_square
from helpers.seeds import SEED

INPUT = "input"
KEPT = ("PSNR", "SSIM", "LPIPS")
SPOILT = 0.1  # dB of PSNR: a picture that loses more counts as spoilt, unless it has come back as it was

# Degraded pictures, uint8 N×H×W×3, and what was drawn for each, to restored pictures of the same shape.
Restore = Callable[[np.ndarray, list[dict]], np.ndarray]


def cell(restored: pd.DataFrame, degraded: pd.DataFrame) -> dict:
    """One method in one case, from the measures of each picture, before and after (:func:`helpers.metrics.measure`).

    Returns
    -------
    measure -> [mean, low, high] and, in "gain", [mean, low, high] of the paired difference to the degraded pictures
    (above 0 is better in PSNR and SSIM, below 0 in LPIPS); "spoilt" is the share of pictures that lose more than
    :data:`SPOILT` dB and come out below :data:`helpers.metrics.RETURNED`. PSNR counts at most 60 dB a picture.
    """
    columns = [c for c in restored.columns if c.startswith(KEPT)]
    ours, theirs = (table[columns].clip(upper=MOST_PSNR) for table in (restored, degraded))
    own, gain = (mean_intervals(table.to_numpy()) for table in (ours, ours - theirs))
    spoilt = ((theirs - ours)["PSNR"] > SPOILT) & (ours["PSNR"] < RETURNED)
    row, gains = ({c: list(values) for c, values in zip(columns, part, strict=True)} for part in (own, gain))
    return {**row, "gain": gains, "spoilt": float(spoilt.mean())}


def fill(
    methods: dict[str, Restore],
    sharp: np.ndarray,
    lpips: Lpips,
    cases: dict[str, Degradation] | None = None,
    cells: dict | None = None,
    seed: int = SEED,
    progress: bool = True,
    on_cell: Callable[[dict], object] | None = None,
) -> dict[str, dict[str, dict]]:
    """Case -> method -> :func:`cell`, with the degraded pictures themselves as the method "input".

    Parameters
    ----------
    methods : name -> restoration
    sharp : uint8 N×H×W×3
    cases : name -> degradation; :data:`helpers.degrade.MATRIX` by default
    cells : what is there already, and is kept
    on_cell : called with all cells so far after each new one
    """
    cases = MATRIX if cases is None else cases
    cells = {case: dict(row) for case, row in (cells or {}).items()}
    with tqdm(total=len(cases) * (len(methods) + 1), desc="matrix", unit="cell", disable=not progress) as bar:
        for case, degradation in cases.items():
            row = cells.setdefault(case, {})
            missing = [name for name in (INPUT, *methods) if name not in row]
            bar.update(len(methods) + 1 - len(missing))
            if not missing:
                continue
            batch = Pairs(sharp, degradation, seed=seed).batch(range(len(sharp)))
            degraded = measure(batch.blurred, batch.sharp, lpips)
            for name in missing:
                table = degraded
                if name != INPUT:
                    table = measure(methods[name](batch.blurred, batch.params), batch.sharp, lpips)
                row[name] = cell(table, degraded)
                if on_cell:
                    on_cell(cells)
                bar.update()
    return cells


def as_table(cells: dict[str, dict[str, dict]]) -> pd.DataFrame:
    """The cells to look at: a row for each method, a column for each case, "PSNR / LPIPS"."""
    table = {}
    for case, row in cells.items():
        for name, values in row.items():
            metric = next((c for c in values if c.startswith("LPIPS")), None)
            text = f"{values['PSNR'][0]:.1f}" + (f" / {values[metric][0]:.3f}" if metric else "")
            table.setdefault(case, {})[name] = text
    return pd.DataFrame(table)


def restorations(
    names: Sequence[str], skip: str | Path | None = None, knobs: Sequence[float] = (), size: int = SIZE
) -> dict[str, Restore]:
    """Name -> restoration, for methods of the course by name and for a checkpoint of the skip model.

    Parameters
    ----------
    size : side of the pictures in pixels; others than 128 are restored as a square of a photograph is
        (:func:`helpers.restore.restore_square`)
    skip : a checkpoint of the skip model that is measured too, under its file's and folder's names
    knobs : positions of its knob; by default the one that its file names

    Raises
    ------
    CheckpointError
        if weights are not there
    """
    found: dict[str, Method] = {name: load_method(name) for name in names}
    if skip is not None:
        path = Path(skip)
        for knob in knobs or (None,):
            method = Skip(path=path)
            method.knob = method.knob if knob is None else knob
            found[f"{path.parent.name}/{path.stem}, knob {method.knob:g}"] = method
    return {name: method.restore if size == SIZE else partial(_each, method) for name, method in found.items()}


def _each(method: Method, blurred: np.ndarray, params: list[dict]) -> np.ndarray:
    """Pictures of any one size, each restored as a square of a photograph is."""
    return np.stack([restore_square(image, method) for image in blurred])


def main(argv: list[str] | None = None) -> None:
    """The command line; an error that the user can mend ends it with one sentence."""
    parser = commands.bare_parser("helpers.matrix", __doc__)
    parser.add_argument("--data", action="append", help=NAMES)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument(
        "--limit", type=commands.positive_int, help="use only the first so many pictures of each folder"
    )
    parser.add_argument(
        "--zoom", type=commands.positive_float, nargs="+", default=[1.0], help="faces so many times the usual size"
    )
    parser.add_argument(
        "--size", type=commands.positive_int, default=SIZE,
        help="side in pixels to which the photographs of a folder are brought; other than 128 all of them are measured",
    )  # fmt: skip
    parser.add_argument("--cases", nargs="+", choices=list(MATRIX), default=list(MATRIX))
    here = [name for name in available() if name in measurable()]
    parser.add_argument(
        "--methods", nargs="*", choices=measurable(), default=here, help="by default all fast ones that are here"
    )
    parser.add_argument("--skip", help="a checkpoint of the skip model to measure too")
    parser.add_argument("--knob", type=float, nargs="+", default=[], help="positions of that checkpoint's knob")
    parser.add_argument("--out", required=True, help="a JSON file; the same command goes on where it stopped")
    args = parser.parse_args(argv)
    with commands.exit_on_error():
        _run(args)


def _run(args: argparse.Namespace) -> None:
    """What the command line asks for: fill the JSON file, print each table."""
    out, lpips = Path(args.out), load_lpips(device=device_for())
    facts = {"split": args.split, "limit": args.limit, "seed": SEED, "lpips": lpips.name}
    if args.size != SIZE:
        facts |= {"size": args.size, "split": "all"}
    results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"facts": facts, "sets": {}}
    if results["facts"] != facts:
        raise ImageError(f"{out} holds results of another kind ({results['facts']}); choose another file")
    results |= {"hardware": hardware(device_for()), "versions": {"torch": torch.__version__}}
    with write_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    methods = restorations(args.methods, args.skip, args.knob, args.size)
    for name, sharp in _pictures(args):
        kept = results["sets"].setdefault(name, {"pictures": len(sharp), "cells": {}})
        if kept["pictures"] != len(sharp):
            raise ImageError(f"{out} holds results of {kept['pictures']} pictures, {name}; there are {len(sharp)} now")

        def keep(cells, kept=kept):
            kept["cells"] = cells
            write_json(out, results)

        keep(fill(methods, sharp, lpips, {case: MATRIX[case] for case in args.cases}, kept["cells"], on_cell=keep))
        print(f"\n{len(sharp)} pictures, {name}; PSNR in dB / {lpips.name}")
        print(as_table(kept["cells"]).to_string())


def _pictures(args: argparse.Namespace) -> Iterator[tuple[str, np.ndarray]]:
    """What to call a set, and its sharp pictures, uint8 N×H×W×3: each set at each size of the faces."""
    for named in args.data or ["faces"]:
        name = TITLES.get(named, Path(named).name)
        if args.size == SIZE:
            images = named_set(named, args.split, args.limit)
        elif named in TITLES:
            raise ImageError(f"{name} have {SIZE} pixels; --size {args.size} needs a folder of larger photographs")
        else:
            photographs = open_folder(named, args.size)
            photographs.paths = photographs.paths[: args.limit]
            images = photographs.load()
        for zoom in args.zoom:
            sharp = np.stack([image if zoom == 1 else zoomed(image, zoom) for image in images])
            yield name if zoom == 1 else f"{name}, zoom {zoom:g}", sharp


if __name__ == "__main__":
    main()
