"""Run the code cells of an assignment with many variants of its answers, quickly: ``run_cells.py < jobs > results``.

One process imports PyTorch once and goes through the reference; before a cell of which there are variants it forks a
child for each, which runs that variant and all cells after it. Cells share a namespace, as in a kernel; tests give
points by part (guard.py). ``test_references.py`` checks on real submissions that nbgrader gives the same points.
"""

import contextlib
import io
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "notebooks" / "coursework"))
import guard

SECONDS = 3  # of processor time for an answer or a test; an answer may loop for ever
IMPORTS = 20  # for any other cell


def out_of_time(*_):
    raise TimeoutError("out of processor time")


def forked(function, *arguments):
    """What a function returns in a child process, which leaves this one as it was."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as channel:
        child = os.fork()
        if child == 0:
            try:
                json.dump(function(*arguments), channel)
                channel.flush()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        channel.seek(0)
        return json.load(channel)


def run(cells: list[dict], namespace: dict, results: dict) -> dict:
    """Run cells; for each one with a name, [what it raised or "", its points], added to ``results``."""
    for cell in cells:
        error, points = "", 0.0
        signal.setitimer(signal.ITIMER_PROF, SECONDS if cell.get("quick") else IMPORTS)
        try:
            if cell.get("points") is None:
                exec(compile(cell["source"], cell["name"] or "cell", "exec"), namespace)
            else:
                parts = guard.run(cell["source"], cell["points"], namespace, cell["name"])
                error, points = next((p.error for p in parts if p.error), ""), guard.score(parts)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
        if cell["name"]:
            results[cell["name"]] = [error, points]
    return results


def all_of(job: dict) -> dict:
    """The results of the reference, and of each variant."""
    cells, out, namespace, results = job["cells"], [], {"__name__": "__main__"}, {}
    if job["variants"]:
        run(cells, {"__name__": "__main__"}, {})  # once before, so that no child imports what PyTorch loads when needed
    for i, cell in enumerate(cells):
        # A variant may change several cells; it is forked off before the first of them.
        for number, variant in enumerate(job["variants"]):
            if min(j for j, c in enumerate(cells) if c["name"] in variant) == i:
                changed = [c | {"source": variant.get(c["name"], c["source"])} for c in cells[i:]]
                out.append((number, forked(run, changed, namespace, dict(results))))
        run([cell], namespace, results)
    return {"reference": results, "variants": [r for _, r in sorted(out, key=lambda o: o[0])]}


def main() -> None:
    """Several jobs in one process share the import of PyTorch."""
    signal.signal(signal.SIGPROF, out_of_time)
    jobs = json.load(sys.stdin)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if len(jobs) > 1:
            import torch._dynamo  # noqa: F401  and what the first optimiser would load, in the time of an answer
        results = [forked(all_of, job) for job in jobs] if len(jobs) > 1 else [all_of(job) for job in jobs]
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
