"""Wiener's filter for pictures whose blur is known: the best that a method without training does here.

The filter divides the spectrum of the picture by that of the blur, except where noise is stronger than the signal:
X̂ = H̄ · Y / (|H|² + K), with H the spectrum of the blur; the mean colour is kept. K, the power of the noise over that of
the signal, is one number for all frequencies and all pictures of a kind. It is chosen on validation faces by ::

    python -m helpers.wiener                          # and with --degradation motion, --degradation phone

which prints the mean PSNR for each K of :data:`LEVELS`; the best ones are :data:`NOISE`. Test faces take no part.
"""

import numpy as np
import torch

from helpers.data import ImageError, load_split
from helpers.engine.commands import bare_parser, positive_int
from helpers.metrics import psnr
from helpers.pairs import Pairs
from helpers.reviewed.approximations import Known, from_params

LEVELS = tuple(float(f"{10 ** (-6 + k / 2):.2g}") for k in range(11))  # 1e-6, 3.2e-6, 1e-5, ... 0.1
# K by kind, see :func:`kind_of`; chosen with 200 validation faces (celebablur) and with 40 each (motion, phone).
NOISE = {"symmetric": 1e-4, "motion": 1e-2, "noisy": 3.2e-2}


def kind_of(params: dict) -> str:
    """What K a degradation wants, a key of :data:`NOISE`.

    A blur that is its own mirror image, of Gauss or of a lens, fits the mirrored border exactly, so rounding to 8 bits
    is the only noise. A motion does not fit it; the border's error counts as noise. Noise and JPEG are noise.
    """
    names = {name.split(".")[-1] for name in params}
    if names & {"noise", "quality"}:
        return "noisy"
    return "motion" if "length" in names else "symmetric"


def spectrum(params: dict, height: int, width: int) -> np.ndarray:
    """H, the spectrum of a blur whose centre is at the origin: complex, height × (width // 2 + 1).

    Parameters
    ----------
    params : what the degradation drew for a picture; parts of it that are no blur (noise, JPEG) are left out
    """
    point = torch.zeros(1, 1, height, width)
    point[..., height // 2, width // 2] = 1
    for part in from_params([params]).parts:
        if isinstance(part, Known):
            point = part(point)
    return np.fft.rfft2(np.fft.ifftshift(point[0, 0].double().numpy()))


def deconvolve(images: np.ndarray, params: list[dict], noise: float | None = None) -> np.ndarray:
    """Pictures without their blur: uint8 N×H×W×3 to the same.

    The blur mirrored the picture at its border. So the filter sees the picture continued by its mirror images to
    2H - 2 × 2W - 2 pixels, where left meets right without a step, and the first H×W pixels are cut out again. Without
    this the step at the border rings through the whole picture.

    Parameters
    ----------
    params : of each picture, see :func:`spectrum`
    noise : K, positive; by default that of :data:`NOISE` for the kind of each degradation
    """
    out = np.empty_like(images)
    for k, (image, own) in enumerate(zip(images, params, strict=True)):
        h, w = image.shape[:2]
        mirrored = np.pad(image / 255.0, [(0, h - 2), (0, w - 2), (0, 0)], mode="reflect")
        blur = spectrum(own, *mirrored.shape[:2])
        gain = blur.conj() / (np.abs(blur) ** 2 + (NOISE[kind_of(own)] if noise is None else noise))
        gain[0, 0] = 1  # a darker picture is no answer to noise
        waves = np.fft.rfft2(mirrored, axes=(0, 1)) * gain[..., None]
        sharp = np.fft.irfft2(waves, mirrored.shape[:2], axes=(0, 1))[:h, :w]
        out[k] = (sharp.clip(0, 1) * 255).round()
    return out


def by_level(sharp: np.ndarray, degradation: str = "celebablur") -> dict[float, float]:
    """K -> mean PSNR in dB on these faces, uint8 N×H×W×3, each with the blur of its index."""
    batch = Pairs(sharp, degradation).batch(range(len(sharp)))
    means = {}
    for noise in LEVELS:
        restored = deconvolve(batch.blurred, batch.params, noise)
        means[noise] = float(np.mean([psnr(a, b) for a, b in zip(restored, batch.sharp, strict=True)]))
    return means


def main(argv: list[str] | None = None) -> None:
    """The command line: each K with its PSNR on validation faces, and the best."""
    parser = bare_parser("helpers.wiener", __doc__)
    parser.add_argument("--data", help="folder with val/; the shipped faces by default")
    parser.add_argument("--degradation", choices=("celebablur", "motion", "phone"), default="celebablur")
    parser.add_argument("--limit", type=positive_int, default=200, help="validation images")
    args = parser.parse_args(argv)
    try:
        means = by_level(np.stack(list(load_split(args.data, "val", args.limit))), args.degradation)
    except ImageError as error:
        raise SystemExit(f"error: {error}") from None
    for noise, value in means.items():
        print(f"K = {noise:.1e}: {value:.2f} dB")
    print(f"best: K = {max(means, key=means.get):.1e}")


if __name__ == "__main__":
    main()
