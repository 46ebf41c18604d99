"""Does one recipe differ from another? Intervals, p-values and effect sizes of two arms that were trained many times.

An *arm* is one recipe, trained with S seeds and measured on the same N faces. A difference between two arms is unsure
for two reasons: other seeds give other networks, and other faces give other scores. :func:`compare` adds the variances
of both and takes Student's t with the degrees of freedom of Satterthwaite's formula (1946). Welch's interval is the
case of own seeds and a single measure for each run.

Two designs:

* *paired*: run i of both arms has the same seed, so the same start and the same order of pictures. What a seed brings
  to both cancels. Among the 300-step runs of ``data/results/ablations.json`` the seeds explain about 60 % of the
  variance in PSNR between runs of like arms, so pairing narrows an interval to two thirds.
* *own seeds*: the arms share no seed. Wider, and nothing is assumed about what seeds have in common.

How often the interval holds the truth with eight seeds is simulated in ``tests/experiments/test_inference.py``.

Many comparisons find something by chance: :func:`holm` corrects their p-values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from helpers.data import ImageError


@dataclass(frozen=True)
class Comparison:
    """What two arms say of their difference.

    Attributes
    ----------
    difference : mean of the first arm minus mean of the second, in the measure's unit
    low, high : bounds of the interval
    p : of the hypothesis that the true difference is 0, two-sided
    effect : the difference in standard deviations of the seeds, by Hedges (:func:`hedges`)
    freedom : degrees of freedom of the t distribution
    seeds : S of both arms
    """

    difference: float
    low: float
    high: float
    p: float
    effect: float
    freedom: float
    seeds: tuple[int, int]


def compare(values: np.ndarray, baseline: np.ndarray, paired: bool, level: float = 0.95) -> Comparison:
    """The difference ``values - baseline``, over seeds and faces, with its interval.

    Parameters
    ----------
    values, baseline : S×N, a measure for S seeds and the same N faces in the same order; S alone for a measure that a
        run has once (SWD). The numbers of seeds may differ if not ``paired``
    paired : whether row i of both has the same seed

    Raises
    ------
    ImageError
        if the shapes do not fit, an arm has fewer than two seeds, or a value is not finite
    """
    values, baseline = (_table(a) for a in (values, baseline))
    if values.shape[1] != baseline.shape[1] or (paired and len(values) != len(baseline)):
        raise ImageError(f"two arms of {values.shape} and {baseline.shape} (seeds×faces) cannot be compared")
    arms = [values - baseline] if paired else [values, baseline]
    faces = arms[0].shape[1]
    # Variance of the mean that is due to each source, and its degrees of freedom.
    of_seeds = [(arm.mean(1).var(ddof=1) / len(arm), len(arm) - 1) for arm in arms]
    of_faces, of_rest = (0.0, 1), []
    if faces > 1:
        per_face = values.mean(0) - baseline.mean(0)
        of_faces = (per_face.var(ddof=1) / faces, faces - 1)
        of_rest = [(_interaction(arm) / arm.size, (len(arm) - 1) * (faces - 1)) for arm in arms]
    parts = [*of_seeds, of_faces]
    # What seed and face have together is in both sums, so it is taken off once; never below the larger one of the two.
    once = sum(v for v, _ in parts) - sum(v for v, _ in of_rest)
    variance = max(once, sum(v for v, _ in of_seeds), of_faces[0])
    squares = sum(v**2 / df for v, df in [*parts, *of_rest])
    freedom = variance**2 / squares if squares else float(sum(len(arm) - 1 for arm in arms))
    difference, error = float(values.mean() - baseline.mean()), float(np.sqrt(variance))
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    p = float(2 * stdtr(freedom, -abs(difference) / error)) if error else float(difference == 0)
    return Comparison(
        difference, difference - half, difference + half, p, hedges(values.mean(1), baseline.mean(1)), float(freedom),
        (len(values), len(baseline)),
    )  # fmt: skip


def _table(values: np.ndarray) -> np.ndarray:
    """S×N in float64; S×1 of a plain list of seeds."""
    table = np.asarray(values, float)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or len(table) < 2 or not table.size:
        raise ImageError(f"an arm is a table, seeds×faces, with at least two seeds, not of shape {table.shape}")
    if not np.isfinite(table).all():
        raise ImageError("an arm holds a value that is not finite")
    return table


def _interaction(arm: np.ndarray) -> float:
    """The variance of what is left of S×N without the seeds' and the faces' means."""
    rest = arm - arm.mean(1, keepdims=True) - arm.mean(0, keepdims=True) + arm.mean()
    return float(np.square(rest).sum() / ((arm.shape[0] - 1) * (arm.shape[1] - 1)))


def hedges(one: np.ndarray, other: np.ndarray) -> float:
    """Hedges' g: the difference of two means in pooled standard deviations, corrected for small samples.

    Parameters
    ----------
    one, other : the means of the seeds of two arms. 0.2 is called small and 0.8 large; among seeds of one recipe that
        is still little: at 0.8 a single run of the better arm loses to one of the worse arm in 29 of 100 cases.

    Returns
    -------
    NaN where no seed differs from another one of its arm
    """
    freedom = len(one) + len(other) - 2
    pooled = ((len(one) - 1) * np.var(one, ddof=1) + (len(other) - 1) * np.var(other, ddof=1)) / freedom
    if not pooled:
        return float("nan")
    return float((np.mean(one) - np.mean(other)) / np.sqrt(pooled) * (1 - 3 / (4 * freedom - 1)))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): p-values of a family of tests, to be compared with one level.

    Among all the family's true nulls *any* is rejected with at most the level's probability, however the tests depend
    on each other. The smallest of m values is multiplied by m, the next one by m - 1, and so on; none may come out
    below one before it.

    Returns
    -------
    the corrected values, in the order given
    """
    p = np.asarray(p, float)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ImageError("p-values are a list of numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return corrected.tolist()


def jackknife(without: np.ndarray) -> np.ndarray:
    """Covariance of K measures, G×K, of which row g was computed without the g-th of G equal parts of the faces.

    The delete-a-group jackknife (Efron and Tibshirani 1993, section 11.5), for measures that are no mean over faces,
    such as SWD.

    Returns
    -------
    K×K

    Raises
    ------
    ImageError
        for fewer than two parts, or values that are not finite
    """
    without = np.asarray(without, float)
    if without.ndim != 2 or len(without) < 2 or not np.isfinite(without).all():
        raise ImageError(f"a jackknife takes finite measures of two or more parts, not a shape of {without.shape}")
    around = without - without.mean(0)
    return (len(without) - 1) / len(without) * around.T @ around
