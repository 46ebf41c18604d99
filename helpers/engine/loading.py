"""The input pipeline of training: threads make the batches beforehand, so that a step finds its own ready.

OpenCV, Pillow and PyTorch release Python's lock while they compute, so threads suffice and nothing is copied between
processes. On CUDA the sharp 8-bit images are uploaded (a quarter of the bytes of float32) and blurred there as one
batch; the blurred ones come back for Canny, which OpenCV computes on the CPU.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from helpers.engine import runs
from helpers.engine.errors import ImageError, TrainingError
from helpers.seeds import indices_of

ENDLESS = 10**9  # steps
Item, Result = TypeVar("Item"), TypeVar("Result")


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prefetch(
    make: Callable[[Item], Result], items: Iterable[Item], workers: int = 1, ahead: int = 1
) -> Iterator[Result]:
    """``make(item)`` for each item, in order; threads compute up to ``ahead`` results before they are asked for.

    Parameters
    ----------
    workers : threads, in each of which PyTorch computes with one thread

    Raises
    ------
    whatever ``make`` raises, when its result is asked for; no further item is begun then
    """
    pool, queue = _pool(workers), deque()
    try:
        for item in items:
            queue.append(pool.submit(make, item))
            if len(queue) > ahead:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class Loader:
    """Iterate over (inputs N×4×H×W, target N×3×H×W), float32 on ``device``, channels-last, step after step.

    The images of a step, their blur and their mirroring depend on the seed of ``pairs`` and the step's number alone
    (:func:`helpers.seeds.indices_of`, :meth:`helpers.pairs.Pairs.batch`), whatever the number of threads, of
    processes, of restarts.

    Parameters
    ----------
    pairs : a :class:`helpers.pairs.Pairs`, or what has a length, ``seed`` and ``batch(indices, epoch, device)`` like it
    batch_size : images of a step, over all processes
    rank, world : this process's number and how many there are; each gets its contiguous part of every batch
    accumulate : divide a step's batch into so many parts, given one after the other (gradient accumulation)
    start, stop : the first step, and the one before which to stop; by default the end of ``start``'s epoch
    workers : threads; by default one on the CPU, where it needs a fraction of a step's time and the cores are busy,
        and up to eight beside a GPU
    ahead : batches that are made before they are asked for

    Raises
    ------
    TrainingError
        if the batch cannot be divided, or there are fewer images than it takes
    ImageError
        while iterating, if an image cannot be read (the file's name is in it)
    """

    def __init__(
        self,
        pairs,
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
        if batch_size < 1 or batch_size % (accumulate * world):
            raise TrainingError(
                f"a batch of {batch_size} cannot be divided into equal parts for {world} processes × {accumulate} parts"
            )
        per_epoch = len(pairs) // batch_size
        if not per_epoch:
            raise TrainingError(f"{len(pairs)} training images are fewer than one batch of {batch_size}")
        self.pairs, self.batch_size, self.device = pairs, batch_size, torch.device(device)
        self.rank, self.world, self.accumulate = rank, world, accumulate
        self.start, self.stop = start, (start // per_epoch + 1) * per_epoch if stop is None else stop
        beside_gpu = min(8, max(2, available_cores() - 1))
        self.workers = workers or (beside_gpu if self.device.type == "cuda" else 1)
        self.ahead = ahead or self.workers + 2
        self._local = threading.local()

    def __len__(self) -> int:
        """How many pairs of tensors iterating gives."""
        return max(0, self.stop - self.start) * self.accumulate

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        numbers = range(self.start * self.accumulate, self.stop * self.accumulate)
        for tensors, ready in prefetch(self._make, numbers, self.workers, self.ahead):
            if ready is not None:  # the GPU waits, this thread does not
                stream = torch.cuda.current_stream(self.device)
                stream.wait_event(ready)
                for tensor in tensors:
                    tensor.record_stream(stream)
            yield tensors

    def indices(self, number: int) -> tuple[list[int], int]:
        """The images of this process's part ``number`` (step · accumulate + part), and the epoch."""
        step, part = divmod(number, self.accumulate)
        indices, epoch = indices_of(len(self.pairs), self.pairs.seed, step, self.batch_size)
        share = self.batch_size // (self.accumulate * self.world)
        first = (part * self.world + self.rank) * share
        return indices[first : first + share].tolist(), epoch

    def _make(self, number: int):
        """In a thread: one part of a batch, and on CUDA the event after which it is there."""
        try:
            if self.device.type != "cuda":
                return self._tensors(number), None
            if not hasattr(self._local, "stream"):
                self._local.stream = torch.cuda.Stream(self.device)
            with torch.cuda.device(self.device), torch.cuda.stream(self._local.stream):
                return self._tensors(number), self._local.stream.record_event()
        except ImageError:
            raise
        except Exception as error:
            raise ImageError(f"a training batch cannot be made ({type(error).__name__}: {error})") from error

    def _tensors(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        indices, epoch = self.indices(number)
        batch = self.pairs.batch(indices, epoch, self.device)
        return tuple(x.contiguous(memory_format=torch.channels_last) for x in (batch.input, batch.target))


class StepBatches:
    """The batch of a step, for a training that asks for one step after the other (chapters 02 to 04 and 13).

    On a GPU a :class:`Loader` makes the batches beforehand. On the CPU each is made when it is asked for, in the
    training's own thread, so that a training of one thread stays one. The pictures are the same.

    Parameters
    ----------
    pairs, batch_size, device : see :class:`Loader`
    ahead : make batches beforehand; by default on CUDA alone
    """

    def __init__(self, pairs, batch_size: int, device: str | torch.device = "cpu", ahead: bool | None = None):
        self.pairs, self.batch_size, self.device = pairs, batch_size, torch.device(device)
        self.ahead = self.device.type == "cuda" if ahead is None else ahead
        self._next, self._batches = -1, iter(())

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(inputs N×4×H×W, or N×3×H×W without edge maps, target N×3×H×W), channels-last, of the step ``step``.

        Raises
        ------
        TrainingError, ImageError
            see :class:`Loader`
        """
        if not self.ahead:
            batch = runs.batch_of(self.pairs, step, self.batch_size)
            return tuple(x.to(self.device, memory_format=torch.channels_last) for x in (batch.input, batch.target))
        if step != self._next:  # the first step of a training, or of another one on the same pictures
            self._batches = iter(Loader(self.pairs, self.batch_size, self.device, start=step, stop=ENDLESS))
        self._next = step + 1
        return next(self._batches)


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
