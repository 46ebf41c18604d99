"""How the network behind the measure of identity is trained, and how well it tells persons apart. In a shell::

    python data/make_faces.py --out runs/people --train 1200 --val 150 --test 200 --shots 2   # half an hour of one core
    python -m helpers.experiments.identity_training --out runs/identity --people runs/people
    python -m helpers.identity --people runs/people --weights runs/identity/identity.safetensors

A batch holds two different photographs of each of several persons. Of each picture the loss asks which of all the
others shows the same person (NT-Xent, https://arxiv.org/abs/2002.05709). The pictures are mirrored, recoloured, moved a
little, and half of them degraded, so that the answer rests on the face and not on its colours, place or sharpness.
"""

import argparse
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from helpers.augment import Augment
from helpers.data import load_faces, normalise
from helpers.degrade import Degradation, preset
from helpers.engine import commands, runs
from helpers.engine.checkpoints import save_checkpoint
from helpers.engine.devices import device_for
from helpers.engine.ema import Ema
from helpers.engine.errors import ImageError
from helpers.engine.precision import autocast, precision_for, scaler_for
from helpers.engine.updates import cosine_rate, set_rate, update
from helpers.experiments.embedding import Embedder, embed, found_again, told_apart
from helpers.photos import read_image
from helpers.seeds import SEED, rng_for

NAME = "identity"
VARIETY = Augment(zoom=(0.85, 1.0, 1.2), shift=0.04, soft=0.3, softest=1.2, gain=1.4, gamma=1.4, tint=0.1, grey=0.2)


def nt_xent(codes: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    """The mean of -log of the share that the other picture of the same person gets, of all others.

    Parameters
    ----------
    codes : 2P×64 of length 1; pictures i and P + i show one person
    """
    table = codes @ codes.T / temperature
    table = table.masked_fill(torch.eye(len(codes), dtype=torch.bool, device=codes.device), -torch.inf)
    partner = torch.arange(len(codes), device=codes.device).roll(len(codes) // 2)
    return F.cross_entropy(table, partner)


def load_people(folder: str | Path, split: str, limit: int | None = None) -> np.ndarray:
    """All photographs of each person: uint8 P×S×128×128×3, the course's own face first.

    Parameters
    ----------
    folder : what ``data/make_faces.py --shots`` wrote

    Raises
    ------
    ImageError
        if it is not there; the message says which command makes it
    """
    path = Path(folder) / f"{split}.zip"
    if not path.exists():
        raise ImageError(f"{path} is missing; python data/make_faces.py --out {folder} --shots 2 renders it")
    shots = named_zip(path)
    people = sorted({name.split("_")[0] for name in shots})[:limit]
    each = sorted(name.removeprefix(people[0]) for name in shots if name.startswith(people[0]))
    first = load_faces(split, len(people))
    return np.stack([np.stack([first[int(p)], *(shots[p + end] for end in each)]) for p in people])


def named_zip(path: Path) -> dict[str, np.ndarray]:
    """Name without suffix -> uint8 128×128×3, of every picture in a zip archive."""
    with zipfile.ZipFile(path) as archive:
        return {Path(name).stem: read_image(archive.read(name)) for name in archive.namelist()}


def two_views(people: np.ndarray, chosen: Sequence[int], rng: np.random.Generator, damage: Degradation) -> torch.Tensor:
    """Two different photographs of each chosen person, changed at random: 2P×3×128×128 in [-1, 1]."""
    shots = [rng.permutation(people.shape[1])[:2] for _ in chosen]
    views = []
    for number in range(2):
        for person, pair in zip(chosen, shots, strict=True):
            image = people[person, pair[number]]
            views.append(VARIETY(image[:, ::-1] if rng.uniform() < 0.5 else image, rng))
    faces = (normalise(np.stack(views)) + 1) / 2
    if some := [number for number in range(len(views)) if rng.uniform() < 0.5]:
        faces[some] = damage(faces[some], [damage.sample(rng) for _ in some])
    return 2 * faces - 1


def train(
    people: np.ndarray, out: str | Path | None, steps: int, persons: int = 24, seed: int = SEED, rate: float = 1e-3,
    validation: np.ndarray | None = None, precision: str = "auto", progress: bool = True,
) -> tuple[Embedder, list[dict]]:  # fmt: skip
    """Train on photographs of people (uint8 P×S×128×128×3), or go on in ``out``; the averaged network, its history.

    Parameters
    ----------
    persons : in a batch, of two pictures each
    validation : as ``people``; of its first two photographs is told how often they are found among all
    """
    if people.shape[0] < persons or people.shape[1] < 2:
        raise ImageError(f"{people.shape[0]} persons with {people.shape[1]} pictures each are too few")
    device, damage = device_for(), preset("blind")
    precision = precision_for(device, precision)
    torch.manual_seed(seed)
    network = Embedder().to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-2)
    ema, scaler = Ema(network, 0.998), scaler_for(device, precision)

    def step(number: int) -> dict[str, float]:
        set_rate(optimiser, cosine_rate(number, steps, rate))
        rng = rng_for(seed, number)
        chosen = rng.permutation(len(people))[:persons]
        views = two_views(people, chosen, rng, damage).to(device, memory_format=torch.channels_last)
        with autocast(device, precision):
            codes = network(views)
        loss = nt_xent(codes.float())
        update(loss, scaler, optimiser)
        return {"loss": loss.item()}

    def validate() -> dict[str, float]:
        one, two = (embed(ema.module, validation[:, shot]) for shot in (0, 1))
        return {"found again": found_again(one, two), "told apart": told_apart(one, two)}

    settings = {"steps": steps, "persons": persons, "seed": seed, "rate": rate, "precision": precision}
    settings |= {"pictures": runs.fingerprint(people.reshape(-1, *people.shape[2:]))}
    history = runs.run(
        out, settings, {"network": network, "opt": optimiser, "scaler": scaler}, step, steps, (ema,),
        validate=None if validation is None else validate, desc="identity", progress=progress,
    )  # fmt: skip
    return ema.module, history


def on_people(network: Embedder, people: np.ndarray) -> dict:
    """How well two other photographs of rendered people, P×S×128×128×3, are told apart and found among all P."""
    one, two = (embed(network, people[:, shot]) for shot in (0, 1))
    both = {"persons": len(people), "found again": found_again(one, two), "told apart": told_apart(one, two)}
    return both | {"likeness, same": float((one * two).sum(1).mean()), "likeness, other": float((one @ two.T).mean())}


def main(argv: list[str] | None = None) -> None:
    """The command line; an error that the user can mend ends it with one sentence."""
    extra = {"--people": {"required": True, "help": "the folder that data/make_faces.py --shots wrote"}}
    extra["--rate"] = {"type": commands.positive_float, "default": 1e-3, "help": "the highest learning rate"}
    args = commands.parser("helpers.experiments.identity_training", __doc__, {"train": 3000}, extra).parse_args(argv)
    with commands.exit_on_error():
        _train(args)


def _train(args: argparse.Namespace) -> None:
    people, held_out = (load_people(args.people, split, args.limit) for split in ("train", "val"))
    network, history = train(
        people, args.out, args.train_steps, args.batch_size, args.seed, args.rate, held_out, args.precision
    )
    about = {"name": NAME, "steps": args.train_steps, "persons": args.batch_size, "seed": args.seed, "rate": args.rate}
    told = f"rendered people, {people.shape[1]} photographs each"
    about = commands.facts(about, len(people), told, device_for(), args.precision) | {"history": history[-1]}
    save_checkpoint(Path(args.out) / f"{NAME}.safetensors", network, about, precision="half")
    print(f"wrote {Path(args.out) / NAME}.safetensors: {history[-1]}")


if __name__ == "__main__":
    main()
