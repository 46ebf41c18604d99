"""tests.kernels: a kernel that died is started again, one that always dies is told, none knows the LPIPS weights."""

import nbval.kernel
import pytest

from tests.kernels import ATTEMPTS, as_a_reader, patient


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


def test_a_kernel_has_no_weights_for_lpips(monkeypatch):
    monkeypatch.setenv("LPIPS_TRUNK", "trunk.pth")
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    start, calls = dying(0)
    as_a_reader(start)(60, cwd="here")
    ((args, kwargs),) = calls
    assert args == (60,) and kwargs["cwd"] == "here"
    assert "LPIPS_TRUNK" not in kwargs["env"] and kwargs["env"]["COURSE_OFFLINE"] == "1"


def test_notebooks_are_started_so():
    assert nbval.kernel.start_new_kernel.__wrapped__.__wrapped__
