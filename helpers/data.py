"""Sets of images: the shipped faces, CelebA, one's own photographs, each split into train, val and test.

Everything here hands out 8-bit RGB, ``uint8`` arrays of shape H×W×3. Networks work on what :func:`normalise` makes of
them (thesis section 2.1, equations 31 and 32). How a file or a folder is read: :mod:`helpers.photos`.
"""

import hashlib
import importlib.util
import os
import re
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from helpers.engine.errors import ImageError
from helpers.engine.folders import cache_folder, data_folder
from helpers.engine.store import Stored, store
from helpers.photos import SIZE, Photographs, open_folder
from helpers.photos import read_image as read_image  # chapters take these two from here
from helpers.photos import square as square

SPLITS = ("train", "val", "test")
FOLDERS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"} | {s: s for s in SPLITS}
IN_MEMORY = 5000  # so many photographs (250 MB) are held in memory, more in a file on disk


# ---------------------------------------------------------------------------------------------------------------------
# Normalisation


def as_tensor(array: np.ndarray | torch.Tensor) -> torch.Tensor:
    """An array as a tensor that shares its memory where it can; a copy of a read-only, mirrored or cropped one."""
    if isinstance(array, np.ndarray):
        array = np.ascontiguousarray(array) if array.flags.writeable else array.copy()
    return torch.as_tensor(array)


def normalise(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """8-bit images to network input, equation 31: x / 255 · 2 - 1 = (x - 127.5) / 127.5.

    Parameters
    ----------
    images : uint8, H×W×3 or N×H×W×3, values 0..255

    Returns
    -------
    float32 tensor, 3×H×W or N×3×H×W, values in [-1, 1]
    """
    tensor = as_tensor(images)
    if tensor.dtype != torch.uint8:
        raise ImageError(f"normalise expects 8-bit images (uint8, 0..255), not {tensor.dtype}")
    if tensor.ndim not in (3, 4) or tensor.shape[-1] != 3:
        raise ImageError(f"normalise expects H×W×3 or N×H×W×3, not shape {tuple(tensor.shape)}")
    return (tensor.movedim(-1, -3).float() - 127.5) / 127.5


def normalise_by_mean(images: np.ndarray | torch.Tensor, mean: float = 0.5, std: float = 0.5) -> torch.Tensor:
    """The second form, equation 32: (x - μ) / σ, where x has first been divided by 255.

    The thesis writes the same letter x in equations 31 and 32; in 31 it runs over [0, 255], in 32 over [0, 1].
    """
    return (as_tensor(images).movedim(-1, -3).float() / 255 - mean) / std


def denormalise(tensor: torch.Tensor) -> np.ndarray:
    """The inverse of :func:`normalise`: [-1, 1] to 8-bit, rounded; values outside [-1, 1] are clipped.

    Parameters
    ----------
    tensor : float, 3×H×W or N×3×H×W

    Returns
    -------
    uint8 array, H×W×3 or N×H×W×3
    """
    if not torch.isfinite(tensor).all():
        raise ImageError("the image holds NaN or infinite values")
    x = tensor.detach().float().cpu() * 127.5 + 127.5
    return x.round().clamp(0, 255).to(torch.uint8).movedim(-3, -1).contiguous().numpy()


# ---------------------------------------------------------------------------------------------------------------------
# The shipped faces


def load_faces(split: str, limit: int | None = None) -> np.ndarray:
    """The rendered faces that ship with the course.

    Parameters
    ----------
    split : "train", "val" or "test"
    limit : read only the first so many

    Returns
    -------
    uint8 array, N×128×128×3
    """
    path = _split_file(split)
    if not zipfile.is_zipfile(path):
        raise ImageError(f"{path} is damaged; restore it from the course's repository")
    with zipfile.ZipFile(path) as archive:
        names = sorted(archive.namelist())[:limit]
        faces = np.empty((len(names), SIZE, SIZE, 3), np.uint8)
        for face, name in zip(faces, names, strict=True):
            decoded = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_COLOR)
            if decoded is None or decoded.shape != face.shape:
                raise ImageError(f"{path.name}/{name} is damaged; restore the file or render it again")
            face[:] = decoded[..., ::-1]
    return faces


def load_parameters(split: str) -> pd.DataFrame:
    """What the renderer was told to draw: one row for each shipped face of ``split``, indexed like :func:`load_faces`.

    Columns are described in ``data/README.md`` (age in years, yaw in degrees, smile in [0, 1], ...).
    """
    _split_file(split)
    table = pd.read_csv(data_folder() / "faces" / "parameters.csv", keep_default_na=False)
    return table[table["split"] == split].set_index("index").drop(columns="split").sort_index()


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ImageError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)}")


def _split_file(split: str) -> Path:
    _check_split(split)
    path = data_folder() / "faces" / f"{split}.zip"
    if not path.exists():
        raise ImageError(
            f"{path} is missing; restore it from the course's repository or render it again: python data/make_faces.py"
            ". Where helpers is installed without the repository, COURSE_DATA names the folder data/ of a copy"
        )
    return path


# ---------------------------------------------------------------------------------------------------------------------
# CelebA


def open_celeba(split: str, root: str | Path | None = None, size: int = SIZE, download: bool = False) -> Photographs:
    """CelebA: the aligned 178×218 photographs, centre crop 178, resized to ``size``.

    CelebA is for non-commercial research only; 1.4 GB are downloaded if ``download`` is set, nothing otherwise. A copy
    unpacked by hand is found as torchvision lays it out, as the authors' archive does and as Kaggle's does.

    Parameters
    ----------
    split : "train" (162,770 photographs), "val" (19,867) or "test" (19,962): CelebA's own partition
    root : the folder that holds, or will hold, CelebA or ``celeba/``; by default ``data/``

    Raises
    ------
    ImageError
        if it is not there, or photographs of the partition are missing
    """
    _check_split(split)
    root = data_folder() if root is None else Path(root)
    by_hand = (
        f"unpack img_align_celeba.zip into {root / 'celeba'} by hand and put list_eval_partition.txt beside it "
        "(both from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html)"
    )
    if download and None in _find_celeba(root):
        if importlib.util.find_spec("gdown") is None:
            raise ImageError(f"downloading CelebA needs the package gdown: pip install gdown. Or {by_hand}")
        from torchvision.datasets import CelebA

        try:
            CelebA(root, download=True)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise ImageError(f"the download of CelebA failed (Google Drive often refuses): {by_hand} ({why})") from None
    pictures, partition = _find_celeba(root)
    if pictures is None or partition is None:
        lacking = "list_eval_partition.txt" if pictures else "img_align_celeba/"
        raise ImageError(
            f"CelebA is not in {root / 'celeba'}: {lacking} is missing; "
            f"pass download=True to fetch it (1.4 GB), or {by_hand}"
        )
    rows = re.findall(r"^(\w+\.(?:jpg|png))[\s,]+([012])\s*$", partition.read_text(encoding="utf-8"), re.M)
    names = [name for name, number in rows if SPLITS[int(number)] == split]
    there = set(os.listdir(pictures))
    missing = [name for name in names if name not in there]
    if missing or not names:
        lost = f" ({missing[0]} is the first)" if missing else ""
        raise ImageError(f"{pictures}: {len(missing):,} of {len(names):,} photographs are missing{lost}; unpack again")
    return Photographs([pictures / name for name in names], size, crop=178)


def _find_celeba(root: Path) -> tuple[Path | None, Path | None]:
    """The folder of photographs and the list of the partition, each None where it is not found."""
    places = [place for base in (root, root / "celeba", root / "CelebA") for place in (base, base / "img_align_celeba")]
    folders = [place / inner / "img_align_celeba" for place in reversed(places) for inner in ("", "Img")]
    lists = [
        place / inner / f"list_eval_partition.{suffix}"
        for place in places for inner in ("", "Eval", "Anno") for suffix in ("txt", "csv")
    ]  # fmt: skip
    return next(filter(Path.is_dir, folders), None), next(filter(Path.is_file, lists), None)


# ---------------------------------------------------------------------------------------------------------------------
# Photographs of one's own


def load_split(source: str | Path | None, split: str, limit: int | None = None) -> np.ndarray | Stored:
    """Training or validation images: the shipped faces, or photographs below ``source``.

    Up to 5000 photographs are held in memory. More are decoded once into a file in :func:`cache_folder` (49 kB each,
    10 GB for 200,000) and mapped from there, so that the next start takes seconds and memory stays free.

    ``source`` may hold folders train/, val/ and test/ (or Training/, validation/ and the like). A single folder of
    photographs is split by position: of every twenty files, the 19th goes to val and the 20th to test.

    Raises
    ------
    ImageError
        if a photograph or the split cannot be had, or folders are named so that it is not clear what belongs to which
        split
    """
    if source is None:
        return load_faces(split, limit)
    _check_split(split)
    folder = Path(source).resolve()  # however it is written, one folder has one store
    named = _split_folders(folder)
    if split in named:
        photographs = open_folder(named[split])
    elif named:
        raise ImageError(f"{folder}: there is no folder {split}/ beside {', '.join(p.name for p in named.values())}")
    else:
        photographs = open_folder(folder)
        slots = {"train": range(18), "val": (18,), "test": (19,)}[split]
        photographs.paths = [p for i, p in enumerate(photographs.paths) if i % 20 in slots]
        if not photographs.paths:
            raise ImageError(f"{folder}: too few photographs to split; at least 20 are needed")
    photographs.paths = photographs.paths[:limit]
    if len(photographs) <= IN_MEMORY:
        return photographs.load()
    # One store for all splits and limits of a folder; its name says which folder to a reader too.
    name = f"{folder.name}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
    try:
        cache = cache_folder()
    except RuntimeError:
        raise ImageError("there is no home folder for decoded photographs: let COURSE_CACHE name a folder") from None
    return store(photographs, folder, cache / f"{name}-{photographs.size}")


def _split_folders(folder: Path) -> dict[str, Path]:
    """split -> its folder, whatever the case; ImageError where a name only resembles one, or two stand for one split.

    Photographs of such a folder would otherwise be split by position, and validation faces be trained on.
    """
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.glob("[!.]*") if p.is_dir()):
        name = path.name.lower()
        split = FOLDERS.get(name)
        if split is None:
            if set(re.split(r"[^a-z]+", name)) & FOLDERS.keys():
                raise ImageError(f"{path}: rename this folder to train, val or test, so that its split is clear")
        elif split in found:
            raise ImageError(f"{found[split]} and {path} both stand for {split}; keep one of them")
        else:
            found[split] = path
    return found
