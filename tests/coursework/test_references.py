"""Every assignment graded by nbgrader in earnest: the reference, the untouched release, a mixture of wrong answers."""

import pytest

from tests.coursework import answers
from tests.coursework.making import hand_in, new_course, points_of, released, solved

import course as commands  # isort: skip - found by answers.py

ASSIGNMENTS = answers.ASSIGNMENTS


class Graded:
    """The checks, for the assignments that ``stem`` runs through."""

    def test_graded_by_nbgrader(self, tmp_path, stem):
        """Full marks for the reference; of one assignment, nothing for the untouched release (test_assignments has
        the others), and for a mixture of wrong answers what the quick runs say.

        The mixture is the first wrong answer to each exercise but one, in one notebook.
        """
        course, points = new_course(tmp_path, stem), points_of(stem)
        hand_in(course, stem, "right", solved(course, stem))
        expected = {"right": points}
        if "losses" in stem:
            wrong = {a["exercise"]: a for a in answers.load(stem)[::-1] if a["kind"] == "wrong"}
            wrong.pop("on_paper")
            hand_in(course, stem, "untouched", released(course, stem))
            hand_in(course, stem, "mixed", solved(course, stem, {name: a["cells"][name] for name, a in wrong.items()}))
            lost = {name: a["left"].get(name, 0) for a in wrong.values() for name in a["loses"]}
            expected |= {"untouched": dict.fromkeys(points, 0), "mixed": points | lost}
        remarks = commands.grade(course, stem)
        assert set(sum(remarks.values(), [])) == set()
        scores = commands.scores(course, stem)
        assert {s: {name: scores[s][name] for name in points} for s in scores} == expected
        assert {s for s in scores if not scores[s]["by hand"]} == set(expected) - {"right", "mixed"}


@pytest.mark.parametrize("stem", ASSIGNMENTS[:3])
class TestFirst(Graded):
    pass


@pytest.mark.parametrize("stem", ASSIGNMENTS[3:5])
class TestSecond(Graded):
    pass
