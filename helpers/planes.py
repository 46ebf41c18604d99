"""Distortion against perception: where methods stand between accurate and realistic (chapters 11 and 13).

A mark alone says nothing of chance. Around each stands the ellipse that holds the mean of other faces of the same kind
in 95 of 100 cases. It tells nothing of another training: of each method one was made, with one seed.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from helpers.experiments.inference import jackknife
from helpers.figures import DARK, MIDDLE, new

QUANTILE = 5.991  # 95 % of a chi-squared distribution with two degrees of freedom


def ellipse_of(centre: Sequence[float], covariance: np.ndarray) -> np.ndarray:
    """The 95 % ellipse of a plane normal distribution, as 100 points: 100×2."""
    values, axes = np.linalg.eigh(covariance)
    turn = np.linspace(0, 2 * np.pi, 100)
    circle = np.stack([np.cos(turn), np.sin(turn)])
    return np.asarray(centre) + (axes @ (np.sqrt(QUANTILE * values.clip(0))[:, None] * circle)).T


def plane(
    rows: dict[str, dict],
    columns: Sequence[str],
    title: str = "",
    floors: dict[str, float] | None = None,
    along: pd.DataFrame | None = None,
    label: str = "skip model, knob 0 (right) to 1",
) -> Figure:
    """A plane of PSNR and each of ``columns``, with a mark and an ellipse for each row.

    Parameters
    ----------
    rows : rows of :mod:`helpers.comparison`, each with its "title"; those with "without" get an ellipse
    columns : what stands on the vertical axes, lower is better
    floors : column -> what sharp faces score, drawn as a line
    along : table with PSNR and columns, a row for each position of a knob: a line where it has the column
    label : what the line is called
    """
    figure, axes = new(1, len(columns), (min(4.8 * len(columns), 10.5), 4), title, squeeze=False)
    for axis, column in zip(axes[0], columns, strict=True):
        if along is not None and column in along:
            inside = along[along.index <= 1]
            axis.plot(along["PSNR"], along[column], ":", color=DARK)
            axis.plot(inside["PSNR"], inside[column], "-", color=DARK, linewidth=1, label=label)
        for mark, row in zip("sDv^P*X<>", rows.values(), strict=False):
            axis.plot(row["PSNR"], row[column], mark, color=MIDDLE, markersize=4, label=row["title"])
            if "without" in row:
                spread = jackknife([[part["PSNR"], part[column]] for part in row["without"]])
                axis.plot(*ellipse_of((row["PSNR"], row[column]), spread).T, "-", color=MIDDLE, linewidth=0.8)
        if column in (floors or {}):
            axis.axhline(floors[column], color="0.4", linestyle="--", linewidth=0.8, label="sharp faces")
            low, high = axis.get_ylim()  # a line at the very edge would hide under the axis
            axis.set_ylim(min(low, floors[column] - 0.05 * (high - low)))
        axis.set(xlabel="PSNR in dB", ylabel=column + ", lower is better")
    handles = {}
    for axis in axes[0]:
        handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4, fontsize=8)
    return figure
