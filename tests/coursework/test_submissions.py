"""Broken notebooks, put right; and which of several files is the submission."""

import os
from copy import deepcopy
from datetime import UTC, datetime, timedelta

import nbformat
import pytest

from tests.coursework import answers
from tests.coursework.making import LAST, cell_of, released, solved, strip

import submissions  # isort: skip - found by answers.py

BREAKS = {
    "metadata lost": strip,
    "a test deleted": lambda n: n.cells.remove(cell_of(n, "method_step2")) or n,
    "a solution deleted": lambda n: n.cells.remove(cell_of(n, "choice")) or n,
    "the first graded cell deleted": lambda n: n.cells.remove(cell_of(n, "costs")) or n,
    "all graded cells deleted": lambda n: n.update(cells=[c for c in n.cells if not submissions.grade_id(c)]) or n,
    "a solution doubled": lambda n: n.cells.insert(4, deepcopy(cell_of(n, "costs"))) or n,
    "a test changed": lambda n: cell_of(n, "costs_test").update(source="pass") or n,
    "a test made text": lambda n: cell_of(n, "costs_test").update(cell_type="markdown") or n,
    "points changed": lambda n: cell_of(n, "costs_test").metadata.nbgrader.update(points=100) or n,
    "another assignment's cell": lambda n: n.cells[0].metadata.update(nbgrader={"grade_id": "x", "grade": True}) or n,
    "an old schema": lambda n: (
        [c.metadata.nbgrader.update(schema_version=1) for c in n.cells if "nbgrader" in c.metadata] and n
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_repair(course, what):
    """Afterwards every graded cell is there once, as released but for answers; and something was said."""
    release = released(course)
    notebook, notes = submissions.repair(BREAKS[what](solved(course)), release)
    nbformat.validate(notebook)
    wanted = {submissions.grade_id(c): c for c in release.cells if submissions.grade_id(c)}
    found = [c for c in notebook.cells if submissions.grade_id(c)]
    assert [submissions.grade_id(c) for c in found] == list(wanted)
    for cell in found:
        original = wanted[submissions.grade_id(cell)]
        assert cell.cell_type == original.cell_type and cell.metadata.nbgrader == original.metadata.nbgrader
        answer = answers.graded(LAST)[submissions.grade_id(cell)].source
        assert cell.source in ((answer, original.source) if original.metadata.nbgrader.solution else (original.source,))
    assert bool(notes) == (what not in ("points changed", "another assignment's cell", "an old schema"))
    if what == "metadata lost":
        kept = [submissions.grade_id(c) for c in found if c.source != wanted[submissions.grade_id(c)].source]
        assert set(kept) == set(answers.graded(LAST, solution=True))  # no answer was lost with it


def test_repair_leaves_a_good_notebook_alone(course):
    notebook = solved(course)
    repaired, notes = submissions.repair(notebook, released(course))
    assert notes == [] and [c.source for c in repaired.cells] == [c.source for c in notebook.cells]


def test_the_copy_with_an_answer_counts(course):
    """A stub that was copied below the answer does not replace it."""
    notebook = solved(course)
    notebook.cells.append(deepcopy(cell_of(released(course), "costs")))
    repaired, _ = submissions.repair(notebook, released(course))
    assert cell_of(repaired, "costs").source == answers.graded(LAST)["costs"].source


# ---------------------------------------------------------------------------------------------------------------------
# What other editors and systems do to a file

TEXT = {
    "Windows' ends of lines": lambda s: s.replace("\\n", "\\r\\n"),
    "old Macs' ends of lines": lambda s: s.replace("\\n", "\\r"),
    "spaces at ends of lines": lambda s: s.replace("\\n", "  \\n"),
    "Windows' ends of lines in the file": lambda s: s.replace("\n", "\r\n"),
}
BYTES = {
    "a byte order mark": lambda s: b"\xef\xbb\xbf" + s.encode(),
    "UTF-16": lambda s: s.encode("utf-16"),
    "UTF-16, the large end first": lambda s: b"\xfe\xff" + s.encode("utf-16-be"),
}


@pytest.mark.parametrize("what", [*TEXT, *BYTES])
def test_other_systems(course, what):
    """Such a notebook is the same one: nothing was changed, and all answers are there."""
    text = nbformat.writes(solved(course))
    data = TEXT[what](text).encode() if what in TEXT else BYTES[what](text)
    notebook, notes = submissions.repair(submissions.parse("x.ipynb", data), released(course))
    assert notes == []
    for name, cell in answers.graded(LAST, solution=True).items():
        assert submissions.text_of(cell_of(notebook, name)) == submissions.text_of(cell)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"null", b"1", b'{"cells": 1, "nbformat": 4}', b"\x00" * 100, b"PK\x03\x04", b"\xff\xfe\x00",
     b'{"cells": [{"cell_type": "code", "source": 3}], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
     b"[" * 100_000, b'{"a":' * 50_000, b'{"nbformat": 1e999, "cells": []}', b'{"nbformat": 99, "cells": []}'],
)  # fmt: skip
def test_no_notebook(data):
    """Whatever it is, the only exception is that it is unreadable."""
    with pytest.raises(submissions.Unreadable, match="^x is no notebook"):
        notebook = submissions.parse("x", data)
        submissions.choose([submissions.Candidate("x", data, None)], notebook, "x")


ODD = {
    "a property": lambda n: n["cells"][0].update(x=1),
    "a property of a test": lambda n: [c.update(x=1) for c in n["cells"]],
    "a property of the notebook": lambda n: n.update(x=1, metadata=n["metadata"] | {"kernelspec": 3, "authors": "me"}),
    "no execution count": lambda n: [c.pop("execution_count", 0) for c in n["cells"]],
    "outputs": lambda n: [c.update(outputs=[{"output_type": "x"}, 3]) for c in n["cells"] if c["cell_type"] == "code"],
    "outputs of text": lambda n: [c.update(outputs="x") for c in n["cells"] if c["cell_type"] == "code"],
    "metadata": lambda n: [c["metadata"].update(tags=3, collapsed="x", jupyter=[]) for c in n["cells"]],
    "nbgrader's metadata": lambda n: [c["metadata"].update(nbgrader=3) for c in n["cells"]],
    "names that are none": lambda n: [c["metadata"].update(nbgrader={"grade_id": [1]}) for c in n["cells"]],
    "pasted pictures": lambda n: [c.update(attachments={"a": 3, "b": {"image/png": 3}}) for c in n["cells"]],
}


@pytest.mark.parametrize("what", ODD)
def test_odd_properties(course, what):
    """What nbformat calls invalid is left out: every answer is there, and what nbgrader reads is valid."""
    import json

    data = json.loads(nbformat.writes(solved(course)))
    ODD[what](data)
    files = [submissions.Candidate(f"{LAST}.ipynb", json.dumps(data).encode(), None)]
    text, _, _ = submissions.prepare(files, course / "release" / LAST / f"{LAST}.ipynb")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    for name, cell in answers.graded(LAST, solution=True).items():
        assert submissions.text_of(cell_of(notebook, name)) == submissions.text_of(cell)


def test_pasted_pictures_are_kept(course):
    notebook = solved(course)
    cell_of(notebook, "method_answer")["attachments"] = {"a.png": {"image/png": "AAAA"}}
    found = submissions.parse("x", nbformat.writes(notebook).encode())
    assert cell_of(found, "method_answer").attachments == {"a.png": {"image/png": "AAAA"}}


def test_too_large(monkeypatch):
    monkeypatch.setattr(submissions, "LARGEST", 1000)
    with pytest.raises(submissions.Unreadable, match="more than"):
        submissions.parse("x", b" " * 1001)


# ---------------------------------------------------------------------------------------------------------------------
# Which file it is

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def candidate(notebook, name, minutes=None):
    time = None if minutes is None else NOW + timedelta(minutes=minutes)
    data = notebook if isinstance(notebook, bytes) else nbformat.writes(notebook).encode()
    return submissions.Candidate(name, data, time)


def answer(course, value):
    """A solved notebook that can be told from others."""
    return solved(course, changes={"costs": f"inversion, pmrf, heun, diffir = {value}, 26, 20, 6"})


@pytest.mark.parametrize(
    "names",
    [
        ("X.ipynb", "X (1).ipynb"),
        ("X.ipynb", "X-Copy1.ipynb"),
        ("z.ipynb", "a.ipynb"),
        (f"{LAST}.ipynb", "Untitled.ipynb"),
        ("final.ipynb", "draft.ipynb"),
    ],
)
def test_the_newest_counts(course, names):
    """Whatever the files are called, also where the older one has the released name; and it is said."""
    old, new = (candidate(answer(course, n), name, n) for n, name in enumerate(names))
    for files in ([old, new], [new, old]):
        chosen, notebook, notes = submissions.choose(files, released(course), f"{LAST}.ipynb")
        assert chosen.name == names[1] and "diffir = 1," in cell_of(notebook, "costs").source
        assert any("newest" in n and names[0] in n and names[1] in n for n in notes)


@pytest.mark.parametrize("last", ["X (10).ipynb", "X-Copy3.ipynb", "X (2).ipynb"])
def test_the_highest_copy_counts_where_times_are_equal(course, last):
    files = [candidate(answer(course, 1), name, 0) for name in ("X.ipynb", "X (1).ipynb", last)]
    chosen, _, notes = submissions.choose(files, released(course), f"{LAST}.ipynb")
    assert chosen.name == last and any("by its name" in n for n in notes)


def test_an_empty_copy_does_not_replace_an_answer(course):
    """A student has downloaded the assignment again, after answering it."""
    files = [candidate(solved(course), "X.ipynb", 0), candidate(released(course), "X (1).ipynb", 5)]
    assert submissions.choose(files, released(course), f"{LAST}.ipynb")[0].name == "X.ipynb"
    assert submissions.choose(files[1:], released(course), f"{LAST}.ipynb")[0].name == "X (1).ipynb"


def test_a_damaged_newer_file_does_not_lose_the_older_one(course):
    files = [candidate(solved(course), "X.ipynb", 0), candidate(b'{"cells": [', "X (1).ipynb", 5)]
    chosen, _, notes = submissions.choose(files, released(course), f"{LAST}.ipynb")
    assert chosen.name == "X.ipynb" and any("X (1).ipynb is no notebook" in n for n in notes)


def test_choose(course):
    """The notebook of this assignment, whatever it is called; and a sentence where there is none."""
    release, name = released(course), f"{LAST}.ipynb"
    broken, other = candidate(b"{}", name), candidate(answers.notebook(answers.ASSIGNMENTS[0]), "other.ipynb")
    with pytest.raises(submissions.Unreadable, match="is no notebook"):
        submissions.choose([broken], release, name)
    with pytest.raises(submissions.Unreadable, match="no notebook of this assignment"):
        submissions.choose([other], release, name)
    with pytest.raises(submissions.Unreadable, match="no notebook of this assignment"):
        submissions.choose([], release, name)
    chosen, _, notes = submissions.choose(
        [broken, other, candidate(solved(course), "my work (2).ipynb")], release, name
    )
    assert chosen.name == "my work (2).ipynb" and any("taken for" in n for n in notes)


def test_prepare_writes_what_nbgrader_reads(course, tmp_path):
    text, chosen, notes = submissions.prepare(
        [candidate(strip(solved(course)), "mine.ipynb", 3)], course / "release" / LAST / f"{LAST}.ipynb"
    )
    path = tmp_path / "x.ipynb"
    path.write_text(text, encoding="utf-8")
    os.utime(path)
    assert {submissions.grade_id(c) for c in submissions.read(path).cells} >= set(answers.graded(LAST))
    assert chosen.name == "mine.ipynb" and any("lost its metadata" in n for n in notes)
