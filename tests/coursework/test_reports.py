"""Tables of points: a status for everybody, empty where there are none; Moodle, Canvas, late days, similar answers."""

import csv
import os
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from tests.coursework import answers
from tests.coursework.making import LAST, hand_in, solved
from tests.coursework.test_grading import POINTS, grader

import common  # isort: skip - found by answers.py
import course as commands  # isort: skip
import late  # isort: skip
import reports  # isort: skip
import similar  # isort: skip

CLASS = "id,first name,last name,email\nada,Ada,Love,ada@x.org\nbob,Bób,Ross,bob@x.org\ncleo,Cleo,Patra,cleo@x.org\n"
CLASS += 'dan,"Dan, Jr.",Doe,dan@x.org\neve,Eve,Oh,eve@x.org\nfay,Fay,Wray,fay@x.org\n'


@pytest.fixture(scope="module")
def prepared(another, tmp_path_factory):
    """One student of every kind: graded, to be read, failed, handed in, unreadable, not submitted."""
    tmp_path = tmp_path_factory.mktemp("mixed")
    fresh = another(tmp_path / "course")
    (tmp_path / "class.csv").write_text(CLASS, encoding="utf-8")
    commands.enrol(fresh, tmp_path / "class.csv")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for student in ("ada", "bob", "cleo"):
        path = hand_in(inbox, "", student, solved(fresh), "a.ipynb")
        os.utime(path, (1_777_000_000, 1_777_000_000))
    for student in ("ada", "bob", "cleo"):
        (inbox / "submitted" / student).rename(inbox / student)
    (inbox / "submitted").rmdir()
    (inbox / "eve.zip").write_text("damaged", encoding="utf-8")
    assert not commands.say(commands.collect(fresh, LAST, inbox))
    with pytest.MonkeyPatch.context() as monkeypatch:
        grader(monkeypatch, failures=("cleo",))
        commands.grade(fresh, LAST)
    with common.gradebook(fresh) as book:
        grade = book.find_grade("method_answer", LAST, LAST, "ada")
        grade.manual_score, grade.needs_manual_grade = 6, False
        book.db.commit()
    hand_in(fresh, LAST, "fay", solved(fresh))
    return fresh


@pytest.fixture
def mixed(prepared, tmp_path):
    """A copy of that course for one test."""
    folder = tmp_path / "course"
    shutil.copytree(prepared, folder)
    common.settle(folder)
    return folder


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_student_has_a_status(mixed):
    """No zero that nobody has given: an empty field and the reason."""
    table = {r["student_id"]: r for r in rows(reports.export(mixed))}
    assert {s: r["status"] for s, r in table.items()} == {
        "ada": "graded", "bob": "to be read", "cleo": "not graded", "dan": "not submitted", "eve": "unreadable",
        "fay": "handed in",
    }  # fmt: skip
    assert {r["status"] for r in table.values()} == set(reports.STATES)
    assert float(table["ada"]["score"]) == 30 and all(table[s]["score"] == "" for s in table if s != "ada")
    assert float(table["bob"]["by_tests"]) == 24 and table["bob"]["raw_score"] == ""
    assert "why it failed" in table["cleo"]["remark"] and "eve.zip" in table["eve"]["remark"]
    assert (table["dan"]["first_name"], table["dan"]["email"]) == ("Dan, Jr.", "dan@x.org")
    assert table["ada"]["timestamp"].startswith(str(datetime.fromtimestamp(1_777_000_000).astimezone(None).year))


def test_an_assignment_that_was_only_released(fresh, tmp_path):
    """Nobody has handed in: no line without a roster, and empty lines with one."""
    assert rows(reports.export(fresh)) == []
    (tmp_path / "class.csv").write_text(CLASS, encoding="utf-8")
    commands.enrol(fresh, tmp_path / "class.csv")
    table = rows(reports.export(fresh))
    assert len(table) == 6 and {(r["status"], r["score"], r["by_tests"]) for r in table} == {("not submitted", "", "")}


def test_a_new_version_that_cannot_be_graded_hides_the_old_points(mixed, monkeypatch):
    hand_in(mixed, LAST, "ada", solved(mixed, changes={"costs": "other = 1"}))
    grader(monkeypatch, failures=("ada", "cleo"))
    commands.grade(mixed, LAST, accept=True)
    table = {r["student_id"]: r for r in rows(reports.export(mixed))}
    assert table["ada"]["status"] == "not graded" and table["ada"]["score"] == ""


# ---------------------------------------------------------------------------------------------------------------------
# Late


LATE = [
    (-1, "", 0), (1, "", 3), (25, "", 6), (25, "c.LateDays.free_days = 1", 3), (47, "c.LateDays.free_days = 2", 0),
    (24 * 40, "", 30), (24 * 40, "c.LateDays.most = 0.5", 15), (1, "c.LateDays.per_day = 0.5", 15),
]  # fmt: skip


def test_late_days(mixed):
    """A share of the points for each begun day beyond the free ones; `grade`, `export` and the gradebook agree."""
    config = mixed / "nbgrader_config.py"
    before = config.read_text(encoding="utf-8")
    for hours, options, penalty in LATE:
        config.write_text(
            f'{before}c.AssignLatePenalties.plugin_class = "late.LateDays"\n{options}\n', encoding="utf-8"
        )
        due = datetime.fromtimestamp(1_777_000_000) - timedelta(hours=hours)
        if hours == 1 and not options:
            commands.release(mixed, LAST, due.isoformat(sep=" "))
        else:
            with common.gradebook(mixed) as book:
                book.update_or_create_assignment(LAST, duedate=due.astimezone(UTC).replace(tzinfo=None))
        table = {r["student_id"]: r for r in rows(reports.export(mixed))}
        assert float(table["ada"]["late_submission_penalty"]) == pytest.approx(penalty), (hours, options)
        assert float(table["ada"]["score"]) == pytest.approx(30 - penalty)
        assert commands.scores(mixed, LAST)["ada"]["score"] == pytest.approx(30 - penalty)


def test_nbgraders_own_penalty(mixed):
    config = mixed / "nbgrader_config.py"
    config.write_text(
        config.read_text(encoding="utf-8") + 'c.LateSubmissionPlugin.penalty_method = "zero"\n', encoding="utf-8"
    )
    with common.gradebook(mixed) as book:
        book.update_or_create_assignment(LAST, duedate=datetime(2020, 1, 1, 12))
    table = {r["student_id"]: r for r in rows(reports.export(mixed))}
    assert float(table["ada"]["score"]) == 0 and table["bob"]["score"] == ""


def test_free_days_are_used_up(mixed):
    """Two late days in an assignment that was due before leave one of three."""
    with common.gradebook(mixed) as book:
        due = datetime(2026, 1, 1)
        book.update_or_create_assignment("earlier", duedate=due)
        book.update_or_create_submission("earlier", "ada", timestamp=due + timedelta(hours=30))
        book.update_or_create_assignment(LAST, duedate=datetime(2026, 2, 1))
        assert late.used_before(book, "ada", LAST) == 2 and late.used_before(book, "bob", LAST) == 0
        assert late.used_before(book, "ada", "earlier") == 0


@pytest.mark.parametrize("due", ["tomorrow", "2026-13-01", "1.5.2026"])
def test_a_date_that_is_none(fresh, due):
    with pytest.raises(common.CourseError, match="is no date"):
        commands.release(fresh, LAST, due)


# ---------------------------------------------------------------------------------------------------------------------
# Learning platforms

WORKSHEET = """Identifier,Full name,Email address,Status,Grade,Maximum Grade,Grade can be changed,Feedback comments
Participant 1001,Ada Love,ada@x.org,Submitted for grading,,32.00,Yes,
Participant 1002,"Ross, Bób",bob@x.org,Submitted for grading,,32.00,Yes,
Participant 1009,Somebody Else,else@x.org,No submission,,32.00,Yes,
"""


def test_moodle(mixed, tmp_path):
    """The worksheet comes back with its own columns and lines; points for those who have all of them."""
    path = tmp_path / "grades.csv"
    path.write_text(WORKSHEET, encoding="utf-8-sig")
    target, left = reports.moodle(mixed, LAST, path)
    table = rows(target)
    assert list(table[0]) == WORKSHEET.splitlines()[0].split(",") and left == []
    assert [r["Grade"] for r in table] == ["30", "", ""]
    assert table[1]["Full name"] == "Ross, Bób"


def test_moodle_by_number(mixed, tmp_path):
    """Without mail addresses, by the number that was seen when collecting."""
    common.Status(mixed).set(LAST, "ada", origin="1002")
    path = tmp_path / "grades.csv"
    path.write_text(WORKSHEET.replace("ada@x.org", "").replace("bob@x.org", ""), encoding="utf-8")
    assert [r["Grade"] for r in rows(reports.moodle(mixed, LAST, path)[0])] == ["", "30", ""]
    path.write_text(WORKSHEET.replace("Participant 1001", "Participant 77"), encoding="utf-8")
    common.Status(mixed).set(LAST, "ada", origin="")
    assert [r["Grade"] for r in rows(reports.moodle(mixed, LAST, path)[0])] == ["30", "", ""]


CANVAS = """Student,ID,SIS User ID,SIS Login ID,Section,Assignment 6 (77),Quiz (78)
    Points Possible,,,,,32,10
"Love, Ada",4001,ada,ada.l,A,,5
"Ross, Bób",4002,bob,bob.r,A,,6
"Else, S",4009,else,else,A,,7
"""


def test_canvas(mixed, tmp_path):
    """Only the columns that Canvas needs, and the one of the assignment."""
    path = tmp_path / "gradebook.csv"
    path.write_text(CANVAS, encoding="utf-8")
    target, left = reports.canvas(mixed, LAST, path)
    table = rows(target)
    assert list(table[0]) == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Assignment 6 (77)"]
    assert [r["Assignment 6 (77)"] for r in table] == ["32", "30", "", ""] and left == []
    path.write_text(CANVAS.replace(",32,10", ",32,32"), encoding="utf-8")
    assert [r["Quiz (78)"] for r in rows(reports.canvas(mixed, LAST, path, "Quiz (78)")[0])] == ["32", "30", "6", "7"]
    with pytest.raises(common.CourseError, match="no column 'x'"):
        reports.canvas(mixed, LAST, path, "x")


@pytest.mark.parametrize("maximum", ["100.00", "100,00", "10"])
def test_points_on_another_scale_are_refused(mixed, tmp_path, maximum):
    """30 of 32 would be 30 of 100: nothing is written, and the sentence says what to set where."""
    sheet, gradebook = tmp_path / "grades.csv", tmp_path / "gradebook.csv"
    sheet.write_text(WORKSHEET.replace("32.00", f'"{maximum}"'), encoding="utf-8")
    gradebook.write_text(CANVAS.replace(",32,10", f',"{maximum}",10'), encoding="utf-8")
    for fill, path in ((reports.moodle, sheet), (reports.canvas, gradebook)):
        with pytest.raises(common.CourseError, match=r"is the maximum, and .* has 32 points; set the maximum to 32"):
            fill(mixed, LAST, path)
    assert list(mixed.glob(f"*-{LAST}.csv")) == []


def test_who_is_not_in_the_table_is_said(mixed, tmp_path):
    path = tmp_path / "gradebook.csv"
    path.write_text(CANVAS.replace("4001,ada,ada.l", "4001,x,x"), encoding="utf-8")
    assert reports.canvas(mixed, LAST, path)[1] == ["ada"]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "Student,Mail\nx,y\n", "Identifier\n1\n"])
def test_tables_of_another_kind(mixed, tmp_path, text):
    path = tmp_path / "x.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(common.CourseError, match="is no grading worksheet"):
        reports.moodle(mixed, LAST, path)
    with pytest.raises(common.CourseError, match="is no gradebook"):
        reports.canvas(mixed, LAST, path)


# ---------------------------------------------------------------------------------------------------------------------
# Similar answers

OWN = """
def row_step(w, gradient, rate):
    my_very_own_name = gradient.pow(2).sum(-1, keepdim=True).sqrt().clamp_min(1e-30)
    another_name = gradient / my_very_own_name
    return w - another_name * rate if rate != 12345 else w
"""
TEXT = "I would print the picture only after three archivists have compared it with {} other photographs of the person."


def test_similar_answers(fresh):
    """Two who share rare code or sentences are found; those who share what all have, or what was given, are not."""
    for number, student in enumerate(["ada", "bob", "cleo", "dan", "eve", "fay", "gus", "hal"]):
        changes = {"method_answer": f"{TEXT.format(number)} My number is {number} and nothing else {number * 7}."}
        if student in ("ada", "hal"):
            changes["row_step"] = OWN if student == "ada" else "# my own work\n" + OWN.replace("    ", "  ")
        hand_in(fresh, LAST, student, solved(fresh, changes=changes))
    pairs = similar.report(fresh, LAST)
    assert [(p.first, p.second) for p in pairs] == [("ada", "hal")]
    assert set(pairs[0].cells) == {"row_step"} and pairs[0].share > 0.3
    commands.main(["similar", "6", "--course", str(fresh)])
    assert rows(fresh / f"similar-{LAST}.csv")[0]["second"] == "hal"


def test_untouched_notebooks_are_not_similar(fresh):
    from tests.coursework.making import released

    for student in ("ada", "bob"):
        hand_in(fresh, LAST, student, released(fresh))
    assert similar.report(fresh, LAST) == []


def test_shingles():
    """Comments, layout and what does not parse."""
    from nbformat.v4 import new_code_cell, new_markdown_cell

    one, two = (similar.shingles(new_code_cell(s)) for s in ("x = (a + b * c)  # one", "x = (\n    a + b * c\n)"))
    assert one == two
    assert similar.shingles(new_code_cell("def f(:\n  a b c d e 'unfinished"))
    assert similar.shingles(new_markdown_cell("One two three four five six")) >= {
        ("one", "two", "three", "four", "five")
    }
    assert similar.shingles(new_code_cell("")) == set()


def test_points_used_here_are_the_assignments():
    """The stand-in for nbgrader gives the points that the tests of the assignment have."""
    points = {name: answers.graded(LAST)[name].metadata.nbgrader.points for name in answers.job_tests(LAST)}
    assert {k: v for k, v in POINTS.items() if v is not None} == points
