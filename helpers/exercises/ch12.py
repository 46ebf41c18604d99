"""Chapter 12: a signed error map, and the order of a set from its worst picture to its best."""

import numpy as np

from helpers.exercises.build import Chapter, expect

chapter = Chapter()
check = chapter.check


def signed_error(image, truth):
    """Brightness of ``image`` minus that of ``truth``: uint8 H×W×3 each, to float H×W."""
    difference = image.astype(float) - truth.astype(float)
    return difference.mean(axis=-1)


@chapter.examines(signed_error)
def _signed_error(answer):
    image, truth = np.full((4, 6, 3), 90, np.uint8), np.full((4, 6, 3), 100, np.uint8)
    image[0, 0] = (100, 130, 100)
    error = np.asarray(answer(image, truth))
    expect(
        error.shape == (4, 6), f"the map of a 4×6 picture has the shape {error.shape}", "mean over the last axis only"
    )
    value = float(error[1, 1])
    expect(
        abs(value) < 200,
        f"a pixel of 90 where the truth is 100 has the error {value:.0f}",
        "uint8 has no negative numbers, 90 - 100 becomes 246; call .astype(float) on both first",
    )
    expect(
        np.isclose(value, -10),
        f"a pixel of 90 where the truth is 100 has the error {value:.0f}, not -10",
        "image minus truth, without an absolute value: too dark is negative",
    )
    expect(
        np.isclose(error[0, 0], 10),
        f"a pixel with errors of 0, 30 and 0 in its channels has {error[0, 0]:.0f}, not 10",
        "the brightness is the mean of the three channels",
    )


def worst_first(scores, higher_is_better):
    """Indices of an array of scores, the worst first; equal scores stay in their order."""
    ascending = scores if higher_is_better else -scores
    return np.argsort(ascending, kind="stable")


@chapter.examines(worst_first)
def _worst_first(answer):
    scores = np.array([0.2, 0.5, 0.1, 0.4])
    order = np.asarray(answer(scores, True)).tolist()
    expect(
        sorted(order) == [0, 1, 2, 3],
        f"the result is {order}, these are no indices of four scores",
        "np.argsort gives indices, np.sort gives the scores themselves",
    )
    expect(
        order == [2, 0, 3, 1],
        f"of PSNR-like scores {scores.tolist()} the order is {order}, not [2, 0, 3, 1]",
        "where higher is better, the worst score is the lowest",
    )
    order = np.asarray(answer(scores, False)).tolist()
    expect(
        order == [1, 3, 0, 2],
        f"of LPIPS-like scores {scores.tolist()} the order is {order}, not [1, 3, 0, 2]",
        "where lower is better, the worst score is the highest: sort -scores",
    )
    equal = np.asarray(answer(np.repeat([0.3, 0.1], 20), False)).tolist()
    expect(
        equal == list(range(40)),
        f"twenty equal scores come out in the order {equal[:5]}, not [0, 1, 2, 3, 4]",
        'kind="stable" keeps equal scores in order; reversing with [::-1] turns them round',
    )
