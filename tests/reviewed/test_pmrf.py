"""helpers.reviewed.pmrf: the mathematics against closed forms, and the networks."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers.networks import ShapeError
from helpers.reviewed import pmrf
from helpers.reviewed.pmrf import Fourier, Pmrf, UNet, flow_loss, interpolate, sample, source, stratified_times


def spoiled(network: nn.Module, seed: int = 0) -> nn.Module:
    """A network whose zero-initialised layers are drawn anew, so that everything in it matters."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn(p.shape) * 0.1)
    return network.eval()


# ---------------------------------------------------------------------------------------------------------------------
# Times, source, path, loss


@pytest.mark.parametrize("count", [1, 2, 7, 256])
def test_stratified_times(count):
    """t_i = (i + u_i) / B: one in each B-th of [0, 1], in order, u uniform."""
    generator = torch.Generator().manual_seed(0)
    t = stratified_times(count, generator)
    u = torch.rand(count, generator=torch.Generator().manual_seed(0))
    assert t.shape == (count,) and torch.allclose(t, (torch.arange(count) + u) / count)
    many = torch.stack([stratified_times(count, generator) for _ in range(300)])
    assert torch.equal((many * count).floor(), torch.arange(count).expand(300, -1).float())
    assert many.mean().item() == pytest.approx(0.5, abs=0.05) and (many * count % 1).std().item() == pytest.approx(
        12**-0.5, rel=0.1
    )


def test_source_by_hand():
    """Equations 15 and 16: the posterior mean is clipped, the noise on it is not; σ_s = 0.1."""
    mean, noise = torch.tensor([-0.5, 0.25, 1.5]), torch.tensor([1.0, -2.0, 3.0])
    assert source(mean, noise).tolist() == pytest.approx([0.1, 0.05, 1.3])
    assert source(mean, noise, 0).tolist() == [0, 0.25, 1]
    assert pmrf.SIGMA_S == 0.1


def test_interpolant():
    """Equations 10 and 15, section f: Z_0 at t = 0, X at t = 1, a time for each image in between."""
    x, z0 = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    z = interpolate(x, z0, torch.tensor([0.0, 1.0, 0.25]))
    assert torch.equal(z[0], z0[0]) and torch.equal(z[1], x[1])
    assert torch.allclose(z[2], 0.25 * x[2] + 0.75 * z0[2])


def test_flow_loss_by_hand():
    """Equation 14: the mean over all elements of (v(Z_t, t) - (X - Z_0))²; the field sees Z_t and t."""
    torch.manual_seed(0)
    x, z0, t = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.tensor([0.2, 0.9])

    def field(z, time):
        return 2 * z - time.view(-1, 1, 1, 1)

    total = 0.0
    for n in range(2):
        at = t[n] * x[n] + (1 - t[n]) * z0[n]
        total += ((2 * at - t[n] - (x[n] - z0[n])) ** 2).mean().item() / 2
    assert flow_loss(field, x, z0, t).item() == pytest.approx(total, rel=1e-5)
    assert flow_loss(lambda z, time: x - z0, x, z0, t).item() == 0


@pytest.mark.parametrize("shapes", [((2, 3), (3, 3), (2,)), ((2, 3), (2, 3), (3,)), ((2, 3), (2, 3), (2, 1))])
def test_flow_loss_of_wrong_shapes(shapes):
    with pytest.raises(ShapeError, match="one shape and one time an image"):
        flow_loss(lambda z, t: z, *map(torch.zeros, shapes))


def test_regression_finds_the_closed_form():
    """Equations 11 and 12 on independent Gaussians: v at time t is linear, with slope Cov(X - Z_0, Z_t) / Var(Z_t).

    X ~ N(2, 0.5²), Z_0 ~ N(-1, 1). A field a + b z that minimises flow_loss on samples has just that slope.
    """
    torch.manual_seed(0)
    x, z0 = 2 + 0.5 * torch.randn(30_000, 1), -1 + torch.randn(30_000, 1)
    for time in (0.0, 0.3, 1.0):
        t = torch.full((len(x),), time)
        a, b = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
        best = torch.optim.LBFGS([a, b], max_iter=10)

        def closure(best=best, a=a, b=b, t=t):
            best.zero_grad()
            loss = flow_loss(lambda z, _: a + b * z, x, z0, t)
            loss.backward()
            return loss

        best.step(closure)
        slope = (time * 0.25 - (1 - time)) / (time**2 * 0.25 + (1 - time) ** 2)
        mean = time * 2 - (1 - time)
        assert b.item() == pytest.approx(slope, abs=0.03)
        assert a.item() == pytest.approx(3 - slope * mean, abs=0.05)


# ---------------------------------------------------------------------------------------------------------------------
# Euler


def test_one_step_is_z0_plus_v():
    """Section f: K = 1."""
    z0 = torch.randn(2, 3, 4, 4)
    assert torch.allclose(sample(lambda z, t: 3 * z - 1, z0, 1, clip=False), z0 + 3 * z0 - 1)


@pytest.mark.parametrize("steps", [1, 5, 25, 100])
def test_euler_by_hand(steps):
    """Equations 9 and 17: dz/dt = -z gives (1 - 1/K)^K; a constant field moves by itself for any K; times are i / K."""
    z0, times = torch.full((2, 1, 2, 2), 0.8), []

    def field(z, t):
        assert t.shape == (2,) and t.unique().numel() == 1
        times.append(t[0].item())
        return -z

    assert sample(field, z0, steps).mean().item() == pytest.approx(0.8 * (1 - 1 / steps) ** steps, rel=1e-4, abs=1e-7)
    assert times == pytest.approx([i / steps for i in range(steps)])
    assert torch.allclose(sample(lambda z, t: torch.full_like(z, 0.1), z0, steps), z0 + 0.1)


def test_the_exact_field_carries_one_gaussian_into_the_other():
    """With v of the closed form, many steps turn N(-1, 1) into N(2, 0.5²)."""

    def field(z, t):
        t = t[:, None]
        slope = (t * 0.25 - (1 - t)) / (t**2 * 0.25 + (1 - t) ** 2)
        return 3 + slope * (z - (t * 2 - (1 - t)))

    torch.manual_seed(0)
    z1 = sample(field, -1 + torch.randn(50_000, 1), 200, clip=False)
    assert z1.mean().item() == pytest.approx(2, abs=0.02) and z1.std().item() == pytest.approx(0.5, abs=0.02)


def test_flow_from_the_posterior_mean_beats_posterior_sampling():
    """Equation 8 on Gaussians: X ~ N(0, 1), Y = X + N(0, 1), the exact field of the pair (X*, X), σ_s = 0.

    The end has X's distribution at MSE 2 - √2, the least that is possible; posterior sampling has 1, twice the minimum.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200_000, 1, generator=generator)
    y = x + torch.randn(x.shape, generator=generator)
    mean = y / 2  # E[X | Y], of variance 1/2

    def field(z, t):
        t = t[:, None]
        variance = t**2 + (1 - t) ** 2 / 2 + t * (1 - t)
        return z * t / 2 / variance

    end = sample(field, mean, steps=400, clip=False)
    assert end.std().item() == pytest.approx(1, abs=0.01)
    assert F.mse_loss(end, x).item() == pytest.approx(2 - 2**0.5, abs=0.01)
    posterior = mean + torch.randn(x.shape, generator=generator) / 2**0.5
    assert F.mse_loss(posterior, x).item() == pytest.approx(2 * F.mse_loss(mean, x).item(), abs=0.02)


def test_noise_at_the_start_makes_every_point_possible():
    """Equation 18: without σ_s the support of Z_0 is as small as the posterior mean's, with it there are no gaps."""
    mean = torch.tensor([0.2, 0.8]).repeat(5000)[:, None]
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
    assert len(source(mean, noise, sigma=0).unique()) == 2
    start = source(mean, noise, sigma=0.3)
    assert torch.histc(start, bins=20, min=0, max=1).min() > 50


def test_path_and_clip():
    """The path has K + 1 states and is not clipped; the picture is."""
    z0 = torch.tensor([[[[-0.5, 0.5, 1.5]]]])
    states = sample(lambda z, t: torch.zeros_like(z), z0, 4, path=True)
    assert len(states) == 5 and all(torch.equal(s, z0) for s in states)
    assert sample(lambda z, t: torch.zeros_like(z), z0, 4).flatten().tolist() == [0, 0.5, 1]
    assert torch.equal(sample(lambda z, t: torch.zeros_like(z), z0, 4, clip=False), z0)


@pytest.mark.parametrize("steps", [0, -1])
def test_numbers_of_steps_that_are_none(steps):
    with pytest.raises(ValueError, match="at least 1"):
        sample(lambda z, t: z, torch.zeros(1, 1), steps)


# ---------------------------------------------------------------------------------------------------------------------
# Networks


@torch.no_grad()
def test_networks_before_training():
    """The field begins as 0 everywhere, the posterior mean as the blurred image itself."""
    x = torch.rand(2, 3, 32, 48)
    assert torch.equal(UNet(8, timed=True)(x, torch.rand(2)), torch.zeros(2, 3, 32, 48))
    assert torch.equal(UNet(8)(x), x)


@torch.no_grad()
def test_the_field_sees_time_and_place():
    field, z = spoiled(UNet(8, timed=True)), torch.rand(2, 3, 32, 32)
    a, b = field(z, torch.tensor([0.1, 0.1])), field(z, torch.tensor([0.1, 0.9]))
    assert torch.allclose(a[0], b[0], atol=1e-5) and not torch.allclose(a[1], b[1], atol=1e-3)
    alone = field(z[1:], torch.tensor([0.9]))
    assert torch.allclose(alone[0], b[1], atol=1e-4)  # images do not influence each other


def test_time_features_tell_times_apart():
    """sin and cos of π 2^k t for k from 0 to 8: 32 numbers, then two layers."""
    layer = Fourier(4)
    captured = []
    layer.layers[0].register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    layer(torch.tensor([0.0, 0.3]))
    angle = math.pi * 0.3 * 2 ** np.linspace(0, 8, 16)
    assert captured[0].shape == (2, 32)
    assert captured[0][0].tolist() == [0] * 16 + [1] * 16
    assert captured[0][1].tolist() == pytest.approx([*np.sin(angle), *np.cos(angle)], abs=1e-4)


@pytest.mark.parametrize("timed", [False, True])
def test_gradients_reach_every_weight(timed):
    network = spoiled(UNet(8, timed=timed)).train()
    x = torch.rand(2, 3, 32, 32)
    y = network(x, torch.rand(2)) if timed else network(x)
    y.square().mean().backward()
    for name, p in network.named_parameters():
        assert torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("timed", "shape", "t", "told"),
    [
        (False, (1, 3, 40, 32), None, "N×3×H×W with sides divisible by 16, got 1×3×40×32"),
        (False, (1, 6, 32, 32), None, "got 1×6×32×32"),
        (False, (3, 32, 32), None, "got 3×32×32"),
        (True, (1, 3, 32, 32), None, "called with z and t"),
        (False, (1, 3, 32, 32), torch.zeros(1), "a posterior mean with y alone"),
    ],
)
def test_wrong_calls_are_told(timed, shape, t, told):
    with pytest.raises(ShapeError, match=told):
        UNet(8, timed=timed)(torch.zeros(shape), t)


@torch.no_grad()
def test_restore_is_equations_16_and_17():
    """clip(f(y)) + σ ε, then K Euler steps, then a clip; the same ε the same picture, another ε another."""
    model = spoiled(Pmrf(8))
    y, noise = torch.rand(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    z = model.posterior_mean(y).clamp(0, 1) + 0.1 * noise
    for i in range(3):
        z = z + model.field(z, torch.full((2,), i / 3)) / 3
    assert torch.allclose(model.restore(y, 3, noise=noise), z.clamp(0, 1), atol=1e-5)
    torch.manual_seed(1)
    a, b = model.restore(y, 1), model.restore(y, 1)
    assert not torch.equal(a, b)
    assert torch.equal(model.restore(y, 1, sigma=0), model.restore(y, 1, sigma=0))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["from_y", "from_noise"])
def test_restoring_by_a_rival(kind):
    """From y + σ ε with the field alone, or from ε with a field that sees y beside z; neither has a posterior mean."""
    model = spoiled(Pmrf(8, kind))
    y, noise = torch.rand(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    z = noise if kind == "from_noise" else y + 0.2 * noise
    for i in range(2):
        seen = torch.cat([z, y], 1) if kind == "from_noise" else z
        z = z + model.field(seen, torch.full((2,), i / 2)) / 2
    assert torch.allclose(model.restore(y, 2, 0.2, noise), z.clamp(0, 1), atol=1e-5)
    assert model.posterior_mean is None and not any("posterior_mean" in name for name in model.state_dict())


def test_kinds_that_are_none():
    with pytest.raises(ValueError, match="one of pmrf, from_y, from_noise, not 'gan'"):
        Pmrf(8, "gan")
