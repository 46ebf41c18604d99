"""Kernels that start where many start at once, and as on a reader's machine.

A kernel's ports are chosen before it binds them. If another process takes one in between, the kernel dies, and nbval
would call every cell of the notebook an error. Another attempt gets other ports.

A reader without a network has no weights for LPIPS. Stored outputs are made with them (``tests.execute``), so notebooks
are validated without: a cell that needs them fails, and an output that is compared must not depend on them.
"""

import os
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


def as_a_reader(start: Callable) -> Callable:
    """``start`` in an environment that names no weights for LPIPS."""

    @wraps(start)
    def started(*args, **kwargs):
        env = {name: value for name, value in os.environ.items() if name != "LPIPS_TRUNK"}
        return start(*args, **{"env": env, **kwargs})

    return started
