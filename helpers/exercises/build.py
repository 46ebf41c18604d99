"""The mechanism of the exercises in which readers write a function or a class.

A module of a chapter, say ``helpers.exercises.ch01``, has::

    chapter = Chapter()
    check = chapter.check


    def halve(x):
        \"\"\"Half of a number.\"\"\"
        return x / 2


    @chapter.examines(halve)
    def _halve(answer):
        expect(answer(3) == 1.5, "half of 3 came out as a whole number", "// cuts the rest off; divide with /")

In the notebook, below a stub of the same name: ``my_half = check(halve)``.
"""

import inspect
import traceback
from collections.abc import Callable
from typing import Any

from IPython.display import Markdown

Examination = Callable[[Any], None]


class NotWritten(Exception):
    """A stub gave None or Ellipsis."""


class Wrong(Exception):
    """An answer that is not right: what was seen, and a hint."""


def expect(right: bool, seen: str, hint: str) -> None:
    """Ends an examination unless ``right``.

    Parameters
    ----------
    seen : what is wrong, with the value that was seen, no full stop
    hint : where to look, no full stop
    """
    if not right:
        raise Wrong(f"{seen}.\nHint: {hint}.")


def given(value: Any) -> Any:
    """``value``, unless it is what a stub gives: for what a method of the reader's class returns."""
    if value is None or value is Ellipsis:
        raise NotWritten
    return value


def source(thing: Callable) -> Markdown:
    """The source of a helper as it is now, coloured: shown where it stands at the end of a cell."""
    return Markdown(f"```python\n{inspect.getsource(thing)}```")


class Chapter:
    """The exercises of one chapter.

    Attributes
    ----------
    solutions : name of an exercise -> the function or class that solves it
    """

    def __init__(self):
        self.solutions: dict[str, Callable] = {}
        self._examinations: dict[str, Examination] = {}

    def examines(self, solution: Callable) -> Callable[[Examination], Examination]:
        """Decorator of a function that takes an answer to ``solution``'s exercise and calls :func:`expect`."""

        def note(examination: Examination) -> Examination:
            self.solutions[solution.__name__] = solution
            self._examinations[solution.__name__] = examination
            return examination

        return note

    def check(self, answer: Callable) -> Callable:
        """Print whether the reader's ``answer`` is right, and if not what is wrong; never raises what it raises.

        Returns
        -------
        ``answer`` if it is right, else the solution, so that the chapter goes on either way

        Raises
        ------
        KeyError
            if the chapter has no exercise with the name of ``answer``
        """
        name = answer.__name__
        solution = self.solutions[name]

        def written(*args, **kwargs):
            return given(answer(*args, **kwargs))

        try:
            self._examinations[name](written)
        except NotWritten:
            print(f"{name}: not written yet. Fill in the cell above, run it, then run this cell again.")
        except Wrong as wrong:
            print(f"{name}: not right yet. {wrong}")
        except Exception as error:  # whatever the reader's code raises
            print(f"{name}: not right yet. {_place(error, answer)}{type(error).__name__}: {error}")
        else:
            print(f"{name}: right.")
            return answer
        return solution


def _place(error: Exception, answer: Callable) -> str:
    """The line of the reader's code at which it stopped; nothing if it stopped elsewhere."""
    own = getattr(getattr(answer, "__code__", None), "co_filename", None)
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if own and frame.filename == own]
    return f"It stops at line {lines[-1].lineno} of the cell with " if lines else "It stops with "
