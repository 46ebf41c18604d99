"""helpers.stylegan: the generator by explicit loops, its three latent spaces, NGD, the loss and the search."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import nn

from helpers.networks import ShapeError
from helpers.stylegan import (
    NGD,
    PHASES,
    FullyConnected,
    Generator,
    Mapping,
    MultiResolutionLoss,
    Synthesis,
    extend,
    invert,
    modulated_conv2d,
)

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
    listed = json.loads((official_keys / f"{name}.keys.json").read_text())
    with torch.device("meta"):
        model = Generator(**arguments)
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == dict(listed["keys"])
    assert listed["n_params"] == parameters


# ---------------------------------------------------------------------------------------------------------------------
# NGD


def stepped(gradient, lr=0.1):
    """Where a parameter of zeros stands after a step along ``gradient``."""
    gradient = torch.tensor(gradient)
    p = torch.zeros_like(gradient).requires_grad_()
    p.grad = gradient
    NGD([p], lr=lr).step()
    return p.detach()


def test_ngd_by_hand():
    """Equation 4 row by row: (3, 4) has length 5, whatever its neighbour."""
    assert torch.allclose(stepped([[3.0, 4.0], [-300.0, 0.0]]), torch.tensor([[-0.06, -0.08], [0.1, 0.0]]))


def test_ngd_leaves_rows_that_point_nowhere():
    """Zero, NaN and infinite rows stay; the others still move."""
    nan, inf = float("nan"), float("inf")
    moved = stepped([[0.0, 0.0], [nan, 1.0], [inf, 1.0], [-inf, inf], [0.0, 2.0]])
    assert torch.equal(moved[:4], torch.zeros(4, 2)) and torch.allclose(moved[4], torch.tensor([0.0, -0.1]))


@pytest.mark.parametrize("shape", [(1, 5), (2, 18, 5), (1, 48, 5)])
def test_every_row_moves_by_the_rate(shape):
    """Section f: step length = lr for every vector of W, W+ and W++, whatever the gradients' scale."""
    torch.manual_seed(0)
    p = torch.randn(shape, requires_grad=True)
    start, scale = p.detach().clone(), 10 ** (torch.rand(shape[:-1]) * 8 - 4)
    p.grad = torch.randn(shape) * scale[..., None]
    NGD([p], lr=0.02).step()
    assert torch.allclose((p.detach() - start).norm(dim=-1), torch.full(shape[:-1], 0.02), rtol=1e-3)


def test_ngd_has_no_memory():
    """Three equal gradients, three equal steps; a parameter without gradient is left; a closure gives the loss."""
    p, other = torch.zeros(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    search = NGD([p, other], lr=0.5)

    def closure():
        search.zero_grad()
        loss = (p * torch.tensor([0.0, 7.0])).sum()
        loss.backward()
        return loss

    losses = [search.step(closure).item() for _ in range(3)]
    assert losses == pytest.approx([0, -3.5, -7]) and torch.allclose(p.detach(), torch.tensor([[0, -1.5]]))
    assert torch.equal(other.detach(), torch.zeros(1, 2))


@pytest.mark.parametrize("lr", [0, -1])
def test_rates_that_are_none(lr):
    with pytest.raises(ValueError, match="lr must be positive"):
        NGD([torch.zeros(1, requires_grad=True)], lr=lr)


# ---------------------------------------------------------------------------------------------------------------------
# The multi-resolution loss


class FakeLpips:
    """A weighted squared difference that notes what it is given."""

    def __init__(self):
        self.seen = []

    def __call__(self, a, b):
        self.seen.append((a.detach(), b.detach()))
        return (a - b).square().mean((1, 2, 3)) * a.shape[-1]


def halved(x: np.ndarray) -> np.ndarray:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))


@pytest.mark.parametrize(
    ("size", "ladder"),
    [(1024, [1024, 512, 256, 128, 64, 32]), (256, [256, 128, 64, 32]), (64, [64, 32]), (32, [32]), (16, []), (8, [])],
)
def test_loss_level_by_level(size, ladder):
    """Equations 5 and 6 as run: LPIPS from full size down to above 16 px, L1 on the images after the last pooling."""
    torch.manual_seed(0)
    x, y = torch.rand(2, 3, size, size) * 1.4 - 0.2, torch.rand(2, 3, size, size)
    fake = FakeLpips()
    loss = MultiResolutionLoss(fake)
    a, b, terms = x.numpy().astype(float), y.numpy().astype(float), []
    for side in ladder:
        assert a.shape[-1] == side
        terms.append(((2 * a - 2 * b) ** 2).mean((1, 2, 3)) * side)
        a, b = halved(a), halved(b)
    l1 = np.abs(a - b).mean((1, 2, 3))
    assert loss(x, y).item() == pytest.approx((sum(terms) + 0.1 * l1).mean(), rel=1e-4)
    assert [s[0].shape[-1] for s in fake.seen] == ladder
    parts = loss.parts(x, y)
    assert list(parts) == [f"LPIPS {s}" for s in ladder] + [f"L1 {min(size, 16)}"]
    for value, expected in zip(parts.values(), [*terms, l1], strict=True):
        assert value.shape == (2,) and np.allclose(value, expected, rtol=1e-4)


def test_loss_hands_over_images_in_the_range_of_lpips():
    fake = FakeLpips()
    x, y = torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
    MultiResolutionLoss(fake)(x, y)
    assert fake.seen[0][0].unique().tolist() == [-1] and fake.seen[0][1].unique().tolist() == [1]


def test_levels_are_an_upper_limit():
    fake = FakeLpips()
    x, y = torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128)
    parts = MultiResolutionLoss(fake, levels=1, l1_weight=0).parts(x, y)
    assert list(parts) == ["LPIPS 128", "L1 64"]
    assert MultiResolutionLoss(fake, levels=1, l1_weight=0)(x, y).item() == pytest.approx(parts["LPIPS 128"].item())


def test_mask_hides_with_noise():
    """Where the mask is 0, the same noise (mean 1/4, deviation 1/2) is added to both; elsewhere nothing."""
    torch.manual_seed(0)
    fake, mask = FakeLpips(), torch.ones(1, 1, 64, 64)
    mask[..., :32] = 0
    x, y = torch.rand(1, 3, 64, 64) * mask, torch.rand(1, 3, 64, 64) * mask
    MultiResolutionLoss(fake)(x, y, mask)
    for (a, b), side in zip(fake.seen, (64, 32), strict=True):
        hidden = a[..., : side // 2]
        assert torch.allclose(hidden, b[..., : side // 2])
        hidden = (hidden + 1) / 2
        assert hidden.mean().item() == pytest.approx(0.25, abs=0.03)
        assert hidden.std().item() == pytest.approx(0.5, rel=0.05)
    assert torch.equal(fake.seen[0][0][..., 32:], (x * 2 - 1)[..., 32:])


def test_loss_of_two_sizes():
    with pytest.raises(ShapeError, match=r"cannot compare \(1, 3, 32, 32\) with \(1, 3, 64, 64\)"):
        MultiResolutionLoss(FakeLpips())(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 64, 64))


# ---------------------------------------------------------------------------------------------------------------------
# The search


def identity(x):
    return x


@pytest.fixture
def ladder() -> MultiResolutionLoss:
    return MultiResolutionLoss(FakeLpips())


def test_phases_are_the_authors():
    assert list(PHASES.items()) == [("W", 0.08), ("W+", 0.02), ("W++", 0.005)]


def test_search_starts_at_the_mean_and_steps_by_the_rate(small, ladder):
    """One step a phase: 0.08 for w, 0.02 for every layer, 0.005 for every filter that exists and 0 for surplus rows."""
    target = torch.rand(2, 3, 16, 16)
    found = invert(small, target, identity, ladder, steps=1)
    w, plus, plus_plus = (found.latents[k] for k in ("W", "W+", "W++"))
    assert torch.allclose((w - small.mapping.w_avg).norm(dim=-1), torch.full((2,), 0.08), rtol=1e-3)
    assert torch.allclose((plus - w[:, None]).norm(dim=-1), torch.full((2, 6), 0.02), rtol=1e-3)
    moved = (plus_plus - plus.repeat_interleave(8, 1)).norm(dim=-1).view(2, 6, 8)
    for layer, used in enumerate([8, 8, 8, 4, 4, 3]):
        assert torch.allclose(moved[:, layer, :used], torch.full((2, used), 0.005), rtol=1e-2)
        assert (moved[:, layer, used:] == 0).all()
    for phase, latent in found.latents.items():
        assert torch.allclose(found.images[phase], small.picture(latent).detach().clamp(0, 1), atol=1e-6)
    assert [(h["phase"], h["step"]) for h in found.history] == [("W", 0), ("W+", 0), ("W++", 0)]
    assert found.history[0]["loss"] == pytest.approx(
        ladder(small.picture(small.mapping.w_avg.expand(2, -1)), target).item(), rel=1e-5
    )


def test_search_finds_what_the_generator_can_make(small, ladder):
    """Equations 1 and 2, a target from W: the loss falls in every phase; the weights are as before, trainable again."""
    before = {k: v.clone() for k, v in small.state_dict().items()}
    with torch.no_grad():
        target = small.picture(small.mapping.w_avg + torch.randn(2, 5))
    found = invert(small, target, lambda x: x * 0.5 + 0.1, ladder, steps=25)
    means = {k: np.mean([h["loss"] for h in found.history if h["phase"] == k][-5:]) for k in PHASES}
    assert means["W++"] < means["W+"] < 0.9 * found.history[0]["loss"]
    assert all(torch.equal(v, before[k]) for k, v in small.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in small.parameters())


def test_scale_of_the_loss_does_not_matter(small, ladder):
    """Section f: NGD takes the same path for a thousandfold loss."""
    target = torch.rand(1, 3, 16, 16)

    def scaled(x, y, mask):
        return 1000 * ladder(x, y, mask)

    a, b = (invert(small, target, identity, loss, steps=3).latents["W++"] for loss in (ladder, scaled))
    assert torch.allclose(a, b, atol=1e-4)
    assert not torch.allclose(a, small.mapping.w_avg.expand_as(a), atol=1e-2)


def test_images_of_a_search_do_not_influence_each_other(small, ladder):
    """Rows are normalised one by one, so an image's path is the same alone and in company."""
    target = torch.rand(3, 3, 16, 16)
    together = invert(small, target, identity, ladder, steps=2).latents["W++"]
    alone = invert(small, target[1:2], identity, ladder, steps=2).latents["W++"]
    assert torch.allclose(together[1:2], alone, atol=1e-4)


def test_search_with_some_phases_and_another_optimiser(small, ladder):
    target = torch.rand(1, 3, 16, 16)
    found = invert(small, target, identity, ladder, 2, phases={"W++": 0.01}, optimiser=torch.optim.Adam)
    assert list(found.latents) == ["W++"] and found.latents["W++"].shape == (1, 48, 5)
    used = (found.latents["W++"] - small.mapping.w_avg).abs().amax(-1)[0, :8]
    assert torch.allclose(used, torch.full((8,), 0.02), rtol=0.2)  # Adam's steps are the rate, number by number


def test_search_reports_and_stops(small, ladder):
    calls = []

    def on_step(done, total):
        calls.append((done, total))
        return done < 3

    found = invert(small, torch.rand(1, 3, 16, 16), identity, ladder, steps=2, on_step=on_step)
    assert calls == [(1, 6), (2, 6), (3, 6)]
    assert list(found.images) == ["W"] and len(found.history) == 3
    assert all(p.requires_grad for p in small.parameters())


def test_search_hands_the_mask_on(small):
    seen = []

    def loss(x, y, mask):
        seen.append(mask)
        return (x - y).square().mean()

    mask = torch.ones(1, 1, 16, 16)
    invert(small, torch.rand(1, 3, 16, 16), identity, loss, steps=1, mask=mask)
    assert len(seen) == 3 and all(m is mask for m in seen)


def test_a_target_that_f_does_not_give(small, ladder):
    with pytest.raises(ShapeError, match="does f̂ give the target's size"):
        invert(small, torch.rand(1, 3, 8, 8), identity, ladder, steps=1)
    assert all(p.requires_grad for p in small.parameters())


def test_gradients_reach_every_weight(small):
    """Section f's counterpart for training: nothing in the generator is cut off, nothing is NaN."""
    small(torch.randn(2, 6)).square().mean().backward()
    for name, p in small.named_parameters():
        assert torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0, name


def test_a_synthesis_alone_has_no_mapping():
    names = Synthesis(5, 16, 64, 8).state_dict()
    assert not any("mapping" in k or "fc" in k for k in names)
