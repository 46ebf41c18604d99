"""helpers.engine.commands: options are checked, errors are sentences, a checkpoint says what made it."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from helpers.data import load_split
from helpers.engine import commands
from helpers.engine.checkpoints import load_checkpoint
from helpers.engine.errors import CheckpointError, ImageError, PrecisionError, Stopped, TrainingError
from tests.conftest import ROOT

FIRST = "Does x.\n\nAnd much more that nobody wants to read in a terminal."


def parse(*argv, **how):
    return commands.parser("helpers.x", FIRST, {"small": 10, "full": 20}, **how).parse_args(["--out", "o", *argv])


# ---------------------------------------------------------------------------------------------------------------------
# Options


def test_defaults():
    args = parse("--full-steps", "3", extra={"--rate": {"type": commands.positive_float, "default": 0.1}})
    assert (args.out, args.data, args.limit, args.batch_size, args.seed) == ("o", None, None, 16, 2025)
    assert (args.small_steps, args.full_steps, args.rate, args.precision) == (10, 3, 0.1, "auto")


WRONG = [
    ("--batch-size", "0"), ("--batch-size", "-1"), ("--batch-size", "1.5"), ("--batch-size", "many"),
    ("--limit", "0"), ("--limit", "-3"), ("--small-steps", "-1"), ("--small-steps", ""),
    ("--seed", "-1"), ("--seed", "4294967296"), ("--seed", "x"),
    ("--rate", "0"), ("--rate", "-1"), ("--rate", "nan"), ("--rate", "inf"), ("--rate", "fast"),
    ("--ema", "1"), ("--ema", "-0.1"), ("--ema", "nan"), ("--precision", "half"), ("--precision", ""),
]  # fmt: skip


@pytest.mark.parametrize(("option", "value"), WRONG)
def test_values_that_cannot_be_meant(option, value, capsys):
    """One sentence that names the option and what it takes, and no traceback."""
    extra = {"--rate": {"type": commands.positive_float}, "--ema": {"type": commands.fraction}}
    with pytest.raises(SystemExit) as ended:
        parse(f"{option}={value}", extra=extra)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2 and f"error: argument {option}: " in last and repr(value) in last


RIGHT = [
    ("--batch-size", "1", 1), ("--limit", "1", 1), ("--small-steps", "0", 0), ("--seed", "0", 0),
    ("--seed", "4294967295", 2**32 - 1), ("--rate", "1e-9", 1e-9), ("--ema", "0", 0.0), ("--ema", "0.999", 0.999),
]  # fmt: skip


@pytest.mark.parametrize(("option", "value", "meant"), RIGHT)
def test_values_at_the_edge(option, value, meant):
    extra = {"--rate": {"type": commands.positive_float}, "--ema": {"type": commands.fraction}}
    assert getattr(parse(option, value, extra=extra), option[2:].replace("-", "_")) == meant


@pytest.mark.parametrize("description", [FIRST, None])
def test_help(description):
    """The first paragraph; ``python -OO`` has no docstrings, and then there is none."""
    text = commands.parser("helpers.x", description).format_help()
    assert "python -m helpers.x" in text and "--batch-size" in text and "much more" not in text
    assert ("Does x." in text) == (description is not None)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "koi8-r"])
def test_a_terminal_that_cannot_print_everything(encoding, monkeypatch):
    """The help and what is printed later survive; what the terminal lacks stands there as an escape."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding=encoding))
    command = commands.parser("helpers.x", "Equations 9–17, f ↦ f_ω.", {"first": 3})
    with pytest.raises(SystemExit) as ended:
        command.parse_args(["--help"])
    print("128×128 – done \udcc4")
    sys.stdout.flush()
    assert ended.value.code == 0 and b"\\u21a6 f" in shown.getvalue() and b" done \\udcc4" in shown.getvalue()


EVERY = """
import runpy, sys
failed = []
for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=False)
        failed.append(f"{name} has no command line")
    except SystemExit as end:
        failed += [f"{name} ends with {end.code}"] * bool(end.code)
    except BaseException as error:
        failed.append(f"{name}: {error!r}")
sys.exit("; ".join(failed) or 0)
"""


def test_every_command_without_docstrings_on_a_plain_terminal():
    """``python -OO -m helpers.x --help`` where the terminal knows ASCII alone, for every module that is a command."""
    found = sorted(
        p for p in (ROOT / "helpers").rglob("*.py") if '__name__ == "__main__"' in p.read_text(encoding="utf-8")
    )
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in found]
    done = subprocess.run(
        [sys.executable, "-OO", "-W", "ignore", "-c", EVERY, *names], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert len(names) > 3 and done.returncode == 0, done.stderr
    assert done.stdout.count("usage: python -m helpers.") == len(names)


# ---------------------------------------------------------------------------------------------------------------------
# Errors


@pytest.mark.parametrize("kind", [ImageError, CheckpointError, PrecisionError, TrainingError, Stopped])
def test_errors_end_the_program_with_a_sentence(kind):
    with pytest.raises(SystemExit) as ended, commands.exit_on_error():
        raise kind("what failed")
    assert ended.value.code == "error: what failed"


def test_a_mistake_of_the_program_is_no_sentence():
    """What nobody expected keeps its traceback, which is what a report of it needs."""
    with pytest.raises(ZeroDivisionError), commands.exit_on_error():
        _ = 1 / 0


def test_images_of_the_command_line(tmp_path):
    images, name = commands.images_of(parse("--limit", "2"), load_split)
    assert images.shape == (2, 128, 128, 3) and name == "shipped faces"
    images, name = commands.images_of(parse("--data", "d"), lambda *asked: asked, "val")
    assert images == ("d", "val", None) and name == "photographs"
    with pytest.raises(ImageError, match="absent"):
        commands.images_of(parse("--data", str(tmp_path / "absent")), load_split)


# ---------------------------------------------------------------------------------------------------------------------
# The whole command


@pytest.mark.parametrize(("precision", "named"), [("no", "float32"), ("bf16", "bfloat16")])
def test_facts(precision, named):
    """The number format is recorded, in the hardware's description too."""
    about = commands.facts({"name": "x", "seed": 1}, 20, "photographs", torch.device("cpu"), precision)
    assert about["name"] == "x" and about["training_data"] == "20 photographs"
    assert about["training_precision"] == precision and about["versions"] == {"torch": torch.__version__}
    assert about["hardware"].startswith("CPU") and about["hardware"].endswith(named)
    several = commands.facts({}, None, "3 portraits + 2 shipped faces", torch.device("cpu"), precision)
    assert several["training_data"] == "3 portraits + 2 shipped faces"


def test_a_shared_option_may_be_replaced():
    """A training that takes several sets says so itself."""
    args = parse("--data", "a", "--data", "b", extra={"--data": {"action": "append"}})
    assert args.data == ["a", "b"] and args.batch_size == 16


def load(source, split, limit=None):
    return np.zeros((4 if split == "train" else 2, 8, 8, 3), np.uint8)


def train(args, images, validation):
    """A network that remembers what it was called with."""
    net = nn.Linear(2, 1)
    nn.init.constant_(net.weight, args.first_steps)
    return net, {"first": [{"step": 1, "loss": 2.0}, {"step": 3, "loss": 1.0, "val_n": len(validation)}], "second": []}


def command():
    return commands.parser("helpers.x", FIRST, {"first": 3, "second": 0})


def test_main_of(tmp_path, capsys):
    out = tmp_path / "deep" / "run"
    argv = ["--out", str(out), "--batch-size", "2", "--seed", "5", "--first-steps", "7", "--precision", "no"]
    path = commands.main_of(command(), argv, load, train, {"name": "trial", "width": 32})
    assert path == out / "trial.safetensors" and capsys.readouterr().out == f"wrote {path}\n"
    net = nn.Linear(2, 1)
    about = load_checkpoint(path, net)
    assert net.weight.tolist() == [[7.0, 7.0]]
    expected = {"name": "trial", "width": 32, "first_steps": 7, "second_steps": 0, "batch_size": 2, "seed": 5}
    assert expected.items() <= about.items() and about["training_data"] == "4 shipped faces"
    assert about["history"] == {"first": {"step": 3, "loss": 1.0, "val_n": 2}} and about["training_precision"] == "no"
    assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) == about


def fail(args, images, validation):
    raise TrainingError("the loss is not finite")


def test_main_of_tells_errors(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    for out, how, told in ((tmp_path, fail, "error: the loss is not finite"),
                           (tmp_path / "file", train, "cannot be written")):  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            commands.main_of(command(), ["--out", str(out), "--precision", "no"], load, how, {"name": "trial"})
        assert told in ended.value.code
