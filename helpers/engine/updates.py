"""One update of a training that is counted in steps: the optimiser's step, and its learning rate."""

import math

import torch


def update(loss: torch.Tensor, scaler: torch.amp.GradScaler, *optimisers: torch.optim.Optimizer) -> None:
    """One step of each optimiser down the gradient of ``loss``; ``scaler`` keeps float16's small gradients."""
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    for optimiser in optimisers:
        scaler.step(optimiser)
    scaler.update()


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give all parameters of ``optimiser`` the learning rate ``rate``."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def cosine_rate(step: int, steps: int, highest: float, warmup: int = 100, lowest: float = 0.02) -> float:
    """The learning rate of ``step`` (from 0): up in ``warmup`` steps, along half a cosine down to ``lowest`` of it."""
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return highest * rise * max(lowest, 0.5 + 0.5 * math.cos(math.pi * step / steps))
