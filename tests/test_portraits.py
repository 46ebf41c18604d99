"""Portraits (helpers.portraits): the table, the cut, fetching from a server on this machine with its own pictures."""

import csv
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers import portraits as p
from helpers.data import ImageError, data_folder, load_split
from tests.conftest import ROOT, make_faces

COLUMNS = ["number", "split", "file", "sha256", "m00", "m01", "m02", "m10", "m11", "m12", "scale", "large"]
ROWS = (  # number, split, scale of the cut
    *((f"{i:04d}", "train", 0.8) for i in range(4)),
    ("0004", "val", 0.4),
    ("0005", "test", 0.5),
    ("0006", "test", 1.1),
    ("g0000", "grey", 0.9),
)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def centred(scale: float, turn: float = 0.0, side: int = 300) -> np.ndarray:
    """2×3: the middle of a side×side photograph to the middle of the cut."""
    c, s = scale * np.cos(np.deg2rad(turn)), scale * np.sin(np.deg2rad(turn))
    return np.array([[c, s, 64 - (c + s) * side / 2], [-s, c, 64 - (c - s) * side / 2]])


@pytest.fixture
def repository(tmp_path) -> Path:
    """A folder laid out like the source: eight pictures of nobody."""
    folder = tmp_path / "repository"
    for i, picture in enumerate(make_faces(len(ROWS), 300, seed=7)):
        path = folder / "images" / ("wiki" if i % 2 else "bio_guide") / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes())
    return folder


@pytest.fixture
def course(tmp_path, repository, monkeypatch) -> Path:
    """The course as the command sees it: a table of its own, a cache that is empty. Returns the portraits' folder."""
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "portraits.csv").open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(COLUMNS)
        for (number, split, scale), path in zip(
            ROWS, sorted(repository.rglob("*.jpg"), key=lambda q: q.name), strict=True
        ):
            file = path.relative_to(repository).as_posix()
            matrix = [f"{v:.6f}" for v in centred(scale, turn=2).ravel()]
            table.writerow([number, split, file, sha(path.read_bytes()), *matrix, scale, ""])
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COURSE_PORTRAITS", raising=False)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr(p, "PAUSE", 0.01)
    return tmp_path / "cache" / "portraits"


class Server(ThreadingHTTPServer):
    """Serves a folder, counts what is asked for, and misbehaves as told."""

    daemon_threads = True

    def __init__(self, folder: Path):
        self.asked: list[str] = []
        self.busy: dict[str, int] = {}  # path -> how often it is answered with 503 before it is served
        self.torn: set[str] = set()  # paths of which half is sent
        self.pause = 0.0

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                server, name = self.server, self.path.lstrip("/")
                server.asked.append(name)
                time.sleep(server.pause)
                if server.busy.get(name, 0) > 0:
                    server.busy[name] -= 1
                    self.send_error(503)
                elif name in server.torn:
                    content = (folder / name).read_bytes()
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content[: len(content) // 2])
                else:
                    super().do_GET()

        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server(repository):
    server = Server(repository)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def cuts(folder: Path) -> list[str]:
    return sorted(q.relative_to(folder).as_posix() for q in folder.rglob("*.jpg") if "photographs" not in q.parts)


EXPECTED = sorted(f"{split}/{number}.jpg" for number, split, _ in ROWS)


# ---------------------------------------------------------------------------------------------------------------------
# The table


def test_the_shipped_table():
    rows = p.read_table(Path(__file__).parent.parent / "data" / "portraits.csv")
    counts = {split: sum(row.split == split for row in rows) for split in p.PORTRAIT_SPLITS}
    assert counts == {"train": 910, "val": 114, "test": 116, "grey": 2276}
    for attribute in ("sha256", "file", "number"):
        assert len({getattr(row, attribute) for row in rows}) == len(rows)
    for row in rows:
        assert row.file.startswith("images/") and ".." not in row.file and len(row.sha256) == 64
        assert abs(np.sqrt(np.linalg.det(row.matrix[:, :2])) - row.scale) < 1e-3


def test_the_shipped_table_says_which_are_large():
    with (Path(__file__).parent.parent / "data" / "portraits.csv").open() as lines:
        marked = {row["number"] for row in csv.DictReader(lines) if row["large"] == "yes"}
    rows = [row for row in p.read_table() if row.split in ("val", "test")]
    assert marked == {row.number for row in rows if 256 in row.cuts(Path(), 256)} and len(marked) == 35


@pytest.mark.parametrize(("splits", "kept"), [(("train", "test"), "test"), (("grey", "train"), "train"),
                                              (("val", "test"), "test"), (("train", "val"), "val")])  # fmt: skip
def test_a_repeated_photograph_stays_with_what_is_measured(course, splits, kept):
    path = data_folder() / "portraits.csv"
    lines = path.read_text(encoding="utf-8").splitlines()[:2]
    fields = lines[1].split(",")
    rows = [",".join([f"{i:04d}", split, f"images/{i}.jpg", *fields[3:]]) for i, split in enumerate(splits)]
    path.write_text("\n".join([lines[0], *rows]) + "\n", encoding="utf-8")
    assert [row.split for row in p.read_table()] == [kept]


@pytest.mark.parametrize("content", ["", "number,split\n0001,train\n", "\0\1\2", "x", ",".join(COLUMNS) + "\n", None])
def test_a_bad_table_is_refused(tmp_path, content):
    path = tmp_path / "portraits.csv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ImageError, match="portraits.csv"):
        p.read_table(path)


# ---------------------------------------------------------------------------------------------------------------------
# The cut


def test_a_shift_is_exact():
    photograph = make_faces(1, 300)[0]
    assert np.array_equal(p.cut(photograph, np.array([[1, 0, -40], [0, 1, -100.0]])), photograph[100:228, 40:168])


def test_a_quarter_turn_is_exact():
    photograph = make_faces(1, 128, seed=3)[0]
    assert np.array_equal(p.cut(photograph, np.array([[0, 1, 0], [-1, 0, 127.0]])), np.rot90(photograph))


@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize(("scale", "turn"), [(0.3, 0), (0.45, 7), (0.9, -4), (1.3, 3)])
def test_a_ramp_shows_where_every_pixel_comes_from(scale, turn, size):
    """On a plane of grey levels neither blur nor interpolation changes anything: only the geometry is seen."""
    y, x = np.mgrid[:600, :600]
    matrix = centred(scale, turn, side=600)
    photograph = np.repeat((20 + x * 0.2 + y * 0.15)[..., None], 3, 2).astype(np.float32)
    back = cv2.invertAffineTransform(matrix * size / 128)
    v, u = np.mgrid[:size, :size]
    sx, sy = (back @ np.stack([u.ravel(), v.ravel(), np.ones(u.size)])).reshape(2, size, size)
    inside = (sx > 8) & (sx < 591) & (sy > 8) & (sy < 591)
    assert inside.mean() > 0.9
    difference = p.cut(photograph, matrix, size)[..., 0] - (20 + 0.2 * sx + 0.15 * sy)
    assert np.abs(difference[inside]).max() < 0.1


@pytest.mark.parametrize("period", [3, 4])
def test_fine_stripes_do_not_alias(period):
    """Stripes finer than the cut can hold become grey; without the blur they come back as coarse ones."""
    x = np.arange(600)
    wave = 127 + 100 * np.cos(2 * np.pi * x / period)
    photograph = np.repeat(np.tile(wave, (600, 1))[..., None], 3, 2).astype(np.uint8)
    matrix = centred(0.3, side=600)
    plain = cv2.warpAffine(photograph, matrix, (128, 128), flags=cv2.INTER_CUBIC)
    assert p.cut(photograph, matrix).std() < 0.2 * plain.std() and plain.std() > 30


def test_the_border_is_repeated():
    photograph = np.full((100, 100, 3), 200, np.uint8)
    assert (p.cut(photograph, centred(1.0, side=100)) == 200).all()


# ---------------------------------------------------------------------------------------------------------------------
# Fetching


@pytest.mark.parametrize("kind", ["server", "folder"])
def test_fetch_and_open(course, repository, server, capsys, kind):
    p.main(["--mirror", server.address if kind == "server" else str(repository)])
    assert cuts(course) == EXPECTED
    assert f"8 portraits in {course}, 8 of them fetched now" in capsys.readouterr().out
    opened = {split: p.open_portraits(split) for split in p.PORTRAIT_SPLITS}
    assert {split: len(some) for split, some in opened.items()} == {"train": 4, "val": 1, "test": 2, "grey": 1}
    for row in p.read_table():
        photograph = cv2.imread(str(repository / row.file))[..., ::-1]
        picture = opened[row.split][[q.stem for q in opened[row.split].paths].index(row.number)]
        expected = p.cut(np.ascontiguousarray(photograph), row.matrix)
        assert picture.shape == (128, 128, 3) and picture.dtype == np.uint8
        assert np.abs(picture.astype(int) - expected).mean() < 2  # JPEG
    assert np.array_equal(load_split(course, "test"), opened["test"].load())


def test_what_somebody_has_fetched_is_a_mirror(course, repository, tmp_path, monkeypatch):
    p.main(["--mirror", str(repository)])
    monkeypatch.setenv("COURSE_PORTRAITS", str(tmp_path / "neighbour"))
    p.main(["--mirror", str(course / "photographs"), "--splits", "test", "grey"])
    assert cuts(tmp_path / "neighbour") == ["grey/g0000.jpg", "test/0005.jpg", "test/0006.jpg"]


def test_larger_cuts(course, repository):
    p.main(["--mirror", str(repository), "--splits", "val", "test", "--size", "256"])
    assert cuts(course) == ["large/0004.jpg", "large/0005.jpg", "test/0005.jpg", "test/0006.jpg", "val/0004.jpg"]
    assert p.open_portraits("test", 256)[0].shape == (256, 256, 3)
    with pytest.raises(ImageError, match="--size 256"):
        p.open_portraits("train", 256)


def test_nothing_is_fetched_twice(course, server):
    p.main(["--mirror", server.address])
    before = {path: (course / path).stat().st_mtime_ns for path in cuts(course)}
    assert len(server.asked) == len(set(server.asked)) == 8
    p.main(["--mirror", server.address])
    p.main(["--mirror", server.address, "--size", "256"])  # from the photographs that are there
    assert len(server.asked) == 8
    assert {path: (course / path).stat().st_mtime_ns for path in before} == before
    assert "large/0004.jpg" in cuts(course)


def test_what_was_damaged_or_deleted_is_made_again(course, server):
    p.main(["--mirror", server.address])
    damaged, deleted = (course / "photographs" / row.file for row in p.read_table()[:2])
    damaged.write_bytes(b"damaged")
    deleted.unlink()  # its cut is there: not needed
    (course / "test" / "0005.jpg").unlink()
    server.asked.clear()
    p.main(["--mirror", server.address])
    assert server.asked == [p.read_table()[0].file] and cuts(course) == EXPECTED


@pytest.mark.parametrize("numbers", [(1,), (0, 4, 7)])
def test_a_wrong_file_is_named_and_not_kept(course, repository, server, numbers):
    rows = [p.read_table()[i] for i in numbers]
    good = [(repository / row.file).read_bytes() for row in rows]
    for row in rows:
        (repository / row.file).write_bytes(b"something else")
    with pytest.raises(SystemExit) as stopped:
        p.main(["--mirror", server.address])
    message = str(stopped.value)
    assert f"{len(rows)} of 8 portraits could not be had" in message and "SHA-256" in message
    for row in rows:
        assert row.file in message and not (course / "photographs" / row.file).exists()
    assert cuts(course) == sorted(set(EXPECTED) - {f"{row.split}/{row.number}.jpg" for row in rows})
    for row, content in zip(rows, good, strict=True):
        (repository / row.file).write_bytes(content)
    server.asked.clear()
    p.main(["--mirror", server.address])
    assert sorted(server.asked) == sorted(row.file for row in rows) and cuts(course) == EXPECTED


@pytest.mark.parametrize("kind", ["server", "folder"])
@pytest.mark.parametrize("numbers", [(3,), (2, 5, 6)])
def test_a_missing_file_is_named_and_the_others_are_fetched(course, repository, server, numbers, kind):
    rows = [p.read_table()[i] for i in numbers]
    for row in rows:
        (repository / row.file).unlink()
    with pytest.raises(SystemExit) as stopped:
        p.main(["--mirror", server.address if kind == "server" else str(repository)])
    assert all(row.file in str(stopped.value) for row in rows)
    assert ("404" in str(stopped.value)) == (kind == "server")
    assert cuts(course) == sorted(set(EXPECTED) - {f"{row.split}/{row.number}.jpg" for row in rows})
    if {row.split for row in rows} >= {"test"}:
        with pytest.raises(ImageError, match="no 128-px test portraits"):
            p.open_portraits("test")
    else:
        with pytest.warns(UserWarning, match="3 of 4 train portraits"):
            assert len(p.open_portraits("train")) == 3


def test_a_picture_that_cannot_be_read_is_named(course, repository):
    """The table's hash is right, the file is no picture."""
    row = p.read_table()[0]
    table = data_folder() / "portraits.csv"
    (repository / row.file).write_bytes(b"no picture")
    table.write_text(table.read_text(encoding="utf-8").replace(row.sha256, sha(b"no picture")), encoding="utf-8")
    with pytest.raises(SystemExit, match="1 of 8 portraits .*\n.*cannot be read as a picture"):
        p.main(["--mirror", str(repository)])


@pytest.mark.parametrize("times", [1, 2])
def test_a_busy_server_is_asked_again(course, server, times):
    file = p.read_table()[0].file
    server.busy[file] = times
    p.main(["--mirror", server.address])
    assert cuts(course) == EXPECTED and server.asked.count(file) == times + 1


def test_a_server_that_stays_busy_is_named(course, server):
    file = p.read_table()[0].file
    server.busy[file] = 99
    with pytest.raises(SystemExit, match=f"{file}: cannot be fetched from .*503"):
        p.main(["--mirror", server.address])
    assert len(cuts(course)) == 7


def test_half_a_file_is_never_kept(course, server):
    row = p.read_table()[0]
    server.torn.add(row.file)
    with pytest.raises(SystemExit, match="cannot be reached"):
        p.main(["--mirror", server.address, "--splits", "train"])
    assert not (course / "photographs" / row.file).exists() and not list(course.rglob("*.part"))
    server.torn.clear()
    p.main(["--mirror", server.address])
    assert cuts(course) == EXPECTED


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_no_network_is_one_sentence(course, address):
    with pytest.raises(SystemExit) as stopped:
        p.main(["--mirror", address])
    message = str(stopped.value)
    assert message.startswith(f"error: {address} cannot be reached") and "--mirror" in message and "\n" not in message
    assert not cuts(course)


def test_offline_nothing_is_fetched(course, monkeypatch):
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    monkeypatch.setattr(p, "urlopen", lambda *_, **__: pytest.fail("the network was asked"))
    with pytest.raises(SystemExit, match="COURSE_OFFLINE is set.*--mirror"):
        p.main([])
    with pytest.raises(p.SourceError, match="COURSE_OFFLINE"):
        p.fetch(p.read_table(), course)


def test_the_public_source_is_asked_by_default(course, monkeypatch):
    monkeypatch.delenv("COURSE_OFFLINE")
    asked = []

    def refuse(address, timeout):
        asked.append(address)
        raise OSError("no route")

    monkeypatch.setattr(p, "urlopen", refuse)
    with pytest.raises(SystemExit, match="no route"):
        p.main(["--splits", "test"])
    file = p.read_table()[5].file
    assert f"https://raw.githubusercontent.com/voteview/member_photos/{p.COMMIT}/{file}" in asked


def test_no_such_mirror(course, tmp_path):
    with pytest.raises(SystemExit, match="there is no such folder"):
        p.main(["--mirror", str(tmp_path / "nowhere")])


def test_a_place_that_cannot_be_written(course, repository, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("COURSE_PORTRAITS", str(tmp_path / "file" / "below"))
    with pytest.raises(SystemExit, match="cannot be written there"):
        p.main(["--mirror", str(repository)])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_and_resumed(course, server, how):
    """A run is stopped after some files; the next fetches only the rest, and nothing half done is left."""
    server.pause = 0.15
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # a shell may have it ignored
    code += "from helpers import portraits as p; p.THREADS = 1; p.main()"
    run = subprocess.Popen(
        [sys.executable, "-c", code, "--mirror", server.address], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while len(cuts(course)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(how)
    errors = run.communicate(timeout=300)[1]
    assert run.returncode != 0 and (how != signal.SIGINT or "the same command goes on" in errors)
    there = [row for row in p.read_table() if (course / "photographs" / row.file).exists()]
    assert 2 <= len(there) < 8
    assert all(sha((course / "photographs" / row.file).read_bytes()) == row.sha256 for row in there)
    (course / "test").mkdir(exist_ok=True)
    (course / "test" / "0005.jpg.part").write_bytes(b"half")  # what a kill in the middle of writing leaves
    server.pause, server.asked = 0.0, []
    p.main(["--mirror", server.address])
    assert sorted(server.asked) == sorted({row.file for row in p.read_table()} - {row.file for row in there})
    assert cuts(course) == EXPECTED and not list(course.rglob("*.part"))


# ---------------------------------------------------------------------------------------------------------------------
# Opening


def test_nothing_fetched_yet(course):
    with pytest.raises(ImageError, match="fetch them: python -m helpers.portraits"):
        p.open_portraits("val")


@pytest.mark.parametrize(("split", "size"), [("all", 128), ("large", 256), ("test", 64)])
def test_no_such_split_or_size(course, split, size):
    with pytest.raises(ImageError, match="there are no portraits"):
        p.open_portraits(split, size)


@pytest.mark.parametrize("name", ["elsewhere", "a folder"])
def test_a_named_folder_is_used_instead_of_the_cache(course, repository, tmp_path, monkeypatch, name):
    p.main(["--mirror", str(repository)])
    os.replace(course, tmp_path / name)
    monkeypatch.setenv("COURSE_PORTRAITS", str(tmp_path / name))
    assert p.portraits_folder() == tmp_path / name and len(p.open_portraits("train")) == 4
    monkeypatch.delenv("COURSE_PORTRAITS")
    assert p.portraits_folder() == course


def test_real_portraits(portraits, monkeypatch):
    """What lies beside the project has the layout that the table describes."""
    monkeypatch.setenv("COURSE_PORTRAITS", str(portraits))
    assert [len(p.open_portraits(split)) for split in p.PORTRAIT_SPLITS] == [910, 114, 116, 2276]
    large = p.open_portraits("test", 256)
    assert len(large) == 18 and large[0].shape == (256, 256, 3)


@pytest.mark.parametrize("split", ["val", "test"])
def test_cuts_of_two_sizes_agree(portraits, monkeypatch, split):
    """The 256-px portraits, cut once more, are the 128-px ones: same framing, same sharpness."""
    monkeypatch.setenv("COURSE_PORTRAITS", str(portraits))
    shown, opened = p.open_portraits(split), p.open_portraits(split, 256)
    place = {path.stem: i for i, path in enumerate(shown.paths)}
    for path, large in zip(opened.paths, opened, strict=True):
        expected = shown[place[path.stem]]
        again = p.cut(large, np.array([[0.5, 0, 0], [0, 0.5, 0]]))
        error = np.mean((again[4:-4, 4:-4].astype(float) - expected[4:-4, 4:-4]) ** 2)
        assert 10 * np.log10(255**2 / error) > 40, path.stem
