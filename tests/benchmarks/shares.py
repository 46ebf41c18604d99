"""Where the time of a step goes: by network and loss term, and as a picture of what ran when on which thread."""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from helpers.losses import l1_loss, latent_loss, ssim_loss, tv_loss
from tests.benchmarks import ours
from tests.benchmarks.measure import Setup, spread, wait

NETWORKS = ("deblur_encoder", "generator", "latent_encoder")


class Pieces:
    """A training step cut at the networks' borders, so that each piece can be timed; the gradients are the same.

    Between two pieces stands a tensor without a past: the piece before it made its value, the piece after it makes its
    gradient, and that gradient is where the first piece's backward pass begins.
    """

    def __init__(self, run: ours.Ours):
        self.run, self.model = run, run.model

    def step(self, inputs: torch.Tensor, target: torch.Tensor, update: bool = True) -> dict[str, float]:
        """One step; seconds of every piece."""
        times: dict[str, float] = {}

        def clock(name: str, action: Callable[[], object]):
            wait(inputs.device)
            started = time.perf_counter()
            result = action()
            wait(inputs.device)
            times[name] = time.perf_counter() - started
            return result

        def forward(name: str, x: torch.Tensor) -> torch.Tensor:
            with self.run.autocast():
                return clock(f"{name}, forward", lambda: getattr(self.model, name)(x))

        self.run.optimiser.zero_grad(set_to_none=True)
        self.model.train()
        z = forward("deblur_encoder", inputs)
        z_cut = z.detach().requires_grad_()
        restored = forward("generator", z_cut)
        restored_cut = restored.detach().requires_grad_()
        z_gt = forward("latent_encoder", target)
        z_gt_cut = z_gt.detach().requires_grad_()
        weights = asdict(self.run.terms.weights)
        terms = {
            "l1": lambda: l1_loss(restored_cut.float(), target),
            "lpips": lambda: self.run.terms.lpips(restored_cut, target).mean(),
            "ssim": lambda: ssim_loss(restored_cut, target),
            "tv": lambda: tv_loss(restored_cut.float()),
            "latent": lambda: latent_loss(z_cut, z_gt_cut),
        }
        for name, term in terms.items():
            with self.run.autocast(name == "lpips"):
                value = clock(f"loss {name}, forward", term)
            clock(f"loss {name}, backward", lambda value=value, name=name: (weights[name] * value).backward())
        clock("latent_encoder, backward", lambda: z_gt.backward(z_gt_cut.grad))
        clock("generator, backward", lambda: restored.backward(restored_cut.grad))
        clock("deblur_encoder, backward", lambda: z.backward(z_cut.grad))
        if update:
            clock("optimiser", self.run.optimiser.step)
        return times


def shares(setup: Setup) -> dict:
    """What share of a step each network and each loss term costs, each forward and backward."""
    torch.backends.cudnn.benchmark = True  # as training does on a GPU
    run = ours.Ours(setup, setup.batch, compiled=False)
    pieces, batch = Pieces(run), run.batch()
    pieces.step(*batch)
    run.step(*batch)
    steps, whole = [], []
    for _ in range(max(3, setup.rounds * setup.steps)):
        steps.append(pieces.step(*batch))
        started = time.perf_counter()
        run.step(*batch)
        wait(setup.device)
        whole.append(time.perf_counter() - started)
    total = spread([sum(s.values()) for s in steps])["median"]
    rows = []
    for name in [*NETWORKS, *(f"loss {t}" for t in ("l1", "lpips", "ssim", "tv", "latent")), "optimiser"]:
        ways = {way: f"{name}, {way}" for way in ("forward", "backward")} if name != "optimiser" else {"update": name}
        by_way = {way: 1e3 * spread([s[key] for s in steps])["median"] for way, key in ways.items()}
        rows.append(
            {
                "what": name, "forward (ms)": by_way.get("forward"), "backward (ms)": by_way.get("backward"),
                "both (ms)": sum(by_way.values()), "share of the step": sum(by_way.values()) / 1e3 / total,
            }
        )  # fmt: skip
    rows.append({"what": "all pieces", "both (ms)": 1e3 * total, "share of the step": 1.0})
    rows.append({"what": "the step in one piece", "both (ms)": 1e3 * spread(whole)["median"]})
    note = (
        f"Batch {setup.batch}, {run.kind}, medians of {len(steps)} steps. The step is cut at the networks' "
        "borders and each piece timed, without torch.compile; the gradients are those of the whole step (a test "
        "compares them)."
    )
    return {"note": note, "rows": rows}


# ---------------------------------------------------------------------------------------------------------------------
# A picture of three steps


def trace(setup: Setup, steps: int = 3) -> dict:
    """What ran when on which thread in a few steps of training with the loader, small enough for a notebook.

    ``intervals`` is a list of [name, start in ms, duration in ms, thread]; threads are "training", "loader 1", ... and
    "GPU". ``rows`` has the sum of each name, ``operations`` the twelve costliest operations by their own time.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")
    run = ours.Ours(setup, setup.batch)
    batches = run.batches()
    for _ in range(2):
        run.step(*next(batches))
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if setup.device.type == "cuda" else [])
    with ours.named(run), profile(activities=activities, experimental_config=all_threads()) as profiler:
        wait(setup.device)
        for _ in range(steps):
            with record_function("> wait for the batch"):
                batch = next(batches)
            with record_function("> step"):
                run.step(*batch)
        wait(setup.device)
    batches.close()
    found = intervals(profiler.events())
    length = max(start + duration for _, start, duration, _ in found)
    sums, counts = Counter(), Counter()
    for name, _, duration, thread in found:
        sums[name, thread.split()[0]] += duration
        counts[name, thread.split()[0]] += 1
    rows = [
        {"what": name, "thread": thread, "calls": counts[name, thread], "ms": ms, "share of the time": ms / length}
        for (name, thread), ms in sums.most_common()
    ]
    operations = [
        {"operation": event.key, "calls": event.count, "own time (ms)": event.self_cpu_time_total / 1e3}
        for event in sorted(profiler.key_averages(), key=lambda e: -e.self_cpu_time_total)
        if event.key.startswith(("aten::", "Optimizer", "cuda"))
    ][:12]
    note = (
        f"{steps} steps of batch {setup.batch} with the loader's threads, {length:.0f} ms, seen by "
        "`torch.profiler` (which slows them down a little). Waiting for the batch is the time in which the device has "
        "no work because the loader is late. Intervals within a step lie inside one another."
    )
    return {"note": note, "rows": rows, "intervals": found, "operations": operations}


def all_threads():
    """Ask the profiler for the loader's threads too, where this PyTorch can; None means the main thread alone."""
    try:
        return torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    except (AttributeError, TypeError):
        return None


def intervals(events: list, gap: float = 0.02) -> list[list]:
    """A profiler's events condensed: what ours.named marked ("> name"), and when the GPU was busy.

    Kernels that follow one another within ``gap`` ms are one interval, "busy".
    """
    marked = [e for e in events if e.name.startswith("> ") and "CUDA" not in str(e.device_type)]
    kernels = sorted(
        (e.time_range.start / 1e3, e.time_range.end / 1e3)
        for e in events
        if "CUDA" in str(e.device_type) and not e.name.startswith("> ")
    )
    zero = min(e.time_range.start for e in marked) / 1e3
    main = next(e.thread for e in marked if e.name == "> step")
    others = {t: f"loader {i}" for i, t in enumerate(sorted({e.thread for e in marked if e.thread != main}), 1)}
    found = [
        [e.name[2:], e.time_range.start / 1e3 - zero, e.time_range.elapsed_us() / 1e3, others.get(e.thread, "training")]
        for e in marked
    ]
    busy = joined(kernels, gap)
    while len(busy) > 1000:  # a picture shows no more
        gap *= 2
        busy = joined(kernels, gap)
    found += [["busy", start - zero, end - start, "GPU"] for start, end in busy]
    return [[name, round(s, 3), round(d, 3), thread] for name, s, d, thread in sorted(found, key=lambda f: f[1])]


def joined(spans: list[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """Sorted spans (start, end), those made one that follow within ``gap``."""
    out: list[tuple[float, float]] = []
    for start, end in spans:
        if out and start - out[-1][1] <= gap:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out
