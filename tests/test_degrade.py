"""helpers.degrade: kernels by hand, convolution against other programs, randomness that can be repeated."""

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from helpers import degrade, metrics
from helpers.data import normalise, open_folder
from helpers.degrade import (
    MATRIX,
    WAYS,
    Blind,
    Compose,
    DefocusBlur,
    GaussianBlur,
    GaussianNoise,
    Jpeg,
    MotionBlur,
    Smaller,
    convolve,
    defocus_kernel,
    gaussian_kernel,
    motion_kernel,
    preset,
    resize,
)
from helpers.pairs import Pairs
from helpers.seeds import rng_for

EACH = {
    "gaussian": GaussianBlur((1, 3), kernel_size=9),
    "motion": MotionBlur((3, 12)),
    "defocus": DefocusBlur((1, 5)),
    "noise": GaussianNoise((0.01, 0.1)),
    "jpeg": Jpeg((20, 80)),
    "chain": Compose(GaussianBlur((1, 2)), GaussianNoise(0.05), Jpeg(50)),
    "smaller": Smaller((1, 4), None, Compose(GaussianNoise(0.02), Jpeg((40, 90)))),
    "blind": Blind(),
}


def as_tensor(faces: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(faces).movedim(-1, 1).float() / 255


# ---------------------------------------------------------------------------------------------------------------------
# Kernels


@pytest.mark.parametrize(
    "kernel",
    [gaussian_kernel(0.3), gaussian_kernel(8), gaussian_kernel(2, 5), defocus_kernel(0), defocus_kernel(7.3)]
    + [motion_kernel(length, angle) for length in (0, 0.1, 1, 7.5, 30) for angle in (0, 33, 90, 135, -60, 360)],
)
def test_kernels_sum_to_one(kernel):
    """A kernel is an average: no weight is negative and they add to 1 (float32: 1e-6)."""
    assert kernel.dtype == torch.float32 and (kernel >= 0).all()
    assert kernel.sum().item() == pytest.approx(1, abs=1e-6)


def test_gaussian_kernel_by_hand():
    """σ = 1, 3×3: weights in the ratio 1 : e^-0.5 : e^-1 from centre to edge to corner."""
    edge, corner = np.exp(-0.5), np.exp(-1)
    total = 1 + 4 * edge + 4 * corner
    expected = np.array([[corner, edge, corner], [edge, 1, edge], [corner, edge, corner]]) / total
    assert np.allclose(gaussian_kernel(1, 3).numpy(), expected, atol=1e-7)


@pytest.mark.parametrize(("sigma", "size"), [(4.0, 21), (8.0, 21), (1.3, 7)])
def test_gaussian_kernel_is_opencvs(sigma, size):
    line = cv2.getGaussianKernel(size, sigma, cv2.CV_64F)
    assert np.allclose(gaussian_kernel(sigma, size).numpy(), line @ line.T, atol=1e-7)


def test_defocus_kernel_by_hand():
    """Radius 1: centre and four neighbours count 1 and 0.5; the diagonals, √2 away, 0.0858; others nothing."""
    kernel = defocus_kernel(1, 5).double()
    diagonal = 1.5 - 2**0.5
    total = 1 + 4 * 0.5 + 4 * diagonal
    assert kernel[2, 2].item() == pytest.approx(1 / total, abs=1e-6)
    assert kernel[2, 3].item() == pytest.approx(0.5 / total, abs=1e-6)
    assert kernel[3, 3].item() == pytest.approx(diagonal / total, abs=1e-6)
    assert kernel[2, 4] == 0


def test_no_motion_is_no_blur():
    kernel = motion_kernel(0, 45)
    assert kernel[15, 15] == 1 and kernel.sum() == 1


def extent(kernel: torch.Tensor) -> tuple[float, float]:
    """Standard deviations of a kernel's weight along x and y, in pixels."""
    k = kernel.double().numpy()
    at = np.arange(k.shape[0]) - k.shape[0] // 2
    return float(np.sqrt((k.sum(0) * at**2).sum())), float(np.sqrt((k.sum(1) * at**2).sum()))


@pytest.mark.parametrize("length", [6.0, 12.0, 25.0])
def test_motion_has_its_length_and_angle(length):
    """A line of length l has the standard deviation l/√12 along and 0 across; shared cells add at most 0.3 pixels."""
    along, across = extent(motion_kernel(length, 0))
    assert along == pytest.approx(length / 12**0.5, abs=0.3) and across == 0
    across, along = extent(motion_kernel(length, 90))
    assert along == pytest.approx(length / 12**0.5, abs=0.3) and across < 1e-6
    assert extent(motion_kernel(length, 45)) == pytest.approx([length / 24**0.5] * 2, abs=0.3)


def test_motion_angle_is_anticlockwise():
    """At 45° the line runs from bottom left to top right: row index falls while column index grows."""
    kernel = motion_kernel(12, 45).numpy()
    rows, columns = np.nonzero(kernel > kernel.max() / 2)
    assert np.corrcoef(rows, columns)[0, 1] < -0.9
    assert np.allclose(motion_kernel(12, 225), kernel, atol=1e-6)  # a line has no front end
    assert np.allclose(motion_kernel(12, 135), kernel[:, ::-1], atol=1e-6)


@pytest.mark.parametrize(("angle", "blurred_axis"), [(0, 3), (90, 2)])
def test_motion_blurs_along_its_direction(angle, blurred_axis):
    """0° is horizontal: a vertical edge is smeared, a horizontal one stays as it is."""
    step = torch.zeros(1, 1, 64, 64)
    step[..., 32:] = 1  # changes from column to column
    picture = step if blurred_axis == 3 else step.transpose(2, 3)
    kept = picture.transpose(2, 3)
    blur = MotionBlur(length=10, angle=angle)
    grey = blur(picture)
    assert ((grey > 0.05) & (grey < 0.95)).sum().item() >= 8 * 64
    assert torch.allclose(blur(kept), kept, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Convolution


def test_convolve_by_explicit_loops():
    """Σ k[a, b] x[i - a, j - b] with a lopsided kernel (a correlation would differ) and mirrored borders."""
    rng = np.random.default_rng(0)
    image, kernel = rng.random((6, 7)), rng.random((3, 3))
    padded = np.pad(image, 1, mode="reflect")
    expected = np.zeros_like(image)
    for i in range(6):
        for j in range(7):
            for a in (-1, 0, 1):
                for b in (-1, 0, 1):
                    expected[i, j] += kernel[1 + a, 1 + b] * padded[1 + i - a, 1 + j - b]
    result = convolve(torch.from_numpy(image)[None, None], torch.from_numpy(kernel)[None])
    assert np.allclose(result[0, 0].numpy(), expected, atol=1e-12)


def test_convolve_against_scipy_each_image_its_kernel(faces):
    """SciPy calls the border that does not repeat the outermost pixel "mirror". Float32 sums of 961 terms: 1e-5."""
    images = as_tensor(faces[:3])
    kernels = torch.stack([motion_kernel(9, 30), motion_kernel(20, 100), defocus_kernel(4)])
    result = convolve(images, kernels)
    for image, kernel, ours in zip(images, kernels, result, strict=True):
        for channel in range(3):
            theirs = ndimage.convolve(image[channel].numpy(), kernel.numpy(), mode="mirror")
            assert np.allclose(ours[channel].numpy(), theirs, atol=1e-5)


@pytest.mark.parametrize("size", [5, 21])
def test_separable_blur_equals_the_full_convolution(faces, size):
    """Rows, then columns, is the same as the whole kernel at once."""
    images, sigmas = as_tensor(faces[:2]), [1.2, 6.0]
    fast = GaussianBlur((0.5, 8), size)(images, [{"sigma": s} for s in sigmas])
    full = convolve(images, torch.stack([gaussian_kernel(s, size) for s in sigmas]))
    assert torch.allclose(fast, full, atol=1e-5)


@pytest.mark.parametrize("sigma", [4.0, 5.3, 8.0])
def test_celebablur_is_opencvs_gaussian_blur(faces, sigma):
    """On 8-bit pictures within one grey level: OpenCV works in fixed point, we in float32."""
    ours = preset("celebablur")(as_tensor(faces[:3]), {"sigma": sigma})
    for image, result in zip(faces, ours, strict=False):
        theirs = cv2.GaussianBlur(image, (21, 21), sigma, borderType=cv2.BORDER_REFLECT_101)
        rounded = (result * 255).round().movedim(0, -1).numpy()
        assert np.abs(rounded - theirs).max() <= 1


@pytest.mark.parametrize("name", ["gaussian", "motion", "defocus"])
@pytest.mark.parametrize("value", [0.0, 0.37, 1.0])
def test_blurs_keep_a_constant_image(name, value):
    """Weights that sum to 1, and a mirrored border, leave a blank wall blank."""
    wall = torch.full((2, 3, 48, 48), value)
    assert torch.allclose(EACH[name](wall, rng=np.random.default_rng(0)), wall, atol=1e-5)


@pytest.mark.parametrize("blur", [GaussianBlur(4, 41), lambda x: convolve(x, gaussian_kernel(4, 41)[None])])
def test_too_large_a_kernel_for_the_picture(blur):
    with pytest.raises(ValueError, match="41.*too large"):
        blur(torch.zeros(1, 3, 20, 20))


# ---------------------------------------------------------------------------------------------------------------------
# Noise and JPEG


def test_noise_has_its_standard_deviation():
    """On mid grey nothing is clipped. 3·128·128 numbers: the estimate is good to 0.3 %; 2 % allows for six sigma."""
    grey = torch.full((1, 3, 128, 128), 0.5)
    noise = GaussianNoise(0.08)(grey, {"noise": 0.08, "noise_seed": 5}) - grey
    assert noise.std().item() == pytest.approx(0.08, rel=0.02)
    assert abs(noise.mean().item()) < 0.002
    channels = noise.flatten(2)[0]
    assert torch.corrcoef(channels).triu(1).abs().max() < 0.03  # independent from channel to channel


def test_noise_is_clipped_and_seeded_for_each_image():
    images = torch.full((2, 3, 32, 32), 0.5)
    noise = GaussianNoise(0.5)
    a = noise(images, [{"noise": 0.5, "noise_seed": 1}, {"noise": 0.5, "noise_seed": 2}])
    assert a.min() == 0 and a.max() == 1 and not torch.equal(a[0], a[1])
    b = noise(images, [{"noise": 0.5, "noise_seed": 2}, {"noise": 0.0, "noise_seed": 2}])
    assert torch.equal(b[0], a[1]) and torch.equal(b[1], images[1])


def test_jpeg_gets_better_with_quality(faces):
    """The squared error falls as the quality grows; at 100 it is below one grey level of variance or so."""
    images = as_tensor(faces[:4])
    errors = [(Jpeg(q)(images) - images).square().mean().item() for q in (5, 20, 50, 80, 100)]
    assert errors == sorted(errors, reverse=True) and errors[0] > 4 * errors[-1]


def test_jpeg_keeps_colours_in_order():
    """A red picture stays red, also with one channel only."""
    red = torch.zeros(1, 3, 32, 32)
    red[:, 0] = 1
    assert torch.allclose(Jpeg(95)(red), red, atol=0.03)
    grey = torch.full((1, 1, 32, 32), 0.4)
    assert Jpeg(95)(grey).shape == grey.shape and torch.allclose(Jpeg(95)(grey), grey, atol=0.02)


# ---------------------------------------------------------------------------------------------------------------------
# The contract that all share


@pytest.mark.parametrize("name", EACH)
def test_same_parameters_give_the_same_result(name, faces):
    """And the pictures stay in [0, 1] (up to float32 rounding), of the same shape, the input untouched."""
    images = as_tensor(faces[:3])
    before = images.clone()
    params = [EACH[name].sample(np.random.default_rng(i)) for i in range(3)]
    first, second = EACH[name](images, params), EACH[name](images, params)
    assert torch.equal(first, second) and torch.equal(images, before)
    assert first.shape == images.shape and first.dtype == torch.float32
    assert first.min() >= -1e-6 and first.max() <= 1 + 1e-6
    assert not torch.allclose(first, images, atol=1e-3)


@pytest.mark.parametrize("name", EACH)
def test_a_batch_equals_one_by_one(name, faces):
    """Grouped convolution may sum in another order: 1e-6; JPEG could then round to another 8-bit value in between."""
    images = as_tensor(faces[:3])
    params = [EACH[name].sample(np.random.default_rng(i)) for i in range(3)]
    together = EACH[name](images, params)
    alone = torch.stack([EACH[name](image, p) for image, p in zip(images, params, strict=True)])
    close = (together - alone).abs() <= 1e-6
    assert close.all() if name != "chain" else close.float().mean() > 0.99


@pytest.mark.parametrize("name", EACH)
def test_sampling_depends_on_the_generator_alone(name):
    draw = EACH[name].sample
    assert draw(np.random.default_rng(3)) == draw(np.random.default_rng(3))
    if name != "chain":
        assert draw(np.random.default_rng(3)) != draw(np.random.default_rng(4))


def test_samples_fill_their_range():
    """A thousand draws of σ from [4, 8]: within, and close to both ends and to the mean of 6."""
    rng = np.random.default_rng(0)
    sigmas = np.array([GaussianBlur((4, 8)).sample(rng)["sigma"] for _ in range(1000)])
    assert sigmas.min() >= 4 and sigmas.max() <= 8
    assert sigmas.min() < 4.05 and sigmas.max() > 7.95 and sigmas.mean() == pytest.approx(6, abs=0.15)


def test_a_number_is_a_range_without_width():
    assert GaussianBlur(3).sample(np.random.default_rng()) == {"sigma": 3.0}


def test_one_set_of_parameters_serves_all(faces):
    images = as_tensor(faces[:3])
    blur = GaussianBlur(3)
    assert torch.equal(blur(images, {"sigma": 3.0}), blur(images, [{"sigma": 3.0}] * 3))


def test_wrong_number_of_parameters():
    with pytest.raises(ValueError, match="2 sets of parameters for 3 images"):
        GaussianBlur(3, 5)(torch.zeros(3, 3, 32, 32), [{"sigma": 3.0}] * 2)


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 4, 8, 8), torch.zeros(8, 8)]
)
def test_wrong_images(images):
    with pytest.raises(ValueError, match="expected float images"):
        GaussianBlur(3, 5)(images)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianBlur((8, 4)),
        lambda: GaussianBlur(0),
        lambda: GaussianBlur(-1),
        lambda: GaussianBlur((1, 2, 3)),
        lambda: GaussianBlur(float("nan")),
        lambda: MotionBlur(length=31),
        lambda: DefocusBlur(radius=16),
        lambda: GaussianNoise(sigma=1.5),
        lambda: Jpeg(quality=0),
        lambda: Jpeg(quality=(50, 101)),
    ],
)
def test_ranges_are_checked(make):
    with pytest.raises(ValueError, match="must be a number or a pair"):
        make()


@pytest.mark.parametrize("size", [20, 0, -3])
def test_kernel_size_must_be_odd(size):
    with pytest.raises(ValueError, match="odd"):
        GaussianBlur(3, kernel_size=size)


def test_compose_keeps_order_and_names(faces):
    """Parameters carry their position; blur then noise is noisy, noise then blur is smooth."""
    chain = Compose(GaussianBlur(2, 9), GaussianBlur(3, 9), GaussianNoise(0.1))
    params = chain.sample(np.random.default_rng(0))
    assert set(params) == {"0.sigma", "1.sigma", "2.noise", "2.noise_seed"}
    assert (params["0.sigma"], params["1.sigma"], params["2.noise"]) == (2, 3, 0.1)
    images = as_tensor(faces[:1])
    by_hand = GaussianNoise(0.1)(
        GaussianBlur(3, 9)(GaussianBlur(2, 9)(images, {"sigma": 2}), {"sigma": 3}),
        {"noise": 0.1, "noise_seed": params["2.noise_seed"]},
    )
    assert torch.equal(chain(images, params), by_hand)
    flat = torch.full((1, 3, 64, 64), 0.5)
    rough = Compose(GaussianBlur(3), GaussianNoise(0.1))(flat, rng=np.random.default_rng(0)).std()
    smooth = Compose(GaussianNoise(0.1), GaussianBlur(3))(flat, rng=np.random.default_rng(0)).std()
    assert rough > 3 * smooth


def test_compose_of_eleven_keeps_positions_apart():
    """ "1." must not be taken for the start of "10."."""
    chain = Compose(*[GaussianBlur(float(i + 1), 5) for i in range(11)])
    params = chain.sample(np.random.default_rng(0))
    assert [params[f"{i}.sigma"] for i in range(11)] == [float(i + 1) for i in range(11)]
    assert chain(torch.zeros(1, 3, 16, 16), params).shape == (1, 3, 16, 16)


def test_a_rim_of_zeros_is_cut_off_unseen(faces):
    """A 3×3 kernel in the middle of 31×31 gives what it gives alone, and so does one that fills its square."""
    images, rng = as_tensor(faces[:2]), np.random.default_rng(0)
    small = torch.from_numpy(rng.random((2, 3, 3))).float()
    wide = torch.zeros(2, 31, 31)
    wide[:, 14:17, 14:17] = small
    assert torch.allclose(convolve(images, wide), convolve(images, small), atol=1e-5)
    corner = torch.zeros(2, 31, 31)
    corner[:, 0, 0] = 1  # moves the picture 15 pixels up and to the left
    assert torch.equal(convolve(images, corner)[..., 20:40, 20:40], images[..., 35:55, 35:55])


# ---------------------------------------------------------------------------------------------------------------------
# Fewer pixels, blind, the matrix


def test_resize_by_hand():
    """A quarter of the pixels by area is the mean of 2×2; every way keeps a flat picture and its mean brightness."""
    picture = torch.arange(16.0).view(1, 1, 4, 4) / 16
    assert torch.allclose(resize(picture, 2, 2, "area"), torch.tensor([[2.5, 4.5], [10.5, 12.5]])[None, None] / 16)
    for way in WAYS:
        assert torch.allclose(resize(torch.full((1, 3, 12, 12), 0.3), 5, 7, way), torch.tensor(0.3), atol=1e-6)
        assert resize(picture, 4, 4, way) is picture


@pytest.mark.parametrize("way", WAYS)
def test_smaller_leaves_no_fine_stripes(way):
    """Stripes of one pixel vanish at half the size, without aliasing into broad ones; wide ones stay."""
    fine = torch.zeros(1, 3, 64, 64)
    fine[..., ::2] = 1
    broad = torch.zeros(1, 3, 64, 64)
    broad[..., :32] = 1
    fine, broad = (Smaller(2.0, way)(p)[..., 16:48, 8:24] for p in (fine, broad))
    assert fine.std() < 0.1 and fine.mean().item() == pytest.approx(0.5, abs=0.05) and broad.min() > 0.98


def test_smaller_does_the_rest_at_the_small_size(faces):
    """By hand: shrunk by area, JPEG of 16×16, enlarged bicubic and clipped."""
    images = as_tensor(faces[:2])
    small = Jpeg(40)(torch.nn.functional.interpolate(images, (16, 16), mode="area"))
    wanted = torch.nn.functional.interpolate(small, (64, 64), mode="bicubic", align_corners=False).clamp(0, 1)
    assert torch.equal(Smaller(4.0, "area", Jpeg(40))(images), wanted)
    params = Smaller((1, 4), None, GaussianNoise(0.1)).sample(rng_for(0))
    assert set(params) == {"scale", "way", "noise", "noise_seed"} and 1 <= params["scale"] <= 4


@pytest.mark.parametrize("change", [{"scale": 0.5}, {"scale": (2, 9)}, {"way": "nearest"}])
def test_impossible_sizes_are_refused(change):
    with pytest.raises(ValueError):
        Smaller(**change)


def test_blind_by_hand(faces):
    """Blur, smaller, noise, JPEG at the small size or at full size, back: the single steps in this order."""
    image = as_tensor(faces[:1])
    full = {"radius": 3.0, "scale": 2.0, "way": 1.0, "noise": 0.04, "noise_seed": 5, "quality": 50.0}
    small = resize(DefocusBlur(3.0)(image), 32, 32, "bicubic")
    noisy = GaussianNoise(0.04)(small, {"noise": 0.04, "noise_seed": 5})
    wanted = resize(Jpeg(50)(noisy), 64, 64)
    assert torch.allclose(Blind()(image, full | {"at_full_size": 0.0}), wanted.clamp(0, 1), atol=1e-6)
    wanted = Jpeg(50)(resize(noisy, 64, 64))
    assert torch.allclose(Blind()(image, full | {"at_full_size": 1.0}), wanted, atol=1e-6)
    for blur in (GaussianBlur(1.5), MotionBlur(9.0, 30.0), DefocusBlur(4.0)):
        params = blur.sample(rng_for(0))
        assert torch.allclose(Blind()(image, params), blur(image, params), atol=1e-5)
    assert torch.equal(Blind()(image, {}), image)


def test_blind_in_a_batch_is_blind_alone(faces):
    """Images of all kinds together: each as it is alone, and the batch that came in unchanged."""
    blind, images = Blind(), as_tensor(np.concatenate([faces] * 3))
    params, before = [blind.sample(rng_for(2, i)) for i in range(len(images))], images.clone()
    together = blind(images, params)
    assert torch.equal(images, before)
    kinds = {next(iter(p), "") for p in params}
    assert kinds >= {"", "sigma", "length", "radius"}
    for i, p in enumerate(params):
        # A value on the other side of a rounding changes a JPEG block; what is computed is the same.
        assert (blind(images[i], p) - together[i]).abs().mean() < 2e-3, p


def test_what_blind_draws():
    """Shares and ranges: untouched pictures, blur alone, every step with and without the others."""
    draws = [Blind().sample(rng_for(1, i)) for i in range(4000)]

    def share(said) -> float:
        return sum(bool(said(p)) for p in draws) / len(draws)

    def spread(key: str) -> np.ndarray:
        return np.array([p[key] for p in draws if key in p])

    blurs = {"sigma", "length", "radius", "angle"}
    assert share(lambda p: not p) == pytest.approx(0.08, abs=0.03)
    assert share(lambda p: p and set(p) <= blurs) == pytest.approx(0.45, abs=0.06)
    assert share(lambda p: "length" in p) == pytest.approx(share(lambda p: "radius" in p), abs=0.03)
    for one in ("scale", "noise", "quality"):
        assert 0.2 < share(lambda p, one=one: one in p) < 0.4
        assert share(lambda p, one=one: one in p and not blurs & set(p)) > 0.03
    assert share(lambda p: {"scale", "noise", "quality"} <= set(p)) > 0.05
    limits = {"sigma": (0.4, 8), "length": (2, 25), "radius": (0.8, 10), "scale": (1, 4), "noise": (0, 0.06)}
    for key, (low, high) in {**limits, "quality": (30, 95), "angle": (0, 180)}.items():
        values, margin = spread(key), (high - low) / 40
        assert low <= values.min() < low + margin and high - margin < values.max() <= high, key
    assert (spread("sigma") < 1).mean() > 0.1  # mild ones
    assert set(spread("way")) == {0, 1, 2} and set(spread("at_full_size")) == {0, 1}
    assert Blind().sample(rng_for(3)) == Blind().sample(rng_for(3))


@pytest.mark.parametrize(
    "change", [{"untouched": 0.7}, {"alone": -0.1}, {"sigma": (0, 2)}, {"radius": 20}, {"scale": (0.5, 2)}]
)
def test_impossible_shares_and_ranges_are_refused(change):
    with pytest.raises(ValueError):
        Blind(**{"alone": 0.4} | change)


def test_the_matrix(faces):
    """At least eight cases, each the same whenever it is asked for; all but one change the picture."""
    images = as_tensor(faces[:4])
    assert len(MATRIX) >= 8 and list(MATRIX)[0] == "celebablur"
    errors = {}
    for name, case in MATRIX.items():
        params = [case.sample(rng_for(i)) for i in range(4)]
        assert params == [case.sample(rng_for(i)) for i in range(4)]
        worse = case(images, params)
        assert worse.shape == images.shape and torch.equal(worse, case(images, params))
        errors[name] = (worse - images).square().mean().item()
    assert errors.pop("sharp") == 0 and min(errors.values()) > 1e-3


@pytest.mark.parametrize("name", degrade.PRESETS)
def test_presets_run(name, faces):
    worse = preset(name)(as_tensor(faces[:2]), rng=np.random.default_rng(0))
    assert worse.shape == (2, 3, 64, 64)


def test_unknown_preset():
    with pytest.raises(ValueError, match="celebablur, motion"):
        preset("celebAblur2")


def test_celebablur_is_what_public_code_of_that_name_does():
    """A Gaussian of 21×21 pixels, σ uniform in [4, 8]: a single bright pixel spreads over exactly 21×21."""
    blur = preset("celebablur")
    point = torch.zeros(1, 1, 64, 64)
    point[..., 32, 32] = 1
    rows = (blur(point, {"sigma": 8.0})[0, 0].sum(1) > 0).nonzero().flatten()
    assert (rows.min().item(), rows.max().item()) == (22, 42)
    sigmas = [blur.sample(np.random.default_rng(i))["sigma"] for i in range(200)]
    assert 4 <= min(sigmas) < 4.2 and 7.8 < max(sigmas) <= 8


@pytest.mark.parametrize(
    ("name", "psnr"), [("celebablur", 21.8), ("Gaussian", 27.2), ("motion", 24.5), ("defocus", 23.7), ("phone", 28.6)]
    + [("4× smaller, JPEG", 26.9)],
)  # fmt: skip
def test_the_matrix_on_photographs_as_elsewhere(real_faces, name, psnr):
    """PSNR of the input on 100 photographs, as an independent measurement of these kinds gave it."""
    photographs = open_folder(real_faces / "test")
    photographs.paths = photographs.paths[:100]
    batch = Pairs(photographs.load(), MATRIX[name]).batch(range(100))
    assert np.mean([*map(metrics.psnr, batch.blurred, batch.sharp)]) == pytest.approx(psnr, abs=0.15)


def test_real_photographs_measure_as_elsewhere(real_faces):
    """400 blurred photographs against an independent measurement (OpenCV, other random numbers).

    It gave PSNR 22.06, SSIM 0.584, L1 0.1127, MSE 0.0275; the tolerances allow for another draw of σ.
    """
    pairs = Pairs(open_folder(real_faces / "test").load())
    sums = np.zeros(4)
    for batch in pairs.batches():
        a, b = normalise(batch.blurred), normalise(batch.sharp)
        sums += (
            sum(map(metrics.psnr, batch.blurred, batch.sharp)),
            sum(map(metrics.ssim, batch.blurred, batch.sharp)),
            metrics.l1(a, b).sum().item(),
            metrics.mse(a, b).sum().item(),
        )
    psnr, ssim, l1, mse = sums / len(pairs)
    assert psnr == pytest.approx(22.0, abs=0.15)
    assert ssim == pytest.approx(0.58, abs=0.01)
    assert l1 == pytest.approx(0.113, abs=0.002)
    assert mse == pytest.approx(0.0275, abs=0.0006)
