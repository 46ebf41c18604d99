"""What is measured: the training of :mod:`helpers.training`, one step at a time, exactly as it runs there."""

import contextlib
from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.profiler import record_function

from helpers import pairs as pairs_module
from helpers import training
from helpers.loading import Loader
from helpers.losses import TotalLoss
from helpers.networks import DeblurModel
from helpers.pairs import Pairs
from helpers.perceptual import Lpips
from helpers.seeds import seed_everything
from helpers.syncnorm import synchronise
from tests.benchmarks import measure
from tests.benchmarks.measure import Setup
from tests.benchmarks.plain import order

KINDS = {"bf16": "bfloat16", "fp16": "float16", "no": "float32"}
ENDLESS = 10**9  # steps


def kind(device: torch.device) -> str:
    """The number format that training chooses on this device, by PyTorch's name."""
    return KINDS[training.precision_for(device)]


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
    """A training that is set up as :func:`helpers.training.train` does it, and waits to be asked for its steps.

    Attributes
    ----------
    model : the three networks; ``network`` is what is called instead (compiled, or shared among processes)
    kind : the number format of products
    warmup : seconds that compiling took
    """

    def __init__(
        self,
        setup: Setup,
        batch_size: int,
        images: np.ndarray | None = None,
        ruler: Lpips | None = None,
        compiled: bool | None = None,
    ):
        self.device = setup.device
        AcceleratorState._reset_state()
        precision = training.precision_for(self.device)
        self.accelerator = Accelerator(mixed_precision=precision, cpu=self.device.type == "cpu")
        self.device = self.accelerator.device  # of several GPUs, this process's
        self.kind, self.batch_size = KINDS[precision], batch_size
        seed_everything()
        ruler = deepcopy(ruler or measure.ruler(self.device)).to(self.device, memory_format=torch.channels_last)
        self.model = DeblurModel(setup.latent_dim, setup.image_size)
        self.model = self.model.to(self.device, memory_format=torch.channels_last).train()
        if self.accelerator.num_processes > 1:
            synchronise(self.model, self.device)
        optimiser = torch.optim.Adam(self.model.parameters(), lr=2e-4, fused=True)
        self.optimiser = self.accelerator.prepare_optimizer(optimiser)
        recipe = training.Recipe(
            batch_size=batch_size, latent_dim=setup.latent_dim, image_size=setup.image_size
        )  # fmt: skip
        self.terms = TotalLoss(ruler)
        self.network, self.loss, self.warmup = training._prepare(
            self.model, self.terms, recipe, self.accelerator, compiled
        )
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
