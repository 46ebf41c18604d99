"""Chapter 09: LPIPS from activations, total variation, the weighted sum of equation 41."""

import torch

from helpers.exercises.build import Chapter, expect
from helpers.losses import l1_loss, latent_loss, ssim_loss, tv_loss

chapter = Chapter()
check = chapter.check


def perceptual_distance(features_hat, features, weights):
    """LPIPS of N pairs: lists of activations N×C×H×W and of weights 1×C×1×1, an entry for each layer; N values."""
    total = 0
    for a, b, w in zip(features_hat, features, weights, strict=True):
        a = a / a.norm(dim=1, keepdim=True).clamp(min=1e-10)
        b = b / b.norm(dim=1, keepdim=True).clamp(min=1e-10)
        squared = w * (a - b).square()
        total = total + squared.sum(dim=1).mean(dim=(1, 2))
    return total


@chapter.examines(perceptual_distance)
def _perceptual_distance(answer):
    # Channel 0 alone against channel 1 alone at one of 4×3 positions: unit vectors differ by 1 in both channels.
    a, b = torch.zeros(2, 3, 4, 3), torch.zeros(2, 3, 4, 3)
    a[:, 2], b[:, 2] = 5.0, 5.0
    a[0, :, 1, 1], b[0, :, 1, 1] = torch.tensor([2.0, 0, 0]), torch.tensor([0, 2.0, 0])
    w = torch.tensor([1.0, 3.0, 7.0]).view(1, 3, 1, 1)
    result = torch.as_tensor(answer([a], [b], [w]))
    expect(
        result.shape == (2,),
        f"two pairs of images give the shape {tuple(result.shape)}, not (2,)",
        "sum over the channels (dim 1), average over rows and columns (dims 2 and 3), keep the batch",
    )
    brighter = torch.as_tensor(answer([3 * a], [a], [w]))
    expect(
        torch.allclose(brighter, torch.zeros(2), atol=1e-6),
        f"activations that are three times as large have the distance {brighter.max():.2f}, not 0",
        "divide the channel vector of every position by its own length: .norm(dim=1, keepdim=True)",
    )
    expect(bool(torch.isfinite(result).all()), "the result is not finite", "clamp the length: .clamp(min=1e-10)")
    dark = torch.as_tensor(answer([torch.zeros(1, 3, 2, 2)], [torch.zeros(1, 3, 2, 2)], [w]))
    expect(
        bool(torch.isfinite(dark).all()),
        "where all channels are 0 the result is nan",
        "0 is divided by 0: clamp the length from below, .clamp(min=1e-10)",
    )
    wanted = (1.0 + 3.0) / 12
    expect(
        torch.allclose(result, torch.tensor([wanted, 0.0]), atol=1e-5),
        f"a test pair has {result[0]:.3f}, it should have {wanted:.3f}",
        "w multiplies the squared difference once; the channels are summed, the 4×3 positions averaged",
    )
    layers = torch.as_tensor(answer([a, a], [b, b], [w, 2 * w]))
    expect(
        torch.allclose(layers, 3 * result, atol=1e-5),
        f"with a second layer of twice the weights it is {layers[0]:.3f}, not {3 * wanted:.3f}",
        "add the layers up, each with its own weights",
    )


def total_variation(images):
    """Equation 38: images N×C×H×W to one value; the sum is divided by H·W, then averaged over channels and images."""
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().sum(dim=(-2, -1))
    right = (images[..., :, 1:] - images[..., :, :-1]).abs().sum(dim=(-2, -1))
    pixels = images.shape[-2] * images.shape[-1]
    return ((down + right) / pixels).mean()


@chapter.examines(total_variation)
def _total_variation(answer):
    image = torch.tensor([[0.0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0]])[None, None]  # down 1, right 6
    result = torch.as_tensor(answer(image))
    expect(result.numel() == 1, f"the result has the shape {tuple(result.shape)}", "one value: end with .mean()")
    flat = float(answer(torch.full((1, 3, 4, 4), 0.7)))
    expect(abs(flat) < 1e-6, f"a picture of one colour has {flat:.3f}, not 0", "take differences of neighbours")
    ramp = torch.arange(5.0).expand(1, 1, 5, 5)
    across, along = float(answer(ramp)), float(answer(ramp.mT))
    expect(
        abs(across - along) < 1e-6,
        f"a ramp to the right has {across:.2f}, the same ramp downwards {along:.2f}",
        "both directions count: rows i + 1 and i, and columns j + 1 and j",
    )
    expect(
        abs(across - 0.8) < 1e-6,
        f"a ramp 0, 1, 2, 3, 4 in each of 5 rows has {across:.2f}; it has 20 steps of 1, over 25 pixels: 0.80",
        "no step leads from the last column to the first; take slices [..., 1:] and [..., :-1], and abs()",
    )
    expect(
        abs(float(result) - 7 / 12) < 1e-6,
        f"a picture of 3×4 pixels with 7 steps of 1 has {float(result):.4f}, not 7/12 = 0.5833",
        "sum the differences, then divide by the number of pixels; .mean() divides by the number of differences",
    )
    batch = float(answer(image.expand(2, 3, 3, 4)))
    expect(
        abs(batch - 7 / 12) < 1e-6,
        f"the same picture in 3 channels and twice in the batch has {batch:.4f}, not 0.5833",
        "N of the equation is the number of pixels per channel; average over channels and batch",
    )


def total_objective(restored, target, z_deblur, z_gt, perceptual):
    """Equation 41: images N×3×H×W in [-1, 1], codes N×512, ``perceptual`` gives N values for two batches; one value."""
    total = 0.5 * l1_loss(restored, target)
    total = total + 0.3 * perceptual(restored, target).mean()
    total = total + 0.15 * ssim_loss(restored, target)
    total = total + 0.05 * tv_loss(restored)
    total = total + 0.2 * latent_loss(z_deblur, z_gt)
    return total


@chapter.examines(total_objective)
def _total_objective(answer):
    generator = torch.Generator().manual_seed(0)
    target, other = (2 * torch.rand(2, 2, 3, 16, 16, generator=generator) - 1).unbind(0)
    z, flat = torch.zeros(2, 8), torch.full((2, 3, 16, 16), 0.5)

    def nothing(restored, target):
        return torch.zeros(len(restored))

    result = torch.as_tensor(answer(target, target, z, z, nothing))
    expect(result.numel() == 1, f"the result has the shape {tuple(result.shape)}", "perceptual gives N values: .mean()")
    zero = float(answer(flat, flat, z, z, nothing))
    expect(
        abs(zero) < 1e-5,
        f"equal flat pictures and equal codes cost {zero:.3f}, not 0",
        "the third term is 1 - SSIM: ssim_loss already gives that",
    )
    wanted = {
        "λ₅, latent": (0.2, float(answer(flat, flat, z, z + 1, nothing))),
        "λ₄, total variation": (0.05, float(result) / float(tv_loss(target))),
        "λ₂, LPIPS": (0.3, float(answer(flat, flat, z, z, _perceptual)) / 2),
    }
    for name, (weight, found) in wanted.items():
        expect(
            abs(found - weight) < 1e-4,
            f"{name}: the term counts {found:.3f} times, it should count {weight} times",
            "total variation is that of the restored picture; weights 0.5, 0.3, 0.15, 0.05, 0.2",
        )
    rest = float(answer(other, target, z, z, nothing)) - 0.05 * float(tv_loss(other))
    l1, ssim = float(l1_loss(other, target)), float(ssim_loss(other, target))
    expect(
        abs(rest - 0.5 * l1 - 0.15 * ssim) < 1e-4,
        f"L1 {l1:.3f} and 1 - SSIM {ssim:.3f} add {rest:.3f} to the sum, not {0.5 * l1 + 0.15 * ssim:.3f}",
        "λ₁ = 0.5 belongs to L1 and λ₃ = 0.15 to 1 - SSIM",
    )


def _perceptual(restored, target):
    return torch.tensor([1.0, 3.0])
