"""tests.kernels: a kernel that died is started again, and one that always dies is told."""

import nbval.kernel
import pytest

from tests.kernels import ATTEMPTS, patient


def dying(times: int):
    """A start that fails so often, and then gives what it was given; its calls."""
    calls = []

    def start(*args, **kwargs):
        calls.append((args, kwargs))
        if len(calls) <= times:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return args, kwargs

    return start, calls


@pytest.mark.parametrize("times", range(ATTEMPTS))
def test_a_kernel_that_died_is_started_again(times):
    start, calls = dying(times)
    assert patient(start)(60, cwd="here") == ((60,), {"cwd": "here"})
    assert len(calls) == times + 1


def test_one_that_always_dies_is_told():
    start, calls = dying(100)
    with pytest.raises(RuntimeError, match="Kernel died"):
        patient(start)()
    assert len(calls) == ATTEMPTS


def test_notebooks_are_started_so():
    assert nbval.kernel.start_new_kernel.__wrapped__
