"""DiffIR (thesis section 1.4; Xia and others, 2023), equations 19 to 30, with the names and shapes of its weights.

Three networks: **CPEN** condenses pictures into the prior Z, 256 numbers; **DIRformer** restores a picture, every block
of it modulated by Z; the **Denoiser** finds Z without the ground truth. Two stages of training::

    DiffIRS1   Z = CPEN(blurred, sharp), restored = DIRformer(blurred, Z)                    (equations 22 to 26)
    DiffIRS2   D = CPEN(blurred), Ẑ by T = 4 steps of denoising from noise given D,
               restored = DIRformer(blurred, Ẑ)                                              (equations 27 to 30)

Images are N×3×H×W in [0, 1]; sides divisible by 8. The defaults are the authors' network for deblurring; the small one
that ships is :data:`SMALL`. Trained by :mod:`helpers.reviewed.diffir_training`.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import nn

from helpers.networks import ChannelNorm, ShapeError

PRIOR = 256  # 4C' with C' = 64; the authors' code fixes it
SMALL = {"dim": 16, "num_blocks": (1, 1, 1, 2), "num_refinement_blocks": 1, "heads": (1, 2, 4, 8), "n_encoder_res": 2}


# ---------------------------------------------------------------------------------------------------------------------
# CPEN: pictures -> prior


def _autocast_of(module: nn.Module, device: torch.device) -> AbstractContextManager:
    """Where the module's ``exact`` is set, no autocast, whatever is around; see :func:`exact_prior`."""
    return torch.autocast(device.type, enabled=False) if module.exact else nullcontext()


class ResBlock(nn.Module):
    """x + conv(LeakyReLU(conv(x)))."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class CPEN(nn.Module):
    """Compact IR prior extraction network, equations 22 (with the ground truth) and 29 (without): to N×256.

    Parameters
    ----------
    with_truth : stage 1, called with the blurred and the sharp image; else stage 2, called with the blurred one alone
    """

    exact = False

    def __init__(self, n_feats: int = 64, n_encoder_res: int = 5, with_truth: bool = False):
        super().__init__()
        self.with_truth = with_truth
        c = n_feats
        self.E = nn.Sequential(
            nn.Conv2d(96 if with_truth else 48, c, 3, padding=1), nn.LeakyReLU(0.1),
            *(ResBlock(c) for _ in range(n_encoder_res)),
            nn.Conv2d(c, 2 * c, 3, padding=1), nn.LeakyReLU(0.1),
            nn.Conv2d(2 * c, 2 * c, 3, padding=1), nn.LeakyReLU(0.1),
            nn.Conv2d(2 * c, 4 * c, 3, padding=1), nn.LeakyReLU(0.1),
            nn.AdaptiveAvgPool2d(1),
        )  # fmt: skip
        self.mlp = nn.Sequential(nn.Linear(4 * c, 4 * c), nn.LeakyReLU(0.1), nn.Linear(4 * c, 4 * c), nn.LeakyReLU(0.1))

    def forward(self, blurred: torch.Tensor, sharp: torch.Tensor | None = None) -> torch.Tensor:
        if (sharp is not None) != self.with_truth:
            raise ShapeError("stage 1's CPEN takes the blurred and the sharp image, stage 2's the blurred one alone")
        # The blurred half comes first; equation 22 has it second, which only matters when weights are loaded.
        images = [blurred] if sharp is None else [blurred, sharp]
        if any(x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % 4 or x.shape[3] % 4 for x in images):
            raise ShapeError(f"CPEN expects N×3×H×W with sides divisible by 4, got {tuple(images[-1].shape)}")
        folded = torch.cat([F.pixel_unshuffle(x, 4) for x in images], dim=1)
        with _autocast_of(self, blurred.device):
            return self.mlp(self.E(folded).flatten(1))


# ---------------------------------------------------------------------------------------------------------------------
# DIRformer: picture and prior -> restored picture


class BiasFree(nn.Module):
    """Divides by the standard deviation over the channels without subtracting the mean."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        deviation = (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
        return x / deviation * self.weight[:, None, None]


class LayerNorm(nn.Module):
    """``kind``: "WithBias" (deblurring, inpainting) or "BiasFree" (super-resolution)."""

    def __init__(self, channels: int, kind: str):
        super().__init__()
        self.body = {"WithBias": ChannelNorm, "BiasFree": BiasFree}[kind](channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Modulation(nn.Sequential):
    """Equation 23 without its norm: W¹Z ⊙ F + W²Z; both matrices are the halves of one linear layer."""

    exact = False

    def __init__(self, channels: int):
        super().__init__(nn.Linear(PRIOR, 2 * channels, bias=False))

    def forward(self, features: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        with _autocast_of(self, prior.device):
            scale, shift = self[0](prior)[:, :, None, None].chunk(2, dim=1)
        return features * scale + shift


class DMTA(nn.Module):
    """Dynamic multi-head transposed attention, equation 24: channels attend to channels (C×C, not pixels×pixels).

    Within a head, Softmax(q kᵀ · temperature) v, with the C/heads rows of q and k scaled to length 1 over the pixels.
    """

    def __init__(self, channels: int, heads: int, bias: bool = False):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))  # multiplies; equation 24 divides by γ
        self.kernel = Modulation(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=bias)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=bias)

    def attention(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """N×heads×C×pixels twice to N×heads×C×C, rows summing to 1."""
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        return ((q @ k.transpose(-2, -1)) * self.temperature).softmax(dim=-1)

    def forward(self, x: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        mixed = self.qkv_dwconv(self.qkv(self.kernel(x, prior)))
        q, k, v = mixed.reshape(n, 3, self.heads, c // self.heads, h * w).unbind(1)
        return self.project_out((self.attention(q, k) @ v).reshape(n, c, h, w))


class DGFN(nn.Module):
    """Dynamic gated feed-forward network, equation 25: GELU(first half) ⊙ second half, then a 1×1 convolution."""

    def __init__(self, channels: int, factor: float = 2, bias: bool = False):
        super().__init__()
        hidden = int(channels * factor)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=bias)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=bias)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=bias)
        self.kernel = Modulation(channels)

    def forward(self, x: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        gate, value = self.dwconv(self.project_in(self.kernel(x, prior))).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class TransformerBlock(nn.Module):
    """F + DMTA(Norm(F), Z), then F + DGFN(Norm(F), Z)."""

    def __init__(self, channels: int, heads: int, factor: float, bias: bool, norm: str):
        super().__init__()
        self.norm1, self.attn = LayerNorm(channels, norm), DMTA(channels, heads, bias)
        self.norm2, self.ffn = LayerNorm(channels, norm), DGFN(channels, factor, bias)

    def forward(self, x: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x), prior)
        return x + self.ffn(self.norm2(x), prior)


class Blocks(nn.Sequential):
    """Transformer blocks, all with the same prior."""

    def forward(self, x: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        for block in self:
            x = block(x, prior)
        return x


class Resample(nn.Module):
    """A 3×3 convolution, then pixels folded into channels (half the size) or channels into pixels (twice the size)."""

    def __init__(self, channels: int, grow: bool):
        super().__init__()
        out = channels * 2 if grow else channels // 2
        fold = nn.PixelShuffle(2) if grow else nn.PixelUnshuffle(2)
        self.body = nn.Sequential(nn.Conv2d(channels, out, 3, padding=1, bias=False), fold)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class PatchEmbed(nn.Module):
    """The first convolution."""

    def __init__(self, channels: int, dim: int, bias: bool):
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, 3, padding=1, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x)


class DIRformer(nn.Module):
    """Dynamic IRformer: N×3×H×W and the prior N×256 to N×3×H×W, the blurred image plus a correction."""

    def __init__(
        self,
        inp_channels: int = 3,
        out_channels: int = 3,
        dim: int = 48,
        num_blocks: tuple[int, ...] = (3, 5, 6, 6),
        num_refinement_blocks: int = 4,
        heads: tuple[int, ...] = (1, 2, 4, 8),
        ffn_expansion_factor: float = 2,
        bias: bool = False,
        LayerNorm_type: str = "WithBias",
    ):
        super().__init__()

        def blocks(level: int, width: int, count: int) -> Blocks:
            made = (TransformerBlock(width, heads[level], ffn_expansion_factor, bias, LayerNorm_type)
                    for _ in range(count))  # fmt: skip
            return Blocks(*made)

        self.patch_embed = PatchEmbed(inp_channels, dim, bias)
        self.encoder_level1 = blocks(0, dim, num_blocks[0])
        self.down1_2 = Resample(dim, grow=False)
        self.encoder_level2 = blocks(1, 2 * dim, num_blocks[1])
        self.down2_3 = Resample(2 * dim, grow=False)
        self.encoder_level3 = blocks(2, 4 * dim, num_blocks[2])
        self.down3_4 = Resample(4 * dim, grow=False)
        self.latent = blocks(3, 8 * dim, num_blocks[3])
        self.up4_3 = Resample(8 * dim, grow=True)
        self.reduce_chan_level3 = nn.Conv2d(8 * dim, 4 * dim, 1, bias=bias)
        self.decoder_level3 = blocks(2, 4 * dim, num_blocks[2])
        self.up3_2 = Resample(4 * dim, grow=True)
        self.reduce_chan_level2 = nn.Conv2d(4 * dim, 2 * dim, 1, bias=bias)
        self.decoder_level2 = blocks(1, 2 * dim, num_blocks[1])
        self.up2_1 = Resample(2 * dim, grow=True)
        self.decoder_level1 = blocks(0, 2 * dim, num_blocks[0])  # full size keeps both halves: twice the channels
        self.refinement = blocks(0, 2 * dim, num_refinement_blocks)
        self.output = nn.Conv2d(2 * dim, out_channels, 3, padding=1, bias=bias)

    def forward(self, image: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[2] % 8 or image.shape[3] % 8:
            raise ShapeError(f"DIRformer expects N×3×H×W with sides divisible by 8, got {tuple(image.shape)}")
        if prior.shape != (len(image), PRIOR):
            raise ShapeError(f"the prior must be N×{PRIOR} = {len(image)}×{PRIOR}, got {tuple(prior.shape)}")
        one = self.encoder_level1(self.patch_embed(image), prior)
        two = self.encoder_level2(self.down1_2(one), prior)
        three = self.encoder_level3(self.down2_3(two), prior)
        x = self.latent(self.down3_4(three), prior)
        x = self.decoder_level3(self.reduce_chan_level3(torch.cat([self.up4_3(x), three], 1)), prior)
        x = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(x), two], 1)), prior)
        x = self.decoder_level1(torch.cat([self.up2_1(x), one], 1), prior)
        return self.output(self.refinement(x, prior)) + image


# ---------------------------------------------------------------------------------------------------------------------
# Diffusion of the prior


class ResMLP(nn.Module):
    """Linear and LeakyReLU; the name is the authors', who took the skip connection out."""

    def __init__(self, width: int):
        super().__init__()
        self.resmlp = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.resmlp(x)


class Denoiser(nn.Module):
    """Noisy prior Z_t, step t (0 to T - 1) and condition D to an estimate of Z itself: N×256, N, N×256 to N×256."""

    exact = False

    def __init__(self, n_feats: int = 64, n_denoise_res: int = 1, timesteps: int = 4):
        super().__init__()
        self.max_period, width = timesteps * 10, 4 * n_feats
        self.resmlp = nn.Sequential(
            nn.Linear(2 * width + 1, width), nn.LeakyReLU(0.1), *(ResMLP(width) for _ in range(n_denoise_res))
        )

    def forward(self, z: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        time = (t.float() / self.max_period).view(-1, 1).to(z)
        with _autocast_of(self, z.device):
            return self.resmlp(torch.cat([condition, time, z], dim=1))


def schedule(timesteps: int = 4, start: float = 0.1, end: float = 0.99) -> dict[str, torch.Tensor]:
    """β_t, and all that follows from it (equations 19 to 21), in float64; entry 0 is the thesis's t = 1.

    β is linear in its root. ``posterior_mean_coef1`` and ``2`` are what Z_0 and Z_t count for in the mean of
    q(Z_{t-1} | Z_t, Z_0).
    """
    betas = torch.linspace(start**0.5, end**0.5, timesteps, dtype=torch.float64) ** 2
    alphas = 1 - betas
    cumprod = alphas.cumprod(0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), cumprod[:-1]])
    variance = betas * (1 - before) / (1 - cumprod)
    return {
        "betas": betas,
        "alphas_cumprod": cumprod,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": cumprod.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - cumprod).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - cumprod).log(),
        "sqrt_recip_alphas_cumprod": (1 / cumprod).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / cumprod - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": betas * before.sqrt() / (1 - cumprod),
        "posterior_mean_coef2": (1 - before) * alphas.sqrt() / (1 - cumprod),
    }


class Diffusion(nn.Module):
    """The chain Z_T, ..., Z_0. Holds the denoiser (``model``) and the condition network, as the authors' files do."""

    def __init__(self, denoise: Denoiser, condition: CPEN, timesteps: int = 4, start: float = 0.1, end: float = 0.99):
        super().__init__()
        self.timesteps = timesteps
        for name, values in schedule(timesteps, start, end).items():
            self.register_buffer(name, values.float())
        self.model, self.condition = denoise, condition

    def noised(self, z: torch.Tensor, t: int, noise: torch.Tensor) -> torch.Tensor:
        """Equations 20 and 27: Z_t from Z in one go; ``t`` from 0 to T - 1."""
        return self.sqrt_alphas_cumprod[t] * z + self.sqrt_one_minus_alphas_cumprod[t] * noise

    def posterior_mean(self, z0: torch.Tensor, z: torch.Tensor, t: int) -> torch.Tensor:
        """Equation 28 written for the predicted Z_0 instead of the predicted noise; without the variance term."""
        return self.posterior_mean_coef1[t] * z0 + self.posterior_mean_coef2[t] * z

    def chain(self, z: torch.Tensor, condition: torch.Tensor, steps: int | None = None) -> list[torch.Tensor]:
        """All T steps from Z_T: the list of Ẑ after each, the last one being the prior.

        ``steps`` fewer than T start the chain later: from the same noise, taken for Z at that level.
        """
        states = []
        for t in reversed(range(self.timesteps if steps is None else steps)):
            predicted = self.model(z, torch.full((len(z),), t, device=z.device), condition)
            z = self.posterior_mean(predicted, z, t)
            states.append(z)
        return states

    def forward(
        self, image: torch.Tensor, z: torch.Tensor | None = None, noise: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """In training from the true prior ``z``, noised as far as it goes; else from pure noise."""
        condition = self.condition(image)
        noise = torch.randn(len(image), PRIOR, device=image.device) if noise is None else noise
        start = noise if z is None else self.noised(z, self.timesteps - 1, noise)
        return self.chain(start, condition)


class DiffIRS1(nn.Module):
    """Stage 1: the prior is taken from the ground truth. (blurred, sharp) to restored."""

    def __init__(self, n_encoder_res: int = 5, **dirformer):
        super().__init__()
        self.G = DIRformer(**dirformer)
        self.E = CPEN(n_encoder_res=n_encoder_res, with_truth=True)

    def forward(self, blurred: torch.Tensor, sharp: torch.Tensor):
        """In training (restored, prior), else restored, as the authors' module does."""
        prior = self.E(blurred, sharp)
        restored = self.G(blurred, prior)
        return (restored, prior) if self.training else restored


class DiffIRS2(nn.Module):
    """Stage 2: the prior is found by diffusion. Blurred to restored.

    26,911,934 parameters by default. The state dict names CPEN and the denoiser twice (also below ``diffusion.``),
    as the authors' files do; they are the same tensors.
    """

    def __init__(self, n_encoder_res: int = 5, n_denoise_res: int = 1, timesteps: int = 4, **dirformer):
        super().__init__()
        self.G = DIRformer(**dirformer)
        self.condition = CPEN(n_encoder_res=n_encoder_res)
        self.denoise = Denoiser(n_denoise_res=n_denoise_res, timesteps=timesteps)
        self.diffusion = Diffusion(self.denoise, self.condition, timesteps)

    def forward(self, blurred: torch.Tensor, prior: torch.Tensor | None = None, noise: torch.Tensor | None = None):
        """In training, with stage 1's ``prior``: (restored, list of Ẑ after each step); else restored.

        Parameters
        ----------
        noise : N×256, the start of the chain; drawn unless given
        """
        if self.training:
            if prior is None:
                raise ShapeError("in training, stage 2 wants the prior of stage 1; call eval() to restore")
            states = self.diffusion(blurred, prior, noise)
            return self.G(blurred, states[-1]), states
        return self.G(blurred, self.diffusion(blurred, noise=noise)[-1])


class DiffIRStages(nn.Module):
    """Both stages, as they are shipped: ``stage1`` is the upper bound that sees the ground truth."""

    def __init__(self, stage1: DiffIRS1 | None = None, stage2: DiffIRS2 | None = None):
        super().__init__()
        self.stage1 = DiffIRS1(**SMALL) if stage1 is None else stage1
        self.stage2 = DiffIRS2(**SMALL) if stage2 is None else stage2


def exact_prior(network: nn.Module) -> None:
    """Let all that makes and reads the prior (CPEN, denoiser, modulation) compute in float32 in 16-bit training too."""
    for module in network.modules():
        if isinstance(module, CPEN | Denoiser | Modulation):
            module.exact = True


def diffusion_loss(predicted: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """Equation 30: L_diff, the mean of |Ẑ - Z| over the 4C' numbers (and the batch)."""
    return (predicted - prior).abs().mean()


def restoration_loss(restored: torch.Tensor, sharp: torch.Tensor) -> torch.Tensor:
    """Equation 26: L_rec. Written as a norm there; a mean in the authors' code, and so here."""
    return (restored - sharp).abs().mean()
