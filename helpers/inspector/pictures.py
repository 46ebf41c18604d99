"""The inspector's pictures: the sets there are, an uploaded photograph, and one picture degraded as a state says."""

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from skimage.data import astronaut

from helpers.data import load_faces
from helpers.degrade import Compose, DefocusBlur, Degradation, GaussianBlur, GaussianNoise, Jpeg, MotionBlur, preset
from helpers.edges import canny
from helpers.engine.errors import ImageError, printable
from helpers.engine.folders import data_folder
from helpers.finder import Proposal, propose
from helpers.inspector.state import EDGES, State
from helpers.pairs import Pairs
from helpers.photograph import Box, Photograph, read_photograph
from helpers.photos import SIZE, open_folder, read_image

KEPT = 256  # answers that a cache keeps: at most 30 MB of pictures
EXAMPLE_CROP = (135, 5, 180)  # the face in scikit-image's astronaut, a photograph by NASA, in the public domain
PHOTO_SIDE = 1024  # longer side of an uploaded photograph on the page; its views hold 128 pixels
BLURS = {
    "drawn": lambda state: preset("celebablur"),
    "gaussian": lambda state: GaussianBlur(state.strength),
    "motion": lambda state: MotionBlur(state.strength, state.angle),
    "defocus": lambda state: DefocusBlur(state.strength),
}
WORDS = {
    "sigma": "σ = {:.1f} px", "length": "motion {:.0f} px", "angle": "at {:.0f}°", "radius": "radius {:.1f} px",
    "noise": "noise {:.3f}", "quality": "JPEG {:.0f}",
}  # fmt: skip


class Cache(OrderedDict):
    """Answers by key, at most ``size``; the one that was used longest ago is dropped first."""

    def __init__(self, size: int = KEPT):
        super().__init__()
        self.size = size

    def remember(self, key: tuple, compute: Callable[[], object]):
        """The answer of ``key``, computed if it is not there."""
        if key not in self:
            self[key] = compute()
            while len(self) > self.size:
                self.popitem(last=False)
        self.move_to_end(key)
        return self[key]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as a state degrades it: all that methods, measures and views need to know of it.

    Attributes
    ----------
    key : tells it from every other degraded picture
    sharp, blurred : before and after it was degraded, uint8 128×128×3
    edges : Canny's edges of ``blurred``, uint8 128×128 of 0 and 1
    thresholds : Canny's, low and high
    params : what was drawn for the degradation (``sigma``, ``noise``, ...); {} where there is none
    has_truth : whether ``sharp`` is a ground truth; that of an uploaded photograph is none
    """

    key: tuple
    sharp: np.ndarray
    blurred: np.ndarray
    edges: np.ndarray
    thresholds: tuple[int, int]
    params: dict[str, float]
    has_truth: bool

    @property
    def words(self) -> str:
        """The degradation for a reader: "σ = 6.0 px, JPEG 30"."""
        return ", ".join(text.format(self.params[k]) for k, text in WORDS.items() if k in self.params) or "not degraded"

    def edge_map(self, of: str = "blurred") -> np.ndarray:
        """The edges of the blurred picture, those of the sharp one, or none ("blank"); see :data:`EDGES`."""
        if of not in EDGES:
            raise ValueError(f"edges are {', '.join(EDGES)}, not {of!r}")
        if of == "sharp":
            return canny(self.sharp, *self.thresholds)
        return self.edges if of == "blurred" else np.zeros_like(self.edges)


def degradation_of(state: State) -> Degradation:
    """Blur, noise and JPEG as the controls stand."""
    parts = [BLURS[state.kind](state)] if state.kind in BLURS else []
    parts += [GaussianNoise(state.noise / 255)] * (state.noise > 0) + [Jpeg(state.quality)] * (state.quality < 100)
    return parts[0] if len(parts) == 1 else Compose(*parts)


class PictureSets:
    """The sets that the inspector shows.

    Parameters
    ----------
    folder : own photographs; by default what the environment variable ``COURSE_PHOTOS`` names. A folder that cannot be
        used is no error: :meth:`why_not` says what is wrong with it.

    Attributes
    ----------
    photo : an uploaded photograph as the page shows it, uint8 H×W×3, or None
    file : the bytes of its file; empty for the example, which has none
    proposal : the squares of its faces, or the centred one
    upload_count, folder_count : how many were uploaded and opened; they tell one from the next in the caches
    loaded : set -> its pictures, or why they cannot be had
    folder, left_out : where the own photographs lie; which pictures there are not read, "" for none
    """

    def __init__(self, folder: str | Path | None = None):
        self.photo: np.ndarray | None = None
        self.file = b""
        self.proposal = Proposal([], "", False)
        self.upload_count = self.folder_count = 0
        self.loaded: dict[str, Sequence[np.ndarray] | ImageError] = {"folder": ImageError("no folder is named")}
        self.cache = Cache()
        self.folder = self.left_out = ""
        named = os.environ.get("COURSE_PHOTOS")
        if folder or named:
            try:
                self.open_folder(folder or named)
            except ImageError as error:
                if not folder:  # visitors of a served page need not read where the folder lies
                    self.loaded["folder"] = ImageError(str(error).replace(printable(named.strip()), "COURSE_PHOTOS"))

    def open_folder(self, folder: str | Path) -> None:
        """Use the photographs below ``folder`` as the set "folder"; ImageError if there are none."""
        self.folder_count += 1  # whatever was cached of an earlier folder is another picture
        self.folder, self.left_out = str(folder).strip(), ""
        try:
            self.loaded["folder"] = photographs = open_folder(self.folder)
            self.left_out = self.short(photographs.left_out)
        except ImageError as error:
            self.loaded["folder"] = error
            raise

    def images(self, source: str) -> Sequence[np.ndarray]:
        """A set, uint8 128×128×3 each (a photograph as it was uploaded); ImageError says why it cannot be had."""
        if source == "photo":
            if self.photo is None:
                raise ImageError("no photograph is uploaded")
            return [self.photo]
        if source not in self.loaded:
            try:
                self.loaded[source] = load_faces(source)
            except ImageError as error:
                self.loaded[source] = error
        if isinstance(self.loaded[source], ImageError):
            raise self.loaded[source]
        return self.loaded[source]

    def why_not(self, source: str) -> str:
        """Why a set cannot be chosen; "" if it can."""
        try:
            self.images(source)
        except ImageError as error:
            return self.short(error)
        return ""

    def short(self, error: Exception | str) -> str:
        """The message without the folders in which the course and the own photographs lie."""
        text = str(error)
        for folder in filter(None, (str(data_folder().parent), self.folder)):
            text = text.replace(printable(folder).rstrip(os.sep) + os.sep, "")
        return text

    def upload(self, content: bytes) -> None:
        """Take an uploaded file as the set "photo", and look for faces; ImageError says what is wrong with it, the
        earlier one then stays.

        Kept in memory alone: the file, and its picture, shrunk to :data:`PHOTO_SIDE` pixels on the longer side (see
        ``longest`` of :func:`helpers.photos.read_image`).
        """
        starts = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")
        if not content.startswith(starts) or (content[:4] == b"RIFF" and content[8:12] != b"WEBP"):
            raise ImageError("This file is no PNG, JPEG or WebP picture.")
        image = read_image(bytes(content), size=None, longest=PHOTO_SIDE)
        if min(image.shape[:2]) < 16:  # as in the file: reading shrinks no side below 128 pixels
            raise ImageError(f"{image.shape[1]}×{image.shape[0]} pixels are too few to hold a face (at least 16×16)")
        self._take(image, propose(image), bytes(content))

    def example(self) -> Box:
        """Take scikit-image's astronaut as the set "photo"; the square that holds her face."""
        self._take(astronaut(), Proposal([EXAMPLE_CROP], "", True))
        return EXAMPLE_CROP

    def _take(self, image: np.ndarray, proposal: Proposal, file: bytes = b"") -> None:
        self.photo, self.proposal, self.file = image, proposal, file
        self.upload_count += 1

    def original(self, crop: tuple[int, ...]) -> tuple[Photograph, Box]:
        """The photograph in its own size, with what its file holds besides, and ``crop`` in its pixels."""
        (height, width), (left, top, side) = self.photo.shape[:2], self.crop_box(crop)
        photograph = read_photograph(self.file) if self.file else Photograph(self.photo)
        whole = photograph.pixels.shape
        scale = max(whole[0] / height, whole[1] / width)  # the two differ by the rounding of a side
        side = min(round(scale * side), whole[0], whole[1])
        left, top = (min(round(scale * at), most - side) for at, most in ((left, whole[1]), (top, whole[0])))
        return photograph, (left, top, side)

    def next_face(self, crop: tuple[int, ...]) -> Box:
        """The square of the face after the one that ``crop`` is the square of; the first after any other square."""
        boxes = self.proposal.boxes
        return boxes[(boxes.index(crop) + 1) % len(boxes)] if crop in boxes else boxes[0]

    def about_faces(self, crop: tuple[int, ...]) -> str:
        """What to say of the faces that were found, and which of them ``crop`` is; "" where there is nothing to say."""
        boxes, told, found = self.proposal
        many = f"{len(boxes)} faces were found" if len(boxes) > 1 else ""
        if not told or crop not in boxes:  # the square was moved by hand
            return many and f"{many}."
        if many:
            return f"{many}; this is number {boxes.index(crop) + 1}."
        return f"The square: {self.short(told)}." + ("" if found else " Move it onto a face, from hair to chin.")

    def crop_box(self, crop: tuple[int, ...]) -> tuple[int, int, int]:
        """``crop`` (left, top, side) moved into the uploaded photograph; the largest centred square for ()."""
        height, width = self.photo.shape[:2]
        if len(crop) != 3:
            side = min(height, width)
            return (width - side) // 2, (height - side) // 2, side
        side = int(np.clip(crop[2], 16, min(height, width)))
        return int(np.clip(crop[0], 0, width - side)), int(np.clip(crop[1], 0, height - side)), side

    def picture(self, state: State) -> Picture:
        """The picture that ``state`` asks for, from memory where it was asked for before.

        Raises
        ------
        ImageError
            if the set cannot be had or the picture's file cannot be read
        """
        images = self.images(state.source)
        index = min(state.index, len(images) - 1)
        place: tuple = (state.source, index)
        if state.source == "photo":
            place = ("photo", self.upload_count, self.crop_box(state.crop))
        elif state.source == "folder":
            place = ("folder", self.folder_count, index)
        blur = (state.kind,) if state.kind in ("drawn", "none") else (state.kind, state.strength, state.angle)
        key, thresholds = (place, (*blur, state.noise, state.quality)), (state.low, state.high)

        def compute() -> Picture:
            sharp = [self._cut(place[-1])] if state.source == "photo" else images
            # With the seed and the index of the test set, so that "drawn" is the blur it is measured with.
            batch = Pairs(sharp, degradation_of(state), thresholds=thresholds).batch([index])
            params = {name.split(".")[-1]: value for name, value in batch.params[0].items()}  # "0.sigma" of a chain
            return Picture(key, batch.sharp[0], batch.blurred[0], batch.edges[0], thresholds, params, state.has_truth)

        return self.cache.remember((key, thresholds), compute)

    def _cut(self, box: tuple[int, int, int]) -> np.ndarray:
        left, top, side = box
        cut = self.photo[top : top + side, left : left + side]
        return cv2.resize(cut, (SIZE, SIZE), interpolation=cv2.INTER_AREA if side > SIZE else cv2.INTER_CUBIC)
