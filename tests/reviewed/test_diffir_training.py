"""helpers.reviewed.diffir_training: both stages, the schedules, CPEN's start, validation, the command line."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from helpers.engine import runs
from helpers.engine.checkpoints import load_checkpoint, save_checkpoint
from helpers.engine.ema import Ema
from helpers.engine.errors import TrainingError
from helpers.pairs import Pairs
from helpers.reviewed import diffir, diffir_training
from helpers.reviewed.diffir import CPEN, DiffIRS1, DiffIRS2, DiffIRStages
from helpers.reviewed.diffir_training import kaiming_init, rate_of, train
from helpers.reviewed.stages import unit_pair
from tests.conftest import make_faces
from tests.reviewed.test_diffir import NET

FACES = make_faces(8, 32)
RUN = {"small": NET, "crop": 24, "batch_size": 4, "progress": False, "precision": "no"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two steps of each stage: both networks and their histories."""
    return train(FACES, tmp_path_factory.mktemp("diffir"), 2, 2, 2, **RUN)


def test_a_run(finished):
    """Each stage with its own losses, all finite; what comes back is frozen and restores pictures."""
    one, two, histories = finished
    assert {k: set(h[-1]) - {"step"} for k, h in histories.items()} == {
        "stage1": {"rec"}, "stage2_warm": {"diff"}, "stage2": {"rec", "diff"}
    }  # fmt: skip
    assert all(math.isfinite(v) for h in histories.values() for v in h[-1].values())
    restored = two(torch.rand(1, 3, 32, 32))
    assert restored.shape == (1, 3, 32, 32) and torch.isfinite(restored).all()
    assert not any(p.requires_grad for net in (one, two) for p in net.parameters()) and not two.training


def test_first_loss_of_stage_1(tmp_path, monkeypatch):
    """L_rec of the untrained network on the first crops: computed anew."""
    crops, original = [], diffir.restoration_loss

    def note(restored, sharp):
        crops.append((restored.detach().clone(), sharp.clone()))
        return original(restored, sharp)

    monkeypatch.setattr(diffir_training, "restoration_loss", note)
    _, _, histories = train(FACES, tmp_path, 1, 0, 0, **RUN)
    ((restored, sharp),) = crops
    assert sharp.shape == (4, 3, 24, 24) and sharp.min() >= 0 and sharp.max() <= 1
    assert histories["stage1"][0]["rec"] == pytest.approx((restored - sharp).abs().mean().item(), rel=1e-5)


def test_the_warm_up_leaves_the_restorer_alone(tmp_path):
    """Stage 2 takes over stage 1's G; with L_diff alone, only CPEN and denoiser move."""
    one, two, _ = train(FACES, tmp_path, 2, 2, 0, **RUN)
    assert all(torch.equal(v, two.G.state_dict()[k]) for k, v in one.G.state_dict().items())
    _, cold, _ = train(FACES, tmp_path / "cold", 2, 0, 0, **RUN)
    for part in ("condition", "denoise"):
        a, b = getattr(two, part).state_dict(), getattr(cold, part).state_dict()
        assert any(not torch.equal(a[k], b[k]) for k in a)


def test_joint_training_moves_everything(finished):
    one, two, _ = finished
    assert any(not torch.equal(v, two.G.state_dict()[k]) for k, v in one.G.state_dict().items())


def test_learning_rate(tmp_path, monkeypatch):
    """Constant for two thirds, then down to (nearly) a tenth; Adam with β₂ 0.999 in stage 1, 0.99 in stage 2."""
    rates, betas, original = [], [], torch.optim.Adam

    class Spy(original):
        def step(self, *arguments, **keywords):
            rates.append(self.param_groups[0]["lr"])
            betas.append(self.param_groups[0]["betas"])
            return super().step(*arguments, **keywords)

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    train(FACES, tmp_path, 6, 1, 1, rate=1e-3, **RUN)
    assert rates[:6] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 5.5e-4])
    assert betas == [(0.9, 0.999)] * 6 + [(0.9, 0.99)] * 2


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_interrupted_equals_uninterrupted(finished, tmp_path, monkeypatch, stop):
    """Ctrl+C in any of the three stages, the same call again: the same weights to the last bit."""
    original, count = runs.batch_of, iter(range(1000))

    def batch_of(*arguments):
        if next(count) == stop:
            raise KeyboardInterrupt
        return original(*arguments)

    run = runs.run
    monkeypatch.setattr(runs, "run", lambda *a, **k: run(*a, **{**k, "save_every": 1}))
    monkeypatch.setattr(runs, "batch_of", batch_of)
    with pytest.raises(KeyboardInterrupt):
        train(FACES, tmp_path, 2, 2, 2, **RUN)
    monkeypatch.setattr(runs, "batch_of", original)
    torch.manual_seed(99)
    _, two, _ = train(FACES, tmp_path, 2, 2, 2, **RUN)
    ours, theirs = two.state_dict(), finished[1].state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"rate": 1e-3},
        {"crop": 16},
        {"small": {**NET, "dim": 8}},
        {"degradation": "motion"},
    ],
)
def test_other_settings_are_refused(tmp_path, change):
    train(FACES, tmp_path, 1, 0, 0, **RUN)
    told = "dim" if "small" in change else next(iter(change))
    with pytest.raises(TrainingError, match=f"other settings .*{told}"):
        train(FACES, tmp_path, 1, 0, 0, **{**RUN, **change})


def test_cosine_instead():
    """Each stage's rate rises, then falls as half a cosine; by default it is constant, then falls to a tenth."""
    cosine, plain = rate_of(1.0, 100, 10), rate_of(1.0, 90, None)
    assert [cosine(i) for i in (0, 4)] == pytest.approx([0.1, 0.5], rel=0.01)
    assert cosine(50) == pytest.approx(0.5) and cosine(99) == pytest.approx(0.02)
    assert [plain(i) for i in (0, 59, 60, 75, 90)] == pytest.approx([1, 1, 1, 0.55, 0.1])


def test_the_cosine_is_what_trains(tmp_path, monkeypatch):
    rates, original = [], torch.optim.Adam

    class Spy(original):
        def step(self, *arguments, **keywords):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments, **keywords)

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    train(FACES, tmp_path, 3, 1, 0, rate=0.1, cosine_warmup=2, **RUN)
    expected = [0.05, 0.1 * (0.5 + 0.5 * math.cos(math.pi / 3)), 0.1 * (0.5 + 0.5 * math.cos(2 * math.pi / 3)), 0.05]
    assert rates == pytest.approx(expected)


def test_kaiming_start_by_hand():
    """Deviation √(2 / (1.01 · inputs)) in every layer, no bias; priors of different faces are further apart with it."""
    torch.manual_seed(0)
    plain, cpen = CPEN(n_encoder_res=2), CPEN(n_encoder_res=2)
    kaiming_init(cpen)
    for module in cpen.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            inputs = module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / (1.01 * inputs)), rel=0.05)
            assert (module.bias == 0).all()
    images = torch.from_numpy(make_faces(6, 32)).movedim(-1, 1).float() / 255
    with torch.no_grad():
        spread = [network(images).std(0).mean().item() for network in (plain, cpen)]
    assert spread[1] > 3 * spread[0]


def test_starts_and_formats_are_arguments(tmp_path):
    """Each makes another run, with its own first weights or its own arithmetic; both stages have it."""
    plain, kaiming = (train(FACES, tmp_path / i, 0, 0, 0, cpen_init=i, **RUN) for i in ("pytorch", "kaiming"))
    for a, b in ((plain[0].E, kaiming[0].E), (plain[1].condition, kaiming[1].condition)):
        assert all((bias == 0).all() for name, bias in b.named_parameters() if name.endswith("bias"))
        assert any((bias != 0).any() for name, bias in a.named_parameters() if name.endswith("bias"))
    one, two, _ = train(FACES, tmp_path / "exact", 0, 0, 0, exact=True, **RUN)
    assert all(m.exact for m in (one.E, two.condition, two.denoise, one.G.latent[0].attn.kernel))
    assert not plain[0].E.exact
    with pytest.raises(ValueError, match="one of pytorch, kaiming, not 'zero'"):
        train(FACES, tmp_path / "other", 0, 0, 0, cpen_init="zero", **RUN)


def test_validation_by_hand(tmp_path):
    """The averaged networks on whole pictures with one fixed blur; stage 2's chain starts from fixed pure noise."""
    held_out = make_faces(3, 32, seed=5)
    one, two, histories = train(FACES, tmp_path, 1, 1, 1, validation=held_out, **RUN)
    blurred, sharp = unit_pair(Pairs(held_out).batch(range(3)), torch.device("cpu"))
    torch.manual_seed(2025)
    noise = torch.randn(3, 256)
    with torch.no_grad():
        prior, found = one.E(blurred, sharp), two.diffusion(blurred, noise=noise)[-1]
        rec = (one(blurred, sharp) - sharp).abs().mean().item()
        last = {"val_rec": (two.G(blurred, found) - sharp).abs().mean(), "val_diff": (found - prior).abs().mean()}
    assert histories["stage1"][-1]["val_rec"] == pytest.approx(rec, rel=1e-4)
    for name, value in last.items():
        assert histories["stage2"][-1][name] == pytest.approx(value.item(), rel=1e-3), name
        assert math.isfinite(histories["stage2_warm"][-1][name])


def test_average_of_tensors_that_are_named_twice():
    """One update of DiffIRS2's average moves every tensor by the same share, CPEN's and the denoiser's too."""
    two = DiffIRS2(**NET)
    ema = Ema(two, 0.999)
    with torch.no_grad():
        for p in ema.module.parameters():
            p.zero_()
        for p in two.parameters():
            p.fill_(1.0)
    ema.update(0)  # the decay warms up: 1/10 of the old
    moved = {round(p.mean().item(), 5) for p in ema.module.parameters()}
    assert moved == {0.9}


@torch.no_grad()
def test_checkpoint_comes_back(finished, tmp_path):
    """Both stages in one file; tensors that are named twice are stored once."""
    one, two, _ = finished
    save_checkpoint(tmp_path / "a.safetensors", DiffIRStages(one, two), {})
    other = DiffIRStages(DiffIRS1(**NET), DiffIRS2(**NET)).eval()
    load_checkpoint(tmp_path / "a.safetensors", other)
    blurred, noise = torch.rand(2, 3, 16, 16), torch.randn(2, 256)
    assert torch.allclose(other.stage2(blurred, noise=noise), two(blurred, noise=noise), atol=1e-4)
    assert torch.allclose(other.stage1(blurred, blurred), one.eval()(blurred, blurred), atol=1e-4)
    stored = (tmp_path / "a.safetensors").stat().st_size
    assert stored < 1.1 * 4 * sum(p.numel() for p in DiffIRStages(one, two).parameters()) + 100_000


def test_command_line(tmp_path, capsys, monkeypatch):
    """From picture files to the shipped form: a step of each stage; then the errors, one sentence each."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for i, picture in enumerate(make_faces(20, 128)):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{i:03d}.png")
    arguments = ["--out", "run", "--limit", "2", "--batch-size", "2", "--data", "photos", "--precision", "no"]
    arguments += ["--rate", "2e-4", "--cosine-warmup", "5", "--cpen-init", "kaiming", "--exact-prior"]
    diffir_training.main([*arguments, "--stage1-steps", "1", "--warm-steps", "1", "--joint-steps", "1"])
    assert "diffir.safetensors" in capsys.readouterr().out
    about = load_checkpoint(tmp_path / "run" / "diffir.safetensors", DiffIRStages())
    assert about["training_data"] == "2 photographs" and about["stage1_steps"] == 1 and about["precision"] == "8-bit"
    assert (about["rate"], about["cpen_init"], about["exact_prior"]) == (2e-4, "kaiming", True)
    assert about["schedule"] == "cosine after 5 steps"
    assert set(about["history"]) == {"stage1", "stage2_warm", "stage2"} and "val_rec" in about["history"]["stage2"]
    for command, told in (
        (["--data", "nowhere"], "nowhere"),
        (["--limit", "1", "--precision", "no"], "fewer than one batch"),
    ):
        with pytest.raises(SystemExit) as error:
            diffir_training.main(["--out", "other", *command])
        assert str(error.value.code).startswith("error: ") and told in str(error.value.code)
        assert "\n" not in str(error.value.code)


def test_small_network_is_small():
    """What ships: under 10 MB in 8 bits for both stages, so under 10 million numbers."""
    both = DiffIRStages()
    assert sum(p.numel() for p in both.parameters()) < 9.5e6
    assert np.prod(diffir.SMALL["num_blocks"]) == 2 and diffir.SMALL["dim"] == 16
