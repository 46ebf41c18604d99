"""A plain strong network without code, prior or edge map: NAFNet (Chen, Chu, Zhang and Sun, ECCV 2022), in small.

No activation function at all: a *simple gate* multiplies one half of the channels by the other. Chapter 13 compares
with it at equal training time and equal size.
"""

import torch
import torch.nn.functional as F
from torch import nn

from helpers.networks import ChannelNorm, ShapeError


def simple_gate(x: torch.Tensor) -> torch.Tensor:
    """One half of the channels times the other: N×2C×H×W to N×C×H×W."""
    a, b = x.chunk(2, dim=1)
    return a * b


class NafBlock(nn.Module):
    """Two residual halves, each scaled by a weight per channel that begins at 0: N×C×H×W to the same.

    First norm, 1×1, depthwise 3×3, gate, channel attention (one linear layer on the mean over the picture), 1×1; then
    norm, 1×1, gate, 1×1.
    """

    def __init__(self, channels: int):
        super().__init__()
        c = channels
        self.norm1, self.norm2 = ChannelNorm(c, 1e-6), ChannelNorm(c, 1e-6)
        self.conv1, self.conv2 = nn.Conv2d(c, 2 * c, 1), nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.attention, self.conv3 = nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 1)
        self.conv4, self.conv5 = nn.Conv2d(c, 2 * c, 1), nn.Conv2d(c, c, 1)
        self.beta, self.gamma = (nn.Parameter(torch.zeros(1, c, 1, 1)) for _ in "12")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = simple_gate(self.conv2(self.conv1(self.norm1(x))))
        y = y * self.attention(y.mean((2, 3), keepdim=True))
        x = x + self.beta * self.conv3(y)
        return x + self.gamma * self.conv5(simple_gate(self.conv4(self.norm2(x))))


class NafNet(nn.Module):
    """Blurred RGB in [-1, 1] to the restored picture, N×3×H×W, sides divisible by 2 to the number of scales.

    A U-Net of :class:`NafBlock`; skips are added, the whole is a correction of the input, 0 before training.

    Parameters
    ----------
    width : channels at full resolution, doubled at every halving
    encoder, decoder : blocks at each scale, from fine to coarse and back; ``middle`` : blocks at the smallest
    """

    def __init__(self, width: int = 16, encoder=(1, 1, 1, 4), middle: int = 1, decoder=(1, 1, 1, 1)):
        super().__init__()
        self.entry, self.exit = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)
        widths = [width * 2**i for i in range(len(encoder) + 1)]
        self.encoder = nn.ModuleList(self.stack(w, n) for w, n in zip(widths, encoder, strict=False))
        self.shrink = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        self.middle = self.stack(widths[-1], middle)
        self.grow = nn.ModuleList(nn.Conv2d(2 * w, 4 * w, 1, bias=False) for w in widths[:-1])
        self.decoder = nn.ModuleList(self.stack(w, n) for w, n in zip(widths, reversed(decoder), strict=False))

    @staticmethod
    def stack(channels: int, count: int) -> nn.Sequential:
        """``count`` blocks, one after the other."""
        return nn.Sequential(*[NafBlock(channels) for _ in range(count)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side = 2 ** len(self.encoder)
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % side or x.shape[3] % side:
            raise ShapeError(
                f"NafNet expects N×3×H×W with sides divisible by {side}, got {'×'.join(map(str, x.shape))}"
            )
        y, skips = self.entry(x), []
        for blocks, shrink in zip(self.encoder, self.shrink, strict=True):
            y = blocks(y)
            skips.append(y)
            y = shrink(y)
        y = self.middle(y)
        for blocks, grow, skip in reversed(list(zip(self.decoder, self.grow, skips, strict=True))):
            y = blocks(F.pixel_shuffle(grow(y), 2) + skip)
        return x + self.exit(y)
