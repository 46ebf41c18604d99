"""helpers.engine.errors: each is what its callers catch, under the names that chapters import."""

import os

import pytest

from helpers import data
from helpers.engine import checkpoints, errors, runs


def test_one_class_under_every_name():
    """A module that catches the error under another name catches the same class."""
    assert data.ImageError is errors.ImageError
    assert checkpoints.CheckpointError is errors.CheckpointError
    assert runs.TrainingError is errors.TrainingError and runs.Stopped is errors.Stopped


@pytest.mark.parametrize("name", [b"\xc6\xcf\xd4\xcf", b"caf\xe9", b"\xff"])
def test_any_name_of_a_file_can_be_said(name):
    """A terminal, a page and JSON take the message; what is Unicode already is left as it is."""
    message = str(errors.ImageError(f"{os.fsdecode(name)}.png: cannot be read"))
    assert message.encode().endswith(b".png: cannot be read") and message.isprintable()
    assert str(errors.ImageError("für Ω – 100×100")) == "für Ω – 100×100" == errors.printable("für Ω – 100×100")


def test_a_stop_is_an_end_of_training():
    """Who catches the end of training catches a run that was asked to stop too; nothing else is caught by accident."""
    with pytest.raises(errors.TrainingError, match="asked"):
        raise errors.Stopped("asked")
    kinds = (errors.ImageError, errors.CheckpointError, errors.PrecisionError, errors.TrainingError)
    assert not [(a, b) for a in kinds for b in kinds if a is not b and issubclass(a, b)]
    assert all(issubclass(kind, ValueError | RuntimeError) for kind in kinds)
