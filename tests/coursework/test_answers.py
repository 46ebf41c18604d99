"""What right and wrong answers score, run quickly, cell by cell (``run_cells.py``).

One class for each half of the assignments, so that two processes can share the work (``--dist loadscope``).
"""

import re

import pytest

from tests.coursework import answers

BLANK = ("AssertionError", "ZeroDivisionError", "RuntimeError", "TypeError", "ValueError")


def solutions(stem):
    """{grade_id: lines between the marks}"""
    pattern = re.compile(f"{answers.BEGIN}\n(.*?){answers.END}", re.S)
    cells = answers.graded(stem, solution=True)
    return {k: "".join(pattern.findall(c.source)).splitlines() for k, c in cells.items() if c.cell_type == "code"}


class Answers:
    """The checks, for the assignments that ``stem`` runs through."""

    def test_enough_answers(self, stem):
        """For every exercise three wrong answers and another right one; every test is lost by one of them."""
        table = answers.load(stem)
        for exercise in solutions(stem):
            kinds = [a["kind"] for a in table if a["exercise"] == exercise]
            assert kinds.count("wrong") >= 3 and kinds.count("right") >= 1, exercise
        assert set().union(*(a["loses"] for a in table)) == set(answers.job_tests(stem))
        assert all(a.get("why") and a["loses"] for a in table if a["kind"] == "wrong")

    def test_answers_score_what_they_should(self, stem):
        """The reference and other right answers have all points, a wrong one loses exactly those of its exercise."""
        results, surprises = answers.run(stem), []
        points = {n: answers.graded(stem)[n].metadata.nbgrader.points for n in answers.job_tests(stem)}
        assert {name: error for name, (error, _) in results["reference"].items() if error} == {}
        assert {name: results["reference"][name][1] for name in points} == points
        for answer, result in zip(answers.load(stem), results["variants"], strict=True):
            wanted = {n: answer["left"].get(n, 0) if n in answer["loses"] else p for n, p in points.items()}
            found = {n: result[n][1] for n in points}
            if found != wanted:
                lost = {n: result[n] for n in points if found[n] != wanted[n]}
                surprises.append((answer["exercise"], answer.get("why", "a right answer"), lost))
        assert surprises == []

    def test_wrong_answers_are_told_why(self, stem):
        """What fails is an assertion with a sentence; only a value that cannot be computed with may fail otherwise."""
        for answer, result in zip(answers.load(stem), answers.run(stem)["variants"], strict=True):
            for name in answer["loses"]:
                kind, _, text = result[name][0].partition(": ")
                assert kind in BLANK, result[name]
                assert len(text) > 10, f"{answer['exercise']}, {answer['why']}: {result[name]}"


@pytest.mark.parametrize("stem", answers.ASSIGNMENTS[:3])
class TestFirstHalf(Answers):
    pass


@pytest.mark.parametrize("stem", answers.ASSIGNMENTS[3:])
class TestSecondHalf(Answers):
    pass
