"""helpers.experiments.inference: scipy's t intervals as special cases, coverage, Holm's rule, effect sizes."""

import numpy as np
import pytest
from scipy import stats

from helpers.data import ImageError
from helpers.experiments.inference import compare, hedges, holm, jackknife

SEEDS, FACES, TRUTH = 8, 30, 0.3


def test_one_measure_for_each_run_is_students_and_welchs_interval():
    """Without faces the two designs are scipy's paired and Welch's t test, to the last digit."""
    a, b = np.random.default_rng(0).normal([[0.4], [0.0]], [[1.0], [0.3]], (2, SEEDS))
    for paired, test in ((True, stats.ttest_rel(a, b)), (False, stats.ttest_ind(a, b, equal_var=False))):
        found, wanted = compare(a, b, paired), test.confidence_interval()
        assert [found.low, found.high] == pytest.approx([wanted.low, wanted.high])
        assert found.p == pytest.approx(test.pvalue) and found.freedom == pytest.approx(test.df)
        assert found.difference == pytest.approx(a.mean() - b.mean()) and found.seeds == (SEEDS, SEEDS)
    narrow, wanted = compare(a, b, False, level=0.5), stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.5)
    assert [narrow.low, narrow.high] == pytest.approx([wanted.low, wanted.high])
    other = compare(a, b[:5], False)
    assert other.p == pytest.approx(stats.ttest_ind(a, b[:5], equal_var=False).pvalue) and other.seeds == (8, 5)


def test_where_seeds_agree_only_the_faces_count():
    """Every seed the same network: the t interval of the faces' differences."""
    gain = np.random.default_rng(0).normal(0.2, 1, FACES)
    found = compare(np.tile(gain, (SEEDS, 1)), np.zeros((SEEDS, FACES)), paired=True)
    wanted = stats.ttest_1samp(gain, 0).confidence_interval()
    assert [found.low, found.high] == pytest.approx([wanted.low, wanted.high])
    assert np.isnan(found.effect)  # no seed differs from another


def test_what_pairing_removes():
    """How hard a face is cancels in both designs; what a seed brings to both arms cancels in pairs alone."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 0.1, (2, SEEDS, FACES))
    hard, luck = rng.normal(0, 5, FACES), rng.normal(0, 5, (SEEDS, 1))
    plain, faces = compare(a, b, True), compare(a + hard, b + hard, True)
    assert (faces.low, faces.high) == pytest.approx((plain.low, plain.high))
    own = compare(a, b, False)
    assert compare(a + hard, b + hard, False).high == pytest.approx(own.high)
    assert compare(a + luck, b + luck, True).high == pytest.approx(plain.high)
    assert compare(a + luck, b + luck, False).high > 10 * abs(own.high)
    swapped = compare(b, a, True)
    assert (swapped.low, swapped.high, swapped.p) == pytest.approx((-plain.high, -plain.low, plain.p))


def covered(seeds: float, faces: float, rest: float, paired: bool, trials: int = 1000) -> float:
    """How often the 95 % interval of made experiments holds their truth; arguments are standard deviations.

    Each scale is that of the *mean* over the 8 seeds or the 30 faces, so equal arguments decide equally. A second
    spread, of what both arms have in common, is large and must not matter.
    """
    rng, hits = np.random.default_rng(3), 0
    for _ in range(trials):
        hard = rng.normal(0, 5, FACES)
        luck = rng.normal(0, 3, (SEEDS, 1)) if paired else 0
        base = hard + luck + rng.normal(0, rest * (SEEDS * FACES / 2) ** 0.5, (SEEDS, FACES))
        arm = hard + luck + rng.normal(0, rest * (SEEDS * FACES / 2) ** 0.5, (SEEDS, FACES))
        base = base + rng.normal(0, seeds * (SEEDS / 2) ** 0.5, (SEEDS, 1))
        arm = arm + TRUTH + rng.normal(0, seeds * (SEEDS / 2) ** 0.5, (SEEDS, 1))
        arm = arm + rng.normal(0, faces * FACES**0.5, FACES)
        found = compare(arm, base, paired)
        hits += found.low <= TRUTH <= found.high
    return hits / trials


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(
    ("seeds", "faces", "rest"), [(1, 0, 0.01), (0.5, 0.5, 0.05), (0.05, 1, 0.05)], ids=["seeds", "both", "faces"]
)
def test_coverage_with_eight_seeds(seeds, faces, rest, paired):
    """93 to 97 of 100 intervals hold the truth, whichever decides; two standard errors of 1,000 trials are 1.4 %."""
    assert 0.93 <= covered(seeds, faces, rest, paired) <= 0.97


@pytest.mark.parametrize(
    ("values", "baseline", "paired", "said"),
    [
        (np.zeros((8, 5)), np.zeros((8, 4)), True, "cannot be compared"),
        (np.zeros((8, 5)), np.zeros((7, 5)), True, "cannot be compared"),
        (np.zeros((1, 5)), np.zeros((1, 5)), True, "at least two seeds"),
        (np.zeros((8, 0)), np.zeros((8, 0)), False, "at least two seeds"),
        (np.zeros((2, 3, 4)), np.zeros((2, 3, 4)), False, "at least two seeds"),
        ([1.0, np.nan], [1.0, 2.0], True, "not finite"),
    ],
)
def test_what_cannot_be_compared(values, baseline, paired, said):
    with pytest.raises(ImageError, match=said):
        compare(values, baseline, paired)


def test_a_difference_without_any_spread():
    """Certain, and not a division by zero: p is 0 for a difference and 1 for none."""
    base = np.ones((3, 4))
    assert [compare(base + 1, base, p).p for p in (True, False)] == [0, 0]
    same = compare(base, base, True)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_effect_size_by_hand():
    """Means 3 and 1, both variances 4: one deviation, times 1 - 3/(4·4 - 1)."""
    assert hedges(np.array([1.0, 3, 5]), np.array([-1.0, 1, 3])) == pytest.approx(1 - 3 / 15)
    assert hedges(np.array([-1.0, 1, 3]), np.array([1.0, 3, 5])) == pytest.approx(-(1 - 3 / 15))
    # The docstring's 29 of 100: two runs differ by √2 deviations, so Φ(-0.8/√2).
    assert stats.norm.cdf(-0.8 / 2**0.5) == pytest.approx(0.29, abs=0.005)


def test_holm_by_hand():
    """3 × 0.01, then 2 × 0.02, then the last, which may not fall below the one before it; 1 is the most."""
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.5, 0.6, 0.001]) == pytest.approx([1, 1, 0.003])
    assert holm([0.2]) == [0.2] and holm([]) == []
    with pytest.raises(ImageError, match="from 0 to 1"):
        holm([0.1, 1.2])


@pytest.mark.parametrize("real", [0, 3])
def test_holm_rejects_a_true_null_in_at_most_five_of_a_hundred_families(real):
    """1,000 families of seven arms against one baseline with eight seeds; ``real`` of the arms do differ.

    The baseline is common to the seven tests, so they are not independent. Two standard errors are 1.4 %.
    """
    rng, wrong, found = np.random.default_rng(5), 0, 0
    base = rng.normal(size=(1000, 1, SEEDS))
    gaps = rng.normal(size=(1000, 7, SEEDS)) - base
    gaps[:, :real] += 4
    for family in stats.ttest_1samp(gaps, 0, axis=2).pvalue:  # what compare gives, by the first test above
        corrected = np.array(holm(family))
        wrong += bool((corrected[real:] < 0.05).any())
        found += (corrected[:real] < 0.05).sum()
    assert wrong / 1000 <= 0.05 + 0.014
    assert found >= 0.8 * 1000 * real  # a rule that rejects nothing would pass the line above


def test_jackknife_of_means_is_the_usual_variance():
    """Leaving out one value at a time: the variance of the mean, s² / n, and the covariance of two means."""
    values = np.random.default_rng(4).normal(size=(30, 2))
    without = np.stack([np.delete(values, i, axis=0).mean(0) for i in range(30)])
    assert jackknife(without) == pytest.approx(np.cov(values.T) / 30)


def test_jackknife_of_ten_parts_is_right_on_average():
    rng = np.random.default_rng(6)
    found = []
    for _ in range(300):
        values = rng.normal(size=(200, 1))
        parts = [values[np.arange(200) % 10 != part].mean(0) for part in range(10)]
        found.append(jackknife(parts)[0, 0])
    assert np.mean(found) == pytest.approx(1 / 200, rel=0.1)


@pytest.mark.parametrize("without", [[[1.0, 2.0]], [1.0, 2.0], [[1.0], [np.inf]]])
def test_jackknife_wants_a_table(without):
    with pytest.raises(ImageError, match="jackknife"):
        jackknife(without)
