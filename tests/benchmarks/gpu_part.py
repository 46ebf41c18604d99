"""One part of :mod:`tests.benchmarks.gpu_plan`, in a process of its own: as many steps as fit, checkpoint, measures.

``python -m tests.benchmarks.gpu_part NAME --seconds S [--dry-run]`` is what the plan calls.
"""

import argparse
import importlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from helpers.comparison import images_seen, row_of
from helpers.engine.checkpoints import fill, load_checkpoint, read_about, save_checkpoint
from helpers.engine.devices import device_for
from helpers.engine.folders import write_json
from helpers.engine.runs import read_history, read_state
from helpers.experiments import skip_training
from helpers.methods import METHODS
from helpers.metrics import means, measure
from helpers.mixed import named_sets, training_set
from helpers.networks import DeblurModel
from helpers.pairs import Pairs
from helpers.perceptual import load_lpips
from tests.benchmarks import report
from tests.benchmarks.__main__ import run
from tests.benchmarks.gpu_plan import PHOTOGRAPHS, Part, folder, miniature, plan, read_record, write_record
from tests.benchmarks.measure import Setup

THESIS, SKIP = "helpers.training", "helpers.experiments.skip_training"
PROBED = (24, 96)  # steps of the two probes; what lies between them is the time of a step
EPOCH = 5.0  # seconds in which an epoch of the thesis's model is measured and saved, on a GPU
START = 25.0  # seconds from the start of its training to the first step, once it has been compiled


def options_of(part: Part, steps: dict[str, int], out: Path, *more: str) -> list[str]:
    """The arguments of a training: those of the plan, the numbers of steps, the folder."""
    numbers = [text for option, count in steps.items() for text in (option, str(count))]
    if part.command[0] == THESIS:  # equation 42, proportional: 15 of 60 epochs
        numbers += ["--halve-every", str(max(1, steps["--epochs"] // 4))]
    return [*part.command[1:], *numbers, "--out", str(out), *more]


def option(part: Part, name: str, default: str) -> str:
    """The value of an option of the training, the last where it is named twice."""
    values = [value for key, value in zip(part.command, part.command[1:], strict=False) if key == name]
    return values[-1] if values else default


def data_of(part: Part) -> list[str] | None:
    """The sets that a training names; None for the shipped faces."""
    return [value for key, value in zip(part.command, part.command[1:], strict=False) if key == "--data"] or None


def call(main: Callable, argv: list[str]) -> str:
    """Run a training's command line; "" when it came to its end, else the sentence that it ended with."""
    print("$", main.__module__, *argv, flush=True)
    try:
        main(argv)
    except SystemExit as end:
        return str(end.code or "")
    return ""


# ---------------------------------------------------------------------------------------------------------------------
# How many steps fit


def scaled(steps: dict[str, int], fraction: float) -> dict[str, int]:
    """``fraction`` of the steps of each stage, one at least."""
    return {option: max(1, round(count * fraction)) for option, count in steps.items()}


def steps_that_fit(part: Part, main: Callable, seconds: float, probe: Path) -> dict[str, int]:
    """Steps of each stage for ``seconds``, in the plan's proportions, from two short runs in the folder ``probe``."""
    began, total, took = time.monotonic(), sum(part.steps.values()), []
    fractions = [min(1.0, steps / total) for steps in PROBED]
    few = [] if "--limit" in part.command else ["--limit", str(4 * int(option(part, "--batch-size", "16")))]
    few += ["--validate-every", "0"] if part.command[0] == SKIP else []
    for number, fraction in enumerate(fractions):
        started = time.monotonic()
        told = call(main, options_of(part, scaled(part.steps, fraction), probe / str(number), *few))
        if told:
            raise SystemExit(told)
        took.append(time.monotonic() - started)
    counts = [sum(scaled(part.steps, fraction).values()) for fraction in fractions]
    step = max(took[1] - took[0], 1e-3) / max(counts[1] - counts[0], 1)
    left = 0.9 * (seconds - (time.monotonic() - began)) - min(took)
    print(f"{1000 * step:.1f} ms a step, {left:.0f} s left", flush=True)
    return scaled(part.steps, min(1.0, max(left / step, 1.0) / total))


def epochs_that_fit(part: Part, main: Callable, seconds: float, probe: Path) -> dict[str, int]:
    """The same for the thesis's model, whose history tells its images a second; part 3 takes part 2's word for it."""
    began, batch = time.monotonic(), int(option(part, "--batch-size", "16"))
    runs = folder("RUNS")
    speed = next((r["speed"] for p in plan() if "speed" in (r := read_record(runs, p))), None)
    if speed is None:
        few = () if "--limit" in part.command else ("--limit", str(96 * batch), "--repeat", "1")
        told = call(main, options_of(part, {"--epochs": 2}, probe, *few))
        if told:
            raise SystemExit(told)
        speed = read_history(probe)[-1]["images_per_second"]
        write_record(runs, part, {"speed": speed})
    data, place = data_of(part), part.command.index("--shares") + 1 if "--shares" in part.command else 0
    shares = [float(value) for value in part.command[place : place + len(data)]] if place else None
    images = len(training_set(data, shares, int(option(part, "--limit", "0")) or None)[0])
    epoch = images * int(option(part, "--repeat", "1")) / speed + EPOCH
    left = 0.95 * (seconds - (time.monotonic() - began)) - START
    print(f"{speed:.1f} images/s, {epoch:.1f} s an epoch, {left:.0f} s left", flush=True)
    return {"--epochs": max(1, min(part.steps["--epochs"], int(left / epoch)))}


# ---------------------------------------------------------------------------------------------------------------------
# What is left of a training


def checkpoint(part: Part, main: Callable, steps: dict[str, int], run_folder: Path, results: Path, ended: bool) -> Path:
    """Write what the run has come to as ``results``/<name>.safetensors, 8 bits a weight, trained to the end or not."""
    target = results / f"{part.name}.safetensors"
    for history in run_folder.rglob("history.jsonl"):  # of each stage
        stage = "-".join((part.name, *history.relative_to(run_folder).parts[:-1]))
        shutil.copy2(history, results / f"{stage}.jsonl")
    if part.command[0] == SKIP:
        skip_training.export(run_folder, target)
    elif part.command[0] == THESIS:
        model, best = DeblurModel(), run_folder / "best.safetensors"
        if best.exists():
            about = load_checkpoint(best, model)
            if not ended:
                about["stopped"] = f"the best of {len(read_history(run_folder))} of {steps['--epochs']} epochs"
        else:  # cut off in the first epoch
            state = read_state(run_folder)
            parts, settings, done = state["parts"], state["settings"], state["plain"]["done"]
            fill(model, parts.get("ema", parts["model"]))
            about = {"name": "thesis", **settings, "record": {"images_seen": done * settings["batch_size"]}}
            about["stopped"] = f"stopped after {done} steps, in the first epoch"
        save_checkpoint(target, model, about, "8-bit")
    else:
        if not ended:
            call(main, options_of(part, steps, run_folder, "--export"))
        (found,) = run_folder.glob("*.safetensors")
        for suffix in (".json", ".safetensors"):
            shutil.copy2(found.with_suffix(suffix), target.with_suffix(suffix))
    about = read_about(target)
    if part.name == PHOTOGRAPHS:
        write_json(target.with_suffix(".json"), about | {"may be passed on": not os.environ.get("COURSE_REAL_FACES")})
    return target


def measured(part: Part, path: Path, limit: int | None) -> dict:
    """Means of the five measures on validation and test pictures; the JSON beside ``path`` holds them afterwards."""
    about = read_about(path)
    if part.command[0] == SKIP:
        blind = "blind" in part.command
        few = min(limit or 100, 40 if blind else 100)  # a blind model is measured in ten cases
        skip_training.measure_knob(path, ["portraits", "faces"] if blind else None, few, None)
        about = read_about(path)
        rows = about["along the knob"]
        found = {split: next(r for r in rows[split] if r["knob"] == about["knob"]) for split in rows}
    elif not part.method:
        found = {"training faces": list(about["history"].values())[-1]}
    else:
        data = [name for name in data_of(part) or () if name != "faces"] or None
        sharp = {
            split: np.concatenate([np.stack(list(s)) for s in named_sets(data, split, limit)])
            for split in ("val", "test")
        }
        method, lpips, found = METHODS[part.method](path=path), load_lpips(device=device_for()), {}
        for split, images in sharp.items():
            batch = Pairs(images).batch(range(len(images)))
            restored = method.restore(batch.blurred, batch.params)
            if split == "val":
                found[split] = means(measure(restored, images, lpips)).to_dict()
            else:
                found["test, blurred"] = means(measure(batch.blurred, images, lpips)).to_dict()
                found[split] = row_of(restored, images, sharp["val"], lpips)
        found["pictures"] = {split: len(images) for split, images in sharp.items()}
    write_json(path.with_suffix(".json"), about | {"measures": found})
    return found


def in_words(found: dict) -> str:
    """The validation measures for the table."""
    row = found.get("val") or {k[4:]: v for k, v in found["training faces"].items() if k.startswith("val_")}
    return ", ".join(f"{k} {v:.3f}" for k, v in row.items() if k == "PSNR" or "LPIPS" in k or "l1" in k)


# ---------------------------------------------------------------------------------------------------------------------
# A part


def train(part: Part, seconds: float, dry: bool) -> None:
    """Train for ``seconds`` at most, or until SIGTERM; leave checkpoint, measures and the record for the table."""
    began, stopped = time.monotonic(), []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))  # inside a training, its own handler saves
    main, runs = importlib.import_module(part.command[0]).main, folder("RUNS")
    run_folder, probe, results = runs / part.name, runs / "probe" / part.name, runs / "results"
    record = read_record(runs, part)
    steps = record.get("steps")
    if not steps:
        shutil.rmtree(probe, ignore_errors=True)
        fit = epochs_that_fit if part.command[0] == THESIS else steps_that_fit
        steps = fit(part, main, seconds, probe)
        shutil.rmtree(probe, ignore_errors=True)
        write_record(runs, part, {"steps": steps})
    started = time.monotonic()
    told = "stopped" if stopped else call(main, options_of(part, steps, run_folder))
    spent = record.get("training seconds", 0.0) + time.monotonic() - started
    print(told, flush=True)
    if told and "stopped" not in told:
        raise SystemExit(told)
    path = checkpoint(part, main, steps, run_folder, results, not told)
    about = read_about(path)
    seen = about.get("images_seen") or images_seen(about) or 0  # the first does not count what it began with
    facts = {"images": seen, "images/s": seen / spent, "training seconds": spent, "steps": steps}
    facts["state"] = "cut off" if told else "done"
    write_record(runs, part, facts)
    found = measured(part, path, 2 if dry else None)
    took = record.get("seconds", 0.0) + time.monotonic() - began
    write_record(runs, part, {"seconds": took, "validation": in_words(found)})


def benchmark(dry: bool) -> None:
    """Images a second beside the plain loop and the share of the peak, in a minute: the plan's batch size alone."""
    device = device_for()
    setup = Setup.quick(device) if dry else replace(
        Setup.full(device), faces=2048, batch=64, turns={64: 10}, segments=3, steps=5, matrices=(4096, 8192),
    )  # fmt: skip
    for name in ("training", "peak"):
        result = run(name, setup)
        report.merge(folder("RUNS") / "results" / "benchmarks_gpu.json", name, result)
        print(report.section(name, result), flush=True)


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu_part", description=__doc__.split("\n\n")[0])
    parser.add_argument("name", choices=[part.name for part in plan()])
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args(argv)
    part = next(part for part in plan() if part.name == args.name)
    torch.backends.cudnn.benchmark = torch.cuda.is_available()  # shapes stay the same
    sys.setswitchinterval(2e-4)  # threads that make batches hand Python's lock back sooner to the one that trains
    if part.steps:
        train(miniature(part) if args.dry_run else part, args.seconds, args.dry_run)
    else:
        benchmark(args.dry_run)


if __name__ == "__main__":
    main()
