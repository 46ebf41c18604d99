"""helpers.experiments.variants: each changes one thing; presets; the blur and what the model was not trained for."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from helpers.degrade import preset as degradation_of
from helpers.experiments.variants import PRESETS, VARIANTS, blur, other_degradations
from helpers.losses import Weights
from tests.conftest import make_faces


def test_each_variant_changes_one_thing():
    """All but the baseline differ from the thesis in one field, beside what they are called."""
    for name, variant in VARIANTS.items():
        base = "skip" if name.startswith("skip-") else "thesis"
        changed = {k for k, v in asdict(variant).items() if v != asdict(VARIANTS[base])[k]} - {"group", "title"}
        assert len(changed) == (name != "thesis"), name
    assert len({v.title for v in VARIANTS.values()}) == len(VARIANTS) == 32
    thesis = VARIANTS["thesis"]
    assert thesis.weights == Weights() and thesis.edges == "blurred" and thesis.latent_dim == 512


@pytest.mark.parametrize("term", list(asdict(Weights())))
def test_terms_left_out_and_alone(term):
    """The weights that remain are the thesis's own."""
    own = asdict(Weights())
    assert asdict(VARIANTS[f"without-{term}"].weights) == {**own, term: 0}
    assert asdict(VARIANTS[f"only-{term}"].weights) == {**dict.fromkeys(own, 0), term: own[term]}


def test_presets():
    assert set(PRESETS["tiny"].variants) < set(VARIANTS) and "thesis" in PRESETS["tiny"].variants
    for name in ("laptop", "full"):
        assert PRESETS[name].variants == tuple(VARIANTS) and PRESETS[name].seeds >= 3
    short, longer = asdict(PRESETS["laptop"]), asdict(PRESETS["longer"])
    assert {k for k in short if short[k] != longer[k]} == {"steps", "variants"}
    assert longer["steps"] == 3 * short["steps"]
    assert set(PRESETS["longer"].variants) < set(VARIANTS)
    assert (PRESETS["full"].image_size, PRESETS["full"].width, PRESETS["full"].rate) == (128, 64, 2e-4)  # the thesis


def test_what_compared_runs_share():
    """More seeds or variants may follow; everything else, in the form that JSON gives back, must stay."""
    tiny = PRESETS["tiny"]
    assert replace(tiny, seeds=9, variants=("thesis",)).identity() == tiny.identity()
    assert tiny.identity()["faces"] == [24, 8, 8]
    for field in set(asdict(tiny)) - {"seeds", "variants"}:
        assert replace(tiny, **{field: 7}).identity() != tiny.identity(), field


def test_blur_scales_with_the_picture():
    own = degradation_of("celebablur")
    assert (blur(128).sigma, blur(128).kernel_size) == (own.sigma, own.kernel_size)
    assert (blur(64).sigma, blur(64).kernel_size) == ((2, 4), 11)
    assert (blur(128, 1.5).sigma, blur(128, 1.5).kernel_size) == ((6, 12), 31)
    assert (blur(128, 0.5).sigma, blur(128, 0.5).kernel_size) == ((2, 4), 21)


@pytest.mark.parametrize("size", [64, 128])
def test_other_degradations(size):
    """All work at both sizes and none is the training's; half the blur leaves more, 1.5 times leaves less."""
    images = torch.from_numpy(make_faces(3, size)).movedim(-1, 1).float() / 255
    usual = (blur(size)(images, rng=np.random.default_rng(0)) - images).square().mean()
    errors = {
        kind: (other(images, rng=np.random.default_rng(0)) - images).square().mean() / usual
        for kind, other in other_degradations(size).items()
    }
    assert errors["blur half as strong"] < 0.95 and errors["blur 1.5 times as strong"] > 1.05
    assert len(errors) == 5 and all(0 < e < 3 and abs(e - 1) > 1e-3 for e in errors.values())
