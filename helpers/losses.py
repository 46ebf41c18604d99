"""The five losses and their weighted sum (thesis section 2.4, equations 34 to 41).

All images are N×3×H×W in [-1, 1]; every term is a mean over the batch, one number.
"""

from dataclasses import dataclass

import torch
from pytorch_msssim import ssim
from torch import nn

from helpers.perceptual import Lpips


@dataclass(frozen=True)
class Weights:
    """λ₁ to λ₅ of equation 41, as the thesis selected them. They add to 1.2; nothing asks for 1."""

    l1: float = 0.5
    lpips: float = 0.3
    ssim: float = 0.15
    tv: float = 0.05
    latent: float = 0.2


def l1_loss(restored: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Equation 35: the mean of |x̂ - x|. (The norm is written as a sum; the text says "averaging", and we average.)"""
    return (restored - target).abs().mean()


def ssim_loss(restored: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Equation 37: 1 - SSIM, by pytorch-msssim with its 11×11 Gaussian window.

    SSIM compares means, so it must be told black from grey: the images go back to [0, 1] first.
    """
    return 1 - ssim((restored.float() + 1) / 2, (target.float() + 1) / 2, data_range=1.0)


def tv_loss(restored: torch.Tensor) -> torch.Tensor:
    """Equation 38: (1/N) Σ |x̂[i+1,j] - x̂[i,j]| + |x̂[i,j+1] - x̂[i,j]|, N pixels per channel; mean over channels."""
    vertical = (restored[..., 1:, :] - restored[..., :-1, :]).abs().sum((-1, -2))
    horizontal = (restored[..., :, 1:] - restored[..., :, :-1]).abs().sum((-1, -2))
    return ((vertical + horizontal) / (restored.shape[-1] * restored.shape[-2])).mean()


def latent_loss(z_deblur: torch.Tensor, z_gt: torch.Tensor) -> torch.Tensor:
    """Equations 34 and 40, as a mean over the numbers of the code.

    The equations write the squared norm, a sum over 512 numbers; section 2.3.3 calls it the mean squared error. With
    λ₅ = 0.2 the sum would drown the other four terms, so the mean it is.
    """
    return (z_deblur.float() - z_gt.float()).square().mean()


class TotalLoss(nn.Module):
    """Equation 41: the five terms and their weighted sum.

    Parameters
    ----------
    lpips : the metric of :func:`helpers.perceptual.load_lpips`
    weights : λ; a term of weight 0 is not computed and is reported as 0
    """

    def __init__(self, lpips: Lpips, weights: Weights | None = None):
        super().__init__()
        self.lpips, self.weights = lpips, weights or Weights()

    def forward(
        self, restored: torch.Tensor, target: torch.Tensor, z_deblur: torch.Tensor, z_gt: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Each part unweighted, and ``total``: keys l1, lpips, ssim, tv, latent, total."""
        if restored.shape != target.shape:
            raise ValueError(f"restored {tuple(restored.shape)} and target {tuple(target.shape)} differ in shape")
        w, zero = self.weights, torch.zeros((), device=restored.device)
        # The trunk may run in 16 bits under autocast; the other terms take small differences and stay in float32.
        lpips = self.lpips(restored, target).mean() if w.lpips else zero  # equation 36
        with torch.autocast(restored.device.type, enabled=False):
            restored = restored.float()
            l1 = l1_loss(restored, target) if w.l1 else zero
            structure = ssim_loss(restored, target) if w.ssim else zero
            tv = tv_loss(restored) if w.tv else zero
            latent = latent_loss(z_deblur, z_gt) if w.latent else zero
        total = w.l1 * l1 + w.lpips * lpips + w.ssim * structure + w.tv * tv + w.latent * latent
        return {"l1": l1, "lpips": lpips, "ssim": structure, "tv": tv, "latent": latent, "total": total}
