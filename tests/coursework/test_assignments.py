"""The assignments' sources, and what students get: nothing that gives an answer away."""

import re

import nbformat
import pytest

from tests.conftest import ROOT
from tests.coursework import answers
from tests.coursework.making import cell_of, new_course, released

import guard  # isort: skip - found by answers.py
import submissions  # isort: skip

ASSIGNMENTS = answers.ASSIGNMENTS
LAST = ASSIGNMENTS[-1]
each_assignment = pytest.mark.parametrize("stem", ASSIGNMENTS)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Every assignment released."""
    return new_course(tmp_path_factory.mktemp("course"), *ASSIGNMENTS)


def test_six_assignments():
    assert [s.split("_")[0] for s in ASSIGNMENTS] == [f"assignment{n}" for n in range(1, 7)]


@each_assignment
def test_form(stem):
    """Valid, no outputs, goals and minutes and points on the first page, an answer read by a person, closed folds."""
    notebook = answers.notebook(stem)
    nbformat.validate(notebook)
    assert all(not c.outputs and c.execution_count is None for c in notebook.cells if c.cell_type == "code")
    first, text = notebook.cells[0].source, "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    assert first.startswith(f"# Assignment {stem[10]} · ") and "**What you will show**" in first
    assert 45 <= int(re.search(r"\*\*Time\*\*: about (\d+) minutes", first)[1]) <= 120
    points = sum(c.metadata.nbgrader.points for c in answers.graded(stem, grade=True).values())
    assert int(re.search(r"\*\*Points\*\*: (\d+)", first)[1]) == points
    in_headings = sum(int(n) for n in re.findall(r"^## .*\((\d+) points", text, re.M))
    assert in_headings == points + (40 if stem == LAST else 0)  # of its three parts of 20 points one is done
    assert [c for c in answers.graded(stem, grade=True, solution=True).values() if c.cell_type == "markdown"]
    assert text.count("<details>") == text.count("</details>") >= 1


@each_assignment
def test_every_test_speaks(stem):
    """A comment first (a bare string would be taken for a grade), assertions before and within the hidden part."""
    for name in answers.job_tests(stem):
        source = answers.graded(stem)[name].source
        visible, begin, hidden = source.partition("### BEGIN HIDDEN TESTS")
        assert source.startswith("# Test ") and begin and "assert " in visible and "assert " in hidden, name
        assert all(c.metadata.nbgrader.locked for c in [answers.graded(stem)[name]])
        silent = [
            line for line in source.splitlines() if re.match(r"\s*assert [^\"]*$", line) and not line.endswith("(")
        ]
        assert len(silent) <= 2, f"{name}: assertions without a message: {silent}"


def test_lessons_hold_no_solution():
    """No line of a solution that says something stands in a chapter."""
    chapters = [nbformat.read(p, as_version=4) for p in (ROOT / "notebooks").glob("*.ipynb")]
    lessons = {line.strip() for n in chapters for c in n.cells for line in c.source.splitlines()}
    for stem in ASSIGNMENTS:
        for name, lines in solutions(stem).items():
            telling = {line.strip() for line in lines if len(line.strip()) > 35 and "optim" not in line}
            assert telling & lessons == set(), f"{stem}, {name}"


def solutions(stem):
    """{grade_id: lines between the marks}"""
    pattern = re.compile(f"{answers.BEGIN}\n(.*?){answers.END}", re.S)
    cells = answers.graded(stem, solution=True)
    return {k: "".join(pattern.findall(c.source)).splitlines() for k, c in cells.items() if c.cell_type == "code"}


@each_assignment
def test_release_holds_no_solution(course, stem):
    """No solution, hidden test, rubric or model answer; and all the rest is there, unchanged, in the same order."""
    text = "\n".join(c.source for c in released(course, stem).cells)
    for word in ("SOLUTION", "HIDDEN", "MARK SCHEME", "Rubric"):
        assert word not in text
    source = answers.notebook(stem)
    outside = {line.strip() for c in released(course, stem).cells for line in c.source.splitlines()}
    for lines in solutions(stem).values():
        # A line that both sides of the mark share, such as a return in a loop shown as broken, is no secret.
        secret = {line.strip() for line in lines if len(line.strip()) > 20} - shown_lines(source)
        assert secret & outside == set()
    for name in answers.job_tests(stem):
        hidden = answers.graded(stem)[name].source.partition("### BEGIN HIDDEN TESTS")[2]
        hidden = {line.strip() for line in hidden.splitlines() if len(line.strip()) > 25} - shown_lines(source)
        assert hidden & outside == set()
    for cell in answers.graded(stem, solution=True, grade=True).values():
        assert cell.source.splitlines()[0] not in text


def shown_lines(source):
    """Lines of a source notebook that are outside of all marks."""
    marks = r"### BEGIN (SOLUTION|HIDDEN TESTS|MARK SCHEME).*?### END \1"
    kept = [re.sub(marks, "", c.source, flags=re.S) for c in source.cells]
    return {line.strip() for text in kept for line in text.splitlines()}


@each_assignment
def test_stub_and_solution_are_one(course, stem):
    """Every line of a stub stands in the solution, in the same order; only the blank differs."""
    blank = ["# YOUR CODE HERE", 'raise NotImplementedError("not solved yet")']
    for name, cell in answers.graded(stem, solution=True, grade=False).items():
        stub = [line for line in cell_of(released(course, stem), name).source.splitlines()]
        kept = [line for line in stub if line.strip() not in blank]
        assert len(stub) == len(kept) + 2, f"{name}: one blank"
        solution = iter(cell.source.splitlines())
        assert all(line in solution for line in kept), name


@pytest.fixture(scope="module")
def untouched(course):
    """{assignment: what each code cell of its release raises}"""
    jobs = []
    for stem in ASSIGNMENTS:
        cells = [c for c in released(course, stem).cells if c.cell_type == "code"]
        jobs.append({"cells": [{"name": f"{n}", "source": c.source} for n, c in enumerate(cells)], "variants": []})
    results = answers.run_jobs(jobs)
    return {s: [e for e, _ in r["reference"].values()] for s, r in zip(ASSIGNMENTS, results, strict=True)}


@each_assignment
def test_release_runs_up_to_the_first_blank(course, untouched, stem):
    """The setup works, and the first blank says what it is; tests fail with an error and not with silence."""
    cells, errors = [c for c in released(course, stem).cells if c.cell_type == "code"], untouched[stem]
    first = next(n for n, error in enumerate(errors) if error)
    before = [c for c in cells[:first] if submissions.grade_id(c)]
    assert all(c.metadata.nbgrader.solution for c in before)  # nothing but definitions of functions
    blank = next(error for n, error in enumerate(errors) if error and submissions.grade_id(cells[n]))
    assert blank == "NotImplementedError: not solved yet"
    tests = [n for n, c in enumerate(cells) if submissions.grade_id(c) in answers.job_tests(stem)]
    assert all(errors[n] for n in tests)


@each_assignment
def test_points_by_part(stem):
    """The parts of a test have its points, and each asks something."""
    for name in answers.job_tests(stem):
        cell = answers.graded(stem)[name]
        parts = guard.parts(cell.source, cell.metadata.nbgrader.points)
        assert sum(p.points for p in parts) == cell.metadata.nbgrader.points
        assert all("assert " in piece or "(" in piece for p in parts for piece in p.pieces[1:])


def test_questions_with_several_answers_have_parts():
    """Three right of four are three points, not none."""
    several = {
        0: "ranges_test",
        1: "side_plain side_more bottleneck_test",
        2: "on_paper_test",
        3: "diagnosis_test epoch_test",
        4: "verdict_numbers verdict_none",
        5: "costs_test",
    }
    for number, names in several.items():
        for name in names.split():
            cell = answers.graded(ASSIGNMENTS[number])[name]
            assert len(guard.parts(cell.source, cell.metadata.nbgrader.points)) > 1, name
