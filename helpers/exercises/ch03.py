"""Chapter 03: weights of a posterior, Euler's method, the loss of the rectified flow."""

import numpy as np
import torch

from helpers.exercises.build import Chapter, expect

chapter = Chapter()
check = chapter.check


def posterior_weights(y, means, s):
    """p(face i | y) for the N faces of a world: y D values, means N×D what y would be without noise; gives N."""
    distances = ((y - means) ** 2).sum(axis=1)
    distances = distances - distances.min()
    weights = np.exp(-distances / (2 * s**2))
    return weights / weights.sum()


@chapter.examines(posterior_weights)
def _posterior_weights(answer):
    y, means = np.array([0.0, 0.0]), np.array([[0.0, 1.0], [2.0, 0.0], [1.0, -1.0]])
    weights = np.asarray(answer(y, means, 1.0))
    expect(weights.shape == (3,), f"3 faces give the shape {weights.shape}", "sum over the last axis: one per face")
    expect(
        np.isclose(weights.sum(), 1),
        f"the weights sum to {weights.sum():.3f}; probabilities sum to 1",
        "divide all weights by their sum",
    )
    expect(
        weights[0] == weights.max(),
        f"face 0 fits y best, but its weight is {weights[0]:.3f} and the largest is {weights.max():.3f}",
        "a larger distance must give a smaller weight: mind the minus sign in the exponent",
    )
    ratio = weights[0] / weights[1]
    expect(
        np.isclose(ratio, np.exp(1.5)),
        f"the squared distances are 1 and 4 and s = 1: weight 0 is {ratio:.2f} times weight 1, it should be 4.48 times",
        "the exponent is minus the squared distance over 2 s²",
    )
    wider = np.asarray(answer(y, means, 2.0))
    ratio = wider[0] / wider[1]
    expect(
        np.isclose(ratio, np.exp(3 / 8)),
        f"with s = 2 the same ratio is {ratio:.2f}, it should be 1.45",
        "s is squared in the exponent",
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        far = np.asarray(answer(y, 100 + means, 1.0))
    expect(
        np.isfinite(far).all(),
        "if all faces are far from y, all exponentials are 0 and the weights are 0 / 0",
        "subtract the smallest distance from all distances before np.exp; the ratios stay the same",
    )


def euler(field, z, K):
    """K steps of length 1/K along field(z, t), from z N×... at time 0; t is a tensor of N times, all equal."""
    for i in range(K):
        t = torch.full((len(z),), i / K)
        z = z + field(z, t) / K
    return z


@chapter.examines(euler)
def _euler(answer):
    start, times = torch.zeros(3, 2), []

    def constant(z, t):
        times.append(t)
        return torch.ones_like(z)

    end = answer(constant, start.clone(), 4)
    expect(len(times) == 4, f"with K = 4 the field is asked {len(times)} times", "one call in each of the K steps")
    expect(
        all(isinstance(t, torch.Tensor) and t.shape == (3,) for t in times),
        f"for 3 points the field gets the time {times[0]!r}",
        "t is a tensor with one time per point: torch.full((len(z),), i / K)",
    )
    seen = [round(t[0].item(), 2) for t in times]
    expect(
        seen == [0, 0.25, 0.5, 0.75],
        f"with K = 4 the field is asked at the times {seen}, not at [0, 0.25, 0.5, 0.75]",
        "t_i = i / K for i = 0 … K - 1: the velocity at the beginning of each step",
    )
    expect(
        torch.allclose(end, start + 1),
        f"a velocity of 1 for a time of 1 moves the points by {end[0, 0].item():.2f}, not by 1",
        "each step lasts 1/K, so it adds field(z, t) / K to z",
    )
    grown = answer(lambda z, t: z, torch.ones(3, 2), 4)[0, 0].item()
    expect(
        abs(grown - 1.25**4) < 1e-5,
        f"with the velocity v = z, the point 1 ends at {grown:.3f}, it should end at {1.25**4:.3f}",
        "ask the field at the point where the last step ended, not at the start",
    )
    kept = torch.ones(3, 2)
    answer(constant, kept, 2)
    expect(
        bool((kept == 1).all()), "the start itself was changed", "write z = z + ..., since z += ... changes the start"
    )


def rectified_loss(field, x, mean, epsilon, t, sigma):
    """Equations 14 and 15 on a batch: x, mean = f(y) and epsilon N×D, times t N; gives one number."""
    z_0 = mean.clamp(0, 1) + sigma * epsilon
    z_t = t[:, None] * x + (1 - t[:, None]) * z_0
    return ((x - z_0 - field(z_t, t)) ** 2).mean()


@chapter.examines(rectified_loss)
def _rectified_loss(answer):
    x, mean = torch.tensor([[0.5, 0.75], [0.25, 0.5]]), torch.tensor([[0.25, 0.5], [0.5, 1.5]])
    epsilon, t, sigma = torch.tensor([[1.0, -1.0], [2.0, 0.5]]), torch.tensor([0.0, 0.75]), 0.25
    z_0, states, times = mean.clamp(0, 1) + sigma * epsilon, [], []

    def still(z, t):
        states.append(z)
        times.append(t)
        return torch.zeros_like(z)

    loss = answer(still, x, mean, epsilon, t, sigma)
    expect(len(states) == 1, f"the field is called {len(states)} times", "call field(z_t, t) once, on the whole batch")
    z, wanted = states[0], t[:, None] * x + (1 - t[:, None]) * z_0
    expect(times[0].shape == (2,), f"the field gets times of the shape {tuple(times[0].shape)}", "pass t as it came: N")
    expect(
        z.shape == x.shape and not torch.allclose(z[0], x[0]),
        f"the state at t = 0 is {_list(z[0])}: that is x, where the path should end",
        "Z_t = t x + (1 - t) z_0 is z_0 at t = 0",
    )
    expect(
        not torch.allclose(z[0], mean[0]),
        f"the state at t = 0 is {_list(z[0])}: that is f(y) without noise",
        "z_0 = f(y) + sigma * epsilon",
    )
    expect(
        torch.allclose(z, wanted, atol=1e-6),
        f"the states are {_list(z)}, they should be {_list(wanted)}",
        "clip f(y) to [0, 1] before the noise is added, then Z_t = t x + (1 - t) z_0 with t[:, None]",
    )
    target = x - z_0
    expect(
        torch.as_tensor(loss).ndim == 0,
        f"the loss has the shape {tuple(torch.as_tensor(loss).shape)}",
        "take the mean over all elements",
    )
    right, moved = (target**2).mean(), answer(lambda z, t: target, x, mean, epsilon, t, sigma)
    expect(
        torch.isclose(loss, right),
        f"where the field is 0 the loss is {loss.item():.4f}, it should be {right.item():.4f}",
        "the mean over all elements of (x - z_0 - field(z_t, t))²; the target x - z_0 has the noise in it",
    )
    expect(
        abs(moved.item()) < 1e-8,
        f"a field that gives exactly x - z_0 has the loss {moved.item():.4f}, not 0",
        "the path goes from z_0 to x, so the velocity is x - z_0",
    )


def _list(values: torch.Tensor) -> list:
    return (values.double() * 1000).round().div(1000).tolist()
