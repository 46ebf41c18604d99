"""Run the code cells of an assignment with many variants of its answers, quickly: ``run_cells.py < job > results``.

One process imports PyTorch once and goes through the reference; before a cell of which there are variants it forks a
child for each, which runs that variant and all cells after it. Cells share a namespace, as in a kernel.
``test_coursework.py`` checks on real submissions that nbgrader gives the same points.
"""

import contextlib
import io
import json
import os
import signal
import sys
import tempfile

SECONDS = 10  # of processor time for a cell; an answer may loop for ever


def out_of_time(*_):
    raise TimeoutError(f"more than {SECONDS} s")


def run(cells: list[dict], namespace: dict, results: dict) -> None:
    """Run cells; for each one with a name, "" or what it raised."""
    for cell in cells:
        error = ""
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            exec(compile(cell["source"], cell["name"] or "cell", "exec"), namespace)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
        if cell["name"]:
            results[cell["name"]] = error


def forked(cells: list[dict], namespace: dict, results: dict) -> dict:
    """The results of ``cells`` run in a child process, which leaves this one as it was."""
    with tempfile.TemporaryFile("w+") as channel:
        child = os.fork()
        if child == 0:
            try:
                run(cells, namespace, results)
                json.dump(results, channel)
                channel.flush()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        channel.seek(0)
        return json.load(channel)


def main() -> None:
    signal.signal(signal.SIGPROF, out_of_time)
    job = json.load(sys.stdin)
    cells, out = job["cells"], []
    namespace, results = {"__name__": "__main__"}, {}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for i, cell in enumerate(cells):
            # A variant may change several cells; it is forked off before the first of them.
            for number, variant in enumerate(job["variants"]):
                if min(j for j, c in enumerate(cells) if c["name"] in variant) == i:
                    changed = [c | {"source": variant.get(c["name"], c["source"])} for c in cells[i:]]
                    out.append((number, forked(changed, namespace, dict(results))))
            run([cell], namespace, results)
    json.dump({"reference": results, "variants": [r for _, r in sorted(out, key=lambda o: o[0])]}, sys.stdout)


if __name__ == "__main__":
    main()
