"""Start a Python kernel that a submission may do its worst in: ``python confine.py -f connection_file``.

The grading command names this file in the kernel's specification. Before IPython starts, the process gives up what code
of a student does not need: more memory than ``COURSEWORK_MEMORY`` bytes, files beyond 256 MB, hours of processor time,
and, on Linux, the network. It also asks to be killed when nbgrader ends, however that happens.
"""

import ctypes
import os
import runpy
import signal
import sys

MEGABYTE = 2**20
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
PR_SET_PDEATHSIG = 1  # linux/prctl.h


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


def leave_network() -> bool:
    """Move this process into a network of its own, without any device. False where the system does not allow it."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    # Root may do it directly; others may where the system lets them make user namespaces.
    return libc.unshare(CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    limit(int(os.environ.get("COURSEWORK_MEMORY", 4096 * MEGABYTE)), int(os.environ.get("COURSEWORK_CPU", 900)))
    leave_network()
    runpy.run_module("ipykernel_launcher", run_name="__main__")


if __name__ == "__main__":
    main()
