"""notebooks.book: the web book is built once, looked through, and read in a browser.

Skipped where Sphinx is absent (``pip install -e ".[book]"``), never where ``CI`` is set. Screenshots go to the folder
that ``COURSE_SCREENSHOTS`` names; look at them.
"""

import functools
import html
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

from helpers import figures
from helpers.degrade import MATRIX
from helpers.experiments.results import shipped_results
from helpers.panels import Panel, choice, slider
from notebooks.book import BUILD, BookError, chapters, copies, interfaces, readme, recorder, tables, vendor
from notebooks.book.__main__ import assemble, build
from notebooks.book.docstrings import escaped, restructured
from tests.conftest import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SPHINX = all(importlib.util.find_spec(name) for name in ("sphinx", "myst_nb", "sphinx_book_theme"))
PATIENCE = 1000 * int(os.environ.get("COURSE_PATIENCE", "240"))
PAGES = (
    "index",
    "coursework",
    "own_data",
    "glossary",
    *(f"reference/{n}" for n in ("photographs", "field", "citing", "licences")),
)
REFERENCE = ("equations", "results", "speed", "model_cards", "data_sheet", "changelog", "contributing", "api/index")
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of the theme, for a Sphinx to come


def missing(reason: str):
    """Skip; where CI is set, fail."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


# ---------------------------------------------------------------------------------------------------------------------
# The parts


def draw(count, kind="line"):
    if count >= 9:
        raise ValueError("nine is too many")
    figure, axes = figures.new(size=(3, 1.5))
    (axes.plot if kind == "line" else axes.bar)(range(count), range(count))
    return figure


def a_panel() -> Panel:
    return Panel(draw, count=slider("how many", 1, 9, 3), kind=choice("what", ["line", "bar"]))


def test_a_panel_is_recorded_within_its_bound(tmp_path):
    """Each control through some values while the other stands at its start; equal pictures are one file."""
    panel = recorder.pictures_of(a_panel(), tmp_path, most=8)
    count, kind = panel["controls"]
    assert count["values"] == ["1", "3", "4", "6", "9"] and count["values"][count["start"]] == "3"
    assert count["files"][-1] == "says: nine is too many" and count["files"][count["start"]] == panel["start"]
    assert (kind["kind"], kind["values"], kind["files"][0]) == ("choice", ["line", "bar"], panel["start"])
    drawn = {f for c in panel["controls"] for f in c["files"] if not f.startswith("says: ")}
    assert drawn == {p.name for p in tmp_path.iterdir()} and len(drawn) == 5


@pytest.mark.parametrize(
    ("count", "most", "start", "expected"),
    [(3, 5, 1, [0, 1, 2]), (10, 4, 0, [0, 3, 6, 9]), (10, 2, 5, [0, 5, 9]), (1, 2, 0, [0])],
)
def test_values_are_spread(count, most, start, expected):
    assert recorder.spread(count, most, start) == expected


def test_possible_values():
    assert recorder.possible(slider("s", 0, 4, 1, step=2)) == ([0, 1, 2, 4], ["0", "1", "2", "4"])
    values, labels = recorder.possible(slider("s", 0.0, 1.0, 0.5, step=0.25))
    assert values == [0, 0.25, 0.5, 0.75, 1] and labels[1] == "0.25"


def test_slow_panels_are_cut_short(tmp_path, monkeypatch):
    """When the time is over, the start is left."""
    monkeypatch.setattr(recorder, "PATIENCE", -1.0)
    panel = recorder.pictures_of(a_panel(), tmp_path)
    assert [c["files"] for c in panel["controls"]] == [[panel["start"]], [panel["start"]]]


def test_a_chapter_is_recorded_in_its_kernel(tmp_path):
    """Up to its last panel; the cell after it would fail."""
    cells = [
        "from helpers import figures, panels",
        "def draw(n):\n    figure, axes = figures.new(size=(2, 1))\n    axes.plot(range(n))\n    return figure",
        'panel = panels.Panel(draw, n=panels.slider("n", 1, 3, 2))',
        "panel",
        "raise RuntimeError('never run')",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbformat.write(notebook, tmp_path / "99_small.ipynb")
    panels = recorder.record(tmp_path / "99_small.ipynb", tmp_path / "out")
    ((key, panel),) = panels.items()
    assert key == f"{notebook.cells[3].id}/0" and panel["controls"][0]["values"] == ["1", "2", "3"]
    assert json.loads((tmp_path / "out" / "99_small" / "panels.json").read_text(encoding="utf-8")) == panels
    assert len(list((tmp_path / "out" / "99_small").glob("*.webp"))) == 3


def test_without_pictures_a_sentence_names_the_controls():
    assert "controls face, sigma can be moved" in copies.still("Panel(face=0, sigma=6.0) - run the notebook to move it")


def test_docstrings_are_text():
    """Stars, bars and underscores are themselves; sections become lists; what is aligned stays aligned."""
    assert escaped("|x| * w_ and :func:`~a.b` and ``c*d``") == r"\|x\| \* w\_ and ``a.b`` and ``c*d``"
    lines = restructured(
        "What.\n\nParameters\n----------\nx : a picture\n    of two lines\n\na  b\nc  d\n\nThus::\n\n    f(x)"
    )
    assert ".. rubric:: Parameters" in lines and "``x``" in lines and "    of two lines" in lines
    assert lines.count(".. code-block:: none") == 2 and "Thus:" in lines


def test_an_unexpected_package_is_refused(tmp_path, monkeypatch):
    def pack(place: Path) -> Path:
        (place / "mathjax.tgz").write_bytes(b"something else")
        return place / "mathjax.tgz"

    monkeypatch.setattr(vendor, "_pack", pack)
    with pytest.raises(BookError, match="not the package"):
        vendor.mathjax(tmp_path)
    assert not (tmp_path / "mathjax").exists()


def test_without_npm_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(vendor.shutil, "which", lambda name: None)
    with pytest.raises(BookError, match="npm is needed once"):
        vendor.mathjax(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# The book


def record_some(folder: Path) -> None:
    """A small panel in place of every chapter's, and a small inspector, as the recorder would have kept them."""
    for path in chapters():
        place = folder / path.stem
        place.mkdir(parents=True)
        small = recorder.pictures_of(a_panel(), place, most=4)
        picture = {"png": figures.png(draw(3)), "note": ""}
        panes = recorder.panes_of([{"title": name} | picture for name in ("blurred", "restored")])
        kept = {}
        for cell in nbformat.read(path, as_version=4).cells:
            shown = [o for o in cell.get("outputs", []) if copies.WIDGET in o.get("data", {})]
            for number, output in enumerate(shown):
                kept[f"{cell.id}/{number}"] = panes if "Inspector" in output["data"]["text/plain"] else small
        (place / "panels.json").write_text(json.dumps(kept), encoding="utf-8")


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """The folder of the pages; a warning of Sphinx is an error of this fixture."""
    if not SPHINX:
        missing('Sphinx is not installed; pip install -e ".[book]"')
    if not shutil.which("npm") and not (BUILD / "vendor" / "mathjax").is_dir():
        missing("there is neither npm nor a copy of MathJax in build/vendor")
    place = tmp_path_factory.mktemp("book")
    record_some(place / "recorded")
    try:
        vendor.mathjax(BUILD / "vendor")
    except BookError as error:
        missing(str(error))
    assemble(place / "sources", place / "recorded", BUILD / "vendor", "https://github.com/someone/course", "v1")
    build(place / "html", place / "sources")
    return place / "html"


@pytest.fixture(scope="module")
def pages(book) -> dict[str, str]:
    """Every page's name and text."""
    found = [p for p in sorted(book.rglob("*.html")) if "_static" not in p.parts]  # the theme leaves templates there
    return {p.relative_to(book).as_posix(): p.read_text(encoding="utf-8") for p in found}


def test_everything_is_there(pages):
    wanted = [*(p.stem for p in chapters()), *PAGES, *(f"reference/{name}" for name in REFERENCE)]
    wanted += [f"reference/api/{name}" for name in {interfaces.package_of(name) for name in interfaces.modules()}]
    assert [name for name in wanted if f"{name}.html" not in pages] == []
    assert all("<h1>" in pages[f"{name}.html"] for name in wanted)


def test_no_warning_of_a_broken_formula_or_role(pages):
    """What Sphinx marks as a problem in the text itself."""
    assert [name for name, text in pages.items() if "system-message" in text or 'class="problematic"' in text] == []


def test_nothing_is_fetched_from_elsewhere(book, pages):
    """Scripts, styles, fonts and pictures; links that a reader follows may lead away."""
    found = []
    for name, text in pages.items():
        tags = re.findall(r"<(?:script|link|img|source|iframe|video|audio|object|embed)\b[^>]*>", text)
        found += [(name, t) for t in tags if re.search(r"""(?:src|href|data|srcset)\s*=\s*["']?(?:https?:)?//""", t)]
    for sheet in book.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8", errors="replace")
        found += [(sheet.name, u) for u in re.findall(r"url\(\s*[\"']?(?:https?:)?//[^)]*|@import[^;]*//[^;]*", text)]
    assert found == []


def test_links_lead_somewhere(book, pages):
    """Every relative link of every page, chapters' links to each other among them."""
    dead = set()
    for name, text in pages.items():
        body = re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.S)
        for target in re.findall(r'\b(?:href|src)="([^"#?]+)', body):
            target = unquote(html.unescape(target))
            if not re.match(r"[a-z]+:", target) and not (book / name).parent.joinpath(target).exists():
                dead.add((name, target))
    assert dead == set()


def test_chapters_lead_to_pages(pages):
    """No link of a chapter's text leads to a notebook."""
    inner = {name: text for name, text in pages.items() if re.match(r"\d\d_", name)}
    assert [name for name, text in inner.items() if re.search(r'href="(?!https?:)[^"]*\.ipynb"', text)] == []


def test_buttons_of_the_hosts(pages):
    text = html.unescape(pages["05_edge_maps.html"])
    assert "https://colab.research.google.com/github/someone/course/blob/v1/notebooks/05_edge_maps.ipynb" in text
    assert "https://mybinder.org/v2/gh/someone/course/v1?labpath=notebooks%2F05_edge_maps.ipynb" in text


def test_no_solutions(pages):
    """No line of a solution or of a hidden test of the coursework stands on any page."""
    secret = set()
    for path in (ROOT / "notebooks" / "coursework").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            for part in re.findall(r"### BEGIN (?:SOLUTION|HIDDEN TESTS|MARK SCHEME)\n(.*?)### END", cell.source, re.S):
                secret |= {line.strip() for line in part.splitlines() if len(line.strip()) > 30}
    assert len(secret) > 100
    public = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "helpers").rglob("*.py"))
    public += "\n".join(c.source for path in chapters() for c in nbformat.read(path, as_version=4).cells)
    text = "\n".join(html.unescape(re.sub(r"<[^>]+>", "", page)) for page in pages.values())
    assert [line for line in secret if line in text and line not in public] == []


def test_readme_holds_what_was_recorded():
    """Its tables are those that the command writes, and all of it fits on a screen or two."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(readme.TABLES) == {found[2] for found in readme.BLOCK.finditer(text)}
    assert readme.filled(text) == text, "run python -m notebooks.book.readme"
    assert len(text.splitlines()) <= 150
    spoilt = text.replace("| DiffIR | 2", "| DiffIR | 9")
    assert spoilt != text and readme.filled(spoilt) == text
    assert set(tables.read(tables.RESULTS / "chapters.json")["seconds"]) == {p.stem[:2] for p in chapters()}


def test_every_other_number_of_the_readme():
    """What stands outside the tables is a name, a part of a command, or checked here."""
    text = readme.BLOCK.sub("", (ROOT / "README.md").read_text(encoding="utf-8"))
    text = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", text, flags=re.S)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    low, high = re.findall(r"3\.(\d+)", pyproject["project"]["requires-python"])
    assert f"Python 3.{low} to 3.{int(high) - 1} " in text
    minutes = {n for path in chapters() for n in re.findall(r"\b(\d+)\b(?= (?:to|min))", opening(path, "Time"))}
    said = re.search(r"A student takes (\d+) to (\d+) minutes for a chapter, (\d+) for the first", text)
    assert set(said.groups()) <= minutes
    blur = MATRIX["celebablur"]
    assert f"σ from {blur.sigma[0]:g} to {blur.sigma[1]:g}" in text
    short = re.search(r"A short course is ([\d, and]+)\.", text)
    assert set(re.findall(r"\d\d", short[1])) <= {p.stem[:2] for p in chapters()}
    taken = tables.read(tables.RESULTS / "pages.json")
    assert taken["pages"] == 10 and taken["kernels left"] == 0 and taken["a photograph stays with its page"]
    memory = f"Ten pages take {taken['memory of all kernels (GB)']} GB"
    assert memory in text
    known = rf"3\.{low} to 3\.{int(high) - 1}|{said[0]}|σ from \d to \d|{re.escape(short[0])}|{memory}"
    rest = re.sub(known, "", text)
    assert re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w-])", rest.replace("2025)", "").replace("Table 1", "")) == []


def test_a_page_for_a_class_has_what_was_recorded():
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    taken = tables.read(tables.RESULTS / "pages.json")
    low, high = taken["seconds to the first picture"]
    for said in (
        f"{taken['memory of a kernel (MB)'] / 1000:.2f} GB, all ten {taken['memory of all kernels (GB)']} GB",
        f"{taken['memory of the server (MB)'] / 1000:.2f} GB",
        f"after {low} to {high} s; each needs {taken['processor seconds of a kernel']:.0f} s of a processor",
        f"all had ended {taken['seconds until they had ended']} s later",
    ):
        assert said in text


def opening(path: Path, start: str) -> str:
    """The lines of a chapter's first cell that hold the word ``start``."""
    first = nbformat.read(path, as_version=4).cells[0].source
    return "\n".join(line for line in first.splitlines() if start in line)


def test_results_are_the_recorded_ones(pages):
    """Each method's PSNR and LPIPS, from the JSON into its row of the page."""
    rows = re.findall(r"<tr\b.*?</tr>", pages["reference/results.html"], re.S)
    rows = [
        [html.unescape(re.sub(r"<[^>]+>", "", c)).strip() for c in re.findall(r"<td.*?</td>", r, re.S)] for r in rows
    ]
    for row in tables.read(tables.RESULTS / "comparison.json")["all"].values():
        cells = next(c for c in rows if c and c[0].replace("’", "'") == row["title"])
        assert cells[1].startswith(f"{row['PSNR']:.2f}") and cells[5].startswith(f"{row['LPIPS']:.4f}")


def test_the_experiment_comes_with_its_verdicts(pages):
    """Each hypothesis in its words with its verdict; the exploration has neither intervals nor verdicts."""
    text = html.unescape(re.sub(r"<[^>]+>", "", pages["reference/results.html"])).replace("’", "'")
    experiment, exploration = text.split("Many variants with few seeds", 1)
    results = shipped_results("course")
    for asked in results["hypotheses"]:
        told = experiment[experiment.index(asked["sentence"]) :]
        assert results["effects"][asked["name"]]["verdict"] in told[:400]
    assert "not distinguishable" in experiment and "inside the noise" not in text
    assert " to " not in exploration.split("Ten degradations")[0].split("300 steps")[1]


def test_every_equation_and_checkpoint_has_its_row(pages):
    numbers = re.findall(r"<td><p>(\d+)</p></td>", pages["reference/equations.html"])
    assert sorted(map(int, numbers)) == list(range(1, 48))
    for path in tables.CHECKPOINTS.glob("*.json"):
        assert f"{path.stem}.safetensors" in pages["reference/model_cards.html"]


def test_every_public_function_has_its_place(pages):
    """Each module of helpers and each function that the index of equations names."""
    text = pages["reference/equations.html"]
    assert len(set(re.findall(r'href="api/[\w.]+\.html#(helpers\.[\w.]+)"', text))) > 30
    for name in interfaces.modules():
        assert f'id="module-{name}"' in pages[f"reference/api/{interfaces.package_of(name)}.html"]
    assert 'id="helpers.metrics.psnr"' in pages["reference/api/helpers.html"]


def test_search_index(book):
    text = (book / "searchindex.js").read_text(encoding="utf-8")
    terms = json.loads(text[text.index("{") : text.rindex("}") + 1])["terms"]
    assert "posterior" in terms and "mean" in terms


def test_size(book):
    assert sum(p.stat().st_size for p in book.rglob("*") if p.is_file()) < 40e6


# ---------------------------------------------------------------------------------------------------------------------
# The book in a browser


@pytest.fixture(scope="module")
def address(book):
    """A server of the pages; its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(book)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser(address):
    if not importlib.util.find_spec("playwright"):
        missing("playwright is not installed")
    if not CHROMIUM:
        missing("there is no Chromium (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Reader:
    """A page of the browser, what its console said and what it asked for elsewhere."""

    def __init__(self, browser, address: str, **context):
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 850}} | context)
        self.context.set_default_timeout(PATIENCE)
        self.page, self.address, self.errors, self.remote = self.context.new_page(), address, [], []
        self.page.on("console", lambda m: m.type == "error" and self.errors.append((self.page.url, m.text)))
        self.page.on("pageerror", lambda e: self.errors.append((self.page.url, str(e))))
        self.context.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), self._elsewhere)

    def _elsewhere(self, route):
        self.remote.append(route.request.url)
        route.abort()

    def open(self, name: str):
        self.page.goto(f"{self.address}/{name}")

    def shoot(self, name: str):
        folder = os.environ.get("COURSE_SCREENSHOTS")
        if folder:
            self.page.wait_for_timeout(300)
            self.page.screenshot(path=Path(folder) / f"book_{name}.png")


@pytest.fixture
def reader(browser, address):
    reader = Reader(browser, address)
    yield reader
    reader.context.close()
    assert (reader.errors, reader.remote) == ([], [])


def test_every_page_loads(reader, pages):
    """Without an error in the console, without a request elsewhere, no wider than a phone."""
    reader.page.set_viewport_size({"width": 390, "height": 844})
    wide = []
    for name in pages:
        reader.open(name)
        if reader.page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(name)
    assert wide == []


def test_formulas_are_set(reader):
    reader.open("03_posterior_mean_rectified_flow.html")
    reader.page.wait_for_selector("mjx-container mjx-math", state="attached")
    assert reader.page.evaluate("document.fonts.ready.then(() => [...document.fonts].some(f => f.status === 'loaded'))")
    reader.shoot("formulas")


def test_a_slider_moves_a_picture(reader):
    """With the keyboard; the other control goes back to its start; a setting without sense says so."""
    reader.open("05_edge_maps.html")
    panel = reader.page.locator(".course-panel").first
    picture, ranges, lists = panel.locator("img"), panel.locator("input[type=range]"), panel.locator("select")
    first = picture.get_attribute("src")
    ranges.first.focus()
    reader.page.keyboard.press("ArrowLeft")
    second = picture.get_attribute("src")
    assert second != first and reader.page.evaluate(
        "e => e.decode().then(() => e.naturalWidth)", picture.element_handle()
    )
    reader.shoot("panel")
    lists.first.select_option("1")
    assert picture.get_attribute("src") not in (first, second) and panel.locator("output").first.inner_text() == "3"
    ranges.first.focus()
    reader.page.keyboard.press("End")
    assert "nine is too many" in panel.inner_text()


def test_the_inspector_wipes_and_zooms(reader):
    """The inspector's own script, without a kernel."""
    reader.open("12_inspector.html")
    place = reader.page.locator(".course-panes")
    reader.page.wait_for_function("document.querySelectorAll('.course-panes canvas').length === 2")
    place.get_by_role("button", name="zoom in").click()
    assert "125 %" in place.inner_text()
    place.get_by_role("combobox", name="view").select_option("wipe")
    handle = place.get_by_role("slider")
    handle.focus()
    reader.page.keyboard.press("ArrowRight")
    assert handle.get_attribute("aria-valuenow") == "52"
    reader.shoot("inspector")


def test_search_finds(reader):
    reader.open("search.html?q=posterior+mean")
    reader.page.wait_for_selector("#search-results li")
    found = reader.page.locator("#search-results li a").all_inner_texts()
    assert any("Posterior-Mean Rectified Flow" in title for title in found)
    reader.shoot("search")


def test_search_finds_in_pages_opened_as_files(browser, book):
    """No server at all: a folder on a stick."""
    reader = Reader(browser, "")
    reader.page.goto(f"{(book / 'search.html').as_uri()}?q=posterior+mean")
    reader.page.wait_for_selector("#search-results li a")
    reader.page.goto((book / "12_inspector.html").as_uri())
    reader.page.wait_for_function("document.querySelectorAll('.course-panes canvas').length === 2")
    assert reader.remote == []
    reader.context.close()


def test_a_page_is_printed(browser, book, tmp_path):
    """As ``--pdf`` prints the whole book, in a process of its own: formulas are set before the page is printed."""
    page, out = book / "04_diffir.html", tmp_path / "page.pdf"
    program = (
        "import pathlib, sys; from notebooks.book import printing as p; p.print_book(*map(pathlib.Path, sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", program, page, out], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    content = out.read_bytes()
    assert content.startswith(b"%PDF") and content.count(b"/Type /Page\n") > 5 and b"MathJax_Math" in content


def test_dark(browser, address):
    """Where the reader's system is dark the page is; its pictures are not touched."""
    reader = Reader(browser, address, color_scheme="dark")
    reader.open("05_edge_maps.html")
    assert reader.page.evaluate("getComputedStyle(document.querySelector('.cell_output img')).filter") == "none"
    assert reader.page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    reader.shoot("dark")
    reader.context.close()
    assert (reader.errors, reader.remote) == ([], [])


def test_links_of_a_chapter_lead_to_pages_of_the_book():
    text = "[a](../helpers/engine/runs.py), [b](../helpers/losses.py), [c](../data/README.md), "
    text += '[d](#2-·-Adam), [e](01_x.ipynb), <a href="02_y.ipynb">f</a>, '
    text += "[g](07_z.ipynb#7-·-What-can-512-numbers-hold,-and-what-not?)"
    assert copies.leading(text) == (
        "[a](reference/api/helpers.engine.md), [b](reference/api/helpers.md), [c](reference/data_sheet.md), d, "
        '[e](01_x.ipynb), <a href="02_y.html">f</a>, [g](07_z.ipynb#7--what-can-512-numbers-hold-and-what-not)'
    )
