"""helpers.face_rows: whole pixels, scores below what was restored, colour bars beside maps, all of it said in words."""

import io

import numpy as np
import pytest
from PIL import Image

from helpers import figures
from helpers.alt_text import describe
from helpers.face_rows import SMALLEST, WIDEST, PictureError, score_captions, show_faces


def pixels(figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(figures.displayed(figure)[0])))


def holds(picture: np.ndarray, image: np.ndarray) -> bool:
    """Does ``image`` stand somewhere in ``picture``, value by value?"""
    corner = image[0, 0]
    for y, x in np.argwhere((picture == corner).all(-1)):
        part = picture[y : y + image.shape[0], x : x + image.shape[1]]
        if part.shape == image.shape and np.array_equal(part, image):
            return True
    return False


@pytest.mark.parametrize(("side", "times"), [(None, 3), (128, 2), (192, 3)])
def test_a_pixel_is_a_square_of_whole_screen_pixels(faces, side, times):
    """The face of 64×64 is found in the stored picture, value by value, each repeated."""
    figure = show_faces({"a label that is long": faces[:2]}, "A title", ["one", "two"], side=side)
    for face in faces[:2]:
        assert holds(pixels(figure), face.repeat(times, 0).repeat(times, 1))


def test_a_crop_is_enlarged_to_the_side_of_the_face(faces):
    figure = show_faces({"": [faces[0], faces[0][8:24, 8:24]]}, "A crop", side=128)
    assert holds(pixels(figure), faces[0][8:24, 8:24].repeat(8, 0).repeat(8, 1))


@pytest.mark.parametrize("count", [1, 3, 6])
def test_a_figure_fits_a_notebook_and_faces_stay_large(faces, count):
    figure = show_faces({"row": list(faces[:count])}, "A title")
    sides = {round(axes.get_window_extent().width) for axes in figure.axes}
    assert pixels(figure).shape[1] <= WIDEST and min(sides) >= SMALLEST


@pytest.mark.parametrize("label", ["upside down", "MMMM wwww MMMM w", "ill", ""])
def test_a_label_is_whole_and_ends_before_the_faces(faces, label):
    figure = show_faces({label: faces[:1]}, "A title")
    (extent,) = (text.get_window_extent() for text in figure.texts if text.get_ha() == "right")
    assert extent.x0 >= 0 and extent.x1 < figure.axes[0].get_window_extent().x0


def test_what_would_be_drawn_badly_is_refused(faces):
    with pytest.raises(PictureError, match="too small"):
        show_faces({"row": faces[:1]}, "A title", side=64)
    with pytest.raises(PictureError, match="no whole multiple of the image's 64"):
        show_faces({"row": faces[:1]}, "A title", side=150)


def test_a_large_photograph_is_drawn_antialiased(faces):
    """Stripes of one pixel become grey; leaving rows out would keep black or white."""
    stripes = np.zeros((512, 256, 3), np.uint8)
    stripes[::2] = 255
    shown = show_faces({"": [stripes]}, "Stripes", side=256).axes[0].images[0].get_array()
    assert shown.shape == (256, 128, 3) and 126 < shown.min() <= shown.max() < 129


def test_scores_stand_below_all_but_the_truth(faces, random_lpips):
    """Truth as a row and truth as a column; a caption of one's own stays."""
    worse = faces[:2] // 2
    wanted = score_captions(worse, faces[:2], random_lpips)
    rows = show_faces({"dark": worse, "sharp": faces[:2]}, "t", captions={"dark": ["a", "b"]}, truth="sharp",
                      lpips=random_lpips)  # fmt: skip
    columns = show_faces({str(k): [worse[k], faces[k]] for k in (0, 1)}, "t", ["dark", "sharp"], truth="sharp",
                         lpips=random_lpips)  # fmt: skip
    for figure in (rows, columns):
        written = [text.get_text() for text in figure.texts]
        assert sum("dB" in text for text in written) == 2
        assert all(any(text.endswith(score) for text in written) for score in wanted)
        assert "dark" in describe(figure) and all(score in describe(figure) for score in wanted)
    assert f"a\n{wanted[0]}" in [text.get_text() for text in rows.texts]
    assert score_captions(faces[:1], faces[:1]) == ["equal"] and "LPIPS" in wanted[0]
    with pytest.raises(PictureError, match="'shrap'"):
        show_faces({"dark": worse}, "t", truth="shrap")


def test_maps_have_a_colour_bar_over_their_own_range(faces):
    error = [np.full((64, 64), -3.0), np.full((64, 64), 1.5)]
    with pytest.raises(PictureError, match="bars must say"):
        show_faces({"error": error}, "t")
    figure = show_faces({"sharp": faces[:2], "error": error}, "t", bars={"error": "error in grey levels"})
    assert [axes.images[0].get_clim() for axes in figure.axes[2:4]] == [(-3, 3), (-3, 3)]
    assert figure.axes[-1].get_ylabel() == "error in grey levels" and "error in grey levels" in describe(figure)


def test_edge_maps_are_black_and_white_and_a_plot_can_stand_beside(faces):
    figure = show_faces({"": [faces[0], np.zeros((64, 64), np.uint8)]}, "t", beside=300)
    figure.axes[-1].plot([0, 1], label="green")
    figure.axes[-1].set(xlabel="column", ylabel="value")
    assert figure.axes[1].images[0].get_clim() == (0, 1)
    extent = figure.axes[-1].get_window_extent()
    assert round(extent.width) == 300 and extent.x1 < pixels(figure).shape[1]
    assert "value against column" in describe(figure)
