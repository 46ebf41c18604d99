"""f̂: degradations that a gradient can pass, for searching a latent (thesis section 1.1, equations 2 and 3).

Each is called on images N×3×H×W, values about [0, 1], and stands for a true degradation f that the search never sees::

    f_hat = Chain(Known(preset("celebablur"), params), SoftJpeg(quality=15))

The blurs of :mod:`helpers.degrade` are differentiable as they are; noise is drawn anew at each call.
"""

import numpy as np
import torch
import torch.nn.functional as F

from helpers.degrade import DefocusBlur, Degradation, GaussianBlur, Jpeg, MotionBlur
from helpers.networks import ShapeError


class Known:
    """A degradation of :mod:`helpers.degrade` whose parameters are known for each image: f̂ = f.

    Parameters
    ----------
    params : what ``degradation.sample`` gave, a dict for each image or one for all
    """

    def __init__(self, degradation: Degradation, params: dict | list[dict]):
        if any(isinstance(part, Jpeg) for part in getattr(degradation, "degradations", (degradation,))):
            raise ValueError("JPEG rounds, so no gradient passes it; use SoftJpeg")
        self.degradation, self.params = degradation, params

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self.degradation(images, self.params)


class Downsample:
    """Average pooling by ``factor``: N×3×H×W to N×3×H/factor×W/factor."""

    def __init__(self, factor: int):
        if factor < 1:
            raise ValueError(f"factor must be at least 1, not {factor}")
        self.factor = factor

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-1] % self.factor or images.shape[-2] % self.factor:
            raise ShapeError(f"sides {tuple(images.shape[-2:])} are not divisible by {self.factor}")
        return F.avg_pool2d(images, self.factor)


class Mask:
    """Black where ``mask`` is 0: H×W or N×1×H×W of 0 and 1."""

    def __init__(self, mask: torch.Tensor):
        mask = mask[None, None] if mask.ndim == 2 else mask
        if mask.ndim != 4 or mask.shape[1] != 1:
            raise ShapeError(f"a mask must be H×W or N×1×H×W, got {tuple(mask.shape)}")
        self.mask = mask.float()

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if self.mask.shape[-2:] != images.shape[-2:] or len(self.mask) not in (1, len(images)):
            raise ShapeError(f"a mask of {tuple(self.mask.shape)} does not fit images of {tuple(images.shape)}")
        return images * self.mask.to(images)


class FreshNoise:
    """Gaussian noise of deviation ``sigma`` (one for each image), drawn anew at each call.

    Parameters
    ----------
    generator : draws the noise, on the images' device; PyTorch's own by default
    """

    def __init__(self, sigma: float | list[float], generator: torch.Generator | None = None):
        self.sigma = torch.as_tensor(sigma, dtype=torch.float32).reshape(-1, 1, 1, 1)
        self.generator = generator

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(images.shape, generator=self.generator, device=images.device, dtype=images.dtype)
        return soft_clamp(images + noise * self.sigma.to(images))


class PoissonNoise:
    """Few photons and dead pixels: Poisson noise as a Gaussian (mean λ - 1/2, deviation √λ), then random pixels black.

    Parameters
    ----------
    photons : λ of a white pixel; ``drop`` : share of pixels that are black in all channels
    """

    def __init__(self, photons: float, drop: float = 0.0):
        if photons <= 0 or not 0 <= drop < 1:
            raise ValueError(f"photons must be positive and drop in [0, 1), not {photons} and {drop}")
        self.photons, self.drop = photons, drop

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        rate = soft_clamp(images) * self.photons
        noisy = (rate - 0.5 + (rate + 1e-3).sqrt() * torch.randn_like(rate)) / self.photons
        keep = torch.rand_like(images[:, :1]) >= self.drop
        return soft_clamp(noisy * keep)

    def true(self, images: torch.Tensor) -> torch.Tensor:
        """f itself: whole numbers of photons."""
        counts = torch.poisson(images.clamp(0, 1) * self.photons) / self.photons
        return (counts * (torch.rand_like(images[:, :1]) >= self.drop)).clamp(0, 1)


def soft_clamp(x: torch.Tensor) -> torch.Tensor:
    """x in [0, 1]; the gradient is that of sigmoid(2x - 1), so that it does not vanish outside."""
    soft = torch.sigmoid(2 * (x - 0.5))
    return x.detach().clamp(0, 1) + soft - soft.detach()


class SoftJpeg:
    """JPEG at ``quality`` 1 to 100, one for all images or one for each, with 4:2:0 chroma and libjpeg's tables.

    Rounding has no slope and would stop the gradient; in the backward pass it gets 0.2 + 0.8 · 3 (x - round(x))², the
    larger the nearer x is to the next step.
    """

    LUMA = (
        "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
        "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
    )
    CHROMA = (
        "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99 " + "99 " * 32
    )

    def __init__(self, quality: float | list[float]):
        quality = np.atleast_1d(np.asarray(quality, float))
        if not ((quality >= 1) & (quality <= 100)).all():
            raise ValueError(f"quality must be 1 to 100, not {quality}")
        scale = np.where(quality < 50, 5000 / quality, 200 - 2 * quality).reshape(-1, 1, 1, 1, 1, 1)
        tables = (np.array(text.split(), float).reshape(8, 8) for text in (self.LUMA, self.CHROMA))
        self.tables = [torch.from_numpy(((t * scale + 50) // 100).clip(1, 255)).float() for t in tables]
        k = torch.arange(8.0)
        dct = torch.cos((2 * k[None] + 1) * k[:, None] * torch.pi / 16) / 2
        dct[0] /= 2**0.5
        self.dct = dct

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-1] % 16 or images.shape[-2] % 16:
            raise ShapeError(f"SoftJpeg wants sides divisible by 16, got {tuple(images.shape[-2:])}")
        r, g, b = (images * 255).unbind(1)
        y = 0.299 * r + 0.587 * g + 0.114 * b
        cb, cr = 128 + 0.564 * (b - y), 128 + 0.713 * (r - y)
        y = self._blocks(y[:, None], self.tables[0])[:, 0]
        chroma = self._blocks(F.avg_pool2d(torch.stack([cb, cr], 1), 2), self.tables[1])
        cb, cr = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False).unbind(1)
        red, blue = y + 1.402 * (cr - 128), y + 1.772 * (cb - 128)
        green = (y - 0.299 * red - 0.114 * blue) / 0.587
        return soft_clamp(torch.stack([red, green, blue], 1) / 255)

    def _blocks(self, plane: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """Each 8×8 block to frequencies, rounded in steps of ``table``, and back."""
        n, c, h, w = plane.shape
        dct, table = self.dct.to(plane), table.to(plane)
        blocks = plane.view(n, c, h // 8, 8, w // 8, 8).transpose(3, 4) - 128
        x = dct @ blocks @ dct.T / table
        rest = x - x.round()
        x = x.round().detach() + _gradient_only(0.2 * rest + 0.8 * rest**3)
        return (dct.T @ (x * table) @ dct + 128).transpose(3, 4).reshape(n, c, h, w)


def _gradient_only(x: torch.Tensor) -> torch.Tensor:
    return x - x.detach()


class Chain:
    """Equation 3: f̂_k ∘ ... ∘ f̂_1, the first given is the first applied."""

    def __init__(self, *parts):
        self.parts = parts

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        for part in self.parts:
            images = part(images)
        return images


def from_params(params: list[dict], generator: torch.Generator | None = None) -> Chain:
    """f̂ for images whose degradation is known by its parameters, as ``sample`` of :mod:`helpers.degrade` drew them.

    A blur is applied as it was; noise is drawn anew; JPEG becomes :class:`SoftJpeg`.

    Parameters
    ----------
    params : a dict for each image, all of the same kind: ``sigma``, ``length`` and ``angle``, ``radius``, ``noise``,
        ``quality``; numbered (``0.length``, ``1.noise``) where several were applied, else blur, noise, JPEG in order;
        an empty dict is no degradation
    generator : draws the noise, on the images' device; PyTorch's own by default
    """
    if not params or any(p.keys() != params[0].keys() for p in params):
        raise ValueError("every image needs parameters of the same kind")
    numbers = sorted({k.split(".")[0] for k in params[0]}) if all("." in k for k in params[0]) else [""]
    kinds = {"sigma": GaussianBlur, "length": MotionBlur, "radius": DefocusBlur}
    parts = []
    for number in numbers:
        mine = [{k.split(".")[-1]: v for k, v in p.items() if k.startswith(number)} for p in params]
        found = [Known(kinds[k](), mine) for k in kinds if k in mine[0]]
        if "noise" in mine[0]:
            found.append(FreshNoise([p["noise"] for p in mine], generator))
        if "quality" in mine[0]:
            found.append(SoftJpeg([p["quality"] for p in mine]))
        if not found:
            raise ValueError(f"no approximation is known for the parameters {', '.join(mine[0])}")
        parts += found
    return Chain(*parts)
