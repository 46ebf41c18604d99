"""helpers.reviewed.inversion: NGD, the multi-resolution loss and the search, step by step."""

import numpy as np
import pytest
import torch

from helpers.networks import ShapeError
from helpers.reviewed.inversion import NGD, PHASES, MultiResolutionLoss, invert
from helpers.reviewed.stylegan import Generator
from tests.reviewed.test_stylegan import randomised


@pytest.fixture
def small() -> Generator:
    return randomised()


# ---------------------------------------------------------------------------------------------------------------------
# NGD


def stepped(gradient, lr=0.1):
    """Where a parameter of zeros stands after a step along ``gradient``."""
    gradient = torch.tensor(gradient)
    p = torch.zeros_like(gradient).requires_grad_()
    p.grad = gradient
    NGD([p], lr=lr).step()
    return p.detach()


def test_ngd_by_hand():
    """Equation 4 row by row: (3, 4) has length 5, whatever its neighbour."""
    assert torch.allclose(stepped([[3.0, 4.0], [-300.0, 0.0]]), torch.tensor([[-0.06, -0.08], [0.1, 0.0]]))


def test_ngd_leaves_rows_that_point_nowhere():
    """Zero, NaN and infinite rows stay; the others still move."""
    nan, inf = float("nan"), float("inf")
    moved = stepped([[0.0, 0.0], [nan, 1.0], [inf, 1.0], [-inf, inf], [0.0, 2.0]])
    assert torch.equal(moved[:4], torch.zeros(4, 2)) and torch.allclose(moved[4], torch.tensor([0.0, -0.1]))


@pytest.mark.parametrize("shape", [(1, 5), (2, 18, 5), (1, 48, 5)])
def test_every_row_moves_by_the_rate(shape):
    """Section f: step length = lr for every vector of W, W+ and W++, whatever the gradients' scale."""
    torch.manual_seed(0)
    p = torch.randn(shape, requires_grad=True)
    start, scale = p.detach().clone(), 10 ** (torch.rand(shape[:-1]) * 8 - 4)
    p.grad = torch.randn(shape) * scale[..., None]
    NGD([p], lr=0.02).step()
    assert torch.allclose((p.detach() - start).norm(dim=-1), torch.full(shape[:-1], 0.02), rtol=1e-3)


def test_ngd_has_no_memory():
    """Three equal gradients, three equal steps; a parameter without gradient is left; a closure gives the loss."""
    p, other = torch.zeros(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    search = NGD([p, other], lr=0.5)

    def closure():
        search.zero_grad()
        loss = (p * torch.tensor([0.0, 7.0])).sum()
        loss.backward()
        return loss

    losses = [search.step(closure).item() for _ in range(3)]
    assert losses == pytest.approx([0, -3.5, -7]) and torch.allclose(p.detach(), torch.tensor([[0, -1.5]]))
    assert torch.equal(other.detach(), torch.zeros(1, 2))


@pytest.mark.parametrize("lr", [0, -1])
def test_rates_that_are_none(lr):
    with pytest.raises(ValueError, match="lr must be positive"):
        NGD([torch.zeros(1, requires_grad=True)], lr=lr)


# ---------------------------------------------------------------------------------------------------------------------
# The multi-resolution loss


class FakeLpips:
    """A weighted squared difference that notes what it is given."""

    def __init__(self):
        self.seen = []

    def __call__(self, a, b):
        self.seen.append((a.detach(), b.detach()))
        return (a - b).square().mean((1, 2, 3)) * a.shape[-1]


def halved(x: np.ndarray) -> np.ndarray:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))


@pytest.mark.parametrize(
    ("size", "ladder"),
    [(1024, [1024, 512, 256, 128, 64, 32]), (256, [256, 128, 64, 32]), (64, [64, 32]), (32, [32]), (16, []), (8, [])],
)
def test_loss_level_by_level(size, ladder):
    """Equations 5 and 6 as run: LPIPS from full size down to above 16 px, L1 on the images after the last pooling."""
    torch.manual_seed(0)
    x, y = torch.rand(2, 3, size, size) * 1.4 - 0.2, torch.rand(2, 3, size, size)
    fake = FakeLpips()
    loss = MultiResolutionLoss(fake)
    a, b, terms = x.numpy().astype(float), y.numpy().astype(float), []
    for side in ladder:
        assert a.shape[-1] == side
        terms.append(((2 * a - 2 * b) ** 2).mean((1, 2, 3)) * side)
        a, b = halved(a), halved(b)
    l1 = np.abs(a - b).mean((1, 2, 3))
    assert loss(x, y).item() == pytest.approx((sum(terms) + 0.1 * l1).mean(), rel=1e-4)
    assert [s[0].shape[-1] for s in fake.seen] == ladder
    parts = loss.parts(x, y)
    assert list(parts) == [f"LPIPS {s}" for s in ladder] + [f"L1 {min(size, 16)}"]
    for value, expected in zip(parts.values(), [*terms, l1], strict=True):
        assert value.shape == (2,) and np.allclose(value, expected, rtol=1e-4)


def test_loss_hands_over_images_in_the_range_of_lpips():
    fake = FakeLpips()
    x, y = torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
    MultiResolutionLoss(fake)(x, y)
    assert fake.seen[0][0].unique().tolist() == [-1] and fake.seen[0][1].unique().tolist() == [1]


def test_levels_are_an_upper_limit():
    fake = FakeLpips()
    x, y = torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128)
    parts = MultiResolutionLoss(fake, levels=1, l1_weight=0).parts(x, y)
    assert list(parts) == ["LPIPS 128", "L1 64"]
    assert MultiResolutionLoss(fake, levels=1, l1_weight=0)(x, y).item() == pytest.approx(parts["LPIPS 128"].item())


def test_mask_hides_with_noise():
    """Where the mask is 0, the same noise (mean 1/4, deviation 1/2) is added to both; elsewhere nothing."""
    torch.manual_seed(0)
    fake, mask = FakeLpips(), torch.ones(1, 1, 64, 64)
    mask[..., :32] = 0
    x, y = torch.rand(1, 3, 64, 64) * mask, torch.rand(1, 3, 64, 64) * mask
    MultiResolutionLoss(fake)(x, y, mask)
    for (a, b), side in zip(fake.seen, (64, 32), strict=True):
        hidden = a[..., : side // 2]
        assert torch.allclose(hidden, b[..., : side // 2])
        hidden = (hidden + 1) / 2
        assert hidden.mean().item() == pytest.approx(0.25, abs=0.03)
        assert hidden.std().item() == pytest.approx(0.5, rel=0.05)
    assert torch.equal(fake.seen[0][0][..., 32:], (x * 2 - 1)[..., 32:])


@pytest.mark.parametrize("size", [16, 64, 128])
def test_a_loss_against_one_target_is_the_same_loss(size, random_lpips):
    """Value and gradient to the bit, for LPIPS and for a function that has no features."""
    torch.manual_seed(0)
    x, y = torch.rand(2, 3, size, size, requires_grad=True), torch.rand(2, 3, size, size)
    for lpips in (random_lpips, FakeLpips()):
        loss = MultiResolutionLoss(lpips)
        distance = loss.against(y)
        for _ in range(2):
            a, b = loss(x, y), distance(x)
            assert torch.equal(a, b)
            assert torch.equal(*(torch.autograd.grad(value, x)[0] for value in (a, b)))


def test_features_of_the_target_are_computed_once(random_lpips, monkeypatch):
    """Of 128 pixels, 64 and 32: once for the target, then once a call for the picture that is searched."""
    sides, original = [], random_lpips.unit_features

    def unit_features(images):
        sides.append(images.shape[-1])
        return original(images)

    monkeypatch.setattr(random_lpips, "unit_features", unit_features)
    distance = MultiResolutionLoss(random_lpips).against(torch.rand(1, 3, 128, 128))
    assert sides == [128, 64, 32]
    distance(torch.rand(1, 3, 128, 128)), distance(torch.rand(1, 3, 128, 128))
    assert sides == [128, 64, 32] * 3


def test_a_mask_draws_new_noise_at_each_call(random_lpips):
    """Behind a mask nothing can be remembered: two calls differ as two calls of the loss do, seed by seed."""
    x, y, mask = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    loss = MultiResolutionLoss(random_lpips)
    distance = loss.against(y, mask)
    torch.manual_seed(3)
    first, second = distance(x), distance(x)
    torch.manual_seed(3)
    assert first != second and torch.equal(loss(x, y, mask), first) and torch.equal(loss(x, y, mask), second)


def test_loss_of_two_sizes():
    with pytest.raises(ShapeError, match=r"cannot compare \(1, 3, 32, 32\) with \(1, 3, 64, 64\)"):
        MultiResolutionLoss(FakeLpips())(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 64, 64))


# ---------------------------------------------------------------------------------------------------------------------
# The search


def identity(x):
    return x


@pytest.fixture
def ladder() -> MultiResolutionLoss:
    return MultiResolutionLoss(FakeLpips())


def test_phases_are_the_authors():
    assert list(PHASES.items()) == [("W", 0.08), ("W+", 0.02), ("W++", 0.005)]


def test_search_starts_at_the_mean_and_steps_by_the_rate(small, ladder):
    """One step a phase: 0.08 for w, 0.02 for every layer, 0.005 for every filter that exists and 0 for surplus rows."""
    target = torch.rand(2, 3, 16, 16)
    found = invert(small, target, identity, ladder, steps=1)
    w, plus, plus_plus = (found.latents[k] for k in ("W", "W+", "W++"))
    assert torch.allclose((w - small.mapping.w_avg).norm(dim=-1), torch.full((2,), 0.08), rtol=1e-3)
    assert torch.allclose((plus - w[:, None]).norm(dim=-1), torch.full((2, 6), 0.02), rtol=1e-3)
    moved = (plus_plus - plus.repeat_interleave(8, 1)).norm(dim=-1).view(2, 6, 8)
    for layer, used in enumerate([8, 8, 8, 4, 4, 3]):
        assert torch.allclose(moved[:, layer, :used], torch.full((2, used), 0.005), rtol=1e-2)
        assert (moved[:, layer, used:] == 0).all()
    for phase, latent in found.latents.items():
        assert torch.allclose(found.images[phase], small.picture(latent).detach().clamp(0, 1), atol=1e-6)
    assert [(h["phase"], h["step"]) for h in found.history] == [("W", 0), ("W+", 0), ("W++", 0)]
    assert found.history[0]["loss"] == pytest.approx(
        ladder(small.picture(small.mapping.w_avg.expand(2, -1)), target).item(), rel=1e-5
    )


def test_search_finds_what_the_generator_can_make(small, ladder):
    """Equations 1 and 2, a target from W: the loss falls in every phase; the weights are as before, trainable again."""
    before = {k: v.clone() for k, v in small.state_dict().items()}
    with torch.no_grad():
        target = small.picture(small.mapping.w_avg + torch.randn(2, 5))
    found = invert(small, target, lambda x: x * 0.5 + 0.1, ladder, steps=25)
    means = {k: np.mean([h["loss"] for h in found.history if h["phase"] == k][-5:]) for k in PHASES}
    assert means["W++"] < means["W+"] < 0.9 * found.history[0]["loss"]
    assert all(torch.equal(v, before[k]) for k, v in small.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in small.parameters())


def test_scale_of_the_loss_does_not_matter(small, ladder):
    """Section f: NGD takes the same path for a thousandfold loss."""
    target = torch.rand(1, 3, 16, 16)

    def scaled(x, y, mask):
        return 1000 * ladder(x, y, mask)

    a, b = (invert(small, target, identity, loss, steps=3).latents["W++"] for loss in (ladder, scaled))
    assert torch.allclose(a, b, atol=1e-4)
    assert not torch.allclose(a, small.mapping.w_avg.expand_as(a), atol=1e-2)


def test_images_of_a_search_do_not_influence_each_other(small, ladder):
    """Rows are normalised one by one, so an image's path is the same alone and in company."""
    target = torch.rand(3, 3, 16, 16)
    together = invert(small, target, identity, ladder, steps=2).latents["W++"]
    alone = invert(small, target[1:2], identity, ladder, steps=2).latents["W++"]
    assert torch.allclose(together[1:2], alone, atol=1e-4)


def test_search_with_some_phases_and_another_optimiser(small, ladder):
    target = torch.rand(1, 3, 16, 16)
    found = invert(small, target, identity, ladder, 2, phases={"W++": 0.01}, optimiser=torch.optim.Adam)
    assert list(found.latents) == ["W++"] and found.latents["W++"].shape == (1, 48, 5)
    used = (found.latents["W++"] - small.mapping.w_avg).abs().amax(-1)[0, :8]
    assert torch.allclose(used, torch.full((8,), 0.02), rtol=0.2)  # Adam's steps are the rate, number by number


def test_search_reports_and_stops(small, ladder):
    calls = []

    def on_step(done, total):
        calls.append((done, total))
        return done < 3

    found = invert(small, torch.rand(1, 3, 16, 16), identity, ladder, steps=2, on_step=on_step)
    assert calls == [(1, 6), (2, 6), (3, 6)]
    assert list(found.images) == ["W"] and len(found.history) == 3
    assert all(p.requires_grad for p in small.parameters())


def test_search_hands_the_mask_on(small):
    seen = []

    def loss(x, y, mask):
        seen.append(mask)
        return (x - y).square().mean()

    mask = torch.ones(1, 1, 16, 16)
    invert(small, torch.rand(1, 3, 16, 16), identity, loss, steps=1, mask=mask)
    assert len(seen) == 3 and all(m is mask for m in seen)


def test_a_target_that_f_does_not_give(small, ladder):
    with pytest.raises(ShapeError, match="does f̂ give the target's size"):
        invert(small, torch.rand(1, 3, 8, 8), identity, ladder, steps=1)
    assert all(p.requires_grad for p in small.parameters())
