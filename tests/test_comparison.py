"""helpers.comparison: the table of all methods, and the results that ship."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import comparison
from helpers.comparison import INPUT, as_table, compare, images_seen, main, row_of
from helpers.data import load_faces
from helpers.methods import METHODS, Method, available
from helpers.metrics import measure
from helpers.pairs import Pairs
from helpers.perceptual import Lpips

SHIPPED = comparison.data_folder() / "results" / comparison.RESULTS
needs_results = pytest.mark.skipif(not SHIPPED.exists(), reason="no results are shipped")


@pytest.fixture(scope="module")
def metric():
    return Lpips(None)


@pytest.fixture(autouse=True)
def few_sharp_faces(monkeypatch):
    """The command compares with 400 sharp faces; thirty show as well how it works."""
    load = comparison.load_split
    monkeypatch.setattr(comparison, "load_split", lambda data, split, limit: load(data, split, min(limit or 30, 30)))


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


def test_a_row_holds_means_errors_and_realism(faces, metric):
    blurred = Pairs(faces).batch(range(6)).blurred
    row = row_of(blurred, faces, faces[::-1], metric)
    table = measure(blurred, faces, metric)
    assert row["PSNR"] == pytest.approx(table["PSNR"].mean())
    assert row["standard_errors"]["SSIM"] == pytest.approx(table["SSIM"].std() / 6**0.5)
    assert row["SWD"] > 3 * row_of(faces, faces, faces[::-1], metric)["SWD"]
    assert row["KID"] > row_of(faces, faces, faces[::-1], metric)["KID"] and "without" not in row


def test_a_row_tells_how_it_depends_on_the_faces(metric):
    """Twenty faces: ten times without every tenth one; smaller pictures have no kernel distance."""
    faces = np.stack(list(load_faces("test", limit=20)))
    blurred = Pairs(faces).batch(range(20)).blurred
    row = row_of(blurred, faces, faces[::-1], metric)
    kept = np.arange(20) % 10 != 3
    left = row_of(blurred[kept], faces[kept], faces[::-1], metric)
    assert len(row["without"]) == 10
    assert row["without"][3] == pytest.approx({k: left[k] for k in ("PSNR", metric.name, "SWD", "KID")})
    assert "KID" not in row_of(blurred[:3, ::2, ::2], faces[:3, ::2, ::2], faces[:, ::2, ::2], metric)


def test_the_truth_wins_everything(perfect, faces, metric):
    rows = compare(["perfect"], faces, faces[::-1], metric, progress=False)
    assert list(rows) == [INPUT, "perfect"]
    assert rows["perfect"]["SSIM"] == 1 and rows["perfect"]["MSE"] == 0 and rows["perfect"]["PSNR"] == np.inf
    assert rows["perfect"]["images"] == 6 and rows["perfect"]["parameters"] == 0 and rows["perfect"]["seconds"] >= 0
    table = as_table(rows)
    assert list(table.index) == [INPUT, "the truth"]
    assert list(table.columns) == ["PSNR", "SSIM", "L1", "MSE", metric.name, "SWD", "KID", "parameters", "seconds"]


def test_images_seen_by_hand():
    """Stages of one run, stages before it, and the thesis's record; nothing where a checkpoint does not tell."""
    assert images_seen({"mean_steps": 40, "flow_steps": 30, "batch_size": 16, "sigma_s": 0.1}) == 70 * 16
    earlier = {"steps": 3, "batch_size": 8}
    assert images_seen({"steps": 10, "batch_size": 16, "before": [earlier, earlier]}) == 160 + 48
    assert images_seen({"batch_size": 16, "record": {"images_seen": 98_880}}) == 98_880
    assert images_seen({}) is images_seen({"batch_size": 16}) is None


def test_a_row_tells_the_images_seen(perfect, faces, metric, monkeypatch):
    monkeypatch.setattr(Perfect, "about", {"steps": 10, "batch_size": 4})
    rows = compare(["perfect"], faces[:2], faces, metric, progress=False)
    assert rows["perfect"]["images_seen"] == 40 and "images_seen" not in rows[INPUT]
    assert as_table(rows).loc["the truth", "images_seen"] == 40


@pytest.mark.parametrize(
    ("name", "count"),
    [("thesis", 376_288), ("skip", 128_000), ("posterior_mean", 64_000), ("pmrf", 112_000), ("diffir", 56_000)],
)
def test_images_seen_of_what_ships(name, count):
    assert images_seen(METHODS[name]("cpu").about) == count


def test_rows_that_are_there_are_kept_and_new_ones_told(perfect, faces, metric):
    told = []
    first = compare(["perfect"], faces, faces, metric, progress=False, on_row=lambda rows: told.append(list(rows)))
    assert told == [[INPUT], [INPUT, "perfect"]]
    calls = Perfect.calls
    assert compare(["perfect"], faces, faces, metric, rows=first, progress=False) == first and Perfect.calls == calls


def test_in_a_shell_and_again(perfect, tmp_path, capsys, monkeypatch, metric):
    monkeypatch.setattr(comparison, "load_lpips", lambda device: metric)
    monkeypatch.setattr(comparison, "TITLES", {"perfect": "the truth"})
    out = tmp_path / "results.json"
    arguments = ["--methods", "perfect", "--limit", "6", "--few", "3", "--out", str(out)]
    main(arguments)
    assert "SWD of sharp ones" in capsys.readouterr().out
    results = json.loads(out.read_text(encoding="utf-8"))
    assert results["all"]["perfect"]["images"] == 6 and results["few"]["perfect"]["images"] == 3
    assert results["facts"]["lpips"] == metric.name and results["floor_all"] > 0
    calls = Perfect.calls
    main(arguments)
    assert Perfect.calls == calls
    with pytest.raises(SystemExit, match="results of another kind"):
        main([*arguments, "--split", "val"])


def test_methods_without_weights_are_left_out(tmp_path, monkeypatch, metric, data_without_blind):
    """By default; one that is asked for and is not there ends the command with the reason."""
    monkeypatch.setattr(comparison, "load_lpips", lambda device: metric)
    monkeypatch.setenv("COURSE_DATA", str(data_without_blind))
    asked = []
    monkeypatch.setattr(comparison, "compare", lambda names, *rest, **more: asked.append(names) or {})
    monkeypatch.setattr(comparison, "as_table", lambda rows: pd.DataFrame())
    command = ["--limit", "2", "--out", str(tmp_path / "x.json")]
    main(command)
    assert asked[1] == [name for name in METHODS if name != "blind"] and "stylegan" not in asked[0]
    monkeypatch.setattr(comparison, "compare", compare)
    with pytest.raises(SystemExit, match="error: .*blind.safetensors: there is no such checkpoint"):
        main([*command, "--methods", "blind"])


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(SystemExit, match="error: "):
        main(["--data", str(tmp_path / "none"), "--out", str(tmp_path / "x.json")])


# ---------------------------------------------------------------------------------------------------------------------
# What ships


@needs_results
def test_shipped_results_hold_every_method():
    results = comparison.shipped_results()
    assert set(results["few"]) == {INPUT, *available()}
    assert set(results["all"]) == {INPUT} | {name for name in available() if not METHODS[name].slow}
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
@pytest.mark.parametrize("name", [name for name in available() if not METHODS[name].slow])
def test_shipped_results_come_from_the_shipped_weights(name):
    """The recorded PSNR of the 20 faces is measured again."""
    recorded = comparison.shipped_results()["few"][name]
    batch = Pairs(np.stack(list(load_faces("test", limit=20)))).batch(range(20))
    torch.manual_seed(0)
    restored = METHODS[name]("cpu").restore(batch.blurred, batch.params)
    assert measure(restored, batch.sharp)["PSNR"].mean() == pytest.approx(recorded["PSNR"], abs=0.05)
    assert METHODS[name]("cpu").parameters == recorded["parameters"]
