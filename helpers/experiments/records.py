"""A folder of records: each run of an experiment is one JSON file in it, and what is there is not run again.

So an experiment can be stopped anywhere, several processes can share it out, and one command shows how far it is.
"""

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tqdm.auto import tqdm

from helpers.engine.folders import write_json


def write_missing(
    wanted: Mapping[Path, Callable[[Path], dict]], costs: Mapping[Path, float] | None = None, progress: bool = True
) -> None:
    """Run what has no record yet, one after the other, and say after each how long the rest takes.

    Parameters
    ----------
    wanted : the file of each record -> what makes it. It is called with a folder for the state of the run, below
        ``states`` beside the file, which goes when the record is written.
    costs : how long each run takes in comparison with the others, by file; all take as long by default
    """
    costs = costs or dict.fromkeys(wanted, 1.0)
    seconds = spent = 0.0
    for done, (path, run) in enumerate(wanted.items(), 1):
        if path.exists():
            continue
        state, started = path.parent / "states" / path.stem, time.perf_counter()
        write_json(path, run(state))
        shutil.rmtree(state, ignore_errors=True)
        with suppress(OSError):  # another process's runs may lie there
            state.parent.rmdir()
        took = time.perf_counter() - started
        seconds, spent = seconds + took, spent + costs[path]
        left = sum(costs[p] for p in wanted if not p.exists()) * seconds / spent / 3600
        if progress:
            now = f"run {done} of {len(wanted)}, {path.stem}: {took:.0f} s"
            tqdm.write(f"{now}; about {left:.1f} h to go", file=sys.stderr)
