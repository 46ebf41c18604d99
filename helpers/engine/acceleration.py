"""What accelerate and torch.compile are told before a training: device, number format, accumulation, warm-up."""

import copy
import os
import time
import warnings

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin, parse_flag_from_env
from torch import nn

from helpers.engine.errors import TrainingError


def processes() -> PartialState:
    """Which of how many processes this is, and its device, as torchrun or a launcher of accelerate has set it up.

    ``ACCELERATE_USE_CPU`` keeps it off the GPU. Accelerate keeps what it first sees of a process for ever; a notebook
    may train twice and start processes later, so what it saw is forgotten here.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    # Without a GPU accelerate joins the processes only if told that the CPU is meant.
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or (several and not torch.cuda.is_available())
    return PartialState(cpu=bool(cpu))


def accelerator_for(precision: str, accumulate: int = 1) -> Accelerator:
    """An accelerator for this process's device that computes in ``precision`` ("bf16", "fp16" or "no").

    Parameters
    ----------
    accumulate : parts of a batch between two updates; unlike accelerate's own argument it overrules the environment
        variable ``ACCELERATE_GRADIENT_ACCUMULATION_STEPS``, which would change a run without being recorded
    """
    processes()
    plugin = GradientAccumulationPlugin(num_steps=accumulate)
    return Accelerator(mixed_precision=precision, gradient_accumulation_plugin=plugin)


def look_every(device: torch.device) -> int:
    """After how many steps a training looks at its loss, which makes a GPU wait. Saving looks as well."""
    return 50 if device.type == "cuda" else 1


def compiled(
    network: nn.Module, loss: nn.Module, accelerator: Accelerator, shape: tuple[int, int, int], asked: bool | None
) -> tuple[nn.Module, nn.Module, float]:
    """``network`` and ``loss`` fused by torch.compile, and the seconds that compiling and warming up took.

    Parameters
    ----------
    shape : N, H, W of the images of a step, with which both are called twice; weights and statistics stay as they were
    asked : None compiles on CUDA alone, since on a processor the minute that it takes rarely pays. Where compiling
        then fails, a warning says so and both are given back as they are.

    Raises
    ------
    TrainingError
        if it was asked for and fails
    """
    cuda = accelerator.device.type == "cuda"
    torch.backends.cudnn.benchmark = cuda  # try the ways to convolve; the shapes stay the same for the whole run
    if not (cuda if asked is None else asked):
        return network, loss, 0.0
    started, before = time.perf_counter(), copy.deepcopy(network.state_dict())
    fast = torch.compile(network), torch.compile(loss)
    count, height, width = shape
    inputs, target = (
        torch.zeros(count, channels, height, width, device=accelerator.device).to(memory_format=torch.channels_last)
        for channels in (4, 3)
    )
    try:
        for _ in range(2):
            with accelerator.autocast():
                restored, z_deblur, z_gt = fast[0](inputs, target)
                total = fast[1](restored, target, z_deblur, z_gt)["total"]
            accelerator.backward(total)
            float(total.detach())  # waits for a GPU
    except Exception as error:
        reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        if asked:
            raise TrainingError(f"torch.compile failed ({reason}); train without it") from None
        warnings.warn(f"trains without torch.compile, which failed: {reason}", stacklevel=3)
        fast = network, loss
    network.zero_grad(set_to_none=True)
    network.load_state_dict(before)  # batch norm's statistics have seen the zeros
    return *fast, time.perf_counter() - started
