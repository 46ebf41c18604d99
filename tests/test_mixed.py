"""helpers.mixed: sets by name; shares, order, nothing left out."""

import numpy as np
import pytest
from PIL import Image

from helpers.data import ImageError, load_faces
from helpers.mixed import NAMES, Mixed, described, named_set, named_sets, training_set
from helpers.pairs import Pairs
from helpers.portraits import read_table
from tests.conftest import make_faces


def numbered(count: int, first: int, size: int = 16) -> np.ndarray:
    """Pictures that are told apart by their grey value."""
    return np.stack([np.full((size, size, 3), first + i, np.uint8) for i in range(count)])


def values(mixed: Mixed) -> list[int]:
    return [int(mixed[i][0, 0, 0]) for i in range(len(mixed))]


def test_without_shares_one_after_the_other():
    assert values(Mixed([numbered(3, 0), numbered(2, 100)])) == [0, 1, 2, 100, 101]


def test_shares_by_hand():
    """2 : 1 of 2 and 6 pictures: the smaller set has two thirds, so it comes round six times."""
    mixed = Mixed([numbered(2, 0), numbered(6, 100)], [2, 1])
    assert values(mixed) == [0, 1] * 6 + [100, 101, 102, 103, 104, 105]
    assert repr(mixed) == "Mixed(12 of 2 + 6 of 6)"


@pytest.mark.parametrize("shares", [[1, 1, 1], [2, 1, 1], [0.1, 5, 0.3], [7, 1, 2]])
def test_no_picture_is_left_out(shares):
    seen = values(Mixed([numbered(3, 0), numbered(17, 50), numbered(8, 100)], shares))
    assert set(seen) == {*range(3), *range(50, 67), *range(100, 108)}
    counts = np.array([sum(low <= v < low + 50 for v in seen) for low in (0, 50, 100)])
    assert counts / counts.sum() == pytest.approx(np.array(shares) / sum(shares), abs=0.01)


def test_each_round_is_a_picture_of_its_own():
    """The same face twice in an epoch, degraded in two ways."""
    batch = Pairs(Mixed([make_faces(1, 64), make_faces(2, 64, 1)], [2, 1])).batch([0, 1], 0)
    assert np.array_equal(batch.sharp[0], batch.sharp[1]) and batch.params[0] != batch.params[1]


def test_it_ends():
    with pytest.raises(IndexError, match="no picture 5 among 5"):
        Mixed([numbered(3, 0), numbered(2, 100)])[5]
    assert len(list(Mixed([numbered(3, 0), numbered(2, 100)]))) == 5


@pytest.mark.parametrize(
    ("sources", "shares", "told"),
    [
        ([], None, "there are no images"),
        ([numbered(2, 0), numbered(2, 0)[:0]], None, "one of 2 sets has no images"),
        ([numbered(2, 0), numbered(2, 0, 32)], None, "different sizes"),
        ([numbered(2, 0), numbered(2, 0)], [1], "2 sets need 2 shares"),
        ([numbered(2, 0), numbered(2, 0)], [1, 0], "above 0"),
        ([numbered(2, 0), numbered(2, 0)], [1, float("nan")], "above 0"),
    ],
)
def test_what_does_not_fit_is_refused(sources, shares, told):
    with pytest.raises(ImageError, match=told):
        Mixed(sources, shares)


# ---------------------------------------------------------------------------------------------------------------------
# By name


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """A folder of portraits that holds two of each split, as if they had been fetched; the pictures of each."""
    found = {}
    for split in ("train", "val", "test", "grey"):
        rows = [row for row in read_table() if row.split == split][:2]
        found[split] = make_faces(2, 128, len(found))
        for row, picture in zip(rows, found[split], strict=True):
            path = row.cuts(tmp_path / "portraits")[128]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path, quality=95)
    monkeypatch.setenv("COURSE_PORTRAITS", str(tmp_path / "portraits"))
    return found


@pytest.mark.filterwarnings("ignore:.*portraits are there")
def test_sets_by_name(fetched, tmp_path):
    """Shipped faces, fetched portraits, grey ones, any folder."""
    assert np.array_equal(named_set("faces", "val", 2), load_faces("val", 2))
    for name, split, found in (("portraits", "train", "train"), ("portraits", "test", "test")):
        images = named_set(name, split)
        assert len(images) == 2 and np.abs(images.astype(int) - fetched[found]).mean() < 4
    assert np.abs(named_set("grey-portraits", "train", 1).astype(int) - fetched["grey"][:1]).mean() < 4
    assert len(named_set("portraits", "val", 1)) == 1
    folder = tmp_path / "album" / "test"
    folder.mkdir(parents=True)
    Image.fromarray(fetched["val"][0]).save(folder / "a.png")
    assert np.array_equal(named_set(str(folder.parent), "test")[0], fetched["val"][0])


@pytest.mark.filterwarnings("ignore:.*portraits are there")
def test_grey_portraits_are_for_training_alone(fetched):
    names = ["portraits", "grey-portraits", "faces"]
    assert [len(images) for images in named_sets(names, "train", 2)] == [2, 2, 2]
    assert [len(images) for images in named_sets(names, "val", 2)] == [2, 2]
    with pytest.raises(ImageError, match="for training alone"):
        named_sets(["grey-portraits"], "test")
    assert len(named_sets(None, "test", 1)) == 1


@pytest.mark.filterwarnings("ignore:.*portraits are there")
def test_a_training_set_says_what_it_is(fetched):
    images, told = training_set(["portraits", "grey-portraits", "faces"], [2, 1, 1], 2)
    assert told == "2 portraits + 2 grey portraits + 2 shipped faces, shares 2 : 1 : 1"
    assert repr(images) == "Mixed(4 of 2 + 2 of 2 + 2 of 2)"
    images, told = training_set(None, limit=3)
    assert told == "3 shipped faces" and isinstance(images, np.ndarray) and len(images) == 3
    with pytest.raises(ImageError, match="1 sets need 1 shares"):
        training_set(["faces"], [1, 2], 2)


def test_folders_are_told_apart_without_their_paths():
    sets = [[0] * 4, [0] * 2, [0]]
    assert described(["somewhere/mine", "faces"], sets[:2]) == "4 photographs + 2 shipped faces"
    assert (
        described(["a/mine", "b/grey/", "faces"], sets)
        == "4 photographs (mine) + 2 photographs (grey) + 1 shipped faces"
    )


def test_portraits_that_are_not_fetched_yet(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PORTRAITS", str(tmp_path))
    with pytest.raises(ImageError, match="python -m helpers.portraits"):
        named_set("portraits", "train")
    assert "portraits" in NAMES and "faces" in NAMES
