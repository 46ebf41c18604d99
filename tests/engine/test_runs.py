"""helpers.engine.runs: a run that was stopped ends as one that was not; averages; what goes wrong."""

import json
import math
import os
import signal
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers.data import open_folder
from helpers.engine import folders, runs
from helpers.engine.ema import Ema
from helpers.engine.errors import Stopped, TrainingError
from helpers.engine.runs import RunFolder, batch_of, fingerprint, run
from helpers.pairs import Pairs
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

    def run(self, out, steps, step=None, settings=SETTINGS, save_every=3, look_every=1):
        state, more = {"net": self.net, "opt": self.optimiser}, {"progress": False, "look_every": look_every}
        return run(out, settings, state, step or self.step, steps, (self.ema,), save_every, **more)

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
    assert [json.loads(line) for line in (out / "history.jsonl").read_text(encoding="utf-8").splitlines()] == history
    assert sorted(p.name for p in out.iterdir()) == ["history.jsonl", "state.pt"]


@pytest.mark.parametrize("look_every", [2, 3, 100])
def test_losses_are_looked_at_seldom(finished, tmp_path, look_every):
    """As tensors, which a GPU hands out when it has computed them: the same history and weights, no look in between."""
    tiny, looked = Tiny(), []

    class Watched(float):
        def __float__(self):
            looked.append(len(tiny.called))
            return float.__float__(self)

    whole = tiny.run(tmp_path, 8, lambda n: {k: Watched(v) for k, v in tiny.step(n).items()}, look_every=look_every)
    assert whole == finished[2] and same(tiny, finished[0])
    wanted = {2: {2, 3, 5, 6, 8}, 3: {3, 6, 8}, 100: {3, 6, 8}}[look_every]  # a record looks as well
    assert set(looked) == wanted


def test_a_loss_that_was_not_looked_at_is_found_later(tmp_path):
    """NaN in step 4 of looks after 3 and 6: its number is told, and what was saved is older."""
    tiny = Tiny()
    spoilt = lambda n: {"loss": torch.tensor(math.nan if n == 3 else 1.0)}  # noqa: E731
    with pytest.raises(TrainingError, match=r"step 4: the loss is not finite: .*state\.pt is the last good state"):
        tiny.run(tmp_path, 8, spoilt, look_every=100)
    assert runs.steps_done(tmp_path) == 3


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


def test_the_state_counts_the_seconds(tmp_path, monkeypatch):
    """Those of all sittings; unknown where an earlier version, which did not count, began the run."""
    clock = [100.0]
    monkeypatch.setattr(runs.time, "monotonic", lambda: clock[0])

    def sit(steps):
        tiny = Tiny()

        def step(number):
            clock[0] += 2.0
            return tiny.step(number)

        tiny.run(tmp_path, steps, step)
        return runs.read_state(tmp_path)["plain"]

    assert sit(3)["seconds"] == 6
    clock[0] += 1000  # between two sittings
    state = sit(5)
    assert state["seconds"] == 10 and state["done"] == 5
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    del content["plain"]["seconds"]
    torch.save(content, tmp_path / "state.pt")
    assert math.isnan(sit(6)["seconds"])


def test_the_state_can_be_read_by_itself(finished, tmp_path):
    """Settings, plain values and every part, of this version and of an earlier one; nothing in an empty folder."""
    tiny, out, history = finished
    state = runs.read_state(out)
    assert (
        state["settings"] == json.loads(json.dumps(SETTINGS))
        and state["plain"]["history"] == history
        and not state["old"]
    )
    assert all(torch.equal(v, tiny.net.state_dict()[k]) for k, v in state["parts"]["net"].items())
    old = {"settings": SETTINGS, "done": 8, "history": history, "state.net": tiny.net.state_dict()}
    torch.save(old, tmp_path / "state.pt")
    state = runs.read_state(tmp_path)
    assert state["old"] and state["plain"] == {"done": 8, "history": history} and list(state["parts"]) == ["net"]
    (tmp_path / "state.pt").write_bytes(b"broken")
    with pytest.raises(TrainingError, match="state.pt cannot be read"):
        runs.read_state(tmp_path)
    assert runs.read_state(tmp_path / "none") is None


def test_without_a_folder_nothing_is_kept(finished, tmp_path, monkeypatch):
    """The same weights and history; another run's state in the current folder is not looked at."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "state.pt").write_bytes(b"another run's")
    tiny = Tiny()
    history = tiny.run(None, 7)
    whole = Tiny()
    assert history == whole.run(tmp_path / "run", 7) and same(tiny, whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "state.pt"]


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


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"format": 99}, "a later version wrote it"),
        ({"format": 2, "settings": SETTINGS}, "KeyError"),
        ({"done": 3}, "KeyError"),
        (torch.zeros(3), "RuntimeError"),
        ([], "AttributeError"),
    ],
)
def test_another_kind_of_state_is_told(tmp_path, content, told):
    torch.save(content, tmp_path / "state.pt")
    with pytest.raises(TrainingError, match=rf"state\.pt cannot be read \(({told})\); remove it to start anew"):
        Tiny().run(tmp_path, 8)


def test_a_damaged_history_is_written_again(finished, tmp_path):
    """The state holds the records; the file is for the reader."""
    Tiny().run(tmp_path, 6)
    (tmp_path / "history.jsonl").write_text('{"half', encoding="utf-8")
    assert Tiny().run(tmp_path, 8) == finished[2] == runs.read_history(tmp_path)


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
    with pytest.raises(TrainingError, match=r"state\.pt cannot be written .*what was saved before is whole"):
        first.run(tmp_path, 8)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["plain"]["done"] == 3
    second = Tiny()
    history = second.run(tmp_path, 8)
    assert second.called == list(range(3, 8)) and same(second, finished[0]) and history == finished[2]


def test_the_state_is_written_aside(tmp_path, monkeypatch):
    """Through :func:`helpers.engine.folders.atomic_write`: never straight to its name."""
    names, original = [], torch.save
    monkeypatch.setattr(torch, "save", lambda content, path: (names.append(path.name), original(content, path)))
    Tiny().run(tmp_path, 3)
    assert names and all(n != "state.pt" for n in names)
    assert runs.atomic_write is folders.atomic_write


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
# Killed, stopped, in use


def killed(action) -> None:
    """Call ``action`` in a copy of this process that kills itself in it, as ``kill -9`` or a power cut would."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # this process may have threads; the copy needs none
        child = os.fork()
    if not child:
        try:
            action()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def kill_at(call: int, function):
    """``function``, in whose call of that number the process dies."""
    calls = iter(range(10**6))

    def instead(*args):
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)

    return instead


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@settings(max_examples=15)
@given(every=st.integers(1, 9), kills=st.lists(st.integers(0, 7), min_size=1, max_size=3))
def test_killed_anywhere_equals_uninterrupted(finished, every, kills):
    """Up to three kills at any step, each in the run that goes on, however often the state is saved. The same weights,
    the same averages, and the losses of the same steps."""
    steps = 8
    with tempfile.TemporaryDirectory() as out:
        for at in kills:
            tiny = Tiny()

            def step(number, tiny=tiny, at=at):
                if number >= at:  # or at once, where the state is further than that
                    os.kill(os.getpid(), signal.SIGKILL)
                return tiny.step(number)

            killed(lambda tiny=tiny, step=step: tiny.run(out, steps, step, save_every=every))
        last = Tiny()
        history = last.run(out, steps, save_every=every)
        kept = runs.read_history(out)
    assert same(last, finished[0])
    losses, ends = finished[0].values, [h["step"] for h in history]
    assert ends == sorted({*range(every, steps + 1, every), steps})
    for start, end, record in zip([0, *ends], ends, history, strict=False):
        assert record["loss"] == pytest.approx(sum(losses[start:end]) / (end - start))
    assert kept == history


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("call", range(4))
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_killed_while_it_writes(finished, tmp_path, call, function, monkeypatch):
    """Before, between and after the files of a record; the run goes on, its history is whole, nothing is left aside."""
    with monkeypatch.context() as patch:
        patch.setattr(os, function, kill_at(call, getattr(os, function)))
        killed(lambda: Tiny().run(tmp_path, 8))
    last = Tiny()
    assert last.run(tmp_path, 8) == finished[2] and same(last, finished[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["history.jsonl", "state.pt"]
    assert runs.read_history(tmp_path) == finished[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [0, 3, 5])
def test_a_signal_ends_the_run_after_the_step(finished, tmp_path, number, at):
    """The step is finished and saved, the message says how to go on, and the handlers are as before."""
    first, before = Tiny(), [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    def step(count):
        if count == at:
            signal.raise_signal(number)
        return first.step(count)

    with pytest.raises(Stopped, match=rf"stopped after step {at + 1}; .*state\.pt holds everything, the same command"):
        first.run(tmp_path, 8, step)
    assert first.called[-1] == at and [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    second = Tiny()
    assert second.run(tmp_path, 8) == finished[2] and same(second, finished[0])
    assert second.called == list(range(at + 1, 8))


def test_a_second_signal_ends_it_at_once(tmp_path):
    def step(number):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second signal was ignored")

    with pytest.raises(KeyboardInterrupt):
        Tiny().run(tmp_path, 8, step)


def test_a_signal_in_the_last_step(finished, tmp_path):
    """There is nothing to go on with: the run is finished."""
    tiny = Tiny()

    def step(number):
        if number == 7:
            signal.raise_signal(signal.SIGTERM)
        return tiny.step(number)

    assert tiny.run(tmp_path, 8, step) == finished[2]


def test_a_run_in_another_thread(finished, tmp_path):
    """As a page trains: Python hands signals to the main thread alone, and the run does without."""
    tiny = Tiny()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(tiny.run, tmp_path, 8).result() == finished[2]


def test_two_runs_in_one_folder(finished, tmp_path):
    """The second is refused before it changes anything; the first ends as if nobody had come."""
    first, second = Tiny(), Tiny()
    before = second.weights()

    def step(number):
        if number == 4:
            with pytest.raises(TrainingError, match="is in use by another run .*choose another folder"):
                second.run(tmp_path, 8)
            assert second.called == [] and all(torch.equal(v, before[k]) for k, v in second.weights().items())
        return first.step(number)

    assert first.run(tmp_path, 8, step) == finished[2] and same(first, finished[0])


def test_processes_that_only_read(finished, tmp_path):
    """Beside the one that writes, the others of one run read the same state, and write nothing."""
    with RunFolder(tmp_path, SETTINGS) as first:
        first.save({}, done=3)
        with RunFolder(tmp_path, SETTINGS, writes=False) as second:
            assert second.load({}) == {"done": 3}
            second.save({}, done=4)
            second.write_history([{"step": 4}])
    with RunFolder(tmp_path, SETTINGS) as again:
        assert again.load({}) == {"done": 3}
    assert not (tmp_path / "history.jsonl").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Which pictures


def test_a_fingerprint_tells_pictures_apart():
    """One value of one pixel, the order, the number, the shape; and it is the same for an array and for a list."""
    images = make_faces(6, 16)
    known = fingerprint(images)
    assert known == fingerprint(images.copy()) == fingerprint(list(images)) and known.startswith("6 pictures ")
    other = images.copy()
    other[4, 7, 9, 1] ^= 1
    kinds = [other, images[::-1], images[:5], images[:, ::2], images.reshape(6, 8, 32, 3), images[[0, 1, 2, 3, 4, 4]]]
    assert len({known, *map(fingerprint, kinds)}) == 1 + len(kinds)
    assert fingerprint(images[:, :, ::-1]) == fingerprint(images[:, :, ::-1].copy())  # views are read as they look


def test_a_fingerprint_of_very_many(monkeypatch):
    """Evenly spaced ones are read, the first and the last among them, and no more."""
    monkeypatch.setattr(runs, "LOOKED_AT", 5)

    class Many:
        seen = []

        def __len__(self):
            return 1001

        def __getitem__(self, index):
            self.seen.append(index)
            return np.full((2, 2, 3), index % 251, np.uint8)

    assert fingerprint(Many()).startswith("1001 pictures") and Many.seen == [0, 250, 500, 750, 1000]


def test_a_fingerprint_of_files(tmp_path):
    """Pictures that are read when asked for are told by name, size and time of change; where they lie is free."""
    names = [os.fsdecode(n) for n in (b"a.png", "ä.png".encode(), b"\xc4\xc1.png")]
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(b"content")
            os.utime(tmp_path / folder / name, (1000, 1000))
    one, two = (open_folder(tmp_path / folder) for folder in ("one", "two"))
    known = fingerprint(one)
    assert known == fingerprint(two) and known.startswith("3 pictures ")
    os.utime(two.paths[1], (1000, 1001))
    changed = fingerprint(two)
    os.utime(two.paths[1], (1000, 1000))
    two.paths[2].write_bytes(b"longer content")
    os.utime(two.paths[2], (1000, 1000))
    assert len({known, changed, fingerprint(two)}) == 3


def test_other_pictures_of_the_same_number_are_refused(tmp_path):
    """What differs is named."""
    images = make_faces(4, 16)
    Tiny().run(tmp_path, 3, settings={**SETTINGS, "pictures": fingerprint(images)})
    with pytest.raises(TrainingError, match=r"other settings \(pictures: 4 pictures \w+ -> 4 pictures \w+\); choose"):
        Tiny().run(tmp_path, 6, settings={**SETTINGS, "pictures": fingerprint(images[::-1])})
    Tiny().run(tmp_path, 6, settings={**SETTINGS, "pictures": fingerprint(images)})


def test_settings_that_may_change(tmp_path):
    for epochs in (3, 5):
        with RunFolder(tmp_path, {"epochs": epochs, "rate": 1}) as folder:
            folder.save({}, done=epochs)
    with pytest.raises(TrainingError, match=r"\(rate: 1 -> 2\)"), RunFolder(tmp_path, {"epochs": 7, "rate": 2}):
        pass


# ---------------------------------------------------------------------------------------------------------------------
# What a folder holds


def test_names_that_are_not_utf8(finished, tmp_path):
    """A folder named in another encoding, and a setting that holds its name."""
    out = tmp_path / os.fsdecode(b"\xc4\xc1")
    try:
        out.mkdir()
    except OSError:
        pytest.skip("this disk takes UTF-8 alone")
    settings = {**SETTINGS, "data": str(out)}
    Tiny().run(out, 4, settings=settings)
    last = Tiny()
    assert last.run(out, 8, settings=settings) and same(last, finished[0])
    with pytest.raises(TrainingError, match="other settings"):
        Tiny().run(out, 8)


def test_compiled_networks_go_on_as_bare_ones(tmp_path):
    """The names in the state are the network's own, whichever of the two runs was compiled."""
    bare, expected = nn.Linear(2, 2), torch.full((2, 2), 3.0)
    nn.init.constant_(bare.weight, 3.0)
    for out, saved, loaded in (
        ("a", torch.compile(bare), nn.Linear(2, 2)),
        ("b", bare, torch.compile(nn.Linear(2, 2))),
    ):
        with RunFolder(tmp_path / out, {}) as folder:
            folder.save({"net": saved})
        with RunFolder(tmp_path / out, {}) as folder:
            folder.load({"net": loaded})
        assert torch.equal(loaded.weight, expected)


def test_another_network_is_refused(finished):
    with pytest.raises(
        TrainingError, match=r"holds another run: its state does not fit net \(.*\); choose another folder"
    ):
        run(finished[1], SETTINGS, {"net": nn.Linear(5, 5)}, lambda n: {}, 8)
    with pytest.raises(TrainingError, match=r"does not fit more \(it is not there\)"):
        run(finished[1], SETTINGS, {"more": nn.Linear(5, 5)}, lambda n: {}, 8)


def test_a_scaler_without_state_may_be_new(tmp_path):
    """Older folders know of none; in float32 and bf16 it has nothing to remember."""
    with RunFolder(tmp_path, {}) as folder:
        folder.save({})
    with RunFolder(tmp_path, {}) as folder:
        folder.load({"scaler": torch.amp.GradScaler("cpu", enabled=False)})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_spoilt_weights_are_not_saved(finished, tmp_path, value):
    """Though the loss was finite: the last update may have been the one too many."""
    first = Tiny()

    def step(number):
        values = first.step(number)
        if number == 5:
            with torch.no_grad():
                first.net[0].weight[1, 1] = value
        return values

    with pytest.raises(TrainingError, match=r"step 6: the weights are not finite; .*state\.pt is the last good state"):
        first.run(tmp_path, 8, step)
    second = Tiny()
    assert second.run(tmp_path, 8) == finished[2] and second.called == [3, 4, 5, 6, 7]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(TrainingError, match="file cannot be written"):
        Tiny().run(tmp_path / "file", 8)


def test_read_history(tmp_path):
    """Of a folder in either format, or of a file; what is missing or damaged is told."""
    records = [{"step": 3, "loss": 0.5}, {"step": 6, "loss": 0.25}]
    (tmp_path / "history.json").write_text(json.dumps(records), encoding="utf-8")
    assert runs.read_history(tmp_path) == records
    with RunFolder(tmp_path, {}) as folder:
        folder.write_history(records[:1])
    assert runs.read_history(tmp_path / "history.jsonl") == records[:1]
    (tmp_path / "history.jsonl").write_text('{"half', encoding="utf-8")
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(TrainingError, match="cannot be read as a history"):
            runs.read_history(path)


def as_earlier(path, settings):
    """The folder as earlier versions of this loop left it."""
    content = torch.load(path / "state.pt", weights_only=True)
    plain, parts = content["plain"], content["parts"]
    older = {"settings": settings, "done": plain["done"], "history": plain["history"]}
    torch.save(older | {f"state.{k}": v for k, v in parts.items()}, path / "state.pt")
    (path / "history.jsonl").unlink()
    (path / "history.json").write_text(json.dumps(plain["history"]), encoding="utf-8")


def test_folders_of_earlier_versions_go_on(finished, tmp_path):
    """Settings that they do not know are not compared, those that they know are; the next state is of this version."""
    Tiny().run(tmp_path, 6)
    as_earlier(tmp_path, {"seed": 7, "width": [1, 2], "rate": 0.1, "images": 20})
    with pytest.raises(TrainingError, match=r"other settings \(rate: 0.1 -> 0.2\)"):
        Tiny().run(tmp_path, 8, settings={**SETTINGS, "rate": 0.2, "pictures": "20 pictures 12"})
    last, settings = Tiny(), {**SETTINGS, "pictures": "20 pictures 12"}
    assert last.run(tmp_path, 8, settings=settings) == finished[2] and same(last, finished[0])
    assert last.called == [6, 7] and runs.read_history(tmp_path) == finished[2]
    with pytest.raises(TrainingError, match="pictures: 20 pictures 12 -> 20 pictures 34"):
        Tiny().run(tmp_path, 8, settings={**SETTINGS, "pictures": "20 pictures 34"})


def test_last_pt_of_the_thesis_training(tmp_path):
    """``last.pt`` is read as long as there is no ``state.pt``; the recipe are the settings, the rest plain values."""
    net = nn.Linear(2, 2)
    nn.init.constant_(net.weight, 3.0)
    plain = {"images": 48, "done": 7, "history": [{"epoch": 1}], "sums": {"total": 0.5}, "seconds": 1.5, "waiting": 0.0}
    states = {"model": net.state_dict(), "optimiser": torch.optim.Adam(net.parameters()).state_dict()}
    older = {"recipe": {"rate": 0.1, "seed": 1}, **plain, **states}
    torch.save(older, tmp_path / "last.pt")
    other = nn.Linear(2, 2)
    parts = {"model": other, "optimiser": torch.optim.Adam(other.parameters())}
    with RunFolder(tmp_path, {"rate": 0.1, "seed": 1, "epochs": 3, "pictures": "48 pictures 1"}) as folder:
        assert folder.load(parts) == plain
        assert torch.equal(other.weight, net.weight)
        folder.save(parts, done=8)
    with RunFolder(tmp_path, {"rate": 0.1, "seed": 1, "epochs": 3, "pictures": "48 pictures 1"}) as folder:
        assert folder.load(parts) == {"done": 8}
    (tmp_path / "state.pt").unlink()
    for changed, told in (({"rate": 0.2}, "rate: 0.1 -> 0.2"), ({"images": 50}, "images: 48 -> 50")):
        with pytest.raises(TrainingError, match=told), RunFolder(tmp_path, changed):
            pass


# ---------------------------------------------------------------------------------------------------------------------
# Validation


@pytest.mark.parametrize(("every", "marks"), [(None, [2, 4, 6, 7]), (2, [2, 4, 6, 7]), (3, [4, 7]), (100, [7])])
def test_validation_at_records(tmp_path, every, marks):
    """At each record, or at the first after so many steps; always at the last. The measures get their own names."""
    tiny, called = Tiny(), []

    def validate():
        called.append(len(tiny.called))
        return {"L1": 0.5 * called[-1]}

    history = run(tmp_path, SETTINGS, {"net": tiny.net, "opt": tiny.optimiser}, tiny.step, 7, save_every=2,
                  validate=validate, validate_every=every, progress=False)  # fmt: skip
    assert called == marks and [h["step"] for h in history] == [2, 4, 6, 7]
    assert {h["step"]: h["val_L1"] for h in history if "val_L1" in h} == {m: 0.5 * m for m in marks}


def test_validation_changes_nothing(finished, tmp_path):
    """Random numbers that it draws are not those of the steps."""
    tiny = Tiny()
    state = {"net": tiny.net, "opt": tiny.optimiser}
    run(tmp_path, SETTINGS, state, tiny.step, 8, (tiny.ema,), 3, validate=lambda: {"x": torch.rand(1)}, progress=False)
    assert same(tiny, finished[0])


def test_hardware():
    text = runs.hardware(torch.device("cpu"))
    assert text.startswith("CPU, ") and f"{torch.get_num_threads()} threads" in text
    assert runs.hardware("cpu", "bf16") == f"{text}, bfloat16" and runs.hardware("cpu", "no") == f"{text}, float32"
