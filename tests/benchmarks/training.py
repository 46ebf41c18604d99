"""The plain loop against ours, and the ladder between the two."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from helpers.losses import TotalLoss
from helpers.pairs import Pairs
from helpers.perceptual import Lpips
from tests.benchmarks import ours
from tests.benchmarks.measure import Setup, faces, metric, rates, take_turns, untrained
from tests.benchmarks.plain import order, package_lpips, plain_loop, prepare


def write_files(images: np.ndarray, folder: Path) -> list[Path]:
    """The pictures as files, without loss, so that a loop that reads files sees what one in memory sees."""
    files = [folder / f"{i:05d}.png" for i in range(len(images))]
    for image, file in zip(images, files, strict=True):
        Image.fromarray(image).save(file, compress_level=1)
    return files


def run_some(loop: Iterator[float], steps: int, losses: list[float]) -> Callable[[], None]:
    """An action for :func:`take_turns`: the next ``steps`` steps of a loop."""
    return lambda: losses.extend(next(loop) for _ in range(steps))


def training(setup: Setup) -> dict:
    """Images a second of both, and the loss of both after the same number of steps from the same start."""
    images, scale, rows, curves = faces(setup), metric(setup.device), [], {}
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(images, Path(folder))
        for batch_size, steps in setup.turns.items():
            loops = {
                "plain": plain_loop(files, untrained(setup), scale, batch_size, setup.device),
                "ours": ours.Ours(setup, batch_size, images=images, metric=scale).losses(),
            }
            losses = {name: [next(loop)] for name, loop in loops.items()}  # the first step warms up
            actions = {name: run_some(loops[name], steps, losses[name]) for name in loops}
            times = take_turns(actions, setup.segments, setup.device)
            for loop in loops.values():
                loop.close()
            losses = {name: [float(value) for value in values] for name, values in losses.items()}
            last = min(10, setup.segments * steps)  # steps, since one batch is harder than another
            for name in loops:
                rows.append(
                    {
                        "batch size": batch_size, "loop": name,
                        **rates(batch_size * steps, times[name]),
                        "steps": len(losses[name]), "first loss": losses[name][0],
                        "last loss": float(np.mean(losses[name][-last:])),
                    }
                )  # fmt: skip
            plain, mine = rows[-2:]
            mine["times plain"] = mine["images/s"] / plain["images/s"]
            mine["last loss against plain"] = mine["last loss"] / plain["last loss"] - 1
            curves[str(batch_size)] = losses
    note = (
        f"Thesis's model at {setup.image_size} px, all five losses, {len(images)} faces, the same start, pictures and "
        f"order; both took {setup.segments} turns after a first step. Last loss: mean of the last {last} steps. "
        "`plain` is float32, picture by picture (`tests/benchmarks/plain.py`)."
    )
    return {"note": note, "losses": curves, "rows": rows}


# ---------------------------------------------------------------------------------------------------------------------
# The ladder


def climbing(
    setup: Setup,
    files: list[Path],
    images: np.ndarray,
    scale: Lpips,
    together: bool = False,
    target_free: bool = False,
    channels_last: bool = False,
    half: bool = False,
    fused: bool = False,
    threads: int | None = 0,
    compiled: bool = False,
) -> Iterator[float]:
    """The plain loop with any of the optimisations; yields the loss of each step.

    Parameters
    ----------
    together : the faces are decoded once and a batch is made at once
    target_free : our LPIPS, in which nothing but the restored picture has a gradient
    half : the precision that ours chooses on this device
    threads : batches are made ahead in so many threads; None leaves the number to the loader
    """
    device, batch_size = setup.device, setup.batch
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = untrained(setup).to(memory_format=layout).train()
    loss = TotalLoss(deepcopy(scale).to(memory_format=layout) if target_free else _Package(scale))
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-4, fused=fused)
    scaler = torch.amp.GradScaler(device.type, enabled=half and ours.kind(device) == "float16")
    forward = torch.compile(model) if compiled else model
    pairs = Pairs(images, flip=True)
    if threads != 0:
        batches = ours.loaded(pairs, batch_size, device, threads)
    elif together:
        batches = ((b.input, b.target) for b in (pairs.batch(i.tolist(), e) for e, i in order(len(pairs), batch_size)))
    else:
        batches = (prepare(files, i, e) for e, i in order(len(files), batch_size))
    with contextlib.closing(batches):
        for inputs, target in batches:
            inputs, target = (t.to(device, memory_format=layout) for t in (inputs, target))
            with torch.autocast(device.type, getattr(torch, ours.kind(device)), enabled=half):
                restored, z_deblur, z_gt = forward(inputs, target)
                total = loss(restored, target, z_deblur, z_gt)["total"]
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(total).backward()
            scaler.step(optimiser)
            scaler.update()
            yield total.item()


class _Package(torch.nn.Module):
    """The package's LPIPS with the face of ours: N values."""

    def __init__(self, scale: Lpips):
        super().__init__()
        self.net = package_lpips(scale)

    def forward(self, restored: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.net(restored, target).flatten()


def ladder(setup: Setup) -> dict:
    """Each optimisation switched on after the other, with its own gain."""
    images, scale, device = faces(setup), metric(setup.device), setup.device
    options = {
        "plain": {},
        "faces decoded once, a batch blurred at once": {"together": True},
        "LPIPS without the target's and its own gradients": {"target_free": True},
        "channels-last": {"channels_last": True},
        "half" if ours.kind(device) == "float32" else ours.kind(device): {"half": ours.kind(device) != "float32"},
        "fused Adam": {"fused": True},
        "the next batch prefetched": {"threads": None},
    }
    if setup.device.type == "cuda":
        options["torch.compile"] = {"compiled": True}
    switched, loops, rows = {}, {}, []
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(images, Path(folder))
        for name, option in options.items():
            switched |= option
            loops[name] = climbing(setup, files, images, scale, **switched)
        loops["helpers.training"] = ours.Ours(setup, setup.batch, images=images, metric=scale).losses()
        losses = {name: [next(loop)] for name, loop in loops.items()}
        actions = {name: run_some(loop, setup.steps, losses[name]) for name, loop in loops.items()}
        times = take_turns(actions, setup.rounds, setup.device)
        for loop in loops.values():
            loop.close()
    for name in loops:
        row = {"switched on": name, **rates(setup.batch * setup.steps, times[name])}
        row["gain of this step"] = row["images/s"] / rows[-1]["images/s"] if rows else None
        row["times plain"] = row["images/s"] / rows[0]["images/s"] if rows else 1.0
        rows.append(row)
    note = (
        f"Each row has everything above it switched on, too. Batch {setup.batch}, {setup.rounds} turns of "
        f"{setup.steps} steps. The last row is the real thing, which should equal the one before."
    )
    return {"note": note, "rows": rows}
