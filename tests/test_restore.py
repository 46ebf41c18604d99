"""helpers.restore: squares of any size without seam or shift, the whole photograph, and the command."""

import signal
import threading

import cv2
import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from helpers import restore
from helpers.data import load_faces
from helpers.engine.checkpoints import save_checkpoint, shipped
from helpers.engine.errors import CheckpointError, ImageError
from helpers.experiments.skip_model import SkipModel
from helpers.finder import Proposal
from helpers.methods import Method, Skip, load_method
from helpers.metrics import psnr
from helpers.photograph import read_photograph
from helpers.restore import (
    caution,
    files_of,
    load_restoring,
    main,
    restore_file,
    restore_photograph,
    restore_square,
    working_side,
)
from tests.conftest import make_faces

needs_weights = pytest.mark.skipif(not shipped("skip").exists(), reason="weights not shipped")


class Plain(Skip):
    """A method of the skip model's kind that does what a test can compute itself; it notes the sides that it sees."""

    def __init__(self, function):
        self.function, self.seen, self.trained_for = function, [], "blind"

    def restore(self, blurred, params=None, on_step=None, edges=None):
        self.seen.append(blurred.shape[1:3])
        return np.stack([self.function(image) for image in blurred])


def smooth(image):
    return cv2.blur(image, (3, 3))


def negative(image):
    return 255 - image


@pytest.fixture(scope="module")
def skip() -> Method:
    if not shipped("skip").exists():
        pytest.skip("weights not shipped")
    return load_restoring("skip")


@pytest.fixture
def tiny(tmp_path):
    """A checkpoint of a small random network without an edge map, trained blind as its JSON says: (path, network)."""
    torch.manual_seed(0)
    model = SkipModel(8, widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), in_channels=3)
    for layers in model.generator.exits:
        torch.nn.init.normal_(layers[-1].weight, std=0.02)
    save_checkpoint(tmp_path / "tiny.safetensors", model, {**model.shape, "degradation": "blind", "knob": 0.4})
    return tmp_path / "tiny.safetensors", model.eval()


def waves(side: int) -> np.ndarray:
    """A smooth picture, steep everywhere in one of its channels: waves each way, and a ramp."""
    x = np.arange(side) / side
    wave = np.sin(2 * np.pi * min(20, side / 12) * x)
    a, b = np.meshgrid(wave, wave)
    ramp = np.add.outer(x, x) / 2
    return np.stack([128 + 100 * a, 128 + 100 * b, 20 + 210 * ramp], -1).round().astype(np.uint8)


# ---------------------------------------------------------------------------------------------------------------------
# Squares


@pytest.mark.parametrize("side", [128, 129, 143, 144, 145, 200, 255, 256, 301, 511, 512])
def test_own_resolution_without_seam_or_shift(side):
    """A method that looks one pixel around gives what it gives on the picture alone, to the bit, up to the edges."""
    image, method = waves(side), Plain(smooth)
    assert np.array_equal(restore_square(image, method), smooth(image))
    ((height, width),) = method.seen
    assert height == width and height % 16 == 0 and 0 <= height - side < 16


@pytest.mark.parametrize("side", [16, 17, 31, 64, 127, 513, 700, 1001])
def test_other_sizes_are_not_shifted(side):
    """Seen at 128 or 512 pixels; a shift by half a pixel would fail."""
    image, method = waves(side), Plain(negative)
    out = restore_square(image, method)
    assert method.seen == [(128, 128) if side < 128 else (512, 512)] and out.shape == image.shape
    inner = slice(side // 8, -(side // 8))
    wrong = np.abs(out[inner, inner].astype(int) - (255 - image[inner, inner])).max()
    steepest = np.abs(np.diff(image.astype(int), axis=0)).max()
    assert steepest >= 12 and wrong <= 2 + steepest / 8


@pytest.mark.parametrize("side", [16, 33, 127, 128, 130, 512, 513, 777])
def test_what_needs_no_correction_comes_back_as_it_was(side):
    """Noise, the hardest picture to shrink and enlarge: not one value changes."""
    image = np.random.default_rng(side).integers(0, 256, (side, side, 3)).astype(np.uint8)
    assert np.array_equal(restore_square(image, Plain(np.copy)), image)


@pytest.mark.parametrize("side", [16, 90, 129, 600])
def test_a_constant_correction_stays_constant(side):
    image = np.full((side, side, 3), 100, np.uint8)
    assert (restore_square(image, Plain(lambda seen: seen + 7)) == 107).all()


@pytest.mark.parametrize("side", [16, 47, 100, 128, 131, 250, 384, 512, 640])
def test_the_shipped_model_draws_no_seam(skip, side):
    """On one grey it draws next to nothing, and no line at the multiple of 16 where the mirrored part began."""
    out = restore_square(np.full((side, side, 3), 128, np.uint8), skip).astype(int)
    assert out.shape == (side, side, 3) and np.abs(out - 128).max() <= 8
    assert max(np.abs(np.diff(out, axis=axis)).max() for axis in (0, 1)) <= 5


@pytest.mark.parametrize("side, sigma", [(100, 3.5), (128, 5), (142, 5.5)])
def test_the_shipped_model_restores(skip, side, sigma):
    """Its own blur at, below and above its size: several dB better than what went in."""
    sharp = cv2.resize(load_faces("test", 1)[0], (side, side), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(sharp, (21, 21), sigma)
    restored = restore_square(blurred, skip)
    gain = psnr(restored[None], sharp[None]) - psnr(blurred[None], sharp[None])
    assert np.min(gain) > 3


def test_at_its_own_size_it_is_the_method_itself(skip):
    image = cv2.GaussianBlur(load_faces("test", 1)[0], (21, 21), 5)
    assert np.array_equal(restore_square(image, skip), skip.restore(image[None])[0])


@pytest.mark.parametrize("name", ["thesis", "posterior_mean"])
def test_the_other_methods_work_at_128(name):
    """They were made for that size; a larger square gets their correction enlarged."""
    if not shipped({"posterior_mean": "pmrf"}.get(name, name)).exists():
        pytest.skip("weights not shipped")
    method = load_restoring(name)
    image = cv2.GaussianBlur(make_faces(1, 200)[0], (0, 0), 6)
    assert working_side(200, method) == 128 and restore_square(image, method).shape == image.shape


@pytest.mark.parametrize(
    "image, told",
    [
        (np.zeros((64, 65, 3), np.uint8), "65×64 pixels are no square"),
        (np.zeros((15, 15, 3), np.uint8), "too small to hold a face"),
        (np.zeros((64, 64, 3), np.float32), "8-bit RGB"),
        (np.zeros((64, 64), np.uint8), "8-bit RGB"),
        (np.zeros((1, 64, 64, 3), np.uint8), "8-bit RGB"),
        (None, "8-bit RGB"),
    ],
)
def test_anything_else_is_refused(image, told):
    with pytest.raises(ImageError, match=told):
        restore_square(image, Plain(np.copy))


def test_memory(skip):
    """512 pixels in less than 400 MB beside weights and libraries (90 measured)."""
    process, image = psutil.Process(), make_faces(1, 512)[0]
    restore_square(image[:128, :128].copy(), skip)
    sizes, done = [process.memory_info().rss], threading.Event()

    def watch():
        while not done.wait(0.005):
            sizes.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        restore_square(image, skip)
    finally:
        done.set()
        watcher.join()
    assert len(sizes) > 5 and max(sizes) - sizes[0] < 400e6


# ---------------------------------------------------------------------------------------------------------------------
# The method


def test_another_checkpoint(tiny):
    """Its shape and its knob come from the JSON, and the result is the network's own."""
    path, model = tiny
    method = load_restoring(checkpoint=path, device="cpu")
    assert method.knob == 0.4 and method.model.shape == model.shape and caution(method) is None
    image = make_faces(1, 256)[0]
    out = restore_square(image, method)
    with torch.no_grad():
        inputs = torch.from_numpy(image).movedim(-1, 0)[None] / 127.5 - 1
        expected = ((model(inputs, knob=0.4)[0].movedim(0, -1) + 1) * 127.5).numpy()
    assert np.abs(out - expected).max() < 1 and np.abs(out.astype(int) - image).max() > 2
    assert load_restoring(checkpoint=path, knob=0, device="cpu").knob == 0


def test_a_method_for_one_blur_says_so(tiny, tmp_path):
    about = "trained for a Gaussian blur of sigma 4 to 8 pixels only"
    for name in ("skip", "diffir"):
        if shipped(name).exists():
            assert about in caution(load_method(name, "cpu"))
    assert caution(load_method("wiener")) is None  # it was not trained at all
    path, model = tiny
    save_checkpoint(tmp_path / "motion.safetensors", model, {**model.shape, "degradation": "motion"})
    assert "trained for the degradation 'motion' only" in caution(
        load_restoring(checkpoint=tmp_path / "motion.safetensors")
    )


def test_the_default_is_the_model_trained_blind(data_with_blind, data_without_blind, monkeypatch):
    """Where its weights are; elsewhere the skip model, which says what it was trained for."""
    monkeypatch.setenv("COURSE_DATA", str(data_with_blind))
    method = load_restoring(device="cpu")
    assert method.name == "blind" and method.knob == 0.4 and caution(method) is None
    assert load_restoring("blind", knob=0, device="cpu").knob == 0 and load_restoring("skip").name == "skip"
    image = make_faces(1, 256)[0]
    assert working_side(256, method) == 256 and restore_square(image, method).shape == image.shape
    monkeypatch.setenv("COURSE_DATA", str(data_without_blind))
    assert load_restoring().name == "skip" and "sigma 4 to 8" in caution(load_restoring())
    with pytest.raises(CheckpointError, match="blind.safetensors: there is no such checkpoint"):
        load_restoring("blind")


@pytest.mark.parametrize(
    "wanted, told",
    [
        ({"name": "magic"}, "no method 'magic'"),
        ({"name": "wiener"}, "must be told the blur"),
        ({"name": "stylegan"}, "must be told the blur"),
        ({"name": "thesis", "knob": 0.5}, "takes no knob"),
        ({"name": "thesis", "checkpoint": "a.safetensors"}, "takes no checkpoint"),
    ],
)
def test_methods_that_do_not_fit_are_refused(wanted, told):
    with pytest.raises(ImageError, match=told):
        load_restoring(**wanted)


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_restoring(checkpoint=tmp_path / "absent.safetensors")


# ---------------------------------------------------------------------------------------------------------------------
# Photographs


def test_a_whole_photograph():
    """The square is restored, its surroundings are not touched, and by default it is the largest one."""
    photograph = make_faces(1, 300)[0][:240]
    out = restore_photograph(photograph, Plain(negative), (100, 50, 150))
    assert np.array_equal(out[65:185, 115:235], 255 - photograph[65:185, 115:235])
    assert np.array_equal(out[:50], photograph[:50]) and np.array_equal(out[:, 250:], photograph[:, 250:])
    whole = restore_photograph(photograph, Plain(negative))
    assert np.array_equal(whole[:, 60:240], 255 - photograph[:, 60:240])
    assert np.array_equal(whole[:, :30], photograph[:, :30])
    with pytest.raises(ImageError, match="leaves"):
        restore_photograph(photograph, Plain(negative), (200, 50, 150))


def test_a_file(tmp_path):
    Image.fromarray(make_faces(1, 700)[0][:600]).save(tmp_path / "a.png")
    told = restore_file(tmp_path / "a.png", tmp_path / "b.png", Plain(negative), (50, 0, 600))
    assert told.endswith("b.png: the square 50,0,600, restored at 512 pixels")
    told = restore_file(tmp_path / "a.png", tmp_path / "c.png", Plain(negative), (50, 0, 200))
    assert told.endswith("the square 50,0,200")
    with pytest.raises(ImageError, match="a.png: the square 0,500,200 leaves its 700×600 pixels"):
        restore_file(tmp_path / "a.png", tmp_path / "d.png", Plain(negative), (0, 500, 200))
    unused = Plain(negative)
    with pytest.raises(ImageError, match="is written as"):
        restore_file(tmp_path / "a.png", tmp_path / "d.gif", unused)
    assert unused.seen == [] and sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    "boxes, told, found",
    [
        ([(40, 10, 64)], "a face was found", True),
        ([(40, 10, 64), (0, 0, 32)], "2 faces were found, it is the surest", True),
        ([(20, 0, 80)], "no face was found, so it is the centred one", False),
    ],
)
def test_without_a_square_the_face_is_looked_for(boxes, told, found, tmp_path, monkeypatch):
    """The first proposal is restored, and it is said what it is; a square that is given is not looked for."""
    photograph = make_faces(1, 120)[0][:80]
    Image.fromarray(photograph).save(tmp_path / "a.png")
    monkeypatch.setattr(restore, "propose", lambda pixels: Proposal(boxes, told, found))
    left, top, side = boxes[0]
    said = restore_file(tmp_path / "a.png", tmp_path / "b.png", Plain(negative))
    assert said.endswith(f"b.png: the square {left},{top},{side} ({told}), restored at 128 pixels")
    expected = restore_photograph(photograph, Plain(negative), boxes[0])
    assert np.array_equal(read_photograph(tmp_path / "b.png").pixels, expected)
    monkeypatch.setattr(restore, "propose", None)
    said = restore_file(tmp_path / "a.png", tmp_path / "c.png", Plain(negative), (1, 2, 70))
    assert said.endswith("c.png: the square 1,2,70, restored at 128 pixels")


@pytest.mark.skipif(not shipped("finder").exists(), reason="weights not shipped")
def test_the_astronauts_face_is_restored(tmp_path):
    """The file of a photograph, no square given: her face changes, her suit and the flag do not."""
    Image.fromarray(astronaut()).save(tmp_path / "a.png")
    told = restore_file(tmp_path / "a.png", tmp_path / "b.png", Plain(negative))
    assert "found" in told and "no face" not in told
    changed = (read_photograph(tmp_path / "b.png").pixels != astronaut()).any(2)
    assert changed[90:130, 200:245].all() and not changed[350:].any() and not changed[:, 400:].any()


def test_without_the_finder_the_square_is_centred(tmp_path, data_without_finder, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(data_without_finder))
    Image.fromarray(make_faces(1, 100)[0][:60]).save(tmp_path / "a.png")
    told = restore_file(tmp_path / "a.png", tmp_path / "b.png", Plain(negative))
    assert "the square 20,0,60 (no face was looked for" in told and "finder.safetensors: there is no such" in told


# ---------------------------------------------------------------------------------------------------------------------
# In a shell


@pytest.fixture
def album(tmp_path):
    """A folder with four pictures below it, one of them broken, and another kind of file."""
    folder = tmp_path / "album"
    (folder / "summer").mkdir(parents=True)
    for i, name in enumerate(("a.jpg", "b.bmp", "summer/c.webp")):
        Image.fromarray(make_faces(1, 80, i)[0][:64]).save(folder / name)
    (folder / "broken.png").write_bytes((folder / "a.jpg").read_bytes()[:300])
    (folder / "notes.txt").write_text("not a picture", encoding="utf-8")
    return folder


def names_below(folder) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@needs_weights
def test_command_for_one_file(tmp_path, capsys):
    """A turned photograph: upright in the result, the square in upright pixels, and the one sentence on the blur."""
    upright = cv2.GaussianBlur(make_faces(1, 256)[0][:, :160], (0, 0), 5)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a garden"
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.png", exif=exif)
    command = [str(tmp_path / "a.png"), "--out", str(tmp_path / "b.png"), "--square", "16,96,128", "--knob", "0"]
    main([*command, "--method", "skip"])
    photograph = read_photograph(tmp_path / "b.png")
    assert photograph.pixels.shape == (256, 160, 3) and np.array_equal(photograph.pixels[:96], upright[:96])
    square = restore_square(np.ascontiguousarray(upright[96:224, 16:144]), load_restoring("skip", knob=0))
    assert np.array_equal(photograph.pixels[109:211, 29:131], square[13:-13, 13:-13])
    written = Image.open(tmp_path / "b.png").getexif()
    assert written[0x010E] == "a garden" and 0x0112 not in written
    told = capsys.readouterr()
    assert "b.png: the square 16,96,128" in told.out and told.err.count("\n") == 1 and "sigma 4 to 8" in told.err


def test_command_for_a_folder(album, tmp_path, tiny, capsys):
    """The broken file is named, the others are done, the status is not 0; a second run writes over nothing."""
    out, blind = tmp_path / "out", ["--checkpoint", str(tiny[0])]
    with pytest.raises(SystemExit) as ended:
        main([str(album), "--out", str(out), *blind])
    told = capsys.readouterr()
    assert ended.value.code == 1 and names_below(out) == ["a.jpg", "b.bmp.png", "summer/c.webp"]
    assert "error: " in told.err and "broken.png" in told.err and "Traceback" not in told.err
    assert "4/4" in told.err and "note:" not in told.err and "restored 3 of 4 pictures" in told.out
    assert told.out.count(": the square ") == 3
    before = {name: (out / name).stat().st_mtime_ns for name in names_below(out)}
    with pytest.raises(SystemExit):
        main([str(album), "--out", str(out), *blind])
    assert capsys.readouterr().err.count("is there already; --force") == 3
    assert {name: (out / name).stat().st_mtime_ns for name in names_below(out)} == before
    (album / "broken.png").unlink()
    main([str(album), "--out", str(out), *blind, "--force"])
    assert "restored 3 of 3" in capsys.readouterr().out
    assert all((out / name).stat().st_mtime_ns > time for name, time in before.items())


def test_the_input_is_not_written_over(album, tiny, capsys):
    path = album / "a.jpg"
    before = path.read_bytes()
    for out in (path, album):
        with pytest.raises(SystemExit) as ended:
            main([str(path), "--out", str(out), "--checkpoint", str(tiny[0])])
        assert ended.value.code == 1 and "is there already" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_which_file_becomes_which(album, tmp_path):
    """Results that an earlier call put into the folder are no input; a folder above it is a place like any other."""
    (album / "done").mkdir()
    (album / "done" / "old.png").write_bytes((album / "a.jpg").read_bytes())
    names = ["a.jpg", "b.bmp.png", "broken.png", "summer/c.webp"]
    assert [str(out.relative_to(album / "done")) for _, out in files_of(album, album / "done")] == names
    assert len(files_of(album, tmp_path)) == 5
    assert files_of(album / "b.bmp", album / "done") == [(album / "b.bmp", album / "done" / "b.bmp.png")]
    assert files_of("x.jpg", tmp_path / "new.webp")[0][1].name == "new.webp"
    for out in (album / "a.jpg", tmp_path / "new.png"):
        with pytest.raises(ImageError, match="is a folder, so --out must name a folder too"):
            files_of(album, out)
    with pytest.raises(ImageError, match="holds no picture outside"):
        for path in [p for p in album.rglob("*") if p.is_file() and "done" not in p.parts]:
            path.unlink()
        files_of(album, album / "done")


def test_stopped_between_two_files(album, tmp_path, tiny, monkeypatch):
    """Ctrl-C: the picture in hand is finished, the others are not begun, nothing half written lies about."""

    def interrupted(*args):
        signal.raise_signal(signal.SIGINT)
        return restore_file(*args)

    monkeypatch.setattr(restore, "restore_file", interrupted)
    with pytest.raises(SystemExit) as ended:
        main([str(album), "--out", str(tmp_path / "out"), "--checkpoint", str(tiny[0])])
    assert "stopped: 1 of 4 pictures are restored" in str(ended.value)
    assert names_below(tmp_path / "out") == ["a.jpg"]


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--square", "1,2"], "left,top,side"),
        (["--square", "1,-2,30"], "left,top,side"),
        (["--knob", "2"], "from 0 to 1.2"),
        (["--knob", "nan"], "from 0 to 1.2"),
        (["--method", "wiener"], "must be told the blur"),
        (["--method", "magic"], "no method 'magic'"),
        (["--checkpoint", "absent.safetensors"], "no such checkpoint"),
        ([], "no such file"),
    ],
)
def test_errors_are_sentences(arguments, told, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "absent.jpg"), "--out", str(tmp_path / "out.png"), *arguments])
    assert ended.value.code not in (0, None)
    assert told in f"{ended.value.code}{capsys.readouterr().err}" and list(tmp_path.iterdir()) == []
