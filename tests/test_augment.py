"""helpers.augment: zoom, softness and colour by hand; the same draw gives the same picture."""

import cv2
import numpy as np
import pytest

from helpers.augment import Augment, fewer_pixels, recoloured, zoomed
from helpers.seeds import rng_for
from tests.conftest import make_faces

FACE = make_faces(1, 64)[0]
PLAIN = Augment(zoom=(0.999, 1, 1.001), shift=0, soft=0, gain=1, gamma=1, saturation=1, tint=0, grey=0)


def dot(size: int = 64, at: tuple[int, int] = (32, 32), side: int = 8) -> np.ndarray:
    """A white square on black."""
    picture = np.zeros((size, size, 3), np.uint8)
    picture[at[0] - side // 2 : at[0] + side // 2, at[1] - side // 2 : at[1] + side // 2] = 255
    return picture


def centre(picture: np.ndarray) -> tuple[float, float]:
    """Row and column of the mean of the light."""
    light = picture[..., 0].astype(float)
    rows, columns = np.mgrid[: light.shape[0], : light.shape[1]]
    return (rows * light).sum() / light.sum(), (columns * light).sum() / light.sum()


@pytest.mark.parametrize("zoom", [0.6, 0.8, 1.0, 1.4, 1.8])
def test_zoom_enlarges_about_the_middle(zoom):
    """A square of 8×8 has 64 zoom² pixels' light, in the middle; of what is mirrored around nothing is white."""
    picture = zoomed(dot(), zoom)
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    assert picture[..., 0].sum() / 255 == pytest.approx(64 * zoom**2, rel=0.12)
    assert centre(picture) == pytest.approx((31.5, 31.5), abs=0.7)


def test_zoom_by_hand():
    """Twice as large: the middle half, enlarged by OpenCV. Half as large: the middle is OpenCV's picture, the rim its
    mirror image."""
    assert np.array_equal(zoomed(FACE, 2), cv2.resize(FACE[16:48, 16:48], (64, 64), interpolation=cv2.INTER_CUBIC))
    half, small = zoomed(FACE, 0.5), cv2.resize(FACE, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.array_equal(half[16:48, 16:48], small)
    assert np.array_equal(half[15, 16:48], small[1]) and np.array_equal(half[16:48, 48], small[:, -2])
    assert np.array_equal(zoomed(FACE, 1), FACE)


@pytest.mark.parametrize("zoom", [0.7, 1.5])
def test_the_shift_goes_right_and_down(zoom):
    """The frame's middle lies further right in the picture, so what it shows moves left; likewise up."""
    assert centre(zoomed(dot(), zoom, right=0.1))[1] == pytest.approx(31.5 - 6.4 * zoom, abs=1)
    assert centre(zoomed(dot(), zoom, down=0.1))[0] == pytest.approx(31.5 - 6.4 * zoom, abs=1)
    for far in (-1, 1):  # never out of the picture
        assert zoomed(FACE, zoom, far, far).shape == FACE.shape


def test_colour_by_hand():
    """255 (v / 255)^γ · gain, clipped; saturation about the grey value that OpenCV gives."""
    picture = np.full((4, 4, 3), (51, 102, 204), np.uint8)
    changed = recoloured(picture, 2, np.array([1, 1.5, 2]), 1)
    assert changed[0, 0].tolist() == [10, 61, 255]
    assert np.array_equal(recoloured(FACE, 1, np.ones(3), 1), FACE)
    grey = recoloured(picture, 1, np.ones(3), 0)
    assert len(set(grey[0, 0].tolist())) == 1
    assert grey[0, 0, 0] == pytest.approx(0.299 * 51 + 0.587 * 102 + 0.114 * 204, abs=1)
    stronger = recoloured(picture, 1, np.ones(3), 1.2)[0, 0].astype(float)
    assert stronger == pytest.approx(grey[0, 0] + 1.2 * (picture[0, 0].astype(float) - grey[0, 0]), abs=1)


def test_fewer_pixels_is_softer():
    """The size stays, fine detail goes, and more of it at a larger scale."""

    def detail(picture):
        return np.abs(np.diff(picture.astype(float), axis=1)).mean()

    noise = rng_for(3).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    values = [detail(noise), *(detail(fewer_pixels(noise, scale)) for scale in (1.3, 1.9))]
    assert values[0] > 1.3 * values[1] > 1.3 * values[2]
    assert fewer_pixels(noise, 1.5).shape == noise.shape


def test_the_same_draw_gives_the_same_picture():
    augment, before = Augment(), FACE.copy()
    versions = [augment(FACE, rng_for(1, k)) for k in range(6)]
    assert all(np.array_equal(augment(FACE, rng_for(1, k)), v) for k, v in enumerate(versions))
    assert len({v.tobytes() for v in versions}) == 6 and np.array_equal(FACE, before)
    assert all(v.shape == FACE.shape and v.dtype == np.uint8 for v in versions)


def test_nothing_asked_for_changes_nothing():
    assert np.array_equal(PLAIN(FACE, rng_for(0)), FACE)


def test_what_is_drawn(monkeypatch):
    """Sizes between the ends with most near the middle number, softness and grey as often as asked, gains that go both
    ways."""
    from helpers import augment as module

    drawn = {"zoom": [], "soft": 0, "colour": []}

    def zoom(image, factor, right, down):
        drawn["zoom"].append(factor)
        assert abs(right) <= 0.05 and abs(down) <= 0.05
        return image

    def fewer(image, scale):
        drawn["soft"] += 1
        assert 1.3 <= scale <= 1.9
        return image

    monkeypatch.setattr(module, "zoomed", zoom)
    monkeypatch.setattr(module, "fewer_pixels", fewer)
    monkeypatch.setattr(module, "recoloured", lambda image, *rest: drawn["colour"].append(rest) or image)
    for k in range(2000):
        Augment()(np.zeros((4, 4, 3), np.uint8), rng_for(5, k))
    sizes = np.array(drawn["zoom"])
    assert 0.6 <= sizes.min() < 0.7 and 1.7 < sizes.max() <= 1.8 and 1.1 < np.median(sizes) < 1.4
    assert drawn["soft"] / 2000 == pytest.approx(0.125, abs=0.02)  # half of the soft ones, the others are blurred
    gammas, gains, colours = map(np.array, zip(*drawn["colour"], strict=True))
    assert 1 / 1.3 <= gammas.min() < 0.8 and 1.25 < gammas.max() <= 1.3
    assert np.median(gains) == pytest.approx(1, abs=0.02) and gains.min() < 0.85 and gains.max() > 1.2
    assert (colours == 0).mean() == pytest.approx(0.05, abs=0.015) and 1.3 < colours.max() <= 1.4


@pytest.mark.parametrize("zoom", [(1, 1, 1), (0.1, 1, 2), (1, 2, 1.5), (0.5, 1, 9)])
def test_impossible_zooms_are_refused(zoom):
    with pytest.raises(ValueError, match="three rising numbers"):
        Augment(zoom=zoom)
