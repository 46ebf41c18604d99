"""Networks side by side at equal training time and about equal size, to choose a trunk for chapter 13.

::

    python -m helpers.experiments.candidates --minutes 5 --out runs/candidates    # five networks

Each is trained to be near the truth (``skip_training.fidelity_loss``) on the same faces in the same order, for as many
steps as fit into the time: processor time of the process on a CPU, so that other work does not count, wall time on a
GPU. The rows are written to ``candidates.json`` in the folder; a run that was stopped goes on.
"""

import copy
import json
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from helpers.data import load_split
from helpers.engine import runs
from helpers.engine.commands import bare_parser, exit_on_error, positive_float, positive_int
from helpers.engine.devices import device_for
from helpers.engine.ema import Ema
from helpers.engine.folders import write_json
from helpers.engine.precision import autocast, scaler_for
from helpers.engine.runs import TrainingError, batch_of, hardware
from helpers.engine.updates import cosine_rate, set_rate, update
from helpers.experiments.nafnet import NafNet
from helpers.experiments.skip_model import SkipModel
from helpers.experiments.skip_training import fidelity_loss
from helpers.metrics import evaluate
from helpers.networks import count_parameters
from helpers.pairs import Pairs
from helpers.perceptual import Lpips, load_lpips
from helpers.reviewed.diffir import DIRformer
from helpers.seeds import SEED, seed_everything


class Candidate(nn.Module):
    """A network behind the call that all candidates share: N×4×H×W to the restored N×3×H×W.

    ``call`` hands the network what it needs of the input and picks what it restores.
    """

    def __init__(self, network: nn.Module, call: Callable[[nn.Module, torch.Tensor], torch.Tensor]):
        super().__init__()
        self.network, self.call = network, call

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.call(self.network, inputs)


def skip_mean(**shape) -> Candidate:
    """The mean of a :class:`SkipModel`, without the parts that only the perceptual end and the latent loss need."""
    network = SkipModel(**shape)
    network.latent_encoder = None
    network.generator.exits[1].requires_grad_(False)
    return Candidate(network, lambda model, x: model.both(x[:, : model.deblur_encoder.in_channels])[0])


def dirformer() -> Candidate:
    """DiffIR's DIRformer without its prior: the vector that modulates its blocks is constant (all ones)."""
    network = DIRformer(dim=24, num_blocks=(1, 1, 1, 2), num_refinement_blocks=1)
    return Candidate(network, lambda model, x: model(x[:, :3], x.new_ones(len(x), 256)))


def nafnet(width: int = 24, **blocks) -> Candidate:
    """NAFNet on the blurred picture alone."""
    return Candidate(NafNet(width, **blocks), lambda model, x: model(x[:, :3]))


CANDIDATES: dict[str, tuple[str, Callable[[], Candidate]]] = {
    "skip": ("skips, code, edge map, 2×2 folded", skip_mean),
    "skip-no-edges": ("the same without edge map", lambda: skip_mean(in_channels=3)),
    "skip-fold4": ("4×4 folded", lambda: skip_mean(widths=(88, 104, 144), depths=(1, 2, 2), fold=4)),
    "nafnet": ("NAFNet in small", nafnet),
    "dirformer": ("DIRformer, no prior", dirformer),
}


def clock(device: torch.device) -> float:
    """Seconds that count: processor time on a CPU, wall time (with the device's work done) elsewhere."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def step_of(network: nn.Module, images, steps: int, rate: float = 1e-3) -> tuple[Callable, dict]:
    """The step of :func:`train`, called with its number, and the parts of its state."""
    device, pairs = next(network.parameters()).device, Pairs(images, flip=True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=1e-2, fused=True)
    scaler = scaler_for(device)

    def step(number: int) -> dict[str, float]:
        set_rate(optimiser, cosine_rate(number, steps, rate))
        batch = batch_of(pairs, number, 16)
        with autocast(device):
            restored = network(batch.input.to(device, memory_format=torch.channels_last))
        loss = fidelity_loss(restored, batch.target.to(device))
        update(loss, scaler, optimiser)
        return {"fidelity": loss.item()}

    return step, {"network": network, "optimiser": optimiser, "scaler": scaler}


def steps_within(seconds: float, network: nn.Module, images) -> int:
    """How many training steps take ``seconds`` of :func:`clock`, at least 1; measured on a copy of the network."""
    network = copy.deepcopy(network)
    device, (step, _), times = next(network.parameters()).device, step_of(network, images, 100), []
    for number in range(4):
        started = clock(device)
        step(number)
        times.append(clock(device) - started)
    return max(1, round(seconds / np.median(times[1:])))  # the first step prepares, and takes longer


def train(network: nn.Module, images, steps: int, out: str | Path, progress: bool = True) -> nn.Module:
    """``steps`` steps with batches of 16 towards the truth, or go on in the folder ``out``; the averaged network."""
    step, parts = step_of(network, images, steps)
    ema, settings = Ema(network, 0.999), {"steps": steps, "seed": SEED, "pictures": runs.fingerprint(images)}
    runs.run(out, settings, parts, step, steps, (ema,), save_every=50, desc=Path(out).name, progress=progress)
    return ema.module


def milliseconds(network: nn.Module, pairs: Pairs, tries: int = 12) -> float:
    """Time of :func:`clock` to restore one picture, the median of several."""
    device, times = next(network.parameters()).device, []
    one = pairs.batch([0]).input.to(device, memory_format=torch.channels_last)
    with torch.no_grad():
        for _ in range(tries):
            started = clock(device)
            network.eval()(one)
            times.append(clock(device) - started)
    return 1000 * float(np.median(times))


def compare(
    names: list[str], images, test: np.ndarray, minutes: float, lpips: Lpips, out: str | Path, progress: bool = True
) -> dict[str, dict]:
    """A row for each candidate: size, steps, milliseconds for one picture, the five measures; kept in ``out``.

    A row without measures is of a training that has begun.

    Raises
    ------
    TrainingError
        if rows that are there were trained for another time, or measured on another number of pictures
    """
    path = Path(out) / "candidates.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, row in rows.items():
        if (row["minutes"], row["images"]) != (minutes, len(test)):
            raise TrainingError(
                f"{name} was trained for {row['minutes']:g} minutes and measured on {row['images']} pictures, not "
                f"{minutes:g} and {len(test)}: rows of two kinds do not compare; choose another folder"
            )
    device = device_for()
    for name in names:
        if "PSNR" in rows.get(name, {}):
            continue
        title, make = CANDIDATES[name]
        seed_everything()
        network = make().to(device, memory_format=torch.channels_last)
        if name not in rows:
            steps = steps_within(60 * minutes, network, images)
            rows[name] = {"title": title, "parameters": count_parameters(network), "steps": steps}
            rows[name] |= {"minutes": minutes, "images": len(test), "seed": SEED}
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, rows)
        network = train(network, images, rows[name]["steps"], path.parent / name, progress)
        pairs = Pairs(test)
        rows[name] |= {"milliseconds": milliseconds(network, pairs)}
        rows[name] |= evaluate(network, pairs, lpips, with_input=False)["restored"].mean().to_dict()
        rows[name] |= {"hardware": hardware(device), "date": date.today().isoformat()}
        write_json(path, rows)
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = bare_parser("helpers.experiments.candidates", __doc__)
    parser.add_argument("--out", required=True, help="folder of the runs; the same command goes on where it stopped")
    parser.add_argument("--minutes", type=positive_float, default=5, help="of training for each network")
    parser.add_argument("--candidates", nargs="+", choices=list(CANDIDATES), default=list(CANDIDATES))
    parser.add_argument("--data", help="folder of photographs; the shipped faces by default")
    parser.add_argument("--limit", type=positive_int, help="use only the first so many images of each split")
    args = parser.parse_args(argv)
    with exit_on_error():
        images, test = (load_split(args.data, split, args.limit) for split in ("train", "test"))
        rows = compare(args.candidates, images, test, args.minutes, load_lpips(), args.out)
    columns = ["title", "parameters", "steps", "milliseconds", "PSNR", "SSIM", "L1", "MSE"]
    print(pd.DataFrame(rows).T.reindex(columns=columns).to_string(float_format=lambda v: f"{v:.4f}"))


if __name__ == "__main__":
    main()
