"""helpers.photos: every kind of picture file, folders, pairs."""

import io
import os
import shutil
import struct
import sys
import time
import types
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from helpers import data, photos
from helpers.engine.errors import ImageError
from helpers.photos import read_image, square
from tests.conftest import seconds_of
from tests.pictures import encoded, quarters, save

# ---------------------------------------------------------------------------------------------------------------------
# One picture, in every format


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "ppm", "webp"])
def test_lossless_formats_give_the_exact_pixels(kind, tmp_path):
    path = tmp_path / f"picture.{kind}"
    path.write_bytes(encoded(Image.fromarray(quarters()), kind, **({"lossless": True} if kind == "webp" else {})))
    assert np.array_equal(read_image(path, size=None), quarters())
    assert np.array_equal(read_image(str(path), size=40), quarters())


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_lossy_formats_come_close(kind):
    """Smooth shading survives quality 95 within a few grey levels."""
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    result = read_image(encoded(Image.fromarray(ramp), kind, quality=95), size=None).astype(int)
    assert np.abs(result - ramp).mean() < 3


def test_grey_becomes_rgb():
    grey = quarters()[..., 0] // 2 + 10
    result = read_image(encoded(Image.fromarray(grey), "png"), size=None)
    assert np.array_equal(result, np.repeat(grey[..., None], 3, 2))


def test_one_bit_becomes_rgb():
    bits = Image.fromarray(quarters()[..., 0]).convert("1")
    assert set(np.unique(read_image(encoded(bits, "png"), size=None))) == {0, 255}


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 100), (51, 224)])
def test_transparency_is_laid_on_white(mode, alpha, expected):
    """100 at opacity 51/255 = 0.2 over white: 0.2 · 100 + 0.8 · 255 = 224."""
    colour = (100, alpha) if mode == "LA" else (100, 100, 100, alpha)
    result = read_image(encoded(Image.new(mode, (20, 20), colour), "png"), size=None)
    assert np.abs(result.astype(int) - expected).max() <= 1  # Pillow rounds the mixture


def test_palette_with_transparency():
    """One palette colour is declared transparent: white; the others keep their colour."""
    picture = Image.new("P", (20, 20), 0)
    picture.putpalette([10, 20, 30, 200, 100, 50] + [0] * 750)
    picture.paste(1, (0, 0, 10, 20))
    result = read_image(encoded(picture, "png", transparency=0), size=None)
    assert (result[:, :10] == (200, 100, 50)).all() and (result[:, 10:] == 255).all()
    assert (read_image(encoded(picture, "png"), size=None)[:, 10:] == (10, 20, 30)).all()


@pytest.mark.parametrize(("deep", "expected"), [(0, 0), (65535, 255), (257 * 100, 100)])
def test_16_bit_grey(deep, expected):
    """16 bits become 8 by v / 65535 · 255, not by cutting off at 255."""
    values = np.full((20, 20), deep, np.uint16)
    values[0, 0] = 65535
    result = read_image(encoded(Image.fromarray(values), "png"), size=None)
    assert (result[5:] == expected).all() and (result[0, 0] == 255).all()


@pytest.mark.parametrize("highest", [1.0, 1.004, 1.5, 0.2, 4.0])
def test_floating_point_tiff(highest):
    """White is 1 whatever the largest value is: brighter ones are clipped, a dark picture stays dark."""
    ramp = np.tile(np.linspace(0, 1, 18, dtype=np.float32), (20, 1))
    ramp[0, 0] = highest
    result = read_image(encoded(Image.fromarray(ramp), "tiff"), size=None)
    assert result[0, 0, 0] == min(255, round(255 * highest))
    assert (result[1:, :, 0] == np.arange(0, 256, 15)).all()


def test_floating_point_over_255_is_refused():
    """It would come out white. The message says which values there are."""
    ramp = np.tile(np.linspace(0, 255, 20, dtype=np.float32), (20, 1))
    with pytest.raises(ImageError, match="uploaded file: its floating-point values reach 255, and white is 1"):
        read_image(encoded(Image.fromarray(ramp), "tiff"), size=None)


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("brightest", [1, 200, 255, 300])
def test_dark_pictures_of_16_bits_stay_dark(kind, brightest):
    """White is 65535 in 16 bits: 200 is nearly black, not the 200 of 8 bits."""
    values = np.full((20, 20), brightest, np.uint16)
    result = read_image(encoded(Image.fromarray(values), kind), size=None)
    assert (result == round(brightest / 65535 * 255)).all()


def test_32_bits_do_not_say_what_white_is():
    with pytest.raises(ImageError, match="what white is"):
        read_image(encoded(Image.fromarray(np.full((20, 20), 90_000, np.int32)), "tiff"), size=None)


def test_floating_point_nan_is_refused():
    values = np.full((20, 20), np.nan, np.float32)
    with pytest.raises(ImageError, match="NaN"):
        read_image(encoded(Image.fromarray(values), "tiff"), size=None)


def test_cmyk_jpeg():
    """No ink is white, full cyan is a colour without red."""
    white = read_image(encoded(Image.new("CMYK", (32, 32), (0, 0, 0, 0)), "jpeg", quality=95), size=None)
    cyan = read_image(encoded(Image.new("CMYK", (32, 32), (255, 0, 0, 0)), "jpeg", quality=95), size=None)
    assert white.shape == (32, 32, 3) and white.min() > 250
    assert cyan[..., 0].max() < 10 and cyan[..., 2].min() > 200


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [(1, lambda x: x), (3, lambda x: np.rot90(x, 2)), (6, lambda x: np.rot90(x, -1)), (8, lambda x: np.rot90(x, 1))],
)
def test_exif_orientation_turns_the_pixels(orientation, undo):
    """Orientation 6 means: stored lying on its left side, to be turned a quarter clockwise (and 8 the other way)."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = quarters(60, 40)
    result = read_image(encoded(Image.fromarray(stored), "png", exif=exif), size=None)
    assert np.array_equal(result, undo(stored))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_once(orientation, tmp_path):
    """Pillow turns this kind itself when it decodes. Eight times the upright picture, as cameras store it; and the
    frame that a matching pair is compared by."""
    back = {**photos.TURNS, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}.get(orientation)
    upright = Image.fromarray(quarters(60, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "picture.tif"
    path.write_bytes(encoded(upright if back is None else upright.transpose(back), "tiff", exif=exif))
    assert np.array_equal(read_image(path, size=None), np.asarray(upright))
    assert photos._picture_size(path) == (60, 40)


def test_exif_orientation_in_a_jpeg():
    """Phones write orientation 6 into JPEGs; the top left (red) ends up at the top right."""
    exif = Image.Exif()
    exif[0x0112] = 6
    result = read_image(encoded(Image.fromarray(quarters(64, 64)), "jpeg", exif=exif, quality=95, subsampling=0), 64)
    assert np.abs(result[8, 56].astype(int) - (255, 0, 0)).max() < 20


RATIONAL_NEGATIVE = bytes.fromhex(  # orientation 6 and an X resolution of -72/1, which no unsigned rational can be
    "4d4d002a00000008 0002 0112000300000001 00060000 011a000500000001 00000026 00000000 ffffffb8 00000001"
)
EXIFS = {
    "negative part": RATIONAL_NEGATIVE,
    "by nothing": RATIONAL_NEGATIVE[:-4] + bytes(4),
    "beyond the end": RATIONAL_NEGATIVE[:28] + bytes.fromhex("00ffffff") + RATIONAL_NEGATIVE[32:],
    "an entry of no type": RATIONAL_NEGATIVE[:24] + bytes.fromhex("00ff") + RATIONAL_NEGATIVE[26:],
}


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("exif", EXIFS.values(), ids=EXIFS)
def test_broken_metadata_costs_nothing(kind, exif):
    """The picture is read and turned as its orientation says; nobody needs the rest."""
    stored = quarters(64, 48)
    options = {"quality": 95, "subsampling": 0} if kind == "jpeg" else {}
    content = encoded(Image.fromarray(stored), kind, exif=b"Exif\0\0" + exif, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = read_image(content, size=None)
    assert result.shape == (64, 48, 3) and np.abs(result[8, 40].astype(int) - (255, 0, 0)).max() < 20


@pytest.mark.parametrize("exif", [b"", b"nonsense", RATIONAL_NEGATIVE[:9], b"MM\0\x2a\xff\xff\xff\xff"])
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_unreadable_metadata_leaves_the_picture_as_it_lies(kind, exif):
    content = encoded(Image.fromarray(quarters(64, 48)), kind, exif=b"Exif\0\0" + exif)
    assert read_image(content, size=None).shape == (48, 64, 3)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_are_none(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(read_image(encoded(Image.fromarray(quarters()), "png", exif=exif), size=None), quarters())


# ---------------------------------------------------------------------------------------------------------------------
# Colour profiles


def matrix_profile(red, green, blue, gamma: float) -> bytes:
    """An ICC profile of three primaries (XYZ under D50) and a gamma, as a display's is."""

    def fixed(*values):
        return b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"wide\0" + bytes(4 + 4 + 2 + 1 + 67)
    parts = {
        b"desc": text,
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1, 0.8249),
    }
    for name, column in ((b"r", red), (b"g", green), (b"b", blue)):
        parts[name + b"XYZ"] = b"XYZ " + bytes(4) + fixed(*column)
        parts[name + b"TRC"] = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    table, body, start = struct.pack(">I", len(parts)), b"", 128 + 4 + 12 * len(parts)
    for name, content in parts.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    return (head + bytes(28) + fixed(0.9642, 1, 0.8249)).ljust(128, b"\0") + table + body


# Columns of the matrices from linear RGB to XYZ (D50), as the profiles of the two spaces hold them.
DISPLAY_P3 = matrix_profile((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841), 2.2)
ADOBE_RGB = matrix_profile((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446), 2.2)


def test_display_p3_becomes_srgb():
    """A P3 orange in sRGB, computed by hand from the two matrices; without a profile the numbers stay."""
    colour = (200, 120, 60)
    linear = (np.array(colour) / 255) ** 2.2
    xyz = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]]) @ linear
    srgb = np.linalg.inv([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7142]]) @ xyz
    expected = 255 * (1.055 * srgb ** (1 / 2.4) - 0.055)
    picture = Image.new("RGB", (32, 32), colour)
    result = read_image(encoded(picture, "png", icc_profile=DISPLAY_P3), size=None)[0, 0].astype(int)
    assert np.abs(result - expected).max() <= 2 and np.abs(result - colour).max() > 4
    assert (read_image(encoded(picture, "png"), size=None)[0, 0] == colour).all()


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("profile", [DISPLAY_P3, ADOBE_RGB], ids=["P3", "Adobe RGB"])
def test_wide_colours_become_more_vivid_numbers(kind, profile):
    """The same red has larger numbers in the smaller space; grey stays grey, white white."""
    picture = Image.new("RGB", (48, 32), (200, 80, 80))
    picture.paste((128, 128, 128), (16, 0, 32, 32))
    picture.paste((255, 255, 255), (32, 0, 48, 32))
    options = {"quality": 98} if kind in ("jpeg", "webp") else {}
    result = read_image(encoded(picture, kind, icc_profile=profile, **options), size=None).astype(int)
    assert result[16, 8, 0] > 207 and np.ptp(result[16, 24]) <= 4 and result[16, 40].min() >= 252


def test_profiles_of_transparent_and_palette_pictures():
    clear = Image.new("RGBA", (32, 32), (200, 80, 80, 0))
    clear.paste((200, 80, 80, 255), (0, 0, 16, 32))
    result = read_image(encoded(clear, "png", icc_profile=DISPLAY_P3), size=None)
    assert (result[:, 16:] == 255).all() and result[0, 0, 0] > 207
    palette = Image.new("RGB", (32, 32), (200, 80, 80)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert read_image(encoded(palette, "png", icc_profile=DISPLAY_P3), size=None)[0, 0, 0] > 207


def test_srgb_and_unusable_profiles_change_nothing():
    """sRGB's own profile costs no rounding; a broken one, or a printer's in a picture of RGB, is as good as none."""
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (own, lab, b"no profile", DISPLAY_P3[:150]):
        content = encoded(Image.fromarray(quarters()), "png", icc_profile=profile)
        assert np.array_equal(read_image(content, size=None), quarters())


@pytest.mark.parametrize("kind", ["png", "jpeg"])
@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_truncated_files_are_refused(kind, keep, tmp_path):
    """Noise does not compress, so the cut falls into the pixels; the message names the file."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ImageError, match=r"cut\..*cannot be read"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"no picture at all\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\0" * 1000])
def test_what_is_no_picture_is_refused(content, tmp_path):
    """Empty files, text that is called .jpg, bare signatures; from a file and as an upload."""
    path = tmp_path / "portrait.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"portrait\.jpg"):
        read_image(path)
    with pytest.raises(ImageError, match="uploaded file"):
        read_image(content)


@pytest.mark.parametrize(
    "content", ["", "%%BoundingBox: 0 0 20 20\n(x) run\n", "%%BoundingBox: 0 0 9 9\n%ImageData: 9 9 8 3"]
)
def test_a_program_for_a_printer_is_refused(content, monkeypatch):
    """Pillow would have Ghostscript run it: no program is started for a stranger's file."""
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: pytest.fail(f"{args} was started"))
    for program in (
        encoded(Image.new("RGB", (20, 20)), "eps"),
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 30\n{content}\n%%EOF\n".encode(),
    ):
        with pytest.raises(ImageError, match="EPS is a program"):
            read_image(program)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize("side", [1, 8, 15])
def test_tiny_pictures_are_refused(side):
    content = encoded(Image.new("RGB", (side, side)), "png")
    with pytest.raises(ImageError, match=rf"{side}×{side} pixels is too small"):
        read_image(content)
    assert read_image(content, size=None).shape == (side, side, 3)  # without a size nothing is cut


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(4500, 3000, (683, 1024)), (12000, 180, (128, 8533)), (150, 9000, (7680, 128)), (5000, 100, (100, 5000)),
     (1024, 700, (700, 1024)), (300, 8, (8, 300))],
)  # fmt: skip
def test_longest_keeps_the_shorter_side(width, height, expected):
    """Shrunk to 1024 on the longer side, but no side that has 128 pixels falls below them, and none is enlarged."""
    content = encoded(Image.new("RGB", (width, height), "red"), "png")
    assert read_image(content, size=None, longest=1024).shape == (*expected, 3)


def test_sixteen_pixels_are_enough():
    assert read_image(encoded(Image.new("RGB", (16, 16), "red"), "png")).shape == (128, 128, 3)


@pytest.mark.parametrize(("width", "height"), [(40_000, 40_000), (12_000, 12_000)])
def test_huge_headers_are_refused_at_once(width, height):
    """A PNG of a hundred bytes that promises gigapixels: refused from its header alone."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(b""))
        + png_chunk(b"IEND", b"")
    )
    started = time.process_time()
    with pytest.raises(ImageError, match="smaller copy"):
        read_image(bomb)
    assert time.process_time() - started < 1  # decoding 144 megapixels takes longer


def test_large_photographs_are_quick():
    """20 megapixels are decoded at a fraction of the size: sooner, with all that follows, than a full decoding."""
    big = cv2.resize(quarters(), (5000, 4000), interpolation=cv2.INTER_NEAREST)
    content = encoded(Image.fromarray(big), "jpeg", quality=80)
    assert seconds_of(lambda: read_image(content)) < seconds_of(lambda: Image.open(io.BytesIO(content)).load())
    result = read_image(content)
    assert np.abs(result[20, 20].astype(int) - (255, 0, 0)).max() < 10 and result.shape == (128, 128, 3)


def test_a_given_crop_is_in_the_pixels_of_the_file():
    """The short cut for large JPEGs must not shrink the picture before 300 of its pixels are cut out."""
    picture = np.zeros((900, 900, 3), np.uint8)
    picture[300:600, 300:600] = 255
    content = encoded(Image.fromarray(picture), "jpeg", quality=95)
    assert read_image(content, size=32, crop=300)[2:-2, 2:-2].min() > 240


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_animations_are_refused(kind):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    with pytest.raises(ImageError, match="animation"):
        read_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))


@pytest.mark.parametrize(("width", "height"), [(300, 100), (100, 300)])
def test_wide_and_tall_pictures_are_cut_in_the_middle(width, height):
    """A white square in the middle of a black picture fills the result."""
    picture = np.zeros((height, width, 3), np.uint8)
    top, left = (height - 100) // 2, (width - 100) // 2
    picture[top : top + 100, left : left + 100] = 255
    assert (read_image(encoded(Image.fromarray(picture), "png")) == 255).all()


def test_crop_larger_than_the_picture():
    with pytest.raises(ImageError, match="100×50 pixels is too small for a centre crop of 178"):
        read_image(encoded(Image.new("RGB", (100, 50)), "png"), crop=178)


@pytest.mark.parametrize(("side", "size"), [(256, 128), (64, 128), (128, 128)])
def test_square_resizes(side, size):
    """Halving averages 2×2 pixels: a fine chequerboard of 0 and 200 becomes 100. The result owns its memory."""
    board = ((np.indices((side, side)).sum(0) % 2) * 200).astype(np.uint8)[..., None].repeat(3, 2)
    result = square(board, size)
    assert result.shape == (size, size, 3) and result.dtype == np.uint8 and result.flags["C_CONTIGUOUS"]
    if side == 256:
        assert (result == 100).all()
    if side == 128:
        assert np.array_equal(result, board)


# ---------------------------------------------------------------------------------------------------------------------
# Folders and pairs


def test_open_folder_finds_pictures_below(tmp_path):
    """Subfolders and upper-case suffixes count; hidden files, hidden folders and other files do not."""
    for name in ("b.png", "a.JPG", "deep/er/c.webp", ".hidden.png", ".thumbnails/d.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    photographs = photos.open_folder(tmp_path, size=32)
    assert [str(p.relative_to(tmp_path)) for p in photographs.paths] == ["a.JPG", "b.png", "deep/er/c.webp"]
    assert len(photographs) == 3 and photographs[1].shape == (32, 32, 3)
    assert photographs.load().shape == (3, 32, 32, 3)
    assert "3 files" in repr(photographs)


def test_the_order_is_that_of_paths(tmp_path):
    """As ``sorted`` puts paths: folder by folder, whatever sorts before a slash; the split by position hangs on it."""
    for name in ("a/1.png", "a-b/2.png", "a.png", "b/10.png", "b/9.png", "a/b/3.png", "B.png"):
        save(tmp_path / name)
    listed = photos.list_images(tmp_path)
    assert listed == sorted(listed) and len(listed) == 7
    (tmp_path / "linked.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "circle").symlink_to(tmp_path)
    assert set(photos.list_images(tmp_path)) - set(listed) == {tmp_path / "linked.png"}


def test_a_folder_of_many_files_is_listed_quickly(tmp_path):
    """5000 names in well under a second of the processor: nothing is looked up file by file."""
    for i in range(5000):
        (tmp_path / f"{i:05d}.jpg").touch()
    assert len(photos.list_images(tmp_path)) == 5000
    assert seconds_of(lambda: photos.list_images(tmp_path), times=5) < 0.5


def test_open_folder_empty_or_missing(tmp_path):
    with pytest.raises(ImageError, match="no such folder"):
        photos.open_folder(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    with pytest.raises(ImageError, match="holds no picture"):
        photos.open_folder(tmp_path)


def test_pictures_that_are_not_read_are_counted(tmp_path, capsys, monkeypatch):
    """20 JPEGs among 80 of an iPhone's HEIC: said once, with the numbers and what helps."""
    monkeypatch.setattr(photos, "heif_is_read", lambda: False)
    for i in range(20):
        save(tmp_path / f"{i}.JPG")
    for i in range(80):
        (tmp_path / f"IMG_{i}.HEIC").touch()
    (tmp_path / "notes.txt").touch()
    photographs = photos.open_folder(tmp_path)
    said = capsys.readouterr().out
    assert len(photographs) == 20 and said.count("\n") == 1 and said.strip() == photographs.left_out
    assert "20 pictures are used, 80 are not read (80 .heic); pip install pillow-heif" in said
    assert len(photos.list_images(tmp_path)) == 20 and capsys.readouterr().out == said
    for name in ("a.cr2", "b.NEF", "deep/c.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert "83 are not read (80 .heic, 1 .cr2, 1 .gif, 1 .nef)" in photos.open_folder(tmp_path).left_out
    assert photos.open_folder(tmp_path / "deep" / "..", size=8).left_out


@pytest.mark.parametrize("name", ["a.heic", "b.CR2", "c.gif"])
def test_a_folder_of_nothing_that_is_read(tmp_path, monkeypatch, name):
    monkeypatch.setattr(photos, "heif_is_read", lambda: False)
    (tmp_path / name).touch()
    with pytest.raises(ImageError, match=rf"0 pictures are used, 1 are not read \(1 \{name[1:].lower()}\)"):
        photos.open_folder(tmp_path)


def test_nothing_is_said_of_a_folder_of_pictures_and_notes(tmp_path, capsys):
    save(tmp_path / "a.png")
    (tmp_path / "labels.csv").touch()
    (tmp_path / ".DS_Store").touch()
    assert photos.open_folder(tmp_path).left_out == "" == capsys.readouterr().out


@pytest.fixture
def heif(monkeypatch):
    """What pillow-heif does when it is installed: teaches Pillow to open .heic files (here: PNGs behind a mark)."""

    class Plugin(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self.fp.read(4)
            inner = Image.open(io.BytesIO(self.fp.read()))
            self._size, self._mode, self.tile = inner.size, inner.mode, []
            self.im = inner.im if inner.load() is None else inner.im

        def load(self):
            return self.im.pixel_access(self.readonly)

    def register_heif_opener():
        Image.register_open("HEIF", Plugin, lambda start: start[:4] == b"heif")

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register_heif_opener))
    Image.init()
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    monkeypatch.setattr(Image, "OPEN", {**Image.OPEN})
    photos.heif_is_read.cache_clear()
    yield
    photos.heif_is_read.cache_clear()


def test_heic_is_read_where_its_package_is_installed(heif, tmp_path):
    for name in ("a.HEIC", "b.heif"):
        (tmp_path / name).write_bytes(b"heif" + encoded(Image.fromarray(quarters()), "png"))
    photographs = photos.open_folder(tmp_path, 40)
    assert len(photographs) == 2 and photographs.left_out == ""
    assert all(np.array_equal(photograph, quarters()) for photograph in photographs)


def test_real_heic(tmp_path):
    """With the package itself, where it is there."""
    package = pytest.importorskip("pillow_heif")
    package.from_pillow(Image.fromarray(quarters(64, 64))).save(tmp_path / "a.heic", quality=95)
    photographs = photos.open_folder(tmp_path, 64)
    assert len(photographs) == 1 and np.abs(photographs[0][8, 8].astype(int) - (255, 0, 0)).max() < 20


# ---------------------------------------------------------------------------------------------------------------------
# Names of files that are no UTF-8


KOI8 = [os.fsdecode("фото".encode("koi8-r")), os.fsdecode(b"caf\xe9"), os.fsdecode(b"\xff\xfe")]


@pytest.mark.parametrize("name", KOI8, ids=ascii)
def test_names_that_are_no_utf8(tmp_path, name, monkeypatch):
    """Pictures are read, pairs found, many photographs stored, and messages can be printed."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / name
    try:
        for i in range(20):
            save(folder / f"{name}{i:02d}.png")
    except OSError:
        pytest.skip("this disk takes UTF-8 alone")
    assert photos.open_folder(folder)[3].shape == (128, 128, 3)
    assert len(photos.open_pairs(folder, folder)[0]) == 20
    assert len(data.load_split(folder, "train")) == 18
    monkeypatch.setattr(data, "IN_MEMORY", 1)
    for _ in range(2):
        assert len(data.load_split(folder, "train")) == 18
    (folder / f"{name}00.png").write_bytes(b"broken")
    with pytest.raises(ImageError) as error:
        photos.open_folder(folder).load()
    assert str(error.value).encode() and "00.png" in str(error.value)  # a page or a terminal can show it


def test_load_lists_every_broken_file(tmp_path):
    """One error for all: 25 broken files among 27 give 20 lines and the number of the others."""
    save(tmp_path / "good1.png")
    save(tmp_path / "good2.png")
    for i in range(3):
        (tmp_path / f"broken{i}.png").write_bytes(b"x")
    with pytest.raises(ImageError) as error:
        photos.open_folder(tmp_path).load()
    assert all(f"broken{i}.png" in str(error.value) for i in range(3)) and "3 of 5 files" in str(error.value)
    assert "good" not in str(error.value)
    for i in range(3, 25):
        (tmp_path / f"broken{i}.png").write_bytes(b"x")
    with pytest.raises(ImageError, match=r"25 of 27 files(.|\n)*and 5 more"):
        photos.open_folder(tmp_path).load()


def test_photographs_are_read_when_asked_for(tmp_path):
    """Opening a folder with a broken file is no error; reading that file is."""
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"x")
    photographs = photos.open_folder(tmp_path)
    assert photographs[0].shape == (128, 128, 3)
    with pytest.raises(ImageError, match=r"b\.png"):
        photographs[1]


def test_open_pairs_matches_by_name(tmp_path):
    """The same path below both folders, whatever the suffix; the two lists run in step."""
    red, blue = np.full((40, 40, 3), (200, 0, 0), np.uint8), np.full((40, 40, 3), (0, 0, 200), np.uint8)
    save(tmp_path / "blurred" / "x" / "1.png", red)
    save(tmp_path / "sharp" / "x" / "1.bmp", red)
    save(tmp_path / "blurred" / "0.bmp", blue)
    save(tmp_path / "sharp" / "0.png", blue)
    left, right = photos.open_pairs(tmp_path / "blurred", tmp_path / "sharp", size=32)
    assert np.array_equal(left.load(), right.load()) and len(left) == 2
    assert left[0][0, 0].tolist() == [0, 0, 200]


def test_open_pairs_may_have_two_resolutions(tmp_path):
    save(tmp_path / "blurred" / "1.png", quarters(40, 60))
    save(tmp_path / "sharp" / "1.png", quarters(80, 120))
    left, _ = photos.open_pairs(tmp_path / "blurred", tmp_path / "sharp")
    assert left[0].shape == (128, 128, 3)


def test_open_pairs_lists_everything_that_does_not_match(tmp_path):
    """Two without a partner on either side and one pair of different frames: three places, each named."""
    save(tmp_path / "blurred" / "only_left.png")
    save(tmp_path / "sharp" / "only_right.png")
    save(tmp_path / "blurred" / "frame.png", quarters(80, 40))
    save(tmp_path / "sharp" / "frame.png", quarters(40, 40))
    save(tmp_path / "blurred" / "good.png")
    save(tmp_path / "sharp" / "good.png")
    with pytest.raises(ImageError, match="3 places") as error:
        photos.open_pairs(tmp_path / "blurred", tmp_path / "sharp")
    text = str(error.value)
    assert "only_left" in text and "only_right" in text and "different frames" in text and "good" not in text


def test_open_pairs_sees_turned_photographs(tmp_path):
    """A photograph stored lying down with orientation 6 has the frame of its upright partner."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "blurred").mkdir()
    Image.fromarray(quarters(60, 40)).save(tmp_path / "blurred" / "1.png", exif=exif)
    save(tmp_path / "sharp" / "1.png", quarters(40, 60))
    assert len(photos.open_pairs(tmp_path / "blurred", tmp_path / "sharp")[0]) == 1


def test_open_pairs_same_name_twice(tmp_path):
    save(tmp_path / "blurred" / "1.png")
    save(tmp_path / "blurred" / "1.bmp")
    save(tmp_path / "sharp" / "1.png")
    with pytest.raises(ImageError, match="same name"):
        photos.open_pairs(tmp_path / "blurred", tmp_path / "sharp")


def test_real_photographs_load(real_faces, tmp_path):
    """A few real JPEGs: opened, read, 128×128."""
    for path in sorted((real_faces / "test").iterdir())[:5]:
        shutil.copy(path, tmp_path)
    images = photos.open_folder(tmp_path).load()
    assert images.shape == (5, 128, 128, 3) and images.std((1, 2, 3)).min() > 10
