"""On which device the networks run, and on how many threads."""

from contextlib import contextmanager

import torch


def device_for(asked: str | torch.device | None = None) -> torch.device:
    """The device ``asked`` for; by default the CUDA GPU where there is one, else the processor.

    Raises
    ------
    ValueError
        for a name that PyTorch does not know, and for CUDA where PyTorch sees no GPU
    """
    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise ValueError(f'there is no device {asked!r}; "cpu" and "cuda" are the usual names') from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f'device "{device}" was asked for, but PyTorch sees no CUDA GPU; "cpu" works everywhere')
    return device


@contextmanager
def one_thread():
    """One picture at a time is faster on one thread: handing its many small steps to several costs more than it saves,
    where other programs run many times more.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
