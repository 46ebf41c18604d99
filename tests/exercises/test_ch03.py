"""helpers.exercises.ch03: the stubs, solutions and wrong answers of chapter 03."""

from tests.exercises.builds import Builds


class Test03(Builds):
    number = "03"
    wrong = {
        "posterior_weights": [
            (" / weights.sum()", "", "probabilities sum to 1"),
            ("-distances / ", "distances / ", "mind the minus sign"),
            ("(2 * s**2)", "s**2", "over 2 s²"),
            ("(2 * s**2)", "(2 * s)", "s is squared"),
            (".sum(axis=1)", ".sum(axis=0)", "one per face"),
            ("distances - distances.min()", "distances", "smallest distance"),
        ],
        "euler": [
            ("i / K", "(i + 1) / K", "beginning of each step"),
            ("field(z, t) / K", "field(z, t)", "each step lasts 1/K"),
            ("torch.full((len(z),), i / K)", "i / K", "one time per point"),
            ("range(K)", "range(K - 1)", "asked 3 times"),
            ("z = z + field", "z += field", "changed"),
        ],
        "rectified_loss": [
            ("t[:, None] * x + (1 - t[:, None]) * z_0", "t[:, None] * z_0 + (1 - t[:, None]) * x", "path should end"),
            (" + sigma * epsilon", "", "without noise"),
            ("mean.clamp(0, 1) + sigma * epsilon", "(mean + sigma * epsilon).clamp(0, 1)", "before the noise"),
            ("mean.clamp(0, 1)", "mean", "clip f(y)"),
            ("x - z_0 - field", "z_0 - x - field", "from z_0 to x"),
            ("x - z_0 - field", "x - mean - field", "has the noise in it"),
            (".mean()", ".sum()", "the mean over all elements"),
            (".mean()", "", "the loss has the shape"),
        ],
    }
