"""The robust inversion of Poirier-Ginter and Lalonde: a search for the face behind a damaged picture.

Thesis sections 1.1 and 1.2, equations 1 to 6. The generator (:mod:`helpers.reviewed.stylegan`) is fixed. Its latent is
searched, in finer and finer spaces (W, W+, W++), so that its picture, degraded, looks like the target.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from helpers.networks import ShapeError
from helpers.reviewed.stylegan import Generator, Synthesis

PHASES = {"W": 0.08, "W+": 0.02, "W++": 0.005}  # name -> step length, each for 150 steps in the authors' code


def extend(latent: torch.Tensor, synthesis: Synthesis) -> torch.Tensor:
    """The same image one space further: W to W+ (a copy for each layer), W+ to W++ (a copy for each filter)."""
    if latent.ndim == 2:
        return latent[:, None].repeat(1, synthesis.num_ws, 1)
    if latent.shape[1] == synthesis.num_ws:
        return latent.repeat_interleave(synthesis.num_filters, dim=1)
    raise ShapeError("W++ cannot be extended further")


class NGD(torch.optim.Optimizer):
    """Normalised gradient descent (equation 4, row by row): every vector of the last dimension moves by exactly ``lr``.

    A vector without gradient, or with one that is not finite, stays where it is.
    """

    def __init__(self, params, lr: float):
        if lr <= 0:
            raise ValueError(f"lr must be positive, not {lr}")
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable | None = None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    direction = p.grad / p.grad.norm(dim=-1, keepdim=True)
                    p.sub_(direction.nan_to_num(0.0, 0.0, 0.0), alpha=group["lr"])
        return loss


class MultiResolutionLoss(nn.Module):
    """Equations 5 and 6 as the authors compute them: LPIPS at full size, half, quarter, ..., then L1 at the last size.

    Pooling stops at ``levels`` halvings or where an image is 16 pixels wide or less; L1 is taken there.

    Parameters
    ----------
    lpips : called with two batches in [-1, 1], gives N values (the authors use the VGG trunk). Where it has
        ``unit_features``, as :class:`helpers.perceptual.Lpips`, it takes those in place of the second batch too
    """

    def __init__(self, lpips: Callable, levels: int = 6, l1_weight: float = 0.1):
        super().__init__()
        self.lpips, self.levels, self.l1_weight = lpips, levels, l1_weight

    def parts(self, x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Every term by name (``"LPIPS 128"``, ..., ``"L1 16"``): N values each, not yet weighted."""
        return self._terms(x, self._halvings(y), [], mask)

    def forward(self, x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Images N×3×H×W in [0, 1] (not clamped); the mean over the batch."""
        return self._total(self.parts(x, y, mask))

    def against(self, y: torch.Tensor, mask: torch.Tensor | None = None) -> Callable[[torch.Tensor], torch.Tensor]:
        """The loss as a function of x alone, for a search: what depends on the target alone is computed once.

        Without a mask these are the target's LPIPS features too. With one, the noise behind it is drawn at each call.
        """
        sizes, features = self._halvings(y), []
        if mask is None and hasattr(self.lpips, "unit_features"):
            with torch.no_grad():
                features = [self.lpips.unit_features(part * 2 - 1) for part in sizes[:-1]]
        return lambda x: self._total(self._terms(x, sizes, features, mask))

    def _halvings(self, y: torch.Tensor) -> list[torch.Tensor]:
        """The target at full size, half, ...; the last is the one for L1."""
        sizes = [y]
        while len(sizes) <= self.levels and sizes[-1].shape[-1] > 16:
            sizes.append(F.avg_pool2d(sizes[-1], 2))
        return sizes

    def _terms(self, x, sizes, features, mask) -> dict[str, torch.Tensor]:
        """See :meth:`parts`; ``features`` are the target's at every size but the last, or [] where there are none."""
        if x.shape != sizes[0].shape:
            raise ShapeError(
                f"cannot compare {tuple(x.shape)} with {tuple(sizes[0].shape)}: does f̂ give the target's size?"
            )
        out = {}
        for level, y in enumerate(sizes[:-1]):
            a, b = x, y
            if mask is not None:  # noise where nothing is known, so that LPIPS sees no black holes
                hidden = (1 - mask) * (torch.randn_like(x) + 0.5) / 2
                a, b = x + hidden, y + hidden
                mask = F.avg_pool2d(mask, 2)
            target = features[level] if features else b * 2 - 1
            out[f"LPIPS {x.shape[-1]}"] = self.lpips(a * 2 - 1, target)
            x = F.avg_pool2d(x, 2)
        out[f"L1 {x.shape[-1]}"] = (x - sizes[-1]).abs().mean((1, 2, 3))
        return out

    def _total(self, terms: dict[str, torch.Tensor]) -> torch.Tensor:
        *lpips, l1 = terms.values()
        return (sum(lpips) + self.l1_weight * l1).mean()


@dataclass
class Inversion:
    """What :func:`invert` found."""

    images: dict[str, torch.Tensor] = field(default_factory=dict)  # phase -> N×3×R×R in [0, 1], clamped
    latents: dict[str, torch.Tensor] = field(default_factory=dict)  # phase -> W, W+ or W++
    history: list[dict] = field(default_factory=list)  # a row for each step: phase, step, loss


@torch.enable_grad()
def invert(
    generator: Generator,
    target: torch.Tensor,
    degrade: Callable[[torch.Tensor], torch.Tensor],
    loss: MultiResolutionLoss | Callable,
    steps: int = 150,
    phases: dict[str, float] | None = None,
    optimiser: Callable = NGD,
    mask: torch.Tensor | None = None,
    on_step: Callable[[int, int], bool] | None = None,
) -> Inversion:
    """Equations 1 to 3 in three phases: the latent whose picture, degraded, looks like ``target``.

    Parameters
    ----------
    target : degraded images N×3×h×w in [0, 1]. The images do not influence each other, since NGD works row by row
    degrade : f̂, from pictures N×3×R×R in [0, 1] to the target's shape, differentiable
    loss : a :class:`MultiResolutionLoss`, or any function of (picture, target, mask) to one number
    phases : step length of each space searched, in order W, W+, W++; :data:`PHASES` by default
    optimiser : called with the parameters and ``lr``
    mask : 1 where the target is known, for inpainting; N×1×h×w
    on_step : called with steps done and steps in all after each; False stops the search
    """
    phases = PHASES if phases is None else phases
    result, device = Inversion(), generator.mapping.w_avg.device
    target = target.to(device)
    distance = loss.against(target, mask) if hasattr(loss, "against") else lambda x: loss(x, target, mask)
    latent = generator.mapping.w_avg.expand(len(target), -1).clone()
    order, space = list(PHASES), "W"
    parameters = list(generator.parameters())
    frozen = [p.requires_grad for p in parameters]
    for p in parameters:
        p.requires_grad_(False)
    try:
        for number, (phase, rate) in enumerate(phases.items()):
            while order.index(space) < order.index(phase):
                latent, space = extend(latent, generator.synthesis), order[order.index(space) + 1]
            latent = latent.detach().requires_grad_(True)
            search = optimiser([latent], lr=rate)
            for step in range(steps):
                value = distance(degrade(generator.picture(latent)))
                search.zero_grad(set_to_none=True)
                value.backward()
                search.step()
                result.history.append({"phase": phase, "step": step, "loss": value.item()})
                if on_step and on_step(number * steps + step + 1, len(phases) * steps) is False:
                    return result
            result.latents[phase] = latent.detach()
            with torch.no_grad():
                result.images[phase] = generator.picture(latent).clamp(0, 1)
    finally:
        for p, wanted in zip(parameters, frozen, strict=True):
            p.requires_grad_(wanted)
    return result
