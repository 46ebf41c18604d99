"""What all commands share: where things lie, the gradebook, nbgrader's settings, and what is remembered of a course.

A course folder holds nbgrader's ``source/``, ``release/``, ``submitted/``, ``autograded/``, ``feedback/`` and
``gradebook.db``, and of ours ``nbgrader_config.py``, ``roster.csv``, ``status.json`` (what became of each submission),
``baseline.json`` (see integrity.py), ``downloaded/`` (everything as it came) and ``unreadable/``.
"""

import glob
import json
import os
import re
import sys
from pathlib import Path

from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import capture_log
from traitlets.config import Config, PyFileConfigLoader

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CONFIG = "nbgrader_config.py"
NOT_GRADED = "NOT GRADED"  # how a remark begins that needs a person

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


def released(course: Path, assignment: str) -> Path:
    """The notebook that students were given."""
    path = course / "release" / assignment / f"{assignment}.ipynb"
    if not path.exists():
        raise CourseError(f"{assignment} has not been released in {course}; do that first")
    return path


def settle(course: Path) -> str:
    """Make the course's nbgrader_config.py load ours, wherever the two lie now; a sentence if it was changed."""
    course.mkdir(parents=True, exist_ok=True)
    config = course / CONFIG
    try:
        ours = Path(os.path.relpath(HERE / CONFIG, course)).as_posix()
    except ValueError:  # another drive of Windows
        ours = str(HERE / CONFIG)
    lines = [
        "# The next lines load the rules of the course: without them, submissions would run without any bounds.",
        f"_rules = Path(__file__).resolve().parent / {ours!r}",
        "if not _rules.exists():",
        '    raise SystemExit("the course or the checkout was moved: run course.py with this --course once")',
        "load_subconfig(str(_rules))",
    ]
    head = ["from pathlib import Path", "", "c = get_config()", *lines]
    if not config.exists():
        config.write_text("\n".join([*head, "# Your own settings follow here.", ""]), encoding="utf-8")
        return ""
    text = config.read_text(encoding="utf-8")
    if lines[1] in text:
        return ""
    if "_rules =" in text:
        text = re.sub(r"^_rules = .*$", lambda _: lines[1], text, flags=re.M)
    else:  # made by an earlier version of course.py, with an absolute path
        text = re.sub(r"^(c = get_config\(\)\n)?load_subconfig\(.*\)$", lambda _: "\n".join(head), text, flags=re.M)
    config.write_text(text, encoding="utf-8")
    return f"{CONFIG} pointed to another place and was renewed: the course or the checkout has moved"


def settings(course: Path) -> Config:
    """nbgrader's configuration of this course."""
    return PyFileConfigLoader(CONFIG, path=str(course)).load_config()


def directory(course: Path, assignment: str = "", student: str = "*", config: Config | None = None) -> CourseDirectory:
    """nbgrader's view of the course folder, for one student or all."""
    config = settings(course) if config is None else config
    folder = CourseDirectory(config=config)
    folder.root, folder.assignment_id = str(course), assignment
    folder.student_id = student if student == "*" else glob.escape(student)
    if "db_url" not in config.CourseDirectory:
        folder.db_url = f"sqlite:///{course / 'gradebook.db'}?timeout=60"  # seconds to wait for another grader
    return folder


def gradebook(course: Path) -> Gradebook:
    """The course's database."""
    folder = directory(course)
    return Gradebook(folder.db_url, folder.course_id)


def run(converter: type, course: Path, assignment: str, student: str = "*", **options) -> dict:
    """Run one of nbgrader's converters in this process; {"success": bool, "log": text, perhaps "error": text}."""
    config = settings(course)
    app = converter(coursedir=directory(course, assignment, student, config), config=config)
    for name, value in options.items():
        setattr(app, name, value)
    before, app.log.propagate = app.log.propagate, False
    try:
        return {"log": ""} | capture_log(app)
    finally:
        app.log.propagate = before


def why(result: dict) -> str:
    """What nbgrader says when it has failed, in one line: the last exception in its log."""
    text = f"{result.get('log', '')}\n{result.get('error', '')}"
    found = [line for line in text.splitlines() if re.match(r"(\[ERROR\])?\s*[\w.]+(Error|Exception): ", line)]
    first = next(
        (line for line in found if "NbGraderException" not in line), found[0] if found else text.strip()[-300:]
    )
    return first.removeprefix("[ERROR] ").strip()


def write_text(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, whenever the computer stops."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


class Status:
    """What became of each submission: ``status[assignment][student]``, a dict that is kept in ``status.json``.

    Its keys are ``problem`` (a sentence, if the last attempt failed), ``collected`` and ``remarks`` (what was found
    when it was collected and graded), ``graded`` (a hash of what was graded), ``origin`` (a learning platform's number
    for the student in this assignment).
    """

    def __init__(self, course: Path):
        self._path = course / "status.json"

    def _read(self) -> dict:
        try:
            return json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            raise CourseError(f"{self._path} is damaged; remove it and collect and grade again") from None

    def of(self, assignment: str) -> dict[str, dict]:
        """{student: what is known}; may be empty."""
        return self._read().get(assignment, {})

    def set(self, assignment: str, student: str, **known) -> None:
        """Remember something of a submission, at once."""
        table = self._read()
        table.setdefault(assignment, {}).setdefault(student, {}).update(known)
        write_text(self._path, json.dumps(table, indent=1, ensure_ascii=False, sort_keys=True))
