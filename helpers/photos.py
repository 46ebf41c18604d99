"""Photographs in: one picture file, any folder of them, two folders of matching pairs.

Everything here hands out 8-bit RGB, ``uint8`` arrays of shape H×W×3.
"""

import functools
import importlib
import io
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, features
from tqdm.auto import tqdm

from helpers.engine.errors import ImageError
from helpers.engine.store import unusable

SIZE = 128
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
# Pictures too, but not for us: a folder that holds some is told so.
HEIF = (".heic", ".heif")
UNREAD = (*HEIF, ".avif", ".gif", ".jp2", ".jxl", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf")
MAX_PIXELS = 120_000_000  # 120 megapixels: more than any camera makes, less than what fills a laptop's memory
ORIENTATION = 0x0112  # EXIF's number for how the camera was held
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# One picture


def read_image(
    source: str | Path | bytes, size: int | None = SIZE, crop: int | None = None, longest: int | None = None
) -> np.ndarray:
    """Read one picture as 8-bit RGB.

    Grey becomes RGB, transparency is laid on white, 16 bits and floating point (white is 1) become 8 bits, CMYK and
    other colour profiles become sRGB, the EXIF rotation is applied.

    Parameters
    ----------
    source : path, or the bytes of a file
    size : side of the square to return; the largest centred square is cut out and resized. None keeps the picture.
    crop : side in pixels of the centred square to cut out before resizing (CelebA: 178). None: the largest one.
    longest : where no square is cut (``size=None``), a larger picture is shrunk to so many pixels on its longer side,
        though never below 128 pixels on its shorter one

    Returns
    -------
    uint8 array, size×size×3, or H×W×3 where ``size`` is None

    Raises
    ------
    ImageError
        if the file is missing, no picture, broken, animated, larger than 120 megapixels, or a program (EPS)
    """
    name = "the uploaded file" if isinstance(source, bytes) else str(source)
    heif_is_read()  # from here on Pillow opens such files, where it can
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's of metadata, and of large pictures: our own limit follows
            picture = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
            if picture.format == "EPS":
                raise ImageError(f"{name}: EPS is a program for a printer; save what it draws as .png")
            if picture.width * picture.height > MAX_PIXELS:
                raise ImageError(
                    f"{name}: {picture.width}×{picture.height} pixels is more than this course reads "
                    f"({MAX_PIXELS / 1e6:.0f} megapixels); make a smaller copy first"
                )
            if getattr(picture, "is_animated", False) and picture.format in ("GIF", "PNG", "WEBP", "AVIF"):
                raise ImageError(f"{name}: is an animation; save one frame of it as a picture first")
            enough = 4 * size if size is not None and crop is None else longest if size is None else None
            if enough and picture.format == "JPEG":
                picture.draft("RGB", (enough, enough))  # decodes a huge JPEG at a fraction of its size
            picture.load()  # Pillow turns a TIFF itself, here, and forgets its orientation
            turn = TURNS.get(_orientation(picture))
            image = _to_rgb8(picture if turn is None else picture.transpose(turn), name)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no such file") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: the picture is too large to be read safely; make a smaller copy first") from None
    except Exception as error:
        raise ImageError(f"{name}: cannot be read as a picture ({type(error).__name__}: {error})") from None
    if size is not None:
        return square(image, size, crop, name)
    return image if longest is None else _shrunk(image, longest)


def _shrunk(image: np.ndarray, longest: int) -> np.ndarray:
    sides = image.shape[:2]
    shrink = max(longest / max(sides), SIZE / min(sides))
    if shrink >= 1:
        return image
    height, width = (round(n * shrink) for n in sides)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _orientation(picture: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where it cannot be told. Nothing else of the metadata is looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's of the rest
        try:
            return int(picture.getexif().get(ORIENTATION, 1))
        except Exception:
            return 1


def _to_rgb8(picture: Image.Image, name: str) -> np.ndarray:
    """Any Pillow mode to a uint8 array H×W×3. What white is, the type says, not the values."""
    if picture.mode.startswith("I") or picture.mode == "F":  # one channel of more than 8 bits
        return np.repeat(_to_grey8(picture, name)[..., None], 3, axis=2)
    picture = _to_srgb(picture)
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


def _to_grey8(picture: Image.Image, name: str) -> np.ndarray:
    """Whole numbers of 16 bits, over [0, 65535], or floating point, over [0, 1]: uint8 H×W; beyond that clipped."""
    values = np.asarray(picture).astype(np.float64)
    if picture.mode == "F":
        if not np.isfinite(values).all():
            raise ImageError(f"{name}: the picture holds NaN or infinite values")
        if values.mean() > 1:
            raise ImageError(
                f"{name}: its floating-point values reach {values.max():.4g}, and white is 1; "
                "divide them by what white is, or save the picture with 8 bits"
            )
        white = 1.0
    elif picture.mode == "I" and picture.format not in ("PNG", "PPM"):  # those two: 16 bits in a wider type
        raise ImageError(f"{name}: nothing says what white is in whole numbers of 32 bits; save it with 8 or 16 bits")
    else:
        white = 65535.0
    return np.clip(values / white * 255 + 0.5, 0, 255).astype(np.uint8)


def _to_srgb(picture: Image.Image) -> Image.Image:
    """Colours of another profile (Display P3, Adobe RGB, a printer's CMYK) as sRGB; unchanged without a usable one."""
    content = picture.info.get("icc_profile")
    if not content:
        return picture
    try:
        profile = ImageCms.getOpenProfile(io.BytesIO(content))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return picture
        if picture.mode in ("P", "PA"):
            picture = picture.convert("RGBA" if picture.mode == "PA" or "transparency" in picture.info else "RGB")
        mode = "RGBA" if picture.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(picture, profile, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return picture


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
# Folders


@functools.cache
def heif_is_read() -> bool:
    """Whether an iPhone's HEIC files can be read: where the package ``pillow-heif`` is installed."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


def suffixes() -> tuple[str, ...]:
    """The endings of the files that :func:`read_image` reads on this machine."""
    return SUFFIXES + HEIF * heif_is_read() + (".avif",) * features.check("avif")


class Photographs(Sequence):
    """Pictures on disk as 8-bit squares, read when asked for: ``photographs[3]`` is a uint8 array size×size×3.

    Attributes
    ----------
    paths : the files
    left_out : what lies beside them and is not read, as a sentence; "" where nothing is
    """

    def __init__(self, paths: Sequence[Path], size: int = SIZE, crop: int | None = None, left_out: str = ""):
        self.paths, self.size, self.crop, self.left_out = list(paths), size, crop, left_out

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
            raise unusable(broken, len(self))
        return images

    def __repr__(self) -> str:
        return f"Photographs({len(self)} files, {self.size}×{self.size})"


def list_images(folder: str | Path) -> list[Path]:
    """Every picture file below ``folder``, sorted by path; hidden files and other kinds of file are not pictures.

    Pictures of a kind that cannot be read are counted, and the count is printed.
    """
    paths, left_out = _list(folder)
    if left_out:
        print(left_out)
    return paths


def _list(folder: str | Path) -> tuple[list[Path], str]:
    """The pictures below ``folder``, and which others are left out and why."""
    folder, others = Path(folder), Counter()
    if not folder.is_dir():
        raise ImageError(f"{folder}: there is no such folder")
    paths = sorted(_pictures_below(str(folder), suffixes(), others), key=lambda path: path.split(os.sep))
    left_out = ""
    if others:
        kinds = ", ".join(
            f"{count:,} {suffix}" for suffix, count in sorted(others.items(), key=lambda n: (-n[1], n[0]))
        )
        hint = "pip install pillow-heif reads .heic and .heif" if set(HEIF) & others.keys() else "save them as .png"
        left_out = f"{folder}: {len(paths):,} pictures are used, {others.total():,} are not read ({kinds}); {hint}"
    if not paths:
        raise ImageError(left_out or f"{folder}: holds no picture ({', '.join(suffixes())})")
    return [Path(path) for path in paths], left_out


def _pictures_below(folder: str, endings: tuple[str, ...], others: Counter) -> Iterator[str]:
    """Paths in the order of the disk; ``others`` counts pictures that are not read, by their endings.

    No Path is made and nothing is looked up for each file: they may be 200,000.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = entry.name.lower()
            if entry.is_dir(follow_symlinks=False):
                yield from _pictures_below(entry.path, endings, others)
            elif name.endswith(endings):
                if entry.is_file():
                    yield entry.path
            elif name.endswith(UNREAD):
                others[os.path.splitext(name)[1]] += 1


def open_folder(folder: str | Path, size: int = SIZE, crop: int | None = None) -> Photographs:
    """Any folder of photographs (subfolders included); says how many pictures are of a kind that is not read."""
    paths, left_out = _list(folder)
    if left_out:
        print(left_out)
    return Photographs(paths, size, crop, left_out)


# ---------------------------------------------------------------------------------------------------------------------
# Matching pairs


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
            rotated = _orientation(picture) in (5, 6, 7, 8)
            if rotated and picture.format == "TIFF":  # Pillow turns it itself
                picture.load()
                rotated = False
            width, height = picture.size
    except Exception:
        return None
    return (height, width) if rotated else (width, height)
