"""Start a Python kernel that a submission may do its worst in: ``python confine.py -f connection_file``.

:class:`execution.Survive` starts every kernel with this file, whether grading began with ``course.py``, ``nbgrader
autograde`` or the button of the Formgrader. Before IPython starts, the process gives up what code of a student does not
need. On Linux, where root or user namespaces allow it, the kernel sees

- no network,
- no process but its own, so that no environment of another one can be read and all are ended together,
- a read-only file system without your home, the course and the checkout; only its own room can be written.

Everywhere but on Windows, memory, the size of a file and processor time are bounded. ``python confine.py --bounds``
says which of these hold on this computer.
"""

import ctypes
import os
import select
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MEGABYTE = 2**20
# linux/sched.h, linux/mount.h, linux/prctl.h
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x8000000, 1 << 28, 1 << 29, 1 << 30
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 0x1000, 0x4000, 1 << 18
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, AT_FDCWD, AT_RECURSIVE, MNT_DETACH = 1, 2, -100, 0x8000, 2
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38
MOUNT_SETATTR = 442  # the same number on every architecture
TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm", "/run")
NEEDED = (
    "/",
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/sbin",
    "/etc",
    "/dev",
    "/proc",
    "/sys",
)  # by any program: never hidden
PASSED_ON = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LPIPS_TRUNK", "TZ")  # of your environment


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def libc():
    """The C library, or None where there are no such calls."""
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def limit(memory: int, cpu_seconds: int) -> None:
    """Bound memory (private writable pages), file size and processor time; Windows has no such bounds."""
    try:
        import resource
    except ImportError:
        return
    bounds = {"RLIMIT_DATA": memory, "RLIMIT_FSIZE": 256 * MEGABYTE, "RLIMIT_CPU": cpu_seconds, "RLIMIT_CORE": 0}
    for name, value in bounds.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def clean(environment) -> dict[str, str]:
    """What grading needs of an environment: neither tokens nor proxies."""
    return {k: v for k, v in environment.items() if k in PASSED_ON or k.startswith("COURSEWORK_")}


def start_again() -> None:
    """Begin this program again without the environment, which any process of yours could read."""
    kept = ("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP", "TERM", "COLUMNS")
    wanted = clean(os.environ) | {k: v for k, v in os.environ.items() if k in kept or k.startswith(("OMP_", "PYTHON"))}
    if set(os.environ) - set(wanted) and "COURSEWORK_CLEAN" not in os.environ:
        wanted["COURSEWORK_CLEAN"] = "1"  # Python itself may add to it, and this would not end
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)


def adopt_orphans() -> bool:
    """Become the parent of processes whose own has ended, so that they can be ended, too; whether that is possible."""
    return sys.platform == "linux" and libc().prctl(PR_SET_CHILD_SUBREAPER, 1) == 0


def leave_network() -> bool:
    """Move this process into a network of its own, without any device. False where the system does not allow it."""
    # Root may do it directly; others may where the system lets them make user namespaces.
    return unshare(CLONE_NEWNET)


def unshare(flags: int) -> bool:
    """Leave namespaces, if need be as root of a user namespace in which we are still ourselves; whether that worked."""
    system = libc()
    if system is None:
        return False
    uid, gid = os.getuid(), os.getgid()
    if system.unshare(flags) == 0:
        return True
    if system.unshare(CLONE_NEWUSER | flags) != 0:
        return False
    for name, text in {"setgroups": "deny", "uid_map": f"{uid} {uid} 1", "gid_map": f"{gid} {gid} 1"}.items():
        with suppress(OSError):
            Path(f"/proc/self/{name}").write_text(text, encoding="utf-8")
    return True


def die_with_parent(gone: Callable[[], bool]) -> None:
    """Ask to be killed when the process that started this one ends, however that happens.

    ``gone`` tells whether it has ended before it could be asked for: nobody would kill this one then, so it ends here.
    """
    if (system := libc()) is not None:
        system.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if gone():
            os._exit(1)


def is_not_parent(process: int) -> Callable[[], bool]:
    """Tells whether the process that started this one is another by now than ``process``."""
    return lambda: os.getppid() != process


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2); raises OSError."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    if libc().mount(*encoded, ctypes.c_ulong(flags), None if options is None else options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount", target)


def set_read_only(path: str, value: bool, recursive: bool = True) -> None:
    """Make a mount (and those in it) read-only or writable again; raises OSError before Linux 5.12."""
    bits = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID if value else MOUNT_ATTR_RDONLY
    attributes = _MountAttr(set=bits) if value else _MountAttr(clear=bits)
    size, where = ctypes.c_size_t(ctypes.sizeof(attributes)), AT_RECURSIVE if recursive else 0
    target = os.fsencode(path)
    if libc().syscall(MOUNT_SETATTR, AT_FDCWD, target, where, ctypes.byref(attributes), size) != 0:
        raise OSError(ctypes.get_errno(), "mount_setattr", path)


def hide(hidden: list[str], kept: list[str]) -> list[str]:
    """Put an empty folder over each of ``hidden`` and bring back what is in ``kept``; the folders that are hidden now.

    A folder stays visible if it does not exist, or if what is kept could not be brought back.
    """
    hidden = [os.path.realpath(p) for p in hidden if os.path.isdir(p)]
    # Only the outermost: one that lies in another is gone with it.
    hidden = {p for p in hidden if p not in NEEDED}
    hidden = sorted(p for p in hidden if not any(p != other and _inside(p, other) for other in hidden))
    kept = sorted({os.path.realpath(p) for p in kept if os.path.exists(p)})
    done = []
    for folder in hidden:
        inner = [k for k in kept if _inside(k, folder)]
        if folder in inner:
            continue
        handles = {k: os.open(k, os.O_PATH) for k in inner}
        try:
            mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "size=256m,mode=1777")
            for path, handle in handles.items():
                _place(path, os.path.isdir(f"/proc/self/fd/{handle}"))
                mount(f"/proc/self/fd/{handle}", path, None, MS_BIND | MS_REC)
            done.append(folder)
        except OSError:
            libc().umount2(os.fsencode(folder), MNT_DETACH)
        finally:
            for handle in handles.values():
                os.close(handle)
    return done


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _place(path: str, folder: bool) -> None:
    """An empty folder or file to put a mount on."""
    os.makedirs(path if folder else os.path.dirname(path), exist_ok=True)
    if not folder:
        Path(path).touch()


def own_view(room: str, hidden: list[str], kept: list[str]) -> bool:
    """Within a mount namespace of our own: nothing to write but the room, nothing to read of ``hidden``."""
    try:
        mount(None, "/", None, MS_REC | MS_PRIVATE)
        mount(room, room, None, MS_BIND)
        done = hide(hidden, [*kept, room])
        with suppress(OSError):  # not where /proc is masked, as in most containers
            mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV)
        set_read_only("/", True)
        for path in (room, *(p for p in done if p in TEMPORARY)):
            set_read_only(path, False, recursive=False)
    except OSError:
        return False
    return len(done) > 0


def drop_capabilities() -> None:
    """Root without its powers: what was hidden or made read-only cannot be undone."""
    if (system := libc()) is None:
        return
    for number in range(64):
        system.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    system.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
    system.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def isolate(room: str, hidden: list[str], kept: list[str]) -> dict[str, bool]:
    """Go on in a process with the bounds that the system allows; {"network", "processes", "files": whether it has one}.

    The process that called this stays behind and ends as the new one does. ``room`` is the only folder that can be
    written, ``hidden`` cannot be seen, ``kept`` are files and folders in these that are needed.
    """
    if not unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC):
        bounds = {"network": leave_network(), "processes": False, "files": False}
        drop_capabilities()
        return bounds
    _go_on_as_child()  # process 1 of the new namespace: when it ends, all others in it do
    files = own_view(room, hidden, kept)
    processes = len([n for n in os.listdir("/proc") if n.isdigit()]) < 3
    drop_capabilities()
    _go_on_as_child()  # process 1 is immune against many signals, which is nothing for a student's kernel
    return {"network": True, "processes": processes, "files": files}


def _go_on_as_child() -> None:
    """Fork; the parent waits for the child and ends with its status."""
    end, kept = os.pipe()  # process 1 cannot ask who started it: the pipe is at its end when that one is gone
    child = os.fork()
    if child == 0:
        os.close(kept)
        die_with_parent(lambda: bool(select.select([end], [], [], 0)[0]))
        os.close(end)
        return
    os.close(end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        with suppress(InterruptedError):
            ended, status = os.waitpid(-1, 0)
            if ended == child:
                os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def tell_bounds() -> None:
    """Print which bounds this computer allows."""
    if sys.platform != "linux":
        print("network: OPEN", "processes: OPEN", "files: OPEN", sep="\n")
        return
    with tempfile.TemporaryDirectory() as room:
        if (child := os.fork()) == 0:
            found = isolate(room, [*TEMPORARY, os.path.expanduser("~")], [room, sys.prefix, sys.base_prefix])
            print(*(f"{name}: {'closed' if closed else 'OPEN'}" for name, closed in found.items()), sep="\n")
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)


def main() -> None:
    """Bound this process as the environment says, then be an IPython kernel whose tests are guarded (guard.py)."""
    if sys.argv[1:] == ["--bounds"]:
        tell_bounds()
        return
    parent = int(os.environ.get("JPY_PARENT_PID", 0))  # the process that grades, see jupyter_client
    die_with_parent(is_not_parent(parent) if parent else lambda: False)
    import guard  # before the folder that it lies in is out of sight

    def listed(name):
        return [p for p in os.environ.pop(name, "").split(os.pathsep) if p]

    room = os.environ.get("COURSEWORK_ROOM")
    if not room:
        raise SystemExit("confine.py starts nothing without a room (COURSEWORK_ROOM), see execution.py")
    isolate(room, listed("COURSEWORK_HIDDEN"), listed("COURSEWORK_KEPT"))
    limit(int(os.environ.get("COURSEWORK_MEMORY", 4096 * MEGABYTE)), int(os.environ.get("COURSEWORK_CPU", 900)))
    os.environ.pop("JPY_PARENT_PID", None)  # a number of the namespace that was left
    sys.path[:] = [p for p in sys.path if p != str(Path(__file__).resolve().parent)]
    guard.launch()


if __name__ == "__main__":
    main()
