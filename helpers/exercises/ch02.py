"""Chapter 02: one step of normalised gradient descent, the multi-resolution loss, the search in one space."""

import torch
import torch.nn.functional as F

from helpers.exercises.build import Chapter, expect

chapter = Chapter()
check = chapter.check


def ngd_step(latent, gradient, lr):
    """The latent (any number of rows of d values) after one step: every row moves by lr against its gradient."""
    lengths = gradient.norm(dim=-1, keepdim=True).clamp(min=1e-30)  # a row whose gradient is 0 stays
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
    unread = answer(latent, torch.tensor([[3.0, 4.0], [0.0, 0.0]]), 0.5)[1]
    expect(
        torch.equal(unread, latent[1]),
        f"a row whose gradient is 0 goes from [30.0, 40.0] to {unread.tolist()}",
        "0 / 0 is nan, and this row must stay where it is: give the lengths a smallest value, .clamp(min=1e-30)",
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


def search_one_space(latent, y, draw, degrade, compare, step, count):
    """The latent after `count` steps towards `y`, and the list of the losses, each taken before its step."""
    losses = []
    for _ in range(count):
        latent = latent.detach().requires_grad_()
        loss = compare(degrade(draw(latent)), y)
        loss.backward()
        losses.append(loss.item())
        latent = step(latent, latent.grad)
    return latent.detach(), losses


@chapter.examines(search_one_space)
def _search_one_space(answer):
    """A search of two values, w: the picture is 3w, the degradation halves it, the loss is a squared distance."""
    start, y, count = torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 0.0]]), 4
    steps, expected, here = [], [], start
    for _ in range(count):
        expected.append(round(float((1.5 * here - y).square().sum()), 3))
        here = here - 0.1 * 3 * (1.5 * here - y)

    def compare(picture, target):
        expect(
            torch.equal(target, y),
            "the loss is not taken against y as it was given",
            "y is degraded already: compare(degrade(draw(latent)), y)",
        )
        expect(
            picture.requires_grad,
            "no gradient leads from the loss to the latent",
            "before you draw: latent = latent.detach().requires_grad_()",
        )
        return (picture - target).square().sum()

    def step(latent, gradient):
        expect(
            gradient is not None,
            f"in step {len(steps) + 1} latent.grad is None",
            "a latent that was computed keeps no .grad; begin each round with latent.detach().requires_grad_()",
        )
        steps.append((latent.detach().clone(), gradient.detach().clone()))
        return latent - 0.1 * gradient

    result = answer(start.clone(), y, lambda latent: 3 * latent, lambda picture: picture / 2, compare, step, count)
    expect(
        isinstance(result, tuple) and len(result) == 2,
        f"one value comes back, of the kind {type(result).__name__}",
        "return two: the last latent and the list of losses",
    )
    found, losses = result
    expect(
        all(isinstance(loss, float) for loss in losses),
        "the losses are no plain numbers",
        "append loss.item(); a loss that is a tensor keeps all that it was computed from in memory",
    )
    rounded = [round(loss, 3) for loss in losses]
    expect(
        rounded[:1] != [9.0],
        "the drawn face is compared with y before it is degraded",
        "y is blurred, so blur the drawn face too: compare(degrade(draw(latent)), y)",
    )
    expect(
        len(steps) == len(losses) == count,
        f"for count = {count} there are {len(steps)} steps and {len(losses)} losses",
        "each round of the loop takes one step and appends one loss",
    )
    expect(
        not torch.equal(steps[-1][0], start),
        "the latent of the last step is still the one of the start",
        "step changes nothing in place, it returns the moved latent: latent = step(latent, latent.grad)",
    )
    true = [3 * (1.5 * latent - y) for latent, _ in steps]
    expect(
        all(torch.allclose(a, b, atol=1e-4) for a, (_, b) in zip(true, steps, strict=True)),
        "from the second step on the gradient is not that of the latent where it is taken",
        "backward adds to an old .grad; begin each round with latent.detach().requires_grad_()",
    )
    expect(
        torch.allclose(torch.tensor(rounded), torch.tensor(expected), atol=2e-3),
        f"the losses are {rounded}, not {expected}",
        "append the loss of each round, in order",
    )
    expect(
        torch.allclose(found.detach(), here, atol=1e-3),
        "the latent that comes back is not the one after the last step",
        "return the latent that the last step gave",
    )
    expect(
        not found.requires_grad,
        "the latent that comes back is still attached to the graph of the gradient",
        "return latent.detach(), losses",
    )
