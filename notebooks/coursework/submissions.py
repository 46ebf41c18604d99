"""What arrives: whose it is, and whether nbgrader can grade it.

nbgrader is at a loss with a renamed file, a deleted or doubled graded cell, or metadata that another editor dropped: it
skips the notebook, refuses all of it, or gives no points without a word. :func:`repair` puts such a notebook into the
form in which it was released, and says what it found.
"""

import re
from copy import deepcopy
from pathlib import Path

import nbformat
from nbgrader.plugins.zipcollect import FileNameCollectorPlugin
from nbgrader.utils import is_solution


class ByStudent(FileNameCollectorPlugin):
    """The student's name is the folder, the archive, or the file name up to the first underscore.

    ``ada/assignment1.ipynb``, ``ada.zip``, ``ada.ipynb`` and ``ada_assignment1.ipynb`` are all Ada's.
    """

    def collect(self, submitted_file: str) -> dict | None:
        path = Path(submitted_file)
        if path.suffix not in self.valid_ext or any(p in (".ipynb_checkpoints", "__MACOSX") for p in path.parts):
            return None
        parts = path.parts[len(path.parts) - path.parts[::-1].index("extracted") :]
        student = re.split(r"[_.]", parts[0])[0] if len(parts) == 1 else parts[0].split("_")[0]
        # One name may occur in two of a student's folders; nbgrader would stop at that.
        return {"student_id": student, "file_id": "-".join(parts[1:] or parts).replace(" ", "_")}


class Unreadable(ValueError):
    """A file that is no notebook, or none of this assignment; the message says which."""


def names(source: str) -> set[str]:
    """Functions, classes and variables that a cell defines at its top level, also in a cell that does not parse."""
    return set(re.findall(r"^(?:def|class)\s+(\w+)", source, re.M)) or set(re.findall(r"^(\w+)\s*=[^=]", source, re.M))


def grade_id(cell) -> str | None:
    """The name that nbgrader knows the cell by."""
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def read(path: Path):
    """A notebook of any age."""
    try:
        notebook = nbformat.read(path, as_version=4)
        assert all(isinstance(c.source, str) and c.cell_type in ("code", "markdown", "raw") for c in notebook.cells)
        return notebook
    except Exception as error:
        raise Unreadable(f"{path.name} is no notebook ({type(error).__name__})") from None


def likeness(notebook, released) -> int:
    """How many cells of the release are there, by name or by their text."""
    ids, texts = {grade_id(c) for c in notebook.cells} - {None}, {c.source.strip() for c in notebook.cells}
    return sum(grade_id(c) in ids or c.source.strip() in texts for c in released.cells if c.source.strip())


def choose(folder: Path, released, name: str) -> tuple[Path, object, list[str]]:
    """The notebook to grade among those of a student: the one most like the release, then the one of the right name."""
    found, unreadable = [], []
    for path in sorted(folder.glob("*.ipynb")):
        try:
            found.append((path, read(path)))
        except Unreadable as error:
            unreadable.append(str(error))
    scored = [(likeness(notebook, released), path.name == name, path, notebook) for path, notebook in found]
    scored = [s for s in scored if s[0] >= 3]
    if not scored:
        raise Unreadable("; ".join(unreadable) or "no notebook of this assignment was handed in")
    scored.sort(key=lambda s: s[:2])
    best = scored[-1]
    notes = [*unreadable, *(f"{p.name} left aside" for p, _ in found if p != best[2])]
    if best[2].name != name:
        notes.append(f"{best[2].name} taken for {name}")
    return best[2], best[3], notes


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
            here = [i for i in here if cells[i].source.strip() != original.source.strip()] or here
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
        if cells[i].source.strip() != original.source.strip() and not is_solution(original):
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
    notebook.metadata["kernelspec"] = deepcopy(released.metadata["kernelspec"])
    return notebook, notes


def _match(name: str, released, cells, wanted) -> int | None:
    """The cell without nbgrader's name that is ``name`` of the release, if there is one."""
    position = next(i for i, c in enumerate(released.cells) if grade_id(c) == name)
    original, above = released.cells[position], released.cells[position - 1].source.strip()
    free = [i for i, cell in enumerate(cells) if grade_id(cell) not in wanted]
    same = [i for i in free if cells[i].source.strip() == original.source.strip()]
    if not is_solution(original):
        return same[0] if same else None
    free = [i for i in free if cells[i].cell_type == original.cell_type]
    wants = names(original.source) if original.cell_type == "code" else set()
    if wants:
        alike = [i for i in free if wants <= names(cells[i].source)]
    else:
        alike = [i for i in free if i and cells[i - 1].source.strip() == above]
    return (alike or same or [None])[-1]


def prepare(folder: Path, released_path: Path) -> list[str]:
    """Leave one notebook that nbgrader can grade in a student's folder; what was found, in words.

    Raises
    ------
    Unreadable
        if there is no notebook of this assignment in the folder
    """
    released = read(released_path)
    path, notebook, notes = choose(folder, released, released_path.name)
    notebook, found = repair(notebook, released)
    for other in folder.glob("*.ipynb"):
        other.unlink()
    nbformat.write(notebook, folder / released_path.name)
    return notes + found
