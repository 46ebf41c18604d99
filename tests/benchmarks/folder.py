"""A folder as large as CelebA: 200,000 small JPEG files, read by a fresh interpreter.

python -m tests.benchmarks.folder FOLDER first full cpu      # what the part runs twice; prints JSON
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import cv2
import torch

from helpers.data import SIZE, load_faces, load_split
from helpers.pairs import Pairs
from tests.benchmarks import ours
from tests.benchmarks.measure import Setup, proc_status, wait

HEIGHT, WIDTH = 218, 178  # CelebA's aligned photographs


def make_folder(folder: Path, count: int, different: int) -> None:
    """``count`` JPEG files of 178×218 pixels below ``folder``/train.

    ``different`` of them are pictures of their own (shipped faces, enlarged); the rest are further names of these
    (hard links), which a program that opens them cannot tell from files of their own.
    """
    target, originals = folder / "train", []
    target.mkdir(parents=True)
    for i, face in enumerate(load_faces("train", min(different, count))):
        path = target / f"{i:06d}.jpg"
        large = cv2.resize(face[..., ::-1], (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        if not cv2.imwrite(str(path), large, [cv2.IMWRITE_JPEG_QUALITY, 90]):
            raise OSError(f"{path} could not be written")
        originals.append(path)
    for i in range(len(originals), count):
        name = target / f"{i:06d}.jpg"
        try:
            os.link(originals[i % len(originals)], name)
        except OSError:  # a file system without hard links, or with few of them
            shutil.copyfile(originals[i % len(originals)], name)


def visit(folder: str, setup: Setup, load: bool) -> list[dict]:
    """Open the folder, load many batches or train a little; what each took, with this process's largest memory."""
    rows: list[dict] = []
    largest = {"VmRSS": 0.0, "RssAnon": 0.0}

    def look() -> None:
        status = proc_status()
        for name in largest:
            largest[name] = max(largest[name], status.get(name, 0.0))

    def lap(what: str, began: float, images: int | None = None) -> None:
        wait(setup.device)
        took = time.perf_counter() - began
        look()
        rows.append(
            {
                "what": what, "s": took, "images/s": images / took if images else None,
                "memory (MB)": largest["VmRSS"], "of it not files (MB)": largest["RssAnon"],
            }
        )  # fmt: skip

    began, batch_size = time.perf_counter(), setup.batch
    images = load_split(folder, "train")
    lap(f"open {len(images)} files", began)
    began = time.perf_counter()
    loop = ours.loaded(Pairs(images, flip=True), batch_size, setup.device)
    next(loop)
    lap("first batch", began)
    if load:
        began = time.perf_counter()
        for step in range(setup.folder_steps):
            next(loop)
            if step % 20 == 0:
                look()
        lap(f"{setup.folder_steps} steps of the loader alone", began, setup.folder_steps * batch_size)
    loop.close()
    if not load:
        losses = ours.Ours(replace(setup, image_size=SIZE), batch_size, images=images).losses()
        next(losses)
        began = time.perf_counter()
        for _ in range(setup.folder_trained):
            next(losses)
            look()
        losses.close()
        lap(f"{setup.folder_trained} steps of training", began, setup.folder_trained * batch_size)
    return rows


def launch(files: Path, start: str, name: str, setup: Setup) -> list[dict]:
    """:func:`visit` in a fresh interpreter, whose memory is its own."""
    command = [sys.executable, "-m", "tests.benchmarks.folder", str(files), start, name, str(setup.device)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the fresh interpreter failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def folder(setup: Setup) -> dict:
    """Make the folder, open it twice in a fresh interpreter, remove it."""
    name = "quick" if setup.image_size < 128 else "full"
    where = setup.folder or Path(tempfile.gettempdir())
    needed = 55_000 * setup.files + 10_000 * setup.different  # decoded pictures of 49 kB each, names, some JPEG files
    if shutil.disk_usage(where).free < needed:
        raise SystemExit(f"error: {where}: {needed / 1e9:.0f} GB must be free; --folder-path names another folder")
    with tempfile.TemporaryDirectory(dir=where, prefix="faces-") as temporary:
        files, cache = Path(temporary) / "photographs", Path(temporary) / "cache"
        began = time.perf_counter()
        make_folder(files, setup.files, setup.different)
        rows = [{"start": "before", "what": f"make {setup.files} files", "s": time.perf_counter() - began}]
        for start in ("first", "second"):
            with mock.patch.dict(os.environ, {"COURSE_CACHE": str(cache)}):  # removed with the files
                found = launch(files, start, name, setup) if setup.fresh else visit(str(files), setup, start == "first")
            stored = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) / 1e6
            rows += [{"start": start, **row} for row in found]
        rows[-1]["stored decoded (MB)"] = stored
    note = (
        f"{setup.files} JPEG files of {WIDTH}×{HEIGHT} pixels, {min(setup.different, setup.files)} different ones, "
        f"opened by a fresh interpreter, twice. Batches of {setup.batch}. The training is the thesis's model, "
        f"{setup.folder_trained} steps; the long run of steps is the loader alone, since nothing else of "
        "a step depends on the folder. Memory is the largest so far, libraries included; the system may take back "
        "what is mapped from files."
    )
    return {"note": note, "rows": rows}


if __name__ == "__main__":
    print(
        json.dumps(visit(sys.argv[1], getattr(Setup, sys.argv[3])(torch.device(sys.argv[4])), sys.argv[2] == "first"))
    )
