"""helpers.engine.store: large folders decoded once into a file, as helpers.data.load_split uses it."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple

import numpy as np
import pytest
import torch

from helpers import data, photos
from helpers.engine import store
from helpers.engine.errors import ImageError
from tests.conftest import ROOT
from tests.pictures import save


@pytest.fixture
def many(tmp_path, monkeypatch):
    """A folder of forty pictures of different grey, more than are held in memory here; a cache of its own."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "IN_MEMORY", 1)
    for i in range(40):
        save(tmp_path / "photos" / f"{i:02d}.png", np.full((20, 20, 3), i, np.uint8))
    return tmp_path / "photos"


def greys(images) -> list[int]:
    return [int(image[0, 0, 0]) for image in images]


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are decoded."""
    names, original = [], photos.read_image

    def read(path, *rest):
        names.append(path.name)
        return original(path, *rest)

    monkeypatch.setattr(photos, "read_image", read)
    return names


def the_store(many):
    (folder,) = (many.parent / "cache").iterdir()
    return folder


def test_stored_equals_loaded(many, monkeypatch):
    """The same pictures as from memory, split by split: one by one, in slices, by arrays of positions, in pairs."""
    from helpers.pairs import Pairs

    for split in data.SPLITS:
        stored = data.load_split(many, split)
        with monkeypatch.context() as patch:
            patch.setattr(data, "IN_MEMORY", 100)
            loaded = data.load_split(many, split)
        assert isinstance(stored, store.Stored) and isinstance(loaded, np.ndarray) and len(stored) == len(loaded)
        assert np.array_equal(np.stack(list(stored)), loaded) and np.array_equal(stored[:2], loaded[:2])
        assert stored[0].shape == (128, 128, 3) and stored[0].dtype == np.uint8
        assert np.array_equal(stored[np.array([1, 0])], loaded[[1, 0]])
        with pytest.raises(IndexError):
            stored[len(stored)]
        assert torch.equal(
            Pairs(stored, flip=True).batch([0, 1], 3).input, Pairs(loaded, flip=True).batch([0, 1], 3).input
        )
    assert "2 photographs, 128×128" in repr(stored)


def test_stored_pictures_are_mapped_and_cannot_be_changed(many):
    stored = data.load_split(many, "train")
    with pytest.raises(ValueError, match="read-only"):
        stored.pixels[0] = 0
    assert isinstance(stored.pixels.base, np.memmap)


def test_files_are_decoded_once(many, decoded):
    """All splits and limits share one store; each file is read the first time that it is asked for."""
    assert greys(data.load_split(many, "train", limit=5)) == [0, 1, 2, 3, 4] and len(decoded) == 5
    data.load_split(many, "train")
    assert len(decoded) == 36
    assert greys(data.load_split(many, "val")) == [18, 38] and len(decoded) == 38
    data.load_split(str(many), "train")
    assert greys(data.load_split(many, "train", limit=2)) == [0, 1] and len(decoded) == len(set(decoded)) == 38


def test_one_folder_has_one_store(many, decoded, monkeypatch, tmp_path):
    """However it is written: absolute, from inside, with a detour, with a slash at the end, through a link."""
    data.load_split(many, "train")
    (tmp_path / "link").symlink_to(many)
    monkeypatch.chdir(many)
    for spelling in (".", "../photos", "./", f"{many}/", many / ".." / "photos", tmp_path / "link"):
        assert len(data.load_split(spelling, "train")) == 36
    assert len(decoded) == 36
    the_store(many)  # there is one


@pytest.mark.parametrize("root", [".", "../photos", "{}/"])
def test_keys_do_not_depend_on_how_the_root_is_written(many, decoded, monkeypatch, root):
    monkeypatch.chdir(many)
    folder = many.parent / "store"
    store.store(photos.open_folder(many), many, folder)
    again = store.store(photos.open_folder(root.format(many)), root.format(many), folder)
    assert greys(again) == list(range(40)) and len(decoded) == 40


def test_without_a_home_the_variable_is_named(many, monkeypatch):
    """Only where a store is needed; a small folder needs none."""

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(data, "cache_folder", no_home)
    with pytest.raises(ImageError, match="COURSE_CACHE"):
        data.load_split(many, "train")
    monkeypatch.setattr(data, "IN_MEMORY", 100)
    assert len(data.load_split(many, "train")) == 36


def test_a_changed_folder(many, decoded, capsys):
    """A file that changed is told and read again, a new one is read, one that is gone is not handed out."""
    data.load_split(many, "train")
    save(many / "03.png", np.full((30, 30, 3), 203, np.uint8))
    save(many / "00a.png", np.full((20, 20, 3), 200, np.uint8))
    (many / "05.png").unlink()
    decoded.clear()
    capsys.readouterr()
    images = greys(data.load_split(many, "train"))
    assert images[:6] == [0, 200, 1, 2, 203, 4] and 5 not in images
    assert "1 photographs have changed" in capsys.readouterr().out
    assert {"03.png", "00a.png"} <= set(decoded) and not {"00.png", "10.png"} & set(decoded)
    shutil.rmtree(many)
    with pytest.raises(ImageError, match="photos: there is no such folder"):
        data.load_split(many, "train")


def test_a_file_that_vanishes_while_it_is_listed(many, monkeypatch):
    original = photos._list

    def listed(folder):
        paths, left_out = original(folder)
        paths[7].unlink()
        return paths, left_out

    monkeypatch.setattr(photos, "_list", listed)
    with pytest.raises(ImageError, match=r"07\.png: the file was there a moment ago"):
        data.load_split(many, "train")


def test_broken_files_are_listed_together(many, decoded):
    """One error names them all; the good ones are stored, and are not decoded again when the broken are mended."""
    for i in (4, 11):
        (many / f"{i:02d}.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"2 of 36 files(.|\n)*04\.png(.|\n)*11\.png"):
        data.load_split(many, "train")
    decoded.clear()
    save(many / "04.png", np.full((20, 20, 3), 4, np.uint8))
    (many / "11.png").unlink()
    assert greys(data.load_split(many, "train"))[:5] == [0, 1, 2, 3, 4]
    assert set(decoded) <= {"04.png", "18.png", "38.png"}  # one file less: others move into the split


def test_a_full_disk_says_how_much_is_needed(many, monkeypatch):
    """Known before the first picture is decoded: 36 pictures of 128 × 128 × 3 bytes."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    with pytest.raises(ImageError, match=r"too full .*1,769,472 bytes .*COURSE_CACHE"):
        data.load_split(many, "train")
    monkeypatch.undo()


def test_a_disk_that_fills_up(many, monkeypatch, decoded):
    """Nine pictures fit (a limit on the size of a file), then no more: told; what is there is whole."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(store, "AT_ONCE", 4)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9 * 128 * 128 * 3 + 7, limits[1]))
    try:
        with pytest.raises(ImageError, match=r"too full .*1,769,472 bytes .*is whole"):
            data.load_split(many, "train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len((the_store(many) / "index.jsonl").read_text(encoding="utf-8").splitlines()) == 8
    decoded.clear()
    assert greys(data.load_split(many, "train"))[:12] == list(range(12))
    assert "07.png" not in decoded and len(decoded) == 28


@pytest.mark.parametrize("cut", ["index", "pixels", "both"])
def test_a_store_that_was_cut(many, decoded, cut):
    """Half a line, half a picture, as a power cut may leave them: what is whole is kept, the rest is read again."""
    data.load_split(many, "train")
    for name, size in (("index.jsonl", 15), ("pixels.bin", 128 * 128 * 3 * 3 // 2)):
        if cut in (name.split(".")[0], "both"):
            path = the_store(many) / name
            os.truncate(path, path.stat().st_size - size)
    decoded.clear()
    assert greys(data.load_split(many, "train")) == [i for i in range(40) if i % 20 < 18]
    assert 1 <= len(decoded) <= 2


KILLED = """
import sys, time
from helpers import data, photos
from helpers.engine import store
data.IN_MEMORY, store.AT_ONCE, original = 1, 3, photos.read_image
photos.read_image = lambda *arguments: time.sleep(0.05) or original(*arguments)
data.load_split(sys.argv[1], "train")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_kill_while_the_store_is_built(many, decoded):
    """What was stored before the kill is not decoded again."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(many)], cwd=ROOT, stderr=subprocess.DEVNULL)
    cache, deadline = many.parent / "cache", time.monotonic() + 60
    try:
        while not any(len(p.read_text(encoding="utf-8").splitlines()) >= 6 for p in cache.glob("*/index.jsonl")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    done = len((the_store(many) / "index.jsonl").read_text(encoding="utf-8").splitlines())
    assert greys(data.load_split(many, "train")) == [i for i in range(40) if i % 20 < 18]
    assert 6 <= done < 36 and len(decoded) == 36 - done


def test_two_at_once_build_one_store(many, decoded):
    """As two processes of a run do (here two threads): one decodes, the other waits and finds it done."""
    pytest.importorskip("fcntl")
    results = []
    threads = [threading.Thread(target=lambda: results.append(greys(data.load_split(many, "train")))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] and len(results[0]) == 36 and len(decoded) == 36


def test_a_cache_that_cannot_be_written(many, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ImageError, match="cannot be stored there"):
        data.load_split(many, "train")


def test_small_folders_stay_in_memory(many, monkeypatch):
    monkeypatch.setattr(data, "IN_MEMORY", 36)
    assert isinstance(data.load_split(many, "train"), np.ndarray) and not (many.parent / "cache").exists()
