"""helpers.inspector.jobs: what takes long does not hold up the page, reports from its thread, can be cancelled."""

import asyncio
import threading
import time

import pytest

from helpers.inspector.jobs import Worker
from helpers.methods import Cancelled


def count_to(n, pause=0.01, threads=None):
    def work(on_step):
        if threads is not None:
            threads.append(threading.current_thread())
        for i in range(n):
            time.sleep(pause)
            if not on_step(i + 1, n):
                raise Cancelled("cancelled")
        return n

    return work


def run(worker, work, while_busy=None, limit=120.0):
    """Run a job inside an event loop; gives (result, error, progress, threads of the callbacks)."""
    seen = {"result": None, "error": None, "progress": [], "threads": set()}

    def note(key):
        def callback(*arguments):
            seen["threads"].add(threading.current_thread())
            if key == "progress":
                seen[key].append(arguments)
            else:
                seen[key] = arguments[0]

        return callback

    async def main():
        worker.start(work, note("result"), note("error"), note("progress"))
        assert worker.busy
        if while_busy:
            await while_busy()
        end = time.monotonic() + limit
        while worker.busy and time.monotonic() < end:
            await asyncio.sleep(0.005)

    asyncio.run(main())
    assert not worker.busy
    return seen


def test_works_in_a_thread_and_reports_from_the_loop():
    threads = []
    seen = run(Worker(), count_to(30, threads=threads))
    assert seen["result"] == 30 and seen["error"] is None
    assert threads[0] is not threading.current_thread() and seen["threads"] == {threading.current_thread()}
    assert seen["progress"][-1] == (30, 30) and len(seen["progress"]) < 30  # not every step is worth a message


def test_the_loop_turns_meanwhile():
    turns = []

    async def turn():
        for _ in range(5):
            turns.append(time.monotonic())
            await asyncio.sleep(0.01)

    run(Worker(), count_to(20), turn)
    assert len(turns) == 5


def test_cancel():
    worker = Worker()

    async def stop():
        await asyncio.sleep(0.03)
        worker.cancel()

    seen = run(worker, count_to(10_000, 0.005), stop)
    assert isinstance(seen["error"], Cancelled) and seen["result"] is None


def test_a_late_cancel_still_counts():
    """Cancelled after the last step was reported: the result is not wanted any more."""
    worker = Worker()

    def work(on_step):
        on_step(1, 1)
        worker.cancel()
        return "done"

    assert isinstance(run(worker, work)["error"], Cancelled)


def test_errors_arrive_and_the_worker_is_free_again():
    def broken(on_step):
        raise KeyError("a bug")

    worker = Worker()
    assert isinstance(run(worker, broken)["error"], KeyError)
    assert run(worker, count_to(2))["result"] == 2


def test_one_at_a_time():
    worker = Worker()

    async def again():
        with pytest.raises(RuntimeError):
            worker.start(count_to(1), print, print)

    assert run(worker, count_to(5), again)["result"] == 5


def test_at_once_where_there_is_no_loop():
    got, steps = [], []
    worker = Worker()
    worker.start(count_to(3), got.append, got.append, lambda *s: steps.append(s))
    assert got == [3] and steps[-1] == (3, 3) and not worker.busy
