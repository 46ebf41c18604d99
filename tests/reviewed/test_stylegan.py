"""helpers.reviewed.stylegan: the generator by explicit loops, its three latent spaces, the published names."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import nn

from helpers.networks import ShapeError
from helpers.reviewed.inversion import extend
from helpers.reviewed.stylegan import FullyConnected, Generator, Mapping, Synthesis, modulated_conv2d

SMALL = {"z_dim": 6, "w_dim": 5, "img_resolution": 16, "channel_base": 64, "channel_max": 8, "mapping_layers": 2}
FULL = {  # arguments, parameters, entries, key list
    1024: ({}, 30_370_060, 182, "sg2_full_ffhq1024"),
    256: ({"img_resolution": 256, "channel_base": 16384}, 24_767_458, 144, "sg2_full_256"),
}


def randomised(**settings) -> Generator:
    """A small generator in which every tensor counts: noise is on, no bias is 0, the mean w is somewhere."""
    torch.manual_seed(0)
    model = Generator(**{**SMALL, **settings})
    with torch.no_grad():
        for name, value in [*model.named_parameters(), ("mapping.w_avg", model.mapping.w_avg)]:
            if name.endswith(("noise_strength", "bias", "w_avg")):
                value.add_(torch.randn(value.shape) * 0.5)
    return model.eval()


@pytest.fixture
def small() -> Generator:
    return randomised()


# ---------------------------------------------------------------------------------------------------------------------
# The same written anew: loops over images, filters and channels in float64


LINE = np.array([1.0, 3, 3, 1]) / 8
SMOOTH = np.outer(LINE, LINE)


def spread(plane: np.ndarray) -> np.ndarray:
    """Zeros between pixels: H×W to 2H×2W."""
    wide = np.zeros((2 * plane.shape[0], 2 * plane.shape[1]))
    wide[::2, ::2] = plane
    return wide


def one_filter(x: np.ndarray, kernels: np.ndarray, up: int, correlate: bool) -> np.ndarray:
    """I planes with I kernels, summed. A doubled pixel i ends up centred at 2i + 1/2, in the middle of its square."""
    total, half = 0, kernels.shape[-1] // 2
    for plane, kernel in zip(x, kernels, strict=True):
        kernel = kernel[::-1, ::-1] if correlate else kernel
        if up == 1:
            full = convolve2d(plane, kernel)
            total = total + full[half : half + plane.shape[0], half : half + plane.shape[1]]
        else:
            full, start = convolve2d(convolve2d(spread(plane), kernel), 4 * SMOOTH), half + 1
            total = total + full[start : start + 2 * plane.shape[0], start : start + 2 * plane.shape[1]]
    return total


def modulated_by_hand(x, weight, styles, up=1, correlate=True, demodulate=True):
    """Thesis section 1.1: w'[o, i] = w[o, i] s[i] (or s[o, i]), each filter divided by its length."""
    images = []
    for n in range(len(x)):
        planes = []
        for o in range(len(weight)):
            style = styles[n] if styles.ndim == 2 else styles[n, o]
            own = weight[o] * style[:, None, None]
            if demodulate:
                own = own / np.sqrt((own**2).sum() + 1e-8)
            planes.append(one_filter(x[n], own, up, correlate))
        images.append(planes)
    return np.array(images)


def lrelu(x):
    return np.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def synthesis_by_hand(state: dict[str, np.ndarray], rows, count: int, top: int) -> np.ndarray:
    """The whole generator from its state dict. ``rows(n, slot, filters)`` gives filters×w_dim or w_dim."""
    image, x, slot, size = None, np.array([state["b4.const"]] * count), 0, 4

    def styles_of(name, slot, filters):
        affine, bias = state[name + ".affine.weight"], state[name + ".affine.bias"]
        latents = np.array([rows(n, slot, filters) for n in range(count)])
        return latents @ (affine / math.sqrt(affine.shape[1])).T + bias

    while size <= top:
        for conv in ("conv0", "conv1"):
            name = f"b{size}.{conv}"
            if name + ".weight" not in state:
                continue
            weight, up = state[name + ".weight"], 2 if conv == "conv0" else 1
            x = modulated_by_hand(x, weight, styles_of(name, slot, len(weight)), up, correlate=up == 1)
            x = x + state[name + ".noise_const"] * state[name + ".noise_strength"]
            x = lrelu(x + state[name + ".bias"][:, None, None])
            slot += 1
        name = f"b{size}.torgb"
        weight = state[name + ".weight"]
        styles = styles_of(name, slot, 3) / math.sqrt(weight.shape[1])  # the slot that the next conv0 uses too
        y = modulated_by_hand(x, weight, styles, demodulate=False) + state[name + ".bias"][:, None, None]
        if image is not None:
            grown = [[convolve2d(spread(p), 4 * SMOOTH)[1 : 1 + size, 1 : 1 + size] for p in i] for i in image]
            y = y + np.array(grown)
        image, size = y, 2 * size
    return image


def numbers(module: nn.Module) -> dict[str, np.ndarray]:
    return {k: v.detach().double().numpy() for k, v in module.state_dict().items()}


# ---------------------------------------------------------------------------------------------------------------------
# Modulated convolution


@pytest.mark.parametrize("per_filter", [False, True])
@pytest.mark.parametrize(("up", "flip"), [(1, True), (1, False), (2, True), (2, False)])
@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_convolution_by_hand(per_filter, up, flip, demodulate):
    """Styles per channel and per filter, both directions of the kernel, with and without doubling."""
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 5, 6), torch.randn(4, 3, 3, 3)
    styles = torch.randn(2, 4, 3) if per_filter else torch.randn(2, 3)
    y = modulated_conv2d(
        x, weight, styles, up=up, padding=1, resample_filter=torch.from_numpy(SMOOTH).float(), demodulate=demodulate,
        flip_weight=flip,
    )  # fmt: skip
    expected = modulated_by_hand(
        *(t.double().numpy() for t in (x, weight, styles)), up, correlate=flip, demodulate=demodulate
    )
    assert y.shape == (2, 4, 5 * up, 6 * up)
    assert np.abs(y.numpy() - expected).max() < 1e-4


def test_noise_is_added_and_broadcast():
    x, weight, noise = torch.randn(2, 3, 4, 4), torch.randn(4, 3, 1, 1), torch.randn(4, 4)
    plain = modulated_conv2d(x, weight, torch.ones(2, 3))
    assert torch.allclose(modulated_conv2d(x, weight, torch.ones(2, 3), noise), plain + noise)


def test_demodulated_output_keeps_its_variance():
    """White input, any style: every output channel has variance 1, which is what demodulation is for."""
    torch.manual_seed(0)
    x, weight, styles = torch.randn(1, 8, 128, 128), torch.randn(5, 8, 3, 3) * 7, torch.randn(1, 8) * 100
    variance = modulated_conv2d(x, weight, styles, padding=1)[..., 1:-1, 1:-1].var((2, 3))
    assert torch.allclose(variance, torch.ones(1, 5), rtol=0.1)


@pytest.mark.parametrize("shape", [(2, 4), (1, 3), (2, 3, 4), (3,)])
def test_styles_of_a_wrong_shape(shape):
    with pytest.raises(ShapeError, match="styles must be N×I = 2×3 or N×O×I = 2×4×3"):
        modulated_conv2d(torch.zeros(2, 3, 4, 4), torch.zeros(4, 3, 1, 1), torch.zeros(shape))


def test_fully_connected_by_hand():
    """Equalised learning rate: weights drawn with deviation 1 / rate are used times rate / √inputs."""
    torch.manual_seed(0)
    layer, x = FullyConnected(400, 300, activate=True, rate=0.01, bias=0.5), torch.randn(2, 400)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.02) and (layer.bias == 0.5).all()
    expected = lrelu(x.numpy() @ (layer.weight.detach().numpy() * 0.01 / 20).T + 0.5 * 0.01)
    assert np.abs(layer(x).detach().numpy() - expected).max() < 1e-4


# ---------------------------------------------------------------------------------------------------------------------
# The generator


@torch.no_grad()
@pytest.mark.parametrize("space", ["W", "W+", "W++"])
def test_synthesis_by_hand(small, space):
    """Every tensor of the state dict, by name, in w, W+ and W++ (rows: layer by layer, filters in each)."""
    synthesis = small.synthesis
    layers, filters = synthesis.num_ws, synthesis.num_filters
    assert (layers, filters) == (6, 8)
    shape = {"W": (2, 5), "W+": (2, layers, 5), "W++": (2, layers * filters, 5)}[space]
    latent = torch.randn(shape)
    values = latent.double().numpy()

    def rows(n, slot, wanted):
        if space == "W":
            return np.tile(values[n], (wanted, 1))
        if space == "W+":
            return np.tile(values[n, slot], (wanted, 1))
        return values[n, slot * filters : slot * filters + wanted]

    expected = synthesis_by_hand(numbers(synthesis), rows, 2, 16)
    assert np.abs(synthesis(latent).numpy() - expected).max() < 1e-3 * np.abs(expected).max()


@torch.no_grad()
def test_spaces_agree_where_they_meet(small):
    """Section f: the image does not change when a phase hands over to the next."""
    w = torch.randn(3, 5)
    plus = extend(w, small.synthesis)
    plus_plus = extend(plus, small.synthesis)
    assert plus.shape == (3, 6, 5) and plus_plus.shape == (3, 48, 5)
    assert torch.equal(plus_plus[:, :8], plus[:, :1].expand(-1, 8, -1))  # layer-major
    images = [small.synthesis(x) for x in (w, plus, plus_plus)]
    assert torch.allclose(images[0], images[1], atol=1e-5) and torch.allclose(images[0], images[2], atol=1e-4)
    varied = extend(plus + torch.randn(plus.shape), small.synthesis)
    assert torch.allclose(small.synthesis(varied[:, ::8]), small.synthesis(varied), atol=1e-3)
    with pytest.raises(ShapeError, match="cannot be extended"):
        extend(plus_plus, small.synthesis)


def test_surplus_rows_have_no_effect(small):
    """Rows beyond a layer's filters are ignored: 8 + 8 + 8 + 4 + 4 filters and 3 of the last ToRGB are used."""
    latent = torch.randn(1, 48, 5, requires_grad=True)
    small.synthesis(latent).square().sum().backward()
    used = latent.grad[0].abs().sum(1).view(6, 8).gt(0).sum(1)
    assert used.tolist() == [8, 8, 8, 4, 4, 3] and torch.isfinite(latent.grad).all()


def test_rows_that_count_at_1024_pixels():
    """9·512 + 2·(256 + 128 + 64 + 32) + 3 = 5571 rows of 18·512."""
    with torch.device("meta"):
        synthesis = Generator().synthesis
    convs = [layer.out_channels for block in synthesis.blocks() for layer in block.layers()[:-1]]
    assert synthesis.num_ws == 18 and synthesis.num_filters == 512 and sum(convs) + 3 == 5571


@torch.no_grad()
def test_mapping_by_hand(small):
    """z to length √dim, layers with the rate 0.01, then towards the mean w by truncation; a copy for each layer."""
    z = torch.randn(3, 6) * 4
    x = z.double().numpy()
    x = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-8)
    for layer in (small.mapping.fc0, small.mapping.fc1):
        weight, bias = (t.detach().double().numpy() for t in (layer.weight, layer.bias))
        x = lrelu(x @ (weight * 0.01 / math.sqrt(weight.shape[1])).T + bias * 0.01)
    mean = small.mapping.w_avg.double().numpy()
    for psi in (1.0, 0.7, 0.0):
        w = small.mapping(z, psi)
        assert w.shape == (3, 6, 5)
        assert np.abs(w.numpy() - (mean + psi * (x - mean))[:, None]).max() < 1e-4
    assert torch.allclose(small(z, 0.7), small.synthesis(small.mapping(z, 0.7)))
    straight = z / z.square().mean(1, keepdim=True).sqrt()
    assert torch.allclose(Mapping(6, 6, 2, 0)(z)[:, 1], straight, atol=1e-5)


@torch.no_grad()
def test_picture_is_not_clamped(small):
    """(G + 1) / 2, whatever comes out of it."""
    w = torch.randn(2, 5) * 3
    assert torch.allclose(small.picture(w) * 2 - 1, small.synthesis(w), atol=1e-5)
    assert small.picture(w).min() < 0 and small.picture(w).max() > 1


@torch.no_grad()
def test_an_earlier_resolution_is_that_of_a_smaller_network(small):
    """Growing from 64 to 128 pixels: the blocks up to 8 pixels are a network of their own."""
    w = torch.randn(2, 5)
    eight = Generator(**{**SMALL, "img_resolution": 8}).synthesis
    eight.load_state_dict({k: v for k, v in small.synthesis.state_dict().items() if not k.startswith("b16")})
    assert torch.allclose(small.synthesis(w, 8), eight(w), atol=1e-5)
    assert torch.equal(small.synthesis(w, 16), small.synthesis(w))


@pytest.mark.parametrize("shape", [(1, 4), (1, 5, 5), (1, 6, 4), (1, 47, 5), (5,)])
def test_latents_of_a_wrong_shape(small, shape):
    with pytest.raises(ShapeError, match=r"N×5 \(W\), N×6×5 \(W\+\) or N×48×5 \(W\+\+\)"):
        small.synthesis(torch.zeros(shape))


@pytest.mark.parametrize("size", [0, 4, 12, 100])
def test_resolutions_that_are_none(size):
    with pytest.raises(ValueError, match=f"power of 2, at least 8, not {size}"):
        Generator(**{**SMALL, "img_resolution": size})


# ---------------------------------------------------------------------------------------------------------------------
# The published network


@pytest.mark.parametrize("size", FULL)
def test_size_of_the_published_networks(size):
    arguments, parameters, entries, _ = FULL[size]
    with torch.device("meta"):
        model = Generator(**arguments)
    assert sum(p.numel() for p in model.parameters()) == parameters
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert len(shapes) == entries
    last = {1024: 32, 256: 64}[size]
    typed = {
        "synthesis.b4.const": (512, 4, 4),
        "synthesis.b4.conv1.affine.weight": (512, 512),
        "synthesis.b8.conv0.noise_strength": (),
        "synthesis.b8.resample_filter": (4, 4),
        f"synthesis.b{size}.conv0.weight": (last, 2 * last, 3, 3),
        f"synthesis.b{size}.conv1.noise_const": (size, size),
        f"synthesis.b{size}.torgb.weight": (3, last, 1, 1),
        "mapping.fc7.bias": (512,),
        "mapping.w_avg": (512,),
    }
    assert {k: shapes[k] for k in typed} == typed


@pytest.mark.parametrize("size", FULL)
def test_names_and_shapes_of_the_published_networks(size, official_keys):
    """Every name and every shape of the authors' list, none more."""
    arguments, parameters, _, name = FULL[size]
    listed = json.loads((official_keys / f"{name}.keys.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        model = Generator(**arguments)
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == dict(listed["keys"])
    assert listed["n_params"] == parameters


# ---------------------------------------------------------------------------------------------------------------------
# Training


def test_gradients_reach_every_weight(small):
    """Section f's counterpart for training: nothing in the generator is cut off, nothing is NaN."""
    small(torch.randn(2, 6)).square().mean().backward()
    for name, p in small.named_parameters():
        assert torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0, name


def test_a_synthesis_alone_has_no_mapping():
    names = Synthesis(5, 16, 64, 8).state_dict()
    assert not any("mapping" in k or "fc" in k for k in names)
