"""helpers.experiments.results: what recorded ablations say, on made ones; and the recorded ones that ship."""

import numpy as np
import pytest

from helpers.data import ImageError
from helpers.experiments.results import RESULTS as SHIPPED
from helpers.experiments.results import chosen_weights, differences, shipped_results, values_of
from helpers.experiments.variants import PRESETS, VARIANTS

SECOND = "LPIPS, random trunk"


def made(name: str, seed: int, psnr, l1=(0.1, 0.1), **val) -> dict:
    """A record as a run writes it, as far as the tables look at it."""
    val = {"PSNR": 20.0, "SSIM": 0.5, "L1": 0.1, "MSE": 0.02, "LPIPS": 0.3, SECOND: 0.3, **val}
    return {"variant": name, "seed": seed, "test": {"PSNR": list(psnr), "L1": list(l1)}, "val": val}


HARD = np.array([0.0, 8.0, 3.0, -4.0])  # how much easier one face is than another
RESULTS = {
    "runs": [
        made("thesis", 2026, 21 + HARD, [0.1] * 4),
        made("thesis", 2025, 20 + HARD, [0.1] * 4),
        made("edges-none", 2025, 19 + HARD, [0.09] * 4),
        made("edges-none", 2026, 20 + HARD, [0.09] * 4),
        made("edges-oracle", 2025, 22 + HARD, [0.2] * 4),
        made("edges-oracle", 2026, 23 + HARD, [0.2] * 4),
        made("latent-stop", 2025, 21 + HARD, [0.1] * 4),
        made("latent-stop", 2026, 20 + HARD, [0.1] * 4),
        made("only-l1", 2025, 30 + HARD),  # its second run is not there yet
        made("only-tv", 2025, 30 + HARD),
        made("only-tv", 2027, 30 + HARD),  # other seeds than the baseline's
    ]
}


def test_values_are_ordered_by_seed():
    assert np.array_equal(values_of(RESULTS, "thesis", "PSNR"), [20 + HARD, 21 + HARD])
    assert values_of(RESULTS, "code-64", "PSNR").size == 0


def test_differences_by_hand():
    """Seed by seed and face by face: -1, +2, and ±1 that is noise; what has other seeds is left out."""
    table = differences(RESULTS, "PSNR")
    assert list(table.index) == ["thesis", "edges-none", "edges-oracle", "latent-stop"]
    assert table["difference"].tolist() == [0, -1, 2, 0]
    assert table["verdict"].tolist() == ["baseline", "worse", "better", "inside the noise"]
    assert table.loc["edges-none", ["low", "high"]].tolist() == [-1, -1]
    assert table.loc["latent-stop", ["low", "high"]].tolist() == [-1, 1]
    assert table.loc["edges-none", "mean"] == pytest.approx(19.5 + HARD.mean())
    assert table.loc["edges-none", "seeds"] == pytest.approx(0.5**0.5)
    assert table.loc["edges-oracle", "title"] == VARIANTS["edges-oracle"].title


def test_a_lower_error_is_better():
    table = differences(RESULTS, "L1")
    assert table["verdict"].tolist() == ["baseline", "better", "worse", "inside the noise"]
    assert table.loc["edges-none", "difference"] == pytest.approx(-0.01)


def test_differences_of_groups_and_from_another_baseline():
    assert list(differences(RESULTS, "PSNR", groups=["edges"]).index) == ["edges-none", "edges-oracle"]
    table = differences(RESULTS, "PSNR", baseline="edges-none")
    assert table.loc["thesis", "difference"] == 1 and table.loc["thesis", "verdict"] == "better"
    assert table.loc["edges-none", "verdict"] == "baseline"
    one = differences({"runs": [RESULTS["runs"][8]]}, "PSNR", baseline="only-l1")
    assert np.isnan(one.loc["only-l1", "seeds"])  # one seed says nothing of how seeds spread


def test_no_baseline_is_told():
    with pytest.raises(ImageError, match="there is no run of code-64 to compare with"):
        differences(RESULTS, "PSNR", baseline="code-64")
    with pytest.raises(ImageError, match="there is no run of thesis"):
        differences({"runs": RESULTS["runs"][2:]}, "PSNR")


BETTER = {"PSNR": 21.0, "SSIM": 0.6, "L1": 0.09, "MSE": 0.01, "LPIPS": 0.2}


def test_weights_are_chosen_on_validation_alone():
    """Test faces would choose another one; variants that are no candidates have no say."""
    runs = [
        made("thesis", 2025, [20.0]),
        made("weights-sharp", 2025, [99.0], [0.0]),
        made("weights-ssim", 2025, [1.0], [9.0], **BETTER),
        made("edges-oracle", 2025, [50.0], **{**BETTER, "PSNR": 40.0}),
    ]
    assert chosen_weights({"runs": runs}) == "weights-ssim"
    for record in runs:
        record["test"] = {}
    assert chosen_weights({"runs": runs}) == "weights-ssim"


def test_the_best_mean_rank_over_five_measures():
    """Two wins and three losses lose; the second perceptual measure is not asked; a tie leaves the thesis's weights."""
    two = {"PSNR": 30.0, "SSIM": 0.9, "L1": 0.2, "MSE": 0.1, "LPIPS": 0.9}
    runs = [made("thesis", 2025, [20.0]), made("weights-pixel", 2025, [20.0], **two)]
    assert chosen_weights({"runs": runs}) == "thesis"
    runs[1]["val"]["L1"] = 0.05
    assert chosen_weights({"runs": runs}) == "weights-pixel"
    same = [made(n, 2025, [20.0]) for n in ("weights-sharp", "thesis")]
    same[0]["val"][SECOND] = 0.0
    assert chosen_weights({"runs": same}) == "thesis"


def test_seeds_are_averaged_before_ranks():
    """One lucky seed does not choose: 22 and 17 are 19.5 on average, below 20 and 20."""
    runs = [made("thesis", s, [20.0]) for s in (2025, 2026)]

    runs += [made("weights-sharp", s, [20.0], PSNR=p) for s, p in ((2025, 22.0), (2026, 17.0))]
    assert chosen_weights({"runs": runs}) == "thesis"
    runs[-1]["val"]["PSNR"] = 19.0
    assert chosen_weights({"runs": runs}) == "weights-sharp"


# ---------------------------------------------------------------------------------------------------------------------
# What ships


@pytest.mark.parametrize("name", list(SHIPPED))
def test_shipped_results(name):
    """Every variant of the preset with each of its seeds, on all its test faces, as the chapters read them."""
    results, preset = shipped_results(name), PRESETS[name]
    assert {k: v for k, v in results["preset"].items() if k not in ("seeds", "variants")} == preset.identity()
    assert {r["variant"] for r in results["runs"]} == set(preset.variants)
    for variant in preset.variants:
        assert values_of(results, variant, "PSNR").shape == (preset.seeds, preset.faces[2])
    for baseline in ("thesis", "skip"):
        table = differences(results, "PSNR", baseline, [VARIANTS[baseline].group])
        assert table.loc[baseline, "verdict"] == "baseline"
