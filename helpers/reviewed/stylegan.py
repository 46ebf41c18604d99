"""StyleGAN2's generator (thesis section 1.1), with the three latent spaces that the robust inversion searches.

It has the names and shapes of NVIDIA's StyleGAN2-ADA weights at every resolution and width, so that the published ones
load (:mod:`helpers.reviewed.official_weights`). A latent may be given in finer and finer form::

    W     N×w_dim                  one vector for the whole generator
    W+    N×num_ws×w_dim           one a layer
    W++   N×(num_ws·NF)×w_dim      one a filter of a layer, layer by layer; NF rows each, surplus rows are ignored

The search is in :mod:`helpers.reviewed.inversion`; the small generator that ships was trained by
:mod:`helpers.reviewed.autodecoder`.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from helpers.networks import ShapeError

FILTER = (1.0, 3.0, 3.0, 1.0)  # the resampling filter; its outer product, summing to 1, smooths every doubling


# ---------------------------------------------------------------------------------------------------------------------
# Operations


def upfirdn(x: torch.Tensor, kernel: torch.Tensor, up: int, padding: tuple[int, int], gain: float) -> torch.Tensor:
    """Put ``up`` - 1 zeros between pixels, pad (before, after), filter each channel with the symmetric ``kernel``."""
    n, c, h, w = x.shape
    if up > 1:
        wide = x.new_zeros(n, c, h, up, w, up)
        wide[:, :, :, 0, :, 0] = x
        x = wide.reshape(n, c, h * up, w * up)
    x = F.pad(x, [*padding, *padding])
    weight = (kernel * gain).to(x.dtype).expand(c, 1, *kernel.shape)
    return F.conv2d(x, weight, groups=c)


def modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    noise: torch.Tensor | None = None,
    up: int = 1,
    padding: int = 0,
    resample_filter: torch.Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
) -> torch.Tensor:
    """Convolution whose weights are scaled by a style, then normalised filter by filter.

    weight'[n, o, i] = weight[o, i] · s, with s = styles[n, i] (W, W+) or styles[n, o, i] (W++); demodulated,
    weight'[n, o] is divided by the root of its sum of squares, so that the output keeps its variance.

    Parameters
    ----------
    x : N×I×H×W
    weight : O×I×k×k
    styles : N×I, or N×O×I for a style of its own for every output filter
    noise : added to the result; broadcast
    up : 2 doubles the image (transposed convolution, then ``resample_filter``)
    flip_weight : True correlates, as PyTorch's convolutions do; False turns the kernel by 180°

    Returns
    -------
    N×O×(up·H)×(up·W) for ``padding`` = k // 2
    """
    n = len(x)
    if styles.shape not in ((n, weight.shape[1]), (n, *weight.shape[:2])):
        raise ShapeError(
            f"styles must be N×I = {n}×{weight.shape[1]} or N×O×I = {n}×{weight.shape[0]}×{weight.shape[1]}, "
            f"got {'×'.join(map(str, styles.shape))}"
        )
    if not flip_weight:
        weight = weight.flip(2, 3)
    if styles.ndim == 2:
        # Scaling the image instead of the weights is the same and needs no copy of the weights for each image.
        y = _convolve(x * styles[:, :, None, None].to(x.dtype), weight, up, padding, resample_filter)
        if demodulate:
            square = styles.float().square() @ weight.float().square().sum((2, 3)).T
            y = y * (square + 1e-8).rsqrt()[:, :, None, None].to(y.dtype)
    else:
        own = weight[None] * styles[:, :, :, None, None]
        if demodulate:
            own = own * (own.float().square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt().to(own.dtype)
        y = _convolve(x, own, up, padding, resample_filter)
    return y if noise is None else y + noise.to(y.dtype)


def _convolve(x, weight, up, padding, resample_filter):
    """A plain convolution, or for ``up`` = 2 a transposed one followed by the smoothing filter.

    ``weight`` is O×I×k×k, or N×O×I×k×k for kernels of each image's own: these become one convolution in N groups.
    """
    weight, n, groups = weight.to(x.dtype), len(x), 1
    if weight.ndim == 5:
        groups, x, weight = n, x.reshape(1, -1, *x.shape[2:]), weight.flatten(0, 1)
    if up == 1:
        y = F.conv2d(x, weight, padding=padding, groups=groups)
        return y.reshape(n, -1, *y.shape[2:])
    k, size = weight.shape[-1], len(resample_filter)
    # A transposed convolution turns the kernel; so, to correlate, it is turned back here. It wants inputs first.
    turned = weight.flip(2, 3).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    y = F.conv_transpose2d(x, turned, stride=up, groups=groups)
    y = y.reshape(n, -1, *y.shape[2:])
    before = padding + (size + up - 1) // 2 - (k - 1)
    after = padding + (size - up) // 2 - (k - up)
    return upfirdn(y, resample_filter, 1, (before, after), gain=up**2)


class FullyConnected(nn.Module):
    """A linear layer whose weights are drawn with variance 1 and scaled when used (equalised learning rate)."""

    def __init__(self, inputs: int, outputs: int, activate: bool = False, rate: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), float(bias)))
        self.weight_gain, self.bias_gain, self.activate = rate / np.sqrt(inputs), rate, activate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)
        return F.leaky_relu(y, 0.2) * np.sqrt(2) if self.activate else y


# ---------------------------------------------------------------------------------------------------------------------
# Generator


class Mapping(nn.Module):
    """z to w: N×z_dim to N×num_ws×w_dim, the same w for every layer. ``w_avg`` is the mean w of training."""

    def __init__(self, z_dim: int, w_dim: int, num_ws: int, num_layers: int):
        super().__init__()
        self.num_ws, self.num_layers = num_ws, num_layers
        for i in range(num_layers):
            setattr(self, f"fc{i}", FullyConnected(w_dim if i else z_dim, w_dim, activate=True, rate=0.01))
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: torch.Tensor, truncation_psi: float = 1.0) -> torch.Tensor:
        x = z.float() * (z.float().square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)
        x = self.w_avg.lerp(x, truncation_psi) if truncation_psi != 1 else x
        return x[:, None].expand(-1, self.num_ws, -1)


class SynthesisLayer(nn.Module):
    """Affine style, modulated 3×3 convolution (doubling the image if ``up`` is 2), constant noise, leaky ReLU."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, resolution: int, up: int = 1):
        super().__init__()
        self.up, self.out_channels = up, out_channels
        self.affine = FullyConnected(w_dim, in_channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("resample_filter", _filter())
        self.register_buffer("noise_const", torch.randn(resolution, resolution))

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        x = modulated_conv2d(
            x, self.weight, self.affine(w), noise=self.noise_const * self.noise_strength, up=self.up, padding=1,
            resample_filter=self.resample_filter, flip_weight=self.up == 1,
        )  # fmt: skip
        return F.leaky_relu(x + self.bias[:, None, None].to(x.dtype), 0.2) * np.sqrt(2)


class ToRGB(nn.Module):
    """Affine style and a modulated 1×1 convolution to three channels, without demodulation."""

    def __init__(self, in_channels: int, w_dim: int):
        super().__init__()
        self.out_channels = 3
        self.affine = FullyConnected(w_dim, in_channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.weight_gain = 1 / np.sqrt(in_channels)

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = modulated_conv2d(x, self.weight, self.affine(w) * self.weight_gain, demodulate=False)
        return y + self.bias[:, None, None].to(y.dtype)


class SynthesisBlock(nn.Module):
    """One resolution: two layers (one at 4×4, which starts from a learned constant) and an image to add to."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, resolution: int):
        super().__init__()
        self.register_buffer("resample_filter", _filter())
        if in_channels:
            self.conv0 = SynthesisLayer(in_channels, out_channels, w_dim, resolution, up=2)
        else:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        self.conv1 = SynthesisLayer(out_channels, out_channels, w_dim, resolution)
        self.torgb = ToRGB(out_channels, w_dim)

    def layers(self) -> list[nn.Module]:
        """Convolutions, then ToRGB."""
        return [*([self.conv0] if hasattr(self, "conv0") else []), self.conv1, self.torgb]

    def forward(self, x, image, latents):
        if x is None:
            x = self.const[None].expand(len(latents[0]), -1, -1, -1)
        *convs, torgb = self.layers()
        for layer, w in zip(convs, latents, strict=False):
            x = layer(x, w)
        y = torgb(x, latents[-1]).float()
        if image is not None:
            y = y + upfirdn(image, self.resample_filter, 2, (2, 1), gain=4)
        return x, y


def _filter() -> torch.Tensor:
    line = torch.tensor(FILTER)
    return torch.outer(line, line) / line.sum() ** 2


class Synthesis(nn.Module):
    """Latents in W, W+ or W++ to images N×3×R×R, not clamped; the published weights give about [-1, 1]."""

    def __init__(self, w_dim: int, img_resolution: int, channel_base: int, channel_max: int):
        super().__init__()
        self.resolutions = [2**i for i in range(2, img_resolution.bit_length())]
        widths = {r: min(channel_base // r, channel_max) for r in self.resolutions}
        self.w_dim, self.num_filters = w_dim, max(max(widths.values()), 3)
        for r in self.resolutions:
            setattr(self, f"b{r}", SynthesisBlock(widths.get(r // 2, 0), widths[r], w_dim, r))
        self.num_ws = 2 * len(self.resolutions)

    def blocks(self) -> list[SynthesisBlock]:
        """From 4×4 to the full resolution."""
        return [getattr(self, f"b{r}") for r in self.resolutions]

    def per_layer(self, latent: torch.Tensor) -> torch.Tensor:
        """W, W+ or W++ as N×num_ws×w_dim or N×num_ws×NF×w_dim."""
        n, shape = len(latent), tuple(latent.shape[1:])
        if shape == (self.w_dim,):
            return latent[:, None].expand(-1, self.num_ws, -1)
        if shape == (self.num_ws, self.w_dim):
            return latent
        if shape == (self.num_ws * self.num_filters, self.w_dim):
            return latent.reshape(n, self.num_ws, self.num_filters, self.w_dim)
        raise ShapeError(
            f"a latent must be N×{self.w_dim} (W), N×{self.num_ws}×{self.w_dim} (W+) or "
            f"N×{self.num_ws * self.num_filters}×{self.w_dim} (W++), got {'×'.join(map(str, latent.shape))}"
        )

    def forward(self, latent: torch.Tensor, resolution: int | None = None) -> torch.Tensor:
        """Latents to images; those of ``resolution`` pixels if given, from the blocks up to there."""
        ws, place = self.per_layer(latent), 0
        x = image = None
        for block in self.blocks():
            layers = block.layers()
            # ToRGB uses the slot after the convolutions, which the next block's first convolution uses too.
            mine = [ws[:, place + i] for i in range(len(layers))]
            if ws.ndim == 4:  # one row for each output filter; the rest are surplus
                mine = [w[:, : layer.out_channels] for w, layer in zip(mine, layers, strict=True)]
            x, image = block(x, image, mine)
            place += len(layers) - 1
            if image.shape[-1] == resolution:
                break
        return image


class Generator(nn.Module):
    """StyleGAN2's generator: z N×z_dim to images N×3×R×R in about [-1, 1].

    Defaults are the 1024-pixel network's, 30,370,060 parameters. For NVIDIA's nets at 256 pixels
    ``img_resolution=256, channel_base=16384``.
    """

    def __init__(
        self,
        z_dim: int = 512,
        w_dim: int = 512,
        img_resolution: int = 1024,
        channel_base: int = 32768,
        channel_max: int = 512,
        mapping_layers: int = 8,
    ):
        super().__init__()
        if img_resolution < 8 or img_resolution & (img_resolution - 1):
            raise ValueError(f"img_resolution must be a power of 2, at least 8, not {img_resolution}")
        self.img_resolution = img_resolution
        self.synthesis = Synthesis(w_dim, img_resolution, channel_base, channel_max)
        self.mapping = Mapping(z_dim, w_dim, self.synthesis.num_ws, mapping_layers)

    def forward(self, z: torch.Tensor, truncation_psi: float = 1.0) -> torch.Tensor:
        return self.synthesis(self.mapping(z, truncation_psi))

    def picture(self, latent: torch.Tensor) -> torch.Tensor:
        """The image of a latent in [0, 1], where the inversion works: (G + 1) / 2, not clamped."""
        return (self.synthesis(latent) + 1) / 2
