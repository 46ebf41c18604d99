"""Where in a photograph is a face? A small network proposes the squares that the restorers expect.

In the manner of CenterNet ("Objects as Points", Zhou, Wang and Krähenbühl, 2019): a face is a point. The picture is
shrunk to 192 pixels on its longer side. For each cell of 8×8 pixels the network says how likely it is that the middle
of a face's square lies there (the heat map), how far off the cell's middle, and how large the square is::

    boxes = find_faces(photograph)  # [((135, 5, 180), 0.97), ...]

Then each of them is looked at again, from nearer, and once more mirrored: a better square, and fewer mistakes.

The square has the framing of the portraits and of CelebA, from above the hair to below the chin. Trained by
:mod:`helpers.experiments.finder_training` on rendered faces and on portraits; it knows faces that look about towards
the camera and stand about upright.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from helpers.data import normalise
from helpers.engine.checkpoints import load_checkpoint, read_about, shipped
from helpers.engine.devices import one_thread
from helpers.engine.errors import CheckpointError, ImageError
from helpers.photograph import SMALLEST, Box, centred_box

SIDE = 192  # pixels: the longer side of what the network sees
WIDTHS = (16, 24, 48, 96, 128)  # channels at a half, 4th, 8th, 16th and 32nd of the picture's sides
STRIDE = 8  # pixels: a cell of the heat map
USUAL = 32.0  # pixels: the side that a network without training proposes
OVERLAP = 0.3  # of two proposals that overlap more, measured by IoU, the weaker is dropped
INSIDE = 0.6  # and one that lies inside a stronger one by more than this part of its area
MOST = 50  # peaks of the heat map that are read
FIRST, LOOKED = 0.2, 12  # least score for a second look; at how many at most
AROUND, NEARER = 2.0, 160  # of a second look: how much it shows, against the square's side; at how many pixels
SAME = 0.3  # IoU with what is found there that makes it the same face
DOUBTFUL = 0.05  # score from which on a second look names squares


# ---------------------------------------------------------------------------------------------------------------------
# The network


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Residual(nn.Module):
    """Two 3×3 convolutions, added to what came in: N×C×H×W to the same shape."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            _layer(channels, channels), nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.body(x))


class Finder(nn.Module):
    """Down to a 32nd of the picture, to see all of a large face; back up to an 8th, to say where it is.

    Parameters
    ----------
    widths : channels of the five sizes, see :data:`WIDTHS`
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        self.widths = tuple(widths)
        first, second, *rest = widths
        self.stem = nn.Sequential(_layer(3, first, 2), _layer(first, second, 2))
        self.down = nn.ModuleList(
            nn.Sequential(_layer(before, width, 2), Residual(width))
            for before, width in zip([second, *rest], rest, strict=False)
        )
        self.up = nn.ModuleList(nn.Conv2d(deep, wide, 1) for wide, deep in zip(rest, rest[1:], strict=False))
        self.head = nn.Sequential(_layer(rest[0], rest[0]), nn.Conv2d(rest[0], 4, 1))
        nn.init.normal_(self.head[-1].weight, std=0.01)
        nn.init.zeros_(self.head[-1].bias)
        with torch.no_grad():  # few cells hold a face: begin with 1 in 100, or the first steps unlearn nothing else
            self.head[-1].bias[0] = -4.6

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """What each cell says.

        Parameters
        ----------
        images : float N×3×H×W in [-1, 1], any H and W

        Returns
        -------
        float N×4×⌈H/8⌉×⌈W/8⌉: the logit of the heat map; the way from the cell's middle to the square's, to the right
        and down, in cells; the logarithm of the square's side against 32 pixels
        """
        x, levels = self.stem(images), []
        for down in self.down:
            x = down(x)
            levels.append(x)
        for up, level in zip(reversed(self.up), reversed(levels[:-1]), strict=True):
            x = F.relu(level + F.interpolate(up(x), size=level.shape[-2:], mode="nearest"))
        return self.head(x)


@lru_cache(maxsize=2)
def _loaded(path: Path) -> tuple[Finder, float]:
    about = read_about(path)
    model = Finder(about.get("widths", WIDTHS))
    load_checkpoint(path, model)
    return model.eval().to(memory_format=torch.channels_last), float(about.get("threshold", 0.5))


def load_finder(path: str | Path | None = None) -> tuple[Finder, float]:
    """The finder of a checkpoint, by default the one that ships, and the least score of a face; read once.

    Raises
    ------
    CheckpointError
        if the file is missing, damaged, or another network's
    """
    return _loaded(shipped("finder") if path is None else Path(path))


# ---------------------------------------------------------------------------------------------------------------------
# From the heat map to squares


def iou(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of the square ``one`` with each of ``others`` (N×3): left, top, side; N numbers."""
    both = _shared(one, others)
    return both / (one[2] ** 2 + others[:, 2] ** 2 - both)


def _shared(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area that ``one`` shares with each of ``others``."""
    low = np.maximum(one[:2], others[:, :2])
    high = np.minimum(one[:2] + one[2], others[:, :2] + others[:, 2:])
    return (high - low).clip(min=0).prod(1)


def squares_in(answer: torch.Tensor, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The squares of one picture, best first, at most 50.

    Parameters
    ----------
    answer : what the network says of it, 4×h×w
    threshold : the least value of the heat map, in (0, 1)

    Returns
    -------
    float N×3, left, top and side in pixels of what the network saw, which the square may leave; N scores in (0, 1)
    """
    heat = answer[0].sigmoid()
    highest = F.max_pool2d(heat[None, None], 3, 1, 1)[0, 0]  # a face is a peak, not everything around it
    rows, columns = torch.nonzero((heat == highest) & (heat >= threshold), as_tuple=True)
    best = heat[rows, columns].argsort(descending=True)[:MOST]
    rows, columns = rows[best], columns[best]
    right, down, size = answer[1:, rows, columns].double()
    side = USUAL * size.exp()
    middle = STRIDE * (torch.stack([columns + right, rows + down]) + 0.5)
    squares = torch.cat([middle - side / 2, side[None]]).T.numpy()
    return squares, heat[rows, columns].numpy()


def suppress(squares: np.ndarray) -> list[int]:
    """Non-maximum suppression: which of the squares (N×3, best first) stay when each face is to be named once."""
    kept: list[int] = []
    for index, square in enumerate(squares):
        stronger = squares[kept]
        if not kept or (
            iou(square, stronger).max() <= OVERLAP and _shared(square, stronger).max() <= INSIDE * square[2] ** 2
        ):
            kept.append(index)
    return kept


def _look_again(
    model: Finder, photograph: np.ndarray, squares: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Squares (N×3, in pixels of the photograph) and scores, after a look from nearer and one at its mirror image.

    A square is the mean of what these two say. The score is the mean of the first one and theirs; a look that does not
    find the face counts 0.
    """
    height, width = photograph.shape[:2]
    around = [_inside((*(s[:2] - (AROUND - 1) / 2 * s[2]), AROUND * s[2]), width, height) for s in squares]
    cuts = [_resized(photograph[top : top + side, left : left + side], (NEARER, NEARER)) for left, top, side in around]
    cuts = np.stack(cuts) if cuts else np.zeros((0, NEARER, NEARER, 3), np.uint8)
    looks = []
    for turn in (1, -1):
        answers = model(normalise(cuts[:, :, ::turn])) if len(cuts) else []
        looks.append([_found_again(*found, turn) for found in zip(answers, squares, around, strict=True)])
    means = [np.mean(both, 0) for both in zip(*looks, strict=True)]  # left, top, side, score
    means = np.array(means).reshape(-1, 4)
    return means[:, :3], (scores + means[:, 3]) / 2


def _found_again(answer: torch.Tensor, square: np.ndarray, around: Box, turn: int) -> tuple[float, ...]:
    """Left, top, side and score of ``square``'s face in the network's answer to what lies ``around`` it.

    ``turn`` -1: to the mirror image. A face that is not there has the score 0 and the square that it had.
    """
    again, sure = squares_in(answer, DOUBTFUL)
    if turn < 0:
        again[:, 0] = NEARER - again[:, 0] - again[:, 2]
    again = again * around[2] / NEARER + (*around[:2], 0)
    overlaps = iou(square, again)
    best = int(overlaps.argmax()) if len(again) else 0
    return (*again[best], sure[best]) if len(again) and overlaps[best] >= SAME else (*square, 0.0)


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture at width and height ``size``, averaged where it shrinks."""
    shrinks = size[0] < picture.shape[1]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _inside(square: Sequence[float], width: int, height: int) -> Box:
    """The square in whole pixels, made smaller and moved where it leaves the photograph."""
    side = int(np.clip(round(square[2]), SMALLEST, min(width, height)))
    left, top = (round(corner + (square[2] - side) / 2) for corner in square[:2])
    return int(np.clip(left, 0, width - side)), int(np.clip(top, 0, height - side)), side


def find_faces(photograph: np.ndarray, finder: tuple[Finder, float] | None = None) -> list[tuple[Box, float]]:
    """The faces of a photograph: squares inside it, and how sure the network is of each, best first.

    Parameters
    ----------
    photograph : uint8 H×W×3 of any size
    finder : network and least score; by default those that ship

    Returns
    -------
    [((left, top, side), score), ...]; [] where there is no face, or a side is below 16 pixels

    Raises
    ------
    ImageError
        for anything else than an 8-bit RGB picture
    CheckpointError
        if the weights are not there
    """
    if not isinstance(photograph, np.ndarray) or photograph.dtype != np.uint8 or photograph.ndim != 3:
        raise ImageError("find_faces expects one 8-bit RGB picture, H×W×3")
    height, width, channels = photograph.shape
    if channels != 3:
        raise ImageError(f"find_faces expects three channels, not {channels}")
    if min(height, width) < SMALLEST:
        return []
    model, threshold = finder or load_finder()
    scale = SIDE / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    with one_thread(), torch.inference_mode():
        squares, scores = squares_in(model(normalise(_resized(photograph, size))[None])[0], min(FIRST, threshold))
        first = suppress(squares)[:LOOKED]
        squares, scores = _look_again(model, photograph, squares[first] / scale, scores[first])
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] >= threshold]
    squares, scores = squares[order], scores[order]
    return [(_inside(squares[i], width, height), float(scores[i])) for i in suppress(squares)]


# ---------------------------------------------------------------------------------------------------------------------
# What is proposed to a user


class Proposal(NamedTuple):
    """Squares to choose from, at least one; what to say of them."""

    boxes: list[Box]  # the best first
    told: str  # of the first square: "a face was found"
    found: bool  # False: the only square is the largest centred one


def propose(photograph: np.ndarray) -> Proposal:
    """The squares of the faces that are found; the largest centred square where there is none, or no finder."""
    try:
        boxes = [box for box, _ in find_faces(photograph)]
    except CheckpointError as error:
        return Proposal([centred_box(photograph)], f"no face was looked for, so it is the centred one: {error}", False)
    if not boxes:
        return Proposal([centred_box(photograph)], "no face was found, so it is the centred one", False)
    several = f"{len(boxes)} faces were found, it is the surest"
    return Proposal(boxes, "a face was found" if len(boxes) == 1 else several, True)
