"""helpers.comparison: the table of all methods, and the results that ship."""

import json

import numpy as np
import pytest
import torch

from helpers import comparison
from helpers.comparison import INPUT, as_table, compare, main, row_of
from helpers.data import load_faces
from helpers.methods import METHODS, Method
from helpers.metrics import measure
from helpers.pairs import Pairs
from helpers.perceptual import Lpips

SHIPPED = comparison.data_folder() / "results" / comparison.RESULTS
needs_results = pytest.mark.skipif(not SHIPPED.exists(), reason="no results are shipped")


@pytest.fixture(scope="module")
def ruler():
    return Lpips(None)


@pytest.fixture(scope="module")
def faces():
    return np.stack(list(load_faces("test", limit=6)))


class Perfect(Method):
    """Knows the truth."""

    name, title = "perfect", "the truth"
    calls = 0
    answer = None

    def restore(self, blurred, params=None, on_step=None):
        type(self).calls += 1
        assert len(params) == len(blurred) and "sigma" in params[0]
        return self.answer[: len(blurred)]


@pytest.fixture
def perfect(monkeypatch, faces):
    Perfect.answer, Perfect.calls = faces, 0
    monkeypatch.setitem(METHODS, "perfect", Perfect)
    monkeypatch.setattr(comparison, "load_method", lambda name: METHODS[name]())


def test_a_row_holds_means_errors_and_realism(faces, ruler):
    blurred = Pairs(faces).batch(range(6)).blurred
    row = row_of(blurred, faces, faces[::-1], ruler)
    table = measure(blurred, faces, ruler)
    assert row["PSNR"] == pytest.approx(table["PSNR"].mean())
    assert row["standard_errors"]["SSIM"] == pytest.approx(table["SSIM"].std() / 6**0.5)
    assert row["SWD"] > 3 * row_of(faces, faces, faces[::-1], ruler)["SWD"]


def test_the_truth_wins_everything(perfect, faces, ruler):
    rows = compare(["perfect"], faces, faces[::-1], ruler, progress=False)
    assert list(rows) == [INPUT, "perfect"]
    assert rows["perfect"]["SSIM"] == 1 and rows["perfect"]["MSE"] == 0 and rows["perfect"]["PSNR"] == np.inf
    assert rows["perfect"]["images"] == 6 and rows["perfect"]["parameters"] == 0 and rows["perfect"]["seconds"] >= 0
    table = as_table(rows)
    assert list(table.index) == [INPUT, "the truth"]
    assert list(table.columns) == ["PSNR", "SSIM", "L1", "MSE", ruler.name, "SWD", "parameters", "seconds"]


def test_rows_that_are_there_are_kept_and_new_ones_told(perfect, faces, ruler):
    told = []
    first = compare(["perfect"], faces, faces, ruler, progress=False, on_row=lambda rows: told.append(list(rows)))
    assert told == [[INPUT], [INPUT, "perfect"]]
    calls = Perfect.calls
    assert compare(["perfect"], faces, faces, ruler, rows=first, progress=False) == first and Perfect.calls == calls


def test_in_a_shell_and_again(perfect, tmp_path, capsys, monkeypatch, ruler):
    monkeypatch.setattr(comparison, "load_lpips", lambda device: ruler)
    monkeypatch.setattr(comparison, "TITLES", {"perfect": "the truth"})
    out = tmp_path / "results.json"
    arguments = ["--methods", "perfect", "--limit", "6", "--few", "3", "--out", str(out)]
    main(arguments)
    assert "SWD of sharp ones" in capsys.readouterr().out
    results = json.loads(out.read_text())
    assert results["all"]["perfect"]["images"] == 6 and results["few"]["perfect"]["images"] == 3
    assert results["facts"]["lpips"] == ruler.name and results["floor_all"] > 0
    calls = Perfect.calls
    main(arguments)
    assert Perfect.calls == calls
    with pytest.raises(SystemExit, match="results of another kind"):
        main([*arguments, "--split", "val"])


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(SystemExit, match="error: "):
        main(["--data", str(tmp_path / "none"), "--out", str(tmp_path / "x.json")])


# ---------------------------------------------------------------------------------------------------------------------
# What ships


@needs_results
def test_shipped_results_hold_every_method():
    results = comparison.shipped_results()
    assert set(results["few"]) == {INPUT, *METHODS}
    assert set(results["all"]) == {INPUT} | {name for name, method in METHODS.items() if not method.slow}
    assert {row["images"] for row in results["all"].values()} == {400}
    assert {row["images"] for row in results["few"].values()} == {20}
    assert results["facts"]["lpips"] == "LPIPS" and results["facts"]["data"] == "shipped faces"
    assert all(row["hardware"] and row["date"] for part in ("all", "few") for row in results[part].values())


@needs_results
def test_every_method_beats_the_blurred_input_in_lpips():
    results = comparison.shipped_results()
    for part in ("all", "few"):
        rows = results[part]
        assert {
            n for n, r in rows.items() if n not in (INPUT, "wiener") and r["LPIPS"] >= rows[INPUT]["LPIPS"]
        } == set()
        for name in ("posterior_mean", "diffir"):
            assert rows[name]["PSNR"] > rows[INPUT]["PSNR"], name


@needs_results
@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.slow])
def test_shipped_results_come_from_the_shipped_weights(name):
    """The recorded PSNR of the 20 faces is measured again."""
    recorded = comparison.shipped_results()["few"][name]
    batch = Pairs(np.stack(list(load_faces("test", limit=20)))).batch(range(20))
    torch.manual_seed(0)
    restored = METHODS[name]("cpu").restore(batch.blurred, batch.params)
    assert measure(restored, batch.sharp)["PSNR"].mean() == pytest.approx(recorded["PSNR"], abs=0.05)
    assert METHODS[name]("cpu").parameters == recorded["parameters"]
