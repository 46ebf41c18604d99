"""What a kernel cannot do, whoever starts it. Bounds that this system does not allow are not asked for."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.coursework import answers

CONFINED = """
import sys
import confine
confine.limit(2 * 2**30, 60)
try:
    bytearray(3 * 2**30)
    print("memory")
except MemoryError:
    pass
try:
    open(sys.argv[1], "wb").truncate(257 * 2**20)
    print("a large file")
except OSError:
    pass
if confine.leave_network():
    import socket
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=5)
        print("network")
    except OSError:
        pass
"""


def run(code, *arguments, env=None):
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(line, cwd=answers.COURSEWORK, capture_output=True, text=True, env=env, timeout=300)


def test_confined(tmp_path):
    """Too much memory and large files are refused; without a network, even this machine is out of reach."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = run(CONFINED, tmp_path / "file", server.getsockname()[1])
    assert done.returncode == 0 and done.stdout == "", done.stdout + done.stderr


ISOLATED = """
import json, os, sys
from pathlib import Path
import confine
room, secret, other = sys.argv[1:4]
bounds = confine.isolate(room, [secret, other], [room, sys.prefix, sys.base_prefix])
found = {"bounds": bounds}
def attempt(name, function):
    try:
        found[name] = function()
    except OSError as error:
        found[name] = type(error).__name__
attempt("read", lambda: sorted(os.listdir(secret)))
attempt("write", lambda: Path(secret, "new").write_text("x"))
attempt("elsewhere", lambda: Path("/etc/coursework-was-here").write_text("x"))
attempt("room", lambda: Path(room, "mine").write_text("mine"))
def environments():
    text = b""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            text += path.read_bytes()
        except OSError:
            pass
    return "tok-tok" in text.decode(errors="replace").replace("COURSE_OWN=tok-tok", "")
attempt("environments", environments)
attempt("unmount", lambda: confine.libc().umount2(os.fsencode(secret), 2) == 0)
attempt("remount", lambda: confine.set_read_only("/", False))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a process could do after isolate()."""
    import json

    folder = tmp_path_factory.mktemp("isolated")
    for name in ("room", "secret", "other"):
        (folder / name).mkdir()
    (folder / "secret" / "gradebook.db").write_text("points", encoding="utf-8")
    holder = subprocess.Popen(
        [sys.executable, "-c", "input()"], env={**os.environ, "TOKEN": "tok-tok"}, stdin=subprocess.PIPE
    )
    try:
        done = run(ISOLATED, *(folder / name for name in ("room", "secret", "other")))
    finally:
        holder.communicate(b"\n")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folder


def needs(found, bound):
    if not found[0]["bounds"][bound]:
        pytest.skip(f"this system does not let us close {bound}")
    return found


def test_folders_cannot_be_seen(found):
    seen, folder = needs(found, "files")
    assert seen["read"] == [] and sorted(os.listdir(folder / "secret")) == ["gradebook.db"]


def test_nothing_but_the_room_can_be_written(found):
    seen, folder = needs(found, "files")
    assert seen["write"] in ("OSError", "PermissionError") and seen["elsewhere"] in ("OSError", "PermissionError")
    assert not Path("/etc/coursework-was-here").exists()
    assert seen["room"] == 4 and (folder / "room" / "mine").read_text(encoding="utf-8") == "mine"


def test_bounds_cannot_be_undone(found):
    seen, _ = needs(found, "files")
    assert seen["unmount"] is False and seen["remount"] in ("OSError", "PermissionError")


def test_other_processes_cannot_be_seen(found):
    """Neither this one nor the shell that it was started from, whose environments may hold tokens."""
    assert needs(found, "processes")[0]["environments"] is False


ENDS = """
import os, subprocess, sys
import confine
room = sys.argv[1]
if confine.isolate(room, [], [])["processes"]:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(987654)"], start_new_session=True)
    os._exit(int(sys.argv[2]))
os._exit(77)
"""


@pytest.mark.parametrize("status", [0, 3, 255])
def test_what_is_left_behind_ends_with_it(tmp_path, status):
    """The caller sees the status, and a process in a session of its own is gone."""
    import psutil

    done = run(ENDS, tmp_path, status)
    if done.returncode == 77:
        pytest.skip("this system does not let us close processes")
    assert done.returncode == status, done.stderr
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if "time.sleep(987654)" in " ".join(p.info["cmdline"] or [])
    ]


def test_no_kernel_without_a_room():
    """A kernel that was started in another way than it should be does not run at all."""
    line = [sys.executable, str(answers.COURSEWORK / "confine.py"), "-f", "nowhere.json"]
    env = {k: v for k, v in os.environ.items() if k != "COURSEWORK_ROOM"}
    done = subprocess.run(line, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode != 0 and "without a room" in done.stderr


def test_bounds_are_told():
    done = subprocess.run(
        [sys.executable, str(answers.COURSEWORK / "confine.py"), "--bounds"], capture_output=True, text=True
    )
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == ["network", "processes", "files"]
    assert all(line.split(": ")[1] in ("closed", "OPEN") for line in done.stdout.splitlines())


def test_hidden_and_kept(tmp_path):
    """What all programs need is never hidden, nor what would take a kept folder with it."""
    folders = "['/', '/usr', '/etc', sys.argv[1] + '/none', sys.argv[1]]"
    code = f"import sys, confine\nprint(confine.hide({folders}, [sys.argv[1]]))"
    done = run(code, tmp_path)
    assert done.stdout.strip() == "[]", done.stderr


ORPHAN = """
import os, sys, time
from pathlib import Path
import confine
parent = os.getpid()
if os.fork() == 0:
    while {alone} and os.getppid() == parent:  # as if the parent were killed just after it has started this process
        time.sleep(0.01)
    confine.die_with_parent(confine.is_not_parent(parent))
    Path(sys.argv[1]).write_text("lives")
    os._exit(0)
if {alone}:
    os._exit(0)
os.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize("alone", [True, False], ids=["the parent has ended", "the parent lives"])
def test_a_process_whose_parent_has_ended_does_not_go_on(tmp_path, alone):
    """Grading that is killed just after it has started a submission leaves none that grades on by itself."""
    done = run(ORPHAN.format(alone=alone), tmp_path / "orphan")  # until its outputs are closed, so by all processes
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert (tmp_path / "orphan").exists() is not alone
