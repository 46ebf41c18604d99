"""Chapter 08: a block of the Latent Encoder, and two ways to judge whether a pair of codes agrees."""

import torch
from torch import nn

from helpers.exercises.build import Chapter, expect, given

chapter = Chapter()
check = chapter.check


def encoder_block(c_in, c_out):
    """A layer that halves the side: N×c_in×H×W to N×c_out×H/2×W/2; convolution, batch norm, LeakyReLU."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.LeakyReLU(0.2),
    )


@chapter.examines(encoder_block)
def _encoder_block(answer):
    block = answer(3, 8)
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = given(block(x))
    expect(
        y.shape == (4, 8, 8, 8),
        f"4×3×16×16 becomes {'×'.join(map(str, y.shape))}, not 4×8×8×8",
        "a 4×4 kernel with stride 2 and padding 1 gives floor((16 + 2 - 4) / 2) + 1 = 8",
    )
    sizes = {module.kernel_size for module in block.modules() if isinstance(module, nn.Conv2d)}
    expect(sizes == {(4, 4)}, f"the kernel sizes are {sizes}, not 4×4", "kernel_size=4")
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    expect(len(norms) == 1, f"there are {len(norms)} batch normalisations, not 1", "nn.BatchNorm2d(c_out)")
    count = sum(p.numel() for p in block.parameters())
    expect(
        count == 16 * 3 * 8 + 2 * 8,
        f"the block has {count} parameters, not 16 · 3 · 8 + 2 · 8 = 400",
        "the convolution needs no bias, because batch normalisation subtracts any constant: bias=False",
    )
    slopes = [module.negative_slope for module in block.modules() if isinstance(module, nn.LeakyReLU)]
    expect(slopes == [0.2], f"the slopes of the LeakyReLU layers are {slopes}, not [0.2]", "end with nn.LeakyReLU(0.2)")
    # Before the activation every channel has mean 0 and variance 1; below 0 the slope is 0.2.
    before = torch.where(y < 0, y / 0.2, y)
    means, variances = before.mean((0, 2, 3)).abs().max().item(), before.var((0, 2, 3), correction=0)
    expect(
        means < 1e-3 and torch.allclose(variances, torch.ones(8), atol=1e-2),
        f"before the activation a channel has a mean up to {means:.2f}, not 0",
        "the order is convolution, batch normalisation, LeakyReLU",
    )


def quotient(z_deblur, z_gt):
    """Mean squared distance of the pairs over the mean variance of z_gt from face to face: N×D each, one value."""
    distance = (z_deblur - z_gt).square().mean()
    variance = z_gt.var(dim=0).mean()
    return distance / variance


@chapter.examines(quotient)
def _quotient(answer):
    z_gt = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    z_gt = (z_gt - z_gt.mean(0)) / z_gt.std(0) + torch.tensor([0.0, 5.0, -5.0])
    agreeing = torch.as_tensor(answer(z_gt, z_gt))
    expect(agreeing.numel() == 1, f"the result has the shape {tuple(agreeing.shape)}", "one value: average everything")
    expect(abs(float(agreeing)) < 1e-6, f"equal codes give {float(agreeing):.2f}, not 0", "take z_deblur - z_gt")
    mean_code = z_gt.mean(0).expand_as(z_gt)
    blind = float(answer(mean_code, z_gt))
    expect(
        abs(blind - 1) < 0.01,
        f"if z_deblur is always the mean code, the quotient is {blind:.2f}, not 1",
        "the variance of each dimension is taken over the faces, .var(dim=0), and averaged; the distance is squared",
    )
    noisy = z_gt + torch.randn(400, 3, generator=torch.Generator().manual_seed(1))
    small, large = float(answer(0.01 * noisy, 0.01 * z_gt)), float(answer(noisy, z_gt))
    expect(
        abs(small / large - 1) < 0.01,
        f"codes that are 100 times smaller have the quotient {small:.4f} instead of {large:.4f}",
        "numerator and denominator must both be squares: divide by the variance, not by the standard deviation",
    )


def retrieval(z_deblur, z_gt):
    """Share of the faces whose z_deblur has its own z_gt as the nearest of all: N×D each, one value in [0, 1]."""
    distances = torch.cdist(z_deblur, z_gt)
    nearest = distances.argmin(dim=1)
    return (nearest == torch.arange(len(z_gt))).float().mean()


@chapter.examines(retrieval)
def _retrieval(answer):
    z = torch.eye(4) * torch.arange(1.0, 5)[:, None]
    all_right = float(answer(z, z))
    expect(
        all_right == 1,
        f"equal codes give {all_right:.2f}, not 1",
        "the nearest code has the smallest distance (argmin); divide by the number of faces",
    )
    shifted = float(answer(z, z.roll(1, 0)))
    expect(shifted == 0, f"with all partners exchanged it is {shifted:.2f}, not 0", "compare with torch.arange(N)")
    # Only face 0 finds its partner: faces 1 and 2 lie nearest to that of 0, face 3 to that of 1.
    found = float(answer(torch.tensor([[0.0], [0.1], [0.2], [3.9]]), torch.tensor([[0.0], [4.0], [5.0], [9.0]])))
    expect(
        abs(found - 0.25) < 1e-6,
        f"in a case where 1 of 4 blurred faces finds its partner it is {found:.2f}, not 0.25",
        "for each z_deblur (row) look for the nearest z_gt (column): argmin(dim=1)",
    )
