"""Copies of the chapters for the book: their text and stored outputs, with sliders that need no kernel.

A notebook stores of a widget only that there was one. Where the recorder has drawn a panel's pictures, the copy holds
sliders that move through them (``static/panels.js``); where it has not, a sentence says what stands in the notebook.
"""

import html
import json
import re
import shutil
from pathlib import Path

import nbformat

from notebooks.book import ROOT, chapters
from notebooks.book.first_cell import MARK, links

DATA_PAGES = {"README.md": "data_sheet", "results/benchmarks.md": "speed"}  # below data/ -> page of reference
WIDGET = "application/vnd.jupyter.widget-view+json"


def copy_chapters(sources: Path, recorded: Path, repository: str, tag: str) -> list[str]:
    """Write all chapters into ``sources``, and the recorded pictures that they show below its ``_static``.

    Parameters
    ----------
    recorded : what ``notebooks.book.recorder`` has made: a folder for each chapter with ``panels.json`` and pictures
    repository, tag : where the buttons of the hosts lead; no buttons where ``repository`` is ""

    Returns
    -------
    the names of the chapters, in order
    """
    for path in chapters():
        notebook = nbformat.read(path, as_version=4)
        panels = _recorded(recorded / path.stem)
        notebook.cells = [cell for cell in notebook.cells if not cell.source.startswith(MARK)]  # for Colab and Kaggle
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = leading(cell.source)
            if cell.cell_type != "code":
                continue
            shown = [output for output in cell.outputs if WIDGET in output.get("data", {})]
            for number, output in enumerate(shown):
                panel = panels.get(f"{cell.id}/{number}")
                words = output["data"].get("text/plain", "")
                output["data"] = nbformat.from_dict(
                    {"text/html": live(panel, path.stem) if panel else still(words), "text/plain": words}
                )
        if panels:
            pictures = sources / "_static" / "panels" / path.stem
            shutil.copytree(recorded / path.stem, pictures, ignore=shutil.ignore_patterns("*.json"), dirs_exist_ok=True)
        if repository:
            title, _, rest = notebook.cells[0].source.partition("\n")
            notebook.cells[0].source = f"{title}\n\n{links(path.name, repository, tag)}\n{rest}"
        nbformat.write(notebook, sources / path.name)
    shutil.copytree(ROOT / "notebooks" / "pictures", sources / "pictures", dirs_exist_ok=True)
    return [path.stem for path in chapters()]


def leading(text: str) -> str:
    """A chapter's text whose links to sources and data lead to the book's pages; places in the same chapter are named.

    A notebook links to files that lie beside it; the book has the docstrings of a module on its package's page.
    """

    def page(found: re.Match) -> str:
        package = ".".join(("helpers", *Path(found[1]).parts[:-1]))
        return f"](reference/api/{package}.md)"

    def heading(found: re.Match) -> str:
        """JupyterLab's anchor is a heading with hyphens for blanks; the book's has small letters, no punctuation."""
        return f"]({found[1]}#{re.sub(r'[^-a-z0-9_]', '', found[2].lower())})"

    text = re.sub(r"\]\(\.\./helpers/([\w/]+)\.py\)", page, text)
    text = re.sub(r"\]\((\d\d_\w+\.ipynb)#([^)]*)\)", heading, text)
    for file, name in DATA_PAGES.items():
        text = text.replace(f"](../data/{file})", f"](reference/{name}.md)")
    text = re.sub(r'href="(\d\d_\w+)\.ipynb', r'href="\1.html', text)  # what is written as HTML stays as it is
    return re.sub(r"\[([^\]]+)\]\(#[^)]*\)", r"\1", text)


def live(panel: dict, chapter: str) -> str:
    """The HTML of a panel whose pictures are recorded."""
    folder = f"_static/panels/{chapter}/"
    if panel["kind"] == "panes":
        data = html.escape(json.dumps(panel["panes"]), quote=True)
        return f'<div class="course-panes" data-panes="{data}"></div>'
    data = html.escape(json.dumps(panel["controls"]), quote=True)
    return (
        f'<div class="course-panel" data-folder="{folder}" data-controls="{data}">'
        f'<img src="{folder}{panel["start"]}" alt="the picture that the sliders draw"></div>'
    )


def still(words: str) -> str:
    """What stands in place of a panel that was not recorded: its controls by name."""
    found = re.match(r"(\w+)\((.*)\)", words)
    names = re.findall(r"(\w+)=", found[2]) if found else []
    if words.startswith("Panel()"):
        return "<p class='course-still'>This picture is drawn anew while the notebook runs.</p>"
    what = f"A panel with the controls {', '.join(names)}" if names else "Controls"
    return f"<p class='course-still'>{html.escape(what)} can be moved here when the notebook runs.</p>"


def _recorded(folder: Path) -> dict[str, dict]:
    """cell/number -> panel, of one chapter; {} if it was not recorded."""
    path = folder / "panels.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
