"""helpers.experiments.finder_scenes: faces lie where the squares say, places hold none, scenes repeat."""

import sys

import numpy as np
import pandas as pd
import pytest

from helpers.data import load_faces, load_parameters
from helpers.engine.errors import ImageError
from helpers.experiments import finder_scenes
from helpers.experiments.finder_scenes import (
    FRAMING,
    PASTES,
    SCIKIT_IMAGE,
    Faces,
    Scenes,
    framed,
    lay_on,
    make_places,
    mask_of,
    scikit_image_pictures,
)

POINTS = ("left_eye", "right_eye", "mouth")


def spots(size: int = 128) -> np.ndarray:
    """A black cut with a white disc where each eye and the mouth is in the framing of the portraits."""
    y, x = np.mgrid[:size, :size] + 0.5
    near = [np.hypot(x - right, y - down) < 6 for right, down in FRAMING * size / 128]
    return np.repeat((np.any(near, axis=0)[..., None] * 255).astype(np.uint8), 3, axis=2)


def discs_in(picture: np.ndarray) -> np.ndarray:
    """The middles of the three white discs, left eye, right eye, mouth: 3×2."""
    weight = picture[..., 0].astype(float)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    middle = (weight * y).sum() / weight.sum()
    low = y > middle + 0.2 * (np.flatnonzero(weight.any(1))[-1] - middle)
    axis = (weight * x).sum() / weight.sum()
    parts = [(~low) & (x < axis), (~low) & (x >= axis), low]
    return np.array([[(weight * part * a).sum() / (weight * part).sum() for a in (x, y)] for part in parts])


# ---------------------------------------------------------------------------------------------------------------------
# Where a face lies


def test_framing_of_rendered_faces():
    """Eyes and mouth of a face that stands as the template does give the square exactly; real ones nearly."""
    square = np.array([20.0, -8.0, 170.0])
    points = square[:2] + FRAMING * square[2] / 128
    row = {f"{name}_{axis}": points[i, j] for i, name in enumerate(POINTS) for j, axis in enumerate("xy")}
    assert np.allclose(framed(pd.DataFrame([row])), square)
    table = load_parameters("val")
    for parameters, (left, top, side) in zip(table.iloc[:50].itertuples(), framed(table)[:50], strict=True):
        found = np.array([(getattr(parameters, f"{n}_x"), getattr(parameters, f"{n}_y")) for n in POINTS])
        off = (found - [left, top]) * 128 / side - FRAMING
        assert np.abs(off.mean(0)).max() < 1e-6 and np.abs(off).max() < 9  # yaw and roll move them


@pytest.mark.parametrize("wanted", [(30.0, 10.0, 128.0), (20.5, 40.25, 50.0), (7.0, 3.0, 220.0)])
def test_a_cut_is_laid_where_it_is_wanted(wanted):
    """Shrunk, enlarged, or neither: the eyes and the mouth lie where the framing has them in the square, to ¼ pixel."""
    canvas, wanted = np.zeros((240, 250, 3), np.uint8), np.array(wanted)
    lay_on(canvas, spots(), np.ones((128, 128), np.float32), np.array([0, 0, 128.0]), wanted)
    assert np.abs(discs_in(canvas) - (wanted[:2] + FRAMING * wanted[2] / 128)).max() < 0.25


def test_a_square_that_is_larger_than_its_cut():
    """The middle of the framing stays the middle, and nothing outside the cut changes."""
    canvas = np.full((200, 200, 3), 9, np.uint8)
    square, wanted = np.array([-20.0, -30.0, 170.0]), np.array([15.0, 15.0, 170.0])
    cut = np.full((128, 128, 3), 200, np.uint8)
    lay_on(canvas, cut, np.ones((128, 128), np.float32), square, wanted)
    inside = np.zeros((200, 200), bool)
    inside[45:173, 35:163] = True
    assert (canvas[inside] == 200).all() and (canvas[~inside] == 9).all()


def test_turned_about_the_middle_of_its_square():
    canvas, wanted = np.zeros((240, 250, 3), np.uint8), np.array([40.0, 30.0, 128.0])
    lay_on(canvas, spots(), np.ones((128, 128), np.float32), np.array([0, 0, 128.0]), wanted, angle=10)
    turn = np.deg2rad(10)  # anticlockwise, and y points down
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    expected = (FRAMING - 64) @ matrix.T + 64 + wanted[:2]
    assert np.abs(discs_in(canvas) - expected).max() < 0.5


def test_outside_of_the_picture_nothing_happens():
    canvas = np.full((50, 60, 3), 7, np.uint8)
    lay_on(canvas, spots(), np.ones((128, 128), np.float32), np.array([0, 0, 128]), np.array([70.0, 0.0, 30.0]))
    assert (canvas == 7).all()


@pytest.mark.parametrize("kind", PASTES)
def test_masks(kind):
    """All of the face's middle is seen; a soft one or an ellipse fades towards the cut's edges."""
    for number in range(20):
        mask = mask_of(kind, np.random.default_rng(number))
        assert mask.dtype == np.float32 and mask.min() >= 0 and mask.max() == 1 and (mask[45:90, 45:83] == 1).all()
        rim = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert (rim == 1).all() if kind == "hard" else rim.max() < 0.6 and rim.mean() < 0.2


# ---------------------------------------------------------------------------------------------------------------------
# Places and scenes


def test_scikit_image_halves_share_no_picture():
    """No picture with a human face, none in both halves."""
    train, test = (set(SCIKIT_IMAGE[half]) for half in ("train", "test"))
    assert not train & test and not (train | test) & {"astronaut", "camera", "coins", "lfw_subset"}
    for half in SCIKIT_IMAGE:
        for picture in scikit_image_pictures(half):
            assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3 and picture.std() > 1


@pytest.fixture(scope="module")
def faces():
    pictures = load_faces("val", 12)
    return [Faces.portraits(pictures[:6]), Faces.rendered(pictures, load_parameters("val"))]


@pytest.fixture(scope="module")
def scenes(faces):
    places = make_places(10, 4, "train", faces[0].pictures)
    assert places.shape == (10, 256, 256, 3) and len({place.tobytes() for place in places}) == 10
    return Scenes(faces, (1, 1), places, 4)


def test_scenes_can_be_drawn_again(scenes):
    one, squares = scenes.scene(7, 96, 128)
    again, same = scenes.scene(7, 96, 128)
    assert one.shape == (96, 128, 3) and one.dtype == np.uint8
    assert np.array_equal(one, again) and np.array_equal(squares, same)
    assert not np.array_equal(one, scenes.scene(8, 96, 128)[0])


def test_scenes_hold_none_one_or_several_faces_of_many_sizes(scenes):
    """Middles lie in the picture; faces do not cover each other; an empty scene has none."""
    counts, sides = [], []
    for number in range(60):
        _, squares = scenes.scene(number, 96, 128)
        counts.append(len(squares))
        sides += [side / 96 for _, _, side in squares]
        for k, square in enumerate(squares):
            middle = square[:2] + square[2] / 2
            assert (middle > 0).all() and (middle < [128, 96]).all()
            assert k == 0 or finder_scenes.iou(square, squares[:k]).max() < 0.05
    assert {0, 1, 2} <= set(counts) and min(sides) < 0.25 and max(sides) > 0.8
    assert all(len(scenes.scene(number, 96, 128, empty=True)[1]) == 0 for number in range(5))


def test_without_the_renderer(tmp_path, monkeypatch):
    """Where helpers is installed alone, a word says what is missing."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.delitem(sys.modules, "renderer", raising=False)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not p.endswith("data")])
    finder_scenes._backdrop.cache_clear()
    with pytest.raises(ImageError, match="holds no renderer"):
        make_places(1, 0, "train")
    finder_scenes._backdrop.cache_clear()
