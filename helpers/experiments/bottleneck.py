"""How much of the thesis's distance to its rivals is the size of the code, and how much is training? (chapters 11, 13)

::

    python -m helpers.experiments.bottleneck --out runs/bottleneck --to data/results/bottleneck.json

Codes of 32, 128, 512 and 2,048 numbers, in the miniature of :mod:`helpers.experiments.hypotheses`: everything is a
quarter of the thesis's, so they have 8, 32, 128 and 512 numbers. Each size is trained with 1,500, 3,000 and 6,000
steps, each a training of its own to the end of its learning rate. What a doubling of the steps gains, at equal size, is
training; what is left between the sizes when a doubling gains less than :data:`CONVERGED` is size. Where it still gains
more, ``--budgets 1500 3000 6000 12000`` goes on. One seed. Beside each size
stand the linear rows of :mod:`helpers.linear` with as many numbers, on the same faces and the same blur.

The loss is L1 alone, the thesis's own term that is nearest to PSNR: the linear rows minimise the squared error, and a
network that is asked for LPIPS too would be behind them for a third reason.

The thesis's encoder takes the mean of its last maps over all places, 512 numbers, here 128. A longer code is made of
these, so it holds no more of them. The row "2048, all places" leaves the mean out, and its code is made of as many
numbers as it has.

Every run is a file in the folder ``--out``, and its state is written there as it goes, so the command goes on where it
was stopped. The budgets come one after the other, all sizes in each.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers import linear
from helpers.engine.commands import bare_parser, exit_on_error, positive_int
from helpers.engine.devices import device_for
from helpers.engine.folders import data_folder, write_errors, write_json
from helpers.engine.precision import precision_for
from helpers.engine.runs import hardware
from helpers.experiments.ablations import Feed, load_pictures, restore_all, train
from helpers.experiments.records import write_missing
from helpers.experiments.variants import PRESETS, VARIANTS, Preset, Variant, blur, claim_preset
from helpers.metrics import measure
from helpers.pairs import Pairs
from helpers.seeds import SEED

SIZES = (32, 128, 512, 2048)  # as the thesis would count them
BUDGETS = (1500, 3000, 6000)
CONVERGED = 0.1  # dB: a doubling of the steps that gains less has ended a training
RESULTS = "bottleneck.json"
PLACES = "2048, all places"


def rows_of(sizes: Sequence[int] = SIZES) -> dict[str, Variant]:
    """What is trained: name -> variant. ``latent_dim`` is the thesis's count, which the preset makes smaller."""
    base = VARIANTS["only-l1"]
    rows = {str(n): replace(base, group="code size", title=f"{n} numbers", latent_dim=n) for n in sizes}
    return rows | {PLACES: replace(base, group="code size", title=PLACES, latent_dim=2048, pooled=False)}


def train_all(
    out: str | Path, preset: Preset, budgets: Sequence[int] = BUDGETS, sizes: Sequence[int] = SIZES,
    progress: bool = True, precision: str = "auto",
) -> dict:  # fmt: skip
    """Train every size with every budget, where it is not there yet, and give everything that ``out`` holds.

    Returns
    -------
    "preset", "rows" (see :func:`_run`), "linear" (as :func:`helpers.linear.table`), "input" (the measures of the
    blurred faces), "hardware", "torch", "seed", "date"

    Raises
    ------
    TrainingError
        if ``out`` holds runs of another preset
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    claim_preset(out, replace(preset, steps=0))  # the budgets differ
    faces = load_pictures(preset)["faces"]
    rows, degradation = rows_of(sizes), blur(preset.image_size, preset.strength)
    beside = out / "linear.json"
    if not beside.exists():
        counts = [preset.code_of(rows[str(n)]) for n in sizes]
        batch = Pairs(faces["test"], degradation).batch(range(len(faces["test"])))
        lines = linear.table(faces["train"], faces["test"], None, counts, progress, degradation)
        write_json(beside, {"linear": lines, "input": measure(batch.blurred, batch.sharp).mean().to_dict()})

    def record(name: str, budget: int, state: Path) -> dict:
        return {"name": name, **_run(rows[name], replace(preset, steps=budget), faces, state, progress, precision)}

    records, costs = {}, {}
    for budget, name in product(budgets, rows):
        path = out / f"{name.replace(', ', '-').replace(' ', '-')}-{budget}.json"
        records[path], costs[path] = partial(record, name, budget), budget
    write_missing(records, costs, progress)
    about = {"hardware": hardware(device_for()), "torch": torch.__version__, "seed": SEED}
    found = {"preset": preset.identity() | {"steps": None}, "date": date.today().isoformat(), **about}
    found |= json.loads(beside.read_text(encoding="utf-8"))
    return found | {"rows": [json.loads(p.read_text(encoding="utf-8")) for p in records]}


def _run(variant: Variant, preset: Preset, faces: dict, state: Path, progress: bool, precision: str) -> dict:
    """Train one and measure it: a record with its code, budget, measures on test and training faces, and curve."""
    started, degradation = time.perf_counter(), blur(preset.image_size, preset.strength)
    precision = precision_for(device_for(), precision)
    model, curve = train(
        variant, preset, faces["train"], SEED, None, degradation, faces["val"], progress, state, precision
    )
    record = {"code": preset.code_of(variant), "stands for": variant.latent_dim, "pooled": variant.pooled}
    record |= {"steps": preset.steps, "images_seen": preset.steps * preset.batch_size, "settings": asdict(variant)}
    record["precision"] = precision
    for split in ("test", "train"):  # as many training faces, to see what was learnt by heart
        images = faces[split][: len(faces["test"])]
        table = measure(restore_all(model, Feed(images, variant, degradation)), images)
        record[split] = table.mean().to_dict()
        record[f"{split} PSNR"] = [float(f"{v:.5g}") for v in table["PSNR"]]
    return record | {"curve": curve, "seconds": round(time.perf_counter() - started, 1)}


def shipped_results() -> dict:
    """The recorded rows that came with the course, as :func:`train_all` gives them."""
    return json.loads((data_folder() / "results" / RESULTS).read_text(encoding="utf-8"))


def table(results: dict, column: str = "PSNR") -> pd.DataFrame:
    """A measure on the test faces: a row for each code, a column for each budget, and the linear rows.

    Returns
    -------
    index: names of :func:`rows_of`; columns: "code", one for each number of steps, "last doubling" (NaN with a single
    budget), "converged" (whether it changed the PSNR by less than :data:`CONVERGED`), "linear map", "components"
    """
    rows: dict[str, dict] = {}
    for run in results["rows"]:
        rows.setdefault(run["name"], {"code": run["code"]})[run["steps"]] = run["test"][column]
    for row in rows.values():
        budgets = sorted(k for k in row if k != "code")
        row["last doubling"] = row[budgets[-1]] - row[budgets[-2]] if len(budgets) > 1 else np.nan
        for name, kind in (("linear map", "restored"), ("components", "rebuilt")):
            row[name] = results["linear"][kind].get(str(row["code"]), {}).get(column, np.nan)
    psnr = table(results)["last doubling"] if column != "PSNR" else {n: row["last doubling"] for n, row in rows.items()}
    for name, row in rows.items():
        row["converged"] = bool(psnr[name] < CONVERGED)
    return pd.DataFrame(rows).T


def main(argv: list[str] | None = None) -> None:
    """The command line: train what is missing, write a JSON file, print the table of PSNR."""
    parser = bare_parser("helpers.experiments.bottleneck", __doc__)
    parser.add_argument("--out", required=True, help="folder of the runs; the same command goes on where it stopped")
    parser.add_argument("--to", help="the JSON file to write")
    parser.add_argument("--preset", choices=list(PRESETS), default="course", help="the size of everything else")
    parser.add_argument("--budgets", type=positive_int, nargs="+", default=list(BUDGETS), help="numbers of steps")
    args = parser.parse_args(argv)
    with exit_on_error():
        results = train_all(args.out, PRESETS[args.preset], sorted(args.budgets))
        if args.to:
            with write_errors(args.to):
                Path(args.to).parent.mkdir(parents=True, exist_ok=True)
                write_json(args.to, results, indent=None)
    print(f"blurred input: {results['input']['PSNR']:.2f} dB")
    print(table(results).to_string(float_format=lambda v: f"{v:.2f}"))


if __name__ == "__main__":
    main()
