"""Pages of reference that are generated: results, speed, equations, data sheet, model cards, coursework, interfaces.

Every number on them is read from ``data/results``, ``data/checkpoints`` or the notebooks when the book is built.
"""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import nbformat

from notebooks.book import ROOT, chapters
from notebooks.book.cards import model_cards
from notebooks.book.interfaces import interfaces
from notebooks.book.tables import CHECKPOINTS, HEADINGS, MEASURES, RESULTS, measured, measures, number, read, table


def write_pages(sources: Path) -> None:
    """All generated pages, into ``sources/reference``."""
    folder = sources / "reference"
    (folder / "api").mkdir(parents=True, exist_ok=True)
    pages = {
        "results": results(), "speed": speed(), "equations": equations(), "data_sheet": data_sheet(),
        "model_cards": model_cards(),
    }  # fmt: skip
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    for name, text in interfaces().items():
        (folder / "api" / f"{name}.md").write_text(text, encoding="utf-8")
    (sources / "coursework.md").write_text(coursework(), encoding="utf-8")
    for name, change in {
        "glossary": with_chapters,
        "reference/citing": lambda text: text.replace("@bibtex@", bibtex()),
        "reference/licences": lambda text: text.replace("@packages@", packages()),
    }.items():
        page = sources / f"{name}.md"
        page.write_text(change(page.read_text(encoding="utf-8")), encoding="utf-8")
    for name in ("CHANGELOG", "CONTRIBUTING"):
        text = (ROOT / ".github" / f"{name}.md").read_text(encoding="utf-8")
        (folder / f"{name.lower()}.md").write_text(text, encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------------
# Results


def results() -> str:
    """The page of results: methods, knob, photographs, hypotheses, exploration, degradations, candidates."""
    comparison = read(RESULTS / "comparison.json")
    parts = [
        RESULTS_WORDS["top"],
        "## Every method on the same faces",
        _methods(comparison, "all"),
        "## With the method that searches",
        RESULTS_WORDS["few"],
        _methods(comparison, "few"),
        "## The skip model along its knob",
        RESULTS_WORDS["knob"],
        _knob(read(CHECKPOINTS / "skip.json")),
        "## The skip model, trained on photographs",
        _photographs(read(RESULTS / "photographs.json")),
        *_hypotheses(),
        "## Size of the code, or length of the training?",
        _bottleneck(),
        "## The edge map at full size",
        _full_size(),
        *_exploration(),
        "## Ten degradations at once",
        _matrix(read(RESULTS / "matrix.json")),
        "## Networks at equal training time",
        _candidates(read(RESULTS / "candidates.json")),
    ]
    return "\n\n".join(parts) + "\n"


RESULTS_WORDS = {
    "top": """# Results

Generated from `data/results/` and `data/checkpoints/` when this book was built. ± is twice the standard error of the
mean over the test faces. SWD is the sliced Wasserstein distance of patches to *other* sharp faces: lower is closer to
how sharp faces look. PSNR and SSIM are better when higher, the others when lower.""",
    "few": """StyleGAN inversion searches hundreds of steps for each picture, so all methods stand here once more, on
the few faces that it was measured on.""",
    "knob": """Chapter 13's model draws two corrections of the input. Knob 0 is the one near to the truth, knob 1 the
one that looks sharp. The knob's place was chosen on the validation faces; these are the test faces.""",
    "photographs": """Trained on {data} (crops of CelebA, which may not be passed on; nor may these weights), measured
on the test photographs. *Elsewhere* is the same model on the kind of picture that it was not trained on.""",
    "matrix": """Each cell: PSNR in dB and LPIPS, with the 95 % interval of the mean over {pictures} {what}, none of
which the models were trained on. A method whose PSNR lies below the input's has spoilt the
pictures.""",
    "hypotheses": """Asked on {date}, before the first run, of the thesis's model in miniature: {image_size} pixels, a
quarter of the width, {steps} steps, {seeds} seeds. It ends at {baseline:.2f} dB, its blurred input has {input:.2f} dB.
Intervals hold over seeds and test faces (of SWD over seeds). p is two-sided, after Holm's correction over the seven;
at 0.05 or more the two are not distinguishable. Chapter 13 explains each step.""",
    "arms": """Each arm minus the small thesis's model, with 95 % intervals. Nobody asked for these comparisons before
the runs, so they are exploration and have no verdict.""",
    "bottleneck": """PSNR in dB of the same small model with codes of other sizes, L1 as the only loss, one seed; each
cell is a training of its own. The blurred input has {input:.2f} dB. The linear map is the best one by least squares
that passes as many numbers. Chapter 13 reads this table.""",
    "full_size": """Networks as large as the shipped ones, on pictures of 128 pixels, each trained twice from the same
weights: with the edge map and with an empty one. Each difference has its 95 % interval over the test faces. There is
one seed, and another one would move the difference too. Chapter 13 reads this table.""",
    "exploration": """Many variants with few seeds, each minus the thesis's model of the same record. That model ends
*below* its blurred input here, and no correction was made for so many comparisons. So these differences of means
suggest questions and answer none.""",
}


def _methods(comparison: dict, which: str) -> str:
    rows, count = [], 0
    for row in comparison[which].values():
        count = row.get("images", count)
        cost = [number(row.get("parameters", 0) / 1e6 or None, 1), number(row.get("seconds"), 3)]
        rows.append([row["title"], *measures(row), *cost])
    floor = comparison.get(f"floor_{which}")
    facts = comparison.get("facts", {})
    words = f"{count} {facts.get('split', 'test')} faces, preset `{facts.get('degradation', 'celebablur')}`"
    words += f", seed {facts['seed']}" if "seed" in facts else ""
    words += f". Sharp test faces themselves are at SWD {floor:.0f}." if floor else "."
    return words + "\n\n" + table(["method", *measured(), "parameters (millions)", "s an image"], rows)


def _knob(about: dict) -> str:
    rows = [[f"knob {r['knob']:g}" + (", chosen" if r["knob"] == about["knob"] else ""), *measures(r)]
            for r in about["along the knob"]["test"]]  # fmt: skip
    return table(["", *measured()], rows)


def _photographs(about: dict) -> str:
    words = RESULTS_WORDS["photographs"].format(data=about["training_data"])
    rows = [[f"elsewhere: {where}", *measures(row)] for where, row in about.get("elsewhere", {}).items()]
    return words + "\n\n" + _knob(about) + "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _interval(row: dict, digits: int) -> str:
    """A difference with the bounds of its interval."""
    return f"{row['difference']:+z.{digits}f} [{row['low']:+z.{digits}f}, {row['high']:+z.{digits}f}]"


def _hypotheses() -> list[str]:
    """The experiment: each hypothesis with its verdict, then each arm against the small thesis's model."""
    from helpers.experiments.results import DESCRIBED, shipped_results
    from helpers.experiments.variants import ALL

    shipped = shipped_results("course")
    effects, regime = shipped["effects"], shipped["regime"]
    judged, described = [], []
    for asked in shipped["hypotheses"]:
        row = effects[asked["name"]]
        found = f"{row['measure']} {_interval(row, MEASURES[row['measure']])}"
        p = f"{row['holm']:.2g}" if row["holm"] >= 1e-4 else "below 0.0001"
        judged.append([asked["sentence"], found, p, row["verdict"]])
    for name in (n for n in ALL if f"{n}/PSNR" in effects):
        rows = [effects[f"{name}/{measure}"] for measure in DESCRIBED]
        cells = [_interval(row, MEASURES[measure]) for measure, row in zip(DESCRIBED, rows, strict=True)]
        described.append([ALL[name].title, rows[0]["seeds"], *cells])
    facts = {"input": regime["input PSNR"], "baseline": regime["baseline PSNR"], "date": shipped["date"]}
    return [
        "## Seven hypotheses, written down first",
        RESULTS_WORDS["hypotheses"].format(**shipped["preset"], **facts),
        table(["hypothesis", "difference, 95 % interval", "p after Holm", "verdict"], judged),
        RESULTS_WORDS["arms"],
        table(["arm", "seeds", *(HEADINGS.get(m, m) for m in DESCRIBED)], described),
    ]


def _bottleneck() -> str:
    """PSNR of codes of several sizes after several numbers of steps, beside the linear map."""
    from helpers.experiments import bottleneck

    results = bottleneck.shipped_results()
    found, budgets = bottleneck.table(results), sorted({run["steps"] for run in results["rows"]})
    rows = [
        [name, int(row["code"]), *(f"{row[column]:.2f}" for column in (*budgets, "linear map"))]
        for name, row in found.iterrows()
    ]
    words = RESULTS_WORDS["bottleneck"].format(input=results["input"]["PSNR"])
    steps = [f"{budget:,} steps" for budget in budgets]
    return words + "\n\n" + table(["stands for", "numbers in the code", *steps, "linear map"], rows)


def _full_size() -> str:
    """An empty map against the edge map, in the thesis's model and in the skip model, before and after training."""
    from helpers.experiments import full_size

    results, rows = full_size.shipped_results(), []
    for when in ("before", "test"):
        for row in full_size.table(results, when=when).to_dict("records"):
            pair, digits = full_size.PAIRS[row["pair"]], MEASURES[row["measure"]]
            steps = f"{pair.preset.steps:,} steps" + (" more" if pair.start else "")
            means = [f"{row[k]:.{digits}f}" for k in ("with", "without")]
            training = steps if when == "test" else "shipped weights"
            heading = HEADINGS.get(row["measure"], row["measure"])
            rows.append([row["title"], training, heading, *means, _interval(row, digits)])
    heads = ["model", "training", "measure", "with the map", "empty map", "empty minus map"]
    return RESULTS_WORDS["full_size"] + "\n\n" + table(heads, rows)


def _exploration() -> list[str]:
    """The mean differences of the many variants with few seeds, which decide nothing."""
    from helpers.experiments.results import differences, shipped_results

    parts = ["## Exploration", RESULTS_WORDS["exploration"]]
    for preset in ("laptop", "longer"):
        shipped = shipped_results(preset)
        found = {measure: differences(shipped, measure) for measure in ("PSNR", "LPIPS")}
        rows = [
            [row["title"], *(f"{t.loc[name, 'difference']:+.{MEASURES[m]}f}" for m, t in found.items())]
            for name, row in found["PSNR"].iterrows()
        ]
        words = "{steps} steps, {seeds} seeds, {image_size} pixels:".format(**shipped["preset"])
        parts += [words, table(["variant", *(HEADINGS.get(m, m) for m in found)], rows)]
    return parts


def _matrix(found: dict) -> str:
    """What each method makes of each degradation, set by set."""

    def cell(row: dict) -> str:
        (psnr, low, high), (lpips, less, more) = row["PSNR"], row["LPIPS"]
        return f"{psnr:.1f} ({low:.1f} to {high:.1f}), {lpips:.3f} ({less:.3f} to {more:.3f})"

    parts = []
    for name, pictures in found["sets"].items():
        what = {"real-faces": "test crops of CelebA", "portraits": "test portraits"}.get(name, name)
        cells = pictures["cells"]
        names = list(next(iter(cells.values())))
        rows = [[case, *(cell(row[name]) for name in names)] for case, row in cells.items()]
        parts += [RESULTS_WORDS["matrix"].format(what=what, **pictures), table(["degradation", *names], rows)]
    return "\n\n".join(parts)


def _candidates(found: dict) -> str:
    rows = [
        [
            row["title"],
            number(row["parameters"] / 1e6, 2),
            row["steps"],
            number(row["milliseconds"], 1),
            *measures(row)[:5],
        ]
        for row in found.values()
    ]
    minutes = next(iter(found.values()))["minutes"]
    words = f"Each network was trained for {minutes:g} minutes on one thread, then measured on the test faces."
    return words + "\n\n" + table(["network", "parameters (millions)", "steps", "ms an image", *measured()[:5]], rows)


# ---------------------------------------------------------------------------------------------------------------------
# Files of the course that become pages


def speed() -> str:
    """``data/results/benchmarks.md`` as it is."""
    text = (RESULTS / "benchmarks.md").read_text(encoding="utf-8")
    return re.sub(r"^# .*", "# Speed", text, count=1)


def data_sheet() -> str:
    """``data/README.md``, with links that lead out of the book turned into names."""
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\[([^\]]+)\]\((?!https?://|#)[^)]*\)", r"\1", text)


def equations() -> str:
    """The index of chapter 00, with links to chapters and interfaces."""
    files = {path.stem[:2]: path.name for path in chapters()}
    notebook = nbformat.read(ROOT / "notebooks" / files["00"], as_version=4)
    rows = []
    for cell in notebook.cells:
        for line in cell.source.splitlines() if cell.cell_type == "markdown" else ():
            row = [part.strip().strip("`") for part in line.strip().strip("|").split("|")]
            if len(row) == 5 and row[0].isdigit():
                number, what, chapter, helper, test = row
                interface = f"{{py:obj}}`{helper.removeprefix('helpers.')} <{helper}>`"
                rows.append([number, what, f"[{chapter}](../{files[chapter]})", interface, f"`{test}`"])
    return (
        "# Equations\n\nEvery numbered equation of the thesis: where it is explained, computed and tested. "
        "1 to 30 belong to the methods that it reviews, from 31 on they are its own.\n\n"
        + table(["equation", "what it says", "chapter", "helper", "test"], rows)
    )


def with_chapters(text: str) -> str:
    """The glossary with its numbers of chapters (→ 03, 09) as links."""
    files = {path.stem[:2]: path.name for path in chapters()}

    def linked(found) -> str:
        return "Chapter " + ", ".join(f"[{n}]({files[n]})" for n in found[1].split(", ")) + "."

    return re.sub(r"→ (\d\d(?:, \d\d)*)$", linked, text, flags=re.M)


def bibtex() -> str:
    """Entries for the course and the thesis, from ``.github/CITATION.cff``."""
    import yaml

    cff = yaml.safe_load((ROOT / ".github" / "CITATION.cff").read_text(encoding="utf-8"))
    thesis = next(r for r in cff["references"] if r["type"] == "thesis")
    author = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in thesis["authors"])
    course = {
        "author": f"{{{cff['authors'][0]['name']}}}", "title": cff["title"], "year": str(cff["date-released"])[:4],
        "note": f"Version {cff['version']}",
    }  # fmt: skip
    about = {
        "author": author, "title": thesis["title"], "type": thesis["thesis-type"].capitalize(),
        "school": thesis["institution"]["name"], "year": thesis["year"],
    }  # fmt: skip
    entries = {"misc": ("facerestorationcourse", course), "thesis": ("zasiadko2025", about)}
    lines = ["```bibtex"]
    for kind, (key, fields) in entries.items():
        lines += [f"@{kind}{{{key},", *(f"  {k} = {{{v}}}," for k, v in fields.items()), "}"]
    return "\n".join([*lines, "```"])


def packages() -> str:
    """The required packages and what their own metadata say of their licence."""
    required = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    return table(["package", "licence"], [[name, _licence(name)] for name in (r.split(">=")[0] for r in required)])


def _licence(package: str) -> str:
    try:
        about = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return "not installed where this book was built"
    named = [c.rpartition(" :: ")[2] for c in about.get_all("Classifier", []) if c.startswith("License :: ")]
    text = about.get("License-Expression") or ", ".join(named) or about.get("License", "")
    return text.strip().partition("\n")[0] or "see the package"


def coursework() -> str:
    """An overview of the assignments, from the instructor's guide. Their notebooks hold solutions: none is read."""
    guide = (ROOT / "notebooks" / "coursework" / "README.md").read_text(encoding="utf-8")
    lines = [line for line in guide.splitlines() if line.startswith("|")]
    start = next(k for k, line in enumerate(lines) if line.startswith("| assignment |"))
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines[start + 2 :]]
    rows = [[re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", c) for c in row] for row in rows if "assignment" in row[0]]
    learned = _learned(guide)
    page = (ROOT / "notebooks" / "book" / "pages" / "coursework.md").read_text(encoding="utf-8")
    headings = [c.strip() for c in lines[start].strip("|").split("|")]
    return page.replace("@assignments@", table(headings, rows)).replace("@learned@", learned)


def _learned(guide: str) -> str:
    """The guide's table of outcomes, without the names of exercises."""
    section = guide.partition("## What is learned where")[2].partition("\n## ")[0]
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    outcomes = [[row[0], row[1]] for row in rows[2:] if len(row) >= 2 and row[0]]
    return table(["students can …", "chapters"], outcomes)
