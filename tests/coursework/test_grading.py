"""The loop over submissions: its guards, and how it goes on. nbgrader's part is played by a function that is quick."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.coursework import answers
from tests.coursework.making import LAST, command, hand_in, released, solved

import common  # isort: skip - found by answers.py
import course as commands  # isort: skip
import execution  # isort: skip
import grading  # isort: skip
import integrity  # isort: skip

POINTS = {"costs_test": 4.0, "method_step1": 10.0, "method_step2": 10.0, "method_answer": None}


def grader(monkeypatch, deeds=None, failures=()):
    """Replace nbgrader by what enters full points at once; ``deeds`` are {student: function(course)}."""
    from nbgrader.utils import capture_log  # noqa: F401 - what is replaced uses it

    def run(converter, course, assignment, student="*", **options):
        with common.gradebook(course) as book:
            book.update_or_create_student(student)
            time = common.directory(course).get_existing_timestamp(course / "submitted" / student / assignment)
            submission = book.update_or_create_submission(assignment, student, timestamp=time)
            for grade in [g for notebook in submission.notebooks for g in notebook.grades]:
                grade.auto_score, grade.needs_manual_grade = POINTS[grade.name], POINTS[grade.name] is None
            book.db.commit()
        source = course / "submitted" / student / assignment
        target = course / "autograded" / student / assignment
        shutil.copytree(source, target, dirs_exist_ok=True)
        if deeds and student in deeds:
            deeds[student](course)
        if student in failures:
            return {"success": False, "log": "[ERROR] x\n    KeyError: 'why it failed'\n"}
        return {"success": True, "log": ""}

    monkeypatch.setattr(grading, "run", run)


def sent_in(course, *students):
    for student in students:
        hand_in(course, LAST, student, solved(course))


def graded(course):
    """Who has points now."""
    return sorted(s for s, known in common.Status(course).of(LAST).items() if known.get("graded"))


# ---------------------------------------------------------------------------------------------------------------------
# Changes that a submission makes outside of its room, if all bounds have failed


def elsewhere(relative, text="spoilt"):
    """A deed: write into a file of the course."""

    def deed(course):
        path = course / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    return deed


FILES = {
    "another's submission": f"submitted/bob/{LAST}/{LAST}.ipynb",
    "a submission of its making": f"submitted/zoe/{LAST}/{LAST}.ipynb",
    "the release": f"release/{LAST}/{LAST}.ipynb",
    "the source with the tests": f"source/{LAST}/{LAST}.ipynb",
    "the settings": "nbgrader_config.py",
    "another's time": f"submitted/bob/{LAST}/timestamp.txt",
}


@pytest.mark.parametrize("what", FILES)
def test_a_changed_file_stops_the_batch(fresh, monkeypatch, what):
    """The batch ends and names the file; a second run stops as well, until the file is as before, or accepted."""
    sent_in(fresh, "ada", "bob")
    commands.look_through(fresh, LAST)
    path = fresh / FILES[what]
    before = path.read_text(encoding="utf-8") if path.exists() else None
    grader(monkeypatch, {"ada": elsewhere(FILES[what])})
    with pytest.raises(common.CourseError, match=f"the submission of ada changed .*{path.name}"):
        commands.grade(fresh, LAST, jobs=1)
    if what in ("the release", "the settings"):
        return  # this one would not run again at all
    grader(monkeypatch)
    with pytest.raises(common.CourseError, match=f"the submission of ada changed .*{path.name}"):
        commands.grade(fresh, LAST)
    if before is None:
        path.unlink()
    else:
        path.write_text(before, encoding="utf-8")
    commands.grade(fresh, LAST)
    assert graded(fresh) == ["ada", "bob"]


def test_a_change_can_be_accepted(fresh, monkeypatch):
    sent_in(fresh, "ada", "bob")
    grader(monkeypatch, {"ada": elsewhere(FILES["another's time"], "2026-01-01 00:00:00.0 UTC")})
    with pytest.raises(common.CourseError, match="--accept"):
        commands.grade(fresh, LAST, jobs=1)
    grader(monkeypatch)
    commands.grade(fresh, LAST, accept=True)
    assert graded(fresh) == ["ada", "bob"]


@pytest.mark.parametrize("relative", [f"submitted/bob/{LAST}/{LAST}.ipynb", f"source/{LAST}/{LAST}.ipynb"])
def test_a_change_between_two_runs_is_seen(fresh, monkeypatch, relative):
    """A process that was left behind, say. Your own settings and new submissions are no reason to stop."""
    sent_in(fresh, "ada", "bob")
    grader(monkeypatch)
    commands.grade(fresh, LAST)
    (fresh / "nbgrader_config.py").open("a").write("# mine\n")
    sent_in(fresh, "cleo")
    commands.grade(fresh, LAST)
    (fresh / relative).write_text("{}", encoding="utf-8")
    with pytest.raises(common.CourseError, match="since the last command somebody changed"):
        commands.grade(fresh, LAST)


def test_what_python_compiles_is_no_change(fresh):
    """Another process that imports the helpers for the first time writes there, under names of its own."""
    watch = integrity.Watch(fresh)
    before = watch.fingerprint()
    cache = fresh / "source" / "__pycache__"
    cache.mkdir()
    (cache / "x.cpython-311.pyc.140221").write_bytes(b"half")
    assert watch.fingerprint() == before


def test_a_damaged_baseline_is_said(fresh):
    (fresh / "baseline.json").write_text("[", encoding="utf-8")
    with pytest.raises(common.CourseError, match="is damaged"):
        commands.grade(fresh, LAST)


TRIGGER = f"create trigger t after update on grade begin update grade set auto_score = {10} where id = new.id; end"
POINTS_OF_BOB = """update grade set auto_score = 0 where notebook_id in (select n.id from submitted_notebook n
    join submitted_assignment s on s.id = n.assignment_id where s.student_id = 'bob')"""
OWN_HAND = """update grade set manual_score = 8 where notebook_id in (select n.id from submitted_notebook n
    join submitted_assignment s on s.id = n.assignment_id where s.student_id = 'cleo')"""
MOST = "update grade_cells set max_score = 1"
QUERIES = {
    "a trigger": (TRIGGER, "the tables themselves"),
    "a view": ("create view v as select 1", "the tables themselves"),
    "another's points": (POINTS_OF_BOB, "bob"),
    "points by hand of its own": (OWN_HAND, "cleo, points given by hand"),
    "points that can be had": (MOST, "the tables themselves"),
    "a student": ("insert into student (id) values ('zoe')", "zoe"),
}


@pytest.mark.parametrize("what", QUERIES)
def test_a_changed_gradebook_stops_the_batch(fresh, monkeypatch, what):
    """Seen by comparison before and after; the copy from before the batch is there."""
    query, named = QUERIES[what]
    sent_in(fresh, "bob")
    grader(monkeypatch)
    commands.grade(fresh, LAST)
    sent_in(fresh, "cleo")

    def deed(course):
        with sqlite3.connect(course / "gradebook.db") as db:
            db.execute(query)
        db.close()

    grader(monkeypatch, {"cleo": deed})
    before = integrity.rows(fresh / "gradebook.db")
    with pytest.raises(common.CourseError, match=f"while cleo was graded, somebody changed the gradebook: {named}"):
        commands.grade(fresh, LAST)
    assert integrity.rows(fresh / "gradebook.before.db") == before


def test_points_that_are_not_the_notebooks_are_refused(fresh, monkeypatch):
    """A submission that raises its own points by tests in the gradebook."""
    sent_in(fresh, "ada")

    def deed(course):
        with sqlite3.connect(course / "gradebook.db") as db:
            db.execute("update grade set auto_score = 9 where auto_score = 10")
        db.close()

    grader(monkeypatch, {"ada": deed})
    remarks = commands.grade(fresh, LAST)
    assert remarks["ada"][0].startswith("NOT GRADED: the gradebook has other points than the notebook")
    assert graded(fresh) == []


# ---------------------------------------------------------------------------------------------------------------------
# Going on


def test_only_what_has_changed_is_graded_again(fresh, monkeypatch):
    """A new submission, a new time, new tests; and whoever is named."""
    done = []
    sent_in(fresh, "ada", "bob", "cleo")

    def run(todo, **options):
        done.clear()
        start = grading.Batch.start
        monkeypatch.setattr(grading.Batch, "start", lambda self, s: done.append(s) or start(self, s))
        commands.grade(fresh, LAST, **options)
        monkeypatch.setattr(grading.Batch, "start", start)
        assert sorted(done) == todo

    grader(monkeypatch, failures=("cleo",))
    run(["ada", "bob", "cleo"])
    grader(monkeypatch)
    run(["cleo"])  # it had failed
    run([])
    run(["bob"], students=["bob"])
    sent_in(fresh, "dan")
    run(["dan"])
    source = fresh / "source" / LAST / f"{LAST}.ipynb"
    source.write_text(
        source.read_text(encoding="utf-8").replace("a whole number above 0", "a whole number"), encoding="utf-8"
    )
    run(["ada", "bob", "cleo", "dan"], accept=True)
    run(["ada", "bob", "cleo", "dan"], again=True)
    with pytest.raises(common.CourseError, match="no submission of eve"):
        commands.grade(fresh, LAST, ["eve"])


def test_one_that_fails_does_not_stop_the_others(fresh, monkeypatch):
    sent_in(fresh, "ada", "bob", "cleo")
    grader(monkeypatch, {"ada": lambda course: os._exit(1)}, failures=("bob",))
    remarks = commands.grade(fresh, LAST)
    assert remarks["ada"][0].startswith("NOT GRADED: the process was killed")
    assert remarks["bob"][0] == "NOT GRADED: KeyError: 'why it failed'"
    assert remarks["cleo"] == [] and graded(fresh) == ["cleo"]


def test_one_that_hangs_is_ended(fresh, monkeypatch):
    sent_in(fresh, "ada", "bob")
    monkeypatch.setattr(grading, "GRADE_TIMEOUT", 6)  # a busy machine needs seconds for the other one
    grader(monkeypatch, {"ada": lambda course: time.sleep(600)})
    remarks = commands.grade(fresh, LAST)
    assert remarks["ada"][0].startswith("NOT GRADED: was stopped after 6 s") and graded(fresh) == ["bob"]


def test_two_at_a_time(fresh, monkeypatch):
    """Two submissions run beside each other, and the bar counts both."""
    sent_in(fresh, "ada", "bob", "cleo")
    most = []
    ended = grading.Batch.ended
    monkeypatch.setattr(grading.Batch, "ended", lambda self: most.append(len(self.running)) or ended(self))
    grader(monkeypatch)
    commands.grade(fresh, LAST, progress=True)
    assert max(most) == 2 and graded(fresh) == ["ada", "bob", "cleo"]


def test_not_twice_at_the_same_time(fresh):
    with (
        grading.alone(fresh),
        pytest.raises(common.CourseError, match="being graded by another"),
        grading.alone(fresh, 0),
    ):
        pass
    with grading.alone(fresh, 0):  # free again
        pass


@pytest.mark.parametrize("name", ["[x]", "a*b", "{c"])
def test_names_that_nbgrader_cannot_handle(fresh, monkeypatch, name):
    """Put there by hand: named, with the name that would do, and nothing else is held up."""
    sent_in(fresh, name, "ada")
    grader(monkeypatch)
    remarks = commands.grade(fresh, LAST)
    assert "rename the folder to" in remarks[name][0] and graded(fresh) == ["ada"]


def test_originals_of_the_exchange_are_kept(fresh):
    """What came by nbgrader's exchange and is repaired stays as it was under downloaded/."""
    hand_in(fresh, LAST, "ada", solved(fresh), "Untitled.ipynb")
    commands.look_through(fresh, LAST)
    assert [p.name for p in (fresh / "submitted" / "ada" / LAST).glob("*.ipynb")] == [f"{LAST}.ipynb"]
    assert len(list((fresh / "downloaded").rglob("Untitled.ipynb"))) == 1


def test_question_by_question(fresh, monkeypatch):
    """New points for one test cell; the others, and what a person has given, stay."""
    sent_in(fresh, "ada", "bob")
    grader(monkeypatch)
    commands.grade(fresh, LAST)
    with common.gradebook(fresh) as book:
        book.find_grade("method_answer", LAST, LAST, "ada").manual_score = 7
        book.db.commit()
    monkeypatch.setitem(POINTS, "costs_test", 3.0)
    monkeypatch.setitem(POINTS, "method_step1", 0.0)
    remarks = commands.grade(fresh, LAST, questions=("costs_test",))
    assert remarks["ada"] == ["costs_test: 4.0 -> 3.0"]
    for student, answer in (("ada", 7), ("bob", 0)):
        row = commands.scores(fresh, LAST)[student]
        assert (row["costs_test"], row["method_step1"], row["method_answer"]) == (3, 10, answer)


# ---------------------------------------------------------------------------------------------------------------------
# Rooms, and what is left of them


KILLED = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("pragma cache_size = 1")  # so that much of the change is in the file before it is complete
db.execute("update student set first_name = first_name || 'x'")
os._exit(0)
"""


def test_a_gradebook_whose_writer_was_killed_is_read_as_it_was_before(tmp_path):
    """A process that ends in the middle of a change leaves SQLite's journal: the next reader undoes the change."""
    database = tmp_path / "gradebook.db"
    with closing(sqlite3.connect(database)) as db:
        db.execute("create table student (id text, first_name text)")
        db.executemany("insert into student values (?, ?)", [(str(n), "a" * 500) for n in range(500)])
        db.commit()
    before = integrity.rows(database)
    subprocess.run([sys.executable, "-c", KILLED, str(database)], check=True, timeout=300)
    assert (tmp_path / "gradebook.db-journal").exists()
    assert integrity.rows(database) == before and len(before["0"]) == 1


def test_rooms_of_killed_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(execution.tempfile, "gettempdir", lambda: str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f"grade-{dead.pid}-abc", f"grade-{os.getpid()}-def", "grade-other", "mine"):
        (tmp_path / name / "deep").mkdir(parents=True)
    execution.sweep()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([f"grade-{os.getpid()}-def", "grade-other", "mine"])


def test_a_room_is_small_and_has_no_environment(fresh, monkeypatch):
    """Helpers, data for the assignments, what was handed in; no token, no checkpoint."""
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    monkeypatch.setenv("https_proxy", "secret")
    hand_in(fresh, LAST, "ada", solved(fresh))
    (fresh / "submitted" / "ada" / LAST / "photo.png").write_bytes(b"png")
    with execution.room(fresh, fresh / "submitted" / "ada" / LAST) as place:
        assert (place.folder / "helpers" / "__init__.py").exists() and (place.work / "photo.png").exists()
        assert sum(p.stat().st_size for p in place.folder.rglob("*") if p.is_file()) < 20e6
        assert "secret" not in "".join(place.env.values())
        assert place.env["HOME"] == str(place.folder / "home")
    assert not place.folder.exists()


def test_the_command_forgets_the_environment(fresh):
    """Before it starts anything: what any process of yours could read under /proc is not there."""
    code = (
        "import os, pathlib\n"
        "import confine\n"
        "confine.start_again()\n"
        "text = pathlib.Path('/proc/self/environ').read_text() if os.path.exists('/proc/self/environ') else ''\n"
        "print('TOKEN' in os.environ, 'tok-tok' in text)"
    )
    env = {**os.environ, "TOKEN": "tok-tok", "AWS_SECRET": "tok-tok"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=answers.COURSEWORK, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.split() == ["False", "False"], done.stderr


def message(kind, **content):
    return {"msg_type": kind, "content": content, "header": {"msg_type": kind}, "parent_header": {}}


PRINTS = {
    "one long line": [message("stream", name="stdout", text="x" * 10**6)],
    "many lines": [message("stream", name="stderr", text="x" * 99)] * 1000,
    "pictures": [message("display_data", data={"image/png": "x" * 9000}, metadata={}, transient={})] * 20,
    "a traceback": [message("error", ename="E", evalue="", traceback=["x" * 99] * 1000)],
    "a result": [message("execute_result", data={"text/plain": "x" * 10**6}, metadata={}, execution_count=1)],
}


@pytest.mark.parametrize("what", PRINTS)
def test_outputs_of_all_kinds_are_bounded(what):
    """10 kB of them are kept, and that the rest was left out is said once."""
    from nbformat.v4 import new_code_cell, new_notebook

    cell = new_code_cell("")
    executor = execution.Survive(max_output=10_000)
    executor.nb, executor._printed = new_notebook(cells=[cell]), {}
    executor.clear_before_next_output = False
    for each in PRINTS[what]:
        executor.process_message(each, cell, 0)
    text = str(cell.outputs)
    assert len(text) < 20_000 and text.count("the rest was left out") == 1


# ---------------------------------------------------------------------------------------------------------------------
# In earnest: a checkout that has moved, a run that is killed


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout with a course in it, released, collected, killed in the middle of the grading, and moved."""
    first, second = (tmp_path_factory.mktemp("checkout") / name for name in ("here", "there"))
    skip = shutil.ignore_patterns("__pycache__", "checkpoints", "renderer", "*.zip", "results")
    for name in ("helpers", "notebooks/coursework", "data"):
        shutil.copytree(ROOT / name, first / name, ignore=skip)
    script, course = first / "notebooks" / "coursework" / "course.py", first / "runs" / "course"
    assert command(course, "release", "6", script=script).returncode == 0
    inbox = first / "inbox"
    for student in ("-dash", "[x] y"):
        path = inbox / student / "a.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(common_writes(solved(course)), encoding="utf-8")
    assert command(course, "collect", "6", str(inbox), script=script).returncode == 0
    line = [sys.executable, str(script), "grade", "6", "--course", str(course), "--jobs", "1"]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 300
    while len(list((course / "autograded").glob("*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = dict(common.Status(course).of(LAST))
    first.rename(second)
    return second, before


def common_writes(notebook):
    import nbformat

    return nbformat.writes(notebook)


# As in the container of the guide: the checkout cannot be written, the course can.
READ_ONLY = """
import os, sys
import confine
checkout, course = sys.argv[1:3]
if confine.unshare(confine.CLONE_NEWNS):
    confine.mount(None, "/", None, confine.MS_REC | confine.MS_PRIVATE)
    confine.mount(checkout, checkout, None, confine.MS_BIND)
    confine.mount(course, course, None, confine.MS_BIND)
    confine.set_read_only(checkout, True, recursive=False)
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""


def test_grading_goes_on_after_a_kill_and_a_move(checkout):
    """Everybody has points once, by the hand of the moved checkout, which is read-only now; and nobody twice."""
    folder, before = checkout
    course = folder / "runs" / "course"
    ready = {s: known["graded"] for s, known in before.items() if known.get("graded")}
    script = folder / "notebooks" / "coursework" / "course.py"
    line = [
        sys.executable,
        "-c",
        READ_ONLY,
        str(folder),
        str(course),
        str(script),
        "grade",
        "6",
        "--course",
        str(course),
    ]
    env = {**os.environ, "PYTHONPATH": str(script.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(line, capture_output=True, text=True, timeout=600, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {s: row["score"] for s, row in commands.scores(course, LAST).items()} == dict.fromkeys(
        ["-dash", "%5Bx%5D y"], 24
    )
    assert len(ready) >= 1 and f"/{2 - len(ready)} [" in done.stderr.replace("\r", "\n")
    assert not [p for p in Path(execution.tempfile.gettempdir()).glob(f"{execution.PREFIX}*") if stale(p)]


def stale(folder):
    import psutil

    owner = folder.name.removeprefix(execution.PREFIX).split("-")[0]
    return owner.isdigit() and not psutil.pid_exists(int(owner))


def test_a_course_that_moves_alone_is_told(course, tmp_path):
    """Its settings point to another place: course.py renews them and says so; nbgrader by itself refuses to run."""
    folder = tmp_path / "deeper" / "still" / "course"
    shutil.copytree(course, folder)
    text = (folder / "nbgrader_config.py").read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match="was moved"):
        common.settings(folder)
    assert "has moved" in common.settle(folder) and common.settle(folder) == ""
    assert (folder / "nbgrader_config.py").read_text(encoding="utf-8").count("\n") == text.count("\n")
    assert common.settings(folder).Autograde.autograde_preprocessors[0] == "execution.Survive"


@pytest.mark.parametrize(
    "old",
    [
        "c = get_config()\nload_subconfig('/nowhere/nbgrader_config.py')\n# Mine\nc.Execute.timeout = 7\n",
        "load_subconfig('/nowhere/nbgrader_config.py')\nc.Execute.timeout = 7\n",
        'c = get_config()\nload_subconfig("C:\\\\nowhere\\\\nbgrader_config.py")\nc.Execute.timeout = 7\n',
    ],
)
def test_settings_of_an_earlier_version(tmp_path, old):
    """They held an absolute path; what the instructor has added stays."""
    (tmp_path / "nbgrader_config.py").write_text(old, encoding="utf-8")
    assert common.settle(tmp_path) and common.settings(tmp_path).Execute.timeout == 7
    assert "nowhere" not in (tmp_path / "nbgrader_config.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [["release", "9"], ["grade", "1"], ["collect", "1", "nowhere"], ["similar", "1"]])
def test_command_says_what_is_wrong(arguments, tmp_path):
    with pytest.raises(SystemExit, match="error: (there is no assignment|.*not been released|.*no such folder)"):
        commands.main([*arguments, "--course", str(tmp_path)])


def test_released_is_what_students_get(course):
    assert len(released(course).cells) == len(answers.notebook(LAST).cells)
