"""What the thesis's title promises and its method lacks: a discriminator, as an option for experiments (chapter 13)."""

import torch
import torch.nn.functional as F
from torch import nn

from helpers.engine.precision import scaler_for
from helpers.networks import ShapeError


class PatchDiscriminator(nn.Module):
    """Real or restored, asked of every patch: N×3×H×W in [-1, 1] to N×1×H/8×W/8 scores (Isola et al. 2017).

    Three strided 4×4 convolutions and a 3×3 one: each score sees a patch of 38×38 pixels. Spectral normalisation
    bounds how fast a score can change, so that the generator's gradient stays usable.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        channels = [3, width, 2 * width, 4 * width]
        layers: list[nn.Module] = []
        for c_in, c_out in zip(channels, channels[1:], strict=False):
            conv = nn.Conv2d(c_in, c_out, 4, stride=2, padding=1)
            layers += [nn.utils.parametrizations.spectral_norm(conv), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, 3, padding=1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % 8 or images.shape[3] % 8:
            raise ShapeError(
                "PatchDiscriminator expects N×3×H×W with sides divisible by 8, got " + "×".join(map(str, images.shape))
            )
        return self.layers(images)


def discriminator_loss(real: torch.Tensor, restored: torch.Tensor) -> torch.Tensor:
    """The hinge loss of two sets of scores: real ones should be above 1, restored ones below -1."""
    return F.relu(1 - real.float()).mean() + F.relu(1 + restored.float()).mean()


def generator_loss(restored: torch.Tensor) -> torch.Tensor:
    """What the generator wants of its scores: high ones."""
    return -restored.float().mean()


class Adversary:
    """A discriminator that is trained beside a generator, with an optimiser of its own.

    Attributes
    ----------
    parts : name -> what a run has to save and load
    """

    def __init__(self, rate: float, device: torch.device, precision: str = "auto"):
        self.network = PatchDiscriminator().to(device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=rate, betas=(0.5, 0.999))
        self.scaler = scaler_for(device, precision)
        self.parts = {f"discriminator {k}": v for k, v in vars(self).items()}

    def wish(self, restored: torch.Tensor) -> torch.Tensor:
        """:func:`generator_loss` of the scores of ``restored``, N×3×H×W; no gradient for the discriminator."""
        self.network.requires_grad_(False)
        return generator_loss(self.network(restored))

    def loss(self, target: torch.Tensor, restored: torch.Tensor) -> torch.Tensor:
        """:func:`discriminator_loss` of both, N×3×H×W; no gradient for what restored."""
        self.network.requires_grad_(True)
        return discriminator_loss(self.network(target), self.network(restored.detach()))
