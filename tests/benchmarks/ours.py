"""What is measured: the training of :mod:`helpers.training`, one step at a time, exactly as it runs there."""

import contextlib
import os
from collections.abc import Iterator
from copy import deepcopy
from unittest import mock

import numpy as np
import torch
from torch.profiler import record_function

from helpers import pairs as pairs_module
from helpers import training
from helpers.engine.checkpoints import unwrapped
from helpers.engine.loading import ENDLESS, Loader
from helpers.engine.precision import NAMES, precision_for
from helpers.pairs import Pairs
from helpers.perceptual import Lpips
from tests.benchmarks import measure
from tests.benchmarks.measure import Setup
from tests.benchmarks.plain import order


def kind(device: torch.device) -> str:
    """The number format that training chooses on this device, by PyTorch's name."""
    return NAMES[precision_for(device)]


def loaded(pairs: Pairs, batch_size: int, device: torch.device, threads: int | None = None) -> Iterator:
    """Batches without end, (inputs, target) on the device: by the loader, or with 0 threads without it."""
    if threads == 0:
        for epoch, indices in order(len(pairs), batch_size, pairs.seed):
            batch = pairs.batch(indices.tolist(), epoch, device)
            yield batch.input, batch.target
    else:
        with contextlib.closing(iter(Loader(pairs, batch_size, device, stop=ENDLESS, workers=threads))) as batches:
            yield from batches


class Ours:
    """The :class:`helpers.training.Trainer` with its pictures, which waits to be asked for its steps.

    Attributes
    ----------
    model : the three networks; ``network`` is what is called instead (compiled, or shared among processes)
    terms : the loss; ``loss`` is what is called instead
    kind : the number format of products
    warmup : seconds that compiling took
    """

    def __init__(
        self,
        setup: Setup,
        batch_size: int,
        images: np.ndarray | None = None,
        metric: Lpips | None = None,
        compiled: bool | None = None,
        precision: str = "auto",
    ):
        recipe = training.Recipe(
            batch_size=batch_size, latent_dim=setup.latent_dim, image_size=setup.image_size, precision=precision
        )
        lpips = deepcopy(metric or measure.metric(setup.device))
        cpu = {"ACCELERATE_USE_CPU": "true"} if setup.device.type == "cpu" else {}
        with mock.patch.dict(os.environ, cpu):
            trainer = training.Trainer(recipe, lpips, measure.untrained(setup), compiled)
        self.trainer, self.accelerator, self.batch_size = trainer, trainer.accelerator, batch_size
        self.device, self.kind = trainer.device, NAMES[trainer.precision]  # of several GPUs, this process's
        self.model, self.network = trainer.model.train(), trainer.network
        self.loss, self.terms, self.optimiser = trainer.loss, unwrapped(trainer.loss), trainer.optimiser
        self.warmup = trainer.warmup_seconds
        self.pairs = Pairs(measure.faces(setup) if images is None else images, flip=True)

    def autocast(self, enabled: bool = True):
        """The context in which a forward pass runs."""
        return self.accelerator.autocast() if enabled else contextlib.nullcontext()

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's part of every batch, by the loader, without end."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        loader = Loader(self.pairs, self.batch_size, self.device, rank, world, stop=ENDLESS)
        with contextlib.closing(iter(loader)) as batches:
            yield from batches

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """One batch that lies ready."""
        with contextlib.closing(self.batches()) as batches:
            return next(batches)

    def step(self, inputs: torch.Tensor, target: torch.Tensor) -> float | torch.Tensor:
        """One update. On a GPU nobody looks at the loss at once, as in training."""
        return training.training_step(
            self.network, self.loss, self.optimiser, self.accelerator, inputs, target, self.device.type != "cuda"
        )["total"]

    def forward_backward(self, inputs: torch.Tensor, target: torch.Tensor) -> None:
        """The gradients of one step, without compiling, so that operations can be counted."""
        self.optimiser.zero_grad(set_to_none=True)
        with self.autocast():
            restored, z_deblur, z_gt = self.model(inputs, target)
            total = self.terms(restored, target, z_deblur, z_gt)["total"]
        self.accelerator.backward(total)

    def losses(self) -> Iterator[float | torch.Tensor]:
        """Train; the loss of each step, without end."""
        with contextlib.closing(self.batches()) as batches:
            for batch in batches:
                yield self.step(*batch)


# ---------------------------------------------------------------------------------------------------------------------
# Names for the profiler


@contextlib.contextmanager
def named(run: Ours) -> Iterator[None]:
    """Let the profiler see the parts of a step and of the loader by name ("> blur" ...), while in here."""
    places = [
        (Pairs, "batch", "make a batch"), (type(run.pairs.degradation), "_apply", "blur"),
        (pairs_module, "edge_maps", "Canny"), (run.accelerator, "backward", "backward"),
        (run.optimiser, "step", "Adam"),
    ]  # fmt: skip
    if run.network is run.model:
        places += [
            (run.model.deblur_encoder, "forward", "DeblurEncoder"), (run.model.generator, "forward", "Generator"),
            (run.model.latent_encoder, "forward", "LatentEncoder"), (run.terms, "forward", "losses"),
        ]  # fmt: skip
    else:  # what is compiled has no parts, and a changed method would have it compiled anew
        places += [(run, "network", "networks"), (run, "loss", "losses")]
    with contextlib.ExitStack() as stack:
        for holder, attribute, name in places:
            stack.enter_context(_renamed(holder, attribute, f"> {name}"))
        yield


@contextlib.contextmanager
def _renamed(holder, attribute: str, name: str) -> Iterator[None]:
    """Replace a function by one that tells the profiler its name."""
    before, own = getattr(holder, attribute), attribute in vars(holder)

    def marked(*args, **kwargs):
        with record_function(name):
            return before(*args, **kwargs)

    setattr(holder, attribute, marked)
    try:
        yield
    finally:
        if own:
            setattr(holder, attribute, before)
        else:
            delattr(holder, attribute)
