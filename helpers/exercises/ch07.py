"""Chapter 07: a transposed convolution with stamps, the generator's doublings, the search for a code."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from helpers.exercises.build import Chapter, expect

chapter = Chapter()
check = chapter.check


def stamp_and_add(x, kernel, stride=2):
    """Transposed convolution in one dimension: x, H numbers, kernel, k numbers; gives (H - 1)·stride + k numbers."""
    y = torch.zeros((len(x) - 1) * stride + len(kernel))
    for i, value in enumerate(x):
        y[i * stride : i * stride + len(kernel)] += value * kernel
    return y


@chapter.examines(stamp_and_add)
def _stamp_and_add(answer):
    x, kernel = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    y = answer(x, kernel)
    expect(
        len(y) == 8,
        f"3 numbers and a kernel of 4 give {len(y)} numbers with stride 2, not 8",
        "the last stamp begins at (H - 1)·stride and is k long",
    )
    one = answer(torch.tensor([0.0, 0.0, 1.0]), kernel)
    start = int(one.nonzero()[0]) if one.any() else -1
    expect(start == 4, f"the stamp of the third number begins at {start}, not at 4", "stamp i begins at i·stride")
    expect(
        torch.equal(one[4:], kernel),
        f"a single 1 gives {one[4:].tolist()}, not the kernel",
        "the stamp is the whole kernel, multiplied by the input value; it is not turned",
    )
    expect(
        float(y[2]) == 5,
        f"where two stamps overlap, at place 2, there is {float(y[2]):g}, not 3 + 2 = 5",
        "overlapping stamps add: use += and not =",
    )
    wanted = F.conv_transpose1d(x.view(1, 1, -1), kernel.view(1, 1, -1), stride=3).flatten()
    three = answer(x, kernel, 3)
    expect(
        three.shape == wanted.shape and torch.equal(three, wanted),
        f"with stride 3 the result is {three.tolist()}",
        "use the argument stride, not the number 2",
    )


def upsampling(channels):
    """Doublings channels[0] -> channels[1] -> ...: 4×4 kernel, batch norm, ReLU; tanh alone after the last."""
    layers = []
    for n, (c_in, c_out) in enumerate(pairwise(channels), start=2):
        last = n == len(channels)
        layers.append(nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1, bias=last))
        layers += [nn.Tanh()] if last else [nn.BatchNorm2d(c_out), nn.ReLU()]
    return nn.Sequential(*layers)


@chapter.examines(upsampling)
def _upsampling(answer):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        up = answer([8, 6, 6, 3])
        kinds = [type(layer).__name__ for layer in up]
        convolutions = [layer for layer in up if isinstance(layer, nn.ConvTranspose2d)]
        expect(
            len(convolutions) == 3,
            f"4 numbers of channels give {len(convolutions)} transposed convolutions, not 3",
            "one for each pair of neighbours: pairwise(channels)",
        )
        y = up(5 * torch.randn(2, 8, 4, 4))
    expect(
        tuple(y.shape) == (2, 3, 32, 32),
        f"3 doublings of 2×8×4×4 give {'×'.join(map(str, y.shape))}, not 2×3×32×32",
        "kernel 4, stride=2 and padding=1: (H - 1)·2 - 2 + 4 = 2H",
    )
    expect(kinds[-1] == "Tanh", f"the last layer is {kinds[-1]}", "the last one is nn.Tanh(): pixels in [-1, 1]")
    expect(
        kinds[-2] == "ConvTranspose2d",
        f"between the last convolution and tanh stands {kinds[-2]}",
        "no batch norm and no ReLU after the last: ReLU would forbid all values below 0",
    )
    wanted = ["ConvTranspose2d", "BatchNorm2d", "ReLU"] * 2
    expect(kinds[:-2] == wanted, f"before the last convolution stand {kinds[:-2]}", "batch norm, then ReLU, after each")
    biases = [layer.bias is not None for layer in convolutions]
    expect(
        biases == [False, False, True],
        f"the convolutions have a bias: {biases}",
        "batch norm subtracts any constant, so bias=False before it; the last one has no batch norm and needs one",
    )


def find_code(draw, target, z, steps=100, rate=0.1):
    """Adam on the mean squared error of draw(z) and target, from the codes z, N×D, which stay as they are: N×D."""
    z = z.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([z], lr=rate)
    for _ in range(steps):
        loss = F.mse_loss(draw(z), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return z.detach()


@chapter.examines(find_code)
def _find_code(answer):
    picture = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -0.5]])
    truth, start = torch.tensor([[1.0, -2.0], [0.5, 0.25]]), torch.zeros(2, 2)
    kept = start.clone()

    def draw(z):
        return z @ picture

    one = answer(draw, draw(truth), start, 1, 0.1)
    expect(torch.equal(start, kept), "the codes that were given are changed", "work on z.clone()")
    expect(not one.requires_grad, "the result still requires a gradient", "end with z.detach()")
    expect(
        not torch.equal(one, start),
        "after one step the code is where it began",
        "z.requires_grad_(True), and z is what the optimiser gets: torch.optim.Adam([z], lr=rate)",
    )
    moved = float((one - start).abs().max())
    expect(
        abs(moved - 0.1) < 1e-3,
        f"with rate 0.1 the first step changes the code by {moved:.3f}",
        "the first step of Adam is as long as its rate: lr=rate",
    )
    before = float(F.mse_loss(draw(start), draw(truth)))
    after = float(F.mse_loss(draw(answer(draw, draw(truth), start, 300, 0.1)), draw(truth)))
    expect(
        after < before,
        f"the error grows from {before:.3f} to {after:.3f}",
        "mind the sign of the loss, and set the old gradients to zero in each step",
    )
    expect(
        after < 1e-4,
        f"after 300 steps the error is {after:.4f}; a linear draw allows 0",
        "set the old gradients to zero in each step, and make all the steps",
    )
