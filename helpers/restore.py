"""A person's own photograph: a square of it restored at its own resolution, and put back without a visible border.

::

    method = load_restoring()
    photograph = read_photograph("photo.jpg")
    photograph.pixels = restore_photograph(photograph.pixels, method, box=(120, 80, 300))
    photograph.save("restored.png")

The skip model is convolutional, and its code is a mean over the deepest feature maps: a square of 128 to 512 pixels
goes through it whole, in one pass, so there are no tiles and no seams between them. 512 pixels take 90 MB of memory
and 0.6 s on one core of a processor.

In a shell::

    python -m helpers.restore photo.jpg --out restored.png                         # where a face is found
    python -m helpers.restore photo.jpg --out restored.png --square 120,80,300     # left, top, side
    python -m helpers.restore my/photos --out my/restored
"""

import argparse
import math
import sys
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from helpers.engine.commands import exit_on_error, printable
from helpers.engine.errors import ImageError
from helpers.engine.runs import stop_on_signals
from helpers.finder import propose
from helpers.methods import METHODS, Method, Skip, available, load_method
from helpers.photograph import FORMATS, SMALLEST, Box, checked_box, format_of, put_back, read_photograph
from helpers.photos import list_images

NATIVE, LARGEST = 128, 512  # sides in pixels: what the methods were made for, and the most in one pass
MULTIPLE = 16  # the skip model halves its maps four times


# ---------------------------------------------------------------------------------------------------------------------
# The method


def load_restoring(
    name: str | None = None,
    checkpoint: str | Path | None = None,
    knob: float | None = None,
    device=None,
) -> Method:
    """The method ``name`` with the weights that ship, or the skip model of another ``checkpoint``.

    Parameters
    ----------
    name : by default "blind", which was trained for photographs; "skip" where its weights are not there
    checkpoint : safetensors, with a JSON beside it that names the network's shape
    knob : 0 for what is nearest to the truth, 1 for what looks sharp; by default where the checkpoint puts it

    Raises
    ------
    ImageError
        for a method that must be told the blur, for a knob or a checkpoint where the method takes none
    CheckpointError
        if the weights are missing, damaged or of another network
    """
    if name is None:
        name = "blind" if "blind" in available() else "skip"
    if name not in METHODS:
        raise ImageError(f"there is no method {name!r}; choose one of {', '.join(METHODS)}")
    if METHODS[name].knows_blur:
        raise ImageError(f"the method {name} must be told the blur, which nobody knows of a photograph")
    if not issubclass(METHODS[name], Skip) and (checkpoint is not None or knob is not None):
        option = "checkpoint" if checkpoint is not None else "knob"
        raise ImageError(f"the method {name} takes no {option}; the skip model does")
    method = load_method(name, device) if checkpoint is None else Skip(device, checkpoint)
    if knob is not None:
        method.knob = knob
    return method


def caution(method: Method) -> str | None:
    """One sentence on what the method was trained for, where that was a single blur; None for a blind one."""
    trained = method.trained_for
    if trained in ("", "blind"):
        return None
    blur = "a Gaussian blur of sigma 4 to 8 pixels" if trained == "celebablur" else f"the degradation {trained!r}"
    return (
        f"this method ({method.title}) was trained for {blur} only: a picture that is sharp, or blurred otherwise, "
        "may come out worse"
    )


# ---------------------------------------------------------------------------------------------------------------------
# Squares of any size


def working_side(side: int, method: Method) -> int:
    """The side in pixels at which ``method`` restores a square of ``side``: its own, from 128 to 512.

    The skip model takes every such side; the other methods were made for 128 alone.
    """
    return min(max(side, NATIVE), LARGEST if isinstance(method, Skip) else NATIVE)


def restore_square(image: np.ndarray, method: Method) -> np.ndarray:
    """Restore a square at its own resolution, whatever its size.

    From 128 to 512 pixels the skip model sees it as it is, mirrored at two edges up to a multiple of 16. A smaller
    square is enlarged to 128, a larger one is shrunk to 512, and the *correction* of that picture is brought back to
    the square's size and added. So a large square keeps what is finer than 512 pixels can hold, and a square that
    needs no correction comes back as it was.

    Parameters
    ----------
    image : uint8 H×W×3, H = W, at least 16

    Returns
    -------
    uint8 array of the same shape

    Raises
    ------
    ImageError
        for anything else than such a square
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError("restore_square expects one 8-bit RGB picture, H×W×3")
    height, width = image.shape[:2]
    if height != width:
        raise ImageError(f"{width}×{height} pixels are no square; cut one out first")
    if height < SMALLEST:
        raise ImageError(f"{width}×{height} pixels are too small to hold a face (at least {SMALLEST}×{SMALLEST})")
    side = working_side(height, method)
    if side == height:
        return _in_one_pass(image, method)
    seen = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if side < height else cv2.INTER_CUBIC)
    correction = _in_one_pass(seen, method).astype(np.float32) - seen
    how = cv2.INTER_CUBIC if side < height else cv2.INTER_AREA
    correction = cv2.resize(correction, (width, height), interpolation=how)
    return (image + correction).round().clip(0, 255).astype(np.uint8)


def _in_one_pass(image: np.ndarray, method: Method) -> np.ndarray:
    side = image.shape[0]
    more = -side % MULTIPLE
    padded = np.pad(image, ((0, more), (0, more), (0, 0)), mode="reflect")
    return method.restore(np.ascontiguousarray(padded)[None])[0, :side, :side]


# ---------------------------------------------------------------------------------------------------------------------
# In the photograph


def restore_photograph(photograph: np.ndarray, method: Method, box: Box | None = None) -> np.ndarray:
    """Restore the square ``box`` of a whole picture, by default the largest centred one: uint8 H×W×3 to the same."""
    left, top, side = box = checked_box(photograph, box)
    cut = np.ascontiguousarray(photograph[top : top + side, left : left + side])
    return put_back(photograph, restore_square(cut, method), box)


# ---------------------------------------------------------------------------------------------------------------------
# In a shell


def restore_file(
    source: str | Path, out: str | Path, method: Method, box: Box | None = None, force: bool = False
) -> str:
    """Restore one file into another and say in a sentence what was done.

    Parameters
    ----------
    box : the square; by default that of the face that :mod:`helpers.finder` is surest of, or the largest centred one

    Raises
    ------
    ImageError
        if ``out`` is there already (unless ``force``), or if the picture, the square or the result is not usable
    """
    format_of(out)  # before the work, not after it
    if Path(out).exists() and not force:
        raise ImageError(f"{out}: is there already; --force writes over it")
    photograph = read_photograph(source)
    (box, *_), why, _ = propose(photograph.pixels) if box is None else ([box], "", True)
    left, top, side = box = checked_box(photograph.pixels, box, str(source))
    photograph.pixels = restore_photograph(photograph.pixels, method, box)
    photograph.save(out)
    seen = working_side(side, method)
    told = f"wrote {out}: the square {left},{top},{side}" + (f" ({why})" if why else "")
    return told + ("" if seen == side else f", restored at {seen} pixels")


def files_of(source: str | Path, out: str | Path) -> list[tuple[Path, Path]]:
    """Which file becomes which: one picture, or every picture below a folder, under the same names below ``out``.

    A file of another kind than PNG, JPEG and WebP gets ``.png`` after its name. What lies below ``out`` is no input.

    Raises
    ------
    ImageError
        if there is no such file or folder, no picture in it, or a folder is to become a file
    """
    source, out = Path(source), Path(out)
    if not source.is_dir():
        return [(source, out / _name(source) if out.is_dir() else out)]
    if out.exists() and not out.is_dir() or out.suffix.lower() in FORMATS and not out.exists():
        raise ImageError(f"{source} is a folder, so --out must name a folder too, not {out}")
    paths, inside = list_images(source), out.resolve()
    if source.resolve() in inside.parents:  # an earlier call wrote there
        paths = [path for path in paths if inside not in path.resolve().parents]
    if not paths:
        raise ImageError(f"{source}: holds no picture outside {out}")
    return [(path, out / path.relative_to(source).parent / _name(path)) for path in paths]


def _name(path: Path) -> str:
    return path.name if path.suffix.lower() in FORMATS else f"{path.name}.png"


def _box(text: str) -> Box:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"must be left,top,side in pixels, as 120,80,300, not {text!r}")
    return tuple(int(part) for part in parts)


def _knob(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1.2:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1.2, not {text!r}")
    return value


def main(argv: list[str] | None = None) -> None:
    printable()
    command = argparse.ArgumentParser(prog="python -m helpers.restore", description="Restore a square of photographs.")
    command.add_argument("photograph", help="a picture, or a folder: every picture below it")
    command.add_argument("--out", required=True, help="the file to write (.png, .jpg, .webp), or a folder for a folder")
    command.add_argument(
        "--square", type=_box, help="left,top,side in upright pixels; by default where a face is found"
    )
    names = ", ".join(n for n, m in METHODS.items() if not m.knows_blur)
    command.add_argument("--method", help=f"{names}; by default blind, or skip where that is not there")
    command.add_argument("--knob", type=_knob, help="of the skip model: 0 near to the truth, 1 sharp")
    command.add_argument("--checkpoint", help="another skip model: safetensors, with its JSON beside it")
    command.add_argument("--force", action="store_true", help="write over files that are there")
    args = command.parse_args(argv)
    with exit_on_error():
        files = files_of(args.photograph, args.out)
        method = load_restoring(args.method, args.checkpoint, args.knob)
    if warning := caution(method):
        print(f"note: {warning}", file=sys.stderr)
    done, failed, one = 0, 0, not Path(args.photograph).is_dir()
    with stop_on_signals() as stop:
        for source, out in tqdm(files, desc="restoring", unit="picture", disable=one):
            if stop():
                raise SystemExit(f"stopped: {done} of {len(files)} pictures are restored, each file is whole")
            try:
                told = restore_file(source, out, method, args.square, args.force)
            except ImageError as error:
                failed += 1
                tqdm.write(f"error: {error}", file=sys.stderr)
                continue
            done += 1
            tqdm.write(told)
    if not one:
        print(f"restored {done} of {len(files)} pictures into {args.out}")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
