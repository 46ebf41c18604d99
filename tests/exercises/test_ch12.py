"""helpers.exercises.ch12: the stubs, solutions and wrong answers of chapter 12."""

from tests.exercises.builds import Builds


class Test12(Builds):
    number = "12"
    wrong = {
        "signed_error": [
            ("image.astype(float) - truth.astype(float)", "image - truth", "uint8 has no negative"),
            ("image.astype(float) - truth.astype(float)", "truth.astype(float) - image", "without an absolute value"),
            ("return difference", "return abs(difference)", "not -10"),
            ("axis=-1", "", "mean over the last axis"),
            ("difference.mean(axis=-1)", "difference[..., 0]", "mean of the three channels"),
        ],
        "worst_first": [
            ("np.argsort(ascending, kind=", "np.sort(ascending, kind=", "no indices"),
            ("scores if higher_is_better else -scores", "-scores if higher_is_better else scores", "is the lowest"),
            ("scores if higher_is_better else -scores", "scores", "sort -scores"),
            (
                'np.argsort(ascending, kind="stable")',
                "np.argsort(ascending) if higher_is_better else np.argsort(scores)[::-1]",
                "turns them round",
            ),
        ],
    }
