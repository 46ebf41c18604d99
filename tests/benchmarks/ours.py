"""What is measured: the training of :mod:`helpers.training`, one step at a time."""

import contextlib
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch.profiler import record_function

from helpers import pairs as pairs_module
from helpers import training
from helpers.losses import TotalLoss
from helpers.networks import DeblurModel
from helpers.pairs import Pairs
from helpers.perceptual import Lpips
from helpers.seeds import seed_everything
from tests.benchmarks import measure
from tests.benchmarks.measure import Setup
from tests.benchmarks.plain import order


def kind(setup: Setup) -> str:
    return "bfloat16"


def threads(setup: Setup) -> int:
    return 1


def bare(model):
    return model


def loaded(setup, pairs, batch_size, threads):
    for e, i in order(len(pairs), batch_size):
        b = pairs.batch(i.tolist(), e)
        yield b.input, b.target


class Ours:
    def __init__(self, setup: Setup, batch_size: int, images=None, ruler: Lpips | None = None, compiled: bool = True):
        self.setup, self.batch_size, self.kind = setup, batch_size, kind(setup)
        seed_everything()
        self.accelerator = Accelerator(mixed_precision="bf16")
        self.model = DeblurModel(setup.latent_dim, setup.image_size).to(setup.device, memory_format=torch.channels_last)
        self.model.train()
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=2e-4, fused=True)
        self.loss = TotalLoss(ruler or measure.ruler(setup.device))
        self.pairs = Pairs(measure.faces(setup) if images is None else images, flip=True)

    def autocast(self, enabled=True):
        return self.accelerator.autocast() if enabled else contextlib.nullcontext()

    def batches(self):
        for x, y in loaded(self.setup, self.pairs, self.batch_size, 1):
            yield tuple(t.to(self.setup.device, memory_format=torch.channels_last) for t in (x, y))

    def batch(self):
        return next(self.batches())

    def step(self, inputs, target):
        return training.training_step(self.model, self.loss, self.optimiser, self.accelerator, inputs, target)["total"]

    def forward_backward(self, inputs, target):
        with self.autocast():
            r, z, g = self.model(inputs, target)
            t = self.loss(r, target, z, g)["total"]
        self.accelerator.backward(t)

    def losses(self) -> Iterator[float]:
        for batch in self.batches():
            yield self.step(*batch)


@contextlib.contextmanager
def named(run):
    """Let the profiler see the parts of a step and of the loader by name, while in here."""
    with contextlib.ExitStack() as stack:
        for holder, attribute, name in (
            (Pairs, "batch", "make a batch"),
            (pairs_module, "edge_maps", "Canny"),
            (type(run.pairs.degradation), "_apply", "blur"),
            (bare(run.model).deblur_encoder, "forward", "DeblurEncoder"),
            (bare(run.model).generator, "forward", "Generator"),
            (bare(run.model).latent_encoder, "forward", "LatentEncoder"),
            (run.loss, "forward", "losses"),
            (run.accelerator, "backward", "backward"),
            (run.optimiser, "step", "Adam"),
        ):
            stack.enter_context(renamed(holder, attribute, f"> {name}"))
        yield


@contextlib.contextmanager
def renamed(holder, attribute: str, name: str):
    before = getattr(holder, attribute)
    own = attribute in vars(holder)

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
