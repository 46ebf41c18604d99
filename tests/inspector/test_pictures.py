"""helpers.inspector.pictures: the sets, uploads, what a state makes of a picture, the cache."""

import io

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from helpers.data import ImageError, load_faces
from helpers.degrade import Compose, GaussianNoise, Jpeg, MotionBlur
from helpers.engine.checkpoints import shipped
from helpers.finder import iou
from helpers.inspector import pictures
from helpers.inspector.pictures import Cache, PictureSets
from helpers.inspector.state import State
from helpers.pairs import Pairs
from helpers.seeds import SEED, rng_for


@pytest.fixture
def sets():
    sets = PictureSets()
    sets.loaded["test"] = load_faces("test", 60)
    return sets


def file_of(image, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


# ---------------------------------------------------------------------------------------------------------------------
# One picture


def test_a_picture_holds_what_pairs_make(sets):
    """Blur, noise and JPEG one after the other, drawn as for the test set; parameters without the chain's numbers."""
    state = State(index=5, kind="motion", strength=12.0, angle=30.0, noise=20, quality=40, low=20, high=60)
    picture = sets.picture(state)
    chain = Compose(MotionBlur(12.0, 30.0), GaussianNoise(20 / 255), Jpeg(40))
    batch = Pairs(sets.images("test"), chain, thresholds=(20, 60)).batch([5])
    assert np.array_equal(picture.blurred, batch.blurred[0]) and np.array_equal(picture.edges, batch.edges[0])
    assert np.array_equal(picture.sharp, sets.images("test")[5]) and picture.has_truth
    drawn = chain.sample(rng_for(SEED, 5))
    assert picture.params == {name.split(".")[1]: value for name, value in drawn.items()}
    assert picture.words == "motion 12 px, at 30°, noise 0.078, JPEG 40" and picture.thresholds == (20, 60)


def test_keys_tell_pictures_apart(sets):
    """What changes the degraded picture changes its key; thresholds, methods and views do not."""
    state = State(kind="gaussian")
    same = [state.but(view="maps"), state.but(methods=()), state.but(low=50, high=90), state.but(angle=0)]
    assert {sets.picture(other).key for other in same} == {sets.picture(state).key}
    others = [state.but(index=1), state.but(source="val"), state.but(strength=2.0), state.but(noise=1)]
    others += [state.but(quality=50), state.but(kind="none"), state.but(kind="drawn")]
    assert len({sets.picture(other).key for other in [state, *others]}) == 8
    assert sets.picture(state) is sets.picture(same[0]) is not sets.picture(same[2])


def test_the_cache_does_not_grow_and_forgets_the_oldest():
    cache, computed = Cache(20), []
    for index in range(60):
        cache.remember((index,), lambda index=index: computed.append(index) or index)
        assert cache.remember((0,), lambda: computed.append("again")) == 0  # used all the time
    assert [key[0] for key in cache] == [*range(41, 60), 0] and computed == list(range(60))


def test_the_oldest_picture_is_forgotten(sets):
    sets.cache = Cache(20)
    for index in range(60):
        sets.picture(State(index=index))
        used = sets.picture(State())
    assert len(sets.cache) == 20 and used is sets.picture(State())
    assert {key[0][0][1] for key in sets.cache} == {0, *range(41, 60)}


# ---------------------------------------------------------------------------------------------------------------------
# Uploads


@pytest.fixture(scope="module")
def face():
    return load_faces("val", 1)[0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_upload(sets, face, kind):
    sets.upload(file_of(face, kind, quality=95))
    state = State("photo", kind="none")
    assert np.abs(sets.picture(state).sharp.astype(int) - face).mean() < 4
    assert not sets.picture(state).has_truth


def test_the_example_is_a_photograph_like_any_other(sets):
    """The square lies in it, and another photograph takes its place."""
    crop = sets.example()
    assert sets.proposal.boxes == [crop]
    assert sets.about_faces(crop) == "" and sets.next_face(crop) == crop
    assert sets.crop_box(crop) == crop and sets.images("photo")[0].shape == (512, 512, 3)
    picture = sets.picture(State("photo", kind="none", crop=crop))
    assert picture.sharp.shape == (128, 128, 3) and picture.sharp.std() > 40 and not picture.has_truth
    skin = picture.sharp[50:80, 50:75].reshape(-1, 3).mean(0)  # cheek and nose: warm, and lighter than the hair
    assert skin[0] > skin[1] > skin[2] > 80


@pytest.mark.skipif(not shipped("finder").exists(), reason="weights not shipped")
def test_the_square_of_an_uploaded_photograph_is_on_the_face(sets):
    """The example as if it were anybody's photograph: the found square and the one set by hand overlap."""
    sets.upload(file_of(astronaut(), "JPEG", quality=90))
    (box, *_) = sets.proposal.boxes
    assert iou(np.array(box), np.array([pictures.EXAMPLE_CROP]))[0] > 0.5 and sets.proposal.found
    assert "face" in sets.about_faces(box) and sets.about_faces((0, 0, 512)) in ("", "2 faces were found.")


def test_an_upload_without_the_finder(sets, face, data_without_finder, monkeypatch):
    """The square is centred, and the page says why, without the folder in which the course lies."""
    monkeypatch.setenv("COURSE_DATA", str(data_without_finder))
    sets.upload(file_of(np.concatenate([face, face], axis=1)))
    assert sets.proposal.boxes == [(64, 0, 128)] and not sets.proposal.found
    told = sets.about_faces((64, 0, 128))
    assert "finder.safetensors: there is no such checkpoint" in told and str(data_without_finder.parent) not in told


def test_upload_turned_transparent_grey_and_huge(sets, face):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees to the right
    sets.upload(file_of(Image.fromarray(np.rot90(face)), "JPEG", exif=exif, quality=95))
    assert np.abs(sets.photo.astype(int) - face).mean() < 6
    clear = np.dstack([face, np.zeros((128, 128), np.uint8)])
    sets.upload(file_of(clear))
    assert (sets.photo == 255).all()
    sets.upload(file_of(face[..., 0]))
    assert sets.photo.shape == (128, 128, 3) and np.array_equal(sets.photo[..., 0], sets.photo[..., 2])
    sets.upload(file_of(np.zeros((3000, 4500, 3), np.uint8), "JPEG"))
    assert sets.photo.shape[1] == pictures.PHOTO_SIDE and sets.photo.shape[0] == pytest.approx(683, abs=2)
    with pytest.raises(ImageError, match="too few"):
        sets.upload(file_of(np.zeros((8, 300, 3), np.uint8)))


@pytest.mark.parametrize("shape", [(900, 1400), (2000, 600), (300, 200), (1499, 1001)])
def test_the_original_and_the_square_in_it(sets, shape):
    """The square covers the same share of the whole as of what the page shows, and never leaves it."""
    photograph = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    sets.upload(file_of(photograph, compress_level=0))
    height, width = sets.photo.shape[:2]
    for crop in ((), (0, 0, 100), (width - 100, height - 100, 100), (20, 40, 64)):
        original, (left, top, side) = sets.original(crop)
        assert np.array_equal(original.pixels, photograph)
        scale, box = shape[0] / height, sets.crop_box(crop)
        assert (left, top, side) == pytest.approx(scale * np.array(box), abs=2)
        assert min(left, top) >= 0 and left + side <= shape[1] and top + side <= shape[0]


def test_the_example_is_its_own_original(sets):
    crop = sets.example()
    original, box = sets.original(crop)
    assert box == crop and np.array_equal(original.pixels, astronaut())


BAD = {
    "empty": b"", "text": b"hello", "GIF": file_of(np.zeros((32, 32, 3), np.uint8), "GIF"), "RIFF": b"RIFF1234WAVEfmt ",
    "cut off": file_of(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[:3000],
    "PNG in name only": b"\x89PNG\r\n\x1a\n" + bytes(100), "HTML": b"<html><script>alert(1)</script></html>",
}  # fmt: skip


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_bad_uploads_are_refused_and_the_earlier_photo_stays(sets, face, content):
    sets.upload(file_of(face))
    before = sets.photo
    with pytest.raises(ImageError) as refusal:
        sets.upload(content)
    assert sets.photo is before and len(str(refusal.value)) < 200


def test_crop_box(sets, face):
    """The square is moved into the photograph, the middle is the default, and another square is another picture."""
    sets.upload(file_of(np.concatenate([face, 255 - face], axis=1)))
    assert sets.crop_box(()) == (64, 0, 128) and sets.crop_box((500, -7, 40)) == (216, 0, 40)
    left, right = State("photo", kind="none", crop=(0, 0, 128)), State("photo", kind="none", crop=(128, 0, 128))
    assert np.array_equal(sets.picture(left).sharp, face) and np.array_equal(sets.picture(right).sharp, 255 - face)
    assert sets.picture(left).key != sets.picture(right).key
    assert sets.picture(left.but(crop=(10, 10, 50))).sharp.shape == (128, 128, 3)


def test_the_next_photo_is_not_taken_for_the_last(sets, face):
    state = State("photo", kind="none")
    sets.upload(file_of(face))
    first = sets.picture(state)
    sets.upload(file_of(255 - face))
    second = sets.picture(state)
    assert np.array_equal(second.sharp, 255 - face) and first.key != second.key


# ---------------------------------------------------------------------------------------------------------------------
# What is missing


def test_a_missing_or_damaged_set(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    sets = PictureSets()
    assert "missing" in sets.why_not("test") and "photograph" in sets.why_not("photo") and sets.why_not("folder")
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "val.zip").write_bytes(b"no zip")
    assert "damaged" in sets.why_not("val")


def test_own_folder(sets, face, tmp_path, monkeypatch):
    with pytest.raises(ImageError):
        sets.open_folder(tmp_path / "nowhere")
    assert "nowhere" in sets.why_not("folder")
    Image.fromarray(face).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"broken")
    sets.open_folder(tmp_path)
    picture = sets.picture(State("folder"))
    assert np.array_equal(picture.sharp, face) and picture.has_truth
    with pytest.raises(ImageError, match="b.jpg") as error:
        sets.picture(State("folder", 1))
    assert str(tmp_path) not in sets.short(error.value)
    Image.fromarray(255 - face).save(tmp_path / "a.png")
    sets.open_folder(tmp_path)
    assert np.array_equal(sets.picture(State("folder")).sharp, 255 - face)  # not taken for the last one
    monkeypatch.setenv("COURSE_PHOTOS", str(tmp_path))
    assert len(PictureSets().images("folder")) == 2


@pytest.mark.parametrize("kind", ["absent", "empty", "a file"])
def test_a_folder_that_cannot_be_used_is_told(tmp_path, monkeypatch, kind):
    """COURSE_PHOTOS with a mistake in it: the other sets are there, and that one says what is wrong, not where."""
    folder = tmp_path / "photos"
    if kind == "empty":
        folder.mkdir()
    elif kind == "a file":
        folder.write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("COURSE_PHOTOS", str(folder))
    sets = PictureSets()
    assert sets.why_not("test") == ""
    why = sets.why_not("folder")
    assert why.startswith("COURSE_PHOTOS: ") and ("holds no picture" in why) == (kind == "empty")
    assert "nowhere: there is no such folder" in PictureSets(tmp_path / "nowhere").why_not("folder")
