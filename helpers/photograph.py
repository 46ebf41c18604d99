"""The file of a photograph, read so that it can be written again: upright, with its EXIF, profile and transparency.

:func:`helpers.photos.read_image` hands out pixels for a network. Here a photograph is changed and given back to its
owner, so what its file says besides is kept, and its pixels stay in the file's own colour space.
"""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from helpers.engine.errors import ImageError
from helpers.engine.folders import atomic_write
from helpers.photos import ORIENTATION, TURNS, read_image

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
JPEG_SEGMENT = 65533  # bytes: what one segment of a JPEG holds
# A TIFF's own tags say how its pixels are stored, which is another file's affair; these tell of the photograph.
TOLD = {0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298, 0x8769, 0x8825}
SMALLEST = 16  # pixels: the least side of a square
BORDER = 0.1  # of the square's side: how far its soft border reaches in
Box = tuple[int, int, int]  # left, top, side, in pixels of the upright photograph


# ---------------------------------------------------------------------------------------------------------------------
# The file


@dataclass
class Photograph:
    """A photograph as its file holds it, upright: pixels in the file's own colour space, and what else is kept.

    Attributes
    ----------
    pixels : uint8 H×W×3
    alpha : uint8 H×W, or None
    exif, icc : bytes; EXIF without the orientation, and the colour profile that ``pixels`` are in
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    exif: bytes = b""
    icc: bytes = b""

    def save(self, path: str | Path) -> None:
        """Write a PNG, JPEG or WebP, as the suffix says, whole or not at all; transparency is laid on white in a JPEG.

        Raises
        ------
        ImageError
            for another suffix, and where the file cannot be written
        """
        path, kind = Path(path), format_of(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, lambda part: self._write(part, kind))
        except (OSError, ValueError) as error:
            raise ImageError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})") from None

    def png(self) -> bytes:
        """What :meth:`save` writes into a PNG file."""
        file = io.BytesIO()
        self._write(file, "PNG")
        return file.getvalue()

    def _write(self, file, kind: str) -> None:
        pixels = self.pixels
        if self.alpha is not None:
            alpha = self.alpha[..., None]
            over_white = (255 - (255.0 - pixels) * alpha / 255).round().astype(np.uint8)
            pixels = over_white if kind == "JPEG" else np.concatenate([pixels, alpha], axis=2)
        options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"quality": 95} if kind == "WEBP" else {}
        options |= {"icc_profile": self.icc} if self.icc else {}
        if self.exif and (kind != "JPEG" or len(self.exif) <= JPEG_SEGMENT):
            options["exif"] = self.exif
        Image.fromarray(pixels).save(file, kind, **options)


def format_of(path: str | Path) -> str:
    """Pillow's name of the format that the suffix of ``path`` asks for; ImageError for one that is not written."""
    kind = FORMATS.get(Path(path).suffix.lower())
    if kind is None:
        raise ImageError(f"{path}: a photograph is written as {', '.join(FORMATS)}")
    return kind


def read_photograph(source: str | Path | bytes) -> Photograph:
    """Read a picture in its full size for :meth:`Photograph.save`: a path, or the bytes of a file.

    Raises
    ------
    ImageError
        as :func:`helpers.photos.read_image`
    """
    pixels = read_image(source, size=None)  # refuses what cannot be read; any mode and profile as sRGB
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with warnings.catch_warnings(action="ignore"), Image.open(file) as picture:  # Pillow's of metadata and large size
        exif, turn = _exif_of(picture)
        if picture.mode not in ("RGB", "RGBA") or "transparency" in picture.info:
            return Photograph(pixels, exif=exif)  # no longer in the colours that the file's profile describes
        own = np.array(picture.transpose(TURNS[turn]) if turn in TURNS else picture)
        alpha = np.ascontiguousarray(own[..., 3]) if picture.mode == "RGBA" else None
        return Photograph(np.ascontiguousarray(own[..., :3]), alpha, exif, picture.info.get("icc_profile") or b"")


def _exif_of(picture: Image.Image) -> tuple[bytes, int]:
    """What the EXIF holds besides the orientation, and the orientation, 1 to 8."""
    turn = 1
    try:
        exif = picture.getexif()
        turn = int(exif.get(ORIENTATION, 1))
        for tag in list(exif):
            if tag == ORIENTATION or (picture.format == "TIFF" and tag not in TOLD):
                del exif[tag]
        return exif.tobytes() if len(exif) else b"", turn
    except Exception:  # cameras and programs write EXIF that Pillow reads in part, and cannot write again
        return b"", turn


# ---------------------------------------------------------------------------------------------------------------------
# A square of it


def centred_box(photograph: np.ndarray) -> Box:
    """The largest centred square of a picture H×W×3."""
    height, width = photograph.shape[:2]
    side = min(height, width)
    return (width - side) // 2, (height - side) // 2, side


def checked_box(photograph: np.ndarray, box: Box | None, name: str = "the picture") -> Box:
    """``box``, or the largest centred square, if it lies in the photograph."""
    left, top, side = box = centred_box(photograph) if box is None else tuple(box)
    height, width = photograph.shape[:2]
    if side < SMALLEST:
        raise ImageError(f"{name}: a square of {side} pixels is too small to hold a face (at least {SMALLEST})")
    if left < 0 or top < 0 or left + side > width or top + side > height:
        raise ImageError(f"{name}: the square {left},{top},{side} leaves its {width}×{height} pixels")
    return box


def put_back(photograph: np.ndarray, restored: np.ndarray, box: Box, border: int | None = None) -> np.ndarray:
    """A copy of ``photograph`` with the square ``restored`` in it, faded in over ``border`` pixels by half a cosine.

    Outside the square no bit changes; further than ``border`` from its edges the result is ``restored``. An edge of
    the square that is an edge of the photograph too is not faded, since nothing lies beyond it.

    Parameters
    ----------
    photograph, restored : uint8 H×W×3 and side×side×3
    box : left, top and side of the square in the photograph
    border : in pixels, less than half the side; by default a tenth of the side

    Raises
    ------
    ImageError
        if the square leaves the photograph, or is not of the size that ``box`` says
    """
    left, top, side = checked_box(photograph, box)
    if restored.shape != (side, side, 3):
        raise ImageError(f"the restored square is {restored.shape}, and the box says {(side, side, 3)}")
    border = round(BORDER * side) if border is None else border
    if not 0 <= border < side / 2:
        raise ImageError(f"a border of {border} pixels does not fit a square of {side}")
    height, width = photograph.shape[:2]
    rows = _fade(side, border, top > 0, top + side < height)
    columns = _fade(side, border, left > 0, left + side < width)
    weight = (rows[:, None] * columns)[..., None]
    out = photograph.copy()
    below = out[top : top + side, left : left + side]
    below[:] = (below + weight * (restored.astype(np.float32) - below)).round().clip(0, 255)
    return out


def _fade(side: int, border: int, first: bool, last: bool) -> np.ndarray:
    """Weights along one axis, float32: rising to 1 over ``border`` pixels at each end that is asked for."""
    weight = np.ones(side, np.float32)
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(border) + 0.5) / max(border, 1))
    if first:
        weight[:border] = rise
    if last:
        weight[side - border :] = rise[::-1]
    return weight
