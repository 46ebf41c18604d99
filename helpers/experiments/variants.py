"""What is compared: the variants of the thesis's model and the presets of the experiment (chapter 13).

Every variant differs from its baseline in one thing. The baseline is ``thesis``, or ``skip`` for those whose name
begins with it. :mod:`helpers.experiments.ablations` trains them, :mod:`helpers.experiments.results` reads the results.
"""

import json
from dataclasses import asdict, dataclass, field

from helpers.degrade import Compose, DefocusBlur, Degradation, GaussianBlur, GaussianNoise, MotionBlur
from helpers.edges import THRESHOLDS
from helpers.losses import Weights


@dataclass(frozen=True)
class Variant:
    """The thesis's model with one thing changed."""

    group: str
    title: str  # what a figure calls it
    edges: str = "blurred"  # "none": an empty channel; "oracle": from the sharp image; "shuffled": another face's
    thresholds: tuple[float, float] = THRESHOLDS
    weights: Weights = field(default_factory=Weights)
    latent: str = "joint"  # "stop": no gradient through z_gt; "anchored": z_gt is decoded too; "staged": see train
    latent_dim: int = 512
    adversarial: float = 0.0
    data: str = "faces"  # or "photographs", "both"
    network: str = "thesis"  # or "skip": the better model, small, where a map need not pass through the code


def _weights(**changed: float) -> Weights:
    return Weights(**(asdict(Weights()) | changed))


def _alone(name: str) -> Weights:
    return Weights(**{k: v if k == name else 0.0 for k, v in asdict(Weights()).items()})


VARIANTS: dict[str, Variant] = {
    "thesis": Variant("baseline", "as the thesis"),
    "edges-none": Variant("edges", "no edges", edges="none"),
    "edges-oracle": Variant("edges", "edges of the sharp image (leakage)", edges="oracle"),
    "edges-shuffled": Variant("edges", "another face's edges", edges="shuffled"),
    "edges-many": Variant("edges", "thresholds 2, 6", thresholds=(2, 6)),
    "edges-few": Variant("edges", "thresholds 30, 90", thresholds=(30, 90)),
    **{
        f"without-{name}": Variant("losses left out", f"without {name}", weights=_weights(**{name: 0.0}))
        for name in asdict(Weights())
    },
    **{f"only-{name}": Variant("losses alone", f"{name} alone", weights=_alone(name)) for name in asdict(Weights())},
    # Candidates for better weights; the validation faces choose one of them (chosen_weights).
    "weights-sharp": Variant("weights", "LPIPS 0.6, no TV", weights=_weights(lpips=0.6, tv=0.0)),
    "weights-pixel": Variant("weights", "L1 1, LPIPS 0.15, no TV", weights=_weights(l1=1.0, lpips=0.15, tv=0.0)),
    "weights-ssim": Variant("weights", "SSIM 0.5, no TV", weights=_weights(ssim=0.5, tv=0.0)),
    "latent-stop": Variant("latent", "no gradient through z_gt", latent="stop"),
    "latent-anchored": Variant("latent", "z_gt decoded too", latent="anchored"),
    "latent-staged": Variant("latent", "staged training", latent="staged"),
    **{f"code-{n}": Variant("code size", f"{n} numbers", latent_dim=n) for n in (64, 256, 1024)},
    **{
        f"adversarial-{w:g}": Variant("adversarial", f"discriminator, weight {w:g}", adversarial=w)
        for w in (0.01, 0.05)
    },
    "data-photographs": Variant("data", "trained on photographs", data="photographs"),
    "data-both": Variant("data", "trained on both", data="both"),
    # A second baseline, "skip", and its edges: through skips a map can reach the picture.
    "skip": Variant("edges, with skips", "skip model", network="skip"),
    **{
        f"skip-edges-{kind}": Variant("edges, with skips", f"skip model, {title}", edges=kind, network="skip")
        for kind, title in {"none": "no edges", "oracle": "edges of the sharp image"}.items()
    },
}


@dataclass(frozen=True)
class Preset:
    """How large the experiment is. The blur is 4 to 8 pixels at 128×128 and shrinks with the picture."""

    image_size: int
    width: int  # feature maps after the first layer; the thesis has 64
    steps: int
    batch_size: int
    seeds: int
    faces: tuple[int, int, int]  # at most so many to train, validate and test on
    rate: float = 1e-3  # halved after each quarter of the steps, as equation 42 does in 60 epochs
    variants: tuple[str, ...] = tuple(VARIANTS)

    def identity(self) -> dict:
        """What runs that are compared must share; more seeds and variants may be asked for later."""
        return {k: v for k, v in json.loads(json.dumps(asdict(self))).items() if k not in ("seeds", "variants")}


# What is asked again after three times as many steps: claims about learning early need not hold later.
LONGER = ("thesis", "edges-none", "edges-shuffled", "edges-oracle", "skip", "skip-edges-none", "skip-edges-oracle")
PRESETS = {
    "tiny": Preset(64, 8, 6, 4, 2, (24, 8, 8), variants=("thesis", "edges-none", "only-l1", "latent-staged")),
    "laptop": Preset(64, 16, 300, 16, 3, (6600, 100, 200)),
    "longer": Preset(64, 16, 900, 16, 3, (6600, 100, 200), variants=LONGER),
    "full": Preset(128, 64, 24_000, 32, 3, (20_000, 400, 400), rate=2e-4),
}


def blur(size: int, factor: float = 1.0) -> GaussianBlur:
    """The preset ``celebablur`` for pictures of ``size`` pixels, ``factor`` times as strong."""
    scale = size / 128
    return GaussianBlur((4 * scale * factor, 8 * scale * factor), 2 * round(10 * scale * max(factor, 1)) + 1)


def other_degradations(size: int) -> dict[str, Degradation]:
    """What the model was not trained for."""
    scale = size / 128
    return {
        "blur half as strong": blur(size, 0.5),
        "blur 1.5 times as strong": blur(size, 1.5),
        "motion, 10 to 25 px of 128": MotionBlur((10 * scale, 25 * scale)),
        "defocus, 5 to 10 px of 128": DefocusBlur((5 * scale, 10 * scale)),
        "the same blur, noise 0.02": Compose(blur(size), GaussianNoise(0.02)),
    }
