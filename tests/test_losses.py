"""helpers.losses: each term by hand, the weighted sum, precision and gradients."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from pytorch_msssim import ssim
from skimage.metrics import structural_similarity

from helpers.data import normalise
from helpers.losses import TotalLoss, Weights, l1_loss, latent_loss, ssim_loss, tv_loss

THESIS = {"l1": 0.5, "lpips": 0.3, "ssim": 0.15, "tv": 0.05, "latent": 0.2}


@pytest.fixture(scope="module")
def sample(faces):
    """Restored and target pictures and two codes."""
    g = torch.Generator().manual_seed(0)
    target = normalise(faces[:2])
    restored = (target + 0.2 * torch.randn(target.shape, generator=g)).clamp(-1, 1)
    return restored, target, torch.randn(2, 16, generator=g), torch.randn(2, 16, generator=g)


# ---------------------------------------------------------------------------------------------------------------------
# Each term


def test_l1_by_hand():
    """Equation 35, averaged: differences 0.5, 0, -1, 0.25 give 1.75 / 4."""
    restored = torch.tensor([0.5, -1.0, 0.0, 0.75]).view(1, 1, 2, 2)
    target = torch.tensor([0.0, -1.0, 1.0, 0.5]).view(1, 1, 2, 2)
    assert l1_loss(restored, target).item() == pytest.approx(1.75 / 4)


def test_perceptual_term_is_the_mean_distance(sample, random_lpips):
    """Equation 36: the term is LPIPS of equation 47, averaged over the batch."""
    restored, target, a, b = sample
    part = TotalLoss(random_lpips)(restored, target, a, b)["lpips"]
    assert part.item() == pytest.approx(random_lpips(restored, target).mean().item(), rel=1e-5)


def test_ssim_by_hand_on_flat_images():
    """Equation 37 on flat images: only the means count. Grey levels 0.2 and 0.6 of [0, 1], C1 = 0.01².

    SSIM = (2 · 0.2 · 0.6 + C1) / (0.2² + 0.6² + C1) · C2 / C2 = 0.2401 / 0.4001.
    """
    dark, bright = torch.full((1, 3, 16, 16), 0.2 * 2 - 1), torch.full((1, 3, 16, 16), 0.6 * 2 - 1)
    assert ssim_loss(dark, bright).item() == pytest.approx(1 - 0.2401 / 0.4001, abs=1e-4)


def test_ssim_is_computed_on_0_to_1(sample):
    """Equation 37 by the package directly, on images brought back to [0, 1]; on [-1, 1] it would say something else."""
    restored, target, _, _ = sample
    expected = 1 - ssim((restored + 1) / 2, (target + 1) / 2, data_range=1.0)
    assert ssim_loss(restored, target).item() == pytest.approx(expected.item(), abs=1e-6)
    assert abs(ssim_loss(restored, target) - (1 - ssim(restored, target, data_range=2.0))) > 1e-3


def test_ssim_agrees_with_scikit_image(sample):
    """The same Gaussian window there; 0.02 for what differs: the window's cut, borders, sample covariances."""
    restored, target, _, _ = sample
    for x, y in zip(restored, target, strict=True):
        theirs = structural_similarity(
            ((x + 1) / 2).numpy(), ((y + 1) / 2).numpy(), channel_axis=0, data_range=1.0, gaussian_weights=True,
            sigma=1.5, use_sample_covariance=False,
        )  # fmt: skip
        assert 1 - ssim_loss(x[None], y[None]).item() == pytest.approx(theirs, abs=0.02)


def test_ssim_of_equal_images(sample):
    assert ssim_loss(sample[1], sample[1]).item() == pytest.approx(0, abs=1e-5)


def test_tv_of_a_ramp():
    """Equation 38: rising by 0.1 a column over 10 columns and 5 rows: 9 · 5 steps of 0.1 on 50 pixels = 0.09.

    The other way round (10 rows) the same; three channels and a batch do not change a mean.
    """
    ramp = (torch.arange(10) * 0.1).expand(2, 3, 5, 10)
    assert tv_loss(ramp).item() == pytest.approx(0.09, abs=1e-6)
    assert tv_loss(ramp.transpose(2, 3)).item() == pytest.approx(0.09, abs=1e-6)


def test_tv_by_hand():
    """Equation 38 on 2×2 pixels 0 1 / 3 7: vertical 3 + 6, horizontal 1 + 4, divided by N = 4."""
    assert tv_loss(torch.tensor([[0.0, 1.0], [3.0, 7.0]]).view(1, 1, 2, 2)).item() == pytest.approx(14 / 4)


def test_tv_does_not_run_around_the_border():
    """Equation 38: the left and the right border are no neighbours, nor are two channels or two images."""
    picture = torch.zeros(2, 3, 4, 4)
    picture[1] = 0.5
    picture[:, 2] += 0.25
    assert tv_loss(picture) == 0


def test_latent_by_hand():
    """Equations 34 and 40 as a mean: (1² + 2² + 0 + 3²) / 4 = 3.5; twice the numbers, four times the loss."""
    a, b = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    assert latent_loss(a, b).item() == pytest.approx(3.5)
    assert latent_loss(2 * a, 2 * b).item() == pytest.approx(14)


def test_latent_does_not_depend_on_the_codes_length():
    """Equation 40 as a mean: 512 numbers that are off by 0.1 cost as much as 16."""
    assert latent_loss(torch.full((3, 512), 0.1), torch.zeros(3, 512)).item() == pytest.approx(0.01)


# ---------------------------------------------------------------------------------------------------------------------
# The sum


def test_weights_are_the_thesis():
    """λ₁ to λ₅ below equation 41."""
    assert asdict(Weights()) == THESIS and sum(THESIS.values()) == pytest.approx(1.2)


@pytest.mark.parametrize("weights", [Weights(), Weights(1, 2, 3, 4, 5)])
def test_total_is_the_weighted_sum(sample, random_lpips, weights):
    """Equation 41: Σ λ · part, the parts as the single functions give them."""
    restored, target, a, b = sample
    parts = TotalLoss(random_lpips, weights)(restored, target, a, b)
    singles = {
        "l1": l1_loss(restored, target),
        "lpips": random_lpips(restored, target).mean(),
        "ssim": ssim_loss(restored, target),
        "tv": tv_loss(restored),
        "latent": latent_loss(a, b),
    }
    for name, value in singles.items():
        assert parts[name].item() == pytest.approx(value.item(), rel=1e-5), name
    total = sum(getattr(weights, name) * value.item() for name, value in singles.items())
    assert parts["total"].item() == pytest.approx(total, rel=1e-5)
    assert set(parts) == {*THESIS, "total"}


class Untouchable(torch.nn.Module):
    """A metric that must not be asked."""

    def forward(self, *_):
        raise AssertionError("a term of weight 0 was computed")


def test_a_term_of_weight_zero_is_skipped(sample):
    """It costs no time, is reported as 0, and the total can still be differentiated."""
    restored, target, a, b = sample
    parts = TotalLoss(Untouchable(), Weights(1, 0, 0, 0, 0))(restored.clone().requires_grad_(), target, a, b)
    assert {k for k, v in parts.items() if v == 0} == {"lpips", "ssim", "tv", "latent"}
    parts["total"].backward()


@pytest.mark.parametrize("name", THESIS)
def test_gradient_of_each_term(sample, random_lpips, name):
    """Each image term reaches the restored picture, the latent term both codes and no picture; all are finite."""
    restored, target, a, b = (x.clone().requires_grad_() for x in sample)
    only = Weights(**{k: float(k == name) for k in THESIS})
    TotalLoss(random_lpips, only)(restored, target, a, b)["total"].backward()
    reached = {"restored": restored, "a": a, "b": b}
    wanted = {"a", "b"} if name == "latent" else {"restored"}
    assert {k for k, x in reached.items() if x.grad is not None and x.grad.abs().sum() > 0} == wanted
    assert all(torch.isfinite(reached[k].grad).all() for k in wanted)


def test_equal_pictures_and_codes_cost_only_their_variation(sample, random_lpips):
    target, a = sample[1], sample[2]
    parts = TotalLoss(random_lpips)(target.clone().requires_grad_(), target, a, a)
    assert parts["total"].item() == pytest.approx(0.05 * tv_loss(target).item(), abs=1e-5)
    parts["total"].backward()


def test_shapes_must_agree(sample, random_lpips):
    restored, target, a, b = sample
    with pytest.raises(ValueError, match=r"\(2, 3, 64, 32\).*\(2, 3, 64, 64\)"):
        TotalLoss(random_lpips)(restored[..., :32], target, a, b)


def test_small_differences_stay_in_float32_under_autocast(sample, random_lpips):
    """bf16 has 8 bits: variances of near-equal numbers would drown. The four plain terms equal those of float32."""
    restored, target, a, b = sample
    loss = TotalLoss(random_lpips)
    with torch.autocast("cpu", torch.bfloat16):
        parts = loss(restored, target, a, b)
        rounded = loss(restored.bfloat16(), target, a, b)
    plain = loss(restored, target, a, b)
    for name in ("l1", "ssim", "tv", "latent"):
        assert parts[name].dtype == torch.float32 and parts[name].item() == plain[name].item(), name
    expected = ssim_loss(restored.bfloat16().float(), target)  # what the generator hands over under autocast
    assert rounded["ssim"].item() == pytest.approx(expected.item(), abs=1e-6)
    assert parts["lpips"].item() == pytest.approx(plain["lpips"].item(), rel=0.05)  # the trunk may be rounded


def test_terms_punish_what_they_are_for(sample):
    """Sanity of direction: noise raises all three picture terms, a blank picture has no variation."""
    restored, target, _, _ = sample
    worse = (target + 0.5 * torch.from_numpy(np.random.default_rng(0).standard_normal(target.shape)).float()).clamp(
        -1, 1
    )
    assert l1_loss(worse, target) > l1_loss(restored, target)
    assert ssim_loss(worse, target) > ssim_loss(restored, target)
    assert tv_loss(worse) > tv_loss(target) > tv_loss(torch.zeros_like(target))
