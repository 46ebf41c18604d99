"""helpers.engine.loading: batches of Pairs in the order of the seed, for each process its part, and what goes wrong."""

import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.data import ImageError, open_folder
from helpers.engine.errors import TrainingError
from helpers.engine.loading import Loader, StepBatches, available_cores, prefetch
from helpers.engine.runs import batch_of
from helpers.pairs import Pairs
from helpers.seeds import indices_of, rng_for
from tests.conftest import make_faces


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """Fourteen pictures: three batches of four, and two that are left out."""
    return Pairs(make_faces(14, 64), flip=True, seed=5)


def same(a, b) -> bool:
    return torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


def expected(pairs, step, batch_size=4):
    """The batch of a step, written out from the seed."""
    epoch, place = divmod(step, len(pairs) // batch_size)
    order = rng_for(pairs.seed, epoch).permutation(len(pairs))
    batch = pairs.batch(order[place * batch_size :][:batch_size].tolist(), epoch)
    return batch.input, batch.target


# ---------------------------------------------------------------------------------------------------------------------
# Which images


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_those_of_pairs(pairs, workers):
    """Two epochs, bit for bit, in order, whatever the number of threads; channels-last."""
    got = list(Loader(pairs, 4, stop=6, workers=workers))
    assert len(got) == 6 and all(same(g, expected(pairs, step)) for step, g in enumerate(got))
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in got[0])
    assert got[0][0].shape == (4, 4, 64, 64) and got[0][1].shape == (4, 3, 64, 64)


def test_the_order_is_that_of_batch_of(pairs):
    for step, (inputs, _) in enumerate(Loader(pairs, 4, stop=4)):
        assert torch.equal(inputs, batch_of(pairs, step, 4).input)


@pytest.mark.parametrize("start", [0, 1, 2, 5])
def test_it_starts_at_any_step(pairs, start):
    got = list(Loader(pairs, 4, start=start, stop=7))
    assert len(got) == 7 - start == len(Loader(pairs, 4, start=start, stop=7))
    assert all(same(g, expected(pairs, start + i)) for i, g in enumerate(got))


def test_by_default_it_ends_with_the_epoch(pairs):
    assert [len(list(Loader(pairs, 4, start=s))) for s in (0, 1, 2, 3)] == [3, 2, 1, 3]


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (4, 1), (1, 2), (2, 2)])
def test_parts_make_up_the_batch(pairs, world, accumulate):
    """Each process's part of each part of a batch, put together in order, is the batch of one process."""
    loaders = [iter(Loader(pairs, 4, rank=r, world=world, accumulate=accumulate, stop=4)) for r in range(world)]
    for step in range(4):
        parts = [next(loader) for _ in range(accumulate) for loader in loaders]
        assert {len(p[0]) for p in parts} == {4 // (world * accumulate)}
        whole = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
        assert same(whole, expected(pairs, step))
    assert all(next(loader, None) is None for loader in loaders)


def test_an_epoch_covers_the_images():
    """Every image at most once an epoch; another order in the next; the same on every call."""
    first, second = ([indices_of(14, 5, s, 4)[0].tolist() for s in range(e, e + 3)] for e in (0, 3))
    assert len(set(sum(first, []))) == len(set(sum(second, []))) == 12 and first != second
    assert indices_of(14, 5, 4, 4)[1] == 1 and indices_of(14, 5, 1, 4)[0].tolist() == first[1]
    assert indices_of(14, 6, 0, 4)[0].tolist() != first[0]


def test_paired_data_and_oracle_edges(pairs):
    other = Pairs(pairs.sharp, blurred=255 - pairs.sharp, edges="oracle", flip=True, seed=5)
    assert same(next(iter(Loader(other, 4))), expected(other, 0))


# ---------------------------------------------------------------------------------------------------------------------
# Ahead of time


class Slow:
    """Pictures that take a while and tell in which thread they were asked for."""

    def __init__(self, faces, seconds):
        self.faces, self.seconds, self.threads, self.asked = faces, seconds, set(), 0

    def __len__(self):
        return len(self.faces)

    def __getitem__(self, index):
        self.threads.add(threading.get_ident())
        self.asked += 1
        time.sleep(self.seconds)
        return self.faces[index]


def seconds_waited(loader, step: float) -> list[float]:
    """How long each batch was waited for by a step of so many seconds."""
    batches, waited = iter(loader), []
    for _ in range(len(loader)):
        started = time.perf_counter()
        next(batches)
        waited.append(time.perf_counter() - started)
        time.sleep(step)
    return waited


def test_batches_are_made_while_the_step_runs(faces):
    """A step of 0.1 s and a batch of 0.04 s: made in another thread, and but for the first nothing is waited for.

    The best of several: on a shared core a thread may be kept waiting by others.
    """
    slow, later = Slow(faces, 0.02), []
    for _ in range(10):
        first, *others = seconds_waited(Loader(Pairs(slow), 2, stop=6), 0.1)
        assert threading.get_ident() not in slow.threads and first > 0.03
        later.append(sum(others))
        if later[-1] < 0.1:
            break
    assert min(later) < 0.1


def test_a_step_that_takes_no_time_waits(faces):
    """Batches of 0.2 s: all of it is waited for."""
    assert sum(seconds_waited(Loader(Pairs(Slow(faces, 0.1)), 2, stop=3), 0)) > 0.55


def test_no_more_than_asked_for_is_made_ahead(faces):
    """After one batch, one is out, and three wait: sixteen pictures of the forty-eight are not yet touched."""
    slow = Slow(faces, 0)
    batches = iter(Loader(Pairs(slow), 2, stop=20, workers=1, ahead=3))
    next(batches)
    time.sleep(0.3)
    assert slow.asked <= 2 * (1 + 3)
    batches.close()


def test_the_trainings_threads_are_left_alone(pairs):
    """A loader's thread computes with one; the caller keeps what was set, and threads that start later too."""
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        list(Loader(pairs, 4))
        other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert torch.get_num_threads() == 3 and seen == [3]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (3, 2), (2, 9)])
def test_prefetched_results_keep_their_order(workers, ahead):
    assert list(prefetch(lambda x: x * x, range(5), workers, ahead)) == [0, 1, 4, 9, 16]
    assert list(prefetch(str, [], workers, ahead)) == []


def test_an_error_comes_in_its_place():
    def broken(number):
        if number == 1:
            raise ImageError("a.png is gone")
        return number

    results = prefetch(broken, range(3))
    assert next(results) == 0
    with pytest.raises(ImageError, match="a.png"):
        next(results)


def test_available_cores():
    assert 1 <= available_cores() <= 4096


# ---------------------------------------------------------------------------------------------------------------------
# What goes wrong


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"batch_size": 15}, "14 training images are fewer than one batch of 15"),
        ({"batch_size": 4, "world": 3}, "3 processes"),
        ({"batch_size": 4, "world": 2, "accumulate": 4}, "2 processes × 4 parts"),
        ({"batch_size": 0}, "cannot be divided"),
    ],
)
def test_what_does_not_divide_is_refused(pairs, arguments, told):
    with pytest.raises(TrainingError, match=told):
        Loader(pairs, **arguments)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_file_that_is_gone_is_named(tmp_path, workers):
    """Files vanish while batches are made: one ImageError with a name, in the caller's thread, and no thread stays."""
    for i, picture in enumerate(make_faces(8, 64)):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    loader = iter(Loader(Pairs(open_folder(tmp_path)), 2, stop=1000, workers=workers))
    next(loader)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(ImageError, match=r"\d\.png: there is no such file"):
        for _ in range(100):
            next(loader)
    deadline = time.monotonic() + 60
    while any(t.name.startswith("loader") for t in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(t.name.startswith("loader") for t in threading.enumerate())


def test_a_broken_file_is_named(tmp_path):
    for i, picture in enumerate(make_faces(4, 64)):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"2\.png"):
        list(Loader(Pairs(open_folder(tmp_path)), 4))


def test_other_errors_become_one_sentence(faces):
    class Gone(Slow):
        def __getitem__(self, index):
            raise OSError(5, "Input/output error", "photographs/7.png")

    with pytest.raises(ImageError, match=r"OSError.*Input/output error.*7\.png"):
        list(Loader(Pairs(Gone(faces, 0)), 4))


def test_numbers_that_are_no_bytes_are_refused(faces):
    """A NaN cannot hide in 8-bit pictures; pictures in floating point, where it could, are refused."""
    poisoned = faces.astype(np.float32) / 255
    poisoned[:, 3, 3] = np.nan
    with pytest.raises(ImageError, match="8-bit"):
        list(Loader(Pairs(poisoned), 4))


# ---------------------------------------------------------------------------------------------------------------------
# One step after the other


@pytest.mark.parametrize("ahead", [False, True])
def test_step_batches_are_those_of_pairs(pairs, ahead):
    """Made beforehand or not; from any step on, over the end of an epoch, and from the start again."""
    batches = StepBatches(pairs, 4, ahead=ahead)
    for step in (1, 2, 3, 0, 1):
        got = batches(step)
        assert same(got, expected(pairs, step)) and got[0].is_contiguous(memory_format=torch.channels_last)


def test_step_batches_are_made_beforehand_on_a_gpu_alone(pairs):
    assert not StepBatches(pairs, 4).ahead and StepBatches(pairs, 4, "cuda").ahead
