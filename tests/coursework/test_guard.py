"""Tests of assignments, run on answers that try to make them lie: they earn nothing, and it is reported."""

import builtins
import operator
import sys

import numpy as np
import pytest
import torch

from tests.coursework import answers  # noqa: F401 - finds guard
from tests.coursework.run_cells import forked

import execution  # isort: skip
import guard as guards  # isort: skip

FIRST = "import math\n\nimport numpy as np\nimport torch\n\nfaces = torch.ones(2)"
FOUR = """# Test
def number(value):
    assert value == float(value), "a number"


# 1 point: a
number(a)
# 1 point: b
number(b)
### BEGIN HIDDEN TESTS
# 1 point: a
assert abs(a - 1) < 1e-6, "a is 1"
# 1 point: b
assert b == 2, "b is 2"
# 2 points: c
assert torch.isclose(torch.tensor(float(c)), torch.tensor(3.0)), "c is 3"
### END HIDDEN TESTS"""


@pytest.fixture
def guard():
    """A guard that has seen the first cells; what a test replaces is put back."""
    found = guards.Guard()
    found.remember(FIRST)
    yield found
    found.restore()


def tried(guard, code, source=FOUR, points=4):
    """The answer of the guard after a student's cells."""
    user = {}
    exec(FIRST + "\n" + code, user)
    return guard.test(source, points, user, "test")


RIGHT = "a, b, c = 1, 2, 3"
WRONG = "a, b, c = 7, 8, 9"


# ---------------------------------------------------------------------------------------------------------------------
# Points by part


@pytest.mark.parametrize(
    ("code", "points"),
    [(RIGHT, 4), ("a, b, c = 1, 2, 9", 2), ("a, b, c = 7, 2, 3", 3), ("b = 2", 1), ("c = 3", 2), (WRONG, 0), ("", 0),
     ("a, b, c = 'x', 2, 3", 3), ("a, b, c = None, None, None", 0)],
)  # fmt: skip
def test_three_of_four_are_three(guard, code, points):
    answer = tried(guard, code)
    assert answer["score"] == points and answer["flags"] == []
    failed = {label: error for label, _, error, _ in answer["parts"] if error}
    assert all(len(error) > 5 for error in failed.values())


def test_parts_name_lines_of_the_cell(guard):
    """What a student reads in the feedback: the failed line of the test, by its number."""
    (part,) = [p for p in tried(guard, "a, b, c = 1, 5, 3")["parts"] if p[2]]
    assert part[0] == "b" and part[2] == "AssertionError: b is 2"
    assert 'line 14, in <module>\n    assert b == 2, "b is 2"' in "".join(part[3])


def test_what_stands_before_the_parts_is_needed_by_all(guard):
    source = "# Test\nassert shape == 2, 'shape'\n# 1 point: a\nassert a\n# 1 point: b\nassert b"
    assert tried(guard, "shape, a, b = 2, 1, 0", source, 2)["score"] == 1
    assert tried(guard, "shape, a, b = 3, 1, 1", source, 2)["score"] == 0


@pytest.mark.parametrize("points", [3, 5, 4.5])
def test_points_must_add_up(points):
    with pytest.raises(ValueError, match="the parts have 4 points"):
        guards.parts(FOUR, points)


def test_a_cell_without_parts_is_one():
    (part,) = guards.parts("# Test\nassert a", 6)
    assert part.points == 6 and guards.run("# Test\nassert a", 6, {"a": 0})[0].error == "AssertionError: "


def test_outputs_are_what_nbgrader_reads():
    """Nothing for all points, a number for some, an error for none."""
    from nbformat import NotebookNode
    from nbgrader.utils import determine_grade

    def graded(parts, score):
        outputs = execution.verdict({"score": score, "parts": parts, "flags": []})
        meta = {"nbgrader": {"grade": True, "solution": False, "grade_id": "x", "points": 4, "locked": True}}
        return determine_grade(NotebookNode(cell_type="code", source="", metadata=meta, outputs=outputs))[0]

    wrong = ["b", 1, "AssertionError: b is 2", ["AssertionError: b is 2"]]
    assert graded([["a", 3, "", []], ["b", 1, "", []]], 4) == 4
    assert graded([["a", 3, "", []], wrong], 3.0) == 3
    assert graded([wrong, wrong], 0.0) == 0
    assert graded([["a", 3.25, "", []], wrong], 3.25) == 3.25


# ---------------------------------------------------------------------------------------------------------------------
# Answers that make tests lie

YES = "yes = lambda *args, **kwargs: True\n"
REPLACED = {
    "torch.isclose": YES + "torch.isclose = yes",
    "torch.allclose": YES + "torch.allclose = torch.equal = yes",
    "a method of Tensor": YES + "torch.Tensor.__bool__ = yes",
    "a new method of Tensor": YES + "torch.Tensor.allclose = yes\ntorch.Tensor.equal = yes",
    "numpy.isclose": YES + "np.isclose = np.allclose = np.array_equal = yes",
    "abs": "import builtins\nbuiltins.abs = lambda v: 0",
    "all": "import builtins\nbuiltins.all = builtins.any = lambda v: True",
    "float": "import builtins\nbuiltins.float = lambda v: v",
    "isinstance": YES + "import builtins\nbuiltins.isinstance = yes",
    "compile": "import builtins\nbuiltins.compile = lambda *a, **k: real('0', 'x', 'exec')\nreal = compile",
    "math": "import math\nmath.isclose = math.sqrt = lambda *a, **k: True",
    "a helper": YES + "from helpers import data\ndata.normalise = yes",
}


@pytest.mark.parametrize("what", REPLACED)
def test_replaced_functions_earn_nothing_and_are_reported(guard, what):
    """The tests compare with the originals, which are in place again afterwards."""
    if what == "a helper":
        import helpers.data  # noqa: F401 - imported by the first cells of an assignment

        guard.remember(FIRST)
    before = (
        torch.isclose,
        torch.allclose,
        torch.Tensor.__bool__,
        np.isclose,
        builtins.abs,
        builtins.all,
        builtins.float,
    )
    answer = tried(guard, WRONG + "\n" + REPLACED[what])
    assert answer["score"] == 0
    assert any("had been replaced" in flag for flag in answer["flags"])
    after = torch.isclose, torch.allclose, torch.Tensor.__bool__, np.isclose, builtins.abs, builtins.all, builtins.float
    assert before == after and not torch.tensor(1.0).allclose(torch.tensor(2.0))


def test_what_pytorch_replaces_itself_is_not_reported(guard):
    """An optimiser imports a part of PyTorch that puts another manual_seed in the place of the first."""
    code = RIGHT + "\ntorch.optim.Adam([torch.zeros(1, requires_grad=True)]).step()\ntorch.compile"
    answer = tried(guard, code)
    assert answer["score"] == 4 and answer["flags"] == []


def test_replaced_functions_do_not_cost_right_answers(guard):
    answer = tried(guard, RIGHT + "\n" + REPLACED["torch.isclose"])
    assert answer["score"] == 4 and answer["flags"] == ["torch.isclose had been replaced"]


LIARS = {
    "a float": (
        "class L(float):\n    def __eq__(s, o): return True\n    def __sub__(s, o): return 0\n"
        "a, b, c = L(7), L(8), L(9)"
    ),
    "an int": "class L(int):\n    def __eq__(s, o): return True\n    def __rsub__(s, o): return 0\na = b = c = L(7)",
    "a str": "class L(str):\n    def __eq__(s, o): return True\na = b = c = L('7')",
    "a tensor": (
        "class L(torch.Tensor):\n    @classmethod\n    def __torch_function__(cls, f, t, a=(), k=None): return True\n"
        "a = b = c = torch.ones(1).as_subclass(L)"
    ),
    "an array": "class L(np.ndarray):\n    def __eq__(s, o): return True\na = b = c = np.ones(1).view(L)",
}


@pytest.mark.parametrize("what", LIARS)
def test_values_that_are_equal_to_everything(guard, what):
    answer = forked(tried, guard, f"__name__ = '__main__'\n{LIARS[what]}")  # a class stays for the rest of a process
    assert answer["score"] == 0 and any("comparisons of its own" in flag for flag in answer["flags"])


def test_names_of_the_first_cells_are_the_releases(guard):
    """A module or a picture that was given another name's value; a test of ours that reads it is not misled."""
    answer = tried(guard, "faces = torch.zeros(2)\ntorch = None", "# Test\nassert torch.equal(faces, torch.ones(2))", 1)
    assert answer["score"] == 1


def test_tracing_is_ended(guard):
    answer = tried(guard, WRONG + "\nimport sys\nsys.settrace(lambda *a: None)")
    assert answer["score"] == 0 and sys.gettrace() is None


def test_a_thread_that_replaces_again_and_again_is_seen(guard):
    code = (
        "import threading, time\ndef again():\n    while True:\n"
        "        torch.isclose = lambda *a, **k: True\n        time.sleep(0.001)\n"
        "threading.Thread(target=again, daemon=True).start()"
    )
    source = "# Test\nimport time\n\ntime.sleep(0.5)\nassert torch.isclose(torch.tensor(1.0), torch.tensor(2.0))"
    answer = forked(tried, guard, code, source, 1)  # the thread ends with that process
    assert answer["score"] == 0 and any("while the test ran" in flag for flag in answer["flags"])


@pytest.mark.parametrize("raised", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "RecursionError", "Exception"])
def test_whatever_an_answer_raises_is_a_failed_part(guard, raised):
    code = f"b, c = 2, 3\nclass A:\n    def __float__(self): raise {raised}('x')\na = A()"
    assert tried(guard, code)["score"] == 3


def test_names_that_tests_leave(guard):
    """Later tests may use a function of an earlier one; a student's function of that name stays as it is."""
    user = {}
    exec(FIRST + "\ndef error(x): return 'mine'\ndef answer(): return error(1)", user)
    first = "# Test\ndef error(x):\n    return 5\n\n\nassert answer() == 'mine'"
    assert guard.test(first, 1, user, "one")["score"] == 1
    assert guard.test("# Test\nassert error(1) == 5 and answer() == 'mine'", 1, user, "two")["score"] == 1
    user["error"] = operator.neg  # the student has used the name since
    assert guard.test("# Test\nassert error(1) == -1", 1, user, "three")["score"] == 1


def test_canary(guard):
    """Every part of it fails, each time with other numbers; so a kernel in which one passes is not to be trusted."""
    one, two = execution.canary(), execution.canary()
    assert one != two
    answer = guard.test(one, 1, {}, "canary")
    assert answer["score"] == 0 and all(error.startswith("AssertionError") for _, _, error, _ in answer["parts"])


def test_first_cells_that_do_not_run(guard):
    with pytest.raises(ModuleNotFoundError):
        guard.remember("import no_such_package")
