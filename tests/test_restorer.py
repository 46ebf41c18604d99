"""helpers.restorer: pictures in, pictures out, and whether the shipped model is worth having."""

import numpy as np
import pytest
import torch

from helpers.data import ImageError, denormalise, load_faces
from helpers.edges import edge_maps, four_channels
from helpers.engine.checkpoints import CheckpointError, save_checkpoint, shipped
from helpers.metrics import HIGHER_IS_BETTER, evaluate, summary
from helpers.networks import DeblurModel
from helpers.pairs import Pairs
from helpers.restorer import Restorer

THRESHOLDS = (20, 60)


@pytest.fixture(scope="module")
def restorer(tmp_path_factory) -> Restorer:
    """An untrained model of 64 px with thresholds of its own; its norms have seen a batch."""
    torch.manual_seed(0)
    model = DeblurModel(16, 64)
    model(torch.randn(8, 4, 64, 64), torch.randn(8, 3, 64, 64))
    path = tmp_path_factory.mktemp("restorer") / "tiny.safetensors"
    save_checkpoint(path, model, {"name": "tiny", "latent_dim": 16, "image_size": 64, "thresholds": THRESHOLDS})
    return Restorer(path, device="cpu")


def test_size_and_thresholds_come_from_the_checkpoint(restorer):
    assert (restorer.model.latent_dim, restorer.model.image_size) == (16, 64)
    assert restorer.thresholds == THRESHOLDS and not restorer.model.training
    assert repr(restorer) == "Restorer(tiny, cpu)"


@torch.no_grad()
def test_matches_the_model_by_hand(restorer, faces):
    """Edge maps at the checkpoint's thresholds, four channels, the network, back to 8 bits."""
    inputs = four_channels(faces, edge_maps(faces, THRESHOLDS))
    assert np.array_equal(restorer.restore(faces), denormalise(restorer.model(inputs)))
    assert torch.equal(restorer.encode(faces), restorer.model.deblur_encoder(inputs))


def test_one_and_many(restorer, faces):
    """The same pictures alone and in batches (8-bit rounding may differ by one where float32 sums differ)."""
    many = restorer.restore(faces)
    one = restorer.restore(faces[4])
    assert many.shape == faces.shape and one.shape == faces[4].shape and many.dtype == one.dtype == np.uint8
    assert np.abs(many[4].astype(int) - one).max() <= 1
    assert np.abs(restorer.restore(faces, batch_size=5).astype(int) - many).max() <= 1


def test_encode_then_decode_is_restore(restorer, faces):
    codes = restorer.encode(faces[:3])
    assert codes.shape == (3, 16) and not codes.requires_grad
    assert np.array_equal(restorer.decode(codes), restorer.restore(faces[:3]))


def test_given_edges_are_used(restorer, faces):
    """Other edge maps, another code; for one picture and for many."""
    none = np.zeros((3, 64, 64), np.uint8)
    assert not torch.equal(restorer.encode(faces[:3], none), restorer.encode(faces[:3]))
    own = edge_maps(faces[:3], THRESHOLDS)
    assert np.array_equal(restorer.restore(faces[:3], own), restorer.restore(faces[:3]))
    assert restorer.restore(faces[0], none[0]).shape == faces[0].shape


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        (np.zeros((128, 128, 3), np.uint8), "got 1×128×128×3"),
        (np.zeros((2, 32, 32, 3), np.uint8), "got 2×32×32×3"),
        (np.zeros((64, 64), np.uint8), "got 64×64 of"),
        (np.zeros((5, 64, 64), np.uint8), "got 1×5×64×64"),
        (np.zeros((64, 64, 4), np.uint8), "got 1×64×64×4"),
        (np.zeros((64, 64, 3), np.float32), "64×64×3 of float32"),
        (np.zeros((0, 64, 64, 3), np.uint8), "got 0×64×64×3"),
    ],
)
def test_wrong_pictures_are_told(restorer, picture, told):
    """The encoder would take 128 px in silence and paint 64; grey, RGBA and floats fail deep inside otherwise."""
    with pytest.raises(ImageError, match=f"expected 8-bit RGB pictures 64×64×3.*{told}"):
        restorer.restore(picture)


def test_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        Restorer(tmp_path / "absent.safetensors")


def test_shipped_checkpoint_loads():
    restorer = Restorer(device="cpu")
    assert restorer.model.image_size == 128
    faces = load_faces("test", limit=2)
    assert restorer.restore(faces).shape == faces.shape


@pytest.fixture(scope="module")
def scores(request):
    """The shipped model on (up to 100 of) the shipped test faces."""
    restorer = Restorer(shipped("thesis"), device="cpu")
    pairs = Pairs(load_faces("test", limit=100), thresholds=restorer.thresholds)
    return restorer, pairs, summary(evaluate(restorer.model, pairs))


@pytest.mark.parametrize("name", ["PSNR", "SSIM", "L1", "MSE"])
def test_shipped_model_beats_its_input(scores, name):
    """Restoring must be better than doing nothing, by each measure, on faces that it has never seen."""
    table = scores[2][name]
    gain = table["restored"] - table["input"]
    assert (gain > 0) == HIGHER_IS_BETTER[name], f"{name}: {table['input']:.4f} -> {table['restored']:.4f}"


def test_shipped_model_beats_its_input_in_lpips(scores, true_lpips):
    restorer, pairs, _ = scores
    table = summary(evaluate(restorer.model, pairs, true_lpips))["LPIPS"]
    assert table["restored"] < table["input"]
