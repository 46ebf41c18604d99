"""The optimisation of thesis section 2.5: Adam on all three networks in one step, the rate halved every 15 epochs.

In a shell::

    python -m helpers.training --epochs 30 --out runs/mine                      # on the shipped faces
    python -m helpers.training --epochs 30 --out runs/photos --data my/photos   # folders train/ and val/, or one folder
    accelerate launch --num_processes 2 -m helpers.training --out runs/two      # two GPUs; more machines likewise
    torchrun --nproc_per_node 2 -m helpers.training --out runs/two              # the same, or two processes on a CPU

A run lives in a folder: ``history.jsonl`` grows by a line each epoch, ``best.safetensors`` is the checkpoint of the
lowest average epoch loss (2.5), ``last.pt`` lets the same command go on where it stopped, exactly as if it never had.

Several processes share each batch out among them and compute what one process would: gradients are averaged
(DistributedDataParallel), batch norm looks at the whole batch (:mod:`helpers.syncnorm`), the measures of a validation
image count once. The first process alone writes; all must see the folder, if they run on several machines.
"""

import argparse
import copy
import json
import math
import os
import platform
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from safetensors import SafetensorError
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from helpers.checkpoints import save_checkpoint, write_whole
from helpers.data import ImageError, load_split
from helpers.degrade import PRESETS
from helpers.edges import THRESHOLDS
from helpers.ema import Ema
from helpers.loading import Loader
from helpers.losses import TotalLoss, Weights
from helpers.metrics import evaluate
from helpers.networks import DeblurModel
from helpers.pairs import Pairs
from helpers.perceptual import Lpips, load_lpips
from helpers.seeds import SEED, seed_everything
from helpers.syncnorm import synchronise

PRECISIONS = ("auto", "bf16", "fp16", "no")


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message says why and what is safe."""


class Stopped(TrainingError):
    """Training was asked to stop; everything is saved, and the same call goes on."""


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
    precision: str = "auto"  # open in the thesis; "bf16", "fp16" or "no" (float32), see precision_for
    accumulate: int = 1  # compute a batch in so many parts, to save memory; batch norm then sees a part at a time
    ema: float | None = None  # decay of an average of the weights, which is then validated and kept as "best"
    seed: int = SEED


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """Equation 42: η after ``epoch`` whole epochs (counted from 0), halved every ``halve_every``."""
    return recipe.learning_rate * 0.5 ** (epoch // recipe.halve_every)


def precision_for(device: torch.device, asked: str = "auto") -> str:
    """The number format of products on ``device``: "bf16", "fp16" or "no" (float32); weights stay in float32.

    "auto" is bf16 where the device computes in it (CUDA from capability 8.0; processors with AVX-512-BF16 or AMX),
    fp16 on older GPUs, with the loss scaled so that small gradients survive, and float32 elsewhere.

    Raises
    ------
    TrainingError
        for an unknown format, and for fp16 without a CUDA GPU
    """
    if asked not in PRECISIONS:
        raise TrainingError(f"precision must be one of {', '.join(PRECISIONS)}, not {asked!r}")
    if asked == "fp16" and device.type != "cuda":
        raise TrainingError(f'precision "fp16" needs a CUDA GPU, and this run is on {device.type}; "auto" chooses')
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # PyTorch has no public question for this yet
    return "bf16" if device.type == "cpu" and any(getattr(torch.cpu, n, bool)() for n in names) else "no"


def look_every(device: torch.device) -> int:
    """After how many steps the loss is looked at, which makes a GPU wait. NaN is never saved: saving looks as well."""
    return 50 if device.type == "cuda" else 1


def processes() -> PartialState:
    """Which of how many processes this is, and its device, as torchrun or a launcher of accelerate has set it up.

    Accelerate keeps what it first sees of a process for ever; a notebook may train twice and start processes later.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    # Without a GPU accelerate joins the processes only if told that the CPU is meant.
    return PartialState(cpu=int(os.environ.get("WORLD_SIZE", 1)) > 1 and not torch.cuda.is_available())


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
            raise TrainingError(f"the loss is not finite: {values}")  # before the step, so the weights are still good
        total = parts["total"]
        if accelerator.num_processes > 1:  # gradients are averaged when all have come: without λ₅ z_gt's would never
            total = total + 0 * z_gt.float().sum()
        accelerator.backward(total)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return values


def train(
    train_images: np.ndarray | Sequence[np.ndarray],
    val_images: np.ndarray | Sequence[np.ndarray],
    out: str | Path,
    recipe: Recipe | None = None,
    lpips: Lpips | None = None,
    about: str = "",
    progress: bool = True,
    on_epoch: Callable[[list[dict]], object] | None = None,
    *,
    model: torch.nn.Module | None = None,
    compile: bool | None = None,
    workers: int | None = None,
    save_every: int = 1000,
    stop: Callable[[], object] | None = None,
) -> list[dict]:
    """Train, or go on training, in the folder ``out``; on one device, or as one of several processes.

    Parameters
    ----------
    train_images, val_images : uint8 N×H×W×3 (or any sequence of such images), sharp
    lpips : the ruler; :func:`helpers.perceptual.load_lpips` by default
    about : where the images come from, kept beside the checkpoint
    on_epoch : called after each epoch with the history so far, for live curves (in the first process)
    model : another network; ``model(inputs, sharp)`` must give (restored, z_deblur, z_gt), ``model(inputs)`` restored
    compile : let torch.compile fuse the networks and the loss; by default on CUDA alone, since on a processor the
        minute that it takes rarely pays. Its seconds are reported as ``warmup_seconds``.
    workers : threads that make batches, see :class:`helpers.loading.Loader`
    save_every : steps between two states in ``last.pt``; there is one at the end of each epoch besides
    stop : asked after each step; once it says yes, the state is saved and :class:`Stopped` says how to go on
        (with several processes it must say so to all of them after the same step)

    Returns
    -------
    the history, a dict for each epoch: loss parts, learning rate, validation measures, seconds; ``waiting_seconds`` of
    them the step stood still for want of a batch

    Raises
    ------
    TrainingError
        if the loss is no longer finite (``best.safetensors`` is then the last good checkpoint), if the folder belongs
        to a run of another recipe, if there are fewer images than one batch takes, if an image cannot be read, if the
        disk is full; what has been saved is whole in any case
    """
    recipe, out = recipe or Recipe(), Path(out)
    if len(train_images) < recipe.batch_size:
        raise TrainingError(f"{len(train_images)} training images are fewer than one batch of {recipe.batch_size}")
    precision = precision_for(processes().device, recipe.precision)
    accelerator = Accelerator(mixed_precision=precision, gradient_accumulation_steps=recipe.accumulate)
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    seed_everything(recipe.seed)
    settings = {
        "degradation": recipe.degradation, "edges": recipe.edges, "thresholds": recipe.thresholds, "seed": recipe.seed
    }  # fmt: skip
    pairs = Pairs(train_images, flip=recipe.flip, **settings)
    val_pairs = Pairs(val_images, **settings)
    per_epoch = len(pairs) // recipe.batch_size
    lpips = (lpips or load_lpips()).to(device, memory_format=torch.channels_last)
    model = DeblurModel(recipe.latent_dim, recipe.image_size) if model is None else model
    model = model.to(device, memory_format=torch.channels_last)
    if world > 1:
        model = synchronise(model, device)
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True)
    optimiser = accelerator.prepare_optimizer(optimiser)  # it now knows of accumulation, and of the scaler of fp16
    ema = Ema(model, recipe.ema) if recipe.ema else None
    kept = ema.module if ema else model  # what is validated, and saved as the best
    network, loss, warmup = _prepare(model, TotalLoss(lpips, recipe.weights), recipe, accelerator, compile)
    parts = {"model": model, "optimiser": optimiser, "scaler": accelerator.scaler, "ema": ema}
    parts = {name: part for name, part in parts.items() if part is not None}
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
    run = _resume(out, recipe, parts, len(pairs))
    try:
        loader = Loader(
            pairs, recipe.batch_size, device, rank, world, recipe.accumulate, run.done, recipe.epochs * per_epoch,
            workers,
        )  # fmt: skip
    except ImageError as error:
        raise TrainingError(str(error)) from None
    if rank == 0:
        _write_history(out, run.history)
    facts = {
        "name": "thesis",
        **{k: v for k, v in asdict(recipe).items() if k not in ("epochs", "weights", "precision")},
        "weights": asdict(recipe.weights),
        "training_precision": precision,
        "training_data": about or f"{len(train_images)} images",
        "training_images": len(train_images),
        "perceptual_loss": lpips.name,
        "hardware": hardware(device),
        "processes": world,
        "warmup_seconds": round(warmup, 2),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }

    def one_step(batches, look: bool) -> None:
        """One update, in as many parts as the recipe says, added to the sums of the epoch."""
        started, waited = time.perf_counter(), loader.waited
        torch.manual_seed((recipe.seed * 1_000_003 + run.done * world + rank) % 2**63)  # for networks that draw
        for _ in range(recipe.accumulate):
            values = training_step(network, loss, optimiser, accelerator, *next(batches), look)
            run.sums = {k: run.sums.get(k, 0.0) + v / recipe.accumulate for k, v in values.items()}
        if look and not math.isfinite(run.sums["total"]):
            raise TrainingError("the loss is not finite")
        if ema:
            ema.update(run.done)
        run.done += 1
        run.seconds += time.perf_counter() - started
        run.waiting += loader.waited - waited

    def save() -> None:
        """``last.pt``, unless what would be saved is spoilt; the sums are those of all processes."""
        whole = replace(run, sums=_mean(accelerator, run.sums))
        size = float(torch.nn.utils.get_total_norm(list(model.parameters())))
        if not all(map(math.isfinite, [size, *whole.sums.values()])):
            raise TrainingError("the loss or the weights are not finite")
        if rank == 0:
            _save_state(out, recipe, parts, whole)

    with closing(iter(loader)) as batches:
        for epoch in range(len(run.history), recipe.epochs):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, epoch)
            model.train()
            place = first = run.done % per_epoch
            bar = tqdm(
                total=per_epoch, initial=first, desc=f"epoch {epoch + 1}/{recipe.epochs}", unit="step",
                disable=not progress or rank > 0,
            )  # fmt: skip
            try:
                with bar:
                    for place in range(first, per_epoch):
                        last = place + 1 == per_epoch
                        look = last or (place + 1) % look_every(device) == 0
                        one_step(batches, look)
                        if look:
                            bar.set_postfix(loss=f"{run.sums['total'] / (place + 1):.4f}", refresh=False)
                        bar.update()
                        asked = stop is not None and not last and stop()
                        if asked or (not last and run.done % save_every == 0):
                            save()
                        if asked:
                            raise Stopped(f"stopped in epoch {epoch + 1} after step {place + 1}; {_goes_on(out)}")
                measures = _validate(kept, val_pairs, lpips, rank, world)
            except Stopped:
                raise
            except (TrainingError, ImageError) as error:  # validation too: the last step may have spoilt the weights
                raise _explained(error, out, epoch, place) from None
            record = {
                "epoch": epoch + 1,
                "images_seen": run.done * recipe.batch_size,
                "learning_rate": learning_rate(recipe, epoch),
                **{k: v / per_epoch for k, v in _mean(accelerator, run.sums).items()},
                **{f"val_{k}": float(v) for k, v in measures.items()},
                "seconds": round(run.seconds, 2),
                "waiting_seconds": round(run.waiting, 2),
                "warmup_seconds": round(warmup, 2) if loader.start // per_epoch == epoch else 0.0,
                "images_per_second": round(per_epoch * recipe.batch_size / run.seconds, 2),
            }
            best = min((h["total"] for h in run.history), default=math.inf)
            run = replace(run, history=[*run.history, record], sums={}, seconds=0.0, waiting=0.0)
            if rank == 0 and record["total"] < best:
                with _writing(out / "best.safetensors"):
                    save_checkpoint(out / "best.safetensors", kept, {**facts, "record": record})
            save()
            if rank == 0:
                _write_history(out, run.history)
                if on_epoch:
                    on_epoch(run.history)
            if stop is not None and epoch + 1 < recipe.epochs and stop():
                raise Stopped(f"stopped after epoch {epoch + 1}; {_goes_on(out)}")
    return run.history


@dataclass
class _Run:
    """How far a run has come: all of its state besides the weights and the optimiser's."""

    images: int  # in the training set; another number would be another order
    done: int = 0  # steps
    history: list[dict] = field(default_factory=list)
    sums: dict = field(default_factory=dict)  # of the epoch that is being trained: the loss parts, step by step
    seconds: float = 0.0
    waiting: float = 0.0


def _prepare(model, loss: TotalLoss, recipe: Recipe, accelerator: Accelerator, compile: bool | None):
    """What is called in a step for ``model`` and ``loss``, and the seconds that warming up took.

    The module for several processes is made here rather than by ``accelerator.prepare``, which would let validation
    run in 16 bits too.
    """
    device, world = accelerator.device, accelerator.num_processes
    cuda = device.type == "cuda"
    torch.backends.cudnn.benchmark = cuda  # try the ways to convolve; the shapes stay the same for the whole run
    network = model
    if world > 1:
        network = DistributedDataParallel(model, device_ids=[device] if cuda else None)
    if not (cuda if compile is None else compile):
        return network, loss, 0.0
    started, before = time.perf_counter(), copy.deepcopy(model.state_dict())
    fast = torch.compile(network), torch.compile(loss)
    share = recipe.batch_size // (recipe.accumulate * world)
    shapes = [(share, channels, recipe.image_size, recipe.image_size) for channels in (4, 3)]
    inputs, target = (torch.zeros(s, device=device).to(memory_format=torch.channels_last) for s in shapes)
    try:
        for _ in range(2):
            with accelerator.autocast():
                restored, z_deblur, z_gt = fast[0](inputs, target)
                total = fast[1](restored, target, z_deblur, z_gt)["total"]
            accelerator.backward(total)
            float(total.detach())  # waits for a GPU
    except Exception as error:
        first = str(error).strip().splitlines()[:1]
        if compile:
            raise TrainingError(f"torch.compile failed ({type(error).__name__}: {first}); train without it") from None
        warnings.warn(f"trains without torch.compile, which failed: {type(error).__name__}: {first}", stacklevel=3)
        fast = network, loss
    model.zero_grad(set_to_none=True)
    model.load_state_dict(before)  # batch norm's statistics have seen the zeros
    return *fast, time.perf_counter() - started


def _validate(model, pairs: Pairs, lpips: Lpips, rank: int, world: int) -> pd.Series:
    """The mean of each measure; each process takes its share of the batches, and each image counts once."""
    table = evaluate(model, pairs, lpips, with_input=False, part=(rank, world)).get("restored")
    tables = gather_object([table]) if world > 1 else [table]
    return pd.concat([t for t in tables if t is not None]).mean()


def _mean(accelerator: Accelerator, sums: dict) -> dict[str, float]:
    """Each number's mean over the processes."""
    if accelerator.num_processes > 1 and sums:
        numbers = torch.tensor([float(v) for v in sums.values()], dtype=torch.float64, device=accelerator.device)
        sums = dict(zip(sums, accelerator.reduce(numbers, "mean").tolist(), strict=True))
    return {k: float(v) for k, v in sums.items()}


def _explained(error: Exception, out: Path, epoch: int, place: int) -> TrainingError:
    """``error`` with the step in which it happened, and what is left of the run."""
    text = f"epoch {epoch + 1}, step {place + 1}: {error}"
    if isinstance(error, TrainingError) and "not finite" not in str(error):  # a file that could not be written
        return TrainingError(text)
    best, last = out / "best.safetensors", out / "last.pt"
    if isinstance(error, ImageError) and "NaN" not in str(error):
        return TrainingError(
            f"{text}. {f'The state in {last} is whole' if last.exists() else 'Nothing was saved yet'}."
        )
    safe = f"Nothing is lost: {best} is the last good checkpoint" if best.exists() else "No epoch was completed"
    return TrainingError(f"{text}. {safe}; a smaller learning rate, or precision='no', is the usual cure.")


def _goes_on(out: Path) -> str:
    return f"{out / 'last.pt'} holds everything, the same command goes on from there"


def hardware(device: torch.device) -> str:
    """What ran: the GPU's name, or the processor's kind and the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"


def _run_identity(recipe: Recipe) -> dict:
    """What must not change between a run and its resumption; more epochs may be asked for."""
    return {k: v for k, v in json.loads(json.dumps(asdict(recipe))).items() if k != "epochs"}


@contextmanager
def _writing(path: Path):
    """A full disk, or one that is gone, becomes one sentence. PyTorch and safetensors have errors of their own."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TrainingError(f"{path} cannot be written ({reason}); what was saved before is whole") from None


def _save_state(out: Path, recipe: Recipe, parts: dict, run: _Run) -> None:
    """``last.pt``; after a kill before the history is written, that is written again from here."""
    state = {"recipe": _run_identity(recipe), **asdict(run), **{k: v.state_dict() for k, v in parts.items()}}
    with _writing(out / "last.pt"):
        write_whole(out / "last.pt", lambda part: torch.save(state, part))


def _write_history(out: Path, history: list[dict]) -> None:
    lines = "".join(json.dumps(h) + "\n" for h in history)
    with _writing(out / "history.jsonl"):
        write_whole(out / "history.jsonl", lambda part: part.write_text(lines))


def _resume(out: Path, recipe: Recipe, parts: dict, images: int) -> _Run:
    """Load ``last.pt`` if there is one, and say how far the run has come."""
    path = out / "last.pt"
    if not path.exists():
        return _Run(images)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainingError(
            f"{path} cannot be read ({type(error).__name__}); remove the folder to start anew"
        ) from None
    now, then = _run_identity(recipe), _run_identity(Recipe()) | state["recipe"]
    changed = [f"{k}: {then.get(k)} -> {now[k]}" for k in now if now[k] != then.get(k)]
    if changed:
        raise TrainingError(f"{out} holds a run with another recipe ({'; '.join(changed)}); choose another folder")
    history = state["history"]
    run = _Run(images, len(history) * (images // recipe.batch_size), history)  # all that older files tell
    run = replace(run, **{k: state[k] for k in asdict(run) if k in state})
    if run.images != images:
        raise TrainingError(f"{out} holds a run on {run.images} images, and now there are {images}; mend the data")
    for name, part in parts.items():
        if name in state:
            part.load_state_dict(state[name])
    return run


def read_history(out: str | Path) -> list[dict]:
    """The epochs of the run in the folder ``out`` (or of a ``history.jsonl`` file itself)."""
    path = Path(out)
    path = path / "history.jsonl" if path.is_dir() else path
    return [json.loads(line) for line in path.read_text().splitlines()]


@contextmanager
def _signals_noted():
    """Ctrl-C and SIGTERM are noted, so that a run can end after a step; a second one ends it at once."""
    caught = []

    def note(number, frame):
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m helpers.training", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", required=True, help="folder of the run; the same command goes on where it stopped")
    parser.add_argument("--data", help="folder of photographs, or of train/ and val/; the shipped faces by default")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--batch-size", type=int, default=Recipe.batch_size, help="over all processes")
    parser.add_argument("--accumulate", type=int, default=Recipe.accumulate, help="parts of a batch, to save memory")
    parser.add_argument("--learning-rate", type=float, default=Recipe.learning_rate)
    parser.add_argument("--halve-every", type=int, default=Recipe.halve_every, help="epochs (equation 42)")
    parser.add_argument("--precision", choices=PRECISIONS, default=Recipe.precision, help="what the device has, or ...")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="by default on CUDA alone")
    parser.add_argument("--ema", type=float, help="decay of an average of the weights, 0.999 for instance")
    parser.add_argument("--degradation", choices=list(PRESETS), default=Recipe.degradation)
    parser.add_argument("--edges", choices=("blurred", "oracle"), default=Recipe.edges)
    parser.add_argument("--no-flip", action="store_true", help="do not mirror half of the training images")
    parser.add_argument("--limit", type=int, help="use only the first so many images of each split")
    parser.add_argument("--save-every", type=int, default=1000, help="steps between two states, besides each epoch's")
    parser.add_argument("--workers", type=int, help="threads that make batches")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args(arguments)
    recipe = Recipe(
        epochs=args.epochs, batch_size=args.batch_size, learning_rate=args.learning_rate, halve_every=args.halve_every,
        precision=args.precision, degradation=args.degradation, edges=args.edges, flip=not args.no_flip, seed=args.seed,
        accumulate=args.accumulate, ema=args.ema,
    )  # fmt: skip
    try:
        images = {split: load_split(args.data, split, args.limit) for split in ("train", "val")}
        source = "photographs" if args.data else "shipped faces"
        state = processes()
        state.print(f"{len(images['train'])} {source} to train on, {len(images['val'])} to validate on")
        options = {"compile": args.compile, "workers": args.workers, "save_every": args.save_every}
        # Several processes would not stop after the same step: theirs end at once, and go on from what was saved.
        with _signals_noted() if state.num_processes == 1 else nullcontext() as stop:
            about = f"{len(images['train'])} {source}"
            history = train(images["train"], images["val"], args.out, recipe, about=about, stop=stop, **options)
    except (ImageError, TrainingError) as error:
        raise SystemExit(f"error: {error}") from None
    if history:
        state.print(json.dumps(history[-1], indent=1))


if __name__ == "__main__":
    main()
