"""Long computations beside a live page: a thread that computes, callbacks that run where widgets may be touched.

The thread never calls back itself. It asks the event loop (in Jupyter and Voilà, the kernel's) to do so, so callbacks
take turns with the messages of sliders and buttons and nothing can race.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable

from helpers.methods import Cancelled, OnStep

PAUSE = 0.1  # seconds between two reports of progress; more would only fill the page's connection


class Worker:
    """One long computation at a time.

    Attributes
    ----------
    busy : whether one is under way
    """

    def __init__(self):
        self.busy = False
        self._stop = threading.Event()

    def start(
        self,
        work: Callable[[OnStep], object],
        done: Callable[[object], None],
        failed: Callable[[Exception], None],
        progress: Callable[[int, int], None] = lambda step, steps: None,
    ) -> None:
        """Run ``work`` in a thread; without an event loop (a script) run it at once.

        Parameters
        ----------
        work : is handed an ``on_step``; must raise :class:`helpers.methods.Cancelled` when that gives False
        done, failed : one of the two is called at the end, with what ``work`` gave or raised
        progress : called with (steps done, steps there are)

        Raises
        ------
        RuntimeError
            if the worker is busy
        """
        if self.busy:
            raise RuntimeError("a computation is under way; wait for it or cancel it")
        self.busy = True
        self._stop = stop = threading.Event()  # the job's own, so that a cancelled one never hears of the next
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        last = 0.0

        def call(function, *arguments):
            if loop is None:
                function(*arguments)
            else:
                with contextlib.suppress(RuntimeError):  # the kernel is shutting down and its loop is closed
                    loop.call_soon_threadsafe(function, *arguments)

        def on_step(step: int, steps: int) -> bool:
            nonlocal last
            if time.monotonic() - last > PAUSE or step == steps:
                last = time.monotonic()
                call(progress, step, steps)
            return not stop.is_set()

        def finish(function, argument):
            self.busy = False
            function(argument)

        def run():
            try:
                result = work(on_step)
                if stop.is_set():
                    raise Cancelled("cancelled")
            except Exception as error:
                call(finish, failed, error)
            else:
                call(finish, done, result)

        if loop is None:
            run()
        else:
            threading.Thread(target=run, name="inspector", daemon=True).start()

    def cancel(self) -> None:
        """Ask the computation to stop at its next step."""
        self._stop.set()
