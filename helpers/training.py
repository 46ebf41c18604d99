"""The optimisation of thesis section 2.5: Adam on all three networks in one step, the rate halved every 15 epochs.

In a shell::

    python -m helpers.training --epochs 30 --out runs/mine                      # on the shipped faces
    python -m helpers.training --epochs 30 --out runs/photos --data my/photos   # folders train/ and val/, or one folder
    torchrun --nproc_per_node 2 -m helpers.training --out runs/two              # two GPUs, or two processes on a CPU

A run lives in a folder (:mod:`helpers.engine.runs`): ``history.jsonl`` grows by a line each epoch, ``best.safetensors``
is the checkpoint of the lowest average epoch loss (2.5), and from ``state.pt`` the same command goes on where it
stopped, exactly as if it never had: everything random in a step follows from the seed and the step's number. Several
processes share each batch out among them and compute what one would (:mod:`helpers.engine.distributed`).
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from helpers.degrade import PRESETS
from helpers.edges import THRESHOLDS
from helpers.engine import commands
from helpers.engine.acceleration import accelerator_for, compiled, look_every, processes
from helpers.engine.checkpoints import load_checkpoint, save_checkpoint
from helpers.engine.distributed import rows_of_all, share
from helpers.engine.ema import Ema
from helpers.engine.epochs import EpochRun, NotFinite
from helpers.engine.folders import write_errors
from helpers.engine.loading import Loader
from helpers.engine.precision import precision_for
from helpers.engine.runs import RunFolder, fingerprint, stop_on_signals
from helpers.engine.updates import cosine_rate, set_rate
from helpers.losses import TotalLoss, Weights
from helpers.metrics import evaluate, means
from helpers.mixed import OPTIONS, named_sets, one_of, repeated, training_set
from helpers.networks import DeblurModel
from helpers.pairs import Pairs
from helpers.perceptual import Lpips, load_lpips
from helpers.seeds import SEED, seed_everything

SCHEDULES = ("halve", "cosine")


@dataclass
class Recipe:
    """Everything that decides a run. What the thesis gives is the default; what it leaves open is marked."""

    epochs: int = 30  # open in the thesis
    batch_size: int = 16  # open in the thesis; images in an update, over all processes
    learning_rate: float = 2e-4
    halve_every: int = 15  # epochs, equation 42
    weights: Weights = field(default_factory=Weights)
    latent_dim: int = 512
    image_size: int = 128
    degradation: str = "celebablur"
    edges: str = "blurred"  # open in the thesis
    thresholds: tuple[float, float] = THRESHOLDS  # open in the thesis
    flip: bool = True  # open in the thesis: mirror half of the training images
    precision: str = "auto"  # open in the thesis; "bf16", "fp16" or "no" (float32), see helpers.engine.precision
    accumulate: int = 1  # compute a batch in so many parts, to save memory; batch norm then sees a part at a time
    ema: float | None = None  # decay of an average of the weights, which is then validated and kept as "best"
    schedule: str = "halve"  # equation 42; "cosine", which falls to 0 at the last epoch, is not the thesis's
    warmup_steps: int = 0  # steps in which the rate rises from 0; not the thesis's
    start: str | None = None  # a checkpoint to begin with instead of random weights; not the thesis's
    seed: int = SEED

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {self.schedule!r}")


def learning_rate(recipe: Recipe, epoch: float, step: int | None = None) -> float:
    """Equation 42: η after ``epoch`` epochs (counted from 0), halved every ``halve_every``.

    The cosine looks at the fraction of ``epoch`` too, and the warm-up at ``step``, the step's number in the run.
    """
    rate = recipe.learning_rate * 0.5 ** (epoch // recipe.halve_every)
    if recipe.schedule == "cosine":
        rate = cosine_rate(min(epoch, recipe.epochs), recipe.epochs, recipe.learning_rate, warmup=0, lowest=0)
    return rate if step is None or step >= recipe.warmup_steps else rate * (step + 1) / recipe.warmup_steps


def training_step(
    model: torch.nn.Module,
    loss: TotalLoss,
    optimiser: torch.optim.Optimizer,
    accelerator: Accelerator,
    inputs: torch.Tensor,
    target: torch.Tensor,
    look: bool = True,
) -> dict[str, float]:
    """One update of all three networks from inputs N×4×H×W and target N×3×H×W; the loss's parts as numbers.

    With gradient accumulation the update comes with the last part of a batch. Without ``look`` the numbers are tensors
    on the device and nobody has made sure that they are finite, so that a GPU need not be waited for.
    """
    with accelerator.accumulate(model):
        with accelerator.autocast():
            restored, z_deblur, z_gt = model(inputs, target)
            parts = loss(restored, target, z_deblur, z_gt)
        numbers = torch.stack([p.detach().float() for p in parts.values()])
        values = dict(zip(parts, numbers.tolist() if look else numbers.double(), strict=True))
        if look and not math.isfinite(values["total"]):
            raise NotFinite(f"the loss is not finite: {values}")  # before the step, so the weights are still good
        total = parts["total"]
        if accelerator.num_processes > 1:  # gradients are averaged when all have come: without λ₅ z_gt's would never
            total = total + 0 * z_gt.float().sum()
        accelerator.backward(total)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return values


class Trainer:
    """Networks, loss and Adam on the device of this process, and what a step and a validation do with them.

    Attributes
    ----------
    model : the three networks; ``network`` is what a step calls for them (shared among processes, compiled)
    kept : what is validated and saved as "best": ``model``, or the average of its weights
    parts : all that a step changes, by name; None for what this run does without
    """

    def __init__(self, recipe: Recipe, lpips: Lpips | None, model: torch.nn.Module | None, compile: bool | None):
        self.recipe, self.precision = recipe, precision_for(processes().device, recipe.precision)
        self.accelerator = accelerator_for(self.precision, recipe.accumulate)
        self.device, self.rank = self.accelerator.device, self.accelerator.process_index
        self.world = self.accelerator.num_processes
        seed_everything(recipe.seed)
        self.lpips = (lpips or load_lpips()).to(self.device, memory_format=torch.channels_last)
        model = DeblurModel(recipe.latent_dim, recipe.image_size) if model is None else model
        self.model = model.to(self.device, memory_format=torch.channels_last)
        if recipe.start:
            load_checkpoint(recipe.start, self.model)
        network, loss = share(self.model, self.accelerator), TotalLoss(self.lpips, recipe.weights)
        adam = torch.optim.Adam(self.model.parameters(), lr=recipe.learning_rate, fused=True)
        self.optimiser = self.accelerator.prepare_optimizer(adam)  # knows of accumulation and of the scaler of fp16
        self.ema = Ema(self.model, recipe.ema) if recipe.ema else None
        self.kept = self.ema.module if self.ema else self.model
        shape = (recipe.batch_size // (recipe.accumulate * self.world), recipe.image_size, recipe.image_size)
        self.network, self.loss, self.warmup_seconds = compiled(network, loss, self.accelerator, shape, compile)
        self.parts = dict(model=self.model, optimiser=self.optimiser, scaler=self.accelerator.scaler, ema=self.ema)

    def update(self, batch: list[tuple[torch.Tensor, torch.Tensor]], step: int, epoch: float, look: bool) -> dict:
        """Step number ``step`` of the run, on a batch in parts (inputs, target): the mean of each part of the loss."""
        torch.manual_seed((self.recipe.seed * 1_000_003 + step * self.world + self.rank) % 2**63)  # for dropout, say
        set_rate(self.optimiser, learning_rate(self.recipe, epoch, step))
        self.model.train()
        losses = {}
        for inputs, target in batch:
            values = training_step(self.network, self.loss, self.optimiser, self.accelerator, inputs, target, look)
            losses = {k: losses.get(k, 0.0) + v / len(batch) for k, v in values.items()}
        if self.ema:
            self.ema.update(step)
        return losses

    def validate(self, pairs: Pairs) -> dict[str, float]:
        """The mean of each measure; each process measures its share of the batches, and each image counts once."""
        tables = evaluate(self.kept, pairs, self.lpips, with_input=False, part=(self.rank, self.world))
        return means(rows_of_all(self.accelerator, tables.get("restored"))).to_dict()

    def facts(self, about: str, images: int) -> dict:
        """What is kept beside a checkpoint."""
        recipe = {k: v for k, v in asdict(self.recipe).items() if k not in ("epochs", "precision")}
        found = commands.facts({"name": "thesis", **recipe}, images, "images", self.device, self.precision)
        found |= {"training_data": about or found["training_data"], "training_images": images, "processes": self.world}
        return found | {"perceptual_loss": self.lpips.name, "warmup_seconds": round(self.warmup_seconds, 2)}


def train(
    train_images: np.ndarray | Sequence[np.ndarray], val_images: np.ndarray | Sequence[np.ndarray], out: str | Path,
    recipe: Recipe | None = None, lpips: Lpips | None = None, about: str = "", progress: bool = True,
    on_epoch: Callable[[list[dict]], object] | None = None, *, model: torch.nn.Module | None = None,
    compile: bool | None = None, workers: int | None = None, save_every: int = 1000,
    stop: Callable[[], object] | None = None,
) -> list[dict]:  # fmt: skip
    """Train, or go on training, in the folder ``out``; on one device, or as one of several processes.

    Parameters
    ----------
    train_images, val_images : uint8 N×H×W×3 (or any sequence of such images), sharp
    lpips : the metric of equation 36; :func:`helpers.perceptual.load_lpips` by default
    about : where the images come from, kept beside the checkpoint
    on_epoch : called after each epoch with the history so far, for live curves (in the first process)
    model : another network; ``model(inputs, sharp)`` must give (restored, z_deblur, z_gt), ``model(inputs)`` restored
    compile : let torch.compile fuse networks and loss; by default on CUDA alone
    workers : threads that make batches, see :class:`helpers.engine.loading.Loader`
    save_every : steps between two states of the run; there is one at the end of each epoch besides
    stop : asked after each step (in several processes it must answer alike); once it says yes, the state is saved and
        ``Stopped`` says how to go on

    Returns
    -------
    the history, a dict for each epoch: loss parts, learning rate, validation measures, seconds; ``waiting_seconds`` of
    them the step stood still for want of a batch

    Raises
    ------
    TrainingError
        if the loss is no longer finite, the folder is in use or belongs to a run of another recipe or on other images,
        there are fewer images than one batch takes, an image cannot be read, or the disk is full; what has been saved
        is whole in any case
    """
    recipe, here = recipe or Recipe(), processes()
    drawn = {k: getattr(recipe, k) for k in ("degradation", "edges", "thresholds", "seed")}
    pairs, val_pairs = Pairs(train_images, flip=recipe.flip, **drawn), Pairs(val_images, **drawn)
    per_epoch = len(pairs) // recipe.batch_size  # steps; the last images that do not fill a batch are left out
    steps, part = recipe.epochs * per_epoch, (here.process_index, here.num_processes, recipe.accumulate)
    loader = Loader(pairs, recipe.batch_size, here.device, *part, stop=steps, workers=workers)
    trainer = Trainer(recipe, lpips, model, compile)
    facts = trainer.facts(about, len(pairs))
    settings = {**asdict(recipe), "images": len(pairs), "pictures": fingerprint(train_images)}
    free = ("epochs",) if recipe.schedule == "halve" else ()  # the cosine depends on their number
    with RunFolder(out, settings, free, writes=here.is_main_process) as folder:
        run = EpochRun(folder, trainer.parts, per_epoch, trainer.accelerator, trainer.warmup_seconds)
        loader.start = run.done
        bar = tqdm(total=steps, initial=min(run.done, steps), unit="step", disable=not progress or trainer.rank > 0)
        with bar, closing(iter(loader)) as batches:
            for step in range(run.done, steps):
                ends_epoch = (step + 1) % per_epoch == 0
                look = ends_epoch or (step + 1) % look_every(trainer.device) == 0
                with run.step():
                    started = time.perf_counter()
                    batch = [next(batches) for _ in range(recipe.accumulate)]
                    waited = time.perf_counter() - started
                    losses = trainer.update(batch, step, step / per_epoch, look)
                    run.add(losses, time.perf_counter() - started, waited, look)
                    asked = stop is not None and step + 1 < steps and bool(stop())
                    if ends_epoch:
                        _end_epoch(run, trainer, val_pairs, facts)
                    if ends_epoch or asked or (step + 1) % save_every == 0:
                        run.save()
                bar.set_description(f"epoch {step // per_epoch + 1}/{recipe.epochs}", refresh=False)
                if look:
                    bar.set_postfix(loss=f"{losses['total']:.4f}", refresh=False)
                bar.update()
                if ends_epoch and on_epoch and here.is_main_process:
                    on_epoch(run.history)
                if asked:
                    raise run.stopped()
    return run.history


def _end_epoch(run: EpochRun, trainer: Trainer, val_pairs: Pairs, facts: dict) -> None:
    """Validate and record; keep the weights whenever the average epoch loss reaches a new minimum (section 2.5)."""
    run.require_finite()
    lowest = min((h["total"] for h in run.history), default=math.inf)
    images_seen, path = run.done * trainer.recipe.batch_size, run.folder.out / "best.safetensors"
    record = run.end_epoch(trainer.validate(val_pairs), images_seen, trainer.optimiser.param_groups[0]["lr"])
    if record["total"] < lowest and trainer.rank == 0:
        with write_errors(path):
            save_checkpoint(path, trainer.kept, {**facts, "record": record})


def main(arguments: list[str] | None = None) -> None:
    """The command line; an error that the user can mend ends it with one sentence."""
    count, above_0 = {"type": commands.positive_int}, {"type": commands.positive_float}
    extra = OPTIONS | {
        "--repeat": count | {"default": 1, "help": "times that an epoch goes through the images: its end takes time"},
        "--epochs": count | {"default": Recipe.epochs},
        "--accumulate": count | {"default": Recipe.accumulate, "help": "parts of a batch, to save memory"},
        "--learning-rate": above_0 | {"default": Recipe.learning_rate},
        "--halve-every": count | {"default": Recipe.halve_every, "help": "epochs (equation 42)"},
        "--schedule": {"choices": SCHEDULES, "default": Recipe.schedule, "help": "the thesis halves (equation 42)"},
        "--warmup-steps": {"type": commands.count_int, "default": 0, "help": "steps in which the rate rises"},
        "--start": {"help": "a checkpoint to begin with"},
        "--compile": {"action": argparse.BooleanOptionalAction, "help": "by default on CUDA alone"},
        "--ema": {"type": commands.fraction, "help": "decay of an average of the weights, 0.999 for instance"},
        "--degradation": {"choices": list(PRESETS), "default": Recipe.degradation},
        "--edges": {"choices": ("blurred", "oracle"), "default": Recipe.edges},
        "--flip": {"action": argparse.BooleanOptionalAction, "default": True, "help": "mirror half of the images"},
        "--save-every": count | {"default": 1000, "help": "steps between two states, besides each epoch's"},
        "--workers": count | {"help": "threads that make batches"},
    }
    args = commands.parser("helpers.training", __doc__, extra=extra).parse_args(arguments)
    recipe = Recipe(**{k: v for k, v in vars(args).items() if k in Recipe.__dataclass_fields__})
    with commands.exit_on_error():
        images, about = repeated(*training_set(args.data, args.shares, args.limit), args.repeat)
        val_images = one_of(named_sets(args.data, "val", args.limit))
        here, options = processes(), {k: getattr(args, k) for k in ("compile", "workers", "save_every")}
        here.print(f"{about} to train on, {len(val_images)} to validate on")
        # Several processes would not stop after the same step: theirs end at once, and go on from what was saved.
        with stop_on_signals() if here.num_processes == 1 else nullcontext() as options["stop"]:
            history = train(images, val_images, args.out, recipe, about=about, **options)
    if history:
        here.print(json.dumps(history[-1], indent=1))


if __name__ == "__main__":
    main()
