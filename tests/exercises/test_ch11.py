"""helpers.exercises.ch11: the stubs, solutions and wrong answers of chapter 11."""

from tests.exercises.builds import Builds


class Test11(Builds):
    number = "11"
    wrong = {
        "window_ssim": [
            ("2 * cov + C2", "cov + C2", "compare both fractions"),
            ("(2 * cov + C2)", "(2 * np.sqrt(var_a * var_b) + C2)", "as if they were alike"),
            ("(0.01 * 255) ** 2", "0.01 * 255", "grey 4 against grey 10"),
            ("(0.03 * 255) ** 2", "0.03 * 255", "less contrast"),
            ("np.cov(a.ravel(), b.ravel())", "np.cov(a.ravel(), b.ravel(), bias=True)", "divides by 48"),
        ],
        "difference_interval": [
            ("after - before\n", "before - after\n", "around -1.0"),
            (
                "difference = after - before\n    means = difference[chosen].mean(axis=1)",
                "means = after[chosen].mean(axis=1) - before[chosen[::-1]].mean(axis=1)",
                "draw the same faces",
            ),
            ("axis=1", "axis=0", "over axis 1"),
            ("difference[chosen].mean(axis=1)", "difference", "spread of faces"),
            ("[0.025, 0.975]", "[0.05, 0.95]", "0.025 and 0.975"),
        ],
        "set_distance": [
            (".mean()", ".mean(axis=0)", "mean over points and lines"),
            ("np.sort(b @ lines, axis=0)", "b @ lines", "a set has no order"),
            ("np.abs(along_a - along_b).mean()", "abs((along_a - along_b).mean())", "along six lines"),
            ("np.abs(along_a - along_b).mean()", "np.square(along_a - along_b).mean()", "not 2.5"),
        ],
    }
