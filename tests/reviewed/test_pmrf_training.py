"""helpers.reviewed.pmrf_training: first losses by hand, both stages, the rivals, validation, the command line."""

import math

import pytest
import torch
from PIL import Image

from helpers.engine import runs
from helpers.engine.checkpoints import load_checkpoint, read_about, save_checkpoint
from helpers.engine.errors import TrainingError
from helpers.pairs import Pairs
from helpers.reviewed import pmrf_training, stages
from helpers.reviewed.pmrf import Pmrf, flow_loss, source, stratified_times
from helpers.reviewed.pmrf_training import train
from tests.conftest import make_faces

FACES = make_faces(16, 32)
TINY = {"width": 8, "batch_size": 4, "progress": False, "precision": "no"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Three and three steps: the model and its histories."""
    return train(FACES, tmp_path_factory.mktemp("pmrf"), 3, 3, **TINY)


def first_batch():
    batch = runs.batch_of(Pairs(FACES, "celebablur", flip=True, seed=2025), 0, 4)
    return (batch.input[:, :3] + 1) / 2, (batch.target + 1) / 2


def test_first_losses_by_hand(tmp_path):
    """Before training f(y) = y and v = 0: the first MSE is that of y, the first flow loss that of Z_0 = y + 0.1 ε.

    From noise, the flow starts at ε itself: E (X - ε)² = E X² + 1. Noise on 12,288 numbers, hence 3%.
    """
    y, x = first_batch()
    model, histories = train(FACES, tmp_path / "mean", 1, 0, **TINY)
    mse = (y - x).square().mean().item()
    assert histories["posterior_mean"][0]["mse"] == pytest.approx(mse, rel=1e-4)
    assert list(histories) == ["posterior_mean"] and mse > 0.005
    expected = {"pmrf": mse + 0.01, "from_y": mse + 0.01, "from_noise": x.square().mean().item() + 1}
    for kind, value in expected.items():
        _, histories = train(FACES, tmp_path / kind, 0, 1, kind=kind, **TINY)
        assert histories["field"][0]["flow"] == pytest.approx(value, rel=0.03), kind


@pytest.mark.parametrize("sigma", [0.03, 0.4])
def test_sigma_is_the_noise_at_the_start(tmp_path, sigma):
    """Before training v = 0 and f(y) = y: the flow loss is MSE(y) + σ²; another σ is another run."""
    y, x = first_batch()
    _, histories = train(FACES, tmp_path, 0, 1, sigma=sigma, **TINY)
    expected = (y - x).square().mean().item() + sigma**2
    assert histories["field"][0]["flow"] == pytest.approx(expected, rel=0.03)
    with pytest.raises(TrainingError, match="other settings .*sigma_s"):
        train(FACES, tmp_path, 0, 1, sigma=0.2, **TINY)


def test_validation_by_hand(tmp_path):
    """The averaged networks on fixed pictures with one fixed blur, fixed noise and times: both losses computed anew."""
    held_out = make_faces(3, 32, seed=5)
    model, histories = train(FACES, tmp_path, 2, 2, sigma=0.05, validation=held_out, **TINY)
    batch = Pairs(held_out).batch(range(3))
    y, x = (batch.input[:, :3] + 1) / 2, (batch.target + 1) / 2
    mean = model.posterior_mean(y)
    assert histories["posterior_mean"][-1]["val_mse"] == pytest.approx((mean.clamp(0, 1) - x).square().mean().item())
    torch.manual_seed(2025)
    noise, t = torch.randn(x.shape), stratified_times(3)
    expected = flow_loss(model.field, x, source(mean, noise, 0.05), t).item()
    assert histories["field"][-1]["val_flow"] == pytest.approx(expected, rel=1e-4)


def test_validation_changes_nothing(finished, tmp_path):
    """The same weights to the bit, with and without it."""
    model, _ = train(FACES, tmp_path, 3, 3, validation=FACES[:2], **TINY)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), finished[0].parameters(), strict=True))


def test_other_pictures_are_refused(tmp_path):
    """As many pictures, but others."""
    train(FACES, tmp_path, 1, 0, **TINY)
    with pytest.raises(TrainingError, match="other settings .*pictures"):
        train(FACES[::-1].copy(), tmp_path, 1, 0, **TINY)


def test_rivals_have_one_stage(tmp_path):
    for kind in ("from_y", "from_noise"):
        model, histories = train(FACES, tmp_path / kind, 2, 1, kind=kind, **TINY)
        assert list(histories) == ["field"] and model.posterior_mean is None
        assert not (tmp_path / kind / "posterior_mean").exists()


def test_training_moves_both_networks(finished):
    model, histories = finished
    torch.manual_seed(0)
    values = [h[k] for k, name in (("mse", "posterior_mean"), ("flow", "field")) for h in histories[name]]
    assert len(values) == 2 and all(math.isfinite(v) for v in values)
    y = first_batch()[0]
    assert not torch.equal(model.posterior_mean(y), y)
    assert model.field(y, torch.full((4,), 0.5)).abs().sum() > 0
    assert all(torch.isfinite(p).all() and not p.requires_grad for p in model.parameters())
    assert not model.training


def test_training_lowers_the_loss(tmp_path):
    """Equation 13: thirty steps on four pictures that never change end clearly below the blurred input's error."""
    _, histories = train(FACES, tmp_path, 30, 0, rate=5e-3, **TINY)
    start = train(FACES, tmp_path / "first", 4, 0, rate=1e-9, **TINY)[1]["posterior_mean"][0]["mse"]
    assert histories["posterior_mean"][-1]["mse"] < 0.95 * start


def test_trains_in_the_format_asked_for(tmp_path, monkeypatch):
    """The loss is computed under autocast in bf16, under none in float32; what is faster is decided in one place."""
    seen, original = [], pmrf_training.flow_loss

    def note(*arguments):
        seen.append(torch.is_autocast_enabled("cpu"))
        return original(*arguments)

    monkeypatch.setattr(pmrf_training, "flow_loss", note)
    for precision in ("no", "bf16"):
        train(FACES[:4], tmp_path / precision, 0, 1, **{**TINY, "precision": precision})
    assert seen == [False, True]
    monkeypatch.setattr(stages, "precision_for", lambda device, asked: {"auto": "bf16"}[asked])
    train(FACES[:4], tmp_path / "auto", 0, 1, **{**TINY, "precision": "auto"})
    assert seen[2:] == [True]


def test_optimiser_is_the_authors(tmp_path, monkeypatch):
    """AdamW, 5e-4, betas 0.9 and 0.95, weight decay 0.01 on every parameter."""
    seen, original = [], torch.optim.AdamW

    def spy(parameters, **settings):
        seen.append(settings)
        return original(parameters, **settings)

    monkeypatch.setattr(torch.optim, "AdamW", spy)
    train(FACES, tmp_path, 1, 1, **TINY)
    for settings in seen:
        assert (settings["lr"], settings["betas"], settings["weight_decay"]) == (5e-4, (0.9, 0.95), 1e-2)
    assert len(seen) == 2


def test_the_average_is_what_comes_back(finished, tmp_path):
    """Stage 2 starts from stage 1's averaged weights; after 3 steps an average with decay 0 is the network itself."""
    model, _ = train(FACES, tmp_path, 3, 0, **TINY)
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.posterior_mean.parameters(), finished[0].posterior_mean.parameters(), strict=True)
    )
    plain, _ = train(FACES, tmp_path / "plain", 3, 0, decay=0.0, **TINY)
    state = torch.load(tmp_path / "plain" / "posterior_mean" / "state.pt", weights_only=True)
    for name, value in plain.posterior_mean.state_dict().items():
        assert torch.allclose(state["parts"]["network"][name], value, atol=1e-6)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(model.posterior_mean.parameters(), plain.posterior_mean.parameters(), strict=True)
    )


@pytest.mark.parametrize("stop", [2, 5])
def test_interrupted_equals_uninterrupted(finished, tmp_path, monkeypatch, stop):
    """Ctrl+C in either stage, the same call again: the same weights to the last bit."""
    original, count = runs.batch_of, iter(range(1000))

    def batch_of(*arguments):
        if next(count) == stop:
            raise KeyboardInterrupt
        return original(*arguments)

    run = runs.run
    monkeypatch.setattr(runs, "run", lambda *a, **k: run(*a, **{**k, "save_every": 2}))
    monkeypatch.setattr(runs, "batch_of", batch_of)
    with pytest.raises(KeyboardInterrupt):
        train(FACES, tmp_path, 3, 3, **TINY)
    monkeypatch.setattr(runs, "batch_of", original)
    torch.manual_seed(99)
    model, _ = train(FACES, tmp_path, 3, 3, **TINY)
    ours, theirs = model.state_dict(), finished[0].state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


@pytest.mark.parametrize("change", [{"seed": 1}, {"rate": 1e-3}, {"degradation": "motion"}, {"batch_size": 8}])
def test_other_settings_are_refused(tmp_path, change):
    train(FACES, tmp_path, 1, 0, **TINY)
    with pytest.raises(TrainingError, match=f"other settings .*{next(iter(change))}"):
        train(FACES, tmp_path, 1, 0, **{**TINY, **change})


def test_fewer_images_than_a_batch(tmp_path):
    with pytest.raises(TrainingError, match="2 training images are fewer than one batch of 4"):
        train(FACES[:2], tmp_path, 1, 0, **TINY)


@torch.no_grad()
def test_checkpoint_comes_back(finished, tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", finished[0], {}, "8-bit")
    other = Pmrf(8).eval()
    load_checkpoint(tmp_path / "a.safetensors", other)
    y, noise = first_batch()[0], torch.randn(4, 3, 32, 32)
    assert torch.allclose(other.restore(y, 2, noise=noise), finished[0].restore(y, 2, noise=noise), atol=0.02)


@pytest.fixture
def photos(tmp_path):
    """A folder of twenty pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, picture in enumerate(make_faces(20, 128)):
        Image.fromarray(picture).save(folder / f"{i:03d}.png")
    return folder


def command(photos, *more):
    out = photos.parent / "run"
    shared = ["--out", str(out), "--limit", "2", "--batch-size", "2", "--data", str(photos), "--precision", "no"]
    pmrf_training.main([*shared, *more])
    return out


def test_command_line(photos, capsys):
    """From picture files to the shipped form: a step of each stage at 128 px."""
    path = command(photos, "--mean-steps", "1", "--flow-steps", "1") / "pmrf.safetensors"
    assert "pmrf.safetensors" in capsys.readouterr().out
    about = load_checkpoint(path, Pmrf())
    assert about["training_data"] == "2 photographs" and about["precision"] == "8-bit" and about["sigma_s"] == 0.1
    assert (about["mean_steps"], about["decay"], about["rate"], about["kind"]) == (1, 0.999, 5e-4, "pmrf")
    assert about == read_about(path) and set(about["history"]) == {"posterior_mean", "field"}
    assert "val_mse" in about["history"]["posterior_mean"] and "val_flow" in about["history"]["field"]
    # The same run as if it had been cut off after the first of five steps of the field: the same weights.
    trained = path.read_bytes()
    command(photos, "--mean-steps", "1", "--flow-steps", "5", "--export")
    assert path.read_bytes() == trained and read_about(path)["flow_steps"] == 1
    assert read_about(path)["stopped"] == "stopped after 1 of 1 mean steps, 1 of 5 flow steps"


def test_command_line_of_a_rival(photos):
    """A file of its own that says what is in it, without a posterior mean."""
    options = ["--kind", "from_noise", "--sigma", "0.03", "--decay", "0.9", "--rate", "1e-3", "--flow-steps", "1"]
    path = command(photos, *options) / "pmrf_from_noise.safetensors"
    about = load_checkpoint(path, Pmrf(kind="from_noise"))
    assert (about["kind"], about["mean_steps"], about["flow_steps"]) == ("from_noise", 0, 1)
    assert (about["sigma_s"], about["decay"], about["rate"]) == (0.03, 0.9, 1e-3)


@pytest.mark.parametrize(
    "command", [["--data", "nowhere"], ["--limit", "1", "--batch-size", "2"], ["--sigma", "0"], ["--decay", "1"]]
)
def test_errors_are_one_sentence(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        pmrf_training.main(["--out", "run", *command])
    if error.value.code == 2:  # argparse has told it
        assert command[0] in capsys.readouterr().err.splitlines()[-1]
        return
    text = str(error.value.code)
    assert text.startswith("error: ") and "\n" not in text and ("nowhere" in text or "fewer than one batch" in text)
