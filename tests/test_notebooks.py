"""Guards over every chapter: form, stored outputs, the three parts of a chapter, plain words, the index of equations.

That a chapter runs, and that its tagged outputs come out the same, is nbval's work: ``pytest notebooks``.
"""

import ast
import base64
import importlib
import io
import json
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from notebooks.book import first_cell
from tests.conftest import ROOT

CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EQUATIONS = range(1, 48)
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)


@cache
def read(path: Path):
    """A chapter without its first cell, which is for hosts (tests/test_hosts.py looks at it)."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [c for c in notebook.cells if not c.source.startswith(first_cell.MARK)]
    return notebook


def cells(path: Path, kind: str) -> list:
    return [c for c in read(path).cells if c.cell_type == kind]


def body(path: Path) -> list:
    """All cells but the one that prepares a machine elsewhere, which no reader of the chapter looks at."""
    return [c for c in read(path).cells if c.get("id") != "first-cell"]


def outputs(path: Path):
    return [(number, output) for number, c in enumerate(read(path).cells) for output in c.get("outputs", [])]


def stored_text(output) -> str:
    """All the text of one output; pictures are left out."""
    parts = [output.get("text", "")]
    parts += [v for kind, v in output.get("data", {}).items() if kind.startswith("text/") or kind.endswith("json")]
    return "\n".join(json.dumps(p) if isinstance(p, dict) else "".join(p) for p in parts)


def test_there_are_chapters():
    """Guards over nothing would pass."""
    numbers = [p.stem.split("_")[0] for p in CHAPTERS]
    assert {f"{n:02}" for n in range(12)} <= set(numbers) and len(set(numbers)) == len(numbers)


# ---------------------------------------------------------------------------------------------------------------------
# Form


@each_chapter
def test_valid_and_of_bearable_size(path):
    nbformat.validate(read(path))
    assert path.stat().st_size < 2e6


@each_chapter
def test_forty_to_seventy_cells(path):
    """The inspector's chapter is short: it is a tool to look through, also as a page, and a figure of each view."""
    assert (30 if path.stem == "12_inspector" else 40) <= len(body(path)) <= 70


@each_chapter
def test_code_cells_are_short(path):
    """At most 15 lines, none empty."""
    code = [c for c in body(path) if c.cell_type == "code"]
    lengths = {c.source.splitlines()[0]: len(c.source.splitlines()) for c in code if c.source.strip()}
    assert len(lengths) > 0 and all(c.source.strip() for c in code)
    assert {first: n for first, n in lengths.items() if n > 15} == {}


@each_chapter
def test_text_and_code_take_turns(path):
    """No run of more than four code cells (long imports) without a word, and text enough to teach."""
    kinds = "".join("c" if c.cell_type == "code" else "m" for c in body(path))
    assert "ccccc" not in kinds and 0.35 < kinds.count("m") / len(kinds) < 0.75


@each_chapter
def test_kernel_and_metadata(path):
    """The plain Python kernel, no widget state, no timings."""
    metadata = read(path).metadata
    assert metadata["kernelspec"]["name"] == "python3" and set(metadata) == {"kernelspec", "language_info"}
    assert {key for c in read(path).cells for key in c.metadata} <= {"tags"}


# ---------------------------------------------------------------------------------------------------------------------
# Stored outputs


@each_chapter
def test_run_from_top_to_bottom(path):
    code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))


@each_chapter
def test_no_errors_and_nothing_on_standard_error(path):
    found = [n for n, o in outputs(path) if o.output_type == "error" or o.get("name") == "stderr"]
    assert found == []


@each_chapter
def test_no_paths_of_one_machine(path):
    homes = "|".join(re.escape("/" + name + "/") for name in ("root", "work", "home", "Users", "tmp", "opt"))
    pattern = re.compile(rf"(?<![\w.~$}})])({homes})|[A-Z]:\\Users")
    found = [f"cell {n}" for n, c in enumerate(read(path).cells) if pattern.search(c.source)]
    found += [f"output of cell {n}" for n, o in outputs(path) if pattern.search(stored_text(o))]
    assert found == []


@each_chapter
def test_pictures_are_png(path):
    """SVG differs with every font and library; JPEG adds its own damage to what is shown."""
    kinds = {kind for _, o in outputs(path) for kind in o.get("data", {})}
    assert not kinds & {"image/svg+xml", "image/jpeg", "application/javascript"} and "image/png" in kinds


@each_chapter
def test_tagged_cells_have_something_to_compare(path):
    """nbval compares the stored output of a tagged cell with a new one: there must be one, and no picture."""
    tagged = [c for c in cells(path, "code") if "nbval-check-output" in c.metadata.get("tags", [])]
    assert len(tagged) >= 6
    for c in tagged:
        assert c.outputs and any(stored_text(o).strip() for o in c.outputs), c.source
        assert not any("image/png" in o.get("data", {}) for o in c.outputs), c.source
        assert not any("precision: " in stored_text(o) for o in c.outputs), "another machine chooses another precision"


# ---------------------------------------------------------------------------------------------------------------------
# What a chapter may use and must have


@each_chapter
def test_no_pyplot_no_interact_no_output_widget(path):
    """Each of the three makes figures appear twice, or executed notebooks hang."""
    code = "\n".join(c.source for c in cells(path, "code"))
    assert not re.search(r"pyplot|\binteract(ive|_manual|ive_output)?\b|(widgets|ipywidgets)\.Output|\bOutput\(", code)


@each_chapter
def test_has_a_panel_and_the_same_picture_without_a_kernel(path):
    """A panel, and in the cell before or after it a stored picture for readers without a kernel."""
    sources = [c.source for c in read(path).cells]
    panels = [
        i
        for i, c in enumerate(read(path).cells)
        if c.cell_type == "code" and re.search(r"\b(Panel|Inspector)\(", c.source)
    ]
    assert panels, "no Panel"

    def pictured(i):
        return any("image/png" in o.get("data", {}) for o in read(path).cells[i].get("outputs", []))

    for i in panels:
        near = [j for j in range(max(0, i - 3), min(len(sources), i + 4))]
        assert any(pictured(j) for j in near), f"no static figure near the panel of cell {i}"


@each_chapter
def test_seeded_before_anything_is_drawn(path):
    """In the first code cell, or a little later where the imports fill the first."""
    assert any("seed_everything(" in c.source for c in cells(path, "code")[:5])


@each_chapter
def test_opening_cell(path):
    """Title with the chapter's number, and the three parts."""
    first = body(path)[0]
    number = path.stem.split("_")[0]
    assert first.cell_type == "markdown" and re.match(rf"# {number} · \S", first.source)
    assert [p for p in ("What you will be able to do", "Before you start", "Time") if p not in first.source] == []


@each_chapter
def test_closing(path):
    """Recap and further reading as headings, in the last third."""
    headings = [
        (n, line) for n, c in enumerate(read(path).cells) if c.cell_type == "markdown" for line in c.source.splitlines()
    ]
    for wanted in ("Recap", "Further reading"):
        places = [n for n, line in headings if re.match(rf"(#+ .*|\*\*){wanted}", line)]
        assert places and places[-1] > 2 * len(read(path).cells) / 3, wanted


@each_chapter
def test_questions_have_folded_answers(path):
    """Every fold is closed again, and there is at least one."""
    text = "\n".join(c.source for c in cells(path, "markdown"))
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>") >= 1


@each_chapter
def test_no_function_that_a_helper_has(path):
    """One implementation: a chapter does not define again what helpers offer, nor copy three lines of it."""
    public, lines = set(), set()
    modules = [p for p in (ROOT / "helpers").rglob("*.py") if p.parent.name != "exercises"]  # what readers write
    for module in modules:
        tree = ast.parse(module.read_text(encoding="utf-8"))
        public |= {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        body = [line.strip() for line in module.read_text(encoding="utf-8").splitlines() if line.strip()]
        lines |= {tuple(body[i : i + 4]) for i in range(len(body) - 3)}
    for c in cells(path, "code"):
        tree = ast.parse("\n".join(line for line in c.source.splitlines() if not line.lstrip().startswith(("%", "!"))))
        assert {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)} & public == set()
        body = [line.strip() for line in c.source.splitlines() if line.strip()]
        copied = [body[i] for i in range(len(body) - 3) if tuple(body[i : i + 4]) in lines]
        assert [line for line in copied if not line.startswith(("import", "from"))] == []


@each_chapter
def test_links_lead_somewhere(path):
    """Relative links and pictures that a chapter names are there."""
    text = "\n".join(c.source for c in cells(path, "markdown"))
    targets = re.findall(r"\]\(([^)#\s]+)\)", re.sub(r"`[^`]*`|\$[^$]*\$", "", text))
    assert [t for t in targets if "://" not in t and not (path.parent / t).exists()] == []


# ---------------------------------------------------------------------------------------------------------------------
# Chapters in the form of chapter 01: to be looked at, in plain words, built by the reader. A chapter is held to it from
# the day on which its exercises are there.

EXERCISES = {p.stem.removeprefix("ch") for p in (ROOT / "helpers" / "exercises").glob("ch*.py")}
REWRITTEN = [p for p in CHAPTERS if p.stem[:2] in EXERCISES]
each_rewritten = pytest.mark.parametrize("path", REWRITTEN, ids=lambda p: p.stem)

MOST_WORDS = 30  # in a sentence
NOT_OURS = (  # words that this course alone would use: the field's stand in their place
    r"rulers?", r"crowds?", r"wind", r"forecasts?", r"pupils?", r"examiners?", r"hears? nothing", r"listens? to",
    r"made ahead", r"liv(e|es|ing) dangerously", r"splendid", r"(number|value|multiplication|cycle|bit|byte|image|"
    r"weight|operation|step|picture|parameter|entr(y|ies))s? an? (pixel|face|step|picture|image|epoch|second|channel)",
)  # fmt: skip


def prose(path: Path) -> str:
    """The Markdown of a chapter without equations, code and tags; a link is its text, code in a line one word."""
    text = "\n\n".join(c.source for c in cells(path, "markdown"))
    text = re.sub(r"```.*?```|\$\$.*?\$\$", "\n\n", text, flags=re.S)
    text = re.sub(r"`[^`]*`|\$[^$]*\$", "X", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"</?(p|li|ul|ol|summary|details|br)>", "\n\n", text)


def sentences(text: str) -> list[str]:
    """Of Markdown: a heading, a row of a table and an item of a list are blocks of their own."""
    text = re.sub(r"^\s*(\||[-*>]|\d+\.|#+)\s", "\n\n", text, flags=re.M)
    blocks = [" ".join(block.split()) for block in re.split(r"\n\s*\n", text)]
    return [s for block in blocks for s in re.split(r"(?<=[.!?])[*_”\")]*\s+", block) if s]


def test_sentences_are_found_as_a_reader_finds_them():
    text = "# A heading\nOne two. Three **four.** Five?\n- an item\n- another\nof two lines\n\n| a | row |\n"
    found = ["A heading One two.", "Three **four.", "Five?", "an item", "another of two lines", "a | row |"]
    assert sentences(text) == found


def calls(path: Path, name: str) -> list[ast.Call]:
    """The calls of a function or method of this name in the code of a chapter."""
    trees = [ast.parse(re.sub(r"^\s*[%!].*", "", c.source, flags=re.M)) for c in cells(path, "code")]
    nodes = [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Call)]
    return [n for n in nodes if name == getattr(n.func, "attr", getattr(n.func, "id", None))]


def sections(path: Path) -> dict[str, str]:
    """Heading of a numbered section -> its Markdown."""
    text = "\n\n".join(c.source for c in cells(path, "markdown"))
    parts = re.split(r"^## (.*)$", text, flags=re.M)
    return {title: part for title, part in zip(parts[1::2], parts[2::2], strict=True) if re.match(r"\d+ · ", title)}


@each_rewritten
def test_sentences_are_short(path):
    counted = {s: len(re.findall(r"[^\s|*_]*\w[^\s|]*", s)) for s in sentences(prose(path))}
    assert {s: n for s, n in counted.items() if n > MOST_WORDS} == {}


@each_rewritten
def test_words_are_the_fields(path):
    code = "\n".join(c.source for c in cells(path, "code"))  # titles of figures, too
    found = re.finditer(rf"\b({'|'.join(NOT_OURS)})\b", prose(path) + code, re.I)
    assert [m.group() for m in found] == []


@each_rewritten
def test_every_picture_is_told_in_words_and_true_in_colour(path):
    """Alternative text that is no label, every colour, no wider than a page."""
    pictures = [(n, o) for n, o in outputs(path) if "image/png" in o.get("data", {})]
    for number, output in pictures:
        alt = output.metadata.get("image/png", {}).get("alt", "")
        assert len(alt.split()) >= 8 and "<Figure" not in alt, f"cell {number}: {alt!r}"
        picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
        assert picture.mode in ("RGB", "RGBA") and picture.width <= 1100, f"cell {number}: {picture}"


@each_rewritten
def test_faces_are_drawn_by_one_function(path):
    """It alone repeats pixels a whole number of times."""
    others = ("imshow", "figimage", "draw_image", "gallery", "show_rows")
    assert {name: len(calls(path, name)) for name in others if calls(path, name)} == {} and calls(path, "show_faces")


@each_rewritten
def test_sections_open_with_a_question_and_close_with_its_answer(path):
    numbers = [int(title.split(" ")[0]) for title in sections(path)]
    assert len(numbers) >= 3 and numbers == list(range(1, len(numbers) + 1)), "a heading was lost"
    for title, text in sections(path).items():
        opening = next(p for p in re.split(r"\n\s*\n", text.strip()) if p.strip())
        assert "?" in opening, f"{title}: the first paragraph asks nothing"
        assert re.search(r"^\*\*Answer\.\*\* \S", text, re.M), f"{title}: no paragraph begins with **Answer.**"


@each_rewritten
def test_the_reader_is_told_what_for_and_how_long(path):
    assert re.search(r"\*\*Time\*\*:? .*\d+ minutes", body(path)[0].source)


@each_rewritten
def test_code_is_read_at_a_glance(path):
    """Under 15 lines; no lambda with several parameters, no comprehension within a comprehension."""
    comprehension = (ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp)
    for c in body(path):
        if c.cell_type != "code":
            continue
        assert len(c.source.splitlines()) < 15, c.source
        for node in ast.walk(ast.parse(re.sub(r"^\s*[%!].*", "", c.source, flags=re.M))):
            assert not (isinstance(node, ast.Lambda) and len(node.args.args) > 1), c.source
            inner = [n for n in ast.walk(node) if n is not node and isinstance(n, comprehension)]
            assert not (isinstance(node, comprehension) and inner), c.source


@each_rewritten
def test_links_lead_to_chapters_sources_and_papers(path):
    """One of each at least; what is linked inside the project is there, to the heading."""
    text = re.sub(r"`[^`]*`|\$[^$]*\$", "", "\n".join(c.source for c in cells(path, "markdown")))
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    dead = []
    for target in [t for t in targets if "://" not in t]:
        name, _, anchor = target.partition("#")
        place = (path.parent / name).resolve() if name else path
        headings = []
        if place.suffix == ".ipynb" and place.exists():
            lines = "\n".join(c.source for c in cells(place, "markdown")).splitlines()
            headings = [re.sub(r"^#+\s+", "", line).strip().replace(" ", "-") for line in lines if line.startswith("#")]
        if not place.exists() or (anchor and anchor not in headings):
            dead.append(target)
    assert dead == []
    for kind in (r"^\d\d_\w+\.ipynb", r"^\.\./helpers/\S+\.py$", r"^https://(doi\.org|arxiv\.org)/"):
        assert any(re.search(kind, t) for t in targets), f"no link to {kind}"
    assert not [t for t in targets if "coursework/assignment" in t], "that folder holds the solutions"


@each_rewritten
def test_the_matching_assignment_is_named(path):
    """As the guide for instructors orders them; chapters without one need not."""
    table = (ROOT / "notebooks" / "coursework" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\d) [^\]]*\]\([^)]*\) \| ([^|]*) \|", table, re.M)
    assert len(rows) == 6
    wanted = [number for number, chapters in rows if path.stem[:2] in re.findall(r"\d\d", chapters)]
    assert [n for n in wanted if not re.search(rf"\bassignment {n}\b", prose(path), re.I)] == []


@each_rewritten
def test_readers_build(path):
    assert len(calls(path, "check")) >= 2


# ---------------------------------------------------------------------------------------------------------------------
# The index of equations


@cache
def index() -> dict[int, dict[str, str]]:
    """The table of chapter 00: equation -> what, chapter, helper, test."""
    rows = {}
    for c in cells(ROOT / "notebooks" / "00_start_here.ipynb", "markdown"):
        for line in c.source.splitlines():
            row = [part.strip().strip("`* ") for part in line.strip().strip("|").split("|")]
            if len(row) == 5 and row[0].isdigit():
                assert int(row[0]) not in rows, f"equation {row[0]} stands twice in the index"
                rows[int(row[0])] = dict(zip(("what", "chapter", "helper", "test"), row[1:], strict=True))
    return rows


def mentions(text: str, number: int) -> bool:
    """Says "equation 31", "eq. 31", "equations 34 and 40", or a range such as "equations 34 to 41"."""
    for found in re.findall(r"\b(?:equations?|eqs?\.)\s+(\d+(?:(?:\s*(?:,|and|to|–|-|,\s*and)\s*)\d+)*)", text, re.I):
        numbers = [int(n) for n in re.findall(r"\d+", found)]
        if number in numbers or (re.search(r"to|–|-", found) and min(numbers) <= number <= max(numbers)):
            return True
    return False


def test_mentions_reads_what_people_write():
    assert mentions("by eq. 31.", 31) and mentions("Equations 34 and 40", 40) and mentions("equations 34 to 41", 37)
    assert not mentions("equation 3", 31) and not mentions("section 31", 31) and not mentions("equations 31 and 33", 32)


def test_the_index_is_complete():
    assert sorted(index()) == list(EQUATIONS)


@pytest.mark.parametrize("number", EQUATIONS)
def test_an_equation_stands_in_its_chapter_alone(number):
    r"""As \tag{n}, in exactly the chapter that the index names."""
    pattern = re.compile(rf"\\tag\s*\{{\s*{number}\s*\}}")
    found = {p.stem.split("_")[0] for p in CHAPTERS if any(pattern.search(c.source) for c in cells(p, "markdown"))}
    assert found == {index()[number]["chapter"]}


@pytest.mark.parametrize("number", EQUATIONS)
def test_an_equation_has_its_helper(number):
    """The helper exists, and its docstring or its module's source mentions the number."""
    helper = index()[number]["helper"]
    module_name, _, name = helper.rpartition(".")
    module = importlib.import_module(module_name)
    assert hasattr(module, name), helper
    assert mentions(getattr(module, name).__doc__ or "", number) or mentions(
        Path(module.__file__).read_text(encoding="utf-8"), number
    )


@pytest.mark.parametrize("number", EQUATIONS)
def test_an_equation_has_its_test(number):
    path = ROOT / index()[number]["test"]
    assert path.is_file() and mentions(path.read_text(encoding="utf-8"), number)
