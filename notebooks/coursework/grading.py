"""Grade the submissions of an assignment: two at a time, each in a process of its own, going on where it stopped."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from multiprocessing.connection import wait
from pathlib import Path

import execution
import integrity
import nbformat
import psutil
from common import NOT_GRADED, CourseError, Status, gradebook, released, run, settle, why, write_text
from confine import die_with_parent, is_not_parent
from inbox import modified
from late import settle_penalties
from nbgrader.api import MissingEntry
from nbgrader.converters import Autograde
from roster import identifier, usable
from submissions import Candidate, Unreadable, prepare
from tqdm import tqdm

GRADE_TIMEOUT = 480  # seconds for one submission with everything around it; execution.Survive ends it earlier
JOBS = 2  # submissions at a time; each kernel may take 4 GiB
LOCKS: list = []  # open files that a forked process must not hold on to
TOTALS = ("score", "max", "penalty", "by hand")  # keys of scores() that are no cells
ADOPTED = False  # whether orphans come to this process, and all children but its workers are theirs (course.main)
tqdm.monitor_interval = 0  # no thread: processes are forked here


def look_through(course: Path, assignment: str) -> dict[str, list[str]]:
    """Repair what nbgrader would stumble over in ``submitted/``, see submissions.py; {student: what was found}.

    A submission that holds no notebook of the assignment is put aside under ``unreadable/``. A notebook that came by
    another way than ``collect`` and is changed here stays as it was under ``downloaded/``.
    """
    found, status = {}, Status(course)
    for folder in sorted((course / "submitted").glob(f"*/{assignment}")):
        student = folder.parent.name
        try:
            if not usable(student):
                raise Unreadable(f"rename the folder to {identifier(student)}: nbgrader cannot handle this name")
            files = sorted(p for p in folder.glob("*.ipynb") if p.is_file() and not p.is_symlink())
            candidates = [Candidate(p.name, p.read_bytes(), modified(p)) for p in files]
            text, _, found[student] = prepare(candidates, released(course, assignment))
        except (Unreadable, ValueError) as error:
            aside = put_aside(course, assignment, folder)
            found[student] = [f"{NOT_GRADED}: {error} (now in {aside.relative_to(course)})"]
            status.set(assignment, student, problem=found[student][0])
            continue
        if [c.name for c in candidates] != [f"{assignment}.ipynb"] or text.encode() != candidates[0].data:
            if found[student]:
                keep(course, assignment, student, files)
            for other in files:
                other.unlink()
            write_text(folder / f"{assignment}.ipynb", text)
    return found


def put_aside(course: Path, assignment: str, folder: Path) -> Path:
    """Move a submission that cannot be graded to ``unreadable/``; where it is now."""
    place = course / "unreadable" / folder.parent.name
    names = (f"{assignment}.{n}" if n > 1 else assignment for n in count(1))
    aside = next(p for name in names if not (p := place / name).exists())
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, aside)
    return aside


def keep(course: Path, assignment: str, student: str, files: list[Path]) -> None:
    """Copy files as they came, before they are repaired."""
    target = course / "downloaded" / assignment / "submitted" / student / time.strftime("%Y%m%d-%H%M%S")
    target.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copy2(path, target)


@contextmanager
def alone(course: Path, patience: float = 5):
    """No second grading of the same course at the same time; one that was killed may need a moment to end."""
    end_of_patience = time.monotonic() + patience
    with (course / ".grading").open("a+") as lock:
        while not _locked(lock):
            if time.monotonic() > end_of_patience:
                raise CourseError(f"{course} is being graded by another command; wait for it, or end it")
            time.sleep(0.1)
        LOCKS.append(lock)
        try:
            yield
        finally:
            LOCKS.remove(lock)


def _locked(lock) -> bool:
    """Whether the file could be locked; always, where there are no locks (Windows)."""
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return True
    except OSError:
        return False
    return True


@dataclass
class Worker:
    """A submission that is being graded."""

    student: str
    process: multiprocessing.Process
    answer: object  # the end of a pipe that nbgrader's result comes out of
    began: float


def key_of(course: Path, assignment: str, student: str) -> str:
    """A hash of all that the points of a submission depend on: the notebook, its time, and the tests."""
    folder, source = course / "submitted" / student / assignment, course / "source" / assignment / f"{assignment}.ipynb"
    files = [source, folder / "timestamp.txt", *sorted(folder.rglob("*.ipynb"))]
    return sha256(b"\0".join(p.read_bytes() for p in files if p.exists())).hexdigest()


class Batch:
    """The grading of an assignment, see :func:`grade`."""

    def __init__(self, course: Path, assignment: str, questions: tuple[str, ...] = ()):
        self.course, self.assignment, self.questions = course, assignment, questions
        self.database = course / "gradebook.db"
        self.watch = integrity.Watch(course)
        self.baseline, self.status = integrity.Baseline(self.watch), Status(course)
        self.remarks: dict[str, list[str]] = {}
        self.running: list[Worker] = []
        self.by_hand = integrity.manual(self.database)

    def pending(self, students: list[str] | None, again: bool) -> list[str]:
        """Who is to be graded: those named, else all that have not been graded as they are now."""
        folders = sorted((self.course / "submitted").glob(f"*/{self.assignment}"))
        there = [f.parent.name for f in folders]
        if students:
            if missing := sorted(set(students) - set(there)):
                raise CourseError(f"no submission of {', '.join(missing)}")
            return [s for s in there if s in students]
        known, done = self.status.of(self.assignment), set(scores(self.course, self.assignment))
        if again or self.questions:
            return there
        return [s for s in there if s not in done or known.get(s, {}).get("graded") != self._key(s)]

    def _key(self, student: str) -> str:
        return key_of(self.course, self.assignment, student)

    def start(self, student: str) -> None:
        """Begin with one submission."""
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        ours, theirs = context.Pipe(duplex=False)
        job = (os.getpid(), str(self.course), self.assignment, student, theirs)
        process = context.Process(target=_work, args=job, daemon=False)
        process.start()
        theirs.close()
        self.running.append(Worker(student, process, ours, time.monotonic()))

    def ended(self) -> list[tuple[Worker, dict]]:
        """Wait for submissions to end; the result of each. They stay among the running until they are checked."""
        ready = wait([w.answer for w in self.running], timeout=1)
        found = []
        for worker in list(self.running):
            result = None
            if worker.answer in ready:
                try:
                    result = json.loads(worker.answer.recv_bytes())
                except (EOFError, OSError):
                    result = {"success": False, "error": "the process was killed: too little memory?"}
            elif time.monotonic() - worker.began > GRADE_TIMEOUT:
                result = {"success": False, "error": f"was stopped after {GRADE_TIMEOUT} s"}
            if result is not None:
                end(worker)
                found.append((worker, result))
        return found

    def finish(self, worker: Worker, result: dict, before: tuple[dict, dict]) -> dict:
        """Check what a submission has left behind, and remember its result; the rows of the gradebook as they are now.

        Raises
        ------
        CourseError
            if it, or one that ran beside it, has changed a file or a row of the gradebook that is not its own
        """
        student, names = worker.student, [worker.student, *(w.student for w in self.running)]
        culprit = " or ".join(names)
        changed = integrity.differences(before[0], self.watch.fingerprint())
        if changed:
            self.baseline.blame(culprit, changed)
            raise CourseError(
                f"the submission of {culprit} changed files that are not its own: {integrity.listed(changed)}. "
                f"{integrity.RESTORE}"
            )
        now = integrity.rows(self.database)
        others = [s for s in integrity.differences(before[1], now) if s not in names]
        if others or integrity.manual(self.database).get(student) != self.by_hand.get(student):
            what = integrity.listed(
                [s or "the tables themselves" for s in others] or [f"{student}, points given by hand"]
            )
            raise CourseError(
                f"while {culprit} was graded, somebody changed the gradebook: {what}. Put "
                f"{self.course / 'gradebook.before.db'} in the place of gradebook.db and grade this one in a container"
            )
        remarks = self.remarks.setdefault(student, [])
        if not result["success"]:
            remarks.insert(0, f"{NOT_GRADED}: {why(result)}")
            self.status.set(self.assignment, student, problem=remarks[0], remarks=remarks, graded="")
            return now
        graded = self.course / "autograded" / student / self.assignment / f"{self.assignment}.ipynb"
        notebook = nbformat.read(graded, as_version=4)
        told = integrity.points_of(notebook)
        kept = scores(self.course, self.assignment, automatic=True)[student]
        kept = {k: v for k, v in kept.items() if k not in TOTALS}
        if not self.questions and kept != told:
            remarks.insert(0, f"{NOT_GRADED}: the gradebook has other points than the notebook: {kept}, {told}")
            self.status.set(self.assignment, student, problem=remarks[0], remarks=remarks, graded="")
            return now
        flags = notebook.metadata.get("coursework", {}).get("flags", [])
        remarks += [f"LOOK AT THIS ONE: {flag}" for flag in flags]
        self.status.set(self.assignment, student, problem="", remarks=remarks, graded=self._key(student))
        return now


def grade(
    course: Path,
    assignment: str,
    students: list[str] | None = None,
    again: bool = False,
    accept: bool = False,
    questions: tuple[str, ...] = (),
    jobs: int = JOBS,
    progress: bool = False,
) -> dict[str, list[str]]:
    """Look through the submissions and run nbgrader's autograder on each, in a process of its own.

    Parameters
    ----------
    students
        only these, also if they have been graded before; otherwise all whose submission or tests have changed since
    again
        all, whatever has been graded before
    accept
        take files that a submission has changed as they are now
    questions
        give new points for these test cells alone, to all, and leave the others as they are

    Returns
    -------
    {student: remarks}; a student whose submission could not be graded has one that begins with NOT GRADED

    Raises
    ------
    CourseError
        if a submission has changed a file that is none of its own; the batch ends there
    """
    released(course, assignment)
    with alone(course):
        batch = Batch(course, assignment, questions)
        if not accept:
            batch.baseline.check()
        moved = settle(course)
        batch.remarks = look_through(course, assignment) | ({"": [moved]} if moved else {})
        batch.baseline.set()
        integrity.backup(batch.database, course / "gradebook.before.db")
        waiting = batch.pending(students, again)
        before = scores(course, assignment, automatic=True) if questions else {}
        bar = tqdm(total=len(waiting), unit="submission", disable=not progress, file=sys.stderr)
        try:
            with bar:
                _run(batch, waiting, jobs, bar, before)
        finally:
            for worker in batch.running:
                end(worker)
            end_orphans(set())
        settle_penalties(course, assignment)
    return batch.remarks


def _run(batch: Batch, waiting: list[str], jobs: int, bar: tqdm, before: dict) -> None:
    """Grade all that wait."""
    waiting = list(waiting)
    files, rows = batch.watch.fingerprint(), integrity.rows(batch.database)
    while waiting or batch.running:
        while waiting and len(batch.running) < jobs:
            batch.start(waiting.pop(0))
        for worker, result in batch.ended():
            batch.running.remove(worker)
            end_orphans({w.process.pid for w in batch.running})
            rows = batch.finish(worker, result, (files, rows))
            if batch.questions and worker.student in before:
                _only(batch, worker.student, before[worker.student])
                rows = integrity.rows(batch.database)
            bar.update()


def _only(batch: Batch, student: str, old: dict) -> None:
    """Put back the points by tests of all cells but the questions that are graded anew, and say what has changed."""
    with gradebook(batch.course) as book:
        submission = book.find_submission(batch.assignment, student)
        for grade in [g for notebook in submission.notebooks for g in notebook.grades]:
            if grade.name in batch.questions:
                if grade.auto_score != old.get(grade.name):
                    line = f"{grade.name}: {old.get(grade.name)} -> {grade.auto_score}"
                    batch.remarks.setdefault(student, []).append(line)
            elif grade.name in old and grade.auto_score != old[grade.name]:
                grade.auto_score = old[grade.name]
        book.db.commit()


def _work(parent: int, course: str, assignment: str, student: str, answer) -> None:
    """In a process of its own: nbgrader's autograder for one student; its result goes into the pipe as JSON."""
    die_with_parent(is_not_parent(parent))
    for lock in LOCKS:
        lock.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        result = run(Autograde, Path(course), assignment, student, force=True, create_student=True)
    except BaseException as error:
        result = {"success": False, "error": f"{type(error).__name__}: {error}"}
    answer.send_bytes(json.dumps({k: v for k, v in result.items() if k in ("success", "error", "log")}).encode())
    answer.close()


def end(worker: Worker) -> None:
    """End a worker and all processes below it."""
    with suppress(psutil.NoSuchProcess):
        _kill(psutil.Process(worker.process.pid).children(recursive=True))
    worker.process.kill()
    worker.process.join()
    worker.answer.close()


def end_orphans(running: set[int]) -> None:
    """End whatever submissions have started and left behind (Linux: adopted by this process, see course.main)."""
    _kill([c for c in psutil.Process().children() if c.pid not in running and (ADOPTED or _ours(c))])


def _ours(process: psutil.Process) -> bool:
    """Whether a child of this process is a submission's: its environment or its folder is a room's."""
    with suppress(psutil.Error, OSError):
        return execution.PREFIX in process.environ().get("COURSEWORK_ROOM", "") or execution.PREFIX in process.cwd()
    return False


def _kill(processes: list[psutil.Process]) -> None:
    for process in list(processes):
        with suppress(psutil.NoSuchProcess):
            processes += process.children(recursive=True)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=5)


def scores(course: Path, assignment: str, automatic: bool = False) -> dict[str, dict]:
    """{student: {"score", "max", "by hand", "penalty", cell: points ...}} as the gradebook has it; only who was graded.

    ``score`` is what is left after the penalty. With ``automatic``, cells have the points by tests alone.
    """
    with gradebook(course) as book:
        table = {}
        for student in book.students:
            try:
                submission = book.find_submission(assignment, student.id)
            except MissingEntry:
                continue
            grades = [g for notebook in submission.notebooks for g in notebook.grades]
            cells = {g.name: g.auto_score if automatic else g.score for g in grades}
            penalty = submission.late_submission_penalty or 0.0
            total = {"score": max(0.0, submission.score - penalty), "max": submission.max_score, "penalty": penalty}
            table[student.id] = total | {"by hand": submission.needs_manual_grade} | cells
        return table
