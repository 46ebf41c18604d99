"""helpers.experiments.skip_training: loss and rate by hand, the training by hand and resumed, the knob's choice."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import methods
from helpers.augment import Augment
from helpers.data import denormalise, load_faces
from helpers.degrade import MATRIX, Compose, GaussianBlur
from helpers.engine import runs
from helpers.engine.checkpoints import load_checkpoint, read_about, save_checkpoint
from helpers.engine.runs import TrainingError
from helpers.engine.updates import cosine_rate
from helpers.experiments import skip_training
from helpers.experiments.skip_model import SkipModel
from helpers.experiments.skip_training import along_the_knob, best_knob, export, fidelity_loss, over_cases, train
from helpers.losses import Weights, l1_loss, ssim_loss
from helpers.metrics import measure, psnr
from helpers.networks import count_parameters
from helpers.pairs import Pairs
from helpers.realism import sliced_wasserstein
from tests.conftest import make_faces
from tests.experiments.test_skip_model import SHAPE, spoiled

FACES = make_faces(12, 64)


@pytest.fixture(scope="module")
def model() -> SkipModel:
    return spoiled(SkipModel(image_size=64, **SHAPE))


@pytest.fixture(scope="module")
def batch():
    return Pairs(FACES).batch(range(3))


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
    rates = [cosine_rate(step, steps, highest) for step in range(steps + 1)]
    assert rates[0] == pytest.approx(highest / 100) and rates[49] == pytest.approx(highest / 2, rel=1e-3)
    assert rates[5000] == pytest.approx(highest / 2) and rates[2500] == pytest.approx(highest * (2 + 2**0.5) / 4)
    assert rates[-1] == pytest.approx(0.02 * highest) == min(rates[100:])
    assert max(rates) <= highest and np.argmax(rates) == 99
    assert np.all(np.diff(rates[99:]) <= 0)


# ---------------------------------------------------------------------------------------------------------------------
# Training


@pytest.fixture(scope="module")
def run(random_lpips):
    """A short training: ``run(out, steps, **changes)``."""

    def run(out, steps, images=FACES, **changes):
        settings = {"batch_size": 4, "lpips": random_lpips, "progress": False, **SHAPE, **changes}
        return train(images, out, steps, **settings)

    return run


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    """Three steps: the model, its history, its folder."""
    out = tmp_path_factory.mktemp("skip")
    return *run(out, 3), out


def test_first_losses_by_hand(run, tmp_path, random_lpips):
    """Before training both ends are the blurred picture: its own distances, weighted as equation 41, and fidelity."""
    weights = Weights(l1=0.7, lpips=0.2, ssim=0.4, tv=0, latent=0)
    _, history = run(tmp_path, 1, weights=weights)
    first = runs.batch_of(Pairs(FACES, "celebablur", flip=True, seed=2025), 0, 4)
    blurred, target = first.input[:, :3], first.target
    wanted = {
        "l1": l1_loss(blurred, target).item(),
        "ssim": ssim_loss(blurred, target).item(),
        "fidelity": fidelity_loss(blurred, target).item(),
    }
    assert {k: history[0][k] for k in wanted} == pytest.approx(wanted, rel=1e-4)
    assert history[0]["lpips"] == pytest.approx(random_lpips(blurred, target).mean().item(), rel=0.05)  # in 16 bits
    assert history[0]["tv"] == history[0]["latent"] == 0 and history[0]["step"] == 1
    total = sum(getattr(weights, k) * history[0][k] for k in ("l1", "lpips", "ssim"))
    assert history[0]["total"] == pytest.approx(total, rel=1e-5)


def test_what_comes_back(finished, batch):
    model, history, _ = finished
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert all(torch.isfinite(p).all() for p in model.parameters()) and len(history) == 1
    with torch.no_grad():
        assert not torch.equal(model(batch.input), batch.input[:, :3])


def test_training_lowers_the_loss(run, monkeypatch):
    """Thirty steps on four pictures: fidelity and the weighted sum fall clearly below those of the blurred pictures."""
    original = runs.run
    monkeypatch.setattr(runs, "run", lambda *a, **k: original(*a, **{**k, "save_every": 5, "progress": False}))
    _, history = run(None, 30, images=FACES[:4], rate=1e-2, weights=Weights(0.5, 0, 0.25, 0, 0.02))
    assert [h["step"] for h in history] == list(range(5, 35, 5))
    assert history[-1]["fidelity"] < history[0]["fidelity"] - 0.1  # 0.9 dB
    assert history[-1]["total"] < 0.95 * history[0]["total"]


def test_optimiser_and_rate(run, tmp_path, monkeypatch):
    """AdamW with the betas and the decay of the other methods; its rate is that of cosine_rate, step by step."""
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
    assert seen[1:] == [cosine_rate(0, 2, 5e-3), cosine_rate(1, 2, 5e-3)]


@pytest.mark.parametrize("stop", [1, 2])
def test_interrupted_equals_uninterrupted(finished, run, tmp_path, monkeypatch, stop):
    """Ctrl+C, the same call again: the same average and the same weights to the last bit."""
    original, count = runs.batch_of, iter(range(1000))

    def batch_of(*arguments):
        if next(count) == stop:
            raise KeyboardInterrupt
        return original(*arguments)

    plain = runs.run
    monkeypatch.setattr(runs, "run", lambda *a, **k: plain(*a, **{**k, "save_every": 1}))
    monkeypatch.setattr(runs, "batch_of", batch_of)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 3)
    monkeypatch.setattr(runs, "batch_of", original)
    torch.manual_seed(99)
    model, history = run(tmp_path, 3)
    assert [h["step"] for h in history] == [1, 2, 3]
    ours, theirs = model.state_dict(), finished[0].state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    ours, theirs = (torch.load(d / "state.pt", weights_only=True)["parts"]["model"] for d in (tmp_path, finished[2]))
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"rate": 2e-3},
        {"fidelity": 0.2},
        {"degradation": "motion"},
        {"weights": Weights()},
        {"fold": 4},
        {"augment": Augment()},
    ],
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


def test_validation(finished, run, tmp_path, random_lpips):
    """The average at both ends of the knob, measured as everywhere; it enters the history and changes nothing."""
    model, history = run(None, 3, validation=FACES[:2], validate_every=2)
    assert all(torch.equal(v, finished[0].state_dict()[k]) for k, v in model.state_dict().items())
    rows = along_the_knob(model, Pairs(FACES[:2]), random_lpips, None, (0, 1))
    for row in rows:
        knob = row.pop("knob")
        assert {k: history[-1][f"val_{k} at {knob}"] for k in row} == pytest.approx(row)
    assert {k: v for k, v in history[-1].items() if not k.startswith("val_")} == finished[1][-1]


def test_blind_training(run, tmp_path, monkeypatch, random_lpips):
    """Changed pictures, blindly degraded; the average is measured in each case of the matrix, which steers nothing."""
    cases, seen, original = {"blurred": GaussianBlur(2.0), "sharp": Compose()}, [], Pairs.__init__
    monkeypatch.setattr(skip_training, "MATRIX", cases)

    def init(self, *a, **k):
        original(self, *a, **k)
        seen.append(self)

    monkeypatch.setattr(Pairs, "__init__", init)
    options = {"degradation": "blind", "augment": Augment()}
    model, history = run(tmp_path / "a", 2, **options, validation=FACES[:2])
    assert type(seen[0].degradation).__name__ == "Blind" and seen[0].augment == Augment()
    for name, case in cases.items():
        for row in along_the_knob(model, Pairs(FACES[:2], case), random_lpips, None, (0, 1)):
            assert history[-1][f"val_PSNR at {row['knob']}, {name}"] == pytest.approx(row["PSNR"])
    other, history = run(tmp_path / "b", 2, **options)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert not any(k.startswith("val_") for k in history[-1])


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_one_place_decides_the_precision(run, monkeypatch, precision):
    """What COURSE_PRECISION names, the network computes in; the argument overrules it."""
    seen, original = [], SkipModel.forward

    def forward(self, *rest, **more):
        seen.append(torch.is_autocast_enabled("cpu"))
        return original(self, *rest, **more)

    monkeypatch.setattr(SkipModel, "forward", forward)
    monkeypatch.setenv("COURSE_PRECISION", precision)
    run(None, 1)
    run(None, 1, precision="no")
    assert seen == [precision == "bf16", False]


@torch.no_grad()
def test_checkpoint_comes_back(model, batch, tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", model, {}, "8-bit")
    other = SkipModel(image_size=64, **SHAPE).eval()
    load_checkpoint(tmp_path / "a.safetensors", other)
    for ours, theirs in zip(other.both(batch.input)[:2], model.both(batch.input)[:2], strict=True):
        assert (ours - theirs).abs().mean() < 0.05 * (theirs - batch.input[:, :3]).abs().mean()


# ---------------------------------------------------------------------------------------------------------------------
# Along the knob


def test_along_the_knob_by_hand(model, random_lpips):
    """Each position: the picture that the model gives there, measured as everywhere; beyond the end too."""
    pairs = Pairs(FACES[:5])
    rows = along_the_knob(model, pairs, random_lpips, FACES[6:], knobs=(0, 0.4, 1.2), batch_size=2)
    assert [r["knob"] for r in rows] == [0, 0.4, 1.2]
    batch = pairs.batch(range(5))
    for row in rows:
        with torch.no_grad():
            restored = denormalise(model(batch.input, knob=row["knob"]))
        wanted = measure(restored, batch.sharp, random_lpips).mean()
        assert {k: row[k] for k in wanted.index} == pytest.approx(wanted.to_dict(), rel=1e-3)
        assert row["SWD"] == pytest.approx(sliced_wasserstein(restored, FACES[6:])["mean"], rel=1e-3)


def test_pictures_that_come_back_count_60_db(random_lpips):
    """An untrained model gives back what goes in: of sharp pictures the PSNR is a number, not infinite."""
    (row,) = along_the_knob(SkipModel(image_size=64, **SHAPE), Pairs(FACES[:2], Compose()), random_lpips, None, (1,))
    assert (row["PSNR"], row["SSIM"], row[random_lpips.name]) == (60, 1, 0)


def test_over_cases_by_hand():
    """Means at each position; past 42 dB a case makes no position better than another."""
    rows = {
        "sharp": [{"knob": 0.0, "PSNR": 60.0, "LPIPS": 0.0}, {"knob": 0.6, "PSNR": 50.0, "LPIPS": 0.002}],
        "blurred": [{"knob": 0.0, "PSNR": 26.0, "LPIPS": 0.2}, {"knob": 0.6, "PSNR": 25.5, "LPIPS": 0.1}],
    }
    assert over_cases(rows) == [
        {"knob": 0.0, "PSNR": 43.0, "LPIPS": 0.1},
        {"knob": 0.6, "PSNR": 37.75, "LPIPS": pytest.approx(0.051)},
    ]
    assert [row["PSNR"] for row in over_cases(rows, 42)] == [34, 33.75]
    assert best_knob(over_cases(rows)) == 0 and best_knob(over_cases(rows, 42)) == 0.6
    many = {str(i): [{"knob": 0.6, "PSNR": 1.0}] for i in range(10)}
    assert over_cases(many)[0]["knob"] == 0.6  # itself, not a mean that may round


@pytest.mark.parametrize("metric", ["LPIPS", "LPIPS (random trunk)"])
def test_best_knob_by_hand(metric):
    """The lowest LPIPS among those at most 0.5 dB below the best PSNR, wherever that stands, but between the ends."""
    table = [(0.0, 27.9, 0.30), (0.2, 28.0, 0.20), (0.5, 27.5, 0.10), (0.7, 27.6, 0.12), (1.0, 27.4, 0.01)]
    rows = [{"knob": k, "PSNR": p, metric: value} for k, p, value in table]
    assert best_knob(rows) == 0.5
    assert best_knob(rows[:2]) == 0.2 and best_knob(rows[-1:]) == 1.0
    assert best_knob([*rows, {"knob": 1.2, "PSNR": 28.0, metric: 0.001}]) == 0.5


# ---------------------------------------------------------------------------------------------------------------------
# In a shell


@pytest.fixture
def shared(tmp_path, monkeypatch, random_lpips) -> list[str]:
    """Options: a folder for the run, and one of two pictures of each split."""
    monkeypatch.setattr(skip_training, "load_lpips", lambda device="cpu": random_lpips)
    for i, picture in enumerate(make_faces(6, 128)):
        folder = tmp_path / "photos" / ("train", "val", "test")[i // 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{i:03d}.png")
    return ["--out", str(tmp_path / "run"), "--data", str(tmp_path / "photos"), "--limit", "2"]


def test_command_line(shared, tmp_path, capsys):
    """From picture files to the shipped form, a step at 128 px; then the knob is chosen on the validation pictures."""
    skip_training.main([*shared, "--batch-size", "2", "--train-steps", "1"])
    assert "skip.safetensors" in capsys.readouterr().out
    path = tmp_path / "run" / "skip.safetensors"
    about = load_checkpoint(path, SkipModel())
    assert about["training_data"] == "2 photographs" and about["precision"] == "8-bit" and about["latent_dim"] == 256
    assert about["weights"] == vars(skip_training.WEIGHTS) and set(about["history"]) >= {"l1", "fidelity", "total"}
    assert about["in_channels"] == 4 and about["training_precision"] in ("no", "bf16")
    assert "val_PSNR at 0" in about["history"] and "val_PSNR at 1" in about["history"]
    assert path.stat().st_size < 25e6 and count_parameters(SkipModel()) > 4e6
    before = path.read_bytes()
    skip_training.main([*shared, "--measure", "--elsewhere", "faces"])
    assert "chosen on the validation set: knob" in capsys.readouterr().out
    measured = read_about(path)
    rows = measured["along the knob"]
    assert measured["knob"] == best_knob(rows["val"]) and {**about, **measured} == measured
    assert [r["knob"] for r in rows["test"]] == [r["knob"] for r in rows["val"]] == list(skip_training.KNOBS)
    assert measured["elsewhere"]["rendered faces"]["knob"] == measured["knob"]
    assert rows["test"] != rows["val"] and path.read_bytes() == before
    assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) == measured


def test_command_line_without_an_edge_map(shared, tmp_path, monkeypatch):
    """The JSON says so, and measuring and restoring go by it."""
    skip_training.main(
        [*shared, "--batch-size", "2", "--train-steps", "1", "--in-channels", "3", "--validate-every", "0"]
    )
    path = tmp_path / "run" / "skip.safetensors"
    about = read_about(path)
    assert about["in_channels"] == 3 and not any(k.startswith("val_") for k in about["history"])
    skip_training.main([*shared, "--measure"])
    assert len(read_about(path)["along the knob"]["test"]) == len(skip_training.KNOBS)
    monkeypatch.setattr(methods, "shipped", lambda name: path)
    method, blurred = methods.load_method("skip"), Pairs(make_faces(1, 128)).batch([0]).blurred
    empty = np.zeros(blurred.shape[:3], np.uint8)
    assert not method.edge_aware and np.array_equal(method.restore(blurred), method.restore(blurred, edges=empty))


def test_the_knob_is_chosen_on_validation_alone(tmp_path, monkeypatch):
    """Rows that would choose 0.2 on the validation and 0.9 on the test set."""
    save_checkpoint(tmp_path / "skip.safetensors", SkipModel(), {"name": "skip"}, "half")
    monkeypatch.setattr(skip_training, "load_lpips", lambda device: None)
    monkeypatch.setattr(
        skip_training, "named_sets", lambda data, split, limit: [[np.full((16, 16, 3), len(split), "u1")]]
    )

    def rows(model, pairs, lpips, reference):
        val = pairs.sharp[0].max() == len("val")
        # Realism is judged on the test set alone, and by the other set.
        assert reference is None if val else reference.max() == len("val")
        return [{"knob": k, "PSNR": 25.0, "LPIPS": abs(k - (0.2 if val else 0.9))} for k in (0.2, 0.9)]

    monkeypatch.setattr(skip_training, "along_the_knob", rows)
    skip_training.main(["--out", str(tmp_path), "--measure"])
    assert read_about(tmp_path / "skip.safetensors")["knob"] == 0.2


def test_command_line_blind(shared, tmp_path, monkeypatch):
    """A folder and the shipped faces, each with its share; validated, chosen and measured over the matrix."""
    cases = {"Gaussian": MATRIX["Gaussian"], "sharp": MATRIX["sharp"]}
    monkeypatch.setattr(skip_training, "MATRIX", cases)
    seen, original = {}, train

    def spy(images, *rest, **settings):
        seen.update(settings, images=images)
        return original(images, *rest, **settings)

    monkeypatch.setattr(skip_training, "train", spy)
    blind = [*shared, "--name", "blind"]
    command = [*blind, "--data", "faces", "--shares", "2", "1", "--degradation", "blind", "--augment"]
    skip_training.main([*command, "--train-steps", "1", "--batch-size", "2", "--fidelity", "0.2"])
    assert repr(seen["images"]) == "Mixed(4 of 2 + 2 of 2)" and seen["augment"] == Augment()
    pictures = make_faces(6, 128)
    assert np.array_equal(seen["validation"], [pictures[2], load_faces("val", 1)[0]])
    path = tmp_path / "run" / "blind.safetensors"
    about = read_about(path)
    assert about["training_data"] == "2 photographs + 2 shipped faces, shares 2 : 1" and about["name"] == "blind"
    assert about["degradation"] == "blind" and about["augment"] == repr(Augment()) and about["fidelity"] == 0.2
    assert {"val_PSNR at 0, Gaussian", "val_PSNR at 1, sharp"} <= about["history"].keys()
    assert str(tmp_path) not in json.dumps(about) and 0 < about["hours"] < 1
    monkeypatch.setattr(skip_training, "KNOBS", (0, 1))
    skip_training.main([*blind, "--data", "faces", "--measure", "--elsewhere", str(tmp_path / "photos")])
    measured = read_about(path)
    assert {**about, **measured} == measured and list(measured["matrix"]) == list(cases)
    assert measured["measured on"]["test"] == "2 photographs + 2 shipped faces"
    sharp = np.concatenate([pictures[4:], load_faces("test", 2)])
    assert measured["knob"] in (0, 1) and all(r["knob"] == measured["knob"] for r in measured["matrix"].values())
    model = SkipModel()
    load_checkpoint(path, model)
    metric = skip_training.load_lpips()
    (row,) = along_the_knob(model, Pairs(sharp, cases["Gaussian"]), metric, None, (measured["knob"],))
    assert measured["matrix"]["Gaussian"] == pytest.approx(row)
    assert measured["elsewhere"]["photographs"]["knob"] == measured["knob"]


# ---------------------------------------------------------------------------------------------------------------------
# The checkpoint of a run


def test_export_of_a_run_that_was_stopped(run, tmp_path, monkeypatch):
    """The average as it is by then, and how far it came."""
    start = tmp_path / "start.safetensors"
    stage = {"steps": 7, "batch_size": 2, "training_data": "x", "hours": 0.1, "hardware": "a card", "stopped": "early"}
    save_checkpoint(start, SkipModel(image_size=64, **SHAPE), stage | {"versions": {"torch": "2"}})
    plain, average = runs.run, {}

    def stopped(out, settings, parts, step, steps, emas, **more):
        history = plain(out, settings, parts, step, 2, emas, **more)
        average.update(emas[0].module.state_dict())
        return history

    monkeypatch.setattr(runs, "run", stopped)
    run(tmp_path / "run", 5, source="12 drawings", start=start, degradation="blind")
    about = export(tmp_path / "run", tmp_path / "new" / "mine.safetensors")
    assert about["stopped"] == "stopped after 2 of 5 steps" and about["name"] == "mine"
    assert (about["steps"], about["images_seen"], about["batch_size"]) == (2, 8, 4) and about["hours"] >= 0
    assert about["training_data"] == "12 drawings" and about["degradation"] == "blind"
    assert about["before"] == [stage]
    assert about["hardware"].startswith("CPU") and about["history"]["step"] == 2
    model = methods.Skip("cpu", tmp_path / "new" / "mine.safetensors").model
    for name, value in model.state_dict().items():
        assert (value - average[name]).abs().max() <= 0.6 * average[name].abs().max() / 127, name
    start.with_suffix(".json").unlink()
    assert export(tmp_path / "run", tmp_path / "a.safetensors")["before"] == [{"checkpoint": "start.safetensors"}]


def test_export_of_a_finished_run(finished, tmp_path):
    about = export(finished[2], tmp_path / "a.safetensors", "12 drawings")
    assert "stopped" not in about and "before" not in about and about["steps"] == 3
    with pytest.raises(TrainingError, match="does not say what it was trained on; --trained-on"):
        export(finished[2], tmp_path / "b.safetensors")
    with pytest.raises(TrainingError, match="holds no run"):
        export(tmp_path / "none", tmp_path / "b.safetensors", "x")
    assert not (tmp_path / "b.safetensors").exists()


def test_export_of_another_network(tmp_path):
    torch.save({"settings": {"steps": 1}, "done": 1, "history": [], "state.model": {}}, tmp_path / "state.pt")
    with pytest.raises(TrainingError, match="another network than the skip model"):
        export(tmp_path, tmp_path / "a.safetensors", "x")


def test_export_of_another_training_of_the_same_network(finished, tmp_path):
    """Its settings name no fidelity term."""
    state = runs.read_state(finished[2])
    state["settings"].pop("fidelity")
    torch.save({"format": 2, **{k: state[k] for k in ("settings", "plain", "parts")}}, tmp_path / "state.pt")
    with pytest.raises(TrainingError, match="another network than the skip model"):
        export(tmp_path, tmp_path / "a.safetensors", "x")


def test_a_run_of_an_earlier_version(finished, run, tmp_path):
    """It goes on under the same settings, is refused under others, and is exported with what it does not tell."""
    model, history, out = finished
    state = torch.load(out / "state.pt", weights_only=True)
    settings = {k: v for k, v in state["settings"].items() if k not in ("precision", "pictures", *model.shape)}
    settings |= SHAPE | {"widths": list(SHAPE["widths"]), "depths": list(SHAPE["depths"]), "image_size": 64}
    parts = {f"state.{k}": v for k, v in state["parts"].items() if k != "scaler"}
    old = {"settings": settings, "done": 3, "history": history, **parts}
    torch.save(old, tmp_path / "state.pt")
    again, _ = run(tmp_path, 3)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in again.state_dict().items())
    with pytest.raises(TrainingError, match="rate: "):
        run(tmp_path, 3, rate=5.0)
    torch.save(old, tmp_path / "state.pt")
    path = tmp_path / "a.safetensors"
    command = ["--out", str(tmp_path), "--export", str(path), "--trained-on", "12 drawings", "--hours", "0.5"]
    skip_training.main(command)
    about = read_about(path)
    assert about["hours"] == 0.5 and about["training_data"] == "12 drawings" and about["images_seen"] == 12
    skip_training.main(command[:-2])
    assert "hours" not in read_about(path)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--limit", "2", "--data", "faces", "--shares", "1", "2"], "1 sets need 1 shares"),
        (["--data", "nowhere", "--data", "faces"], "nowhere"),
        (["--export", "a.safetensors"], "run: holds no run"),
        (["--limit", "1", "--batch-size", "2"], "fewer than one batch"),
        (["--measure"], "there is no such checkpoint"),
    ],
)
def test_errors_are_one_sentence(command, told, tmp_path, monkeypatch, random_lpips):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(skip_training, "load_lpips", lambda device="cpu": random_lpips)
    with pytest.raises(SystemExit) as error:
        skip_training.main(["--out", "run", *command])
    text = str(error.value.code)
    assert text.startswith("error: ") and "\n" not in text and told in text
