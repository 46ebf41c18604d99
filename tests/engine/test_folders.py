"""helpers.engine.folders: where files lie, writing whole or not at all, one process in a folder."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from helpers.engine.errors import TrainingError
from helpers.engine.folders import atomic_write, cache_folder, data_folder, locked, write_errors, write_json
from tests.conftest import ROOT

NAMES = ("COURSE_DATA", "COURSE_CACHE", "XDG_CACHE_HOME")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


# ---------------------------------------------------------------------------------------------------------------------
# Where


@pytest.mark.parametrize("value", [None, ""])
def test_data_folder(monkeypatch, tmp_path, value):
    """The course's own; a variable that is set to nothing counts as absent."""
    if value is not None:
        monkeypatch.setenv("COURSE_DATA", value)
    assert data_folder() == ROOT / "data"
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert data_folder() == tmp_path


@pytest.mark.parametrize("value", [None, ""])
def test_cache_folder(monkeypatch, tmp_path, value):
    """COURSE_CACHE before XDG_CACHE_HOME before the home folder; empty variables count as absent."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("COURSE_CACHE", "XDG_CACHE_HOME"):
        if value is not None:
            monkeypatch.setenv(name, value)
    if os.name == "posix":
        assert cache_folder() == tmp_path / ".cache" / "face-restoration-course"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "face-restoration-course"
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_a_user_without_home(monkeypatch, tmp_path):
    """The home folder is asked for only where nothing else says where to write."""

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(RuntimeError, match="home"):
        cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().parent == tmp_path
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


# ---------------------------------------------------------------------------------------------------------------------
# Writing


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_could_not_be_written_is_removed(tmp_path, error):
    """A full disk is not filled further by halves of files; the earlier file stays."""
    path = tmp_path / "a.txt"
    path.write_text("earlier", encoding="utf-8")

    def write(part):
        part.write_text("half", encoding="utf-8")
        raise error

    with pytest.raises(type(error)):
        atomic_write(path, write)
    assert path.read_text(encoding="utf-8") == "earlier" and list(tmp_path.iterdir()) == [path]


def test_it_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    """After a power cut the name must not belong to a file whose content was still in memory."""
    order = []
    sync, move = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (order.append("on disk"), sync(number)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("renamed"), move(a, b)))
    atomic_write(tmp_path / "a.txt", lambda part: part.write_text("new", encoding="utf-8"))
    assert order == ["on disk", "renamed"] and (tmp_path / "a.txt").read_text(encoding="utf-8") == "new"


def test_two_writers_never_share_a_temporary_file(tmp_path):
    """Each of eight threads writes its own letter slowly; the file is always one letter, never a mixture."""
    path, together, names = tmp_path / "a.txt", threading.Barrier(8), []

    def write(letter, part):
        names.append(part.name)
        together.wait(30)
        with part.open("w") as file:
            for _ in range(50):
                file.write(letter)
                file.flush()

    threads = [
        threading.Thread(target=atomic_write, args=(path, lambda part, letter=letter: write(letter, part)))
        for letter in "abcdefgh"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = path.read_text(encoding="utf-8")
    assert text == text[0] * 50 and len(set(names)) == 8 and list(tmp_path.iterdir()) == [path]


def test_json_comes_back(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, 2.5, None], "ä": "–"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"a": [1, 2.5, None], "ä": "–"}


FULL = OSError(28, "No space left on device"), RuntimeError("write failed\nat line 7"), OSError()


@pytest.mark.parametrize("error", FULL)
def test_an_error_of_the_disk_is_one_sentence(error):
    wanted = r"a/b\.pt cannot be written \(.+\); what was saved before is whole$"
    with pytest.raises(TrainingError, match=wanted) as told, write_errors("a/b.pt"):
        raise error
    assert "\n" not in str(told.value)


def test_other_errors_pass():
    """What is no error of writing keeps its kind, and a sentence is not wrapped in a second one."""
    with pytest.raises(KeyError), write_errors("a"):
        raise KeyError("x")
    with pytest.raises(TrainingError, match=r"^in use$"), write_errors("a"):
        raise TrainingError("in use")


# ---------------------------------------------------------------------------------------------------------------------
# The lock


def test_a_folder_takes_one(tmp_path):
    """The second is told who is in; afterwards the folder is free, and nothing is left in it."""
    wanted = rf"in use by another run \(process {os.getpid()} on .*choose another"
    with locked(tmp_path):
        with pytest.raises(TrainingError, match=wanted), locked(tmp_path):
            pytest.fail("two were let in")
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path):
        pass


def test_the_lock_ends_with_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        _ = 1 / 0
    with locked(tmp_path):
        pass


def test_a_stale_lock_is_taken_over(tmp_path):
    """A file without a process that holds it, whatever number stands in it (even this process's own)."""
    for text in ("process 999999999 on elsewhere\n", f"process {os.getpid()} on here\n", ""):
        (tmp_path / ".lock").write_text(text, encoding="utf-8")
        with locked(tmp_path):
            assert str(os.getpid()) in (tmp_path / ".lock").read_text(encoding="utf-8")


HOLD = """
import pathlib, sys, time
from helpers.engine.folders import locked
with locked(pathlib.Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows has other signals")
def test_a_killed_process_keeps_nobody_out(tmp_path):
    """While it lives it is named; after kill -9 the folder is free at once."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout.readline() == b"in\n"
        with pytest.raises(TrainingError, match=f"process {process.pid} on"), locked(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with locked(tmp_path):
        pass


def test_many_take_turns(tmp_path):
    """Threads that try again and again: never two inside at a time, though each removes the file when it leaves."""
    inside, most = [0], [0]

    def turn():
        entered, ended = 0, time.monotonic() + 60
        while entered < 5 and time.monotonic() < ended:
            try:
                with locked(tmp_path):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    time.sleep(0.0005)
                    inside[0] -= 1
                entered += 1
            except TrainingError:
                time.sleep(0.0005)
        turns.append(entered)

    turns = []
    threads = [threading.Thread(target=turn) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and turns == [5] * 6
