"""Chapter 10: one training step, a step of Adam, an exponential moving average of weights."""

import copy

import numpy as np
import torch

from helpers.exercises.build import Chapter, expect

chapter = Chapter()
check = chapter.check


def one_step(model, loss, optimiser, inputs, target):
    """One update of all weights from a batch; the loss's parts before it, name -> float."""
    restored, z_deblur, z_gt = model(inputs, target)
    parts = loss(restored, target, z_deblur, z_gt)
    optimiser.zero_grad()
    parts["total"].backward()
    optimiser.step()
    return {name: part.item() for name, part in parts.items()}


class _Tiny(torch.nn.Module):
    """Three numbers in the place of the three networks."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (torch.nn.Parameter(torch.tensor(value)) for value in (0.5, 0.3, 0.2))

    def forward(self, inputs, sharp):
        z_deblur = self.a * inputs.mean(1)
        return self.b * z_deblur, z_deblur, self.c * sharp


def _tiny_loss(restored, target, z_deblur, z_gt):
    parts = {"l1": (restored - target).abs().mean(), "latent": (z_deblur - z_gt).square().mean()}
    return {**parts, "total": 0.5 * parts["l1"] + 0.2 * parts["latent"]}


@chapter.examines(one_step)
def _one_step(answer):
    inputs, target = torch.ones(2, 4), torch.tensor([1.0, 2.0])
    model = _Tiny()
    start, optimiser = copy.deepcopy(model), torch.optim.SGD(model.parameters(), lr=0.1)
    values = answer(model, _tiny_loss, optimiser, inputs, target)
    names = {"l1", "latent", "total"}
    expect(
        isinstance(values, dict) and set(values) == names,
        f"the result is {type(values).__name__}, not a dict with the keys l1, latent and total",
        "the loss gives a dict of tensors; give a dict with the same keys back",
    )
    expect(
        not any(isinstance(value, torch.Tensor) for value in values.values()),
        "the values are tensors, which keep the whole computation of the step in memory",
        "take the number out of each with .item()",
    )
    moved = [not torch.equal(p, q) for p, q in zip(model.parameters(), start.parameters(), strict=True)]
    expect(any(moved), "no weight has moved", "backward() fills the gradients, then optimiser.step() uses them")
    expect(
        all(moved),
        f"{sum(moved)} of 3 weights have moved",
        "the gradient of the total reaches all three networks; call backward() on parts['total']",
    )
    again = _Tiny()
    again.load_state_dict(model.state_dict())
    answer(model, _tiny_loss, optimiser, inputs, target)
    answer(again, _tiny_loss, torch.optim.SGD(again.parameters(), lr=0.1), inputs, target)
    far = max(abs(p.item() - q.item()) for p, q in zip(model.parameters(), again.parameters(), strict=True))
    expect(
        far < 1e-6,
        f"the second step is not that of a new optimiser, the weights differ by {far:.3f}",
        "gradients of two steps add up in .grad; call optimiser.zero_grad() before backward()",
    )


def adam_step(theta, g, m, v, t, rate):
    """Step t = 1, 2, ... of Adam with β₁ = 0.9, β₂ = 0.999, ε = 1e-8: the new (theta, m, v)."""
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g**2
    m_hat = m / (1 - 0.9**t)
    v_hat = v / (1 - 0.999**t)
    theta = theta - rate * m_hat / (np.sqrt(v_hat) + 1e-8)
    return theta, m, v


@chapter.examines(adam_step)
def _adam_step(answer):
    theta, m, v = answer(0.0, -6.0, 0.0, 0.0, 1, 0.1)
    expect(np.isclose(m, -0.6), f"after a first gradient of -6, m is {m:.3f}, not -0.6", "m = 0.9 m + 0.1 g")
    expect(np.isclose(v, 0.036), f"after a first gradient of -6, v is {v:.3f}, not 0.036", "v = 0.999 v + 0.001 g²")
    expect(theta > 0, f"with a gradient of -6, theta went from 0 to {theta:.3f}, up the slope", "subtract the step")
    expect(
        np.isclose(theta, 0.1),
        f"the first step is {theta:.4f} long, not 0.1, the rate",
        "divide m by 1 - 0.9**t and v by 1 - 0.999**t, and take the root of v",
    )
    theta = answer(1.0, 2.0, 0.5, 4.0, 3, 0.01)[0]
    wanted = 1 - 0.01 * (0.65 / (1 - 0.9**3)) / np.sqrt(4.0 / (1 - 0.999**3))
    expect(np.isclose(theta, wanted), f"a third step ends at {theta:.5f}, not {wanted:.5f}", "the power is t, not 1")


def averaged(average, weights, step, decay):
    """Lists of tensors: d · average + (1 - d) · weights, d as in the formula."""
    d = min(decay, (1 + step) / (10 + step))
    return [d * mean + (1 - d) * now for mean, now in zip(average, weights, strict=True)]


@chapter.examines(averaged)
def _averaged(answer):
    zero, one = [torch.zeros(2), torch.zeros(3)], [torch.ones(2), torch.ones(3)]
    late = answer(zero, one, 10_000, 0.9)
    shapes = [tuple(t.shape) for t in late]
    expect(shapes == [(2,), (3,)], f"the shapes are {shapes}", "give a list with one tensor for each of the average's")
    value = late[0][0].item()
    expect(
        abs(value - 0.1) < 1e-5,
        f"with decay 0.9 an average of 0 moves to {value:.2f} where the weights are 1, not to 0.10",
        "the decay belongs to the old average, 1 - decay to the new weights; late in a run d is decay",
    )
    early = answer(zero, one, 0, 0.9)[0][0].item()
    expect(
        abs(early - 0.9) < 1e-5,
        f"at step 0 the average moves to {early:.2f}, so it keeps the random start for long",
        "at step 0 the decay is (1 + 0) / (10 + 0) = 0.1: take the smaller of decay and (1 + step) / (10 + step)",
    )
