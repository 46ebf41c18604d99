"""The command line that the trainings share: options, what is checked, how errors are told, what is written."""

import argparse
import math
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch

from helpers.engine.checkpoints import save_checkpoint
from helpers.engine.errors import CheckpointError, ImageError, PrecisionError, TrainingError
from helpers.engine.folders import write_errors
from helpers.engine.precision import PRECISIONS, precision_for
from helpers.engine.runs import hardware, steps_done
from helpers.seeds import SEED

# ---------------------------------------------------------------------------------------------------------------------
# Types of options


def _number(text: str, kind: type, fits: Callable, wanted: str):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise argparse.ArgumentTypeError(f"must be {wanted}, not {text!r}")
    return value


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    return _number(text, int, lambda v: v >= 1, "a whole number of at least 1")


def count_int(text: str) -> int:
    """A whole number of at least 0."""
    return _number(text, int, lambda v: v >= 0, "a whole number of at least 0")


def seed_int(text: str) -> int:
    """A seed: a whole number from 0 to 2³² - 1."""
    return _number(text, int, lambda v: 0 <= v < 2**32, "a whole number from 0 to 4294967295")


def positive_float(text: str) -> float:
    """A finite number above 0."""
    return _number(text, float, lambda v: math.isfinite(v) and v > 0, "a number above 0")


def fraction(text: str) -> float:
    """A number from 0 to 1, 1 itself excluded: the decay of an average, for instance."""
    return _number(text, float, lambda v: 0 <= v < 1, "a number from 0 to below 1")


EXPORT = {"--export": {"action": "store_true", "help": "train no further; write the checkpoint of the run as it is"}}

# ---------------------------------------------------------------------------------------------------------------------
# The skeleton


def parser(
    prog: str, description: str | None, steps: dict[str, int] | None = None, extra: dict[str, dict] | None = None
) -> argparse.ArgumentParser:
    """The options that all trainings have, and those of one.

    Parameters
    ----------
    prog : the module, "helpers.reviewed.pmrf"
    description : the module's docstring, of which the first paragraph is shown (``python -OO`` has none)
    steps : the stages of the training -> how many steps each takes by default; options ``--<stage>-steps``
    extra : further options: name -> what ``add_argument`` takes; a shared one of that name is replaced
    """
    found = bare_parser(prog, description)
    found.add_argument("--out", required=True, help="folder of the run; the same command goes on where it stopped")
    found.add_argument("--data", help="folder of photographs, or of train/ and val/; the shipped faces by default")
    found.add_argument("--limit", type=positive_int, help="use only the first so many images of each split")
    found.add_argument("--batch-size", type=positive_int, default=16, help="images in an update")
    found.add_argument("--seed", type=seed_int, default=SEED)
    found.add_argument("--precision", choices=PRECISIONS, default="auto", help="what is faster on the device, or ...")
    for stage, default in (steps or {}).items():
        found.add_argument(f"--{stage}-steps", type=count_int, default=default)
    for option, how in (extra or {}).items():
        found.add_argument(option, **how)
    return found


def bare_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """A command line without options yet, for a command that trains nothing; parameters as in :func:`parser`."""
    printable()
    text = (description or "").split("\n\n")[0]
    return argparse.ArgumentParser(prog=f"python -m {prog}", description=text, conflict_handler="resolve")


def printable() -> None:
    """Let the terminal show what it cannot print as a question mark or an escape, instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def exit_on_error():
    """Inside, an error that has a sentence for the reader ends the program with it and status 1."""
    try:
        yield
    except (ImageError, CheckpointError, PrecisionError, TrainingError) as error:
        raise SystemExit(f"error: {error}") from None


def images_of(args: argparse.Namespace, load: Callable, split: str = "train") -> tuple:
    """The images that the command line names, and what to call them ("photographs" or "shipped faces").

    Parameters
    ----------
    load : :func:`helpers.data.load_split`
    """
    return load(args.data, split, args.limit), "photographs" if args.data else "shipped faces"


def facts(settings: dict, images: int | None, source: str, device: torch.device, precision: str = "auto") -> dict:
    """What a checkpoint says of itself: settings, data, hardware, the number format chosen, the version of torch.

    ``images`` is None where ``source`` says how many there are.
    """
    chosen = precision_for(device, precision)
    return {
        **settings,
        "training_data": source if images is None else f"{images} {source}",
        "training_precision": chosen,
        "hardware": hardware(device, chosen),
        "versions": {"torch": torch.__version__},
    }


def main_of(
    command: argparse.ArgumentParser,
    argv: list[str] | None,
    load: Callable,
    train: Callable[..., tuple],
    settings: dict,
    stages: dict[str, str] | None = None,
) -> Path:
    """Train as the command line says, and write the checkpoint ``<name>.safetensors`` into the folder of the run.

    With ``--export``, where the command has it, nothing is trained: the checkpoint holds what the run has come to, and
    its JSON says how far.

    Parameters
    ----------
    command : what :func:`parser` gave
    load : :func:`helpers.data.load_split`
    train : called with (args, training images, validation images); gives (model, {stage: history})
    settings : what the checkpoint says of itself besides the options, or instead; its ``name`` names the file
    stages : of a command with :data:`EXPORT`: each stage as :func:`parser` knows it -> the folder of its run

    Returns
    -------
    the path of the checkpoint
    """
    args = command.parse_args(argv)
    with exit_on_error():
        images, source = images_of(args, load)
        validation, _ = images_of(args, load, "val")
        model, histories = train(args, images, validation)
        options = {k: v for k, v in vars(args).items() if k.endswith("_steps") or k in ("batch_size", "seed")}
        device = next(model.parameters()).device
        if stages and args.export:
            planned = {f"{stage}_steps": options[f"{stage}_steps"] for stage in stages}
            done = {f"{stage}_steps": steps_done(Path(args.out) / folder) for stage, folder in stages.items()}
            if done != planned:
                told = (f"{n} of {planned[k]} {k.replace('_', ' ')}" for k, n in done.items())
                options |= {**done, "stopped": f"stopped after {', '.join(told)}"}
        about = facts({**options, **settings}, len(images), source, device, args.precision)
        about["history"] = {stage: history[-1] for stage, history in histories.items() if history}
        path = Path(args.out) / f"{settings['name']}.safetensors"
        with write_errors(path):
            save_checkpoint(path, model, about, precision="8-bit")
    print(f"wrote {path}")
    return path
