"""helpers.experiments.results: what recorded ablations say, on made ones; and the recorded ones that ship."""

import json
from dataclasses import MISSING, asdict, fields

import numpy as np
import pytest

from helpers.data import ImageError, data_folder
from helpers.engine.runs import TrainingError
from helpers.experiments.hypotheses import HYPOTHESES, REGIME, claimed
from helpers.experiments.inference import compare, holm
from helpers.experiments.results import RESULTS as SHIPPED
from helpers.experiments.results import (
    UNCLEAR,
    chosen_weights,
    collect,
    common_seeds,
    differences,
    effects,
    shipped_results,
    told,
    unpack,
    values_of,
)
from helpers.experiments.variants import COURSE, PRESETS, VARIANTS, Preset, claim_preset, seed_of

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


DEFAULTS = {f.name: f.default for f in fields(Preset) if f.default is not MISSING}  # an older record names fewer


@pytest.mark.parametrize("name", ["laptop", "longer"])
def test_shipped_results(name):
    """Every variant of the preset with each of its seeds, on all its test faces, as the chapters read them."""
    results, preset = shipped_results(name), PRESETS[name]
    recorded = DEFAULTS | results["preset"]
    assert {k: v for k, v in recorded.items() if k not in ("seeds", "variants")} == preset.identity()
    assert {r["variant"] for r in results["runs"]} == set(preset.variants)
    for variant in preset.variants:
        assert values_of(results, variant, "PSNR").shape == (preset.seeds, preset.faces[2])
    for baseline in ("thesis", "skip"):
        table = differences(results, "PSNR", baseline, [VARIANTS[baseline].group])
        assert table.loc[baseline, "verdict"] == "baseline"


def test_the_shipped_experiment():
    """Its hypotheses are those of the code, its verdicts follow from its raw values, its baseline beats its input."""
    if not (data_folder() / "results" / SHIPPED["course"]).exists():
        pytest.skip("the course's experiment is not recorded yet")
    results, preset = shipped_results("course"), PRESETS["course"]
    assert results["hypotheses"] == [asdict(h) for h in HYPOTHESES]
    assert results["date"] <= min(r["date"] for r in results["runs"])
    assert results["regime"] == REGIME | {k: results["regime"][k] for k in ("input PSNR", "baseline PSNR")}
    assert results["regime"]["baseline PSNR"] > results["regime"]["input PSNR"] == results["blurred"]["faces"]["PSNR"]
    assert {k: v for k, v in results["preset"].items() if k not in ("seeds", "variants")} == preset.identity()
    for name in COURSE:
        assert values_of(results, name, "PSNR").shape == (preset.seeds, preset.faces[2])
    again = json.loads(json.dumps(effects(results)))
    assert again.keys() == results["effects"].keys()
    for name, row in again.items():
        assert row == {k: pytest.approx(v) if isinstance(v, float) else v for k, v in results["effects"][name].items()}
    assert all(r["hardware"] and r["torch"] for r in results["runs"])


# ---------------------------------------------------------------------------------------------------------------------
# The course's hypotheses


def course(seeds: int = 8, **gains: float) -> dict:
    """A made experiment in which an arm's PSNR (and -SWD) differs from the thesis's by what ``gains`` says."""
    rng, runs = np.random.default_rng(0), []
    luck = rng.normal(0, 0.3, seeds)
    for name in COURSE:
        for i in range(seeds):
            level = 19 + gains.get(name.replace("-", "_"), 0) + rng.normal(0, 0.05)
            level += rng.normal(0, 0.3) if name == "thesis-own" else luck[i]
            psnr = level + np.resize(HARD, 12) + rng.normal(0, 0.02, 12)
            test = {column: psnr.tolist() for column in ("PSNR", "SSIM", "LPIPS")}
            runs.append({"variant": name, "seed": seed_of(name, i), "test": test, "SWD": float(300 - 100 * level)})
    asked = [asdict(h) for h in HYPOTHESES]
    regime = REGIME | {"input PSNR": 18.9, "baseline PSNR": 19.0}
    return {"hypotheses": asked, "regime": regime, "date": "2025-01-01", "runs": runs}


def test_verdicts_on_made_runs():
    """One effect as predicted, one opposite, one on a measure that falls; the rest cannot be told from chance."""
    results = course(edges_none=-0.4, without_tv=0.4, without_lpips=-0.4)
    rows = effects(results)
    verdicts = {h.name: rows[h.name]["verdict"] for h in HYPOTHESES}
    assert verdicts == {h.name: UNCLEAR for h in HYPOTHESES} | {
        "edges": "as expected", "tv": "opposite", "lpips is texture": "as expected"
    }  # fmt: skip
    assert rows["edges"]["difference"] == pytest.approx(0.4, abs=0.06) and rows["edges"]["seeds"] == 8
    assert rows["lpips is texture"]["difference"] == pytest.approx(-40, abs=6)  # SWD falls
    assert rows["edges"]["effect"] > 0 > rows["tv"]["effect"]
    corrected = holm([rows[h.name]["p"] for h in HYPOTHESES])
    assert [rows[h.name]["holm"] for h in HYPOTHESES] == corrected


def test_a_row_is_the_comparison_of_its_arms():
    """Paired by seed; and, beside it, against the baseline's own seeds, which do not share the arms' luck."""
    results = course(edges_none=-0.4)
    rows = effects(results)
    arms = {name: values_of(results, name, "PSNR") for name in COURSE}
    paired, own = (
        compare(arms["thesis"], arms["edges-none"], True),
        compare(arms["thesis-own"], arms["edges-none"], False),
    )
    row = rows["edges"]
    assert (row["low"], row["high"], row["p"]) == (paired.low, paired.high, paired.p)
    assert (row["own low"], row["own high"]) == (own.low, own.high)
    assert row["own high"] - row["own low"] > 2 * (row["high"] - row["low"])


def test_description_without_verdicts():
    """Every arm in every measure, minus the thesis; the baseline against itself is nothing, and nobody is judged."""
    results = course(edges_none=-0.4)
    described = {k: v for k, v in effects(results).items() if "exploration" in v}
    assert set(described) == {f"{n}/{m}" for n in COURSE[1:] for m in ("PSNR", "SSIM", "LPIPS", "SWD")}
    assert described["edges-none/PSNR"]["difference"] == pytest.approx(-0.4, abs=0.06)
    assert not any("verdict" in row for row in described.values())
    same = described["thesis-own/PSNR"]
    assert same["low"] < 0 < same["high"]


def test_an_early_end_leaves_equally_many_seeds():
    """Three seeds of one arm and two of the others: two are used; below two nothing is said."""
    results = course(seeds=3)
    late = [r for r in results["runs"] if r["seed"] == seed_of(r["variant"], 2) and r["variant"] != "thesis"]
    results["runs"] = [r for r in results["runs"] if r not in late]
    assert common_seeds(results, COURSE) == [0, 1] and common_seeds(results, ["thesis"]) == [0, 1, 2]
    assert all(row["seeds"] == 2 for row in effects(results).values())
    results["runs"] = [r for r in results["runs"] if r["seed"] != seed_of("edges-none", 1)]
    assert effects(results) == {}
    results["effects"] = {}
    assert "no verdicts before" in told(results)


def test_told_with_each_sentence():
    results = course(edges_none=-0.4)
    results["effects"] = effects(results)
    text = told(results)
    assert all(h.sentence in text for h in HYPOTHESES) and "the input has 18.90 dB, the baseline 19.00 dB" in text
    assert text.count(UNCLEAR.upper()) == len(HYPOTHESES) - 1 and "edges: AS EXPECTED (8 seeds)" in text


def test_collected_with_what_was_claimed(tmp_path):
    """One file holds hypotheses, date, regime, raw values and verdicts."""
    results = course()
    blurred = {"faces": {"PSNR": 18.5}}
    written = {"preset": asdict(PRESETS["course"]), "blurred": blurred}
    written["hypotheses"] = {k: results[k] for k in ("hypotheses", "date")} | {"regime": REGIME}
    written |= {f"{r['variant']}-{r['seed']}": r for r in results["runs"]}
    for name, content in written.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    found = collect(tmp_path)
    assert found["date"] == "2025-01-01" and found["hypotheses"] == results["hypotheses"]
    assert len(found["runs"]) == len(results["runs"]) and found["effects"] == effects(results)
    assert found["regime"]["input PSNR"] == 18.5
    assert found["regime"]["baseline PSNR"] == pytest.approx(values_of(results, "thesis", "PSNR").mean())
    (kept := tmp_path / "all.json").write_text(json.dumps(found), encoding="utf-8")
    (begun := tmp_path / "begun").mkdir()
    (begun / "thesis-2025.json").write_text(json.dumps(own := found["runs"][-1] | {"SWD": 0.0}), encoding="utf-8")
    unpack(kept, begun)
    assert claimed(begun) == claimed(tmp_path)
    assert json.loads((begun / "thesis-2025.json").read_text(encoding="utf-8")) == own, "a run that is there stays"
    unpack(kept, tmp_path / "new" / "folder")
    assert collect(tmp_path / "new" / "folder") == found


def test_nothing_is_unpacked_beside_another_experiment(tmp_path):
    """A folder of another preset gets no file: runs of two experiments would be collected as one."""
    results = course() | {"preset": asdict(PRESETS["course"]), "blurred": {}}
    (kept := tmp_path / "all.json").write_text(json.dumps(results), encoding="utf-8")
    claim_preset(other := tmp_path, PRESETS["laptop"])
    before = sorted(other.iterdir())
    with pytest.raises(TrainingError, match="runs of another preset .*steps: 300 -> 1600"):
        unpack(kept, other)
    assert sorted(other.iterdir()) == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"preset": {}, "blurred": {}, "runs": [1]}'])
def test_unpacking_another_file(tmp_path, content):
    (path := tmp_path / "other.json").write_text(content, encoding="utf-8")
    with pytest.raises(ImageError, match="no file of recorded ablations"):
        unpack(path, tmp_path / "out")
    with pytest.raises(ImageError, match="no file of recorded ablations"):
        unpack(tmp_path / "missing.json", tmp_path / "out")
