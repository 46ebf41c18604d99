"""What the parts share: how big a measurement is, the clock, the machine's description, memory, FLOPs."""

import contextlib
import datetime
import os
import platform
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from helpers.data import load_faces
from helpers.networks import DeblurModel
from helpers.perceptual import Lpips, load_lpips
from helpers.restorer import Restorer
from helpers.seeds import seed_everything


@dataclass
class Setup:
    """How much is measured. The defaults are those of a processor; :meth:`full` and :meth:`quick` give the others."""

    device: torch.device
    image_size: int = 128
    latent_dim: int = 512
    width: int = 64  # of the thesis's networks
    faces: int = 640  # images to train on
    batch: int = 16  # batch size, but for the parts ``training`` and ``sweep``
    segments: int = 6  # of ``training``: plain and ours take so many turns ...
    turns: dict[int, int] = field(default_factory=lambda: {16: 5, 32: 3})  # ... of batch size -> so many steps
    rounds: int = 3  # repetitions of everything else
    steps: int = 2  # steps in a repetition
    launches: int = 2  # of every interpreter that is measured from its start
    fresh: bool = True  # whether the part ``folder`` is measured in interpreters of its own
    sweep: tuple[int, ...] = (4, 8, 16, 32, 64)
    matrices: tuple[int, ...] = (512, 1024, 2048)
    seconds: float = 0.2  # how long a kernel is repeated
    evaluated: int = 100
    restored: int = 60  # single pictures of the latency
    threads: tuple[int, ...] = (0, 1, 2, 4)  # of the loader
    loaded: int = 640  # images through the loader, a repetition
    files: int = 200_000  # of the part ``folder``
    different: int = 2_000  # pictures that differ among them
    folder_steps: int = 1_000  # of the loader alone
    folder_trained: int = 20
    folder: Path | None = None

    @classmethod
    def full(cls, device: torch.device) -> "Setup":
        """What is recorded. A GPU takes larger batches and more steps; it compiles for each batch size anew."""
        if device.type != "cuda":
            return cls(device)
        return cls(
            device, faces=4096, batch=256, segments=4, turns={16: 25, 256: 25}, rounds=3, steps=10,
            sweep=(16, 64, 256, 1024), matrices=(1024, 2048, 4096, 8192, 16384), evaluated=400, loaded=4096,
            restored=200,
        )  # fmt: skip

    @classmethod
    def quick(cls, device: torch.device) -> "Setup":
        """Every part in miniature, for tests and for a first look: the figures mean nothing."""
        return cls(
            device, image_size=64, latent_dim=16, width=8, faces=24, batch=4, segments=2, turns={4: 2},
            rounds=2, steps=1, launches=1, fresh=False, sweep=(2, 4), matrices=(64, 128), seconds=0.001, evaluated=4,
            restored=5, threads=(0, 2), loaded=16, files=200, different=20, folder_steps=10, folder_trained=1,
        )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# The clock


def wait(device: torch.device) -> None:
    """Let a GPU finish what was asked of it; a processor always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """How long ``action()`` takes, in seconds."""
    wait(device)
    started = time.perf_counter()
    action()
    wait(device)
    return time.perf_counter() - started


def take_turns(actions: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Time each action ``rounds`` times, A B C A B C ..., so that what else the machine does hits all of them.

    Returns
    -------
    the seconds of every repetition under the action's name
    """
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            times[name].append(seconds(action, device))
    return times


def spread(values: list[float]) -> dict[str, float]:
    """The median and the range of repeated measurements."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def rates(images: int, times: list[float]) -> dict[str, float]:
    """Columns of a table: images a second in repetitions that took ``times`` for ``images`` images each."""
    s = spread([images / t for t in times])
    return {"images/s": s["median"], "lowest": s["lowest"], "highest": s["highest"]}


# ---------------------------------------------------------------------------------------------------------------------
# The machine


def hardware(device: torch.device) -> dict:
    """What ran, in words, and how busy the machine was when it began."""
    names = [platform.processor() or platform.machine()]
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")] or names
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "cpu": names[0],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "gpus": torch.cuda.device_count() if gpu else 0,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str]:
    """The releases that decide the figures."""
    packages = ("torch", "accelerate", "lpips", "numpy", "opencv-python", "opencv-python-headless")
    found = {"python": platform.python_version()}
    for package in packages:  # OpenCV has two names, and a GPU machine may have been given files alone
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found | ({"cuda": torch.version.cuda} if torch.version.cuda else {})


def today() -> str:
    return datetime.date.today().isoformat()


def memory(device: torch.device) -> dict[str, float]:
    """Peak memory in MB since :func:`forget_peak`: the GPU's, or this process's (on Linux; else since its start)."""
    if device.type == "cuda":
        return {"peak memory (MB)": torch.cuda.max_memory_allocated(device) / 1e6}
    status = proc_status()
    peak = status.get("VmHWM", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
    return {"peak memory (MB)": peak}


def forget_peak(device: torch.device) -> None:
    """Begin to look for the peak anew."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):  # only Linux keeps such a file
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def proc_status() -> dict[str, float]:
    """This process's memory as Linux counts it, in MB (VmHWM, VmRSS, RssAnon, RssFile ...); empty elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {name: int(rest.split()[0]) * 1024 / 1e6 for name, rest in (s.split(":", 1) for s in lines if "kB" in s)}


def out_of_memory(error: BaseException) -> bool:
    """Did a device or the processor refuse memory?"""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error)


# ---------------------------------------------------------------------------------------------------------------------
# What is measured


def faces(setup: Setup, count: int | None = None, split: str = "train") -> np.ndarray:
    """Shipped faces at the size of the setup, repeated where more are asked for than there are: uint8 N×H×W×3."""
    import cv2

    count = count or setup.faces
    images = load_faces(split, count)
    if setup.image_size != images.shape[1]:
        side = (setup.image_size, setup.image_size)
        images = np.stack([cv2.resize(image, side, interpolation=cv2.INTER_AREA) for image in images])
    return images[np.arange(count) % len(images)]


def metric(device: torch.device) -> Lpips:
    """LPIPS; where AlexNet's weights are missing, the random trunk costs the same time, so the warning is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_lpips(device=device)


def untrained(setup: Setup) -> DeblurModel:
    """The same untrained networks each time."""
    seed_everything()
    return DeblurModel(setup.latent_dim, setup.image_size, setup.width).to(setup.device)


def restorer(setup: Setup) -> Restorer:
    """The shipped model (at the size of the setup an untrained one, since only its speed is asked for)."""
    found = Restorer(device=setup.device)
    if (setup.image_size, setup.latent_dim) != (found.model.image_size, found.model.latent_dim):
        found.model = untrained(setup).eval()
    return found
