"""helpers.methods: every method behind one call; whether each is worth more than the blurred input."""

import numpy as np
import pytest
import torch

from helpers import methods
from helpers.checkpoints import CheckpointError, save_checkpoint, shipped
from helpers.data import ImageError, load_faces, normalise
from helpers.degrade import Compose, GaussianNoise, MotionBlur
from helpers.methods import METHODS, TITLES, Cancelled, Method, load_method
from helpers.pairs import Pairs
from helpers.restorer import Restorer

WEIGHTS = {
    "thesis": "thesis",
    "skip": "skip",
    "posterior_mean": "pmrf",
    "pmrf": "pmrf",
    "diffir": "diffir",
    "stylegan": "stylegan",
}


@pytest.fixture(scope="module")
def pairs():
    """Four shipped test faces with the blur that they have in every table."""
    return Pairs(load_faces("test", 4), "celebablur").batch(range(4))


@pytest.fixture
def method(request) -> Method:
    """A method with its shipped weights, a search cut down to two steps a phase."""
    name = request.param
    if name in WEIGHTS and not shipped(WEIGHTS[name]).exists():
        pytest.skip("weights not shipped")
    loaded = load_method(name, "cpu")
    if loaded.slow:
        loaded.steps = 2
    return loaded


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
def test_only_who_knows_the_blur_wants_it(method, pairs):
    if not method.knows_blur:
        assert np.array_equal(method.restore(pairs.blurred[:1]), method.restore(pairs.blurred[:1], [{"sigma": 1.0}]))
        return
    for params in (None, pairs.params[:1]):
        with pytest.raises(ValueError, match="must be told the blur of every picture"):
            method.restore(pairs.blurred[:2], params)


@pytest.mark.parametrize("method", ["posterior_mean", "pmrf", "diffir", "thesis", "skip"], indirect=True)
@pytest.mark.parametrize(
    "images", [np.zeros((1, 128, 128, 3)), np.zeros((128, 128), np.uint8), np.zeros((0, 128, 128, 3), np.uint8)]
)
def test_pictures_of_a_wrong_kind(method, images):
    with pytest.raises(ImageError, match="expected 8-bit RGB pictures"):
        method.restore(images)


def test_names_and_titles():
    assert list(METHODS) == ["thesis", "skip", "posterior_mean", "pmrf", "diffir", "stylegan", "wiener"]
    assert {k: m.title for k, m in METHODS.items()} == TITLES and len(set(TITLES.values())) == 7
    assert {k for k, m in METHODS.items() if m.slow} == {"stylegan"}
    assert {k for k, m in METHODS.items() if m.knows_blur} == {"stylegan", "wiener"}
    assert {k for k, m in METHODS.items() if m.edge_aware} == {"thesis", "skip"}
    with pytest.raises(ValueError, match="there is no method 'magic'; choose one of thesis, .*wiener"):
        load_method("magic")


@pytest.mark.parametrize("name", WEIGHTS)
def test_missing_weights_are_told(name, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS[name]}\.safetensors: there is no such checkpoint"):
        load_method(name, "cpu")


# ---------------------------------------------------------------------------------------------------------------------
# Without shipped weights: untrained networks under the shipped names


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """Checkpoints of untrained networks of the shipped sizes, in a data folder of their own."""
    folder = tmp_path_factory.mktemp("data")
    torch.manual_seed(0)
    for name, network in (
        ("pmrf", methods.Pmrf()),
        ("diffir", methods.Both()),
        ("stylegan", methods.small_generator()),
    ):
        with torch.no_grad():
            for p in network.parameters():  # zero-initialised layers would make methods do nothing
                p.add_(torch.randn(p.shape) * 0.02)
        save_checkpoint(folder / "checkpoints" / f"{name}.safetensors", network, {"name": name}, "8-bit")
    return folder


def loaded(name, untrained, patch, ruler=None) -> Method:
    patch.setenv("COURSE_DATA", str(untrained))
    patch.setattr(methods, "load_lpips", lambda **_: ruler)
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
        expected = mean.model.posterior_mean(y).clamp(0, 1).movedim(1, -1).numpy() * 255
    assert np.abs(mean.restore(pairs.blurred[:2]) - expected).max() <= 0.51
    assert methods.Flow.steps == 25
    assert mean.parameters == sum(p.numel() for p in mean.model.posterior_mean.parameters()) < flow.parameters


def test_diffir_by_hand(untrained, pairs, monkeypatch):
    """Stage 2 with a start of the chain that depends on the picture's place."""
    method = loaded("diffir", untrained, monkeypatch)
    y = torch.from_numpy(pairs.blurred[:2]).movedim(-1, 1).float() / 255
    noise = torch.stack([torch.randn(256, generator=torch.Generator().manual_seed(2025 + i)) for i in (0, 1)])
    with torch.no_grad():
        expected = method.model(y, noise=noise).clamp(0, 1).movedim(1, -1).numpy() * 255
    assert np.abs(method.restore(pairs.blurred[:2]) - expected).max() <= 0.51
    assert method.parameters == sum(p.numel() for p in methods.Both().stage2.parameters())


def test_a_search_reports_and_is_cancelled(untrained, pairs, monkeypatch, random_ruler):
    """Five pictures are two searches of three phases; False stops at once."""
    method = loaded("stylegan", untrained, monkeypatch, random_ruler)
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


def test_a_search_looks_for_the_blurred_picture(untrained, pairs, monkeypatch, random_ruler):
    """f̂ is the blur that it is told, the target the blurred picture in [0, 1]."""
    seen = {}
    method = loaded("stylegan", untrained, monkeypatch, random_ruler)
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


@pytest.fixture(scope="module")
def forty():
    return Pairs(load_faces("test", 40), "celebablur").batch(range(40))


@pytest.mark.parametrize("method", ["posterior_mean", "pmrf", "diffir"], indirect=True)
def test_beats_the_blurred_input(method, forty, true_ruler):
    """On 40 shipped test faces: nearer in LPIPS; the two that minimise an error are also better in PSNR."""
    if method.name == "pmrf":
        method.steps = 5  # a fifth of the steps, for time
    restored = method.restore(forty.blurred, forty.params)

    def lpips(images):
        with torch.no_grad():
            return true_ruler(normalise(images), normalise(forty.sharp)).mean().item()

    def psnr(images):
        error = np.square(images.astype(float) - forty.sharp).mean((1, 2, 3))
        return (10 * np.log10(255**2 / error)).mean()

    assert lpips(restored) < lpips(forty.blurred)
    if method.name != "pmrf":
        assert psnr(restored) > psnr(forty.blurred)
