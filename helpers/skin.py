"""Is a person of any skin tone served equally? What a method gains on faces of darker and of lighter skin.

::

    python -m helpers.skin --data faces --data portraits     # -> data/results/skin.json

The renderer's faces tell their tone (``melanin`` in ``data/faces/parameters.csv``). Of a photograph it is measured: the
individual typology angle, arctan((L* - 50) / b*) in degrees (Chardon et al. 1991, https://doi.org/10.1111/j.1467-2494.
1991.tb00561.x), which is high for light skin and low for dark skin. Light and camera change it, so it sorts
photographs roughly and says nothing about a person.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from skimage.color import rgb2lab
from tqdm.auto import tqdm

from helpers.data import SPLITS, load_parameters
from helpers.degrade import MATRIX
from helpers.engine import commands
from helpers.engine.devices import device_for
from helpers.engine.errors import ImageError
from helpers.engine.folders import data_folder, write_json
from helpers.engine.runs import hardware
from helpers.experiments.bootstrap import mean_intervals
from helpers.methods import load_method, measurable
from helpers.metrics import MOST_PSNR, measure
from helpers.mixed import NAMES, TITLES, named_set
from helpers.pairs import Pairs
from helpers.perceptual import Lpips, load_lpips
from helpers.seeds import SEED, rng_for

GROUPS = ("darker", "middle", "lighter")
# Where cheeks and nose lie on a face that is cut as CelebA's are, as shares of height and width; no eyes, no mouth.
CHEEKS = (slice(0.50, 0.66), slice(0.34, 0.66))


def typology_angle(images: np.ndarray) -> np.ndarray:
    """The individual typology angle of cheeks and nose, in degrees, high for light skin.

    Parameters
    ----------
    images : uint8 N×H×W×3, faces in the course's framing

    Returns
    -------
    N angles between -90 and 90, each the median over the pixels

    Raises
    ------
    ImageError
        for anything but 8-bit colour pictures
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ImageError(f"skin is measured on 8-bit pictures N×H×W×3, not {images.dtype} {images.shape}")
    rows, columns = (
        slice(int(part.start * size), int(part.stop * size))
        for part, size in zip(CHEEKS, images.shape[1:3], strict=True)
    )
    lab = rgb2lab(images[:, rows, columns]).reshape(len(images), -1, 3)
    yellow = np.maximum(lab[..., 2], 1e-6)  # bluish light would turn the angle round; such pixels count as extreme
    return np.median(np.degrees(np.arctan2(lab[..., 0] - 50, yellow)), axis=1)


def thirds(lightness: np.ndarray) -> np.ndarray:
    """Which of :data:`GROUPS` each face belongs to, 0, 1 or 2: thirds by ``lightness``, higher is lighter."""
    order = np.argsort(np.argsort(np.asarray(lightness, float), kind="stable"), kind="stable")
    return np.minimum(order * len(GROUPS) // max(len(order), 1), len(GROUPS) - 1)


def difference(one: np.ndarray, other: np.ndarray, draws: int = 2000, seed: int = SEED) -> tuple[float, float, float]:
    """The mean of ``one`` less that of ``other``, with its 95 % bootstrap interval; different faces, so not paired."""
    if not len(one) or not len(other):
        raise ImageError("a difference needs faces in both groups")
    rng = rng_for(seed)
    means = [np.asarray(part)[rng.integers(len(part), size=(draws, len(part)))].mean(1) for part in (one, other)]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(np.mean(one) - np.mean(other)), float(low), float(high)


def by_tone(method, sharp: np.ndarray, group: np.ndarray, lpips: Lpips, cases=MATRIX, progress: bool = True) -> dict:
    """What a method gains over the degraded input in each group.

    Parameters
    ----------
    method : see :class:`helpers.methods.Method`
    sharp : uint8 N×H×W×3
    group : N of 0 (darker), 1, 2 (lighter), from :func:`thirds`
    cases : name -> degradation

    Returns
    -------
    case -> measure ("PSNR", LPIPS's name) -> group -> [mean gain, low, high]; and "darker - lighter", the difference of
    the two gains. Gains are restored less input: above 0 is better in PSNR, below 0 in LPIPS. PSNR ends at 60 dB.
    """
    result = {}
    for case, degradation in tqdm(cases.items(), desc="skin tones", unit="case", disable=not progress):
        batch = Pairs(sharp, degradation, seed=SEED).batch(range(len(sharp)))
        before = measure(batch.blurred, batch.sharp, lpips)
        after = measure(method.restore(batch.blurred, batch.params), batch.sharp, lpips)
        result[case] = {}
        for metric in ("PSNR", lpips.name):
            gain = (after[metric].clip(upper=MOST_PSNR) - before[metric].clip(upper=MOST_PSNR)).to_numpy()
            parts = [gain[group == number] for number in range(len(GROUPS))]
            row = {name: list(mean_intervals(part[:, None])[0]) for name, part in zip(GROUPS, parts, strict=True)}
            result[case][metric] = row | {"darker - lighter": list(difference(parts[0], parts[-1]))}
    return result


def lightness_of(name: str, split: str, images: np.ndarray) -> tuple[np.ndarray, str]:
    """How light the skin of each picture of a set is, higher for lighter, and what that number is."""
    if name == "faces":
        return -load_parameters(split)["melanin"].to_numpy()[: len(images)], "the renderer's melanin"
    return typology_angle(images), "individual typology angle of cheeks and nose"


def main(argv: list[str] | None = None) -> None:
    """The command line; an error that the user can mend ends it with one sentence."""
    parser = commands.bare_parser("helpers.skin", __doc__)
    parser.add_argument("--data", action="append", help=NAMES)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--limit", type=commands.positive_int, help="only the first so many pictures of each set")
    parser.add_argument("--methods", nargs="+", choices=measurable(), default=["blind"])
    parser.add_argument("--cases", nargs="+", choices=list(MATRIX), default=list(MATRIX))
    parser.add_argument("--out", help="a JSON file; by default data/results/skin.json")
    args = parser.parse_args(argv)
    with commands.exit_on_error():
        _run(args)


def _run(args: argparse.Namespace) -> None:
    """What the command line asks for: print each difference, write the JSON file."""
    out = Path(args.out) if args.out else data_folder() / "results" / "skin.json"
    lpips, cases = load_lpips(device=device_for()), {case: MATRIX[case] for case in args.cases}
    facts = {"split": args.split, "seed": SEED, "hardware": hardware(device_for()), "torch": torch.__version__}
    results = {**facts, "sets": {}}
    for name in args.data or ["faces"]:
        images = np.stack(list(named_set(name, args.split, args.limit)))
        lightness, kind = lightness_of(name, args.split, images)
        group = thirds(lightness)
        kept = {"by": kind, "faces": np.bincount(group, minlength=len(GROUPS)).tolist(), "methods": {}}
        results["sets"][TITLES.get(name, Path(name).name)] = kept
        for method in args.methods:
            kept["methods"][method] = by_tone(load_method(method), images, group, lpips, cases)
            for case, row in kept["methods"][method].items():
                mean, low, high = row["PSNR"]["darker - lighter"]
                print(f"{name}, {method}, {case}: gain darker - lighter {mean:+.2f} dB [{low:+.2f}, {high:+.2f}]")
            write_json(out, results)


def recorded(path: str | Path | None = None) -> dict:
    """What ``data/results/skin.json`` holds."""
    return json.loads(Path(path or data_folder() / "results" / "skin.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
