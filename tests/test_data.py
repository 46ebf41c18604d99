"""helpers.data: normalisation, every kind of picture file, folders, pairs, the shipped faces."""

import io
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections import namedtuple

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import data
from helpers.data import ImageError, denormalise, normalise, normalise_by_mean, read_image
from tests.conftest import ROOT, make_faces

# ---------------------------------------------------------------------------------------------------------------------
# Normalisation

ALL_VALUES = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)


@pytest.mark.parametrize(("value", "expected"), [(0, -1.0), (127, -1 / 255), (128, 1 / 255), (255, 1.0)])
def test_normalise_by_hand(value, expected):
    """Equation 31 at its ends and around its middle: (127 - 127.5) / 127.5 = -1/255."""
    image = np.full((2, 3, 3), value, np.uint8)
    result = normalise(image)
    assert result.dtype == torch.float32 and result.shape == (3, 2, 3)
    # 1e-7: one rounding of a float32 of size 1.
    assert torch.allclose(result, torch.tensor(expected, dtype=torch.float32), rtol=0, atol=1e-7)


def test_both_forms_agree():
    """Equation 31 equals equation 32 on all 256 values; each form rounds twice in float32, hence 2e-7."""
    assert torch.allclose(normalise(ALL_VALUES), normalise_by_mean(ALL_VALUES), rtol=0, atol=2e-7)


def test_normalise_by_mean_uses_mean_and_deviation():
    """Equation 32 by hand with μ = 0.25 and σ = 0.5: (1 - 0.25) / 0.5 = 1.5."""
    white = np.full((1, 1, 3), 255, np.uint8)
    assert normalise_by_mean(white, 0.25, 0.5).flatten().tolist() == [1.5] * 3


def test_inverse_is_exact():
    """denormalise undoes equation 31 for every 8-bit value, one picture or many."""
    assert np.array_equal(denormalise(normalise(ALL_VALUES)), ALL_VALUES)
    many = np.stack([ALL_VALUES, 255 - ALL_VALUES])
    assert np.array_equal(denormalise(normalise(many)), many)


def test_channels_keep_their_place():
    """H×W×3 becomes 3×H×W without mixing colours."""
    image = np.zeros((4, 5, 3), np.uint8)
    image[..., 1] = 255
    assert normalise(image).mean((1, 2)).tolist() == [-1, 1, -1]


def test_denormalise_clips_and_rounds():
    """Values outside [-1, 1] become 0 and 255; half steps go to the nearest 8-bit value."""
    x = torch.tensor([-3.0, 3.0, (100.4 - 127.5) / 127.5]).view(3, 1, 1)
    assert denormalise(x).flatten().tolist() == [0, 255, 100]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_denormalise_refuses_what_is_not_finite(bad):
    x = torch.zeros(3, 4, 4)
    x[1, 2, 3] = bad
    with pytest.raises(ImageError, match="NaN or infinite"):
        denormalise(x)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "uint8"),
        (np.zeros((4, 4, 3), np.int64), "uint8"),
        (np.zeros((4, 4), np.uint8), r"\(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((1, 1, 4, 4, 3), np.uint8), r"\(1, 1, 4, 4, 3\)"),
    ],
)
def test_normalise_says_what_is_wrong(image, message):
    with pytest.raises(ImageError, match=message):
        normalise(image)


# ---------------------------------------------------------------------------------------------------------------------
# One picture, in every format


def encoded(picture: Image.Image, suffix: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=suffix, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def quarters(width: int = 40, height: int = 40) -> np.ndarray:
    """Red, green, blue and yellow quarters: shows every turn and mirror."""
    image = np.zeros((height, width, 3), np.uint8)
    h, w = height // 2, width // 2
    image[:h, :w], image[:h, w:], image[h:, :w], image[h:, w:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
    return image


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


def test_floating_point_tiff():
    """A floating-point picture runs over [0, 1] or over [0, 255]; neither comes out black."""
    ramp = np.tile(np.linspace(0, 1, 20, dtype=np.float32), (20, 1))
    unit = read_image(encoded(Image.fromarray(ramp), "tiff"), size=None)
    eight = read_image(encoded(Image.fromarray(ramp * 255), "tiff"), size=None)
    assert unit[0, 0, 0] == 0 and unit[0, -1, 0] == 255 and np.abs(unit.astype(int) - eight).max() <= 1


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


def test_exif_orientation_in_a_jpeg():
    """Phones write orientation 6 into JPEGs; the top left (red) ends up at the top right."""
    exif = Image.Exif()
    exif[0x0112] = 6
    result = read_image(encoded(Image.fromarray(quarters(64, 64)), "jpeg", exif=exif, quality=95, subsampling=0), 64)
    assert np.abs(result[8, 56].astype(int) - (255, 0, 0)).max() < 20


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
    started = time.perf_counter()
    with pytest.raises(ImageError, match="smaller copy"):
        read_image(bomb)
    assert time.perf_counter() - started < 1  # decoding 144 megapixels takes longer


def test_large_photographs_are_quick():
    """20 megapixels: decoded at a fraction of the size, well under the second that a full decoding costs."""
    big = cv2.resize(quarters(), (5000, 4000), interpolation=cv2.INTER_NEAREST)
    content = encoded(Image.fromarray(big), "jpeg", quality=80)
    started = time.process_time()
    result = read_image(content)
    assert time.process_time() - started < 1.5
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
    result = data.square(board, size)
    assert result.shape == (size, size, 3) and result.dtype == np.uint8 and result.flags["C_CONTIGUOUS"]
    if side == 256:
        assert (result == 100).all()
    if side == 128:
        assert np.array_equal(result, board)


# ---------------------------------------------------------------------------------------------------------------------
# The shipped faces


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """A data folder of its own: four faces in the test split, their parameters in mixed order."""
    pictures = make_faces(4, 128)
    folder = tmp_path / "faces"
    folder.mkdir()
    with zipfile.ZipFile(folder / "test.zip", "w") as archive:
        for i in (2, 0, 3, 1):
            archive.writestr(f"{i:05d}.png", encoded(Image.fromarray(pictures[i]), "png"))
    rows = [(3, "test", 33), (0, "test", 30), (0, "train", 99), (2, "test", 32), (1, "test", 31)]
    pd.DataFrame(rows, columns=["index", "split", "age"]).to_csv(folder / "parameters.csv", index=False)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    return tmp_path, pictures


def test_load_faces_reads_in_order(own_data):
    _, pictures = own_data
    assert np.array_equal(data.load_faces("test"), pictures)
    assert np.array_equal(data.load_faces("test", limit=2), pictures[:2])
    assert len(data.load_faces("test", limit=100)) == 4


def test_load_parameters_are_aligned(own_data):
    table = data.load_parameters("test")
    assert table.index.tolist() == [0, 1, 2, 3] and table["age"].tolist() == [30, 31, 32, 33]


@pytest.mark.parametrize("loader", [data.load_faces, data.load_parameters, data.open_celeba])
def test_unknown_split(loader):
    with pytest.raises(ImageError, match="train, val, test"):
        loader("valid")


def test_missing_faces_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ImageError, match=r"train\.zip is missing.*make_faces"):
        data.load_faces("train")


def test_damaged_archives(own_data):
    """A cut archive (or a stand-in that git left there), and a picture inside that is none."""
    folder, _ = own_data
    with zipfile.ZipFile(folder / "faces" / "train.zip", "w") as archive:
        archive.writestr("00000.png", b"broken")
    with pytest.raises(ImageError, match="00000.png is damaged"):
        data.load_faces("train")
    (folder / "faces" / "val.zip").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ImageError, match="val.zip is damaged"):
        data.load_faces("val")


@pytest.fixture(scope="module")
def shipped():
    """The whole of what the repository ships."""
    return {split: data.load_faces(split) for split in data.SPLITS}


@pytest.mark.parametrize("split", data.SPLITS)
def test_shipped_faces(shipped, split):
    """8-bit, 128×128, none blank, a row of parameters for each; a limit takes the first ones."""
    faces, table = shipped[split], data.load_parameters(split)
    assert faces.dtype == np.uint8 and faces.shape[1:] == (128, 128, 3)
    assert table.index.tolist() == list(range(len(faces)))
    assert min(face[::4, ::4].std() for face in faces) > 10
    assert np.array_equal(data.load_faces(split, limit=3), faces[:3])


def test_shipped_faces_are_all_different(shipped):
    """Within a split and between splits: a test face that was trained on would make every score a lie."""
    seen = {face.tobytes() for faces in shipped.values() for face in faces}
    assert len(seen) == sum(map(len, shipped.values()))


# ---------------------------------------------------------------------------------------------------------------------
# Folders and pairs


def save(path, image=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(quarters() if image is None else image).save(path)
    return path


def test_open_folder_finds_pictures_below(tmp_path):
    """Subfolders and upper-case suffixes count; hidden files, hidden folders and other files do not."""
    for name in ("b.png", "a.JPG", "deep/er/c.webp", ".hidden.png", ".thumbnails/d.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    photographs = data.open_folder(tmp_path, size=32)
    assert [str(p.relative_to(tmp_path)) for p in photographs.paths] == ["a.JPG", "b.png", "deep/er/c.webp"]
    assert len(photographs) == 3 and photographs[1].shape == (32, 32, 3)
    assert photographs.load().shape == (3, 32, 32, 3)
    assert "3 files" in repr(photographs)


def test_the_order_is_that_of_paths(tmp_path):
    """As ``sorted`` puts paths: folder by folder, whatever sorts before a slash; the split by position hangs on it."""
    for name in ("a/1.png", "a-b/2.png", "a.png", "b/10.png", "b/9.png", "a/b/3.png", "B.png"):
        save(tmp_path / name)
    listed = data.list_images(tmp_path)
    assert listed == sorted(listed) and len(listed) == 7
    (tmp_path / "linked.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "circle").symlink_to(tmp_path)
    assert set(data.list_images(tmp_path)) - set(listed) == {tmp_path / "linked.png"}


def test_a_folder_of_many_files_is_listed_quickly(tmp_path):
    """5000 names in well under a second of the processor: nothing is looked up file by file."""
    for i in range(5000):
        (tmp_path / f"{i:05d}.jpg").touch()
    started = time.process_time()
    assert len(data.list_images(tmp_path)) == 5000
    assert time.process_time() - started < 0.5


def test_open_folder_empty_or_missing(tmp_path):
    with pytest.raises(ImageError, match="no such folder"):
        data.open_folder(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ImageError, match="holds no picture"):
        data.open_folder(tmp_path)


def test_load_lists_every_broken_file(tmp_path):
    """One error for all: 25 broken files among 27 give 20 lines and the number of the others."""
    save(tmp_path / "good1.png")
    save(tmp_path / "good2.png")
    for i in range(3):
        (tmp_path / f"broken{i}.png").write_bytes(b"x")
    with pytest.raises(ImageError) as error:
        data.open_folder(tmp_path).load()
    assert all(f"broken{i}.png" in str(error.value) for i in range(3)) and "3 of 5 files" in str(error.value)
    assert "good" not in str(error.value)
    for i in range(3, 25):
        (tmp_path / f"broken{i}.png").write_bytes(b"x")
    with pytest.raises(ImageError, match=r"25 of 27 files(.|\n)*and 5 more"):
        data.open_folder(tmp_path).load()


def test_photographs_are_read_when_asked_for(tmp_path):
    """Opening a folder with a broken file is no error; reading that file is."""
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"x")
    photographs = data.open_folder(tmp_path)
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
    left, right = data.open_pairs(tmp_path / "blurred", tmp_path / "sharp", size=32)
    assert np.array_equal(left.load(), right.load()) and len(left) == 2
    assert left[0][0, 0].tolist() == [0, 0, 200]


def test_open_pairs_may_have_two_resolutions(tmp_path):
    save(tmp_path / "blurred" / "1.png", quarters(40, 60))
    save(tmp_path / "sharp" / "1.png", quarters(80, 120))
    left, _ = data.open_pairs(tmp_path / "blurred", tmp_path / "sharp")
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
        data.open_pairs(tmp_path / "blurred", tmp_path / "sharp")
    text = str(error.value)
    assert "only_left" in text and "only_right" in text and "different frames" in text and "good" not in text


def test_open_pairs_sees_turned_photographs(tmp_path):
    """A photograph stored lying down with orientation 6 has the frame of its upright partner."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "blurred").mkdir()
    Image.fromarray(quarters(60, 40)).save(tmp_path / "blurred" / "1.png", exif=exif)
    save(tmp_path / "sharp" / "1.png", quarters(40, 60))
    assert len(data.open_pairs(tmp_path / "blurred", tmp_path / "sharp")[0]) == 1


def test_open_pairs_same_name_twice(tmp_path):
    save(tmp_path / "blurred" / "1.png")
    save(tmp_path / "blurred" / "1.bmp")
    save(tmp_path / "sharp" / "1.png")
    with pytest.raises(ImageError, match="same name"):
        data.open_pairs(tmp_path / "blurred", tmp_path / "sharp")


def test_open_celeba_without_data(tmp_path):
    """No download is attempted unless asked for; the message says what to do."""
    with pytest.raises(ImageError, match=r"CelebA is not in .*download=True"):
        data.open_celeba("test", root=tmp_path)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------------------------------
# Splits of one's own photographs


def test_load_split_by_position(tmp_path):
    """Of 40 files the 19th and 39th go to val, the 20th and 40th to test, the other 36 to train."""
    for i in range(40):
        save(tmp_path / f"{i:02d}.png", np.full((20, 20, 3), i, np.uint8))
    values = {split: data.load_split(tmp_path, split)[:, 0, 0, 0].tolist() for split in data.SPLITS}
    assert values["val"] == [18, 38] and values["test"] == [19, 39]
    assert sorted(sum(values.values(), [])) == list(range(40))
    assert len(data.load_split(tmp_path, "train", limit=5)) == 5


def test_load_split_from_folders(tmp_path):
    save(tmp_path / "train" / "a.png", np.full((20, 20, 3), 7, np.uint8))
    assert (data.load_split(tmp_path, "train") == 7).all()
    with pytest.raises(ImageError, match="no folder val/"):
        data.load_split(tmp_path, "val")


def test_load_split_needs_twenty(tmp_path):
    for i in range(5):
        save(tmp_path / f"{i}.png")
    with pytest.raises(ImageError, match="at least 20"):
        data.load_split(tmp_path, "val")


def test_load_split_takes_the_shipped_faces_by_default(own_data):
    _, pictures = own_data
    assert np.array_equal(data.load_split(None, "test", 3), pictures[:3])


# ---------------------------------------------------------------------------------------------------------------------
# Large folders: decoded once into a file


@pytest.fixture
def many(tmp_path, monkeypatch):
    """A folder of forty pictures of different grey, more than are held in memory here; a cache of its own."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "IN_MEMORY", 1)
    for i in range(40):
        save(tmp_path / "photos" / f"{i:02d}.png", np.full((20, 20, 3), i, np.uint8))
    return tmp_path / "photos"


def greys(images) -> list[int]:
    return [int(image[0, 0, 0]) for image in images]


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are decoded."""
    names, original = [], data.read_image

    def read(path, *rest):
        names.append(path.name)
        return original(path, *rest)

    monkeypatch.setattr(data, "read_image", read)
    return names


def the_store(many):
    (folder,) = (many.parent / "cache").iterdir()
    return folder


def test_stored_equals_loaded(many, monkeypatch):
    """The same pictures as from memory, split by split: one by one, in slices, by arrays of positions, in pairs."""
    from helpers.pairs import Pairs

    for split in data.SPLITS:
        stored = data.load_split(many, split)
        with monkeypatch.context() as patch:
            patch.setattr(data, "IN_MEMORY", 100)
            loaded = data.load_split(many, split)
        assert isinstance(stored, data.Stored) and isinstance(loaded, np.ndarray) and len(stored) == len(loaded)
        assert np.array_equal(np.stack(list(stored)), loaded) and np.array_equal(stored[:2], loaded[:2])
        assert stored[0].shape == (128, 128, 3) and stored[0].dtype == np.uint8
        assert np.array_equal(stored[np.array([1, 0])], loaded[[1, 0]])
        with pytest.raises(IndexError):
            stored[len(stored)]
        assert torch.equal(
            Pairs(stored, flip=True).batch([0, 1], 3).input, Pairs(loaded, flip=True).batch([0, 1], 3).input
        )
    assert "2 photographs, 128×128" in repr(stored)


def test_stored_pictures_are_mapped_and_cannot_be_changed(many):
    stored = data.load_split(many, "train")
    with pytest.raises(ValueError, match="read-only"):
        stored.pixels[0] = 0
    assert isinstance(stored.pixels.base, np.memmap)


def test_files_are_decoded_once(many, decoded):
    """All splits and limits share one store; each file is read the first time that it is asked for."""
    assert greys(data.load_split(many, "train", limit=5)) == [0, 1, 2, 3, 4] and len(decoded) == 5
    data.load_split(many, "train")
    assert len(decoded) == 36
    assert greys(data.load_split(many, "val")) == [18, 38] and len(decoded) == 38
    data.load_split(str(many), "train")
    assert greys(data.load_split(many, "train", limit=2)) == [0, 1] and len(decoded) == len(set(decoded)) == 38


def test_a_changed_folder(many, decoded, capsys):
    """A file that changed is told and read again, a new one is read, one that is gone is not handed out."""
    data.load_split(many, "train")
    save(many / "03.png", np.full((30, 30, 3), 203, np.uint8))
    save(many / "00a.png", np.full((20, 20, 3), 200, np.uint8))
    (many / "05.png").unlink()
    decoded.clear()
    capsys.readouterr()
    images = greys(data.load_split(many, "train"))
    assert images[:6] == [0, 200, 1, 2, 203, 4] and 5 not in images
    assert "1 photographs have changed" in capsys.readouterr().out
    assert {"03.png", "00a.png"} <= set(decoded) and not {"00.png", "10.png"} & set(decoded)
    shutil.rmtree(many)
    with pytest.raises(ImageError, match="photos: there is no such folder"):
        data.load_split(many, "train")


def test_a_file_that_vanishes_while_it_is_listed(many, monkeypatch):
    original = data.list_images

    def listed(folder):
        paths = original(folder)
        paths[7].unlink()
        return paths

    monkeypatch.setattr(data, "list_images", listed)
    with pytest.raises(ImageError, match=r"07\.png: the file was there a moment ago"):
        data.load_split(many, "train")


def test_broken_files_are_listed_together(many, decoded):
    """One error names them all; the good ones are stored, and are not decoded again when the broken are mended."""
    for i in (4, 11):
        (many / f"{i:02d}.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"2 of 36 files(.|\n)*04\.png(.|\n)*11\.png"):
        data.load_split(many, "train")
    decoded.clear()
    save(many / "04.png", np.full((20, 20, 3), 4, np.uint8))
    (many / "11.png").unlink()
    assert greys(data.load_split(many, "train"))[:5] == [0, 1, 2, 3, 4]
    assert set(decoded) <= {"04.png", "18.png", "38.png"}  # one file less: others move into the split


def test_a_full_disk_says_how_much_is_needed(many, monkeypatch):
    """Known before the first picture is decoded: 36 pictures of 128 × 128 × 3 bytes."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    with pytest.raises(ImageError, match=r"too full .*1,769,472 bytes .*COURSE_CACHE"):
        data.load_split(many, "train")
    monkeypatch.undo()


def test_a_disk_that_fills_up(many, monkeypatch, decoded):
    """Nine pictures fit (a limit on the size of a file), then no more: told; what is there is whole."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(data, "AT_ONCE", 4)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9 * 128 * 128 * 3 + 7, limits[1]))
    try:
        with pytest.raises(ImageError, match=r"too full .*1,769,472 bytes .*is whole"):
            data.load_split(many, "train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len((the_store(many) / "index.jsonl").read_text().splitlines()) == 8
    decoded.clear()
    assert greys(data.load_split(many, "train"))[:12] == list(range(12))
    assert "07.png" not in decoded and len(decoded) == 28


@pytest.mark.parametrize("cut", ["index", "pixels", "both"])
def test_a_store_that_was_cut(many, decoded, cut):
    """Half a line, half a picture, as a power cut may leave them: what is whole is kept, the rest is read again."""
    data.load_split(many, "train")
    for name, size in (("index.jsonl", 15), ("pixels.bin", 128 * 128 * 3 * 3 // 2)):
        if cut in (name.split(".")[0], "both"):
            path = the_store(many) / name
            os.truncate(path, path.stat().st_size - size)
    decoded.clear()
    assert greys(data.load_split(many, "train")) == [i for i in range(40) if i % 20 < 18]
    assert 1 <= len(decoded) <= 2


KILLED = """
import sys, time
from helpers import data
data.IN_MEMORY, data.AT_ONCE, original = 1, 3, data.read_image
data.read_image = lambda *arguments: time.sleep(0.05) or original(*arguments)
data.load_split(sys.argv[1], "train")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_kill_while_the_store_is_built(many, decoded):
    """What was stored before the kill is not decoded again."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(many)], cwd=ROOT, stderr=subprocess.DEVNULL)
    cache, deadline = many.parent / "cache", time.monotonic() + 60
    try:
        while not any(len(p.read_text().splitlines()) >= 6 for p in cache.glob("*/index.jsonl")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    done = len((the_store(many) / "index.jsonl").read_text().splitlines())
    assert greys(data.load_split(many, "train")) == [i for i in range(40) if i % 20 < 18]
    assert 6 <= done < 36 and len(decoded) == 36 - done


def test_two_at_once_build_one_store(many, decoded):
    """As two processes of a run do (here two threads): one decodes, the other waits and finds it done."""
    pytest.importorskip("fcntl")
    results = []
    threads = [threading.Thread(target=lambda: results.append(greys(data.load_split(many, "train")))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] and len(results[0]) == 36 and len(decoded) == 36


def test_a_cache_that_cannot_be_written(many, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ImageError, match="cannot be stored there"):
        data.load_split(many, "train")


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "mine"))
    assert data.cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("COURSE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data.cache_folder() == tmp_path / "face-restoration-course"


def test_small_folders_stay_in_memory(many, monkeypatch):
    monkeypatch.setattr(data, "IN_MEMORY", 36)
    assert isinstance(data.load_split(many, "train"), np.ndarray) and not (many.parent / "cache").exists()


def test_real_photographs_load(real_faces, tmp_path):
    """A few real JPEGs: opened, read, 128×128."""
    for path in sorted((real_faces / "test").iterdir())[:5]:
        shutil.copy(path, tmp_path)
    images = data.open_folder(tmp_path).load()
    assert images.shape == (5, 128, 128, 3) and images.std((1, 2, 3)).min() > 10


def test_normalise_takes_mirrored_and_cropped_views():
    """A view with negative strides, which PyTorch refuses, gives what its copy gives (equation 31)."""
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    for view in (image[:, ::-1], image[::-1, 2:6]):
        assert torch.equal(data.normalise(view), data.normalise(view.copy()))
