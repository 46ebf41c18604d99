"""helpers.experiments.nafnet: norm, gate, block and the whole U-Net by hand; the identity before training."""

import pytest
import torch
import torch.nn.functional as F

from helpers.experiments.nafnet import ChannelNorm, NafBlock, NafNet, simple_gate
from helpers.networks import ShapeError
from helpers.pairs import Pairs
from tests.conftest import make_faces

SMALL = {"width": 4, "encoder": (1, 2), "middle": 1, "decoder": (2, 1)}


def spoiled(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every weight moved away from its initial value, so that everything in it matters."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn(p.shape) * 0.2)
    return network.eval()


# ---------------------------------------------------------------------------------------------------------------------
# The same written anew, from the state dict


def below(state, prefix):
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def norm_by_hand(x, s):
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
    return (x - mean) / (variance + 1e-6).sqrt() * s["weight"][:, None, None] + s["bias"][:, None, None]


def pointwise(x, s):
    return torch.einsum("oi,nihw->nohw", s["weight"][:, :, 0, 0], x) + s["bias"][:, None, None]


def depthwise(x, s):
    padded, out = F.pad(x, [1] * 4), s["bias"][:, None, None]
    for i in range(3):
        for j in range(3):
            window = padded[:, :, i : i + x.shape[2], j : j + x.shape[3]]
            out = out + window * s["weight"][:, 0, i, j, None, None]
    return out


def gate(x):
    c = x.shape[1] // 2
    return x[:, :c] * x[:, c:]


def block_by_hand(x, s):
    y = gate(depthwise(pointwise(norm_by_hand(x, below(s, "norm1.")), below(s, "conv1.")), below(s, "conv2.")))
    y = y * pointwise(y.mean((2, 3), keepdim=True), below(s, "attention."))
    x = x + s["beta"] * pointwise(y, below(s, "conv3."))
    y = pointwise(gate(pointwise(norm_by_hand(x, below(s, "norm2.")), below(s, "conv4."))), below(s, "conv5."))
    return x + s["gamma"] * y


def net_by_hand(x, s):
    def stack(y, name):
        for i in range(len({k.split(".")[0] for k in below(s, name + ".")})):
            y = block_by_hand(y, below(s, f"{name}.{i}."))
        return y

    y = F.conv2d(x, s["entry.weight"], s["entry.bias"], padding=1)
    fine = stack(y, "encoder.0")
    y = F.conv2d(fine, s["shrink.0.weight"], s["shrink.0.bias"], stride=2)
    coarse = stack(y, "encoder.1")
    y = stack(F.conv2d(coarse, s["shrink.1.weight"], s["shrink.1.bias"], stride=2), "middle")
    y = stack(F.pixel_shuffle(F.conv2d(y, s["grow.1.weight"]), 2) + coarse, "decoder.1")
    y = stack(F.pixel_shuffle(F.conv2d(y, s["grow.0.weight"]), 2) + fine, "decoder.0")
    return x + F.conv2d(y, s["exit.weight"], s["exit.bias"], padding=1)


# ---------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_norm_by_hand():
    """Over the channels of each pixel: no pixel knows of another."""
    norm, x = spoiled(ChannelNorm(6)), torch.randn(2, 6, 3, 4) * 3 + 1
    assert torch.allclose(norm(x), norm_by_hand(x, norm.state_dict()), atol=1e-5)
    plain = ChannelNorm(6)(x)
    assert plain.mean(1).abs().max() < 1e-5 and torch.allclose(plain.var(1, correction=0), torch.ones(2, 3, 4))
    assert torch.allclose(ChannelNorm(6)(5 * x + 2), plain, atol=1e-4)


def test_gate_by_hand():
    x = torch.tensor([1.0, 2, 3, -4]).view(1, 4, 1, 1)
    assert simple_gate(x).flatten().tolist() == [3, -8]


@torch.no_grad()
def test_block_by_hand():
    block, x = spoiled(NafBlock(6)), torch.randn(2, 6, 5, 4)
    assert torch.allclose(block(x), block_by_hand(x, block.state_dict()), atol=1e-4)
    assert (block(x) - x).abs().max() > 0.01
    assert torch.equal(NafBlock(6)(x), x)  # beta and gamma begin at 0


@torch.no_grad()
def test_the_whole_by_hand():
    """Two scales: two blocks at the coarse one and one at the fine one on the way back, skips added, input added."""
    net, x = spoiled(NafNet(**SMALL)), torch.rand(2, 3, 16, 12) * 2 - 1
    assert [len(stack) for stack in net.encoder] == [1, 2] and [len(stack) for stack in net.decoder] == [1, 2]
    expected = net_by_hand(x, net.state_dict())
    assert torch.allclose(net(x), expected, atol=1e-4 * expected.abs().max().item())
    assert (net(x) - x).abs().max() > 0.01


@torch.no_grad()
def test_before_training_it_is_the_identity():
    x = torch.randn(2, 3, 32, 48)
    assert torch.equal(NafNet(8)(x), x)


@torch.no_grad()
def test_pictures_do_not_influence_each_other():
    net, x = spoiled(NafNet(**SMALL)), torch.rand(3, 3, 16, 16)
    assert torch.allclose(net(x)[1], net(x[1:2])[0], atol=1e-4)


def test_gradients_reach_every_weight():
    net = spoiled(NafNet(**SMALL)).train()
    net(torch.rand(2, 3, 16, 16)).square().mean().backward()
    for name, p in net.named_parameters():
        assert torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0, name


def test_some_steps_lower_the_error():
    torch.manual_seed(0)
    batch, net = Pairs(make_faces(2, 32)).batch(range(2)), NafNet(**SMALL)
    optimiser, losses = torch.optim.AdamW(net.parameters(), lr=5e-3), []
    for _ in range(25):
        loss = (net(batch.input[:, :3]) - batch.target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx((batch.input[:, :3] - batch.target).square().mean().item())
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize(
    ("settings", "shape", "side"),
    [
        (SMALL, (1, 3, 16, 18), 4),
        (SMALL, (1, 4, 16, 16), 4),
        (SMALL, (3, 16, 16), 4),
        ({"width": 4}, (1, 3, 24, 32), 16),
    ],
)
def test_wrong_shapes_are_told(settings, shape, side):
    with pytest.raises(ShapeError, match=f"sides divisible by {side}, got {'×'.join(map(str, shape))}"):
        NafNet(**settings)(torch.zeros(shape))
