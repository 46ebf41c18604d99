"""The wrong and the right answers beside this file, and what each of them scores."""

import json
import os
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COURSEWORK = ROOT / "notebooks" / "coursework"
ASSIGNMENTS = sorted(p.stem for p in COURSEWORK.glob("assignment*.ipynb"))
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


@cache
def notebook(stem: str):
    return nbformat.read(COURSEWORK / f"{stem}.ipynb", as_version=4)


def graded(stem: str, **wanted) -> dict:
    """{grade_id: cell} of the cells whose nbgrader metadata have these values."""
    cells = {c.metadata.nbgrader.grade_id: c for c in notebook(stem).cells if "nbgrader" in c.metadata}
    return {k: c for k, c in cells.items() if all(c.metadata.nbgrader[key] == value for key, value in wanted.items())}


def job_tests(stem: str) -> list[str]:
    """The test cells of an assignment."""
    return [k for k, c in graded(stem, grade=True).items() if c.cell_type == "code"]


@cache
def load(stem: str) -> list[dict]:
    """Every answer: exercise, why (of a wrong one), loses, and cells, {grade_id: changed source}."""
    table = tomllib.loads((HERE / f"{stem}.toml").read_text())
    answers = []
    for kind in ("wrong", "right"):
        for entry in table[kind]:
            answer = {"kind": kind, "loses": [], "cells": {}} | entry
            for part in [entry, *entry.get("also", [])]:
                source = graded(stem)[part["exercise"]].source
                if "old" in part:
                    assert source.count(part["old"]) == 1, f"{stem}, {part}: `old` should stand in the solution once"
                answer["cells"][part["exercise"]] = (
                    source.replace(part["old"], part["new"]) if "old" in part else part["body"].strip()
                )
            answers.append(answer)
    return answers


@cache
def run(stem: str) -> dict:
    """{"reference": {cell: error or ""}, "variants": [the same for every answer]}, in a process of its own."""
    cells = [
        {"name": c.metadata.get("nbgrader", {}).get("grade_id", ""), "source": c.source}
        for c in notebook(stem).cells
        if c.cell_type == "code"
    ]
    job = {"cells": cells, "variants": [a["cells"] for a in load(stem)]}
    env = os.environ | {"PYTHONPATH": str(ROOT), "COURSE_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE / "run_cells.py")], input=json.dumps(job), capture_output=True, text=True, env=env,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)
