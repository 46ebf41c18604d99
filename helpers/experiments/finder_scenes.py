"""Pictures with faces at known places, for the face finder: cut faces laid onto places without one.

A network that learns from pasted rectangles finds rectangles. So faces are laid on with hard edges, with soft ones, as
ellipses with shoulders below, and as whole pictures that go on beyond the cut; things that are no faces are laid on in
the same ways.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import pandas as pd
import skimage.data

from helpers.augment import recoloured
from helpers.engine.errors import ImageError
from helpers.engine.folders import data_folder
from helpers.finder import iou
from helpers.photos import SIZE
from helpers.seeds import rng_for

# scikit-image's pictures without a human face, by their functions. The faces on coins() and camera()'s photographer
# are in neither half, astronaut() is shown to the finished network alone.
SCIKIT_IMAGE = {
    "train": (
        "chelsea", "coffee", "grass", "brick", "stereo_motorcycle", "page", "immunohistochemistry", "clock", "horse",
        "hubble_deep_field",
    ),
    "test": (
        "rocket", "gravel", "moon", "retina", "text", "cell", "colorwheel", "logo", "shepp_logan_phantom",
        "microaneurysms", "checkerboard",
    ),
}  # fmt: skip
KINDS = ("studio", "gradient", "bokeh", "indoor", "outdoor", "wall")  # of the renderer's backgrounds
PLACE = 256  # pixels: the side of a place without faces
# Eyes and the middle of the mouth in the portraits' and CelebA's framing, in pixels of 128, from their mean face.
FRAMING = np.array([(49.0, 66.0), (77.5, 66.0), (63.25, 94.5)])
SMALLEST_FACE = 0.12  # of the picture's shorter side
PASTES = ("hard", "soft", "ellipse")


# ---------------------------------------------------------------------------------------------------------------------
# Faces


@dataclass
class Faces:
    """Cut faces, uint8 N×128×128×3, and the square of each in the portraits' framing: N×3, left, top, side in its
    pixels. It may be larger than the cut.
    """

    pictures: np.ndarray
    squares: np.ndarray

    @classmethod
    def portraits(cls, pictures: np.ndarray) -> "Faces":
        """Cuts that have the framing already."""
        return cls(pictures, np.tile([0.0, 0.0, SIZE], (len(pictures), 1)))

    @classmethod
    def rendered(cls, pictures: np.ndarray, parameters: pd.DataFrame) -> "Faces":
        """Rendered faces, closer than portraits, with what the renderer says of them."""
        return cls(pictures, framed(parameters.iloc[: len(pictures)]))


def framed(parameters: pd.DataFrame) -> np.ndarray:
    """The squares (N×3) that lay rendered faces' eyes and mouths, in least squares, where :data:`FRAMING` has them."""
    points = np.stack(
        [parameters[[f"{name}_x", f"{name}_y"]].to_numpy(float) for name in ("left_eye", "right_eye", "mouth")], 1
    )
    middle, wanted = points.mean(1), FRAMING.mean(0)
    scale = ((points - middle[:, None]) * (FRAMING - wanted)).sum((1, 2)) / np.square(FRAMING - wanted).sum()
    return np.concatenate([middle - scale[:, None] * wanted, SIZE * scale[:, None]], 1)


# ---------------------------------------------------------------------------------------------------------------------
# Places without a face


@lru_cache(maxsize=1)
def _backdrop():
    """The renderer's module of backgrounds; it lies in data/, not in the package."""
    if str(data_folder()) not in sys.path:
        sys.path.insert(0, str(data_folder()))
    try:
        from renderer import backdrop
    except ImportError:
        raise ImageError(f"{data_folder()}: holds no renderer; COURSE_DATA names the course's folder data/") from None
    return backdrop


def rendered_place(rng: np.random.Generator) -> np.ndarray:
    """A background of the renderer: uint8 256×256×3."""
    linear = _backdrop().paint({"background": str(rng.choice(KINDS))}, rng, PLACE)
    return (255 * linear.clip(0, 1) ** (1 / 2.2)).astype(np.uint8)


def texture(rng: np.random.Generator) -> np.ndarray:
    """Noise of many scales, under stripes, or under ellipses and polygons, some of the colour of skin: 256×256×3."""
    picture = np.zeros((PLACE, PLACE, 3), np.float32)
    for cells in (2, 4, 8, 16, 32, 64, 128):
        grid = rng.normal(0, rng.uniform(5, 60), (cells, cells, 1 if rng.integers(2) else 3)).astype(np.float32)
        picture += cv2.resize(grid, (PLACE, PLACE), interpolation=cv2.INTER_CUBIC).reshape(PLACE, PLACE, -1)
    picture += rng.uniform(30, 225, 3)
    kind = rng.integers(3)
    if kind == 1:
        y, x = np.mgrid[:PLACE, :PLACE]
        turn, waves = rng.uniform(0, np.pi), rng.uniform(3, 60)
        wave = np.sin(2 * np.pi * waves / PLACE * (x * np.cos(turn) + y * np.sin(turn)))
        picture += rng.uniform(10, 60) * wave[..., None]
    picture = picture.clip(0, 255).astype(np.uint8)
    for _ in range(rng.integers(3, 30) if kind == 2 else 0):
        skin = np.array([225, 180, 150]) * rng.uniform(0.25, 1.1)
        colour = (skin if rng.uniform() < 0.3 else rng.uniform(0, 255, 3)).clip(0, 255).tolist()
        middle, axes = rng.integers(0, PLACE, 2), rng.integers(2, 60, 2)
        if rng.integers(2):
            cv2.ellipse(picture, middle.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
        else:
            corners = middle + rng.normal(0, axes.max(), (rng.integers(3, 7), 2))
            cv2.fillPoly(picture, [corners.astype(np.int32)], colour, cv2.LINE_AA)
    return picture


def scikit_image_pictures(half: str) -> list[np.ndarray]:
    """The pictures of one half of :data:`SCIKIT_IMAGE`, uint8 H×W×3."""
    pictures = []
    for name in SCIKIT_IMAGE[half]:
        found = getattr(skimage.data, name)()
        for picture in found[:2] if isinstance(found, tuple) else [found]:
            if picture.dtype != np.uint8:
                picture = (255 * picture.astype(float).clip(0, 1)).astype(np.uint8)
            grey = picture.ndim == 2
            pictures.append(np.ascontiguousarray(np.stack([picture] * 3, 2) if grey else picture[..., :3]))
    return pictures


def _part(picture: np.ndarray, rng: np.random.Generator, least: float) -> np.ndarray:
    """A random square part, at least ``least`` of the shorter side, as a place: uint8 256×256×3."""
    height, width = picture.shape[:2]
    side = max(8, round(min(height, width) * rng.uniform(least, 1)))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    part = picture[top : top + side, left : left + side]
    return cv2.resize(part, (PLACE, PLACE), interpolation=cv2.INTER_AREA if side > PLACE else cv2.INTER_LINEAR)


def _piece_of_a_face(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What is no face though it is made of one: a corner, clothes, a small part, or its sixteenths in another order:
    uint8 256×256×3.
    """
    kind, n = rng.integers(4), SIZE // 4
    if kind == 0:
        piece = face[:n, :n] if rng.integers(2) else face[:n, -n:]
    elif kind == 1:
        piece = face[-SIZE // 6 :, : SIZE // 3]
    elif kind == 2:
        side = rng.integers(SIZE // 9, SIZE // 4)  # an eye, a mouth, an ear, not two of them
        top, left = rng.integers(0, SIZE - side, 2)
        piece = face[top : top + side, left : left + side]
    else:
        tiles = face.reshape(4, n, 4, n, 3).swapaxes(1, 2).reshape(16, n, n, 3)[rng.permutation(16)]
        piece = tiles.reshape(4, 4, n, n, 3).swapaxes(1, 2).reshape(SIZE, SIZE, 3)
    return cv2.resize(np.ascontiguousarray(piece), (PLACE, PLACE), interpolation=cv2.INTER_LINEAR)


def make_places(count: int, seed: int, half: str, faces: np.ndarray | None = None) -> np.ndarray:
    """Places without a face: a third the renderer's, a third scikit-image's, a sixth textures, a sixth pieces.

    Parameters
    ----------
    half : "train" or "test", of scikit-image's pictures
    faces : uint8 N×128×128×3 to cut pieces from; without them there are more of scikit-image's pictures

    Returns
    -------
    uint8 count×256×256×3
    """
    pictures, places = scikit_image_pictures(half), np.empty((count, PLACE, PLACE, 3), np.uint8)
    for index, place in enumerate(places):
        rng = rng_for(seed, index)
        kind = index % 6
        if kind < 2:
            place[:] = rendered_place(rng)
        elif kind == 2:
            place[:] = texture(rng)
        elif kind < 5 or faces is None:
            place[:] = _part(pictures[(index // 6 * 2 + kind) % len(pictures)], rng, 0.2)
        else:
            place[:] = _piece_of_a_face(faces[rng.integers(len(faces))], rng)
    return places


# ---------------------------------------------------------------------------------------------------------------------
# One onto the other


def mask_of(kind: str, rng: np.random.Generator) -> np.ndarray:
    """How much of a cut is seen at each of its pixels: float32 128×128 in [0, 1]."""
    if kind == "hard":
        return np.ones((SIZE, SIZE), np.float32)
    axis = np.abs((np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE - 0.5)  # 0 in the middle, 0.5 at the edges
    border = rng.uniform(0.03, 0.2)
    fade = ((0.5 - axis) / border).clip(0, 1)
    square = fade[:, None] * fade
    if kind == "soft":
        return square
    wide, high, soft = rng.uniform(0.36, 0.52), rng.uniform(0.42, 0.56), rng.uniform(0.03, 0.3)
    distance = np.hypot(axis[:, None] / high, axis / wide)
    return np.minimum(((1 + soft - distance) / soft).clip(0, 1), (4 * square).clip(0, 1))


def placement(size: int, square: np.ndarray, wanted: np.ndarray, angle: float) -> tuple[np.ndarray, int]:
    """How a cut of ``size`` pixels comes to lie so that its ``square`` lies at ``wanted``.

    Parameters
    ----------
    square, wanted : left, top, side, in pixels of the cut and of the picture
    angle : degrees by which the cut is turned about the middle of its square, anticlockwise

    Returns
    -------
    the 2×3 matrix for ``cv2.warpAffine``, of the cut shrunk to the size that is the second answer: averages come first,
    since what a large step skips would alias
    """
    scale = wanted[2] / square[2]
    small = max(4, round(size * min(scale, 1.0)))
    shrunk = small / size
    here, there = (np.asarray(s[:2]) + s[2] / 2 for s in (square, wanted))
    matrix = cv2.getRotationMatrix2D((here * shrunk - 0.5).tolist(), angle, scale / shrunk)
    matrix[:, 2] += there - here * shrunk  # pixel centres lie at whole numbers, edges half a pixel before
    return matrix, small


def _shrunk(picture: np.ndarray, size: int) -> np.ndarray:
    return picture if size >= len(picture) else cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)


def lay_on(
    canvas: np.ndarray, cut: np.ndarray, mask: np.ndarray, square: np.ndarray, wanted: np.ndarray, angle: float = 0.0
) -> None:
    """Lay ``cut`` onto ``canvas`` (uint8 H×W×3, changed), as far as ``mask`` says at each of its pixels.

    Parameters
    ----------
    cut, mask : uint8 n×n×3, float32 n×n in [0, 1]
    square, wanted, angle : as :func:`placement` takes them
    """
    matrix, small = placement(len(cut), square, wanted, angle)
    edges = np.array([[-0.5, small - 0.5, -0.5, small - 0.5], [-0.5, -0.5, small - 0.5, small - 0.5]])
    corners = matrix[:, :2] @ edges + matrix[:, 2:]
    low = np.maximum(np.floor(corners.min(1)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(1)).astype(int) + 1, canvas.shape[1::-1])
    if (high <= low).any():
        return
    matrix[:, 2] -= low
    size = tuple((high - low).tolist())
    over = cv2.warpAffine(_shrunk(cut, small), matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(_shrunk(mask, small), matrix, size, flags=cv2.INTER_LINEAR)[..., None]
    part = canvas[low[1] : high[1], low[0] : high[0]]
    part[:] = part + mask * (over.astype(np.float32) - part) + 0.5


def _recoloured(picture: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Another light and colour."""
    gamma, light, colour = np.exp(strength * rng.uniform(-1, 1, 3) * np.log([1.6, 1.4, 1.6]))
    gains = light * np.exp(strength * 0.08 * rng.standard_normal(3))
    return recoloured(picture, gamma, gains, 0.0 if rng.uniform() < 0.1 else colour)


def taken(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a camera and a file do to it, sometimes: blur, noise, JPEG; uint8 H×W×3."""
    if rng.uniform() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 2.0))
    if rng.uniform() < 0.3:
        noise = rng.standard_normal(picture.shape, np.float32) * rng.uniform(1, 18)
        picture = (picture + noise).clip(0, 255).astype(np.uint8)
    if rng.uniform() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 96))]
        picture = cv2.imdecode(cv2.imencode(".jpg", picture, quality)[1], cv2.IMREAD_COLOR)
    return picture


# ---------------------------------------------------------------------------------------------------------------------
# Scenes


class Scenes:
    """Pictures with no, one or several faces, drawn anew for each number.

    Parameters
    ----------
    faces : kinds of faces; each is drawn as often as its share says
    shares : of the kinds
    places : what :func:`make_places` gives
    seed : with the number of a scene it decides all of it
    """

    def __init__(self, faces: Sequence[Faces], shares: Sequence[float], places: np.ndarray, seed: int):
        self.faces, self.places, self.seed = list(faces), places, seed
        self.shares = np.asarray(shares, float) / np.sum(shares)

    def scene(self, number: int, height: int, width: int, empty: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Scene ``number``: uint8 height×width×3, and the squares of its faces, float N×3 (``empty``: N = 0).

        A square may leave the picture a little.
        """
        rng = rng_for(self.seed, number)
        canvas, squares = self._place(rng, height, width), np.zeros((0, 3))
        count = 0 if empty else int(rng.choice([0, 1, 2, 3, 5], p=[0.15, 0.55, 0.12, 0.1, 0.08]))
        if count == 1 and rng.uniform() < 0.35:
            squares = self._portrait(canvas, rng)[None]
            count = 0
        for _ in range(rng.integers(0, 3)):  # what is no face
            wanted = self._somewhere(rng, height, width, squares)
            if wanted is not None:
                thing, kind = self.places[rng.integers(len(self.places))], str(rng.choice(PASTES))
                thing = cv2.resize(thing, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
                lay_on(canvas, thing, mask_of(kind, rng), (0, 0, SIZE), wanted, rng.uniform(-30, 30))
        for _ in range(count):
            wanted = self._somewhere(rng, height, width, squares, 1.0 if count == 1 else 0.6)
            if wanted is not None:
                self._lay_face(canvas, wanted, rng, alone=not len(squares))
                squares = np.concatenate([squares, wanted[None]])
        return taken(_recoloured(canvas, rng, 0.5), rng), squares

    def _place(self, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        place = self.places[rng.integers(len(self.places))]
        zoom = rng.uniform(1, 2)
        tall, wide = (max(8, int(n / max(height, width) * PLACE / zoom)) for n in (height, width))
        top, left = rng.integers(0, PLACE - tall + 1), rng.integers(0, PLACE - wide + 1)
        place = place[top : top + tall, left : left + wide, :][:, :: rng.choice([-1, 1])]
        return _recoloured(cv2.resize(np.ascontiguousarray(place), (width, height)), rng)

    def _somewhere(self, rng, height: int, width: int, taken: np.ndarray, most: float = 0.8) -> np.ndarray | None:
        """A square that overlaps none of ``taken`` by more than a little; None if ten tries find none."""
        short = min(height, width)
        for _ in range(10):
            side = short * float(np.exp(rng.uniform(np.log(SMALLEST_FACE), np.log(most))))
            over = 0.12 * side * (rng.uniform() < 0.3)  # some faces are cut by the picture's edge
            left, top = (rng.uniform(-over, max(n - side + over, 0)) for n in (width, height))
            square = np.array([left, top, side])
            if not len(taken) or iou(square, taken).max() < 0.03:
                return square
        return None

    def _face(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A cut, mirrored or not, in another light, and its square."""
        kind = self.faces[rng.choice(len(self.faces), p=self.shares)]
        index = rng.integers(len(kind.pictures))
        cut, square = kind.pictures[index], kind.squares[index].copy()
        if rng.integers(2):
            cut, square[0] = cut[:, ::-1], SIZE - square[0] - square[2]
        return _recoloured(np.ascontiguousarray(cut), rng), square

    def _lay_face(self, canvas: np.ndarray, wanted: np.ndarray, rng: np.random.Generator, alone: bool) -> None:
        cut, square = self._face(rng)
        kind = str(rng.choice(PASTES, p=[0.3, 0.2, 0.5]))
        if kind == "ellipse" and alone and rng.integers(2):  # they would cover others
            self._shoulders(canvas, wanted, rng)
        lay_on(canvas, cut, mask_of(kind, rng), square, wanted, rng.normal(0, 8))

    def _shoulders(self, canvas: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> None:
        left, top, side = wanted
        middle = round(left + side / 2), round(top + side * rng.uniform(1.25, 1.45))
        axes = round(side * rng.uniform(0.6, 1.1)), round(side * rng.uniform(0.4, 0.6))
        cv2.ellipse(canvas, middle, axes, rng.normal(0, 6), 0, 360, rng.uniform(0, 255, 3).tolist(), -1, cv2.LINE_AA)

    def _portrait(self, canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The whole picture is one cut that goes on beyond its edges, ever softer, or fades into the place."""
        height, width = canvas.shape[:2]
        side = min(height, width) * float(np.exp(rng.uniform(np.log(0.25), np.log(1.15))))
        room = [(max(n - side, 0.1 * n), n) for n in (width, height)]
        left, top = (rng.uniform(0, r) if r > 0.1 * n else rng.uniform(-r, r) / 2 for r, n in room)
        wanted, (cut, square) = np.array([left, top, side]), self._face(rng)
        angle, before = rng.normal(0, 6), canvas.copy()
        matrix, small = placement(SIZE, square, wanted, angle)
        canvas[:] = cv2.warpAffine(_shrunk(cut, small), matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        canvas[:] = cv2.GaussianBlur(canvas, (0, 0), side / rng.uniform(8, 40))
        if rng.integers(2):
            share = rng.uniform()
            cv2.addWeighted(canvas, share, before, 1 - share, 0, canvas)
        lay_on(canvas, cut, mask_of("soft", rng), square, wanted, angle)
        return wanted
