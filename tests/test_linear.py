"""helpers.linear: principal components against scikit-learn's definition, the linear map against least squares."""

import json

import numpy as np
import pytest
import torch

from helpers import linear
from helpers.data import ImageError
from helpers.linear import Components, LinearRestorer, flat, rebuild
from helpers.pairs import Pairs
from tests.conftest import make_faces

FACES = make_faces(40, 64)


@pytest.mark.parametrize("shape", [(30, 50), (80, 20)])
def test_components_are_those_of_the_singular_values(shape):
    """Wide or tall: the same subspace and variances as the singular value decomposition gives."""
    rows = torch.from_numpy(np.random.default_rng(0).standard_normal(shape)).double()
    rows = rows * torch.linspace(3, 0.1, shape[1], dtype=torch.float64)
    found = Components(rows, 5)
    _, values, vectors = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    torch.testing.assert_close(found.variances, values[:5] ** 2 / (len(rows) - 1))
    torch.testing.assert_close(
        (found.basis @ vectors[:5].T).abs(), torch.eye(5, dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_as_many_components_as_pictures_rebuild_them():
    components = Components(flat(FACES), len(FACES) - 1)
    assert np.abs(rebuild(components, FACES).astype(int) - FACES).max() <= 1


def test_more_components_hold_more():
    """On pictures that the components have not seen."""
    components = Components(flat(FACES[:30]), 29)
    errors = [np.abs(rebuild(components, FACES[30:], n) / 255 - FACES[30:] / 255).mean() for n in (1, 10, 29)]
    assert errors[0] > errors[1] > errors[2] > 0


@pytest.mark.parametrize("count", [0, 40, 400])
def test_no_more_components_than_the_pictures_have(count):
    with pytest.raises(ImageError, match="principal components"):
        Components(flat(FACES), count)


def test_the_linear_map_is_least_squares():
    """Without a ridge the code's map to the pictures is the one that numpy finds."""
    restorer = LinearRestorer(FACES, 12, ridge=0)
    batch = Pairs(FACES).batch(range(len(FACES)), epoch=0)
    codes, target = restorer.encode(batch.blurred).double().numpy(), flat(batch.sharp).double().numpy()
    wanted, *_ = np.linalg.lstsq(codes, target - target.mean(0), rcond=None)
    np.testing.assert_allclose(restorer.weights(12).numpy(), wanted, atol=1e-4)


def test_fewer_numbers_of_a_code_are_a_smaller_restorer():
    """The ridge, too, is that of the numbers which are used."""
    blurred = Pairs(FACES[:4]).batch(range(4)).blurred
    large, small = LinearRestorer(FACES, 20, ridge=0.1), LinearRestorer(FACES, 5, ridge=0.1)
    np.testing.assert_allclose(large.restore(blurred, 5).astype(int), small.restore(blurred).astype(int), atol=1)


def test_the_linear_map_beats_the_mean_picture_on_its_own_faces():
    batch = Pairs(FACES).batch(range(len(FACES)))
    restored = LinearRestorer(FACES, 20).restore(batch.blurred)
    assert restored.shape == FACES.shape and restored.dtype == np.uint8
    error = np.abs(restored / 255 - FACES / 255).mean()
    assert error < 0.7 * np.abs(FACES.mean(0) / 255 - FACES / 255).mean()


def test_the_command_writes_both_rows(tmp_path, monkeypatch, capsys, random_lpips):
    monkeypatch.setattr(linear, "load_split", lambda data, split, limit=None: FACES[:30] if split == "train" else FACES)
    monkeypatch.setattr(linear, "load_lpips", lambda: random_lpips)
    monkeypatch.setattr(linear, "COUNTS", (4, 8, 64))
    linear.main(["--out", str(tmp_path / "new" / "linear.json")])
    rows = json.loads((tmp_path / "new" / "linear.json").read_text(encoding="utf-8"))
    assert list(rows["rebuilt"]) == list(rows["restored"]) == ["4", "8"] and rows["images"] == 40
    assert rows["seed"] == 2025 and "threads" in rows["hardware"] and rows["date"].startswith("20")
    assert rows["rebuilt"]["8"]["PSNR"] > rows["rebuilt"]["4"]["PSNR"] and "restored     8" in capsys.readouterr().out


def test_the_recorded_rows_are_those_of_the_command():
    """All the test faces; more numbers hold more; a blurred face gives less than the sharp one itself."""
    rows = linear.shipped_results()
    assert rows["images"] == 400 and rows["data"] == "faces" and {"hardware", "seed", "date"} <= set(rows)
    assert list(rows["rebuilt"]) == list(rows["restored"]) == [str(count) for count in linear.COUNTS]
    rebuilt, restored = ([row["PSNR"] for row in rows[name].values()] for name in ("rebuilt", "restored"))
    assert rebuilt == sorted(rebuilt) and all(a > b for a, b in zip(rebuilt, restored, strict=True))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(SystemExit, match="there is no such folder"):
        linear.main(["--data", str(tmp_path / "absent")])
