"""What arrives: whose it is, and whether nbgrader can grade it.

nbgrader is at a loss with a renamed file, a deleted or doubled graded cell, or metadata that another editor dropped: it
skips the notebook, refuses all of it, or gives no points without a word. :func:`repair` puts such a notebook into the
form in which it was released, and says what it found.
"""

import json
import re
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat.notebooknode import from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell
from nbgrader.utils import is_solution

LARGEST = 50 * 2**20  # bytes of a notebook


class Candidate(NamedTuple):
    """A file that may be the submission: its name, what it holds, and when that was last changed, if known."""

    name: str
    data: bytes
    time: datetime | None


class Unreadable(ValueError):
    """A file that is no notebook, or none of this assignment; the message says which."""


def names(source: str) -> set[str]:
    """Functions, classes and variables that a cell defines at its top level, also in a cell that does not parse."""
    return set(re.findall(r"^(?:def|class)\s+(\w+)", source, re.M)) or set(re.findall(r"^(\w+)\s*=[^=]", source, re.M))


def grade_id(cell) -> str | None:
    """The name that nbgrader knows the cell by."""
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def read(path: Path):
    """A notebook of any age, see :func:`parse`."""
    return parse(path.name, path.read_bytes())


def parse(name: str, data: bytes):
    """A notebook of any age, from the bytes of a file that may have passed through other editors and systems.

    Raises
    ------
    Unreadable
        if it is none, whatever it is
    """
    if len(data) > LARGEST:
        raise Unreadable(f"{name} has more than {LARGEST >> 20} MB")
    try:
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        content = json.loads(data.decode(encoding))
        if content["nbformat"] != 4:
            content = nbformat.reads(json.dumps(content), as_version=4)
        notebook = new_notebook(cells=[_plain(cell) for cell in content["cells"]])
        if isinstance(content.get("metadata"), dict):
            notebook.metadata = from_dict(content["metadata"])
        return notebook
    except RecursionError:
        raise Unreadable(f"{name} is no notebook (too deeply nested)") from None
    except Exception as error:
        raise Unreadable(f"{name} is no notebook ({type(error).__name__})") from None


def _plain(cell):
    """What counts of a cell: its text, nbgrader's name for it, pictures that were pasted into it.

    Other editors and damaged files leave properties that nbgrader refuses; outputs are made anew.
    """
    kind, source, metadata = cell["cell_type"], cell["source"], cell.get("metadata")
    source = source if isinstance(source, str) else "".join(source)
    made = {"code": new_code_cell, "markdown": new_markdown_cell, "raw": new_raw_cell}[kind]("")
    made.source = source.replace("\r\n", "\n").replace("\r", "\n")
    known = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    if isinstance(known, dict) and isinstance(known.get("grade_id"), str):
        made.metadata["nbgrader"] = from_dict(known)
    pasted = cell.get("attachments")
    if kind == "markdown" and isinstance(pasted, dict):
        made["attachments"] = {
            name: {mime: data for mime, data in picture.items() if isinstance(data, str)}
            for name, picture in pasted.items()
            if isinstance(picture, dict)
        }
    return made


def text_of(cell) -> str:
    """A cell's text as it is compared: ends of lines and empty lines around it do not count."""
    return "\n".join(line.rstrip() for line in cell.source.strip().splitlines())


def likeness(notebook, released) -> int:
    """How many cells of the release are there, by name or by their text."""
    ids, texts = {grade_id(c) for c in notebook.cells} - {None}, {text_of(c) for c in notebook.cells}
    return sum(grade_id(c) in ids or text_of(c) in texts for c in released.cells if c.source.strip())


def answered(notebook, released) -> int:
    """How many cells of an exercise hold something that the release does not."""
    texts = {text_of(c) for c in notebook.cells}
    return sum(is_solution(c) and text_of(c) not in texts for c in released.cells)


def choose(candidates: list[Candidate], released, name: str) -> tuple[Candidate, object, list[str]]:
    """The notebook to grade among those of a student: of those of this assignment with an answer, the newest.

    Where times are equal or unknown, the higher number in a name such as ``X (2).ipynb`` or ``X-Copy1.ipynb`` counts,
    then the name as released. What was left aside is said.
    """
    found, unreadable = [], []
    for candidate in sorted(candidates):
        try:
            found.append((candidate, parse(candidate.name, candidate.data)))
        except Unreadable as error:
            unreadable.append(str(error))
    ours = [(c, notebook) for c, notebook in found if likeness(notebook, released) >= 3]
    if not ours:
        raise Unreadable("; ".join(unreadable) or "no notebook of this assignment was handed in")

    def rank(pair):
        candidate, notebook = pair
        when = candidate.time or datetime.min.replace(tzinfo=UTC)
        return answered(notebook, released) > 0, when, _copy(candidate.name), candidate.name == name

    ours.sort(key=rank)
    best, notebook = ours[-1]
    others = [c for c, _ in found if c is not best]
    notes = list(unreadable)
    if others:
        when = best.time.astimezone().strftime(" of %Y-%m-%d %H:%M:%S") if best.time else ""
        rivals = [c for c, _ in ours[:-1]]
        how = "taken as the newest" if rivals and all(c.time != best.time for c in rivals) else "taken by its name"
        notes.append(f"{best.name}{when} {how if rivals else 'taken'}, left aside: {', '.join(c.name for c in others)}")
    if best.name != name:
        notes.append(f"{best.name} taken for {name}")
    return best, notebook, notes


def _copy(name: str) -> int:
    """The number that a browser or Jupyter gives a further copy of a file; 0 for the first."""
    found = re.search(r"(?: ?\((\d+)\)|-Copy(\d+)| \w+ (\d+))\.\w+$", name)
    return int(next(filter(None, found.groups()))) if found else 0


def repair(notebook, released) -> tuple[object, list[str]]:
    """The submission with every graded cell of the release exactly once, and what had to be done for it.

    Cells are known by nbgrader's name. Where that is lost, a test is known by its text, a solution by what it defines
    or, like a written answer, by the question above it. The student's own cells stay where they are.
    """
    notebook, notes = deepcopy(notebook), []
    cells, place = notebook.cells, {}
    wanted = {grade_id(c): c for c in released.cells if grade_id(c)}
    for name, original in wanted.items():
        here = [i for i, cell in enumerate(cells) if grade_id(cell) == name]
        if len(here) > 1:
            notes.append(f"{name} was there {len(here)} times; the last one with an answer counts")
            here = [i for i in here if text_of(cells[i]) != text_of(original)] or here
        if not here and (match := _match(name, released, cells, wanted)) is not None:
            notes.append(f"{name} had lost its metadata")
            here = [match]
        if here:
            place[name] = here[-1]
    for cell in cells:
        for key in ("nbgrader", "deletable", "editable"):
            cell.metadata.pop(key, None)
    for name, i in place.items():
        original = wanted[name]
        if text_of(cells[i]) != text_of(original) and not is_solution(original):
            notes.append(f"{name} was changed and is as released again")
            cells[i].source = original.source
        if cells[i].cell_type != original.cell_type:
            notes.append(f"{name} was turned into a {cells[i].cell_type} cell and back")
            answer, cells[i] = cells[i].source, deepcopy(original)
            cells[i].source = answer
        cells[i].metadata.update(deepcopy(original.metadata))
    if list(place.values()) != sorted(place.values()):
        notes.append("graded cells stand in another order than released")
    before = None
    for name, original in wanted.items():  # in the order of the release, so the one before is there by now
        if name not in place:
            notes.append(f"{name} was deleted and is back as released")
            ids = [grade_id(cell) for cell in cells]
            cells.insert(ids.index(before) + 1 if before else 0, deepcopy(original))
        before = name
    for number, cell in enumerate(cells):
        if "id" in cell:
            cell["id"] = f"cell-{number}"  # a copied cell keeps its id, which Jupyter does not allow
    notebook.metadata = deepcopy(released.metadata)
    return notebook, notes


def _match(name: str, released, cells, wanted) -> int | None:
    """The cell without nbgrader's name that is ``name`` of the release, if there is one."""
    position = next(i for i, c in enumerate(released.cells) if grade_id(c) == name)
    original, above = released.cells[position], text_of(released.cells[position - 1])
    free = [i for i, cell in enumerate(cells) if grade_id(cell) not in wanted]
    same = [i for i in free if text_of(cells[i]) == text_of(original)]
    if not is_solution(original):
        return same[0] if same else None
    free = [i for i in free if cells[i].cell_type == original.cell_type]
    wants = names(original.source) if original.cell_type == "code" else set()
    if wants:
        alike = [i for i in free if wants <= names(cells[i].source)]
    else:
        alike = [i for i in free if i and text_of(cells[i - 1]) == above]
    return (alike or same or [None])[-1]


def prepare(candidates: list[Candidate], released_path: Path) -> tuple[str, Candidate, list[str]]:
    """The notebook of a student's that nbgrader can grade, as text; the file it came from; what was found, in words.

    Raises
    ------
    Unreadable
        if there is no notebook of this assignment among the files
    """
    released = read(released_path)
    chosen, notebook, notes = choose(candidates, released, released_path.name)
    notebook, found = repair(notebook, released)
    return nbformat.writes(notebook), chosen, notes + found
