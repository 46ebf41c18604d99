"""tests.fuzz: a short turn of each target, the files that once broke a reader, and what the loop sees."""

import os
import random
import signal
import subprocess

import psutil
import pytest

from tests.fuzz import loop
from tests.fuzz.loop import Finding, attempt, kept_seeds
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS, Target

TURN = 150  # mutated files of each target


@pytest.fixture(scope="module", params=TARGETS)
def target(request):
    return request.param, TARGETS[request.param], TARGETS[request.param].seeds()


def test_a_short_turn(target):
    """Nothing but the documented exceptions, no file outside, no memory above the bound."""
    name, reader, seeds = target
    draw = random.Random(1)
    for _ in range(TURN):
        attempt(reader, mutated(draw, seeds, reader.words))


def test_seeds_are_read(target):
    """Most of the files that mutations start from are good ones, so that mutations reach what lies behind."""
    name, reader, seeds = target
    paths = [attempt(reader, data) for data in seeds]
    assert sum(path[0] == "fine" for path in paths) > len(seeds) / 2


def test_files_that_once_broke_it(target):
    name, reader, _ = target
    for data in kept_seeds(name):
        attempt(reader, data)


def reader(call, memory=2**26, seconds=20):
    return Target(lambda: [b"seed"], call, (KeyError,), memory, [b"word"], seconds)


def outside(data, folder):
    (folder.parent / "fuzz-outside").write_text("x", encoding="utf-8")


def test_what_the_loop_sees(tmp_path):
    """Another exception, a file beside the folder, a program, and memory; and no more than that."""
    assert attempt(reader(lambda data, folder: (folder / "x").write_bytes(data)), b"x")[0] == "fine"
    assert attempt(reader(lambda data, folder: {}[data]), b"x")[0] == "KeyError"
    for call, told in (
        (lambda data, folder: [][1], "IndexError is not documented"),
        (lambda data, folder: (tmp_path / "x").write_text("x", encoding="utf-8"), "outside of its folder"),
        (lambda data, folder: os.rename(folder, tmp_path / "y"), "outside of its folder"),
        (lambda data, folder: (folder / ".." / "fuzz-x").mkdir(), "outside of its folder"),
        (lambda data, folder: subprocess.run(["true"]), "outside of its folder"),
        (lambda data, folder: bytearray(loop.peak() - psutil.Process().memory_info().rss + 2**27), "MiB of memory"),
    ):
        with pytest.raises(Finding, match=told):
            attempt(reader(call), b"x")
    for path in tmp_path.parent.glob("fuzz-x"):
        path.rmdir()


def dies(data, folder):
    if data != b"seed":
        os.kill(os.getpid(), signal.SIGKILL)


def hangs(data, folder):
    if data != b"seed":
        while True:
            pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("call", "told"), [(dies, "ended by SIGKILL"), (hangs, "took more than 0.5 s")])
def test_a_reader_that_takes_the_process_with_it(tmp_path, capsys, call, told):
    """The file that did it is kept, and the loop goes on."""
    executions, found = loop.run("x", reader(call, seconds=0.5), 0.02, 0, tmp_path)
    assert executions >= 1 and found >= 1 and told in capsys.readouterr().out
    assert all(path.read_bytes() != b"seed" for path in tmp_path.glob("x-*.bin"))


def test_mutations_are_the_same_every_time():
    one, two = ([mutated(random.Random(n), [b"seed" * 9], [b"word"]) for n in range(50)] for _ in range(2))
    assert one == two and len(set(one)) > 40
