"""The optimisation of thesis section 2.5: Adam on all three networks in one step, the rate halved every 15 epochs.

In a shell::

    python -m helpers.training --epochs 30 --out runs/mine                      # on the shipped faces
    python -m helpers.training --epochs 30 --out runs/photos --data my/photos   # folders train/ and val/, or one folder

A run lives in a folder: ``history.jsonl`` grows by a line each epoch, ``best.safetensors`` is the checkpoint of the
lowest average epoch loss (2.5), ``last.pt`` lets the same command go on where it stopped, exactly as if it never had.
"""

import argparse
import json
import math
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tqdm.auto import tqdm

from helpers.checkpoints import save_checkpoint, write_whole
from helpers.data import ImageError, load_split
from helpers.degrade import PRESETS
from helpers.edges import THRESHOLDS
from helpers.losses import TotalLoss, Weights
from helpers.metrics import evaluate, summary
from helpers.networks import DeblurModel
from helpers.pairs import Pairs
from helpers.perceptual import Lpips, load_lpips
from helpers.seeds import SEED, rng_for, seed_everything


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message says why and what is safe."""


@dataclass
class Recipe:
    """Everything that decides a run. What the thesis gives is the default; what it leaves open is marked."""

    epochs: int = 30  # open in the thesis
    batch_size: int = 16  # open in the thesis
    learning_rate: float = 2e-4
    halve_every: int = 15  # epochs, equation 42
    weights: Weights = field(default_factory=Weights)
    latent_dim: int = 512
    image_size: int = 128
    degradation: str = "celebablur"
    edges: str = "blurred"  # open in the thesis
    thresholds: tuple[float, float] = THRESHOLDS  # open in the thesis
    flip: bool = True  # open in the thesis: mirror half of the training images
    precision: str = "bf16"  # "no" for plain float32
    seed: int = SEED


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """Equation 42: η after ``epoch`` whole epochs (counted from 0), halved every ``halve_every``."""
    return recipe.learning_rate * 0.5 ** (epoch // recipe.halve_every)


def training_step(
    model: torch.nn.Module, loss: TotalLoss, optimiser: torch.optim.Optimizer, accelerator: Accelerator, inputs, target
) -> dict[str, float]:
    """One update of all three networks from inputs N×4×H×W and target N×3×H×W; the loss's parts as numbers."""
    with accelerator.autocast():
        restored, z_deblur, z_gt = model(inputs, target)
        parts = loss(restored, target, z_deblur, z_gt)
    values = dict(zip(parts, torch.stack([p.detach().float() for p in parts.values()]).tolist(), strict=True))
    if not math.isfinite(values["total"]):
        raise TrainingError(f"the loss is not finite: {values}")  # before the step, so the weights are still good
    optimiser.zero_grad(set_to_none=True)
    accelerator.backward(parts["total"])
    optimiser.step()
    return values


def train(
    train_images: np.ndarray,
    val_images: np.ndarray,
    out: str | Path,
    recipe: Recipe | None = None,
    lpips: Lpips | None = None,
    about: str = "",
    progress: bool = True,
    on_epoch=None,
) -> list[dict]:
    """Train, or go on training, in the folder ``out``.

    Parameters
    ----------
    train_images, val_images : uint8 N×H×W×3 (or any sequence of such images), sharp
    lpips : the ruler; :func:`helpers.perceptual.load_lpips` by default
    about : where the images come from, kept beside the checkpoint
    on_epoch : called after each epoch with the history so far, for live curves

    Returns
    -------
    the history, a dict for each epoch: loss parts, learning rate, validation measures, seconds

    Raises
    ------
    TrainingError
        if the loss is no longer finite (``best.safetensors`` is then the last good checkpoint), if the folder belongs
        to a run of another recipe, or if there are fewer images than one batch takes
    """
    recipe, out = recipe or Recipe(), Path(out)
    if len(train_images) < recipe.batch_size:
        raise TrainingError(f"{len(train_images)} training images are fewer than one batch of {recipe.batch_size}")
    out.mkdir(parents=True, exist_ok=True)
    seed_everything(recipe.seed)
    if recipe.precision not in ("bf16", "no"):  # fp16 would need its gradients scaled
        raise TrainingError(f'precision must be "bf16" or "no", not {recipe.precision!r}')
    AcceleratorState._reset_state()  # it keeps the first precision of a process for ever; a notebook may train twice
    accelerator = Accelerator(mixed_precision=recipe.precision)
    device = accelerator.device
    lpips = (lpips or load_lpips()).to(device)
    loss = TotalLoss(lpips, recipe.weights)
    model = DeblurModel(recipe.latent_dim, recipe.image_size).to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True)
    settings = {
        "degradation": recipe.degradation, "edges": recipe.edges, "thresholds": recipe.thresholds, "seed": recipe.seed
    }  # fmt: skip
    pairs = Pairs(train_images, flip=recipe.flip, **settings)
    val_pairs = Pairs(val_images, **settings)
    history = _resume(out, recipe, model, optimiser)
    _write_history(out, history)
    facts = {
        "name": "thesis",
        **{k: v for k, v in asdict(recipe).items() if k not in ("epochs", "weights", "precision")},
        "weights": asdict(recipe.weights),
        "training_precision": recipe.precision,
        "training_data": about or f"{len(train_images)} images",
        "training_images": len(train_images),
        "perceptual_loss": lpips.name,
        "hardware": hardware(device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }

    steps = len(pairs) // recipe.batch_size
    for epoch in range(len(history), recipe.epochs):
        started, sums = time.perf_counter(), {}
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, epoch)
        order = rng_for(recipe.seed, epoch).permutation(len(pairs))
        model.train()
        with tqdm(total=steps, desc=f"epoch {epoch + 1}/{recipe.epochs}", unit="step", disable=not progress) as bar:
            for step in range(steps):
                indices = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
                batch = pairs.batch(indices.tolist(), epoch)
                inputs = batch.input.to(device, memory_format=torch.channels_last)
                target = batch.target.to(device, memory_format=torch.channels_last)
                try:
                    values = training_step(model, loss, optimiser, accelerator, inputs, target)
                except TrainingError as error:
                    raise TrainingError(f"epoch {epoch + 1}, step {step + 1}: {error}. {_what_is_safe(out)}") from None
                sums = {k: sums.get(k, 0.0) + v for k, v in values.items()}
                bar.set_postfix(loss=f"{sums['total'] / (step + 1):.4f}", refresh=False)
                bar.update()
        seconds = time.perf_counter() - started
        try:
            measures = summary(evaluate(model, val_pairs, lpips, with_input=False)).loc["restored"]
        except ImageError as error:  # the last step may have spoilt the weights after a finite loss
            raise TrainingError(f"epoch {epoch + 1}, step {steps}, validation: {error}. {_what_is_safe(out)}") from None
        record = {
            "epoch": epoch + 1,
            "images_seen": (epoch + 1) * steps * recipe.batch_size,
            "learning_rate": learning_rate(recipe, epoch),
            **{k: v / steps for k, v in sums.items()},
            **{f"val_{k}": float(v) for k, v in measures.items()},
            "seconds": round(seconds, 2),
            "images_per_second": round(steps * recipe.batch_size / seconds, 2),
        }
        best = min((h["total"] for h in history), default=math.inf)
        history.append(record)
        if record["total"] < best:
            save_checkpoint(out / "best.safetensors", model, {**facts, "record": record})
        _save_state(out, recipe, model, optimiser, history)
        if on_epoch:
            on_epoch(history)
    return history


def _what_is_safe(out: Path) -> str:
    """The end of an error message: what is left of a run that failed."""
    best = out / "best.safetensors"
    safe = f"Nothing is lost: {best} is the last good checkpoint" if best.exists() else "No epoch was completed"
    return f"{safe}; a smaller learning rate, or precision='no', is the usual cure."


def hardware(device: torch.device) -> str:
    """What ran: the GPU's name, or the processor's kind and the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"


def _run_identity(recipe: Recipe) -> dict:
    """What must not change between a run and its resumption; more epochs may be asked for."""
    return {k: v for k, v in json.loads(json.dumps(asdict(recipe))).items() if k != "epochs"}


def _save_state(out: Path, recipe: Recipe, model, optimiser, history: list[dict]) -> None:
    """``last.pt`` first, then the history: after a kill in between, the history is written again from ``last.pt``."""
    state = {
        "recipe": _run_identity(recipe),
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "history": history,
    }
    write_whole(out / "last.pt", lambda part: torch.save(state, part))
    _write_history(out, history)


def _write_history(out: Path, history: list[dict]) -> None:
    lines = "".join(json.dumps(h) + "\n" for h in history)
    write_whole(out / "history.jsonl", lambda part: part.write_text(lines))


def _resume(out: Path, recipe: Recipe, model, optimiser) -> list[dict]:
    """Load ``last.pt`` if there is one; the history so far, empty for a new run."""
    path = out / "last.pt"
    if not path.exists():
        return []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainingError(
            f"{path} cannot be read ({type(error).__name__}); remove the folder to start anew"
        ) from None
    now, then = _run_identity(recipe), state["recipe"]
    changed = [f"{k}: {then.get(k)} -> {now[k]}" for k in now if now[k] != then.get(k)]
    if changed:
        raise TrainingError(f"{out} holds a run with another recipe ({'; '.join(changed)}); choose another folder")
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return state["history"]


def read_history(out: str | Path) -> list[dict]:
    """The epochs of the run in the folder ``out`` (or of a ``history.jsonl`` file itself)."""
    path = Path(out)
    path = path / "history.jsonl" if path.is_dir() else path
    return [json.loads(line) for line in path.read_text().splitlines()]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m helpers.training", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", required=True, help="folder of the run; the same command goes on where it stopped")
    parser.add_argument("--data", help="folder of photographs, or of train/ and val/; the shipped faces by default")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--batch-size", type=int, default=Recipe.batch_size)
    parser.add_argument("--learning-rate", type=float, default=Recipe.learning_rate)
    parser.add_argument("--halve-every", type=int, default=Recipe.halve_every, help="epochs (equation 42)")
    parser.add_argument("--precision", choices=("bf16", "no"), default=Recipe.precision)
    parser.add_argument("--degradation", choices=list(PRESETS), default=Recipe.degradation)
    parser.add_argument("--edges", choices=("blurred", "oracle"), default=Recipe.edges)
    parser.add_argument("--no-flip", action="store_true", help="do not mirror half of the training images")
    parser.add_argument("--limit", type=int, help="use only the first so many images of each split")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args(arguments)
    recipe = Recipe(
        epochs=args.epochs, batch_size=args.batch_size, learning_rate=args.learning_rate, halve_every=args.halve_every,
        precision=args.precision, degradation=args.degradation, edges=args.edges, flip=not args.no_flip, seed=args.seed,
    )  # fmt: skip
    try:
        images = {split: load_split(args.data, split, args.limit) for split in ("train", "val")}
        source = "photographs" if args.data else "shipped faces"
        print(f"{len(images['train'])} {source} to train on, {len(images['val'])} to validate on")
        history = train(images["train"], images["val"], args.out, recipe, about=f"{len(images['train'])} {source}")
    except (ImageError, TrainingError) as error:
        raise SystemExit(f"error: {error}") from None
    if history:
        print(json.dumps(history[-1], indent=1))


if __name__ == "__main__":
    main()
