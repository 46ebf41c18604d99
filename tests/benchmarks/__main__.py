"""Measure everything side by side, print tables, write JSON.

python -m tests.benchmarks                          # all parts: 12 minutes on 2 cores
python -m tests.benchmarks training ladder          # these alone, merged into what is there
python -m tests.benchmarks --quick                  # every part in miniature; the figures mean nothing
python -m tests.benchmarks --record                 # into data/results/benchmarks.json and .md
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

from helpers.data import data_folder
from tests.benchmarks import (
    evaluation,
    folder,
    measure,
    peak,
    pipeline,
    precision,
    processes,
    report,
    shares,
    sweep,
    training,
)

PARTS = {
    "training": training.training,
    "ladder": training.ladder,
    "evaluation": evaluation.evaluation,
    "sweep": sweep.sweep,
    "peak": peak.peak,
    "layers": peak.layers,
    "shares": shares.shares,
    "trace": shares.trace,
    "pipeline": pipeline.pipeline,
    "start": pipeline.start,
    "processes": processes.processes,
    "folder": folder.folder,
    "precision": precision.precision,
}


def run(part: str, setup: measure.Setup) -> dict:
    """One part's result, with what it was measured on."""
    facts = {
        "hardware": measure.hardware(setup.device), "versions": measure.versions(), "date": measure.today()
    }  # fmt: skip
    started = time.perf_counter()
    result = PARTS[part](setup)
    return {**facts, "seconds": round(time.perf_counter() - started, 1), **result}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"all by default: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="every part in miniature")
    parser.add_argument("--out", type=Path, help="the JSON file; build/benchmarks.json by default")
    parser.add_argument("--record", action="store_true", help="write to data/results/benchmarks.json (and .md)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder-path", type=Path, help="where the part `folder` makes its 200,000 files")
    args = parser.parse_args(arguments)
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; choose among {', '.join(PARTS)}")
    if args.record and args.quick:
        parser.error("figures of --quick mean nothing and are not recorded")
    device = torch.device(args.device)
    setup = measure.Setup.quick(device) if args.quick else measure.Setup.full(device)
    setup.folder = args.folder_path
    out = args.out or Path("build/benchmarks.json")
    if args.record:
        name = "benchmarks" if device.type == "cpu" else "benchmarks_gpu"
        out = data_folder() / "results" / f"{name}.json"
    parts = args.parts or list(PARTS)
    if len(parts) == 1:
        result = run(parts[0], setup)
        report.merge(out, parts[0], result)
        print(report.section(parts[0], result), flush=True)
        return
    # Each part has an interpreter of its own, so that none sees the memory of another, and none can take others along.
    options = ["--device", args.device, "--out", str(out)] + (["--quick"] if args.quick else [])
    options += ["--folder-path", str(args.folder_path)] if args.folder_path else []
    failed = [
        part for part in parts if subprocess.run([sys.executable, "-m", "tests.benchmarks", part, *options]).returncode
    ]
    print(f"written to {out} and {out.with_suffix('.md')}")
    if failed:
        raise SystemExit(f"error: these parts failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
