"""A trained model applied to pictures: 8-bit in, 8-bit out."""

from pathlib import Path

import numpy as np
import torch

from helpers.data import ImageError, denormalise
from helpers.edges import THRESHOLDS, edge_maps, four_channels
from helpers.engine.checkpoints import load_checkpoint, read_about, shipped
from helpers.engine.devices import device_for
from helpers.networks import DeblurModel


class Restorer:
    """The thesis's model with the Canny thresholds that it was trained with.

    Attributes
    ----------
    model : :class:`helpers.networks.DeblurModel` in evaluation mode
    about : what made the checkpoint (data, images seen, hardware, scores)
    """

    def __init__(self, path: str | Path | None = None, device: str | torch.device | None = None):
        """Load ``path``, by default the checkpoint that ships with the course; on CUDA where there is one."""
        path = shipped("thesis") if path is None else Path(path)
        self.device = device_for(device)
        about = read_about(path)
        self.model = DeblurModel(about.get("latent_dim", 512), about.get("image_size", 128))
        self.about = load_checkpoint(path, self.model)
        self.thresholds = tuple(self.about.get("thresholds", THRESHOLDS))
        self.model.to(self.device).eval()

    @torch.no_grad()
    def encode(self, blurred: np.ndarray, edges: np.ndarray | None = None) -> torch.Tensor:
        """z_deblur of blurred images: uint8 N×H×W×3 to N×512. Edge maps are computed unless given."""
        self._expect(blurred)
        edges = edge_maps(blurred, self.thresholds) if edges is None else edges
        return self.model.deblur_encoder(four_channels(blurred, edges).to(self.device))

    def _expect(self, blurred: np.ndarray) -> None:
        """Pictures of the model's size and kind; the encoder itself would take others in silence."""
        side = self.model.image_size
        if blurred.dtype != np.uint8 or blurred.ndim != 4 or blurred.shape[1:] != (side, side, 3) or not len(blurred):
            raise ImageError(
                f"expected 8-bit RGB pictures {side}×{side}×3, got {'×'.join(map(str, blurred.shape))} of "
                f"{blurred.dtype}; helpers.data.read_image makes such pictures"
            )

    @torch.no_grad()
    def decode(self, z: torch.Tensor) -> np.ndarray:
        """The picture of a code: N×512 to uint8 N×H×W×3."""
        return denormalise(self.model.generator(z.to(self.device)))

    def restore(self, blurred: np.ndarray, edges: np.ndarray | None = None, batch_size: int = 50) -> np.ndarray:
        """Restore one picture or many: uint8 H×W×3 or N×H×W×3 to the same shape, at the model's size."""
        if blurred.ndim == 3:
            return self.restore(blurred[None], None if edges is None else edges[None])[0]
        self._expect(blurred)
        parts = [
            self.decode(self.encode(blurred[i : i + batch_size], None if edges is None else edges[i : i + batch_size]))
            for i in range(0, len(blurred), batch_size)
        ]
        return np.concatenate(parts)

    def __repr__(self) -> str:
        return f"Restorer({self.about.get('name', 'unnamed')}, {self.device})"
