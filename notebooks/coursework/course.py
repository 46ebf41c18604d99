"""Release, collect and grade the assignments with nbgrader, one command each::

    python notebooks/coursework/course.py release 1 --due "2026-05-01 23:59"   # -> release/assignment1_.../*.ipynb
    python notebooks/coursework/course.py roster class.csv                     # names and mail addresses
    python notebooks/coursework/course.py collect 1 inbox                      # a folder or a zip, an entry a student
    python notebooks/coursework/course.py grade 1
    python notebooks/coursework/course.py similar 1                            # answers that are alike
    python notebooks/coursework/course.py feedback 1                           # -> feedback/<student>/.../*.html
    python notebooks/coursework/course.py export                               # -> grades.csv

Everything is kept in one folder, ``--course`` (``runs/course`` by default): an ordinary nbgrader course, in which
``nbgrader`` and its Formgrader work as well. README.md beside this file is the instructor's guide.
"""

import sys

import confine

if __name__ == "__main__":
    confine.start_again()  # before anything else is imported, since that takes seconds
    sys.modules["rfc3987_syntax"] = (
        None  # a check of addresses in notebooks that nobody needs, and half of these seconds
    )

import argparse
import csv
import os
import shutil
import signal
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import grading
import inbox
import reports
import roster as rosters
import similar
from common import (
    HERE,
    NOT_GRADED,
    CourseError,
    Status,
    find,
    gradebook,
    released,
    run,
    settle,
    why,
    write_text,
)
from grading import grade, look_through, scores
from integrity import Baseline, Watch
from nbgrader.converters import GenerateAssignment, GenerateFeedback
from submissions import Unreadable, prepare

__all__ = ["collect", "grade", "look_through", "release", "scores"]
STAMP = "%Y-%m-%d %H:%M:%S.%f UTC"  # as nbgrader's exchange writes it


def release(course: Path, assignment: str, due: str | None = None) -> Path:
    """Make the layout that nbgrader wants from our source, and the notebook for students; where that lies.

    Parameters
    ----------
    due
        when it is to be handed in, in this computer's time, such as "2026-05-01 23:59"
    """
    when = None
    if due:
        try:
            when = datetime.fromisoformat(due).astimezone(UTC).replace(tzinfo=None)
        except ValueError:
            raise CourseError(f"{due!r} is no date such as 2026-05-01 23:59") from None
    settle(course)
    baseline = Baseline(Watch(course))
    if not baseline.culprit:  # else this command may be what puts things right
        baseline.check()
    source = course / "source" / assignment
    source.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / f"{assignment}.ipynb", source)
    result = run(GenerateAssignment, course, assignment, force=True)
    if not result["success"]:
        raise CourseError(f"{assignment} could not be released: {why(result)}")
    with gradebook(course) as book:
        if when:
            book.update_or_create_assignment(assignment, duedate=when)
        for student in rosters.load(course).students.values():
            names = {k: getattr(student, k) for k in ("first_name", "last_name", "email")}
            book.update_or_create_student(student.student_id, **names)
    if not baseline.culprit:
        baseline.set()
    return released(course, assignment)


def enrol(course: Path, path: Path) -> int:
    """Keep a class list with the course and enter its names in the gradebook; how many students it has."""
    roster = rosters.read(path)
    settle(course)
    rosters.save(course, roster)
    with gradebook(course) as book:
        for student in roster.students.values():
            names = {k: getattr(student, k) for k in ("first_name", "last_name", "email")}
            book.update_or_create_student(student.student_id, **names)
    return len(roster.students)


def collect(
    course: Path, assignment: str, source: Path, kind: str = "auto", worksheet: Path | None = None
) -> dict[str, list[str]]:
    """Take in a folder (or a zip) of submissions: whose each is, the newest notebook of each, repaired for nbgrader.

    Everything is kept as it came under ``downloaded/<assignment>/<time>/``. One submission that cannot be taken does
    not keep the others out.

    Parameters
    ----------
    kind
        "names", "moodle" or "canvas", where the entries' names do not say it ("auto")
    worksheet
        Moodle's grading worksheet, which tells students of the same name apart and knows when each handed in

    Returns
    -------
    {student, or the entry's name where it is nobody's: what was found}; NOT GRADED begins what needs a person
    """
    released(course, assignment)
    baseline = Baseline(Watch(course))
    if not baseline.culprit:  # else this command may be what puts things right
        baseline.check()
    with tempfile.TemporaryDirectory(prefix="inbox-") as folder:
        entries = inbox.look(_folder(source, Path(folder)), kind)
        if not entries:
            raise CourseError(f"{source}: there is nothing in it")
        kept = course / "downloaded" / assignment / time.strftime("%Y%m%d-%H%M%S")
        while kept.exists():
            kept = kept.with_name(kept.name + "x")
        _copy(entries, kept)
        rows = rosters.table(worksheet) if worksheet else []
        numbers = {row["Identifier"].split()[-1]: row for row in rows if row.get("Identifier")}
        mails = {n: row["email"] for n, row in numbers.items() if row.get("email")}
        status = Status(course)
        known = status.of(assignment)
        taken = {p.parent.name: "" for p in (course / "submitted").glob(f"*/{assignment}")}
        taken |= {s: known[s].get("origin", "") for s in taken if s in known}
        students, refused = inbox.assign(entries, rosters.load(course), taken, mails)
        found = {name: [f"{NOT_GRADED}: {reason}"] for name, reason in refused.items()}
        for submission in students:
            number = next((e.number for e in submission.entries if e.number), "")
            when = _moment(numbers.get(number, {}).get("submitted", ""))
            found[submission.student] = submission.notes + _take(course, assignment, submission, when, status)
            if number:
                status.set(assignment, submission.student, origin=number)
    for name, reason in refused.items():
        found.setdefault(name, [f"{NOT_GRADED}: {reason}"])
    if not baseline.culprit:
        baseline.set()
    return found


def _folder(source: Path, temporary: Path) -> Path:
    """The inbox as a folder; an archive of a whole class is unpacked first, entry by entry."""
    if source.is_dir():
        return source
    if not source.is_file():
        raise CourseError(f"{source}: there is no such folder")
    try:
        inbox.unpack(source, temporary)
    except inbox.Refused as error:
        raise CourseError(f"{source}: {error}") from None
    return temporary


def _copy(entries: list[inbox.Entry], kept: Path) -> None:
    """Keep what came, as it came, with its times; links are left out."""
    kept.mkdir(parents=True)
    for entry in entries:
        try:
            if entry.path.is_symlink():
                continue
            if entry.path.is_dir():
                shutil.copytree(entry.path, kept / entry.path.name, symlinks=True)
            else:
                shutil.copy2(entry.path, kept)
        except OSError:  # unreadable: the submission is refused for that when its turn comes
            continue


def _take(course: Path, assignment: str, submission: inbox.Submission, when, status: Status) -> list[str]:
    """Put a student's newest notebook into ``submitted/``; what was found."""
    student = submission.student
    folder = course / "submitted" / student / assignment
    try:
        files, stamp = inbox.candidates(submission)
        text, chosen, notes = prepare(files, released(course, assignment))
    except (inbox.Refused, Unreadable) as error:
        place = course / "unreadable" / student / assignment
        place.mkdir(parents=True, exist_ok=True)
        write_text(place / "why.txt", f"{error}\n")
        before = "; what was handed in before stays" if folder.exists() else ""
        problem = f"{NOT_GRADED}: {error}{before}"
        status.set(assignment, student, problem=problem)
        return [problem]
    when = when or stamp or chosen.time
    if when and folder.exists() and (old := inbox.stamp_of(folder)) and old > when:
        return [
            *notes,
            f"{chosen.name} of {when:%Y-%m-%d %H:%M:%S} UTC is older than what was collected before: left aside",
        ]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{assignment}.ipynb", text)
    for other in folder.glob("*.ipynb"):
        if other.name != f"{assignment}.ipynb":
            other.unlink()
    if when:
        write_text(folder / "timestamp.txt", when.astimezone(UTC).strftime(STAMP))
    if when and when > datetime.now(UTC):
        notes.append(f"its time, {when:%Y-%m-%d %H:%M} UTC, has not come yet")
    status.set(assignment, student, problem="", collected=notes, graded="")
    return notes


def _moment(text: str) -> datetime | None:
    """A time as Moodle writes it in English or as a machine does, in this computer's zone; None for others."""
    for form in ("%A, %d %B %Y, %I:%M %p", "%A, %d %B %Y, %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"):
        try:
            return datetime.strptime(text, form).astimezone(UTC)
        except ValueError:
            continue
    return None


def feedback(course: Path, assignment: str) -> Path:
    """Pages for students from what was graded; where they are."""
    result = run(GenerateFeedback, course, assignment, force=True)
    if not result["success"]:
        raise CourseError(f"feedback failed: {why(result)}")
    return course / "feedback"


def say(remarks: dict[str, list[str]]) -> bool:
    """Print remarks; whether every submission could be taken."""
    for student, lines in remarks.items():
        for line in lines:
            print(f"{student or 'course'}: {line}")
    return not any(line.startswith(NOT_GRADED) for lines in remarks.values() for line in lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--course", type=Path, default=Path("runs/course"), help="the folder of your course")
    commands = parser.add_subparsers(dest="command", required=True)
    added = {}
    for name in ("release", "roster", "collect", "grade", "similar", "feedback", "export", "formgrader"):
        added[name] = commands.add_parser(name, parents=[shared])
        if name not in ("export", "roster", "formgrader"):
            added[name].add_argument("assignment", help="its number, 1 to 6, or its name")
    added["release"].add_argument("--due", help='when it is to be handed in: "2026-05-01 23:59", this computer\'s time')
    added["roster"].add_argument(
        "list", type=Path, help="a CSV with names and mail addresses; Moodle's and Canvas's will do"
    )
    added["collect"].add_argument(
        "inbox", type=Path, help="a folder, or a zip, with a file, folder or archive per student"
    )
    added["collect"].add_argument("--names", choices=("auto", "names", "moodle", "canvas"), default="auto")
    added["collect"].add_argument("--worksheet", type=Path, help="Moodle's grading worksheet of this assignment")
    added["grade"].add_argument("--student", action="append", help="only this one; may be given several times")
    added["grade"].add_argument("--again", action="store_true", help="all, also those that were graded before")
    added["grade"].add_argument("--accept", action="store_true", help="take changed files as they are now")
    added["grade"].add_argument("--question", action="append", default=[], help="new points for this test cell alone")
    added["grade"].add_argument("--jobs", type=int, default=grading.JOBS, help="submissions at a time")
    added["export"].add_argument("--assignment", help="for --moodle and --canvas")
    added["export"].add_argument("--moodle", type=Path, help="Moodle's grading worksheet, to be filled")
    added["export"].add_argument("--canvas", type=Path, help="Canvas's exported gradebook, to be filled")
    added["export"].add_argument("--column", help="the column of Canvas's gradebook")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Carry out one command."""
    args = _parser().parse_args(arguments)
    course, fine = args.course.resolve(), True
    try:
        course.mkdir(parents=True, exist_ok=True)
        if moved := settle(course):
            print(moved)
        assignment = find(args.assignment) if getattr(args, "assignment", None) else ""
        fine = COMMANDS[args.command](course, assignment, args)
    except CourseError as error:
        raise SystemExit(f"error: {error}") from None
    if fine is False:
        raise SystemExit("error: some submissions need you, see the lines with NOT GRADED")


def _collect(course, assignment, args):
    remarks = collect(course, assignment, args.inbox.resolve(), args.names, args.worksheet)
    fine = say(remarks)
    print(len(list((course / "submitted").glob(f"*/{assignment}"))), "submissions in", course / "submitted")
    return fine


def _grade(course, assignment, args):
    if args.jobs < 1:
        raise CourseError("--jobs is a number above 0")
    options = {"again": args.again, "accept": args.accept, "questions": tuple(args.question), "jobs": args.jobs}
    fine = say(grade(course, assignment, args.student, progress=True, **options))
    for student, row in scores(course, assignment).items():
        late = f", {row['penalty']:g} off for being late" * bool(row["penalty"])
        print(f"{student}: {row['score']:g} of {row['max']:g}{late}" + " so far; answers to read" * row["by hand"])
    return fine


def _similar(course, assignment, _):
    pairs = similar.report(course, assignment)
    path = course / f"similar-{assignment}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["first", "second", "share", "shared", "cells"])
        for pair in pairs:
            cells = " ".join(f"{k}:{v}" for k, v in pair.cells.items())
            writer.writerow([pair.first, pair.second, f"{pair.share:.2f}", pair.shared, cells])
    for pair in pairs[:20]:
        print(f"{pair.share:4.0%}  {pair.first} and {pair.second}: {', '.join(pair.cells)}")
    print(path)


def _export(course, assignment, args):
    if not (args.moodle or args.canvas):
        print(reports.export(course))
        return
    if not assignment:
        raise CourseError("say which with --assignment")
    if args.moodle:
        path, left = reports.moodle(course, assignment, args.moodle)
    else:
        path, left = reports.canvas(course, assignment, args.canvas, args.column)
    if left:
        print(f"not in that table, though they have points: {', '.join(left)}")
    print(path)


def _formgrader(course, *_):
    """JupyterLab in the course folder, with nothing of your environment that a submission could read."""
    os.chdir(course)
    os.execve(
        sys.executable, [sys.executable, "-m", "jupyterlab"], {**confine.clean(os.environ), "HOME": str(Path.home())}
    )


COMMANDS = {
    "release": lambda course, assignment, args: print(release(course, assignment, args.due)),
    "roster": lambda course, _, args: print(enrol(course, args.list), "students"),
    "collect": _collect,
    "grade": _grade,
    "similar": _similar,
    "feedback": lambda course, assignment, _: print(feedback(course, assignment)),
    "export": _export,
    "formgrader": _formgrader,
}


if __name__ == "__main__":
    grading.ADOPTED = confine.adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended; the same command goes on where it stopped"))
    main()
