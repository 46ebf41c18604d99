"""How fast the inspector is, without a browser: ``python -m tests.benchmark_inspector``.

Prints the median time of 20 control moves (the thesis's model, view "Four stages", new setting every time), the cold
start (imports, weights, first picture), and the memory after 20 and after 200 moves. Wall time and, beside it, the
processor's time, which tells more on a machine that does other things, too.
"""

import time

STARTED = time.perf_counter(), time.process_time()

import argparse  # noqa: E402  the imports are part of the cold start
import statistics  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402

from helpers.inspector import Inspector  # noqa: E402


def megabytes() -> float:
    """Resident memory of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096 / 1e6


def moves(page: Inspector, count: int, first: int) -> list[tuple[float, float]]:
    """Move a control ``count`` times, each time to a setting that was never there: (wall, processor) seconds each."""
    times = []
    for k in range(first, first + count):
        control, value = [
            (page.strength, 0.6 + 0.01 * k), (page.noise, 1 + k % 49), (page.canny, (5 + k % 50, 60 + k % 90)),
            (page.position, k % page.position.max),
        ][k % 4]  # fmt: skip
        wall, own = time.perf_counter(), time.process_time()
        control.value = value
        times.append((time.perf_counter() - wall, time.process_time() - own))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark_inspector", description=__doc__.split("\n\n")[0])
    parser.add_argument("--moves", type=int, default=200, help="how many moves the memory is watched for")
    args = parser.parse_args()
    page = Inspector()
    cold = time.perf_counter() - STARTED[0], time.process_time() - STARTED[1]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, methods: {', '.join(page.state.methods)}")
    print(f"cold start:             {cold[0]:6.2f} s   (processor {cold[1]:.2f} s)")
    moves(page, 4, 0)
    wall, own = (statistics.median(t) for t in zip(*moves(page, 20, 4), strict=True))
    print(f"a move, median of 20:   {1000 * wall:6.0f} ms  (processor {1000 * own:.0f} ms)")
    before = megabytes()
    print(f"memory after 24 moves:  {before:6.0f} MB")
    for done in range(24, args.moves, 44):
        moves(page, min(44, args.moves - done), done)
    print(f"memory after {args.moves} moves: {megabytes():6.0f} MB ({megabytes() - before:+.0f} MB)")


if __name__ == "__main__":
    main()
