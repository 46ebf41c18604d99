"""Chapter 11: SSIM of one window, a paired bootstrap interval, a distance between two sets."""

import numpy as np

from helpers.exercises.build import Chapter, expect
from helpers.seeds import rng_for

chapter = Chapter()
check = chapter.check


def window_ssim(a, b):
    """Equation 46 for two windows H×W of one colour, values 0 to 255: a number."""
    C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    (var_a, cov), (_, var_b) = np.cov(a.ravel(), b.ravel())
    light = (2 * a.mean() * b.mean() + C1) / (a.mean() ** 2 + b.mean() ** 2 + C1)
    structure = (2 * cov + C2) / (var_a + var_b + C2)
    return light * structure


@chapter.examines(window_ssim)
def _window_ssim(answer):
    a = rng_for(11).integers(60, 200, (7, 7)).astype(np.uint8)
    value = answer(a, a)
    expect(np.ndim(value) == 0, f"the result has the shape {np.shape(value)}", "one window gives one number")
    expect(np.isclose(value, 1), f"a window compared with itself scores {value:.4f}, not 1", "compare both fractions")
    inverted = answer(a, 255 - a)
    expect(
        inverted < 0,
        f"a window and its negative score {inverted:.3f}, as if they were alike",
        "the structure needs the covariance, which has a sign, and a factor 2",
    )
    flat = np.full((7, 7), 4, np.uint8)
    value = answer(flat, flat + 6)
    expect(
        np.isclose(value, (2 * 4 * 10 + 6.5025) / (4**2 + 10**2 + 6.5025)),
        f"grey 4 against grey 10 scores {value:.4f}, not 0.7061",
        "without structure C2 / C2 = 1 is left, times the fraction of the means; C1 = (0.01 · 255)²",
    )
    b = (0.6 * a + 50).astype(np.uint8)
    value, wanted = answer(a, b), window_ssim(a, b)
    expect(
        np.isclose(value, wanted, rtol=0, atol=1e-6),
        f"a window against one of less contrast scores {value:.6f}, not {wanted:.6f}",
        "C2 = (0.03 · 255)², and np.cov divides by 48, not by 49, as skimage does",
    )


def difference_interval(before, after, chosen):
    """95 % bootstrap interval of the mean of after - before; chosen: draws×N, which faces each draw takes."""
    difference = after - before
    means = difference[chosen].mean(axis=1)
    return np.quantile(means, [0.025, 0.975])


@chapter.examines(difference_interval)
def _difference_interval(answer):
    rng = rng_for(11, 1)
    before = rng.normal(20, 5, 50)
    chosen = rng.integers(50, size=(400, 50))
    result = np.asarray(answer(before, before + 1, chosen), dtype=float)
    expect(result.shape == (2,), f"the result has the shape {result.shape}", "give the lower and the upper end")
    expect(result.mean() > 0, f"every face gained 1, and the interval is around {result.mean():.1f}", "after - before")
    expect(
        np.allclose(result, 1),
        f"every face gained exactly 1, and the interval is from {result[0]:.2f} to {result[1]:.2f}",
        "take the difference face by face first, and draw the same faces for both",
    )
    after = before + rng.normal(0.5, 1, 50)
    low, high = answer(before, after, chosen)
    wanted = difference_interval(before, after, chosen)
    expect(
        high - low < 3 * (wanted[1] - wanted[0]),
        f"the interval is {high - low:.2f} wide, not {wanted[1] - wanted[0]:.2f}: that is the spread of faces",
        "each row of chosen gives one mean; the mean runs over axis 1",
    )
    expect(
        np.allclose([low, high], wanted, atol=1e-6),
        f"the ends are {low:.3f} and {high:.3f}, not {wanted[0]:.3f} and {wanted[1]:.3f}",
        "each row of chosen gives one mean, over axis 1; the quantiles are 0.025 and 0.975",
    )


def set_distance(a, b, lines):
    """Sets of N points, N×D, seen along K lines, D×K: mean absolute difference of the sorted projections."""
    along_a = np.sort(a @ lines, axis=0)
    along_b = np.sort(b @ lines, axis=0)
    return np.abs(along_a - along_b).mean()


@chapter.examines(set_distance)
def _set_distance(answer):
    rng = rng_for(11, 2)
    a, lines = rng.normal(size=(30, 4)), rng.normal(size=(4, 6))
    value = answer(a, a, lines)
    expect(np.ndim(value) == 0, f"the result has the shape {np.shape(value)}", "take the mean over points and lines")
    mixed = answer(a, a[::-1], lines)
    expect(
        np.isclose(mixed, 0),
        f"the same points in another order are {mixed:.3f} apart, not 0",
        "a set has no order: sort what each line shows, along axis 0, before you subtract",
    )
    moved = answer(np.array([[0.0], [1.0]]), np.array([[4.0], [2.0]]), np.ones((1, 1)))
    expect(
        np.isclose(moved, 2.5),
        f"the sets 0, 1 and 2, 4 are {moved:.3f} apart, not 2.5",
        "the smallest of one set goes with the smallest of the other; mean of the absolute differences",
    )
    b = rng.normal(size=(30, 4)) + 1
    value, wanted = answer(a, b, lines), set_distance(a, b, lines)
    expect(np.isclose(value, wanted), f"along six lines the distance is {value:.3f}, not {wanted:.3f}", "a @ lines")
