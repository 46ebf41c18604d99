"""helpers.planes: the ellipse by hand, marks, floors and the line of a knob."""

import numpy as np
import pandas as pd
import pytest

from helpers.planes import QUANTILE, ellipse_of, plane

PARTS = [{"PSNR": 30 + 0.1 * i, "SWD": 60 - i, "KID": 3.0} for i in range(10)]
ROWS = {
    "a": {"title": "method a", "PSNR": 30.4, "SWD": 55.0, "KID": 3.0, "without": PARTS},
    "b": {"title": "method b", "PSNR": 25.0, "SWD": 90.0, "KID": 9.0},
}


def test_ellipse_by_hand():
    """Standard deviations 2 and 1 along the axes: 4.9 wide to each side, half as high; turned with the correlation."""
    points = ellipse_of((1, -1), np.diag([4.0, 1.0]))
    assert points.max(0) == pytest.approx([1 + 2 * QUANTILE**0.5, -1 + QUANTILE**0.5], rel=1e-3)
    along = ellipse_of((0, 0), np.array([[1.0, 0.9], [0.9, 1.0]]))
    assert np.corrcoef(along.T)[0, 1] > 0.8 and np.abs(along).max() == pytest.approx(QUANTILE**0.5, rel=1e-2)


def test_the_ellipse_holds_19_of_20():
    rng, covariance = np.random.default_rng(3), np.array([[2.0, -1.2], [-1.2, 1.0]])
    drawn = rng.multivariate_normal([0, 0], covariance, 4000)
    inside = (drawn @ np.linalg.inv(covariance) * drawn).sum(1) <= QUANTILE
    assert inside.mean() == pytest.approx(0.95, abs=0.012)
    edge = ellipse_of((0, 0), covariance)
    assert (edge @ np.linalg.inv(covariance) * edge).sum(1) == pytest.approx(np.full(100, QUANTILE))


def test_marks_ellipses_floors_and_the_knob():
    along = pd.DataFrame({"PSNR": [31, 30, 29.5], "SWD": [70, 50, 45]}, index=[0.0, 1.0, 1.2])
    figure = plane(ROWS, ["SWD", "KID"], "a finding", {"SWD": 21.0}, along)
    left, right = figure.axes
    inside = next(line for line in left.lines if line.get_label().startswith("skip model"))
    assert list(inside.get_xdata()) == [31, 30]  # past 1 the line is dotted and has no name
    assert {"a finding"} == {text.get_text() for text in figure.texts} | {figure.get_suptitle()} - {""}
    names = [line.get_label() for line in left.lines]
    assert {"method a", "method b", "sharp faces", "skip model, knob 0 (right) to 1"} <= set(names)
    assert sum(len(line.get_xdata()) == 100 for line in left.lines) == 1  # only one row says how it varies
    assert "skip model, knob 0 (right) to 1" not in [line.get_label() for line in right.lines]
    assert left.get_ylim()[0] < 21.0 - 1  # the floor is the lowest of all, and does not hide under the axis
    assert left.get_ylabel() == "SWD, lower is better" and figure.legends[0].get_texts()[0].get_text()
