"""helpers.skin: the angle sorts faces as the renderer made them, groups are thirds, gains are the measures'."""

import json

import numpy as np
import pytest

from helpers import skin
from helpers.data import load_faces, load_parameters
from helpers.degrade import GaussianBlur
from helpers.engine.errors import ImageError
from helpers.metrics import measure
from helpers.pairs import Pairs
from helpers.perceptual import load_lpips


class Same:
    """A method that changes nothing, or turns the picture grey."""

    def __init__(self, grey=False):
        self.grey = grey

    def restore(self, images, params=None):
        return np.full_like(images, 127) if self.grey else images


def test_the_angle_follows_the_renderers_melanin():
    faces, melanin = load_faces("val", 60), load_parameters("val")["melanin"].to_numpy()[:60]
    ranks = [np.argsort(np.argsort(values)) for values in (skin.typology_angle(faces), -melanin)]
    assert np.corrcoef(*ranks)[0, 1] > 0.6


@pytest.mark.parametrize(("colour", "angle"), [((255, 224, 196), 60), ((141, 85, 52), -20), ((60, 36, 22), -60)])
def test_the_angle_of_one_colour(colour, angle):
    faces = np.zeros((2, 64, 64, 3), np.uint8) + np.uint8(colour)
    assert skin.typology_angle(faces) == pytest.approx([angle, angle], abs=15)


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8), np.uint8)]
)
def test_other_arrays_are_refused(wrong):
    with pytest.raises(ImageError, match="8-bit pictures"):
        skin.typology_angle(wrong)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 99])
def test_thirds_are_thirds(count):
    lightness = np.random.default_rng(count).permutation(count)
    group = skin.thirds(lightness)
    sizes = np.bincount(group, minlength=3)
    assert sizes.max() - sizes.min() <= 1
    assert all(lightness[group == a].max() < lightness[group == b].min() for a, b in ((0, 1), (1, 2)) if sizes[b])


def test_equal_tones_make_groups_too():
    assert np.bincount(skin.thirds(np.zeros(9))).tolist() == [3, 3, 3]


def test_a_difference_and_its_interval():
    rng = np.random.default_rng(0)
    mean, low, high = skin.difference(rng.normal(1, 1, 400), rng.normal(0, 1, 400))
    assert low < 1 < high and low < mean < high and high - low < 0.5
    with pytest.raises(ImageError, match="both groups"):
        skin.difference(np.ones(3), np.ones(0))


def test_gains_by_group():
    faces, lpips = load_faces("val", 9), load_lpips()
    group, cases = skin.thirds(np.arange(9)), {"soft": GaussianBlur(2.0)}
    same = skin.by_tone(Same(), faces, group, lpips, cases, progress=False)["soft"]
    assert all(value == [0, 0, 0] for row in same.values() for value in row.values())
    worse = skin.by_tone(Same(grey=True), faces, group, lpips, cases, progress=False)["soft"]
    batch = Pairs(faces, cases["soft"]).batch(range(9))
    tables = [measure(images, batch.sharp, lpips) for images in (np.full_like(batch.blurred, 127), batch.blurred)]
    gain = (tables[0] - tables[1])["PSNR"].to_numpy()
    for number, name in enumerate(skin.GROUPS):
        mean, low, high = worse["PSNR"][name]
        assert mean == pytest.approx(gain[group == number].mean()) and low <= mean <= high < 0
    assert worse["PSNR"]["darker - lighter"][0] == pytest.approx(gain[:3].mean() - gain[6:].mean())


def test_the_command_writes_what_it_prints(tmp_path, capsys):
    out = tmp_path / "skin.json"
    skin.main(["--data", "faces", "--limit", "6", "--cases", "sharp", "--split", "val", "--out", str(out)])
    kept = json.loads(out.read_text(encoding="utf-8"))["sets"]
    row = next(iter(kept.values()))
    assert row["faces"] == [2, 2, 2] and row["by"] == "the renderer's melanin"
    mean = row["methods"]["blind"]["sharp"]["PSNR"]["darker - lighter"][0]
    assert f"faces, blind, sharp: gain darker - lighter {mean:+.2f} dB" in capsys.readouterr().out
    assert skin.recorded(out)["sets"] == kept
