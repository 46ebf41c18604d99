"""helpers.resumable: a run that was stopped ends as one that was not; averages; what goes wrong."""

import json
import math

import pytest
import torch
from torch import nn

from helpers import checkpoints, resumable
from helpers.ema import Ema
from helpers.pairs import Pairs
from helpers.resumable import batch_of, run
from helpers.training import TrainingError
from tests.conftest import make_faces

SETTINGS = {"seed": 7, "width": (1, 2), "rate": 0.1}


class Tiny:
    """A linear layer with noise in its inputs, Adam, an average: everything a method's training has."""

    def __init__(self):
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=0.01)
        self.ema, self.called, self.values = Ema(self.net, 0.9), [], []

    def step(self, number):
        self.called.append(number)
        loss = (self.net(torch.randn(5, 3)) - 1).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.values.append(loss.item())
        return {"loss": loss.item(), "twice": 2 * loss.item()}

    def run(self, out, steps, step=None, settings=SETTINGS, save_every=3):
        state = {"net": self.net, "opt": self.optimiser}
        return run(out, settings, state, step or self.step, steps, (self.ema,), save_every, progress=False)

    def weights(self):
        both = {**self.net.state_dict(), **{"ema." + k: v for k, v in self.ema.module.state_dict().items()}}
        return {k: v.clone() for k, v in both.items()}


def same(a: Tiny, b: Tiny) -> bool:
    return all(torch.equal(v, b.weights()[k]) for k, v in a.weights().items())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Eight steps, saved after 3, 6 and 8."""
    tiny, out = Tiny(), tmp_path_factory.mktemp("finished")
    return tiny, out, tiny.run(out, 8)


def test_history_by_hand(finished):
    """The mean of each part since the last entry."""
    tiny, out, history = finished
    v = tiny.values
    assert [h["step"] for h in history] == [3, 6, 8] and tiny.called == list(range(8))
    assert [h["loss"] for h in history] == pytest.approx([sum(v[:3]) / 3, sum(v[3:6]) / 3, sum(v[6:]) / 2])
    assert all(h["twice"] == pytest.approx(2 * h["loss"]) for h in history)
    assert json.loads((out / "history.json").read_text()) == history
    assert sorted(p.name for p in out.iterdir()) == ["history.json", "state.pt"]


@pytest.mark.parametrize("stop", [0, 1, 2, 4, 7])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError])
def test_interrupted_equals_uninterrupted(finished, tmp_path, stop, kind):
    """Stopped in any step; what is done again since the last state is done in the same way, noise included."""
    first = Tiny()

    def step(number):
        if number == stop:
            raise kind
        return first.step(number)

    with pytest.raises(kind):
        first.run(tmp_path, 8, step)
    torch.manual_seed(999)  # whatever happens in between
    second = Tiny()
    history = second.run(tmp_path, 8)
    assert second.called == list(range(stop // 3 * 3, 8))
    assert history == finished[2] and same(second, finished[0])


def test_a_finished_run_is_left_as_it_is(finished, tmp_path):
    """The same call again gives the same weights without a step."""
    tiny, out, history = finished
    again, stamp = Tiny(), (out / "state.pt").stat().st_mtime_ns
    assert again.run(out, 8) == history and again.called == [] and same(again, tiny)
    assert (out / "state.pt").stat().st_mtime_ns == stamp


def test_steps_are_seeded_one_by_one(finished, tmp_path):
    """What is drawn in a step depends on the seed and the step's number alone."""
    tiny, draws = Tiny(), {}

    def step(number):
        draws[number] = torch.rand(2).tolist()
        return {"loss": 0.0}

    tiny.run(tmp_path / "a", 3, step)
    first = dict(draws)
    tiny.run(tmp_path / "b", 3, step)
    assert draws == first and len({tuple(d) for d in draws.values()}) == 3
    tiny.run(tmp_path / "c", 3, step, {**SETTINGS, "seed": 8})
    assert all(draws[i] != first[i] for i in range(3))


def test_a_run_can_be_made_longer(finished, tmp_path):
    short, long = Tiny(), Tiny()
    short.run(tmp_path, 6)
    long.run(tmp_path, 8)
    assert long.called == [6, 7] and same(long, finished[0])


def test_history_of_a_run_made_longer(tmp_path):
    """Two steps, then two more: each entry is the mean of its own two losses of 1."""
    tiny = Tiny()
    tiny.run(tmp_path, 2, lambda number: {"loss": 1.0}, save_every=10)
    history = tiny.run(tmp_path, 4, lambda number: {"loss": 1.0}, save_every=10)
    assert [h["loss"] for h in history] == [1, 1]


def test_large_seeds(tmp_path):
    """``--seed 20261`` is a seed like any other."""
    Tiny().run(tmp_path, 1, settings={"seed": 20261})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({**SETTINGS, "rate": 0.2}, "rate: 0.1 -> 0.2"),
        ({**SETTINGS, "width": (1, 3)}, r"width: \[1, 2\] -> \[1, 3\]"),
        ({**SETTINGS, "more": 1}, "more: None -> 1"),
        ({"seed": 7}, "width|rate"),
    ],
)
def test_other_settings_are_refused(finished, settings, told):
    tiny, stamp = Tiny(), (finished[1] / "state.pt").stat().st_mtime_ns
    before = tiny.weights()
    with pytest.raises(TrainingError, match=rf"other settings \(.*({told}).*choose another folder"):
        tiny.run(finished[1], 8, settings=settings)
    assert all(torch.equal(v, before[k]) for k, v in tiny.weights().items()) and tiny.called == []
    assert (finished[1] / "state.pt").stat().st_mtime_ns == stamp


def test_a_damaged_state_is_told(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"half a file")
    with pytest.raises(TrainingError, match=r"state\.pt cannot be read .*remove it to start anew"):
        Tiny().run(tmp_path, 8)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("at", "told"), [(1, "nothing was saved yet"), (4, r"state\.pt is the last good state")])
def test_nan_names_the_step(finished, tmp_path, at, told, value):
    """The run stops, the state before is whole, and it can go on from there."""
    first = Tiny()

    def step(number):
        values = first.step(number)
        return {**values, "twice": value} if number == at else values

    with pytest.raises(TrainingError, match=f"step {at + 1}: the loss is not finite.*{told}"):
        first.run(tmp_path, 8, step)
    second = Tiny()
    second.run(tmp_path, 8)
    assert same(second, finished[0]) and second.called[0] == at // 3 * 3


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("write failed")])
def test_a_full_disk_keeps_the_earlier_state(finished, tmp_path, monkeypatch, error):
    """Half a file is written aside; the state of step 3 is whole, and the run goes on from it."""
    first, saves, original = Tiny(), iter(range(100)), torch.save

    def full(content, path, *rest):
        if next(saves) == 1:
            path.write_bytes(b"half a file")
            raise error
        original(content, path, *rest)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"state\.pt cannot be written .*the earlier state is whole"):
        first.run(tmp_path, 8)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["done"] == 3
    second = Tiny()
    history = second.run(tmp_path, 8)
    assert second.called == list(range(3, 8)) and same(second, finished[0]) and history == finished[2]


def test_the_state_is_written_aside(tmp_path, monkeypatch):
    """Through :func:`helpers.checkpoints.write_whole`: never straight to its name."""
    names, original = [], torch.save
    monkeypatch.setattr(torch, "save", lambda content, path: (names.append(path.name), original(content, path)))
    Tiny().run(tmp_path, 3)
    assert names and all(n != "state.pt" for n in names)
    assert resumable.write_whole is checkpoints.write_whole


# ---------------------------------------------------------------------------------------------------------------------
# Batches


def test_batches_of_an_epoch_cover_the_images():
    """Every image once an epoch, in another order each epoch, the same on every call."""
    pairs = Pairs(make_faces(8, 32), flip=False, seed=5)
    # the pictures differ, so the targets tell which was taken
    index = {pairs.batch([i]).target.numpy().tobytes(): i for i in range(8)}

    def order(epoch):
        batches = [batch_of(pairs, step, 4) for step in (2 * epoch, 2 * epoch + 1)]
        return [index[t.numpy().tobytes()] for b in batches for t in b.target[:, None]]

    assert sorted(order(0)) == sorted(order(1)) == list(range(8))
    assert order(0) != order(1) and order(0) == order(0)
    assert not torch.equal(batch_of(pairs, 0, 8).input, batch_of(pairs, 1, 8).input)


def test_fewer_images_than_a_batch():
    with pytest.raises(TrainingError, match="3 training images are fewer than one batch of 4"):
        batch_of(Pairs(make_faces(3, 32)), 0, 4)


# ---------------------------------------------------------------------------------------------------------------------
# The command line


def test_arguments():
    args = resumable.arguments("helpers.x", "does x", {"small": 10, "full": 20}, ["--out", "o", "--full-steps", "3"])
    assert (args.out, args.data, args.limit, args.batch_size, args.seed) == ("o", None, None, 16, 2025)
    assert (args.small_steps, args.full_steps) == (10, 3)


def test_images_of_the_command_line(tmp_path):
    shipped = resumable.arguments("x", "x", {}, ["--out", "o", "--limit", "2"])
    images, name = resumable.images_of(shipped)
    assert images.shape == (2, 128, 128, 3) and name == "shipped faces"
    missing = resumable.arguments("x", "x", {}, ["--out", "o", "--data", str(tmp_path / "absent")])
    with pytest.raises(SystemExit) as error:
        resumable.images_of(missing)
    assert str(error.value.code).startswith("error: ") and "absent" in str(error.value.code)


def test_facts():
    about = resumable.facts({"name": "x", "seed": 1}, 20, "photographs", torch.device("cpu"))
    assert about["name"] == "x" and about["training_data"] == "20 photographs" and about["hardware"].startswith("CPU")
    assert about["versions"] == {"torch": torch.__version__}
