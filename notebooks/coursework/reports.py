"""Tables of points: for yourself, for Moodle and for Canvas. A field is empty, and not 0, until there are points."""

import csv
import io
from dataclasses import asdict, dataclass
from pathlib import Path

import roster as rosters
from common import CourseError, Status, gradebook, write_text
from late import settle_penalties
from nbgrader.api import MissingEntry

STATES = {
    "graded": "all points are given",
    "to be read": "graded by tests; a person has written answers to read",
    "not graded": "handed in, and grading failed: see the remark",
    "handed in": "not graded yet",
    "unreadable": "what came is no notebook of this assignment: see the remark",
    "not submitted": "nothing came",
}


@dataclass
class Line:
    """One student's result in one assignment; a field without a value is ""."""

    assignment: str
    duedate: str
    timestamp: str
    student_id: str
    last_name: str
    first_name: str
    email: str
    status: str
    by_tests: float | str
    raw_score: float | str
    late_submission_penalty: float | str
    score: float | str
    max_score: float
    remark: str


def lines(course: Path, assignment: str | None = None) -> list[Line]:
    """A line for every student of the roster, the gradebook or an inbox, in every assignment that was released."""
    roster, status, table = rosters.load(course), Status(course), []
    with gradebook(course) as book:
        names = [a.name for a in book.assignments if assignment in (None, a.name)]
    for name in sorted(names):
        settle_penalties(course, name)
        with gradebook(course) as book:
            entry, known = book.find_assignment(name), status.of(name)
            people = {s.id: s for s in book.students}
            there = {p.parent.name for p in (course / "submitted").glob(f"*/{name}")}
            for student in sorted({*roster.students, *people, *there, *known} - {""}):
                who = roster.students.get(student) or people.get(student)
                given = {k: getattr(who, k, "") or "" for k in ("last_name", "first_name", "email")}
                line = Line(name, str(entry.duedate or ""), "", student, **given, status="", by_tests="", raw_score="",
                            late_submission_penalty="", score="", max_score=entry.max_score, remark="")  # fmt: skip
                try:
                    submission = book.find_submission(name, student)
                except MissingEntry:
                    submission = None
                _fill(line, submission, student in there, known.get(student, {}))
                table.append(line)
    return table


def _fill(line: Line, submission, there: bool, known: dict) -> None:
    """Status, points and remark."""
    line.remark = known.get("problem") or "; ".join([*known.get("collected", []), *known.get("remarks", [])])
    grades = [g for notebook in submission.notebooks for g in notebook.grades] if submission else []
    tests = [g for g in grades if g.cell.cell_type == "code"]
    if not grades or any(g.auto_score is None and g.manual_score is None for g in tests):
        failed = "not graded" if there else "unreadable"
        line.status = failed if known.get("problem") else "handed in" if there else "not submitted"
        return
    line.timestamp = str(submission.timestamp or "")
    line.by_tests = sum(g.score for g in tests)
    if known.get("problem") and not known.get("graded", "-"):
        line.status = "not graded"  # an earlier version was, and its points are not those of this one
        return
    if submission.needs_manual_grade:
        line.status = "to be read"
        return
    line.status, line.raw_score = "graded", submission.score
    line.late_submission_penalty = submission.late_submission_penalty or 0.0
    line.score = max(0.0, line.raw_score - line.late_submission_penalty)


def export(course: Path) -> Path:
    """Write grades.csv; where it is."""
    rows = [asdict(line) for line in lines(course)]
    write_text(course / "grades.csv", _csv(list(Line.__dataclass_fields__), rows))
    return course / "grades.csv"


def _csv(columns: list[str], rows: list[dict]) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def moodle(course: Path, assignment: str, worksheet: Path) -> tuple[Path, list[str]]:
    """Fill Moodle's grading worksheet (its own CSV, "Download grading worksheet"); the new file, and who is not in it.

    Lines are matched by Moodle's number of the student in this assignment, as collected, or by the mail address.
    """
    rows = rosters.table(worksheet)
    if not rows or not {"Identifier", "Grade"} <= rows[0].keys():
        raise CourseError(f"{worksheet} is no grading worksheet: it has no columns Identifier and Grade")
    if "Maximum Grade" in rows[0]:
        _same_maximum(course, assignment, "Moodle", {row["Maximum Grade"] for row in rows})
    known = Status(course).of(assignment)
    numbers = {known[s]["origin"]: s for s in known if known[s].get("origin")}
    mails = {line.email.lower(): line.student_id for line in lines(course, assignment) if line.email}

    def student_of(row):
        number = row["Identifier"].split()[-1] if row["Identifier"] else ""
        mail = row.get("email", "").lower()
        return numbers.get(number) or mails.get(mail) or rosters.identifier(mail or "-")

    return _filled(course, assignment, worksheet, rows, "Grade", student_of)


def canvas(course: Path, assignment: str, exported: Path, column: str | None = None) -> tuple[Path, list[str]]:
    """Fill a column of Canvas's gradebook ("Export entire gradebook"); the new file, and who is not in it."""
    rows = rosters.table(exported)
    if not rows or not {"Student", "ID"} <= rows[0].keys():
        raise CourseError(f"{exported} is no gradebook of Canvas: it has no columns Student and ID")
    roster = rosters.load(course)
    found = [c for c in rows[0] if c and assignment.split("_")[0] in c.lower().replace(" ", "")]
    if column is None and len(found) != 1:
        raise CourseError(f"name the column with --column; it may be one of {', '.join(c for c in rows[0] if c)}")
    column = column or found[0]
    if column not in rows[0]:
        raise CourseError(f"{exported} has no column {column!r}")
    _same_maximum(
        course, assignment, "Canvas", {row[column] for row in rows if row["Student"].strip() == "Points Possible"}
    )
    known = {**{s.student_id.rpartition("_")[2]: s.student_id for s in _people(course)}}

    def student_of(row):
        ours = roster.by("canvas_id", row["ID"]) or roster.by("login", row.get("login", ""))
        return (
            ours[0] if ours else known.get(row["ID"]) or rosters.identifier(row.get("student_id") or row["ID"] or "-")
        )

    keep = [c for c in ("Student", "ID", "SIS User ID", "SIS Login ID", "Section", column) if c in rows[0]]
    return _filled(course, assignment, exported, rows, column, student_of, keep)


def _same_maximum(course: Path, assignment: str, where: str, said: set[str]) -> None:
    """Raw points on another scale would be wrong grades: 30 of 30 would be 30 of 100."""
    with gradebook(course) as book:
        points = {a.max_score for a in book.assignments if a.name == assignment}
    for text in sorted(said):
        try:
            maximum = float(text.replace(",", "."))  # as some languages write it
        except ValueError:
            continue  # empty, "(read only)"
        if points and maximum not in points:
            ours = f"{max(points):g}"
            raise CourseError(
                f"{where} says that {maximum:g} is the maximum, and {assignment} has {ours} points; set the maximum to "
                f"{ours} there and download the file again"
            )


def _people(course: Path) -> list:
    with gradebook(course) as book:
        return [rosters.Student(s.id) for s in book.students]


def _filled(course, assignment, source, rows, column, student_of, keep=None) -> tuple[Path, list[str]]:
    """Points in a column; rows of those without a final score stay as they are."""
    table = {line.student_id: line for line in lines(course, assignment)}
    left = {s for s, line in table.items() if line.score != ""}
    ours = set(rosters.COLUMNS) | {"full_name", "moodle", "submitted"}
    columns = keep or [c for c in rows[0] if c and c not in ours]
    for row in rows:
        student = student_of(row)
        if student in left:
            row[column] = f"{table[student].score:g}"
            left.discard(student)
    target = course / f"{source.stem}-{assignment}.csv"
    write_text(target, _csv(columns, rows))
    return target, sorted(left)
