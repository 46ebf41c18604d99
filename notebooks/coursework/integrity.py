"""Whether grading has changed what it must not: files of the course, and rows of the gradebook.

The baseline, hashes of all guarded files, is kept in ``baseline.json`` beside the gradebook. A submission that has
changed a file is found when it ends, and again at every later command until the file is restored or the change is
accepted.
"""

import json
import sqlite3
from collections import defaultdict
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from common import HERE, ROOT, CourseError, write_text
from nbgrader.utils import determine_grade

RESTORE = (
    "Restore them (git for the checkout, `release` and `collect` for the course, your copies for the rest) and grade "
    "this submission in a container (README.md), or accept what is there now with --accept"
)


class Watch:
    """The guarded files of a course; a file is read again only if its size, times or place on the disk have changed."""

    def __init__(self, course: Path):
        self.course = course
        self._known: dict[str, tuple] = {}

    def fingerprint(self) -> dict[str, str]:
        """{file: hash}: helpers, coursework, sources, releases, submissions, settings; of the data, their size."""
        files = [p for p in (ROOT / "pyproject.toml", self.course / "nbgrader_config.py") if p.exists()]
        folders = [self.course / name for name in ("source", "release", "submitted")]
        for folder in (ROOT / "helpers", HERE, *folders):
            files += [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        prints = {self._name(p): self._hash(p) for p in files}
        for path in (ROOT / "data").rglob("*"):
            if path.is_file() and path.suffix not in (".pyc", ".part"):
                prints[self._name(path)] = str((path.stat().st_size, path.stat().st_mtime_ns))
        return prints

    def _name(self, path: Path) -> str:
        """Where a file lies, seen from the course or from the checkout, so that both may be moved."""
        for label, folder in (("course", self.course), ("checkout", ROOT)):
            if path.is_relative_to(folder):
                return f"{label}/{path.relative_to(folder).as_posix()}"
        return str(path)

    def _hash(self, path: Path) -> str:
        state = path.stat()
        key = (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
        if self._known.get(str(path), (None,))[0] != key:
            self._known[str(path)] = (key, sha256(path.read_bytes()).hexdigest())
        return self._known[str(path)][1]


class Baseline:
    """What the guarded files should be, kept beside the gradebook."""

    def __init__(self, watch: Watch):
        self._watch, self._path = watch, watch.course / "baseline.json"
        self.files: dict[str, str] | None = None
        self.culprit, self.changed = "", []  # whose submission has changed what, until that is settled
        if self._path.exists():
            try:
                kept = json.loads(self._path.read_text(encoding="utf-8"))
                self.files, self.culprit, self.changed = kept["files"], kept["culprit"], kept["changed"]
            except (ValueError, KeyError, TypeError):
                raise CourseError(f"{self._path} is damaged: remove it if you know why") from None

    def set(self) -> None:
        """Take the files as they are for right."""
        self.files, self.culprit, self.changed = self._watch.fingerprint(), "", []
        self._keep()

    def blame(self, culprit: str, changed: list[str]) -> None:
        """Remember whose submission has changed which files; the old state stays the right one."""
        self.culprit, self.changed = culprit, changed
        self._keep()

    def _keep(self) -> None:
        kept = {"culprit": self.culprit, "changed": self.changed, "files": self.files}
        write_text(self._path, json.dumps(kept, indent=0, sort_keys=True))

    def check(self) -> None:
        """Raises CourseError if files have changed since the last command, and we have not changed them.

        New submissions, your own changes of nbgrader_config.py and of the checkout are no reason, unless a submission
        has made them.
        """
        if self.files is None:
            return
        found = differences(self.files, self._watch.fingerprint())
        if self.culprit:
            found = [c for c in found if c in self.changed]
            what = f"the submission of {self.culprit} changed files that are not its own"
        else:
            folders = tuple(f"course/{name}/" for name in ("submitted", "source", "release"))
            found = [c for c in found if c in self.files and c.startswith(folders)]
            what = "since the last command somebody changed files of the course"
        if found:
            raise CourseError(f"{what}: {listed(found)}. {RESTORE}")


def differences(before: dict, now: dict) -> list[str]:
    """The keys whose values differ, or that only one of the two has."""
    return sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))


def listed(names: list[str]) -> str:
    """The first five of a list, in words."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


# ---------------------------------------------------------------------------------------------------------------------
# The gradebook


def opened(database: Path) -> closing:
    """A connection for reading; one that may write, too, since what a killed writer left half done must be undone."""
    return closing(sqlite3.connect(f"file:{database.as_posix()}?mode=rw", uri=True, timeout=60))


def rows(database: Path) -> dict[str, list]:
    """What the gradebook holds: {student: rows}, and under "" all else, with the schema and triggers."""
    if not database.exists():
        return {}
    found = defaultdict(list)
    with opened(database) as db:
        db.execute("begin")  # one state of all tables, though others are writing
        schema = db.execute("select type, name, tbl_name, sql from sqlite_master").fetchall()
        found[""] += sorted(map(repr, schema))
        names = [name for kind, name, *_ in schema if kind == "table"]
        columns = {name: [c[1] for c in db.execute(f'pragma table_info("{name}")')] for name in names}
        owner = {}
        # Students own submissions, these own notebooks, those own grades and comments.
        for name, link in (("submitted_assignment", "student_id"), ("submitted_notebook", "assignment_id")):
            if name in columns:
                for own, above in db.execute(f'select id, {link} from "{name}"'):
                    owner[own] = above if name == "submitted_assignment" else owner.get(above, "")
        for name in [n for n in names if n != "course"]:  # nbgrader enters courses when it opens the gradebook
            at = {c: i for i, c in enumerate(columns[name])}
            for row in db.execute(f'select * from "{name}"'):
                student = ""
                if name == "student":
                    student = row[at["id"]]
                elif name == "submitted_assignment":
                    student = row[at["student_id"]]
                elif name == "submitted_notebook":
                    student = owner.get(row[at["id"]], "")
                elif name in ("grade", "comment"):
                    student = owner.get(row[at["notebook_id"]], "")
                found[student].append(repr((name, row)))
    return {student: sorted(lines) for student, lines in found.items()}


def manual(database: Path) -> dict[str, list]:
    """{student: everything that a person has entered}."""
    if not database.exists():
        return {}
    query = """select s.student_id, n.id, g.cell_id, g.manual_score, g.extra_credit from grade g
        join submitted_notebook n on n.id = g.notebook_id join submitted_assignment s on s.id = n.assignment_id
        where g.manual_score is not null or g.extra_credit is not null"""
    found = defaultdict(list)
    with opened(database) as db:
        for student, *entered in db.execute(query):
            found[student].append(repr(entered))
    return {student: sorted(lines) for student, lines in found.items()}


def points_of(notebook) -> dict[str, float | None]:
    """{test: points} as the cells of an autograded notebook say; None for what a person reads."""
    cells = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade")]
    return {c.metadata.nbgrader.grade_id: determine_grade(c)[0] for c in cells}


def backup(database: Path, copy: Path) -> None:
    """Copy a database that may be in use."""
    if database.exists():
        with opened(database) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
