"""helpers.pairs: what is random, what is fixed, and what belongs together."""

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.augment import Augment
from helpers.data import ImageError, normalise, open_folder
from helpers.degrade import GaussianBlur, preset
from helpers.edges import edge_maps, four_channels
from helpers.pairs import Pairs
from tests.conftest import make_faces

FLAT = np.zeros((3, 8, 8, 3), np.uint8)


def same(a, b) -> bool:
    return torch.equal(a.input, b.input) and torch.equal(a.target, b.target) and a.params == b.params


def test_a_batch_belongs_together(faces):
    """Input, target and pictures are versions of the same images."""
    batch = Pairs(faces).batch([3, 5])
    assert np.array_equal(batch.sharp, faces[[3, 5]])
    assert torch.equal(batch.target, normalise(batch.sharp))
    assert torch.equal(batch.input, four_channels(batch.blurred, batch.edges))
    assert batch.input.shape == (2, 4, 64, 64) and batch.target.shape == (2, 3, 64, 64)
    assert batch.input.dtype == batch.target.dtype == torch.float32 and len(batch.params) == 2


def test_the_blur_is_the_one_that_params_name(faces):
    """celebablur by default; the recorded σ reproduces the blurred picture to the last 8-bit digit."""
    batch = Pairs(faces).batch(range(4))
    images = torch.from_numpy(batch.sharp).movedim(-1, 1).float() / 255
    again = (preset("celebablur")(images, batch.params) * 255).round().to(torch.uint8).movedim(1, -1).numpy()
    assert np.array_equal(batch.blurred, again)
    assert all(4 <= p["sigma"] <= 8 for p in batch.params)


def test_fixed_without_an_epoch(faces):
    pairs = Pairs(faces)
    assert same(pairs.batch([0, 1]), pairs.batch([0, 1])) and same(pairs.batch([0, 1]), Pairs(faces).batch([0, 1]))


def test_differs_between_epochs_and_repeats_within_one(faces):
    pairs = Pairs(faces)
    sigmas = [pairs.batch([2], epoch).params[0]["sigma"] for epoch in (None, 0, 1, 2)]
    assert len(set(sigmas)) == 4
    assert same(pairs.batch([2], 1), Pairs(faces).batch([2], 1))


def test_images_and_seeds_get_blurs_of_their_own(faces):
    sigmas = [p["sigma"] for p in Pairs(faces).batch(range(12)).params]
    assert len(set(sigmas)) == 12
    assert Pairs(faces, seed=1).batch([0]).params != Pairs(faces, seed=2).batch([0]).params


@pytest.mark.parametrize("epoch", [None, 4])
def test_independent_of_batch_and_order(faces, epoch):
    """Image 7 is the same alone, among others, first or last (float32 sums may move a value across a rounding)."""
    pairs = Pairs(faces, flip=True)
    alone, among = pairs.batch([7], epoch), pairs.batch([1, 7, 3], epoch)
    backwards = pairs.batch([3, 7, 1], epoch)
    assert alone.params[0] == among.params[1] == backwards.params[1]
    assert np.array_equal(alone.sharp[0], among.sharp[1])
    assert np.abs(alone.blurred[0].astype(int) - among.blurred[1]).max() <= 1
    assert np.array_equal(among.blurred[[2, 1, 0]], backwards.blurred)


def test_flip_in_training_only(faces):
    """About half of the images are mirrored in an epoch, others in the next, none without an epoch."""
    pairs = Pairs(faces, flip=True)
    assert np.array_equal(pairs.batch(range(12)).sharp, faces)

    def mirrored(epoch):
        flags = []
        for got, face in zip(pairs.batch(range(12), epoch).sharp, faces, strict=True):
            assert np.array_equal(got, face) or np.array_equal(got, face[:, ::-1])
            flags.append(np.array_equal(got, face[:, ::-1]))
        return flags

    flags = [mirrored(epoch) for epoch in range(8)]
    assert 0.3 < np.mean(flags) < 0.7 and len({tuple(f) for f in flags}) > 1
    assert np.array_equal(Pairs(faces).batch(range(12), 0).sharp, faces)


def test_augmented_in_training_only(faces):
    """Each epoch another version, the same each time it is run, alone and among others; none without an epoch. The
    truth is the changed picture, and what is blurred is that."""
    pairs = Pairs(faces, GaussianBlur(0.05), augment=Augment())
    assert np.array_equal(pairs.batch(range(12)).sharp, faces)
    first, second = pairs.batch(range(12), 0), pairs.batch(range(12), 1)
    for i in range(12):
        versions = (faces[i], first.sharp[i], second.sharp[i])
        assert len({v.tobytes() for v in versions}) == 3
    assert np.array_equal(pairs.batch([7], 1).sharp[0], second.sharp[7])
    assert np.array_equal(first.blurred, first.sharp)  # σ = 0.05 is no blur
    assert torch.equal(first.target, normalise(first.sharp))


def test_augmentation_is_drawn_after_the_mirror(faces):
    """With a change that changes nothing and draws nothing, training is what it was."""
    plain, same_again = Pairs(faces, flip=True), Pairs(faces, flip=True, augment=lambda image, rng: image)
    assert same(plain.batch(range(12), 3), same_again.batch(range(12), 3))
    seen = []
    Pairs(faces, flip=True, augment=lambda image, rng: seen.append(image) or image).batch(range(12), 3)
    assert np.array_equal(np.stack(seen), plain.batch(range(12), 3).sharp)


def test_the_data_are_not_changed(faces):
    before = faces.copy()
    Pairs(faces, flip=True).batch(range(12), 0)
    Pairs(faces, blurred=faces, flip=True).batch(range(12), 0)
    assert np.array_equal(faces, before)


def test_oracle_edges_come_from_the_sharp_image(faces):
    batch = Pairs(faces, edges="oracle").batch(range(4))
    assert np.array_equal(batch.edges, edge_maps(batch.sharp))
    assert torch.equal(batch.input[:, :3], Pairs(faces).batch(range(4)).input[:, :3])


def test_without_edge_maps(faces):
    """Three channels, and everything else the same: blur, mirror and what was drawn."""
    with_map, without = (Pairs(faces, flip=True, edges=edges).batch([0, 1], 1) for edges in ("blurred", "none"))
    assert torch.equal(without.input, with_map.input[:, :3]) and torch.equal(without.target, with_map.target)
    assert without.edges is None and without.params == with_map.params


@pytest.mark.parametrize(("name", "batched"), [("celebablur", True), ("blind", False), ("phone", False)])
def test_where_it_is_degraded(faces, name, batched):
    """For another device: there, if a batch is degraded as one; else on the processor, and uploaded afterwards."""
    pairs = Pairs(faces, name)
    assert pairs.degradation.batched == batched
    if not batched:  # "meta" computes nothing, so that a blur there would have no pixels
        batch = pairs.batch([0, 1], 0, "meta")
        assert batch.input.is_meta and np.array_equal(batch.blurred, pairs.batch([0, 1], 0).blurred)


def test_thresholds_are_used(faces):
    batch = Pairs(faces, thresholds=(40, 80)).batch(range(4))
    assert np.array_equal(batch.edges, edge_maps(batch.blurred, (40, 80)))


def test_paired_data_are_not_blurred_again(faces):
    """Data that come in pairs: taken as they are, mirrored together, nothing drawn."""
    own = 255 - faces
    pairs = Pairs(faces, blurred=own, flip=True)
    batch = pairs.batch(range(12))
    assert np.array_equal(batch.blurred, own) and batch.params == [{}] * 12
    training = pairs.batch(range(12), 0)
    assert np.array_equal(training.blurred, 255 - training.sharp)
    assert not np.array_equal(training.sharp, faces)


def test_batches_cover_everything_in_order(faces):
    sizes, seen = [], []
    for batch in Pairs(faces).batches(5):
        sizes.append(len(batch.sharp))
        seen.extend(batch.sharp)
    assert sizes == [5, 5, 2] and np.array_equal(np.stack(seen), faces)


@pytest.mark.parametrize("world", [2, 3])
def test_batches_of_several_processes(faces, world):
    """Every w-th batch from the r-th; together all, each once."""
    whole = [batch.sharp for batch in Pairs(faces).batches(5)]
    for rank in range(world):
        part = [batch.sharp for batch in Pairs(faces).batches(5, (rank, world))]
        assert len(part) == len(whole[rank::world])
        assert all(np.array_equal(a, b) for a, b in zip(part, whole[rank::world], strict=True))


def test_a_degradation_may_be_given_itself(faces):
    assert Pairs(faces, GaussianBlur(2.5)).batch([0]).params == [{"sigma": 2.5}]


def test_photographs_are_read_lazily(tmp_path):
    """A folder stands in for an array; only the files that a batch needs are opened."""
    pictures = make_faces(3, 128)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    (tmp_path / "9.png").write_bytes(b"broken")
    pairs = Pairs(open_folder(tmp_path))
    assert len(pairs) == 4
    assert same(pairs.batch([0, 2]), Pairs(pictures).batch([0, 2]))
    with pytest.raises(ImageError, match=r"9\.png"):
        pairs.batch([3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sharp": np.zeros((0, 8, 8, 3), np.uint8)}, "no images"),
        (
            {"sharp": np.zeros((3, 8, 8, 3), np.uint8), "blurred": np.zeros((2, 8, 8, 3), np.uint8)},
            "2 blurred.*3 sharp",
        ),
        ({"sharp": np.zeros((3, 8, 8, 3), np.uint8), "edges": "sharp"}, "oracle"),
        ({"sharp": FLAT, "blurred": FLAT, "augment": Augment()}, "cannot be augmented"),
        ({"sharp": np.zeros((3, 8, 8, 3), np.uint8), "degradation": "fog"}, "fog"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Pairs(**arguments)


def test_pairs_of_two_sizes_are_refused():
    pairs = Pairs(np.zeros((2, 64, 64, 3), np.uint8), blurred=np.zeros((2, 32, 32, 3), np.uint8))
    with pytest.raises(ImageError, match="differ in shape"):
        pairs.batch([0])
