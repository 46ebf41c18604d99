"""One process and two: the same global batch, shared out.

torchrun --nproc_per_node 2 -m tests.benchmarks.processes full cpu 16      # what the part launches; prints JSON
"""

import json
import os
import subprocess
import sys

import torch

from tests.benchmarks import ours
from tests.benchmarks.measure import Setup, rates, seconds


def work(setup: Setup, batch_size: int) -> dict:
    """In each process: train a few steps, take the time together."""
    run = ours.Ours(setup, batch_size)
    losses = run.losses()
    next(losses)
    run.accelerator.wait_for_everyone()

    def some() -> None:
        for _ in range(setup.steps):
            next(losses)

    times = [seconds(some, setup.device) for _ in range(setup.rounds)]  # gradients are shared: all wait for the last
    losses.close()
    world, rank = run.accelerator.num_processes, run.accelerator.process_index
    run.accelerator.wait_for_everyone()
    if world > 1:
        torch.distributed.destroy_process_group()
    return {"times": times, "world": world, "rank": rank, "threads": torch.get_num_threads()}


def launch(name: str, device: str, batch_size: int, world: int, threads: int | None) -> dict:
    """Run :func:`work` in ``world`` processes; what the first one measured."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(world)] if world > 1 else []
    command = [sys.executable, *launcher, "-m", "tests.benchmarks.processes", name, device, str(batch_size)]
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    if device == "cpu":
        environment |= {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(lines[0])


def processes(setup: Setup) -> dict:
    """Images a second of one and of more processes: several GPUs where there are, else cores."""
    gpus = torch.cuda.device_count() if setup.device.type == "cuda" else 0
    name = "quick" if setup.image_size < 128 else "full"
    cases: dict[str, tuple[str, int, int, int | None]] = {}
    if gpus > 1:
        for world in sorted({1, 2, gpus}):
            cases[f"{world} GPUs, the same batch"] = ("cuda", setup.batch, world, None)
        for world in sorted({2, gpus}):
            cases[f"{world} GPUs, {world} times the batch"] = ("cuda", setup.batch * world, world, None)
    else:
        half, batch_size = max(1, (os.cpu_count() or 2) // 2), 4 if name == "quick" else 16
        cases["1 process"] = ("cpu", batch_size, 1, half)
        if name == "full":
            cases["1 process, twice the threads"] = ("cpu", batch_size, 1, 2 * half)
        cases["2 processes"] = ("cpu", batch_size, 2, half)
    times: dict[str, list[float]] = {case: [] for case in cases}
    found = {}
    for _ in range(setup.launches):  # each repeats its steps, too
        for case, (device, batch_size, world, threads) in cases.items():
            found[case] = launch(name, device, batch_size, world, threads)
            times[case] += found[case]["times"]
    rows = []
    for case, (device, batch_size, world, _) in cases.items():
        row = {
            "what": case, "device": device, "processes": world, "threads of each": found[case]["threads"],
            "batch size": batch_size, **rates(batch_size * setup.steps, times[case]),
        }  # fmt: skip
        rows.append(row | {"times the first": row["images/s"] / rows[0]["images/s"] if rows else 1.0})
    note = (
        "Several are launched by torchrun; gradients averaged, batch norm over the whole batch: the same result as one "
        f"process. {setup.launches} launches each in turns, {setup.rounds} times {setup.steps} steps in each."
    )
    return {"note": note, "rows": rows}


if __name__ == "__main__":
    result = work(getattr(Setup, sys.argv[1])(torch.device(sys.argv[2])), int(sys.argv[3]))
    if result["rank"] == 0:
        print(json.dumps(result), flush=True)
