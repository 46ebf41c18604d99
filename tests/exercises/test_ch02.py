"""helpers.exercises.ch02: the stubs, solutions and wrong answers of chapter 02."""

from tests.exercises.builds import Builds


class Test02(Builds):
    number = "02"
    wrong = {
        "modulate": [
            ("style[None, :, None, None]", "style[:, None, None, None]", "must match the size"),
            ("weight * style[None, :, None, None]", "weight", "does not switch this channel off"),
            ("dim=(1, 2, 3)", "dim=(0, 1, 2, 3)", "all filters together have length 1"),
            (".sqrt()", "", "not 1"),
            ("scaled.square()", "weight.square()", "have the lengths"),
        ],
        "ngd_step": [
            ("latent - lr", "latent + lr", "the loss would rise"),
            ("dim=-1, keepdim=True", "", "one norm for the whole gradient"),
            (" / lengths", "", "the two rows move by [2.5, 0.001]"),
            ("gradient / lengths", "gradient.sign() / gradient.sign().norm(dim=-1, keepdim=True)", "take the sign"),
            ("return latent - lr *", "return lr *", "the two rows move by"),
        ],
        "multi_resolution": [
            (
                "total = total + metric(x, y)\n        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)",
                "x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)\n        total = total + metric(x, y)",
                "never at the full size",
            ),
            ("> 16", "> 32", "it is wanted at 64 and 32"),
            ("> 16", "> 8", "it is wanted at 64 and 32"),
            ("0.1 * (x - y)", "(x - y)", "the weight 0.1"),
            ("total = 0", "total = 0.1 * (x - y).abs().mean()", "lines one pixel wide"),
            ("total = total + metric(x, y)", "total = metric(x, y)", "sum to"),
        ],
    }
