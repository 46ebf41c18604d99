"""Where the course's files lie, and how a file is written so that it is never found half written."""

import json
import os
import platform
import uuid
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from helpers.engine.errors import TrainingError


def data_folder() -> Path:
    """The folder ``data/`` of the course, or what the environment variable ``COURSE_DATA`` names."""
    return Path(os.environ.get("COURSE_DATA") or Path(__file__).resolve().parents[2] / "data")


def cache_folder() -> Path:
    """Where what was computed once is kept: ``COURSE_CACHE``, by default a folder of the user's own cache.

    A variable that is set to nothing counts as absent. The home folder is looked up only where no variable names one.

    Raises
    ------
    RuntimeError
        if no variable names a folder and the user has no home
    """
    if own := os.environ.get("COURSE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "face-restoration-course"


def atomic_write(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file aside, then rename it: whatever happens, the file is the old or the new one.

    The new one is on the disk before it takes the name, so that this holds for a power cut too. Its temporary name
    (``.part`` at the end) is unique, so that two processes never write into one file. Where writing fails (a full
    disk), what was written aside is removed.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        write(part)
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, content, indent: int | None = 1) -> None:
    """``content`` as JSON, whole or not at all; with ``indent`` None on one line, for long lists of numbers."""
    atomic_write(path, lambda part: part.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8"))


@contextmanager
def write_errors(path: str | Path):
    """Inside, a full disk, or one that is gone, becomes one sentence; PyTorch and safetensors have errors of their own.

    Raises
    ------
    TrainingError
        that names ``path`` and the reason
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, TrainingError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TrainingError(f"{path} cannot be written ({reason}); what was saved before is whole") from None


@contextmanager
def locked(folder: Path):
    """Inside, no other process (or other part of this one) is let into ``folder``; the file ``.lock`` says who is.

    The lock is the operating system's: it ends with the process, however that ends, so what a killed process left
    behind keeps nobody out. Where the system or the disk has no locks, everybody is let in.

    Raises
    ------
    TrainingError
        if the folder is in use
    """
    path = folder / ".lock"
    while True:
        file = path.open("a+")
        if not _lock(file.fileno()):
            file.seek(0)
            owner = file.read().strip()
            file.close()
            raise TrainingError(
                f"{folder} is in use by another run{owner and f' ({owner})'}; wait for it or choose another folder"
            )
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()  # its holder removed the file in between: this one is not the folder's any more
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file; an empty lock file does no harm
            path.unlink()
        file.close()


def _lock(number: int) -> bool:
    """Lock the open file without waiting; False if another holds it."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        os.lseek(number, 1 << 30, os.SEEK_SET)  # a byte far behind the text, which stays readable
        try:
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a disk without locks
        return True
    return True
