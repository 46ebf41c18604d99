"""How far a set of pictures is from looking like sharp faces as a set: the d of the thesis's equation 7.

It compares two distributions; no ground truth of the single picture is used.

The usual measure, FID, needs a network of 90 MB that cannot be had without a connection. The sliced Wasserstein
distance of Karras, Aila, Laine and Lehtinen (2018, section 5) needs none: it compares how small patches are
distributed at every scale of a Laplacian pyramid. A blurred set lacks the fine scales, a painted-on texture has wrong
ones; both are far. It does not see whether a face is a face.

:func:`kernel_distance` shares nothing with it: it compares codes that a network gives to whole faces.
"""

import numpy as np
import torch
import torch.nn.functional as F

from helpers.data import ImageError
from helpers.seeds import SEED


def pyramid(images: torch.Tensor, smallest: int = 16) -> list[torch.Tensor]:
    """Laplacian pyramid: N×3×H×W to the detail at H, H/2, ... and, last, what is left at ``smallest`` pixels."""
    levels = []
    while images.shape[-1] > smallest:
        half = F.avg_pool2d(images, 2)
        levels.append(images - F.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False))
        images = half
    return [*levels, images]


def _patches(level: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """``count`` patches of 7×7 from every image at random places: (N·count)×147."""
    n, _, h, w = level.shape
    top = torch.randint(0, h - 6, (n, count), generator=generator)
    left = torch.randint(0, w - 6, (n, count), generator=generator)
    windows = level.unfold(2, 7, 1).unfold(3, 7, 1)
    picked = windows[torch.arange(n)[:, None], :, top, left]  # N×count×3×7×7
    return picked.reshape(n * count, 3, 49)


def projected_distance(a: torch.Tensor, b: torch.Tensor, lines: torch.Tensor) -> torch.Tensor:
    """Two sets of N points, N×D, seen along lines D×K: the mean over lines of the Wasserstein-1 distance, a scalar.

    On a line the best transport moves the smallest of one set to the smallest of the other, and so on.
    """
    a, b = (np.sort((points @ lines).T.numpy()) for points in (a, b))  # NumPy sorts several times faster than PyTorch
    return torch.from_numpy(a - b).abs().mean()


def sliced_wasserstein(
    images: np.ndarray, reference: np.ndarray, patches: int = 64, directions: int = 256, seed: int = SEED
) -> dict[str, float]:
    """Distance of two sets of pictures, uint8 N×H×W×3, at each scale and on average; 0 for equal distributions.

    Patches are scaled by the reference's mean and deviation, projected on random directions, sorted and compared; the
    mean absolute difference, times 1000, is what the authors report. Two halves of one set are not 0 apart either:
    always show that floor beside it.

    Returns
    -------
    {"128": ..., "64": ..., "32": ..., "16": ..., "mean": ...}
    """
    for name, batch in (("images", images), ("reference", reference)):
        if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[-1] != 3:
            raise ImageError(f"{name}: expected 8-bit RGB pictures N×H×W×3, got {batch.shape} of {batch.dtype}")
        if not len(batch) or batch.shape[1] != batch.shape[2] or batch.shape[1] % 16:
            raise ImageError(f"{name}: wanted square pictures of 16, 32, 64, ... pixels, got {batch.shape}")
    if images.shape[1:] != reference.shape[1:]:
        raise ImageError(f"pictures of {images.shape[1:3]} and {reference.shape[1:3]} pixels cannot be compared")
    count = min(len(images), len(reference))
    levels = [
        pyramid(torch.from_numpy(np.ascontiguousarray(batch[:count])).movedim(-1, 1).float() / 127.5 - 1)
        for batch in (images, reference)
    ]
    out = {}
    for one, two in zip(*levels, strict=True):
        generator = torch.Generator().manual_seed(seed)
        a = _patches(one, patches, generator)
        b = _patches(two, patches, generator)
        mean, deviation = b.mean((0, 2), keepdim=True), b.std((0, 2), keepdim=True)
        a, b = ((x - mean) / deviation for x in (a, b))
        lines = torch.randn(147, directions, generator=generator)
        lines = lines / lines.norm(dim=0)
        out[str(one.shape[-1])] = 1000 * projected_distance(a.flatten(1), b.flatten(1), lines).item()
    return {**out, "mean": float(np.mean(list(out.values())))}


def kernel_distance(codes: np.ndarray, reference: np.ndarray) -> float:
    """How far two sets of faces are apart in the codes of a network, N×D and M×D of length 1; times 1000.

    The squared maximum mean discrepancy with the kernel (x·y + 1)³, as in the kernel Inception distance of Bińkowski,
    Sutherland, Arbel and Gretton (2018), with the codes of :func:`helpers.experiments.embedding.embed` for Inception's.
    The estimate is unbiased: between two samples of one distribution it is 0 on average, however small they are, and
    may be below 0.

    Raises
    ------
    ImageError
        for fewer than two codes, or codes of two lengths
    """
    codes, reference = (np.asarray(c, np.float64) for c in (codes, reference))
    if codes.ndim != 2 or codes.shape[1:] != reference.shape[1:] or min(len(codes), len(reference)) < 2:
        raise ImageError(f"wanted two tables of at least two codes, got {codes.shape} and {reference.shape}")
    within = []
    for c in (codes, reference):
        kernel = (c @ c.T + 1) ** 3
        within.append((kernel.sum() - kernel.trace()) / (len(c) * (len(c) - 1)))  # pairs of two different faces
    between = ((codes @ reference.T + 1) ** 3).mean()
    return float(1000 * (sum(within) - 2 * between))
