"""helpers.finder: from the heat map to squares, any picture, and the finder that ships."""

import json

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from helpers import finder
from helpers.data import load_faces, load_parameters
from helpers.engine.checkpoints import save_checkpoint, shipped
from helpers.engine.errors import CheckpointError, ImageError
from helpers.engine.folders import data_folder
from helpers.experiments.finder_scenes import Faces, lay_on, mask_of
from helpers.finder import STRIDE, USUAL, Finder, find_faces, iou, load_finder, propose, squares_in, suppress
from tests.conftest import seconds_of

needs_weights = pytest.mark.skipif(not shipped("finder").exists(), reason="weights not shipped")


class Says(torch.nn.Module):
    """A network that gives known answers: to a whole picture; to its parts from nearer; to their mirror images.

    It notes the shapes that it sees.
    """

    def __init__(self, *answers: list[torch.Tensor]):
        super().__init__()
        self.answers, self.seen = answers, []

    def forward(self, images):
        self.seen.append(tuple(images.shape))
        return torch.stack(self.answers[len(self.seen) - 1])


def answer_of(rows: int, columns: int, *squares) -> torch.Tensor:
    """What a network would say of squares (left, top, side, score) in a picture of ``rows`` by ``columns`` cells."""
    answer = torch.zeros(4, rows, columns)
    answer[0] = -9.0
    for left, top, side, score in squares:
        right, down = (left + side / 2) / STRIDE, (top + side / 2) / STRIDE
        cell = int(down), int(right)
        answer[:, cell[0], cell[1]] = torch.tensor(
            [np.log(score / (1 - score)), right - cell[1] - 0.5, down - cell[0] - 0.5, np.log(side / USUAL)]
        )
    return answer


# ---------------------------------------------------------------------------------------------------------------------
# From the heat map to squares


def test_iou_of_squares():
    """By counting pixels."""
    one, others = (3, 5, 10), [(3, 5, 10), (8, 5, 10), (0, 0, 20), (13, 5, 4), (5, 9, 2)]
    canvas = np.zeros((6, 40, 40), bool)
    for mask, (left, top, side) in zip(canvas, [one, *others], strict=True):
        mask[top : top + side, left : left + side] = True
    counted = [(canvas[0] & mask).sum() / (canvas[0] | mask).sum() for mask in canvas[1:]]
    assert iou(np.array(one), np.array(others)) == pytest.approx(counted)


def test_decode_gives_what_the_answer_says():
    squares, scores = squares_in(answer_of(20, 24, (30, 41, 50, 0.6), (100.5, 20, 17, 0.9), (10, 120, 12, 0.2)), 0.5)
    assert np.allclose(squares, [(100.5, 20, 17), (30, 41, 50)], atol=1e-3)
    assert scores == pytest.approx([0.9, 0.6], abs=1e-6)
    nothing, none = squares_in(answer_of(20, 24), 0.5)
    assert nothing.shape == (0, 3) and none.shape == (0,)


def test_a_face_is_one_peak():
    """The cells around the highest one are not faces of their own."""
    answer = answer_of(20, 20, (30, 30, 60, 0.9))
    for row in range(6, 9):
        for column in range(6, 9):
            if (row, column) != (7, 7):
                answer[0, row, column] = 1.0
    squares, _ = squares_in(answer, 0.5)
    assert len(squares) == 1


def test_suppression():
    """Of two that overlap the surer one stays; so does it of one inside another; neighbours both stay."""
    squares = np.array([(0, 0, 40), (4, 4, 40), (60, 0, 40), (70, 10, 10), (95, 0, 40)], float)
    assert suppress(squares) == [0, 2, 4] and suppress(squares[:0]) == []


# ---------------------------------------------------------------------------------------------------------------------
# Pictures of any kind


def test_three_looks_give_squares_in_the_photographs_pixels():
    """A face that is found three times, one that the mirror image does not show, and one that is not found again."""
    whole = answer_of(24, 24, (60, 40, 40, 0.9), (140, 100, 40, 0.95), (0, 0, 30, 0.6))  # of 960 pixels, at 192
    nearer = [
        answer_of(20, 20, (56, 40, 80, 0.1), (0, 0, 30, 0.99)),  # the surest first
        answer_of(20, 20, (44, 36, 76, 0.8), (0, 0, 40, 0.99)),  # the second one here is another face
        answer_of(20, 20, (8, 16, 80, 0.9)),
    ]
    mirrored = [answer_of(20, 20), answer_of(20, 20, (44, 36, 76, 0.6)), answer_of(20, 20, (72, 0, 80, 0.9))]
    photograph, model = np.zeros((960, 960, 3), np.uint8), Says([whole], nearer, mirrored)
    found = find_faces(photograph, (model, 0.3))
    assert model.seen == [(1, 3, 192, 192), (3, 3, 160, 160), (3, 3, 160, 160)]
    # (300, 200, 200) is shown with what lies around it, (200, 100, 400): pixels of the look are 2.5 of the photograph.
    # The looks see it at 310, 190 and, mirrored (160 - 44 - 76 = 40), at 300, 190.
    expected = [
        ((305, 190, 190), (0.9 + 0.7) / 2),
        ((15, 15, 150), (0.6 + 0.9) / 2),
        ((700, 500, 200), (0.95 + 0.05) / 2),
    ]
    assert [box for box, _ in found] == [box for box, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-6)
    assert all(type(number) is int for box, _ in found for number in box)
    assert [box for box, _ in find_faces(photograph, (Says([whole], nearer, mirrored), 0.77))] == [(305, 190, 190)]


def test_squares_lie_inside_the_photograph():
    """A photograph of 960×480 is seen at 192×96; a square that leaves it is moved in, one that is too large shrinks."""
    for square, box in (((-40, 0, 80), (0, 0, 400)), ((50, -40, 150), (385, 0, 480)), ((150, 60, 60), (660, 180, 300))):
        model = Says([answer_of(12, 24, (*square, 0.9))], [answer_of(20, 20)], [answer_of(20, 20)])
        assert find_faces(np.zeros((480, 960, 3), np.uint8), (model, 0.3))[0][0] == box


@pytest.mark.parametrize("shape", [(16, 16), (17, 900), (900, 17), (64, 48), (192, 192), (1080, 1920)])
def test_any_size(shape, monkeypatch):
    """Random weights, many squares: each inside the photograph."""
    torch.manual_seed(0)
    monkeypatch.setattr(finder, "DOUBTFUL", 0.0)
    monkeypatch.setattr(finder, "SAME", 0.0)
    model = Finder().eval()
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    found = find_faces(picture, (model, 1e-6))
    assert found
    for (left, top, side), score in found:
        assert 0 <= left <= shape[1] - side and 0 <= top <= shape[0] - side and side >= 16 and 0 < score < 1


def test_what_cannot_be_looked_at():
    assert find_faces(np.zeros((15, 300, 3), np.uint8)) == []
    for wrong in (np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3)), np.zeros((64, 64, 4), np.uint8), "a.jpg"):
        with pytest.raises(ImageError, match="find_faces expects"):
            find_faces(wrong)


def test_the_network_sees_large_faces_whole():
    """What a cell says can depend on pixels 90 pixels away: half of the largest face."""
    torch.manual_seed(0)
    model, image = Finder().eval(), torch.randn(1, 3, 192, 192, requires_grad=True)
    model(image)[0, 0, 12, 12].backward()
    rows = image.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows.min() <= 100 - 90 and rows.max() >= 100 + 90


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints and proposals


def test_a_checkpoint_says_its_own_widths_and_least_score(tmp_path):
    torch.manual_seed(0)
    model, path = Finder((4, 4, 8, 8, 8)).eval(), tmp_path / "small.safetensors"
    save_checkpoint(path, model, {"widths": [4, 4, 8, 8, 8], "threshold": 0.25}, "float32")
    loaded, threshold = load_finder(path)
    image = torch.rand(1, 3, 64, 96)
    assert threshold == 0.25 and torch.allclose(loaded(image), model(image), atol=1e-5)
    with pytest.raises(CheckpointError, match=r"absent.safetensors: there is no such checkpoint"):
        load_finder(tmp_path / "absent.safetensors")


def test_proposals(monkeypatch):
    """One face, several, none, and no finder at all: a square there is always, and a sentence on it."""
    photograph = np.zeros((60, 100, 3), np.uint8)
    cases = {"a face was found": [((1, 2, 30), 0.9)]}
    cases["2 faces were found, it is the surest"] = [((1, 2, 30), 0.9), ((50, 2, 30), 0.8)]
    for told, found in cases.items():
        monkeypatch.setattr(finder, "find_faces", lambda _, found=found: found)
        assert propose(photograph) == ([box for box, _ in found], told, True)
    monkeypatch.setattr(finder, "find_faces", lambda _: [])
    assert propose(photograph) == ([(20, 0, 60)], "no face was found, so it is the centred one", False)


def test_without_the_weights_the_square_is_centred(data_without_finder, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(data_without_finder))
    boxes, told, found = propose(np.zeros((60, 100, 3), np.uint8))
    assert boxes == [(20, 0, 60)] and not found and "finder.safetensors: there is no such checkpoint" in told


# ---------------------------------------------------------------------------------------------------------------------
# The finder that ships


@needs_weights
def test_it_is_small_and_fast():
    """At most 2 MB and 100 ms, as recorded on a quiet core; a third of a second here, where other work runs beside."""
    assert shipped("finder").stat().st_size <= 2e6
    assert json.loads((data_folder() / "results" / "finder.json").read_text(encoding="utf-8"))["milliseconds"] <= 100
    photograph = astronaut()
    assert seconds_of(lambda: find_faces(photograph), times=5) < 0.35


@needs_weights
def test_the_astronaut():
    """A photograph of a person from the waist up: the first square is on her face, eyes and mouth within it."""
    (left, top, side), score = find_faces(astronaut())[0]
    middle = left + side / 2, top + side / 2
    assert abs(middle[0] - 222) < 30 and abs(middle[1] - 110) < 35 and 110 < side < 280 and score > 0.5


@needs_weights
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_rendered_faces(kind):
    """Test faces in larger pictures of plain colour: nine of ten squares are right, the others near."""
    pictures = load_faces("test", 20)
    faces, rng = Faces.rendered(pictures, load_parameters("test")), np.random.default_rng(3)
    overlaps = []
    for picture, square in zip(faces.pictures, faces.squares, strict=True):
        canvas = np.full((300, 400, 3), rng.integers(60, 200, 3), np.uint8)
        side = rng.uniform(80, 200)
        wanted = np.array([rng.uniform(0, 400 - side), rng.uniform(0, 300 - side), side])
        lay_on(canvas, picture, mask_of(kind, rng), square, wanted)
        found = find_faces(canvas)
        overlaps.append(iou(wanted, np.array([found[0][0]]))[0] if found else 0.0)
    assert np.mean(np.array(overlaps) >= 0.6) >= 0.9


@needs_weights
def test_no_face_in_plain_pictures():
    grey, noise = np.full((200, 300, 3), 128, np.uint8), np.random.default_rng(0).integers(0, 256, (200, 300, 3))
    assert find_faces(grey) == [] and find_faces(noise.astype(np.uint8)) == []
