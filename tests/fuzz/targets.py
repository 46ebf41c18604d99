"""What is fuzzed: seeds, the call, the exceptions that are documented, and the bounds."""

import io
import json
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import nn

from helpers.engine.checkpoints import CheckpointError, _to_8_bit, load_checkpoint
from helpers.engine.errors import ImageError
from helpers.photos import MAX_PIXELS, read_image
from helpers.reviewed.official_weights import generator_of, read_stylegan_pickle
from tests.coursework import answers
from tests.reviewed.test_official_weights import random_generator, write_nvidia
from tests.test_properties import KINDS, drawn, modes_of, written

import inbox  # isort: skip - found by answers.py
import submissions  # isort: skip

MIB = 2**20


@dataclass
class Target:
    """A reader. ``call`` gets a file's bytes and an empty folder, the only place in which it may write."""

    seeds: Callable[[], list[bytes]]
    call: Callable[[bytes, Path], object]
    documented: tuple[type[Exception], ...]
    memory: int  # bytes beyond what the process had before
    words: list[bytes]
    seconds: float = 20


# ---------------------------------------------------------------------------------------------------------------------


def pictures() -> list[bytes]:
    """Small files of every kind and mode that Pillow writes, some with metadata, one with two frames."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    found = []
    for kind in KINDS:
        for mode in modes_of(kind):
            found.append(written(drawn(mode, 24, 17, 1), kind))
        found.append(written(drawn("RGB", 20, 20, 2), kind, exif=exif, dpi=(72, 72), icc_profile=b"x" * 130))
    found.append(written(drawn("P", 20, 20, 3), "GIF", save_all=True, append_images=[drawn("P", 20, 20, 4)]))
    return [data for data in found if 0 < len(data) < 50_000]


def picture(data: bytes, folder: Path) -> None:
    image = read_image(data, size=None)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size <= 3 * MAX_PIXELS


def _tiny() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def _with_note(weights: bytes, note: bytes) -> bytes:
    """A checkpoint and the JSON beside it as one seed: the length of the first, then both."""
    return struct.pack("<I", len(weights)) + weights + note


def checkpoints() -> list[bytes]:
    """Of a small network, in three precisions, with other names, and with a note."""
    state = {k: v.contiguous() for k, v in _tiny().state_dict().items()}
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    wrapped = {f"module.{k}": v for k, v in state.items()}
    outer = {"a": torch.ones(300, 1, dtype=torch.int8), "a.scale": torch.ones(1, 300)}
    note = json.dumps({"name": "x", "precision": "8-bit", "epochs": 3}).encode()
    return [_with_note(save(s), note) for s in (state, half, _to_8_bit(state), wrapped, outer, state | outer)]


def checkpoint(data: bytes, folder: Path) -> None:
    (size,) = struct.unpack("<I", data[:4].ljust(4, b"\0"))
    path = folder / "x.safetensors"
    path.write_bytes(data[4 : 4 + size])
    note = path.with_suffix(".json")
    note.write_bytes(data[4 + size :])
    model = _tiny()
    about = load_checkpoint(path, model)
    assert isinstance(about, dict) and all(torch.isfinite(v).all() for v in model.state_dict().values())


def pickles() -> list[bytes]:
    """NVIDIA's form of a tiny generator, in several protocols, whole and in pieces."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        model = random_generator(img_resolution=8, channel_max=2, mapping_layers=1, z_dim=2, w_dim=2)
        found.append(write_nvidia(Path(folder) / "x", model).read_bytes())
        for protocol in (2, 3, 4):
            found.append(write_nvidia(Path(folder) / "x", nn.Linear(2, 1), protocol).read_bytes())
            extra = {"gain": np.float32(1)}
            found.append(write_nvidia(Path(folder) / "x", nn.Linear(2, 1).half(), protocol, extra=extra).read_bytes())
    return found


def stylegan(data: bytes, folder: Path) -> None:
    path = folder / "x.pkl"
    path.write_bytes(data)
    state = read_stylegan_pickle(path)
    assert all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items())
    with suppress(CheckpointError):  # most networks are none of these
        generator_of(state)


def submitted() -> list[bytes]:
    """Notebooks, and archives of several kinds that hold them; the first byte of a seed says how the file is called."""
    notebook = nbformat.writes(answers.notebook(answers.ASSIGNMENTS[-1]))
    small = json.loads(notebook)
    small["cells"] = [c for c in small["cells"] if "nbgrader" in c["metadata"]][:5]
    small = json.dumps(small).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("a/x.ipynb", small)
        z.writestr("a/timestamp.txt", "2026-05-01 10:00:00.000000 UTC")
        z.writestr("x.png", b"")
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as z:
        z.writestr("x.ipynb", small)
        z.writestr("b.zip", out.getvalue())
    found = [b"\0" + notebook.encode(), b"\0" + small, b"\1" + out.getvalue(), b"\1" + stored.getvalue()]
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as t:
            info = tarfile.TarInfo("a/x.ipynb")
            info.size = len(small)
            t.addfile(info, io.BytesIO(small))
        found.append(b"\2" + buffer.getvalue())
    return found


RELEASED = answers.COURSEWORK / f"{answers.ASSIGNMENTS[-1]}.ipynb"


def submission(data: bytes, folder: Path) -> None:
    suffix = (".ipynb", ".zip", ".tar.gz", ".tar")[data[0] % 4 if data else 0]
    path = folder / f"ada{suffix}"
    path.write_bytes(data[1:])
    try:
        if suffix == ".zip":
            (folder / "out").mkdir()
            inbox.unpack(path, folder / "out")
    except inbox.Refused:
        pass
    found, _ = inbox.candidates(inbox.Submission("ada", [inbox.Entry(path, "ada")]))
    text, _, _ = submissions.prepare(found, RELEASED)
    nbformat.validate(nbformat.reads(text, as_version=4))


PICKLE_WORDS = [
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch.storage\n_load_from_bytes\n", b"c_codecs\nencode\n",
    b"cbuiltins\nset\n", b"ccollections\nOrderedDict\n", b"cnumpy\ndtype\n", b"cos\nsystem\n", b"(Vtouch x\ntR",
    b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n", b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\x7f",
    b"8\xff\xff\xff\xff\xff\xff\xff\x7f", b"}", b"]", b")", b"(", b"t", b"R", b"s", b"u", b".", b"0", b"2", b"b",
    b"K\x01", b"N", b"\x80\x04", b"G_ema", b"state", b"_parameters", b"_modules", b"_buffers", b"\x93", b"\x94",
    b"\x85", b"\x81",
]  # fmt: skip
JSON_WORDS = [b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"true", b"1e999", b"-1", b'""', b"\\u0000", b"NaN"]
TENSOR_WORDS = [
    b'"F32"', b'"I8"', b'"F16"', b'"BF16"', b'"F8_E4M3"', b'"I64"', b'"BOOL"', b'"U16"', b'"shape"', b'"dtype"',
    b'"data_offsets"', b'"__metadata__"', b".scale", b"module.", b"_orig_mod.", b"0.weight", b"0.bias", *JSON_WORDS,
]  # fmt: skip
PICTURE_WORDS = [
    b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"zTXt", b"Exif\0\0", b"\xff\xd8",
    b"\xff\xda", b"\xff\xc0", b"\xff\xc2", b"\xff\xe1", b"II*\0", b"MM\0*", b"RIFF", b"WEBP", b"VP8X", b"ANIM",
    b"GIF89a", b"ftypavif", b"P6\n9 9\n255\n", b"BM", b"DDS ", b"icns", b"\0\0\1\0", b"8BPS\0\1", b"%!PS-Adobe",
    b"SIMPLE  =", b"qoif",
]  # fmt: skip
ARCHIVE_WORDS = [
    b"PK\3\4", b"PK\1\2", b"PK\5\6", b"../", b"..\\", b"/", b"C:", b"ustar\0", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0",
    b".zip", b"x.ipynb", b'"cells"', b'"nbgrader"', b'"grade_id"', b'"metadata"', b'"source"', b'"cell_type"',
    b'"nbformat"', *JSON_WORDS,
]  # fmt: skip

TARGETS = {
    # 120 megapixels, the most that is read, in the widest form that Pillow holds and in ours
    "read_image": Target(pictures, picture, (ImageError,), 3072 * MIB, PICTURE_WORDS, 60),
    "checkpoint": Target(checkpoints, checkpoint, (CheckpointError,), 200 * MIB, TENSOR_WORDS),
    "pickle": Target(pickles, stylegan, (CheckpointError,), 200 * MIB, PICKLE_WORDS),
    "submission": Target(submitted, submission, (inbox.Refused, submissions.Unreadable), 1024 * MIB, ARCHIVE_WORDS),
}
