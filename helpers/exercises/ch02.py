"""Chapter 02: modulated weights, one step of normalised gradient descent, the multi-resolution loss."""

import torch
import torch.nn.functional as F

from helpers.exercises.build import Chapter, expect

chapter = Chapter()
check = chapter.check


def modulate(weight, style):
    """Weights O×I×k×k, scaled by the style (I values) of their input channel; each output filter then has length 1."""
    scaled = weight * style[None, :, None, None]
    lengths = scaled.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
    return scaled / lengths


@chapter.examines(modulate)
def _modulate(answer):
    weight = torch.arange(1.0, 55.0).reshape(3, 2, 3, 3)  # three filters for two input channels
    style = torch.tensor([1.0, 0.0])
    result = answer(weight, style)
    expect(
        tuple(result.shape) == (3, 2, 3, 3),
        f"weights of 3×2×3×3 become {'×'.join(map(str, result.shape))}",
        "shape the style as 1×I×1×1 with style[None, :, None, None], so that it multiplies the weights in place",
    )
    expect(
        float(result[:, 1].abs().max()) == 0 < float(result[:, 0].abs().min()),
        "a style of 0 for the second input channel does not switch this channel off",
        "the style belongs to input channels, which are the second dimension of the weights",
    )
    lengths = [round(float(v), 3) for v in result.flatten(1).norm(dim=1)]
    total = float(result.norm())
    expect(
        abs(total - 1) > 1e-3,
        "all filters together have length 1",
        "each output filter is divided by its own length: sum over the dimensions 1, 2 and 3 only",
    )
    expect(
        all(abs(v - 1) < 1e-3 for v in lengths),
        f"the three filters have the lengths {lengths}, not 1",
        "divide by the square root of the sum of squares over the dimensions 1, 2 and 3, with keepdim=True",
    )
    louder = answer(weight, 10 * style)
    expect(
        torch.allclose(louder, result, atol=1e-4),
        "a style ten times as large gives other weights",
        "the lengths must be those of the scaled weights, not those of the weights before",
    )


def ngd_step(latent, gradient, lr):
    """The latent (any number of rows of d values) after one step: every row moves by lr against its gradient."""
    lengths = gradient.norm(dim=-1, keepdim=True)
    return latent - lr * gradient / lengths


@chapter.examines(ngd_step)
def _ngd_step(answer):
    gradient = torch.tensor([[3.0, 4.0], [0.0, 0.002]])
    latent = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    result = answer(latent, gradient, 0.5)
    expect(
        tuple(result.shape) == (2, 2),
        f"a latent of two rows becomes {tuple(result.shape)}",
        "return the moved latent, with the shape that it had",
    )
    moved = latent - result
    lengths = [round(float(v), 4) for v in moved.norm(dim=1)]
    expect(
        float(moved[0, 0]) > 0,
        "the first row moves along its gradient, so the loss would rise",
        "descent subtracts: latent - lr * direction",
    )
    expect(
        abs(float(moved.norm()) - 0.5) > 1e-3,
        f"all rows together move by lr = 0.5, the two rows by {lengths}",
        "this is one norm for the whole gradient; the norm is wanted row by row: norm(dim=-1, keepdim=True)",
    )
    expect(
        all(abs(v - 0.5) < 1e-3 for v in lengths),
        f"with lr = 0.5 the two rows move by {lengths}",
        "divide each row of the gradient by its own length, then multiply by lr",
    )
    expect(
        torch.allclose(moved[0], torch.tensor([0.3, 0.4]), atol=1e-3),
        f"the first row moves by {[round(float(v), 2) for v in moved[0]]}, not by [0.3, 0.4]",
        "the direction must stay that of the gradient: divide by the length, do not take the sign",
    )


def multi_resolution(x, y, metric):
    """Equations 5 and 6: the metric at full size, half, ... while sides exceed 16 pixels, then 0.1 · L1 of the rest."""
    total = 0
    while x.shape[-1] > 16:
        total = total + metric(x, y)
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return total + 0.1 * (x - y).abs().mean()


@chapter.examines(multi_resolution)
def _multi_resolution(answer):
    sizes = []

    def metric(a, b):
        sizes.append(a.shape[-1])
        return (a - b).abs().max()

    torch.manual_seed(0)
    flat = torch.zeros(1, 3, 64, 64)
    answer(flat, flat, metric)
    expect(
        64 in sizes,
        f"the metric is called at {sizes} pixels, never at the full size of 64",
        "compare first, then halve both pictures",
    )
    expect(
        sizes == [64, 32],
        f"for pictures of 64 pixels the metric is called at {sizes}",
        "it is wanted at 64 and 32: halve while the side is greater than 16 pixels",
    )
    noisy = torch.rand(1, 3, 64, 64)
    pooled = float(F.avg_pool2d(noisy, 4).abs().mean())
    value = float(answer(noisy, flat, lambda *_: torch.tensor(0.0)))
    fine = torch.ones(64, 64)
    fine[::2] = -1  # lines that vanish in the first pooling
    expect(
        abs(float(answer(flat + fine, flat, lambda *_: torch.tensor(0.0)))) < 1e-6,
        "lines one pixel wide count in the L1 term",
        "take L1 after the loop, on the pooled pictures of 16 pixels",
    )
    expect(
        abs(value - 0.1 * pooled) < 1e-6,
        f"where L1 at 16 pixels is {pooled:.3f}, the L1 term is {value:.3f}, not a tenth of it",
        "use the mean over all values and the weight 0.1 of equation 6",
    )
    total = float(answer(flat + 0.5, flat, metric))
    expect(
        abs(total - 1.05) < 1e-4,
        f"two levels of 0.5 and an L1 of 0.5 sum to {total:.3f}, not to 1.050",
        "add what the metric gives at each level, then 0.1 · L1",
    )
