"""The input pipeline of training: batches are made ahead by threads, so that a step finds its own ready.

OpenCV, Pillow and PyTorch let go of Python's lock while they work, so threads are enough; nothing is copied between
processes. On CUDA the sharp 8-bit images are uploaded (a quarter of the bytes of float32) and blurred there as one
batch; the blurred ones come back for Canny, which OpenCV computes on the CPU.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch

from helpers.data import ImageError
from helpers.pairs import Pairs
from helpers.seeds import rng_for


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return rng_for(seed, epoch).permutation(count)


def indices_of(count: int, seed: int, step: int, batch_size: int) -> tuple[np.ndarray, int]:
    """Which of ``count`` images the training step ``step`` (from 0) sees, and in which epoch (from 0).

    Every epoch has another order, which the seed decides; the last images that do not fill a batch are left out.
    """
    epoch, place = divmod(step, count // batch_size)
    return _order(count, seed, epoch)[place * batch_size : (place + 1) * batch_size], epoch


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ahead(items: Iterable) -> Iterator:
    """The same items, each made in a thread while the one before it is used."""
    items, end = iter(items), object()
    with _pool(1) as pool:
        future = pool.submit(next, items, end)
        while (item := future.result()) is not end:
            future = pool.submit(next, items, end)
            yield item


class Loader:
    """Iterate over (inputs N×4×H×W, target N×3×H×W), float32 on ``device``, channels-last, step after step.

    The images of a step, their blur and their mirroring depend on the seed of ``pairs`` and the step's number alone
    (:func:`indices_of`, :meth:`helpers.pairs.Pairs.batch`), whatever the number of threads, of processes, of restarts.

    Parameters
    ----------
    batch_size : images of a step, over all processes
    rank, world : this process's number and how many there are; each gets its contiguous part of every batch
    accumulate : hand out a step's batch in so many parts, one after the other (gradient accumulation)
    start, stop : the first step, and the one before which to stop; by default the end of ``start``'s epoch
    workers : threads; by default one on the CPU, where it needs a fraction of a step's time and the cores are busy,
        and up to eight beside a GPU
    ahead : batches that are made before they are asked for

    Attributes
    ----------
    waited : seconds that were spent waiting for a batch so far

    Raises
    ------
    ImageError
        if the batch cannot be divided, and while iterating, if an image cannot be read (the file's name is in it)
    """

    def __init__(
        self,
        pairs: Pairs,
        batch_size: int,
        device: str | torch.device = "cpu",
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        start: int = 0,
        stop: int | None = None,
        workers: int | None = None,
        ahead: int | None = None,
    ):
        if batch_size % (accumulate * world) or batch_size < 1:
            raise ImageError(
                f"a batch of {batch_size} cannot be divided into equal parts for {world} processes × {accumulate} parts"
            )
        self.per_epoch = len(pairs) // batch_size
        if not self.per_epoch:
            raise ImageError(f"{len(pairs)} training images are fewer than one batch of {batch_size}")
        self.pairs, self.batch_size, self.device = pairs, batch_size, torch.device(device)
        self.rank, self.world, self.accumulate = rank, world, accumulate
        self.start = start
        self.stop = (start // self.per_epoch + 1) * self.per_epoch if stop is None else stop
        cuda = self.device.type == "cuda"
        self.workers = workers or (min(8, max(2, available_cores() - 1)) if cuda else 1)
        self.ahead = ahead or self.workers + 2
        self.waited = 0.0
        self._local = threading.local()

    def __len__(self) -> int:
        """How many pairs of tensors iterating gives."""
        return max(0, self.stop - self.start) * self.accumulate

    def indices(self, number: int) -> tuple[list[int], int]:
        """The images of this process's part ``number`` (step · accumulate + part), and the epoch."""
        step, part = divmod(number, self.accumulate)
        indices, epoch = indices_of(len(self.pairs), self.pairs.seed, step, self.batch_size)
        share = self.batch_size // (self.accumulate * self.world)
        first = (part * self.world + self.rank) * share
        return indices[first : first + share].tolist(), epoch

    def _make(self, number: int):
        """In a thread: one part of a batch, and on CUDA the event after which it is there."""
        if self.device.type != "cuda":
            return self._tensors(number), None
        if not hasattr(self._local, "stream"):
            self._local.stream = torch.cuda.Stream(self.device)
        with torch.cuda.device(self.device), torch.cuda.stream(self._local.stream):
            tensors = self._tensors(number)
            return tensors, self._local.stream.record_event()

    def _tensors(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        indices, epoch = self.indices(number)
        batch = self.pairs.batch(indices, epoch, self.device)
        return tuple(x.contiguous(memory_format=torch.channels_last) for x in (batch.input, batch.target))

    def _result(self, future):
        started = time.perf_counter()
        try:
            (inputs, target), ready = future.result()
        except ImageError:
            raise
        except Exception as error:
            raise ImageError(f"a training batch cannot be made ({type(error).__name__}: {error})") from error
        finally:
            self.waited += time.perf_counter() - started
        if ready is not None:  # the GPU waits, this thread does not
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(ready)
            for tensor in (inputs, target):
                tensor.record_stream(stream)
        return inputs, target

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        numbers = iter(range(self.start * self.accumulate, self.stop * self.accumulate))
        pool = _pool(self.workers)
        try:
            queue = deque()
            for number in numbers:
                queue.append(pool.submit(self._make, number))
                if len(queue) > self.ahead:
                    yield self._result(queue.popleft())
            while queue:
                yield self._result(queue.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads in which PyTorch computes with one thread each.

    Otherwise each would bring a team of its own as large as the training's, and on a busy processor teams that wait
    for each other are many times slower. ``set_num_threads`` sets the calling thread and what later threads begin
    with, so the latter is set back when all have started.
    """
    threads, started = torch.get_num_threads(), threading.Barrier(workers + 1)

    def alone():
        torch.get_num_threads()
        torch.set_num_threads(1)
        started.wait(60)

    pool = ThreadPoolExecutor(workers, "loader", alone)
    for _ in range(workers):
        pool.submit(int)
    started.wait(60)
    torch.set_num_threads(threads)
    return pool
