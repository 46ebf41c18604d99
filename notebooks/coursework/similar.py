"""Which answers of an assignment are alike beyond what the exercise makes alike.

An answer is cut into shingles, runs of a few tokens; names of variables stay as they are, comments and layout do not
count. Shingles of the released notebook are left out, and so are those that many of the class have, since an exercise
with one obvious answer gets it from everybody. What two students share of the rest is listed. It is a reason to read
the two side by side, and no proof.
"""

import io
import keyword
import tokenize
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import nbformat
from common import released
from nbgrader.utils import is_solution
from submissions import grade_id

LENGTH = 5  # tokens in a shingle
COMMON = 0.1  # a shingle that more than this share of the class has (and more than 3 students) is the exercise's
FEWEST = 4  # shingles that two students must share


class Pair(NamedTuple):
    """Two students with answers alike: how many rare shingles they share, what share of the shorter work, where."""

    first: str
    second: str
    shared: int
    share: float
    cells: dict[str, int]


def tokens(cell) -> list[str]:
    """Words of a written answer, tokens of a program; also of one that does not parse."""
    if cell.cell_type != "code":
        return cell.source.lower().split()
    skip = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(cell.source).readline):
            if token.type not in skip and token.string:
                found.append(token.string)
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return cell.source.split()
    return found


def shingles(cell) -> set[tuple[str, ...]]:
    """Runs of :data:`LENGTH` tokens that hold a name or a number."""
    row = tokens(cell)
    runs = {tuple(row[i : i + LENGTH]) for i in range(max(1, len(row) - LENGTH + 1))}
    return {r for r in runs if any(word[:1].isalnum() and not keyword.iskeyword(word) for word in r)}


def report(course: Path, assignment: str) -> list[Pair]:
    """Pairs of students, the most alike first."""
    original = nbformat.read(released(course, assignment), as_version=4)
    given = set().union(*(shingles(c) for c in original.cells))
    wanted = {grade_id(c) for c in original.cells if grade_id(c) and is_solution(c)}
    work: dict[str, dict[str, set]] = {}
    for path in sorted((course / "submitted").glob(f"*/{assignment}/{assignment}.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        cells = {grade_id(c): c for c in notebook.cells if grade_id(c) in wanted}
        work[path.parent.parent.name] = {name: shingles(cell) - given for name, cell in cells.items()}
    owners = defaultdict(set)
    for student, cells in work.items():
        for name, found in cells.items():
            for shingle in found:
                owners[name, shingle].add(student)
    most = max(3, COMMON * len(work))
    pairs = defaultdict(lambda: defaultdict(int))
    for (name, _), students in owners.items():
        if 1 < len(students) <= most:
            for first, second in combinations(sorted(students), 2):
                pairs[first, second][name] += 1
    sizes = defaultdict(int)
    for students in owners.values():
        for student in students if len(students) <= most else ():
            sizes[student] += 1
    table = [
        Pair(a, b, sum(cells.values()), sum(cells.values()) / max(1, min(sizes[a], sizes[b])), dict(cells))
        for (a, b), cells in pairs.items()
        if sum(cells.values()) >= FEWEST
    ]
    return sorted(table, key=lambda p: (-p.share, -p.shared, p.first))
