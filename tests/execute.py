"""Run notebooks from top to bottom and store their outputs: ``python -m tests.execute notebooks/01_*.ipynb``.

``jupyter nbconvert --execute`` can wait forever for a reply that has already come (seen with widgets); asking for it
again every half second cannot. Cells have a finite time, widget state is not stored, standard error is an error.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from queue import Empty

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 170  # seconds for a cell
RECORDED = ROOT / "data" / "results" / "chapters.json"


class PatientClient(NotebookClient):
    """Asks for a cell's reply again and again instead of once with a long wait."""

    async def async_start_new_kernel_client(self):
        client = await super().async_start_new_kernel_client()
        get_once = client.shell_channel.get_msg

        async def get_msg(timeout: float | None = None):
            deadline = time.monotonic() + (TIMEOUT if timeout is None else timeout)
            while True:
                try:
                    return await get_once(timeout=0.5)
                except Empty:
                    if time.monotonic() > deadline:
                        raise

        client.shell_channel.get_msg = get_msg
        return client


def computed() -> float:
    """Processor seconds of all kernels that have ended so far, and of the processes that they started."""
    used = os.times()  # 0 on Windows, which does not add up its children's
    return used.children_user + used.children_system


def execute(path: Path, store: bool = True) -> tuple[float, float]:
    """Run one notebook in a fresh kernel, in its own folder. Raises what a cell raised.

    Returns
    -------
    seconds that it took, and processor seconds, which other work on the machine changes little
    """
    notebook = nbformat.read(path, as_version=4)
    client = PatientClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
    )
    started, before = time.monotonic(), computed()
    client.execute()
    seconds = time.monotonic() - started, computed() - before
    for number, cell in enumerate(notebook.cells):
        cell.metadata = {k: v for k, v in cell.metadata.items() if k == "tags"}  # timings change with every run
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise RuntimeError(f"{path.name}, cell {number} writes to standard error:\n{output['text'][:2000]}")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
    }
    if store:
        nbformat.write(notebook, path)
    return seconds


def record(chapter: str, computing: float) -> None:
    """Write down the processor seconds of a chapter ("00", "01", ...), with the machine and the day."""
    about = json.loads(RECORDED.read_text(encoding="utf-8"))
    about["seconds"][chapter] = round(computing)
    about |= {"hardware": f"{platform.machine()}, {os.cpu_count()} cores", "date": time.strftime("%Y-%m-%d")}
    RECORDED.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.execute", description=__doc__.split("\n\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of notebooks/ by default")
    parser.add_argument("--dry", action="store_true", help="do not store the outputs")
    parser.add_argument("--record", action="store_true", help="write processor seconds into data/results/chapters.json")
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    for path in args.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb")):
        try:
            seconds, computing = execute(path.resolve(), store=not args.dry)
        except CellTimeoutError:
            raise SystemExit(f"{path.name}: a cell took more than {TIMEOUT} s") from None
        if args.record:
            record(path.stem[:2], computing)
        print(f"{path.name}: {seconds:.0f} s, {computing:.0f} s of computing", flush=True)


if __name__ == "__main__":
    main()
