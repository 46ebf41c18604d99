"""ema: the average by hand, its warm-up, what is shared and what is whole numbers."""

import pytest
import torch
from torch import nn

from helpers.engine.ema import Ema


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_average_by_hand(decay):
    """a ← d a + (1 - d) w with d = min(decay, (1 + n) / (10 + n)): 1/10, 2/11, 3/12, ..."""
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(5.0)
    ema, expected = Ema(net, decay), 5.0
    for n in range(30):
        net.weight.data.fill_(float(n))
        ema.update(n)
        d = min(decay, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * n
        assert ema.module.weight.item() == pytest.approx(expected, rel=1e-5)


def test_average_keeps_to_itself():
    """A copy in evaluation mode without gradients; counters are copied, statistics averaged, the source untouched."""
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ema = Ema(net, 0.9)
    net(torch.randn(5, 3))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    ema.update(0)
    assert not ema.module.training and not any(p.requires_grad for p in ema.module.parameters())
    assert ema.module[1].num_batches_tracked == 1 and net.training
    assert torch.allclose(ema.module[1].running_mean, 0.9 * before["1.running_mean"])
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_tensor_that_is_named_twice_is_averaged_once():
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    net[1].weight = net[0].weight
    ema = Ema(net, 0.9)
    with torch.no_grad():
        ema.module[0].weight.zero_()
        net[0].weight.fill_(1.0)
    ema.update(0)
    assert torch.allclose(ema.module[1].weight, torch.full((2, 2), 0.9))


def test_its_state_comes_back():
    net = nn.Linear(2, 2)
    first = Ema(net, 0.5)
    with torch.no_grad():
        net.weight.add_(1)
    first.update(0)
    second = Ema(net, 0.5)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.module.weight, first.module.weight)
    assert not torch.equal(second.module.weight, net.weight)


def test_a_compiled_network_is_averaged_under_its_own_names():
    """The average is of the network itself: it follows the weights, and its names have no prefix."""
    net = nn.Linear(2, 2)
    ema = Ema(torch.compile(net), 0.0)
    with torch.no_grad():
        net.weight.fill_(3)
    ema.update(100)
    assert torch.equal(ema.module.weight, net.weight) and ema.module.weight is not net.weight
    assert set(ema.state_dict()) == {"weight", "bias"} and type(ema.module) is nn.Linear
