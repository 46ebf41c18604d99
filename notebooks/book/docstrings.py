"""Docstrings of the course as reStructuredText.

They are plain text: paragraphs, ``literals``, sections such as "Parameters" underlined with hyphens, aligned tables.
A star or a bar in them is a star or a bar. So each paragraph is escaped, and what is aligned is shown as it stands.
"""

import re
from itertools import groupby


def restructured(docstring: str) -> list[str]:
    """The lines of reStructuredText that show ``docstring`` (already cleaned of its common indentation)."""
    out, section = [], False
    blocks = [list(lines) for filled, lines in groupby(docstring.splitlines(), key=lambda s: bool(s.strip())) if filled]
    for block in blocks:
        if len(block) > 1 and re.fullmatch(r"-{3,}", block[1]) and block[0].isidentifier():
            out += ["", f".. rubric:: {block[0]}", ""]
            block, section = block[2:], True
        if section and not block[0].startswith(" ") and not _aligned(block) and not block[-1].endswith("::"):
            out += _entries(block)
        elif _as_it_stands(block):
            out += ["", ".. code-block:: none", "", *(f"    {line}" for line in block)]
        else:
            block[-1] = re.sub("::$", ":" if block[-1] != "::" else "", block[-1])  # what follows is shown as it stands
            out += ["", *map(escaped, block)]
    return [*out, ""]


def escaped(text: str) -> str:
    """A line in which only ``literals`` are markup; roles and single backticks become literals."""
    text = re.sub(r":[a-z:]+:`~?([^`]+)`", r"``\1``", text)
    parts = re.split(r"(``[^`]+``)", text)
    return "".join(
        part if k % 2 else re.sub(r"([\\*|`]|(?<=\w)_(?!\w))", r"\\\1", part) for k, part in enumerate(parts)
    )


def _as_it_stands(block: list[str]) -> bool:
    """Whether line breaks and spaces of a paragraph mean something: a table, a list, a command."""
    lists = any(re.match(r"\s*([-*] |\d+\. |\$ |python -m |>>> )", line) for line in block)
    return lists or any(line.startswith(" ") for line in block) or _aligned(block)


def _aligned(block: list[str]) -> bool:
    """Whether several spaces stand between words: columns."""
    return any(re.search(r"\S {2,}\S", line) for line in block)


def _entries(block: list[str]) -> list[str]:
    """The lines ``name : what it is``, with their continuations, as a definition list."""
    entries: list[list[str]] = []
    for line in block:
        if line.startswith(" ") and entries:
            entries[-1].append(line.strip())
        else:
            name, colon, rest = line.partition(" : ")
            entries.append([f"``{name.strip()}``" if colon or name.isidentifier() else escaped(name)])
            entries[-1] += [rest.strip()] if rest.strip() else []
    out = []
    for name, *rest in entries:
        out += [name, *(f"    {escaped(line)}" for line in rest), ""] if rest else ["", name, ""]
    return out
