"""Chapter 14's exercises: ``helpers.exercises.ch14``."""

from tests.exercises.builds import Builds


class Test14(Builds):
    number = "14"
    wrong = {
        "small_sensor": [
            ('mode="area"', 'mode="nearest"', "the mean of the pixels that it covers"),
            ("return large[0].clamp(0, 1)", "return large[0]", "overshoots"),
            ("jpeg(small)", "small", "the JPEG was given"),
            ("return large[0].clamp(0, 1)", "return small[0].clamp(0, 1)", "the same size"),
        ],
        "spoilt": [
            ("np.mean(before - after > by)", "np.sum(before - after > by)", "a number from 0 to 1"),
            ("before - after > by", "before - after >= by", "more than by, not by or more"),
            ("np.mean(before - after > by)", "before.mean() - after.mean() > by", "picture by picture"),
            ("before - after > by", "before > after", "before - after is more than by"),
        ],
        "lay_over": [
            ("photograph.copy()", "photograph", "has changed the photograph itself"),
            ("copy[top : top + side, left : left + side]", "copy[left : left + side, top : top + side]", "rows come"),
            ("share * restored.astype(float)", "restored.astype(float)", "times restored plus (1 - weight)"),
        ],
    }
