"""A training loop counted in steps that goes on where it stopped; chapters 02–04 train with it.

Everything random in a step depends on the seed and the step's number alone, so a run that was killed and started again
ends with the same weights as one that was not. ``state.pt`` holds all that is needed, and is written aside and renamed.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm.auto import tqdm

from helpers.checkpoints import write_json, write_whole
from helpers.data import ImageError, load_split
from helpers.ema import Ema
from helpers.loading import indices_of
from helpers.pairs import Batch, Pairs
from helpers.seeds import SEED, seed_everything
from helpers.training import TrainingError, hardware


def batch_of(pairs: Pairs, step: int, batch_size: int) -> Batch:
    """The training batch of ``step`` (from 0): every epoch in another order, which the seed of ``pairs`` decides."""
    if len(pairs) < batch_size:
        raise TrainingError(f"{len(pairs)} training images are fewer than one batch of {batch_size}")
    indices, epoch = indices_of(len(pairs), pairs.seed, step, batch_size)
    return pairs.batch(indices.tolist(), epoch)


def run(
    out: str | Path,
    settings: dict,
    state: dict,
    step: Callable[[int], dict[str, float]],
    steps: int,
    emas: tuple[Ema, ...] = (),
    save_every: int = 250,
    desc: str = "train",
    progress: bool = True,
) -> list[dict]:
    """Call ``step(0)``, ``step(1)``, ... up to ``steps``, or from where the folder ``out`` says the run stopped.

    Parameters
    ----------
    settings : what must be the same when a run goes on (plain numbers and strings)
    state : name -> module or optimiser, everything that a step changes
    step : does one update and gives the parts of its loss; raises nothing itself, a NaN is found here
    emas : averages to update after each step

    Returns
    -------
    the history: the mean of each part over every ``save_every`` steps

    Raises
    ------
    TrainingError
        if the loss is no longer finite (``state.pt`` is then the last good state) or the folder is another run's
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "state.pt"
    settings = json.loads(json.dumps(settings))
    state = {**state, **{f"ema{i}": ema.module for i, ema in enumerate(emas)}}
    done, history = 0, []
    if path.exists():
        done, history = _load(path, settings, state)
    seed = settings.get("seed", SEED)
    sums, count = {}, 0
    with tqdm(total=steps, initial=min(done, steps), desc=desc, unit="step", disable=not progress) as bar:
        for number in range(done, steps):
            seed_everything((seed * 1_000_003 + number) % 2**32)  # a step's draws are its own, whenever it is run
            values = step(number)
            if not all(math.isfinite(v) for v in values.values()):
                safe = f"{path} is the last good state" if path.exists() else "nothing was saved yet"
                raise TrainingError(f"step {number + 1}: the loss is not finite: {values}; {safe}")
            for ema in emas:
                ema.update(number)
            sums, count = {k: sums.get(k, 0.0) + v for k, v in values.items()}, count + 1
            bar.update()
            if (number + 1) % save_every == 0 or number + 1 == steps:
                history.append({"step": number + 1, **{k: v / count for k, v in sums.items()}})
                bar.set_postfix({k: f"{v / count:.4f}" for k, v in sums.items()}, refresh=False)
                sums, count = {}, 0
                _save(path, settings, state, number + 1, history)
                write_json(out / "history.json", history)
    return history


def _save(path: Path, settings: dict, state: dict, done: int, history: list[dict]) -> None:
    content = {"settings": settings, "done": done, "history": history}
    content |= {f"state.{k}": v.state_dict() for k, v in state.items()}
    try:
        write_whole(path, lambda part: torch.save(content, part))
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise TrainingError(f"{path} cannot be written ({error}); the earlier state is whole") from None


def _load(path: Path, settings: dict, state: dict) -> tuple[int, list[dict]]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainingError(f"{path} cannot be read ({type(error).__name__}); remove it to start anew") from None
    then = content["settings"]
    changed = [f"{k}: {then.get(k)} -> {settings.get(k)}" for k in settings | then if settings.get(k) != then.get(k)]
    if changed:
        raise TrainingError(f"{path} is of a run with other settings ({'; '.join(changed)}); choose another folder")
    for name, part in state.items():
        part.load_state_dict(content[f"state.{name}"])
    return content["done"], content["history"]


def facts(settings: dict, images: int, source: str, device: torch.device) -> dict:
    """What a checkpoint says of itself: settings, data, hardware, the version of torch."""
    return {
        **settings,
        "training_data": f"{images} {source}",
        "hardware": hardware(device),
        "versions": {"torch": torch.__version__},
    }


def arguments(prog: str, description: str, steps: dict[str, int], argv: list[str] | None) -> argparse.Namespace:
    """The command line that the methods share; ``steps`` gives a default for each stage of training."""
    parser = argparse.ArgumentParser(prog=f"python -m {prog}", description=description)
    parser.add_argument("--out", required=True, help="folder of the run; the same command goes on where it stopped")
    parser.add_argument("--data", help="folder of photographs, or of train/ and val/; the shipped faces by default")
    parser.add_argument("--limit", type=int, help="use only the first so many images")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=SEED)
    for stage, default in steps.items():
        parser.add_argument(f"--{stage}-steps", type=int, default=default)
    return parser.parse_args(argv)


def images_of(args: argparse.Namespace, split: str = "train"):
    """The images that the command line names, and what to call them; ends the program with a sentence if it cannot."""
    try:
        return load_split(args.data, split, args.limit), "photographs" if args.data else "shipped faces"
    except ImageError as error:
        raise SystemExit(f"error: {error}") from None
