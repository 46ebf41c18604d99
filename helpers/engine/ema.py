"""An exponential moving average of a network's weights, as image restorers of today are trained with."""

import copy

import torch
from torch import nn

from helpers.engine.checkpoints import unwrapped


class Ema:
    """An exponential moving average of a module's weights; ``.module`` is the averaged copy, without wrappers.

    The decay warms up, min(``decay``, (1 + n) / (10 + n)) at step n, so that the random start is soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay, self.source = decay, unwrapped(module)
        self.module = copy.deepcopy(self.source).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the module's weights; ``step`` counts from 0."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        seen, averages, news = set(), [], []  # a tensor that is named twice is averaged once
        for average, now in zip(self.module.state_dict().values(), self.source.state_dict().values(), strict=True):
            if average.data_ptr() in seen:
                continue
            seen.add(average.data_ptr())
            if average.is_floating_point():
                averages.append(average)
                news.append(now)
            else:
                average.copy_(now)
        torch._foreach_lerp_(averages, news, weight)  # all tensors in a few launches of a kernel

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The averaged weights."""
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from averaged weights."""
        self.module.load_state_dict(state)
