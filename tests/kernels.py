"""Kernels that start where many start at once.

A kernel's ports are chosen before it binds them. If another process takes one in between, the kernel dies, and nbval
would call every cell of the notebook an error. Another attempt gets other ports.
"""

from collections.abc import Callable
from functools import wraps

ATTEMPTS = 3


def patient(start: Callable) -> Callable:
    """``start`` (:func:`nbval.kernel.start_new_kernel`), tried again where its kernel died before it answered."""

    @wraps(start)
    def started(*args, **kwargs):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return start(*args, **kwargs)
            except RuntimeError:
                if attempt == ATTEMPTS:
                    raise

    return started
