"""What is compared: the variants of the thesis's model and the presets of the experiment (chapter 13).

Every variant differs from its baseline in one thing. The baseline is ``thesis``, or ``skip`` for those whose name
begins with it. :mod:`helpers.experiments.ablations` trains them, :mod:`helpers.experiments.results` reads the results.

:data:`VARIANTS` are the 32 of the exploration: many questions, three seeds, no correction. What they suggested is asked
again by :mod:`helpers.experiments.hypotheses`, in another regime and with more seeds; :data:`ARMS` are the variants
that it needs besides.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from helpers.degrade import Compose, DefocusBlur, Degradation, GaussianBlur, GaussianNoise, MotionBlur
from helpers.edges import THRESHOLDS
from helpers.engine.folders import write_json
from helpers.engine.runs import TrainingError
from helpers.engine.updates import cosine_rate
from helpers.losses import Weights
from helpers.seeds import SEED


@dataclass(frozen=True)
class Variant:
    """The thesis's model with one thing changed."""

    group: str
    title: str  # what a figure calls it
    edges: str = "blurred"  # "none": an empty channel; "oracle": from the sharp image; "shuffled": another face's
    thresholds: tuple[float, float] = THRESHOLDS
    weights: Weights = field(default_factory=Weights)
    # "stop": no gradient through z_gt; "anchored": z_gt is decoded too; "held": the same, but the Generator learns
    # nothing of it; "staged": see train
    latent: str = "joint"
    latent_dim: int = 512
    adversarial: float = 0.0
    data: str = "faces"  # or "photographs", "both"
    network: str = "thesis"  # or "skip": the better model, small, where a map need not pass through the code
    pooled: bool = True  # False: the code is made of all places of the encoder's last maps, not of their mean
    own_seeds: bool = False  # True: other seeds than the rest of the experiment


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

# For the course's hypotheses. Two variants above changed several things at once; here each thing is alone.
ARMS: dict[str, Variant] = {
    "thesis-own": Variant("baseline", "as the thesis, other seeds", own_seeds=True),
    "latent-held": Variant("latent", "z_gt decoded by a Generator that does not learn of it", latent="held"),
    "weights-l1": Variant("weights", "L1 1 instead of 0.5", weights=_weights(l1=1.0)),
    "weights-lpips": Variant("weights", "LPIPS 0.15 instead of 0.3", weights=_weights(lpips=0.15)),
}
ALL = VARIANTS | ARMS
OWN_SEEDS = 1000  # how far the seeds of an arm with seeds of its own are from the others'


def seed_of(name: str, number: int) -> int:
    """The seed of the ``number``-th run (from 0) of a variant: the same for all, but where it has seeds of its own."""
    return SEED + number + OWN_SEEDS * ALL[name].own_seeds


@dataclass(frozen=True)
class Preset:
    """How large the experiment is. The blur is 4 to 8 pixels at 128×128 and shrinks with the picture."""

    image_size: int
    width: int  # feature maps after the first layer; the thesis has 64
    steps: int
    batch_size: int
    seeds: int
    faces: tuple[int, int, int]  # at most so many to train, validate and test on
    rate: float = 1e-3
    variants: tuple[str, ...] = tuple(VARIANTS)
    strength: float = 1.0  # of the blur; 2 at 64 pixels is a blur of 4 to 8 pixels again
    code: int = 512  # numbers that stand for the thesis's 512; other code sizes shrink with it
    schedule: str = "halved"  # after each quarter of the steps, as equation 42 does in 60 epochs; or "cosine"
    confirms: bool = False  # whether the hypotheses are written down first and judged at the end

    def identity(self) -> dict:
        """What runs that are compared must share; more seeds and variants may be asked for later."""
        return {k: v for k, v in json.loads(json.dumps(asdict(self))).items() if k not in ("seeds", "variants")}

    def rate_at(self, step: int) -> float:
        """The learning rate of ``step`` (from 0)."""
        if self.schedule == "cosine":
            return cosine_rate(step, self.steps, self.rate, warmup=self.steps // 20)
        return self.rate * 0.5 ** (4 * step // self.steps)

    def code_of(self, variant: Variant) -> int:
        """How many numbers the code of a variant has in this experiment."""
        return variant.latent_dim * self.code // 512


def claim_preset(out: Path, preset: Preset) -> None:
    """Write the preset into the folder ``out``; runs of two sizes in one folder would be compared with each other.

    Raises
    ------
    TrainingError
        if the folder holds runs of another preset
    """
    path = out / "preset.json"
    if path.exists():
        then = json.loads(path.read_text(encoding="utf-8"))
        changed = [f"{k}: {then.get(k)} -> {v}" for k, v in preset.identity().items() if then.get(k) != v]
        if changed:
            raise TrainingError(f"{out} holds runs of another preset ({'; '.join(changed)}); choose another folder")
    write_json(path, asdict(preset))


# What is asked again after three times as many steps: claims about learning early need not hold later.
LONGER = ("thesis", "edges-none", "edges-shuffled", "edges-oracle", "skip", "skip-edges-none", "skip-edges-oracle")
# One arm for each hypothesis, the baseline, and the baseline again with other seeds.
COURSE = ("thesis", "edges-none", "edges-oracle", "without-lpips", "without-tv", "without-latent", "latent-staged")
COURSE += ("adversarial-0.01", "thesis-own")
DESCRIBED_TOO = ("latent-stop", "latent-anchored")  # chapter 08 describes them; no hypothesis names them
PRESETS = {
    "tiny": Preset(64, 8, 6, 4, 2, (24, 8, 8), variants=("thesis", "edges-none", "only-l1", "latent-staged")),
    "laptop": Preset(64, 16, 300, 16, 3, (6600, 100, 200)),
    "longer": Preset(64, 16, 900, 16, 3, (6600, 100, 200), variants=LONGER),
    # The reasons for these numbers: helpers.experiments.hypotheses. Six to seven minutes a run on one busy core.
    "course": Preset(
        64,
        16,
        1600,
        16,
        8,
        (6600, 100, 200),
        rate=2e-3,
        variants=COURSE + DESCRIBED_TOO,
        strength=2,
        code=128,
        schedule="cosine",
        confirms=True,
    ),  # fmt: skip
    "full": Preset(128, 64, 24_000, 32, 3, (20_000, 400, 400), rate=2e-4),
}


def blur(size: int, factor: float = 1.0) -> GaussianBlur:
    """The preset ``celebablur`` for pictures of ``size`` pixels, ``factor`` times as strong."""
    scale = size / 128
    return GaussianBlur((4 * scale * factor, 8 * scale * factor), 2 * round(10 * scale * max(factor, 1)) + 1)


def other_degradations(size: int, strength: float = 1.0) -> dict[str, Degradation]:
    """What the model was not trained for; its own blur has ``strength``."""
    scale = size / 128
    return {
        "blur half as strong": blur(size, 0.5 * strength),
        "blur 1.5 times as strong": blur(size, 1.5 * strength),
        "motion, 10 to 25 px of 128": MotionBlur((10 * scale, 25 * scale)),
        "defocus, 5 to 10 px of 128": DefocusBlur((5 * scale, 10 * scale)),
        "the same blur, noise 0.02": Compose(blur(size, strength), GaussianNoise(0.02)),
    }
