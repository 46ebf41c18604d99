"""What recorded ablations say: measures, differences to a baseline, the weights that validation chooses."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data import ImageError, data_folder
from helpers.experiments.bootstrap import judgement, paired_interval
from helpers.experiments.variants import VARIANTS
from helpers.metrics import HIGHER_IS_BETTER

RESULTS = {"laptop": "ablations.json", "longer": "ablations_longer.json"}


def collect(out: str | Path) -> dict:
    """All finished runs of a folder as one dictionary: preset, blurred, runs."""
    out = Path(out)
    files = sorted(out.glob("*-*.json"))
    if not files or not all((out / name).exists() for name in ("preset.json", "blurred.json")):
        raise ImageError(f"{out}: holds no ablations; run python -m helpers.experiments.ablations --out {out} first")
    return {
        "preset": json.loads((out / "preset.json").read_text(encoding="utf-8")),
        "blurred": json.loads((out / "blurred.json").read_text(encoding="utf-8")),
        "runs": [json.loads(f.read_text(encoding="utf-8")) for f in files],
    }


def shipped_results(preset: str = "laptop") -> dict:
    """The recorded experiment that came with the course, of the preset "laptop" or "longer"."""
    return json.loads((data_folder() / "results" / RESULTS[preset]).read_text(encoding="utf-8"))


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
