"""Results: merged into one JSON file, printed as Markdown tables."""

import json
from pathlib import Path

from helpers.engine.folders import atomic_write, write_json


def merge(path: Path, part: str, result: dict) -> dict:
    """Put the result of one part into the file, beside what is there of the others; the whole content."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    content[part] = result
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)
    atomic_write(path.with_suffix(".md"), lambda aside: aside.write_text(markdown(content), encoding="utf-8"))
    return content


def cell(value) -> str:
    """A figure as a table shows it: three digits that count; thousands apart."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value and abs(value) < 0.001:
            return f"{value:.1e}"
        digits = max(0, 2 - len(str(int(abs(value)))) + 1) if abs(value) >= 1 else 3
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(rows: list[dict]) -> str:
    """Rows as a Markdown table; the columns are all keys that occur, in the order in which they occur."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(column)) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def section(part: str, result: dict) -> str:
    """One part: heading, machine, note, table."""
    machine = result["hardware"]
    where = machine["gpu"] or machine["cpu"]
    where += f", {machine['gpus']} GPUs" if machine["gpus"] > 1 else ""
    where += f", {machine['cores']} cores, {machine['threads']} threads, load at the start {machine['load']}"
    releases = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return (
        f"## {part}\n\n{result['note']}\n\n{where}; {releases}; {result['date']}; "
        f"measured in {result['seconds']:.0f} s\n\n{table(result['rows'])}\n"
    )


def markdown(content: dict) -> str:
    """All parts."""
    return "# Benchmarks\n\nMade by `python -m tests.benchmarks`.\n\n" + "\n".join(
        section(part, result) for part, result in content.items()
    )
