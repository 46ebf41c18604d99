"""Rows of faces, drawn so that every pixel of an image is a square of whole screen pixels, in true colour.

All chapters draw their faces with :func:`show_faces`. An image that is drawn at 0.9 or 1.7 of its size loses or doubles
some of its rows and columns, and then a reader sees damage that no method has done.
"""

import math
import textwrap
from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from helpers.metrics import measure
from helpers.perceptual import Lpips

SMALLEST = 128  # screen pixels: the side of a face is never drawn smaller
WIDEST = 960  # screen pixels: about the width of a notebook's column
GAP, LINE = 8, 16  # screen pixels between two images, and for a line of text
DPI = 100


class PictureError(ValueError):
    """The rows cannot be drawn, with the reason in a sentence."""


def show_faces(
    rows: dict[str, Sequence[np.ndarray]],
    title: str,
    columns: Sequence[str] | None = None,
    captions: dict[str, Sequence[str]] | None = None,
    truth: str | None = None,
    lpips: Lpips | None = None,
    bars: dict[str, str] | None = None,
    side: int | None = None,
    beside: int = 0,
) -> Figure:
    """Labelled rows of faces and maps, every image at a whole multiple of its pixels.

    Parameters
    ----------
    rows : label of a row -> its images: uint8 H×W×3, uint8 H×W (grey; a map of 0 and 1 in black and white), or float
        H×W (a map, drawn in colour with a colour bar over the range of its row)
    title : the finding, in a sentence
    columns : a heading for each column
    captions : label of a row -> a text below each of its images
    truth : label of the row, or heading of the column, that holds the sharp faces. PSNR, and LPIPS where ``lpips`` is
        given, then stand below every other uint8 H×W×3 image, measured against the truth of its column or row.
    bars : label of a row of maps -> what its colour bar shows, with the unit; needed for each such row
    side : screen pixels of the longest side of an image. By default the largest of 3, 2 and 1 times the image's own
        side with which the figure is not wider than :data:`WIDEST`. An image that does not fit a whole number of times
        is drawn antialiased where it is larger than ``side``.
    beside : screen pixels of an empty axes to the right of the rows, ``figure.axes[-1]``, for a plot beside them

    Raises
    ------
    PictureError
        where an image would be drawn smaller than :data:`SMALLEST` or at a multiple that is not whole, ``truth`` names
        neither a row nor a column, or a row of maps has no entry in ``bars``
    """
    count = max(len(images) for images in rows.values())
    maps = [label for label, images in rows.items() if any(_is_map(image) for image in images)]
    if set(maps) - set(bars or {}):
        raise PictureError(f"bars must say what the maps show: {sorted(set(maps) - set(bars or {}))}")
    labels = {label: textwrap.fill(label, 16) for label in rows}
    left = 12 + max(_text_width(text) for text in labels.values())
    right = (96 if maps else GAP) + (beside + 56 if beside else 0)
    side = side or _fitting(rows, (WIDEST - left - right) // count - GAP)
    below = _below(rows, columns, captions or {}, truth, lpips)
    width = left + count * (side + GAP) + right
    heading = textwrap.fill(title, max(30, width // 9))
    top = 10 + 20 * len(heading.split("\n"))
    headings = [textwrap.fill(text, max(10, side // 7)) for text in columns or []]
    ys, y = {}, top + LINE * max((text.count("\n") + 1 for text in headings), default=0) + 4
    for label in rows:
        ys[label] = y
        y += side + GAP + LINE * max((text.count("\n") + 1 for text in below[label] if text), default=0)
    canvas = _Canvas(width, max(y, top + 160 if beside else 0))
    canvas.figure.suptitle(heading, fontsize=11, x=0.5, y=1 - 6 / canvas.height, va="top")
    for label, images in rows.items():
        limits = _limits([image for image in images if _is_map(image)])
        canvas.text(left - 8, ys[label] + side / 2, labels[label], ha="right", va="center")
        for k, image in enumerate(images):
            canvas.image(image, left + k * (side + GAP), ys[label], side, limits)
            x = left + k * (side + GAP) + side / 2
            canvas.text(x, ys[label] + side + 3, below[label][k], ha="center", va="top", size=8)
        if label in maps:
            canvas.bar(left + count * (side + GAP) + 4, ys[label], side, limits, bars[label])
    for k, text in enumerate(headings):
        canvas.text(left + k * (side + GAP) + side / 2, ys[next(iter(rows))] - 7, text, ha="center", va="baseline")
    if beside:
        canvas.axes(width - beside - GAP, top + 14, beside, canvas.height - top - 14 - 44)
    canvas.figure.alt = _said(rows, columns, below)
    return canvas.figure


def score_captions(restored: np.ndarray, truth: np.ndarray, lpips: Lpips | None = None) -> list[str]:
    """The captions "22.3 dB" or, with ``lpips``, "22.3 dB, LPIPS 0.412": uint8 N×H×W×3 each, N texts."""
    table = measure(np.asarray(restored), np.asarray(truth), lpips)
    texts = [f"{value:.1f} dB" if np.isfinite(value) else "equal" for value in table["PSNR"]]
    if lpips is not None:
        texts = [f"{text}, {lpips.name} {value:.3f}" for text, value in zip(texts, table[lpips.name], strict=True)]
    return texts


class _Canvas:
    """A figure on which things are placed in screen pixels, counted from the upper left corner."""

    def __init__(self, width: int, height: int):
        self.width, self.height = int(width), int(height)
        self.figure = Figure(figsize=(self.width / DPI, self.height / DPI), dpi=DPI)  # no layout engine: it would move

    def axes(self, x: float, y: float, width: float, height: float):
        w, h = self.width, self.height
        return self.figure.add_axes((x / w, (h - y - height) / h, width / w, height / h))

    def text(self, x: float, y: float, text: str, size: int = 9, **how) -> None:
        self.figure.text(x / self.width, 1 - y / self.height, text, fontsize=size, linespacing=1.15, **how)

    def image(self, image: np.ndarray, x: int, y: int, side: int, limits: tuple[float, float] | None) -> None:
        """In the middle of a square of ``side``; pixels are repeated here, so that nothing is resampled later."""
        large = _enlarged(image, side)
        height, width = large.shape[:2]
        axes = self.axes(x + (side - width) // 2, y + (side - height) // 2, width, height)
        if image.ndim == 3:
            axes.imshow(large, interpolation="none")
        elif limits is not None and _is_map(image):
            axes.imshow(large, interpolation="none", cmap=_colours(limits), vmin=limits[0], vmax=limits[1])
        else:
            axes.imshow(large, interpolation="none", cmap="gray", vmin=0, vmax=1 if image.max() <= 1 else 255)
        axes.axis("off")

    def bar(self, x: int, y: int, side: int, limits: tuple[float, float], label: str) -> None:
        axes = self.axes(x, y, 12, side)
        bar = self.figure.colorbar(ScalarMappable(Normalize(*limits), _colours(limits)), cax=axes)
        bar.set_label(textwrap.fill(label, side // 6), fontsize=8)
        bar.ax.tick_params(labelsize=7)
        bar.ax.locator_params(nbins=5)


def _text_width(text: str) -> int:
    """Screen pixels of a label's longest line: letters differ too much for counting them."""
    return math.ceil(Figure(dpi=DPI).text(0, 0, text, fontsize=9).get_window_extent().width)


def _is_map(image: np.ndarray) -> bool:
    return image.ndim == 2 and np.issubdtype(image.dtype, np.floating)


def _limits(maps: list[np.ndarray]) -> tuple[float, float] | None:
    """The common range of a row; symmetric about 0 where values have both signs."""
    if not maps:
        return None
    low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
    if low < 0 < high:
        high = max(-low, high)
        low = -high
    return min(low, 0.0), high if high > low else low + 1


def _colours(limits: tuple[float, float]):
    return colormaps["PuOr"] if limits[0] < 0 < limits[1] else colormaps["magma"]


def _fitting(rows: dict[str, Sequence[np.ndarray]], room: int) -> int:
    own = max(max(image.shape[:2]) for images in rows.values() for image in images)
    least = -(-SMALLEST // own)
    return own * max(least, min(3, room // own))


def _enlarged(image: np.ndarray, side: int) -> np.ndarray:
    """A whole multiple of the image that fits into ``side``, or the image made smaller, antialiased."""
    longest = max(image.shape[:2])
    if side < SMALLEST:
        raise PictureError(f"a face of {side} screen pixels is too small to be looked at; {SMALLEST} is the least")
    if longest > side:
        height, width = (round(n * side / longest) for n in image.shape[:2])
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if side % longest:
        raise PictureError(f"{side} screen pixels are no whole multiple of the image's {longest}")
    return image.repeat(side // longest, 0).repeat(side // longest, 1)


def _below(rows, columns, captions, truth, lpips) -> dict[str, list[str]]:
    """The texts below the images of each row: the caption that was given, then the scores."""
    texts = {label: list(captions.get(label, [""] * len(images))) for label, images in rows.items()}
    if truth is None:
        return texts
    if truth not in rows and truth not in (columns or []):
        raise PictureError(f"truth must name a row or a column, not {truth!r}")
    for label, images in rows.items():
        for k, image in enumerate(images):
            sharp = rows[truth][k] if truth in rows else images[list(columns).index(truth)]
            is_truth = label == truth if truth in rows else columns[k] == truth
            if image.ndim == 3 and not is_truth:
                texts[label][k] = "\n".join(
                    filter(None, [texts[label][k], *score_captions(image[None], sharp[None], lpips)])
                )
    return texts


def _said(rows, columns, below) -> str:
    """For the alternative text: what stands in each row, with the captions."""
    said = []
    for label, images in rows.items():
        texts = []
        for k in range(len(images)):
            heading = columns[k] if columns and k < len(columns) else f"image {k + 1}"
            caption = below[label][k].replace("\n", ", ")
            texts.append(f"{heading}: {caption}" if caption else heading)
        said.append(f"Row {label or len(said) + 1}: " + "; ".join(texts).replace("\n", " ") + ".")
    return " ".join(said)
