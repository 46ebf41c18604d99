"""The README's tables and its picture, from what was recorded: ``python -m notebooks.book.readme``.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``; the command writes it anew. The picture,
``data/photograph.png``, is drawn with the shipped weights: a photograph by NASA that anyone may use.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from notebooks.book import ROOT, chapters
from notebooks.book.tables import CHECKPOINTS, MEASURES, RESULTS, number, read, table

README = ROOT / "README.md"
PICTURE = ROOT / "data" / "photograph.png"
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.S)
ABOUT = {  # what each chapter is about
    "00": "the finished system on one face, the map, the index of equations",
    "01": "the faces, normalisation, blur and what it destroys",
    "02": "searching a generator for the face behind a damaged picture",
    "03": "why the best guess in mean squared error is blurry, and a flow that makes it sharp",
    "04": "a compact prior vector, found by four steps of diffusion",
    "05": "Canny's detector step by step; which image the edges come from",
    "06": "residual learning, ResNet-18 with four channels",
    "07": "transposed convolutions, checkerboards, what a latent code can hold",
    "08": "what supervising the latent code can and cannot do",
    "09": "what each term of the loss does, alone and in the weighted sum",
    "10": "one step by hand, the schedule, a real run, where the time goes",
    "11": "metrics by hand, what a network must beat, intervals, what metrics cannot see",
    "12": "an interactive page: all methods side by side, also on your own photograph",
    "13": "what each ingredient is worth; a better model (the *skip model*), with a knob",
    "14": "photographs with any blur: a model trained blind, a matrix of harm, what is invented",
}
CASES = {  # columns of the table of photographs: case of the matrix -> heading
    "celebablur": "blur of the thesis",
    "Gaussian": "Gaussian, σ = 2",
    "motion": "motion",
    "defocus": "defocus",
    "4× smaller, JPEG": "4× smaller, JPEG",
    "sharp": "sharp",
}
ROWS = {"input": "degraded input", "skip": "skip model, trained for one blur", "blind": "**blind model**"}
HIGHER = ("PSNR", "SSIM")


def chapter_table() -> str:
    """The chapters with the processor seconds that ``python -m tests.execute --record`` wrote down."""
    seconds = read(RESULTS / "chapters.json")["seconds"]
    rows = []
    for path in chapters():
        name = path.stem[:2]
        title = f"[{name} {_title(path)}](notebooks/{path.name})"
        rows.append([title, ABOUT[name], f"{seconds[name]:.0f} s" if name in seconds else ""])
    return table(["chapter", "what it is about", "computing"], rows)


def photograph_table() -> str:
    """PSNR and LPIPS of the degraded photographs, the model for one blur and the blind one."""
    found = read(RESULTS / "matrix.json")["sets"]["real-faces"]
    rows = []
    for start, title in ROWS.items():
        cells = []
        for case in CASES:
            name = next(n for n in found["cells"][case] if n == start or n.startswith(f"{start}/"))
            psnr, lpips = (found["cells"][case][name][measure][0] for measure in ("PSNR", "LPIPS"))
            equal = case == "sharp" and start == "input"  # the metric's ceiling stands for infinity there
            cells.append("∞ / 0" if equal else f"{psnr:.1f} / {lpips:.3f}")
        rows.append([title, *cells])
    return table([f"{found['pictures']} photographs, PSNR (dB) / LPIPS", *CASES.values()], rows)


def result_table() -> str:
    """Every method on the shipped test faces; the best value of each column is bold."""
    rows = list(read(RESULTS / "comparison.json")["all"].values())
    best = {m: (max if m in HIGHER else min)(r[m] for r in rows[1:] if m in r) for m in MEASURES}
    cells = [
        [row["title"], *(f"**{number(row[m], d)}**" if row.get(m) == best[m] else number(row.get(m), d)
                         for m, d in MEASURES.items())]
        for row in rows
    ]  # fmt: skip
    headings = ["PSNR (dB)" if m == "PSNR" else m for m in MEASURES]
    return table([f"{rows[0]['images']} test faces", *headings], cells)


def sentences() -> str:
    """What was reached on photographs of CelebA, beside the thesis's Table 1; and how long the blind model trained."""
    from helpers.comparison import images_seen
    from helpers.metrics import THESIS_TABLE_1

    about = read(RESULTS / "photographs.json")
    chosen = next(row for row in about["along the knob"]["test"] if row["knob"] == about["knob"])
    (low, high), (less, more) = THESIS_TABLE_1["PSNR"], THESIS_TABLE_1["LPIPS"]
    count = int(re.match(r"\d+", about["training_data"])[0])
    blind = read(CHECKPOINTS / "blind.json")
    stopped = f" ({blind['stopped']})" if blind.get("stopped") else ""
    return (
        f"On photographs of CelebA, a skip model trained on {count:,} of them (not shipped) reaches "
        f"{chosen['PSNR']:.2f} dB and LPIPS {chosen['LPIPS']:.4f} on others.\nThe thesis reports {low}–{high} dB and "
        f"LPIPS {less}–{more} on its own split of CelebA, and does not say how it was blurred.\n"
        f"The blind model saw {images_seen(blind):,} images{stopped}, those of the skip model before it included.\n"
    )


TABLES: dict[str, Callable[[], str]] = {
    "chapters": chapter_table,
    "photographs": photograph_table,
    "results": result_table,
    "reached": sentences,
}


def filled(text: str) -> str:
    """The README's ``text`` with every table written anew."""
    return BLOCK.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def draw(out: Path = PICTURE) -> None:
    """A photograph, degraded, restored by the blind model, and as it was."""
    import numpy as np
    import torch
    from skimage.data import astronaut

    from helpers import figures
    from helpers.degrade import MATRIX
    from helpers.restore import load_restoring, restore_square

    left, top, side = 135, 5, 180  # her face
    sharp = np.ascontiguousarray(astronaut()[top : top + side, left : left + side])
    image = torch.from_numpy(sharp).permute(2, 0, 1)[None] / 255
    case = MATRIX["defocus, noise, JPEG"]
    degraded = case(image, [case.sample(np.random.default_rng(0))])
    degraded = (degraded[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    shown = {
        "out of focus, noise, JPEG": degraded,
        "restored by the blind model": restore_square(degraded, load_restoring("blind")),
        "the photograph": sharp,
    }
    figure, axes = figures.new(1, 3, (7.5, 2.75))
    for axis, (title, picture) in zip(axes, shown.items(), strict=True):
        figures.draw_image(axis, picture, title)
    out.write_bytes(figures.png(figure))


def _title(path: Path) -> str:
    """A chapter's title without its number."""
    import nbformat

    first = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0]
    return re.sub(r"^# \d\d · ", "", first)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m notebooks.book.readme", description=__doc__.split("\n\n")[0])
    parser.add_argument("--picture", action="store_true", help="draw the picture anew as well")
    args = parser.parse_args(argv)
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
    if args.picture:
        draw()


if __name__ == "__main__":
    main()
