"""Posterior-Mean Rectified Flow (thesis section 1.3; Ohayon, Michaeli and Elad, 2025), equations 9 to 17.

Images are in [0, 1] throughout, as in the authors' code. Two networks are trained one after the other::

    f_ω    posterior mean: blurred Y -> E[X | Y], by squared error                       (equation 13)
    v_θ    vector field: Z_t, t -> X - Z_0, where Z_0 = f_ω(Y) + σ_s ε                   (equations 14, 15)

and a picture is restored by walking along v_θ from Z_0 in K steps (equations 16, 17). The training is in
:mod:`helpers.reviewed.pmrf_training`.

The mathematics is the authors'. The networks are not: theirs are SwinIR and a hourglass transformer of 176 million
parameters together, ours a :class:`UNet` of convolutions of a few million that a processor can train.
"""

import torch
import torch.nn.functional as F
from torch import nn

from helpers.networks import ConditionedBlock, ShapeError

SIGMA_S = 0.1  # the authors' value for faces; the thesis gives none
KINDS = ("pmrf", "from_y", "from_noise")


# ---------------------------------------------------------------------------------------------------------------------
# The mathematics


def stratified_times(count: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """One time in each of ``count`` equal parts of [0, 1]: t_i = (i + u_i) / count, in order. Shape: count.

    Every t is still uniform, but a batch covers the whole path, which makes the loss less noisy. The order does no
    harm because the images come in random order.
    """
    return (torch.arange(count) + torch.rand(count, generator=generator)) / count


def source(posterior_mean: torch.Tensor, noise: torch.Tensor, sigma: float = SIGMA_S) -> torch.Tensor:
    """Equations 15 and 16: Z_0 = f_ω(Y), clipped to [0, 1] as in the authors' code, plus σ_s ε. N×3×H×W.

    The noise makes every image possible, so that the support of Z_t (equation 18) is the whole space for t < 1.
    """
    return posterior_mean.clamp(0, 1) + sigma * noise


def interpolate(x: torch.Tensor, z0: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Equations 10 and 15: Z_t = t X + (1 - t) Z_0, with a time for each image (t: N)."""
    t = t.view(-1, *[1] * (x.ndim - 1)).to(x)
    return t * x + (1 - t) * z0


def flow_loss(field, x: torch.Tensor, z0: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Equations 12 and 14: mean over all elements of (v_θ(Z_t, t) - (X - Z_0))². Least for the field of equation 11.

    Parameters
    ----------
    field : called as ``field(z, t)`` with z N×... and t N
    x, z0 : N×..., target and source; t : N, times in [0, 1]
    """
    if x.shape != z0.shape or t.shape != x.shape[:1]:
        raise ShapeError(
            f"expected x and z0 of one shape and one time an image, got {tuple(x.shape)}, {tuple(z0.shape)} "
            f"and {tuple(t.shape)}"
        )
    return F.mse_loss(field(interpolate(x, z0, t), t.to(x)).float(), x - z0)


@torch.no_grad()
def sample(field, z0: torch.Tensor, steps: int = 25, clip: bool = True, path: bool = False):
    """Equations 9 and 17: K = ``steps`` Euler steps of size 1/K from z0 at t = 0 to the restored image at t = 1.

    Parameters
    ----------
    clip : bring the result into [0, 1], as images want it
    path : give the list of all K + 1 states instead, unclipped
    """
    if steps < 1:
        raise ValueError(f"the number of Euler steps must be at least 1, not {steps}")
    states = [z0]
    for i in range(steps):
        z = states[-1]
        t = torch.full((len(z),), i / steps, device=z.device, dtype=z.dtype)
        z = z + field(z, t).to(z) / steps
        states = [*states, z] if path else [z]
    if path:
        return states
    return states[-1].clamp(0, 1) if clip else states[-1]


# ---------------------------------------------------------------------------------------------------------------------
# The networks


class Fourier(nn.Module):
    """A time in [0, 1] as sines and cosines of fixed frequencies, then two linear layers: N to N×``width``."""

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("frequencies", 2 ** torch.linspace(0, 8, 16))
        self.layers = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        angle = torch.pi * t[:, None].float() * self.frequencies
        return self.layers(torch.cat([angle.sin(), angle.cos()], dim=1))


class UNet(nn.Module):
    """N×``in_channels``×H×W, H and W divisible by 16, to N×3×H×W.

    Pixels are first folded 2×2 into channels; then four scales with skip connections. Both networks of the method are
    of this class:

    * posterior mean, ``timed=False``: forward(y) = y + correction (SwinIR has no such shortcut from y)
    * vector field, ``timed=True``: forward(z, t), exactly 0 before training, as the authors' network is
    """

    def __init__(self, width: int = 32, timed: bool = False, in_channels: int = 3):
        super().__init__()
        widths, depths = [width, 2 * width, 4 * width, 4 * width], [1, 1, 2, 2]
        time_width = 4 * width if timed else None
        self.in_channels, self.timed = in_channels, timed
        self.time = Fourier(time_width) if timed else None
        self.entry = nn.Conv2d(4 * in_channels, width, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i, (channels, depth) in enumerate(zip(widths, depths, strict=True)):
            self.down.append(nn.ModuleList(ConditionedBlock(channels, time_width) for _ in range(depth)))
            self.up.append(nn.ModuleList(ConditionedBlock(channels, time_width) for _ in range(depth)))
            if i + 1 < len(widths):
                self.shrink.append(nn.Conv2d(channels, widths[i + 1], 2, stride=2))
                self.grow.append(nn.Conv2d(widths[i + 1], 4 * channels, 1))
                self.join.append(nn.Conv2d(2 * channels, channels, 1))
        self.exit = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, 12, 3, padding=1))
        nn.init.zeros_(self.exit[-1].weight)
        nn.init.zeros_(self.exit[-1].bias)

    def forward(self, x: torch.Tensor, t: torch.Tensor | None = None) -> torch.Tensor:
        if x.ndim != 4 or x.shape[1] != self.in_channels or x.shape[2] % 16 or x.shape[3] % 16:
            raise ShapeError(
                f"UNet expects N×{self.in_channels}×H×W with sides divisible by 16, got {'×'.join(map(str, x.shape))}"
            )
        if self.timed != (t is not None):
            raise ShapeError("a vector field is called with z and t, a posterior mean with y alone")
        time = self.time(t) if self.timed else None
        y, skips = self.entry(F.pixel_unshuffle(x, 2)), []
        for i, blocks in enumerate(self.down):
            for block in blocks:
                y = block(y, time)
            if i < len(self.shrink):
                skips.append(y)
                y = self.shrink[i](y)
        for i in reversed(range(len(self.up))):
            if i < len(self.grow):
                y = self.join[i](torch.cat([F.pixel_shuffle(self.grow[i](y), 2), skips[i]], dim=1))
            for block in self.up[i]:
                y = block(y, time)
        y = F.pixel_shuffle(self.exit(y), 2)
        return y if self.timed else x + y


class Pmrf(nn.Module):
    """Both trained networks, as they are shipped: ``posterior_mean`` and ``field``; or a rival of chapter 03.

    Together they approximate the estimator of equation 8: among all that look like real images, nearest in MSE.

    Parameters
    ----------
    width : channels at full size
    kind : "pmrf"; or a rival that has no posterior mean: "from_y" starts the flow at the blurred image itself plus
        noise, "from_noise" at pure noise, and its field sees the blurred image as three more channels
    """

    def __init__(self, width: int = 32, kind: str = "pmrf"):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        self.kind = kind
        self.posterior_mean = UNet(width) if kind == "pmrf" else None
        self.field = UNet(width, timed=True, in_channels=6 if kind == "from_noise" else 3)

    def start(self, blurred: torch.Tensor, noise: torch.Tensor, sigma: float = SIGMA_S) -> torch.Tensor:
        """Z_0 for blurred images N×3×H×W in [0, 1] and the noise ε of their shape (equation 16)."""
        if self.kind == "from_noise":
            return noise
        return source(blurred if self.kind == "from_y" else self.posterior_mean(blurred).float(), noise, sigma)

    def field_of(self, blurred: torch.Tensor, field: nn.Module | None = None):
        """v(z, t) for these blurred images, which "from_noise" alone looks at; of another ``field`` if one is given."""
        field = self.field if field is None else field
        if self.kind != "from_noise":
            return field
        return lambda z, t: field(torch.cat([z, blurred], dim=1), t)

    @torch.no_grad()
    def restore(
        self, blurred: torch.Tensor, steps: int = 25, sigma: float = SIGMA_S, noise: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Equations 16 and 17: N×3×H×W in [0, 1] to the same.

        Parameters
        ----------
        steps : K
        sigma : σ_s of the training, which the checkpoint's JSON names
        noise : ε; drawn unless given
        """
        noise = torch.randn_like(blurred) if noise is None else noise
        return sample(self.field_of(blurred), self.start(blurred, noise, sigma), steps)
