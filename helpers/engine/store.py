"""Many photographs decoded once into one file on the disk, so that the next start takes seconds and memory stays free.

``pixels.bin`` holds one picture after the other, ``index.jsonl`` a line for each: the file's path below its folder,
size, time of change.
"""

import errno
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from helpers.engine.errors import ImageError

AT_ONCE = 512  # photographs that are decoded between two writes to the file


def unusable(broken: list[str], of: int) -> ImageError:
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


def store(photographs, root: str | Path, folder: str | Path, progress: bool = True) -> Stored:
    """All of ``photographs`` (below ``root``) from the store in ``folder``; those that it lacks are decoded and added.

    ``pixels.bin`` holds one picture after the other, ``index.jsonl`` a line for each: the file's path below ``root``,
    size, time of change. Both only grow, pixels first. So a store whose making was killed is gone on with, and a file
    that was added or has changed is read when it is next asked for.

    Parameters
    ----------
    photographs : a :class:`helpers.photos.Photographs` (what counts: ``photographs[i]``, ``paths``, ``size``)
    root : however it is written, the same folder gives the same keys
    progress : show a bar

    Raises
    ------
    ImageError
        that lists every file that cannot be read (the others are stored), or says how many bytes the disk lacks
    """
    folder, shape = Path(folder), (photographs.size, photographs.size, 3)
    row, needed = int(np.prod(shape)), 0
    root = os.path.realpath(root)
    files = [_stamp(path, root) for path in photographs.paths]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "pixels.bin").open("ab") as pixels, (folder / "index.jsonl").open("ab") as index, alone(index):
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
            raise unusable(broken, len(photographs))
        pixels = np.memmap(folder / "pixels.bin", np.uint8, "r", shape=(len(known), *shape))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ImageError(f"{folder}: the decoded photographs cannot be stored there ({error})") from None
        raise ImageError(
            f"{folder}: the disk is too full for the decoded photographs; {needed:,} bytes are needed "
            "(COURSE_CACHE may name a folder on another disk). What is stored there already is whole."
        ) from None
    return Stored(np.asarray(pixels), np.array([known[file] for file in files]))


def _append(photographs, missing: list, known: dict, pixels, index, progress: bool) -> list[str]:
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
    return os.path.abspath(path).removeprefix(root), now.st_size, now.st_mtime_ns


@contextmanager
def alone(file):
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
