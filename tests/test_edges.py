"""helpers.edges: OpenCV's detector, the four-channel input, and which image the edges come from."""

import cv2
import numpy as np
import pytest
import torch

from helpers.data import ImageError, load_faces, normalise
from helpers.edges import THRESHOLDS, canny, edge_maps, four_channels
from helpers.pairs import Pairs


@pytest.mark.parametrize("thresholds", [(8, 24), (100, 200), (0, 0), (50, 50)])
def test_canny_is_opencvs_on_grey(faces, thresholds):
    """The detector sees OpenCV's grey version of an RGB picture; the map holds 0 and 1, not 0 and 255."""
    for face in faces[:4]:
        ours = canny(face, *thresholds)
        theirs = cv2.Canny(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), *thresholds)
        assert ours.dtype == np.uint8 and ours.shape == face.shape[:2]
        assert np.array_equal(ours * 255, theirs)


def test_channels_are_red_green_blue():
    """Grey = 0.299 R + 0.587 G + 0.114 B: a step of 200 in blue is 23 grey levels, in red 60; 4·step is the slope."""
    for channel, found in ((0, True), (2, False)):
        picture = np.zeros((32, 32, 3), np.uint8)
        picture[:, 16:, channel] = 200
        assert bool(canny(picture, 150, 150).any()) is found


def test_an_edge_is_one_pixel_wide_and_in_its_place():
    """A step between columns 15 and 16 gives one marked column there, and nothing elsewhere."""
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, 16:] = 200
    columns = np.unique(np.nonzero(canny(picture))[1])
    assert len(columns) == 1 and columns[0] in (15, 16)


def test_a_blank_wall_has_no_edges():
    assert canny(np.full((32, 32, 3), 90, np.uint8)).sum() == 0


def test_grey_pictures_are_taken_too(faces):
    grey = cv2.cvtColor(faces[0], cv2.COLOR_RGB2GRAY)
    assert np.array_equal(canny(grey), canny(faces[0]))


def test_mirrored_views_are_taken_too(faces):
    """Pictures whose memory runs backwards, as flipping makes them."""
    assert np.array_equal(canny(faces[0][:, ::-1]), canny(faces[0][:, ::-1].copy()))


def test_higher_thresholds_find_less(faces):
    counts = [canny(faces[0], low, 3 * low).sum() for low in (5, 20, 60, 150)]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]


@pytest.mark.parametrize(("low", "high"), [(24, 8), (-1, 8), (float("nan"), 8)])
def test_thresholds_in_the_wrong_order(low, high):
    with pytest.raises(ValueError, match="low <= high"):
        canny(np.zeros((8, 8, 3), np.uint8), low, high)


@pytest.mark.parametrize("image", [np.zeros((8, 8, 3)), np.zeros((2, 8, 8, 3), np.uint8), torch.zeros(8, 8), [[0]]])
def test_wrong_images(image):
    with pytest.raises(ImageError, match="8-bit"):
        canny(image)


def test_edge_maps_are_one_by_one(faces):
    maps = edge_maps(faces[:3])
    assert maps.shape == (3, 64, 64) and maps.dtype == np.uint8
    assert all(np.array_equal(m, canny(f)) for m, f in zip(maps, faces, strict=False))
    assert np.array_equal(edge_maps(faces[:1], (100, 200))[0], canny(faces[0], 100, 200))


def test_four_channels_layout_and_range(faces):
    """Section 2.2: RGB by equation 31 in channels 0 to 2, the edge map as it is in channel 3."""
    maps = edge_maps(faces)
    x = four_channels(faces, maps)
    assert x.shape == (12, 4, 64, 64) and x.dtype == torch.float32
    assert torch.equal(x[:, :3], normalise(faces))
    assert torch.equal(x[:, 3], torch.from_numpy(maps).float())
    assert x[:, :3].min() >= -1 and x[:, :3].max() <= 1 and set(x[:, 3].unique().tolist()) == {0.0, 1.0}


def test_four_channels_that_do_not_belong_together(faces):
    with pytest.raises(ImageError, match="do not belong together"):
        four_channels(faces[:2], edge_maps(faces[:3]))


def test_edges_come_from_the_blurred_image(faces):
    """At test time there is no sharp image, so nothing of it may reach the fourth channel."""
    batch = Pairs(faces).batch(range(4))
    assert np.array_equal(batch.edges, edge_maps(batch.blurred))
    assert not np.array_equal(batch.edges, edge_maps(batch.sharp))


def test_usual_thresholds_find_nothing_on_blurred_faces():
    """Why THRESHOLDS are so low: of the blurred shipped faces, 100 and 200 mark less than 1 % of the pixels on average

    (and none at all in a good part of them), while THRESHOLDS mark something in each.
    """
    blurred = Pairs(load_faces("val", limit=50)).batch(range(50)).blurred
    usual, ours = edge_maps(blurred, (100, 200)), edge_maps(blurred, THRESHOLDS)
    assert usual.mean() < 0.01 and (usual.sum((1, 2)) == 0).mean() > 0.3
    assert (ours.sum((1, 2)) > 0).all() and ours.mean() > 5 * usual.mean()
