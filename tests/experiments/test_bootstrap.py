"""helpers.experiments.bootstrap: known answers, invariances, how often the interval holds the truth."""

import numpy as np
import pytest

from helpers.data import ImageError
from helpers.experiments.bootstrap import judgement, mean_intervals, paired_interval


def test_a_constant_difference_is_certain():
    """Hard and easy faces, but the same gain on each: an interval of no width."""
    base = np.array([[10.0, 30.0, 20.0], [12.0, 28.0, 21.0]])
    assert paired_interval(base + 0.5, base) == (0.5, 0.5, 0.5)


def test_two_seeds_by_hand():
    """Seeds that differ by 0 and by 6 from the baseline on every face: drawn means are 0, 3 or 6, each ¼, ½, ¼."""
    difference, low, high = paired_interval(np.array([[0.0] * 5, [6.0] * 5]), np.zeros((2, 5)))
    assert (difference, low, high) == (3, 0, 6)
    assert paired_interval(np.array([[0.0] * 5, [6.0] * 5]), np.zeros((2, 5)), level=0.4)[1:] == (3, 3)


def test_two_faces_by_hand():
    """Faces are drawn as seeds are, and all seeds are seen on the same drawn faces."""
    assert paired_interval(np.array([[0.0, 6.0]] * 3), np.zeros((3, 2))) == (3, 0, 6)
    assert paired_interval(np.array([0.0, 6.0]), np.zeros(2)) == (3, 0, 6)  # one seed, without an axis of its own


def test_normal_theory():
    """One seed, many faces: the mean ± 1.96 standard errors; a quarter of them is twice as unsure."""
    gain = np.random.default_rng(0).normal(0.3, 1, 1600)
    gain = (gain - gain.mean()) / gain.std() + 0.3
    for n in (1600, 400):
        some = gain[:n]
        difference, low, high = paired_interval(some, np.zeros(n))
        assert difference == pytest.approx(some.mean())
        assert (high - low) / (2 * 1.96 * some.std() / n**0.5) == pytest.approx(1, abs=0.06)
    assert np.ptp(paired_interval(gain, 0 * gain, level=0.5)[1:]) < 0.5 * np.ptp(paired_interval(gain, 0 * gain)[1:])


def test_what_is_common_to_both_does_not_matter():
    """The pairing: how hard a face is cancels, so the interval is that of the differences, whatever the faces."""
    rng = np.random.default_rng(0)
    a, b, hard = rng.normal(0.2, 0.3, (3, 50)), rng.normal(0, 0.3, (3, 50)), rng.normal(25, 4, 50)
    assert paired_interval(a + hard, b + hard) == pytest.approx(paired_interval(a, b))
    difference, low, high = paired_interval(a, b)
    assert paired_interval(b, a) == pytest.approx((-difference, -high, -low))
    assert paired_interval(3 * a, 3 * b) == pytest.approx((3 * difference, 3 * low, 3 * high))


def test_the_same_draws_again():
    a, b = np.random.default_rng(0).normal(0, 1, (2, 3, 40))
    assert paired_interval(a, b) == paired_interval(a, b) != paired_interval(a, b, seed=1)


def covered(seeds: int, faces: int, spread_of_seeds: float, trials: int = 200) -> float:
    """How often the interval of many made experiments holds the difference 0.5 that they were made with."""
    rng, hits = np.random.default_rng(1), 0
    for trial in range(trials):
        base = rng.normal(20, 3, faces) + rng.normal(0, 0.1, (seeds, faces))
        gain = 0.5 + rng.normal(0, 1, faces) + rng.normal(0, spread_of_seeds, (seeds, 1))
        _, low, high = paired_interval(base + gain, base, draws=200, seed=trial)
        hits += low <= 0.5 <= high
    return hits / trials


def test_coverage_where_faces_decide():
    """95 % of intervals hold the truth; two standard errors of 200 trials are 3 %, and few draws cost a little."""
    assert 0.89 <= covered(1, 60, 0) <= 0.99


def test_coverage_where_three_seeds_decide():
    """What the module's head admits: three seeds do not show how far seeds spread; the interval is too narrow."""
    assert 0.65 <= covered(3, 60, 1.5) <= 0.88


@pytest.mark.parametrize(
    ("values", "baseline"),
    [
        (np.zeros((3, 5)), np.zeros((3, 4))),
        (np.zeros((3, 5)), np.zeros((2, 5))),
        (np.zeros((3, 5)), np.zeros(5)),
        (np.zeros((1, 3, 5)), np.zeros((1, 3, 5))),
        (np.zeros((0, 5)), np.zeros((0, 5))),
        ([], []),
    ],
)
def test_what_is_not_paired_is_told(values, baseline):
    with pytest.raises(ImageError, match="a paired comparison needs two equal, filled shapes"):
        paired_interval(values, baseline)


@pytest.mark.parametrize(
    ("low", "high", "of_psnr", "of_lpips"),
    [
        (0.1, 0.3, "better", "worse"),
        (-0.3, -0.1, "worse", "better"),
        (-0.1, 0.3, "inside the noise", "inside the noise"),
        (0.0, 0.3, "inside the noise", "inside the noise"),
        (-0.3, 0.0, "inside the noise", "inside the noise"),
    ],
)
def test_verdicts(low, high, of_psnr, of_lpips):
    assert judgement(low, high, higher_is_better=True) == of_psnr
    assert judgement(low, high, higher_is_better=False) == of_lpips


def test_mean_intervals_by_hand():
    """Columns on their own: a constant has no width, a known spread has ±1.96 σ/√N, and a measure's mirror image has
    its interval mirrored, since the same images are drawn for all."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(400)
    flat, one, other = mean_intervals(np.stack([np.full(400, 3.0), noise, -noise], 1))
    assert flat == (3, 3, 3)
    mean, low, high = one
    assert mean == pytest.approx(noise.mean()) and (high - low) / 2 == pytest.approx(1.96 * noise.std() / 20, rel=0.08)
    assert low < mean < high and other == pytest.approx((-mean, -high, -low), abs=1e-9)
    assert mean_intervals(noise[:, None]) == [pytest.approx(one)]  # the seed decides
    narrow = mean_intervals(noise[:, None], level=0.5)[0]
    assert low < narrow[1] < narrow[2] < high


@pytest.mark.parametrize("values", [np.zeros((0, 2)), np.zeros(3)])
def test_mean_intervals_of_nothing(values):
    with pytest.raises(ImageError, match="filled table"):
        mean_intervals(values)
