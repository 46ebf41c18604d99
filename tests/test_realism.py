"""helpers.realism: the pyramid by hand, a distance that is 0 for equal sets and grows with blur and noise, errors."""

import cv2
import numpy as np
import pytest
import torch

from helpers.data import ImageError, load_faces
from helpers.realism import kernel_distance, projected_distance, pyramid, sliced_wasserstein


@pytest.fixture(scope="module")
def sets() -> tuple[np.ndarray, np.ndarray]:
    """Two halves of 48 shipped test faces."""
    images = load_faces("test", 48)
    return images[:24], images[24:]


def blurred(images, sigma):
    return np.stack([cv2.GaussianBlur(i, (0, 0), sigma) for i in images])


def test_pyramid_by_hand():
    """Detail is what the mean of 2×2, enlarged bilinearly, does not tell; the levels add up to the picture again."""
    torch.manual_seed(0)
    x = torch.rand(2, 3, 64, 64)
    levels = pyramid(x)
    assert [level.shape[-1] for level in levels] == [64, 32, 16]
    small = x.view(2, 3, 32, 2, 32, 2).mean((3, 5))
    again = levels[-1]
    for level in reversed(levels[:-1]):
        grown = [cv2.resize(p.numpy(), level.shape[-2:], interpolation=cv2.INTER_LINEAR) for p in again.flatten(0, 1)]
        again = level + torch.from_numpy(np.stack(grown)).view(level.shape)
        if again.shape[-1] == 32:
            assert torch.allclose(again, small, atol=1e-5)
    assert torch.allclose(again, x, atol=1e-5)
    assert all(level.abs().max() < 1e-5 for level in pyramid(torch.full((1, 3, 64, 64), 0.3))[:-1])
    assert [level.shape[-1] for level in pyramid(x, smallest=64)] == [64]


def test_distance_on_one_line_and_on_two():
    """0, 1 against 2, 4: 0 goes to 2, 1 to 4, 2.5 on average; a second line on which nothing moves halves it."""
    a, b = torch.tensor([[0.0, 5.0], [1.0, 6.0]]), torch.tensor([[4.0, 6.0], [2.0, 5.0]])
    assert projected_distance(a, b, torch.tensor([[1.0], [0.0]])).item() == 2.5
    assert projected_distance(a, b, torch.eye(2)).item() == 1.25


def test_a_set_and_itself_are_as_far_as_chance(sets):
    """The patches are drawn anew for either set, so the distance is not 0 but far below that of another set."""
    same, halves = sliced_wasserstein(sets[0], sets[0]), sliced_wasserstein(*sets)
    far = sliced_wasserstein(blurred(sets[0], 3), sets[0])
    assert list(same) == ["128", "64", "32", "16", "mean"]
    assert 0 <= same["mean"] <= 1.05 * halves["mean"] < 0.5 * far["mean"]
    assert same["mean"] == pytest.approx(np.mean([same[k] for k in ("128", "64", "32", "16")]))


def test_blur_is_far_at_the_fine_scales(sets):
    """The d of equation 7: the more blur, the farther; the coarsest scale hardly sees it."""
    floor = sliced_wasserstein(*sets)
    values = [sliced_wasserstein(blurred(sets[0], sigma), sets[1]) for sigma in (0.7, 2, 5)]
    assert floor["mean"] < values[0]["mean"] < values[1]["mean"] < values[2]["mean"]
    assert values[1]["128"] > 3 * floor["128"] and values[1]["16"] < 1.5 * floor["16"]


def test_noise_is_far_too(sets):
    """A metric of sharpness alone would reward it."""
    rng = np.random.default_rng(0)
    noisy = (sets[0] + rng.normal(0, 20, sets[0].shape)).clip(0, 255).astype(np.uint8)
    assert sliced_wasserstein(noisy, sets[1])["128"] > 2 * sliced_wasserstein(*sets)["128"]


def test_one_dimension_by_hand():
    """Flat pictures: every patch is a constant c, projected on a line l to c Σl; the distance is a mean of |Σl|.

    Two sets with values 100 and 110 against 120 and 130 (thirty pictures each, 16 px): scaled by the reference's
    deviation of 5/127.5, sorted, each value is 20/5 = 4 apart. Σl of 147 numbers of length 1 is about N(0, 1).
    """

    def flat(*values):
        return np.stack([np.full((16, 16, 3), v, np.uint8) for v in values * 15])

    out = sliced_wasserstein(flat(100, 110), flat(120, 130), patches=4, directions=20_000)
    assert set(out) == {"16", "mean"}
    assert out["mean"] == pytest.approx(1000 * 4 * np.sqrt(2 / np.pi), rel=0.03)


def test_the_seed_decides(sets):
    a, b = (s[:8] for s in sets)
    assert sliced_wasserstein(a, b) == sliced_wasserstein(a, b) != sliced_wasserstein(a, b, seed=1)


def test_sets_of_different_length_are_cut_to_the_shorter(sets):
    assert sliced_wasserstein(sets[0], sets[1][:6]) == sliced_wasserstein(sets[0][:6], sets[1][:6])


@pytest.mark.parametrize(
    ("images", "reference", "told"),
    [
        (np.zeros((2, 32, 32, 3)), np.zeros((2, 32, 32, 3), np.uint8), "images: expected 8-bit RGB"),
        (np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 32, 32), np.uint8), "reference: expected 8-bit RGB"),
        (np.zeros((2, 32, 32, 4), np.uint8), np.zeros((2, 32, 32, 3), np.uint8), "images: expected"),
        (np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 64, 64, 3), np.uint8), r"\(32, 32\) and \(64, 64\) pixels"),
    ],
)
def test_what_cannot_be_compared(images, reference, told):
    with pytest.raises(ImageError, match=told):
        sliced_wasserstein(images, reference)


# ---------------------------------------------------------------------------------------------------------------------
# The kernel distance


def test_kernel_distance_by_hand():
    """East and north against twice east: (1 + 0)³ and (1 + 1)³ within, a half of each between."""
    east, north = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    found = kernel_distance(np.stack([east, north]), np.stack([east, east]))
    assert found == pytest.approx(1000 * (1 + 8 - 2 * (8 + 1) / 2))
    assert kernel_distance(np.stack([east, east]), np.stack([east, east])) == 0


def test_kernel_distance_is_unbiased():
    """Two samples of one distribution: 0 on average, for few codes as for many; another distribution is farther."""
    rng = np.random.default_rng(5)

    def codes(count, towards=0.0):
        drawn = rng.normal(size=(count, 8)) + towards
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    for count in (4, 40):
        found = np.array([kernel_distance(codes(count), codes(count)) for _ in range(400)])
        assert abs(found.mean()) < 4 * found.std() / 20 and (found < 0).any()
    assert kernel_distance(codes(40, 0.5), codes(40)) > 5 * found.std()


@pytest.mark.parametrize(("one", "other"), [((1, 8), (5, 8)), ((5, 8), (5, 7)), ((5,), (5,))])
def test_kernel_distance_wants_two_tables(one, other):
    with pytest.raises(ImageError, match="two tables"):
        kernel_distance(np.ones(one), np.ones(other))
