"""Faces as numbers that tell persons apart, and how well they do: the network behind :mod:`helpers.identity`.

A face becomes 64 numbers of length 1. :mod:`helpers.experiments.identity_training` trains the network so that two
photographs of one rendered person, with another pose, light, expression and dress, get similar numbers, and two persons
do not. The cosine between the numbers of two faces is their likeness. The network was never shown a real person, so on
photographs it is a hint. ArcFace (https://arxiv.org/abs/1801.07698) is the field's usual measure.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from helpers.engine.checkpoints import load_checkpoint, shipped
from helpers.engine.devices import device_for
from helpers.engine.errors import ImageError

SIZE, NUMBERS = 128, 64
WIDTHS = (16, 32, 64, 128)


class Block(nn.Module):
    """Two 3×3 convolutions with a shortcut; the first halves the map."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.one = nn.Conv2d(in_channels, out_channels, 3, 2, 1)
        self.two = nn.Conv2d(out_channels, out_channels, 3, 1, 1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)
        self.norms = nn.ModuleList(nn.GroupNorm(8, out_channels) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.silu(self.norms[0](self.one(x)))
        return F.silu(self.norms[1](self.two(y)) + self.shortcut(F.avg_pool2d(x, 2)))


class Embedder(nn.Module):
    """Faces N×3×128×128 in [-1, 1] to N×64, each of length 1."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS, numbers: int = NUMBERS):
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 5, 2, 2)
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in zip(widths, widths[1:], strict=False)))
        # Each place of the last map keeps its own weights: where a feature lies in the face is part of who it is.
        cells = SIZE // 2 ** len(widths)
        self.pool = nn.AdaptiveAvgPool2d(min(cells, 4))
        self.out = nn.Linear(widths[-1] * min(cells, 4) ** 2, numbers)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        maps = self.pool(self.blocks(F.silu(self.stem(faces))))
        return F.normalize(self.out(maps.flatten(1)), dim=1)


def load_embedder(weights: str | Path | None = None, device: str | torch.device | None = None) -> Embedder:
    """The network with ``weights``, by default the shipped ones, ready to measure.

    Raises
    ------
    CheckpointError
        where they are not there, or of another network
    """
    network = Embedder()
    load_checkpoint(shipped("identity") if weights is None else weights, network)
    return network.to(device_for(device)).eval()


@torch.no_grad()
def embed(network: Embedder, faces: np.ndarray, at_once: int = 50) -> np.ndarray:
    """What the network says of each face: uint8 N×128×128×3 in the course's framing, to N×64 of length 1.

    Raises
    ------
    ImageError
        for anything but such pictures
    """
    faces = np.asarray(faces)
    if faces.dtype != np.uint8 or faces.ndim != 4 or faces.shape[1:] != (SIZE, SIZE, 3):
        raise ImageError(f"identity is measured on 8-bit faces N×{SIZE}×{SIZE}×3, not {faces.dtype} {faces.shape}")
    device = next(network.parameters()).device
    parts = np.split(faces, range(at_once, len(faces), at_once))
    tensors = (torch.from_numpy(np.ascontiguousarray(part)).movedim(-1, 1).float().to(device) for part in parts)
    return torch.cat([network(part / 127.5 - 1).float().cpu() for part in tensors]).numpy()


def likeness(network: Embedder, faces: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The cosine between each face and the other at its place: N numbers from -1 to 1, 1 for the same picture."""
    return (embed(network, faces) * embed(network, others)).sum(1)


def found_again(codes: np.ndarray, gallery: np.ndarray) -> float:
    """Of N faces, the share whose most similar face in the gallery is the one at their own place (rank 1).

    Parameters
    ----------
    codes, gallery : N×64 each, from :func:`embed`, the same persons in the same order
    """
    return float(((codes @ gallery.T).argmax(1) == np.arange(len(codes))).mean())


def told_apart(codes: np.ndarray, gallery: np.ndarray) -> float:
    """How often a pair of one person is more alike than a pair of two (area under the ROC curve); 0.5 by chance.

    Parameters
    ----------
    codes, gallery : N×64 each, from :func:`embed`, the same persons in the same order; N at least 2
    """
    if len(codes) < 2:
        raise ImageError("telling persons apart needs two of them")
    table = codes @ gallery.T
    same, different = np.diag(table), np.sort(table[~np.eye(len(table), dtype=bool)])
    below, upto = (np.searchsorted(different, same, side) for side in ("left", "right"))
    return float(((below + upto) / 2 / len(different)).mean())
