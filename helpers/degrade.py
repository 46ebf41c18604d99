"""Images made worse: Gaussian, motion and defocus blur, noise, JPEG, and the preset ``celebablur``.

A degradation is called on images and gives images. What is random in it is drawn first, image by image, by ``sample``;
so the same picture can be degraded in the same way again, its parameters can be printed, and a value of fixed size is
simply a range of no width::

    blur = GaussianBlur(sigma=(4, 8))
    params = blur.sample(rng)            # {"sigma": 5.7}
    blurred = blur(images, [params])     # images: N×3×H×W in [0, 1]

The thesis names its data set CelebABlur and defines no blur. Public code of that name applies a Gaussian blur of
21×21 pixels with σ drawn uniformly from [4, 8] to CelebA; :func:`preset` gives that as ``"celebablur"``.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from helpers.seeds import rng_for

Range = float | tuple[float, float]


def _range(value: Range, name: str, low: float, high: float) -> tuple[float, float]:
    """A number or a pair as a checked pair."""
    pair = (float(value), float(value)) if np.isscalar(value) else tuple(float(v) for v in value)
    if len(pair) != 2 or not (low <= pair[0] <= pair[1] <= high):
        raise ValueError(f"{name} must be a number or a pair (from, to) within [{low}, {high}], not {value!r}")
    return pair


class Degradation:
    """What all have in common: ``sample`` draws parameters for one image, calling degrades a batch."""

    def sample(self, rng: np.random.Generator) -> dict[str, float]:
        raise NotImplementedError

    def _apply(self, images: torch.Tensor, params: list[dict]) -> torch.Tensor:
        raise NotImplementedError

    def __call__(
        self,
        images: torch.Tensor,
        params: dict | list[dict] | None = None,
        rng: np.random.Generator | None = None,
    ) -> torch.Tensor:
        """Degrade images.

        Parameters
        ----------
        images : float tensor, N×3×H×W or 3×H×W, values in [0, 1]
        params : what ``sample`` gave, for each image or for all; drawn anew from ``rng`` if absent

        Returns
        -------
        float tensor of the same shape and device, values in [0, 1]
        """
        if images.ndim == 3:
            return self(images[None], params, rng)[0]
        if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
            raise ValueError(f"expected float images N×3×H×W in [0, 1], got {tuple(images.shape)} of {images.dtype}")
        if params is None:
            rng = rng or np.random.default_rng()
            params = [self.sample(rng) for _ in images]
        if isinstance(params, dict):
            params = [params]
        if len(params) == 1:
            params = list(params) * len(images)
        if len(params) != len(images):
            raise ValueError(f"{len(params)} sets of parameters for {len(images)} images")
        return self._apply(images, params)


# ---------------------------------------------------------------------------------------------------------------------
# Blurs: one kernel an image


def gaussian_kernel(sigma: float, size: int = 21) -> torch.Tensor:
    """Samples of exp(-(i² + j²) / 2σ²), i and j from -size//2 to size//2, divided by their sum: size×size."""
    axis = torch.arange(size, dtype=torch.float64) - size // 2
    line = torch.exp(-(axis**2) / (2 * sigma**2))
    line = line / line.sum()
    return torch.outer(line, line).float()


def motion_kernel(length: float, angle: float, size: int = 31) -> torch.Tensor:
    """A straight line through the centre, ``length`` pixels long at ``angle`` degrees (anticlockwise), summing to 1."""
    # Points a quarter of a pixel apart are shared out to the four nearest cells, so any angle and length is smooth.
    count = max(int(np.ceil(length * 4)), 1)
    along = (np.arange(count) + 0.5) / count * length - length / 2
    x = size // 2 + along * np.cos(np.deg2rad(angle))
    y = size // 2 - along * np.sin(np.deg2rad(angle))
    kernel = np.zeros((size + 1, size + 1))
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weight = np.abs(1 - dx - (x - x0)) * np.abs(1 - dy - (y - y0))
        np.add.at(kernel, (y0 + dy, x0 + dx), weight)
    kernel = kernel[:size, :size]
    return torch.from_numpy(kernel / kernel.sum()).float()


def defocus_kernel(radius: float, size: int = 31) -> torch.Tensor:
    """A disc of ``radius`` pixels with a soft rim one pixel wide, summing to 1."""
    axis = torch.arange(size, dtype=torch.float64) - size // 2
    distance = torch.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    disc = (radius + 0.5 - distance).clamp(0, 1)
    return (disc / disc.sum()).float()


def convolve(images: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Each image with its own kernel; the border is mirrored.

    Parameters
    ----------
    images : N×C×H×W
    kernels : N×k×k, k odd

    Returns
    -------
    N×C×H×W
    """
    n, c, h, w = images.shape
    k = kernels.shape[-1]
    if k // 2 >= min(h, w):
        raise ValueError(f"a kernel of {k}×{k} is too large for images of {w}×{h} pixels")
    padded = F.pad(images, [k // 2] * 4, mode="reflect").reshape(1, n * c, h + k - 1, w + k - 1)
    weight = kernels.to(images).flip(-1, -2)[:, None].repeat_interleave(c, dim=0)  # conv2d correlates: flip it
    return F.conv2d(padded, weight, groups=n * c).reshape(n, c, h, w)


class GaussianBlur(Degradation):
    """Gaussian blur; ``sigma`` in pixels (a number or a range), ``kernel_size`` odd."""

    def __init__(self, sigma: Range = (4.0, 8.0), kernel_size: int = 21):
        self.sigma = _range(sigma, "sigma", 0.05, 100)
        if kernel_size % 2 == 0 or kernel_size < 1:
            raise ValueError(f"kernel_size must be odd, not {kernel_size}")
        self.kernel_size = kernel_size

    def sample(self, rng):
        return {"sigma": float(rng.uniform(*self.sigma))}

    def _apply(self, images, params):
        # A Gaussian is a product of two lines: blurring rows and then columns is ten times cheaper than 21×21.
        n, c, h, w = images.shape
        r = self.kernel_size // 2
        if r >= min(h, w):
            raise ValueError(f"a kernel of {self.kernel_size} pixels is too large for images of {w}×{h} pixels")
        axis = torch.arange(-r, r + 1, dtype=torch.float64)
        sigma = torch.tensor([p["sigma"] for p in params], dtype=torch.float64)[:, None]
        lines = torch.exp(-(axis**2) / (2 * sigma**2))
        lines = (lines / lines.sum(1, keepdim=True)).to(images).repeat_interleave(c, dim=0)
        x = F.pad(images, [r] * 4, mode="reflect").reshape(1, n * c, h + 2 * r, w + 2 * r)
        x = F.conv2d(x, lines[:, None, None, :], groups=n * c)
        x = F.conv2d(x, lines[:, None, :, None], groups=n * c)
        return x.reshape(n, c, h, w)


class MotionBlur(Degradation):
    """Straight camera shake; ``length`` in pixels (at most 30), ``angle`` in degrees."""

    def __init__(self, length: Range = (5.0, 20.0), angle: Range = (0.0, 180.0)):
        self.length = _range(length, "length", 0, 30)
        self.angle = _range(angle, "angle", -360, 360)

    def sample(self, rng):
        return {"length": float(rng.uniform(*self.length)), "angle": float(rng.uniform(*self.angle))}

    def _apply(self, images, params):
        return convolve(images, torch.stack([motion_kernel(p["length"], p["angle"]) for p in params]))


class DefocusBlur(Degradation):
    """A lens out of focus: the mean over a disc of ``radius`` pixels (at most 15)."""

    def __init__(self, radius: Range = (2.0, 8.0)):
        self.radius = _range(radius, "radius", 0, 15)

    def sample(self, rng):
        return {"radius": float(rng.uniform(*self.radius))}

    def _apply(self, images, params):
        return convolve(images, torch.stack([defocus_kernel(p["radius"]) for p in params]))


# ---------------------------------------------------------------------------------------------------------------------
# Noise, JPEG, composition


class GaussianNoise(Degradation):
    """Independent Gaussian noise of standard deviation ``sigma`` (images in [0, 1]), clipped to [0, 1]."""

    def __init__(self, sigma: Range = (0.0, 0.1)):
        self.sigma = _range(sigma, "sigma", 0, 1)

    def sample(self, rng):
        return {"noise": float(rng.uniform(*self.sigma)), "noise_seed": int(rng.integers(2**31))}

    def _apply(self, images, params):
        noise = torch.stack(
            [
                torch.from_numpy(rng_for(p["noise_seed"]).standard_normal(images.shape[1:], np.float32)) * p["noise"]
                for p in params
            ]
        )
        return (images + noise.to(images)).clamp(0, 1)


class Jpeg(Degradation):
    """JPEG compression by OpenCV; ``quality`` from 1 (worst) to 100. Not differentiable."""

    def __init__(self, quality: Range = (10, 90)):
        self.quality = _range(quality, "quality", 1, 100)

    def sample(self, rng):
        return {"quality": float(round(rng.uniform(*self.quality)))}

    def _apply(self, images, params):
        arrays = (images.detach().clamp(0, 1) * 255).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
        out = []
        for array, p in zip(arrays, params, strict=True):
            _, data = cv2.imencode(".jpg", array[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(p["quality"])])
            decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
            out.append(decoded[..., ::-1] if images.shape[1] == 3 else decoded[..., :1])
        return torch.from_numpy(np.stack(out)).movedim(-1, 1).to(images) / 255


class Compose(Degradation):
    """One after the other. The position keeps parameters of equal name apart: ``{"0.sigma": ..., "1.noise": ...}``."""

    def __init__(self, *degradations: Degradation):
        self.degradations = degradations

    def sample(self, rng):
        return {f"{i}.{k}": v for i, d in enumerate(self.degradations) for k, v in d.sample(rng).items()}

    def _apply(self, images, params):
        for i, degradation in enumerate(self.degradations):
            mine = f"{i}."
            images = degradation(
                images, [{k[len(mine) :]: v for k, v in p.items() if k.startswith(mine)} for p in params]
            )
        return images


PRESETS = {
    "celebablur": lambda: GaussianBlur(sigma=(4.0, 8.0), kernel_size=21),
    "motion": lambda: MotionBlur(length=(5.0, 25.0), angle=(0.0, 180.0)),
    "defocus": lambda: DefocusBlur(radius=(3.0, 10.0)),
    "phone": lambda: Compose(MotionBlur(length=(0.0, 12.0)), GaussianNoise(sigma=(0.0, 0.06)), Jpeg(quality=(30, 90))),
}


def preset(name: str) -> Degradation:
    """A degradation by name: ``celebablur`` (the course's), ``motion``, ``defocus``, ``phone`` (shake, noise, JPEG)."""
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()
