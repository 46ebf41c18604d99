"""helpers.reviewed.diffir: attention and gates by einsum, the chain by Bayes, the published names, both stages."""

import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers.networks import ShapeError
from helpers.reviewed.diffir import (
    CPEN,
    DGFN,
    DMTA,
    Denoiser,
    DiffIRS1,
    DiffIRS2,
    Diffusion,
    DIRformer,
    LayerNorm,
    TransformerBlock,
    diffusion_loss,
    exact_prior,
    restoration_loss,
    schedule,
)

TINY = {"dim": 4, "num_blocks": (1, 1, 1, 1), "num_refinement_blocks": 1, "heads": (1, 2, 2, 4)}
NET = {**TINY, "n_encoder_res": 1}


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Norms, temperatures and biases that are not their initial 1 and 0."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape) * 0.2)
    return module.eval()


# ---------------------------------------------------------------------------------------------------------------------
# The same written anew, from the state dict


def norm_by_hand(x, weight, bias=None):
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
    y = (x - mean if bias is not None else x) / (variance + 1e-5).sqrt()
    y = torch.einsum("nchw,c->nchw", y, weight)
    return y if bias is None else y + bias[None, :, None, None]


def modulated(x, prior, weight):
    """Equation 23: the first C rows of the linear layer scale, the other C shift."""
    c = x.shape[1]
    scale, shift = (torch.einsum("oz,nz->no", w, prior) for w in (weight[:c], weight[c:]))
    return torch.einsum("nchw,nc->nchw", x, scale) + shift[:, :, None, None]


def pointwise(x, weight):
    return torch.einsum("oi,nihw->nohw", weight[:, :, 0, 0], x)


def depthwise(x, weight):
    padded, out = F.pad(x, [1] * 4), 0
    for i in range(3):
        for j in range(3):
            window = padded[:, :, i : i + x.shape[2], j : j + x.shape[3]]
            out = out + torch.einsum("nchw,c->nchw", window, weight[:, 0, i, j])
    return out


def dmta_by_hand(x, prior, s, heads):
    """Equation 24: each head on its own, channels attend to channels, softmax over keys, temperature multiplies."""
    n, c, h, w = x.shape
    mixed = depthwise(pointwise(modulated(x, prior, s["kernel.0.weight"]), s["qkv.weight"]), s["qkv_dwconv.weight"])
    q, k, v = mixed[:, :c], mixed[:, c : 2 * c], mixed[:, 2 * c :]
    out = []
    for head in range(heads):
        mine = slice(head * c // heads, (head + 1) * c // heads)
        a, b = (t[:, mine] / t[:, mine].square().sum((2, 3), keepdim=True).sqrt() for t in (q, k))
        scores = torch.einsum("nchw,ndhw->ncd", a, b) * s["temperature"][head].item()
        weights = scores.exp() / scores.exp().sum(2, keepdim=True)
        out.append(torch.einsum("ncd,ndhw->nchw", weights, v[:, mine]))
    return pointwise(torch.cat(out, 1), s["project_out.weight"])


def dgfn_by_hand(x, prior, s):
    """Equation 25: GELU of the first half times the second, then a 1×1 convolution."""
    y = modulated(x, prior, s["kernel.0.weight"])
    y = depthwise(pointwise(y, s["project_in.weight"]), s["dwconv.weight"])
    hidden = y.shape[1] // 2
    a, b = y[:, :hidden], y[:, hidden:]
    return pointwise(a * 0.5 * (1 + torch.erf(a / math.sqrt(2))) * b, s["project_out.weight"])


def below(state, prefix):
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def block_by_hand(x, prior, s, heads):
    normed = norm_by_hand(x, s["norm1.body.weight"], s.get("norm1.body.bias"))
    x = x + dmta_by_hand(normed, prior, below(s, "attn."), heads)
    normed = norm_by_hand(x, s["norm2.body.weight"], s.get("norm2.body.bias"))
    return x + dgfn_by_hand(normed, prior, below(s, "ffn."))


def dirformer_by_hand(image, prior, s, heads):
    def blocks(x, name, level):
        count = len({k.split(".")[1] for k in s if k.startswith(name + ".")})
        for i in range(count):
            x = block_by_hand(x, prior, below(s, f"{name}.{i}."), heads[level])
        return x

    def conv(x, name):
        return F.conv2d(x, s[name + ".weight"], padding=s[name + ".weight"].shape[-1] // 2)

    def down(x, name):
        return F.pixel_unshuffle(conv(x, name + ".body.0"), 2)

    def up(x, name):
        return F.pixel_shuffle(conv(x, name + ".body.0"), 2)

    one = blocks(conv(image, "patch_embed.proj"), "encoder_level1", 0)
    two = blocks(down(one, "down1_2"), "encoder_level2", 1)
    three = blocks(down(two, "down2_3"), "encoder_level3", 2)
    x = blocks(down(three, "down3_4"), "latent", 3)
    x = blocks(conv(torch.cat([up(x, "up4_3"), three], 1), "reduce_chan_level3"), "decoder_level3", 2)
    x = blocks(conv(torch.cat([up(x, "up3_2"), two], 1), "reduce_chan_level2"), "decoder_level2", 1)
    x = blocks(torch.cat([up(x, "up2_1"), one], 1), "decoder_level1", 0)
    return conv(blocks(x, "refinement", 0), "output") + image


def leaky(x):
    return torch.where(x > 0, x, 0.1 * x)


def cpen_by_hand(images, s, residual):
    x = torch.cat([F.pixel_unshuffle(i, 4) for i in images], 1)

    def conv(x, i):
        return F.conv2d(x, s[f"E.{i}.weight"], s[f"E.{i}.bias"], padding=1)

    x = leaky(conv(x, 0))
    for i in range(2, 2 + residual):
        y = leaky(F.conv2d(x, s[f"E.{i}.body.0.weight"], s[f"E.{i}.body.0.bias"], padding=1))
        x = x + F.conv2d(y, s[f"E.{i}.body.2.weight"], s[f"E.{i}.body.2.bias"], padding=1)
    for i in range(2 + residual, 8 + residual, 2):
        x = leaky(conv(x, i))
    x = x.mean((2, 3))
    for i in (0, 2):
        x = leaky(x @ s[f"mlp.{i}.weight"].T + s[f"mlp.{i}.bias"])
    return x


# ---------------------------------------------------------------------------------------------------------------------
# The networks


@torch.no_grad()
@pytest.mark.parametrize("kind", ["WithBias", "BiasFree"])
def test_layer_norms_by_hand(kind):
    """Over the channels of each pixel; "BiasFree" divides by the deviation and leaves the mean in."""
    norm, x = randomised(LayerNorm(6, kind)), torch.randn(2, 6, 3, 4) * 3 + 1
    expected = norm_by_hand(x, norm.body.weight, norm.body.bias if kind == "WithBias" else None)
    assert torch.allclose(norm(x), expected, atol=1e-5)
    plain = LayerNorm(6, kind)(x)
    assert plain.var(1, correction=0).mean().item() == pytest.approx(1, abs=1e-3)
    assert (plain.mean(1).abs().max() < 1e-5) == (kind == "WithBias")


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_dmta_by_hand(heads):
    """Equation 24, with equation 23 in front: by einsum, head by head."""
    layer, x, prior = randomised(DMTA(8, heads)), torch.randn(2, 8, 5, 6), torch.randn(2, 256)
    assert torch.allclose(layer(x, prior), dmta_by_hand(x, prior, layer.state_dict(), heads), atol=2e-3, rtol=1e-3)


@torch.no_grad()
def test_attention_is_channels_by_channels():
    """C/heads × C/heads, rows summing to 1 over the keys, the same for q and k of any length."""
    layer = randomised(DMTA(8, 2))
    q, k = torch.randn(3, 2, 4, 30), torch.randn(3, 2, 4, 30)
    a = layer.attention(q, k)
    assert a.shape == (3, 2, 4, 4) and torch.allclose(a.sum(-1), torch.ones(3, 2, 4))
    assert torch.allclose(layer.attention(5 * q, 0.1 * k), a, atol=1e-6)
    layer.temperature.zero_()
    assert torch.allclose(layer.attention(q, k), torch.full_like(a, 0.25))


@torch.no_grad()
@pytest.mark.parametrize(("factor", "hidden"), [(2, 12), (2.66, 15)])
def test_dgfn_by_hand(factor, hidden):
    """Equation 25, with equation 23 in front; GELU on the first half alone."""
    layer, x, prior = randomised(DGFN(6, factor)), torch.randn(2, 6, 5, 4), torch.randn(2, 256)
    assert layer.project_out.in_channels == hidden
    assert torch.allclose(layer(x, prior), dgfn_by_hand(x, prior, layer.state_dict()), atol=2e-3, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["WithBias", "BiasFree"])
def test_block_by_hand(kind):
    block, x, prior = randomised(TransformerBlock(8, 2, 2, False, kind)), torch.randn(2, 8, 5, 4), torch.randn(2, 256)
    expected = block_by_hand(x, prior, block.state_dict(), 2)
    assert torch.allclose(block(x, prior), expected, atol=5e-3, rtol=1e-3)


@torch.no_grad()
def test_dirformer_by_hand():
    """The whole U-Net: levels, skips, reductions, refinement, the image added at the end."""
    net = DIRformer(**{**TINY, "num_blocks": (2, 1, 1, 2)})
    for p in net.parameters():
        if p.ndim == 1 or p.ndim == 3:
            p.add_(torch.randn(p.shape) * 0.2)
    image, prior = torch.rand(2, 3, 16, 24), torch.randn(2, 256)
    expected = dirformer_by_hand(image, prior, net.state_dict(), TINY["heads"])
    assert torch.allclose(net(image, prior), expected, atol=1e-3 * expected.abs().max().item())
    assert (net(image, prior) - image).abs().max() > 0.01


@torch.no_grad()
def test_dirformer_without_its_last_convolution_is_the_identity():
    """Section f."""
    net = DIRformer(**TINY)
    net.output.weight.zero_()
    image = torch.rand(2, 3, 16, 16)
    assert torch.equal(net(image, torch.randn(2, 256)), image)


@torch.no_grad()
@pytest.mark.parametrize("residual", [1, 3])
@pytest.mark.parametrize("with_truth", [False, True])
def test_cpen_by_hand(residual, with_truth):
    """Equations 22 and 29: pixels unshuffled 4×4, the blurred half first."""
    net = CPEN(n_feats=4, n_encoder_res=residual, with_truth=with_truth).eval()
    images = [torch.rand(2, 3, 16, 20) for _ in range(1 + with_truth)]
    expected = cpen_by_hand(images, net.state_dict(), residual)
    assert expected.shape == (2, 16) and torch.allclose(net(*images), expected, atol=1e-5)
    if with_truth:
        assert not torch.allclose(net(*images[::-1]), expected, atol=1e-5)


def test_prior_has_256_numbers():
    assert CPEN(n_encoder_res=1)(torch.rand(2, 3, 16, 16)).shape == (2, 256)


@torch.no_grad()
def test_denoiser_by_hand():
    """[D, t / 10T, Z_t] to an estimate of Z: one linear layer, then another, no skip."""
    net, z, d = Denoiser(n_feats=3, n_denoise_res=2, timesteps=4).eval(), torch.randn(2, 12), torch.randn(2, 12)
    s = net.state_dict()
    x = torch.cat([d, torch.tensor([[3 / 40], [1 / 40]]), z], 1)
    x = leaky(x @ s["resmlp.0.weight"].T + s["resmlp.0.bias"])
    for i in (2, 3):
        x = leaky(x @ s[f"resmlp.{i}.resmlp.0.weight"].T + s[f"resmlp.{i}.resmlp.0.bias"])
    assert torch.allclose(net(z, torch.tensor([3, 1]), d), x, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: DIRformer(**TINY)(torch.zeros(1, 3, 12, 16), torch.zeros(1, 256)), "sides divisible by 8"),
        (lambda: DIRformer(**TINY)(torch.zeros(1, 3, 16, 16), torch.zeros(1, 64)), "prior must be N×256 = 1×256"),
        (lambda: CPEN(4, 1)(torch.zeros(1, 3, 18, 16)), "sides divisible by 4"),
        (lambda: CPEN(4, 1)(torch.zeros(1, 4, 16, 16)), "expects N×3×H×W"),
        (lambda: CPEN(4, 1)(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)), "stage 2's the blurred one alone"),
        (lambda: CPEN(4, 1, with_truth=True)(torch.zeros(1, 3, 16, 16)), "the blurred and the sharp image"),
        (lambda: DiffIRS2(**NET).train()(torch.zeros(1, 3, 16, 16)), "wants the prior of stage 1"),
    ],
)
def test_wrong_calls_are_told(call, told):
    with pytest.raises(ShapeError, match=told):
        call()


# ---------------------------------------------------------------------------------------------------------------------
# Diffusion


def test_schedule_of_the_authors():
    """Equations 19 to 21: T = 4, β linear in its root from 0.1 to 0.99."""
    s = schedule()
    assert s["betas"].tolist() == pytest.approx([0.1, 0.2943, 0.5910, 0.99], abs=5e-5)
    assert s["alphas_cumprod"].tolist() == pytest.approx([0.9, 0.6351, 0.2598, 0.0026], abs=5e-5)
    assert s["posterior_mean_coef1"].tolist() == pytest.approx([1, 0.7652, 0.6363, 0.5059], abs=5e-5)
    assert s["posterior_mean_coef2"].tolist() == pytest.approx([0, 0.2302, 0.3153, 0.0742], abs=5e-5)
    assert s["sqrt_alphas_cumprod"][3].item() == pytest.approx(0.0510, abs=5e-5)
    assert s["sqrt_one_minus_alphas_cumprod"][3].item() == pytest.approx(0.9987, abs=5e-5)
    bar = s["alphas_cumprod"]
    assert torch.allclose(s["sqrt_recip_alphas_cumprod"] ** 2, 1 / bar)
    assert torch.allclose(s["sqrt_recipm1_alphas_cumprod"] ** 2, 1 / bar - 1)
    assert torch.allclose(s["log_one_minus_alphas_cumprod"].exp(), 1 - bar)
    assert s["posterior_log_variance_clipped"][1:].exp().tolist() == pytest.approx(s["posterior_variance"][1:].tolist())
    assert s["posterior_log_variance_clipped"][0].item() == pytest.approx(math.log(1e-20))


@pytest.mark.parametrize("timesteps", [2, 4, 10])
def test_posterior_by_bayes(timesteps):
    """Equation 21: p(Z_{t-1} | Z_t, Z_0) from the product of two Gaussians in Z_{t-1}.

    Given Z_0 it is N(√ᾱ_{t-1} Z_0, 1 - ᾱ_{t-1}); Z_t given it is N(√α_t Z_{t-1}, β_t). Precisions add.
    """
    s, z0, z = schedule(timesteps), 1.7, -0.6
    bar = [1.0, *s["alphas_cumprod"].tolist()]
    for t in range(1, timesteps):
        beta = s["betas"][t].item()
        prior, likelihood = 1 / (1 - bar[t]), (1 - beta) / beta
        variance = 1 / (prior + likelihood)
        mean = variance * (prior * math.sqrt(bar[t]) * z0 + likelihood * z / math.sqrt(1 - beta))
        ours = s["posterior_mean_coef1"][t] * z0 + s["posterior_mean_coef2"][t] * z
        assert ours.item() == pytest.approx(mean, rel=1e-9)
        assert s["posterior_variance"][t].item() == pytest.approx(variance, rel=1e-9)


def test_equation_28_is_the_posterior_mean_and_equation_21_is_not():
    """Equation 28: 1/√α_t (Z_t - β_t ε / √(1 - ᾱ_t)) with the ε between Z_0 and Z_t; with 1/√ᾱ_t it is far off."""
    s, gap = schedule(), 0.0
    z0, noise = torch.randn(256, dtype=torch.float64), torch.randn(256, dtype=torch.float64)
    for t in range(4):
        bar, beta = s["alphas_cumprod"][t], s["betas"][t]
        z = bar.sqrt() * z0 + (1 - bar).sqrt() * noise
        mean = s["posterior_mean_coef1"][t] * z0 + s["posterior_mean_coef2"][t] * z
        inner = z - beta / (1 - bar).sqrt() * noise
        assert torch.allclose(inner / (1 - beta).sqrt(), mean, atol=1e-9)
        gap = max(gap, (inner / bar.sqrt() - mean).abs().max().item())
    assert gap > 0.5


class Linear(nn.Module):
    """A denoiser that can be followed by hand; notes the steps it is called for."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, z, t, condition):
        self.seen.append(t.tolist())
        return 0.5 * z + t[:, None] + 2 * condition


class Mean(nn.Module):
    def forward(self, image):
        return image.mean((1, 2, 3))[:, None].expand(-1, 256)


def test_forward_process():
    """Equations 20 and 27: one jump has the moments of all the single steps of equation 19."""
    diffusion, torch_seed = Diffusion(Linear(), Mean()), torch.manual_seed(0)
    z = torch.full((100_000,), 2.0)
    walked = z
    for t in range(4):
        walked = (1 - diffusion.betas[t]).sqrt() * walked + diffusion.betas[t].sqrt() * torch.randn(
            z.shape, generator=torch_seed
        )
        jumped = diffusion.noised(z, t, torch.randn(z.shape, generator=torch_seed))
        assert walked.mean().item() == pytest.approx(jumped.mean().item(), abs=0.015)
        assert walked.std().item() == pytest.approx(jumped.std().item(), rel=0.01)


def test_the_chain_by_hand():
    """Four steps from t = 4 (counted 3) to 1 (counted 0), with the coefficients of the fact sheet."""
    diffusion = Diffusion(Linear(), Mean())
    start, d = torch.full((2, 256), 1.5), torch.full((2, 256), 0.25)
    states, z = diffusion.chain(start, d), 1.5
    for state, t, a, b in zip(
        states, (3, 2, 1, 0), (0.50588, 0.63628, 0.76516, 1), (0.07424, 0.31532, 0.23016, 0), strict=True
    ):
        z = a * (0.5 * z + t + 0.5) + b * z
        assert state.mean().item() == pytest.approx(z, rel=2e-4) and state.std() < 1e-5
    assert diffusion.model.seen == [[3, 3], [2, 2], [1, 1], [0, 0]]


@torch.no_grad()
def test_the_last_step_is_the_networks_output():
    """Section f: at t = 1 the posterior is all Z_0."""
    diffusion = Diffusion(Denoiser(), CPEN(n_encoder_res=1))
    z, d = torch.randn(2, 256), torch.randn(2, 256)
    *_, before, last = diffusion.chain(z, d)
    assert torch.allclose(last, diffusion.model(before, torch.zeros(2), d), atol=1e-6)
    (only,) = diffusion.chain(z, d, steps=1)
    assert torch.allclose(only, diffusion.model(z, torch.zeros(2), d), atol=1e-6)
    assert len(diffusion.chain(z, d, steps=2)) == 2


def test_start_of_the_chain():
    """In training 0.0510 Z + 0.9987 noise, always from t = T; at test time the noise itself."""
    diffusion = Diffusion(Linear(), Mean())
    image, noise, prior = torch.full((2, 3, 4, 4), 0.3), torch.randn(2, 256), torch.randn(2, 256)
    d = torch.full((2, 256), 0.3)
    for got, start in (
        (diffusion(image, prior, noise), 0.0509117 * prior + 0.9987032 * noise),
        (diffusion(image, noise=noise), noise),
    ):
        for a, b in zip(got, diffusion.chain(start, d), strict=True):
            assert torch.allclose(a, b, atol=1e-4)
    assert not torch.equal(diffusion(image)[0], diffusion(image)[0])


# ---------------------------------------------------------------------------------------------------------------------
# The stages


def test_stages_are_made_of_their_parts():
    """S1: the prior from both images. S2: from the blurred image and noise; in training what the losses need too."""
    torch.manual_seed(0)
    one, two = DiffIRS1(**NET), DiffIRS2(**NET)
    blurred, sharp, noise = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16), torch.randn(2, 256)
    restored, prior = one(blurred, sharp)
    assert torch.equal(prior, one.E(blurred, sharp)) and torch.equal(restored, one.G(blurred, prior))
    assert torch.equal(one.eval()(blurred, sharp), restored)
    restored, states = two(blurred, prior, noise)
    assert len(states) == 4 and torch.equal(restored, two.G(blurred, states[-1]))
    d = two.condition(blurred)
    start = two.diffusion.sqrt_alphas_cumprod[3] * prior + two.diffusion.sqrt_one_minus_alphas_cumprod[3] * noise
    assert torch.allclose(states[-1], two.diffusion.chain(start, d)[-1], atol=1e-5)
    two.eval()
    assert torch.allclose(two(blurred, noise=noise), two.G(blurred, two.diffusion.chain(noise, d)[-1]), atol=1e-5)


def test_gradients_reach_every_weight():
    """L_rec + L_diff of stage 2: through all four steps to CPEN and denoiser, and to G; stage 1 likewise."""
    torch.manual_seed(0)
    one, two = DiffIRS1(**NET), DiffIRS2(**NET)
    blurred, sharp = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    restored, prior = one(blurred, sharp)
    restoration_loss(restored, sharp).backward()
    restored, states = two(blurred, prior.detach())
    (restoration_loss(restored, sharp) + diffusion_loss(states[-1], prior.detach())).backward()
    for net in (one, two):
        for name, p in net.named_parameters():
            assert torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0, name


def test_all_four_steps_carry_gradient():
    diffusion = Diffusion(Linear(), Mean())
    z = torch.ones(1, 256, requires_grad=True)
    diffusion.chain(z, torch.zeros(1, 256))[-1].sum().backward()
    slope = math.prod(
        a * 0.5 + b for a, b in zip((0.50588, 0.63628, 0.76516, 1), (0.07424, 0.31532, 0.23016, 0), strict=True)
    )
    assert z.grad.mean().item() == pytest.approx(slope, rel=1e-3)


def test_losses_by_hand():
    """Equations 26 and 30: means of absolute differences."""
    assert restoration_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 5.0]])).item() == 2
    assert diffusion_loss(torch.tensor([[1.0, -2.0]]), torch.tensor([[2.0, 2.0]])).item() == 2.5


# ---------------------------------------------------------------------------------------------------------------------
# The published networks


@pytest.mark.parametrize(
    ("network", "parameters", "entries"), [(DiffIRS1, 26_742_206, 536), (DiffIRS2, 26_911_934, 588)]
)
def test_size_of_the_published_networks(network, parameters, entries):
    with torch.device("meta"):
        model = network()
    assert sum(p.numel() for p in model.parameters()) == parameters
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert len(shapes) == entries
    typed = {
        "G.patch_embed.proj.weight": (48, 3, 3, 3),
        "G.encoder_level2.4.attn.temperature": (2, 1, 1),
        "G.encoder_level1.0.attn.kernel.0.weight": (96, 256),
        "G.latent.5.ffn.project_in.weight": (1536, 384, 1, 1),
        "G.refinement.3.norm2.body.bias": (96,),
        "G.down3_4.body.0.weight": (96, 192, 3, 3),
        "G.reduce_chan_level2.weight": (96, 192, 1, 1),
        "G.output.weight": (3, 96, 3, 3),
    }
    typed |= {
        DiffIRS1: {"E.E.0.weight": (64, 96, 3, 3), "E.E.11.bias": (256,), "E.mlp.2.weight": (256, 256)},
        DiffIRS2: {
            "condition.E.0.weight": (64, 48, 3, 3),
            "diffusion.condition.E.6.body.2.weight": (64, 64, 3, 3),
            "denoise.resmlp.0.weight": (256, 513),
            "diffusion.model.resmlp.2.resmlp.0.weight": (256, 256),
            "diffusion.posterior_log_variance_clipped": (4,),
        },
    }[network]
    assert {k: shapes[k] for k in typed} == typed


@pytest.mark.parametrize(("network", "stage"), [(DiffIRS1, 1), (DiffIRS2, 2)])
def test_names_and_shapes_of_the_published_networks(network, stage, official_keys):
    """Every name and every shape of the authors' list, none more."""
    listed = json.loads((official_keys / f"diffir_full_s{stage}_deblur_gopro.keys.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        model = network()
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == dict(listed["keys"])
    assert sum(p.numel() for p in model.parameters()) == listed["n_params"]


def test_stage_2_names_tensors_twice_that_it_has_once():
    two = DiffIRS2(**NET)
    state = two.state_dict(keep_vars=True)
    for name, value in state.items():
        if name.startswith(("condition.", "denoise.")):
            twin = name.replace("condition.", "diffusion.condition.", 1).replace("denoise.", "diffusion.model.", 1)
            assert state[twin] is value


def test_the_prior_may_be_exact():
    """In 16-bit training CPEN, denoiser and modulation compute in float32 then, and so do the averages of them."""
    torch.manual_seed(0)
    two, blurred, noise = DiffIRS2(**NET).eval(), torch.rand(2, 3, 16, 16), torch.randn(2, 256)
    modulation = two.G.refinement[0].ffn.kernel
    with torch.no_grad():
        exact = two.condition(blurred), two.diffusion(blurred, noise=noise)[-1], modulation[0](noise)
        with torch.autocast("cpu", torch.bfloat16):
            rough = two.condition(blurred)
            assert rough.dtype == torch.bfloat16 and not torch.equal(rough.float(), exact[0])
            exact_prior(two)
            copied = copy.deepcopy(two)
            for network in (two, copied):
                assert torch.equal(network.condition(blurred), exact[0])
                assert torch.equal(network.diffusion(blurred, noise=noise)[-1], exact[1])
            ones, scale_shift = torch.ones(2, 8, 1, 1), exact[2][:, :, None, None].chunk(2, dim=1)
            assert torch.equal(modulation(ones, noise), scale_shift[0] + scale_shift[1])
            assert torch.isfinite(two.G(blurred, exact[1])).all()
