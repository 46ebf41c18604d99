"""The number format of products: float32, or 16 bits where these are faster. Weights and sums stay in float32.

Whether 16 bits pay depends on the machine. A graphics card has them or has not; on a processor bfloat16 is between
twice as fast and twenty times as slow as float32, so a small convolution is timed in both, once for each machine.
"""

import json
import os
import platform
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

from helpers.engine.errors import PrecisionError
from helpers.engine.folders import cache_folder, write_json

PRECISIONS = ("auto", "bf16", "fp16", "no")
NAMES = {"bf16": "bfloat16", "fp16": "float16", "no": "float32"}


def precision_for(device: torch.device, asked: str = "auto") -> str:
    """The number format of products on ``device``: "bf16", "fp16" or "no" (float32).

    An ``asked`` format is taken as it is. For "auto" the environment variable ``COURSE_PRECISION`` decides; without it
    CUDA computes in bf16 from capability 8.0 on and in fp16 before, a processor in what :func:`probe`
    finds faster, and any other device in float32. What "auto" chose is printed once.

    Raises
    ------
    PrecisionError
        for an unknown format, and for fp16 without a CUDA GPU
    """
    device = torch.device(device)
    source = "precision"
    if asked == "auto" and os.environ.get("COURSE_PRECISION"):
        source, asked = "COURSE_PRECISION", os.environ["COURSE_PRECISION"]
    if asked not in PRECISIONS:
        raise PrecisionError(f"{source} must be one of {', '.join(PRECISIONS)}, not {asked!r}")
    if asked == "fp16" and device.type != "cuda":
        raise PrecisionError(f'{source} "fp16" needs a CUDA GPU, and this run is on {device.type}; "auto" chooses')
    return asked if asked != "auto" else _chosen(device.type, device.index)


def autocast(device: torch.device, precision: str = "auto") -> AbstractContextManager:
    """The context of a forward pass on ``device`` in ``precision`` (see :func:`precision_for`); none for float32."""
    device = torch.device(device)
    precision = precision_for(device, precision)
    return nullcontext() if precision == "no" else torch.autocast(device.type, getattr(torch, NAMES[precision]))


def scaler_for(device: torch.device, precision: str = "auto") -> torch.amp.GradScaler:
    """What scales the loss so that small gradients survive float16; in other formats it hands everything through."""
    device = torch.device(device)
    return torch.amp.GradScaler(device.type, enabled=precision_for(device, precision) == "fp16")


def probe() -> dict[str, float]:
    """Seconds of forward and backward of a residual block on the processor, {"no": ..., "bf16": ...}.

    A small block first, a tenth of a second: that is enough where bf16 takes several times as long as float32. Else
    one of four times the work, a few times in both formats in turn, which takes up to half a second. It is computed
    in one thread, whose processor time is counted, and the least of each format is taken: so other work on the machine
    hardly matters, which several threads would wait for.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = _seconds(channels=32, rounds=2)
        return seconds if seconds["bf16"] > 3 * seconds["no"] else _seconds(channels=64, rounds=5)
    finally:
        torch.set_num_threads(threads)


def _seconds(channels: int, rounds: int) -> dict[str, float]:
    """The least time of ``rounds`` passes in each format, after one in which oneDNN makes its kernels."""
    clock = time.perf_counter if os.name == "nt" else time.thread_time  # Windows counts the latter in 16 ms
    generator = torch.Generator().manual_seed(0)
    shape, scale = (channels, channels, 3, 3), (9 * channels) ** -0.5
    weights = [(torch.randn(shape, generator=generator) * scale).requires_grad_() for _ in range(2)]
    images = torch.randn(2, channels, 32, 32, generator=generator).to(memory_format=torch.channels_last)
    times: dict[str, list[float]] = {"no": [], "bf16": []}
    with torch.enable_grad():
        for _ in range(rounds + 1):
            for name, found in times.items():
                started = clock()
                with torch.autocast("cpu", torch.bfloat16, enabled=name == "bf16"):
                    inner = F.silu(F.group_norm(F.conv2d(images, weights[0], padding=1), 8))
                    loss = (images + F.conv2d(inner, weights[1], padding=1)).float().square().mean()
                torch.autograd.grad(loss, weights)
                found.append(clock() - started)
    return {name: min(found[1:]) for name, found in times.items()}


def clear() -> None:
    """Forget what was chosen in this process; the file in the user's cache stays."""
    _chosen.cache_clear()


@cache
def _chosen(kind: str, index: int | None) -> str:
    """What "auto" means on a device; printed, and measured at most once in a process."""
    if kind == "cuda":
        chosen = "bf16" if torch.cuda.get_device_capability(index) >= (8, 0) else "fp16"
    else:
        chosen = _remembered() if kind == "cpu" else "no"
    if os.environ.get("RANK", "0") == "0":  # one of several processes speaks
        print(f"precision: {NAMES[chosen]}, the faster on this device ({kind}); COURSE_PRECISION overrules it")
    return chosen


def _remembered() -> str:
    """The faster format on this processor, from the user's cache or measured now and written there if possible."""
    key, known, path = _machine(), {}, None
    with suppress(OSError, RuntimeError, ValueError):  # no home, no right to read, a damaged file: measured again
        path = cache_folder() / "precision.json"
        known = json.loads(path.read_text(encoding="utf-8"))
    entry = known.get(key) if isinstance(known, dict) else None
    if isinstance(entry, dict) and entry.get("chosen") in ("bf16", "no"):
        return entry["chosen"]
    seconds = probe()
    # Where there is no difference worth the name, the exact format.
    chosen = "bf16" if seconds["bf16"] < 0.95 * seconds["no"] else "no"
    with suppress(OSError):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            others = known if isinstance(known, dict) else {}
            write_json(path, {**others, key: {"chosen": chosen, "seconds": seconds}})
    return chosen


def _machine() -> str:
    """What the measurement depends on: the processor, PyTorch's release and the limits set for oneDNN."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):  # Linux alone tells the model
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        found = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        flags = "+".join(
            f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in found.get("flags", "").split()
        )
        model = f"{found.get('model name', model)} {flags}"
    limits = [os.environ.get(name, "") for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")]
    return " | ".join([model, f"torch {torch.__version__}", *filter(None, limits)])
