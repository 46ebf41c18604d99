"""helpers.training: a tiny run from start to end, its resumption, its failures and the command line."""

import json
import math
import os
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
from helpers.checkpoints import load_checkpoint, read_about
from helpers.data import ImageError
from helpers.losses import TotalLoss, Weights
from helpers.training import Recipe, TrainingError, learning_rate, read_history, train, training_step
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


def run(faces, out, ruler, recipe=TINY, val=None, **kwargs):
    """A run of the small model, validated on the first three pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "DeblurModel", SmallModel)
        return train(faces, faces[:3] if val is None else val, out, recipe, ruler, progress=False, **kwargs)


def timeless(history):
    """What must be equal between two runs: all but the seconds."""
    return [{k: v for k, v in h.items() if "second" not in k} for h in history]


def weights_of(path) -> dict[str, torch.Tensor]:
    model = SmallModel(**CODE)
    load_checkpoint(path, model)
    return model.state_dict()


@pytest.fixture(scope="module")
def finished(faces, random_ruler, tmp_path_factory):
    """An uninterrupted run of two epochs with all five terms: its folder and its history."""
    out = tmp_path_factory.mktemp("finished")
    return out, run(faces, out, random_ruler, replace(TINY, weights=Weights()), about="twelve ellipses")


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


def test_recipe_is_the_thesis():
    """Section 2.5 and Table of λ: what the thesis gives is the default."""
    recipe = Recipe()
    assert recipe.learning_rate == 2e-4 and recipe.halve_every == 15 and recipe.latent_dim == 512
    assert recipe.image_size == 128 and recipe.weights == Weights() and recipe.edges == "blurred"


# ---------------------------------------------------------------------------------------------------------------------
# One step


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_steps_on_one_batch_lower_the_loss(faces, random_ruler, precision):
    """Six updates on the same four pictures: the total falls well below its start, in either precision."""
    torch.manual_seed(0)
    pairs = training.Pairs(faces).batch(range(4))
    model = networks.DeblurModel(**CODE).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-4)
    training.AcceleratorState._reset_state()
    accelerator, loss = Accelerator(mixed_precision=precision), TotalLoss(random_ruler)
    totals = [training_step(model, loss, optimiser, accelerator, pairs.input, pairs.target)["total"] for _ in range(6)]
    assert totals[-1] < 0.9 * totals[0], totals
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_a_step_is_one_update_of_all_three(faces, random_ruler):
    """Section 2.5: one optimiser, one step, all three networks move; Adam's first step is the learning rate long."""
    torch.manual_seed(0)
    pairs = training.Pairs(faces).batch(range(4))
    model = networks.DeblurModel(**CODE).train()
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    training.AcceleratorState._reset_state()
    values = training_step(
        model, TotalLoss(random_ruler), optimiser, Accelerator(mixed_precision="no"), pairs.input, pairs.target
    )
    moved = {k.split(".")[0]: 0.0 for k in before}
    for k, p in model.named_parameters():
        moved[k.split(".")[0]] = max(moved[k.split(".")[0]], (p - before[k]).abs().max().item())
    assert moved == pytest.approx({"deblur_encoder": 1e-3, "generator": 1e-3, "latent_encoder": 1e-3}, rel=0.01)
    assert set(values) == {"l1", "lpips", "ssim", "tv", "latent", "total"}
    assert all(isinstance(v, float) and math.isfinite(v) for v in values.values())


def test_a_step_with_nan_weights_is_refused_before_the_update(faces, random_ruler):
    model = networks.DeblurModel(**CODE).train()
    with torch.no_grad():
        model.generator.fc.bias[0] = float("nan")
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = model.deblur_encoder.fc.weight.detach().clone()
    batch = training.Pairs(faces).batch(range(4))
    training.AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision="no")
    with pytest.raises(TrainingError, match="not finite"):
        training_step(model, TotalLoss(random_ruler, CHEAP), optimiser, accelerator, batch.input, batch.target)
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
    assert sorted(p.name for p in out.iterdir()) == ["best.json", "best.safetensors", "history.jsonl", "last.pt"]
    about = read_about(out / "best.safetensors")
    assert about["training_data"] == "twelve ellipses" and about["training_images"] == 12
    assert about["perceptual_loss"] == "LPIPS (random trunk)" and about["hardware"] and about["record"] in history
    assert about["thresholds"] == list(TINY.thresholds) and about["weights"]["ssim"] == 0.15
    assert about["training_precision"] == "no" and about["precision"] == "float32"


def test_best_is_the_epoch_of_the_lowest_average_loss(faces, random_ruler, tmp_path, monkeypatch):
    """Section 2.5: saved whenever a new minimum of the average epoch loss is reached, and only then.

    Losses step by step, three steps an epoch: the averages are 4, 2, 3, 2 and 1, though the lowest step is in epoch 3.
    """
    losses = iter([5, 4, 3, 2, 2, 2, 9, 0, 0, 1, 2, 3, 1, 1, 1])
    monkeypatch.setattr(training, "training_step", lambda *_: {"total": float(next(losses))})
    saved = []

    def note(history):
        saved.append(read_about(tmp_path / "best.safetensors")["record"]["epoch"])

    history = run(faces, tmp_path, random_ruler, replace(TINY, epochs=5), on_epoch=note)
    assert [h["total"] for h in history] == [4, 2, 3, 2, 1] and saved == [1, 2, 2, 2, 5]


def test_resumed_equals_uninterrupted(faces, random_ruler, finished, tmp_path):
    """One epoch, a stop, one more: the same history and the same weights to the last bit."""
    recipe = replace(TINY, weights=Weights())
    first = run(faces, tmp_path, random_ruler, replace(recipe, epochs=1), about="twelve ellipses")
    torch.manual_seed(999)  # whatever happens in between
    both = run(faces, tmp_path, random_ruler, recipe, about="twelve ellipses")
    out, history = finished
    assert timeless(first) == timeless(history[:1]) and timeless(both) == timeless(history)
    a, b = weights_of(tmp_path / "best.safetensors"), weights_of(out / "best.safetensors")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_finished_run_is_left_as_it_is(faces, random_ruler, finished):
    """The same command again trains nothing; a history that a kill left behind is written again."""
    out, history = finished
    stamp = (out / "best.safetensors").stat().st_mtime_ns
    (out / "history.jsonl").write_text(json.dumps(history[0]) + "\n")
    assert run(faces, out, random_ruler, replace(TINY, weights=Weights())) == history
    assert read_history(out) == history and (out / "best.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"learning_rate": 1e-3}, "learning_rate: 0.0002 -> 0.001"),
        ({"weights": CHEAP}, "weights"),
        ({"seed": 1}, "seed"),
    ],
)
def test_another_recipe_is_refused(faces, random_ruler, finished, change, told):
    out, history = finished
    with pytest.raises(TrainingError, match=f"another recipe .*{told}"):
        run(faces, out, random_ruler, replace(TINY, **{"weights": Weights(), **change}))
    assert read_history(out) == history


def test_a_broken_state_is_told(faces, random_ruler, tmp_path):
    (tmp_path / "last.pt").write_bytes(b"half a file")
    with pytest.raises(TrainingError, match=r"last\.pt cannot be read"):
        run(faces, tmp_path, random_ruler)


def test_two_precisions_in_one_process(faces, random_ruler, tmp_path):
    """Accelerate keeps the first precision of a process; a notebook may train twice."""
    for precision in ("bf16", "no", "bf16"):
        recipe = replace(TINY, epochs=1, precision=precision)
        history = run(faces[:4], tmp_path / precision, random_ruler, recipe)
        assert math.isfinite(history[0]["total"])
        assert read_about(tmp_path / precision / "best.safetensors")["training_precision"] == precision
    a, b = (weights_of(tmp_path / p / "best.safetensors") for p in ("bf16", "no"))
    assert any(not torch.equal(a[k], b[k]) for k in a)


# ---------------------------------------------------------------------------------------------------------------------
# What goes wrong


def test_fewer_images_than_a_batch(faces, random_ruler, tmp_path):
    with pytest.raises(TrainingError, match="3 training images are fewer than one batch of 4"):
        run(faces[:3], tmp_path / "run", random_ruler)
    assert not (tmp_path / "run").exists()


def test_unknown_precision(faces, random_ruler, tmp_path):
    with pytest.raises(TrainingError, match="fp16"):
        run(faces, tmp_path, random_ruler, replace(TINY, precision="fp16"))


def spoil_after(monkeypatch, steps):
    """Let the weights become NaN after so many steps of the process."""
    original, count = training.training_step, iter(range(10**6))

    def step(model, *rest):
        if next(count) == steps:
            with torch.no_grad():
                model.generator[0].weight.fill_(float("nan"))
        return original(model, *rest)

    monkeypatch.setattr(training, "training_step", step)


def test_nan_in_a_later_epoch(faces, random_ruler, tmp_path, monkeypatch):
    """Three steps an epoch, NaN in the fifth step: named; the checkpoint of epoch 1 is whole, and so is the state."""
    spoil_after(monkeypatch, 4)
    with pytest.raises(TrainingError, match=r"epoch 2, step 2: .*not finite.*best\.safetensors is the last good"):
        run(faces, tmp_path, random_ruler)
    assert all(torch.isfinite(v).all() for v in weights_of(tmp_path / "best.safetensors").values())
    assert len(read_history(tmp_path)) == 1
    monkeypatch.undo()
    assert len(run(faces, tmp_path, random_ruler)) == 2  # and it can go on


def test_nan_in_the_first_epoch_promises_nothing(faces, random_ruler, tmp_path, monkeypatch):
    spoil_after(monkeypatch, 0)
    with pytest.raises(TrainingError, match="epoch 1, step 1") as error:
        run(faces, tmp_path, random_ruler)
    assert "best.safetensors" not in str(error.value) and not (tmp_path / "best.safetensors").exists()


def test_divergence_by_a_huge_learning_rate(faces, random_ruler, tmp_path):
    """One step an epoch, and the step itself spoils the weights: the loss before it was finite, the picture is not."""
    recipe = replace(TINY, batch_size=12, learning_rate=float("inf"))
    with pytest.raises(TrainingError, match="epoch 1, step 1"):
        run(faces, tmp_path, random_ruler, recipe)
    assert not (tmp_path / "best.safetensors").exists()


def test_an_exception_between_epochs(faces, random_ruler, finished, tmp_path):
    """Interrupted in on_epoch (as by the stop button): the same call goes on and ends as if nothing had been."""
    recipe = replace(TINY, weights=Weights())

    def stop(history):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(faces, tmp_path, random_ruler, recipe, on_epoch=stop)
    assert len(read_history(tmp_path)) == 1
    assert timeless(run(faces, tmp_path, random_ruler, recipe)) == timeless(finished[1])


KILLED = """
import sys
from helpers.perceptual import Lpips
from helpers.training import train
from tests.test_training import TINY, SmallModel, make_faces, replace, training
training.DeblurModel = SmallModel
faces = make_faces(12, 64)
train(faces, faces[:3], sys.argv[1], replace(TINY, epochs=1000), Lpips(None), progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_kill_leaves_a_usable_state(faces, random_ruler, tmp_path):
    """SIGKILL in the middle of a run: every file that stands there can be read, and the run goes on from it."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT)
    try:
        deadline = time.monotonic() + 120
        while not ((tmp_path / "history.jsonl").exists() and len(read_history(tmp_path)) >= 2):
            assert process.poll() is None and time.monotonic() < deadline, "the run did not start"
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    done = len(torch.load(tmp_path / "last.pt", weights_only=True)["history"])
    assert done >= 2 and len(read_history(tmp_path)) in (done, done - 1)
    assert weights_of(tmp_path / "best.safetensors")
    history = run(faces, tmp_path, random_ruler, replace(TINY, epochs=done + 1))
    assert [h["epoch"] for h in history] == list(range(1, done + 2)) and read_history(tmp_path) == history


# ---------------------------------------------------------------------------------------------------------------------
# The command line


def test_help():
    """In a shell of its own: says what it does and which options there are."""
    command = [sys.executable, "-m", "helpers.training", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})
    assert done.returncode == 0 and done.stderr == ""
    assert "section 2.5" in done.stdout and "--out" in done.stdout and "celebablur" in done.stdout


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
    options += " --edges oracle --no-flip --limit 3 --seed 5"
    training.main(["--data", str(tmp_path / "photos"), "--out", "somewhere", *options.split()])
    ((images, val, out, recipe, _),) = spied
    assert (len(images), len(val), out) == (3, 2, "somewhere")
    assert recipe == Recipe(
        epochs=7, batch_size=3, learning_rate=0.01, halve_every=2, precision="no", degradation="motion", edges="oracle",
        flip=False, seed=5,
    )  # fmt: skip


def test_a_single_folder_is_split_by_position(spied, tmp_path, capsys):
    """25 pictures: the 19th to validate on, the 20th kept for testing, 23 to train on."""
    write_pictures(tmp_path / "photos", 25)
    training.main(["--data", str(tmp_path / "photos"), "--out", "somewhere"])
    assert (len(spied[0][0]), len(spied[0][1])) == (23, 1)
    assert "23 photographs to train on, 1 to validate on" in capsys.readouterr().out


def test_a_real_run_from_the_command_line(tmp_path, monkeypatch, capsys, random_ruler):
    """From picture files to a checkpoint of the full size that loads: two steps at 128 px."""
    write_pictures(tmp_path / "photos", 20)
    monkeypatch.setattr(training, "load_lpips", lambda: random_ruler)
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


def test_pictures_may_come_from_disk_one_by_one(tmp_path, random_ruler, faces):
    """Any sequence will do in place of an array: photographs are then read batch by batch."""

    class Lazy:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return faces[index]

    recipe = replace(TINY, epochs=1)
    history = run(Lazy(), tmp_path, random_ruler, recipe, val=Lazy())
    assert timeless(history) == timeless(run(faces[:4], tmp_path / "array", random_ruler, recipe, val=faces[:4]))


def test_unreadable_pictures_stop_the_command_line(tmp_path):
    write_pictures(tmp_path / "photos", 20)
    (tmp_path / "photos" / "003.png").write_bytes(b"broken")
    with pytest.raises(SystemExit, match=r"003\.png"):
        training.main(["--data", str(tmp_path / "photos"), "--out", str(tmp_path / "run")])
    with pytest.raises(ImageError):
        training.load_split(tmp_path / "photos", "train")
    assert np.isfinite(training.load_split(tmp_path / "photos", "val")).all()
