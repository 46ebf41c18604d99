"""What a linear method does with as few numbers as a network's code: the rows that a network must beat.

Two questions, both answered without any training by gradients:

* How much of a sharp face can ``count`` numbers hold? Principal components: :meth:`Components.rebuild`.
* How near to the truth does a *linear* map from the blurred picture through ``count`` numbers come?
  :class:`LinearRestorer`. The thesis's encoder gives 512 numbers too (section 2.3.1), and may be any function.

In a shell, both on the test set, as JSON::

    python -m helpers.linear --out data/results/linear.json
"""

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from helpers.data import ImageError, denormalise, load_split, normalise
from helpers.degrade import Degradation
from helpers.engine.commands import bare_parser, positive_int
from helpers.engine.folders import data_folder, write_json
from helpers.engine.runs import hardware
from helpers.metrics import measure
from helpers.pairs import Pairs
from helpers.perceptual import Lpips, load_lpips
from helpers.seeds import SEED

COUNTS = (32, 128, 512, 2048)
RESULTS = "linear.json"


def shipped_results() -> dict:
    """The rows that came with the course, see :func:`table`, with "hardware", "seed" and "date"."""
    return json.loads((data_folder() / "results" / RESULTS).read_text(encoding="utf-8"))


class Components:
    """The leading principal components of a set of vectors: those along which it varies most.

    Attributes
    ----------
    mean : D
    basis : count×D, orthonormal rows, the largest variance first
    variances : count, the variance of the set along each
    """

    def __init__(self, rows: torch.Tensor, count: int):
        """From N×D float32 ``rows``; ``count`` at most min(N - 1, D), else :class:`ImageError`."""
        if not 1 <= count <= min(len(rows) - 1, rows.shape[1]):
            raise ImageError(f"{len(rows)} pictures of {rows.shape[1]} numbers have no {count} principal components")
        self.mean = rows.mean(0)
        centred = rows - self.mean
        # The eigenvectors of the smaller of the two Gram matrices lead to the components: N×N or D×D.
        if len(rows) <= rows.shape[1]:
            values, vectors = torch.linalg.eigh(centred @ centred.T)
            basis = vectors.flip(1)[:, :count].T @ centred
            self.basis = F.normalize(basis, dim=1)
        else:
            values, vectors = torch.linalg.eigh(centred.T @ centred)
            self.basis = vectors.flip(1)[:, :count].T.contiguous()
        self.variances = values.flip(0)[:count].clamp(min=0) / (len(rows) - 1)

    def code(self, rows: torch.Tensor) -> torch.Tensor:
        """N×D to N×count."""
        return (rows - self.mean) @ self.basis.T

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """N×count to N×D."""
        return codes @ self.basis + self.mean


def flat(images: np.ndarray) -> torch.Tensor:
    """8-bit images N×H×W×3 as rows of numbers in [-1, 1]: N×3HW."""
    return normalise(images).flatten(1)


def rebuild(components: Components, images: np.ndarray, count: int | None = None) -> np.ndarray:
    """Sharp images through their first ``count`` components and back: what so many numbers can hold.

    Parameters
    ----------
    components : of flattened sharp images
    images : uint8 N×H×W×3

    Returns
    -------
    uint8 N×H×W×3
    """
    codes = components.code(flat(images))
    if count is not None:
        codes[:, count:] = 0
    rows = components.decode(codes)
    return denormalise(rows.unflatten(1, (3, *images.shape[1:3])))


class LinearRestorer:
    """A linear map from a blurred picture through ``count`` numbers to the sharp one, by least squares.

    The blurred picture is averaged over 4×4 pixels, which loses next to nothing of a strong blur. Its leading
    principal components are the code; ridge regression draws the sharp picture from the code. Numbers that were chosen
    for the sharp picture (reduced-rank regression) may do better.
    """

    def __init__(
        self,
        sharp: Sequence[np.ndarray] | np.ndarray,
        count: int = 512,
        ridge: float = 1e-4,
        degradation: str | Degradation = "celebablur",
    ):
        """Learn from ``sharp``, uint8 N×H×W×3; each is blurred once. ``ridge`` is relative to the mean variance."""
        features, target, pairs = [], [], Pairs(sharp, degradation)
        for start in range(0, len(pairs), 200):
            batch = pairs.batch(range(start, min(start + 200, len(pairs))), epoch=0)
            features.append(self._features(batch.blurred))
            target.append(batch.target.flatten(1))
        features, target = torch.cat(features), torch.cat(target)
        self.components, self.mean, self.ridge = Components(features, count), target.mean(0), ridge
        codes = self.components.code(features)
        # Principal components are uncorrelated: each has its least squares by itself, whatever others there are.
        self._squares, self._products = codes.square().sum(0), codes.T @ (target - self.mean)

    def weights(self, count: int) -> torch.Tensor:
        """From the first ``count`` numbers of the code to the picture, [-1, 1], without its mean: count×3HW."""
        squares = self._squares[:count]
        return self._products[:count] / (squares + self.ridge * squares.mean())[:, None]

    @staticmethod
    def _features(blurred: np.ndarray) -> torch.Tensor:
        return F.avg_pool2d(normalise(blurred), 4).flatten(1)

    def encode(self, blurred: np.ndarray) -> torch.Tensor:
        """uint8 N×H×W×3 to the code, N×count."""
        return self.components.code(self._features(blurred))

    def restore(self, blurred: np.ndarray, count: int | None = None) -> np.ndarray:
        """uint8 N×H×W×3 to the same, through the first ``count`` numbers of the code (all by default)."""
        codes = self.encode(blurred)[:, :count]
        rows = codes @ self.weights(codes.shape[1]) + self.mean
        return denormalise(rows.unflatten(1, (3, *blurred.shape[1:3])))


def table(
    train: np.ndarray,
    test: np.ndarray,
    lpips: Lpips | None,
    counts: Sequence[int] = COUNTS,
    progress: bool = True,
    degradation: str | Degradation = "celebablur",
) -> dict[str, dict[str, dict[str, float]]]:
    """{"rebuilt": {count: means of the measures}, "restored": the same}: principal components and the linear map.

    Parameters
    ----------
    train, test : uint8 N×H×W×3, sharp; all is learnt from ``train`` and measured on ``test``
    """
    out: dict[str, dict] = {"rebuilt": {}, "restored": {}}
    components = Components(flat(train), max(counts))
    restorer = LinearRestorer(train, max(counts), degradation=degradation)
    batch = Pairs(test, degradation).batch(range(len(test)))
    for count in tqdm(counts, desc="linear", unit="row", disable=not progress):
        restored = restorer.restore(batch.blurred, count)
        for name, images in (("rebuilt", rebuild(components, test, count)), ("restored", restored)):
            out[name][str(count)] = measure(images, batch.sharp, lpips).mean().to_dict()
    return out


def main(argv: list[str] | None = None) -> None:
    """The command line: learn from the training set, measure the test set, write a JSON file."""
    parser = bare_parser("helpers.linear", __doc__)
    parser.add_argument("--data", help="folder with train/ and test/; the shipped faces by default")
    parser.add_argument("--limit", type=positive_int, default=4000, help="training images, which must fit into memory")
    parser.add_argument("--out", help="a JSON file to write")
    args = parser.parse_args(argv)
    try:
        train = np.stack(list(load_split(args.data, "train", args.limit)))
        test = np.stack(list(load_split(args.data, "test")))
        counts = [count for count in COUNTS if count < len(train)]
        rows = table(train, test, load_lpips(), counts)
    except ImageError as error:
        raise SystemExit(f"error: {error}") from None
    rows |= {"training_images": len(train), "images": len(test), "data": "photographs" if args.data else "faces"}
    # The seed is that of the blur; nothing else here is drawn.
    rows |= {"seed": SEED, "hardware": hardware(torch.device("cpu")), "date": date.today().isoformat()}
    if args.out:
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, rows)
    for name in ("rebuilt", "restored"):
        for count, measures in rows[name].items():
            print(f"{name} {count:>5}: " + ", ".join(f"{k} {v:.4f}" for k, v in measures.items()))


if __name__ == "__main__":
    main()
