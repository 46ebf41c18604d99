"""helpers.ablations: what each variant changes and what it leaves, the tiny experiment, and what results say."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import ablations
from helpers.ablations import (
    PRESETS,
    SECOND,
    VARIANTS,
    Feed,
    Preset,
    Variant,
    blur,
    chosen_weights,
    collect,
    differences,
    examine,
    examine_codes,
    load_pictures,
    other_degradations,
    restore_all,
    run,
    run_all,
    train,
    values_of,
)
from helpers.data import ImageError, denormalise, load_faces, square
from helpers.degrade import preset as degradation_of
from helpers.edges import edge_maps
from helpers.losses import Weights
from helpers.metrics import measure
from helpers.networks import DeblurModel
from helpers.perceptual import Lpips
from helpers.seeds import SEED
from helpers.training import TrainingError
from tests.conftest import make_faces

FACES = make_faces(12, 64)
MICRO = Preset(64, 4, 6, 4, 1, (8, 4, 4))
# LPIPS takes most of the time, and what the tests ask does not depend on it.
QUICK = Weights(lpips=0.0)
PARTS = ("deblur_encoder", "generator", "latent_encoder")


def quick(name: str, **changed) -> Variant:
    return replace(VARIANTS[name], **{"weights": QUICK, "latent_dim": 16, **changed})


# ---------------------------------------------------------------------------------------------------------------------
# The table of variants and presets


def test_each_variant_changes_one_thing():
    """All but the baseline differ from the thesis in one field, beside what they are called."""
    for name, variant in VARIANTS.items():
        base = "skip" if name.startswith("skip-") else "thesis"
        changed = {k for k, v in asdict(variant).items() if v != asdict(VARIANTS[base])[k]} - {"group", "title"}
        assert len(changed) == (name != "thesis"), name
    assert len({v.title for v in VARIANTS.values()}) == len(VARIANTS) == 32
    thesis = VARIANTS["thesis"]
    assert thesis.weights == Weights() and thesis.edges == "blurred" and thesis.latent_dim == 512


@pytest.mark.parametrize("term", list(asdict(Weights())))
def test_terms_left_out_and_alone(term):
    """The weights that remain are the thesis's own."""
    own = asdict(Weights())
    assert asdict(VARIANTS[f"without-{term}"].weights) == {**own, term: 0}
    assert asdict(VARIANTS[f"only-{term}"].weights) == {**dict.fromkeys(own, 0), term: own[term]}


def test_the_skip_models_variants_run(random_ruler):
    """The second baseline goes through the same run: trained, measured, its code examined; and it is no DeblurModel."""
    small = replace(PRESETS["tiny"], steps=3, faces=(12, 6, 6))
    pictures = ablations.load_pictures(small)
    record = ablations.run("skip-edges-none", 1, small, pictures, random_ruler, random_ruler, progress=False)
    assert len(record["test"]["PSNR"]) == 6 and record["curve"][-1]["step"] == 3
    assert record["settings"]["network"] == "skip" and record["codes"]["z_deblur"]["variance"] > 0
    model = ablations.build(VARIANTS["skip"], small)
    inputs = torch.rand(2, 4, 64, 64)
    assert torch.equal(model.encode(inputs), model.deblur_encoder(inputs)[0]) and model.encode(inputs).shape == (2, 512)


def test_presets():
    assert set(PRESETS["tiny"].variants) < set(VARIANTS) and "thesis" in PRESETS["tiny"].variants
    for name in ("laptop", "full"):
        assert PRESETS[name].variants == tuple(VARIANTS) and PRESETS[name].seeds >= 3
    short, longer = asdict(PRESETS["laptop"]), asdict(PRESETS["longer"])
    assert {k for k in short if short[k] != longer[k]} == {"steps", "variants"}
    assert longer["steps"] == 3 * short["steps"]
    assert set(PRESETS["longer"].variants) < set(VARIANTS)
    assert (PRESETS["full"].image_size, PRESETS["full"].width, PRESETS["full"].rate) == (128, 64, 2e-4)  # the thesis


# ---------------------------------------------------------------------------------------------------------------------
# Blur and pictures


def test_blur_scales_with_the_picture():
    own = degradation_of("celebablur")
    assert (blur(128).sigma, blur(128).kernel_size) == (own.sigma, own.kernel_size)
    assert (blur(64).sigma, blur(64).kernel_size) == ((2, 4), 11)
    assert (blur(128, 1.5).sigma, blur(128, 1.5).kernel_size) == ((6, 12), 31)
    assert (blur(128, 0.5).sigma, blur(128, 0.5).kernel_size) == ((2, 4), 21)


@pytest.mark.parametrize("size", [64, 128])
def test_other_degradations(size):
    """All work at both sizes and none is the training's; half the blur leaves more, 1.5 times leaves less."""
    images = torch.from_numpy(make_faces(3, size)).movedim(-1, 1).float() / 255
    usual = (blur(size)(images, rng=np.random.default_rng(0)) - images).square().mean()
    errors = {
        kind: (other(images, rng=np.random.default_rng(0)) - images).square().mean() / usual
        for kind, other in other_degradations(size).items()
    }
    assert errors["blur half as strong"] < 0.95 and errors["blur 1.5 times as strong"] > 1.05
    assert len(errors) == 5 and all(0 < e < 3 and abs(e - 1) > 1e-3 for e in errors.values())


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
    return feed.inputs(batch), batch


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
    before, first = batch.input.clone(), feed.inputs(batch)
    assert torch.equal(feed.inputs(batch), first) and torch.equal(batch.input, before)


# ---------------------------------------------------------------------------------------------------------------------
# Training


@pytest.fixture
def watched(monkeypatch, random_ruler):
    """Train a variant and look at its networks before each step and at the end: (states, targets, model, curve)."""

    def train_and_look(variant: Variant, preset: Preset = MICRO, seed: int = 0):
        states, targets, models = [], [], []
        make, batch_of = ablations.DeblurModel, ablations.batch_of

        def remember(*arguments):
            models.append(make(*arguments))
            return models[-1]

        def look(*arguments):
            states.append({k: v.clone() for k, v in models[-1].state_dict().items()})
            batch = batch_of(*arguments)
            targets.append(batch.target)
            return batch

        with monkeypatch.context() as patch:
            patch.setattr(ablations, "DeblurModel", remember)
            patch.setattr(ablations, "batch_of", look)
            model, curve = train(variant, preset, FACES[:8], seed, random_ruler, blur(64), FACES[8:], progress=False)
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
    assert len(states) == 7
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
    assert moved(*watched(quick("thesis", weights=without))[0][::6]) == {"deblur_encoder", "generator"}
    assert moved(*watched(quick("latent-anchored", weights=without))[0][::6]) == set(PARTS)


@pytest.mark.parametrize("steps", [6, 7, 27])
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
    judges, original = [], ablations.PatchDiscriminator

    def make():
        judges.append((original(8), {}))
        judges[-1][1].update({k: v.clone() for k, v in judges[-1][0].state_dict().items()})
        return judges[-1][0]

    monkeypatch.setattr(ablations, "PatchDiscriminator", make)
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


def test_rate_is_halved_each_quarter(random_ruler, monkeypatch):
    seen, original = [], torch.optim.Adam

    class Spy(original):
        def step(self, *rest):
            seen.append(self.param_groups[0]["lr"])
            return super().step(*rest)

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    preset = replace(MICRO, steps=8, rate=8e-3, batch_size=2)
    train(quick("thesis"), preset, FACES[:8], 0, random_ruler, blur(64), FACES[8:], progress=False)
    assert seen == pytest.approx([8e-3, 8e-3, 4e-3, 4e-3, 2e-3, 2e-3, 1e-3, 1e-3])


def test_the_curve(watched):
    """At most twelve points; the last is the L1 of what the finished model makes of the validation pictures."""
    _, _, model, curve = watched(quick("thesis"))
    assert [c["step"] for c in curve] == [1, 2, 3, 4, 5, 6]
    restored = restore_all(model, Feed(FACES[8:], quick("thesis"), blur(64)))
    wanted = measure(restored, FACES[8:])["L1"].mean()
    assert curve[-1]["val_L1"] == pytest.approx(wanted, rel=1e-5)
    _, _, _, longer = watched(quick("thesis"), replace(MICRO, steps=36, batch_size=2, rate=3e-3))
    assert [c["step"] for c in longer] == list(range(3, 37, 3))
    assert longer[-1]["loss"] < 0.9 * longer[0]["loss"]


def test_a_loss_that_is_not_finite_names_the_run(random_ruler):
    variant = quick("thesis", weights=Weights(l1=float("nan"), lpips=0.0))
    with pytest.raises(TrainingError, match="as the thesis, seed 7, step 1: the loss is not finite"):
        train(variant, MICRO, FACES[:8], 7, random_ruler, blur(64), FACES[8:], progress=False)
    with pytest.raises(TrainingError, match="2 training images are fewer than one batch of 4"):
        train(quick("thesis"), MICRO, FACES[:2], 7, random_ruler, blur(64), FACES[8:], progress=False)


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


def test_two_perceptual_measures(random_ruler):
    """The ruler of the loss under the name LPIPS, and a second one that nothing was trained on."""
    other = Lpips(None)
    with torch.no_grad():
        other.net.lins[0].model[-1].weight.mul_(5)
    blurred = Feed(FACES, VARIANTS["thesis"], blur(64)).pairs.batch(range(12)).blurred
    table = examine(blurred, FACES, other, random_ruler)
    assert list(table) == ["PSNR", "SSIM", "L1", "MSE", "LPIPS", SECOND] and len(table) == 12
    assert np.allclose(table["LPIPS"], measure(blurred, FACES, other)[other.name])
    assert np.allclose(table[SECOND], measure(blurred, FACES, random_ruler)[random_ruler.name])
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


def test_a_record(random_ruler):
    """Trained on faces and photographs, measured on each apart; without photographs it says what it lacks."""
    pictures = {"faces": {"train": FACES[:8], "val": FACES[8:10], "test": FACES[9:12]}}
    with pytest.raises(ImageError, match="data-both is trained on photographs: name a folder of them"):
        run("data-both", 0, MICRO, pictures, random_ruler, random_ruler, progress=False)
    pictures["photographs"] = {k: v[:, ::-1] for k, v in pictures["faces"].items()}
    short = replace(MICRO, steps=1)
    record = run("data-both", 0, short, pictures, random_ruler, random_ruler, progress=False)
    assert record["training_images"] == 16 and record["images_seen"] == 4 and record["seed"] == 0
    assert record["settings"]["data"] == "both" and record["variant"] == "data-both"
    columns = {"PSNR", "SSIM", "L1", "MSE", "LPIPS", SECOND}
    assert set(record["test"]) == set(record["val"]) == set(record["photographs"]) == columns
    assert all(len(v) == 3 for v in record["test"].values()) and "other degradations" not in record
    assert record["photographs"]["PSNR"] != pytest.approx(np.mean(record["test"]["PSNR"]))
    model = DeblurModel(512, 64, 4)
    assert record["parameters"] == sum(
        p.numel() for n in (model.deblur_encoder, model.generator) for p in n.parameters()
    )
    assert json.loads(json.dumps(record))["settings"]["weights"] == asdict(Weights())


# ---------------------------------------------------------------------------------------------------------------------
# The tiny experiment from the command line


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, random_ruler):
    """The whole of the small preset, as CI runs it; its folder."""
    out = tmp_path_factory.mktemp("ablations") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "load_lpips", lambda: random_ruler)
        ablations.main(["--preset", "tiny", "--out", str(out)])
    return out


def test_tiny_is_complete(tiny, random_ruler):
    names = PRESETS["tiny"].variants
    files = {f"{name}-{SEED + i}.json" for name in names for i in range(2)}
    assert {p.name for p in tiny.iterdir()} == files | {"preset.json", "blurred.json"}
    results = collect(tiny)
    assert results["preset"] == json.loads(json.dumps(asdict(PRESETS["tiny"])))
    assert {(r["variant"], r["seed"]) for r in results["runs"]} == {(n, SEED + i) for n in names for i in range(2)}
    for record in results["runs"]:
        assert {k: len(v) for k, v in record["test"].items()} == dict.fromkeys(record["val"], 12)
        assert all(np.isfinite(v).all() for v in record["test"].values()) and record["images_seen"] == 48
        assert [c["step"] for c in record["curve"]] == list(range(1, 13)) and record["SWD"] > 0
        assert all(np.isfinite([c["loss"], c["val_L1"]]).all() for c in record["curve"])
        assert record["hardware"] and record["date"] and record["torch"] and record["seconds"] > 0
        assert record["lpips"] == random_ruler.name  # who reads the file learns what LPIPS stands for
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


def test_only_what_is_missing_is_run_again(tiny, tmp_path, monkeypatch, random_ruler):
    """A run that was lost comes back the same, whatever ran before it; the others are not touched."""
    lost, kept = tiny / f"edges-none-{SEED + 1}.json", tiny / f"thesis-{SEED}.json"
    before, stamp = json.loads(lost.read_text()), kept.stat().st_mtime_ns
    lost.unlink()
    original, called = ablations.run, []

    def spy(name, seed, *rest):
        called.append((name, seed))
        return original(name, seed, *rest)

    monkeypatch.setattr(ablations, "run", spy)
    run_all(PRESETS["tiny"], tiny, lpips=random_ruler, progress=False)
    assert called == [("edges-none", SEED + 1)] and kept.stat().st_mtime_ns == stamp
    again = json.loads(lost.read_text())
    assert {**again, "seconds": 0, "date": ""} == {**before, "seconds": 0, "date": ""}


def test_collected(tiny, tmp_path, capsys):
    to = tmp_path / "new" / "results.json"
    ablations.main(["--collect", str(tiny), "--to", str(to)])
    assert "wrote 8 runs" in capsys.readouterr().out
    assert json.loads(to.read_text()) == collect(tiny)


def test_another_preset_is_refused(tiny, random_ruler):
    with pytest.raises(TrainingError, match="runs of another preset .*steps: 12 -> 13.*choose another folder"):
        run_all(replace(PRESETS["tiny"], steps=13), tiny, lpips=random_ruler, progress=False)
    assert json.loads((tiny / "preset.json").read_text())["steps"] == 12


@pytest.fixture
def pretended(monkeypatch, random_ruler):
    """Runs that take no time; the names and seeds that were asked for."""
    asked = []

    def pretend(name, seed, *rest):
        asked.append((name, seed - SEED))
        return made(name, seed, [20.0 + len(name), 21.0])

    monkeypatch.setattr(ablations, "run", pretend)
    monkeypatch.setattr(ablations, "_blurred", lambda *rest: {})
    monkeypatch.setattr(ablations, "load_pictures", lambda p, d: {} if d is None else load_pictures(p, d))
    monkeypatch.setattr(ablations, "load_lpips", lambda: random_ruler)
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
    (tmp_path / "begun" / "preset.json").write_text(json.dumps(asdict(PRESETS["tiny"])))
    with pytest.raises(SystemExit) as error:
        ablations.main(command)
    text = str(error.value.code)
    assert text.startswith("error: ") and "\n" not in text and told in text


@pytest.mark.parametrize("command", [[], ["--collect", "x"], ["--to", "x"], ["--out", "x", "--to", "y"]])
def test_what_to_do_must_be_said(command, capsys):
    with pytest.raises(SystemExit):
        ablations.main(command)
    assert "give --out, or --collect and --to" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# What results say, on made ones


def made(name: str, seed: int, psnr, l1=(0.1, 0.1), **val) -> dict:
    """A record as a run writes it, as far as the tables look at it."""
    val = {"PSNR": 20.0, "SSIM": 0.5, "L1": 0.1, "MSE": 0.02, "LPIPS": 0.3, SECOND: 0.3, **val}
    return {"variant": name, "seed": seed, "test": {"PSNR": list(psnr), "L1": list(l1)}, "val": val}


HARD = np.array([0.0, 8.0, 3.0, -4.0])  # how much easier one face is than another
RESULTS = {
    "runs": [
        made("thesis", 2026, 21 + HARD, [0.1] * 4),
        made("thesis", 2025, 20 + HARD, [0.1] * 4),
        made("edges-none", 2025, 19 + HARD, [0.09] * 4),
        made("edges-none", 2026, 20 + HARD, [0.09] * 4),
        made("edges-oracle", 2025, 22 + HARD, [0.2] * 4),
        made("edges-oracle", 2026, 23 + HARD, [0.2] * 4),
        made("latent-stop", 2025, 21 + HARD, [0.1] * 4),
        made("latent-stop", 2026, 20 + HARD, [0.1] * 4),
        made("only-l1", 2025, 30 + HARD),  # its second run is not there yet
        made("only-tv", 2025, 30 + HARD),
        made("only-tv", 2027, 30 + HARD),  # other seeds than the baseline's
    ]
}


def test_values_are_ordered_by_seed():
    assert np.array_equal(values_of(RESULTS, "thesis", "PSNR"), [20 + HARD, 21 + HARD])
    assert values_of(RESULTS, "code-64", "PSNR").size == 0


def test_differences_by_hand():
    """Seed by seed and face by face: -1, +2, and ±1 that is noise; what has other seeds is left out."""
    table = differences(RESULTS, "PSNR")
    assert list(table.index) == ["thesis", "edges-none", "edges-oracle", "latent-stop"]
    assert table["difference"].tolist() == [0, -1, 2, 0]
    assert table["verdict"].tolist() == ["baseline", "worse", "better", "inside the noise"]
    assert table.loc["edges-none", ["low", "high"]].tolist() == [-1, -1]
    assert table.loc["latent-stop", ["low", "high"]].tolist() == [-1, 1]
    assert table.loc["edges-none", "mean"] == pytest.approx(19.5 + HARD.mean())
    assert table.loc["edges-none", "seeds"] == pytest.approx(0.5**0.5)
    assert table.loc["edges-oracle", "title"] == VARIANTS["edges-oracle"].title


def test_a_lower_error_is_better():
    table = differences(RESULTS, "L1")
    assert table["verdict"].tolist() == ["baseline", "better", "worse", "inside the noise"]
    assert table.loc["edges-none", "difference"] == pytest.approx(-0.01)


def test_differences_of_groups_and_from_another_baseline():
    assert list(differences(RESULTS, "PSNR", groups=["edges"]).index) == ["edges-none", "edges-oracle"]
    table = differences(RESULTS, "PSNR", baseline="edges-none")
    assert table.loc["thesis", "difference"] == 1 and table.loc["thesis", "verdict"] == "better"
    assert table.loc["edges-none", "verdict"] == "baseline"
    one = differences({"runs": [RESULTS["runs"][8]]}, "PSNR", baseline="only-l1")
    assert np.isnan(one.loc["only-l1", "seeds"])  # one seed says nothing of how seeds spread


def test_no_baseline_is_told():
    with pytest.raises(ImageError, match="there is no run of code-64 to compare with"):
        differences(RESULTS, "PSNR", baseline="code-64")
    with pytest.raises(ImageError, match="there is no run of thesis"):
        differences({"runs": RESULTS["runs"][2:]}, "PSNR")


BETTER = {"PSNR": 21.0, "SSIM": 0.6, "L1": 0.09, "MSE": 0.01, "LPIPS": 0.2}


def test_weights_are_chosen_on_validation_alone():
    """Test faces would choose another one; variants that are no candidates have no say."""
    runs = [
        made("thesis", 2025, [20.0]),
        made("weights-sharp", 2025, [99.0], [0.0]),
        made("weights-ssim", 2025, [1.0], [9.0], **BETTER),
        made("edges-oracle", 2025, [50.0], **{**BETTER, "PSNR": 40.0}),
    ]
    assert chosen_weights({"runs": runs}) == "weights-ssim"
    for record in runs:
        record["test"] = {}
    assert chosen_weights({"runs": runs}) == "weights-ssim"


def test_the_best_mean_rank_over_five_measures():
    """Two wins and three losses lose; the second perceptual measure is not asked; a tie leaves the thesis's weights."""
    two = {"PSNR": 30.0, "SSIM": 0.9, "L1": 0.2, "MSE": 0.1, "LPIPS": 0.9}
    runs = [made("thesis", 2025, [20.0]), made("weights-pixel", 2025, [20.0], **two)]
    assert chosen_weights({"runs": runs}) == "thesis"
    runs[1]["val"]["L1"] = 0.05
    assert chosen_weights({"runs": runs}) == "weights-pixel"
    same = [made(n, 2025, [20.0]) for n in ("weights-sharp", "thesis")]
    same[0]["val"][SECOND] = 0.0
    assert chosen_weights({"runs": same}) == "thesis"


def test_seeds_are_averaged_before_ranks():
    """One lucky seed does not choose: 22 and 17 are 19.5 on average, below 20 and 20."""
    runs = [made("thesis", s, [20.0]) for s in (2025, 2026)]

    runs += [made("weights-sharp", s, [20.0], PSNR=p) for s, p in ((2025, 22.0), (2026, 17.0))]
    assert chosen_weights({"runs": runs}) == "thesis"
    runs[-1]["val"]["PSNR"] = 19.0
    assert chosen_weights({"runs": runs}) == "weights-sharp"
