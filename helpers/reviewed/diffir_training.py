"""Training of DiffIR (:mod:`helpers.reviewed.diffir`) in three stages.

In a shell::

    python -m helpers.reviewed.diffir_training --out runs/diffir
    python -m helpers.reviewed.diffir_training --out runs/living-prior --cpen-init kaiming --exact-prior \\
        --rate 2e-4 --cosine-warmup 500 --stage1-steps 20000 --warm-steps 5000 --joint-steps 15000
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from helpers.data import load_split
from helpers.engine import commands
from helpers.engine.updates import cosine_rate
from helpers.reviewed.diffir import (
    CPEN,
    PRIOR,
    SMALL,
    DiffIRS1,
    DiffIRS2,
    DiffIRStages,
    diffusion_loss,
    exact_prior,
    restoration_loss,
)
from helpers.reviewed.stages import Stages
from helpers.seeds import seed_everything

CPEN_INITS = ("pytorch", "kaiming")


def kaiming_init(cpen: CPEN) -> None:
    """Weights of He et al. for the LeakyReLU of slope 0.1 that follows each layer, biases 0.

    With PyTorch's own start the priors of different faces hardly differ, from the first step on: their deviation over
    faces is 0.0001 after 300 steps of one seed, and 0.02 with this start (``data/results/prior.json``). That alone did
    not make the restorer use the prior: see chapter 04.
    """
    for module in cpen.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=0.1)
            nn.init.zeros_(module.bias)


def rate_of(highest: float, steps: int, cosine_warmup: int | None) -> Callable[[int], float]:
    """step -> learning rate: constant, then down to a tenth over the last third; or a cosine after a warm-up."""
    if cosine_warmup is None:
        return lambda step: highest * (1 - 0.9 * max(0.0, 3 * step / steps - 2))
    return lambda step: cosine_rate(step, steps, highest, cosine_warmup)


def prior_of(one: DiffIRS1, blurred: torch.Tensor, sharp: torch.Tensor) -> torch.Tensor:
    """Equation 22: the prior that stage 2 shall find, N×256."""
    with torch.no_grad():
        return one.E(blurred, sharp).float()


def stage1_loss(one: DiffIRS1, blurred: torch.Tensor, sharp: torch.Tensor) -> dict[str, torch.Tensor]:
    """Equation 26 in stage 1."""
    restored = one(blurred, sharp)
    return {"rec": restoration_loss((restored[0] if one.training else restored).float(), sharp)}


def warm_loss(two: DiffIRS2, blurred: torch.Tensor, sharp: torch.Tensor, one: DiffIRS1) -> dict[str, torch.Tensor]:
    """L_diff alone (equation 30): DIRformer has no part in it."""
    prior = prior_of(one, blurred, sharp)
    return {"diff": diffusion_loss(two.diffusion(blurred, prior)[-1].float(), prior)}


def joint_loss(two: DiffIRS2, blurred: torch.Tensor, sharp: torch.Tensor, one: DiffIRS1) -> dict[str, torch.Tensor]:
    """L_rec and L_diff of equation 30."""
    prior = prior_of(one, blurred, sharp)
    restored, states = two(blurred, prior)
    return {"rec": restoration_loss(restored.float(), sharp), "diff": diffusion_loss(states[-1].float(), prior)}


def measures(two: DiffIRS2, blurred: torch.Tensor, sharp: torch.Tensor, one: DiffIRS1) -> dict[str, torch.Tensor]:
    """Both losses as they are at test time, where the chain starts from pure noise."""
    noise = torch.randn(len(blurred), PRIOR).to(blurred)
    found = two.diffusion(blurred, noise=noise)[-1].float()
    return {
        "rec": restoration_loss(two.G(blurred, found).float(), sharp),
        "diff": diffusion_loss(found, prior_of(one, blurred, sharp)),
    }


def train(
    images,
    out: str | Path,
    stage1_steps: int,
    warm_steps: int,
    joint_steps: int,
    crop: int = 64,
    batch_size: int = 16,
    seed: int = 2025,
    rate: float = 5e-4,
    cosine_warmup: int | None = None,
    cpen_init: str = "pytorch",
    exact: bool = False,
    degradation: str = "celebablur",
    validation=None,
    validate_every: int = 250,
    precision: str = "auto",
    progress: bool = True,
    small: dict | None = None,
    go_on: bool = True,
) -> tuple[DiffIRS1, DiffIRS2, dict]:
    """Both stages on sharp ``images`` (uint8 N×H×W×3), on random crops as the authors do; resumes in ``out``.

    Stage 1; then CPEN and denoiser alone by L_diff (``warm_steps``); then everything by L_rec + L_diff. Adam, averages
    with a decay of 0.999. The authors' rate is 2e-4, for a hundred times as many steps. The averaged networks and
    their histories.

    Parameters
    ----------
    rate : the highest learning rate of each stage
    cosine_warmup : steps in which each stage's rate rises before it falls as half a cosine; None for
        a constant rate that falls to a tenth over the last third
    cpen_init : "pytorch" for the layers' own start, "kaiming" for :func:`kaiming_init`
    exact : see :func:`helpers.reviewed.diffir.exact_prior`
    validation : sharp images, of which the first few are measured whole at least every ``validate_every`` steps, with
        the averaged weights: L_rec, and L_diff of the prior that is found from noise
    precision : "auto", "bf16", "fp16" or "no" (:func:`helpers.engine.precision.precision_for`)
    small : arguments of the networks; :data:`helpers.reviewed.diffir.SMALL` by default
    go_on : False takes no step: what the run in ``out`` has come to
    """
    if cpen_init not in CPEN_INITS:
        raise ValueError(f"cpen_init must be one of {', '.join(CPEN_INITS)}, not {cpen_init!r}")
    small = SMALL if small is None else small
    settings = {"batch_size": batch_size, "seed": seed, "rate": rate, "cosine_warmup": cosine_warmup, "crop": crop}
    settings |= {"cpen_init": cpen_init, "exact": exact, "degradation": degradation, "images": len(images), **small}
    stages = Stages(images, out, settings, validation, validate_every, precision, progress=progress, go_on=go_on)
    seed_everything(seed)
    one, two = DiffIRS1(**small), DiffIRS2(**small)
    for network, cpen in ((one, one.E), (two, two.condition)):
        if cpen_init == "kaiming":
            kaiming_init(cpen)
        if exact:
            exact_prior(network)
        network.to(stages.device, memory_format=torch.channels_last)

    def fit(name, network, parameters, steps, beta, loss, test=None):
        optimiser = torch.optim.Adam(parameters, lr=rate, betas=(0.9, beta), fused=True)
        schedule = rate_of(rate, steps, cosine_warmup)
        stages.fit(name, network, optimiser, loss, steps, {"steps": steps}, schedule, test)

    fit("stage1", one, one.parameters(), stage1_steps, 0.999, stage1_loss)
    one.eval().requires_grad_(False)
    two.G.load_state_dict(one.G.state_dict())
    warm, joint, test = (partial(loss, one=one) for loss in (warm_loss, joint_loss, measures))
    fit("stage2_warm", two, two.diffusion.parameters(), warm_steps, 0.99, warm, test)
    fit("stage2", two, two.parameters(), joint_steps, 0.99, joint, test)
    return one, two.eval().requires_grad_(False), stages.histories


def main(argv: list[str] | None = None) -> None:
    extra = commands.EXPORT | {
        "--rate": {"type": commands.positive_float, "default": 5e-4, "help": "the highest learning rate"},
        "--cosine-warmup": {
            "type": commands.count_int,
            "help": "steps in which each stage's rate rises before it falls as half a cosine; by default it is "
            "constant, then falls to a tenth over the last third",
        },
        "--cpen-init": {"choices": CPEN_INITS, "default": "pytorch", "help": "kaiming: priors of faces stay apart"},
        "--exact-prior": {"action": "store_true", "help": "CPEN, denoiser and modulation in float32 in any case"},
    }
    steps = {"stage1": 1600, "warm": 700, "joint": 1200}
    command = commands.parser("helpers.reviewed.diffir_training", __doc__, steps, extra)
    args = command.parse_args(argv)

    def trained(args, images, validation):
        one, two, histories = train(
            images, args.out, args.stage1_steps, args.warm_steps, args.joint_steps, batch_size=args.batch_size,
            seed=args.seed, rate=args.rate, cosine_warmup=args.cosine_warmup, cpen_init=args.cpen_init,
            exact=args.exact_prior, validation=validation, precision=args.precision, go_on=not args.export,
        )  # fmt: skip
        return DiffIRStages(one, two), histories

    about = {"name": "diffir", **SMALL, "crop": 64, "degradation": "celebablur", "rate": args.rate, "decay": 0.999}
    about |= {"cpen_init": args.cpen_init, "exact_prior": args.exact_prior, "optimiser": "Adam, betas 0.9 and 0.99"}
    falling = "constant, to a tenth over the last third"
    about["schedule"] = falling if args.cosine_warmup is None else f"cosine after {args.cosine_warmup} steps"
    stages = {"stage1": "stage1", "warm": "stage2_warm", "joint": "stage2"}
    commands.main_of(command, argv, load_split, trained, about, stages)


if __name__ == "__main__":
    main()
