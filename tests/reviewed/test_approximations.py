"""approximations: each f̂ against the true f (OpenCV's JPEG, Poisson's moments), gradients, composition."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers.degrade import Compose, DefocusBlur, GaussianBlur, GaussianNoise, Jpeg, MotionBlur, preset
from helpers.networks import ShapeError
from helpers.reviewed.approximations import (
    Chain,
    Downsample,
    FreshNoise,
    Known,
    Mask,
    PoissonNoise,
    SoftJpeg,
    from_params,
    soft_clamp,
)


def pictures(faces, count=2) -> torch.Tensor:
    return torch.from_numpy(faces[:count]).movedim(-1, 1).float() / 255


def gradient_of(function, images: torch.Tensor) -> torch.Tensor:
    images = images.clone().requires_grad_()
    torch.manual_seed(0)
    y = function(images)
    (y * torch.linspace(0.5, 1, y.numel()).view(y.shape)).sum().backward()
    return images.grad


BLUR = {"sigma": 4.5}
ALL = {
    "blur": lambda: Known(GaussianBlur(), BLUR),
    "downsample": lambda: Downsample(4),
    "mask": lambda: Mask(torch.ones(64, 64)),
    "noise": lambda: FreshNoise(0.05),
    "poisson": lambda: PoissonNoise(12, 0.1),
    "jpeg": lambda: SoftJpeg(15),
    "chain": lambda: Chain(Known(GaussianBlur(), BLUR), FreshNoise(0.02), SoftJpeg(30), Downsample(2)),
}


@pytest.mark.parametrize("name", ALL)
def test_a_gradient_passes(faces, name):
    """What a search needs of every f̂: finite everywhere, not 0, also where a picture leaves [0, 1]."""
    images = pictures(faces) * 1.4 - 0.2
    gradient = gradient_of(ALL[name](), images)
    assert torch.isfinite(gradient).all() and gradient.abs().sum((1, 2, 3)).min() > 1
    if name in ("poisson", "jpeg"):  # (almost) everywhere; 8×8 blocks at quality 15 are more than their mean
        assert gradient.ne(0).float().mean() > 0.8
        outside = (images < 0) | (images > 1)
        assert gradient[outside].ne(0).float().mean() > 0.8


# ---------------------------------------------------------------------------------------------------------------------
# Known blurs, downsampling, masks


@pytest.mark.parametrize(
    ("degradation", "params"),
    [(GaussianBlur(), BLUR), (MotionBlur(), {"length": 9.0, "angle": 30.0}), (DefocusBlur(), {"radius": 3.0})],
)
def test_a_known_blur_is_f_itself(faces, degradation, params):
    """And linear, so that the gradient does not depend on the picture."""
    images = pictures(faces)
    known = Known(degradation, params)
    assert torch.equal(known(images), degradation(images, params))
    assert torch.allclose(gradient_of(known, images), gradient_of(known, 1 - images), atol=1e-5)


def test_a_blur_for_each_image(faces):
    images, params = pictures(faces), [{"sigma": 4.0}, {"sigma": 8.0}]
    y = Known(GaussianBlur(), params)(images)
    for i in range(2):
        assert torch.allclose(y[i : i + 1], GaussianBlur()(images[i : i + 1], params[i]), atol=1e-6)


def test_jpeg_itself_is_refused():
    with pytest.raises(ValueError, match="use SoftJpeg"):
        Known(Jpeg(), {"quality": 10})


def test_downsampling_is_the_mean_of_squares():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert Downsample(2)(x).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert torch.equal(Downsample(1)(x), x)
    with pytest.raises(ShapeError, match="not divisible by 3"):
        Downsample(3)(x)
    with pytest.raises(ValueError, match="at least 1"):
        Downsample(0)


def test_mask():
    """Black where the mask is 0, in all channels; one mask for all pictures or one for each."""
    x = torch.rand(2, 3, 4, 4) + 0.1
    mask = torch.ones(4, 4)
    mask[1, 2] = 0
    y = Mask(mask)(x)
    assert (y[:, :, 1, 2] == 0).all() and torch.equal(y[:, :, 0], x[:, :, 0])
    both = torch.stack([mask, 1 - mask])[:, None]
    y = Mask(both)(x)
    assert torch.equal(y[1, :, 1, 2], x[1, :, 1, 2]) and (y[1, :, 0] == 0).all() and torch.equal(y[0, :, 0], x[0, :, 0])
    assert Mask(mask.bool())(x).dtype == x.dtype


@pytest.mark.parametrize("shape", [(8, 8), (3, 1, 4, 4)])
def test_a_mask_that_fits_nothing(shape):
    with pytest.raises(ShapeError, match=r"a mask of .* does not fit images of \(2, 3, 4, 4\)"):
        Mask(torch.ones(shape))(torch.rand(2, 3, 4, 4))


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 3, 4, 4), (4,)])
def test_a_mask_of_a_wrong_shape(shape):
    with pytest.raises(ShapeError, match="H×W or N×1×H×W"):
        Mask(torch.ones(shape))


# ---------------------------------------------------------------------------------------------------------------------
# Noise


def test_soft_clamp():
    """Values of clamp, gradients of sigmoid(2x - 1): s (1 - s) · 2, never 0."""
    x = torch.tensor([-1.0, 0.0, 0.3, 0.5, 1.0, 2.0], requires_grad=True)
    y = soft_clamp(x)
    assert torch.allclose(y.detach(), torch.tensor([0.0, 0, 0.3, 0.5, 1, 1]), atol=1e-7)
    y.sum().backward()
    s = 1 / (1 + np.exp(-2 * (x.detach().numpy() - 0.5)))
    assert x.grad.tolist() == pytest.approx((2 * s * (1 - s)).tolist(), rel=1e-5)
    assert x.grad[3].item() == pytest.approx(0.5)


def test_fresh_noise():
    """Another draw each time, of the deviation asked for, image by image."""
    noise, x = FreshNoise([0.0, 0.05]), torch.full((2, 3, 64, 64), 0.5)
    a, b = noise(x), noise(x)
    assert torch.equal(a[0], x[0]) and not torch.equal(a[1], b[1])
    assert a[1].std().item() == pytest.approx(0.05, rel=0.03) and a[1].mean().item() == pytest.approx(0.5, abs=0.002)
    assert FreshNoise(0.5)(x).min() == 0 and FreshNoise(0.5)(x).max() == 1


def test_noise_of_a_generator():
    """The same seed, the same noise, whatever PyTorch's own generator does; which is left alone."""
    x, before = torch.full((1, 3, 8, 8), 0.5), torch.random.get_rng_state()
    first, again = (from_params([{"noise": 0.1}], torch.Generator().manual_seed(7))(x) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(before, torch.random.get_rng_state())
    expected = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(7)) * 0.1 + 0.5
    assert torch.allclose(first, expected.clamp(0, 1))


@pytest.mark.parametrize("level", [0.3, 0.6])
def test_poisson_moments(level):
    """f: mean λ and variance λ of the counts. f̂: mean λ - 1/2 and the same variance, as the authors have it."""
    photons, x = 96.0, torch.full((4, 3, 128, 128), level)
    torch.manual_seed(0)
    noise = PoissonNoise(photons)
    counts = {"true": noise.true(x) * photons, "soft": noise(x) * photons}
    for name, mean in (("true", level * photons), ("soft", level * photons - 0.5)):
        assert counts[name].mean().item() == pytest.approx(mean, abs=0.06), name
        assert counts[name].var().item() == pytest.approx(level * photons, rel=0.02), name
    assert (counts["true"] - counts["true"].round()).abs().max() < 1e-4  # whole photons


def test_dead_pixels_are_dead_in_all_channels():
    x = torch.full((2, 3, 128, 128), 0.7)
    for y in (PoissonNoise(500, drop=0.3)(x), PoissonNoise(500, drop=0.3).true(x)):
        dead = y == 0
        assert torch.equal(dead.all(1), dead.any(1))
        assert dead.float().mean().item() == pytest.approx(0.3, abs=0.02)
        assert (y >= 0).all() and (y <= 1).all()


@pytest.mark.parametrize(("photons", "drop"), [(0, 0), (-1, 0), (10, 1), (10, -0.1)])
def test_noise_that_cannot_be(photons, drop):
    with pytest.raises(ValueError, match="photons must be positive and drop in"):
        PoissonNoise(photons, drop)


# ---------------------------------------------------------------------------------------------------------------------
# JPEG


@pytest.mark.parametrize("quality", [6, 15, 18, 50, 90])
def test_jpeg_is_opencvs(faces, quality):
    """Against libjpeg: a hundred times nearer to it than it is to the original, and never far."""
    images = pictures(faces, 4)
    bgr = [cv2.imencode(".jpg", f[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for f in faces[:4]]
    true = np.stack([cv2.imdecode(b, cv2.IMREAD_COLOR)[..., ::-1] for b in bgr]) / 255.0
    true = torch.from_numpy(true).movedim(-1, 1).float()
    error = (SoftJpeg(quality)(images) - true).square().mean().item()
    damage = (images - true).square().mean().item()
    assert error < 0.04 * damage, (error, damage)
    assert (SoftJpeg(quality)(images) - true).abs().mean() < 0.006


def test_jpeg_rounds_in_the_forward_pass(faces):
    """Applied twice it changes (nearly) nothing more: the frequencies already are whole steps."""
    jpeg, images = SoftJpeg(20), pictures(faces) * 0.6 + 0.2
    grey = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    once = jpeg(grey)
    assert (jpeg(once) - once).abs().mean() < 0.1 * (once - grey).abs().mean()


def test_jpegs_surrogate_gradient_by_hand():
    """A flat grey block has one frequency, its mean: y = round(8 (p - 128) / q) q / 8 + 128 with slope 0.2 + 2.4 r².

    Quality 50 has q = 16 for luma, so p = 128 + 2 (n + r) lies r steps from its n-th; the last clamp has slope
    2 s (1 - s) with s = sigmoid(2y - 1).
    """
    for n, r in ((4, 0.25), (4, -0.45), (10, 0.0)):
        p = 128 + 2 * (n + r)
        x = torch.full((1, 3, 16, 16), p / 255, requires_grad=True)
        y = SoftJpeg(50)(x)
        expected = (128 + 2 * n) / 255
        assert y.mean().item() == pytest.approx(expected, abs=1e-4)
        y.sum().backward()
        s = 1 / (1 + np.exp(1 - 2 * expected))
        slope = (0.2 + 2.4 * r**2) * 2 * s * (1 - s)
        assert x.grad.sum().item() / x.numel() == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize("quality", [0, 101, -3])
def test_qualities_that_are_none(quality):
    with pytest.raises(ValueError, match="quality must be 1 to 100"):
        SoftJpeg(quality)


def test_jpeg_of_odd_sizes():
    with pytest.raises(ShapeError, match="divisible by 16"):
        SoftJpeg(50)(torch.rand(1, 3, 24, 64))


# ---------------------------------------------------------------------------------------------------------------------
# Composition


def test_the_first_given_is_the_first_applied():
    """Equation 3: f̂_k ∘ ... ∘ f̂_1."""
    x = torch.tensor([[[[1.0]]]])
    assert Chain(lambda v: v + 1, lambda v: v * 10)(x).item() == 20
    assert Chain()(x) is x


def test_from_parameters_of_one_blur(faces):
    """σ, length and angle, or radius, as ``sample`` drew them, image by image."""
    images, rng = pictures(faces), np.random.default_rng(0)
    for name in ("celebablur", "motion", "defocus"):
        degradation = preset(name)
        params = [degradation.sample(rng) for _ in images]
        assert torch.allclose(from_params(params)(images), degradation(images, params), atol=1e-6), name


def test_from_parameters_of_a_composition(faces):
    """ "phone" is shake, noise and JPEG: near to the true one, whose noise it cannot know, with a gradient."""
    images, rng = pictures(faces, 4), np.random.default_rng(0)
    params = [preset("phone").sample(rng) for _ in images]
    f = from_params(params)
    assert [type(p) for p in f.parts] == [Known, FreshNoise, SoftJpeg]
    assert f.parts[1].sigma.flatten().tolist() == pytest.approx([p["1.noise"] for p in params])
    for i, p in enumerate(params):  # every image at its own quality
        assert torch.equal(f.parts[2].tables[0][i], SoftJpeg(p["2.quality"]).tables[0][0])
    true = preset("phone")(images, params)
    assert F.mse_loss(f(images), true) < 0.5 * F.mse_loss(images, true)
    assert gradient_of(f, images).abs().sum() > 0
    quiet = Compose(MotionBlur(), GaussianNoise(0))
    params = [quiet.sample(rng) for _ in images]
    assert torch.allclose(from_params(params)(images), quiet(images, params), atol=1e-6)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ([], "same kind"),
        ([{"sigma": 4.0}, {"radius": 2.0}], "same kind"),
        ([{"fog": 1.0}], "no approximation is known for the parameters fog"),
    ],
)
def test_parameters_that_say_nothing(params, told):
    with pytest.raises(ValueError, match=told):
        from_params(params)
