"""Release, collect and grade the assignments with nbgrader, one command each::

    python notebooks/coursework/course.py release 1             # -> release/assignment1_.../*.ipynb, without solutions
    python notebooks/coursework/course.py collect 1 inbox       # a folder with a file, folder or archive per student
    python notebooks/coursework/course.py grade 1
    python notebooks/coursework/course.py feedback 1            # -> feedback/<student>/assignment1_.../*.html
    python notebooks/coursework/course.py export                # -> grades.csv

Everything is kept in one folder, ``--course`` (``runs/course`` by default): an ordinary nbgrader course, in which
``nbgrader`` and its Formgrader work as well. README.md beside this file is the instructor's guide.
"""

import argparse
import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from nbgrader.api import Gradebook, MissingEntry
from submissions import Unreadable, prepare

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GRADE_TIMEOUT = 420  # seconds for one submission with everything around it; execution.Survive ends it earlier

# nbgrader calls alembic by its name, which is not on the path of an environment that is used without activating it.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


class CourseError(RuntimeError):
    """A command that cannot be carried out; the message says why and what to do."""


def assignments() -> list[str]:
    """The names of all assignments, in order."""
    return sorted(p.stem for p in HERE.glob("assignment*.ipynb"))


def find(number: str) -> str:
    """An assignment by its number or its name."""
    found = [a for a in assignments() if a == number or a.startswith(f"assignment{number}_")]
    if not found:
        raise CourseError(f"there is no assignment {number!r}; choose one of {', '.join(assignments())}")
    return found[0]


def nbgrader(course: Path, *arguments: str, env: dict | None = None, timeout: float = 300) -> str:
    """Run a command of nbgrader in the course folder; what it wrote. Raises CourseError if it failed."""
    command = [sys.executable, "-m", "nbgrader", *arguments]
    try:
        done = subprocess.run(command, cwd=course, env=env, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise CourseError(f"nbgrader {arguments[0]} was stopped after {timeout:.0f} s") from None
    if done.returncode:
        raise CourseError(f"nbgrader {' '.join(arguments)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout + done.stderr


def gradebook(course: Path) -> Gradebook:
    """The course's database."""
    return Gradebook(f"sqlite:///{course / 'gradebook.db'}", "face_restoration")


def release(course: Path, assignment: str) -> Path:
    """Make the layout that nbgrader wants from our source, and the notebook for students; where that lies."""
    source = course / "source" / assignment
    source.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / f"{assignment}.ipynb", source)
    config = course / "nbgrader_config.py"
    if not config.exists():
        ours = HERE / "nbgrader_config.py"
        config.write_text(f"c = get_config()\nload_subconfig({str(ours)!r})\n# Your own settings follow here.\n")
    nbgrader(course, "generate_assignment", assignment, "--force")
    return course / "release" / assignment / f"{assignment}.ipynb"


def collect(course: Path, assignment: str, inbox: Path) -> dict[str, list[str]]:
    """Take in a folder of submissions with ``nbgrader zip_collect``, then look through them.

    Returns
    -------
    {student: what was found}, as :func:`look_through` gives it; "" stands for files that are nobody's
    """
    if not inbox.is_dir():
        raise CourseError(f"{inbox}: there is no such folder")
    _released(course, assignment)
    archive = course / "downloaded" / assignment / "archive"
    shutil.rmtree(archive, ignore_errors=True)
    damaged = []
    for path in sorted(p for p in inbox.rglob("*") if p.is_file() and not p.is_symlink()):
        if path.suffix == ".zip" and not zipfile.is_zipfile(path):
            damaged.append(f"{path.relative_to(inbox)}: a damaged archive, not collected")
        elif path.suffix in (".zip", ".ipynb"):
            target = archive / path.relative_to(inbox)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        elif not path.name.startswith("."):
            damaged.append(f"{path.relative_to(inbox)}: neither a notebook nor a zip archive, not collected")
    if archive.exists():
        nbgrader(course, "zip_collect", assignment, "--force")
    return look_through(course, assignment) | ({"": damaged} if damaged else {})


def look_through(course: Path, assignment: str) -> dict[str, list[str]]:
    """Repair what nbgrader would stumble over, see ``submissions.py``; {student: what was found}.

    A submission that holds no notebook of the assignment is put aside under ``unreadable/``.
    """
    found = {}
    for folder in sorted((course / "submitted").glob(f"*/{assignment}")):
        student = folder.parent.name
        try:
            found[student] = prepare(folder, _released(course, assignment))
        except Unreadable as error:
            aside = course / "unreadable" / student / assignment
            shutil.rmtree(aside, ignore_errors=True)
            shutil.move(folder, aside)
            found[student] = [f"NOT GRADED: {error} (now in {aside.relative_to(course)})"]
    return found


def _released(course: Path, assignment: str) -> Path:
    path = course / "release" / assignment / f"{assignment}.ipynb"
    if not path.exists():
        raise CourseError(f"{assignment} has not been released in {course}; do that first")
    return path


def grade(course: Path, assignment: str, students: list[str] | None = None) -> dict[str, list[str]]:
    """Look through the submissions and run ``nbgrader autograde`` on each, one process a student.

    Returns
    -------
    {student: remarks}; a student whose submission could not be graded has one that begins with NOT GRADED

    Raises
    ------
    CourseError
        if a submission has changed a file that is none of its own; the batch ends there
    """
    _released(course, assignment)
    remarks = look_through(course, assignment)
    guarded = fingerprint(course)
    for folder in sorted((course / "submitted").glob(f"*/{assignment}")):
        student = folder.parent.name
        if students and student not in students:
            continue
        with workshop() as env:
            try:
                command = ("autograde", assignment, "--student", student, "--force")
                nbgrader(course, *command, env=env, timeout=GRADE_TIMEOUT)
            except CourseError as error:
                remarks[student] = [f"NOT GRADED: {error}", *remarks[student]]
            finally:
                end_children()
        now = fingerprint(course)
        changed = sorted(k for k in guarded.keys() | now.keys() if guarded.get(k) != now.get(k))
        if changed:
            raise CourseError(
                f"the submission of {student} changed files that are not its own: {', '.join(changed[:5])}. "
                "Restore them (git for the course, your copy for the rest) and grade this one in a container: README.md"
            )
    return remarks


@contextmanager
def workshop():
    """A place for one grading: a copy of the helpers and the data, an empty home, a kernel with limits.

    Yields the environment for nbgrader. Students' code imports the copy, so that overwriting it harms nobody; what the
    instructor's own environment holds (tokens, proxies) is not passed on.
    """
    with tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True) as folder:
        room = Path(folder)
        skip = shutil.ignore_patterns("__pycache__", "renderer", "train.zip")
        for name in ("helpers", "data"):
            shutil.copytree(ROOT / name, room / name, ignore=skip)
        for name in ("home", "tmp", "run", "kernels/python3"):
            (room / name).mkdir(parents=True)
        spec = {
            "argv": [sys.executable, str(HERE / "confine.py"), "-f", "{connection_file}"],
            "display_name": "Python 3 (ipykernel)",
            "language": "python",
        }
        (room / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
        env = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LPIPS_TRUNK")}
        env |= {k: v for k, v in os.environ.items() if k.startswith("COURSEWORK_")}
        env |= {"PYTHONPATH": str(room), "HOME": str(room / "home"), "TMPDIR": str(room / "tmp")}
        env |= {"JUPYTER_PATH": str(room), "JUPYTER_RUNTIME_DIR": str(room / "run"), "COURSE_OFFLINE": "1"}
        env |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "Agg", "CUDA_VISIBLE_DEVICES": ""}
        yield env


def end_children() -> None:
    """End whatever a submission has started and left running (Linux: adopted by this process, see main)."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=5)


def fingerprint(course: Path) -> dict[str, str]:
    """What grading must not change, hashed: the helpers, the coursework, the data, sources, releases, submissions."""
    files = [p for p in (ROOT / "pyproject.toml", course / "nbgrader_config.py") if p.exists()]
    for folder in (ROOT / "helpers", HERE, course / "source", course / "release", course / "submitted"):
        files += [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"]
    prints = {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    for path in (ROOT / "data").rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            prints[str(path)] = str((path.stat().st_size, path.stat().st_mtime_ns))
    return prints


def scores(course: Path, assignment: str) -> dict[str, dict]:
    """{student: {"score", "max", "by hand", cell: points ...}} as the gradebook has it; only who was graded."""
    with gradebook(course) as book:
        table = {}
        for student in book.students:
            try:
                submission = book.find_submission(assignment, student.id)
            except MissingEntry:
                continue
            cells = {g.name: g.score for notebook in submission.notebooks for g in notebook.grades}
            total = {"score": submission.score, "max": submission.max_score, "by hand": submission.needs_manual_grade}
            table[student.id] = total | cells
        return table


def say(remarks: dict[str, list[str]]) -> bool:
    """Print remarks; whether every submission could be taken."""
    for student, lines in remarks.items():
        for line in lines:
            print(f"{student or 'inbox'}: {line}")
    return not any(line.startswith("NOT GRADED") for lines in remarks.values() for line in lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--course", type=Path, default=Path("runs/course"), help="the folder of your course")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("release", "collect", "grade", "feedback", "export"):
        command = commands.add_parser(name, parents=[shared])
        if name != "export":
            command.add_argument("assignment", help="its number, 1 to 6, or its name")
        if name == "collect":
            command.add_argument("inbox", type=Path, help="a folder with a file, a folder or an archive per student")
        if name == "grade":
            command.add_argument("--student", action="append", help="only this one; may be given several times")
    args = parser.parse_args(arguments)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans come to us, so that they can be ended
    course, fine = args.course.resolve(), True
    try:
        course.mkdir(parents=True, exist_ok=True)
        assignment = find(args.assignment) if args.command != "export" else ""
        if args.command == "release":
            print(release(course, assignment))
        elif args.command == "collect":
            remarks = collect(course, assignment, args.inbox.resolve())
            fine = say(remarks)
            print(len([s for s in remarks if s]), "submissions in", course / "submitted")
        elif args.command == "grade":
            fine = say(grade(course, assignment, args.student))
            for student, row in scores(course, assignment).items():
                print(f"{student}: {row['score']:g} of {row['max']:g}" + " so far; answers to read" * row["by hand"])
        elif args.command == "feedback":
            nbgrader(course, "generate_feedback", assignment, "--force")
            print(course / "feedback")
        else:
            nbgrader(course, "export", "--to", "grades.csv")
            print(course / "grades.csv")
    except CourseError as error:
        raise SystemExit(f"error: {error}") from None
    if not fine:
        raise SystemExit("error: some submissions need you, see the lines with NOT GRADED")


if __name__ == "__main__":
    main()
