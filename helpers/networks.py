"""DeblurEncoder, Generator and LatentEncoder (thesis section 2.3), in plain PyTorch.

Shapes for images of 128×128; at 64×64 one doubling and one convolution block fall away.

=============  ================  ==========================================================
DeblurEncoder  N×4×128×128       ResNet-18 with a 4-channel first layer -> z_deblur, N×512
Generator      N×512             4×4×512, doubled five times -> N×3×128×128 in [-1, 1]
LatentEncoder  N×3×128×128       five strided convolutions to 4×4×512 -> z_gt, N×512
=============  ================  ==========================================================
"""

from math import log2

import torch
import torch.nn.functional as F
from torch import nn


class ShapeError(ValueError):
    """A tensor of a shape that a network cannot take."""


def _expect(x: torch.Tensor, shape: tuple[int | None, ...], who: str) -> None:
    """Say in one sentence what shape was expected and which one came."""
    if x.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, x.shape, strict=True)):
        wanted = "×".join(letter if want is None else str(want) for letter, want in zip("NCHW", shape, strict=False))
        raise ShapeError(f"{who} expects {wanted}, got {'×'.join(map(str, x.shape))}")


def doublings(image_size: int) -> int:
    """How often 4×4 is doubled to reach ``image_size``: 5 for 128."""
    steps = log2(image_size / 4) if image_size > 0 else 0
    if steps != int(steps) or steps < 4:
        raise ValueError(f"image_size must be 64, 128, 256, ..., not {image_size}")
    return int(steps)


# ---------------------------------------------------------------------------------------------------------------------
# What networks of chapters 03, 04 and 13 share


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel, with a weight and a bias a channel: N×C×H×W to the same."""

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, self.eps).movedim(-1, 1)


class ConditionedBlock(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))): N×C×H×W to the same; the identity before training.

    PMRF's networks and the skip model are built of it. A condition (a time, a code), where there is one, scales and
    shifts the second norm: y (1 + scale) + shift, both from one linear layer. Norms are over 8 groups of channels.

    Parameters
    ----------
    channels : C, divisible by 8
    condition_width : numbers in the condition; None for a block that takes none
    """

    def __init__(self, channels: int, condition_width: int | None = None):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)
        # The checkpoints that ship call this layer "time", after the condition of PMRF's vector field.
        self.time = nn.Linear(condition_width, 2 * channels) if condition_width else None

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        if (condition is None) != (self.time is None):
            raise ShapeError(f"this block takes {'no' if self.time is None else 'a'} condition")
        y = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.time is not None:
            scale, shift = self.time(condition)[:, :, None, None].chunk(2, dim=1)
            y = y * (1 + scale) + shift
        return x + self.conv2(F.silu(y))


# ---------------------------------------------------------------------------------------------------------------------
# DeblurEncoder, section 2.3.1


class ResidualBlock(nn.Module):
    """Equation 33: y = F(x, {W_i}) + x, then ReLU; with a projection W_s x where the shape changes.

    F is conv 3×3 - batch norm - ReLU - conv 3×3 - batch norm. Names are torchvision's, so its weights fit.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        """F(x, {W_i}) alone."""
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.residual(x) + shortcut)


class DeblurEncoder(nn.Module):
    """ResNet-18 on blurred RGB and edge map: N×4×H×W to z_deblur, N×latent_dim (section 2.3.1, Figure 1).

    Differs from torchvision's ResNet-18 in the first convolution (4 channels instead of 3) and in the last linear
    layer (512 to ``latent_dim`` instead of to 1000 classes). Any H and W divisible by 32.
    """

    def __init__(self, latent_dim: int = 512, in_channels: int = 4, width: int = 64):
        super().__init__()
        self.in_channels, w = in_channels, width
        self.conv1 = nn.Conv2d(in_channels, w, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(w)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(ResidualBlock(w, w), ResidualBlock(w, w))
        self.layer2 = nn.Sequential(ResidualBlock(w, 2 * w, stride=2), ResidualBlock(2 * w, 2 * w))
        self.layer3 = nn.Sequential(ResidualBlock(2 * w, 4 * w, stride=2), ResidualBlock(4 * w, 4 * w))
        self.layer4 = nn.Sequential(ResidualBlock(4 * w, 8 * w, stride=2), ResidualBlock(8 * w, 8 * w))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * w, latent_dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He et al.: keeps the variance through ReLU layers
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _expect(x, (None, self.in_channels, None, None), "DeblurEncoder")
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


# ---------------------------------------------------------------------------------------------------------------------
# Generator, section 2.3.2


def generator_channels(image_size: int = 128, width: int = 64) -> list[int]:
    """Feature maps from 4×4 to the picture.

    The thesis lists 512 -> 256 -> 128 -> 64 -> 3: four steps, enough for 64×64. From 4×4 to 128×128 takes five, so
    one step 512 -> 512 is put in front and the listed four stay as they are.
    """
    return [8 * width] * (doublings(image_size) - 4) + [4 * width, 2 * width, width, 3]


class Generator(nn.Module):
    """A DCGAN decoder: N×latent_dim to N×3×image_size×image_size in [-1, 1] (section 2.3.2, Figure 2).

    A linear layer to 4×4×512; transposed convolutions (4×4 kernel, stride 2, padding 1) that double the side, each
    followed by batch normalisation and ReLU; tanh instead of both after the last.
    """

    def __init__(self, latent_dim: int = 512, image_size: int = 128, width: int = 64):
        super().__init__()
        self.latent_dim, self.width = latent_dim, width
        channels = generator_channels(image_size, width)
        self.fc = nn.Linear(latent_dim, 8 * width * 4 * 4)
        layers: list[nn.Module] = []
        for c_in, c_out in zip([8 * width, *channels], channels, strict=False):
            last = c_out == 3
            # Batch norm subtracts any constant, so a bias before it would do nothing.
            layers.append(nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1, bias=last))
            layers += [nn.Tanh()] if last else [nn.BatchNorm2d(c_out), nn.ReLU()]
        self.up = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.ConvTranspose2d):  # the start that the DCGAN authors recommend
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        _expect(z, (None, self.latent_dim), "Generator")
        return self.up(self.fc(z).view(-1, 8 * self.width, 4, 4))


# ---------------------------------------------------------------------------------------------------------------------
# LatentEncoder, section 2.3.3


class LatentEncoder(nn.Module):
    """The sharp image's code: N×3×image_size×image_size to z_gt, N×latent_dim (section 2.3.3, Figure 3).

    Convolution blocks (4×4 kernel, stride 2, batch norm, LeakyReLU 0.2) with 64, 128, 256, 512, 512 feature maps
    halve the side to 4×4; a linear layer makes the code. The thesis says "from 64 to 512 channels" in five blocks, so
    one width must occur twice: 512.
    """

    def __init__(self, latent_dim: int = 512, image_size: int = 128, width: int = 64):
        super().__init__()
        self.image_size = image_size
        channels = [3, width, 2 * width, 4 * width] + [8 * width] * (doublings(image_size) - 3)
        layers: list[nn.Module] = []
        for c_in, c_out in zip(channels, channels[1:], strict=False):
            layers += [nn.Conv2d(c_in, c_out, 4, 2, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.LeakyReLU(0.2)]
        self.down = nn.Sequential(*layers)
        self.fc = nn.Linear(8 * width * 4 * 4, latent_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _expect(x, (None, 3, self.image_size, self.image_size), "LatentEncoder")
        return self.fc(self.down(x).flatten(1))


# ---------------------------------------------------------------------------------------------------------------------
# All three, section 2.3.4


class DeblurModel(nn.Module):
    """The three networks as one module, trained in one step (section 2.3.4, Figure 4).

    The thesis's networks begin with 64 feature maps (``width``); chapter 13 compares variants of narrower ones.
    """

    def __init__(self, latent_dim: int = 512, image_size: int = 128, width: int = 64):
        super().__init__()
        self.latent_dim, self.image_size = latent_dim, image_size
        self.deblur_encoder = DeblurEncoder(latent_dim, width=width)
        self.generator = Generator(latent_dim, image_size, width)
        self.latent_encoder = LatentEncoder(latent_dim, image_size, width)

    def forward(
        self, inputs: torch.Tensor, sharp: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Restore; in training, where ``sharp`` is given, hand out both codes of equation 39 too.

        Parameters
        ----------
        inputs : N×4×H×W, see :func:`helpers.edges.four_channels`
        sharp : N×3×H×W in [-1, 1]

        Returns
        -------
        restored, N×3×H×W in [-1, 1]; with ``sharp``: (restored, z_deblur, z_gt)
        """
        z_deblur = self.deblur_encoder(inputs)
        restored = self.generator(z_deblur)
        return restored if sharp is None else (restored, z_deblur, self.latent_encoder(sharp))


def count_parameters(module: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
