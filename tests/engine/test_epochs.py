"""helpers.engine.epochs: the records of a run, its sums, and the sentences that a failure ends with."""

import math

import pytest
import torch
from torch import nn

from helpers.engine.acceleration import accelerator_for
from helpers.engine.epochs import EpochRun, NotFinite
from helpers.engine.errors import ImageError, Stopped, TrainingError
from helpers.engine.runs import RunFolder, read_history


@pytest.fixture
def begin(tmp_path):
    """Enter the folder of a run of one layer, with three steps an epoch."""
    folders = []

    def enter(warmup_seconds=0.0, **changes):
        layer = nn.Linear(2, 2)
        folder = RunFolder(tmp_path, {"seed": 1, **changes}).__enter__()
        folders.append(folder)
        parts = {"layer": layer, "scaler": None}
        return EpochRun(folder, parts, 3, accelerator_for("no"), warmup_seconds)

    def leave():
        while folders:
            folders.pop().__exit__(None, None, None)

    enter.leave = leave
    yield enter
    leave()


def test_a_record_by_hand(begin, tmp_path):
    """Losses 1, 2 and 6 in three steps of 2, 1 and 1 seconds; the next epoch begins from nothing."""
    run = begin(warmup_seconds=7.0)
    for loss, seconds, waiting in ((1.0, 2.0, 0.5), (torch.tensor(2.0), 1.0, 0.0), (6.0, 1.0, 0.25)):
        run.add({"l1": 2 * loss, "total": loss}, seconds, waiting)
    record = run.end_epoch({"PSNR": 20}, images_seen=24, learning_rate=0.1)
    assert record == {
        "epoch": 1, "images_seen": 24, "learning_rate": 0.1, "l1": 6.0, "total": 3.0, "val_PSNR": 20.0,
        "seconds": 4.0, "waiting_seconds": 0.75, "warmup_seconds": 7.0, "images_per_second": 6.0,
    }  # fmt: skip
    run.save()
    assert run.history == read_history(tmp_path) == [record] and run.sums == {} and run.done == 3
    for _ in range(3):
        run.add({"total": 1.0}, 1.0, 0.0)
    assert run.end_epoch({}, 48, 0.1)["warmup_seconds"] == 0.0 and len(run.history) == 2


def test_it_goes_on_in_the_middle_of_an_epoch(begin):
    run = begin()
    assert run.done == 0 and run.history == []
    run.add({"total": torch.tensor(5.0)}, 1.5, 0.5)
    run.save()
    weights = run.parts["layer"].weight.detach().clone()
    begin.leave()
    again = begin()
    assert (again.done, again.sums, again.seconds, again.waiting) == (1, {"total": 5.0}, 1.5, 0.5)
    assert torch.equal(again.parts["layer"].weight, weights) and list(again.parts) == ["layer"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_found_and_never_saved(begin, tmp_path, value):
    """A loss with ``look`` at once, without at the next look or when the state would be saved; weights when saved."""
    run = begin()
    with pytest.raises(NotFinite, match="the loss is not finite"):
        run.add({"total": 1.0, "l1": value}, 1, 0)
    run = EpochRun(run.folder, run.parts, 3, run.accelerator)
    run.add({"total": value}, 1, 0, look=False)
    with pytest.raises(NotFinite, match="the loss or the weights"):
        run.save()
    with pytest.raises(NotFinite, match="the loss is not finite"):
        run.add({"total": 1.0}, 1, 0)
    run.sums = {}
    with torch.no_grad():
        run.parts["layer"].bias[1] = value
    with pytest.raises(NotFinite):
        run.require_finite()
    with pytest.raises(NotFinite):
        run.save()
    assert not (tmp_path / "state.pt").exists()


@pytest.mark.parametrize(
    ("error", "saved", "told"),
    [
        (NotFinite("bad"), False, r"epoch 2, step 2: bad\. No epoch was completed; a smaller learning rate"),
        (NotFinite("bad"), True, r"epoch 2, step 2: bad\. Nothing is lost: .*best\.safetensors is the last good"),
        (ImageError("a.png: broken"), False, r"epoch 2, step 2: a\.png: broken; nothing was saved yet$"),
        (ImageError("a.png: broken"), True, r"epoch 2, step 2: a\.png: broken; .*state\.pt holds everything"),
        (TrainingError("state.pt cannot be written"), True, r"epoch 2, step 2: state\.pt cannot be written$"),
    ],
)
def test_errors_say_where_and_what_is_left(begin, tmp_path, error, saved, told):
    run = begin()
    run.done = 4
    if saved:
        run.save()
        (tmp_path / "best.safetensors").touch()
    with pytest.raises(TrainingError, match=told) as caught, run.step():
        raise error
    assert "\n" not in str(caught.value)


def test_other_errors_pass():
    """A mistake in the program keeps its traceback, and Ctrl-C stays Ctrl-C."""
    run = EpochRun.__new__(EpochRun)
    run.done, run.per_epoch = 0, 3
    for error in (KeyError, KeyboardInterrupt):
        with pytest.raises(error), run.step():
            raise error


@pytest.mark.parametrize(("done", "told"), [(2, "in epoch 1 after step 2;"), (3, "after epoch 1;"), (7, "in epoch 3 ")])
def test_a_stop_says_where(begin, done, told):
    run = begin()
    run.done = done
    run.save()
    stopped = run.stopped()
    assert isinstance(stopped, Stopped) and told in str(stopped) and "holds everything" in str(stopped)
