"""Is it still the same person? What degradations leave of a person and what methods bring back (chapter 14).

::

    python -m helpers.identity --people runs/people     # -> data/results/identity.json

Two faces are compared by the cosine between their numbers from :mod:`helpers.experiments.embedding`, not by their
pixels. A restored face is compared with its own sharp face ("likeness"), and sought among other photographs of all the
persons ("found again"). ``data/make_faces.py --shots`` renders such photographs; of a portrait there is one only, so
its other view is made of it: mirrored, recoloured and moved.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from helpers.degrade import MATRIX, Degradation
from helpers.engine import commands
from helpers.engine.devices import device_for
from helpers.engine.folders import data_folder, write_json
from helpers.engine.runs import hardware
from helpers.experiments.bootstrap import mean_intervals
from helpers.experiments.embedding import Embedder, embed, found_again, load_embedder
from helpers.experiments.identity_training import VARIETY, load_people, on_people
from helpers.methods import load_method, measurable
from helpers.mixed import named_set
from helpers.pairs import Pairs
from helpers.portraits import portraits_folder
from helpers.seeds import SEED, rng_for


def after(network: Embedder, method, sharp: np.ndarray, cases: dict[str, Degradation] = MATRIX, gallery=None) -> dict:
    """What degradation leaves of the person, and what a method brings back.

    Parameters
    ----------
    method : see :class:`helpers.methods.Method`; None measures the degraded faces themselves
    sharp : uint8 N×128×128×3
    gallery : other sharp pictures of the same persons, in which each face is sought; by default the sharp faces

    Returns
    -------
    case -> "likeness" to the sharp face [mean, low, high] and the share "found again" in the gallery
    """
    truth, rows = embed(network, sharp), {}
    known = truth if gallery is None else embed(network, gallery)
    for case, degradation in cases.items():
        batch = Pairs(sharp, degradation, seed=SEED).batch(range(len(sharp)))
        codes = embed(network, batch.blurred if method is None else method.restore(batch.blurred, batch.params))
        alike = (codes * truth).sum(1)
        rows[case] = {"likeness": list(mean_intervals(alike[:, None])[0]), "found again": found_again(codes, known)}
    return rows


def varied(faces: np.ndarray) -> np.ndarray:
    """Each face mirrored, recoloured and moved a little, always in the same way: another view of a portrait."""
    return np.stack([VARIETY(face[:, ::-1], rng_for(SEED, 14, number)) for number, face in enumerate(faces)])


def measured(network: Embedder, people: np.ndarray, methods: Sequence[str], cases: dict[str, Degradation]) -> dict:
    """What ``data/results/identity.json`` holds: rendered people, and portraits where they are.

    Parameters
    ----------
    people : uint8 P×S×128×128×3, see :func:`helpers.experiments.identity_training.load_people`
    methods : names of methods
    cases : name -> degradation
    """
    result = {"rendered": on_people(network, people)}
    loaded = {"input": None} | {name: load_method(name) for name in methods}
    sets = {"rendered faces": (people[:, 0], people[:, 1])}
    if any(portraits_folder().glob("*")):
        portraits = np.stack(list(named_set("portraits", "test")))
        other = varied(portraits)
        again = found_again(embed(network, other), embed(network, portraits))
        result["portraits"] = {"persons": len(portraits), "found again, mirrored and recoloured": again}
        sets["portraits"] = (portraits, other)
    result["sets"] = {
        title: {name: after(network, method, sharp, cases, gallery) for name, method in loaded.items()}
        for title, (sharp, gallery) in sets.items()
    }
    return result


def main(argv: list[str] | None = None) -> None:
    """The command line; an error that the user can mend ends it with one sentence."""
    parser = commands.bare_parser("helpers.identity", __doc__)
    parser.add_argument("--people", required=True, help="the folder that data/make_faces.py --shots wrote")
    parser.add_argument("--weights", help="safetensors of identity_training; by default those that ship")
    parser.add_argument("--limit", type=commands.positive_int, help="only the first so many rendered people")
    parser.add_argument("--methods", nargs="*", choices=measurable(), default=["thesis", "skip", "blind"])
    parser.add_argument("--cases", nargs="+", choices=list(MATRIX), default=list(MATRIX))
    parser.add_argument("--out", help="a JSON file; by default data/results/identity.json")
    args = parser.parse_args(argv)
    with commands.exit_on_error():
        _run(args)


def _run(args: argparse.Namespace) -> None:
    """What the command line asks for: print how well persons are told apart, write the JSON file."""
    network, people = load_embedder(args.weights), load_people(args.people, "test", args.limit)
    result = measured(network, people, args.methods, {case: MATRIX[case] for case in args.cases})
    result |= {"hardware": hardware(device_for()), "torch": torch.__version__}
    out = Path(args.out) if args.out else data_folder() / "results" / "identity.json"
    write_json(out, result)
    print({kind: result[kind] for kind in ("rendered", "portraits") if kind in result})


if __name__ == "__main__":
    main()
