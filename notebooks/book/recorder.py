"""Draws a bounded number of pictures of every panel, so that its sliders move on a page without a kernel.

:func:`record` runs a chapter up to its last panel, in a kernel whose panels say with :func:`install` what they would
show. Each control is moved through some of its values while the others stand where they start.
"""

import base64
import hashlib
import io
import json
import os
import shutil
import time
from pathlib import Path

import nbformat

from notebooks.book import ROOT

KIND = "application/vnd.course.panel+json"
MOST = 12  # pictures a panel, besides the one at its start
PATIENCE = 150.0  # seconds of drawing a panel; values that would come later are left out
VARIABLE = "COURSE_RECORDED_PANELS"  # where the kernel puts the pictures


def record(path: Path, out: Path, most: int = MOST) -> dict[str, dict]:
    """Run the chapter ``path`` and keep the pictures of its panels in ``out/<its name>``, with ``panels.json``.

    Parameters
    ----------
    most : pictures a panel, besides the one at its start

    Returns
    -------
    "cell/number" -> the panel: the id of its cell, and which of that cell's widgets it is
    """
    from tests.execute import PatientClient

    notebook = nbformat.read(path, as_version=4)
    last = max(
        (k for k, cell in enumerate(notebook.cells) if "Panel(" in cell.source or ".inspector" in cell.source),
        default=-1,
    )
    cells = notebook.cells[: last + 2]  # an object may be shown by the cell after the one that makes it
    start = nbformat.v4.new_code_cell(f"from notebooks.book.recorder import install\ninstall({most})")
    folder = (out / path.stem).resolve()  # the kernel works elsewhere
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    notebook.cells = [start, *cells]
    resources = {"metadata": {"path": str(path.parent)}}
    client = PatientClient(notebook, timeout=1800, kernel_name="python3", resources=resources, store_widget_state=False)
    search = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    client.execute(env=os.environ | {VARIABLE: str(folder), "PYTHONPATH": search})
    panels = {
        f"{cell.id}/{number}": dict(output["data"][KIND])
        for cell in cells
        for number, output in enumerate(o for o in cell.get("outputs", []) if KIND in o.get("data", {}))
        if output["data"][KIND].get("controls") != []  # redrawn by the notebook alone
    }
    (folder / "panels.json").write_text(json.dumps(panels, indent=1), encoding="utf-8")
    return panels


# ---------------------------------------------------------------------------------------------------------------------
# In the kernel


def install(most: int = MOST) -> None:
    """From now on, a panel that is shown gives a record of its pictures instead of a widget."""
    from helpers.inspector.controller import Inspector
    from helpers.panels import Panel

    folder = Path(os.environ[VARIABLE])

    def shown_panel(self, **_):
        return {"text/plain": repr(self), KIND: pictures_of(self, folder, most)}

    def shown_inspector(self, **_):
        return {"text/plain": repr(self), KIND: panes_of(self.panes.panes)}

    Panel._repr_mimebundle_, Inspector._repr_mimebundle_ = shown_panel, shown_inspector


def pictures_of(panel, folder: Path, most: int = MOST) -> dict:
    """Draw a panel at some values of each control; the pictures go to ``folder``.

    Returns
    -------
    {"kind": "panel", "start": file, "controls": [{"label", "values", "files", "start"}, ...]}; the value that makes no
    sense has the panel's message ("says: ...") in place of a file
    """
    start = keep(_webp(panel.picture.value), folder)
    share = max(2, most // max(1, len(panel.controls)))
    deadline, controls = time.monotonic() + PATIENCE, []
    for name, control in panel.controls.items():
        values, labels = possible(control)
        at = values.index(control.value) if control.value in values else 0
        files: dict[int, str] = {}
        for k in spread(len(values), share, at):
            if k == at:
                files[k] = start
            elif time.monotonic() < deadline:
                try:
                    figure = panel.draw(**panel.values | {name: values[k]})
                    files[k] = keep(_webp(_png(figure)), folder)
                except ValueError as error:
                    files[k] = f"says: {error}"
        chosen = sorted(files)
        controls.append(
            {
                "label": control.description,
                "kind": "choice" if hasattr(control, "options") else "slider",
                "values": [labels[k] for k in chosen],
                "files": [files[k] for k in chosen],
                "start": chosen.index(at),
            }
        )
    return {"kind": "panel", "start": start, "controls": controls}


def panes_of(panes: list[dict]) -> dict:
    """The inspector's pictures side by side, for its own script in the browser: titles, notes, and PNGs in base64."""
    kept = [{"title": p["title"], "note": p["note"], "png": base64.b64encode(p["png"]).decode()} for p in panes]
    return {"kind": "panes", "panes": kept}


def possible(control) -> tuple[list, list[str]]:
    """All values that a slider or a list can take, the one it has among them; and how they are written."""
    if hasattr(control, "options"):
        pairs = [(o[0], o[1]) if isinstance(o, tuple) else (str(o), o) for o in control.options]
        return [value for _, value in pairs], [str(label) for label, _ in pairs]
    steps = round((control.max - control.min) / control.step)
    values = sorted({control.min + k * control.step for k in range(steps + 1)} | {control.value})
    whole = all(isinstance(v, int) for v in values)
    return values, [str(v) if whole else f"{v:.2f}" for v in values]


def spread(count: int, most: int, start: int) -> list[int]:
    """At most ``most`` of ``count`` places, evenly spread, first and last among them; and ``start`` besides."""
    if count <= most:
        return list(range(count))
    return sorted({round(k * (count - 1) / (most - 1)) for k in range(most)} | {start})


def keep(content: bytes, folder: Path, kind: str = "webp") -> str:
    """Write a picture under a name that depends on its content alone; the name."""
    name = f"{hashlib.sha256(content).hexdigest()[:12]}.{kind}"
    (folder / name).write_bytes(content)
    return name


def _png(figure) -> bytes:
    from helpers.figures import png

    return png(figure)


def _webp(content: bytes) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(buffer, "WEBP", quality=88, method=4)
    return buffer.getvalue()
