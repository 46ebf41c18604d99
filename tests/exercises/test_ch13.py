"""helpers.exercises.ch13: the stubs, solutions and wrong answers of chapter 13."""

from tests.exercises.builds import Builds


class Test13(Builds):
    number = "13"
    wrong = {
        "bootstrap_bounds": [
            ("rng.integers(len(difference), size=len(difference))", "slice(None)", "not -1 and 1"),
            ("rng.integers(difference.shape[1], size=difference.shape[1])", "slice(None)", "has no width"),
            (
                "rng.integers(difference.shape[1], size=difference.shape[1])",
                "rng.permutation(difference.shape[1])",
                "no width",
            ),
            ("[0.025, 0.975]", "[0.05, 0.95]", "not 0.39"),
            ("np.quantile(means, [0.025, 0.975])", "np.mean(means)", "the shape ()"),
            ("difference[seeds][:, faces].mean()", "values[seeds].mean() - baseline[:, faces].mean()", "face by face"),
        ],
        "decode": [
            ("torch.cat([up, maps[i]], dim=1)", "torch.cat([up, up], dim=1)", "finest map"),
            ("block(y, z)", "block(y, 0 * z)", "code z has no influence"),
            ("[up, maps[i]]", "[maps[i], up]", "then blocks"),
            ("reversed(range(len(maps)))", "reversed(range(1, len(maps)))", "go up to scale 0"),
        ],
        "choose_knob": [
            ("return min(", "return max(", "lowest LPIPS wins"),
            ('row["PSNR"] >= best - most and ', "", "loses 0.8 dB"),
            (' and row["knob"] <= 1', "", "outside of the two ends"),
            ("best - most", "best - 0.5", "use the argument most"),
            ('["knob"]\n', "\n", "is a row"),
        ],
    }
