"""The small StyleGAN2 generator that chapter 02 searches in, trained without an adversary.

Adversarial training takes GPU days. A stand-in of the same class is trained in an hour of a processor as an
**autodecoder** (Bojanowski and others, 2018: generative latent optimisation): every training face has a vector w of its
own, and vectors and weights are optimised together until G(w) looks like the face (L1 + LPIPS). Codes begin as the
faces' first principal components and pass a small network that all faces share, so that they can be bent together: a
code of its own gets one step an epoch, far too few alone. Training grows from 64 to 128 pixels. At the end the bent
codes are whitened: they then have mean 0 and covariance 1, so that a random vector of normal numbers gives a new face,
and no mapping network is needed (``mapping_layers=0``).

In a shell: ``python -m helpers.stylegan --out runs/stylegan``
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from helpers import resumable
from helpers.checkpoints import save_checkpoint
from helpers.data import normalise
from helpers.devices import device_for
from helpers.perceptual import load_lpips
from helpers.seeds import rng_for, seed_everything
from helpers.stylegan import Generator

SMALL = {"z_dim": 128, "w_dim": 128, "img_resolution": 128, "channel_base": 4096, "channel_max": 128}


def small_generator() -> Generator:
    """The generator that ships: 128 pixels, 128 channels at most, no mapping network."""
    return Generator(**SMALL, mapping_layers=0)


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


def train(
    images: np.ndarray,
    out: str | Path,
    small_steps: int,
    full_steps: int,
    batch_size: int = 16,
    seed: int = 2025,
    rate: float = 1e-2,
    lpips=None,
    progress: bool = True,
) -> tuple[Generator, torch.Tensor, dict]:
    """Train at 64, then at 128 pixels; resumes in ``out``. The generator, the whitened codes and the histories.

    Parameters
    ----------
    images : uint8 N×128×128×3
    small_steps, full_steps : steps at 64 and at 128 pixels; the rate falls as half a cosine over each
    """
    device = device_for()
    lpips = (lpips or load_lpips()).to(device)
    seed_everything(seed)
    images = np.stack(list(images))
    model = small_generator().to(device)
    codes = Codes(principal_codes(images, SMALL["w_dim"])).to(device)
    settings = {"batch_size": batch_size, "seed": seed, "rate": rate, "images": len(images), "lpips": lpips.name}
    histories, previous = {}, None

    for side, steps in ((64, small_steps), (128, full_steps)):
        trained = small_generator().to(device).synthesis if side == 128 else model.synthesis
        if side == 128:
            trained.load_state_dict(previous.state_dict())
        optimiser = torch.optim.Adam(trained.parameters(), lr=rate, betas=(0.9, 0.99), fused=True)
        code_optimiser = torch.optim.SparseAdam(list(codes.own.parameters()), lr=rate)
        shared_optimiser = torch.optim.Adam(codes.shared.parameters(), lr=rate)
        optimisers = {"opt": (optimiser, 1), "code_opt": (code_optimiser, 1), "shared_opt": (shared_optimiser, 0.1)}
        ema = resumable.Ema(trained, 0.999)

        def step(number, trained=trained, side=side, steps=steps, optimisers=optimisers):
            per_epoch = max(len(images) // batch_size, 1)
            epoch, place = divmod(number, per_epoch)
            chosen = rng_for(seed, side, epoch).permutation(len(images))[place * batch_size : (place + 1) * batch_size]
            target = normalise(images[chosen]).to(device)
            target = F.avg_pool2d(target, 128 // side) if side < 128 else target
            now = rate * (0.05 + 0.95 * (1 + math.cos(math.pi * number / steps)) / 2)
            for part, factor in optimisers.values():
                part.param_groups[0]["lr"] = now * factor * min(1, (number + 1) / 50)
            with torch.autocast(device.type, torch.bfloat16):
                picture = trained(codes(torch.from_numpy(chosen).to(device)), side)
                perceptual = lpips(picture, target).mean()
            pixels = (picture - target).abs().mean()
            for part, _ in optimisers.values():
                part.zero_grad(set_to_none=True)
            (pixels + perceptual).backward()
            for part, _ in optimisers.values():
                part.step()
            return {"l1": pixels.item(), "lpips": perceptual.item()}

        histories[str(side)] = resumable.run(
            Path(out) / str(side), {**settings, "side": side, "steps": steps},
            {"synthesis": trained, "codes": codes, **{name: part for name, (part, _) in optimisers.items()}},
            step, steps, (ema,), desc=f"autodecoder {side}", progress=progress,
        )  # fmt: skip
        previous = ema.module
    model.synthesis.load_state_dict(previous.state_dict())
    model.eval().requires_grad_(False)
    with torch.no_grad():
        bent = codes(torch.arange(len(images), device=device))
    return model, whiten(model, bent), histories


def main(argv: list[str] | None = None) -> None:
    args = resumable.arguments("helpers.stylegan", __doc__.split("\n\n")[0], {"small": 2200, "full": 900}, argv)
    images, source_name = resumable.images_of(args)
    try:
        model, codes, histories = train(
            images, args.out, args.small_steps, args.full_steps, batch_size=args.batch_size, seed=args.seed
        )
    except resumable.TrainingError as error:
        raise SystemExit(f"error: {error}") from None
    settings = {"name": "stylegan", **SMALL, "mapping_layers": 0, "small_steps": args.small_steps}
    settings |= {"full_steps": args.full_steps, "batch_size": args.batch_size, "seed": args.seed}
    about = resumable.facts(settings, len(images), source_name, codes.device)
    path = Path(args.out) / "stylegan.safetensors"
    save_checkpoint(path, model, {**about, "history": {k: h[-1] for k, h in histories.items() if h}}, precision="8-bit")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
