"""The plain loop: float32, one picture after the other, written as one would write it first.

Nothing in it is slow on purpose. It reads each picture's file when it needs it, blurs it with OpenCV, calls the package
``lpips`` as its own page shows it, and prints the loss of each step. It draws the same blur and the same order as
:mod:`helpers.training`, so both see the same pictures.
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from pytorch_msssim import ssim

from helpers.edges import THRESHOLDS
from helpers.networks import DeblurModel
from helpers.perceptual import Lpips
from helpers.seeds import SEED, rng_for


def package_lpips(metric: Lpips) -> torch.nn.Module:
    """``lpips.LPIPS(net="alex")`` with the trunk of ``metric``, which the package itself would download."""
    import lpips  # loads torchvision, which the fresh processes of most parts need not wait for

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    trunk = metric.trunk.state_dict()  # the package's names are "slice1.0.weight": the number is the layer's in AlexNet
    net.net.load_state_dict({name: trunk[name.split(".", 1)[1]] for name in net.net.state_dict()})
    return net.to(next(metric.parameters()).device)


def degrade(sharp: np.ndarray, rng: np.random.Generator | None, sigma: float | None = None) -> tuple[np.ndarray, ...]:
    """Mirror and blur one picture H×W×3 and find its edges: blurred, edges, sharp; ``celebablur``."""
    if rng is not None:
        if rng.integers(2):
            sharp = np.ascontiguousarray(sharp[:, ::-1])
        sigma = rng.uniform(4, 8)
    blurred = cv2.GaussianBlur(sharp, (21, 21), sigma)
    edges = cv2.Canny(cv2.cvtColor(blurred, cv2.COLOR_RGB2GRAY), *THRESHOLDS)
    return blurred, edges, sharp


def to_tensors(blurred: np.ndarray, edges: np.ndarray, sharp: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Input 4×H×W and target 3×H×W of one picture."""
    image = torch.from_numpy(blurred).permute(2, 0, 1).float() / 127.5 - 1
    edge = torch.from_numpy(edges).float()[None] / 255
    return torch.cat([image, edge]), torch.from_numpy(sharp).permute(2, 0, 1).float() / 127.5 - 1


def prepare(files: Sequence[Path], indices: Sequence[int], epoch: int, seed: int = SEED) -> list[torch.Tensor]:
    """A batch, one picture after the other: N×4×H×W and N×3×H×W."""
    pictures = []
    for index in indices:
        sharp = np.array(Image.open(files[index]).convert("RGB"))
        pictures.append(to_tensors(*degrade(sharp, rng_for(seed, int(index), epoch + 1))))
    return [torch.stack(tensors) for tensors in zip(*pictures, strict=True)]


def order(count: int, batch_size: int, seed: int = SEED) -> Iterator[tuple[int, np.ndarray]]:
    """The epochs' numbers and the pictures of every batch, without end, in the order of :mod:`helpers.training`."""
    epoch = 0
    while True:
        mixed = rng_for(seed, epoch).permutation(count)
        for start in range(0, count - batch_size + 1, batch_size):
            yield epoch, mixed[start : start + batch_size]
        epoch += 1


def total_variation(images: torch.Tensor) -> torch.Tensor:
    """Equation 38: differences of neighbours, their sum divided by the number of pixels."""
    vertical = (images[:, :, 1:] - images[:, :, :-1]).abs().sum((2, 3))
    horizontal = (images[:, :, :, 1:] - images[:, :, :, :-1]).abs().sum((2, 3))
    return (vertical + horizontal).mean() / (images.shape[2] * images.shape[3])


def plain_loop(
    files: Sequence[Path], model: DeblurModel, metric: Lpips, batch_size: int, device: torch.device
) -> Iterator[float]:
    """Train ``model``; yields the loss of each step, without end."""
    perceptual = package_lpips(metric)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-4)
    model.train()
    for epoch, indices in order(len(files), batch_size):
        inputs, target = (t.to(device) for t in prepare(files, indices, epoch))
        restored, z_deblur, z_gt = model(inputs, target)
        loss = 0.5 * (restored - target).abs().mean()
        loss = loss + 0.3 * perceptual(restored, target).mean()
        loss = loss + 0.15 * (1 - ssim((restored + 1) / 2, (target + 1) / 2, data_range=1.0))
        loss = loss + 0.05 * total_variation(restored)
        loss = loss + 0.2 * ((z_deblur - z_gt) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss.item()
