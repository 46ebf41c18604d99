"""What chapters 02 to 04 measure on many faces, too long to compute while somebody reads::

    python -m helpers.reviewed.studies spaces     # the inversion, space by space (section 1.2): an hour of a processor
    python -m helpers.reviewed.studies steps      # PMRF's number of Euler steps K (section 1.3): minutes
    python -m helpers.reviewed.studies steps --weights shipped runs/from-y/pmrf_from_y.safetensors    # and a rival
    python -m helpers.reviewed.studies prior      # what DiffIR's prior says of a face (section 1.4): half an hour

Each writes a file of ``data/results``; ``spaces`` and ``prior`` keep a value for each face. The rival is one that
:mod:`helpers.reviewed.pmrf_training` has trained.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from helpers.data import denormalise, load_faces
from helpers.engine import commands
from helpers.engine.checkpoints import load_checkpoint, read_about, shipped
from helpers.engine.folders import data_folder, write_json
from helpers.engine.runs import hardware
from helpers.metrics import means, measure
from helpers.pairs import Pairs
from helpers.perceptual import Lpips, load_lpips
from helpers.realism import sliced_wasserstein
from helpers.reviewed.approximations import from_params
from helpers.reviewed.autodecoder import small_generator
from helpers.reviewed.diffir import CPEN, PRIOR, SMALL, DiffIRS1, DiffIRStages, restoration_loss
from helpers.reviewed.diffir_training import CPEN_INITS, kaiming_init, stage1_loss
from helpers.reviewed.inversion import PHASES, MultiResolutionLoss, invert
from helpers.reviewed.pmrf import KINDS, SIGMA_S, Pmrf
from helpers.reviewed.stages import Stages, unit_pair
from helpers.reviewed.stylegan import Generator
from helpers.seeds import SEED, seed_everything

CPU, STEPS = torch.device("cpu"), (1, 5, 25)


def shipped_study(name: str) -> dict:
    """The recorded study "spaces", "steps" or "prior": what :func:`spaces_study` and its like return."""
    return json.loads((data_folder() / "results" / f"{name}.json").read_text(encoding="utf-8"))


def spaces(
    generator: Generator, sharp: np.ndarray, reference: np.ndarray, lpips: Lpips, steps: int = 12, at_once: int = 5,
    progress: bool = True,
) -> dict:  # fmt: skip
    """Restore blurred faces by inversion and measure the picture of each phase; and of W alone, as many steps.

    Parameters
    ----------
    sharp : uint8 N×H×W×3; blurred by the preset ``celebablur``, and the search knows how
    reference : other sharp faces, for the distance of the sets
    steps : in each phase, of 150 / ``steps`` times the authors' length, so that the reach is theirs

    Returns
    -------
    {"rows": row -> {"loss", "PSNR", LPIPS's name: N values each, "SWD": one}, "floor": SWD of the sharp faces}; the
    rows are "blurred input", "W", "W+", "W++" and "W alone", the loss is against the blurred face
    """
    loss, batch = MultiResolutionLoss(lpips), Pairs(sharp).batch(range(len(sharp)))
    target = torch.from_numpy(batch.blurred).movedim(-1, 1).float() / 255
    lengths = {space: length * 150 / steps for space, length in PHASES.items()}
    found = {"blurred input": list(target.split(at_once)), **{name: [] for name in (*PHASES, "W alone")}}
    for start in tqdm(range(0, len(sharp), at_once), desc="spaces", disable=not progress):
        some = slice(start, start + at_once)
        f_hat = from_params(batch.params[some])
        for phase, images in invert(generator, target[some], f_hat, loss, steps, lengths).images.items():
            found[phase].append(images)
        alone = invert(generator, target[some], f_hat, loss, len(PHASES) * steps, {"W": lengths["W"]})
        found["W alone"].append(alone.images["W"])
    rows = {}
    for name, parts in found.items():
        images = torch.cat(parts)
        restored = denormalise(images * 2 - 1)
        seen = target if name == "blurred input" else from_params(batch.params)(images)
        with torch.no_grad():
            *levels, l1 = loss.parts(seen, target).values()
        table = measure(restored, batch.sharp, lpips)[["PSNR", lpips.name]]
        rows[name] = {"loss": (sum(levels) + loss.l1_weight * l1).tolist(), **table.to_dict("list")}
        rows[name]["SWD"] = sliced_wasserstein(restored, reference)["mean"]
    return {"rows": rows, "floor": sliced_wasserstein(batch.sharp, reference)["mean"], "steps": steps}


def between(priors: torch.Tensor) -> float:
    """The share of a set of priors' variance, N×256, that lies between faces: 0 where all faces have the same."""
    return (priors.var(0).mean() / priors.var()).item()


@torch.no_grad()
def exchanges(stages: DiffIRStages, sharp: np.ndarray, at_once: int = 20) -> dict:
    """Restore faces with their own prior and with others: PSNR of each face, and how far the priors of faces differ.

    Returns
    -------
    {"PSNR": prior -> N values, "between": name of a prior -> :func:`between`}
    """
    batch = Pairs(sharp).batch(range(len(sharp)))
    blurred, truth = unit_pair(batch, CPU)
    noise = torch.randn(len(sharp), PRIOR, generator=torch.Generator().manual_seed(SEED))
    Z = torch.cat([stages.stage1.E(*pair) for pair in zip(blurred.split(50), truth.split(50), strict=True)])
    D = torch.cat([stages.stage2.condition(part) for part in blurred.split(50)])
    found = stages.stage2.diffusion.chain(noise, D)[-1]
    one, two = stages.stage1.G, stages.stage2.G
    calls: dict[str, tuple[nn.Module, torch.Tensor]] = {
        "S1: Z from the truth": (one, Z),
        "S1: Z of another face": (one, Z.roll(1, 0)),
        "S2: Ẑ by diffusion": (two, found),
        "S2: mean of all Ẑ": (two, found.mean(0).expand_as(found)),
        "S2: Ẑ of another face": (two, found.roll(1, 0)),
        "S2: zero": (two, 0 * found),
    }
    table = {"blurred input": measure(batch.blurred, batch.sharp)["PSNR"].tolist()}
    for name, (network, prior) in calls.items():
        parts = zip(blurred.split(at_once), prior.split(at_once), strict=True)
        restored = np.concatenate([denormalise(network(*part) * 2 - 1) for part in parts])
        table[name] = measure(restored, batch.sharp)["PSNR"].tolist()
    return {"PSNR": table, "between": {"Z": between(Z), "Ẑ": between(found)}}


def layers(cpen: CPEN, *images: torch.Tensor) -> list[float]:
    """How far faces differ after each layer of CPEN: the deviation over faces by the root mean square of the values."""
    shares: list[float] = []

    def note(_, __, output):
        features = output.flatten(2).mean(2) if output.ndim == 4 else output
        shares.append((features.std(0).square().mean().sqrt() / features.square().mean().sqrt()).item())

    kinds = nn.Conv2d | nn.Linear
    handles = [m.register_forward_hook(note) for m in cpen.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        cpen(*images)
    for handle in handles:
        handle.remove()
    return shares


def starts(
    images: np.ndarray, held_out: np.ndarray, out: Path, steps: int = 300, every: int = 50, batch_size: int = 4,
    rate: float = 5e-4, names: Sequence[str] = CPEN_INITS, tell: Callable[[str, dict], object] = print,
) -> dict[str, list[dict]]:  # fmt: skip
    """Train stage 1 from each start of CPEN and measure, every few steps, what its prior says of held-out faces.

    Returns
    -------
    start -> a row for each measurement: "step", "spread" (mean deviation of Z over faces), "between", and the L1 of
    restorations with the "own" and the "other" face's prior
    """
    batch = unit_pair(Pairs(held_out).batch(range(len(held_out))), CPU)
    blurred, truth = (part[..., 32:96, 32:96] for part in batch)  # as large as the crops of the training
    settings = {"batch_size": batch_size, "seed": SEED, "crop": 64, "degradation": "celebablur"}
    stages, rows = Stages(images, out, settings, precision="no", progress=False), {}

    @torch.no_grad()
    def measured(one: DiffIRS1, step: int) -> dict:
        Z = one.E(blurred, truth)
        own, other = (restoration_loss(one.G(blurred, prior), truth).item() for prior in (Z, Z.roll(1, 0)))
        return {"step": step, "spread": Z.std(0).mean().item(), "between": between(Z), "own": own, "other": other}

    for name in names:
        seed_everything(SEED)
        one = DiffIRS1(**SMALL).train()
        if name == "kaiming":
            kaiming_init(one.E)
        adam, rows[name] = torch.optim.Adam(one.parameters(), lr=rate), [measured(one, 0)]
        for step in range(1, steps + 1):
            adam.zero_grad()
            sum(stage1_loss(one, *stages.batch(step)).values()).backward()
            adam.step()
            if step % every == 0:
                rows[name].append(measured(one, step))
                tell(name, rows[name][-1])
    return rows


@torch.no_grad()
def step_rows(
    model: Pmrf, sharp: np.ndarray, reference: np.ndarray, lpips: Lpips, sigma: float = SIGMA_S,
    steps: Sequence[int] = STEPS, at_once: int = 5,
) -> dict[str, dict]:  # fmt: skip
    """Restore faces, blurred by ``celebablur``, with each K of equation 17, always from the same noise.

    Parameters
    ----------
    sharp : uint8 N×H×W×3
    reference : other sharp faces, for the distance of the distributions
    sigma : σ_s of the model's training

    Returns
    -------
    a row for "blurred input", for "posterior mean" where the model has one, and for each "K = n": the means of the
    measures (:func:`helpers.metrics.measure`) and "SWD" (:func:`helpers.realism.sliced_wasserstein`)
    """
    batch = Pairs(sharp).batch(range(len(sharp)))
    y = torch.from_numpy(batch.blurred).movedim(-1, 1).float() / 255
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(SEED))
    parts = list(zip(y.split(at_once), noise.split(at_once), strict=True))
    pictures = {"blurred input": batch.blurred}
    if model.posterior_mean is not None:
        pictures["posterior mean"] = np.concatenate([denormalise(2 * model.posterior_mean(a) - 1) for a, _ in parts])
    for K in steps:
        restored = [denormalise(2 * model.restore(a, K, sigma, b) - 1) for a, b in parts]
        pictures[f"K = {K}"] = np.concatenate(restored)
    return {
        name: means(measure(images, sharp, lpips)).to_dict() | {"SWD": sliced_wasserstein(images, reference)["mean"]}
        for name, images in pictures.items()
    }


def lengths_of(about: dict) -> dict:
    """How long weights were trained, from the JSON beside them."""
    return {key: value for key, value in about.items() if key.endswith("steps")}


def spaces_study(args: argparse.Namespace, _: Path) -> dict:
    """:func:`spaces` with the shipped generator, and how long that was trained."""
    generator = small_generator()
    about = load_checkpoint(shipped("stylegan"), generator)
    faces, reference = load_faces("test", args.faces), load_faces("val", 400)
    result = spaces(generator.eval(), faces, reference, load_lpips(), args.steps or 12)
    return {"weights": lengths_of(about), **result}


def steps_study(args: argparse.Namespace, _: Path) -> dict:
    """:func:`step_rows` of each of the weights, by their kind, and as "floor" the SWD of the sharp faces."""
    sharp, reference, lpips = load_faces("test", args.faces), load_faces("val", args.faces), load_lpips()
    result = {"faces": len(sharp), "lpips": lpips.name, "floor": sliced_wasserstein(sharp, reference)["mean"]}
    for name in args.weights:
        path = shipped("pmrf") if name == "shipped" else Path(name)
        about = read_about(path)
        kind, sigma = about.get("kind", KINDS[0]), about.get("sigma_s", SIGMA_S)
        model = Pmrf(about.get("width", 32), kind)
        load_checkpoint(path, model)
        rows = step_rows(model.eval(), sharp, reference, lpips, sigma)
        result[kind] = {"sigma_s": sigma, "flow_steps": about.get("flow_steps"), "rows": rows}
    return result


def prior_study(args: argparse.Namespace, folder: Path) -> dict:
    """:func:`exchanges` with the shipped weights, and how long these were trained; :func:`starts` as "starts"."""
    stages = DiffIRStages()
    about = load_checkpoint(shipped("diffir"), stages)
    result = exchanges(stages.eval(), load_faces("test", args.faces))
    result["starts"] = starts(load_faces("train", 800), load_faces("val", 16), folder, args.steps or 300)
    return {"weights": lengths_of(about), **result}


STUDIES = {"spaces": spaces_study, "steps": steps_study, "prior": prior_study}


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = commands.bare_parser("helpers.reviewed.studies", __doc__)
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument("--faces", type=commands.positive_int, default=50, help="test faces")
    parser.add_argument(
        "--steps", type=commands.positive_int, help="12 in each phase for spaces, 300 of training for prior"
    )
    parser.add_argument(
        "--weights", nargs="+", default=["shipped"], help='for steps: checkpoints; "shipped" is the course\'s own'
    )
    parser.add_argument("--out", help="a JSON file; by default the one of data/results")
    args = parser.parse_args(argv)
    out = Path(args.out) if args.out else data_folder() / "results" / f"{args.study}.json"
    torch.manual_seed(SEED)
    with commands.exit_on_error():
        result = STUDIES[args.study](args, out.parent)
        write_json(out, {"hardware": hardware(CPU), "torch": torch.__version__, **result})


if __name__ == "__main__":
    main()
