"""helpers.reviewed.autodecoder: codes, whitening, a short training that resumes, and its checkpoint."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from helpers.data import normalise
from helpers.engine import runs
from helpers.engine.checkpoints import load_checkpoint
from helpers.engine.errors import TrainingError
from helpers.reviewed import autodecoder
from helpers.reviewed.autodecoder import principal_codes, shape_of, small_generator, train, whiten
from helpers.reviewed.stylegan import Generator
from tests.conftest import make_faces

SLIM = shape_of(6, 8)
FACES = make_faces(16, 128)


def short(out, metric, small=2, full=2, images=FACES, **settings):
    settings = {"w_dim": 6, "channels": 8, "precision": "no", **settings}
    return train(images, out, small, full, batch_size=4, lpips=metric, progress=False, **settings)


@pytest.fixture(scope="module")
def finished(random_lpips, tmp_path_factory):
    return short(tmp_path_factory.mktemp("autodecoder"), random_lpips)


def test_what_ships_is_stylegan2():
    """128 pixels, no mapping network, under 10 million numbers (10 MB in 8 bits)."""
    model = small_generator()
    assert isinstance(model, Generator) and model.img_resolution == 128 and model.mapping.num_layers == 0
    assert sum(p.numel() for p in model.parameters()) < 9.5e6
    assert model.synthesis.w_dim == 128


def test_codes_are_principal_components():
    """Against NumPy's SVD of the faces at 32 pixels: the same lines up to sign, mean 0, variance 1, uncorrelated."""
    codes = principal_codes(FACES, 8)
    small = FACES.reshape(16, 32, 4, 32, 4, 3).mean((2, 4)).reshape(16, -1)
    u = np.linalg.svd(small - small.mean(0), full_matrices=False)[0]
    assert codes.shape == (16, 8)
    for i in range(3):
        assert abs(np.corrcoef(codes[:, i], u[:, i])[0, 1]) > 0.99
    assert codes.mean(0).abs().max() < 1e-4
    assert torch.allclose(codes.T @ codes / 16, torch.eye(8), atol=0.05)


def test_more_codes_than_faces():
    codes = principal_codes(FACES[:3], 5)
    assert codes.shape == (3, 5) and torch.isfinite(codes).all() and (codes[:, 3:] == 0).all()


@torch.no_grad()
def test_whitening_leaves_the_images_alone():
    """Mean 0, covariance 1, the same picture for every code and every layer; the mean w is the new origin."""
    torch.manual_seed(0)
    model = Generator(**{**SLIM, "img_resolution": 16}, mapping_layers=0)
    codes = torch.randn(40, 6) @ torch.randn(6, 6) + 3
    before = model.synthesis(codes)
    model.mapping.w_avg.fill_(5.0)
    white = whiten(model, codes)
    assert torch.allclose(model.synthesis(white), before, atol=1e-3 * before.abs().max().item())
    assert white.mean(0).abs().max() < 1e-4
    assert torch.allclose(torch.cov(white.T), torch.eye(6), atol=1e-3)
    assert (model.mapping.w_avg == 0).all()
    assert not torch.allclose(white, codes, atol=0.1)


def test_a_run(finished):
    """Two sizes, two losses each, finite; frozen; a face's own code gives a picture."""
    model, codes, histories = finished
    assert list(histories) == ["64", "128"] and codes.shape == (16, 6)
    measured = {f"val_training_faces_{name}" for name in ("l1", "lpips")}
    assert all(set(h[-1]) == {"step", "l1", "lpips"} | measured for h in histories.values())
    assert all(math.isfinite(v) for h in histories.values() for v in h[-1].values())
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    picture = model.picture(codes[:2])
    assert picture.shape == (2, 3, 128, 128) and torch.isfinite(picture).all()


def test_training_lowers_the_loss(random_lpips, tmp_path):
    """24 steps at 64 pixels against the first four, on eight pictures."""
    first = short(tmp_path / "first", random_lpips, 4, 0, FACES[:8])[2]["64"][0]
    later = short(tmp_path / "later", random_lpips, 24, 0, FACES[:8])[2]["64"][-1]
    assert later["l1"] < 0.9 * first["l1"] and later["lpips"] < first["lpips"]


@pytest.mark.parametrize("stop", [1, 3])
def test_interrupted_equals_uninterrupted(finished, random_lpips, tmp_path, monkeypatch, stop):
    """Ctrl+C at either size, the same call again: the same weights and codes to the last bit."""
    original, count = autodecoder.normalise, iter(range(1000))

    def normalise(images):
        if len(images) == 4 and next(count) == stop:  # a batch; all faces at once are for their principal components
            raise KeyboardInterrupt
        return original(images)

    run = runs.run
    monkeypatch.setattr(runs, "run", lambda *a, **k: run(*a, **{**k, "save_every": 1}))
    monkeypatch.setattr(autodecoder, "normalise", normalise)
    with pytest.raises(KeyboardInterrupt):
        short(tmp_path, random_lpips)
    monkeypatch.setattr(autodecoder, "normalise", original)
    torch.manual_seed(99)
    model, codes, _ = short(tmp_path, random_lpips)
    theirs = finished[0].state_dict()
    assert torch.equal(codes, finished[1])
    assert all(torch.equal(v, theirs[k]) for k, v in model.state_dict().items())


def test_the_average_is_measured_on_training_faces(random_lpips, tmp_path):
    """L1 and LPIPS of the averaged generator, asked for the first faces with their own codes: computed anew."""
    model, codes, histories = short(tmp_path, random_lpips, 2, 0)
    target = F.avg_pool2d(normalise(FACES), 2)
    with torch.no_grad():
        picture = model.synthesis(codes, 64)  # whitening changed codes and layers together: the pictures are the same
        expected = {"l1": (picture - target).abs().mean(), "lpips": random_lpips(picture, target).mean()}
    for name, value in expected.items():
        assert histories["64"][-1][f"val_training_faces_{name}"] == pytest.approx(value.item(), rel=1e-3), name
    assert histories["128"] == []


def test_shape_is_an_argument():
    """By default what ships; the code's length and the width of the layers on their own."""
    assert shape_of() == {"z_dim": 128, "w_dim": 128, "img_resolution": 128, "channel_base": 4096, "channel_max": 128}
    synthesis = small_generator(256, 16).synthesis
    assert synthesis.w_dim == 256
    assert [block.conv1.out_channels for block in synthesis.blocks()] == [16, 16, 16, 16, 8, 4]


def test_other_settings_are_refused(random_lpips, tmp_path):
    short(tmp_path, random_lpips, 1, 0)
    others = FACES[::-1].copy()
    for change in ({"seed": 1}, {"rate": 1e-3}, {"small": 2}, {"images": others}):
        with pytest.raises(TrainingError, match="other settings"):
            short(tmp_path, random_lpips, **{"small": 1, "full": 0, **change})


def test_command_line(random_lpips, tmp_path, monkeypatch, capsys):
    """From picture files to the shipped form; a missing folder is one sentence."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(autodecoder, "load_lpips", lambda: random_lpips)
    (tmp_path / "photos").mkdir()
    for i, picture in enumerate(make_faces(20, 128)):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{i:03d}.png")
    arguments = ["--out", "run", "--limit", "8", "--batch-size", "4", "--precision", "no"]
    arguments += ["--w-dim", "6", "--channels", "8", "--rate", "1e-3"]
    autodecoder.main([*arguments, "--data", "photos", "--small-steps", "1", "--full-steps", "1"])
    assert "stylegan.safetensors" in capsys.readouterr().out
    model = small_generator(6, 8)
    about = load_checkpoint(tmp_path / "run" / "stylegan.safetensors", model)
    assert about["training_data"] == "8 photographs" and about["precision"] == "8-bit" and about["small_steps"] == 1
    assert torch.isfinite(model.picture(torch.randn(1, 6))).all()
    assert {k: about[k] for k in SLIM} == SLIM and about["rate"] == 1e-3
    assert {"l1", "lpips", "val_training_faces_l1"} < set(about["history"]["128"])
    with pytest.raises(SystemExit) as error:
        autodecoder.main(["--out", "other", "--data", "nowhere"])
    assert str(error.value.code).startswith("error: ") and "nowhere" in str(error.value.code)
    assert "\n" not in str(error.value.code)
