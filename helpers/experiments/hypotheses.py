"""What the course's experiment asks, written down before it is run, and the regime in which it asks.

``python -m helpers.experiments.ablations --preset course --out runs/course`` copies :data:`HYPOTHESES` and
:data:`REGIME` with the date into its folder before the first run (:func:`claim`). A later call with other ones is
refused: a hypothesis that was changed after the first result is no hypothesis. The verdicts are those of
:func:`helpers.experiments.results.effects`.

**The regime.** The first exploration trained the thesis's model on faces of 64 pixels whose blur was scaled with the
face, to 2 to 4 pixels. That input has 22.0 dB, and 300 steps reach 17.0 dB, 900 steps 18.9 dB: the network was worse
than what it was given, so nothing that it said was about restoring. What was considered:

* *A network with skips* is above its input from the first step. But it is another model, and the questions are about
  the thesis's, in which everything passes the code.
* *A warm start*: one network trained to the point, from which each arm goes on. It is cheap, but it answers another
  question. A network that has learnt to read edges, or to aim at codes, is disturbed by losing them; an arm without
  them would have to unlearn first. Staged training cannot start from a joint one at all. And runs from one start vary
  less than recipes do.
* *A stronger blur relative to the face*, from scratch: chosen. The blur has 4 to 8 pixels again, as the thesis's has at
  128, so Canny's thresholds see gradients of the thesis's strength. The input loses 3 dB, while a linear map through
  128 numbers loses 1.5 dB only (22.1 to 18.9 and 22.8 to 21.3 on 100 test faces): there is something to restore, and a
  code can carry it. All arms start from the same random weights and see the same pictures in the same order, seed by
  seed.

Width and code are a quarter of the thesis's (16 and 128 for 64 and 512), so the code is again as long as the encoder's
pooled features. The learning rate rises to 2e-3 and falls as a cosine. A trial with 1,600 steps, one seed, reached
18.91 dB on the 100 validation faces, whose blurred pictures have 18.37 dB; with twice the width it was behind at equal
time. No other rate, and no arm but the baseline, was tried before the hypotheses were
written down.

**How small an effect it sees**: in the exploration the PSNR of runs spread by 0.09 dB (standard deviation) beyond what
their seed explains. Eight pairs of such runs give an interval of about ±0.11 dB, before Holm's correction.

**What it can show**: how an ingredient acts in a small network that ends above its input, at equal steps.
**What it cannot**: how it acts at full size after a training to the end. A sign may still turn there.
"""

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from helpers.data import ImageError
from helpers.engine.folders import write_json
from helpers.engine.runs import TrainingError
from helpers.experiments.variants import ALL

FILE = "hypotheses.json"


@dataclass(frozen=True)
class Hypothesis:
    """One question with one measure and one predicted direction."""

    name: str
    sentence: str
    one: str  # an arm, a key of variants.ALL
    other: str
    measure: str  # a column of a run's "test", or "SWD"
    expected: str  # "higher" or "lower": the measure of ``one`` against that of ``other``


HYPOTHESES = (
    Hypothesis(
        "edges",
        "With the edge map of the blurred picture the PSNR is higher than with an empty fourth channel.",
        "thesis", "edges-none", "PSNR", "higher",
    ),
    Hypothesis(
        "leaked edges",
        "With the edge map of the sharp picture the PSNR is higher than with that of the blurred one.",
        "edges-oracle", "thesis", "PSNR", "higher",
    ),
    Hypothesis(
        "lpips is texture",
        "With the LPIPS term patches are distributed more like those of sharp faces: the SWD is lower than without it.",
        "thesis", "without-lpips", "SWD", "lower",
    ),
    Hypothesis(
        "tv",
        "The total variation term earns its place: with it the PSNR is higher than without it.",
        "thesis", "without-tv", "PSNR", "higher",
    ),
    Hypothesis(
        "latent loss",
        "With the latent loss between the two codes the PSNR is higher than without it.",
        "thesis", "without-latent", "PSNR", "higher",
    ),
    Hypothesis(
        "joint",
        "Training the three networks jointly gives a higher PSNR than training in two stages of half the steps each.",
        "thesis", "latent-staged", "PSNR", "higher",
    ),
    Hypothesis(
        "adversarial",
        "An adversarial term of weight 0.01 pays: the SWD is lower than without it.",
        "adversarial-0.01", "thesis", "SWD", "lower",
    ),
)  # fmt: skip

REGIME = {
    "pictures": "faces of 64 pixels with a Gaussian blur of 4 to 8 pixels, as the thesis's blur at 128 pixels",
    "network": "the thesis's, a quarter as wide: 16 for 64 feature maps, a code of 128 for 512 numbers",
    "start": "random; the same for all arms of one seed, which also see the same pictures in the same order",
    "why this blur": "it puts the input below what the code can carry, so that a short training ends above its input",
    "trial": "one seed, 1,600 steps: 18.91 dB on the 100 validation faces, whose blurred pictures have 18.37 dB",
    "why no skips": "the questions are about the thesis's model, in which everything passes the code",
    "why no warm start": "arms that take something away would have to unlearn it, and one start hides its own luck",
    "pairing": "by seed and by face; thesis-own has other seeds than the arms, for an interval without pairing by seed",
    "correction": "Holm's over all hypotheses at 0.05, two-sided tests; everything else is exploration",
}


def claim(out: str | Path) -> None:
    """Write hypotheses and regime with today's date into the folder ``out``, or check that the ones there are the same.

    Raises
    ------
    TrainingError
        if the folder holds others, or runs that were made without any
    """
    path = Path(out) / FILE
    now = {"hypotheses": [asdict(h) for h in HYPOTHESES], "regime": REGIME}
    if path.exists():
        then = json.loads(path.read_text(encoding="utf-8"))
        if {k: then.get(k) for k in now} != now:
            raise TrainingError(
                f"{path} of {then.get('date')} holds other hypotheses; they are written before the first run and stay: "
                "choose another folder"
            )
        return
    if any(next(Path(out).glob(f"{name}-[0-9]*.json"), None) for name in ALL):
        raise TrainingError(f"{out} holds runs from before any hypothesis was written down; choose another folder")
    write_json(path, {"date": date.today().isoformat(), **now})


def claimed(out: str | Path) -> dict:
    """What :func:`claim` wrote: "date", "hypotheses", "regime"; {} in a folder of an exploration.

    Raises
    ------
    ImageError
        if the file cannot be read
    """
    path = Path(out) / FILE
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ImageError(f"{path} cannot be read ({error})") from None
