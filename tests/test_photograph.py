"""helpers.photograph: what a file holds besides pixels comes back, and a square goes back into its picture."""

import errno
import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from helpers.engine.errors import ImageError
from helpers.photograph import FORMATS, Photograph, centred_box, checked_box, format_of, put_back, read_photograph
from helpers.photos import read_image
from tests.conftest import make_faces
from tests.test_photos import DISPLAY_P3, EXIFS

DESCRIPTION, ORIENTATION, EXIF, COPYRIGHT, EXPOSURE = 0x010E, 0x0112, 0x8769, 0x8298, 0x829A


@pytest.fixture
def pixels() -> np.ndarray:
    """A picture that is wider than high, and the same under no turn."""
    return make_faces(1, 96)[0][:64]


@pytest.fixture
def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif_with(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION], exif[DESCRIPTION], exif[COPYRIGHT] = orientation, "a garden", "nobody"
    exif.get_ifd(EXIF)[EXPOSURE] = 0.25
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG", exif=exif)
    return Image.open(file).getexif()  # a file's own; what is only in memory does not get into a TIFF whole


# ---------------------------------------------------------------------------------------------------------------------
# Files


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_upright(tmp_path, pixels, orientation):
    """Written turned, read upright; written again, no reader turns it once more."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = Image.fromarray(pixels)
    stored = stored.transpose(undo[orientation]) if orientation > 1 else stored
    stored.save(tmp_path / "turned.png", exif=exif_with(orientation))
    photograph = read_photograph(tmp_path / "turned.png")
    assert np.array_equal(photograph.pixels, pixels)
    photograph.save(tmp_path / "upright.png")
    again = Image.open(tmp_path / "upright.png")
    assert np.array_equal(np.asarray(again), pixels) and ORIENTATION not in again.getexif()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("source", ["png", "jpg", "webp", "tif"])
def test_exif_and_profile_are_kept(tmp_path, pixels, profile, source, suffix):
    Image.fromarray(pixels).save(tmp_path / f"a.{source}", exif=exif_with(1), icc_profile=profile)
    read_photograph(tmp_path / f"a.{source}").save(tmp_path / f"b{suffix.upper()}")
    with Image.open(tmp_path / f"b{suffix.upper()}") as written:
        exif = written.getexif()
        assert written.format == FORMATS[suffix] and written.size == (96, 64)
        assert written.info["icc_profile"] == profile
        assert exif[DESCRIPTION] == "a garden" and exif[COPYRIGHT] == "nobody"
        assert float(exif.get_ifd(EXIF)[EXPOSURE]) == 0.25
        assert set(exif) <= {DESCRIPTION, COPYRIGHT, EXIF, 0x011A, 0x011B, 0x0128}  # no tag of a TIFF's strips
        difference = np.asarray(written.convert("RGB")).astype(int) - pixels
    lossy = source in ("jpg", "webp") or suffix != ".png"
    assert np.abs(difference).max() == 0 if not lossy else np.abs(difference).mean() < 8


def test_colours_stay_in_the_files_own_space(tmp_path, pixels):
    """Not converted to sRGB and back, which would change every pixel of the photograph."""
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=DISPLAY_P3)
    assert not np.array_equal(read_image(tmp_path / "a.png", size=None), pixels)
    photograph = read_photograph(tmp_path / "a.png")
    assert np.array_equal(photograph.pixels, pixels) and photograph.icc == DISPLAY_P3


def test_the_bytes_of_a_file(pixels, profile):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", icc_profile=profile)
    photograph = read_photograph(file.getvalue())
    assert np.array_equal(photograph.pixels, pixels) and photograph.icc == profile and photograph.exif == b""
    again = read_photograph(photograph.png())
    assert np.array_equal(again.pixels, pixels) and again.icc == profile


def test_transparency(tmp_path, pixels):
    """Kept where the format holds it; a JPEG shows the picture on white."""
    alpha = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))
    Image.fromarray(np.dstack([pixels, alpha])).save(tmp_path / "a.png")
    photograph = read_photograph(tmp_path / "a.png")
    photograph.save(tmp_path / "b.png")
    photograph.save(tmp_path / "b.jpg")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), np.dstack([pixels, alpha]))
    on_white = Image.open(tmp_path / "b.jpg")
    assert on_white.mode == "RGB" and np.asarray(on_white)[:, :2].min() > 240
    assert np.abs(np.asarray(on_white)[:, -4:].astype(int) - pixels[:, -4:]).mean() < 6


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "I;16"])
def test_other_modes_lose_the_profile(tmp_path, pixels, profile, mode):
    """Their pixels become RGB on the way, so a profile of grey or of ink would describe them wrongly."""
    if mode == "I;16":
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(pixels).convert(mode)
    picture.save(tmp_path / "a.tif", icc_profile=profile)
    photograph = read_photograph(tmp_path / "a.tif")
    assert photograph.pixels.shape == pixels.shape and photograph.icc == b"" and photograph.alpha is None
    if mode in ("L", "I;16"):
        grey = pixels[..., 0] if mode == "I;16" else np.asarray(picture)
        assert np.array_equal(photograph.pixels, np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("broken", EXIFS.values(), ids=EXIFS)
def test_broken_metadata_costs_nothing(tmp_path, pixels, broken, suffix):
    """The picture is turned as its orientation says and written; what Pillow cannot write again is left out."""
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "a.png", exif=b"Exif\0\0" + broken)
    photograph = read_photograph(tmp_path / "a.png")
    assert np.array_equal(photograph.pixels, pixels)
    photograph.save(tmp_path / f"b{suffix}")
    with Image.open(tmp_path / f"b{suffix}") as written:
        assert written.size == (96, 64) and ORIENTATION not in written.getexif()


def test_exif_too_long_for_a_jpeg(tmp_path, pixels):
    exif = exif_with(1)
    exif[DESCRIPTION] = "x" * 70_000
    photograph = Photograph(pixels, exif=exif.tobytes())
    photograph.save(tmp_path / "a.jpg")
    photograph.save(tmp_path / "a.png")
    assert not Image.open(tmp_path / "a.jpg").getexif()
    assert len(Image.open(tmp_path / "a.png").getexif()[DESCRIPTION]) == 70_000


@pytest.mark.parametrize("name", ["a.gif", "a", "a.tif"])
def test_other_suffixes_are_refused(tmp_path, pixels, name):
    with pytest.raises(ImageError, match="is written as .png, .jpg, .jpeg, .webp"):
        Photograph(pixels).save(tmp_path / name)
    with pytest.raises(ImageError):
        format_of(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_file_is_whole_or_not_there(tmp_path, pixels, monkeypatch, error):
    """Stopped in the middle of writing: the old file stays, and nothing lies beside it."""
    Photograph(pixels).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()

    def half(self, path, *args, **options):
        path.write_bytes(before[:100])
        raise error

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ImageError) as caught:
        Photograph(255 - pixels).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    assert isinstance(error, KeyboardInterrupt) or "No space left" in str(caught.value)


def test_a_picture_too_wide_for_its_format(tmp_path):
    with pytest.raises(ImageError, match="a.webp: cannot be written"):
        Photograph(np.zeros((16, 16400, 3), np.uint8)).save(tmp_path / "a.webp")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_picture(tmp_path):
    (tmp_path / "a.jpg").write_text("no picture", encoding="utf-8")
    for name in ("a.jpg", "absent.png"):
        with pytest.raises(ImageError, match=name):
            read_photograph(tmp_path / name)


# ---------------------------------------------------------------------------------------------------------------------
# The square


def test_boxes():
    photograph = np.zeros((40, 101, 3), np.uint8)
    assert centred_box(photograph) == (30, 0, 40) == checked_box(photograph, None)
    assert checked_box(photograph, [61, 0, 40]) == (61, 0, 40)
    for box in ((62, 0, 40), (0, 1, 40), (-1, 0, 30), (0, -1, 30), (0, 0, 41)):
        with pytest.raises(ImageError, match="leaves its 101×40 pixels"):
            checked_box(photograph, box)
    with pytest.raises(ImageError, match="too small to hold a face"):
        checked_box(photograph, (0, 0, 15))


@pytest.mark.parametrize("border", [0, 1, 10, 31, None])
def test_nothing_changes_outside_and_the_core_is_the_restored(border):
    rng = np.random.default_rng(0)
    photograph = rng.integers(0, 256, (120, 150, 3)).astype(np.uint8)
    restored = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    before = photograph.copy()
    out = put_back(photograph, restored, (50, 30, 64), border)
    inside = np.zeros((120, 150), bool)
    inside[30:94, 50:114] = True
    assert np.array_equal(out[~inside], photograph[~inside]) and np.array_equal(photograph, before)
    b = 6 if border is None else border
    core = slice(b, 64 - b)
    assert np.array_equal(out[30:94, 50:114][core, core], restored[core, core])
    low, high = np.minimum(photograph[30:94, 50:114], restored), np.maximum(photograph[30:94, 50:114], restored)
    assert ((low <= out[30:94, 50:114]) & (out[30:94, 50:114] <= high)).all()


def test_the_border_is_soft():
    """From 60 to 180 without a step larger than the steepest place of half a cosine over 20 pixels."""
    photograph, restored = np.full((200, 200, 3), 60, np.uint8), np.full((120, 120, 3), 180, np.uint8)
    out = put_back(photograph, restored, (40, 40, 120), 20).astype(int)
    for line in (out[100, :, 0], out[:, 100, 0], np.diagonal(out[..., 0])):
        steps = np.diff(line)
        assert (steps[:100] >= 0).all() and (steps[100:] <= 0).all() and line[100] == 180
    steepest = 120 * np.pi / 2 / 20
    assert max(np.abs(np.diff(out, axis=a)).max() for a in (0, 1)) <= np.ceil(steepest)


def test_an_edge_of_the_photograph_is_not_faded():
    photograph, restored = np.zeros((80, 100, 3), np.uint8), np.full((80, 80, 3), 200, np.uint8)
    out = put_back(photograph, restored, (0, 0, 80), 10)
    assert (
        (out[:, :70] == 200).all() and (np.diff(out[40, 69:80, 0].astype(int)) < 0).all() and (out[:, 80:] == 0).all()
    )
    assert (put_back(photograph[:, :80], restored, (0, 0, 80)) == 200).all()


def test_squares_that_do_not_fit_are_refused():
    photograph, restored = np.zeros((80, 100, 3), np.uint8), np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(ImageError, match="the box says"):
        put_back(photograph, restored, (0, 0, 41))
    with pytest.raises(ImageError, match="leaves"):
        put_back(photograph, restored, (61, 0, 40))
    for border in (-1, 20):
        with pytest.raises(ImageError, match="border"):
            put_back(photograph, restored, (0, 0, 40), border)
