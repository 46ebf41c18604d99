"""A small class from the first command to the last: nobody lost, nobody doubled, points or a sentence for all."""

import random

import pytest

from tests.coursework import klass
from tests.coursework.making import LAST, command

import course as commands  # isort: skip - found by klass.py
import roster as rosters  # isort: skip


@pytest.fixture(scope="module")
def graded(another, tmp_path_factory):
    """Eight, killed once on the way: (course, people, what collecting said, how grading went)."""
    course = another(tmp_path_factory.mktemp("class") / "course")
    inbox = tmp_path_factory.mktemp("inbox")
    people = klass.make(course, inbox, 8, seed=3)
    collected = command(course, "collect", "6", str(inbox))
    return course, people, collected, klass.grade(course, kills=1)


def test_everybody_has_what_they_should(graded):
    """Right notebooks full points by tests, broken ones a status; the command ends with an error because of those."""
    course, people, collected, grading = graded
    assert klass.check(course, people, collected.stdout) == [], grading.said
    assert collected.returncode != 0 and any(not p.right for p in people) and sum(p.right for p in people) >= 5


def test_nobody_is_doubled(graded):
    course, people, *_ = graded
    with commands.gradebook(course) as book:
        assert sorted(s.id for s in book.students) == sorted(p.student for p in people if p.right)
        assert len(book.assignment_submissions(LAST)) == sum(p.right for p in people)


def test_a_second_collection_keeps_the_first(graded, tmp_path):
    """What came is kept for good; who hands in nothing new keeps what there is."""
    course, people, *_ = graded
    before = sorted(p for p in (course / "downloaded").rglob("*") if p.is_file())
    kept = {p: p.read_bytes() for p in (course / "submitted").rglob("*") if p.is_file()}
    klass.make(course, tmp_path / "in", 2, seed=99, broken=0)
    commands.collect(course, LAST, tmp_path / "in")
    assert set(before) < {p for p in (course / "downloaded").rglob("*") if p.is_file()}
    assert {p: p.read_bytes() for p in kept} == kept
    assert len(list((course / "downloaded" / LAST).iterdir())) == 2


def test_an_older_version_does_not_replace_a_newer_one(graded, tmp_path):
    """A second collection with an old file: said, and left aside."""
    import os

    course, people, *_ = graded
    person = next(p for p in people if p.right and "%" not in p.student and p.name == p.student)
    path = tmp_path / "in" / f"{person.name}.ipynb"
    path.parent.mkdir()
    path.write_bytes((course / "submitted" / person.student / LAST / f"{LAST}.ipynb").read_bytes())
    os.utime(path, (1_600_000_000, 1_600_000_000))
    stamp = course / "submitted" / person.student / LAST / "timestamp.txt"
    before = stamp.read_text(encoding="utf-8")
    remarks = commands.collect(course, LAST, tmp_path / "in")
    assert (
        "older than what was collected before" in remarks[person.student][-1]
        and stamp.read_text(encoding="utf-8") == before
    )


@pytest.mark.parametrize("seed", range(3))
def test_names_of_a_large_class(seed):
    """200 people are 200 identifiers, also where upper and lower case do not count."""
    found = klass.names(200, random.Random(seed))
    assert len({rosters.identifier(n).casefold() for n in found}) == 200
    assert any("%" in rosters.identifier(n) for n in found)


def test_a_class_of_200_has_all_kinds(graded, tmp_path):
    course, *_ = graded
    people = klass.make(course, tmp_path / "in", 200)
    assert {p.kind for p in people if not p.right} == set(klass.BROKEN) and len(klass.BROKEN) == 15
    assert {p.kind for p in people if p.right} == set(klass.RIGHT)
    assert all(sum(p.kind == kind for p in people) == 4 for kind in klass.BROKEN)
