"""A better model of the thesis's kind (chapter 13): its edge map, code and latent supervision, without its bottleneck.

In the thesis's model everything about a picture must pass through 512 numbers. Here the encoder also hands its feature
maps to the generator (skip connections), and the generator draws a *correction* of the blurred picture. Two
corrections, in fact, from one trunk: one as near to the truth as it gets (the ``mean``), one that looks sharp
(``perceptual``, the thesis's five losses). What lies between them is a knob, a number at inference:

    x̂(knob) = mean + knob · (perceptual - mean)

Freirich, Michaeli and Meir (2021, the thesis's reference [10]) prove that the line from the posterior mean to the best
estimator of perfect realism is the best trade of distortion for perception there is.

In a shell::

    python -m helpers.skip_model --out runs/skip                      # on the shipped faces
    python -m helpers.skip_model --out runs/photos --data my/photos   # on photographs
    python -m helpers.skip_model --out runs/skip --measure            # choose the knob, measure the test set
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from helpers import resumable
from helpers.checkpoints import CheckpointError, load_checkpoint, read_about, save_checkpoint, write_json
from helpers.data import ImageError, denormalise, load_split
from helpers.devices import device_for
from helpers.ema import Ema
from helpers.losses import TotalLoss, Weights
from helpers.metrics import measure
from helpers.networks import LatentEncoder, ShapeError
from helpers.pairs import Pairs
from helpers.perceptual import Lpips, load_lpips
from helpers.pmrf import Block
from helpers.realism import sliced_wasserstein

# A first guess that was kept, not a search. No total variation: chapter 13 measures that it earns nothing. The latent
# term is light, since equation 41's 0.2 would be large beside a picture loss this small.
WEIGHTS = Weights(l1=0.5, lpips=0.5, ssim=0.25, tv=0.0, latent=0.02)
KNOB = 1.0


class SkipEncoder(nn.Module):
    """The edge-aware encoder: N×4×H×W (sides divisible by 16) to z_deblur, N×latent_dim, and its feature maps.

    Pixels are folded 2×2 into channels, then four scales of residual blocks (:class:`helpers.pmrf.Block`). The code is
    a linear layer on the mean over the deepest maps, as in the thesis's DeblurEncoder.
    """

    def __init__(
        self, widths: tuple[int, ...], depths: tuple[int, ...], latent_dim: int, in_channels: int = 4, fold: int = 2
    ):
        super().__init__()
        self.in_channels, self.fold = in_channels, fold
        self.entry = nn.Conv2d(fold**2 * in_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(*[_Plain(w) for _ in range(depth)]) for w, depth in zip(widths, depths, strict=True)
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


class _Plain(Block):
    """A residual block that listens to no code."""

    def __init__(self, channels: int):
        super().__init__(channels, None)

    def forward(self, x):
        return super().forward(x, None)


class SkipGenerator(nn.Module):
    """Code and feature maps to two corrections, each N×3×H×W: towards the mean, and towards sharpness.

    In every block the code scales and shifts the features: it tells all places at once how strong the blur is, and
    what the face is like.
    """

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...], latent_dim: int, fold: int = 2):
        super().__init__()
        self.fold = fold
        self.blocks = nn.ModuleList(
            nn.ModuleList(Block(w, latent_dim) for _ in range(depth)) for w, depth in zip(widths, depths, strict=True)
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
        self.latent_dim, self.image_size = latent_dim, image_size
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


def fidelity_loss(mean: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Half the logarithm of each picture's MSE, averaged: PSNR (equation 45) turned into a loss, as NAFNet does.

    A gain of 1 dB counts the same on a picture that is hard and on one that is easy.
    """
    return 0.5 * (mean.float() - target).square().mean((1, 2, 3)).clamp(min=1e-8).log().mean()


def rate_at(step: int, steps: int, highest: float, warm: int = 100) -> float:
    """The learning rate of a run that is counted in steps, see :func:`schedule`."""
    return schedule(step, step / steps, highest, warm)


def schedule(step: int, done: float, highest: float, warm: int = 100) -> float:
    """The learning rate: up in ``warm`` steps, then half a cosine down to 2 % of ``highest``; ``done`` from 0 to 1."""
    return highest * min(1, (step + 1) / warm) * max(0.02, 0.5 + 0.5 * math.cos(math.pi * done))


def train(
    images,
    out: str | Path,
    steps: int,
    batch_size: int = 16,
    seed: int = 2025,
    rate: float = 1e-3,
    fidelity: float = 0.1,
    weights: Weights = WEIGHTS,
    degradation: str = "celebablur",
    lpips: Lpips | None = None,
    start: str | Path | None = None,
    progress: bool = True,
    **shape,
) -> tuple[SkipModel, list[dict]]:
    """Train on sharp ``images`` (uint8 N×H×W×3), or go on in the folder ``out``; the averaged model and its history.

    AdamW, the rate of :func:`rate_at`, an average of the weights over about a thousand steps.

    Parameters
    ----------
    fidelity : weight of :func:`fidelity_loss` on the mean, beside the thesis's five terms on the perceptual end
    start : a checkpoint to begin with, to train on with other weights or on other pictures
    shape : what else :class:`SkipModel` takes
    """
    device = device_for()
    pairs = Pairs(images, degradation, flip=True, seed=seed)
    resumable.seed_everything(seed)
    model = SkipModel(image_size=images[0].shape[0], **shape)
    if start:
        load_checkpoint(start, model)
    model.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=1e-2, fused=True)
    loss = TotalLoss((lpips or load_lpips()).to(device), weights)
    ema = Ema(model, 0.999)

    def step(number: int) -> dict[str, float]:
        for group in optimiser.param_groups:
            group["lr"] = rate_at(number, steps, rate)
        batch = resumable.batch_of(pairs, number, batch_size)
        inputs = batch.input[:, : model.deblur_encoder.in_channels].to(device, memory_format=torch.channels_last)
        target = batch.target.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            perceptual, mean, z_deblur, z_gt = model(inputs, target)
            parts = loss(perceptual, target, z_deblur, z_gt)
        parts["fidelity"] = fidelity_loss(mean, target)
        optimiser.zero_grad(set_to_none=True)
        (parts["total"] + fidelity * parts["fidelity"]).backward()
        optimiser.step()
        return dict(zip(parts, torch.stack([p.detach().float() for p in parts.values()]).tolist(), strict=True))

    settings = {"steps": steps, "batch_size": batch_size, "seed": seed, "rate": rate, "fidelity": fidelity}
    settings |= {"weights": vars(weights), "degradation": degradation, "images": len(images), **shape}
    settings |= {"start": str(start)} if start else {}
    history = resumable.run(
        out, settings, {"model": model, "opt": optimiser}, step, steps, (ema,), desc="skip model", progress=progress
    )
    return ema.module, history


KNOBS = tuple(k / 5 for k in range(7))  # a little past the perceptual end as well


def along_the_knob(model: SkipModel, pairs: Pairs, lpips: Lpips, reference, knobs=KNOBS, batch_size: int = 25) -> list:
    """The measures at every position of the knob, on the same pictures.

    Parameters
    ----------
    pairs : test or validation set
    reference : other sharp pictures, uint8 N×H×W×3, for the realism distance; without them it is left out

    Returns
    -------
    a dict for each position: knob, the means of the five measures, SWD
    """
    device, ends, sharp = next(model.parameters()).device, ([], []), []
    with torch.no_grad():
        for batch in pairs.batches(batch_size):
            inputs = batch.input[:, : model.deblur_encoder.in_channels].to(device, memory_format=torch.channels_last)
            for end, image in zip(ends, model.eval().both(inputs), strict=False):
                end.append(image.float().cpu())
            sharp.append(batch.sharp)
    (mean, perceptual), sharp, rows = map(torch.cat, ends), np.concatenate(sharp), []
    for knob in tqdm(knobs, desc="knob", disable=None):
        restored = denormalise(torch.lerp(mean, perceptual, knob))
        measures = measure(restored, sharp, lpips).mean().to_dict()
        if reference is not None:
            measures["SWD"] = sliced_wasserstein(restored, reference)["mean"]
        rows.append({"knob": knob, **measures})
    return rows


def best_knob(rows: list[dict]) -> float:
    """The position of the lowest LPIPS between the ends, among those whose PSNR is at most 0.5 dB below the best.

    What lies past the perceptual end is measured, not chosen: the theory speaks of the line between the ends.
    """
    ruler = next(k for k in rows[0] if k.startswith("LPIPS"))
    near = [r for r in rows if r["PSNR"] >= max(q["PSNR"] for q in rows) - 0.5 and 0 <= r["knob"] <= 1]
    return min(near, key=lambda r: r[ruler])["knob"]


def _measure(out: Path, data: str | None, limit: int | None, elsewhere: str | None) -> None:
    """Choose the knob on the validation set, write it into the checkpoint's JSON, print the test set along the knob."""
    path = out / "skip.safetensors"
    about = read_about(path)
    model = SkipModel(about.get("latent_dim", 256))
    load_checkpoint(path, model)
    model.to(device_for(), memory_format=torch.channels_last)
    sharp = {split: np.stack(list(load_split(data, split, limit))) for split in ("val", "test")}
    lpips, rows = load_lpips(device=next(model.parameters()).device), {}
    for split, reference in (("val", None), ("test", sharp["val"])):
        rows[split] = along_the_knob(model, Pairs(sharp[split]), lpips, reference)
    about |= {"knob": best_knob(rows["val"]), "along the knob": rows}
    if elsewhere:
        rendered = elsewhere == "faces"
        sets = [np.stack(list(load_split(None if rendered else elsewhere, s, limit))) for s in ("test", "val")]
        (row,) = along_the_knob(model, Pairs(sets[0]), lpips, sets[1], (about["knob"],))
        about["elsewhere"] = {"rendered faces" if rendered else "photographs": row}
    write_json(path.with_suffix(".json"), about)
    print(pd.DataFrame(rows["test"]).to_string(index=False, float_format=lambda v: f"{v:.4f}"))
    print(f"chosen on the validation set: knob {about['knob']}")


def main(argv: list[str] | None = None) -> None:
    extra = {"--measure": {"action": "store_true", "help": "choose the knob and measure what is trained already"}}
    extra["--start"] = {"help": "a checkpoint to begin with, to train on"}
    extra["--rate"] = {"type": float, "default": 1e-3, "help": "the highest learning rate"}
    extra["--lpips-weight"] = {"type": float, "default": WEIGHTS.lpips, "help": "λ of the perceptual loss"}
    extra["--elsewhere"] = {"help": "measure on this folder's test set too; 'faces' for the shipped ones"}
    args = resumable.arguments("helpers.skip_model", __doc__.split("\n\n")[0], {"train": 6000}, argv, extra)
    if args.measure:
        try:
            _measure(Path(args.out), args.data, args.limit, args.elsewhere)
        except (ImageError, CheckpointError) as error:
            raise SystemExit(f"error: {error}") from None
        return
    images, source = resumable.images_of(args)
    weights = Weights(**(vars(WEIGHTS) | {"lpips": args.lpips_weight}))
    settings = {"batch_size": args.batch_size, "seed": args.seed, "rate": args.rate}
    try:
        before = _history_of(args.start) if args.start else []
        model, history = train(images, args.out, args.train_steps, weights=weights, start=args.start, **settings)
    except (ImageError, CheckpointError, resumable.TrainingError) as error:
        raise SystemExit(f"error: {error}") from None
    settings |= {"name": "skip", "steps": args.train_steps, "degradation": "celebablur", "weights": vars(weights)}
    about = resumable.facts(settings, len(images), source, next(model.parameters()).device)
    about |= {"latent_dim": model.latent_dim, "history": history[-1] if history else None} | (
        {"before": before} if before else {}
    )
    path = Path(args.out) / "skip.safetensors"
    save_checkpoint(path, model, about, precision="8-bit")
    print(f"wrote {path}")


def _history_of(start: str) -> list[dict]:
    """How the checkpoint ``start`` was made: its own stages before, and its last one."""
    about = read_about(start)
    last = {k: about[k] for k in ("steps", "batch_size", "rate", "seed", "weights", "training_data") if k in about}
    return [*about.get("before", []), last]


if __name__ == "__main__":
    main()
