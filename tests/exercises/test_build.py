"""helpers.exercises.build: a check prints and never raises, and gives back what the chapter goes on with."""

import pytest
from torch import nn

from helpers.exercises.build import Chapter, expect, given, source

chapter = Chapter()


def halve(x):
    """Half of a number."""
    return x / 2


@chapter.examines(halve)
def _halve(answer):
    expect(answer(3) == 1.5, f"half of 3 came out as {answer(3)}", "divide with /")


def answered(body):
    """An answer to the exercise from the text of its last line."""
    namespace = {}
    exec(compile(f"def halve(x):\n    {body}", "cell", "exec"), namespace)
    return namespace["halve"]


@pytest.mark.parametrize("body", ["...", "return None", "return ...", '"""Half of a number."""'])
def test_a_stub_is_not_written_yet(body, capsys):
    assert chapter.check(answered(body)) is halve
    assert capsys.readouterr().out.startswith("halve: not written yet. Fill in")


def test_a_right_answer_is_given_back(capsys):
    mine = answered("return 0.5 * x")
    assert chapter.check(mine) is mine and capsys.readouterr().out == "halve: right.\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return x // 2", "not right yet. half of 3 came out as 1.\nHint: divide with /."),
        ("return x / y", "not right yet. It stops at line 2 of the cell with NameError: name 'y' is not defined"),
    ],
)
def test_a_wrong_answer_is_told_what_is_wrong(body, said, capsys):
    assert chapter.check(answered(body)) is halve
    assert capsys.readouterr().out == f"halve: {said}\n"


def test_a_stub_of_a_class_is_not_written_yet(capsys):
    """An object of it exists; what its method gives is looked at with ``given``."""
    built = Chapter()

    class Block(nn.Module):
        """Twice its input."""

        def forward(self, x):
            return 2 * x

    solution = Block

    @built.examines(solution)
    def _block(answer):
        expect(given(answer()(3)) == 6, "3 did not become 6", "multiply by 2")

    class Block(nn.Module):
        """Twice its input."""

        def forward(self, x): ...

    assert built.check(Block) is solution and "Block: not written yet" in capsys.readouterr().out


def test_an_exercise_that_the_chapter_does_not_have():
    with pytest.raises(KeyError, match="other"):
        chapter.check(type("other", (), {}))


def test_source_is_the_one_that_runs():
    assert source(halve).data == '```python\ndef halve(x):\n    """Half of a number."""\n    return x / 2\n```'
