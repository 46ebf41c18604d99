"""On which device the networks run."""

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
