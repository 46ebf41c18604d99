"""helpers.skip_model: identity before training, the knob, where gradients go, the training by hand and resumed."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import resumable, skip_model
from helpers.checkpoints import load_checkpoint, read_about, save_checkpoint
from helpers.data import denormalise
from helpers.losses import Weights, l1_loss, ssim_loss
from helpers.metrics import measure, psnr
from helpers.networks import ShapeError, count_parameters
from helpers.pairs import Pairs
from helpers.realism import sliced_wasserstein
from helpers.skip_model import SkipEncoder, SkipModel, along_the_knob, best_knob, fidelity_loss, rate_at, train
from helpers.training import TrainingError
from tests.conftest import make_faces

SHAPE = {"latent_dim": 12, "widths": (8, 16, 16, 16), "depths": (1, 1, 1, 2)}
FACES = make_faces(12, 64)


def spoiled(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every weight moved away from its initial value, so that everything in it matters."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn(p.shape) * 0.1)
    return network.eval()


@pytest.fixture(scope="module")
def model() -> SkipModel:
    return spoiled(SkipModel(image_size=64, **SHAPE))


@pytest.fixture(scope="module")
def batch():
    return Pairs(FACES).batch(range(3))


# ---------------------------------------------------------------------------------------------------------------------
# The network


@torch.no_grad()
@pytest.mark.parametrize(
    "shape",
    [
        {},
        SHAPE,
        {**SHAPE, "fold": 4, "widths": (8, 16, 24), "depths": (1, 2, 1)},
        {**SHAPE, "widths": (8, 16, 16), "depths": (1, 1, 2)},
        {**SHAPE, "in_channels": 3},
    ],
)
def test_untrained_it_is_the_identity(batch, shape):
    """Both corrections begin at 0: whatever the knob, the blurred picture comes out, to the last bit."""
    model = SkipModel(image_size=64, **shape).eval()
    inputs = batch.input[:, : shape.get("in_channels", 4)]
    for end in model.both(inputs)[:2]:
        assert torch.equal(end, batch.input[:, :3])
    assert all(torch.equal(model(inputs, knob=knob), batch.input[:, :3]) for knob in (0, 0.3, 1))


@torch.no_grad()
def test_shapes_and_codes(model, batch):
    """With the sharp picture both ends and both codes; what is restored does not depend on it."""
    perceptual, mean, z_deblur, z_gt = model(batch.input, batch.target)
    assert perceptual.shape == mean.shape == (3, 3, 64, 64) and z_deblur.shape == z_gt.shape == (3, 12)
    assert torch.equal(z_gt, model.latent_encoder(batch.target)) and not torch.allclose(perceptual, mean, atol=0.01)
    assert torch.equal(z_deblur, model.deblur_encoder(batch.input)[0])
    again = model(batch.input, -batch.target)
    assert all(torch.equal(a, b) for a, b in zip(again[:3], (perceptual, mean, z_deblur), strict=True))
    assert not torch.equal(again[3], z_gt)
    assert all(torch.equal(a, b) for a, b in zip(model.both(batch.input), (mean, perceptual, z_deblur), strict=True))


@torch.no_grad()
def test_the_knob_is_a_straight_line(model, batch):
    """x̂ = mean + knob (perceptual - mean), clipped once, at the end: by hand at five places, one beyond the end."""
    perceptual, mean, _, _ = model(batch.input, batch.target)
    assert mean.abs().max() > 1 and (perceptual - mean).abs().max() > 0.05
    for knob in (0, 0.25, 0.5, 1, 1.2):
        wanted = (mean + knob * (perceptual - mean)).clamp(-1, 1)
        assert torch.allclose(model(batch.input, knob=knob), wanted, atol=1e-5), knob
    assert torch.equal(model(batch.input), model(batch.input, knob=skip_model.KNOB))


@torch.no_grad()
def test_every_channel_every_map_and_the_code_count(model, batch):
    z, maps = model.deblur_encoder(batch.input)
    ends = model.generator(z, maps)
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 32, 32), (16, 16, 16), (16, 8, 8), (16, 4, 4)]
    for i in range(len(maps)):
        # Not a constant: a group of one channel is normalised, so a constant is forgotten.
        changed = [m + torch.randn_like(m) * (i == j) for j, m in enumerate(maps)]
        for end, other in zip(ends, model.generator(z, changed), strict=True):
            assert (end - other).abs().max() > 1e-3, i
    for end, other in zip(ends, model.generator(z + 1, maps), strict=True):
        assert (end - other).abs().max() > 1e-3
    for channel in range(4):
        inputs = batch.input.clone()
        inputs[:, channel] += 0.5
        assert not torch.allclose(model.deblur_encoder(inputs)[0], z, atol=1e-4), channel


@torch.no_grad()
def test_the_code_reads_the_deepest_maps(model, batch):
    """A linear layer on the mean over the 4×4 places, as in the thesis's DeblurEncoder."""
    z, maps = model.deblur_encoder(batch.input)
    layer = model.deblur_encoder.fc
    assert torch.allclose(z, maps[-1].mean((2, 3)) @ layer.weight.T + layer.bias, atol=1e-5)


@torch.no_grad()
def test_any_side_and_one_picture_at_a_time(model, batch):
    assert model(torch.rand(1, 4, 48, 80)).shape == (1, 3, 48, 80)
    assert torch.allclose(model(batch.input)[1], model(batch.input[1:2])[0], atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((1, 3, 64, 64), "N×4×H×W with sides divisible by 16, got 1×3×64×64"),
        ((4, 64, 64), "got 4×64×64"),
        ((1, 4, 64, 72), "got 1×4×64×72"),
    ],
)
def test_wrong_shapes_are_told(model, shape, told):
    with pytest.raises(ShapeError, match=told):
        model(torch.zeros(shape))


def test_the_sharp_picture_has_the_size_of_training(model):
    with pytest.raises(ShapeError, match="LatentEncoder expects N×3×64×64, got 1×3×128×128"):
        model(torch.zeros(1, 4, 128, 128), torch.zeros(1, 3, 128, 128))
    with pytest.raises(ShapeError, match="SkipEncoder expects N×3×H×W"):
        SkipEncoder((8, 8), (1, 1), 4, in_channels=3)(torch.zeros(1, 4, 32, 32))


# ---------------------------------------------------------------------------------------------------------------------
# Gradients


def reached(model: SkipModel, loss: torch.Tensor) -> set[str]:
    """Which parts of the model a loss trains."""
    model.zero_grad()
    loss.backward()
    names = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    parts = ("deblur_encoder", "generator.blocks", "generator.exits.0", "generator.exits.1", "latent_encoder")
    return {part for part in parts if any(n.startswith(part) for n in names)}


def test_who_learns_from_what(batch):
    """Fidelity trains the mean's exit, the picture losses the other one, both the trunk; the latent loss the encoders
    alone, and it alone the LatentEncoder."""
    model = spoiled(SkipModel(image_size=64, **SHAPE)).train()

    def out():
        return model(batch.input, batch.target)

    trunk = {"deblur_encoder", "generator.blocks"}
    assert reached(model, fidelity_loss(out()[1], batch.target)) == trunk | {"generator.exits.0"}
    assert reached(model, l1_loss(out()[0], batch.target)) == trunk | {"generator.exits.1"}
    _, _, z_deblur, z_gt = out()
    assert reached(model, (z_deblur - z_gt).square().mean()) == {"deblur_encoder", "latent_encoder"}


def test_gradients_reach_every_weight(batch):
    model = spoiled(SkipModel(image_size=64, **SHAPE)).train()
    perceptual, mean, z_deblur, z_gt = model(batch.input, batch.target)
    (perceptual.square().mean() + mean.square().mean() + (z_deblur - z_gt).square().mean()).backward()
    for name, p in model.named_parameters():
        assert torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0, name


# ---------------------------------------------------------------------------------------------------------------------
# Loss and rate


def test_fidelity_is_psnr(batch):
    """½ ln MSE on [-1, 1], whose range is 2: ln 2 - PSNR · ln 10 / 20, here of 8-bit pictures."""
    pictures = [psnr(a, b) for a, b in zip(batch.blurred, batch.sharp, strict=True)]
    wanted = math.log(2) - np.mean(pictures) * math.log(10) / 20
    assert fidelity_loss(batch.input[:, :3], batch.target).item() == pytest.approx(wanted, rel=1e-5)


def test_fidelity_by_hand():
    """MSE 0.01 and 0.0001: ½ (ln 0.01 + ln 0.0001) / 2. A tenth less error counts alike on either; 0 is no abyss."""
    target = torch.zeros(2, 3, 4, 4)
    off = torch.tensor([0.1, 0.01]).view(2, 1, 1, 1).expand_as(target)
    value = fidelity_loss(off, target).item()
    assert value == pytest.approx(0.25 * (math.log(1e-2) + math.log(1e-4)))
    for easier in ([0.9, 1], [1, 0.9]):
        gain = fidelity_loss(off * torch.tensor(easier).view(2, 1, 1, 1), target).item() - value
        assert gain == pytest.approx(0.5 * math.log(0.9), rel=1e-4)
    same = target.clone().requires_grad_()
    fidelity_loss(same, target).backward()
    assert torch.isfinite(same.grad).all()


def test_rate_by_hand():
    """A hundredth more each step for a hundred steps, then half a cosine; 2 % at the end."""
    steps, highest = 10_000, 3e-3
    rates = [rate_at(step, steps, highest) for step in range(steps + 1)]
    assert rates[0] == pytest.approx(highest / 100) and rates[49] == pytest.approx(highest / 2, rel=1e-3)
    assert rates[5000] == pytest.approx(highest / 2) and rates[2500] == pytest.approx(highest * (2 + 2**0.5) / 4)
    assert rates[-1] == pytest.approx(0.02 * highest) == min(rates[100:])
    assert max(rates) <= highest and np.argmax(rates) == 99
    assert np.all(np.diff(rates[99:]) <= 0)


# ---------------------------------------------------------------------------------------------------------------------
# Training


@pytest.fixture(scope="module")
def run(random_ruler):
    """A short training: ``run(out, steps, **changes)``."""

    def run(out, steps, images=FACES, **changes):
        settings = {"batch_size": 4, "lpips": random_ruler, "progress": False, **SHAPE, **changes}
        return train(images, out, steps, **settings)

    return run


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    """Three steps: the model, its history, its folder."""
    out = tmp_path_factory.mktemp("skip")
    return *run(out, 3), out


def test_first_losses_by_hand(run, tmp_path, random_ruler):
    """Before training both ends are the blurred picture: its own distances, weighted as equation 41, and fidelity."""
    weights = Weights(l1=0.7, lpips=0.2, ssim=0.4, tv=0, latent=0)
    _, history = run(tmp_path, 1, weights=weights)
    first = resumable.batch_of(Pairs(FACES, "celebablur", flip=True, seed=2025), 0, 4)
    blurred, target = first.input[:, :3], first.target
    wanted = {
        "l1": l1_loss(blurred, target).item(),
        "ssim": ssim_loss(blurred, target).item(),
        "fidelity": fidelity_loss(blurred, target).item(),
    }
    assert {k: history[0][k] for k in wanted} == pytest.approx(wanted, rel=1e-4)
    assert history[0]["lpips"] == pytest.approx(random_ruler(blurred, target).mean().item(), rel=0.05)  # in 16 bits
    assert history[0]["tv"] == history[0]["latent"] == 0 and history[0]["step"] == 1
    total = sum(getattr(weights, k) * history[0][k] for k in ("l1", "lpips", "ssim"))
    assert history[0]["total"] == pytest.approx(total, rel=1e-5)


def test_what_comes_back(finished, batch):
    model, history, _ = finished
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert all(torch.isfinite(p).all() for p in model.parameters()) and len(history) == 1
    with torch.no_grad():
        assert not torch.equal(model(batch.input), batch.input[:, :3])


def test_training_lowers_the_loss(run, tmp_path, monkeypatch):
    """Forty steps on four pictures: fidelity and the weighted sum fall clearly below those of the blurred pictures."""
    original = resumable.run
    monkeypatch.setattr(resumable, "run", lambda *a, **k: original(*a, **{**k, "save_every": 5}))
    _, history = run(tmp_path, 40, images=FACES[:4], rate=1e-2, weights=Weights(0.5, 0, 0.25, 0, 0.02))
    assert [h["step"] for h in history] == list(range(5, 45, 5))
    assert history[-1]["fidelity"] < history[0]["fidelity"] - 0.1  # 0.9 dB
    assert history[-1]["total"] < 0.95 * history[0]["total"]


def test_optimiser_and_rate(run, tmp_path, monkeypatch):
    """AdamW with the betas and the decay of the other methods; its rate is that of rate_at, step by step."""
    seen, original = [], torch.optim.AdamW

    class Spy(original):
        def __init__(self, parameters, **settings):
            seen.append(settings)
            super().__init__(parameters, **settings)

        def step(self, *rest):
            seen.append(self.param_groups[0]["lr"])
            return super().step(*rest)

    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    run(tmp_path, 2, rate=5e-3)
    assert (seen[0]["betas"], seen[0]["weight_decay"]) == ((0.9, 0.95), 1e-2)
    assert seen[1:] == [rate_at(0, 2, 5e-3), rate_at(1, 2, 5e-3)]


@pytest.mark.parametrize("stop", [1, 2])
def test_interrupted_equals_uninterrupted(finished, run, tmp_path, monkeypatch, stop):
    """Ctrl+C, the same call again: the same average and the same weights to the last bit."""
    original, count = resumable.batch_of, iter(range(1000))

    def batch_of(*arguments):
        if next(count) == stop:
            raise KeyboardInterrupt
        return original(*arguments)

    plain = resumable.run
    monkeypatch.setattr(resumable, "run", lambda *a, **k: plain(*a, **{**k, "save_every": 1}))
    monkeypatch.setattr(resumable, "batch_of", batch_of)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 3)
    monkeypatch.setattr(resumable, "batch_of", original)
    torch.manual_seed(99)
    model, history = run(tmp_path, 3)
    assert [h["step"] for h in history] == [1, 2, 3]
    ours, theirs = model.state_dict(), finished[0].state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    ours, theirs = (torch.load(d / "state.pt", weights_only=True)["state.model"] for d in (tmp_path, finished[2]))
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"rate": 2e-3}, {"fidelity": 0.2}, {"degradation": "motion"}, {"weights": Weights()}, {"fold": 4}],
)
def test_other_settings_are_refused(finished, run, change):
    with pytest.raises(TrainingError, match=f"other settings .*{next(iter(change))}"):
        run(finished[2], 3, **change)


def test_other_pictures_and_steps_are_refused(finished, run):
    with pytest.raises(TrainingError, match="images: 12 -> 8"):
        run(finished[2], 3, images=FACES[:8])
    with pytest.raises(TrainingError, match="steps: 3 -> 4"):  # the rate depends on how many there will be
        run(finished[2], 4)
    with pytest.raises(TrainingError, match="2 training images are fewer than one batch of 4"):
        run(finished[2].parent / "few", 3, images=FACES[:2])


def test_without_an_edge_map(run, tmp_path):
    """in_channels=3: trained on the picture alone."""
    model, _ = run(tmp_path, 1, in_channels=3)
    assert model.deblur_encoder.entry.in_channels == 12
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 3, 64, 64)


@torch.no_grad()
def test_checkpoint_comes_back(model, batch, tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", model, {}, "8-bit")
    other = SkipModel(image_size=64, **SHAPE).eval()
    load_checkpoint(tmp_path / "a.safetensors", other)
    for ours, theirs in zip(other.both(batch.input)[:2], model.both(batch.input)[:2], strict=True):
        assert (ours - theirs).abs().mean() < 0.05 * (theirs - batch.input[:, :3]).abs().mean()


# ---------------------------------------------------------------------------------------------------------------------
# Along the knob


def test_along_the_knob_by_hand(model, random_ruler):
    """Each position: the picture that the model gives there, measured as everywhere; beyond the end too."""
    pairs = Pairs(FACES[:5])
    rows = along_the_knob(model, pairs, random_ruler, FACES[6:], knobs=(0, 0.4, 1.2), batch_size=2)
    assert [r["knob"] for r in rows] == [0, 0.4, 1.2]
    batch = pairs.batch(range(5))
    for row in rows:
        with torch.no_grad():
            restored = denormalise(model(batch.input, knob=row["knob"]))
        wanted = measure(restored, batch.sharp, random_ruler).mean()
        assert {k: row[k] for k in wanted.index} == pytest.approx(wanted.to_dict(), rel=1e-3)
        assert row["SWD"] == pytest.approx(sliced_wasserstein(restored, FACES[6:])["mean"], rel=1e-3)


@pytest.mark.parametrize("ruler", ["LPIPS", "LPIPS (random trunk)"])
def test_best_knob_by_hand(ruler):
    """The lowest LPIPS among those at most 0.5 dB below the best PSNR, wherever that stands, but between the ends."""
    table = [(0.0, 27.9, 0.30), (0.2, 28.0, 0.20), (0.5, 27.5, 0.10), (0.7, 27.6, 0.12), (1.0, 27.4, 0.01)]
    rows = [{"knob": k, "PSNR": p, ruler: value} for k, p, value in table]
    assert best_knob(rows) == 0.5
    assert best_knob(rows[:2]) == 0.2 and best_knob(rows[-1:]) == 1.0
    assert best_knob([*rows, {"knob": 1.2, "PSNR": 28.0, ruler: 0.001}]) == 0.5


# ---------------------------------------------------------------------------------------------------------------------
# In a shell


def test_command_line(tmp_path, capsys, monkeypatch, random_ruler):
    """From picture files to the shipped form, a step at 128 px; then the knob is chosen on the validation pictures."""
    monkeypatch.setattr(skip_model, "load_lpips", lambda device="cpu": random_ruler)
    for i, picture in enumerate(make_faces(20, 128)):
        folder = tmp_path / "photos" / ("val" if i in (4, 5) else "test" if i > 17 else "train")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{i:03d}.png")
    shared = ["--out", str(tmp_path / "run"), "--data", str(tmp_path / "photos"), "--limit", "2"]
    skip_model.main([*shared, "--batch-size", "2", "--train-steps", "1"])
    assert "skip.safetensors" in capsys.readouterr().out
    path = tmp_path / "run" / "skip.safetensors"
    about = load_checkpoint(path, SkipModel())
    assert about["training_data"] == "2 photographs" and about["precision"] == "8-bit" and about["latent_dim"] == 256
    assert about["weights"] == vars(skip_model.WEIGHTS) and set(about["history"]) >= {"l1", "fidelity", "total"}
    assert path.stat().st_size < 25e6 and count_parameters(SkipModel()) > 4e6
    before = path.read_bytes()
    skip_model.main([*shared, "--measure", "--elsewhere", "faces"])
    assert "chosen on the validation set: knob" in capsys.readouterr().out
    measured = read_about(path)
    rows = measured["along the knob"]
    assert measured["knob"] == best_knob(rows["val"]) and {**about, **measured} == measured
    assert [r["knob"] for r in rows["test"]] == [r["knob"] for r in rows["val"]] == list(skip_model.KNOBS)
    assert measured["elsewhere"]["rendered faces"]["knob"] == measured["knob"]
    assert rows["test"] != rows["val"] and path.read_bytes() == before
    assert json.loads(path.with_suffix(".json").read_text()) == measured


def test_the_knob_is_chosen_on_validation_alone(tmp_path, monkeypatch):
    """Rows that would choose 0.2 on the validation and 0.9 on the test set."""
    save_checkpoint(tmp_path / "skip.safetensors", SkipModel(), {"name": "skip"}, "half")
    monkeypatch.setattr(skip_model, "load_lpips", lambda device: None)
    monkeypatch.setattr(skip_model, "load_split", lambda data, split, limit: [np.full((16, 16, 3), len(split), "u1")])

    def rows(model, pairs, lpips, reference):
        val = pairs.sharp[0].max() == len("val")
        # Realism is judged on the test set alone, and by the other set.
        assert reference is None if val else reference.max() == len("val")
        return [{"knob": k, "PSNR": 25.0, "LPIPS": abs(k - (0.2 if val else 0.9))} for k in (0.2, 0.9)]

    monkeypatch.setattr(skip_model, "along_the_knob", rows)
    skip_model.main(["--out", str(tmp_path), "--measure"])
    assert read_about(tmp_path / "skip.safetensors")["knob"] == 0.2


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--limit", "1", "--batch-size", "2"], "fewer than one batch"),
        (["--limit", "0"], "there are no images"),
        (["--measure"], "there is no such checkpoint"),
    ],
)
def test_errors_are_one_sentence(command, told, tmp_path, monkeypatch, random_ruler):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(skip_model, "load_lpips", lambda device="cpu": random_ruler)
    with pytest.raises(SystemExit) as error:
        skip_model.main(["--out", "run", *command])
    text = str(error.value.code)
    assert text.startswith("error: ") and "\n" not in text and told in text
