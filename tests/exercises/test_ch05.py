"""helpers.exercises.ch05: the stubs, solutions and wrong answers of chapter 05."""

import numpy as np

from helpers.exercises.ch05 import near
from tests.exercises.builds import Builds


class Test05(Builds):
    number = "05"
    wrong = {
        "thin": [
            ("[(0, 1), (1, 0), ", "[(1, 0), (0, 1), ", "row first"),
            ("first < m[r, c] >= second", "first < m[r, c] > second", "at least as much as the second"),
            ("first < m[r, c] >= second", "first <= m[r, c] >= second", "where one line should remain"),
            ("(1, 1), (1, -1)]", "(1, -1), (1, 1)]", "along ↗ True"),
            (
                "np.pad(m, 1)",
                'np.pad(m, 1, mode="edge")',
                "beyond the border",
            ),
            ("first < m[r, c] > second", "first <= m[r, c] >= second", "more than both"),
        ],
        "agreement": [
            ("found & near(truth)", "found & truth", "one pixel lower"),
            ("max(found.sum(), 1)", "found.size", "not by the number of all pixels"),
            ("max(truth.sum(), 1)", "max(found.sum(), 1)", "recall by the number of true ones"),
            ("2 * precision * recall / max(precision + recall, 1e-9)", "(precision + recall) / 2", "harmonic mean"),
            ("max(found.sum(), 1)", "found.sum()", "an empty map"),
        ],
        "network_input": [
            (" / 127.5 - 1", "", "not -1 and 1"),
            (".movedim(-1, 0).float()", ".reshape(3, 4, 5).float()", ".reshape would mix"),
            ("torch.cat([colours, fourth])", "torch.cat([fourth, colours])", "R G B"),
            (
                "torch.from_numpy(edge_map).float()[None]",
                "2 * torch.from_numpy(edge_map).float()[None] - 1",
                "as it is",
            ),
            ("float()[None]", "float()", "same number of dimensions"),
        ],
    }

    def test_near_reaches_one_pixel_in_eight_directions(self):
        maps = np.zeros((1, 7, 7), np.uint8)
        maps[0, 3, 3] = 1
        expected = np.zeros_like(maps)
        expected[0, 2:5, 2:5] = 1
        assert np.array_equal(near(maps), expected)
