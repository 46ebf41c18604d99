"""Networks side by side at equal training time and about equal size, to choose a trunk for chapter 13.

::

    python -m helpers.candidates --minutes 3 --out data/results/candidates.json      # six networks, one after the other

Each is trained to be near the truth (:func:`helpers.skip_model.fidelity_loss`) on the same faces in the same order,
until its time is over: processor time of the process on a CPU, so that other work does not count, wall time on a GPU.
"""

import argparse
import json
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from helpers.checkpoints import write_json
from helpers.data import ImageError, load_split
from helpers.devices import device_for
from helpers.diffir import DIRformer
from helpers.ema import Ema
from helpers.metrics import evaluate
from helpers.nafnet import NafNet
from helpers.networks import count_parameters
from helpers.pairs import Pairs
from helpers.perceptual import Lpips, load_lpips
from helpers.resumable import batch_of
from helpers.seeds import SEED, seed_everything
from helpers.skip_model import SkipModel, fidelity_loss, schedule
from helpers.training import TrainingError, hardware


class _Mean(nn.Module):
    """The mean of a :class:`SkipModel`, without the parts that only the perceptual end and the latent loss need."""

    def __init__(self, **shape):
        super().__init__()
        self.model = SkipModel(**shape)
        self.model.latent_encoder = None
        self.model.generator.exits[1].requires_grad_(False)

    def forward(self, inputs):
        return self.model.both(inputs[:, : self.model.deblur_encoder.in_channels])[0]


class _NoPrior(nn.Module):
    """DiffIR's DIRformer without its prior: the vector that modulates its blocks is constant (all ones)."""

    def __init__(self):
        super().__init__()
        self.network = DIRformer(dim=24, num_blocks=(1, 1, 1, 2), num_refinement_blocks=1)

    def forward(self, inputs):
        return self.network(inputs[:, :3], inputs.new_ones(len(inputs), 256))


class _Plain(nn.Module):
    """NAFNet on the blurred picture alone."""

    def __init__(self):
        super().__init__()
        self.network = NafNet(24)

    def forward(self, inputs):
        return self.network(inputs[:, :3])


CANDIDATES: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "skip": ("skips, code, edge map, 2×2 folded", lambda: _Mean()),
    "skip-no-edges": ("the same without edge map", lambda: _Mean(in_channels=3)),
    "skip-fold4": ("4×4 folded", lambda: _Mean(widths=(88, 104, 144), depths=(1, 2, 2), fold=4)),
    "skip-flat": ("wide, without 16× halving", lambda: _Mean(widths=(32, 96, 160), depths=(1, 2, 2))),
    "dirformer": ("DIRformer, no prior", _NoPrior),
    "nafnet": ("NAFNet in small", _Plain),
}


def clock(device: torch.device) -> float:
    """Seconds that count: processor time on a CPU, wall time (with the device's work done) elsewhere."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def train(network: nn.Module, images: np.ndarray, seconds: float, seed: int = SEED, rate: float = 1e-3) -> tuple:
    """Train for ``seconds`` (see :func:`clock`) with batches of 16; the averaged network and the steps it took."""
    device = next(network.parameters()).device
    pairs, ema = Pairs(images, flip=True, seed=seed), Ema(network, 0.999)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=1e-2, fused=True)
    started, step = clock(device), 0
    while (gone := (clock(device) - started) / seconds) < 1 or not step:
        for group in optimiser.param_groups:
            group["lr"] = schedule(step, min(gone, 1), rate)
        batch = batch_of(pairs, step, 16)
        inputs = batch.input.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            restored = network(inputs)
        loss = fidelity_loss(restored, batch.target.to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        ema.update(step)
        step += 1
    return ema.module, step


def compare(
    names: list[str], images: np.ndarray, test: np.ndarray, minutes: float, lpips: Lpips, rows: dict | None = None,
    on_row: Callable[[dict], object] | None = None, progress: bool = True,
) -> dict[str, dict]:  # fmt: skip
    """A row for each candidate: size, steps, milliseconds (of :func:`clock`) for one picture, the five measures.

    ``rows`` that are there already are kept.

    Raises
    ------
    TrainingError
        if they were trained for another time, or measured on another number of pictures
    """
    rows = dict(rows or {})
    for name, row in rows.items():
        if (row["minutes"], row["images"]) != (minutes, len(test)):
            raise TrainingError(
                f"{name} was trained for {row['minutes']:g} minutes and measured on {row['images']} pictures, not "
                f"{minutes:g} and {len(test)}: rows of two kinds do not compare; choose another file"
            )
    device = device_for()
    pairs = Pairs(test)
    for name in tqdm(names, unit="network", disable=not progress):
        if name in rows:
            continue
        title, make = CANDIDATES[name]
        seed_everything()
        network = make().to(device, memory_format=torch.channels_last)
        size = count_parameters(network)
        network, steps = train(network, images, 60 * minutes)
        one, times = pairs.batch([0]).input.to(device, memory_format=torch.channels_last), []
        with torch.no_grad():
            for _ in range(12):
                started = clock(device)
                network.eval()(one)
                times.append(clock(device) - started)
        table = evaluate(network, pairs, lpips, with_input=False)["restored"]
        rows[name] = {
            "title": title, "parameters": size, "steps": steps, "minutes": minutes,
            "milliseconds": 1000 * float(np.median(times)), **table.mean().to_dict(),
            "hardware": hardware(device), "date": date.today().isoformat(), "seed": SEED, "images": len(test),
        }  # fmt: skip
        if on_row:
            on_row(rows)
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m helpers.candidates", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", required=True, help="a JSON file; the same command goes on where it stopped")
    parser.add_argument("--minutes", type=float, default=3, help="of training for each network")
    parser.add_argument("--candidates", nargs="+", choices=list(CANDIDATES), default=list(CANDIDATES))
    parser.add_argument("--data", help="folder of photographs; the shipped faces by default")
    parser.add_argument("--limit", type=int, help="use only the first so many images of each split")
    args = parser.parse_args(argv)
    path = Path(args.out)
    rows = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        images, test = (load_split(args.data, split, args.limit) for split in ("train", "test"))
        rows = compare(args.candidates, images, test, args.minutes, load_lpips(), rows, lambda r: write_json(path, r))
    except (ImageError, TrainingError) as error:
        raise SystemExit(f"error: {error}") from None
    columns = ["title", "parameters", "steps", "milliseconds", "PSNR", "SSIM", "L1", "MSE"]
    print(pd.DataFrame(rows).T.reindex(columns=columns).to_string(float_format=lambda v: f"{v:.4f}"))


if __name__ == "__main__":
    main()
