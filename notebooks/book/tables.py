"""Tables of Markdown from recorded results: the measures with their digits, and where the records lie."""

import json
from pathlib import Path

from notebooks.book import ROOT

MEASURES = {"PSNR": 2, "SSIM": 4, "L1": 4, "MSE": 4, "LPIPS": 4, "SWD": 0}
HEADINGS = {"PSNR": "PSNR (dB)"}
RESULTS, CHECKPOINTS = ROOT / "data" / "results", ROOT / "data" / "checkpoints"


def read(path: Path) -> dict:
    """A JSON file of the course."""
    return json.loads(path.read_text(encoding="utf-8"))


def table(headings: list[str], rows: list[list]) -> str:
    """A table of Markdown; a bar in a cell stays a bar."""
    cells = [[str(c).replace("|", r"\|").replace("\n", " ") for c in row] for row in [headings, *rows]]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(headings), *lines[1:]]) + "\n"


def number(value, digits: int) -> str:
    """A number with so many decimals, thousands apart; "" where there is none."""
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else ""


def measures(row: dict) -> list[str]:
    """The five measures and SWD of a row; PSNR and LPIPS with twice their standard error where that is known."""
    errors, out = row.get("standard_errors", {}), []
    for name, digits in MEASURES.items():
        text = number(row.get(name), digits)
        sure = name in ("PSNR", "LPIPS") and name in errors
        out.append(
            f"{text}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{2 * errors[name]:.{digits}f}" if text and sure else text
        )
    return out


def measured() -> list[str]:
    """The headings that go with :func:`measures`."""
    return [HEADINGS.get(name, name) for name in MEASURES]
