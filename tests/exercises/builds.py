"""What the exercises of every chapter are tested for.

``class Test01(Builds)``, with a number and wrong answers, is the whole test of ``helpers.exercises.ch01``.
Only the imports of the chapter, the stub's cell and the check's cell are executed, in this process.
"""

import ast
import contextlib
import importlib
import inspect
import io
import re
from functools import cache

import nbformat

from tests.conftest import ROOT


@cache
def cells_of(number: str) -> list:
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    return nbformat.read(path, as_version=4).cells


def folded(text: str) -> list[str]:
    """The Python code in the folds of a Markdown text."""
    folds = re.findall(r"<details>.*?</details>", text, re.S)
    return [code for fold in folds for code in re.findall(r"```python\n(.*?)```", fold, re.S)]


class Builds:
    """Inherit, and set ``number`` and ``wrong``.

    Attributes
    ----------
    number : of the chapter, such as "01"
    wrong : exercise -> at least two of (part of the solution's source, what a reader may write instead, a word of the
        message that must come)
    """

    number: str
    wrong: dict[str, list[tuple[str, str, str]]]

    @property
    def solutions(self) -> dict:
        return importlib.import_module(f"helpers.exercises.ch{self.number}").chapter.solutions

    def code(self, name: str) -> tuple[nbformat.NotebookNode, nbformat.NotebookNode]:
        """The stub's cell and the check's cell of an exercise."""
        code = [c for c in cells_of(self.number) if c.cell_type == "code"]
        stubs = [c for c in code if re.search(rf"^(def|class) {name}\b", c.source, re.M)]
        checks = [c for c in code if re.search(rf"\bcheck\({name}\)", c.source)]
        assert len(stubs) == len(checks) == 1, f"{name}: one cell with the stub, one with its check"
        return stubs[0], checks[0]

    def run(self, name: str, answer: str) -> str:
        """What the check's cell prints with ``answer`` in the place of the stub."""
        namespace: dict = {}
        for c in cells_of(self.number):
            if c.cell_type == "code":
                body = [n for n in _tree(c.source).body if isinstance(n, ast.Import | ast.ImportFrom)]
                exec(compile(ast.Module(body, []), "imports", "exec"), namespace)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(answer, namespace)
            exec(self.code(name)[1].source, namespace)
        return printed.getvalue()

    def test_every_exercise_stands_in_the_chapter(self):
        assert len(self.solutions) >= 2 and set(self.wrong) == set(self.solutions)

    def test_the_stub_is_not_written_yet(self):
        """Executed now, and in the stored output."""
        for name in self.solutions:
            stub, check = self.code(name)
            assert f"{name}: not written yet" in self.run(name, stub.source)
            assert any(f"{name}: not written yet" in output.get("text", "") for output in check.outputs)

    def test_the_folded_solution_is_right(self):
        """It is the module's, letter by letter, and begins as the stub does."""
        found = [code for c in cells_of(self.number) if c.cell_type == "markdown" for code in folded(c.source)]
        for name, solution in self.solutions.items():
            source = inspect.getsource(solution).strip()
            assert source in [code.strip() for code in found], f"{name} is not folded into the chapter as it is"
            assert self.run(name, source) == f"{name}: right.\n"
            assert self.code(name)[0].source.splitlines()[0] == source.splitlines()[0]

    def test_wrong_answers_are_told_what_is_wrong(self):
        for name, answers in self.wrong.items():
            source = inspect.getsource(self.solutions[name])
            assert len(answers) >= 2
            for part, instead, message in answers:
                assert source.count(part) == 1, f"{name}: {part!r} stands {source.count(part)} times in the solution"
                said = self.run(name, source.replace(part, instead))
                assert said.startswith(f"{name}: not right yet.") and message in said, said


def _tree(source: str) -> ast.Module:
    return ast.parse("\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))))
