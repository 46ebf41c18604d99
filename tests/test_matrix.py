"""helpers.matrix: each cell by hand, what is kept, the command line."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import matrix
from helpers.augment import zoomed
from helpers.degrade import MATRIX, Compose, GaussianBlur
from helpers.engine.checkpoints import save_checkpoint
from helpers.experiments.bootstrap import paired_interval
from helpers.experiments.skip_model import SkipModel
from helpers.matrix import INPUT, as_table, cell, fill, main, restorations
from helpers.methods import load_method
from helpers.metrics import measure
from helpers.pairs import Pairs
from helpers.photos import open_folder
from helpers.restore import restore_square
from tests.conftest import make_faces

FACES = make_faces(5, 64)
CASES = {"blurred": GaussianBlur(2.0), "sharp": Compose()}


def test_a_cell_by_hand(random_lpips):
    """Means and intervals of what came out, and of the difference to what went in."""
    before = measure(Pairs(FACES, GaussianBlur(2.0)).batch(range(5)).blurred, FACES, random_lpips)
    after = measure(Pairs(FACES, GaussianBlur(1.0)).batch(range(5)).blurred, FACES, random_lpips)
    values, metric = cell(after, before), random_lpips.name
    assert set(values) == {"PSNR", "SSIM", metric, "gain", "spoilt"}
    for name in ("PSNR", "SSIM", metric):
        mean, low, high = values[name]
        assert mean == pytest.approx(after[name].mean()) and low < mean < high
        assert values["gain"][name][0] == pytest.approx((after[name] - before[name]).mean())
        assert values["gain"][name] == pytest.approx(paired_interval(after[name], before[name]), rel=0.2)
    assert values["gain"]["PSNR"][1] > 0 > values["gain"][metric][2]


def test_a_picture_that_comes_back_as_it_was(random_lpips):
    """Equal pictures count 60 dB, so that the mean is a number; the same for the gain of one that was spoilt."""
    equal, other = measure(FACES, FACES, random_lpips), measure(FACES, 255 - FACES, random_lpips)
    assert cell(equal, equal)["PSNR"] == [60, 60, 60] and cell(equal, equal)["gain"]["PSNR"] == [0, 0, 0]
    spoilt = cell(other, equal)
    assert np.isfinite(spoilt["gain"]["PSNR"]).all() and spoilt["gain"]["PSNR"][2] < 0
    assert spoilt["spoilt"] == 1 and cell(equal, other)["spoilt"] == cell(equal, equal)["spoilt"] == 0


def test_spoilt_are_those_that_lose_more_than_a_tenth_of_a_decibel():
    def table(values):
        return pd.DataFrame({name: values for name in ("PSNR", "SSIM", "LPIPS")})

    before = table([20.0, 30.0, 25.0, 61.0, 60.0])
    after = table([19.95, 29.0, 26.0, 60.0, 42.5])  # 0.05 less, 1 less, a gain, both above 60 dB, still as it was
    assert cell(after, before)["spoilt"] == 0.2


def test_the_matrix_by_hand(random_lpips):
    """Two methods in two cases: degraded as Pairs does it, one is the identity, one knows the truth."""
    seen = []

    def same(blurred, params):
        seen.append(params)
        return blurred

    cells = fill({"same": same, "truth": lambda *_: FACES}, FACES, random_lpips, CASES, progress=False)
    assert list(cells) == list(CASES) and all(list(row) == [INPUT, "same", "truth"] for row in cells.values())
    batch = Pairs(FACES, CASES["blurred"]).batch(range(5))
    wanted = measure(batch.blurred, FACES, random_lpips)
    assert cells["blurred"][INPUT]["PSNR"][0] == pytest.approx(wanted["PSNR"].mean())
    same, before = cells["blurred"]["same"], cells["blurred"][INPUT]
    assert {k: v for k, v in same.items() if k != "gain"} == {k: v for k, v in before.items() if k != "gain"}
    assert cells["blurred"]["same"]["gain"]["SSIM"] == [0, 0, 0] and seen == [batch.params, [{}] * 5]
    assert cells["blurred"]["truth"]["PSNR"][0] == cells["sharp"][INPUT]["PSNR"][0] == 60
    table = as_table(cells)
    assert table.loc["truth", "blurred"] == "60.0 / 0.000" and list(table.columns) == list(CASES)


def test_what_is_there_is_kept(random_lpips):
    calls, saved = [], []

    def method(blurred, params):
        calls.append(1)
        return blurred

    first = fill({"a": method}, FACES, random_lpips, CASES, progress=False, on_cell=lambda c: saved.append(str(c)))
    assert len(calls) == 2 and len(set(saved)) == 4
    again = fill({"a": method, "b": method}, FACES, random_lpips, CASES, first, progress=False)
    assert len(calls) == 4 and again["sharp"]["a"] == first["sharp"]["a"] and "b" not in first["sharp"]


def test_checkpoints_at_several_knobs(tmp_path):
    """The knob of the file, or those asked for; both ends of a changed model differ."""
    model = SkipModel()
    for i, layers in enumerate(model.generator.exits):
        layers[-1].bias.data.fill_(0.1 * (i + 1))
    path = tmp_path / "blind" / "skip.safetensors"
    path.parent.mkdir()
    save_checkpoint(path, model, {"knob": 0.6}, "half")
    assert list(restorations([], path)) == ["blind/skip, knob 0.6"]
    found = restorations([], path, [0, 1])
    assert list(found) == ["blind/skip, knob 0", "blind/skip, knob 1"]
    grey = np.full((1, 32, 32, 3), 100, np.uint8)
    low, high = (restore(grey, [{}]).mean() for restore in found.values())
    assert (low, high) == pytest.approx((100 + 12.75, 100 + 25.5), abs=0.6)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos" / "test"
    folder.mkdir(parents=True)
    for i, picture in enumerate(make_faces(3, 128)):
        Image.fromarray(picture).save(folder / f"{i}.png")
    return folder.parent


def test_command_line(photos, tmp_path, capsys, monkeypatch, random_lpips):
    """A folder and the shipped faces at two sizes; the same command again measures nothing anew."""
    monkeypatch.setattr(matrix, "load_lpips", lambda device: random_lpips)
    out = tmp_path / "runs" / "matrix.json"
    command = ["--data", str(photos), "--data", "faces", "--limit", "2", "--cases", "sharp", "Gaussian"]
    command += ["--methods", "skip", "--zoom", "1", "0.6", "--out", str(out)]
    main(command)
    assert "photos, zoom 0.6" in capsys.readouterr().out
    results = json.loads(out.read_text(encoding="utf-8"))
    assert list(results["sets"]) == ["photos", "photos, zoom 0.6", "shipped faces", "shipped faces, zoom 0.6"]
    small = np.stack([zoomed(picture, 0.6) for picture in make_faces(3, 128)[:2]])
    wanted = measure(Pairs(small, MATRIX["Gaussian"]).batch(range(2)).blurred, small)
    cells = results["sets"]["photos, zoom 0.6"]["cells"]
    assert list(cells) == ["sharp", "Gaussian"] and list(cells["sharp"]) == [INPUT, "skip"]
    assert cells["Gaussian"][INPUT]["PSNR"][0] == pytest.approx(wanted["PSNR"].mean(), abs=1e-6)
    monkeypatch.setattr(matrix, "measure", None)
    main(command)
    assert json.loads(out.read_text(encoding="utf-8")) == results


def test_larger_pictures(photos, tmp_path, capsys, monkeypatch, random_lpips):
    """All photographs of a folder at another side, each restored as a square of a photograph is."""
    monkeypatch.setattr(matrix, "load_lpips", lambda device: random_lpips)
    out = tmp_path / "matrix.json"
    command = ["--data", str(photos), "--cases", "Gaussian", "--methods", "skip", "--size", "160", "--out", str(out)]
    main([*command, "--limit", "2"])
    results = json.loads(out.read_text(encoding="utf-8"))
    assert results["facts"]["size"] == 160 and results["facts"]["split"] == "all"
    batch = Pairs(open_folder(photos, 160).load()[:2], MATRIX["Gaussian"]).batch(range(2))
    wanted = measure(np.stack([restore_square(x, load_method("skip")) for x in batch.blurred]), batch.sharp)
    assert results["sets"]["photos"]["cells"]["Gaussian"]["skip"]["PSNR"][0] == pytest.approx(wanted["PSNR"].mean())
    with pytest.raises(SystemExit, match="shipped faces have 128 pixels; --size 160 needs a folder"):
        main(["--size", "160", "--out", str(tmp_path / "other.json")])


def test_methods_without_weights_are_left_out(photos, tmp_path, monkeypatch, random_lpips, data_without_blind):
    """By default every fast method that is there; one that is asked for and is not ends the command."""
    monkeypatch.setattr(matrix, "load_lpips", lambda device: random_lpips)
    seen = []
    monkeypatch.setattr(matrix, "restorations", lambda names, *rest: seen.extend(names) or {})
    monkeypatch.setenv("COURSE_DATA", str(data_without_blind))
    command = ["--data", str(photos), "--cases", "sharp", "--out", str(tmp_path / "m.json")]
    main(command)
    assert seen == ["thesis", "skip", "posterior_mean", "pmrf", "diffir"]
    monkeypatch.setattr(matrix, "restorations", restorations)
    with pytest.raises(SystemExit, match="blind.safetensors: there is no such checkpoint"):
        main([*command, "--methods", "blind"])


@pytest.mark.parametrize(
    ("change", "told"), [(["--data", "nowhere"], "nowhere"), (["--skip", "none.safetensors"], "no such checkpoint")]
)
def test_errors_are_one_sentence(change, told, tmp_path, monkeypatch, random_lpips):
    monkeypatch.setattr(matrix, "load_lpips", lambda device: random_lpips)
    with pytest.raises(SystemExit) as error:
        main(["--out", str(tmp_path / "m.json"), "--methods", "--limit", "1", *change])
    text = str(error.value.code)
    assert text.startswith("error: ") and "\n" not in text and told in text


def test_results_of_another_kind_are_not_overwritten(photos, tmp_path, monkeypatch, random_lpips):
    monkeypatch.setattr(matrix, "load_lpips", lambda device: random_lpips)
    command = ["--data", str(photos), "--cases", "sharp", "--methods", "--out", str(tmp_path / "m.json")]
    main([*command, "--limit", "2"])
    with pytest.raises(SystemExit, match="another kind"):
        main([*command, "--limit", "3"])
    (photos / "test" / "2.png").unlink()
    (photos / "test" / "1.png").unlink()
    with pytest.raises(SystemExit, match="2 pictures, photos; there are 1 now"):
        main([*command, "--limit", "2"])
