"""The data pipeline alone, and how long a training takes to start."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from helpers.pairs import Pairs
from tests.benchmarks import ours
from tests.benchmarks.measure import Setup, faces, rates, take_turns
from tests.benchmarks.plain import order, prepare
from tests.benchmarks.training import write_files


def plain_batches(files: list[Path], batch_size: int) -> Iterator:
    """The plain loop's batches, without end."""
    for epoch, indices in order(len(files), batch_size):
        yield prepare(files, indices, epoch)


def take(batches: Iterator, count: int) -> None:
    """The first ``count`` batches; threads that make more are ended."""
    for _ in range(count):
        next(batches)
    batches.close()


def pipeline(setup: Setup) -> dict:
    """Images a second that the loader makes when nobody trains, by its number of threads, beside the plain way."""
    images, batch_size = faces(setup), setup.batch
    count = max(1, setup.loaded // batch_size)
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(images, Path(folder))
        makers = {"plain": lambda: plain_batches(files, batch_size)}
        for n in setup.threads:
            makers[f"ours, {n} threads"] = lambda n=n: ours.loaded(
                Pairs(images, flip=True), batch_size, setup.device, n
            )
        actions = {name: lambda make=make: take(make(), count) for name, make in makers.items()}
        take(makers["plain"](), 1)
        times = take_turns(actions, setup.rounds, setup.device)
    rows = []
    for name in makers:
        row = {"loader": name, **rates(count * batch_size, times[name])}
        rows.append(row | {"times plain": row["images/s"] / rows[0]["images/s"] if rows else 1.0})
    note = (
        f"Batches of {batch_size} made one after the other from {len(images)} faces: mirror, blur, 8 bits, Canny, "
        f"tensors. `plain` reads a file for each picture. {setup.rounds} turns of {count} batches."
    )
    return {"note": note, "rows": rows}


# ---------------------------------------------------------------------------------------------------------------------
# Time to start

START = """
import json, sys, time
began = time.perf_counter()
def lap(name):
    global began
    now = time.perf_counter()
    laps[name] = now - began
    began = now
laps = {}
import torch
lap("import torch")
from helpers.training import train
lap("import the helpers")
from tests.benchmarks import measure, ours
setup = getattr(measure.Setup, sys.argv[1])(torch.device(sys.argv[2]))
began = time.perf_counter()
images = measure.faces(setup, min(6600, int(sys.argv[3])))
lap("decode the faces")
scale = measure.metric(setup.device)
lap("LPIPS")
run = ours.Ours(setup, setup.batch, images=images, metric=scale)
lap("networks and optimiser")
loop = run.losses()
next(loop)
measure.wait(setup.device)
lap("first step")
next(loop)
measure.wait(setup.device)
lap("second step")
loop.close()
print(json.dumps(laps))
"""


def start(setup: Setup) -> dict:
    """From the command to the end of the first step, in a fresh interpreter."""
    name = "quick" if setup.image_size < 128 else "full"
    count = "6600" if name == "full" else "24"
    laps: list[dict[str, float]] = []
    for _ in range(setup.launches):
        done = subprocess.run(
            [sys.executable, "-c", START, name, str(setup.device), count],
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"the fresh interpreter failed:\n{done.stderr[-2000:]}")
        laps.append(json.loads(done.stdout.splitlines()[-1]))
    rows = [{"what": what, "s": min(lap[what] for lap in laps), "first time (s)": laps[0][what]} for what in laps[0]]
    whole = [sum(v for k, v in lap.items() if k != "second step") for lap in laps]
    rows.append({"what": "until the first step is done", "s": min(whole), "first time (s)": whole[0]})
    note = (
        f"A fresh interpreter, {count} faces, batch {setup.batch}; the better of {len(laps)} and the first "
        "(whose files are perhaps not yet in the system's cache)."
    )
    return {"note": note, "rows": rows}
