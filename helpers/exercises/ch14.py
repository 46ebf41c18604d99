"""Chapter 14: the picture of a small sensor, how many pictures a method has spoilt, a square put back softly."""

import numpy as np
import torch
import torch.nn.functional as F

from helpers.exercises.build import Chapter, expect

chapter = Chapter()
check = chapter.check


def small_sensor(image, factor, jpeg):
    """A float tensor 3×H×W in [0, 1], as a sensor with ``factor`` times fewer pixels a side and ``jpeg`` store it."""
    small = F.interpolate(image[None], scale_factor=1 / factor, mode="area")
    stored = jpeg(small)
    large = F.interpolate(stored, size=image.shape[1:], mode="bicubic")
    return large[0].clamp(0, 1)


@chapter.examines(small_sensor)
def _small_sensor(answer):
    image, seen = torch.rand((3, 32, 32), generator=torch.Generator().manual_seed(0)), []

    def stores(small):
        seen.append(tuple(small.shape))
        return small

    result = answer(image, 4, stores)
    expect(tuple(result.shape) == (3, 32, 32), f"a picture of 3×32×32 becomes {tuple(result.shape)}", "the same size")
    expect(
        seen == [(1, 3, 8, 8)],
        f"the JPEG was given pictures of {seen}, not one of 1×3×8×8",
        "make the picture smaller first: a camera stores the pixels that its sensor has",
    )
    expect(
        float(result.std()) < 0.2,
        f"noise with a deviation of {float(image.std()):.2f} keeps one of {float(result.std()):.2f}",
        'a small sensor\'s pixel is the mean of the pixels that it covers: mode="area"',
    )
    step = (torch.arange(32) >= 16).float().expand(3, 32, 32)
    low, high = (float(v) for v in answer(step, 4, stores).aminmax())
    expect(
        low >= 0 and high <= 1,
        f"black and white beside each other give values from {low:.2f} to {high:.2f}",
        "bicubic enlarging overshoots at an edge; .clamp(0, 1) cuts that off",
    )


def spoilt(before, after, by):
    """The share, 0 to 1, of pictures that lost more than ``by`` dB: PSNR before and after, N numbers in dB each."""
    return float(np.mean(before - after > by))


@chapter.examines(spoilt)
def _spoilt(answer):
    before, after = np.array([20.0, 25.0, 30.0, 40.0]), np.array([30.0, 26.0, 29.0, 20.0])
    share = float(answer(before, after, 0.0))
    expect(
        share != 2,
        "two of four pictures became worse, and the result is 2",
        "a share is a number from 0 to 1: the mean of true and false, not their sum",
    )
    expect(
        share == 0.5,
        f"PSNR {before.tolist()} becomes {after.tolist()}: two of four are worse, and the result is {share:.2f}",
        "compare picture by picture, not the two means; worse means lower",
    )
    uneven = float(answer(np.full(4, 30.0), np.array([40.0, 40.0, 40.0, 29.0]), 0.0))
    expect(
        uneven == 0.25,
        f"one of four pictures became worse, and the result is {uneven:.2f}",
        "a picture is worse where its PSNR after is lower than before",
    )
    much = float(answer(before, after, 5.0))
    expect(
        much == 0.25,
        f"one of four pictures lost more than 5 dB, and the result for by = 5 is {much:.2f}",
        "a picture counts where before - after is more than by",
    )
    same = float(answer(before, before, 0.0))
    expect(same == 0, f"unchanged pictures count as {same:.2f} spoilt", "more than by, not by or more")


def lay_over(photograph, restored, left, top, weight):
    """A copy of the photograph (uint8 H×W×3) with the square ``restored`` in it; ``weight`` (side×side) is 1 inside."""
    copy, side, share = photograph.copy(), len(restored), weight[..., None]
    below = photograph[top : top + side, left : left + side]
    mixed = share * restored.astype(float) + (1 - share) * below
    copy[top : top + side, left : left + side] = mixed.round()
    return copy


@chapter.examines(lay_over)
def _lay_over(answer):
    photograph, restored = np.full((10, 12, 3), 100, np.uint8), np.full((4, 4, 3), 201, np.uint8)
    weight = np.ones((4, 4))
    weight[0] = 0.5
    kept = photograph.copy()
    result = np.asarray(answer(photograph, restored, 6, 3, weight))
    expect(
        result.shape == photograph.shape and result.dtype == np.uint8,
        f"the result is {result.dtype} {result.shape}",
        "it is the whole photograph, uint8",
    )
    expect(np.array_equal(photograph, kept), "your function has changed the photograph itself", "work on .copy()")
    outside = result.copy()
    outside[3:7, 6:10] = 100
    expect(
        (outside == 100).all(),
        "pixels outside of rows 3 to 6, columns 6 to 9 have changed for left = 6, top = 3",
        "rows come first: [top : top + side, left : left + side]",
    )
    expect(
        (result[4:7, 6:10] == 201).all(),
        f"where the weight is 1 the result is {result[5, 7, 0]}, not 201",
        "weight times restored plus (1 - weight) times the photograph",
    )
    expect(
        result[3, 7, 0] in (150, 151),
        f"half of 201 and half of 100 give {result[3, 7, 0]}, not 150 or 151",
        "weight times restored plus (1 - weight) times the photograph, in floats: uint8 overflows; round at the end",
    )
