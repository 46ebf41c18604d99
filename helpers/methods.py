"""Every restoration method of the course behind one call, for tables (notebook 11) and for the inspector.

::

    method = load_method("thesis")
    restored = method.restore(blurred)      # uint8 N×H×W×3 to the same

A method that searches anew for every picture (``slow``) tells its progress to ``on_step`` and stops when told to.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from helpers.restorer import Restorer

# Called with the steps done and the steps there are; False stops the search.
OnStep = Callable[[int, int], bool]


class Cancelled(RuntimeError):
    """``on_step`` said to stop."""


class Method:
    """What tables and the inspector need to know of a method.

    Attributes
    ----------
    name, title : its key in :data:`TITLES` and what a table calls it
    slow : it optimises each picture for many seconds, so run it on request only
    knows_blur : it is told the blur (``params``); the others are not
    networks : the modules that it runs, for counting parameters
    """

    name = title = ""
    slow = knows_blur = False
    networks: tuple[nn.Module, ...] = ()

    def restore(
        self, blurred: np.ndarray, params: list[dict] | None = None, on_step: OnStep | None = None
    ) -> np.ndarray:
        """Restore pictures: uint8 N×H×W×3 to the same shape.

        Parameters
        ----------
        params : what the degradation drew for each picture; only a method with ``knows_blur`` looks at it
        on_step : see :data:`OnStep`; called by slow methods alone

        Raises
        ------
        Cancelled
            when ``on_step`` gave False
        """
        raise NotImplementedError

    @property
    def parameters(self) -> int:
        """Trained numbers that restoring a picture uses."""
        return sum(p.numel() for network in self.networks for p in network.parameters())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.title}, {self.parameters:,} parameters)"


class Thesis(Method):
    """The thesis's own model: DeblurEncoder and Generator (chapter 2)."""

    name, title = "thesis", "thesis's model"

    def __init__(self, device: str | torch.device | None = None):
        self.restorer = Restorer(device=device)
        self.networks = (self.restorer.model.deblur_encoder, self.restorer.model.generator)

    def restore(self, blurred, params=None, on_step=None):
        return self.restorer.restore(blurred)


METHODS = {method.name: method for method in (Thesis,)}
TITLES = {name: method.title for name, method in METHODS.items()}


def load_method(name: str, device: str | torch.device | None = None) -> Method:
    """A method by name, with the weights that ship; CUDA where there is one.

    Raises
    ------
    CheckpointError
        if its weights are not there; the message says what to do
    """
    if name not in METHODS:
        raise ValueError(f"there is no method {name!r}; choose one of {', '.join(METHODS)}")
    return METHODS[name](device)
