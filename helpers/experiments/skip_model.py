"""A better model of the thesis's kind (chapter 13): its edge map, code and latent supervision, without its bottleneck.

In the thesis's model everything about a picture must pass through 512 numbers. Here the encoder also hands its feature
maps to the generator (skip connections), and the generator draws a *correction* of the blurred picture. Two
corrections, in fact, from one trunk: one as near to the truth as it gets (the ``mean``), one that looks sharp
(``perceptual``, the thesis's five losses). What lies between them is a knob, a number at inference:

    x̂(knob) = mean + knob · (perceptual - mean)

Freirich, Michaeli and Meir (2021, the thesis's reference [10]) prove that the line from the posterior mean to the best
estimator of perfect realism is the best trade of distortion for perception there is.

:mod:`helpers.experiments.skip_training` trains it.
"""

import torch
import torch.nn.functional as F
from torch import nn

from helpers.networks import ConditionedBlock, LatentEncoder, ShapeError

SHAPE = ("latent_dim", "image_size", "widths", "depths", "in_channels", "fold")  # what a checkpoint's JSON says of it
KNOB = 1.0


class SkipEncoder(nn.Module):
    """The edge-aware encoder: N×4×H×W (sides divisible by 16) to z_deblur, N×latent_dim, and its feature maps.

    Pixels are folded 2×2 into channels, then four scales of residual blocks (``networks.ConditionedBlock``). The code
    is a linear layer on the mean over the deepest maps, as in the thesis's DeblurEncoder.
    """

    def __init__(
        self, widths: tuple[int, ...], depths: tuple[int, ...], latent_dim: int, in_channels: int = 4, fold: int = 2
    ):
        super().__init__()
        self.in_channels, self.fold = in_channels, fold
        self.entry = nn.Conv2d(fold**2 * in_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(*[ConditionedBlock(w) for _ in range(depth)]) for w, depth in zip(widths, depths, strict=True)
        )
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths, widths[1:], strict=False))
        self.fc = nn.Linear(widths[-1], latent_dim)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        if x.ndim != 4 or x.shape[1] != self.in_channels or x.shape[2] % 16 or x.shape[3] % 16:
            raise ShapeError(
                f"SkipEncoder expects N×{self.in_channels}×H×W with sides divisible by 16, got "
                f"{'×'.join(map(str, x.shape))}"
            )
        y, maps = self.entry(F.pixel_unshuffle(x, self.fold)), []
        for i, blocks in enumerate(self.blocks):
            y = blocks(y)
            maps.append(y)
            if i < len(self.shrink):
                y = self.shrink[i](y)
        return self.fc(y.mean((2, 3))), maps


class SkipGenerator(nn.Module):
    """Code and feature maps to two corrections, each N×3×H×W: towards the mean, and towards sharpness.

    In every block the code scales and shifts the features: it tells all places at once how strong the blur is, and
    what the face is like.
    """

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...], latent_dim: int, fold: int = 2):
        super().__init__()
        self.fold = fold
        self.blocks = nn.ModuleList(
            nn.ModuleList(ConditionedBlock(w, latent_dim) for _ in range(depth))
            for w, depth in zip(widths, depths, strict=True)
        )
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in zip(widths, widths[1:], strict=False))
        self.join = nn.ModuleList(nn.Conv2d(2 * a, a, 1) for a in widths[:-1])
        self.exits = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(8, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], 3 * fold**2, 3, padding=1))
            for _ in range(2)
        )
        for layers in self.exits:  # both corrections begin at 0
            nn.init.zeros_(layers[-1].weight)
            nn.init.zeros_(layers[-1].bias)

    def forward(self, z: torch.Tensor, maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        y = maps[-1]
        for i in reversed(range(len(self.blocks))):
            if i < len(self.grow):
                y = self.join[i](torch.cat([F.pixel_shuffle(self.grow[i](y), 2), maps[i]], dim=1))
            for block in self.blocks[i]:
                y = block(y, z)
        mean, perceptual = (F.pixel_shuffle(layers(y), self.fold) for layers in self.exits)
        return mean, perceptual


class SkipModel(nn.Module):
    """Encoder, generator and the thesis's LatentEncoder (narrower, and needed in training only) as one module.

    Parameters
    ----------
    latent_dim : numbers in the code
    image_size : side of the pictures in training, for the LatentEncoder; restoring takes any side divisible by 16
    widths, depths : channels and residual blocks at each scale, from fine to coarse
    in_channels : 4, or 3 for a model without an edge map
    fold : ``fold``×``fold`` pixels become channels at the entry
    """

    def __init__(
        self,
        latent_dim: int = 256,
        image_size: int = 128,
        widths: tuple[int, ...] = (32, 64, 128, 128),
        depths: tuple[int, ...] = (1, 1, 2, 2),
        in_channels: int = 4,
        fold: int = 2,
    ):
        super().__init__()
        values = (latent_dim, image_size, tuple(widths), tuple(depths), in_channels, fold)
        self.shape = dict(zip(SHAPE, values, strict=True))
        self.deblur_encoder = SkipEncoder(widths, depths, latent_dim, in_channels, fold)
        self.generator = SkipGenerator(widths, depths, latent_dim, fold)
        self.latent_encoder = LatentEncoder(latent_dim, image_size, width=16)

    def encode(self, inputs: torch.Tensor) -> torch.Tensor:
        """z_deblur alone: N×4×H×W to N×latent_dim."""
        return self.deblur_encoder(inputs)[0]

    def both(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean and perceptual restoration, N×3×H×W around [-1, 1], not clipped; and z_deblur."""
        z_deblur, maps = self.deblur_encoder(inputs)
        mean, perceptual = self.generator(z_deblur, maps)
        return inputs[:, :3] + mean, inputs[:, :3] + perceptual, z_deblur

    def forward(self, inputs: torch.Tensor, sharp: torch.Tensor | None = None, knob: float = KNOB):
        """Restore; in training, where ``sharp`` is given, hand out both codes too (as ``DeblurModel`` does).

        Parameters
        ----------
        inputs : N×4×H×W, see :func:`helpers.edges.four_channels`
        sharp : N×3×H×W in [-1, 1]
        knob : 0 for the mean, 1 for the perceptual end

        Returns
        -------
        restored, N×3×H×W in [-1, 1]; with ``sharp``: (perceptual, mean, z_deblur, z_gt)
        """
        mean, perceptual, z_deblur = self.both(inputs)
        if sharp is None:
            return torch.lerp(mean.float(), perceptual.float(), knob).clamp(-1, 1)
        return perceptual, mean, z_deblur, self.latent_encoder(sharp)


def model_of(about: dict) -> SkipModel:
    """The network, not yet loaded, that a checkpoint's JSON describes; the default for what that does not name."""
    return SkipModel(**{name: about[name] for name in SHAPE if name in about})
