"""Pages of the interfaces of ``helpers``, one for each package, from the sources and their docstrings.

Nothing is imported: signatures stand as they are written, and a page does not wait for torch.
"""

import ast
from pathlib import Path

from notebooks.book import ROOT
from notebooks.book.docstrings import restructured

HELPERS = ROOT / "helpers"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> dict[str, Path]:
    """Every module and package of ``helpers``, by name, packages before what they hold."""
    found = {}
    for path in sorted(HELPERS.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return dict(sorted(found.items()))


def package_of(name: str) -> str:
    """The page on which a module stands: its package."""
    return name if modules()[name].name == "__init__.py" else name.rpartition(".")[0]


def interfaces() -> dict[str, str]:
    """Name of a page -> MyST: a page for each package, and one that lists them."""
    pages: dict[str, str] = {}
    for name, path in modules().items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lines = [f".. py:module:: {name}", "", *restructured(ast.get_docstring(tree) or "")]
        for node in tree.body:
            lines += _described(node, "")
        heading = f"# {name}" if package_of(name) == name else f"## {name.rpartition('.')[2]}"
        text = "\n".join([heading, "", "````{eval-rst}", *lines, "````", "", ""])
        pages[package_of(name)] = pages.get(package_of(name), "") + text
    toctree = "\n".join(["```{toctree}", ":maxdepth: 2", "", *pages, "```"])
    pages["index"] = f"# Interfaces\n\nThe modules of `helpers`, from their docstrings.\n\n{toctree}\n"
    return pages


def _described(node: ast.stmt, indent: str) -> list[str]:
    """The directives for a public function or class and, in a class, for its documented public methods."""
    text = ast.get_docstring(node) if isinstance(node, Function | ast.ClassDef) else None
    if text is None or node.name.startswith("_"):
        return []
    inner = indent + "   "
    if isinstance(node, ast.ClassDef):
        made = next((n for n in node.body if isinstance(n, Function) and n.name == "__init__"), None)
        head = f"py:class:: {node.name}{_arguments(made) if made else ''}"
    else:
        marks = {ast.unparse(mark) for mark in node.decorator_list}
        if "property" in marks:
            head = f"py:property:: {node.name}"
        else:
            head = f"py:{'method' if indent else 'function'}:: {node.name}{_arguments(node, 'staticmethod' in marks)}"
    lines = [f"{indent}.. {head}", "", *(f"{inner}{line}" if line else "" for line in restructured(text))]
    for part in node.body if isinstance(node, ast.ClassDef) else ():
        lines += _described(part, inner)
    return lines


def _arguments(node: Function, all_of_them: bool = False) -> str:
    """A signature on one line, as it is written; without ``self`` or ``cls``."""
    first = [*node.args.posonlyargs, *node.args.args][:1]
    own = not all_of_them and bool(first) and first[0].arg in ("self", "cls")
    text = ast.unparse(node.args)
    text = text.partition(", ")[2] if own else text
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({text}){returned}"
