"""The assignments: what students get, what right and wrong answers score, and that nothing they hand in does harm.

Most answers are run quickly, cell by cell (``coursework/run_cells.py``); nbgrader itself grades the reference, the
untouched release, a mixed submission and a batch of broken and hostile ones.
"""

import csv
import json
import re
import shutil
import subprocess
import sys
import zipfile
from copy import deepcopy

import nbformat
import psutil
import pytest

from tests.conftest import ROOT
from tests.coursework import answers

sys.path.insert(0, str(answers.COURSEWORK))
import course as commands
import submissions

ASSIGNMENTS = answers.ASSIGNMENTS
LAST = ASSIGNMENTS[-1]  # the cheapest to run: it needs neither faces nor OpenCV
each_assignment = pytest.mark.parametrize("stem", ASSIGNMENTS)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """An nbgrader course with every assignment released."""
    folder = tmp_path_factory.mktemp("course")
    for stem in ASSIGNMENTS:
        commands.release(folder, stem)
    with (folder / "nbgrader_config.py").open("a") as config:
        config.write("c.Execute.timeout = 30\n")  # for the endless loop; nothing honest takes a tenth of it
    return folder


def released(course, stem):
    return nbformat.read(course / "release" / stem / f"{stem}.ipynb", as_version=4)


def cell_of(notebook, name):
    return next(c for c in notebook.cells if submissions.grade_id(c) == name)


def solved(course, stem, changes=()):
    """The release with the reference solution filled in; ``changes`` are {grade_id: other source}."""
    notebook = released(course, stem)
    for name, cell in answers.graded(stem, solution=True).items():
        cell_of(notebook, name).source = dict(changes).get(name, cell.source)
    return notebook


def hand_in(course, stem, student, notebook, name=None):
    path = course / "submitted" / student / stem / (name or f"{stem}.ipynb")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(notebook if isinstance(notebook, str) else nbformat.writes(notebook))


# ---------------------------------------------------------------------------------------------------------------------
# The sources


def test_six_assignments():
    assert [s.split("_")[0] for s in ASSIGNMENTS] == [f"assignment{n}" for n in range(1, 7)]


@each_assignment
def test_form(stem):
    """Valid, no outputs, goals and minutes and points on the first page, an answer read by a person, closed folds."""
    notebook = answers.notebook(stem)
    nbformat.validate(notebook)
    assert all(not c.outputs and c.execution_count is None for c in notebook.cells if c.cell_type == "code")
    first, text = notebook.cells[0].source, "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    assert first.startswith(f"# Assignment {stem[10]} · ") and "**What you will show**" in first
    assert 45 <= int(re.search(r"\*\*Time\*\*: about (\d+) minutes", first)[1]) <= 120
    points = sum(c.metadata.nbgrader.points for c in answers.graded(stem, grade=True).values())
    assert int(re.search(r"\*\*Points\*\*: (\d+)", first)[1]) == points
    in_headings = sum(int(n) for n in re.findall(r"^## .*\((\d+) points", text, re.M))
    assert in_headings == points + (40 if stem == LAST else 0)  # of its three parts of 20 points one is done
    assert [c for c in answers.graded(stem, grade=True, solution=True).values() if c.cell_type == "markdown"]
    assert text.count("<details>") == text.count("</details>") >= 1


@each_assignment
def test_every_test_speaks(stem):
    """A comment first (a bare string would be taken for a grade), assertions before and within the hidden part."""
    for name in answers.job_tests(stem):
        source = answers.graded(stem)[name].source
        visible, begin, hidden = source.partition("### BEGIN HIDDEN TESTS")
        assert source.startswith("# Test ") and begin and "assert " in visible and "assert " in hidden, name
        assert all(c.metadata.nbgrader.locked for c in [answers.graded(stem)[name]])
        silent = [
            line for line in source.splitlines() if re.match(r"\s*assert [^\"]*$", line) and not line.endswith("(")
        ]
        assert len(silent) <= 2, f"{name}: assertions without a message: {silent}"


def test_lessons_hold_no_solution():
    """No line of a solution that says something stands in a chapter."""
    chapters = [nbformat.read(p, as_version=4) for p in (ROOT / "notebooks").glob("*.ipynb")]
    lessons = {line.strip() for n in chapters for c in n.cells for line in c.source.splitlines()}
    for stem in ASSIGNMENTS:
        for name, lines in solutions(stem).items():
            telling = {line.strip() for line in lines if len(line.strip()) > 35 and "optim" not in line}
            assert telling & lessons == set(), f"{stem}, {name}"


def solutions(stem):
    """{grade_id: lines between the marks}"""
    pattern = re.compile(f"{answers.BEGIN}\n(.*?){answers.END}", re.S)
    cells = answers.graded(stem, solution=True)
    return {k: "".join(pattern.findall(c.source)).splitlines() for k, c in cells.items() if c.cell_type == "code"}


# ---------------------------------------------------------------------------------------------------------------------
# Right and wrong answers


@each_assignment
def test_enough_answers(stem):
    """For every exercise three wrong answers and another right one; every test is lost by one of them."""
    table = answers.load(stem)
    for exercise in solutions(stem):
        kinds = [a["kind"] for a in table if a["exercise"] == exercise]
        assert kinds.count("wrong") >= 3 and kinds.count("right") >= 1, exercise
    assert set().union(*(a["loses"] for a in table)) == set(answers.job_tests(stem))
    assert all(a.get("why") and a["loses"] for a in table if a["kind"] == "wrong")


@each_assignment
def test_answers_score_what_they_should(stem):
    """The reference and other right answers lose nothing, a wrong one exactly the points of its exercise."""
    results = answers.run(stem)
    assert {name: error for name, error in results["reference"].items() if error} == {}
    surprises = []
    for answer, result in zip(answers.load(stem), results["variants"], strict=True):
        lost = {name: result[name] for name in answers.job_tests(stem) if result[name]}
        if set(lost) != set(answer["loses"]):
            surprises.append((answer["exercise"], answer.get("why", "a right answer"), lost))
    assert surprises == []


@each_assignment
def test_wrong_answers_are_told_why(stem):
    """What fails is an assertion with a sentence; only a value that cannot be computed with may fail otherwise."""
    for answer, result in zip(answers.load(stem), answers.run(stem)["variants"], strict=True):
        for name in answer["loses"]:
            kind, _, text = result[name].partition(": ")
            assert kind in ("AssertionError", "ZeroDivisionError", "RuntimeError", "TypeError", "ValueError"), result[
                name
            ]
            assert len(text) > 10, f"{answer['exercise']}, {answer['why']}: {result[name]}"


# ---------------------------------------------------------------------------------------------------------------------
# What students get


@each_assignment
def test_release_holds_no_solution(course, stem):
    """No solution, hidden test, rubric or model answer; and all the rest is there, unchanged, in the same order."""
    text = "\n".join(c.source for c in released(course, stem).cells)
    for word in ("SOLUTION", "HIDDEN", "MARK SCHEME", "Rubric"):
        assert word not in text
    source = answers.notebook(stem)
    outside = {line.strip() for c in released(course, stem).cells for line in c.source.splitlines()}
    for lines in solutions(stem).values():
        # A line that both sides of the mark share, such as a return in a loop shown as broken, is no secret.
        secret = {line.strip() for line in lines if len(line.strip()) > 20} - shown_lines(source)
        assert secret & outside == set()
    for name in answers.job_tests(stem):
        hidden = answers.graded(stem)[name].source.partition("### BEGIN HIDDEN TESTS")[2]
        hidden = {line.strip() for line in hidden.splitlines() if len(line.strip()) > 25} - shown_lines(source)
        assert hidden & outside == set()
    for cell in answers.graded(stem, solution=True, grade=True).values():
        assert cell.source.splitlines()[0] not in text


def shown_lines(source):
    """Lines of a source notebook that are outside of all marks."""
    marks = r"### BEGIN (SOLUTION|HIDDEN TESTS|MARK SCHEME).*?### END \1"
    kept = [re.sub(marks, "", c.source, flags=re.S) for c in source.cells]
    return {line.strip() for text in kept for line in text.splitlines()}


@each_assignment
def test_stub_and_solution_are_one(course, stem):
    """Every line of a stub stands in the solution, in the same order; only the blank differs."""
    blank = ["# YOUR CODE HERE", 'raise NotImplementedError("not solved yet")']
    for name, cell in answers.graded(stem, solution=True, grade=False).items():
        stub = [line for line in cell_of(released(course, stem), name).source.splitlines()]
        kept = [line for line in stub if line.strip() not in blank]
        assert len(stub) == len(kept) + 2, f"{name}: one blank"
        solution = iter(cell.source.splitlines())
        assert all(line in solution for line in kept), name


@each_assignment
def test_release_runs_up_to_the_first_blank(course, stem):
    """The setup works, and the first blank says what it is; tests fail with an error and not with silence."""
    cells = [c for c in released(course, stem).cells if c.cell_type == "code"]
    job = {"cells": [{"name": f"{n}", "source": c.source} for n, c in enumerate(cells)], "variants": []}
    done = subprocess.run(
        [sys.executable, str(answers.HERE / "run_cells.py")], input=json.dumps(job), capture_output=True, text=True,
        cwd=ROOT, timeout=300,
    )  # fmt: skip
    errors = list(json.loads(done.stdout)["reference"].values())
    first = next(n for n, error in enumerate(errors) if error)
    before = [c for c in cells[:first] if submissions.grade_id(c)]
    assert all(c.metadata.nbgrader.solution for c in before)  # nothing but definitions of functions
    blank = next(error for n, error in enumerate(errors) if error and submissions.grade_id(cells[n]))
    assert blank == "NotImplementedError: not solved yet"
    tests = [n for n, c in enumerate(cells) if submissions.grade_id(c) in answers.job_tests(stem)]
    assert all(errors[n] for n in tests)


# ---------------------------------------------------------------------------------------------------------------------
# Broken submissions, put right


def strip(notebook):
    """What another editor leaves of a notebook."""
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


BREAKS = {
    "metadata lost": strip,
    "a test deleted": lambda n: n.cells.remove(cell_of(n, "method_step2")) or n,
    "a solution deleted": lambda n: n.cells.remove(cell_of(n, "choice")) or n,
    "the first graded cell deleted": lambda n: n.cells.remove(cell_of(n, "costs")) or n,
    "all graded cells deleted": lambda n: n.update(cells=[c for c in n.cells if not submissions.grade_id(c)]) or n,
    "a solution doubled": lambda n: n.cells.insert(4, deepcopy(cell_of(n, "costs"))) or n,
    "a test changed": lambda n: cell_of(n, "costs_test").update(source="pass") or n,
    "a test made text": lambda n: cell_of(n, "costs_test").update(cell_type="markdown") or n,
    "points changed": lambda n: cell_of(n, "costs_test").metadata.nbgrader.update(points=100) or n,
    "another assignment's cell": lambda n: n.cells[0].metadata.update(nbgrader={"grade_id": "x", "grade": True}) or n,
    "an old schema": lambda n: (
        [c.metadata.nbgrader.update(schema_version=1) for c in n.cells if "nbgrader" in c.metadata] and n
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_repair(course, what):
    """Afterwards every graded cell is there once, as released but for answers; and something was said."""
    release = released(course, LAST)
    notebook, notes = submissions.repair(BREAKS[what](solved(course, LAST)), release)
    nbformat.validate(notebook)
    wanted = {submissions.grade_id(c): c for c in release.cells if submissions.grade_id(c)}
    found = [c for c in notebook.cells if submissions.grade_id(c)]
    assert [submissions.grade_id(c) for c in found] == list(wanted)
    for cell in found:
        original = wanted[submissions.grade_id(cell)]
        assert cell.cell_type == original.cell_type and cell.metadata.nbgrader == original.metadata.nbgrader
        answer = answers.graded(LAST)[submissions.grade_id(cell)].source
        assert cell.source in ((answer, original.source) if original.metadata.nbgrader.solution else (original.source,))
    assert bool(notes) == (what not in ("points changed", "another assignment's cell", "an old schema"))
    if what == "metadata lost":
        kept = [submissions.grade_id(c) for c in found if c.source != wanted[submissions.grade_id(c)].source]
        assert set(kept) == set(answers.graded(LAST, solution=True))  # no answer was lost with it


def test_repair_leaves_a_good_notebook_alone(course):
    notebook = solved(course, LAST)
    repaired, notes = submissions.repair(notebook, released(course, LAST))
    assert notes == [] and [c.source for c in repaired.cells] == [c.source for c in notebook.cells]


def test_the_copy_with_an_answer_counts(course):
    """A stub that was copied below the answer does not replace it."""
    notebook = solved(course, LAST)
    notebook.cells.append(deepcopy(cell_of(released(course, LAST), "costs")))
    repaired, _ = submissions.repair(notebook, released(course, LAST))
    assert cell_of(repaired, "costs").source == answers.graded(LAST)["costs"].source


def test_choose(tmp_path, course):
    """The notebook of this assignment, whatever it is called; and a sentence where there is none."""
    release, name = released(course, LAST), f"{LAST}.ipynb"
    (tmp_path / name).write_text("{}")
    with pytest.raises(submissions.Unreadable, match="is no notebook"):
        submissions.choose(tmp_path, release, name)
    nbformat.write(released(course, ASSIGNMENTS[0]), tmp_path / "other.ipynb")
    with pytest.raises(submissions.Unreadable, match="no notebook"):
        submissions.choose(tmp_path, release, name)
    nbformat.write(solved(course, LAST), tmp_path / "my work (2).ipynb")
    path, _, notes = submissions.choose(tmp_path, release, name)
    assert path.name == "my work (2).ipynb" and any("taken for" in n for n in notes)


def test_collect(course, tmp_path):
    """Files, folders and archives, each its student's; what is no submission is named."""
    stem, notebook = ASSIGNMENTS[0], nbformat.writes(solved(course, ASSIGNMENTS[0]))
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / f"{stem}.ipynb").write_text(notebook)
    (tmp_path / "bob_final version.ipynb").write_text(notebook)
    with zipfile.ZipFile(tmp_path / "cleo.zip", "w") as archive:
        archive.writestr(f"homework/{stem}.ipynb", notebook)
    (tmp_path / "dan.zip").write_text("no archive")
    (tmp_path / "eve.ipynb").write_text("no notebook")
    found = commands.collect(course, stem, tmp_path)
    assert sorted(found) == ["", "ada", "bob", "cleo", "eve"]
    assert found["ada"] == [] and "taken for" in found["bob"][0] and "damaged archive" in found[""][0]
    assert found["eve"][0].startswith("NOT GRADED") and not commands.say({"eve": found["eve"]})
    for student in ("ada", "bob", "cleo"):
        assert [p.name for p in (course / "submitted" / student / stem).glob("*.ipynb")] == [f"{stem}.ipynb"]
    shutil.rmtree(course / "submitted")


# ---------------------------------------------------------------------------------------------------------------------
# Graded by nbgrader, end to end

LOOP = "while True:\n        try:\n            pass\n        except BaseException:\n            pass"
OVERWRITE = """
from pathlib import Path

import helpers

for path in Path(helpers.__file__).parent.rglob("*.py"):
    path.write_text("raise SystemExit")
for path in Path("..").resolve().parent.glob("*.py"):
    path.unlink()
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


def body(name, code):
    """The reference solution with another first line in its function."""
    source = answers.graded(LAST)[name].source
    return source.replace(answers.BEGIN, code)


def hostile(course):
    """{student: (notebook, what each test cell should score)}; 4, 10 and 10 points"""
    whole = {"costs_test": 4, "method_step1": 10, "method_step2": 10}
    reference = answers.graded(LAST)
    tampered = solved(course, LAST, {"row_step": "row_step = None"})
    cell_of(tampered, "method_step1").source = "row_step = 1"
    deleted = solved(course, LAST, {"steps_needed": "steps_needed = None"})
    deleted.cells = [c for c in deleted.cells if submissions.grade_id(c) not in whole]
    crash = {"steps_needed": body("steps_needed", "import os; os._exit(1)")}
    noisy = {"row_step": body("row_step", "import sys; print('a warning', file=sys.stderr)")}
    return {
        "all-right": (solved(course, LAST), whole),
        "untouched": (released(course, LAST), dict.fromkeys(whole, 0)),
        "loops": (solved(course, LAST, {"row_step": body("row_step", LOOP)}), whole | {"method_step1": 0}),
        "crashes": (solved(course, LAST, crash), whole | {"method_step2": 0}),
        "exits": (solved(course, LAST, {"costs": reference["costs"].source + "\nraise SystemExit"}), whole),
        "imports": (solved(course, LAST, {"costs": "import no_such_package"}), whole | {"costs_test": 0}),
        "overwrites": (solved(course, LAST, {"costs": reference["costs"].source + OVERWRITE}), whole),
        "greedy": (solved(course, LAST, {"costs": GREEDY}), whole),
        "noisy": (solved(course, LAST, noisy), whole),
        "tampers": (tampered, whole | {"method_step1": 0}),
        "deletes": (deleted, whole | {"method_step2": 0}),
        "no-metadata": (strip(solved(course, LAST)), whole),
    }


@pytest.fixture(scope="module")
def batch(course):
    """The hostile submissions, graded with one command; (remarks, scores, fingerprint before and after)."""
    for student, (notebook, _) in hostile(course).items():
        hand_in(course, LAST, student, notebook)
    hand_in(course, LAST, "renamed", solved(course, LAST), "Untitled (3).ipynb")
    commands.look_through(course, LAST)
    before = commands.fingerprint(course)
    hand_in(course, LAST, "unreadable", "no notebook at all")
    command = [sys.executable, str(answers.COURSEWORK / "course.py"), "grade", "6", "--course", str(course)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    return done, commands.scores(course, LAST), before, commands.fingerprint(course)


@pytest.mark.parametrize("student", ["all-right", "untouched", "loops", "crashes", "exits", "imports", "overwrites"])
def test_submission_that_misbehaves(course, batch, student):
    check_scores(course, batch, student)


@pytest.mark.parametrize("student", ["greedy", "noisy", "tampers", "deletes", "no-metadata"])
def test_submission_that_is_broken(course, batch, student):
    check_scores(course, batch, student)


def check_scores(course, batch, student):
    wanted = hostile(course)[student][1]
    done, scores, *_ = batch
    assert {name: scores[student][name] for name in wanted} == wanted, done.stdout + done.stderr
    assert scores[student]["score"] == sum(wanted.values()) and scores[student]["max"] == 32
    assert scores[student]["by hand"] == (student != "untouched")  # the written answer waits for a reader


def test_the_batch_as_a_whole(batch):
    """Everybody is graded or named; nothing was changed that is not the submission's own; no process is left."""
    done, scores, before, after = batch
    assert before == after
    assert "unreadable" not in scores and scores["renamed"]["score"] == 24
    assert done.returncode != 0 and "some submissions need you" in done.stderr
    assert not any(" ".join(p.info["cmdline"] or []) == "sleep 4321" for p in psutil.process_iter(["cmdline"]))


def test_feedback_and_export(course, batch):
    """A page for each student, with scores and the message of a failed test; a row for each in the CSV."""
    commands.nbgrader(course, "generate_feedback", LAST, "--force")
    page = (course / "feedback" / "imports" / LAST / f"{LAST}.html").read_text()
    assert "no_such_package" in page and "Score: 20.0 / 32.0" in page
    commands.main(["export", "--course", str(course)])
    with (course / "grades.csv").open() as file:
        rows = {r["student_id"]: r for r in csv.DictReader(file) if r["assignment"] == LAST}
    assert float(rows["all-right"]["score"]) == 24 and float(rows["untouched"]["score"]) == 0
    assert float(rows["all-right"]["max_score"]) == 32


@pytest.mark.parametrize("stem", ASSIGNMENTS[:-1])
def test_graded_by_nbgrader(course, stem):
    """Full marks for the reference, nothing for the untouched release."""
    hand_in(course, stem, "right", solved(course, stem))
    hand_in(course, stem, "untouched", released(course, stem))
    remarks = commands.grade(course, stem)
    assert set(sum(remarks.values(), [])) == set()
    scores, points = commands.scores(course, stem), points_of(stem)
    assert {name: scores["right"][name] for name in points} == points
    assert scores["untouched"]["score"] == 0 and not scores["untouched"]["by hand"]


def test_nbgrader_agrees_with_the_quick_runs(course):
    """The first wrong answer to each exercise but one, in one notebook: the points that the quick runs say."""
    stem, wrong = ASSIGNMENTS[2], {}
    for answer in answers.load(stem)[::-1]:
        if answer["kind"] == "wrong":
            wrong[answer["exercise"]] = answer
    del wrong["on_paper"]
    hand_in(course, stem, "mixed", solved(course, stem, {name: a["cells"][name] for name, a in wrong.items()}))
    commands.grade(course, stem, ["mixed"])
    lost, points = {name for answer in wrong.values() for name in answer["loses"]}, points_of(stem)
    found = commands.scores(course, stem)["mixed"]
    assert {name: found[name] for name in points} == {k: 0 if k in lost else p for k, p in points.items()}


def points_of(stem):
    """{test cell: its points}"""
    return {name: answers.graded(stem)[name].metadata.nbgrader.points for name in answers.job_tests(stem)}


# ---------------------------------------------------------------------------------------------------------------------
# The command and its guard


def test_a_changed_file_stops_the_batch(course, monkeypatch, tmp_path):
    """If a submission gets at a file of others in spite of all, grading ends and names it."""
    folder = tmp_path / "course"
    shutil.copytree(course / "release", folder / "release")
    hand_in(folder, LAST, "ada", released(course, LAST))

    def spoil(where, *_, **__):
        (where / "release" / LAST / f"{LAST}.ipynb").write_text("spoilt")

    monkeypatch.setattr(commands, "nbgrader", spoil)
    with pytest.raises(commands.CourseError, match=f"submission of ada changed .*{LAST}"):
        commands.grade(folder, LAST)


@pytest.mark.parametrize("arguments", [["release", "9"], ["grade", "1"], ["collect", "1", "nowhere"]])
def test_command_says_what_is_wrong(arguments, tmp_path):
    with pytest.raises(SystemExit, match="error: (there is no assignment|.*not been released|.*no such folder)"):
        commands.main([*arguments, "--course", str(tmp_path)])


CONFINED = """
import resource, socket
import confine
confine.limit(2 * 2**30, 60)
try:
    bytearray(3 * 2**30)
    print("memory")
except MemoryError:
    pass
if confine.leave_network():
    try:
        socket.create_connection(("127.0.0.1", {port}), timeout=5)
        print("network")
    except OSError:
        pass
"""


def test_confined():
    """Too much memory is refused, and where the system can cut off the network, even this machine is out of reach."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        code = CONFINED.format(port=server.getsockname()[1])
        done = subprocess.run([sys.executable, "-c", code], cwd=answers.COURSEWORK, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "", done.stdout + done.stderr


# ---------------------------------------------------------------------------------------------------------------------
# The guide


def test_guide():
    """The instructor's guide knows every assignment, every exercise and every command."""
    guide = (answers.COURSEWORK / "README.md").read_text()
    for stem in ASSIGNMENTS:
        assert f"{stem}.ipynb" in guide
        assert [name for name in solutions(stem) if f"`{name}`" not in guide] == []
    assert [c for c in ("release", "collect", "grade", "feedback", "export") if f"course.py {c}" not in guide] == []
    targets = re.findall(r"\]\(([^)#\s]+)", guide)
    assert [t for t in targets if "://" not in t and not (answers.COURSEWORK / t).exists()] == []
