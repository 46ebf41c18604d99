"""helpers.metrics: the five measures by hand, and the loop around them."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from helpers import metrics
from helpers.data import ImageError, denormalise, normalise
from helpers.metrics import INFINITE, evaluate, l1, means, measure, mse, psnr, ssim, summary
from helpers.pairs import Pairs


def flat(value: int, size: int = 16) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def test_l1_by_hand():
    """Equation 43, image by image: all pixels off by 0.5, and a quarter of the pixels off by 1."""
    target = torch.zeros(2, 3, 2, 2)
    restored = target.clone()
    restored[0] -= 0.5
    restored[1, :, 0, 0] = 1
    assert l1(restored, target).tolist() == [0.5, 0.25]


def test_mse_by_hand():
    """Equation 44 for the same images: 0.25 each."""
    target = torch.zeros(2, 3, 2, 2)
    restored = target.clone()
    restored[0] -= 0.5
    restored[1, :, 0, 0] = 1
    assert mse(restored, target).tolist() == [0.25, 0.25]


@pytest.mark.parametrize(("error", "expected"), [(255, 0.0), (51, 20 * math.log10(5)), (1, 20 * math.log10(255))])
def test_psnr_by_hand(error, expected):
    """Equation 45 with L = 255: black against grey level e gives 10 log10(255² / e²)."""
    assert psnr(flat(error), flat(0)) == pytest.approx(expected, abs=1e-9)


def test_psnr_is_scikit_images_to_the_bit(faces):
    for first, second in itertools.pairwise(faces[:8]):
        assert psnr(first, second) == peak_signal_noise_ratio(second, first, data_range=255)


def test_psnr_of_bright_and_dark_does_not_wrap_around():
    """Equation 45: 8-bit subtraction would make 250 - 5 wrap; 245² is meant, from either side."""
    assert psnr(flat(5), flat(250)) == psnr(flat(250), flat(5)) == pytest.approx(20 * math.log10(255 / 245))


def test_ssim_by_hand():
    """Equation 46 on flat images: (2 · 50 · 150 + C1) / (50² + 150² + C1), C1 = (0.01 · 255)²; variances are 0."""
    c1 = (0.01 * 255) ** 2
    assert ssim(flat(50), flat(150)) == pytest.approx((2 * 50 * 150 + c1) / (50**2 + 150**2 + c1), abs=1e-9)


def test_ssim_over_7x7_windows_by_hand(faces):
    """Equation 46 written out over every 7×7 window (sample variances), averaged over windows and channels."""
    x, y = faces[0][:20, :20], faces[1][:20, :20]
    c1, c2, values = (0.01 * 255) ** 2, (0.03 * 255) ** 2, []
    for channel in range(3):
        for i in range(14):
            for j in range(14):
                a, b = (im[i : i + 7, j : j + 7, channel].astype(float).ravel() for im in (x, y))
                covariance = np.cov(a, b)
                values.append(
                    (2 * a.mean() * b.mean() + c1) * (2 * covariance[0, 1] + c2)
                    / ((a.mean() ** 2 + b.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2))
                )  # fmt: skip
    assert ssim(x, y) == pytest.approx(np.mean(values), abs=1e-6)


def test_identical_images(faces):
    assert psnr(faces[0], faces[0]) == math.inf and ssim(faces[0], faces[0]) == pytest.approx(1)
    x = normalise(faces[:2])
    assert l1(x, x).tolist() == mse(x, x).tolist() == [0, 0]


def test_measures_agree_with_each_other(faces):
    """Equations 44 and 45 on one pair: MSE on [-1, 1] is (2/255)² of that on 8 bits, so PSNR = 10 log10(4 / MSE)."""
    table = measure(faces[:3], faces[3:6])
    assert np.allclose(table["PSNR"], 10 * np.log10(4 / table["MSE"]), atol=1e-3)


def test_measure_is_image_by_image(faces, random_lpips):
    """All five columns against the single functions; equation 47 under the metric's own name; batches do not matter."""
    restored, target = faces[:5], faces[5:10]
    table = measure(restored, target, random_lpips, batch_size=2)
    assert list(table.columns) == ["PSNR", "SSIM", "L1", "MSE", "LPIPS (random trunk)"] and len(table) == 5
    a, b = normalise(restored), normalise(target)
    assert table["PSNR"].tolist() == [psnr(x, y) for x, y in zip(restored, target, strict=True)]
    assert table["SSIM"].tolist() == [
        structural_similarity(x, y, channel_axis=-1, data_range=255) for x, y in zip(restored, target, strict=True)
    ]
    assert np.allclose(table["L1"], l1(a, b)) and np.allclose(table["MSE"], mse(a, b))
    assert np.allclose(table["LPIPS (random trunk)"], random_lpips(a, b), rtol=1e-4)
    assert list(measure(restored, target).columns) == ["PSNR", "SSIM", "L1", "MSE"]


def test_mean_of_psnr_is_not_psnr_of_the_mean():
    """Section 3.1 averages per-image values: errors 1 and 51 give the mean of 48.13 and 13.98 dB."""
    table = measure(np.stack([flat(1), flat(51)]), np.stack([flat(0), flat(0)]))
    assert table["PSNR"].mean() == pytest.approx((20 * math.log10(255) + 20 * math.log10(5)) / 2)
    assert table["PSNR"].mean() > 10 * math.log10(4 / table["MSE"].mean()) + 5


@pytest.mark.parametrize("function", [psnr, ssim])
def test_shapes_must_agree_for_pictures(function):
    with pytest.raises(ImageError, match=r"\(16, 16, 3\) and \(8, 8, 3\)"):
        function(flat(0), flat(0, 8))


@pytest.mark.parametrize("function", [l1, mse])
def test_shapes_must_agree_for_tensors(function):
    """Without the check, 1×3×2×2 and 2×3×2×2 would be broadcast in silence."""
    with pytest.raises(ImageError, match="cannot compare"):
        function(torch.zeros(1, 3, 2, 2), torch.zeros(2, 3, 2, 2))


@pytest.mark.parametrize("function", [psnr, ssim])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint16, bool])
def test_only_8_bit_images_are_measured(function, kind):
    """Images in [0, 1] with L = 255 would score 60 dB instead of 12."""
    for pair in ((flat(80) / 255, flat(20) / 255), (flat(80), flat(20) / 255), (flat(80) / 255, flat(20))):
        images = [image.astype(kind) if image.dtype != np.uint8 else image for image in pair]
        with pytest.raises(ImageError, match=f"expected 8-bit images, got {np.dtype(kind)}"):
            function(*images)


def test_measure_refuses_images_in_floating_point():
    with pytest.raises(ImageError, match="8-bit"):
        measure(np.stack([flat(80)]) / 255, np.stack([flat(20)]) / 255)


def test_infinities_are_left_out_and_counted(faces):
    """Two of three images equal their targets: the mean of PSNR is the third's, and the two are told."""
    restored = faces[:3].copy()
    restored[2] = 255 - restored[2]
    table = measure(restored, faces[:3])
    found = means(table)
    assert found["PSNR"] == psnr(restored[2], faces[2]) and found[INFINITE] == 2
    assert found["SSIM"] == pytest.approx(table["SSIM"].mean()) and found["L1"] == pytest.approx(table["L1"].mean())
    both = summary({"some": table, "none": table[2:]})
    assert both.loc["some", INFINITE] == 2 and np.isnan(both.loc["none", INFINITE])
    assert INFINITE not in means(table[2:]) and list(means(table[2:]).index) == list(table.columns)


def test_measure_needs_as_many_images():
    with pytest.raises(ImageError, match="cannot compare"):
        measure(np.stack([flat(0)]), np.stack([flat(0), flat(0)]))


class Brighter(nn.Module):
    """Gives the blurred RGB a little brighter, with batch norm's sensitivity to the training mode."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(0.1))
        self.modes = []

    def forward(self, x):
        self.modes.append(self.training)
        return (x[:, :3] + self.shift).clamp(-1, 1)


def test_evaluate_against_a_manual_loop(faces, random_lpips):
    """Batches of 5, 5 and 2; input and restored measured on the same images."""
    pairs, model = Pairs(faces), Brighter()
    tables = evaluate(model, pairs, random_lpips, batch_size=5)
    assert list(tables) == ["input", "restored"] and len(tables["input"]) == len(tables["restored"]) == 12
    for i in (0, 4, 5, 11):
        batch = pairs.batch([i])
        out = denormalise((batch.input[:, :3] + 0.1).clamp(-1, 1))
        for name, image in (("input", batch.blurred), ("restored", out)):
            expected = measure(image, batch.sharp, random_lpips).iloc[0]
            # The blur of a batch may differ from one alone by a rounding to 8 bits here and there.
            assert np.allclose(tables[name].iloc[i], expected, rtol=2e-3, atol=1e-4), (name, i)
    means = summary(tables)
    assert list(means.index) == ["input", "restored"]
    assert means.loc["input", "PSNR"] == pytest.approx(tables["input"]["PSNR"].mean())


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_restores_the_mode(faces, training):
    """A module is measured in evaluation mode and left as it was, without gradients."""
    model = Brighter().train(training)
    evaluate(model, Pairs(faces[:3]))
    assert model.modes == [False] and model.training is training and model.shift.grad is None


def test_evaluate_takes_a_plain_function(faces):
    tables = evaluate(lambda x: x[:, :3], Pairs(faces[:3]))
    assert np.allclose(tables["input"], tables["restored"])


@pytest.mark.parametrize("world", [2, 3, 5])
def test_parts_of_several_processes_are_the_whole(faces, world):
    """Batches of 5, 5 and 2 dealt out: every image once, in one process or another; the fifth may have none."""
    whole = evaluate(Brighter(), Pairs(faces), batch_size=5)["restored"]
    parts = [evaluate(Brighter(), Pairs(faces), batch_size=5, part=(r, world)).get("restored") for r in range(world)]
    assert [p is None for p in parts] == [r > 2 for r in range(world)]
    together = pd.concat(parts).sort_values("PSNR", ignore_index=True)
    assert np.allclose(together, whole.sort_values("PSNR", ignore_index=True))


def test_the_truth_is_perfect(faces):
    """A model that cheats (knows the sharp image) scores inf, 1, 0, 0: nothing is compared with itself by accident."""
    pairs = Pairs(faces[:3])
    tables = evaluate(lambda x: normalise(faces[:3]), pairs)
    row = summary(tables).loc["restored"]
    assert (
        row["PSNR"] == math.inf
        and row[INFINITE] == 3
        and row["SSIM"] == pytest.approx(1)
        and row["L1"] == row["MSE"] == 0
    )
    assert summary(tables).loc["input", "PSNR"] < 40


def test_table_1_of_the_thesis():
    """The ranges of Table 1; for L1 its "0.905" is read as 0.0905. MSE and PSNR agree on [-1, 1]."""
    table = metrics.THESIS_TABLE_1
    assert table["PSNR"] == (23.53, 23.68) and table["SSIM"] == (0.6927, 0.6980)
    assert table["L1"] == (0.0891, 0.0905) and table["MSE"] == (0.0192, 0.0198) and table["LPIPS"] == (0.0788, 0.0808)
    assert 10 * math.log10(4 / table["MSE"][1]) < table["PSNR"][0]
    assert table.keys() == metrics.HIGHER_IS_BETTER.keys()
