"""helpers.methods: every method behind one call; whether each is worth more than the blurred input."""

import numpy as np
import pytest
import torch

from helpers import methods
from helpers.data import ImageError, load_faces, normalise
from helpers.degrade import Compose, GaussianNoise, MotionBlur, preset
from helpers.engine.checkpoints import CheckpointError, save_checkpoint, shipped
from helpers.methods import METHODS, TITLES, Cancelled, Method, available, load_method, outside
from helpers.pairs import Pairs
from helpers.restorer import Restorer
from helpers.reviewed.autodecoder import shape_of
from helpers.reviewed.diffir import DiffIRS1, DiffIRS2, DiffIRStages

WEIGHTS = {
    "thesis": "thesis",
    "skip": "skip",
    "blind": "blind",
    "posterior_mean": "pmrf",
    "pmrf": "pmrf",
    "diffir": "diffir",
    "stylegan": "stylegan",
}


@pytest.fixture(scope="module")
def pairs():
    """Four shipped test faces with the blur that they have in every table."""
    return Pairs(load_faces("test", 4), "celebablur").batch(range(4))


@pytest.fixture(scope="module")
def loaded_once() -> dict[str, Method]:
    return {}


@pytest.fixture
def method(request, monkeypatch, loaded_once) -> Method:
    """A method with its shipped weights; a search cut down to one step a phase, the flow to two steps."""
    name = request.param
    if name == "blind":  # a stand-in, whether it ships or not
        monkeypatch.setenv("COURSE_DATA", str(request.getfixturevalue("data_with_blind")))
    elif name in WEIGHTS and not shipped(WEIGHTS[name]).exists():
        pytest.skip("weights not shipped")
    if name not in loaded_once:
        loaded_once[name] = load_method(name, "cpu")
    if name in ("stylegan", "pmrf"):
        loaded_once[name].steps = {"stylegan": 1, "pmrf": 2}[name]
    return loaded_once[name]


each = pytest.mark.parametrize("method", list(METHODS), indirect=True)


@each
def test_restores(method, pairs):
    """Two faces in, two faces out: 8 bits, the same shape, not the input, and no NaN turned into black."""
    restored = method.restore(pairs.blurred[:2], pairs.params[:2])
    assert restored.shape == (2, 128, 128, 3) and restored.dtype == np.uint8
    assert np.abs(restored.astype(int) - pairs.blurred[:2]).mean() > 0.5 and restored.std() > 10
    assert method.parameters == sum(p.numel() for n in method.networks for p in n.parameters())
    assert (method.parameters == 0) == (method.name == "wiener")
    assert METHODS[method.name] is type(method) and f"{method.title}, {method.parameters:,}" in repr(method)


@each
def test_an_image_does_not_depend_on_its_batch(method, pairs):
    """The same place, other company: the same picture (sums of floats may round to a neighbour)."""
    many = method.restore(pairs.blurred[:3], pairs.params[:3]).astype(int)
    one = method.restore(pairs.blurred[:1], pairs.params[:1])
    assert np.abs(many[:1] - one).max() <= 2 and np.abs(many[:1] - one).mean() < 0.02


@each
def test_the_same_call_gives_the_same_pictures(method, pairs):
    torch.manual_seed(1)
    first = method.restore(pairs.blurred[:1], pairs.params[:1])
    torch.manual_seed(2)
    assert np.array_equal(method.restore(pairs.blurred[:1], pairs.params[:1]), first)


@each
def test_the_global_generator_is_left_alone(method, pairs):
    """Whoever restores in between, a notebook draws the same numbers."""
    torch.manual_seed(1)
    method.restore(pairs.blurred[:1], pairs.params[:1])
    after = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), after)


@each
def test_only_who_knows_the_blur_wants_it(method, pairs):
    if not method.knows_blur:
        assert np.array_equal(method.restore(pairs.blurred[:1]), method.restore(pairs.blurred[:1], [{"sigma": 1.0}]))
        return
    for params in (None, pairs.params[:1]):
        with pytest.raises(ValueError, match="needs the blur of every picture"):
            method.restore(pairs.blurred[:2], params)


@pytest.mark.parametrize("method", ["posterior_mean", "pmrf", "diffir", "thesis", "skip", "blind"], indirect=True)
@pytest.mark.parametrize(
    "images", [np.zeros((1, 128, 128, 3)), np.zeros((128, 128), np.uint8), np.zeros((0, 128, 128, 3), np.uint8)]
)
def test_pictures_of_a_wrong_kind(method, images):
    with pytest.raises(ImageError, match="expected 8-bit RGB pictures"):
        method.restore(images)


def test_names_and_titles():
    assert list(METHODS) == ["thesis", "skip", "blind", "posterior_mean", "pmrf", "diffir", "stylegan", "wiener"]
    assert {k: m.title for k, m in METHODS.items()} == TITLES and len(set(TITLES.values())) == 8
    assert {k for k, m in METHODS.items() if m.slow} == {"stylegan"}
    assert {k for k, m in METHODS.items() if m.knows_blur} == {"stylegan", "wiener"}
    assert {k for k, m in METHODS.items() if m.edge_aware} == {"thesis", "skip", "blind"}
    assert {k: m.weights for k, m in METHODS.items() if m.weights} == WEIGHTS
    one_blur = {"thesis", "skip", "posterior_mean", "pmrf", "diffir"}
    assert {k for k, m in METHODS.items() if m.trained_for == "celebablur"} == one_blur
    assert {k for k, m in METHODS.items() if not m.trained_for} == {"stylegan", "wiener"}
    assert METHODS["blind"].trained_for == "blind"
    with pytest.raises(ValueError, match="there is no method 'magic'; choose one of thesis, .*wiener"):
        load_method("magic")


@pytest.mark.parametrize("name", WEIGHTS)
def test_missing_weights_are_told(name, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS[name]}\.safetensors: there is no such checkpoint"):
        load_method(name, "cpu")


def test_only_methods_with_weights_are_available(data_with_blind, data_without_blind, tmp_path, monkeypatch):
    for folder, names in ((data_with_blind, [*METHODS]), (tmp_path, ["wiener"])):
        monkeypatch.setenv("COURSE_DATA", str(folder))
        assert available() == names
    monkeypatch.setenv("COURSE_DATA", str(data_without_blind))
    assert available() == [name for name in METHODS if name != "blind"]


def test_the_blind_method_is_the_skip_model_of_its_file(data_with_blind, pairs, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(data_with_blind))
    blind, same = load_method("blind", "cpu"), methods.Skip("cpu", data_with_blind / "checkpoints/blind.safetensors")
    assert blind.knob == 0.4 and blind.trained_for == same.trained_for == "blind"
    assert np.array_equal(blind.restore(pairs.blurred), same.restore(pairs.blurred))
    assert blind.parameters != load_method("skip", "cpu").parameters


@pytest.mark.parametrize(
    ("params", "one_blur", "blind"),
    [
        ({"sigma": 4.0}, False, False),
        ({"sigma": 8.0}, False, False),
        ({"sigma": 3.9}, True, False),
        ({"sigma": 8.1}, True, True),
        ({}, True, False),  # sharp, or a photograph of which nothing is known
        ({"sigma": 6.0, "noise": 0.01, "noise_seed": 7}, True, False),
        ({"sigma": 6.0, "quality": 80.0}, True, False),
        ({"length": 20.0, "angle": 170.0}, True, False),
        ({"length": 29.0, "angle": 0.0}, True, True),
        ({"radius": 5.0}, True, False),
        ({"radius": 11.0}, True, True),
        ({"noise": 0.1, "noise_seed": 7}, True, True),
        ({"quality": 29.0}, True, True),
        ({"scale": 4.0, "way": 1.0, "quality": 30.0, "at_full_size": 1.0}, True, False),
    ],
)
def test_what_lies_outside_of_a_training(params, one_blur, blind):
    assert (outside("celebablur", params), outside("blind", params)) == (one_blur, blind)
    assert not outside("", params)


@pytest.mark.parametrize("name", ["celebablur", "blind"])
def test_a_training_lies_inside_of_itself(name):
    rng = np.random.default_rng(0)
    degradation = preset(name)
    assert not any(outside(name, degradation.sample(rng)) for _ in range(500))


# ---------------------------------------------------------------------------------------------------------------------
# Without shipped weights: untrained networks under the shipped names


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """Checkpoints of untrained networks of the shipped sizes, in a data folder of their own."""
    folder = tmp_path_factory.mktemp("data")
    torch.manual_seed(0)
    for name, network in (
        ("pmrf", methods.Pmrf()),
        ("diffir", DiffIRStages()),
        ("stylegan", methods.small_generator()),
    ):
        with torch.no_grad():
            for p in network.parameters():  # zero-initialised layers would make methods do nothing
                p.add_(torch.randn(p.shape) * 0.02)
        save_checkpoint(folder / "checkpoints" / f"{name}.safetensors", network, {"name": name}, "8-bit")
    return folder


def loaded(name, untrained, patch, metric=None) -> Method:
    patch.setenv("COURSE_DATA", str(untrained))
    patch.setattr(methods, "load_lpips", lambda **_: metric)
    return load_method(name, "cpu")


def test_flow_by_hand(untrained, pairs, monkeypatch):
    """[0, 1], noise that depends on the picture's place, 25 Euler steps, 8 bits; stage 1 alone counts its own."""
    flow, mean = (loaded(n, untrained, monkeypatch) for n in ("pmrf", "posterior_mean"))
    flow.steps = 2
    y = torch.from_numpy(pairs.blurred[:2]).movedim(-1, 1).float() / 255
    noise = torch.stack([torch.randn(3, 128, 128, generator=torch.Generator().manual_seed(2025 + i)) for i in (0, 1)])
    expected = flow.model.restore(y, 2, 0.1, noise)
    assert np.abs(flow.restore(pairs.blurred[:2]) - expected.movedim(1, -1).numpy() * 255).max() <= 0.51
    with torch.no_grad():
        expected = mean.model(y).clamp(0, 1).movedim(1, -1).numpy() * 255
    assert np.abs(mean.restore(pairs.blurred[:2]) - expected).max() <= 0.51
    assert methods.Flow.steps == 25
    assert mean.parameters == sum(p.numel() for p in mean.model.parameters()) < flow.parameters


def test_sigma_and_width_are_the_checkpoints(pairs, tmp_path, monkeypatch):
    """The JSON beside the weights says how wide the networks are and what noise the flow starts with."""
    model = methods.Pmrf(8)
    save_checkpoint(tmp_path / "checkpoints" / "pmrf.safetensors", model, {"width": 8, "sigma_s": 0.03})
    flow, mean = (loaded(n, tmp_path, monkeypatch) for n in ("pmrf", "posterior_mean"))
    noise = torch.randn(3, 128, 128, generator=torch.Generator().manual_seed(2025))
    expected = (pairs.blurred[0] + 255 * 0.03 * noise.movedim(0, -1).numpy()).clip(0, 255)  # untrained: f(y) = y, v = 0
    assert np.abs(flow.restore(pairs.blurred[:1])[0] - expected).max() <= 0.51
    assert mean.parameters == sum(p.numel() for p in model.posterior_mean.parameters())
    assert np.array_equal(mean.restore(pairs.blurred[:1]), pairs.blurred[:1])


def test_the_posterior_mean_needs_no_field(pairs, tmp_path, monkeypatch):
    """A field that is damaged in the file is not looked at; the whole method refuses it."""
    model = methods.Pmrf(8)
    with torch.no_grad():
        model.field.entry.weight.fill_(float("nan"))
    save_checkpoint(tmp_path / "checkpoints" / "pmrf.safetensors", model, {"width": 8})
    assert np.array_equal(loaded("posterior_mean", tmp_path, monkeypatch).restore(pairs.blurred), pairs.blurred)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        loaded("pmrf", tmp_path, monkeypatch)


def test_shapes_are_the_checkpoints(tmp_path, monkeypatch, random_lpips):
    """DiffIR's and the generator's too."""
    small = {"dim": 8, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1, "heads": [1, 2, 2, 4]}
    small |= {"n_encoder_res": 1}
    stages = DiffIRStages(DiffIRS1(**small), DiffIRS2(**small))
    save_checkpoint(tmp_path / "checkpoints" / "diffir.safetensors", stages, small)
    assert loaded("diffir", tmp_path, monkeypatch).model.G.patch_embed.proj.out_channels == 8
    monkeypatch.delenv("COURSE_DATA")  # another file than the one that ships
    named = methods.DiffIR("cpu", tmp_path / "checkpoints" / "diffir.safetensors")
    assert named.model.G.patch_embed.proj.out_channels == 8 and named.about["dim"] == 8
    generator = methods.small_generator(6, 8)
    save_checkpoint(tmp_path / "checkpoints" / "stylegan.safetensors", generator, shape_of(6, 8))
    assert loaded("stylegan", tmp_path, monkeypatch, random_lpips).generator.synthesis.w_dim == 6


def test_diffir_by_hand(untrained, pairs, monkeypatch):
    """Stage 2 with a start of the chain that depends on the picture's place."""
    method = loaded("diffir", untrained, monkeypatch)
    y = torch.from_numpy(pairs.blurred[:2]).movedim(-1, 1).float() / 255
    noise = torch.stack([torch.randn(256, generator=torch.Generator().manual_seed(2025 + i)) for i in (0, 1)])
    with torch.no_grad():
        expected = method.model(y, noise=noise).clamp(0, 1).movedim(1, -1).numpy() * 255
    assert np.abs(method.restore(pairs.blurred[:2]) - expected).max() <= 0.51
    assert method.parameters == sum(p.numel() for p in DiffIRStages().stage2.parameters())


def test_a_search_reports_and_is_cancelled(untrained, pairs, monkeypatch, random_lpips):
    """Five pictures are two searches of three phases; False stops at once."""
    method = loaded("stylegan", untrained, monkeypatch, random_lpips)
    assert method.steps == 150
    method.steps, calls = 1, []

    def on_step(done, total):
        calls.append((done, total))
        return True

    five = np.concatenate([pairs.blurred, pairs.blurred[:1]])
    params = pairs.params + pairs.params[:1]
    restored = method.restore(five, params, on_step)
    assert restored.shape == five.shape and restored.dtype == np.uint8
    assert calls == [(i, 6) for i in range(1, 7)]
    with pytest.raises(Cancelled, match="stopped after 2 of 3 steps"):
        method.restore(five[:1], params[:1], lambda done, total: done < 2)
    assert method.restore(five[:1], params[:1], lambda done, total: None).shape == (1, 128, 128, 3)


def test_a_search_looks_for_the_blurred_picture(untrained, pairs, monkeypatch, random_lpips):
    """f̂ is the blur that it is told, the target the blurred picture in [0, 1]."""
    seen = {}
    method = loaded("stylegan", untrained, monkeypatch, random_lpips)
    original = methods.invert

    def spy(*arguments, **keywords):
        seen["call"] = arguments
        return original(*arguments, **keywords)

    monkeypatch.setattr(methods, "invert", spy)
    method.steps = 1
    method.restore(pairs.blurred, pairs.params)
    generator, target, degrade, *_ = seen["call"]
    assert generator is method.generator
    assert torch.allclose(target * 255, torch.from_numpy(pairs.blurred).movedim(-1, 1).float(), atol=1e-3)
    again = degrade(torch.from_numpy(pairs.sharp).movedim(-1, 1).float() / 255)
    assert (again - target).abs().max() < 0.6 / 255  # but for the rounding to 8 bits


# ---------------------------------------------------------------------------------------------------------------------
# Worth it?


def test_thesis_is_the_restorer(pairs):
    method = load_method("thesis", "cpu")
    assert np.array_equal(method.restore(pairs.blurred), Restorer(device="cpu").restore(pairs.blurred))
    assert method.parameters == 11_442_304 + 11_154_307  # the latent encoder is not run


@pytest.mark.parametrize("method", ["thesis", "skip"], indirect=True)
def test_edges_may_be_given(method, pairs):
    """Without edges a method finds the training's own; others change the picture, and only they."""
    own = method.restore(pairs.blurred[:2])
    assert np.array_equal(method.restore(pairs.blurred[:2], edges=pairs.edges[:2]), own)
    assert not np.array_equal(method.restore(pairs.blurred[:2], edges=1 - pairs.edges[:2]), own)


@pytest.mark.parametrize("method", ["skip"], indirect=True)
def test_the_skip_model_by_hand(method, pairs):
    """Its two ends at the shipped knob, mixed and rounded by hand."""
    with torch.no_grad():
        mean, perceptual, _ = method.model.both(pairs.input[:2])
    mixed = (1 - method.knob) * mean + method.knob * perceptual
    wanted = (mixed * 127.5 + 127.5).clamp(0, 255).movedim(1, -1).numpy()
    assert np.abs(wanted - method.restore(pairs.blurred[:2])).max() <= 0.51
    assert method.knob == method.about["knob"]


def test_wiener_sharpens_what_is_blurred_alone():
    """The known blur: nearer to the truth than the blurred picture, on each face, along a motion too."""
    faces = load_faces("test", 6)
    for degradation in ("celebablur", Compose(MotionBlur((6, 10)), GaussianNoise(0.0))):
        batch = Pairs(faces, degradation).batch(range(6))
        restored = load_method("wiener").restore(batch.blurred, batch.params)
        before, after = (np.square(x - faces.astype(float)).mean((1, 2, 3)) for x in (batch.blurred, restored))
        assert (after < before).all()
        if degradation == "celebablur":  # 4 dB and more in the mean; a third of it with a border that rings
            assert np.log10(before / after).mean() > 0.4


@pytest.fixture(scope="module")
def twenty():
    return Pairs(load_faces("test", 20), "celebablur").batch(range(20))


@pytest.mark.parametrize("method", ["posterior_mean", "pmrf", "diffir"], indirect=True)
def test_beats_the_blurred_input(method, twenty, true_lpips):
    """On 20 shipped test faces: nearer in LPIPS; the two that minimise an error are also better in PSNR."""
    if method.name == "pmrf":
        method.steps = 5  # a fifth of the steps, for time
    restored = method.restore(twenty.blurred, twenty.params)

    def lpips(images):
        with torch.no_grad():
            return true_lpips(normalise(images), normalise(twenty.sharp)).mean().item()

    def psnr(images):
        error = np.square(images.astype(float) - twenty.sharp).mean((1, 2, 3))
        return (10 * np.log10(255**2 / error)).mean()

    assert lpips(restored) < lpips(twenty.blurred)
    if method.name != "pmrf":
        assert psnr(restored) > psnr(twenty.blurred)
