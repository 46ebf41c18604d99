"""What recorded ablations say: measures, differences, the verdicts on hypotheses.

The exploration (:func:`differences`, :func:`chosen_weights`) has many variants and few seeds. The course's experiment
has its hypotheses in its file; :func:`effects` judges them. A row of that table is what a sentence of a chapter names.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data import ImageError, data_folder
from helpers.engine.folders import write_errors, write_json
from helpers.experiments.bootstrap import judgement, paired_interval
from helpers.experiments.hypotheses import FILE, claimed
from helpers.experiments.inference import compare, holm
from helpers.experiments.variants import ALL, VARIANTS, Preset, claim_preset, seed_of
from helpers.metrics import HIGHER_IS_BETTER

RESULTS = {"laptop": "ablations.json", "longer": "ablations_longer.json", "course": FILE}
LEVEL = 0.05  # of Holm's correction over the family of hypotheses
UNCLEAR = "not distinguishable"
MEASURED = ("input PSNR", "baseline PSNR")  # of the regime; the rest was written before the first run
DESCRIBED = ("PSNR", "SSIM", "LPIPS", "SWD")  # measures that every arm is described by, without a verdict


def collect(out: str | Path) -> dict:
    """All finished runs of a folder as one dictionary: preset, blurred, runs; and what was claimed before, judged.

    Where hypotheses were written down there are also "date", "hypotheses", "regime" (with the PSNR of the input and of
    the baseline) and "effects", see :func:`effects`.
    """
    out = Path(out)
    files = sorted(out.glob("*-[0-9]*.json"))
    if not files or not all((out / name).exists() for name in ("preset.json", "blurred.json")):
        raise ImageError(f"{out}: holds no ablations; run python -m helpers.experiments.ablations --out {out} first")
    found = claimed(out) | {
        "preset": json.loads((out / "preset.json").read_text(encoding="utf-8")),
        "blurred": json.loads((out / "blurred.json").read_text(encoding="utf-8")),
        "runs": [json.loads(f.read_text(encoding="utf-8")) for f in files],
    }
    if "hypotheses" in found:
        found["regime"] = found["regime"] | {MEASURED[0]: found["blurred"].get("faces", {}).get("PSNR")}
        if (baseline := values_of(found, "thesis", "PSNR")).size:
            found["regime"][MEASURED[1]] = float(baseline.mean())
        found["effects"] = effects(found)
    return found


def unpack(path: str | Path, out: str | Path) -> None:
    """Put the runs of a file that :func:`collect` made back into the folder ``out``, so that arms can be added there.

    A run that ``out`` has already stays as it is.

    Raises
    ------
    ImageError
        if the file cannot be read as one of :func:`collect`'s
    TrainingError
        if ``out`` holds runs of another preset, or cannot be written
    """
    out = Path(out)
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
        preset, parts = Preset(**results["preset"]), {"blurred": results["blurred"]}
        if "hypotheses" in results:
            regime = {k: v for k, v in results["regime"].items() if k not in MEASURED}
            parts[Path(FILE).stem] = {k: results[k] for k in ("date", "hypotheses")} | {"regime": regime}
        parts |= {f"{run['variant']}-{run['seed']}": run for run in results["runs"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{path}: is no file of recorded ablations ({error!r})") from None
    with write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        claim_preset(out, preset)  # before the first run is written: two experiments in one folder would be mixed
        for name, content in parts.items():
            if not (out / f"{name}.json").exists():
                write_json(out / f"{name}.json", content)


def shipped_results(preset: str = "laptop") -> dict:
    """The recorded experiment that came with the course, of the preset "laptop", "longer" or "course"."""
    return json.loads((data_folder() / "results" / RESULTS[preset]).read_text(encoding="utf-8"))


def values_of(results: dict, name: str, column: str, seeds=None) -> np.ndarray:
    """A measure of one variant: S×N, seeds in ascending order, test faces in their own; S×1 of "SWD".

    ``seeds`` chooses some of its seeds; all by default.
    """
    runs = sorted((r for r in results["runs"] if r["variant"] == name), key=lambda r: r["seed"])
    runs = [r for r in runs if seeds is None or r["seed"] in seeds]
    return np.array([[r["SWD"]] if column == "SWD" else r["test"][column] for r in runs])


def common_seeds(results: dict, names) -> list[int]:
    """The numbers (from 0) of the seeds with which every variant of ``names`` was run."""
    done = {(r["variant"], r["seed"]) for r in results["runs"]}
    most = len(results["runs"])
    return [i for i in range(most) if all((name, seed_of(name, i)) in done for name in names)]


def effects(results: dict) -> dict[str, dict]:
    """Every hypothesis judged, and a description of every arm; {} before two seeds of all hypotheses' arms are there.

    Equally many seeds of each arm are used: those that all arms of the hypotheses have.

    Returns
    -------
    a row for each hypothesis under its name: "one", "other", "measure", "seeds" (how many), "difference" (one minus
    other), "low", "high", "effect" (Hedges' g), "p", "holm" (p after Holm's correction over the hypotheses), "verdict"
    ("as expected", "opposite" or "not distinguishable"), and "own low", "own high": the interval against the baseline
    with seeds of its own, where that was run. And a row "<arm>/<measure>" for each arm against the thesis in each of
    :data:`DESCRIBED`, with "exploration": True and no verdict.
    """
    asked = results["hypotheses"]
    numbers = common_seeds(results, {name for h in asked for name in (h["one"], h["other"])})
    if len(numbers) < 2:
        return {}
    rows = {h["name"]: _row(results, h["one"], h["other"], h["measure"], numbers) for h in asked}
    for h, p in zip(asked, holm([rows[h["name"]]["p"] for h in asked]), strict=True):
        row = rows[h["name"]]
        sign = 1 if h["expected"] == "higher" else -1
        clear = p < LEVEL and not row["low"] <= 0 <= row["high"]
        verdict = "as expected" if row["difference"] * sign > 0 else "opposite"
        row |= {"holm": p, "verdict": verdict if clear else UNCLEAR}
        own = common_seeds(results, ["thesis-own"])
        if len(own) >= 2:
            one, other = ("thesis-own" if name == "thesis" else name for name in (h["one"], h["other"]))
            welch = _compared(results, one, other, h["measure"], numbers, own, paired=False)
            row |= {"own low": welch.low, "own high": welch.high}
    for name in dict.fromkeys(r["variant"] for r in results["runs"]):
        shared = common_seeds(results, [name, "thesis"])
        if name != "thesis" and len(shared) >= 2:
            paired = not ALL[name].own_seeds
            for measure in DESCRIBED:
                rows[f"{name}/{measure}"] = _row(results, name, "thesis", measure, shared, paired) | {
                    "exploration": True
                }
    return rows


def _compared(results, one: str, other: str, measure: str, numbers, of_thesis_own=None, paired: bool = True):
    """:func:`helpers.experiments.inference.compare` of two arms with the seeds of these numbers."""

    def arm(name):
        chosen = of_thesis_own if of_thesis_own and ALL[name].own_seeds else numbers
        return values_of(results, name, measure, {seed_of(name, i) for i in chosen})

    return compare(arm(one), arm(other), paired)


def _row(results: dict, one: str, other: str, measure: str, numbers: list[int], paired: bool = True) -> dict:
    found = _compared(results, one, other, measure, numbers, paired=paired)
    names = ("difference", "low", "high", "effect", "p")
    row = {"one": one, "other": other, "measure": measure, "seeds": len(numbers)}
    return row | {name: getattr(found, name) for name in names}


def told(results: dict) -> str:
    """The verdicts of :func:`effects` as a text to print, each with its sentence; and what is still missing."""
    rows, regime = results["effects"], results["regime"]
    lines = [f"the input has {regime['input PSNR']:.2f} dB, the baseline {regime['baseline PSNR']:.2f} dB"]
    if not rows:
        return "\n".join([*lines, "no verdicts before each arm of the hypotheses has two seeds"])
    for h in results["hypotheses"]:
        row = rows[h["name"]]
        own = f"; own seeds [{row['own low']:+.4g}, {row['own high']:+.4g}]" if "own low" in row else ""
        lines += [
            f"{h['name']}: {row['verdict'].upper()} ({row['seeds']} seeds). {h['sentence']}",
            f"    {row['measure']} {row['difference']:+.4g} [{row['low']:+.4g}, {row['high']:+.4g}]{own}, "
            f"effect {row['effect']:+.1f}, p {row['p']:.2g}, after Holm {row['holm']:.2g}",
        ]
    return "\n".join(lines)


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
