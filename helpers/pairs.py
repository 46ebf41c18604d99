"""Blurred input, edge map and sharp target together, batch by batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from helpers.data import normalise
from helpers.degrade import Degradation, preset
from helpers.edges import THRESHOLDS, edge_maps, four_channels
from helpers.engine.errors import ImageError
from helpers.seeds import SEED, rng_for

EDGES = ("blurred", "oracle", "none")


@dataclass
class Batch:
    """``n`` images on their way through the course; tensors are float32, on the CPU unless asked for elsewhere."""

    input: torch.Tensor  # n×4×H×W: blurred RGB in [-1, 1] and the edge map, 0 or 1; n×3×H×W without edge maps
    target: torch.Tensor  # n×3×H×W in [-1, 1]
    blurred: np.ndarray  # uint8 n×H×W×3
    edges: np.ndarray | None  # uint8 n×H×W of 0 and 1; None where no maps are wanted
    sharp: np.ndarray  # uint8 n×H×W×3
    params: list[dict]  # what was drawn for the degradation of each


class Pairs:
    """Sharp images with a degradation, as training and evaluation want them.

    What is random depends on ``seed``, the epoch and the image's index alone: in training every epoch blurs (and
    mirrors) every image anew, yet the same way each time that epoch is run; validation and test sets have no epoch,
    so their blur never changes.

    Parameters
    ----------
    sharp : uint8 N×H×W×3, or any sequence of uint8 H×W×3 such as :class:`helpers.photos.Photographs`
    degradation : a :class:`helpers.degrade.Degradation`, or the name of a preset
    blurred : matching blurred images for data that comes in pairs; the degradation is then not used
    edges : "blurred" (as at test time), "oracle" (from the sharp image: leakage, for teaching only) or "none", for
        networks that look at no edge map: Canny is then left out, all else stays the same
    thresholds : Canny's
    flip : mirror half of the images, in training only
    augment : called as ``augment(image, rng)`` on each sharp image (uint8 H×W×3) in training, before it is degraded;
        gives another of the same shape, see :class:`helpers.augment.Augment`. Not for data that come in pairs.
    """

    def __init__(
        self,
        sharp: np.ndarray | Sequence[np.ndarray],
        degradation: Degradation | str = "celebablur",
        blurred: np.ndarray | Sequence[np.ndarray] | None = None,
        edges: str = "blurred",
        thresholds: tuple[float, float] = THRESHOLDS,
        flip: bool = False,
        seed: int = SEED,
        augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    ):
        if len(sharp) == 0:
            raise ImageError("there are no images")
        if blurred is not None and len(blurred) != len(sharp):
            raise ImageError(f"{len(blurred)} blurred images for {len(sharp)} sharp ones")
        if blurred is not None and augment is not None:
            raise ValueError("data that come in pairs cannot be augmented: the blurred image would not follow")
        if edges not in EDGES:
            raise ValueError(f"edges must be one of {', '.join(EDGES)}, not {edges!r}")
        self.sharp, self.blurred = sharp, blurred
        self.degradation = preset(degradation) if isinstance(degradation, str) else degradation
        self.edges, self.thresholds, self.flip, self.seed = edges, tuple(thresholds), flip, seed
        self.augment = augment

    def __len__(self) -> int:
        return len(self.sharp)

    def batch(self, indices: Sequence[int], epoch: int | None = None, device: str | torch.device = "cpu") -> Batch:
        """The images of ``indices``; without an ``epoch`` the fixed version that validation and test use.

        The blur is computed on ``device``, where the batch's tensors then are, unless it goes image by image
        (:attr:`helpers.degrade.Degradation.batched`); Canny on the CPU, by OpenCV. A GPU adds in another order, so that
        there a value may fall on the other side of a rounding to 8 bits.
        """
        sharp = np.stack([self.sharp[i] for i in indices])
        keys = [(i,) if epoch is None else (i, epoch + 1) for i in indices]
        rngs = [rng_for(self.seed, *key) for key in keys]
        mirror = np.array([self.flip and epoch is not None and bool(rng.integers(2)) for rng in rngs])
        sharp[mirror] = sharp[mirror, :, ::-1]
        if self.augment is not None and epoch is not None:
            sharp = np.stack([self.augment(image, rng) for image, rng in zip(sharp, rngs, strict=True)])
        target = _upload(sharp, device)
        if self.blurred is None:
            params = [self.degradation.sample(rng) for rng in rngs]
            images = (target if self.degradation.batched else torch.from_numpy(sharp)).movedim(-1, 1).float() / 255
            # A blurred photograph is a file of 8-bit numbers, so ours is rounded too.
            degraded = (self.degradation(images, params) * 255).round().clamp(0, 255).to(torch.uint8)
            degraded = degraded.movedim(1, -1).contiguous()
            blurred = degraded.cpu().numpy()
            degraded = degraded if self.degradation.batched else _upload(blurred, device)
        else:
            params = [{} for _ in indices]
            blurred = np.stack([self.blurred[i] for i in indices])
            if blurred.shape != sharp.shape:
                raise ImageError(f"blurred images {blurred.shape} and sharp ones {sharp.shape} differ in shape")
            blurred[mirror] = blurred[mirror, :, ::-1]
            degraded = _upload(blurred, device)
        if self.edges == "none":
            return Batch(normalise(degraded), normalise(target), blurred, None, sharp, params)
        edges = edge_maps(sharp if self.edges == "oracle" else blurred, self.thresholds)
        inputs = four_channels(degraded, _upload(edges, device))
        return Batch(inputs, normalise(target), blurred, edges, sharp, params)

    def batches(self, batch_size: int = 50, part: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """All images in order, as validation and test want them; ``part`` (r, w): every w-th batch from the r-th."""
        rank, world = part
        for start in range(rank * batch_size, len(self), world * batch_size):
            yield self.batch(range(start, min(start + batch_size, len(self))))


def _upload(array: np.ndarray, device: str | torch.device) -> torch.Tensor:
    """To a GPU from memory that is pinned, so that the copy runs beside the computation."""
    tensor, device = torch.from_numpy(array), torch.device(device)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
