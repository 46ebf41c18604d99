"""helpers.training: a tiny run from start to end, its resumption, its failures and the command line."""

import errno
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch import nn

from helpers import networks, training
from helpers.data import ImageError, load_split, open_folder
from helpers.engine import acceleration
from helpers.engine.acceleration import accelerator_for
from helpers.engine.checkpoints import load_checkpoint, read_about
from helpers.engine.ema import Ema
from helpers.engine.errors import CheckpointError, PrecisionError, Stopped, TrainingError
from helpers.engine.precision import precision_for
from helpers.engine.runs import read_history
from helpers.losses import TotalLoss, Weights
from helpers.perceptual import Lpips
from helpers.seeds import indices_of
from helpers.training import Recipe, learning_rate, train, training_step
from tests.conftest import ROOT, make_faces


class SmallModel(nn.Module):
    """Three networks under the names of the real ones, with batch norm, a thousandth of their size.

    What is tested of a run (its files, its resumption, its failures) does not depend on the architecture, but the real
    one writes a quarter of a gigabyte an epoch. The real networks are trained in the tests of one step and of the
    command line.
    """

    def __init__(self, latent_dim: int, image_size: int):
        super().__init__()
        self.latent_dim, self.image_size = latent_dim, image_size
        self.deblur_encoder, self.latent_encoder = self.encoder(4, latent_dim), self.encoder(3, latent_dim)
        self.generator = nn.Sequential(
            nn.Linear(latent_dim, 8 * 8 * 8), nn.Unflatten(1, (8, 8, 8)), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 3, 3, padding=1), nn.Upsample(size=(image_size, image_size), mode="bilinear"), nn.Tanh(),
        )  # fmt: skip

    @staticmethod
    def encoder(channels: int, latent_dim: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
            nn.Linear(128, latent_dim),
        )  # fmt: skip

    def forward(self, inputs, sharp=None):
        z_deblur = self.deblur_encoder(inputs)
        restored = self.generator(z_deblur)
        return restored if sharp is None else (restored, z_deblur, self.latent_encoder(sharp))


# Without LPIPS (weight 0) a step takes milliseconds, so that a test can afford whole runs.
CHEAP = Weights(l1=0.5, lpips=0, ssim=0.15, tv=0.05, latent=0.2)
TINY = Recipe(epochs=2, batch_size=4, latent_dim=16, image_size=64, precision="no", weights=CHEAP, halve_every=1)
CODE = {"latent_dim": 16, "image_size": 64}


def run(faces, out, metric, recipe=TINY, val=None, **kwargs):
    """A run of the small model, validated on the first three pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "DeblurModel", SmallModel)
        return train(faces, faces[:3] if val is None else val, out, recipe, metric, progress=False, **kwargs)


FILES = ["best.json", "best.safetensors", "history.jsonl", "state.pt"]


def timeless(history):
    """What must be equal between two runs: all but the seconds."""
    return [{k: v for k, v in h.items() if "second" not in k} for h in history]


def weights_of(path) -> dict[str, torch.Tensor]:
    model = SmallModel(**CODE)
    load_checkpoint(path, model)
    return model.state_dict()


@pytest.fixture(scope="module")
def finished(faces, random_lpips, tmp_path_factory):
    """An uninterrupted run of two epochs with all five terms: its folder and its history."""
    out = tmp_path_factory.mktemp("finished")
    return out, run(faces, out, random_lpips, replace(TINY, weights=Weights()), about="twelve ellipses")


# ---------------------------------------------------------------------------------------------------------------------
# The schedule


def test_learning_rate_by_hand():
    """Equation 42: 2e-4 for 15 epochs, half of it for the next 15, a quarter after 30."""
    rates = [learning_rate(Recipe(), epoch) for epoch in (0, 14, 15, 29, 30)]
    assert rates == [2e-4, 2e-4, 1e-4, 1e-4, 5e-5]


@pytest.mark.parametrize("every", [1, 4, 15])
def test_learning_rate_is_torchs_step_schedule(every):
    """Equation 42 is StepLR with γ = 0.5."""
    recipe = Recipe(halve_every=every)
    optimiser = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, step_size=every, gamma=0.5)
    for epoch in range(40):
        assert optimiser.param_groups[0]["lr"] == pytest.approx(learning_rate(recipe, epoch), rel=1e-12)
        optimiser.step()
        schedule.step()


def test_cosine_by_hand():
    """Not the thesis's: from the first rate to half of it after half of the epochs, and to 0 at the end."""
    recipe = Recipe(schedule="cosine", epochs=12, learning_rate=1.0)
    rates = [learning_rate(recipe, epoch) for epoch in (0, 4, 6, 8, 12, 13)]
    assert rates == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0])
    with pytest.raises(ValueError, match="schedule must be one of halve, cosine"):
        Recipe(schedule="linear")


def test_warm_up_by_hand():
    """Not the thesis's: a quarter of the rate, two quarters, ... and all of it from the fourth step on."""
    recipe = Recipe(warmup_steps=4, learning_rate=1.0, halve_every=2)
    rates = [learning_rate(recipe, step / 10, step) for step in (0, 1, 2, 3, 4, 19, 20)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.5])


def test_recipe_is_the_thesis():
    """Section 2.5 and Table of λ: what the thesis gives is the default."""
    recipe = Recipe()
    assert recipe.learning_rate == 2e-4 and recipe.halve_every == 15 and recipe.latent_dim == 512
    assert recipe.schedule == "halve" and recipe.warmup_steps == 0 and recipe.start is None
    assert recipe.image_size == 128 and recipe.weights == Weights() and recipe.edges == "blurred"


# ---------------------------------------------------------------------------------------------------------------------
# One step


def test_steps_on_one_batch_lower_the_loss(faces, random_lpips):
    """Four updates of the real networks on the same four pictures: the total falls well below its start.

    In every precision: tests/engine/test_devices.py.
    """
    torch.manual_seed(0)
    pairs = training.Pairs(faces).batch(range(4))
    model = networks.DeblurModel(**CODE).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-4)
    accelerator, loss = accelerator_for("no"), TotalLoss(random_lpips)
    totals = [training_step(model, loss, optimiser, accelerator, pairs.input, pairs.target)["total"] for _ in range(4)]
    assert totals[-1] < 0.9 * totals[0], totals


def test_a_step_is_one_update_of_all_three(faces, random_lpips):
    """Section 2.5: one optimiser, one step, all three networks move; Adam's first step is the learning rate long."""
    torch.manual_seed(0)
    pairs = training.Pairs(faces).batch(range(4))
    model = networks.DeblurModel(**CODE).train()
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss = TotalLoss(random_lpips)
    values = training_step(model, loss, optimiser, accelerator_for("no"), pairs.input, pairs.target)
    moved = {k.split(".")[0]: 0.0 for k in before}
    for k, p in model.named_parameters():
        moved[k.split(".")[0]] = max(moved[k.split(".")[0]], (p - before[k]).abs().max().item())
    assert moved == pytest.approx({"deblur_encoder": 1e-3, "generator": 1e-3, "latent_encoder": 1e-3}, rel=0.01)
    assert set(values) == {"l1", "lpips", "ssim", "tv", "latent", "total"}
    assert all(isinstance(v, float) and math.isfinite(v) for v in values.values())


def test_a_step_with_nan_weights_is_refused_before_the_update(faces, random_lpips):
    model = networks.DeblurModel(**CODE).train()
    with torch.no_grad():
        model.generator.fc.bias[0] = float("nan")
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = model.deblur_encoder.fc.weight.detach().clone()
    batch = training.Pairs(faces).batch(range(4))
    accelerator = accelerator_for("no")
    with pytest.raises(TrainingError, match="not finite"):
        training_step(model, TotalLoss(random_lpips, CHEAP), optimiser, accelerator, batch.input, batch.target)
    assert torch.equal(model.deblur_encoder.fc.weight, before) and not optimiser.state


# ---------------------------------------------------------------------------------------------------------------------
# A run


def test_history(finished):
    """A record an epoch, with the loss parts, their weighted sum, the schedule and the validation measures."""
    out, history = finished
    assert [h["epoch"] for h in history] == [1, 2] and [h["images_seen"] for h in history] == [12, 24]
    assert [h["learning_rate"] for h in history] == [2e-4, 1e-4]
    for h in history:
        total = 0.5 * h["l1"] + 0.3 * h["lpips"] + 0.15 * h["ssim"] + 0.05 * h["tv"] + 0.2 * h["latent"]
        assert h["total"] == pytest.approx(total, rel=1e-5)
        assert {"val_PSNR", "val_SSIM", "val_L1", "val_MSE", "val_LPIPS (random trunk)"} <= set(h)
        assert h["seconds"] > 0
    assert history[1]["total"] < history[0]["total"]
    assert read_history(out) == read_history(out / "history.jsonl") == history


def test_files_of_a_run(finished):
    """Nothing half-written stays behind; the checkpoint knows what made it."""
    out, history = finished
    assert sorted(p.name for p in out.iterdir()) == FILES
    about = read_about(out / "best.safetensors")
    assert about["training_data"] == "twelve ellipses" and about["training_images"] == 12
    assert about["perceptual_loss"] == "LPIPS (random trunk)" and about["hardware"] and about["record"] in history
    assert about["thresholds"] == list(TINY.thresholds) and about["weights"]["ssim"] == 0.15
    assert about["training_precision"] == "no" and about["precision"] == "float32"


def test_best_is_the_epoch_of_the_lowest_average_loss(faces, random_lpips, tmp_path, monkeypatch):
    """Section 2.5: saved whenever a new minimum of the average epoch loss is reached, and only then.

    Losses step by step, three steps an epoch: the averages are 4, 2, 3, 2 and 1, though the lowest step is in epoch 3.
    """
    losses = iter([5, 4, 3, 2, 2, 2, 9, 0, 0, 1, 2, 3, 1, 1, 1])
    monkeypatch.setattr(training, "training_step", lambda *_: {"total": float(next(losses))})
    saved = []

    def note(history):
        saved.append(read_about(tmp_path / "best.safetensors")["record"]["epoch"])

    history = run(faces, tmp_path, random_lpips, replace(TINY, epochs=5), on_epoch=note)
    assert [h["total"] for h in history] == [4, 2, 3, 2, 1] and saved == [1, 2, 2, 2, 5]


def test_resumed_equals_uninterrupted(faces, random_lpips, finished, tmp_path):
    """One epoch, a stop, one more: the same history and the same weights to the last bit."""
    recipe = replace(TINY, weights=Weights())
    first = run(faces, tmp_path, random_lpips, replace(recipe, epochs=1), about="twelve ellipses")
    torch.manual_seed(999)  # whatever happens in between
    both = run(faces, tmp_path, random_lpips, recipe, about="twelve ellipses")
    out, history = finished
    assert timeless(first) == timeless(history[:1]) and timeless(both) == timeless(history)
    a, b = weights_of(tmp_path / "best.safetensors"), weights_of(out / "best.safetensors")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_finished_run_is_left_as_it_is(faces, random_lpips, finished):
    """The same command again trains nothing; a history that a kill left behind is written again."""
    out, history = finished
    stamp = (out / "best.safetensors").stat().st_mtime_ns
    (out / "history.jsonl").write_text(json.dumps(history[0]) + "\n", encoding="utf-8")
    assert run(faces, out, random_lpips, replace(TINY, weights=Weights())) == history
    assert read_history(out) == history and (out / "best.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"learning_rate": 1e-3}, "learning_rate: 0.0002 -> 0.001"),
        ({"weights": CHEAP}, "weights"),
        ({"seed": 1}, "seed"),
    ],
)
def test_another_recipe_is_refused(faces, random_lpips, finished, change, told):
    out, history = finished
    with pytest.raises(TrainingError, match=f"other settings .*{told}"):
        run(faces, out, random_lpips, replace(TINY, **{"weights": Weights(), **change}))
    assert read_history(out) == history


@pytest.mark.parametrize("stop", [1, 4])
def test_a_run_with_warm_up_and_cosine_resumes(faces, random_lpips, tmp_path, stop):
    """The rate follows the step: equal after a stop. More epochs would be another cosine, and are refused."""
    recipe = replace(TINY, schedule="cosine", warmup_steps=4)
    whole = run(faces, tmp_path / "whole", random_lpips, recipe)
    answers = iter([False] * (stop - 1) + [True])
    with pytest.raises(Stopped):
        run(faces, tmp_path / "cut", random_lpips, recipe, stop=lambda: next(answers))
    assert timeless(run(faces, tmp_path / "cut", random_lpips, recipe)) == timeless(whole)
    last = [learning_rate(recipe, (3 * epoch - 1) / 3, 3 * epoch - 1) for epoch in (1, 2)]
    assert [h["learning_rate"] for h in whole] == last and last[1] < last[0] < 2e-4
    with pytest.raises(TrainingError, match="epochs: 2 -> 3"):
        run(faces, tmp_path / "cut", random_lpips, replace(recipe, epochs=3))


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_run_that_begins_with_a_checkpoint(faces, random_lpips, finished, tmp_path, ema):
    """At a rate of (almost) zero the weights stay those of the checkpoint, the average's too."""
    path = finished[0] / "best.safetensors"
    recipe = replace(TINY, epochs=1, start=str(path), learning_rate=1e-30, ema=ema)
    run(faces, tmp_path, random_lpips, recipe)
    a, b = weights_of(path), weights_of(tmp_path / "best.safetensors")
    learnt = [k for k in a if "running" not in k and "num_batches" not in k]
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in learnt)
    assert read_about(tmp_path / "best.safetensors")["start"] == str(path)
    with pytest.raises(TrainingError, match="start: .*best.safetensors -> None"):
        run(faces, tmp_path, random_lpips, replace(recipe, start=None))


def test_a_start_that_is_absent(faces, random_lpips, tmp_path):
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        run(faces, tmp_path / "run", random_lpips, replace(TINY, start=str(tmp_path / "a.safetensors")))
    assert not (tmp_path / "run").exists()


def test_an_unreadable_picture_before_the_first_state(faces, random_lpips, tmp_path):
    """Damaged between the moment when the folder was opened and the first step."""
    write_pictures(tmp_path / "photos", 12, 64)
    data = open_folder(tmp_path / "photos", 64)
    for path in data.paths:
        path.write_bytes(b"broken")
    with pytest.raises(TrainingError, match=r"epoch 1, step 1: .*\.png.*; nothing was saved yet"):
        run(data, tmp_path / "run", random_lpips, val=faces[:3])


def test_a_broken_state_is_told(faces, random_lpips, tmp_path):
    (tmp_path / "state.pt").write_bytes(b"half a file")
    with pytest.raises(TrainingError, match=r"state\.pt cannot be read"):
        run(faces, tmp_path, random_lpips)


def test_two_precisions_in_one_process(faces, random_lpips, tmp_path):
    """Accelerate keeps the first precision of a process; a notebook may train twice."""
    for precision in ("bf16", "no", "bf16"):
        recipe = replace(TINY, epochs=1, precision=precision)
        history = run(faces[:4], tmp_path / precision, random_lpips, recipe)
        assert math.isfinite(history[0]["total"])
        assert read_about(tmp_path / precision / "best.safetensors")["training_precision"] == precision
    a, b = (weights_of(tmp_path / p / "best.safetensors") for p in ("bf16", "no"))
    assert any(not torch.equal(a[k], b[k]) for k in a)


# ---------------------------------------------------------------------------------------------------------------------
# What goes wrong


def test_fewer_images_than_a_batch(faces, random_lpips, tmp_path):
    with pytest.raises(TrainingError, match="3 training images are fewer than one batch of 4"):
        run(faces[:3], tmp_path / "run", random_lpips)
    assert not (tmp_path / "run").exists()


def test_unknown_precision(faces, random_lpips, tmp_path):
    with pytest.raises(PrecisionError, match="fp16"):
        run(faces, tmp_path, random_lpips, replace(TINY, precision="fp16"))


def spoil_after(monkeypatch, steps):
    """Let the weights become NaN after so many steps of the process."""
    original, count = training.training_step, iter(range(10**6))

    def step(model, *rest):
        if next(count) == steps:
            with torch.no_grad():
                model.generator[0].weight.fill_(float("nan"))
        return original(model, *rest)

    monkeypatch.setattr(training, "training_step", step)


def test_nan_in_a_later_epoch(faces, random_lpips, tmp_path, monkeypatch):
    """Three steps an epoch, NaN in the fifth step: named; the checkpoint of epoch 1 is whole, and so is the state."""
    spoil_after(monkeypatch, 4)
    with pytest.raises(TrainingError, match=r"epoch 2, step 2: .*not finite.*best\.safetensors is the last good"):
        run(faces, tmp_path, random_lpips)
    assert all(torch.isfinite(v).all() for v in weights_of(tmp_path / "best.safetensors").values())
    assert len(read_history(tmp_path)) == 1
    monkeypatch.undo()
    assert len(run(faces, tmp_path, random_lpips)) == 2  # and it can go on


def test_nan_in_the_first_epoch_promises_nothing(faces, random_lpips, tmp_path, monkeypatch):
    spoil_after(monkeypatch, 0)
    with pytest.raises(TrainingError, match="epoch 1, step 1") as error:
        run(faces, tmp_path, random_lpips)
    assert "best.safetensors" not in str(error.value) and not (tmp_path / "best.safetensors").exists()


def test_divergence_by_a_huge_learning_rate(faces, random_lpips, tmp_path):
    """One step an epoch, and the step itself spoils the weights: the loss before it was finite, the picture is not."""
    recipe = replace(TINY, batch_size=12, learning_rate=float("inf"))
    with pytest.raises(TrainingError, match="epoch 1, step 1"):
        run(faces, tmp_path, random_lpips, recipe)
    assert not (tmp_path / "best.safetensors").exists()


def test_an_exception_between_epochs(faces, random_lpips, finished, tmp_path):
    """Interrupted in on_epoch (as by the stop button): the same call goes on and ends as if nothing had been."""
    recipe = replace(TINY, weights=Weights())

    def stop(history):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(faces, tmp_path, random_lpips, recipe, on_epoch=stop)
    assert len(read_history(tmp_path)) == 1
    assert timeless(run(faces, tmp_path, random_lpips, recipe)) == timeless(finished[1])


def state_of(out) -> dict:
    """The parts and the plain values of a state."""
    content = torch.load(out / "state.pt", weights_only=True)
    return content["parts"] | content["plain"]


def equal(a, b) -> bool:
    """Dicts, lists and tensors, bit for bit; times aside."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a if not ("second" in str(k) or k == "waiting"))
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


SAVING = replace(TINY, ema=0.9)  # three steps an epoch, two epochs, with an average


@pytest.fixture(scope="module")
def saving(faces, random_lpips, tmp_path_factory):
    """An uninterrupted run with an average of the weights: its folder and its history."""
    out = tmp_path_factory.mktemp("saving")
    return out, run(faces, out, random_lpips, SAVING)


@pytest.mark.parametrize("stop", range(6))
@pytest.mark.parametrize("save_every", [1, 2])
def test_resumed_from_any_step(faces, random_lpips, saving, tmp_path, monkeypatch, stop, save_every):
    """Interrupted in each step in turn: the same call ends with the same history, weights, moments and average."""
    original, count = training.training_step, iter(range(100))

    def step(*arguments):
        if next(count) == stop:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(training, "training_step", step)
    with pytest.raises(KeyboardInterrupt):
        run(faces, tmp_path, random_lpips, SAVING, save_every=save_every)
    monkeypatch.undo()
    done = state_of(tmp_path)["done"] if stop >= save_every else 0
    assert done >= stop - (save_every - 1)
    torch.manual_seed(999)
    history = run(faces, tmp_path, random_lpips, SAVING, save_every=save_every)
    assert timeless(history) == timeless(saving[1]) and equal(state_of(tmp_path), state_of(saving[0]))
    a, b = weights_of(tmp_path / "best.safetensors"), weights_of(saving[0] / "best.safetensors")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_asked_to_stop(faces, random_lpips, saving, tmp_path):
    """After the second step, at the end of the epoch, after the fifth: saved each time; it ends as if never stopped."""
    for steps in (2, 1, 2):
        answers = iter([False] * (steps - 1) + [True])
        with pytest.raises(Stopped, match=r"stopped .*state\.pt holds everything"):
            run(faces, tmp_path, random_lpips, SAVING, stop=lambda a=answers: next(a))
    assert state_of(tmp_path)["done"] == 5
    assert timeless(run(faces, tmp_path, random_lpips, SAVING, stop=lambda: False)) == timeless(saving[1])
    assert equal(state_of(tmp_path), state_of(saving[0]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_noted(number):
    """The first lets a step end, the second does not wait; afterwards everything is as before."""
    before = signal.getsignal(number)
    with training.stop_on_signals() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def as_last_pt(out, names, plain) -> None:
    """Make the state in ``out`` one of an earlier version, with these parts and plain values alone."""
    content = torch.load(out / "state.pt", weights_only=True)
    new = ("schedule", "warmup_steps", "start", "images", "pictures", "epochs")
    old = {"recipe": {k: v for k, v in content["settings"].items() if k not in new}}
    old |= {k: content["parts"][k] for k in names} | {k: content["plain"][k] for k in plain}
    torch.save(old, out / "last.pt")
    (out / "state.pt").unlink()


def test_a_state_of_the_earliest_version(faces, random_lpips, tmp_path):
    """Files that tell neither the steps nor the number of images were written at the end of an epoch."""
    run(faces, tmp_path, random_lpips, replace(TINY, epochs=1))
    as_last_pt(tmp_path, ("model", "optimiser"), ("history",))
    history = run(faces, tmp_path, random_lpips, TINY)
    assert timeless(history) == timeless(run(faces, tmp_path / "whole", random_lpips, TINY))


def test_a_state_of_the_version_before(faces, random_lpips, saving, tmp_path):
    """``last.pt`` with the steps, in the middle of an epoch; of its settings the known ones are compared."""
    answers = iter([False, True])
    with pytest.raises(Stopped):
        run(faces, tmp_path, random_lpips, SAVING, stop=lambda: next(answers))
    as_last_pt(tmp_path, ("model", "optimiser", "ema"), ("done", "history", "sums", "seconds", "waiting"))
    with pytest.raises(TrainingError, match="other settings .*ema: 0.9 -> 0.5"):
        run(faces, tmp_path, random_lpips, replace(SAVING, ema=0.5))
    assert timeless(run(faces, tmp_path, random_lpips, SAVING)) == timeless(saving[1])
    assert equal(state_of(tmp_path), state_of(saving[0]))


def test_another_number_of_images_is_refused(faces, random_lpips, saving):
    """A file more or less in the folder, and every image would have another number and another blur."""
    with pytest.raises(TrainingError, match="images: 12 -> 11"):
        run(faces[:11], saving[0], random_lpips, SAVING)


def test_other_images_of_the_same_number_are_refused(faces, random_lpips, saving):
    """One picture exchanged, or two in each other's place: it would no longer be the run that was begun."""
    other = faces.copy()
    other[3] = 255 - other[3]
    for images in (other, faces[::-1]):
        with pytest.raises(TrainingError, match="other settings .*pictures: 12 pictures .* -> 12 pictures"):
            run(images, saving[0], random_lpips, SAVING)


def test_a_second_run_in_the_folder_is_refused(faces, random_lpips, tmp_path):
    """While a run is in its folder, another is kept out; the first ends as if nothing had been."""
    told = []

    def again(history):
        with pytest.raises(TrainingError, match="is in use by another run"):
            run(faces, tmp_path, random_lpips)
        told.append(len(history))

    assert len(run(faces, tmp_path, random_lpips, on_epoch=again)) == 2 and told == [1, 2]
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES


KILLED = """
import sys
from helpers.perceptual import Lpips
from helpers.training import train
from tests.test_training import SAVING, SmallModel, make_faces, replace, training
training.DeblurModel = SmallModel
faces = make_faces(12, 64)
train(faces, faces[:3], sys.argv[1], replace(SAVING, epochs=1000), Lpips(None), progress=False, save_every=1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_kill_leaves_a_usable_state(faces, random_lpips, tmp_path):
    """SIGKILL at a random moment: every file that stands there can be read, and the run ends as one without a kill."""
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(out)], cwd=ROOT)
    try:
        deadline = time.monotonic() + 120
        while not ((out / "history.jsonl").exists() and len(read_history(out)) >= 1):
            assert process.poll() is None and time.monotonic() < deadline, "the run did not start"
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.3))
    finally:
        process.kill()
        process.wait()
    state = state_of(out)
    epochs = len(state["history"])
    assert state["done"] // 3 == epochs and len(read_history(out)) in (epochs, epochs - 1)
    assert weights_of(out / "best.safetensors")
    recipe = replace(SAVING, epochs=epochs + 1)
    history = run(faces, out, random_lpips, recipe)
    assert [h["epoch"] for h in history] == list(range(1, epochs + 2)) and read_history(out) == history
    assert timeless(history) == timeless(run(faces, tmp_path / "whole", random_lpips, recipe))
    assert equal(state_of(out), state_of(tmp_path / "whole"))


def test_a_full_disk(faces, random_lpips, saving, tmp_path):
    """A file may not grow beyond 20 kB from the second epoch on: one sentence; later the run goes on from the first."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def shrink(history):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))

    try:
        with pytest.raises(TrainingError, match=r"(state\.pt|best\.safetensors) cannot be written .*before is whole"):
            run(faces, tmp_path, random_lpips, SAVING, on_epoch=shrink)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert state_of(tmp_path)["done"] == 3 and len(read_history(tmp_path)) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES
    assert timeless(run(faces, tmp_path, random_lpips, SAVING)) == timeless(saving[1])


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("state.pt", "torch.save"),
        ("best.safetensors", "helpers.engine.checkpoints.save_file"),
        ("history.jsonl", "pathlib.Path.write_text"),
    ],
)
def test_each_file_on_a_full_disk(faces, random_lpips, tmp_path, monkeypatch, name, broken):
    """Whatever cannot be written is named; in the middle of an epoch the step is named too."""

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(broken, full)
    with pytest.raises(TrainingError, match=rf"{name} cannot be written .*No space left") as error:
        run(faces, tmp_path, random_lpips, save_every=2)
    assert ("epoch 1, step 2" in str(error.value)) == (name == "state.pt") and "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_that_vanishes(faces, random_lpips, tmp_path):
    """Photographs read one by one, gone after the first epoch: named; put back, the run ends as if nothing had been.

    What was read ahead is still trained on, so the end comes within the next two epochs.
    """
    photos, away = tmp_path / "photos", tmp_path / "elsewhere"
    write_pictures(photos, 12, 64)
    data, recipe = open_folder(photos, 64), replace(TINY, epochs=4)
    whole = run(data, tmp_path / "whole", random_lpips, recipe, val=faces[:3])

    def vanish(history):
        if photos.exists():
            photos.rename(away)

    with pytest.raises(TrainingError, match=r"epoch [23], step [123]: .*\.png.*state\.pt holds everything"):
        run(data, tmp_path / "cut", random_lpips, recipe, val=faces[:3], on_epoch=vanish)
    away.rename(photos)
    assert timeless(run(data, tmp_path / "cut", random_lpips, recipe, val=faces[:3])) == timeless(whole)
    vanish([])
    with pytest.raises(ImageError, match=r"000\.png: there is no such file"):
        run(data, tmp_path / "new", random_lpips, recipe, val=faces[:3])
    assert not (tmp_path / "new").exists()


def poison(monkeypatch, epoch, step):
    """A NaN in one pixel of a target of that epoch and step (from 1), as a broken decoder might give."""
    original = training.Pairs.batch

    def batch(self, indices, at=None, device="cpu"):
        result = original(self, indices, at, device)
        place, _ = indices_of(12, TINY.seed, (epoch - 1) * 3 + step - 1, 4)
        if at == epoch - 1 and list(indices) == place.tolist():
            result.target[1, 0, 5, 5] = float("nan")
        return result

    monkeypatch.setattr(training.Pairs, "batch", batch)


def test_nan_in_the_data(faces, random_lpips, finished, tmp_path, monkeypatch):
    """The step is named, nothing of it is saved, and with the data mended the run ends as if nothing had been."""
    poison(monkeypatch, 2, 2)
    recipe = replace(TINY, weights=Weights())
    with pytest.raises(TrainingError, match=r"epoch 2, step 2: .*not finite.*best\.safetensors is the last good"):
        run(faces, tmp_path, random_lpips, recipe, save_every=1)
    assert state_of(tmp_path)["done"] == 4
    monkeypatch.undo()
    assert timeless(run(faces, tmp_path, random_lpips, recipe)) == timeless(finished[1])


@pytest.mark.parametrize(("save_every", "saved", "told"), [(1, 3, 1), (2, 3, 1), (100, 3, 3)])
def test_nan_is_not_saved_where_a_gpu_is_not_waited_for(
    faces, random_lpips, tmp_path, monkeypatch, save_every, saved, told
):
    """As on CUDA: the loss is looked at rarely, so it is found when the state is saved, or at the epoch's end."""
    monkeypatch.setattr(training, "look_every", lambda device: 50)
    poison(monkeypatch, 2, 1)
    with pytest.raises(TrainingError, match=rf"epoch 2, step {told}: .*not finite"):
        run(faces, tmp_path, random_lpips, save_every=save_every)
    state = state_of(tmp_path)
    assert state["done"] == saved and all(torch.isfinite(v).all() for v in state["model"].values())


def test_looking_rarely_gives_the_same_history(faces, random_lpips, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "look_every", lambda device: 50)
    history = run(faces, tmp_path, random_lpips, replace(TINY, weights=Weights()))
    assert timeless(history) == timeless(finished[1])


# ---------------------------------------------------------------------------------------------------------------------
# Precision, accumulation, averages, other networks, compilation


def test_auto_is_recorded_as_what_was_chosen(faces, random_lpips, tmp_path):
    run(faces, tmp_path, random_lpips, replace(TINY, epochs=1, precision="auto"))
    assert read_about(tmp_path / "best.safetensors")["training_precision"] == precision_for(torch.device("cpu"))


def test_precision_that_is_none(faces, random_lpips, tmp_path):
    with pytest.raises(PrecisionError, match="auto, bf16, fp16, no"):
        run(faces, tmp_path, random_lpips, replace(TINY, precision="int8"))


def scaled(scale):
    """An accelerator that scales the loss as on an old GPU, on the CPU: PyTorch's own scaler."""
    accelerator = accelerator_for("no")
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    torch.manual_seed(0)
    model = SmallModel(**CODE).train()
    optimiser = accelerator.prepare_optimizer(torch.optim.Adam(model.parameters(), lr=1e-3))
    return accelerator, model, optimiser


def test_a_scaled_step_is_the_same_step(faces, random_lpips):
    """fp16's loss scaling: multiplied before, divided after the backward pass. (float16 itself needs a GPU.)"""
    batch, weights = training.Pairs(faces).batch(range(4)), []
    for scale in (1.0, 2.0**16):
        accelerator, model, optimiser = scaled(scale)
        training_step(model, TotalLoss(random_lpips, CHEAP), optimiser, accelerator, batch.input, batch.target)
        weights.append(model.generator[4].weight.detach())
    assert torch.allclose(*weights, atol=1e-7)


def test_an_overflow_skips_the_step_and_halves_the_scale(faces, random_lpips):
    """A scale of 2^127 takes gradients beyond float32: no update, a finite loss, half the scale next time."""
    batch = training.Pairs(faces).batch(range(4))
    accelerator, model, optimiser = scaled(2.0**127)
    before = [p.detach().clone() for p in model.parameters()]
    loss = TotalLoss(random_lpips, replace(CHEAP, l1=100.0))
    values = training_step(model, loss, optimiser, accelerator, batch.input, batch.target)
    assert math.isfinite(values["total"]) and accelerator.scaler.get_scale() == 2.0**126
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_scale_is_kept(faces, random_lpips, tmp_path, monkeypatch):
    """What the scaler of fp16 has learnt is in ``last.pt`` and comes back."""
    scales = []

    class Scaling(Accelerator):
        def __init__(self, **options):
            super().__init__(**options)
            self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)

    monkeypatch.setattr(acceleration, "Accelerator", Scaling)
    original = training.training_step

    def step(model, loss, optimiser, accelerator, *rest):
        scales.append(accelerator.scaler.get_scale())
        return original(model, loss, optimiser, accelerator, *rest)

    monkeypatch.setattr(training, "training_step", step)
    run(faces, tmp_path, random_lpips, replace(TINY, epochs=1))
    assert state_of(tmp_path)["scaler"]["scale"] == 2.0**11 and state_of(tmp_path)["scaler"]["_growth_tracker"] == 1
    run(faces, tmp_path, random_lpips, TINY)
    assert scales == [2.0**10] * 2 + [2.0**11] * 2 + [2.0**12] * 2


class Plain(SmallModel):
    """Without batch norm, whose statistics are of what it sees at once."""

    def __init__(self, latent_dim=16, image_size=64):
        super().__init__(latent_dim, image_size)
        self.deblur_encoder[1] = self.latent_encoder[1] = self.generator[2] = nn.Identity()


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_equals_the_whole_batch(faces, random_lpips, tmp_path, parts):
    """Without batch norm a batch in parts is the batch: the same losses and weights, to the last digits of float32."""
    results = []
    for n in (1, parts):
        torch.manual_seed(1)
        recipe = replace(TINY, weights=Weights(), accumulate=n)
        history = run(faces, tmp_path / str(n), random_lpips, recipe, model=Plain())
        results.append((history, state_of(tmp_path / str(n))))
    (a, whole), (b, divided) = results
    assert [h["total"] for h in a] == pytest.approx([h["total"] for h in b], rel=1e-5)
    assert [h["images_seen"] for h in b] == [12, 24] and divided["done"] == 6
    for k, v in whole["model"].items():
        assert torch.allclose(v, divided["model"][k], atol=2e-5), k


def test_the_recipe_overrules_the_environment(faces, random_lpips, finished, tmp_path, monkeypatch):
    """accelerate's variable would make one update of four batches, and the checkpoint would say that it was one."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    history = run(faces, tmp_path, random_lpips, replace(TINY, weights=Weights()))
    assert timeless(history) == timeless(finished[1])


def test_a_batch_that_cannot_be_divided(faces, random_lpips, tmp_path):
    with pytest.raises(TrainingError, match="batch of 4 .* 1 processes × 3 parts"):
        run(faces, tmp_path, random_lpips, replace(TINY, accumulate=3))


def test_the_average_is_what_is_kept(faces, random_lpips, tmp_path, monkeypatch):
    """``best.safetensors`` holds the average by the formula, not the last weights; validation is its own."""
    original, seen = training.training_step, []

    def step(model, *rest):
        if not seen:
            seen.append({k: v.clone() for k, v in model.state_dict().items()})
        values = original(model, *rest)
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        return values

    monkeypatch.setattr(training, "training_step", step)
    history = run(faces, tmp_path, random_lpips, replace(TINY, epochs=1, ema=0.15))
    average = seen[0]
    for n, now in enumerate(seen[1:]):
        d = min(0.15, (1 + n) / (10 + n))
        average = {k: d * v + (1 - d) * now[k] if v.is_floating_point() else now[k] for k, v in average.items()}
    kept = weights_of(tmp_path / "best.safetensors")
    assert all(torch.allclose(kept[k].float(), average[k].float(), atol=1e-6) for k in kept)
    assert not torch.allclose(kept["generator.0.weight"], seen[-1]["generator.0.weight"], atol=1e-6)
    model = SmallModel(**CODE)
    model.load_state_dict(kept)
    tables = training.evaluate(model, training.Pairs(faces[:3]))
    assert history[0]["val_PSNR"] == pytest.approx(tables["restored"]["PSNR"].mean(), abs=1e-3)
    assert isinstance(Ema(model, 0.5).module, SmallModel)


def test_another_network(faces, random_lpips, tmp_path):
    """Any module with the same interface; it is trained itself."""
    net = Plain()
    before = net.generator[0].weight.detach().clone()
    history = train(faces, faces[:3], tmp_path, replace(TINY, epochs=1), random_lpips, progress=False, model=net)
    assert math.isfinite(history[0]["total"]) and not torch.equal(net.generator[0].weight, before)
    again = Plain()
    load_checkpoint(tmp_path / "best.safetensors", again)
    assert torch.equal(again.generator[0].weight, net.generator[0].weight)


def test_a_network_that_draws_resumes_too(faces, random_lpips, tmp_path):
    """Dropout is seeded step by step: a stop in between changes nothing."""

    def net():
        torch.manual_seed(1)
        model = Plain()
        model.deblur_encoder[2] = nn.Sequential(nn.ReLU(), nn.Dropout(0.3))
        return model

    whole = run(faces, tmp_path / "whole", random_lpips, model=net())
    answers = iter([False, True])
    with pytest.raises(Stopped):
        run(faces, tmp_path / "cut", random_lpips, model=net(), stop=lambda: next(answers))
    torch.rand(7)
    assert timeless(run(faces, tmp_path / "cut", random_lpips, model=net())) == timeless(whole)


def test_compilation(faces, random_lpips, finished, tmp_path, monkeypatch):
    """Compiled on request, never by itself on a processor; the warm-up is timed and leaves no trace in the run."""
    asked = []
    monkeypatch.setattr(torch, "compile", lambda module: asked.append(module) or module)
    recipe = replace(TINY, weights=Weights())
    history = run(faces, tmp_path / "yes", random_lpips, recipe, compile=True)
    assert [type(m) for m in asked] == [SmallModel, TotalLoss] and timeless(history) == timeless(finished[1])
    assert history[0]["warmup_seconds"] > 0 and history[1]["warmup_seconds"] == 0
    assert read_about(tmp_path / "yes" / "best.safetensors")["warmup_seconds"] == history[0]["warmup_seconds"]
    run(faces, tmp_path / "no", random_lpips)
    assert len(asked) == 2


def test_compilation_that_fails(faces, random_lpips, tmp_path, monkeypatch):
    def broken(module):
        def call(*arguments):
            raise RuntimeError("no compiler\nwas found")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(TrainingError, match="torch.compile failed .*no compiler") as error:
        run(faces, tmp_path, random_lpips, compile=True)
    assert "\n" not in str(error.value)


def test_no_gradient_goes_into_the_ruler(faces, random_lpips):
    """LPIPS: nothing of the trunk asks for a gradient, and the target's features are computed without a graph."""
    batch = training.Pairs(faces).batch(range(2))
    seen, original = [], Lpips.features

    def features(self, images):
        out = original(self, images)
        seen.append(out[-1].requires_grad)
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lpips, "features", features)
        random_lpips(batch.target.clone().requires_grad_(), batch.target).mean().backward()
    assert sorted(seen) == [False, True]
    assert all(p.grad is None and not p.requires_grad for p in random_lpips.parameters())


# ---------------------------------------------------------------------------------------------------------------------
# Several processes

TWO = """
import sys
from helpers.perceptual import Lpips
from tests.test_training import SHARED, SmallModel, make_faces, replace, training
training.DeblurModel = SmallModel
faces = make_faces(52, 64)
for parts in (1, 2):
    training.train(
        faces[:16], faces, f"{sys.argv[1]}/{parts}", replace(SHARED, accumulate=parts), Lpips(None), progress=False
    )
"""
SHARED = replace(TINY, epochs=1, batch_size=4, weights=Weights())


def test_two_processes_are_one(random_lpips, tmp_path):
    """Started by torchrun on the CPU: the same losses, measures and weights as one process with the same batch.

    52 pictures are validated in batches of 50 and 2, one for each process. Biases before a batch norm are left out:
    the norm takes them away again, their gradient is rounding alone, and Adam makes whole steps of it.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    (tmp_path / "two.py").write_text(TWO, encoding="utf-8")
    done = subprocess.run(
        [*command, str(tmp_path / "two.py"), str(tmp_path / "two")], cwd=ROOT, capture_output=True, text=True,
        timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    faces = make_faces(52, 64)
    for parts in (1, 2):
        out, two = tmp_path / "one" / str(parts), tmp_path / "two" / str(parts)
        history = run(faces[:16], out, random_lpips, replace(SHARED, accumulate=parts), val=faces)
        shared = read_history(two)
        for a, b in zip(timeless(history), timeless(shared), strict=True):
            for k in a.keys() | b.keys():  # the measures look at weights that Adam has moved, which magnifies rounding
                assert a[k] == pytest.approx(b[k], rel=2e-4 if k.startswith("val_") else 2e-5), (parts, k)
        ours, theirs = state_of(out)["model"], state_of(two)["model"]
        noise = ("deblur_encoder.0.bias", "latent_encoder.0.bias")
        noise += ("deblur_encoder.1.running_mean", "latent_encoder.1.running_mean")
        for k in ours.keys() - set(noise):
            assert torch.allclose(ours[k].float(), theirs[k].float(), atol=1e-5), (parts, k)
        assert read_about(two / "best.safetensors")["processes"] == 2
        assert sorted(p.name for p in two.iterdir()) == FILES
    shared_first = read_history(tmp_path / "two" / "1")
    # a run of two goes on in one process
    more = run(faces[:16], tmp_path / "two" / "1", random_lpips, replace(SHARED, epochs=2), val=faces[:3])
    assert timeless(more[:1]) == timeless(shared_first) and len(more) == 2


# ---------------------------------------------------------------------------------------------------------------------
# The command line


def test_help(capsys):
    """Says what it does and which options there are. (In a shell of its own: tests/engine/test_commands.py.)"""
    with pytest.raises(SystemExit) as end:
        training.main(["--help"])
    told = capsys.readouterr()
    assert end.value.code == 0 and told.err == ""
    assert "section 2.5" in told.out and "--out" in told.out and "celebablur" in told.out


@pytest.fixture
def spied(monkeypatch):
    """The command line with the training itself replaced: what would have been trained on what."""
    calls = []

    def fake(train_images, val_images, out, recipe, **kwargs):
        calls.append((train_images, val_images, out, recipe, kwargs))
        return [{"epoch": recipe.epochs}]

    monkeypatch.setattr(training, "train", fake)
    return calls


def write_pictures(folder, count, size=24):
    folder.mkdir(parents=True)
    for i, picture in enumerate(make_faces(count, size)):
        Image.fromarray(picture).save(folder / f"{i:03d}.png")


def test_options_reach_the_recipe(spied, tmp_path):
    write_pictures(tmp_path / "photos" / "train", 4)
    write_pictures(tmp_path / "photos" / "val", 2)
    options = "--epochs 7 --batch-size 3 --learning-rate 0.01 --halve-every 2 --precision no --degradation motion"
    options += " --edges oracle --no-flip --limit 3 --seed 5 --accumulate 3 --ema 0.99"
    options += " --compile --save-every 7 --workers 2 --schedule cosine --warmup-steps 9 --start a.safetensors"
    training.main(["--data", str(tmp_path / "photos"), "--out", "somewhere", *options.split()])
    ((images, val, out, recipe, rest),) = spied
    assert (len(images), len(val), out) == (3, 2, "somewhere")
    assert recipe == Recipe(
        epochs=7, batch_size=3, learning_rate=0.01, halve_every=2, precision="no", degradation="motion", edges="oracle",
        flip=False, seed=5, accumulate=3, ema=0.99, schedule="cosine", warmup_steps=9, start="a.safetensors",
    )  # fmt: skip
    assert rest["compile"] is True and rest["save_every"] == 7 and rest["workers"] == 2 and not rest["stop"]()


def test_several_sets_and_longer_epochs(spied, tmp_path, capsys):
    """Two sets in shares, gone through three times an epoch; validated on both, picture by picture."""
    for name, count in (("a", 4), ("b", 2)):
        write_pictures(tmp_path / name / "train", count)
        write_pictures(tmp_path / name / "val", count - 1)
    options = ["--data", str(tmp_path / "a"), "--data", str(tmp_path / "b"), "--shares", "1", "1", "--repeat", "3"]
    training.main([*options, "--out", "somewhere"])
    images, val = spied[0][:2]
    assert (len(images), len(val)) == (3 * (4 + 4), 3 + 1)
    assert np.array_equal(images[0], images[8]) and np.array_equal(images[4], images[6])
    assert "shares 1 : 1, each 3 times an epoch to train on, 4 to validate" in capsys.readouterr().out


def test_a_single_folder_is_split_by_position(spied, tmp_path, capsys):
    """25 pictures: the 19th to validate on, the 20th kept for testing, 23 to train on."""
    write_pictures(tmp_path / "photos", 25)
    training.main(["--data", str(tmp_path / "photos"), "--out", "somewhere"])
    assert (len(spied[0][0]), len(spied[0][1])) == (23, 1)
    assert "23 photographs to train on, 1 to validate on" in capsys.readouterr().out


def test_a_real_run_from_the_command_line(tmp_path, monkeypatch, capsys, random_lpips):
    """From picture files to a checkpoint of the full size that loads: two steps at 128 px."""
    write_pictures(tmp_path / "photos", 20)
    monkeypatch.setattr(training, "load_lpips", lambda: random_lpips)
    arguments = ["--data", str(tmp_path / "photos"), "--out", str(tmp_path / "run"), "--epochs", "1", "--limit", "4"]
    training.main([*arguments, "--batch-size", "2", "--precision", "no"])
    assert '"epoch": 1' in capsys.readouterr().out
    about = load_checkpoint(tmp_path / "run" / "best.safetensors", networks.DeblurModel())
    assert about["training_data"] == "4 photographs" and about["record"]["images_seen"] == 4
    for path in (tmp_path / "run").iterdir():  # half a gigabyte
        path.unlink()


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda folder: None, "there is no such folder"),
        (lambda folder: folder.mkdir(), "holds no picture"),
        (lambda folder: write_pictures(folder, 5), "at least 20 are needed"),
        (lambda folder: write_pictures(folder, 20), "fewer than one batch of 100"),
    ],
)
def test_errors_are_one_line(prepare, told, tmp_path):
    """What a user can mend ends in one line and a failing exit, without a traceback."""
    prepare(tmp_path / "photos")
    with pytest.raises(SystemExit) as error:
        training.main(["--data", str(tmp_path / "photos"), "--out", str(tmp_path / "run"), "--batch-size", "100"])
    text = str(error.value.code)
    assert text.startswith("error: ") and told in text and "\n" not in text


def test_unknown_degradation_is_told_at_once(capsys, tmp_path):
    with pytest.raises(SystemExit):
        training.main(["--out", str(tmp_path), "--degradation", "fog"])
    assert "invalid choice: 'fog'" in capsys.readouterr().err


def test_pictures_may_come_from_disk_one_by_one(tmp_path, random_lpips, faces):
    """Any sequence will do in place of an array: photographs are then read batch by batch."""

    class Lazy:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return faces[index]

    recipe = replace(TINY, epochs=1)
    history = run(Lazy(), tmp_path, random_lpips, recipe, val=Lazy())
    assert timeless(history) == timeless(run(faces[:4], tmp_path / "array", random_lpips, recipe, val=faces[:4]))


def test_unreadable_pictures_stop_the_command_line(tmp_path):
    write_pictures(tmp_path / "photos", 20)
    (tmp_path / "photos" / "003.png").write_bytes(b"broken")
    with pytest.raises(SystemExit, match=r"003\.png"):
        training.main(["--data", str(tmp_path / "photos"), "--out", str(tmp_path / "run")])
    with pytest.raises(ImageError):
        load_split(tmp_path / "photos", "train")
    assert np.isfinite(load_split(tmp_path / "photos", "val")).all()
