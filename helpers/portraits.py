"""Real photographs: portraits of members of the US Congress, fetched from their public source (rights: data/README.md).

::

    python -m helpers.portraits                                   # fetch, check and cut all of them
    python -m helpers.portraits --splits val test --size 256      # 256-px cuts too, where the photograph has them
    python -m helpers.portraits --mirror http://192.168.1.2:8000  # from a copy in the classroom instead

``data/portraits.csv`` ships with the course and says where each photograph lies, its SHA-256 and how it is cut; the
photographs do not ship. They come from the GitHub repository ``voteview/member_photos`` at one commit and are kept in
``photographs/`` of :func:`portraits_folder`, the cuts beside them in ``train/``, ``val/``, ``test/``, ``grey/`` (mostly
grey or tinted, for training) and ``large/``. ``data/README.md`` tells whose faces these are and how to delete them.

A mirror is a folder, or the address of an HTTP server, laid out like that repository: a clone of it, or the folder
``photographs/`` of somebody who has fetched (``python -m http.server`` serves it). ``COURSE_PORTRAITS`` may name a
folder that holds the cuts already. With ``COURSE_OFFLINE`` set, nothing is fetched but from a mirror that is named.
"""

import csv
import hashlib
import os
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import cv2
import numpy as np
from tqdm.auto import tqdm

from helpers.engine.commands import bare_parser
from helpers.engine.errors import ImageError
from helpers.engine.folders import cache_folder, data_folder
from helpers.engine.store import alone
from helpers.photos import SIZE, Photographs, read_image

COMMIT = "687cf7a"
SOURCE = f"https://raw.githubusercontent.com/voteview/member_photos/{COMMIT}"
INSTEAD = (
    f"take a copy: --mirror FOLDER_OR_ADDRESS (a clone of https://github.com/voteview/member_photos at {COMMIT}, "
    "or the folder photographs/ of somebody who has fetched)"
)
PORTRAIT_SPLITS = ("train", "val", "test", "grey")
SIZES = (SIZE, 2 * SIZE)
LARGE_SCALE = 0.55  # a photograph whose 128-px cut shrinks it at least so far has the pixels for a 256-px one
THREADS, TRIES, PAUSE, PATIENCE = 8, 3, 1.0, 15.0  # tries a file, seconds between two, seconds a server may be silent


class SourceError(ImageError):
    """No portrait at all can be had from there."""


@dataclass(frozen=True)
class Portrait:
    """One row of the table: where a photograph lies in its repository, what it must be, how it is cut."""

    number: str
    split: str
    file: str
    sha256: str
    matrix: np.ndarray  # 2×3, pixels of the photograph -> pixels of the 128-px cut, as cv2.warpAffine takes it
    scale: float  # pixels of the 128-px cut for one of the photograph

    def cuts(self, folder: Path, size: int = SIZE) -> dict[int, Path]:
        """Side in pixels -> the file that holds that cut: always 128, and ``size`` where there are pixels enough."""
        paths = {SIZE: folder / self.split / f"{self.number}.jpg"}
        if size != SIZE and self.scale <= LARGE_SCALE:
            paths[size] = folder / "large" / f"{self.number}.jpg"
        return paths


def read_table(path: str | Path | None = None) -> list[Portrait]:
    """The portraits of a table (default: the one that ships), each photograph once.

    27 rows of the shipped table repeat a photograph, because a member who changed party has two numbers in the source,
    or by mistakes there. It is then test's before val's, val's before train's, train's before grey's.
    """
    path = data_folder() / "portraits.csv" if path is None else Path(path)
    rows = []
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                matrix = np.array([[float(row[f"m{i}{j}"]) for j in range(3)] for i in range(2)])
                facts = (row[column] for column in ("number", "split", "file", "sha256"))
                rows.append(Portrait(*facts, matrix, float(row["scale"])))
        rows.sort(key=lambda row: ("test", "val", "train", "grey").index(row.split))
        if not rows:
            raise ValueError("it has no rows")
    except OSError:
        raise ImageError(f"{path} is missing; restore it from the course's repository") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ImageError(f"{path} is no table of portraits ({type(error).__name__}: {error})") from None
    once = {row.sha256: row for row in reversed(rows)}  # the first of several is the last one written
    return sorted(once.values(), key=lambda row: (PORTRAIT_SPLITS.index(row.split), row.number))


def portraits_folder() -> Path:
    """Where the cut portraits lie: ``COURSE_PORTRAITS``, by default ``portraits/`` in the course's cache."""
    named = os.environ.get("COURSE_PORTRAITS")
    return Path(named) if named else cache_folder() / "portraits"


def open_portraits(split: str, size: int = SIZE) -> Photographs:
    """The fetched portraits of a split; ``open_portraits("test")[0]`` is a uint8 array 128×128×3.

    Parameters
    ----------
    split : "train" (910 portraits in colour), "val" (114), "test" (116) or "grey" (2,276, mostly without colour)
    size : 128, or 256 for those whose photograph is large enough (18 of test; fetched with ``--size 256``)

    Raises
    ------
    ImageError
        if there is no such split or size, or nothing has been fetched yet; a warning says how many are missing
    """
    if split not in PORTRAIT_SPLITS or size not in SIZES:
        choice = f"choose one of {', '.join(PORTRAIT_SPLITS)}, and 128 or 256"
        raise ImageError(f"there are no portraits {split!r} of {size} pixels; {choice}")
    folder = portraits_folder()
    paths = [cuts[size] for row in read_table() if row.split == split and size in (cuts := row.cuts(folder, size))]
    there = [path for path in paths if path.is_file()]
    if not there:
        command = "python -m helpers.portraits" + (" --size 256" if size != SIZE else "")
        raise ImageError(f"{folder}: no {size}-px {split} portraits yet; fetch them: {command}")
    if len(there) < len(paths):
        warnings.warn(f"{folder}: {len(there)} of {len(paths)} {split} portraits are there", stacklevel=2)
    return Photographs(there, size)


def cut(photograph: np.ndarray, matrix: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Cut a portrait out of a photograph, turned and scaled by its matrix.

    Where the matrix shrinks by a factor s < 1, a Gaussian of σ = ½ √(1/s² - 1) pixels comes first, so that fine detail
    cannot alias: with the ½ pixel that a photograph is blurred by anyway, that is ½ pixel of the cut. The pixels
    between pixels are found by bicubic interpolation, the border is repeated outwards.

    The portraits that the course was measured on agree with that in sharpness and borders; single values may differ.

    Parameters
    ----------
    photograph : uint8, H×W×3
    matrix : 2×3, (x, y, 1) of a pixel of the photograph to (x, y) in the 128-px cut, integers at pixel centres
    size : side of the cut; the matrix is multiplied by size / 128

    Returns
    -------
    uint8 array, size×size×3
    """
    matrix = np.asarray(matrix, np.float64) * (size / SIZE)
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale < 1:
        photograph = cv2.GaussianBlur(photograph, (0, 0), 0.5 * np.sqrt(1 / scale**2 - 1))
    return cv2.warpAffine(photograph, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def fetch(portraits: Sequence[Portrait], folder: Path, mirror: str | Path | None = None, size: int = SIZE) -> int:
    """Fetch the photographs of ``portraits``, check and cut them; what ``folder`` holds already is left as it is.

    A photograph there with the right SHA-256 is not fetched again; one that was deleted after it was cut, neither.
    Files appear whole or not at all, so a run that was stopped is simply repeated.

    Parameters
    ----------
    mirror : folder or HTTP address laid out like the repository; its public address by default
    size : 256 writes 256-px cuts too, where the photograph is large enough

    Returns
    -------
    how many photographs were fetched

    Raises
    ------
    SourceError
        if the source cannot be reached, or ``COURSE_OFFLINE`` is set and no mirror is named
    ImageError
        that lists every file that is missing or differs from the table (the others are fetched), or if the disk is full
    """
    read = _reader(mirror)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("ab") as lock, alone(lock), ThreadPoolExecutor(THREADS) as pool:
            for leftover in folder.rglob("*.part"):  # of a run that was killed: no other run is at work here
                leftover.unlink()
            fetched, bad = 0, []
            jobs = [pool.submit(_provide, row, folder, read, size) for row in portraits]
            try:
                for job in tqdm(as_completed(jobs), desc="portraits", total=len(jobs), unit="file"):
                    error = job.exception()
                    if error is None:
                        fetched += job.result()
                    elif isinstance(error, ImageError) and not isinstance(error, SourceError):
                        bad.append(str(error))
                    else:
                        raise error
            finally:  # after Ctrl-C too, files in hand are finished and no other is begun
                pool.shutdown(cancel_futures=True)
    except OSError as error:
        raise ImageError(f"{folder}: the portraits cannot be written there ({error.strerror or error})") from None
    if bad:
        more = [f"... and {len(bad) - 20} more"] * (len(bad) > 20)
        head = f"{len(bad)} of {len(portraits)} portraits could not be had; the others are in {folder}"
        raise ImageError("\n".join([head, *sorted(bad)[:20], *more]))
    return fetched


def _provide(row: Portrait, folder: Path, read: Callable[[str], bytes], size: int) -> bool:
    """One portrait from its source to its cuts; whether it was fetched."""
    kept = folder / "photographs" / row.file
    there = kept.read_bytes() if kept.is_file() else None
    missing = {side: path for side, path in row.cuts(folder, size).items() if not path.is_file()}
    if there is None and not missing:
        return False
    fetched = there is None or hashlib.sha256(there).hexdigest() != row.sha256
    if fetched:
        there = read(row.file)
        found = hashlib.sha256(there).hexdigest()
        if found != row.sha256:
            hashes = f"SHA-256 {found[:12]}..., not {row.sha256[:12]}..."
            raise ImageError(f"{row.file}: is another file than the table's ({hashes}); it was not kept")
        _write(kept, there)
    if missing:
        photograph = read_image(there, size=None)[..., ::-1]  # OpenCV writes blue first
        for side, path in missing.items():
            picture = cut(np.ascontiguousarray(photograph), row.matrix, side)
            options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]  # colour in full size
            _write(path, cv2.imencode(".jpg", picture, options)[1].tobytes())
    return fetched


def _write(path: Path, content: bytes) -> None:
    """The whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _reader(mirror: str | Path | None) -> Callable[[str], bytes]:
    """What reads a file of the repository, given its path in it."""
    if mirror is None and os.environ.get("COURSE_OFFLINE"):
        raise SourceError(f"COURSE_OFFLINE is set, so nothing is fetched from the network; unset it, or {INSTEAD}")
    if mirror is None or str(mirror).startswith(("http://", "https://")):
        address = (SOURCE if mirror is None else str(mirror)).rstrip("/")
        return lambda file: _download(address, file)
    if not Path(mirror).is_dir():
        raise SourceError(f"{mirror}: there is no such folder to take the portraits from")

    def copy(file: str) -> bytes:
        try:
            return (Path(mirror) / file).read_bytes()
        except OSError as error:
            raise ImageError(f"{file}: cannot be read in {mirror} ({error.strerror})") from None

    return copy


def _download(address: str, file: str) -> bytes:
    """One file over HTTP, tried again where the server is busy or the connection breaks."""
    for attempt in range(TRIES):
        time.sleep(attempt * PAUSE)
        try:
            with urlopen(f"{address}/{quote(file)}", timeout=PATIENCE) as answer:
                return answer.read()
        except HTTPError as error:
            failure = ImageError(f"{file}: cannot be fetched from {address} (it says {error.code} {error.reason})")
            if error.code != 429 and error.code < 500:
                break
        except (OSError, HTTPException) as error:  # no network, time-outs, broken connections
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            kept = "what was fetched is kept. Where there is a network, the same command goes on; without one,"
            failure = SourceError(f"{address} cannot be reached ({reason}); {kept} {INSTEAD}")
    raise failure


def main(arguments: list[str] | None = None) -> None:
    parser = bare_parser("helpers.portraits", __doc__)
    parser.add_argument("--splits", nargs="+", choices=PORTRAIT_SPLITS, default=PORTRAIT_SPLITS, help="default: all")
    parser.add_argument("--size", type=int, choices=SIZES, default=SIZE, help="256: larger cuts too, into large/")
    parser.add_argument("--mirror", help="a folder or HTTP address that holds a copy of the photographs")
    args = parser.parse_args(arguments)
    folder = portraits_folder()
    try:
        portraits = [row for row in read_table() if row.split in args.splits]
        fetched = fetch(portraits, folder, args.mirror, args.size)
    except ImageError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(f"stopped; the same command goes on from what is in {folder}") from None
    print(f"{len(portraits)} portraits in {folder}, {fetched} of them fetched now (deleting it deletes them)")


if __name__ == "__main__":
    main()
