"""helpers.alt_text: title first, then what the author says, then what the axes say."""

import numpy as np

from helpers import figures
from helpers.alt_text import describe


def test_a_plot_is_described_by_its_title_axes_and_curves():
    figure, axes = figures.new(1, 2, title="PSNR falls with σ")
    axes[0].plot([1, 2], [3, 4], label="kernel 21×21")
    axes[0].set(xlabel="σ in\npixels", ylabel="PSNR in dB")
    axes[1].set_title("a second one?")
    wanted = "PSNR falls with σ. PSNR in dB against σ in pixels; curves: kernel 21×21. a second one?"
    assert describe(figure) == wanted


def test_the_authors_text_stands_after_the_title():
    figure, axes = figures.new(title="The error is largest at edges")
    figure.alt = "At the hat's rim it reaches 90 grey levels"
    axes.imshow(np.zeros((2, 2)))
    assert describe(figure) == "The error is largest at edges. At the hat's rim it reaches 90 grey levels."


def test_nothing_is_said_of_nothing():
    assert describe(figures.new()[0]) == ""
