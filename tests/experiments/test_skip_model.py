"""helpers.experiments.skip_model: identity before training, the knob, where gradients go, the shape in the JSON."""

import json

import pytest
import torch

from helpers.experiments import skip_model
from helpers.experiments.skip_model import SkipEncoder, SkipModel, model_of
from helpers.experiments.skip_training import fidelity_loss
from helpers.losses import l1_loss
from helpers.networks import ShapeError
from helpers.pairs import Pairs
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


def test_the_json_tells_the_shape():
    """As saved and read again; what older ones do not tell is as the shipped model has it."""
    shape = {**SHAPE, "image_size": 64, "in_channels": 3, "fold": 4, "widths": (8, 16, 16), "depths": (1, 1, 2)}
    model = SkipModel(**shape)
    about = json.loads(json.dumps({**model.shape, "steps": 3, "name": "skip"}))
    again = model_of(about)
    assert again.shape == model.shape == shape
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    assert model_of({"latent_dim": 256}).shape == SkipModel().shape == model_of({}).shape
