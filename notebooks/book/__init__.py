"""The web book: ``python -m notebooks.book`` builds the chapters and the pages of reference into ``build/book``.

Nothing is executed: the chapters' stored outputs are shown. Nothing of a page comes from elsewhere: formulas are set by
a copy of MathJax that is fetched once, from npm, and laid beside the pages.

copies      copies of the notebooks in which a panel's sliders move through recorded pictures
recorder    runs in a chapter's kernel and draws those pictures; ``python -m notebooks.book --frames``
reference   pages generated from data/results, data/checkpoints, chapter 00's index
interfaces  pages of the interfaces of helpers, from their docstrings
cards       a model card for each checkpoint
tables      tables of Markdown from recorded results
readme      the README's tables and picture; ``python -m notebooks.book.readme``
vendor      MathJax from npm
printing    the whole book as a PDF
first_cell  the cell with which a chapter starts on Colab and Kaggle, and the buttons that lead there
host        what that cell does, once the course is there
conf        Sphinx's settings
"""

import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build"


class BookError(RuntimeError):
    """The book cannot be built; the message says why and what to do."""


def settings() -> dict[str, str]:
    """What ``pyproject.toml`` says of the course: ``repository`` (an address, or ""), ``tag`` and ``version``."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    course, version = pyproject.get("tool", {}).get("course", {}), pyproject["project"]["version"]
    repository = str(course.get("repository", "")).rstrip("/").removesuffix(".git")
    return {"repository": repository, "tag": str(course.get("tag") or f"v{version}"), "version": version}


def chapters() -> list[Path]:
    """The chapters' notebooks, in order. The coursework's, which hold solutions, are never among them."""
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
