"""helpers.engine.updates: a step by hand, with and without a scaler, and the learning rate."""

import math

import pytest
import torch
from torch import nn

from helpers.engine.updates import cosine_rate, set_rate, update


@pytest.mark.parametrize("enabled", [False, True])
def test_an_update_by_hand(enabled):
    """p - rate · gradient for each optimiser, the old gradient forgotten; a scaler changes nothing in float32."""
    a, b = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([3.0]))
    a.grad = torch.full((2,), 100.0)
    first, second = torch.optim.SGD([a], lr=0.1), torch.optim.SGD([b], lr=0.01)
    update((a**2).sum() + 5 * b.sum(), torch.amp.GradScaler("cpu", enabled=enabled), first, second)
    assert torch.allclose(a.detach(), torch.tensor([0.8, 1.6])) and b.item() == pytest.approx(2.95)


def test_a_scaler_skips_a_step_that_overflows():
    """float16's gradients are scaled up; where they become infinite, the step is left out and the scale is halved."""
    p, scaler = nn.Parameter(torch.tensor([1.0])), torch.amp.GradScaler("cpu", init_scale=2.0**16)
    update(p.sum() * 1e38, scaler, torch.optim.SGD([p], lr=0.1))
    assert p.item() == 1 and scaler.get_scale() == 2.0**15


def test_rates_are_set_for_every_group():
    p, q = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([{"params": [p]}, {"params": [q], "lr": 3.0}], lr=1.0)
    set_rate(optimiser, 0.5)
    assert [g["lr"] for g in optimiser.param_groups] == [0.5, 0.5]


def test_cosine_with_warmup():
    """Up in equal parts, then half a cosine over all steps; never below its last 2 %."""
    rates = [cosine_rate(i, 100, 0.4, warmup=10) for i in range(100)]
    assert rates[0] == pytest.approx(0.04, rel=1e-3) and rates[4] == pytest.approx(0.2, rel=0.01)
    assert rates[50] == pytest.approx(0.2) and rates[25] == pytest.approx(0.4 * (0.5 + 0.5 * math.cos(math.pi / 4)))
    assert min(rates[10:]) == rates[-1] == pytest.approx(0.4 * 0.02) and max(rates) < 0.4
    assert cosine_rate(0, 10, 1.0, warmup=0) == 1.0
