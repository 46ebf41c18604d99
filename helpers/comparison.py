"""Every method on the same faces and the same blur: the table of chapter 11.

::

    python -m helpers.comparison                      # all methods: fast ones on 400 test faces, all on the first 20
    python -m helpers.comparison --data my/photos --methods thesis pmrf --out runs/mine.json

Two tables, because a method that searches anew for each picture is too slow for all: rows of different sets of pictures
never stand in one table. Results are kept as JSON with the hardware and the versions; a run that was stopped goes on.
"""

import json
import time
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from helpers.data import SPLITS, load_split
from helpers.engine import commands
from helpers.engine.devices import device_for
from helpers.engine.errors import ImageError
from helpers.engine.folders import data_folder, write_errors, write_json
from helpers.engine.runs import hardware
from helpers.experiments.embedding import SIZE, embed, load_embedder
from helpers.methods import METHODS, TITLES, available, load_method
from helpers.metrics import HIGHER_IS_BETTER, means, measure
from helpers.pairs import Pairs
from helpers.perceptual import Lpips, load_lpips
from helpers.realism import kernel_distance, sliced_wasserstein
from helpers.seeds import SEED

INPUT = "blurred input"
RESULTS = "comparison.json"
PARTS = 10  # of the faces; each is left out once, to see how far SWD and KID depend on the faces


def shipped_results() -> dict:
    """The results that came with the course."""
    return json.loads((data_folder() / "results" / RESULTS).read_text(encoding="utf-8"))


def row_of(restored: np.ndarray, sharp: np.ndarray, reference: np.ndarray, lpips: Lpips) -> dict:
    """A row of the table: the means of the five measures, with their standard errors, and two realism distances.

    Parameters
    ----------
    restored, sharp : uint8 N×H×W×3
    reference : other sharp pictures, which say what sharp faces look like as a set

    Returns
    -------
    the means under their names; "standard_errors"; "SWD"; for faces of 128 pixels "KID", the kernel distance of the
    identity network's codes; and, for 20 faces or more, "without": PSNR, LPIPS, SWD and KID ten times, each time
    without another tenth of the faces, for :func:`helpers.experiments.inference.jackknife`
    """
    table = measure(restored, sharp, lpips)
    finite = table.replace(np.inf, np.nan)
    row = means(table).to_dict() | {"standard_errors": (finite.std() / finite.count() ** 0.5).to_dict()}
    codes = _codes_of(restored)
    row |= distances(restored, reference, codes)
    if len(restored) >= 2 * PARTS:
        row["without"] = []
        for part in range(PARTS):
            kept = np.arange(len(restored)) % PARTS != part
            left = means(table[kept])[["PSNR", lpips.name]].to_dict()
            row["without"].append(left | distances(restored[kept], reference, None if codes is None else codes[kept]))
    return row


def distances(images: np.ndarray, reference: np.ndarray, codes: np.ndarray | None = None) -> dict[str, float]:
    """The "SWD" of two sets of pictures, uint8 N×H×W×3; and "KID" where they are faces of 128 pixels.

    ``codes`` are those that the identity network gives to ``images``; without them they are computed.
    """
    found = {"SWD": sliced_wasserstein(images, reference)["mean"]}
    codes = _codes_of(images) if codes is None else codes
    if codes is not None and min(len(images), len(reference)) > 1:
        found["KID"] = kernel_distance(codes, _codes_of_reference(reference.tobytes(), reference.shape))
    return found


def _codes_of(images: np.ndarray) -> np.ndarray | None:
    """The identity network's codes; None for pictures of another size, which it does not take."""
    return embed(load_embedder(), images) if images.shape[1:3] == (SIZE, SIZE) else None


@lru_cache(maxsize=1)
def _codes_of_reference(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The same pictures stand beside every row, so their codes are computed once."""
    return embed(load_embedder(), np.frombuffer(content, np.uint8).reshape(shape).copy())


def images_seen(about: dict) -> int | None:
    """How many training images a checkpoint has seen, as its JSON tells: the stages before it too; None if it does not.

    An image counts each time it is seen. Stages are counted in steps, except the thesis's training, whose record tells.
    """
    if "images_seen" in about.get("record", {}):
        return about["record"]["images_seen"]
    steps = sum(number for key, number in about.items() if key == "steps" or key.endswith("_steps"))
    before = sum(images_seen(stage) or 0 for stage in about.get("before", []))
    return before + steps * about.get("batch_size", 0) or None


def compare(
    names: list[str], sharp: np.ndarray, reference: np.ndarray, lpips: Lpips, rows: dict | None = None,
    degradation: str = "celebablur", seed: int = SEED, progress: bool = True, on_row=None,
) -> dict[str, dict]:  # fmt: skip
    """A row for the blurred input and for each method of ``names``; rows that ``rows`` has already are kept.

    ``on_row`` is called with the rows so far after each new one.
    """
    rows = dict(rows or {})
    batch = Pairs(sharp, degradation, seed=seed).batch(range(len(sharp)))
    device = device_for()
    for name in [INPUT, *names]:
        if name in rows:
            continue
        if name == INPUT:
            rows[name] = {"title": INPUT, **row_of(batch.blurred, batch.sharp, reference, lpips)}
        else:
            method = load_method(name)
            if not method.slow:
                method.restore(batch.blurred[:2], batch.params[:2])  # the first call is slower
            with tqdm(desc=method.title, disable=not (progress and method.slow), unit="step") as bar:

                def tell(done, total, bar=bar):
                    bar.total, bar.n = total, done
                    bar.refresh()
                    return True

                started = time.perf_counter()
                restored = method.restore(batch.blurred, batch.params, tell)
                seconds = (time.perf_counter() - started) / len(sharp)
            rows[name] = {
                "title": method.title, **row_of(restored, batch.sharp, reference, lpips),
                "parameters": method.parameters, "seconds": seconds,
            }  # fmt: skip
            seen = images_seen(method.about)
            rows[name] |= {"images_seen": seen} if seen else {}
        rows[name] |= {"hardware": hardware(device), "date": date.today().isoformat(), "images": len(sharp)}
        rows[name]["torch"] = torch.__version__
        if on_row:
            on_row(rows)
    return rows


def as_table(rows: dict[str, dict]) -> pd.DataFrame:
    """The rows as a table to look at: measures, distances, parameters, seconds an image, images seen if rows tell."""
    order = [INPUT, *[n for n in METHODS if n in rows]]
    table = pd.DataFrame({rows[n]["title"]: rows[n] for n in order if n in rows}).T
    metric = next(c for c in table.columns if c.startswith("LPIPS"))
    columns = [c for c in HIGHER_IS_BETTER if c != "LPIPS"] + [metric, "SWD"]
    columns += [*(["KID"] if "KID" in table.columns else []), "parameters", "seconds"]
    columns += ["images_seen"] if "images_seen" in table.columns else []
    return table.reindex(columns=columns)


def main(argv: list[str] | None = None) -> None:
    """The command line; an error that the user can mend ends it with one sentence."""
    parser = commands.bare_parser("helpers.comparison", __doc__)
    parser.add_argument(
        "--data", help="folder of photographs, or of train/, val/ and test/; the shipped faces by default"
    )
    parser.add_argument("--split", choices=SPLITS, default="test")
    here = available()
    parser.add_argument(
        "--methods", nargs="+", choices=list(TITLES), default=here, help="by default all whose weights are there"
    )
    count = commands.positive_int
    parser.add_argument("--limit", type=count, help="use only the first so many images for the fast methods")
    parser.add_argument("--few", type=count, default=20, help="images for the table that has the slow methods too")
    parser.add_argument("--out", help="a JSON file; the same command goes on where it stopped")
    args = parser.parse_args(argv)
    out = Path(args.out) if args.out else data_folder() / "results" / RESULTS
    with commands.exit_on_error():
        with write_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
        sharp = np.stack(list(load_split(args.data, args.split, args.limit)))
        reference = np.stack(list(load_split(args.data, "train" if args.split == "val" else "val", 400)))
        lpips = load_lpips(device=device_for())
        facts = {"split": args.split, "degradation": "celebablur", "seed": SEED, "lpips": lpips.name}
        facts |= {"data": "photographs" if args.data else "shipped faces"}
        results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"all": {}, "few": {}}
        if results.get("facts", facts) != facts:
            raise ImageError(f"{out} holds results of another kind ({results['facts']}); choose another file")
        results["facts"] = facts
        fast = [name for name in args.methods if not METHODS[name].slow]
        for key, names, faces in (("all", fast, sharp), ("few", args.methods, sharp[: args.few])):
            # The floor: how far sharp faces are from other sharp faces of the same number.
            floors = distances(faces, reference)
            results[f"floor_{key}"], results[f"floor_KID_{key}"] = floors["SWD"], floors.get("KID")

            def keep(rows, key=key):
                results[key] = rows
                write_json(out, results)

            keep(compare(names, faces, reference, lpips, results[key], on_row=keep))
            print(f"\n{len(faces)} {args.split} images; SWD of sharp ones: {results[f'floor_{key}']:.0f}")
            print(as_table(results[key]).to_string(float_format=lambda v: f"{v:.4f}"))


if __name__ == "__main__":
    main()
