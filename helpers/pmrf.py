"""Posterior-Mean Rectified Flow (thesis section 1.3; Ohayon, Michaeli and Elad, 2025), equations 9 to 17.

Images are in [0, 1] throughout, as in the authors' code. Two networks are trained one after the other::

    f_ω    posterior mean: blurred Y -> E[X | Y], by squared error                       (equation 13)
    v_θ    vector field: Z_t, t -> X - Z_0, where Z_0 = f_ω(Y) + σ_s ε                   (equations 14, 15)

and a picture is restored by walking along v_θ from Z_0 in K steps (equations 16, 17). In a shell::

    python -m helpers.pmrf --out runs/pmrf

The mathematics is the authors'. The networks are not: theirs are SwinIR and a hourglass transformer of 176 million
parameters together, ours a :class:`UNet` of convolutions of a few million that a processor can train.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from helpers import resumable
from helpers.checkpoints import save_checkpoint
from helpers.devices import device_for
from helpers.networks import ShapeError
from helpers.pairs import Pairs

SIGMA_S = 0.1  # the authors' value for faces; the thesis gives none


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


class Block(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))); the time, where there is one, scales and shifts the second norm."""

    def __init__(self, channels: int, time_width: int | None):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)  # every block begins as the identity
        nn.init.zeros_(self.conv2.bias)
        self.time = nn.Linear(time_width, 2 * channels) if time_width else None

    def forward(self, x: torch.Tensor, time: torch.Tensor | None) -> torch.Tensor:
        y = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.time is not None:
            scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
            y = y * (1 + scale) + shift
        return x + self.conv2(F.silu(y))


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
            self.down.append(nn.ModuleList(Block(channels, time_width) for _ in range(depth)))
            self.up.append(nn.ModuleList(Block(channels, time_width) for _ in range(depth)))
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
    """Both trained networks, as they are shipped: ``posterior_mean`` and ``field``.

    Together they approximate the estimator of equation 8: among all that look like real images, nearest in MSE.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        self.posterior_mean, self.field = UNet(width), UNet(width, timed=True)

    @torch.no_grad()
    def restore(
        self, blurred: torch.Tensor, steps: int = 25, sigma: float = SIGMA_S, noise: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Equations 16 and 17: N×3×H×W in [0, 1] to the same; ``noise`` (ε) is drawn unless given."""
        noise = torch.randn_like(blurred) if noise is None else noise
        return sample(self.field, source(self.posterior_mean(blurred), noise, sigma), steps)


# ---------------------------------------------------------------------------------------------------------------------
# Training


def train(
    images,
    out: str | Path,
    mean_steps: int,
    flow_steps: int,
    width: int = 32,
    batch_size: int = 16,
    seed: int = 2025,
    rate: float = 5e-4,
    decay: float = 0.999,
    kind: str = "pmrf",
    degradation: str = "celebablur",
    progress: bool = True,
) -> tuple[Pmrf, dict]:
    """Both stages on sharp ``images`` (uint8 N×H×W×3); resumes in ``out``. The averaged networks and their histories.

    AdamW as the authors set it (betas 0.9 and 0.95, weight decay 0.01 on everything, constant rate). Their average
    has a decay of 0.9999 over a million steps; ours is shorter, and so is its memory.

    Parameters
    ----------
    kind : "pmrf"; or a rival for the second stage: "from_y" starts the flow at the blurred image itself plus noise,
        "from_noise" at pure noise and sees the blurred image as three more channels
    """
    if kind not in ("pmrf", "from_y", "from_noise"):
        raise ValueError(f'kind must be "pmrf", "from_y" or "from_noise", not {kind!r}')
    device = device_for()
    pairs = Pairs(images, degradation, flip=True, seed=seed)
    shared = {"width": width, "batch_size": batch_size, "seed": seed, "rate": rate, "decay": decay}
    shared |= {"images": len(images), "degradation": degradation}
    resumable.seed_everything(seed)
    model = Pmrf(width).to(device, memory_format=torch.channels_last)
    if kind == "from_noise":
        model.field = UNet(width, timed=True, in_channels=6).to(device, memory_format=torch.channels_last)
    histories = {}

    def optimiser_of(network):
        return torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=1e-2, fused=True)

    def pair(number):
        batch = resumable.batch_of(pairs, number, batch_size)
        return tuple(
            ((x + 1) / 2).to(device, memory_format=torch.channels_last) for x in (batch.input[:, :3], batch.target)
        )

    def update(optimiser, loss):
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    if mean_steps:
        network, optimiser = model.posterior_mean, optimiser_of(model.posterior_mean)
        mean_ema = resumable.Ema(network, decay)

        def mean_step(number):
            y, x = pair(number)
            with torch.autocast(device.type, torch.bfloat16):
                estimate = network(y).float()
            loss = F.mse_loss(estimate.clamp(0, 1), x)  # clipped before the loss, as in the authors' code
            update(optimiser, loss)
            return {"mse": loss.item()}

        histories["posterior_mean"] = resumable.run(
            Path(out) / "posterior_mean", {**shared, "stage": "posterior mean"}, {"network": network, "opt": optimiser},
            mean_step, mean_steps, (mean_ema,), desc="posterior mean", progress=progress,
        )  # fmt: skip
        network.load_state_dict(mean_ema.module.state_dict())
    model.posterior_mean.eval().requires_grad_(False)

    if flow_steps:
        field, field_optimiser = model.field, optimiser_of(model.field)
        field_ema = resumable.Ema(field, decay)

        def flow_step(number):
            y, x = pair(number)
            noise = torch.randn(x.shape).to(x)
            t = stratified_times(len(x)).to(x)
            with torch.autocast(device.type, torch.bfloat16):
                if kind == "from_noise":
                    loss = flow_loss(lambda z, t: field(torch.cat([z, y], 1), t), x, noise, t)
                else:
                    start = y if kind == "from_y" else model.posterior_mean(y).float()
                    loss = flow_loss(field, x, source(start, noise), t)
            update(field_optimiser, loss)
            return {"flow": loss.item()}

        histories["field"] = resumable.run(
            Path(out) / kind, {**shared, "stage": kind, "mean_steps": mean_steps},
            {"network": field, "opt": field_optimiser}, flow_step, flow_steps, (field_ema,), desc=kind,
            progress=progress,
        )  # fmt: skip
        field.load_state_dict(field_ema.module.state_dict())
    return model.eval().requires_grad_(False), histories


def main(argv: list[str] | None = None) -> None:
    args = resumable.arguments("helpers.pmrf", __doc__.split("\n\n")[0], {"mean": 4000, "flow": 3000}, argv)
    images, source_name = resumable.images_of(args)
    try:
        model, histories = train(
            images, args.out, args.mean_steps, args.flow_steps, batch_size=args.batch_size, seed=args.seed
        )
    except resumable.TrainingError as error:
        raise SystemExit(f"error: {error}") from None
    settings = {"name": "pmrf", "width": 32, "mean_steps": args.mean_steps, "flow_steps": args.flow_steps}
    settings |= {"batch_size": args.batch_size, "seed": args.seed, "degradation": "celebablur", "sigma_s": SIGMA_S}
    about = resumable.facts(settings, len(images), source_name, next(model.parameters()).device)
    path = Path(args.out) / "pmrf.safetensors"
    save_checkpoint(path, model, {**about, "history": {k: h[-1] for k, h in histories.items() if h}}, precision="8-bit")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
