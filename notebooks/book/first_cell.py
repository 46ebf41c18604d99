"""The cell with which a chapter starts on Colab and Kaggle, and the links that open it on four hosts.

::

    python -m notebooks.book.first_cell              # into the chapters themselves, again after each change
    python -m notebooks.book.first_cell --out FOLDER # into copies

The repository's address is the setting ``repository`` of ``[tool.course]`` in ``pyproject.toml``; so a fork has its own
after one command. Where it is empty the cell asks the reader for it, and there are no links to hosts.
"""

import argparse
from pathlib import Path
from urllib.parse import quote, urlsplit

import nbformat

from notebooks.book import BookError, chapters, settings

MARK = "# Colab and Kaggle: "
NAME = "course"  # the folder of the clone
CELL = """\
# Colab and Kaggle: fetch the course and what is missing there. Anywhere else this cell does nothing.
import os
import subprocess
import sys

REPOSITORY, TAG = "{repository}", "{tag}"
if ("google.colab" in sys.modules or "KAGGLE_KERNEL_RUN_TYPE" in os.environ) and not os.path.isdir("../helpers"):
    if not os.path.isdir("{name}"):
        assert REPOSITORY, "Write the address of the course's repository into this cell."
        clone = ["git", "-c", "advice.detachedHead=false", "clone", "-q", "--depth=1"]
        subprocess.run([*clone, f"--branch={{TAG}}", REPOSITORY, "{name}"], check=True)
    sys.path.insert(0, os.path.abspath("{name}"))
    from notebooks.book.host import prepare

    prepare()
"""


def cell(repository: str, tag: str) -> str:
    """The source of the first cell, for the course at this address ("" if it has none yet) and tag.

    Raises
    ------
    BookError
        if there is no tag, or if one of them holds what would break out of the cell
    """
    for value in (repository, tag or "-"):
        if any(c in value for c in "\"'\\\n{}") or value.startswith("-"):
            raise BookError(f"{value!r} cannot be used as a repository's address or tag")
    return CELL.format(name=NAME, repository=repository, tag=tag).rstrip("\n")


def stamp(notebook, repository: str, tag: str):
    """Put the cell behind the title of a chapter, in place of one that is there. Doing it again changes nothing.

    Returns
    -------
    the same notebook
    """
    notebook.cells = [c for c in notebook.cells if not c.source.startswith(MARK)]
    notebook.cells.insert(1, nbformat.v4.new_code_cell(cell(repository, tag), id="first-cell"))
    for count, code in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        if code.execution_count is not None or code.source.startswith(MARK):
            code.execution_count = count  # a chapter's cells are numbered from top to bottom
            for output in code.outputs:
                if "execution_count" in output:
                    output.execution_count = count
    return notebook


def links(name: str, repository: str, tag: str) -> str:
    """A line of Markdown that opens the chapter ``name`` on Colab, Kaggle, Binder and Codespaces; "" without GitHub.

    The four hosts open notebooks of public repositories on GitHub.
    """
    where = urlsplit(repository)
    if where.netloc.lower() != "github.com" or where.path.strip("/").count("/") != 1:
        return ""
    owner, path = where.path.strip("/"), quote(f"notebooks/{name}")
    hosts = {
        "Colab": f"https://colab.research.google.com/github/{owner}/blob/{tag}/{path}",
        "Kaggle": f"https://kaggle.com/kernels/welcome?src=https://github.com/{owner}/blob/{tag}/{path}",
        "Binder": f"https://mybinder.org/v2/gh/{owner}/{tag}?labpath={quote(f'notebooks/{name}', safe='')}",
        "Codespaces": f"https://codespaces.new/{owner}/tree/{tag}",
    }
    return "Open this chapter on " + " · ".join(f"[{host}]({address})" for host, address in hosts.items())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m notebooks.book.first_cell", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, help="write copies there; by default the chapters themselves are changed")
    parser.add_argument("--repository", help="an address in place of the setting's")
    parser.add_argument("--tag", help="a tag or branch in place of v and the course's version")
    args = parser.parse_args(argv)
    now = settings()
    repository = now["repository"] if args.repository is None else args.repository
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    for path in chapters():
        try:
            notebook = stamp(nbformat.read(path, as_version=4), repository, args.tag or now["tag"])
        except BookError as error:
            raise SystemExit(f"error: {error}") from None
        nbformat.write(notebook, args.out / path.name if args.out else path)
    print(
        f"{len(chapters())} chapters start from {repository or 'an address that the reader writes into the first cell'}"
    )


if __name__ == "__main__":
    main()
