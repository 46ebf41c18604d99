"""``python -m tests.fuzz read_image --minutes 10``: executions, and what was found."""

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.loop import run
from tests.fuzz.targets import TARGETS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="where files go that broke something")
    args = parser.parse_args()
    began = time.process_time(), time.time()
    executions, found = run(args.target, TARGETS[args.target], args.minutes, args.seed, args.keep)
    print(f"{args.target}: {executions:,} executions in {(time.time() - began[1]) / 60:.1f} minutes, {found} findings")
    sys.exit(found > 0)


if __name__ == "__main__":
    main()
