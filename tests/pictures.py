"""Picture files that several tests write."""

import io

import numpy as np
from PIL import Image


def encoded(picture: Image.Image, suffix: str, **options) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, format=suffix, **options)
    return buffer.getvalue()


def quarters(width: int = 40, height: int = 40) -> np.ndarray:
    """Red, green, blue and yellow quarters: shows every turn and mirror."""
    image = np.zeros((height, width, 3), np.uint8)
    h, w = height // 2, width // 2
    image[:h, :w], image[:h, w:], image[h:, :w], image[h:, w:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
    return image


def save(path, image=None):
    """Write an image, or the quarters, to a path whose folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(quarters() if image is None else image).save(path)
    return path
