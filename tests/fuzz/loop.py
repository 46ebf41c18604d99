"""The loop: mutate, call, look at what happened; in a process of its own, which may die."""

import mmap
import os
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from hashlib import sha256
from pathlib import Path

from tests.fuzz.mutate import mutated
from tests.fuzz.targets import Target

SEEDS = Path(__file__).resolve().parent / "seeds"
POOL = 3000  # files that are mutated further
WRITES = {
    "os.mkdir",
    "os.remove",
    "os.rmdir",
    "os.rename",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "shutil.move",
}
PROGRAMS = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "os.startfile"}


class Finding(AssertionError):
    """A call that did what is not documented."""


class TooMuch(Finding):
    """A call that took more memory than it may."""


class Guard:
    """Sees through Python's audit events what a call opens for writing, and whether it starts something."""

    def __init__(self):
        self.folder, self.seen = None, []
        sys.addaudithook(self._hook)

    def _hook(self, event, arguments):
        if self.folder is None:
            return
        if event in PROGRAMS:
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event in WRITES or (event == "open" and self._written(*arguments)):
            for path in arguments[: 2 if event in ("os.rename", "os.link", "shutil.move") else 1]:
                if isinstance(path, str | bytes | os.PathLike):
                    real = os.path.realpath(os.fsdecode(path))
                    if not (real + os.sep).startswith(self.folder + os.sep):
                        self.seen.append(f"{event} {real}")

    @staticmethod
    def _written(path, mode, flags) -> bool:
        return bool(mode and set(mode) & set("wax+")) or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


GUARD = None  # one for a process: a hook cannot be taken away


def attempt(target: Target, data: bytes, ceiling: int | None = None) -> tuple:
    """Call a reader once.

    Parameters
    ----------
    ceiling
        bytes that this process may have had at most afterwards; by default the reader's own beyond what it had before

    Returns
    -------
    what it did, so that two inputs that it treats alike have the same: the lines in which an exception was raised

    Raises
    ------
    Finding
        for another exception than a documented one, for a file outside of the folder, a program, or too much memory
    """
    global GUARD
    GUARD = GUARD or Guard()
    ceiling = peak() + target.memory if ceiling is None else ceiling
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        GUARD.folder, GUARD.seen = os.path.realpath(folder), []
        try:
            target.call(data, Path(folder))
            path = ("fine", len(data).bit_length())
        except target.documented as error:
            cause = error.__cause__ or error.__context__ or error
            frames = traceback.extract_tb(cause.__traceback__)[-3:]
            path = (type(cause).__name__, *((f.filename, f.lineno) for f in frames))
        except Exception as error:
            where = "".join(traceback.format_exception(error, limit=-4))
            raise Finding(f"{type(error).__name__} is not documented\n{where}") from None
        finally:
            seen, GUARD.folder = GUARD.seen, None
    if seen:
        raise Finding(f"outside of its folder: {seen[:3]}")
    if (most := peak()) > ceiling:
        raise TooMuch(f"{(most - ceiling + target.memory) >> 20} MiB of memory")
    return path


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return value if sys.platform == "darwin" else value * 1024


class Shared:
    """What parent and child both see: how many inputs were tried, and the one that is being tried."""

    def __init__(self):
        self._memory = mmap.mmap(-1, 2**20)

    def put(self, count: int, data: bytes) -> None:
        self._memory[:16] = struct.pack("<QQ", count, len(data))
        self._memory[16 : 16 + len(data)] = data

    def get(self) -> tuple[int, bytes]:
        count, size = struct.unpack("<QQ", self._memory[:16])
        return count, self._memory[16 : 16 + size]


def kept_seeds(name: str) -> list[bytes]:
    """The files that once broke a reader."""
    return [path.read_bytes() for path in sorted((SEEDS / name).glob("*.bin"))]


def child(name: str, target: Target, seed: int, end: float, shared: Shared, report) -> None:
    """Try inputs until ``end``; findings are written to ``report`` as they come. One of memory is the last."""
    draw, pool = random.Random(seed), target.seeds() + kept_seeds(name)
    ceiling = peak() + target.memory + 2**28  # the pool grows as well
    resource.setrlimit(resource.RLIMIT_DATA, (2 * ceiling + 2**31,) * 2)  # for the sake of the computer
    known, told, count = set(), set(), 0
    for data in pool:
        shared.put(count, data)
        known.add(_tried(target, data, ceiling, told, report))
    while time.time() < end:
        data = mutated(draw, pool, target.words)
        count += 1
        shared.put(count, data)
        path = _tried(target, data, ceiling, told, report)
        if path not in known and path is not None:
            known.add(path)
            pool.append(data)
            if len(pool) > POOL:
                del pool[draw.randrange(len(pool))]
    shared.put(count, b"")


def _tried(target, data, ceiling, told, report):
    try:
        return attempt(target, data, ceiling)
    except TooMuch as finding:
        report(str(finding), data)
        os._exit(0)  # its peak stays for the rest of a process
    except Finding as finding:
        what = str(finding)
        key = tuple(re.findall(r"^\w+ is|File .*, line \d+|^\D+", what, re.M))  # whatever the values were
        if key not in told:
            told.add(key)
            report(what, data)
        return None


def run(name: str, target: Target, minutes: float, seed: int, keep: Path) -> tuple[int, int]:
    """Fuzz a reader; (executions, files that broke it). These are written to ``keep``."""
    end, shared, total, rounds = time.time() + 60 * minutes, Shared(), 0, 0
    keep.mkdir(parents=True, exist_ok=True)

    def report(what, data):
        path = keep / f"{name}-{sha256(data).hexdigest()[:12]}.bin"
        path.write_bytes(data)
        print(f"{path} ({len(data)} bytes): {what}", flush=True)

    while time.time() < end:
        total += in_a_child(name, target, seed + rounds, end, shared, report)
        rounds += 1
    return total, len(list(keep.glob(f"{name}-*.bin")))


def in_a_child(name, target, seed, end, shared, report) -> int:
    """One child until it ends, dies or hangs; the number of its executions."""
    shared.put(0, b"")
    process = os.fork()
    if process == 0:
        try:
            child(name, target, seed, end, shared, report)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    last, since = -1, time.time()
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        count, data = shared.get()
        if ended:
            code = os.waitstatus_to_exitcode(status)
            if code < 0:
                report(f"ended by {signal.Signals(-code).name}", data)
            elif code:
                raise SystemExit("the loop itself has failed")
            return count
        if count != last:
            last, since = count, time.time()
        elif time.time() - since > target.seconds:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            report(f"took more than {target.seconds:g} s", data)
            return count
        time.sleep(0.5)
