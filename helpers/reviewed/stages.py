"""What the trainings of PMRF and DiffIR share: stages, in each of which one network takes several steps."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from helpers.engine import runs
from helpers.engine.acceleration import look_every
from helpers.engine.devices import device_for
from helpers.engine.ema import Ema
from helpers.engine.loading import StepBatches
from helpers.engine.precision import autocast, precision_for, scaler_for
from helpers.engine.updates import set_rate, update
from helpers.pairs import Batch, Pairs
from helpers.seeds import rng_for

VALIDATED = 32  # validation pictures that are measured, the first ones

# Called with a network, blurred and sharp images (N×3×H×W in [0, 1]): the parts of its loss by name.
Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]


class Stages:
    """The stages of one training, each in a folder of its own below ``out``.

    Parameters
    ----------
    images : sharp pictures, uint8 N×H×W×3
    settings : what identifies the run in every stage; ``seed``, ``batch_size`` and ``degradation`` among them, and
        ``crop`` where random crops of so many pixels are trained on
    validation : sharp pictures, of which the first few are measured in each stage with the averaged weights
    validate_every : steps between two validations at least
    precision : see :func:`helpers.engine.precision.precision_for`
    decay : of the averages of the weights
    go_on : False takes no step: the networks are as the runs in ``out`` have left them

    Attributes
    ----------
    histories : stage -> what :func:`helpers.engine.runs.run` gave
    """

    def __init__(
        self,
        images,
        out: str | Path,
        settings: dict,
        validation=None,
        validate_every: int = 250,
        precision: str = "auto",
        decay: float = 0.999,
        progress: bool = True,
        go_on: bool = True,
    ):
        self.device, self.out, self.decay = device_for(), Path(out), decay
        self.precision = precision_for(self.device, precision)
        self.settings = settings | {"pictures": runs.fingerprint(images), "precision": self.precision}
        pairs = Pairs(images, settings["degradation"], edges="none", flip=True, seed=settings["seed"])
        self.batches = StepBatches(pairs, settings["batch_size"], self.device)
        self.held_out = None
        if validation is not None and len(validation):
            chosen = range(min(VALIDATED, len(validation)))
            self.held_out = unit_pair(Pairs(validation, settings["degradation"]).batch(chosen), self.device)
        self.validate_every, self.progress, self.go_on = validate_every, progress, go_on
        self.histories: dict[str, list[dict]] = {}

    def batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Blurred and sharp images of the step ``number``, N×3×H×W in [0, 1]."""
        pair = tuple((x + 1) / 2 for x in self.batches(number))
        return (
            random_crop(pair, self.settings["crop"], self.settings["seed"], number) if "crop" in self.settings else pair
        )

    def fit(
        self,
        name: str,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        loss: Loss,
        steps: int,
        own: dict,
        rate: Callable[[int], float] | None = None,
        measures: Loss | None = None,
    ) -> None:
        """Train ``network`` for ``steps`` steps, or go on; at the end it holds the average of its weights.

        Parameters
        ----------
        loss : the sum of its parts is minimised
        own : settings of this stage alone
        rate : step -> learning rate; without it that of ``optimiser`` stays
        measures : what is measured on the validation pictures; by default the loss, each time with the same draws
        """
        ema, scaler = Ema(network, self.decay), scaler_for(self.device, self.precision)
        network.train()

        def step(number: int) -> dict[str, torch.Tensor]:
            if rate:
                set_rate(optimiser, rate(number))
            blurred, sharp = self.batch(number)
            with autocast(self.device, self.precision):
                parts = loss(network, blurred, sharp)
            update(sum(parts.values()), scaler, optimiser)
            return {k: v.detach() for k, v in parts.items()}

        @torch.no_grad()
        def validate() -> dict[str, float]:
            with torch.random.fork_rng(), autocast(self.device, self.precision):
                torch.manual_seed(self.settings["seed"])
                return {k: v.item() for k, v in (measures or loss)(ema.module, *self.held_out).items()}

        self.histories[name] = runs.run(
            self.out / name, {**self.settings, "stage": name, **own},
            {"network": network, "opt": optimiser, "scaler": scaler}, step, steps, (ema,),
            validate=validate if self.held_out else None, validate_every=self.validate_every, desc=name,
            progress=self.progress, go_on=self.go_on, look_every=look_every(self.device),
        )  # fmt: skip
        network.load_state_dict(ema.state_dict())


def unit_pair(batch: Batch, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Blurred and sharp images of a batch, N×3×H×W in [0, 1] on ``device``, channels last."""
    images = (batch.input[:, :3], batch.target)
    blurred, sharp = (((x + 1) / 2).to(device, memory_format=torch.channels_last) for x in images)
    return blurred, sharp


def random_crop(images: tuple[torch.Tensor, ...], side: int, seed: int, number: int) -> tuple[torch.Tensor, ...]:
    """The same window of ``side``×``side`` pixels of all ``images``; its place depends on seed and step alone."""
    rng = rng_for(seed, 77, number)
    top, left = (int(rng.integers(0, length - side + 1)) for length in images[0].shape[2:])
    return tuple(image[..., top : top + side, left : left + side] for image in images)
