"""Chapter 06: batch normalisation in training, the forward pass of a residual block, ResNet-18 as an encoder."""

import torch
from torch import nn
from torchvision.models import resnet18

from helpers.exercises.build import Chapter, expect
from helpers.networks import ResidualBlock, count_parameters

chapter = Chapter()
check = chapter.check


def batch_norm(x, gamma, beta, eps=1e-5):
    """Normalise x, N×C×H×W, per channel with the batch's own mean and variance; gamma and beta, C numbers each."""
    mu = x.mean((0, 2, 3), keepdim=True)
    var = x.var((0, 2, 3), keepdim=True, correction=0)
    return gamma[:, None, None] * (x - mu) / torch.sqrt(var + eps) + beta[:, None, None]


@chapter.examines(batch_norm)
def _batch_norm(answer):
    x = torch.arange(48.0).reshape(2, 3, 2, 4).sin() * torch.tensor([1.0, 2.0, 5.0])[:, None, None] + 3
    one, none = torch.ones(3), torch.zeros(3)
    y = answer(x, one, none)
    expect(tuple(y.shape) == (2, 3, 2, 4), f"2×3×2×4 numbers become {tuple(y.shape)}", "keepdim=True keeps the axes")
    means = [round(float(m), 2) for m in y.mean((0, 2, 3)).abs()]
    expect(
        max(means) < 0.01,
        f"after it the channels have the means {means}, not 0",
        "mu is a mean of each channel over pictures, rows and columns: the axes (0, 2, 3)",
    )
    own = [round(float(m), 2) for m in y.mean((2, 3))[0]]
    expect(
        max(abs(m) for m in own) > 0.01,
        "each picture is normalised by itself, so its neighbours in the batch do not count",
        "the pictures are axis 0: take the mean and the variance over (0, 2, 3)",
    )
    spread = [round(float(v), 3) for v in y.var((0, 2, 3), correction=0)]
    expect(
        max(abs(v - 1) for v in spread) < 0.01,
        f"after it the channels have the variances {spread}, not 1",
        "divide by the square root of the variance, with correction=0 (divide by n, not by n - 1)",
    )
    y = answer(x, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 5.0, 0.0]))
    mean, scale = float(y[:, 1].mean()), float(y[:, 1].std(correction=0))
    expect(
        abs(mean - 5) < 0.01 and abs(scale - 2) < 0.01,
        f"a channel with gamma 2 and beta 5 has the mean {mean:.2f} and the standard deviation {scale:.2f}",
        "multiply by gamma, then add beta; [:, None, None] gives a number per channel two more axes",
    )
    flat = answer(torch.ones(2, 3, 2, 2), one, none)
    expect(
        bool(flat.isfinite().all()),
        "a channel that is the same everywhere becomes nan",
        "its variance is 0: add eps to the variance, inside the square root",
    )


def residual_forward(block, x):
    """Equation 33 and the ReLU after it: block has conv1, bn1, conv2, bn2, and downsample (a module or None)."""
    h = torch.relu(block.bn1(block.conv1(x)))
    residual = block.bn2(block.conv2(h))
    shortcut = x if block.downsample is None else block.downsample(x)
    return torch.relu(residual + shortcut)


@chapter.examines(residual_forward)
def _residual_forward(answer):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        x = torch.rand(2, 8, 6, 6)
        same, other = ResidualBlock(8, 8).eval(), ResidualBlock(8, 16, stride=2).eval()
        wanted, y = same(x), answer(same, x)
        expect(y.shape == x.shape, f"2×8×6×6 numbers become {tuple(y.shape)}", "F(x) has the shape of x here: add them")
        expect(
            float(y.min()) >= 0,
            f"the smallest output is {y.min():.2f}, below 0",
            "ResNet applies one more ReLU, to the sum",
        )
        expect(
            not torch.allclose(y, torch.relu(same.residual(x))),
            "x is not in the result: this block has no shortcut",
            "add the shortcut to F(x) before the last ReLU",
        )
        expect(
            not torch.allclose(y, torch.relu(same.residual(x)) + x),
            "the ReLU is applied to F(x) alone, so a block could never lower a value",
            "first the sum, then the ReLU",
        )
        expect(
            torch.allclose(y, wanted, atol=1e-5),
            f"the output differs from ResNet's by {float((y - wanted).abs().max()):.2f} at most",
            "F is conv1, bn1, ReLU, conv2, bn2, in this order",
        )
        y = answer(other, x)
        expect(
            torch.allclose(y, other(x), atol=1e-5),
            "a block that changes the shape gives another result than ResNet's",
            "where block.downsample is not None the shortcut is block.downsample(x)",
        )


def to_deblur_encoder(resnet, latent_dim=512):
    """torchvision's ResNet-18 with a first convolution for 4 channels and a last layer for latent_dim numbers."""
    resnet.conv1 = nn.Conv2d(4, 64, 7, stride=2, padding=3, bias=False)
    resnet.fc = nn.Linear(512, latent_dim)
    return resnet


@chapter.examines(to_deblur_encoder)
def _to_deblur_encoder(answer):
    encoder = answer(resnet18(weights=None), 10).eval()
    conv, fc = encoder.conv1, encoder.fc
    expect(
        conv.in_channels == 4,
        f"conv1 takes {conv.in_channels} channels",
        "red, green, blue and the edge map: replace resnet.conv1 by a new nn.Conv2d(4, ...)",
    )
    expect(
        conv.out_channels == 64 and conv.kernel_size == (7, 7),
        f"conv1 gives {conv.out_channels} channels with a kernel of {conv.kernel_size}",
        "all but the number of input channels stays as it was: 64 channels, kernel 7",
    )
    side = conv(torch.zeros(1, 4, 128, 128)).shape[-1]
    expect(
        side == 64,
        f"conv1 makes {side} pixels of 128, ResNet-18 makes 64",
        "the old convolution had stride=2 and padding=3",
    )
    expect(
        conv.bias is None,
        "conv1 has a bias of 64 numbers",
        "the batch normalisation after it subtracts any constant: bias=False, as before",
    )
    expect(
        fc.out_features == 10,
        f"the last layer gives {fc.out_features} numbers for latent_dim 10",
        "replace resnet.fc by nn.Linear(512, latent_dim)",
    )
    with torch.no_grad():
        code = encoder(torch.zeros(1, 4, 64, 64))
    expect(tuple(code.shape) == (1, 10), f"the code has the shape {tuple(code.shape)}", "keep all other layers")
    left = count_parameters(encoder) - (7 * 7 * 4 * 64 + 513 * 10)
    expect(left == 11167104, f"the layers between have {left:,} parameters, not 11,167,104", "change only two layers")
