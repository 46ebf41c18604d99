"""Images made worse: Gaussian, motion and defocus blur, fewer pixels, noise, JPEG; ``celebablur``, ``blind``.

A degradation is called on images and gives images. What is random in it is drawn first, image by image, by ``sample``;
so the same picture can be degraded in the same way again, its parameters can be printed, and a value of fixed size is
simply a range of no width::

    blur = GaussianBlur(sigma=(4, 8))
    params = blur.sample(rng)            # {"sigma": 5.7}
    blurred = blur(images, [params])     # images: N×3×H×W in [0, 1]

The thesis names its data set CelebABlur and defines no blur. Public code of that name applies a Gaussian blur of
21×21 pixels with σ drawn uniformly from [4, 8] to CelebA; :func:`preset` gives that as ``"celebablur"``.

A person's own photograph has had something else done to it, nobody knows what. :class:`Blind` draws kind and strength
of everything, as blind restorers are trained; :data:`MATRIX` holds fixed cases on which methods are compared.
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
    """What all have in common: ``sample`` draws parameters for one image, calling degrades a batch.

    Attributes
    ----------
    batched : it degrades a batch as one; what goes image by image, or leaves the device for OpenCV, is faster in
        several threads of a processor than on a GPU
    """

    batched = True

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
    used = kernels.ne(0).any(0).nonzero().sub(k // 2).abs()
    rim = k // 2 - int(used.max()) if len(used) else 0
    if rim:  # a rim of zeros costs time and adds nothing
        kernels, k = kernels[:, rim : k - rim, rim : k - rim], k - 2 * rim
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

    batched = False

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
        self.batched = all(degradation.batched for degradation in degradations)

    def sample(self, rng):
        return {f"{i}.{k}": v for i, d in enumerate(self.degradations) for k, v in d.sample(rng).items()}

    def _apply(self, images, params):
        for i, degradation in enumerate(self.degradations):
            mine = f"{i}."
            images = degradation(
                images, [{k[len(mine) :]: v for k, v in p.items() if k.startswith(mine)} for p in params]
            )
        return images


# ---------------------------------------------------------------------------------------------------------------------
# Fewer pixels, and everything at once

WAYS = ("area", "bicubic", "bilinear")  # how programs make a picture smaller
SMALLEST = 8  # no picture is made smaller than so many pixels a side


def resize(images: torch.Tensor, height: int, width: int, way: str = "bicubic") -> torch.Tensor:
    """N×C×H×W to N×C×``height``×``width``; ``way`` is one of :data:`WAYS`, without aliasing where it shrinks."""
    if (height, width) == tuple(images.shape[2:]):
        return images
    if way == "area":
        return F.interpolate(images, (height, width), mode="area")
    shrinks = height < images.shape[2] or width < images.shape[3]
    return F.interpolate(images, (height, width), mode=way, align_corners=False, antialias=shrinks)


def _small(images: torch.Tensor, param: dict) -> torch.Tensor:
    """Images made smaller as ``scale`` and ``way`` of one set of parameters say; without them as they are."""
    if "scale" not in param:
        return images
    height, width = (max(min(SMALLEST, n), round(n / param["scale"])) for n in images.shape[2:])
    return resize(images, height, width, WAYS[int(param["way"])])


class Smaller(Degradation):
    """Made ``scale`` times smaller and enlarged again (bicubic); ``inner`` happens to the small picture.

    ``scale`` is 1 to 8 (a number or a range); ``way`` one of :data:`WAYS`, or None to draw one.
    """

    batched = False

    def __init__(self, scale: Range = (1.0, 4.0), way: str | None = "area", inner: Degradation | None = None):
        self.scale = _range(scale, "scale", 1, 8)
        if way is not None and way not in WAYS:
            raise ValueError(f"way must be one of {', '.join(WAYS)}, not {way!r}")
        self.way, self.inner = way, inner or Compose()

    def sample(self, rng):
        scale = float(rng.uniform(*self.scale))
        way = WAYS.index(self.way) if self.way else int(rng.integers(len(WAYS)))
        return {"scale": scale, "way": float(way), **self.inner.sample(rng)}

    def _apply(self, images, params):
        worse = [
            resize(self.inner(_small(image[None], p), [p]), *images.shape[2:])
            for image, p in zip(images, params, strict=True)
        ]
        return torch.cat(worse).clamp(0, 1)


class Blind(Degradation):
    """Nobody knows what was done to the picture: blur, then smaller, then noise, then JPEG, then back to the size.

    Which of these happen is drawn too, and a step that does not happen has no parameters: {} is a picture left as it
    was, {"radius": 3.1} a lens out of focus and nothing else. Blur alone is drawn often, because only there can fine
    detail be computed back; noise and JPEG destroy it.

    Parameters
    ----------
    sigma, length, radius : of a Gaussian, motion and defocus blur, in pixels; σ is drawn evenly on a logarithmic
        scale, so that mild blurs are frequent
    strong : a quarter of the blurs are Gaussian with σ from this range, the course's own blur
    scale : how many times smaller
    noise : standard deviation
    quality : of JPEG, at the small size or at full size
    untouched, alone : share of the pictures that are left as they were, and of those that are blurred and no more
    """

    batched = False

    def __init__(
        self,
        sigma: Range = (0.4, 4.0),
        length: Range = (2.0, 25.0),
        radius: Range = (0.8, 10.0),
        strong: Range = (4.0, 8.0),
        scale: Range = (1.0, 4.0),
        noise: Range = (0.0, 0.06),
        quality: Range = (30, 95),
        untouched: float = 0.08,
        alone: float = 0.45,
    ):
        self.sigma, self.strong = _range(sigma, "sigma", 0.05, 100), _range(strong, "strong", 0.05, 100)
        self.length, self.radius = _range(length, "length", 0, 30), _range(radius, "radius", 0.1, 15)
        self.scale, self.noise = _range(scale, "scale", 1, 8), _range(noise, "noise", 0, 1)
        self.quality = _range(quality, "quality", 1, 100)
        if not 0 <= untouched <= untouched + alone <= 1:
            raise ValueError(f"untouched and alone are shares that add to 1 at most, not {untouched} and {alone}")
        self.untouched, self.alone = untouched, alone

    def _blur(self, rng) -> dict[str, float]:
        kind = rng.integers(4)
        if kind == 0:
            return {"sigma": float(np.exp(rng.uniform(*np.log(self.sigma))))}
        if kind == 1:
            return {"sigma": float(rng.uniform(*self.strong))}
        if kind == 2:
            return {"length": float(rng.uniform(*self.length)), "angle": float(rng.uniform(0, 180))}
        return {"radius": float(rng.uniform(*self.radius))}

    def sample(self, rng):
        share = rng.uniform()
        if share < self.untouched:
            return {}
        if share < self.untouched + self.alone:
            return self._blur(rng)
        params = self._blur(rng) if rng.uniform() < 0.75 else {}
        if rng.uniform() < 0.5:
            params |= {"scale": float(rng.uniform(*self.scale)), "way": float(rng.integers(len(WAYS)))}
        if rng.uniform() < 0.6:
            params |= {"noise": float(rng.uniform(*self.noise)), "noise_seed": int(rng.integers(2**31))}
        if rng.uniform() < 0.7:
            params |= {"quality": float(round(rng.uniform(*self.quality))), "at_full_size": float(rng.integers(2))}
        return params

    def _apply(self, images, params):
        images = images.clone()
        for key, blur in (("sigma", GaussianBlur()), ("length", MotionBlur()), ("radius", DefocusBlur())):
            some = [i for i, p in enumerate(params) if key in p]
            if some:
                images[some] = blur(images[some], [params[i] for i in some])
        noise, jpeg, size = GaussianNoise(), Jpeg(), images.shape[2:]
        for i, p in enumerate(params):
            one = _small(images[i : i + 1], p)
            if "noise" in p:
                one = noise(one, [p])
            if "quality" in p and not p["at_full_size"]:
                one = jpeg(one, [p])
            one = resize(one, *size)
            if "quality" in p and p["at_full_size"]:
                one = jpeg(one, [p])
            images[i] = one[0]
        return images.clamp(0, 1)


PRESETS = {
    "celebablur": lambda: GaussianBlur(sigma=(4.0, 8.0), kernel_size=21),
    "motion": lambda: MotionBlur(length=(5.0, 25.0), angle=(0.0, 180.0)),
    "defocus": lambda: DefocusBlur(radius=(3.0, 10.0)),
    "phone": lambda: Compose(MotionBlur(length=(0.0, 12.0)), GaussianNoise(sigma=(0.0, 0.06)), Jpeg(quality=(30, 90))),
    "blind": Blind,
}


def preset(name: str) -> Degradation:
    """A degradation by name: ``celebablur`` (the course's), ``motion``, ``defocus``, ``phone`` (shake, noise, JPEG),
    ``blind`` (anything)."""
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()


# The common test of methods for photographs: fixed kinds, of fixed strength where a number is given.
MATRIX: dict[str, Degradation] = {
    "celebablur": preset("celebablur"),
    "Gaussian": GaussianBlur(2.0),
    "motion": preset("motion"),
    "defocus": preset("defocus"),
    "phone": preset("phone"),
    "4× smaller, JPEG": Compose(Smaller(4.0, "bilinear"), Jpeg(75)),
    "enlarged, noise": Compose(Smaller(2.0, "bicubic"), GaussianNoise(0.02)),
    "defocus, noise, JPEG": Compose(DefocusBlur(2.5), GaussianNoise(0.01), Jpeg(80)),
    "mild": Compose(GaussianBlur(0.8), Jpeg(90)),
    "sharp": Compose(),
}
