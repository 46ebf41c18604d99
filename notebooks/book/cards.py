"""A model card for each checkpoint that comes with the course, from the file that lies beside its weights."""

import re
from pathlib import Path

from notebooks.book.tables import CHECKPOINTS, RESULTS, measured, measures, read, table

NOT_FOR = """Not for: finding out who a person is, evidence of any kind, medical pictures, surveillance, or making
pictures that pretend to show somebody. A restored face is a guess from the faces that the network was trained on.
Details that it adds were not in the input."""
# What it is, its rows in comparison.json, and what limits it besides its training data.
CARDS = {
    "thesis": (
        "the thesis's model: residual encoder of picture and edge map, latent code of 512 dimensions, generator",
        ["thesis"],
        "Everything passes through a code of 512 dimensions, so identity and background can change.",
    ),
    "pmrf": (
        "Posterior-Mean Rectified Flow in small: a network for the posterior mean, and a flow that starts from it",
        ["posterior_mean", "pmrf"],
        "Trained much shorter than the authors' model; draws differ from each other.",
    ),
    "diffir": (
        "DiffIR in small: a transformer with a prior vector of 256 dimensions, which four diffusion steps find",
        ["diffir"],
        "Trained on crops of 64 pixels, much shorter than the authors' model.",
    ),
    "stylegan": (
        "a StyleGAN2 generator in small, for robust inversion",
        ["stylegan"],
        "It shows only what the generator can draw, and each picture is searched for hundreds of steps.",
    ),
    "blind": (
        "the skip model, trained on for photographs whose blur nobody knows",
        ["blind"],
        "On a picture that is hardly damaged it gains little.",
    ),
    "finder": (
        "the face finder: a heat map of the middles of faces, offset and side for each cell of 8×8 pixels",
        [],
        "It knows upright faces that look about towards the camera; others may be missed. Scores are no probabilities.",
    ),
    "skip": (
        "the better model of chapter 13: skips from encoder to generator, two corrections and a knob",
        ["skip"],
        "At knob 1 it adds texture that was not in the input.",
    ),
}
RENDERED = re.compile(r"\d+ shipped faces")
FACTS = {
    "training_data": "training data",
    "degradation": "degradation",
    "augment": "augmentation",
    "stopped": "stopped",
    "images_seen": "images seen",
    "hours": "hours",
    "batch_size": "batch size",
    "steps": "steps",
    "threshold": "least score of a face",
    "mean_steps": "steps, posterior mean",
    "flow_steps": "steps, flow",
    "stage1_steps": "steps, stage 1",
    "warm_steps": "steps, prior alone",
    "joint_steps": "steps, stage 2",
    "small_steps": "steps at 64 pixels",
    "full_steps": "steps at 128 pixels",
    "before": "runs before",
    "record": "at the end",
    "weights": "weights of the losses",
    "seed": "seed",
    "hardware": "hardware",
    "versions": "versions",
}


def model_cards() -> str:
    """A card for each checkpoint that comes with the course."""
    comparison = read(RESULTS / "comparison.json")
    parts = ["# Model cards", "Generated from the files beside the weights (`data/checkpoints/*.json`).", NOT_FOR]
    for path in sorted(CHECKPOINTS.glob("*.json")):
        parts += _card(path.with_suffix(".safetensors"), read(path), comparison)
    return "\n\n".join([*parts, "## Licence", "MIT, as the course's code. The rendered faces are CC0."]) + "\n"


def _card(weights: Path, about: dict, comparison: dict) -> list[str]:
    what, names, limits = CARDS.get(weights.stem, ("weights of the course", [], ""))
    facts = [["what it is", what], ["file", f"`{weights.name}`, {weights.stat().st_size / 1e6:.1f} MB"]]
    if "precision" in about:
        facts.append(["stored as", f"{about['precision']} weights"])
    facts += [[label, _words(about[key])] for key, label in FACTS.items() if key in about]
    parts = [f"## {weights.stem}", table(["fact", "value"], facts)]
    found = [comparison[where][name] for where in ("all", "few") for name in names if name in comparison[where]]
    if found:
        rows = [[row["title"], row.get("images", ""), *measures(row)] for row in found]
        parts.append("Measured on rendered test faces, preset `celebablur`; ± is twice the standard error:")
        parts.append(table(["", "faces", *measured()], rows))
    if "matrix" in about:
        rows = [[case, *measures(row)] for case, row in about["matrix"].items()]
        parts.append(f"Measured on {about['measured on']['test']}:")
        parts.append(table(["degradation", *measured()], rows))
    if "threshold" in about:
        parts += _finder(read(RESULTS / f"{weights.stem}.json"))
    for where, row in about.get("elsewhere", {}).items():
        parts.append(f"On {where}, for which it was not trained:")
        parts.append(table(["", *measured()], [[where, *measures(row)]]))
    sources = str(about.get("training_data", ""))
    faces = (
        " Trained on rendered faces alone: expect worse results on photographs." if RENDERED.fullmatch(sources) else ""
    )
    return [*parts, limits + faces]


def _finder(result: dict) -> list[str]:
    """How often the face finder's first square was right, and how often it saw a face where there is none."""
    rows = [[kind, row["pictures"], f"{row['share']:.1%}", row["median_iou"]] for kind, row in result["right"].items()]
    wrong, pictures = sum(result["wrong_squares"].values()), sum(result["without_a_face"].values())
    head = f"Measured on {result['portraits']} test portraits in larger pictures; right is an IoU of at least 0.75:"
    last = f"{wrong} wrong squares on {pictures} pictures without a face; {result['milliseconds']} ms a photograph."
    return [head, table(["edges of the paste", "pictures", "right", "median IoU"], rows), last]


def _words(value) -> str:
    """A value of a checkpoint's facts on one line."""
    if isinstance(value, list):
        return "; then ".join(_words(v) for v in value)
    if isinstance(value, dict):
        return ", ".join(f"{k} {_words(v)}" for k, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
