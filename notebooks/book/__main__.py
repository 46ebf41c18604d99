"""Build the web book: ``python -m notebooks.book``, then open ``build/book/index.html``.

Chapters are shown with their stored outputs, nothing is executed. ``--frames`` runs chapters first, once, to record
what their sliders show; later builds use what was recorded. ``--pdf`` prints the whole book into ``build/book.pdf``.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from notebooks.book import BUILD, HERE, ROOT, BookError, chapters, settings


def assemble(sources: Path, recorded: Path, vendored: Path, repository: str, tag: str) -> None:
    """Lay all sources of the book into the folder ``sources``: pages, chapters, generated pages, static files."""
    from notebooks.book.copies import copy_chapters
    from notebooks.book.reference import write_pages
    from notebooks.book.vendor import mathjax

    shutil.rmtree(sources, ignore_errors=True)
    shutil.copytree(HERE / "pages", sources)
    static = sources / "_static"
    shutil.copytree(HERE / "static", static)
    shutil.copytree(mathjax(vendored), static / "mathjax")
    inspector = ROOT / "helpers" / "inspector"
    widget = (inspector / "panes.js").read_text(encoding="utf-8")
    if "export default { render };" not in widget:
        raise BookError("helpers/inspector/panes.js no longer ends with its export; notebooks.book has to follow it")
    # A classic script works where a page is opened as a file; a module does not.
    widget = f"(() => {{\n{widget.replace('export default { render };', 'window.coursePanes = { render };')}}})();\n"
    (static / "panes.js").write_text(widget, encoding="utf-8")
    shutil.copy(inspector / "panes.css", static)
    names = copy_chapters(sources, recorded, repository, tag)
    index = (sources / "index.md").read_text(encoding="utf-8")
    (sources / "index.md").write_text(index.replace("@chapters@", "\n".join(names)), encoding="utf-8")
    write_pages(sources)


def build(out: Path, sources: Path, builder: str = "html") -> None:
    """Have Sphinx make the book of the assembled ``sources``; a warning is an error.

    Raises
    ------
    BookError
        if Sphinx is not installed, or not content
    """
    try:
        from sphinx.cmd.build import build_main
    except ImportError:
        raise BookError('Sphinx is not installed; pip install -e ".[book]"') from None
    shutil.rmtree(out, ignore_errors=True)
    trees = sources.with_name(sources.name + "-trees")
    command = [
        "-b",
        builder,
        "-W",
        "--keep-going",
        "-q",
        "-E",
        "-d",
        str(trees),
        "-c",
        str(HERE),
        str(sources),
        str(out),
    ]
    if build_main(command):
        raise BookError("Sphinx found something to complain about; its lines stand above")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m notebooks.book", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=BUILD / "book", help="where the pages go (build/book)")
    parser.add_argument(
        "--frames", nargs="*", metavar="CHAPTER", help="record panels first, of all chapters or of these (05 07)"
    )
    parser.add_argument("--most", type=int, default=12, help="pictures a panel when recording (12)")
    parser.add_argument(
        "--repository", help="an address in place of pyproject's [tool.course] repository; for the buttons"
    )
    parser.add_argument(
        "--pdf", action="store_true", help="print the book into build/book.pdf as well (needs Chromium)"
    )
    args = parser.parse_args(argv)
    now, recorded = settings(), BUILD / "book-panels"
    repository = now["repository"] if args.repository is None else args.repository
    try:
        if args.frames is not None:
            _record(recorded, args.frames, args.most)
        started = time.monotonic()
        sources = BUILD / "book-sources"
        assemble(sources, recorded, BUILD / "vendor", repository, now["tag"])
        build(args.out.resolve(), sources)
        if args.pdf:
            from notebooks.book.printing import print_book

            build(BUILD / "book-single", sources, "singlehtml")
            print_book(BUILD / "book-single" / "index.html", BUILD / "book.pdf")
    except BookError as error:
        raise SystemExit(f"error: {error}") from None
    size = sum(p.stat().st_size for p in args.out.rglob("*") if p.is_file())
    print(f"{args.out}: {size / 1e6:.1f} MB in {time.monotonic() - started:.0f} s; open index.html")


def _record(out: Path, wanted: list[str], most: int) -> None:
    """Record the panels of all chapters, or of those whose numbers are wanted."""
    from notebooks.book.recorder import record

    for path in chapters():
        if not wanted or path.stem[:2] in wanted:
            started = time.monotonic()
            panels = record(path, out, most)
            files = list((out / path.stem).glob("*.webp"))
            size = f"{sum(f.stat().st_size for f in files) / 1e3:.0f} kB, {time.monotonic() - started:.0f} s"
            print(
                f"{path.stem}: {len(panels)} panels, {len(files)} pictures, {size}",
                flush=True,
            )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.path.insert(0, str(ROOT))
    main()
