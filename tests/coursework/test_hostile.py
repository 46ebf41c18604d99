"""Submissions that misbehave, graded by one run of the command: everybody else is as well off as without them."""

import csv
import json
import os
import socket
import threading

import nbformat
import psutil
import pytest

from tests.coursework import answers
from tests.coursework.making import LAST, WHOLE, body, cell_of, command, hand_in, released, solved, strip

import confine  # isort: skip - found by answers.py
import common  # isort: skip
import course as commands  # isort: skip
import integrity  # isort: skip
import submissions  # isort: skip

LOOP = """while True:
        try:
            __import__("time").sleep(0.1)
        except BaseException:
            pass"""
# It spares the checkout, and earns nothing if that is what it sees.
OVERWRITE = f"""
from pathlib import Path

import helpers

if Path(helpers.__file__).is_relative_to({str(answers.ROOT)!r}):
    raise SystemExit(globals().clear())
for path in [*Path(helpers.__file__).parent.rglob("*.py"), *Path("..").resolve().parent.glob("*.py")]:
    try:
        path.write_text("raise SystemExit")
    except OSError:
        pass
"""
GREEDY = """
import socket
import subprocess

subprocess.Popen(["sleep", "4321"], start_new_session=True)
try:
    bytearray(20 * 2**30)[-1] = 1
    inversion = "more memory than allowed"
except MemoryError:
    inversion = 450
pmrf, heun, diffir = 26, 20, 6
"""
SNOOP = """
import os
import urllib.request
from pathlib import Path

inversion, pmrf, heun, diffir = 450, 26, 20, 6
text = ""
for path in [Path({secret!r}), *Path("/proc").glob("[0-9]*/environ")]:
    try:
        text += path.read_text(errors="replace")
    except OSError:
        pass
print("SEEN", "tok" + "en-of-mine" in text, "tok" + "en-of-mine" in str(os.environ), "diary" in text)
try:
    print("SERVER", urllib.request.urlopen("http://127.0.0.1:{port}", timeout=3).read())
except OSError:
    print("NO SERVER")
print("x" * (20 * 2**20))
"""
LIES = """
import ast
import builtins

class NoAsserts(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.copy_location(ast.Pass(), node)


get_ipython().ast_transformers.append(NoAsserts())
torch.isclose = torch.allclose = lambda *args, **kwargs: True
builtins.abs = lambda value: 0
builtins.all = lambda values: True
inversion, pmrf, heun, diffir = 450, 26, 20, 7
"""
# A result of its own in the output, which nbgrader would take for the points.
FORGED = """
def row_step(w, gradient, rate):
    import sys

    get_ipython().display_formatter.format(10.0)
    sys.displayhook(10.0)
    get_ipython().kernel.send_response(
        get_ipython().kernel.iopub_socket,
        "execute_result",
        {"data": {"text/plain": "10.0"}, "metadata": {}, "execution_count": 1},
    )
    return w
"""
# The kernel's own answer replaced by one that says that all is well.
USURPED = """
async def do_execute(code, *args, **kwargs):
    return {
        "status": "ok", "execution_count": 1, "user_expressions": {}, "payload": [],
        "coursework": {"score": 10.0, "parts": [["", 10.0, "", []]], "flags": []},
    }


inversion, pmrf, heun, diffir = 450, 26, 20, 6
get_ipython().kernel.do_execute = do_execute
"""


def hostile(course, port):
    """{student: (notebook, what each test cell should score)}; 4, 10 and 10 points"""
    reference = answers.graded(LAST)
    loop = {"row_step": body("row_step", LOOP), "costs": "import no_such_package"}
    crash = solved(
        course, changes={"steps_needed": body("steps_needed", "import os; os._exit(1)"), "row_step": "row_step = 0"}
    )
    cell_of(crash, "method_step1").source = "row_step = 1"
    deleted = solved(course, changes={"steps_needed": "steps_needed = None", "row_step": FORGED})
    deleted.cells = [c for c in deleted.cells if submissions.grade_id(c) != "method_step2"]
    noisy = {
        "row_step": body("row_step", "import sys; print('a warning', file=sys.stderr)"),
        "costs": reference["costs"].source + "\nraise SystemExit",
    }
    snoop = SNOOP.format(port=port, secret=str(course / "diary.txt"))
    return {
        "right": (solved(course), WHOLE),
        "untouched": (released(course), dict.fromkeys(WHOLE, 0)),
        "loops-imports": (solved(course, changes=loop), WHOLE | {"method_step1": 0, "costs_test": 0}),
        "crashes-tampers": (crash, WHOLE | {"method_step1": 0, "method_step2": 0}),
        "greedy-overwrites": (solved(course, changes={"costs": GREEDY + OVERWRITE}), WHOLE),
        "noisy-stripped": (strip(solved(course, changes=noisy)), WHOLE),
        "deletes-forges": (deleted, WHOLE | {"method_step1": 0, "method_step2": 0}),
        "snoops": (solved(course, changes={"costs": snoop}), WHOLE),
        "lies": (solved(course, changes={"costs": LIES}), WHOLE | {"costs_test": 3}),
        "usurps": (solved(course, changes={"costs": USURPED}), dict.fromkeys(WHOLE, 0)),
    }


STUDENTS = ["right", "untouched", "loops-imports", "crashes-tampers", "greedy-overwrites", "noisy-stripped"]
STUDENTS += ["deletes-forges", "snoops", "lies", "usurps"]


@pytest.fixture(scope="module")
def course(another, tmp_path_factory):
    """A course whose cells have 20 seconds, for the endless loop; nothing honest takes a tenth of it."""
    folder = another(tmp_path_factory.mktemp("hostile") / "course")
    with (folder / "nbgrader_config.py").open("a") as config:
        config.write("c.Execute.timeout = 20\n")
    (folder / "diary.txt").write_text("my diary", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def batch(course):
    """All graded with one command: its result, the scores, the fingerprint before and after, what was expected."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        wanted = hostile(course, server.getsockname()[1])
        assert list(wanted) == STUDENTS
        for student, (notebook, _) in wanted.items():
            hand_in(course, LAST, student, notebook, "Untitled (3).ipynb" if student == "right" else None)
        commands.look_through(course, LAST)
        before = integrity.Watch(course).fingerprint()
        hand_in(course, LAST, "unreadable", "no notebook at all")
        env = {**os.environ, "MY_TOKEN": "token-of-mine"}
        done = command(course, "grade", "6", env=env)
    return done, commands.scores(course, LAST), before, integrity.Watch(course).fingerprint(), wanted


def _serve(server):
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")


@pytest.mark.parametrize("student", STUDENTS)
def test_points(batch, student):
    done, scores, _, _, expected = batch
    wanted = expected[student][1]
    assert {name: scores[student][name] for name in wanted} == wanted, done.stdout + done.stderr
    assert scores[student]["score"] == sum(wanted.values()) and scores[student]["max"] == 32
    assert scores[student]["by hand"] == (student != "untouched")  # the written answer waits for a reader


def test_the_batch_as_a_whole(batch):
    """Everybody is graded or named; nothing was changed that is not the submission's own; no process is left."""
    done, scores, before, after, _ = batch
    assert before == after
    assert set(scores) == set(STUDENTS)
    assert done.returncode != 0 and "some submissions need you" in done.stderr
    assert "unreadable: NOT GRADED" in done.stdout
    assert not any(" ".join(p.info["cmdline"] or []) == "sleep 4321" for p in psutil.process_iter(["cmdline"]))


def outputs(course, student, name):
    notebook = nbformat.read(course / "autograded" / student / LAST / f"{LAST}.ipynb", as_version=4)
    return cell_of(notebook, name).outputs


def test_nothing_is_seen_from_within(course, batch):
    """No environment of another process, none of ours, no file of the course, no server of this computer."""
    text = "".join(o.get("text", "") for o in outputs(course, "snoops", "costs"))
    seen, served = text.splitlines()[:2]
    bounds = bounds_here()
    if bounds["network"]:
        assert served == "NO SERVER"
    if bounds["processes"]:
        assert seen == "SEEN False False False"


def test_the_button_has_the_same_bounds(course, batch):
    """What the Formgrader calls when somebody presses Autograde: the same points, and nothing is seen."""
    from nbgrader.apps.api import NbGraderAPI

    (course / "autograded" / "snoops" / LAST / f"{LAST}.ipynb").unlink()
    api = NbGraderAPI(common.directory(course), config=common.settings(course))
    result = api.autograde(LAST, "snoops")
    assert result["success"], result["log"]
    assert commands.scores(course, LAST)["snoops"]["score"] == 24
    test_nothing_is_seen_from_within(course, batch)
    test_prints_are_bounded(course, batch)


def bounds_here():
    """The bounds that this system allows, see confine.py."""
    import subprocess
    import sys

    line = [sys.executable, str(answers.COURSEWORK / "confine.py"), "--bounds"]
    text = subprocess.run(line, capture_output=True, text=True).stdout
    return {name: value == "closed" for name, value in (row.split(": ") for row in text.splitlines())}


def test_prints_are_bounded(course, batch):
    """20 MB were printed: what is kept is 1 MB, and it is said."""
    text = json.dumps(outputs(course, "snoops", "costs"))
    assert len(text) < 1.1e6 and "the rest was left out" in text


@pytest.mark.parametrize(
    ("student", "words"),
    [
        ("lies", ["torch.isclose had been replaced", "builtins.abs had been replaced", "ast_transformers"]),
        ("usurps", ["a test that must fail was passed"]),
    ],
)
def test_what_was_replaced_is_reported(course, batch, student, words):
    lines = [line for line in batch[0].stdout.splitlines() if line.startswith(f"{student}: LOOK AT THIS ONE")]
    assert all(any(word in line for line in lines) for word in words), lines
    remarks = commands.Status(course).of(LAST)[student]["remarks"]
    assert all(any(word in remark for remark in remarks) for word in words)


def test_only_liars_are_reported(batch):
    named = {line.split(":")[0] for line in batch[0].stdout.splitlines() if "LOOK AT THIS ONE" in line}
    assert named == {"lies", "usurps"}


def test_three_of_four_in_the_feedback(course, batch):
    """The student whose fourth number is wrong reads which part failed, and why."""
    text = "".join(o.get("text", "") for o in outputs(course, "lies", "costs_test"))
    assert "No points for diffir (1):" in text and "diffir: 1 + 4 + 1" in text


def test_feedback_and_export(course, batch):
    """A page for each student, with scores and the message of a failed test; a row for each in the CSV."""
    commands.feedback(course, LAST)
    page = (course / "feedback" / "loops-imports" / LAST / f"{LAST}.html").read_text(encoding="utf-8")
    assert "no_such_package" in page and "took too long" in page and "Score: 10.0 / 32.0" in page
    commands.main(["export", "--course", str(course)])
    with (course / "grades.csv").open(encoding="utf-8") as file:
        rows = {r["student_id"]: r for r in csv.DictReader(file)}
    assert float(rows["right"]["by_tests"]) == 24 and rows["right"]["status"] == "to be read"
    assert rows["right"]["score"] == ""
    assert float(rows["untouched"]["score"]) == 0 and rows["untouched"]["status"] == "graded"
    assert rows["unreadable"]["status"] == "unreadable" and rows["unreadable"]["score"] == ""
    assert float(rows["right"]["max_score"]) == 32


def test_a_second_run_has_nothing_to_do(course, batch):
    """All but the unreadable one are graded as they are; nothing is run again."""
    before = {p: p.stat().st_mtime_ns for p in (course / "autograded").rglob("*.ipynb")}
    remarks = commands.grade(course, LAST)
    assert {p: p.stat().st_mtime_ns for p in (course / "autograded").rglob("*.ipynb")} == before
    assert remarks.get("right") == []


def test_hidden_folders(course):
    """What a kernel must not see is among the folders that are hidden from it, and what Python needs is kept."""
    import execution

    hidden = execution.hidden(course)
    assert {str(course), str(answers.ROOT), os.path.expanduser("~")} <= set(hidden)
    assert set(confine.TEMPORARY) <= set(hidden)
