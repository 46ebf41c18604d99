"""Training of PMRF (:mod:`helpers.reviewed.pmrf`), stage after stage, and of its rivals.

In a shell::

    python -m helpers.reviewed.pmrf_training --out runs/pmrf
    python -m helpers.reviewed.pmrf_training --out runs/less-noise --sigma 0.03 --flow-steps 20000 --decay 0.9995
    python -m helpers.reviewed.pmrf_training --out runs/from-y --kind from_y --flow-steps 8000
"""

from pathlib import Path

import torch
import torch.nn.functional as F

from helpers.data import load_split
from helpers.engine import commands
from helpers.reviewed.pmrf import KINDS, SIGMA_S, Pmrf, flow_loss, stratified_times
from helpers.reviewed.stages import Stages
from helpers.seeds import seed_everything


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
    sigma: float = SIGMA_S,
    degradation: str = "celebablur",
    validation=None,
    validate_every: int = 250,
    precision: str = "auto",
    progress: bool = True,
    go_on: bool = True,
) -> tuple[Pmrf, dict]:
    """Both stages on sharp ``images`` (uint8 N×H×W×3); resumes in ``out``. The averaged networks and their histories.

    AdamW as the authors set it (betas 0.9 and 0.95, weight decay 0.01 on everything, constant rate). Their average
    has a decay of 0.9999 over a million steps; ours is shorter, and so is its memory.

    Parameters
    ----------
    mean_steps, flow_steps : updates of the posterior mean (equation 13) and of the field (equation 14)
    decay : of the average of the weights, from 0 to below 1
    kind : see :class:`helpers.reviewed.pmrf.Pmrf`; a rival has the second stage alone
    sigma : σ_s, the deviation of the noise at the start of the flow
    validation : sharp images, of which the first few are measured at least every ``validate_every`` steps, with the
        averaged weights: the losses of both stages, that of the field at fixed noise and times
    precision : "auto", "bf16", "fp16" or "no" (:func:`helpers.engine.precision.precision_for`)
    go_on : False takes no step: what the run in ``out`` has come to
    """
    settings = {"width": width, "batch_size": batch_size, "seed": seed, "rate": rate, "decay": decay}
    settings |= {"degradation": degradation, "images": len(images)}
    stages = Stages(images, out, settings, validation, validate_every, precision, decay, progress, go_on)
    seed_everything(seed)
    model = Pmrf(width, kind).to(stages.device, memory_format=torch.channels_last)

    def fit(name, network, loss, steps, own):
        optimiser = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=1e-2, fused=True)
        stages.fit(name, network, optimiser, loss, steps, own)

    def squared_error(network, blurred, sharp):
        estimate = network(blurred).float()
        return {"mse": F.mse_loss(estimate.clamp(0, 1), sharp)}  # clipped before the loss, as in the authors' code

    def flow(field, blurred, sharp):
        noise, t = torch.randn(sharp.shape, device=sharp.device), stratified_times(len(sharp)).to(sharp)
        return {"flow": flow_loss(model.field_of(blurred, field), sharp, model.start(blurred, noise, sigma), t)}

    if model.posterior_mean is not None:
        if mean_steps:
            fit("posterior_mean", model.posterior_mean, squared_error, mean_steps, {})
        model.posterior_mean.eval().requires_grad_(False)
    if flow_steps:
        fit(kind, model.field, flow, flow_steps, {"mean_steps": mean_steps, "sigma_s": sigma})
    histories = {"field" if name == kind else name: history for name, history in stages.histories.items()}
    return model.eval().requires_grad_(False), histories


def main(argv: list[str] | None = None) -> None:
    extra = commands.EXPORT | {
        "--kind": {"choices": KINDS, "default": "pmrf", "help": "a rival starts elsewhere: from_y, from_noise"},
        "--sigma": {"type": commands.positive_float, "default": SIGMA_S, "help": "σ_s, the noise at the flow's start"},
        "--rate": {"type": commands.positive_float, "default": 5e-4, "help": "learning rate"},
        "--decay": {"type": commands.fraction, "default": 0.999, "help": "decay of the average of the weights"},
    }
    command = commands.parser("helpers.reviewed.pmrf_training", __doc__, {"mean": 4000, "flow": 3000}, extra)
    args = command.parse_args(argv)

    def trained(args, images, validation):
        return train(
            images, args.out, args.mean_steps, args.flow_steps, batch_size=args.batch_size, seed=args.seed,
            rate=args.rate, decay=args.decay, kind=args.kind, sigma=args.sigma, validation=validation,
            precision=args.precision, go_on=not args.export,
        )  # fmt: skip

    about = {"name": "pmrf", "kind": args.kind, "width": 32, "rate": args.rate, "decay": args.decay}
    about |= {"sigma_s": args.sigma, "degradation": "celebablur", "schedule": "constant rate"}
    about |= {"optimiser": "AdamW, betas 0.9 and 0.95, weight decay 0.01"}
    if args.kind != "pmrf":
        about |= {"name": f"pmrf_{args.kind}", "mean_steps": 0}
    stages = {"mean": "posterior_mean"} if args.kind == "pmrf" else {}
    commands.main_of(command, argv, load_split, trained, about, stages | {"flow": args.kind})


if __name__ == "__main__":
    main()
