"""Chapter 00: one picture through the thesis's model, and PSNR."""

import numpy as np
import torch

from helpers import data, edges
from helpers.exercises.build import Chapter, expect

chapter = Chapter()
check = chapter.check


def restore_face(blurred, encoder, generator):
    """One blurred picture, uint8 H×W×3, through the encoder and the generator: uint8 H×W×3."""
    edge_map = edges.edge_maps(blurred[None])
    inputs = edges.four_channels(blurred[None], edge_map)
    with torch.no_grad():
        code = encoder(inputs)
        picture = generator(code)
    return data.denormalise(picture)[0]


@chapter.examines(restore_face)
def _restore_face(answer):
    blurred = np.zeros((32, 32, 3), np.uint8)
    blurred[8:24, 8:24] = [200, 120, 40]
    seen = {}

    def encoder(inputs):
        seen["inputs"] = inputs
        return torch.full((len(inputs), 512), 0.25)

    def generator(code):
        seen["code"] = code
        return torch.full((len(code), 3, 32, 32), 0.5)

    result = answer(blurred, encoder, generator)
    inputs, code = seen.get("inputs"), seen.get("code")
    expect(inputs is not None, "the encoder was not called", "code = encoder(inputs)")
    expect(
        tuple(inputs.shape) == (1, 4, 32, 32),
        f"the encoder got a tensor of shape {tuple(inputs.shape)}, not (1, 4, 32, 32)",
        "edges.four_channels(blurred[None], edge_map) makes one batch of one picture with four channels",
    )
    expect(
        bool(inputs[0, 3].any()),
        "the fourth channel is empty, although the picture has edges",
        "edges.edge_maps(blurred[None]) finds them",
    )
    expect(
        torch.equal(inputs, edges.four_channels(blurred[None], edges.edge_maps(blurred[None]))),
        "the encoder's input is not the blurred picture and its edge map",
        "give four_channels the picture as it came, uint8: it normalises itself",
    )
    expect(
        code is not None and tuple(code.shape) == (1, 512),
        f"the generator got {'nothing' if code is None else f'shape {tuple(code.shape)}'}, not the code (1, 512)",
        "picture = generator(code)",
    )
    expect(
        isinstance(result, np.ndarray) and result.dtype == np.uint8,
        f"the result is {getattr(result, 'dtype', type(result).__name__)}, not a uint8 array",
        "the generator's picture has values in [-1, 1]; data.denormalise makes bytes of them",
    )
    expect(result.shape == (32, 32, 3), f"the result has the shape {result.shape}", "take the only picture: [0]")
    expect(
        bool((result == 191).all()),
        f"a picture of 0.5 became {result.flat[0]}, not 191",
        "data.denormalise inverts equation 31; give it the generator's picture and nothing else",
    )


def decibels(restored, truth):
    """PSNR of two uint8 pictures of the same shape, in dB: 10 log10(255² / mean squared error)."""
    error = restored.astype(float) - truth.astype(float)
    return 10 * np.log10(255**2 / (error**2).mean())


@chapter.examines(decibels)
def _decibels(answer):
    dark = np.full((4, 4, 3), 100, np.uint8)
    wanted = 10 * np.log10(255**2 / 20**2)
    expect(np.ndim(answer(dark + 20, dark)) == 0, "the result is no single number", "take the .mean() of all values")
    found = float(answer(dark + 20, dark))
    expect(
        not np.isclose(found, 10 * np.log10(255**2 / 144)),
        f"an error of 20 everywhere gives {found:.1f} dB, as if 20² were 144",
        "so it is in uint8, which ends at 255; convert both with .astype(float) before you subtract",
    )
    expect(
        not np.isclose(found, wanted * np.log(10)),
        f"an error of 20 everywhere gives {found:.1f}, which is {np.log(10):.2f} times too much",
        "np.log is the natural logarithm; decibels need np.log10",
    )
    expect(
        not np.isclose(found, wanted / 2) and not np.isclose(found, 2 * wanted),
        f"an error of 20 everywhere gives {found:.1f} dB, a factor 2 away from {wanted:.1f} dB",
        "10 times the logarithm of 255**2 / MSE",
    )
    expect(
        np.isclose(found, wanted),
        f"an error of 20 everywhere gives {found:.1f} dB, not {wanted:.1f} dB",
        "the largest value is 255, and the error is squared before the mean is taken",
    )
    half = dark.copy()
    half[:2] += 20
    expect(
        np.isclose(float(answer(half, dark)), 10 * np.log10(255**2 / 200)),
        f"an error of 20 in half of the pixels gives {float(answer(half, dark)):.1f} dB, not 25.1 dB",
        "square first, then take the mean: (error**2).mean(), not error.mean() ** 2",
    )
