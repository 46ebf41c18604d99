"""helpers.engine.devices: each test runs on the processor, and on a CUDA GPU where there is one, to the same effect.

On a GPU the reference is the processor; on the processor it is the same computation written without the engine.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.engine.checkpoints import shipped
from helpers.engine.devices import device_for
from helpers.losses import TotalLoss
from helpers.metrics import evaluate, summary
from helpers.pairs import Pairs
from helpers.restorer import Restorer
from helpers.training import Recipe, Trainer
from tests.benchmarks import ours
from tests.benchmarks.measure import Setup, untrained
from tests.test_training import CHEAP, CODE, SmallModel


@pytest.fixture(params=["cpu", "cuda"])
def device(request) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA GPU")
    return torch.device(request.param)


def test_which_device(monkeypatch):
    assert device_for().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_for("cpu") == device_for(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_for() == torch.device("cpu")
    with pytest.raises(ValueError, match='"cuda:1" was asked for, but PyTorch sees no CUDA GPU'):
        device_for("cuda:1")
    with pytest.raises(ValueError, match="there is no device 'gpu'"):
        device_for("gpu")


def test_a_restorer_without_its_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="sees no CUDA GPU"):
        Restorer(device="cuda")


def test_a_step_in_float32_gives_the_plain_loss(device, faces, random_lpips):
    run = ours.Ours(Setup.quick(device), 4, faces, random_lpips, precision="no")
    indices = next(ours.order(len(faces), 4))[1]
    batch = Pairs(faces, flip=True).batch(indices.tolist(), 0)
    model = untrained(Setup.quick(device)).cpu().train()
    with torch.no_grad():
        restored, z_deblur, z_gt = model(batch.input, batch.target)
        expected = TotalLoss(random_lpips)(restored, batch.target, z_deblur, z_gt)["total"].item()
    assert float(run.step(*run.batch())) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_every_precision_learns(device, precision, faces, random_lpips):
    """Eight steps on one batch: the loss falls by a twentieth and more.

    On a processor the networks are those of test_training, a thousandth of the size and without LPIPS: without 16-bit
    arithmetic the real ones would take a minute.
    """
    if precision == "fp16" and device.type == "cpu":
        pytest.skip("fp16 is for GPUs")
    if device.type == "cuda":
        run = ours.Ours(Setup.quick(device), 4, faces, random_lpips, precision=precision)
        trainer, batch = run.trainer, run.batch()
    else:
        recipe = Recipe(batch_size=4, latent_dim=16, image_size=64, weights=CHEAP, precision=precision)
        trainer = Trainer(replace(recipe, learning_rate=2e-3), random_lpips, SmallModel(**CODE), None)
        found = Pairs(faces).batch(range(4))
        batch = (found.input, found.target)
    losses = [float(trainer.update([batch], step, 0, True)["total"]) for step in range(8)]
    assert np.isfinite(losses).all() and losses[-1] < 0.95 * losses[0]
    assert trainer.precision == precision and all(p.dtype == torch.float32 for p in trainer.model.parameters())


def test_the_loader_blurs_alike(device, faces):
    """Where sums are added in another order, a value may be rounded to the neighbouring one of 256."""
    inputs, target = next(ours.loaded(Pairs(faces, flip=True), 4, device))
    batch = Pairs(faces, flip=True).batch(next(ours.order(len(faces), 4))[1].tolist(), 0)
    assert inputs.device.type == target.device.type == device.type
    assert torch.equal(target.cpu(), batch.target)
    difference = (inputs.cpu() - batch.input)[:, :3].abs()
    assert difference.max() < 1.01 / 127.5 and (difference > 0).float().mean() < 0.01


@pytest.mark.skipif(not shipped("thesis").exists(), reason="a small copy of the course may lack the checkpoint")
def test_restored_pictures_and_measures_are_alike(device, random_lpips):
    from helpers.data import load_faces

    pairs = Pairs(load_faces("test", 4))
    blurred = pairs.batch(range(4)).blurred
    reference, restorer = Restorer(device="cpu"), Restorer(device=device)
    difference = np.abs(restorer.restore(blurred).astype(int) - reference.restore(blurred))
    assert difference.mean() < 0.5 and difference.max() <= 8
    here = summary(evaluate(restorer.model, pairs, random_lpips.to(device), with_input=False)).loc["restored"]
    random_lpips.to("cpu")
    there = summary(evaluate(reference.model, pairs, random_lpips, with_input=False)).loc["restored"]
    assert np.allclose(here.to_numpy(float), there.to_numpy(float), rtol=5e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compiling takes a minute and is for GPUs")
def test_compiled_is_eager(faces, random_lpips):
    losses = []
    for compiled in (False, True):
        run = ours.Ours(Setup.quick(torch.device("cuda")), 4, faces, random_lpips, compiled, "no")
        batch = run.batch()
        losses.append([float(run.step(*batch)) for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=5e-3)
