"""helpers.experiments.embedding: codes have length 1, counts are those of a plain loop, weights come from a file."""

import numpy as np
import pytest
import torch

from helpers.engine.checkpoints import save_checkpoint
from helpers.engine.errors import CheckpointError, ImageError
from helpers.experiments import embedding


def unit(rng, count=7, numbers=5):
    codes = rng.normal(size=(count, numbers))
    return codes / np.linalg.norm(codes, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return embedding.Embedder().eval()


def test_codes_have_length_1_and_know_their_face(network):
    pictures = np.random.default_rng(1).integers(0, 256, (5, 128, 128, 3), dtype=np.uint8)
    codes = embedding.embed(network, pictures, at_once=2)
    assert codes.shape == (5, 64) and np.allclose(np.linalg.norm(codes, axis=1), 1, atol=1e-5)
    assert np.allclose(codes[3], embedding.embed(network, pictures[3:4])[0], atol=1e-5)
    assert embedding.likeness(network, pictures, pictures) == pytest.approx(np.ones(5), abs=1e-5)
    assert (embedding.likeness(network, pictures, pictures[::-1])[:2] < 1 - 1e-6).all()


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((2, 128, 128, 3)), np.zeros((2, 64, 64, 3), np.uint8), np.zeros((128, 128, 3), np.uint8)],
    ids=["float", "small", "one"],
)
def test_other_pictures_are_refused(network, wrong):
    with pytest.raises(ImageError, match="8-bit faces"):
        embedding.embed(network, wrong)


@pytest.mark.parametrize("seed", range(3))
def test_counts_against_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    codes = unit(rng)
    gallery = unit(rng) + 0.8 * codes
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    first = [max(range(7), key=lambda j: codes[i] @ gallery[j]) == i for i in range(7)]
    assert embedding.found_again(codes, gallery) == pytest.approx(np.mean(first))
    pairs = [
        (codes[k] @ gallery[k], codes[i] @ gallery[j]) for k in range(7) for i in range(7) for j in range(7) if i != j
    ]
    assert embedding.told_apart(codes, gallery) == pytest.approx(np.mean([(a > b) + (a == b) / 2 for a, b in pairs]))


def test_certain_and_by_chance():
    codes = np.eye(6)
    assert embedding.found_again(codes, codes) == embedding.told_apart(codes, codes) == 1
    same = np.ones((6, 4)) / 2
    assert embedding.told_apart(same, same) == 0.5
    with pytest.raises(ImageError, match="two"):
        embedding.told_apart(codes[:1], codes[:1])


def test_weights_of_ones_own(network, tmp_path):
    pictures = np.random.default_rng(1).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    save_checkpoint(tmp_path / "mine.safetensors", network, {})
    mine = embedding.load_embedder(tmp_path / "mine.safetensors", "cpu")
    assert np.array_equal(embedding.embed(mine, pictures), embedding.embed(network, pictures))
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        embedding.load_embedder(tmp_path / "yours.safetensors")
