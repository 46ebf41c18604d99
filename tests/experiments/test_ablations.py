"""helpers.experiments.ablations: what each variant feeds and trains, resumption, measures, the tiny experiment."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.data import ImageError, denormalise, load_faces, square
from helpers.edges import edge_maps
from helpers.engine.runs import TrainingError
from helpers.experiments import ablations, adversarial, hypotheses
from helpers.experiments.ablations import (
    SECOND,
    Feed,
    build,
    examine,
    examine_codes,
    load_pictures,
    restore_all,
    run,
    run_all,
    train,
)
from helpers.experiments.results import collect, differences
from helpers.experiments.variants import ALL, PRESETS, VARIANTS, Preset, Variant, blur, other_degradations, seed_of
from helpers.losses import Weights
from helpers.metrics import measure
from helpers.networks import DeblurModel
from helpers.perceptual import Lpips
from helpers.seeds import SEED
from tests.conftest import make_faces
from tests.experiments.test_results import made

FACES = make_faces(12, 64)
MICRO = Preset(64, 8, 4, 4, 1, (8, 4, 4))
# LPIPS takes most of the time, and what the tests ask does not depend on it.
QUICK = Weights(lpips=0.0)
PARTS = ("deblur_encoder", "generator", "latent_encoder")


def quick(name: str, **changed) -> Variant:
    return replace(ALL[name], **{"weights": QUICK, "latent_dim": 16, **changed})


def test_the_skip_models_variants_run(random_lpips):
    """The second baseline goes through the same run: trained, measured, its code examined; and it is no DeblurModel."""
    small = replace(PRESETS["tiny"], steps=3, faces=(12, 6, 6))
    pictures = ablations.load_pictures(small)
    record = ablations.run("skip-edges-none", 1, small, pictures, random_lpips, random_lpips, progress=False)
    assert len(record["test"]["PSNR"]) == 6 and record["curve"][-1]["step"] == 3
    assert record["settings"]["network"] == "skip" and record["codes"]["z_deblur"]["variance"] > 0
    model = ablations.build(VARIANTS["skip"], small)
    inputs = torch.rand(2, 4, 64, 64)
    assert torch.equal(model.encode(inputs), model.deblur_encoder(inputs)[0]) and model.encode(inputs).shape == (2, 512)


def test_pictures(tmp_path):
    """The shipped faces at the preset's size, its first so many; photographs beside them where a folder is named."""
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        (tmp_path / split).mkdir()
        for i, picture in enumerate(make_faces(count, 80)):
            Image.fromarray(picture).save(tmp_path / split / f"{i}.png")
    pictures = load_pictures(MICRO)
    assert list(pictures) == ["faces"] and {k: len(v) for k, v in pictures["faces"].items()} == {
        "train": 8, "val": 4, "test": 4
    }  # fmt: skip
    assert np.array_equal(pictures["faces"]["test"], [square(f, 64) for f in load_faces("test", 4)])
    both = load_pictures(MICRO, tmp_path)
    assert {k: v.shape for k, v in both["photographs"].items()} == {
        "train": (3, 64, 64, 3), "val": (1, 64, 64, 3), "test": (2, 64, 64, 3)
    }  # fmt: skip
    assert all(np.array_equal(both["faces"][k], v) for k, v in pictures["faces"].items())


# ---------------------------------------------------------------------------------------------------------------------
# Edges


def fed(variant: Variant, flip=False, epoch=None):
    feed = Feed(FACES, variant, blur(64), flip=flip)
    batch = feed.pairs.batch(range(6), epoch)
    return feed.inputs(batch.input), batch


@pytest.mark.parametrize("name", ["edges-none", "edges-oracle", "edges-shuffled", "edges-many", "edges-few"])
@pytest.mark.parametrize("epoch", [None, 3])
def test_only_the_fourth_channel_differs(name, epoch):
    """Same faces, same blur, same mirror, another edge map; in training as in the test."""
    own, batch = fed(VARIANTS["thesis"], flip=True, epoch=epoch)
    other, same = fed(VARIANTS[name], flip=True, epoch=epoch)
    assert torch.equal(own[:, :3], other[:, :3]) and torch.equal(batch.target, same.target)
    assert not torch.equal(own[:, 3], other[:, 3])


def test_kinds_of_edge_map_by_hand():
    own, batch = fed(VARIANTS["thesis"])
    assert np.array_equal(own[:, 3].numpy(), edge_maps(batch.blurred, (8, 24))) and own[:, 3].sum() > 100
    assert fed(VARIANTS["edges-none"])[0][:, 3].abs().sum() == 0
    assert np.array_equal(fed(VARIANTS["edges-oracle"])[0][:, 3].numpy(), edge_maps(batch.sharp, (8, 24)))
    shuffled = fed(VARIANTS["edges-shuffled"])[0][:, 3]
    for i in range(6):
        assert torch.equal(shuffled[i], own[i - 1, 3]) and not torch.equal(shuffled[i], own[i, 3])
    for name, thresholds in (("edges-many", (2, 6)), ("edges-few", (30, 90))):
        assert np.array_equal(fed(VARIANTS[name])[0][:, 3].numpy(), edge_maps(batch.blurred, thresholds))
    many, few = (fed(VARIANTS[n])[0][:, 3].sum() for n in ("edges-many", "edges-few"))
    assert many > own[:, 3].sum() > few


@pytest.mark.parametrize("name", ["edges-none", "edges-shuffled"])
def test_a_batch_stays_as_it_was(name):
    """Asked twice, the feed gives the same: it changes a copy."""
    feed = Feed(FACES, VARIANTS[name], blur(64))
    batch = feed.pairs.batch(range(4))
    before, first = batch.input.clone(), feed.inputs(batch.input)
    assert torch.equal(feed.inputs(batch.input), first) and torch.equal(batch.input, before)


# ---------------------------------------------------------------------------------------------------------------------
# Training


@pytest.fixture
def watched(monkeypatch, random_lpips):
    """Train a variant and look at its networks before each step and at the end: (states, targets, model, curve)."""

    def train_and_look(variant: Variant, preset: Preset = MICRO, seed: int = 0):
        states, targets, models = [], [], []
        make, batches = ablations.DeblurModel, ablations.StepBatches.__call__

        def remember(*arguments):
            models.append(make(*arguments))
            return models[-1]

        def look(*arguments):
            states.append({k: v.clone() for k, v in models[-1].state_dict().items()})
            inputs, target = batches(*arguments)
            targets.append(target)
            return inputs, target

        with monkeypatch.context() as patch:
            patch.setattr(ablations, "DeblurModel", remember)
            patch.setattr(ablations.StepBatches, "__call__", look)
            model, curve = train(variant, preset, FACES[:8], seed, random_lpips, blur(64), FACES[8:], progress=False)
        assert model is models[-1] and not model.training
        return [*states, model.state_dict()], targets, model, curve

    return train_and_look


def moved(before: dict, after: dict, statistics: bool = False) -> set[str]:
    """The parts whose weights (or batch statistics) changed."""
    return {
        name.split(".")[0]
        for name, value in before.items()
        if ("running" in name) == statistics and "num_batches" not in name and not torch.equal(value, after[name])
    }


def same(a: dict, b: dict, part: str) -> bool:
    return all(torch.equal(v, b[k]) for k, v in a.items() if k.startswith(part + ".") and "running" not in k)


def test_joint_training_moves_all(watched):
    states, _, _, _ = watched(quick("thesis"))
    assert len(states) == 5
    for before, after in zip(states, states[1:], strict=False):
        assert moved(before, after) == moved(before, after, statistics=True) == set(PARTS)


def test_stop_sends_no_gradient_to_the_latent_encoder(watched):
    """Its weights stay as drawn, while its batch statistics go on; the first step of the others is the thesis's own."""
    states, _, _, _ = watched(quick("latent-stop"))
    assert moved(states[0], states[-1]) == {"deblur_encoder", "generator"}
    assert moved(states[0], states[-1], statistics=True) == set(PARTS)
    joint, _, _, _ = watched(quick("thesis"))
    assert all(same(joint[0], states[0], part) for part in PARTS)
    assert same(joint[1], states[1], "deblur_encoder") and same(joint[1], states[1], "generator")
    assert not same(joint[1], states[1], "latent_encoder") and not same(joint[-1], states[-1], "deblur_encoder")


def test_anchored_is_decoded_too(watched):
    """Without equation 40 only the decoded z_gt can teach the LatentEncoder."""
    without = Weights(lpips=0.0, latent=0.0)
    assert moved(*watched(quick("thesis", weights=without))[0][::4]) == {"deblur_encoder", "generator"}
    assert moved(*watched(quick("latent-anchored", weights=without))[0][::4]) == set(PARTS)


def test_held_teaches_the_latent_encoder_alone(watched):
    """Decoding z_gt sends a gradient into the code and none into the Generator, whose first step is the thesis's own,
    batch statistics included; it decodes the same picture as "anchored" does."""
    without = Weights(lpips=0.0, latent=0.0)
    plain, held = (watched(quick(name, weights=without))[0] for name in ("thesis", "latent-held"))
    assert moved(held[0], held[-1]) == set(PARTS)
    assert all(torch.equal(plain[1][k], v) for k, v in held[1].items() if not k.startswith("latent_encoder"))
    model, target, code = DeblurModel(16, 64, 4), torch.rand(2, 3, 64, 64), torch.rand(2, 16)
    outputs = (target, None, code, code)
    free = ablations.TotalLoss(None, without)
    joint, anchored, held = (
        ablations.total_loss(model, quick(n, weights=without), free, outputs, target)
        for n in ("thesis", "latent-anchored", "latent-held")
    )
    assert held > joint and torch.equal(held, anchored)


def test_a_code_of_all_places():
    """Not pooled: four places of 8·width maps at 64 pixels; the code still has its own length."""
    model = build(quick("thesis", pooled=False), MICRO)
    assert model.deblur_encoder.fc.in_features == 4 * 8 * MICRO.width
    inputs = torch.rand(2, 4, 64, 64)
    assert model.eval().deblur_encoder(inputs).shape == (2, 16) and model(inputs).shape == (2, 3, 64, 64)
    assert build(quick("thesis"), MICRO).deblur_encoder.fc.in_features == 8 * MICRO.width


def test_the_presets_code():
    assert build(VARIANTS["thesis"], replace(MICRO, code=64)).latent_dim == 64
    assert build(VARIANTS["code-64"], replace(MICRO, code=64)).latent_dim == 8


@pytest.mark.parametrize("steps", [4, 5, 15])
def test_staged_training_freezes(watched, steps):
    """First LatentEncoder and Generator alone, then DeblurEncoder alone; statistics are frozen too, whether or not the
    change of stage falls on a point of the curve."""
    states, _, model, _ = watched(quick("latent-staged"), replace(MICRO, steps=steps, batch_size=2))
    half = steps // 2
    for before, after in zip(states[:half], states[1 : half + 1], strict=True):
        assert moved(before, after) == moved(before, after, statistics=True) == {"generator", "latent_encoder"}
    for before, after in zip(states[half:-1], states[half + 1 :], strict=True):
        assert moved(before, after) == moved(before, after, statistics=True) == {"deblur_encoder"}
    assert not any(p.requires_grad for p in model.generator.parameters())


def test_the_discriminator_is_an_option(watched, monkeypatch):
    """Weight 0 makes none. With one, networks start as the thesis's, the generator goes another way, the judge learns;
    the weight decides how far."""
    judges, original = [], adversarial.PatchDiscriminator

    def make():
        judges.append((original(8), {}))
        judges[-1][1].update({k: v.clone() for k, v in judges[-1][0].state_dict().items()})
        return judges[-1][0]

    monkeypatch.setattr(adversarial, "PatchDiscriminator", make)
    short = replace(MICRO, steps=2)
    plain, targets, _, _ = watched(quick("thesis"), short)
    assert judges == []
    ends = []
    for weight in (1e-12, 0.05):
        states, others, _, _ = watched(quick("thesis", adversarial=weight), short)
        assert all(same(plain[0], states[0], part) for part in PARTS)
        assert all(torch.equal(a, b) for a, b in zip(targets, others, strict=True))
        ends.append(sum((plain[-1][k] - v).abs().sum().item() for k, v in states[-1].items() if "generator" in k))
        judge, before = judges[-1]
        assert all(not torch.equal(before[k], v) for k, v in judge.state_dict().items() if k.endswith("original"))
    assert ends[0] < 0.1 * ends[1]


def test_same_faces_in_the_same_order(watched):
    """All variants of one seed see the same sharp pictures step by step and start alike; another seed does neither."""
    states, targets, _, _ = watched(quick("thesis"))
    for name in ("edges-oracle", "edges-shuffled", "latent-staged"):
        others, seen, _, _ = watched(quick(name))
        assert all(torch.equal(a, b) for a, b in zip(targets, seen, strict=True))
        assert all(same(states[0], others[0], part) for part in PARTS)
    again, _, _, _ = watched(quick("thesis"))
    assert all(torch.equal(v, again[-1][k]) for k, v in states[-1].items())
    others, seen, _, _ = watched(quick("thesis"), seed=1)
    assert not torch.equal(targets[0], seen[0]) and not same(states[0], others[0], "generator")


def test_rate_is_halved_each_quarter(random_lpips, monkeypatch):
    seen, original = [], torch.optim.Adam

    class Spy(original):
        def step(self, *rest):
            seen.append(self.param_groups[0]["lr"])
            return super().step(*rest)

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    preset = replace(MICRO, steps=8, rate=8e-3, batch_size=2)
    train(quick("thesis"), preset, FACES[:8], 0, random_lpips, blur(64), FACES[8:], progress=False)
    assert seen == pytest.approx([8e-3, 8e-3, 4e-3, 4e-3, 2e-3, 2e-3, 1e-3, 1e-3])
    seen.clear()
    smooth = replace(preset, schedule="cosine", steps=3)
    train(quick("thesis"), smooth, FACES[:8], 0, random_lpips, blur(64), FACES[8:], progress=False)
    assert seen == pytest.approx([smooth.rate_at(i) for i in range(3)]) and seen[2] < seen[0]


def test_the_curve(watched):
    """At most twelve points; the last is the L1 of what the finished model makes of the validation pictures."""
    _, _, model, curve = watched(quick("thesis"))
    assert [c["step"] for c in curve] == [1, 2, 3, 4]
    restored = restore_all(model, Feed(FACES[8:], quick("thesis"), blur(64)))
    wanted = measure(restored, FACES[8:])["L1"].mean()
    assert curve[-1]["val_L1"] == pytest.approx(wanted, rel=1e-5)
    _, _, _, longer = watched(quick("thesis"), replace(MICRO, steps=24, batch_size=2, rate=3e-3))
    assert [c["step"] for c in longer] == list(range(2, 25, 2))
    assert longer[-1]["loss"] < 0.9 * longer[0]["loss"]


@pytest.mark.parametrize("changed", [{"adversarial": 0.05}, {"latent": "staged"}])
def test_interrupted_equals_uninterrupted(changed, random_lpips, tmp_path, monkeypatch):
    """Stopped in the second half, the same call again: the same weights and curve, the discriminator's part in it."""
    arguments = (quick("thesis", **changed), MICRO, FACES[:8], 0, random_lpips, blur(64), FACES[8:], False, tmp_path)
    whole, curve = train(*arguments[:-1])
    original, count = ablations.StepBatches.__call__, iter(range(1000))

    def batches(*rest):
        if next(count) == 3:
            raise KeyboardInterrupt
        return original(*rest)

    monkeypatch.setattr(ablations.StepBatches, "__call__", batches)
    with pytest.raises(KeyboardInterrupt):
        train(*arguments)
    torch.manual_seed(99)
    again, the_same = train(*arguments)
    assert the_same == curve and next(count) == 5  # one more step, not four
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items())
    with pytest.raises(TrainingError, match="no edges, seed 0, .*other settings .*variant"):
        train(quick("edges-none"), *arguments[1:])


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # two faces have no spread in some properties
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_one_place_decides_the_precision(precision, random_lpips, monkeypatch):
    """What COURSE_PRECISION names, the networks compute in, and the record says so."""
    seen = set()
    monkeypatch.setenv("COURSE_PRECISION", precision)
    forward = ablations.restore_in_training

    def look(*rest):
        seen.add(torch.is_autocast_enabled("cpu"))
        return forward(*rest)

    monkeypatch.setattr(ablations, "restore_in_training", look)
    pictures = {"faces": {"train": FACES[:4], "val": FACES[4:6], "test": FACES[6:8]}}
    record = run("only-l1", 0, replace(MICRO, steps=1), pictures, random_lpips, random_lpips, progress=False)
    assert seen == {precision == "bf16"} and record["precision"] == precision


def test_a_loss_that_is_not_finite_names_the_run(random_lpips):
    variant = quick("thesis", weights=Weights(l1=float("nan"), lpips=0.0))
    with pytest.raises(TrainingError, match="as the thesis, seed 7, step 1: the loss is not finite"):
        train(variant, MICRO, FACES[:8], 7, random_lpips, blur(64), FACES[8:], progress=False)
    with pytest.raises(TrainingError, match="2 training images are fewer than one batch of 4"):
        train(quick("thesis"), MICRO, FACES[:2], 7, random_lpips, blur(64), FACES[8:], progress=False)


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


@pytest.fixture(scope="module")
def small() -> DeblurModel:
    torch.manual_seed(0)
    return DeblurModel(16, 64, 4).eval()


def test_restore_by_hand(small):
    """In evaluation mode, with the variant's own edge map, in any batch; the mode is put back."""
    feed = Feed(FACES, VARIANTS["edges-oracle"], blur(64))
    with torch.no_grad():
        wanted = denormalise(small(feed.pairs.batch(range(12)).input))
    assert np.abs(restore_all(small, feed).astype(int) - wanted).max() <= 1  # rounding
    assert np.abs(restore_all(small, feed, batch_size=5).astype(int) - wanted).max() <= 1
    assert not small.training
    assert np.abs(restore_all(small.train(), feed).astype(int) - wanted).max() <= 1 and small.training
    small.eval()


def test_two_perceptual_measures(random_lpips):
    """The metric of the loss under the name LPIPS, and a second one that nothing was trained on."""
    other = Lpips(None)
    with torch.no_grad():
        other.weights0.mul_(5)
    blurred = Feed(FACES, VARIANTS["thesis"], blur(64)).pairs.batch(range(12)).blurred
    table = examine(blurred, FACES, other, random_lpips)
    assert list(table) == ["PSNR", "SSIM", "L1", "MSE", "LPIPS", SECOND] and len(table) == 12
    assert np.allclose(table["LPIPS"], measure(blurred, FACES, other)[other.name])
    assert np.allclose(table[SECOND], measure(blurred, FACES, random_lpips)[random_lpips.name])
    assert not np.allclose(table["LPIPS"], table[SECOND])


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # constant codes have no direction
def test_codes_by_hand():
    """Codes that are constants 1 and 3: no variance, 4 apart, and nothing to be read in them."""
    model = DeblurModel(16, 64, 4).eval()
    pictures = {"train": FACES[:8], "test": FACES[8:]}
    free = examine_codes(model, VARIANTS["thesis"], pictures, blur(64))
    feed = Feed(FACES[8:], VARIANTS["thesis"], blur(64))
    with torch.no_grad():
        batch = feed.pairs.batch(range(4))
        z_deblur, z_gt = model.deblur_encoder(batch.input), model.latent_encoder(batch.target)
    assert free["distance"] == pytest.approx((z_deblur - z_gt).square().mean().item(), rel=1e-4)
    assert free["z_gt"]["variance"] == pytest.approx(z_gt.var(0, correction=0).mean().item(), rel=1e-4)
    assert free["z_deblur"]["variance"] == pytest.approx(z_deblur.var(0, correction=0).mean().item(), rel=1e-4)
    with torch.no_grad():
        for encoder, value in ((model.deblur_encoder, 1), (model.latent_encoder, 3)):
            encoder.fc.weight.zero_()
            encoder.fc.bias.fill_(value)
    codes = examine_codes(model, VARIANTS["thesis"], pictures, blur(64))
    assert codes["distance"] == pytest.approx(4) and codes["z_gt"]["variance"] == codes["z_deblur"]["variance"] == 0
    assert all(r <= 0 for name in ("z_gt", "z_deblur") for r in codes[name]["probes"].values())


def test_a_record(random_lpips):
    """Trained on faces and photographs, measured on each apart; without photographs it says what it lacks."""
    pictures = {"faces": {"train": FACES[:8], "val": FACES[8:10], "test": FACES[9:12]}}
    with pytest.raises(ImageError, match="data-both is trained on photographs: name a folder of them"):
        run("data-both", 0, MICRO, pictures, random_lpips, random_lpips, progress=False)
    pictures["photographs"] = {k: v[:, ::-1] for k, v in pictures["faces"].items()}
    short = replace(MICRO, steps=1)
    record = run("data-both", 0, short, pictures, random_lpips, random_lpips, progress=False)
    assert record["training_images"] == 16 and record["images_seen"] == 4 and record["seed"] == 0
    assert record["settings"]["data"] == "both" and record["variant"] == "data-both"
    columns = {"PSNR", "SSIM", "L1", "MSE", "LPIPS", SECOND}
    assert set(record["test"]) == set(record["val"]) == set(record["photographs"]) == columns
    assert all(len(v) == 3 for v in record["test"].values()) and "other degradations" not in record
    assert record["photographs"]["PSNR"] != pytest.approx(np.mean(record["test"]["PSNR"]))
    model = DeblurModel(512, 64, 8)
    assert record["parameters"] == sum(
        p.numel() for n in (model.deblur_encoder, model.generator) for p in n.parameters()
    )
    assert json.loads(json.dumps(record))["settings"]["weights"] == asdict(Weights())


# ---------------------------------------------------------------------------------------------------------------------
# The tiny experiment from the command line


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, random_lpips):
    """The whole of the small preset, as CI runs it; its folder."""
    out = tmp_path_factory.mktemp("ablations") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "load_lpips", lambda: random_lpips)
        ablations.main(["--preset", "tiny", "--out", str(out)])
    return out


def test_tiny_is_complete(tiny, random_lpips):
    names = PRESETS["tiny"].variants
    files = {f"{name}-{SEED + i}.json" for name in names for i in range(2)}
    assert {p.name for p in tiny.iterdir()} == files | {"preset.json", "blurred.json"}
    results = collect(tiny)
    assert results["preset"] == json.loads(json.dumps(asdict(PRESETS["tiny"])))
    assert {(r["variant"], r["seed"]) for r in results["runs"]} == {(n, SEED + i) for n in names for i in range(2)}
    for record in results["runs"]:
        assert {k: len(v) for k, v in record["test"].items()} == dict.fromkeys(record["val"], 8)
        assert all(np.isfinite(v).all() for v in record["test"].values()) and record["images_seen"] == 24
        assert [c["step"] for c in record["curve"]] == list(range(1, 7)) and record["SWD"] > 0
        assert all(np.isfinite([c["loss"], c["val_L1"]]).all() for c in record["curve"])
        assert record["hardware"] and record["date"] and record["torch"] and record["seconds"] > 0
        assert record["lpips"] == random_lpips.name  # who reads the file learns what LPIPS stands for
        assert ("other degradations" in record) == (record["variant"] == "thesis")
    blurred = results["blurred"]
    assert blurred["SWD"] > blurred["SWD of sharp faces"] > 0
    kinds = set(other_degradations(64))
    thesis = next(r for r in results["runs"] if r["variant"] == "thesis")
    assert set(blurred["other degradations"]) == set(thesis["other degradations"]) == kinds
    assert blurred["other degradations"]["blur half as strong"]["PSNR"] > blurred["faces"]["PSNR"]


def test_tiny_says_what_differs(tiny):
    table = differences(collect(tiny), "PSNR")
    assert list(table.index) == list(PRESETS["tiny"].variants)
    assert table.loc["thesis", "verdict"] == "baseline" and table.loc["thesis", "difference"] == 0
    assert set(table["verdict"]) <= {"baseline", "better", "worse", "inside the noise"}
    for _, row in table.iterrows():
        assert row["low"] <= row["difference"] <= row["high"]


def test_only_what_is_missing_is_run_again(tiny, tmp_path, monkeypatch, random_lpips):
    """A run that was lost comes back the same, whatever ran before it; the others are not touched."""
    lost, kept = tiny / f"edges-none-{SEED + 1}.json", tiny / f"thesis-{SEED}.json"
    before, stamp = json.loads(lost.read_text(encoding="utf-8")), kept.stat().st_mtime_ns
    lost.unlink()
    original, called = ablations.run, []

    def spy(name, seed, *rest):
        called.append((name, seed))
        return original(name, seed, *rest)

    monkeypatch.setattr(ablations, "run", spy)
    run_all(PRESETS["tiny"], tiny, lpips=random_lpips, progress=False)
    assert called == [("edges-none", SEED + 1)] and kept.stat().st_mtime_ns == stamp
    again = json.loads(lost.read_text(encoding="utf-8"))
    assert {**again, "seconds": 0, "date": ""} == {**before, "seconds": 0, "date": ""}


def test_collected(tiny, tmp_path, capsys):
    to = tmp_path / "new" / "results.json"
    ablations.main(["--collect", str(tiny), "--to", str(to)])
    assert "wrote 8 runs" in capsys.readouterr().out
    assert json.loads(to.read_text(encoding="utf-8")) == collect(tiny)


def test_another_preset_is_refused(tiny, random_lpips):
    with pytest.raises(TrainingError, match="runs of another preset .*steps: 6 -> 7.*choose another folder"):
        run_all(replace(PRESETS["tiny"], steps=7), tiny, lpips=random_lpips, progress=False)
    assert json.loads((tiny / "preset.json").read_text(encoding="utf-8"))["steps"] == 6


@pytest.fixture
def pretended(monkeypatch, random_lpips):
    """Runs that take no time; the names and seeds that were asked for."""
    asked = []

    def pretend(name, seed, *rest):
        asked.append((name, seed - SEED))
        record = made(name, seed, [20.0 + len(name) + seed % 7, 21.0])
        record["test"] |= {"SSIM": [0.5, 0.6], "LPIPS": [0.1, 0.2]}
        return record | {"SWD": 100.0 + seed % 5}

    monkeypatch.setattr(ablations, "run", pretend)
    monkeypatch.setattr(ablations, "_blurred", lambda *rest: {"faces": {"PSNR": 18.0}})
    monkeypatch.setattr(ablations, "Lpips", lambda trunk: random_lpips)
    monkeypatch.setattr(ablations, "load_pictures", lambda p, d: {} if d is None else load_pictures(p, d))
    monkeypatch.setattr(ablations, "load_lpips", lambda: random_lpips)
    return asked


def test_parts_of_an_experiment(pretended, tmp_path, capsys):
    """Chosen variants and seeds; without a run of the baseline there is no table, and no error. More may follow."""
    out = tmp_path / "parts"
    ablations.main(["--out", str(out), "--variants", "edges-none", "only-l1", "--seeds", "1"])
    assert pretended == [("edges-none", 1), ("only-l1", 1)] and capsys.readouterr().out == ""
    ablations.main(["--out", str(out), "--variants", "thesis", "edges-none", "--seeds", "1", "2"])
    assert pretended[2:] == [("thesis", 1), ("thesis", 2), ("edges-none", 2)]
    table = capsys.readouterr().out
    assert "as the thesis" in table and "no edges" in table and "l1 alone" not in table  # which has one seed of two
    ablations.main(["--out", str(out), "--variants", "data-photographs", "latent-stop", "--seeds", "0"])
    assert pretended[5:] == [("latent-stop", 0)]  # no folder of photographs was named


def test_seed_by_seed_with_the_hours_to_go(pretended, tmp_path, capsys, monkeypatch):
    """All arms of the first seed, then of the second: stopped anywhere, no arm is more than one seed ahead. After each
    run a line says how long the rest takes, by what the runs of this call took: here a quarter of an hour each."""
    ticks = iter(range(0, 10**6, 900))
    monkeypatch.setattr(ablations.time, "perf_counter", lambda: float(next(ticks)))
    names, seeds = PRESETS["course"].variants, PRESETS["course"].seeds
    ablations.main(["--preset", "course", "--out", str(tmp_path), "--seeds", "0"])
    first = capsys.readouterr().err
    assert f"run 1 of {len(names)}, thesis-{SEED}: 900 s; about {(len(names) - 1) / 4:.1f} h to go" in first
    ablations.main(["--preset", "course", "--out", str(tmp_path)])
    assert pretended == [(name, seed_of(name, i) - SEED) for i in range(seeds) for name in names]
    lines = [line for line in capsys.readouterr().err.splitlines() if " h to go" in line]
    assert len(lines) == len(names) * (seeds - 1) and lines[-1].endswith("about 0.0 h to go")


def test_the_course_is_judged(pretended, tmp_path, capsys, monkeypatch):
    """The command claims, runs, prints verdicts; a changed hypothesis is refused before anything is trained."""
    out, to = tmp_path / "course", tmp_path / "results.json"
    ablations.main(["--preset", "course", "--out", str(out), "--seeds", "0", "1", "2"])
    assert capsys.readouterr().out.count("(3 seeds)") == len(hypotheses.HYPOTHESES)
    ablations.main(["--collect", str(out), "--to", str(to)])
    found = json.loads(to.read_text(encoding="utf-8"))
    assert found["effects"]["edges"]["seeds"] == 3 and found["hypotheses"] and found["date"]
    trained = len(pretended)
    more = ["--preset", "course", "--variants", "latent-held", "--seeds", "0", "1"]
    ablations.main([*more, "--add-to", str(to), "--out", str(tmp_path / "more")])
    assert pretended[trained:] == [("latent-held", 0), ("latent-held", 1)]  # the recorded ones are not trained again
    ablations.main(["--collect", str(tmp_path / "more"), "--to", str(to)])
    added = json.loads(to.read_text(encoding="utf-8"))["effects"]
    assert {name: added[name] for name in found["effects"]} == found["effects"] and "latent-held/PSNR" in added
    trained = len(pretended)
    monkeypatch.setattr(hypotheses, "HYPOTHESES", hypotheses.HYPOTHESES[:5])
    with pytest.raises(SystemExit, match="holds other hypotheses"):
        ablations.main(["--preset", "course", "--out", str(out), "--seeds", "3"])
    assert len(pretended) == trained


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["--out", "run", "--data", "nowhere"], "nowhere"),
        (["--collect", "empty", "--to", "x.json"], "empty: holds no ablations"),
        (["--collect", "begun", "--to", "x.json"], "begun: holds no ablations"),
        (["--out", "begun", "--preset", "laptop"], "runs of another preset"),
    ],
)
def test_errors_are_one_sentence(command, told, pretended, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "preset.json").write_text(json.dumps(asdict(PRESETS["tiny"])), encoding="utf-8")
    with pytest.raises(SystemExit) as error:
        ablations.main(command)
    text = str(error.value.code)
    assert text.startswith("error: ") and "\n" not in text and told in text


@pytest.mark.parametrize("command", [[], ["--collect", "x"], ["--to", "x"], ["--out", "x", "--to", "y"]])
def test_what_to_do_must_be_said(command, capsys):
    with pytest.raises(SystemExit):
        ablations.main(command)
    assert "give --out, or --collect and --to" in capsys.readouterr().err


def test_runs_are_added_in_a_folder(capsys):
    with pytest.raises(SystemExit):
        ablations.main(["--add-to", "x.json", "--collect", "x", "--to", "y.json"])
    assert "--add-to needs --out" in capsys.readouterr().err
