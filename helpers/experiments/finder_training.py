"""How the face finder is trained, how its least score is chosen, and how good it is. In a shell::

    python -m helpers.portraits                                         # fetches the portraits, once
    python -m helpers.experiments.finder_training --out runs/finder     # trains, chooses the least score
    python -m helpers.experiments.finder_training --out runs/finder --export finder.safetensors   # as it is by now
    python -m helpers.experiments.finder_training --measure data/checkpoints/finder.safetensors --out data/results

Trained on rendered faces and on the training portraits, in colour and grey, laid into pictures by
:mod:`helpers.experiments.finder_scenes`. The least score is chosen on validation portraits and on other pictures
without a face; test portraits, and the half of scikit-image's pictures that was not trained on, measure.
"""

import datetime
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from helpers.data import load_faces, load_parameters, normalise
from helpers.engine import commands, runs
from helpers.engine.checkpoints import load_checkpoint, read_about, save_checkpoint
from helpers.engine.commands import count_int, positive_float
from helpers.engine.devices import device_for
from helpers.engine.ema import Ema
from helpers.engine.errors import ImageError
from helpers.engine.folders import write_errors, write_json
from helpers.engine.precision import scaler_for
from helpers.engine.updates import cosine_rate, set_rate, update
from helpers.experiments.finder_scenes import (
    PASTES,
    SCIKIT_IMAGE,
    Faces,
    Scenes,
    lay_on,
    make_places,
    mask_of,
    rendered_place,
    scikit_image_pictures,
)
from helpers.finder import SIDE, STRIDE, USUAL, Finder, find_faces, iou, load_finder
from helpers.photos import SIZE
from helpers.portraits import open_portraits
from helpers.seeds import SEED, rng_for, seed_everything

SHAPES = ((128, 128), (96, 128), (192, 192), (128, 96), (120, 160))  # height and width of a batch's scenes
RENDERED, PLACES = 2000, 1000  # rendered faces and places that a training draws from
NEAR = 0.4  # cells whose wanted heat is higher learn offset and side
FEW = 0.2  # scores below it are not looked at: there are many, and no face has one
SQUARES = 5.0  # weight of the squares' loss
RIGHT = 0.75  # the least IoU of a square that counts as right
VALIDATION, TEST = 1, 2  # added to the seed: scenes of other places


# ---------------------------------------------------------------------------------------------------------------------
# What the network should say


def targets_of(squares: list[np.ndarray], height: int, width: int) -> torch.Tensor:
    """The wanted answer, N×5×⌈H/8⌉×⌈W/8⌉: heat, 1 where a square's middle lies and falling like a Gaussian around it;
    offset right and down in cells and logarithm of the side, as :meth:`Finder.forward` gives them; 1 at the middles.

    Parameters
    ----------
    squares : for each of N pictures, float M×3: left, top, side
    height, width : of the pictures
    """
    rows, columns = -(-height // STRIDE), -(-width // STRIDE)
    y, x = np.mgrid[:rows, :columns] + 0.5
    wanted = np.zeros((len(squares), 5, rows, columns), np.float32)
    for one, found in zip(wanted, squares, strict=True):
        for left, top, side in found:
            right, down = (left + side / 2) / STRIDE, (top + side / 2) / STRIDE
            row, column = min(max(int(down), 0), rows - 1), min(max(int(right), 0), columns - 1)
            sigma = max(0.7, side / STRIDE / 12)
            heat = np.exp(-(np.square(y - row - 0.5) + np.square(x - column - 0.5)) / (2 * sigma**2))
            nearer = heat > one[0]
            one[0] = np.maximum(one[0], heat)
            for place, value in enumerate((right - x, down - y, np.full_like(x, np.log(side / USUAL))), 1):
                one[place][nearer] = value[nearer]
            one[4, row, column] = 1
    return torch.from_numpy(wanted)


def finder_loss(answer: torch.Tensor, wanted: torch.Tensor) -> dict[str, torch.Tensor]:
    """CenterNet's focal loss of the heat map, a face; and how far squares are off, in parts of their side.

    Parameters
    ----------
    answer : N×4×h×w, what the network says
    wanted : N×5×h×w, see :func:`targets_of`
    """
    logit, heat, middle = answer[:, 0].float(), wanted[:, 0], wanted[:, 4]
    p = logit.sigmoid()
    found = middle * (1 - p).square() * F.logsigmoid(logit)
    empty = (1 - middle) * (1 - heat) ** 4 * p.square() * F.logsigmoid(-logit)
    focal = -(found + empty).sum() / middle.sum().clamp(min=1)
    weight = heat * (heat > NEAR)
    off = (answer[:, 1:].float() - wanted[:, 1:4]).abs()
    shift = off[:, :2].sum(1) * STRIDE / (USUAL * wanted[:, 3].exp())
    squares = (weight * (shift + off[:, 2])).sum() / weight.sum().clamp(min=1)
    return {"total": focal + SQUARES * squares, "focal": focal, "squares": squares}


# ---------------------------------------------------------------------------------------------------------------------
# Training


def train(
    scenes: Scenes, out: str | Path | None, steps: int, batch_size: int = 16, seed: int = SEED, rate: float = 2e-3,
    source: str = "", progress: bool = True, **shape,
) -> tuple[Finder, list[dict]]:  # fmt: skip
    """Train on ``scenes``, or go on in the folder ``out``; the averaged network and its history.

    Parameters
    ----------
    out : None keeps nothing
    source : what the faces are, for the checkpoint to tell
    shape : what :class:`Finder` takes
    """
    device = device_for()
    seed_everything(seed)
    model = Finder(**shape).to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2, fused=True)
    ema, scaler = Ema(model, 0.998), scaler_for(device, "no")

    def step(number: int) -> dict[str, float]:
        set_rate(optimiser, cosine_rate(number, steps, rate))
        height, width = SHAPES[number % len(SHAPES)]
        drawn = [scenes.scene(number * batch_size + i, height, width) for i in range(batch_size)]
        images = normalise(np.stack([image for image, _ in drawn]))
        wanted = targets_of([squares for _, squares in drawn], height, width).to(device)
        parts = finder_loss(model(images.to(device, memory_format=torch.channels_last)), wanted)
        update(parts["total"], scaler, optimiser)
        return {name: float(value.detach()) for name, value in parts.items()}

    settings = {"steps": steps, "batch_size": batch_size, "seed": seed, "rate": rate, "widths": list(model.widths)}
    settings |= {"training_data": source} if source else {}
    parts = {"model": model, "opt": optimiser, "scaler": scaler}
    history = runs.run(out, settings, parts, step, steps, (ema,), 100, desc="face finder", progress=progress)
    return ema.module, history


def training_scenes(seed: int, rendered: int = RENDERED, places: int = PLACES) -> tuple[Scenes, str]:
    """What the shipped finder was trained on, and what to call it; without portraits, rendered faces alone."""
    pictures = load_faces("train", rendered)
    faces, shares = [Faces.rendered(pictures, load_parameters("train"))], [1.0]
    told, pieces = [f"{len(pictures)} shipped faces"], pictures
    try:
        for split, share, title in (("train", 2.0, "portraits"), ("grey", 2.0, "grey portraits")):
            pieces = open_portraits(split).load()
            faces, shares, told = [*faces, Faces.portraits(pieces)], [*shares, share], [*told, f"{len(pieces)} {title}"]
    except ImageError as error:
        print(f"note: {error}; training goes on without them")
    return Scenes(faces, shares, make_places(places, seed, "train", pieces), seed), " + ".join(told)


# ---------------------------------------------------------------------------------------------------------------------
# The least score, chosen on validation pictures


def pasted(face: np.ndarray, places: list[np.ndarray], number: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """One portrait in a larger picture of 240 to 640 pixels, as large as 0.15 to 0.9 of its shorter side; its square.

    Parameters
    ----------
    face : uint8 128×128×3
    places : uint8 H×W×3 without faces
    number : decides place, sizes and position
    kind : of the paste, a key of :data:`helpers.experiments.finder_scenes.PASTES`
    """
    rng = rng_for(SEED, number)
    height, width = rng.integers(240, 641, 2).tolist()
    canvas = cv2.resize(places[number % len(places)], (width, height), interpolation=cv2.INTER_AREA)
    side = min(height, width) * float(np.exp(rng.uniform(np.log(0.15), np.log(0.9))))
    wanted = np.array([rng.uniform(0, width - side), rng.uniform(0, height - side), side])
    lay_on(canvas, face, mask_of(kind, rng), np.array([0, 0, SIZE]), wanted)
    return canvas, wanted


def choose_threshold(model: Finder, portraits: np.ndarray, empty: list[np.ndarray], places: list[np.ndarray]) -> dict:
    """The least score: half way from the highest of pictures without a face to that which 98 % of the faces exceed.

    At least the former where the two overlap, so that it finds no face there.

    Parameters
    ----------
    portraits : validation portraits, N×128×128×3, each laid into one of ``places`` with hard and with soft edges
    empty : pictures without a face
    """
    highest = max(score for picture in empty for score in [0.0, *scores_of(model, picture)[1]])
    found = []
    for number, face in enumerate(portraits):
        for kind in PASTES:
            picture, wanted = pasted(face, places, number, kind)
            squares, scores = scores_of(model, picture)
            right = [s for s, square in zip(scores, squares, strict=True) if iou(square, wanted[None])[0] >= 0.5]
            found.append(max(right, default=0.0))
    faces = float(np.quantile(found, 0.02))
    threshold = max(highest, (highest + faces) / 2)
    seen = {"pictures without a face": len(empty), "portraits": len(portraits), "pastes": list(PASTES)}
    return {
        "threshold": round(threshold + 0.0005, 3),
        "threshold_chosen_on": seen | {"highest score without a face": highest, "score of 98 % of the faces": faces},
    }


def scores_of(model: Finder, picture: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Squares in pixels of ``picture`` (uint8 H×W×3) and their scores, from :data:`FEW` on."""
    found = find_faces(picture, (model, FEW))
    return np.array([box for box, _ in found], float).reshape(-1, 3), [score for _, score in found]


# ---------------------------------------------------------------------------------------------------------------------
# The checkpoint of a run


def export(out: str | Path, path: str | Path) -> dict:
    """Write the averaged weights of the run in ``out`` as a checkpoint of 8 bits a weight, with its least score.

    Returns
    -------
    the JSON's content

    Raises
    ------
    TrainingError
        if there is no such run, or it is another network's
    """
    noted, path = ("batch_size", "seed", "rate", "widths"), Path(path)
    model, settings, about = runs.averaged_network(out, lambda run: Finder(run["widths"]), "face finder", noted)
    told = settings.get("training_data", "pictures")
    about = commands.facts({"name": path.stem, **about}, None, told, device_for(), "no") | {"side": SIDE}
    with write_errors(path):
        save_checkpoint(path, model, about, precision="8-bit")
        load_checkpoint(path, model)  # rounded to 8 bits, as it is used
        about |= _chosen(model.eval(), settings["seed"] + VALIDATION)
        save_checkpoint(path, model, about, precision="8-bit")
    return read_about(path)


def _chosen(model: Finder, seed: int) -> dict:
    """The least score on validation portraits, or on rendered validation faces where no portraits are fetched."""
    try:
        faces = open_portraits("val").load()
    except ImageError:
        faces = load_faces("val", 100)
    places = make_places(300, seed, "train", faces)
    scenes = Scenes([Faces.portraits(faces)], [1], places, seed)
    crowded = [scenes.scene(number, *SHAPES[number % len(SHAPES)], empty=True)[0] for number in range(300)]
    return choose_threshold(model, faces, [*places, *crowded], list(places))


# ---------------------------------------------------------------------------------------------------------------------
# How good it is


def without_faces(count: int, seed: int) -> list[np.ndarray]:
    """Pictures without a face for the test: half the renderer's backgrounds, half scikit-image's test half, each of
    which comes whole first and then in parts.
    """
    pictures, empty = scikit_image_pictures("test"), []
    for number in range(count):
        rng = rng_for(seed, number)
        if number % 2:
            empty.append(rendered_place(rng))
            continue
        picture = pictures[number // 2 % len(pictures)]
        if number // 2 >= len(pictures):
            height, width = (max(32, int(n * rng.uniform(0.3, 1))) for n in picture.shape[:2])
            top, left = (rng.integers(0, n - m + 1) for n, m in zip(picture.shape, (height, width), strict=False))
            picture = picture[top : top + height, left : left + width]
        empty.append(np.ascontiguousarray(picture))
    return empty


def measure(path: str | Path, portraits: np.ndarray, empty: int = 200, seed: int = SEED) -> dict:
    """How good the finder of a checkpoint is on ``portraits`` (N×128×128×3) that it has not seen.

    Each is laid into a larger picture once with each kind of edge. What counts is the first square that is proposed.

    Parameters
    ----------
    empty : how many pictures without a face

    Returns
    -------
    shares of right squares (IoU of at least 0.75), wrong squares, milliseconds, hardware, date
    """
    finder, about = load_finder(path), read_about(path)
    faceless = without_faces(empty, seed + TEST)
    rows = []
    for number, face in enumerate(portraits):
        for kind in PASTES:
            picture, wanted = pasted(face, faceless, number + seed, kind)
            found = find_faces(picture, finder)
            overlap = iou(wanted, np.array([found[0][0]], float))[0] if found else 0.0
            part = wanted[2] / max(picture.shape)
            rows.append({"kind": kind, "iou": overlap, "squares": len(found), "part": part})
    wrong = [sum(len(find_faces(picture, finder)) for picture in faceless[half::2]) for half in (0, 1)]
    return {
        "checkpoint": {k: about[k] for k in ("name", "steps", "images_seen", "threshold") if k in about},
        "portraits": len(portraits),
        "right": {kind: _share([r for r in rows if r["kind"] == kind]) for kind in PASTES} | {"all": _share(rows)},
        "right_by_side": {
            f"{low} to {high} of the longer side": _share([r for r in rows if low <= r["part"] < high])
            for low, high in ((0.0, 0.15), (0.15, 0.3), (0.3, 0.9))
        },
        "second_squares": sum(r["squares"] > 1 for r in rows),
        "without_a_face": {"scikit-image": -(-empty // 2), "renderer": empty // 2},
        "wrong_squares": {"scikit-image": wrong[0], "renderer": wrong[1]},
        "scikit-image": {half: list(names) for half, names in SCIKIT_IMAGE.items()},
        "milliseconds": _milliseconds(finder, pasted(portraits[0], faceless, seed, "soft")[0]),
        "hardware": runs.hardware("cpu"),
        "date": datetime.date.today().isoformat(),
    }


def _share(rows: list[dict]) -> dict:
    """How often the first square was right, how often on the face at all, and the middle of the IoUs."""
    if not rows:
        return {"pictures": 0}
    overlaps = np.array([r["iou"] for r in rows])
    right, found = float((overlaps >= RIGHT).mean()), float((overlaps > 0.3).mean())
    middle = round(float(np.median(overlaps)), 3)
    return {"pictures": len(rows), "share": round(right, 4), "found": round(found, 4), "median_iou": middle}


def _milliseconds(finder: tuple[Finder, float], picture: np.ndarray, times: int = 30) -> float:
    """Median time of :func:`find_faces` on a picture with a face; it takes one thread."""
    taken = []
    for _ in range(times + 3):
        started = time.perf_counter()
        find_faces(picture, finder)
        taken.append(1000 * (time.perf_counter() - started))
    return round(float(np.median(taken[3:])), 1)


# ---------------------------------------------------------------------------------------------------------------------
# In a shell


def main(argv: list[str] | None = None) -> None:
    extra = {"--rate": {"type": positive_float, "default": 2e-3, "help": "the highest learning rate"}}
    extra["--limit"] = {"type": count_int, "default": RENDERED, "help": "rendered faces to train on"}
    extra["--export"] = {"help": "write the checkpoint of the run as it is by now to this file (.safetensors)"}
    extra["--measure"] = {"help": "measure this checkpoint, and write finder.json into the folder --out"}
    command = commands.parser("helpers.experiments.finder_training", __doc__, {"train": 3500}, extra)
    args = command.parse_args(argv)
    with commands.exit_on_error():
        if args.measure:
            result = measure(args.measure, open_portraits("test").load())
            write_json(Path(args.out) / "finder.json", result)
            print(f"right squares: {result['right']['all']['share']:.1%}; wrong ones: {result['wrong_squares']}")
            return
        if not args.export:
            scenes, source = training_scenes(args.seed, args.limit)
            train(scenes, args.out, args.train_steps, args.batch_size, args.seed, args.rate, source)
        path = Path(args.export or Path(args.out) / "finder.safetensors")
        about = export(args.out, path)
    print(f"wrote {path}: least score {about['threshold']}, {about.get('stopped', 'trained to the end')}")


if __name__ == "__main__":
    main()
