"""Chapter 01: bytes from network output, Gaussian weights, a blur with loops."""

import numpy as np

from helpers.exercises.build import Chapter, expect

chapter = Chapter()
check = chapter.check


def to_bytes(x):
    """Values of [-1, 1], array of any shape, to uint8 0..255: equation 31 backwards, rounded and clipped."""
    values = 127.5 * x + 127.5
    return values.round().clip(0, 255).astype(np.uint8)


@chapter.examines(to_bytes)
def _to_bytes(answer):
    every = np.arange(256)
    result = np.asarray(answer(every / 127.5 - 1))
    expect(result.dtype == np.uint8, f"the result is {result.dtype}, not uint8", "end with .astype(np.uint8)")
    ends = [int(n) for n in answer(np.array([-1.0, -0.6, 0.6, 1.0]))]
    expect(
        np.allclose(ends, [0, 51, 204, 255], atol=1),
        f"-1, -0.6, 0.6 and 1 become {ends}, they should become [0, 51, 204, 255]",
        "solve equation 31 for x: multiply by 127.5 first, then add 127.5",
    )
    wrong = int((result != every).sum())
    expect(
        wrong == 0,
        f"{wrong} of the 256 values come back changed, the first is {every[result != every][:1]}",
        "a cast to uint8 cuts the decimals off; call .round() before it",
    )
    outside = answer(np.array([-1.2, 1.2]))
    expect(
        outside[0] == 0 and outside[1] == 255,
        f"-1.2 becomes {outside[0]} and 1.2 becomes {outside[1]}, not 0 and 255",
        "values outside 0..255 wrap around in uint8; use .clip(0, 255) before the cast",
    )


def gaussian_weights(sigma, size):
    """Weights exp(-(i² + j²) / 2σ²), i and j from -size//2 to size//2, that sum to 1: array size×size."""
    i = np.arange(size) - size // 2
    weights = np.exp(-(i[:, None] ** 2 + i[None, :] ** 2) / (2 * sigma**2))
    return weights / weights.sum()


@chapter.examines(gaussian_weights)
def _gaussian_weights(answer):
    k = np.asarray(answer(2.0, 7))
    expect(k.shape == (7, 7), f"size 7 gives the shape {k.shape}", "one weight for each pair (i, j): size×size")
    peak = tuple(int(n) for n in np.unravel_index(k.argmax(), k.shape))
    expect(
        peak == (3, 3),
        f"the largest weight is at {peak}, not at the centre (3, 3)",
        "i and j run from -size//2 to size//2: subtract size // 2 from np.arange(size)",
    )
    expect(
        np.isclose(k.sum(), 1),
        f"the weights sum to {k.sum():.3f}, so a picture would become {'brighter' if k.sum() > 1 else 'darker'}",
        "divide all weights by their sum",
    )
    ratio, wanted = k[3, 5] / k[3, 3], np.exp(-0.5)
    expect(
        np.isclose(ratio, wanted),
        f"at a distance of σ the weight is {ratio:.3f} of the largest, it should be {wanted:.3f}",
        "the exponent is -(i² + j²) / (2σ²): mind the 2 and the square of σ",
    )
    diagonal = k[5, 5] / k[3, 3]
    expect(
        np.isclose(diagonal, np.exp(-1)),
        f"two rows and two columns off the centre the weight is {diagonal:.3f} of the largest, not 0.368",
        "rows and columns both count: i[:, None] ** 2 + i[None, :] ** 2",
    )


def blur_by_hand(image, kernel):
    """The sum of the formula, pixel by pixel: image H×W, kernel n×n with n odd, border mirrored; gives H×W."""
    half = len(kernel) // 2
    padded = np.pad(image, half, mode="reflect")
    blurred = np.zeros(image.shape)
    for r, c in np.ndindex(image.shape):
        for i, j in np.ndindex(kernel.shape):
            blurred[r, c] += kernel[i, j] * padded[r + 2 * half - i, c + 2 * half - j]
    return blurred


@chapter.examines(blur_by_hand)
def _blur_by_hand(answer):
    point, kernel = np.zeros((7, 7)), np.arange(1.0, 10.0).reshape(3, 3)
    point[3, 3] = 1
    spread = np.asarray(answer(point, kernel))
    expect(spread.shape == (7, 7), f"7×7 pixels become {spread.shape}", "pad by half a kernel, so that the size stays")
    around = spread[2:5, 2:5]
    expect(
        not np.array_equal(around, kernel[::-1, ::-1]),
        "one bright pixel becomes the kernel turned by 180°",
        "the formula subtracts: the pixel is at r - i and c - j, not at r + i and c + j",
    )
    expect(
        np.array_equal(around, kernel) and np.isclose(spread.sum(), kernel.sum()),
        f"one bright pixel in the middle should become the kernel around it, the middle row is {around[1]}",
        "check the indices into the padded image: pixel (r, c) is at (r + n//2, c + n//2) there",
    )
    flat = np.asarray(answer(np.ones((7, 7)), kernel / kernel.sum()))
    expect(
        np.allclose(flat, 1),
        f"a white picture has {flat[0, 0]:.2f} in its corner after the blur, not 1",
        'the border is dark: mirror it with np.pad(..., mode="reflect")',
    )
    ramp = np.arange(49.0).reshape(7, 7)
    corner, padded = float(np.asarray(answer(ramp, kernel))[0, 0]), np.pad(ramp, 1, mode="reflect")
    expect(
        np.isclose(corner, (padded[:3, :3] * kernel[::-1, ::-1]).sum()),
        "at the border the pixels are not the mirrored ones",
        'mode="reflect" mirrors without repeating the border itself',
    )
