"""Images in: the shipped faces, CelebA, any folder of photographs, two folders of matching pairs.

Everything here hands out 8-bit RGB, ``uint8`` arrays of shape H×W×3. Networks work on what :func:`normalise` makes of
them (thesis section 2.1, equations 31 and 32).
"""

import errno
import hashlib
import io
import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from tqdm.auto import tqdm

SIZE = 128
SPLITS = ("train", "val", "test")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
IN_MEMORY = 5000  # so many photographs (250 MB) are held in memory, more in a file on disk
AT_ONCE = 512  # photographs that are decoded between two writes to that file
MAX_PIXELS = 120_000_000  # 120 megapixels: more than any camera makes, less than what fills a laptop's memory


class ImageError(ValueError):
    """A picture or a set of pictures that cannot be used; the message says which and why."""


def data_folder() -> Path:
    """The folder ``data/`` of the course, or what the environment variable ``COURSE_DATA`` names."""
    return Path(os.environ.get("COURSE_DATA", Path(__file__).resolve().parent.parent / "data"))


# ---------------------------------------------------------------------------------------------------------------------
# Normalisation


def normalise(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """8-bit images to network input, equation 31: x / 255 · 2 - 1 = (x - 127.5) / 127.5.

    Parameters
    ----------
    images : uint8, H×W×3 or N×H×W×3, values 0..255

    Returns
    -------
    float32 tensor, 3×H×W or N×3×H×W, values in [-1, 1]
    """
    # A mirrored or cropped view has strides that PyTorch cannot take over.
    tensor = torch.as_tensor(np.ascontiguousarray(images) if isinstance(images, np.ndarray) else images)
    if tensor.dtype != torch.uint8:
        raise ImageError(f"normalise expects 8-bit images (uint8, 0..255), not {tensor.dtype}")
    if tensor.ndim not in (3, 4) or tensor.shape[-1] != 3:
        raise ImageError(f"normalise expects H×W×3 or N×H×W×3, not shape {tuple(tensor.shape)}")
    return (tensor.movedim(-1, -3).float() - 127.5) / 127.5


def normalise_by_mean(images: np.ndarray | torch.Tensor, mean: float = 0.5, std: float = 0.5) -> torch.Tensor:
    """The second form, equation 32: (x - μ) / σ, where x has first been divided by 255.

    The thesis writes the same letter x in equations 31 and 32; in 31 it runs over [0, 255], in 32 over [0, 1].
    """
    return (torch.as_tensor(images).movedim(-1, -3).float() / 255 - mean) / std


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
# One picture


def read_image(
    source: str | Path | bytes, size: int | None = SIZE, crop: int | None = None, longest: int | None = None
) -> np.ndarray:
    """Read one picture as 8-bit RGB.

    Grey becomes RGB, transparency is laid on white, 16 bits become 8, CMYK becomes RGB, the EXIF rotation is applied.

    Parameters
    ----------
    source : path, or the bytes of a file
    size : side of the square to return; the largest centred square is cut out and resized. None keeps the picture.
    crop : side in pixels of the centred square to cut out before resizing (CelebA: 178). None: the largest one.
    longest : where no square is cut (``size=None``), a larger picture is shrunk to so many pixels on its longer side

    Returns
    -------
    uint8 array, size×size×3, or H×W×3 where ``size`` is None

    Raises
    ------
    ImageError
        if the file is missing, no picture, broken, animated, or larger than 120 megapixels
    """
    name = "the uploaded file" if isinstance(source, bytes) else str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", Image.DecompressionBombWarning
            )  # our own limit follows, with a clear message
            picture = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
            if picture.width * picture.height > MAX_PIXELS:
                raise ImageError(
                    f"{name}: {picture.width}×{picture.height} pixels is more than this course reads "
                    f"({MAX_PIXELS / 1e6:.0f} megapixels); make a smaller copy first"
                )
            if getattr(picture, "is_animated", False) and picture.format in ("GIF", "PNG", "WEBP"):
                raise ImageError(f"{name}: is an animation; save one frame of it as a picture first")
            enough = 4 * size if size is not None and crop is None else longest if size is None else None
            if enough and picture.format == "JPEG":
                picture.draft("RGB", (enough, enough))  # decodes a huge JPEG at a fraction of its size
            picture = ImageOps.exif_transpose(picture)
            image = _to_rgb8(picture)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no such file") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: the picture is too large to be read safely; make a smaller copy first") from None
    except Exception as error:
        raise ImageError(f"{name}: cannot be read as a picture ({type(error).__name__}: {error})") from None
    if size is None:
        side = max(image.shape[:2])
        shrink = (longest or side) / side
        if shrink >= 1:
            return image
        height, width = (max(1, round(n * shrink)) for n in image.shape[:2])
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return square(image, size, crop, name)


def _to_rgb8(picture: Image.Image) -> np.ndarray:
    """Any Pillow mode to a uint8 array H×W×3."""
    if picture.mode.startswith("I") or picture.mode == "F":  # 16 or 32 bits a pixel: one channel
        values = np.asarray(picture).astype(np.float64)
        if not np.isfinite(values).all():
            raise ImageError("the picture holds NaN or infinite values")
        unit = picture.mode == "F" and values.max() <= 1  # floating-point pictures run over [0, 1]
        full = 65535.0 if values.max() > 255 else 1.0 if unit else 255.0
        grey = np.clip(values / full * 255 + 0.5, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


def square(image: np.ndarray, size: int = SIZE, crop: int | None = None, name: str = "the picture") -> np.ndarray:
    """Cut the centred square (of side ``crop``, or the largest) out of H×W×3 and resize it to size×size."""
    height, width = image.shape[:2]
    side = min(height, width) if crop is None else crop
    if side > min(height, width):
        raise ImageError(f"{name}: {width}×{height} pixels is too small for a centre crop of {side}")
    if side < 16:
        raise ImageError(f"{name}: {width}×{height} pixels is too small to hold a face (at least 16×16)")
    top, left = (height - side) // 2, (width - side) // 2
    cut = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(cut)
    return cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)


# ---------------------------------------------------------------------------------------------------------------------
# (a) The shipped faces


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


def _split_file(split: str) -> Path:
    if split not in SPLITS:
        raise ImageError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)}")
    path = data_folder() / "faces" / f"{split}.zip"
    if not path.exists():
        raise ImageError(
            f"{path} is missing; restore it from the course's repository or render it again: python data/make_faces.py"
        )
    return path


# ---------------------------------------------------------------------------------------------------------------------
# (b), (c) Photographs on disk


class Photographs(Sequence):
    """Pictures on disk as 8-bit squares, read when asked for: ``photographs[3]`` is a uint8 array size×size×3."""

    def __init__(self, paths: Sequence[Path], size: int = SIZE, crop: int | None = None):
        self.paths, self.size, self.crop = list(paths), size, crop

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return read_image(self.paths[index], self.size, self.crop)

    def load(self, progress: bool = True) -> np.ndarray:
        """All of them in one uint8 array N×size×size×3 (49 kB each at 128 px).

        Every file is tried before anything is said, so one error lists all files that cannot be read.
        """
        images, broken = np.empty((len(self), self.size, self.size, 3), np.uint8), []
        for i in tqdm(
            range(len(self)), desc="reading photographs", unit="file", disable=not progress or len(self) < 500
        ):
            try:
                images[i] = self[i]
            except ImageError as error:
                broken.append(str(error))
        if broken:
            raise _unusable(broken, len(self))
        return images

    def __repr__(self) -> str:
        return f"Photographs({len(self)} files, {self.size}×{self.size})"


def _unusable(broken: list[str], of: int) -> ImageError:
    """One error for all files that cannot be used."""
    more = f"\n... and {len(broken) - 20} more" if len(broken) > 20 else ""
    return ImageError(
        f"{len(broken)} of {of} files cannot be used; remove or mend them:\n" + "\n".join(broken[:20]) + more
    )


class Stored(Sequence):
    """Photographs that were decoded once, into one file: ``stored[3]`` is uint8 size×size×3, as of an array.

    The file is memory-mapped: the system reads what is asked for and forgets it when memory is short.
    """

    def __init__(self, pixels: np.ndarray, rows: np.ndarray):
        self.pixels, self.rows = pixels, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
        return self.pixels[self.rows[index]]

    def __repr__(self) -> str:
        return f"Stored({len(self)} photographs, {self.pixels.shape[1]}×{self.pixels.shape[2]})"


def cache_folder() -> Path:
    """Where decoded photographs are stored: ``COURSE_CACHE``, by default a folder of the user's own cache."""
    own = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("COURSE_CACHE", own / "face-restoration-course"))


def store(photographs: Photographs, root: str | Path, folder: str | Path, progress: bool = True) -> Stored:
    """All of ``photographs`` (below ``root``) from the store in ``folder``; those that it lacks are decoded and added.

    ``pixels.bin`` holds one picture after the other, ``index.jsonl`` a line for each: the file's path below ``root``,
    size, time of change. Both only grow, pixels first. So a store whose making was killed is gone on with, and a file
    that was added or has changed is read when it is next asked for.

    Raises
    ------
    ImageError
        that lists every file that cannot be read (the others are stored), or says how many bytes the disk lacks
    """
    folder, shape = Path(folder), (photographs.size, photographs.size, 3)
    row, needed = int(np.prod(shape)), 0
    files = [_stamp(path, str(root)) for path in photographs.paths]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "pixels.bin").open("ab") as pixels, (folder / "index.jsonl").open("ab") as index, _alone(index):
            lines = (folder / "index.jsonl").read_bytes().split(b"\n")[:-1]  # a kill may have cut the last one
            lines = lines[: pixels.seek(0, os.SEEK_END) // row]
            pixels.truncate(len(lines) * row)
            index.truncate(sum(map(len, lines)) + len(lines))
            known = {tuple(json.loads(line)): number for number, line in enumerate(lines)}
            missing = [i for i, file in enumerate(files) if file not in known]
            changed = {file[0] for file in known} & {files[i][0] for i in missing}
            if changed:
                print(f"{len(changed)} photographs have changed since they were stored and are read again")
            needed = len(missing) * row
            if needed > shutil.disk_usage(folder).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            broken = _append(photographs, [(i, files[i]) for i in missing], known, pixels, index, progress)
        if broken:
            raise _unusable(broken, len(photographs))
        pixels = np.memmap(folder / "pixels.bin", np.uint8, "r", shape=(len(known), *shape))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ImageError(f"{folder}: the decoded photographs cannot be stored there ({error})") from None
        raise ImageError(
            f"{folder}: the disk is too full for the decoded photographs; {needed:,} bytes are needed "
            "(COURSE_CACHE may name a folder on another disk). What is stored there already is whole."
        ) from None
    return Stored(np.asarray(pixels), np.array([known[file] for file in files]))


def _append(photographs: Photographs, missing: list, known: dict, pixels, index, progress: bool) -> list[str]:
    """Decode the files of ``missing`` in threads and add them to the store; what cannot be read."""

    def read(item):
        try:
            return photographs[item[0]]
        except ImageError as error:
            return str(error)

    broken = []
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(missing), desc="storing photographs", unit="file", disable=not progress or not missing) as bar,
    ):
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            images = list(pool.map(read, some))
            broken += [image for image in images if isinstance(image, str)]
            good = [(file, image) for (_, file), image in zip(some, images, strict=True) if not isinstance(image, str)]
            for file, image in good:
                pixels.write(image.data)
                known[file] = len(known)
            pixels.flush()
            os.fsync(pixels.fileno())  # pixels are on the disk before the index says so
            index.write("".join(json.dumps(file) + "\n" for file, _ in good).encode())
            index.flush()
            bar.update(len(some))
    return broken


def _stamp(path: str | Path, root: str) -> tuple[str, int, int]:
    """What tells whether a file is the one that was read: its path, size in bytes and time of change in nanoseconds."""
    try:
        now = os.stat(path)
    except OSError as error:
        raise ImageError(f"{path}: the file was there a moment ago and is gone ({error.strerror})") from None
    return str(path).removeprefix(root), now.st_size, now.st_mtime_ns


@contextmanager
def _alone(file):
    """Let one process at a time in, where the system can (not on Windows); the others find the work done."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def list_images(folder: str | Path) -> list[Path]:
    """Every picture file below ``folder``, sorted by path; hidden files and other kinds of file are not pictures."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder}: there is no such folder")
    paths = sorted(_pictures_below(str(folder)), key=lambda path: path.split(os.sep))
    if not paths:
        raise ImageError(f"{folder}: holds no picture ({', '.join(SUFFIXES)})")
    return [Path(path) for path in paths]


def _pictures_below(folder: str) -> Iterator[str]:
    """Paths in the order of the disk. No Path is made and nothing is looked up for each file: they may be 200,000."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _pictures_below(entry.path)
            elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                yield entry.path


def open_folder(folder: str | Path, size: int = SIZE, crop: int | None = None) -> Photographs:
    """Any folder of photographs (subfolders included)."""
    return Photographs(list_images(folder), size, crop)


def open_celeba(split: str, root: str | Path | None = None, size: int = SIZE, download: bool = False) -> Photographs:
    """CelebA through torchvision: the aligned 178×218 photographs, centre crop 178, resized to ``size``.

    CelebA is for non-commercial research only; 1.4 GB are downloaded if ``download`` is set, nothing otherwise.

    Parameters
    ----------
    split : "train" (162,770 photographs), "val" (19,867) or "test" (19,962): CelebA's own partition
    root : the folder that holds, or will hold, ``celeba/``; by default ``data/``
    """
    from torchvision.datasets import CelebA

    if split not in SPLITS:
        raise ImageError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)}")
    root = data_folder() if root is None else Path(root)
    try:
        celeba = CelebA(root, split="valid" if split == "val" else split, download=download)
    except Exception as error:
        hint = (
            "the download failed (Google Drive often refuses); fetch img_align_celeba.zip and list_*.txt by hand"
            if download
            else "pass download=True to fetch it (1.4 GB)"
        )
        raise ImageError(f"CelebA is not in {root / 'celeba'}: {hint} ({type(error).__name__}: {error})") from None
    return Photographs([root / "celeba" / "img_align_celeba" / name for name in celeba.filename], size, crop=178)


def load_split(source: str | Path | None, split: str, limit: int | None = None) -> np.ndarray | Stored:
    """Training or validation images: the shipped faces, or photographs below ``source``.

    Up to 5000 photographs are held in memory. More are decoded once into a file in :func:`cache_folder` (49 kB each,
    10 GB for 200,000) and mapped from there, so that the next start takes seconds and memory stays free.

    ``source`` may hold folders train/, val/ and test/. A single folder of photographs is split by position: of every
    twenty files, the 19th goes to val and the 20th to test.
    """
    if source is None:
        return load_faces(split, limit)
    folder = Path(source)
    if (folder / split).is_dir():
        photographs = open_folder(folder / split)
    elif any((folder / s).is_dir() for s in SPLITS):
        raise ImageError(f"{folder}: there is no folder {split}/ beside the others")
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
    name = f"{folder.resolve().name}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"
    return store(photographs, folder, cache_folder() / f"{name}-{photographs.size}")


# ---------------------------------------------------------------------------------------------------------------------
# (d) Matching pairs


def open_pairs(blurred: str | Path, sharp: str | Path, size: int = SIZE) -> tuple[Photographs, Photographs]:
    """Two folders of matching pictures: the same names below both (suffixes may differ).

    Returns
    -------
    two :class:`Photographs`, in the same order

    Raises
    ------
    ImageError
        that lists every picture without a partner, every name that stands for two files, and pairs of different shape
    """
    left, right = _by_name(blurred), _by_name(sharp)
    lonely = [f"{left[k]}: no partner below {sharp}" for k in sorted(left.keys() - right.keys())]
    lonely += [f"{right[k]}: no partner below {blurred}" for k in sorted(right.keys() - left.keys())]
    names = sorted(left.keys() & right.keys())
    for name in names:
        shapes = [_picture_size(folder[name]) for folder in (left, right)]
        # Only the shape of the frame must agree: a pair may be stored at two resolutions.
        if None not in shapes and abs(shapes[0][0] * shapes[1][1] - shapes[0][1] * shapes[1][0]) > sum(shapes[0]):
            lonely.append(f"{left[name]} ({shapes[0]}) and {right[name]} ({shapes[1]}) have different frames")
    if lonely:
        more = f"\n... and {len(lonely) - 20} more" if len(lonely) > 20 else ""
        raise ImageError(f"the two folders do not match in {len(lonely)} places:\n" + "\n".join(lonely[:20]) + more)
    return Photographs([left[n] for n in names], size), Photographs([right[n] for n in names], size)


def _by_name(folder: str | Path) -> dict[str, Path]:
    """Path below the folder without its suffix -> file."""
    named: dict[str, Path] = {}
    for path in list_images(folder):
        name = str(path.relative_to(folder).with_suffix(""))
        if name in named:
            raise ImageError(f"{named[name]} and {path} have the same name; which one belongs to the pair?")
        named[name] = path
    return named


def _picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height as the file's header tells, None where it cannot be read (reading it will say why)."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            rotated = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception:
        return None
    return (height, width) if rotated else (width, height)
