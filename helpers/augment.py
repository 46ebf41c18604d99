"""Variety for training: the same faces at other sizes, softer, in other light and colour, without colour.

A model that has only seen faces of one size, taken by good cameras, is a laboratory model: photographs that people
bring differ in all of these. What is changed here is the *sharp* picture, the truth, before it is degraded::

    pairs = Pairs(faces, "blind", flip=True, augment=Augment())

Everything random is drawn from the generator that is handed in, so a picture is changed in the same way whenever the
same epoch is run.
"""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Augment:
    """Random zoom about the face, softness, colour; called on one image, uint8 H×W×3, and gives another of its shape.

    Mirroring is :class:`helpers.pairs.Pairs`'s own, since it may be wanted alone.

    Parameters
    ----------
    zoom : lowest, most frequent and highest size of the face against the usual one; a smaller face is framed by the
        picture's own mirror image
    shift : how far the middle of the cut may lie from the picture's, as a part of the side
    soft : share of the pictures that are made softer, by a Gaussian of σ up to ``softest`` pixels or by fewer pixels
    gain, gamma, saturation : largest change of each, as a factor: 1.25 is from 0.8 to 1.25
    tint : standard deviation of the logarithm of each channel's own gain
    grey : share of the pictures that lose their colour
    """

    zoom: tuple[float, float, float] = (0.6, 1.4, 1.8)
    shift: float = 0.05
    soft: float = 0.25
    softest: float = 0.9
    gain: float = 1.25
    gamma: float = 1.3
    saturation: float = 1.4
    tint: float = 0.06
    grey: float = 0.05

    def __post_init__(self):
        if not 0.25 <= self.zoom[0] < self.zoom[2] <= 8 or not self.zoom[0] <= self.zoom[1] <= self.zoom[2]:
            raise ValueError(f"zoom must be three rising numbers between 0.25 and 8, not {self.zoom}")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Another version of ``image`` (uint8 H×W×3), drawn from ``rng``."""
        image = zoomed(image, float(np.exp(rng.triangular(*np.log(self.zoom)))), *rng.uniform(-1, 1, 2) * self.shift)
        if rng.uniform() < self.soft:
            amount, fewer = rng.uniform(0.3, self.softest), rng.integers(2)
            image = fewer_pixels(image, 1 + amount) if fewer else cv2.GaussianBlur(image, (0, 0), amount)
        exponent, light, colour = (_factor(rng, most) for most in (self.gamma, self.gain, self.saturation))
        gains = light * np.exp(self.tint * rng.standard_normal(3))
        return recoloured(image, exponent, gains, 0.0 if rng.uniform() < self.grey else colour)


def _factor(rng: np.random.Generator, most: float) -> float:
    """A factor between 1 / ``most`` and ``most``, as often below 1 as above."""
    return float(np.exp(rng.uniform(-1, 1) * np.log(most)))


def zoomed(image: np.ndarray, zoom: float, right: float = 0.0, down: float = 0.0) -> np.ndarray:
    """The picture's middle made ``zoom`` times larger, in the same frame; around a smaller one, its mirror image.

    Parameters
    ----------
    image : uint8 H×W×3
    zoom : above 0; the frame shows 1 / zoom of the picture each way
    right, down : where the middle of the frame lies in the picture, as a part of its sides, away from its middle

    Returns
    -------
    uint8 H×W×3
    """
    height, width = image.shape[:2]
    if zoom >= 1:
        tall, wide = round(height / zoom), round(width / zoom)
        top = min(max(round((height - tall) / 2 + down * height), 0), height - tall)
        left = min(max(round((width - wide) / 2 + right * width), 0), width - wide)
        cut = np.ascontiguousarray(image[top : top + tall, left : left + wide])
        return cv2.resize(cut, (width, height), interpolation=cv2.INTER_CUBIC)
    tall, wide = round(height * zoom), round(width * zoom)
    small = cv2.resize(image, (wide, tall), interpolation=cv2.INTER_AREA)
    top = min(max(round((height - tall) / 2 - down * tall), 0), height - tall)
    left = min(max(round((width - wide) / 2 - right * wide), 0), width - wide)
    rims = (top, height - tall - top, left, width - wide - left)
    return cv2.copyMakeBorder(small, *rims, cv2.BORDER_REFLECT_101)


def fewer_pixels(image: np.ndarray, scale: float) -> np.ndarray:
    """``scale`` times smaller and back to the size: what a picture that was enlarged once looks like."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (round(width / scale), round(height / scale)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def recoloured(image: np.ndarray, gamma: float, gains: np.ndarray, saturation: float) -> np.ndarray:
    """(value / 255)^``gamma`` · gain of the channel, then colours ``saturation`` times as strong; uint8 H×W×3.

    ``gains`` are three numbers, for R, G and B; a ``saturation`` of 0 gives a grey picture.
    """
    curve = 255 * (np.arange(256) / 255)[:, None] ** gamma * np.asarray(gains)
    table = np.clip(curve + 0.5, 0, 255).astype(np.uint8)[None]
    image = cv2.LUT(np.ascontiguousarray(image), table)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, saturation, grey, 1 - saturation, 0)
