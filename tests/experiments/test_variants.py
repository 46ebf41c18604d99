"""helpers.experiments.variants: each changes one thing; presets; the blur and what the model was not trained for."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from helpers.degrade import preset as degradation_of
from helpers.engine.updates import cosine_rate
from helpers.experiments.variants import (
    ALL,
    ARMS,
    COURSE,
    DESCRIBED_TOO,
    PRESETS,
    VARIANTS,
    blur,
    other_degradations,
    seed_of,
)
from helpers.losses import Weights
from helpers.seeds import SEED
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


def test_each_arm_of_the_course_changes_one_number():
    """Stricter than the exploration's variants: of the five λ, too, one at most."""
    own = asdict(VARIANTS["thesis"])
    for name in [*ARMS, *COURSE]:
        given = asdict(ALL[name])
        changed = [k for k in own if given[k] != own[k] and k not in ("group", "title", "weights")]
        changed += [k for k in own["weights"] if given["weights"][k] != own["weights"][k]]
        assert len(changed) == (name != "thesis"), name
    assert set(COURSE) <= set(ALL) and len(ALL) == len(VARIANTS) + len(ARMS)


def test_seeds():
    """All arms share them, but the baseline that has its own."""
    assert [seed_of(name, 3) for name in ("thesis", "edges-none")] == [SEED + 3] * 2
    own = {seed_of("thesis-own", i) for i in range(100)}
    assert len(own) == 100 and not own & {seed_of("thesis", i) for i in range(100)}


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
    course = PRESETS["course"]
    assert course.confirms and course.variants == COURSE + DESCRIBED_TOO and course.seeds == 8
    assert not any(p.confirms for name, p in PRESETS.items() if name != "course")
    assert (PRESETS["full"].image_size, PRESETS["full"].width, PRESETS["full"].rate) == (128, 64, 2e-4)  # the thesis


def test_what_compared_runs_share():
    """More seeds or variants may follow; everything else, in the form that JSON gives back, must stay."""
    tiny = PRESETS["tiny"]
    assert replace(tiny, seeds=9, variants=("thesis",)).identity() == tiny.identity()
    assert tiny.identity()["faces"] == [24, 8, 8]
    for field in set(asdict(tiny)) - {"seeds", "variants"}:
        assert replace(tiny, **{field: 7}).identity() != tiny.identity(), field


def test_the_courses_code_and_blur():
    """A code of as many numbers as the encoder pools, other sizes in proportion, and the thesis's blur in pixels."""
    course = PRESETS["course"]
    assert course.code_of(ALL["thesis"]) == 8 * course.width == 128 and course.code_of(ALL["code-64"]) == 16
    assert blur(course.image_size, course.strength).sigma == blur(128).sigma == (4, 8)
    assert PRESETS["laptop"].code_of(ALL["thesis"]) == 512


def test_rates():
    """Halved after each quarter, or a rise over a twentieth of the steps and then half a cosine."""
    steps = replace(PRESETS["laptop"], steps=100, rate=8.0)
    assert [steps.rate_at(i) for i in (0, 24, 25, 50, 99)] == [8, 8, 4, 2, 1]
    smooth = replace(steps, schedule="cosine")
    assert [smooth.rate_at(i) for i in range(100)] == [cosine_rate(i, 100, 8.0, warmup=5) for i in range(100)]


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
    weaker = other_degradations(size, 0.5)["blur half as strong"]
    assert weaker.sigma == blur(size, 0.25).sigma
    assert len(errors) == 5 and all(0 < e < 3 and abs(e - 1) > 1e-3 for e in errors.values())
