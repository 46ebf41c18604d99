"""Chapter 13: a bootstrap over seeds and faces, a generator with skip connections, the choice of a knob."""

import numpy as np
import torch
import torch.nn.functional as F

from helpers.exercises.build import Chapter, expect
from helpers.experiments.skip_model import SkipGenerator

chapter = Chapter()
check = chapter.check


def bootstrap_bounds(values, baseline, draws, rng):
    """The middle 95 % of mean differences when seeds and faces are drawn anew: two arrays S×N to (low, high)."""
    difference = values - baseline
    means = []
    for _ in range(draws):
        seeds = rng.integers(len(difference), size=len(difference))
        faces = rng.integers(difference.shape[1], size=difference.shape[1])
        means.append(difference[seeds][:, faces].mean())
    return np.quantile(means, [0.025, 0.975])


@chapter.examines(bootstrap_bounds)
def _bootstrap_bounds(answer):
    def bounds(difference, base=0.0):
        return np.asarray(answer(difference + base, np.zeros_like(difference) + base, 600, np.random.default_rng(1)))

    hard = np.random.default_rng(2).normal(25, 5, (2, 40))  # faces that differ by 5 dB
    found = bounds(np.full((2, 40), 0.5), hard)
    expect(found.shape == (2,), f"the result has the shape {found.shape}", "give two numbers back, low and high")
    expect(
        np.allclose(found, 0.5),
        f"where every difference is 0.5 dB, the bounds are {found[0]:.2f} and {found[1]:.2f}",
        "take the difference first, face by face; then draw seeds and faces of the difference",
    )
    found = bounds(np.array([[-1.0] * 40, [1.0] * 40]))
    expect(
        np.allclose(found, [-1, 1]),
        f"where one seed gives -1 and the other +1 at every face, the bounds are {found[0]:.2f} and {found[1]:.2f}, "
        "not -1 and 1",
        "draw the rows, which are the seeds, with replacement as well",
    )
    low, high = bounds(np.tile([-1.0, 1.0], 50)[None])
    expect(
        high - low > 0,
        "with one seed and faces that differ, the interval has no width",
        "draw the columns, which are the faces, with replacement: rng.integers(N, size=N)",
    )
    expect(
        abs((high - low) - 0.39) < 0.04,
        f"for 100 faces of ±1 the interval is {high - low:.2f} wide, not 0.39",
        "draw as many faces as there are, and take the quantiles 0.025 and 0.975",
    )


def decode(z, maps, generator):
    """Code N×L and the encoder's maps, fine to coarse, to features as fine as ``maps[0]``: the path up with skips."""
    y = maps[-1]
    for i in reversed(range(len(maps))):
        if i < len(generator.grow):
            up = F.pixel_shuffle(generator.grow[i](y), 2)
            y = generator.join[i](torch.cat([up, maps[i]], dim=1))
        for block in generator.blocks[i]:
            y = block(y, z)
    return y


@chapter.examines(decode)
@torch.no_grad()
def _decode(answer):
    generator, z, maps = _small_generator()
    features = answer(z, maps, generator)
    expect(isinstance(features, torch.Tensor), f"the result is a {type(features).__name__}", "give y back, a tensor")
    shape, wanted = tuple(features.shape), tuple(maps[0].shape)
    expect(
        shape == wanted, f"the features have the shape {shape}, not {wanted}", "go up to scale 0, and join there too"
    )
    other = answer(z, [maps[0] + 1, *maps[1:]], generator)
    expect(
        not torch.equal(features, other),
        "the finest map of the encoder has no influence on the features",
        "join the map of each scale: torch.cat([up, maps[i]], dim=1)",
    )
    expect(
        not torch.equal(features, answer(z + 1, maps, generator)),
        "the code z has no influence on the features",
        "each block takes the features and the code: block(y, z)",
    )
    truth = _features_of(generator, z, maps)
    far = (features - truth).abs().max().item()
    expect(
        far < 1e-4,
        f"the features differ from the generator's by up to {far:.2f}",
        "at the coarsest scale only blocks; at others grow, pixel_shuffle, cat of up and maps[i], join, then blocks",
    )


def _small_generator() -> tuple:
    """A generator of three scales whose weights are all at random (its own begin at 0), a code and maps for it."""
    source = torch.Generator().manual_seed(3)
    generator = SkipGenerator((8, 8, 16), (1, 1, 2), 4)
    for parameter in generator.parameters():
        parameter.copy_(0.2 * torch.randn(parameter.shape, generator=source))
    sizes = ((8, 16), (8, 8), (16, 4))
    maps = [torch.randn(1, channels, side, side, generator=source) for channels, side in sizes]
    return generator, torch.randn(1, 4, generator=source), maps


def _features_of(generator: SkipGenerator, z: torch.Tensor, maps: list) -> torch.Tensor:
    """What the generator itself hands to its exits."""
    seen = []
    hook = generator.exits[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    generator(z, maps)
    hook.remove()
    return seen[0]


def choose_knob(rows, most=0.5):
    """The knob of the lowest LPIPS among rows with a knob of 0 to 1 that lose at most ``most`` dB of the best PSNR."""
    best = max(row["PSNR"] for row in rows)
    allowed = [row for row in rows if row["PSNR"] >= best - most and row["knob"] <= 1]
    return min(allowed, key=lambda row: row["LPIPS"])["knob"]


@chapter.examines(choose_knob)
def _choose_knob(answer):
    def rows(*values):
        return [dict(zip(("knob", "PSNR", "LPIPS"), row, strict=True)) for row in values]

    knob = answer(rows((0.0, 30.0, 0.09), (0.5, 29.9, 0.05), (1.0, 29.7, 0.07)))
    expect(not isinstance(knob, dict), "the result is a row", "give its knob back, a number")
    expect(
        knob == 0.5,
        f"of LPIPS 0.09, 0.05 and 0.07 at knobs 0, 0.5 and 1 it takes knob {knob}",
        "the lowest LPIPS wins, and 0.3 dB of PSNR may be lost",
    )
    knob = answer(rows((0.0, 30.0, 0.09), (0.5, 29.6, 0.05), (1.0, 29.2, 0.03)))
    expect(
        knob == 0.5,
        f"it takes knob {knob}, where knob 0.5 loses 0.4 dB and knob 1 loses 0.8 dB",
        "leave out every row whose PSNR is more than 0.5 dB below the best PSNR of all rows",
    )
    knob = answer(rows((0.0, 30.0, 0.09), (1.0, 29.8, 0.05), (1.2, 29.7, 0.04)))
    expect(knob == 1.0, f"it takes knob {knob}, outside of the two ends", "leave out the rows with a knob above 1")
    knob = answer(rows((0.0, 30.0, 0.09), (1.0, 29.2, 0.05)), 1.0)
    expect(knob == 1.0, f"with most=1.0 it takes knob {knob}, where 0.8 dB are lost", "use the argument most, not 0.5")
