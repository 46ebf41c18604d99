"""helpers.figures: every function gives a Figure that can be shown, with what it was asked to show."""

import io

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from helpers import figures
from helpers.edges import edge_maps
from helpers.networks import DeblurModel, Generator

HISTORY = [
    {
        "epoch": n, "total": 1 / n, "learning_rate": 2e-4, "l1": 0.5 / n, "lpips": 0.4 / n, "ssim": 0.6 / n, "tv": 0.05,
        "latent": 0.1 / n, "val_PSNR": 15.0 + n,
    }
    for n in (1, 2, 3)
]  # fmt: skip

INTERVALS = [
    ["step", 0.0, 10.0, "training"], ["forward", 0.5, 4.0, "training"], ["backward", 5.0, 4.5, "training"],
    ["make a batch", 2.0, 3.0, "loader 1"], ["step", 10.0, 9.0, "training"],
]  # fmt: skip


def decoded(figure: Figure) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(figures.png(figure), np.uint8), cv2.IMREAD_COLOR)


def texts(figure: Figure) -> str:
    """Everything written in a figure."""
    return "\n".join(t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def test_forest_marks_what_is_sure():
    """One filled mark, one hollow; both measures; the way that is better."""
    rows = {"a": ("variant a", 1.0, 0.5, 1.5), "b": ("variant b", 0.1, -0.2, 0.4)}
    table = pd.DataFrame(rows, index=["title", "difference", "low", "high"]).T
    figure = figures.forest({"PSNR": table, "LPIPS": table}, "what is sure", {"PSNR": True})
    assert {"variant a", "variant b", "what is sure"} <= set(texts(figure).split("\n"))
    assert "better →" in texts(figure) and "← better" in texts(figure)
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [m.get_markerfacecolor() for m in marks] == [figures.DARK, "white"]
    assert [float(m.get_xdata()[0]) for m in marks] == [1.0, 0.1]
    assert decoded(figure).ndim == 3


def test_png_is_a_picture_of_the_figures_size():
    figure, _ = figures.new(1, 2, (6, 2), "a title")
    figure.set_dpi(100)
    assert isinstance(figure, Figure) and decoded(figure).shape == (200, 600, 3)
    assert "a title" in texts(figure)


def test_a_notebook_stores_true_colour_and_alternative_text(faces):
    """A palette of 256 colours bands every blurred face; cut margins must not move the picture's pixels."""
    figure = figures.gallery(faces, 4, "a long title that does not fit into one line of so narrow a figure " * 2)
    picture, metadata = figures.displayed(figure)
    assert Image.open(io.BytesIO(picture)).mode == "RGB" and "\n" in figure.get_suptitle()
    assert metadata["alt"].startswith("a long title that does not fit into one line of so narrow a figure")


def test_new_gives_axes_as_pyplot_does():
    assert figures.new(2, 3)[1].shape == (2, 3)
    assert figures.new(1, 1, squeeze=False)[1].shape == (1, 1)
    assert hasattr(figures.new()[1], "plot")


@pytest.fixture
def drawings(faces):
    """One of each."""
    maps = edge_maps(faces)
    torch.manual_seed(0)
    return {
        "rows": figures.show_rows(
            {"blurred": faces[:3], "edges": maps[:3]}, "Rows", {"blurred": "abc"}, ["x", "y", "z"]
        ),
        "gallery": figures.gallery(faces, 5, "Gallery", [f"no {i}" for i in range(12)]),
        "history": figures.plot_history(HISTORY, "A run"),
        "network": figures.draw_network(figures.trace(Generator(16, 64), torch.zeros(1, 16), 2), "Generator"),
        "training": figures.draw_training(DeblurModel(16, 64), 64),
        "bars": figures.bars({"a": [1, 2], "b": [3, 0]}, ["forward", "backward"], "ms", "Bars", ["3 ms", "three"]),
        "timeline": figures.timeline(INTERVALS, "Threads"),
    }


def test_every_drawing_can_be_shown_and_pyplot_knows_none(drawings):
    """A figure that pyplot knew of would be shown twice by a notebook and never freed."""
    for name, figure in drawings.items():
        assert isinstance(figure, Figure), name
        picture = decoded(figure)
        assert picture is not None and picture.std() > 5, name  # not blank
    assert plt.get_fignums() == []


def test_rows_show_the_pictures_with_their_labels(faces):
    """As many axes as pictures; labels, captions, headings and title are all there."""
    figure = figures.show_rows(
        {"blurred": faces[:2], "sharp": faces[:2]}, "Two faces", {"sharp": ["24 dB", "25 dB"]}, ["first", "second"]
    )
    shown = [axis.images[0].get_array() for axis in figure.axes]
    assert len(shown) == 4 and np.array_equal(shown[1], faces[1]) and np.array_equal(shown[2], faces[0])
    written = texts(figure)
    assert all(t in written for t in ("blurred", "sharp", "Two faces", "24 dB", "25 dB", "first", "second"))


def test_rows_of_different_length(faces):
    figure = figures.show_rows({"three": faces[:3], "one": faces[:1]})
    assert sum(len(axis.images) for axis in figure.axes) == 4 and decoded(figure) is not None


def test_gallery_fills_rows_and_hides_the_rest(faces):
    figure = figures.gallery(faces[:7], 5, captions=[f"face {i}" for i in range(7)])
    assert len(figure.axes) == 10 and sum(len(axis.images) for axis in figure.axes) == 7
    assert sum(not axis.axison for axis in figure.axes) == 3 and "face 6" in texts(figure)


@pytest.mark.parametrize("value", [0, 1])
def test_edge_maps_are_drawn_black_and_white(value):
    """A map without any edge must be black, not stretched to some grey; a full one white."""
    _, axes = figures.new()
    figures.draw_image(axes, np.full((8, 8), value, np.uint8), "edges")
    assert axes.images[0].get_clim() == (0, 1) and axes.get_title() == "edges" and len(axes.get_xticks()) == 0


def test_grey_pictures_keep_a_range_that_is_given():
    _, axes = figures.new()
    figures.draw_image(axes, np.zeros((8, 8)), vmin=-2, vmax=3)
    assert axes.images[0].get_clim() == (-2, 3)


def test_history_shows_every_curve(drawings):
    figure = drawings["history"]
    curves = {tuple(np.round(line.get_ydata(), 6)) for axis in figure.axes for line in axis.lines}
    for key in ("total", "l1", "lpips", "ssim", "tv", "latent", "val_PSNR", "learning_rate"):
        assert tuple(np.round([h[key] for h in HISTORY], 6)) in curves, key
    written = texts(figure)
    assert all(name in written for name in ("epoch", "PSNR in dB", "LPIPS", "TV", "latent"))


def test_history_of_one_epoch_and_with_a_missing_term():
    """A weight of 0 reports 0, which a logarithmic axis cannot show; the figure must still come."""
    assert decoded(figures.plot_history([{**HISTORY[0], "lpips": 0.0}])) is not None


def test_bars_stand_behind_one_another(drawings):
    """A bar's parts begin where the part before them ends; the first bar is on top."""
    boxes = [(p.get_x(), p.get_width(), p.get_y()) for p in drawings["bars"].axes[0].patches]
    assert [b[:2] for b in boxes] == [(0, 1), (0, 3), (1, 2), (3, 0)] and drawings["bars"].axes[0].yaxis_inverted()
    assert all(t in texts(drawings["bars"]) for t in ("forward", "backward", "3 ms", "three", "ms"))


def test_bars_with_ranges_have_their_notes_behind_the_highest_value():
    axes = figures.bars({"a": [4], "b": [3]}, [""], "images/s", notes=["four", "three"], ranges=[(3, 5), (3, 3)]).axes[
        0
    ]
    lines = [segment.tolist() for segment in axes.collections[0].get_segments()]
    assert lines == [[[3, 0], [5, 0]], [[3, 1], [3, 1]]]
    assert [text.get_position() for text in axes.texts] == [(5, 0), (3, 1)]


def test_timeline_draws_each_interval_in_its_row(drawings):
    """Boxes lie where their times say; what has others inside it is a frame, each time."""
    axes = drawings["timeline"].axes[0]
    boxes = [(p.get_x(), p.get_width()) for p in axes.patches]
    assert boxes == [(s, d) for _, s, d, _ in INTERVALS]
    assert [p.get_facecolor()[3] for p in axes.patches] == [0, 1, 1, 1, 0]
    assert [round(p.get_y() + p.get_height() / 2) for p in axes.patches] == [0, 0, 0, 1, 0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["training", "loader 1"]
    assert all(t in texts(drawings["timeline"]) for t in ("step", "forward", "make a batch", "time in ms"))


def test_table_marks_the_best_of_each_column():
    """Highest PSNR, lowest LPIPS, also under the random trunk's longer name; two decimals for PSNR."""
    table = pd.DataFrame({"PSNR": [20.123, 23.456], "LPIPS (random trunk)": [0.1, 0.3]}, index=["a", "b"])
    html = figures.style_table(table, {"PSNR": True, "LPIPS": False}).to_html()
    assert "23.46" in html and "0.1000" in html and html.count("font-weight: bold") == 1
    marked = html.split("font-weight")[0]
    assert "row1_col0" in marked and "row0_col1" in marked and "row0_col0" not in marked and "row1_col1" not in marked


def test_trace_notes_shapes_and_parameters():
    """The generator at 64 px: linear layer, four doublings. Parameters by hand."""
    network = Generator(16, 64)
    notes = figures.trace(network, torch.zeros(1, 16), 2, skip=("BatchNorm2d", "ReLU", "Tanh"))
    assert notes[0] == ("input", "", (16,), 0)
    assert notes[1] == ("fc", "Linear", (8192,), 16 * 8192 + 8192)
    assert [n[2] for n in notes[2:]] == [(256, 8, 8), (128, 16, 16), (64, 32, 32), (3, 64, 64)]
    assert notes[2][3] == 512 * 256 * 16 and notes[-1][3] == 64 * 3 * 16 + 3
    assert all(n[1] == "ConvTranspose2d" for n in notes[2:])


def test_trace_leaves_the_network_as_it_was():
    """No hook stays, the mode is kept, batch statistics do not move: also where the run fails."""
    network = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    assert [n[0] for n in figures.trace(network, torch.ones(1, 4))] == ["input", "0", "1"]
    with pytest.raises(RuntimeError):
        figures.trace(network, torch.ones(1, 5))
    assert network.training and network[0].num_batches_tracked == 0
    assert not any(m._forward_hooks for m in network.modules())


def test_drawn_network_says_what_runs(drawings):
    written = texts(drawings["network"])
    assert "256×8×8" in written and "3×64×64" in written and "ConvTranspose2d" in written and "139,264" in written


def test_drawn_training_has_the_models_shapes_and_keeps_its_mode():
    model = DeblurModel(16, 64).train()
    written = texts(figures.draw_training(model, 64))
    assert all(t in written for t in ("4×64×64", "z_deblur\n16", "z_gt\n16", "restored x̂\n3×64×64", "equation 40"))
    assert model.training


def test_colours_differ_in_lightness():
    """In greyscale neighbouring lines must not coincide: luminances at least 0.05 apart, dashes all different."""
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in figures.COLOURS])
    grey = np.sort(rgb @ [0.299, 0.587, 0.114])
    assert len(set(map(str, figures.DASHES))) == len(figures.COLOURS) == 5
    assert np.diff(grey)[:2].min() > 0.05 and grey[-1] - grey[0] > 0.4


def test_style_works_outside_a_notebook():
    figures.style()
    assert decoded(figures.new(size=(4, 2))[0]).shape == (200, 400, 3)
