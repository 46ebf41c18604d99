"""Batch sizes: images a second and memory."""

import gc
from functools import partial

from tests.benchmarks import ours
from tests.benchmarks.measure import Setup, forget_peak, memory, out_of_memory, rates, seconds, wait


def sweep(setup: Setup) -> dict:
    """A training step at every batch size of the setup, until memory is refused."""
    rows = []
    for batch_size in setup.sweep:
        gc.collect()
        forget_peak(setup.device)
        try:
            run = ours.Ours(setup, batch_size)
            batch = run.batch()
            run.step(*batch)
            wait(setup.device)
            times = [seconds(partial(run.step, *batch), setup.device) for _ in range(setup.rounds)]
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            rows.append({"batch size": batch_size, "images/s": None, "memory": "refused"})
            break
        rows.append({"batch size": batch_size, **rates(batch_size, times), **memory(setup.device)})
        del run, batch
    note = (
        f"Whole training steps on a batch that lies ready, {setup.rounds} each after one to warm up. Peak memory: "
        + (
            "what PyTorch held on the GPU."
            if setup.device.type == "cuda"
            else "of the whole process, libraries included."
        )
    )
    return {"note": note, "rows": rows}
