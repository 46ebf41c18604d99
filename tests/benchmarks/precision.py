"""One step of every training in float32 and in 16 bits, and which of the two is chosen here.

python -m tests.benchmarks.precision
ONEDNN_MAX_CPU_ISA=AVX2 python -m tests.benchmarks.precision --out build/avx2.json       # as an ordinary laptop's
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import torch

from helpers.engine import runs
from helpers.engine.precision import NAMES, precision_for
from helpers.experiments import ablations, skip_training
from helpers.experiments.variants import PRESETS, VARIANTS, blur
from helpers.reviewed import autodecoder, diffir_training, pmrf_training
from tests.benchmarks import ours
from tests.benchmarks.measure import Setup, faces, metric, wait

TINY = {"dim": 8, "num_blocks": (1, 1, 1, 1), "heads": (1, 1, 2, 2), "num_refinement_blocks": 1, "n_encoder_res": 1}


def batch_of(setup: Setup) -> int:
    """The batch size; what is faster for one is faster for the others."""
    return 2 if setup.image_size < 128 else 4


def trainings(setup: Setup) -> dict[str, Callable[[str, Path, int], object]]:
    """Name -> what trains so many steps in a number format, in a folder; as the commands do, but for the batch.

    In a setup of small pictures the networks are small too, where their training lets one choose.
    """
    batch, quick = batch_of(setup), setup.image_size < 128
    lpips, images = metric(setup.device), faces(setup, 4 * batch)
    shared = {"batch_size": batch, "progress": False}
    preset = PRESETS["tiny" if quick else "laptop"]

    def pmrf(precision, out, steps):
        pmrf_training.train(images, out, steps, steps, 8 if quick else 32, precision=precision, **shared)

    def diffir(precision, out, steps):
        crop, small = (32, TINY) if quick else (64, None)
        diffir_training.train(images, out, *[steps] * 3, crop, precision=precision, small=small, **shared)

    def generator(precision, out, steps):
        large, shape = faces(Setup(setup.device), 4 * batch), {"w_dim": 8, "channels": 16} if quick else {}  # 128 px
        rest = {"lpips": lpips, "precision": precision, **shape, **shared}
        autodecoder.train(large, out, steps, 0 if quick else steps, **rest)

    def skip(precision, out, steps):
        shape = {"widths": (8, 8, 16, 16), "depths": (1, 1, 1, 1)} if quick else {}
        skip_training.train(images, out, steps, lpips=lpips, precision=precision, **shape, **shared)

    def ablation(precision, out, steps):
        small = faces(Setup.quick(setup.device), preset.batch_size)
        ablations.train(VARIANTS["thesis"], preset, small, 0, lpips, blur(64), small, False, out, precision)

    return {"PMRF": pmrf, "DiffIR": diffir, "autodecoder": generator, "skip model": skip, "ablation": ablation}


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """Processor time of this process, which other work on the machine leaves alone; on a GPU the time of the clock."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    wait(device)
    started = clock()
    action()
    wait(device)
    return clock() - started


def steps_of(train: Callable, precision: str, setup: Setup) -> dict[str, float]:
    """Stage -> the seconds of its fastest step, of ``setup.steps`` after one to warm up; the state is not written."""
    found = {}

    def timed(out, settings, parts, step, steps, *rest, desc="train", **more):
        if steps:
            step(0)
            found[desc] = min(seconds(partial(step, n), setup.device) for n in range(1, setup.steps + 1))
        return []

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(runs, "run", timed):
        train(precision, Path(folder), setup.steps + 1)
    return found


def thesis(precision: str, setup: Setup) -> dict[str, float]:
    """The same of the thesis's training, which is counted in epochs and has a loop of its own."""
    run = ours.Ours(setup, batch_of(setup), precision=precision)
    batch = run.batch()
    run.step(*batch)
    return {"thesis": min(seconds(lambda: run.step(*batch), setup.device) for _ in range(setup.steps))}


def precision(setup: Setup) -> dict:
    """A row for each stage of each training: both formats, the one chosen, and its time against the faster one's."""
    chosen = precision_for(setup.device)
    formats = ("no", chosen if chosen != "no" else "bf16")
    measured = {"thesis": lambda name: thesis(name, setup)}
    measured |= {title: partial(steps_of, train, setup=setup) for title, train in trainings(setup).items()}
    rows = []
    for title, measure in measured.items():
        best: dict[str, dict[str, float]] = {}
        for _ in range(setup.launches):  # in turns, so that what else the machine does hits both
            for name in formats:
                for stage, found in measure(name).items():
                    times = best.setdefault(stage, {})
                    times[name] = min(found, times.get(name, found))
        for stage, times in best.items():
            row = {"training": title, "stage": stage} | {f"{NAMES[n]} (ms)": 1000 * t for n, t in times.items()}
            rows.append(row | {"chosen": NAMES[chosen], "against the faster": times[chosen] / min(times.values())})
    note = (
        f"One step of each training, the fastest of {setup.launches} × {setup.steps}, in processor time, at batch "
        f"size {batch_of(setup)} (the ablation at its own). The choice is that of helpers.engine.precision; 1 in the "
        "last column is the faster one."
    )
    return {"note": note, "rows": rows}


if __name__ == "__main__":
    import sys

    from tests.benchmarks.__main__ import main

    main(["precision", *sys.argv[1:]])
