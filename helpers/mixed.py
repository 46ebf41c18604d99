"""Sets of pictures by the names that a command line gives them, and several of them as one, each with its share."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from helpers.data import ImageError, load_split
from helpers.engine.commands import positive_float
from helpers.portraits import open_portraits

TITLES = {"faces": "shipped faces", "portraits": "portraits", "grey-portraits": "grey portraits"}
NAMES = (
    "folder of photographs, or of train/, val/ and test/; 'faces' for the shipped ones, 'portraits' and (for training "
    "alone) 'grey-portraits' for what python -m helpers.portraits has fetched; may be repeated"
)
OPTIONS = {  # of a command line that trains on several sets
    "--data": {"action": "append", "help": NAMES},
    "--shares": {"type": positive_float, "nargs": "+", "help": "how much of an epoch each --data gets"},
}


def named_set(name: str, split: str, limit: int | None = None) -> Sequence[np.ndarray]:
    """A set by its name: a key of :data:`TITLES`, or a folder (see :func:`helpers.data.load_split`).

    Parameters
    ----------
    split : "train", "val" or "test"
    limit : use only the first so many images

    Returns
    -------
    uint8 N×H×W×3, or a sequence of uint8 H×W×3

    Raises
    ------
    ImageError
        if it is not there; for grey portraits of another split than "train"
    """
    if name not in ("portraits", "grey-portraits"):
        return load_split(None if name == "faces" else name, split, limit)
    if name == "grey-portraits" and split != "train":
        raise ImageError("grey portraits are for training alone; name other pictures too")
    photographs = open_portraits("grey" if name == "grey-portraits" else split)
    photographs.paths = photographs.paths[:limit]
    return photographs.load()


def named_sets(names: Sequence[str] | None, split: str, limit: int | None = None) -> list[Sequence[np.ndarray]]:
    """The sets of several names, opened; the shipped faces where none is named.

    Grey portraits are left out of other splits than "train", unless they stand alone.
    """
    return [named_set(name, split, limit) for name in names_of(names, split)]


def names_of(names: Sequence[str] | None, split: str) -> list[str]:
    """The names of the sets that :func:`named_sets` opens."""
    names = list(names or ["faces"])
    return names if split == "train" else [name for name in names if name != "grey-portraits"] or names


def described(names: Sequence[str] | None, sets: Sequence, shares: Sequence[float] | None = None) -> str:
    """What to call named sets: "910 portraits + 6600 shipped faces, shares 2 : 1".

    Folders are "photographs"; of several, each with the folder's own name.
    """
    names = list(names or ["faces"])
    several = sum(name not in TITLES for name in names) > 1
    titles = [TITLES.get(n, f"photographs ({Path(n).resolve().name})" if several else "photographs") for n in names]
    text = " + ".join(f"{len(images)} {title}" for images, title in zip(sets, titles, strict=True))
    return f"{text}, shares {' : '.join(f'{share:g}' for share in shares)}" if shares else text


def training_set(
    names: Sequence[str] | None, shares: Sequence[float] | None = None, limit: int | None = None
) -> tuple[Sequence[np.ndarray], str]:
    """The training images of several names as one set, and what they are (see :func:`described`).

    Raises
    ------
    ImageError
        if one is not there, or the shares do not fit
    """
    sets = named_sets(names, "train", limit)
    images = sets[0] if len(sets) == 1 and not shares else Mixed(sets, shares)
    return images, described(names, sets, shares)


def one_of(sets: Sequence) -> Sequence[np.ndarray]:
    """Several sets of images, one after the other, as one; a single one as it is."""
    return sets[0] if len(sets) == 1 else Mixed(sets)


def repeated(images: Sequence, source: str, times: int) -> tuple[Sequence[np.ndarray], str]:
    """``images`` so many times an epoch, each time with another blur, and ``source``, which then says so."""
    return one_of([images] * times), source + f", each {times} times an epoch" * (times > 1)


class Mixed(Sequence):
    """Several sequences of uint8 H×W×3 as one: ``mixed[3]`` is a picture, ``len(mixed)`` an epoch.

    A set that is small for its share comes round several times in an epoch; no picture is left out. Each time it
    counts as a picture of its own, so :class:`helpers.pairs.Pairs` degrades and augments it in another way.

    Parameters
    ----------
    sources : the sets, all with pictures of one size
    shares : how much of an epoch each gets, relative to the others; by default as many as it has pictures

    Raises
    ------
    ImageError
        for a set without pictures, pictures of different sizes, and shares that do not fit
    """

    def __init__(self, sources: Sequence, shares: Sequence[float] | None = None):
        self.sources = list(sources)
        sizes = [len(source) for source in self.sources]
        if not sizes or min(sizes) == 0:
            raise ImageError("there are no images" if not sizes else f"one of {len(sizes)} sets has no images")
        shapes = {source[0].shape for source in self.sources}
        if len(shapes) > 1:
            raise ImageError(f"the sets hold pictures of different sizes: {', '.join(map(str, sorted(shapes)))}")
        parts = np.array(sizes if shares is None else list(shares), float)
        if len(parts) != len(sizes) or not np.isfinite(parts).all() or parts.min() <= 0:
            raise ImageError(f"{len(sizes)} sets need {len(sizes)} shares above 0, not {list(parts)}")
        parts = parts / parts.sum()
        whole = max(size / part for size, part in zip(sizes, parts, strict=True))
        counts = [max(size, round(whole * part)) for size, part in zip(sizes, parts, strict=True)]
        self.starts = np.cumsum([0, *counts])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(f"there is no picture {index} among {len(self)}")
        which = int(np.searchsorted(self.starts, index, "right")) - 1
        source = self.sources[which]
        return source[int(index - self.starts[which]) % len(source)]

    def __repr__(self) -> str:
        parts = zip(np.diff(self.starts), self.sources, strict=True)
        return f"Mixed({' + '.join(f'{count} of {len(source)}' for count, source in parts)})"
