"""helpers.experiments.finder_training: targets and loss by hand, the run, its checkpoint, the choice, the measuring."""

import json
import signal

import numpy as np
import pytest
import torch

from helpers.data import load_faces, load_parameters, normalise
from helpers.engine.checkpoints import save_checkpoint, shipped
from helpers.engine.errors import Stopped, TrainingError
from helpers.experiments import finder_training
from helpers.experiments.finder_scenes import Faces, Scenes, make_places
from helpers.experiments.finder_training import (
    choose_threshold,
    export,
    finder_loss,
    main,
    measure,
    pasted,
    targets_of,
    train,
    without_faces,
)
from helpers.finder import Finder, iou, squares_in

WIDTHS = (4, 4, 8, 8, 8)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    pictures = load_faces("val", 8)
    return Scenes([Faces.rendered(pictures, load_parameters("val"))], [1], make_places(5, 1, "train", pictures), 1)


# ---------------------------------------------------------------------------------------------------------------------
# What the network should say


def as_answer(wanted: torch.Tensor) -> torch.Tensor:
    """What a network would say that has learnt ``wanted``."""
    answer = wanted[:, :4].clone()
    answer[:, 0] = torch.logit(wanted[:, 0].clamp(1e-4, 1 - 1e-4))
    return answer


def test_targets_are_what_decode_reads():
    squares = np.array([(30.0, 41.0, 50.0), (100.5, 20.0, 17.0)])
    wanted = targets_of([squares, squares[:0]], 128, 160)
    assert wanted.shape == (2, 5, 16, 20) and wanted[0, 4].sum() == 2 and not wanted[1].any()
    found, _ = squares_in(as_answer(wanted)[0], 0.5)
    for square in squares:
        assert iou(square, found).max() > 0.999
    # beside the middle, too, the offsets lead to the middle
    (row, column), *_ = torch.nonzero(wanted[0, 4]).tolist()
    beside = wanted[0, :, row, column + 1]
    assert 0.3 < beside[0] < 1 and wanted[0, 1, row, column] - beside[1] == pytest.approx(1.0, abs=1e-5)


def test_a_middle_outside_of_the_picture_is_given_to_the_nearest_cell():
    wanted = targets_of([np.array([(-40.0, 10.0, 60.0)])], 64, 64)
    assert wanted[0, 4].nonzero().tolist() == [[5, 0]]
    found, _ = squares_in(as_answer(wanted)[0], 0.5)
    assert np.allclose(found[0], (-40, 10, 60), atol=1e-3)


def test_the_loss_by_hand():
    """One face, one cell: -(1 - p)² ln p where it lies, -p² ln(1 - p) far away; squares in parts of their side."""
    wanted = torch.zeros(1, 5, 1, 2)
    wanted[0, :, 0, 0] = torch.tensor([1.0, 0.25, -0.25, np.log(64 / 32), 1.0])
    answer = torch.zeros(1, 4, 1, 2)
    answer[0, 0, 0] = torch.logit(torch.tensor([0.6, 0.3]))
    answer[0, 1:, 0, 0] = torch.tensor([0.75, -0.25, np.log(64 / 32) + 0.1])
    parts = finder_loss(answer, wanted)
    focal = -(0.4**2) * np.log(0.6) - 0.3**2 * np.log(0.7)
    squares = 0.5 * 8 / 64 + 0.1  # half a cell of 8 pixels, against a side of 64; a tenth in the logarithm
    assert parts["focal"].item() == pytest.approx(focal, rel=1e-5)
    assert parts["squares"].item() == pytest.approx(squares, rel=1e-5)
    assert parts["total"].item() == pytest.approx(focal + finder_training.SQUARES * squares, rel=1e-5)


def test_what_is_learnt_costs_nothing():
    wanted = targets_of([np.array([(30.0, 41.0, 50.0)])], 128, 160)
    parts = finder_loss(as_answer(wanted), wanted)
    assert parts["squares"] < 1e-5 and parts["focal"] < 0.2
    assert finder_loss(as_answer(targets_of([np.zeros((0, 3))], 128, 160)), wanted)["focal"] > 1


# ---------------------------------------------------------------------------------------------------------------------
# Training, and the checkpoint


def test_it_learns(scenes, monkeypatch):
    """Sixty steps on the same four small scenes: the averaged network's loss there falls to less than half."""
    drawn = [scenes.scene(number, 64, 64) for number in range(4)]
    monkeypatch.setattr(finder_training, "SHAPES", ((64, 64),))
    monkeypatch.setattr(scenes, "scene", lambda number, height, width: drawn[number % 4])
    images = normalise(np.stack([picture for picture, _ in drawn]))
    wanted = targets_of([squares for _, squares in drawn], 64, 64)

    def loss(model):
        with torch.no_grad():
            return finder_loss(model.eval()(images), wanted)["total"].item()

    model, history = train(scenes, None, 60, 4, rate=1e-2, progress=False, widths=WIDTHS)
    assert loss(model) < 0.5 * loss(Finder(WIDTHS)) and len(history) == 1


def test_a_run_that_was_stopped_ends_alike(scenes, tmp_path, monkeypatch):
    whole, _ = train(scenes, tmp_path / "whole", 3, 2, progress=False, widths=WIDTHS)
    drawn = scenes.scene

    def interrupted(number, *size):
        if number == 2:
            signal.raise_signal(signal.SIGINT)
        return drawn(number, *size)

    monkeypatch.setattr(scenes, "scene", interrupted)
    with pytest.raises(Stopped, match="stopped after step 2"):
        train(scenes, tmp_path / "part", 3, 2, progress=False, widths=WIDTHS)
    monkeypatch.setattr(scenes, "scene", drawn)
    part, _ = train(scenes, tmp_path / "part", 3, 2, progress=False, widths=WIDTHS)
    for a, b in zip(whole.state_dict().values(), part.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_export(scenes, tmp_path, monkeypatch):
    """What the JSON says comes from the run and from the choice; the file is read by the finder."""
    monkeypatch.setattr(finder_training, "_chosen", lambda model, seed: {"threshold": 0.4, "seed of": seed})
    train(scenes, tmp_path / "run", 2, 3, seed=5, source="8 shipped faces", progress=False, widths=WIDTHS)
    about = export(tmp_path / "run", tmp_path / "finder.safetensors")
    assert (about["steps"], about["images_seen"], about["widths"]) == (2, 6, list(WIDTHS)) and "stopped" not in about
    assert about["training_data"] == "8 shipped faces" and about["threshold"] == 0.4 and about["seed of"] == 6
    model, threshold = finder_training.load_finder(tmp_path / "finder.safetensors")
    assert threshold == 0.4 and model.widths == WIDTHS
    with pytest.raises(TrainingError, match="holds no run"):
        export(tmp_path / "absent", tmp_path / "other.safetensors")


# ---------------------------------------------------------------------------------------------------------------------
# The choice, and the measuring


def test_the_least_score(monkeypatch):
    """Half way between what has no face and 98 % of the faces; not below the former."""
    faces, wanted, of_faces = np.zeros((4, 128, 128, 3), np.uint8), np.array([10.0, 5.0, 40.0]), [0.9]
    empty = [np.full((64, 64, 3), tenths, np.uint8) for tenths in (1, 2)]

    def scores_of(model, picture):
        if picture.shape == (64, 64, 3):
            return np.array([(0.0, 0.0, 32.0)]), [0.1 * int(picture[0, 0, 0])]
        return np.stack([wanted + [200, 0, 0], wanted]), [0.99, of_faces[0]]  # a square elsewhere does not count

    monkeypatch.setattr(finder_training, "pasted", lambda *arguments: (np.zeros((100, 90, 3), np.uint8), wanted))
    monkeypatch.setattr(finder_training, "scores_of", scores_of)
    chosen = choose_threshold(None, faces, empty, empty)
    assert chosen["threshold"] == pytest.approx(0.55, abs=0.0011)
    assert chosen["threshold_chosen_on"]["highest score without a face"] == pytest.approx(0.2)
    of_faces[0] = 0.15
    assert 0.2 < choose_threshold(None, faces, empty, empty)["threshold"] < 0.202


def test_pictures_without_a_face():
    empty = without_faces(30, 3)
    assert len(empty) == 30 and len({picture.tobytes() for picture in empty}) == 30
    assert np.array_equal(empty[0], finder_training.scikit_image_pictures("test")[0])
    assert all(picture.dtype == np.uint8 and min(picture.shape[:2]) >= 32 for picture in empty)


def test_pasted_portraits():
    face, place = load_faces("val", 1)[0], [np.full((100, 100, 3), 80, np.uint8)]
    for number in range(10):
        picture, (left, top, side) = pasted(face, place, number, "hard")
        height, width = picture.shape[:2]
        assert min(height, width) >= 240 and max(height, width) <= 640
        assert 0 <= left <= width - side and 0 <= top <= height - side and 0.14 < side / min(height, width) < 0.91
        inside = picture[round(top + side / 4) : round(top + 3 * side / 4), round(left + side / 4) :][
            :, : int(side / 2)
        ]
        assert inside.std() > 5 and (picture == 80).all(2).any()


def test_measure(tmp_path):
    """A network that finds nothing: no square is right, none is wrong."""
    model, path = Finder(WIDTHS), tmp_path / "finder.safetensors"
    save_checkpoint(path, model, {"name": "finder", "widths": list(WIDTHS), "threshold": 0.9})
    result = measure(path, load_faces("val", 2), empty=12)
    assert result["right"]["all"] == {"pictures": 6, "share": 0.0, "found": 0.0, "median_iou": 0.0}
    assert result["wrong_squares"] == {"scikit-image": 0, "renderer": 0} and result["portraits"] == 2
    assert result["without_a_face"] == {"scikit-image": 6, "renderer": 6} and result["milliseconds"] > 0
    json.dumps(result)


@pytest.mark.skipif(not shipped("finder").exists(), reason="weights not shipped")
def test_the_recorded_result_is_of_the_finder_that_ships():
    recorded = json.loads((shipped("finder").parents[1] / "results" / "finder.json").read_text(encoding="utf-8"))
    about = json.loads(shipped("finder").with_suffix(".json").read_text(encoding="utf-8"))
    assert recorded["checkpoint"] == {k: about[k] for k in ("name", "steps", "images_seen", "threshold")}
    assert recorded["portraits"] == 116 and sum(recorded["without_a_face"].values()) == 200


def test_the_command_without_a_run(tmp_path):
    with pytest.raises(SystemExit, match="holds no run"):
        main(["--out", str(tmp_path / "absent"), "--export", str(tmp_path / "finder.safetensors")])
