"""The small StyleGAN2 generator that chapter 02 searches in, trained without an adversary.

Adversarial training takes GPU days. A stand-in of the same class is trained in an hour of a processor as an
**autodecoder** (Bojanowski and others, 2018: generative latent optimisation): every training face has a vector w of its
own, and vectors and weights are optimised together until G(w) looks like the face (L1 + LPIPS). Codes begin as the
faces' first principal components and pass a small network that all faces share, so that they can be bent together: a
code of its own gets one step an epoch, far too few alone. Training grows from 64 to 128 pixels. At the end the bent
codes are whitened: they then have mean 0 and covariance 1, so that a random vector of normal numbers gives a new face,
and no mapping network is needed (``mapping_layers=0``).

In a shell: ``python -m helpers.reviewed.autodecoder --out runs/stylegan``
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from helpers.data import load_split, normalise
from helpers.engine import commands, runs
from helpers.engine.acceleration import look_every
from helpers.engine.devices import device_for
from helpers.engine.ema import Ema
from helpers.engine.precision import autocast, precision_for, scaler_for
from helpers.engine.updates import set_rate, update
from helpers.perceptual import Lpips, load_lpips
from helpers.reviewed.stylegan import Generator
from helpers.seeds import rng_for, seed_everything

VALIDATED = 32  # training faces that the averaged generator is measured on, the first ones


def shape_of(w_dim: int = 128, channels: int = 128) -> dict[str, int]:
    """The arguments of :class:`helpers.reviewed.stylegan.Generator` for :func:`small_generator`."""
    shape = {"z_dim": w_dim, "w_dim": w_dim, "img_resolution": 128}
    return {**shape, "channel_base": 32 * channels, "channel_max": channels}


def small_generator(w_dim: int = 128, channels: int = 128) -> Generator:
    """A generator of 128 pixels without a mapping network; by default the one that ships.

    Parameters
    ----------
    w_dim : numbers in the latent w
    channels : feature maps up to 32 pixels; half of them at 64, a quarter at 128
    """
    return Generator(**shape_of(w_dim, channels), mapping_layers=0)


def principal_codes(images: np.ndarray, count: int, side: int = 32) -> torch.Tensor:
    """The first ``count`` principal components of the faces at ``side`` pixels, each of variance 1: N×count."""
    small = torch.cat([F.adaptive_avg_pool2d(normalise(images[i : i + 256]), side) for i in range(0, len(images), 256)])
    flat = small.flatten(1)
    flat = flat - flat.mean(0)
    codes = torch.zeros(len(flat), count)
    _, _, v = torch.pca_lowrank(flat, q=min(count, *flat.shape), center=False, niter=4)
    parts = flat @ v
    codes[:, : parts.shape[1]] = parts / parts.std(0, correction=0).clamp(min=1e-6)
    return codes


class Codes(torch.nn.Module):
    """A w for every face: N indices to N×width. ``own`` is each face's, ``shared`` bends all of them."""

    def __init__(self, start: torch.Tensor):
        super().__init__()
        width = start.shape[1]
        self.own = torch.nn.Embedding(*start.shape, sparse=True, _weight=start.clone())
        self.shared = torch.nn.Sequential(
            torch.nn.Linear(width, 2 * width), torch.nn.LeakyReLU(0.2), torch.nn.Linear(2 * width, width)
        )

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        own = self.own(indices)
        return own + self.shared(own)


@torch.no_grad()
def whiten(generator: Generator, codes: torch.Tensor) -> torch.Tensor:
    """Change coordinates so that ``codes`` (N×w_dim) get mean 0 and covariance 1; the images stay the same.

    w = m + L w', with m and L Lᵀ the codes' mean and covariance; every affine layer A w + b becomes A L w' + (A m + b).
    """
    mean = codes.mean(0)
    covariance = torch.cov(codes.T) + 1e-6 * torch.eye(codes.shape[1], device=codes.device)
    root = torch.linalg.cholesky(covariance)
    for name, module in generator.synthesis.named_modules():
        if name.endswith("affine"):
            module.bias += module.weight @ mean * module.weight_gain
            module.weight.copy_(module.weight @ root)
    generator.mapping.w_avg.zero_()
    return torch.linalg.solve_triangular(root, (codes - mean).T, upper=False).T


def _faces_of(step: int, count: int, batch_size: int, keys: tuple[int, int]) -> np.ndarray:
    """Which of ``count`` faces a step sees: each epoch goes through all of them, in an order that ``keys`` decide."""
    epoch, place = divmod(step, max(count // batch_size, 1))
    return rng_for(*keys, epoch).permutation(count)[place * batch_size : (place + 1) * batch_size]


def _rate_at(step: int, steps: int, highest: float) -> float:
    """Up in 50 steps, and half a cosine down to a twentieth."""
    return highest * (0.05 + 0.95 * (1 + math.cos(math.pi * step / steps)) / 2) * min(1, (step + 1) / 50)


def train(
    images: np.ndarray,
    out: str | Path,
    small_steps: int,
    full_steps: int,
    batch_size: int = 16,
    seed: int = 2025,
    rate: float = 1e-2,
    w_dim: int = 128,
    channels: int = 128,
    lpips: Lpips | None = None,
    validate_every: int = 250,
    precision: str = "auto",
    progress: bool = True,
    go_on: bool = True,
) -> tuple[Generator, torch.Tensor, dict]:
    """Train at 64, then at 128 pixels; resumes in ``out``. The generator, the whitened codes and the histories.

    There is no face but the training's that the generator could be asked for without a search, so what the histories
    hold as ``val_training_faces_...`` is measured on the first training faces, with the averaged weights.

    Parameters
    ----------
    images : uint8 N×128×128×3
    small_steps, full_steps : steps at 64 and at 128 pixels; the rate falls as half a cosine over each
    w_dim, channels : see :func:`small_generator`
    precision : "auto", "bf16", "fp16" or "no" (:func:`helpers.engine.precision.precision_for`)
    go_on : False takes no step: what the run in ``out`` has come to
    """
    device = device_for()
    precision, lpips = precision_for(device, precision), (lpips or load_lpips()).to(device)
    seed_everything(seed)
    images, model = np.stack(list(images)), small_generator(w_dim, channels).to(device)
    codes = Codes(principal_codes(images, w_dim)).to(device)
    settings = {"batch_size": batch_size, "seed": seed, "rate": rate, "w_dim": w_dim, "channels": channels}
    settings |= {"lpips": lpips.name, "precision": precision, "pictures": runs.fingerprint(images)}
    settings |= {"images": len(images)}

    def losses(synthesis, chosen, side):
        target = normalise(torch.from_numpy(images[chosen]).to(device))
        target = F.avg_pool2d(target, 128 // side) if side < 128 else target
        with autocast(device, precision):
            picture = synthesis(codes(torch.from_numpy(chosen).to(device)), side)
            perceptual = lpips(picture, target).mean()
        return {"l1": (picture - target).abs().mean(), "lpips": perceptual}

    def fit(side, steps):
        optimisers = {
            "opt": torch.optim.Adam(model.synthesis.parameters(), lr=rate, betas=(0.9, 0.99), fused=True),
            "code_opt": torch.optim.SparseAdam(list(codes.own.parameters()), lr=rate),
            "shared_opt": torch.optim.Adam(codes.shared.parameters(), lr=rate),
        }
        ema, scaler = Ema(model.synthesis, 0.999), scaler_for(device, precision)

        def step(number):
            for name, part in optimisers.items():
                set_rate(part, _rate_at(number, steps, rate) * (0.1 if name == "shared_opt" else 1))
            parts = losses(model.synthesis, _faces_of(number, len(images), batch_size, (seed, side)), side)
            update(sum(parts.values()), scaler, *optimisers.values())
            return {k: v.detach() for k, v in parts.items()}

        @torch.no_grad()
        def validate():
            found = losses(ema.module, np.arange(min(VALIDATED, len(images))), side)
            return {f"training_faces_{k}": v.item() for k, v in found.items()}

        parts = {"synthesis": model.synthesis, "codes": codes, **optimisers, "scaler": scaler}
        history = runs.run(
            Path(out) / str(side), {**settings, "side": side, "steps": steps}, parts, step, steps, (ema,), go_on=go_on,
            validate=validate, validate_every=validate_every, desc=f"autodecoder {side}", progress=progress,
            look_every=look_every(device),
        )  # fmt: skip
        model.synthesis.load_state_dict(ema.state_dict())
        return history

    histories = {str(side): fit(side, steps) for side, steps in ((64, small_steps), (128, full_steps))}
    model.eval().requires_grad_(False)
    with torch.no_grad():
        bent = codes(torch.arange(len(images), device=device))
    return model, whiten(model, bent), histories


def main(argv: list[str] | None = None) -> None:
    extra = commands.EXPORT | {
        "--rate": {"type": commands.positive_float, "default": 1e-2, "help": "the highest learning rate"},
        "--w-dim": {"type": commands.positive_int, "default": 128, "help": "numbers in a face's code"},
        "--channels": {"type": commands.positive_int, "default": 128, "help": "feature maps of the widest layers"},
    }
    command = commands.parser("helpers.reviewed.autodecoder", __doc__, {"small": 2200, "full": 900}, extra)
    args = command.parse_args(argv)

    def trained(args, images, _):
        model, _, histories = train(
            images, args.out, args.small_steps, args.full_steps, batch_size=args.batch_size, seed=args.seed,
            rate=args.rate, w_dim=args.w_dim, channels=args.channels, precision=args.precision,
            go_on=not args.export,
        )  # fmt: skip
        return model, histories

    about = {"name": "stylegan", **shape_of(args.w_dim, args.channels), "mapping_layers": 0, "rate": args.rate}
    about |= {"decay": 0.999, "schedule": "half a cosine at each size", "optimiser": "Adam, betas 0.9 and 0.99"}
    commands.main_of(command, argv, load_split, trained, about, {"small": "64", "full": "128"})


if __name__ == "__main__":
    main()
