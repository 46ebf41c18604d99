"""Chapter 04: one step backwards, modulation by the prior, attention between channels."""

import torch

from helpers.exercises.build import Chapter, expect

chapter = Chapter()
check = chapter.check


def reverse_step(x_t, noise, alpha, alpha_bar):
    """Equation 28: the mean of x_{t-1}, from x_t, the noise in it, α_t and ᾱ_t."""
    share = (1 - alpha) / (1 - alpha_bar) ** 0.5
    return (x_t - noise * share) / alpha**0.5


@chapter.examines(reverse_step)
def _reverse_step(answer):
    x_0, noise = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 1.0])
    alpha, before = 0.5, 0.8  # so ᾱ_t = 0.4
    x_t = 0.4**0.5 * x_0 + 0.6**0.5 * noise
    first = answer(before**0.5 * x_0 + 0.2**0.5 * noise, noise, before, before)
    expect(
        tuple(first.shape) == (2,),
        f"two values become {tuple(first.shape)}",
        "work on whole tensors, without a sum or a mean",
    )
    expect(
        torch.allclose(first, x_0, atol=1e-4),
        f"at t = 1, where ᾱ = α, the step from x_1 gives {[round(float(v), 2) for v in first]}, not x_0 = [1, -2]",
        "the share of the noise is (1 - alpha) / (1 - alpha_bar) ** 0.5, and it is subtracted",
    )
    wanted = 0.5 * before**0.5 / 0.6 * x_0 + 0.2 * alpha**0.5 / 0.6 * x_t  # Bayes' rule
    result = answer(x_t, noise, alpha, 0.4)
    literal = wanted * (alpha / 0.4) ** 0.5
    expect(
        not torch.allclose(result, literal, atol=1e-4),
        "the first step is right and the second is not: the mean of x_1 is too large by √(α/ᾱ)",
        "this is equation 21 as printed, with 1/√ᾱ; equation 28 has 1/√α",
    )
    expect(
        torch.allclose(result, wanted, atol=1e-4),
        f"the mean is {[round(float(v), 3) for v in result]}, Bayes' rule gives {[round(float(v), 3) for v in wanted]}",
        "only alpha stands in the first factor and in 1 - alpha; only alpha_bar below the noise",
    )


def modulated(normed, prior, W1, W2):
    """Equation 23: normed features N×C×H×W, prior N×P, matrices C×P; a factor and an offset for each channel."""
    scale = (prior @ W1.T)[:, :, None, None]
    shift = (prior @ W2.T)[:, :, None, None]
    return scale * normed + shift


@chapter.examines(modulated)
def _modulated(answer):
    torch.manual_seed(0)
    normed, prior = torch.randn(2, 3, 4, 5), torch.randn(2, 6)
    W1, W2 = torch.randn(3, 6), torch.randn(3, 6)
    result = answer(normed, prior, W1, W2)
    expect(
        tuple(result.shape) == (2, 3, 4, 5),
        f"features of 2×3×4×5 become {'×'.join(map(str, result.shape))}",
        "the factor has the shape N×C; give it two more dimensions with [:, :, None, None]",
    )
    silent = answer(normed, 0 * prior, W1, W2)
    expect(
        float(silent.abs().max()) == 0,
        f"with a prior of 0 the features stay, up to {float(silent.abs().max()):.1f}",
        "equation 23 has no 1 + : the factor is W¹Z itself",
    )
    twins = answer(normed[:1].expand(2, -1, -1, -1), prior, W1, W2)
    expect(
        not torch.allclose(twins[0], twins[1]),
        "two pictures with different priors are modulated alike",
        "each picture has its own row of the prior",
    )
    offset = answer(0 * normed, prior, W1, W2)[:, :, 0, 0]
    expect(
        torch.allclose(offset, prior @ W2.T, atol=1e-5),
        "for features of 0 the result is not the offset W²Z",
        "W¹Z multiplies the features, W²Z is added",
    )
    wanted = (prior @ W1.T)[:, :, None, None] * normed + (prior @ W2.T)[:, :, None, None]
    expect(torch.allclose(result, wanted, atol=1e-5), "the factor is not W¹Z", "prior @ W1.T gives N×C")


def channel_attention(q, k, v, temperature):
    """One head of DMTA: q, k, v of C channels × P pixels; rows of length 1, softmax over the keys; gives C×P."""
    q = q / q.norm(dim=1, keepdim=True)
    k = k / k.norm(dim=1, keepdim=True)
    weights = (q @ k.T * temperature).softmax(dim=1)
    return weights @ v


@chapter.examines(channel_attention)
def _channel_attention(answer):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 4, 6)
    result = answer(q, k, v, 2.0)
    expect(
        tuple(result.shape) == (4, 6),
        f"4 channels of 6 pixels become {tuple(result.shape)}",
        "the weights compare channels, q @ k.T is C×C; then weights @ v",
    )
    flat = answer(q, k, torch.ones(4, 6), 2.0)
    expect(
        torch.allclose(flat, torch.ones(4, 6), atol=1e-4),
        "where v is 1 everywhere the result is not 1: the weights of a query do not sum to 1",
        "the softmax runs over the keys, which are the columns: dim=1",
    )
    tiled = answer(q.repeat(1, 4), k.repeat(1, 4), v.repeat(1, 4), 2.0)[:, :6]
    expect(
        torch.allclose(tiled, result, atol=1e-4),
        "the same picture tiled four times is attended to differently",
        "scale each row of q and of k to length 1 first: divide by norm(dim=1, keepdim=True)",
    )
    even = answer(q, k, v, 1e-9)
    expect(
        torch.allclose(even, v.mean(0).expand(4, 6), atol=1e-3),
        "with a temperature near 0 the weights should be equal, and they are not",
        "in the authors' code the temperature multiplies",
    )
    unit_q, unit_k = (part / part.norm(dim=1, keepdim=True) for part in (q, k))
    wanted = (unit_q @ unit_k.T * 2.0).softmax(dim=1) @ v
    expect(torch.allclose(result, wanted, atol=1e-4), "the weights are not those of q kᵀ", "q @ k.T, queries in rows")
