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
sys.path.insert(0, str(COURSEWORK))  # for what the tests import from there
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
    """Every answer: exercise, why (of a wrong one), loses, left (points that a test which is lost in part still
    gives), and cells, {grade_id: changed source}."""
    table = tomllib.loads((HERE / f"{stem}.toml").read_text(encoding="utf-8"))
    answers = []
    for kind in ("wrong", "right"):
        for entry in table[kind]:
            answer = {"kind": kind, "loses": [], "left": {}, "cells": {}} | entry
            for part in [entry, *entry.get("also", [])]:
                source = graded(stem)[part["exercise"]].source
                if "old" in part:
                    assert source.count(part["old"]) == 1, f"{stem}, {part}: `old` should stand in the solution once"
                answer["cells"][part["exercise"]] = (
                    source.replace(part["old"], part["new"]) if "old" in part else part["body"].strip()
                )
            answers.append(answer)
    return answers


def run(stem: str) -> dict:
    """{"reference": {cell: [error or "", points]}, "variants": [the same for every answer]}."""
    half = ASSIGNMENTS.index(stem) // 3
    return _run_half(half)[ASSIGNMENTS.index(stem) % 3]


@cache
def _run_half(half: int) -> list[dict]:
    """The results of three assignments, by one process: importing PyTorch takes longer than most answers."""
    return run_jobs([_job(stem) for stem in ASSIGNMENTS[3 * half : 3 * half + 3]])


def _job(stem: str) -> dict:
    cells = [
        {
            "name": c.metadata.get("nbgrader", {}).get("grade_id", ""),
            "source": c.source,
            "points": c.metadata.nbgrader.points if c.metadata.get("nbgrader", {}).get("grade") else None,
            "quick": "nbgrader" in c.metadata,
        }
        for c in notebook(stem).cells
        if c.cell_type == "code"
    ]
    return {"cells": cells, "variants": [a["cells"] for a in load(stem)]}


def run_jobs(jobs: list[dict]) -> list[dict]:
    """The results of ``run_cells.py``."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "COURSE_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE / "run_cells.py")], input=json.dumps(jobs), capture_output=True, text=True, env=env,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)
