"""Submissions to try: the released notebook with right, wrong, broken and hostile answers filled in."""

import subprocess
import sys
from pathlib import Path

import nbformat

from tests.coursework import answers

import course as commands  # isort: skip - found by answers.py
import submissions  # isort: skip

LAST = answers.ASSIGNMENTS[-1]  # the cheapest to run: it needs neither faces nor OpenCV
WHOLE = {"costs_test": 4, "method_step1": 10, "method_step2": 10}  # its points by tests


def released(course: Path, stem: str = LAST):
    """The notebook that students were given."""
    return nbformat.read(course / "release" / stem / f"{stem}.ipynb", as_version=4)


def cell_of(notebook, name: str):
    """The cell that nbgrader knows by this name."""
    return next(c for c in notebook.cells if submissions.grade_id(c) == name)


def solved(course: Path, stem: str = LAST, changes=()):
    """The release with the reference solution filled in; ``changes`` are {grade_id: other source}."""
    notebook = released(course, stem)
    for name, cell in answers.graded(stem, solution=True).items():
        cell_of(notebook, name).source = dict(changes).get(name, cell.source)
    return notebook


def body(name: str, code: str) -> str:
    """The reference solution with another first line in its function."""
    return answers.graded(LAST)[name].source.replace(answers.BEGIN, code)


def strip(notebook):
    """What another editor leaves of a notebook."""
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


def hand_in(course: Path, stem: str, student: str, notebook, name: str | None = None) -> Path:
    """Put a notebook (or any text) into ``submitted/``, as nbgrader's exchange does."""
    path = course / "submitted" / student / stem / (name or f"{stem}.ipynb")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(notebook if isinstance(notebook, str) else nbformat.writes(notebook), encoding="utf-8")
    return path


def command(course: Path, *arguments: str, env: dict | None = None, timeout: float = 900, script: Path | None = None):
    """Run course.py as a person does."""
    line = [sys.executable, str(script or answers.COURSEWORK / "course.py"), *arguments, "--course", str(course)]
    return subprocess.run(line, capture_output=True, text=True, timeout=timeout, env=env)


def points_of(stem: str) -> dict[str, float]:
    """{test cell: its points}"""
    return {name: answers.graded(stem)[name].metadata.nbgrader.points for name in answers.job_tests(stem)}


def new_course(folder: Path, *stems: str) -> Path:
    """A course with these assignments released."""
    for stem in stems:
        commands.release(folder, stem)
    return folder
