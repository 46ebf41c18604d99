"""What holds for every input, tried on inputs that nobody has thought of (hypothesis, the same ones every time).

That a killed run goes on to the same weights is in tests/engine/test_runs.py, that names of students never collide in
tests/coursework/test_roster.py.
"""

import functools
import io
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from helpers.engine.errors import ImageError
from helpers.photos import read_image

Image.init()
# What Pillow writes by itself. Some of it (EPS, PALM, PDF) it does not read by itself: then the file is refused.
KINDS = sorted(Image.SAVE.keys() - {"BUFR", "GRIB", "HDF5", "WMF"})
EXAMPLES = 12  # of each kind
MODES = (
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBa",
    "RGBX",
    "CMYK",
    "YCbCr",
    "HSV",
    "LAB",
    "I",
    "I;16",
    "F",
)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def drawn(mode: str, width: int, height: int, seed: int) -> Image.Image:
    """Noise over a slope; for floating point and 32 bits, values in the range that has a meaning."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 200, width * height * 4).reshape(height, width, 4)
    values = (slope + rng.uniform(0, 55, slope.shape)).astype(np.uint8)
    if mode == "F":
        return Image.fromarray(values[..., 0].astype(np.float32) / 255)
    if mode in ("I", "I;16"):
        return Image.fromarray(values[..., 0].astype(np.uint16) * 257).convert(mode)
    picture = Image.fromarray(values, "RGBA" if mode in ("LA", "La", "PA", "RGBA", "RGBa") else "RGBX")
    if mode in ("P", "PA"):
        return picture.convert("RGB").quantize(1 + seed % 256).convert(mode)
    if mode == "La":
        picture = picture.convert("LA")
    elif mode in ("LAB", "HSV", "YCbCr"):
        return Image.merge(mode, picture.convert("RGB").split())
    elif mode != "RGBA":
        picture = picture if mode in ("RGBX", "RGBa") else picture.convert("RGB" if mode[-1] != "A" else "RGBA")
    return picture.convert(mode)


def written(picture: Image.Image, kind: str, **options) -> bytes:
    """The picture as a file; b"" where Pillow does not write such a one, for reasons of its own."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture.save(out, kind, **options)
        except Exception:
            return b""
    return out.getvalue()


@functools.cache
def modes_of(kind: str) -> list[str]:
    """The modes in which Pillow writes files of a kind."""
    return [mode for mode in MODES if written(drawn(mode, 32, 32, 0), kind)]


@st.composite
def files(draw, kind: str) -> bytes:
    """A file that Pillow has written, of any mode, size and metadata that it takes for this kind."""
    sides = st.one_of(st.integers(1, 40), st.integers(1, 400))
    picture = drawn(draw(st.sampled_from(modes_of(kind))), draw(sides), draw(sides), draw(st.integers(0, 999)))
    options = {}
    if draw(st.booleans()):
        exif = Image.Exif()
        exif[0x0112] = draw(st.one_of(st.integers(1, 8), st.integers(0, 65535)))
        exif[0x010E] = draw(st.text(max_size=20))
        options["exif"] = exif
    if draw(st.booleans()):
        options["icc_profile"] = draw(st.one_of(st.just(SRGB), st.binary(max_size=60)))
    if draw(st.booleans()):
        options["dpi"] = draw(st.tuples(st.integers(1, 1200), st.integers(1, 1200)))
    if draw(st.booleans()) and picture.mode in ("L", "P", "RGB"):
        options["transparency"] = draw(st.integers(0, 255)) if picture.mode != "RGB" else (0, 0, 0)
    if draw(st.booleans()):
        options |= {
            "quality": draw(st.integers(1, 100)),
            "compression": draw(st.sampled_from(["tiff_lzw", "packbits"])),
        }
    return written(picture, kind, **options) or written(picture, kind)  # not every kind takes every option


def by_pillow(data: bytes) -> np.ndarray | None:
    """The file as Pillow itself converts it, turned and laid on white, in float; None where it cannot."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = Image.open(io.BytesIO(data))
            picture.load()
        except Exception:
            return None
        try:
            picture = ImageOps.exif_transpose(picture)
        except Exception:  # metadata that nobody needs
            picture.getexif().clear()
        if picture.mode.startswith("I") or picture.mode == "F":
            grey = np.asarray(picture).astype(np.float64) * (255 if picture.mode == "F" else 255 / 65535)
            return np.repeat(np.clip(grey, 0, 255)[..., None], 3, 2)
        if picture.has_transparency_data:
            values = np.asarray(picture.convert("RGBA")).astype(np.float64)
            alpha = values[..., 3:] / 255
            return values[..., :3] * alpha + 255 * (1 - alpha)
        return np.asarray(picture.convert("RGB")).astype(np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_that_pillow_writes(kind):
    """8-bit RGB within rounding of Pillow's own conversion, or ImageError and nothing else."""
    seen = []

    @settings(max_examples=EXAMPLES if kind != "ICNS" else 2)  # that one holds large pictures
    @given(files(kind))
    def check(data):
        assume(data)
        expected = by_pillow(data)
        try:
            found = read_image(data, size=None)
        except ImageError as error:
            assert len(str(error)) > 20
            # What Pillow can show is refused only where nothing says what white is.
            assert expected is None or "what white is" in str(error)
            return
        seen.append(found)
        assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3
        assert expected is not None and found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1.5, np.abs(found - expected).max()

    check()
    assert seen or kind not in ("AVIF", "BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")
