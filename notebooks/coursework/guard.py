"""The tests of an assignment, run in the student's kernel without trusting what the student's cells have left there.

nbgrader runs a test like any other cell: in the student's namespace, through whatever the student has done to IPython,
and all or nothing. Here a test cell

- is compiled and run by :class:`Guard`, past IPython's transformers, in which an ``assert`` may get lost,
- finds the names of the notebook's first cells as the release defines them, and those of earlier tests,
- compares with the functions of Python, NumPy, PyTorch and the helpers that were there before the student's first cell;
  what was replaced since is put back, and reported,
- gives points by part: ``# 1 point: a`` begins a part, see :func:`parts`.

A student who knows this file can still get around it, since it lives in the same process. README.md says what follows.
"""

import builtins
import linecache
import re
import sys
import traceback
from dataclasses import dataclass, field
from typing import NamedTuple

HEAD = "#graded# "  # what execution.Survive puts before a cell that is meant for the guard
PART = re.compile(r"^# (\d+(?:\.\d+)?) points?: (.+?)\s*$")
# Saved before anything else can run in this process.
_compile, _exec, _isinstance, _issubclass, _setattr, _type = compile, exec, isinstance, issubclass, setattr, type
# IPython, and parts of PyTorch that are imported when first used, put others in the place of these.
CHANGED_BY_OTHERS = {
    "manual_seed",
    "input",
    "exit",
    "quit",
    "help",
    "display",
    "get_ipython",
    "breakpoint",
    "copyright",
    "credits",
}
COMPARISONS = ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__bool__", "__torch_function__")
COMPARISONS += ("__array_ufunc__", "__array_function__", "__sub__", "__rsub__", "__abs__", "__float__")
PLAIN = (bool, int, float, complex, str)


@dataclass
class Part:
    """A part of a test cell: its name, its points, and pieces of code that must all pass."""

    label: str
    points: float
    pieces: list[str] = field(default_factory=list)


class Result(NamedTuple):
    """What became of a part; ``error`` is "" if it passed, else the exception's type and text."""

    label: str
    points: float
    error: str
    traceback: list[str]


def parts(source: str, points: float) -> list[Part]:
    """The parts of a test cell.

    A line ``# 1 point: name`` or ``# 2 points: name`` begins a part, which ends at the next such line. A name that
    comes again (in the hidden tests, say) goes on with the same part. What stands before the first one is needed by all
    of them. A cell without such lines is one part with the name "" and all ``points``.

    Raises
    ------
    ValueError
        if the points of the parts do not add up to ``points``
    """
    lines, found, before, label = source.splitlines(), {}, [], None
    begins = [i for i, line in enumerate(lines) if PART.match(line)]
    if not begins:
        return [Part("", points, [source])]
    before = ["\n".join(lines[: begins[0]])]
    for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        worth, label = PART.match(lines[begin]).groups()
        part = found.setdefault(label, Part(label, float(worth), list(before)))
        # Empty lines before it, so that an error names the right line of the cell.
        part.pieces.append("\n" * begin + "\n".join(lines[begin:end]))
    total = sum(part.points for part in found.values())
    if abs(total - points) > 1e-9:
        raise ValueError(f"the parts have {total:g} points, the cell {points:g}")
    return list(found.values())


def run(source: str, points: float, namespace: dict, name: str = "test") -> list[Result]:
    """Run every part of a test cell in a namespace; a part goes on to others where one has failed."""
    file, passed = f"<{name}>", {}
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    results = []
    for part in parts(source, points):
        error, trace = "", []
        for piece in part.pieces:
            if piece not in passed:
                passed[piece] = _attempt(piece, file, namespace)
            if passed[piece]:
                error, trace = passed[piece]
                break
        results.append(Result(part.label, part.points, error, trace))
    return results


def _attempt(piece: str, file: str, namespace: dict) -> tuple[str, list[str]] | None:
    """None, or (what was raised, traceback within the test and the student's code)."""
    try:
        _exec(_compile(piece, file, "exec", dont_inherit=True, optimize=0), namespace)
    except BaseException as raised:  # SystemExit and KeyboardInterrupt come from the student's code as well
        try:
            text = f"{_type(raised).__name__}: {raised}"
        except Exception:
            text = f"{_type(raised).__name__}"
        inner = raised.__traceback__.tb_next if raised.__traceback__ else None
        return text[:2000], traceback.format_exception(_type(raised), raised, inner, limit=-8, chain=False)
    return None


def score(results: list[Result]) -> float:
    """The points of the parts that passed."""
    return sum(r.points for r in results if not r.error)


class Guard:
    """Knows what there was before the student's first cell, and runs tests against that."""

    def __init__(self):
        self.trusted: dict = {}  # names of the release's first cells
        self.space: dict = {"__name__": "__main__"}  # the namespace of all tests
        self.seen: dict = {}  # names of the student's that have been taken over into it
        self.originals: dict = {}  # {owner: {name: value}}

    def remember(self, source: str) -> None:
        """Run the first cells of the release; remember their names, and the functions of all modules they need.

        Raises
        ------
        Exception
            whatever these cells raise: then nobody's submission can run here
        """
        namespace = {"__name__": "__main__", "__builtins__": builtins}
        _exec(_compile(source, "<the first cells of the release>", "exec", dont_inherit=True), namespace)
        self.trusted = {k: v for k, v in namespace.items() if not k.startswith("__")}
        names = ("math", "cmath", "statistics", "operator", "numpy", "numpy.linalg", "numpy.testing", "pandas", "torch")
        names += ("torch.functional", "torch.nn", "torch.nn.functional", "torch.linalg", "torch.testing")
        owners = [builtins, *(sys.modules[n] for n in names if n in sys.modules)]
        owners += [m for n, m in sorted(sys.modules.items()) if n.split(".")[0] == "helpers"]
        if "torch" in sys.modules:
            owners.append(sys.modules["torch"].Tensor)
        self.originals = {
            owner: {
                name: value
                for name, value in vars(owner).items()
                if (callable(value) or _isinstance(value, type(sys))) and self._watched(owner, name)
            }
            for owner in owners
        }

    @staticmethod
    def _watched(owner, name: str) -> bool:
        if owner is builtins:
            return name not in CHANGED_BY_OTHERS and (not name.startswith("_") or name in ("__import__",))
        return _isinstance(owner, _type) or not (name.startswith("_") or name in CHANGED_BY_OTHERS)

    def restore(self) -> list[str]:
        """Put back what was replaced since :meth:`remember`; the names."""
        changed = []
        for owner, values in self.originals.items():
            now = vars(owner)
            label = owner.__name__ if owner is not builtins else "builtins"
            for name, value in values.items():
                if now.get(name) is not value:
                    _setattr(owner, name, value)
                    changed.append(f"{label}.{name}")
            if _isinstance(owner, _type):  # a new attribute of a class hides the one of its parent
                for name in [n for n in now if n not in values and any(hasattr(b, n) for b in owner.__mro__[1:])]:
                    if callable(now[name]):
                        delattr(owner, name)
                        changed.append(f"{label}.{name}")
        return changed

    def hollow(self) -> list[str]:
        """Classes of the student's that are numbers, arrays or tensors with comparisons of their own."""
        bases = list(PLAIN)
        bases += [
            sys.modules[m].__dict__[n] for m, n in (("numpy", "ndarray"), ("torch", "Tensor")) if m in sys.modules
        ]
        found = set()
        for base in bases:
            below = [base]
            while below:
                below += _type.__subclasses__(current := below.pop())
                if current.__module__ == "__main__" and any(name in vars(current) for name in COMPARISONS):
                    found.add(current.__name__)
        return sorted(found)

    @staticmethod
    def _plain(value):
        """A number or a text for what it is, whatever its class says."""
        for plain in PLAIN:
            if _isinstance(value, plain) and _type(value).__module__ == "__main__":
                return str.__str__(value) if plain is str else plain.__new__(plain, plain.__repr__(value))
        return value

    def test(self, source: str, points: float, user: dict, name: str) -> dict:
        """Run a test cell on what ``user`` holds.

        Returns
        -------
        {"score", "parts": [[label, points, error, traceback]], "flags": what was found replaced}
        """
        sys.settrace(None)
        sys.setprofile(None)
        flags = [f"{what} had been replaced" for what in self.restore()]
        flags += [f"the class {what} has comparisons of its own" for what in self.hollow()]
        distrusted = any(f.startswith("the class") for f in flags)
        space = self.space
        for key, value in user.items():
            if key not in self.seen or self.seen[key] is not value:  # the student has given it since the last test
                self.seen[key] = value
                space[key] = self._plain(value)
        space |= self.trusted
        space["__builtins__"] = builtins
        results = run(source, points, space, name)
        flags += [f"{what} was replaced while the test ran" for what in self.restore()]
        distrusted = distrusted or any(f.endswith("while the test ran") for f in flags)
        for key, value in space.items():
            if key not in user:  # a later cell may show what a test has made
                user[key] = self.seen[key] = value
        table = [list(r) for r in results]
        return {
            "score": 0.0 if distrusted else score(results),
            "parts": table,
            "flags": flags,
            "distrusted": distrusted,
        }


def launch() -> None:
    """Be an IPython kernel in which cells that begin with :data:`HEAD` are the guard's."""
    import json

    from ipykernel.ipkernel import IPythonKernel
    from ipykernel.kernelapp import IPKernelApp

    guard, loads = Guard(), json.loads

    class Kernel(IPythonKernel):
        async def do_execute(self, code, silent, *args, **kwargs):
            if not code.startswith(HEAD):
                return await super().do_execute(code, silent, *args, **kwargs)
            head, _, source = code.partition("\n")
            job = loads(head[len(HEAD) :])
            reply = {"status": "ok", "execution_count": self.shell.execution_count, "user_expressions": {}}
            try:
                if job["do"] == "remember":
                    guard.remember(source)
                    answer = {}
                else:
                    answer = guard.test(source, job["points"], self.shell.user_ns, job["name"])
                    if self.shell.ast_transformers:
                        answer["flags"].append("IPython's ast_transformers had been set")
                    sys.stdout.flush()
                    sys.stderr.flush()
            except BaseException as error:
                answer = {"error": f"{type(error).__name__}: {error}", "flags": []}
            return reply | {"coursework": answer}

    IPKernelApp.launch_instance(kernel_class=Kernel)
