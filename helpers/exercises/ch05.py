"""Chapter 05: crests of a slope, the agreement of two edge maps, the input of four channels."""

import cv2
import numpy as np
import torch

from helpers.exercises.build import Chapter, expect

chapter = Chapter()
check = chapter.check


def near(maps):
    """1 at every pixel that has an edge at most one pixel away, diagonals included: 0/1 N×H×W, gives uint8 N×H×W."""
    return np.stack([cv2.dilate(one, np.ones((3, 3), np.uint8)) for one in maps])


def thin(m, direction):
    """True where the slope m (H×W) has a crest along the direction (H×W, 0 to 3): bool H×W."""
    padded, crest = np.pad(m, 1), np.zeros(m.shape, bool)
    for r, c in np.ndindex(m.shape):
        dr, dc = [(0, 1), (1, 0), (1, 1), (1, -1)][direction[r, c]]
        first, second = padded[r + 1 - dr, c + 1 - dc], padded[r + 1 + dr, c + 1 + dc]
        if direction[r, c] < 2:
            crest[r, c] = first < m[r, c] >= second
        else:
            crest[r, c] = first < m[r, c] > second
    return crest


@chapter.examines(thin)
def _thin(answer):
    line = np.tile([1, 2, 3, 9, 3, 2, 1], (7, 1))
    kept = np.asarray(answer(line, np.zeros((7, 7), int)))
    expect(kept.shape == (7, 7), f"7×7 pixels become {kept.shape}", "give one True or False for each pixel of m")
    columns = sorted({int(c) for c in np.nonzero(kept)[1]})
    expect(
        columns == [3],
        f"a vertical line with its largest slope in column 3 leaves pixels in the columns {columns}",
        "direction 0 compares with the pixels to the left and to the right: (0, -1) and (0, 1), row first",
    )
    edge = np.asarray(answer(np.arange(5, 0, -1)[None] + np.zeros((5, 1), int), np.zeros((5, 5), int)))
    expect(
        edge[:, 0].all() and edge.sum() == 5,
        "the slope is largest in the first column, but that column alone is not the crest",
        "beyond the border the slope counts as 0: np.pad(m, 1)",
    )
    line[:, 4] = 9
    tie = sorted({int(c) for c in np.nonzero(answer(line, np.zeros((7, 7), int)))[1]})
    expect(
        tie == [3],
        f"two equal columns, 3 and 4, leave pixels in the columns {tie}, where one line should remain",
        "more than the first neighbour (left or upper), at least as much as the second (right or lower)",
    )
    slanted = np.array([[5, 0, 7], [0, 6, 0], [7, 0, 5]])
    down, up = (bool(answer(slanted, np.full((3, 3), k))[1, 1]) for k in (2, 3))
    expect(
        (down, up) == (True, False),
        f"a pixel of 6 between 5 and 5 on ↘, between 7 and 7 on ↗: kept along ↘ {down}, along ↗ {up}",
        "direction 2 compares with (-1, -1) and (1, 1), direction 3 with (-1, 1) and (1, -1)",
    )
    equal = bool(answer(np.full((3, 3), 6), np.full((3, 3), 2))[1, 1])
    expect(not equal, "on a diagonal a pixel that equals its neighbours is kept", "on diagonals, more than both")


def agreement(found, truth):
    """Precision, recall and F of the 0/1 maps found (N×H×W) against truth; near() allows one pixel of distance."""
    precision = (found & near(truth)).sum() / max(found.sum(), 1)
    recall = (truth & near(found)).sum() / max(truth.sum(), 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)


@chapter.examines(agreement)
def _agreement(answer):
    truth = np.zeros((1, 9, 9), np.uint8)
    truth[0, 4, 2:5] = 1
    result = answer(truth, truth)
    expect(np.shape(result) == (3,), f"the result is {result!r}", "give three numbers: precision, recall, F")
    expect(
        np.allclose(result, 1),
        f"a map against itself scores {np.round(result, 2)}, not 1, 1, 1",
        "count edge pixels with .sum(), and divide by the number of edge pixels, not by the number of all pixels",
    )
    shifted = answer(np.roll(truth, 1, axis=1), truth)
    expect(
        np.allclose(shifted, 1),
        f"the same line, one pixel lower, scores {np.round(shifted, 2)}, but one pixel is allowed",
        "an edge pixel is right where near(the other map) is 1",
    )
    more = truth.copy()
    more[0, 8, 5:8] = 1
    precision, recall, f = answer(more, truth)
    expect(
        np.isclose(precision, 0.5) and np.isclose(recall, 1),
        f"3 of 6 found pixels are true, all 3 true ones are found: precision {precision:.2f}, recall {recall:.2f}",
        "precision divides by the number of found pixels, recall by the number of true ones",
    )
    expect(
        np.isclose(f, 2 / 3),
        f"precision 0.5 and recall 1 give F = {f:.2f}, not 0.67",
        "F = 2PR / (P + R): the harmonic mean, which stays near the smaller of the two",
    )
    with np.errstate(all="ignore"):
        empty = answer(0 * truth, truth)
    expect(
        np.allclose(empty, 0),
        f"an empty map scores {np.round(empty, 2)}, not 0, 0, 0",
        "divide by max(the number, 1), so that nothing is divided by 0",
    )


def network_input(blurred, edge_map):
    """uint8 H×W×3 and a 0/1 map H×W to a float32 tensor 4×H×W: RGB in [-1, 1] (equation 31), then the map."""
    colours = torch.from_numpy(blurred).movedim(-1, 0).float() / 127.5 - 1
    fourth = torch.from_numpy(edge_map).float()[None]
    return torch.cat([colours, fourth])


@chapter.examines(network_input)
def _network_input(answer):
    blurred = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    blurred[-1, -1] = 255
    edge_map = np.eye(4, 5, dtype=np.uint8)
    x = answer(blurred, edge_map)
    expect(isinstance(x, torch.Tensor), f"the result is of type {type(x).__name__}", "join them with torch.cat")
    expect(
        tuple(x.shape) == (4, 4, 5),
        f"4×5 pixels become {tuple(x.shape)}, not (4, 4, 5): channel, row, column",
        "PyTorch wants the channels first: .movedim(-1, 0); the map needs a channel of its own: [None]",
    )
    expect(x.dtype == torch.float32, f"the tensor is {x.dtype}", "convert with .float() before the arithmetic")
    green, right = float(x[1, 0, 0] - x[0, 0, 0]), float(x[0, 0, 1] - x[0, 0, 0])
    expect(
        green > 0 and np.isclose(right, 3 * green, atol=1e-4),
        f"channels 0 to 2 of the first pixel (bytes 0, 1, 2) are {[round(float(v), 2) for v in x[:3, 0, 0]]}",
        "colours keep their order, R G B, and come first; .movedim moves an axis, .reshape would mix the pixels",
    )
    low, high = float(x[:3].min()), float(x[:3].max())
    expect(
        np.allclose([low, high], [-1, 1]),
        f"the bytes 0 and 255 become {low:.2f} and {high:.2f}, not -1 and 1",
        "equation 31: x / 127.5 - 1",
    )
    expect(
        torch.equal(x[3], torch.from_numpy(edge_map).float()),
        f"the map's 0 and 1 became {x[3].unique().tolist()}",
        "the map enters as it is",
    )
