"""helpers.wiener: the filter against division by hand, its border, and the constant that validation faces choose."""

import numpy as np
import pytest

from helpers import wiener
from helpers.data import load_faces
from helpers.degrade import GaussianBlur, MotionBlur, preset
from helpers.metrics import measure
from helpers.pairs import Pairs
from helpers.wiener import LEVELS, NOISE, by_level, deconvolve, kind_of, main, spectrum


@pytest.fixture(scope="module")
def validation():
    return load_faces("val", 12)


def test_the_spectrum_is_that_of_the_blur():
    """1 at frequency 0, real for a symmetric kernel, and the sum over the kernel's points at any other frequency."""
    found = spectrum({"sigma": 3.0}, 62, 46)
    assert found.shape == (62, 24) and found[0, 0] == pytest.approx(1, abs=1e-6)
    assert np.abs(found.imag).max() < 1e-6
    offsets = np.arange(-10, 11)
    line = np.exp(-(offsets**2) / 18) / np.exp(-(offsets**2) / 18).sum()
    by_hand = [(line * np.cos(2 * np.pi * k * offsets / n)).sum() for k, n in ((2, 62), (3, 46))]
    assert found[2, 3] == pytest.approx(by_hand[0] * by_hand[1], abs=1e-6)


def test_a_weak_blur_is_undone_up_to_the_border(validation):
    """The mirrored border is what the blur did, so the outermost pixels come back as well as the others."""
    blurred = Pairs(validation, GaussianBlur(1.5)).batch(range(len(validation))).blurred
    restored = deconvolve(blurred, [{"sigma": 1.5}] * len(validation))
    before, after = (np.square(x - validation.astype(float)).mean((0, 3)) for x in (blurred, restored))
    rim = np.ones(before.shape, bool)
    rim[3:-3, 3:-3] = False
    for place in (rim, ~rim):  # over a border that rings, the rim would be worse than before
        assert after[place].mean() < 0.6 * before[place].mean()


def test_a_picture_that_is_not_square_and_a_motion(validation):
    faces = validation[:4, 10:-10]
    batch = Pairs(faces, MotionBlur(9.0, 30.0)).batch(range(4))
    restored = deconvolve(batch.blurred, batch.params)
    assert restored.shape == faces.shape and restored.dtype == np.uint8
    before, after = (measure(x, faces).MSE for x in (batch.blurred, restored))
    assert (after < before).all()


def test_a_large_k_keeps_the_mean_colour():
    grey = np.full((1, 64, 64, 3), (200, 100, 50), np.uint8)
    assert np.array_equal(deconvolve(grey, [{"sigma": 4.0}], 0.5), grey)


@pytest.mark.parametrize(
    ("degradation", "kind"),
    [("celebablur", "symmetric"), ("defocus", "symmetric"), ("motion", "motion"), ("phone", "noisy")],
)
def test_the_kind_of_a_degradation(degradation, kind):
    assert kind_of(preset(degradation).sample(np.random.default_rng(0))) == kind
    assert NOISE["symmetric"] < NOISE["motion"] < NOISE["noisy"]


def test_noise_and_jpeg_are_no_part_of_the_kernel():
    blur = {"length": 5.0, "angle": 20.0}
    alone, with_more = spectrum(blur, 62, 62), spectrum(blur | {"noise": 0.02, "quality": 60}, 62, 62)
    assert np.array_equal(alone, with_more)


def test_gains_four_decibels_on_validation_faces(validation):
    """Padding by 32 pixels and a constant chosen too large once left 2 dB: a baseline weaker than it need be."""
    batch = Pairs(validation, preset("celebablur")).batch(range(len(validation)))
    restored = deconvolve(batch.blurred, batch.params)
    before, after = (measure(x, batch.sharp).PSNR.mean() for x in (batch.blurred, restored))
    assert after > before + 4


def test_the_constant_is_what_validation_faces_choose(validation, monkeypatch):
    """The command's rule on fewer faces: better than its two neighbours (on both sides the PSNR only falls)."""
    place = LEVELS.index(NOISE["symmetric"])
    monkeypatch.setattr(wiener, "LEVELS", LEVELS[place - 1 : place + 2])
    means = by_level(validation[:6])
    assert tuple(means) == LEVELS[place - 1 : place + 2] and max(means, key=means.get) == NOISE["symmetric"]


def test_in_a_shell(monkeypatch, capsys):
    asked = []

    def two_levels(sharp, degradation):
        asked.append((len(sharp), degradation))
        return {1e-4: 20.0, 1e-3: 21.0}

    monkeypatch.setattr(wiener, "by_level", two_levels)
    main(["--limit", "3", "--degradation", "motion"])
    assert asked == [(3, "motion")] and "K = 1.0e-04: 20.00 dB\n" in capsys.readouterr().out
    main(["--limit", "4"])
    assert asked[1] == (4, "celebablur")
    assert capsys.readouterr().out.endswith("best: K = 1.0e-03\n")
    with pytest.raises(SystemExit, match="error: "):
        main(["--data", "no/such/folder"])
