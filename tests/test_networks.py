"""helpers.networks: sizes, shapes, the residual block, and where gradients go."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18

from helpers.networks import (
    ConditionedBlock,
    DeblurEncoder,
    DeblurModel,
    Generator,
    LatentEncoder,
    ResidualBlock,
    ShapeError,
    count_parameters,
    doublings,
    generator_channels,
)


@pytest.fixture(scope="module")
def full() -> DeblurModel:
    torch.manual_seed(0)
    return DeblurModel().eval()


@pytest.fixture(scope="module")
def small() -> DeblurModel:
    torch.manual_seed(0)
    return DeblurModel(latent_dim=16, image_size=64).eval()


# ---------------------------------------------------------------------------------------------------------------------
# Size and shape


def test_parameter_counts(full):
    """ResNet-18's 11,176,512 before its last layer + 64·49 for the fourth channel + 512·512 + 512, and so on."""
    assert count_parameters(full.deblur_encoder) == 11_176_512 + 64 * 49 + 512 * 512 + 512 == 11_442_304
    generator = (512 * 8192 + 8192) + 16 * (512 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    assert count_parameters(full.generator) == generator + 3 + 2 * (512 + 256 + 128 + 64) == 11_154_307
    latent = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 512) + (8192 * 512 + 512)
    assert count_parameters(full.latent_encoder) == latent + 2 * (64 + 128 + 256 + 512 + 512) == 11_147_648
    assert count_parameters(full) == 33_744_259


def test_count_leaves_out_what_is_frozen():
    layer = nn.Linear(3, 2)
    assert count_parameters(layer) == 8
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 6


def test_fourth_channel_costs_3136():
    """64 filters of 7×7 for the edge map: 3136 weights."""
    assert count_parameters(DeblurEncoder(16)) - count_parameters(DeblurEncoder(16, in_channels=3)) == 64 * 7 * 7


def test_narrower_counts():
    """``width`` 16 is the thesis's 64 divided by 4, layer by layer; biases, norms and the code shrink as they must."""
    model = DeblurModel(512, 128, width=16)
    residual = 9 * (4 * 16 * 16 + sum(a * b + 3 * b * b for a, b in ((16, 32), (32, 64), (64, 128))))
    shortcuts = sum(a * b + 2 * b for a, b in ((16, 32), (32, 64), (64, 128)))
    norms = 2 * (16 + 4 * (16 + 32 + 64 + 128))
    encoder = 4 * 49 * 16 + residual + shortcuts + norms + 128 * 512 + 512
    assert count_parameters(model.deblur_encoder) == encoder
    generator = 512 * 2048 + 2048 + 16 * (128 * 128 + 128 * 64 + 64 * 32 + 32 * 16 + 16 * 3) + 3
    assert count_parameters(model.generator) == generator + 2 * (128 + 64 + 32 + 16)
    latent = 16 * (3 * 16 + 16 * 32 + 32 * 64 + 64 * 128 + 128 * 128) + 2048 * 512 + 512
    assert count_parameters(model.latent_encoder) == latent + 2 * (16 + 32 + 64 + 128 + 128)


def test_the_thesis_has_64():
    """The width left out is 64, in every network, to the last name and shape."""

    def shapes(module):
        return {k: v.shape for k, v in module.state_dict().items()}

    for make in (
        lambda **width: DeblurEncoder(16, **width),
        lambda **width: Generator(16, 64, **width),
        lambda **width: LatentEncoder(16, 64, **width),
        lambda **width: DeblurModel(16, 64, **width),
    ):
        with torch.device("meta"):  # shapes without numbers
            own, wide, narrow = (shapes(make(**width)) for width in ({}, {"width": 64}, {"width": 8}))
        assert own == wide != narrow and own.keys() == narrow.keys()
    assert generator_channels(128) == generator_channels(128, 64)


@torch.no_grad()
@pytest.mark.parametrize(("width", "size"), [(4, 64), (16, 128), (96, 64)])
def test_other_widths_have_the_same_ends(width, size):
    """Pictures and codes keep their shapes; inside, 8 × ``width`` feature maps at 4×4, ``width`` at half the side."""
    model = DeblurModel(24, size, width).eval()
    restored, z_deblur, z_gt = model(torch.randn(2, 4, size, size), torch.rand(2, 3, size, size))
    assert restored.shape == (2, 3, size, size) and z_deblur.shape == z_gt.shape == (2, 24)
    assert model.deblur_encoder.conv1.out_channels == model.latent_encoder.down[0].out_channels == width
    assert model.deblur_encoder.fc.in_features == 8 * width and model.latent_encoder.fc.in_features == 128 * width
    assert generator_channels(size, width)[-4:] == [4 * width, 2 * width, width, 3]
    with pytest.raises(ShapeError, match="Generator expects N×24, got 2×25"):
        model.generator(torch.zeros(2, 25))


@torch.no_grad()
@pytest.mark.parametrize(("size", "latent"), [(128, 512), (64, 16), (256, 32)])
def test_shapes(size, latent, request):
    """Section 2.3: N×4×H×W to N×latent, to N×3×H×W in [-1, 1]; the sharp image to a code of the same length."""
    ready = {128: "full", 64: "small"}
    model = request.getfixturevalue(ready[size]) if size in ready else DeblurModel(latent, size).eval()
    inputs, sharp = torch.randn(2, 4, size, size), torch.rand(2, 3, size, size) * 2 - 1
    restored, z_deblur, z_gt = model(inputs, sharp)
    assert restored.shape == (2, 3, size, size) and z_deblur.shape == z_gt.shape == (2, latent)
    assert restored.abs().max() <= 1
    assert torch.equal(model(inputs), restored)  # without the sharp image: the picture alone, and the same one


@torch.no_grad()
def test_codes_of_equation_39(small):
    """Equation 39: z_deblur comes from the four-channel input alone, z_gt from the sharp image alone."""
    inputs, sharp = torch.randn(2, 4, 64, 64), torch.randn(2, 3, 64, 64)
    restored, z_deblur, z_gt = small(inputs, sharp)
    assert torch.equal(z_deblur, small.deblur_encoder(inputs)) and torch.equal(z_gt, small.latent_encoder(sharp))
    assert torch.equal(restored, small.generator(z_deblur))
    other = small(inputs, -sharp)
    assert torch.equal(other[0], restored) and torch.equal(other[1], z_deblur) and not torch.equal(other[2], z_gt)


@torch.no_grad()
def test_every_channel_counts(small):
    """The edge map is looked at: another fourth channel, another code."""
    inputs = torch.randn(1, 4, 64, 64)
    for channel in range(4):
        changed = inputs.clone()
        changed[:, channel] += 1
        assert not torch.allclose(small.deblur_encoder(changed), small.deblur_encoder(inputs))


@torch.no_grad()
def test_output_stays_in_range_for_extreme_codes(small):
    assert small.generator(torch.randn(2, 16) * 1e4).abs().max() <= 1


def test_generator_ends_without_normalisation(full):
    """Each doubling is followed by batch norm and ReLU, the last by tanh alone (section 2.3.2)."""
    kinds = [type(m).__name__ for m in full.generator.up]
    assert kinds == ["ConvTranspose2d", "BatchNorm2d", "ReLU"] * 4 + ["ConvTranspose2d", "Tanh"]


@torch.no_grad()
def test_generator_doubles_five_times(full):
    x, sides = full.generator.fc(torch.zeros(1, 512)).view(1, 512, 4, 4), []
    for layer in full.generator.up:
        x = layer(x)
        if isinstance(layer, nn.ConvTranspose2d):
            sides.append((x.shape[1], x.shape[2]))
    assert sides == [(512, 8), (256, 16), (128, 32), (64, 64), (3, 128)]


@pytest.mark.parametrize(
    ("size", "channels"),
    [(64, [256, 128, 64, 3]), (128, [512, 256, 128, 64, 3]), (256, [512, 512, 256, 128, 64, 3])],
)
def test_generator_channels(size, channels):
    """The four steps that the thesis lists, with one 512 more in front for each doubling that it does not."""
    assert generator_channels(size) == channels and doublings(size) == len(channels)


@pytest.mark.parametrize("size", [0, -64, 4, 32, 100, 127, 129, 192])
def test_sizes_that_cannot_be_doubled_to(size):
    with pytest.raises(ValueError, match=f"64, 128, 256, ..., not {size}"):
        doublings(size)


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (lambda: DeblurEncoder(16), (1, 3, 64, 64), "DeblurEncoder expects N×4×H×W, got 1×3×64×64"),
        (lambda: DeblurEncoder(16), (4, 64, 64), "got 4×64×64"),
        (lambda: DeblurEncoder(16, in_channels=3), (1, 4, 64, 64), "expects N×3×H×W"),
        (lambda: Generator(16, 64), (2, 17), "Generator expects N×16, got 2×17"),
        (lambda: Generator(16, 64), (16,), "got 16"),
        (lambda: Generator(16, 64), (2, 16, 1, 1), "got 2×16×1×1"),
        (lambda: LatentEncoder(16, 64), (1, 3, 128, 128), "LatentEncoder expects N×3×64×64, got 1×3×128×128"),
        (lambda: LatentEncoder(16, 64), (1, 4, 64, 64), "got 1×4×64×64"),
    ],
)
def test_wrong_shapes_are_told(network, shape, message):
    with pytest.raises(ShapeError, match=message):
        network()(torch.zeros(shape))


# ---------------------------------------------------------------------------------------------------------------------
# Residual learning


@torch.no_grad()
def test_residual_block_by_hand():
    """Equation 33, y = F(x) + x: one pixel, one channel, weights 2 and -3 in the kernels' middle, identity norms.

    x = 5: F = -3 · relu(2 · 5) = -30, so relu(-30 + 5) = 0. x = -1: F = -3 · relu(-2) = 0, so relu(0 - 1) = 0.
    With weights 2 and 3, x = 5 gives 3 · 10 + 5 = 35.
    """
    block = ResidualBlock(1, 1).eval()
    block.bn1.eps = block.bn2.eps = 0
    for second, x, residual, y in ((-3.0, 5.0, -30.0, 0.0), (-3.0, -1.0, 0.0, 0.0), (3.0, 5.0, 30.0, 35.0)):
        block.conv1.weight.zero_()[0, 0, 1, 1] = 2
        block.conv2.weight.zero_()[0, 0, 1, 1] = second
        value = torch.full((1, 1, 1, 1), x)
        assert block.residual(value).item() == pytest.approx(residual)
        assert block(value).item() == pytest.approx(y)


@torch.no_grad()
def test_a_block_that_learnt_nothing_passes_its_input_on():
    """Equation 33 with F = 0 is the identity on what a ReLU lets through: the point of residual learning."""
    block = ResidualBlock(8, 8).eval()
    block.conv2.weight.zero_()
    x = torch.rand(2, 8, 6, 6)
    assert torch.allclose(block(x), x)


@torch.no_grad()
@pytest.mark.parametrize(("channels", "stride"), [((8, 16), 1), ((8, 8), 2), ((8, 16), 2)])
def test_projection_where_the_shape_changes(channels, stride):
    """W_s x of section 2.3.1: a 1×1 convolution, there only where it is needed."""
    assert ResidualBlock(8, 8).downsample is None
    block = ResidualBlock(*channels, stride=stride).eval()
    assert block.downsample[0].kernel_size == (1, 1)
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(block(x), torch.relu(block.residual(x) + block.downsample(x)))
    assert block(x).shape == (2, channels[1], 6 // stride, 6 // stride)


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_equals_torchvisions_resnet18(training):
    """With 3 channels, 1000 outputs and the same weights, the same numbers, batch statistics included."""
    torch.manual_seed(0)
    theirs = resnet18(weights=None)
    for module in theirs.modules():  # as after some training: means and scales that matter
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
    ours = DeblurEncoder(latent_dim=1000, in_channels=3)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 3, 64, 64)
    assert torch.allclose(ours.train(training)(x), theirs.train(training)(x), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# The block of PMRF's networks and of the skip model


@torch.no_grad()
@pytest.mark.parametrize("width", [None, 5])
def test_conditioned_block_by_hand(width):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))) (1 + scale) + shift)), each image with its own condition."""
    torch.manual_seed(0)
    block, x, z = ConditionedBlock(16, width), torch.randn(2, 16, 4, 6), torch.randn(2, 5)
    assert torch.equal(block(x) if width is None else block(x, z), x)  # before training
    for p in block.parameters():
        p.add_(torch.randn(p.shape) * 0.3)
    s = block.state_dict()

    def norm(y, name):
        groups = y.reshape(2, 8, -1)
        deviation = (groups.var(2, keepdim=True, correction=0) + 1e-5).sqrt()
        y = ((groups - groups.mean(2, keepdim=True)) / deviation).reshape(y.shape)
        return y * s[f"{name}.weight"][:, None, None] + s[f"{name}.bias"][:, None, None]

    def conv(y, name):
        return F.conv2d(y, s[f"{name}.weight"], s[f"{name}.bias"], padding=1)

    y = norm(x, "norm1")
    y = norm(conv(y * torch.sigmoid(y), "conv1"), "norm2")
    if width:
        both = z @ s["time.weight"].T + s["time.bias"]
        y = y * (1 + both[:, :16, None, None]) + both[:, 16:, None, None]
    expected = x + conv(y * torch.sigmoid(y), "conv2")
    assert torch.allclose(block(x) if width is None else block(x, z), expected, atol=1e-4)
    with pytest.raises(ShapeError, match=f"takes {'a' if width else 'no'} condition"):
        block(x) if width else block(x, z)


# ---------------------------------------------------------------------------------------------------------------------
# Gradients


@pytest.fixture(scope="module")
def passed():
    """A training pass of a small model: the model, its target and its three results."""
    torch.manual_seed(0)
    model, sharp = DeblurModel(16, 64), torch.rand(2, 3, 64, 64)
    return model, sharp, model(torch.randn(2, 4, 64, 64), sharp)


def touched(module: nn.Module) -> set[bool]:
    return {p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters()}


def test_the_latent_loss_reaches_the_encoders_alone(passed):
    """Equation 40 pulls both codes towards each other; the generator does not see it."""
    model, _, (_, z_deblur, z_gt) = passed
    model.zero_grad()
    (z_deblur - z_gt).square().mean().backward(retain_graph=True)
    assert touched(model.generator) == {False}
    assert touched(model.deblur_encoder) == {True} and touched(model.latent_encoder) == {True}


def test_the_reconstruction_does_not_reach_the_latent_encoder(passed):
    """z_gt is never decoded, so only equation 40 trains the latent encoder."""
    model, sharp, (restored, _, _) = passed
    model.zero_grad()
    (restored - sharp).abs().mean().backward(retain_graph=True)
    assert touched(model.latent_encoder) == {False}
    assert True in touched(model.generator) and touched(model.deblur_encoder) == {True}
