"""Whose an entry of the inbox is, and what can be in it."""

import io
import os
import tarfile
import zipfile
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.coursework import answers  # noqa: F401 - finds inbox
from tests.coursework.test_roster import CLASS, NAMES, write

import inbox  # isort: skip
import roster as rosters  # isort: skip

NOBODY = rosters.Roster()


def put(folder, *names):
    """Empty files, and folders where a name ends with a slash."""
    folder.mkdir(exist_ok=True)
    for name in names:
        path = folder / name.rstrip("/")
        if name.endswith("/"):
            path.mkdir()
            path = path / "x.ipynb"
        path.write_text("{}", encoding="utf-8")


def whose(folder, roster=NOBODY, taken=None, **options):
    """({student: names of entries}, {name: why it was refused})"""
    found, refused = inbox.assign(inbox.look(folder), roster, taken or {}, **options)
    return {s.student: sorted(e.path.name for e in s.entries) for s in found}, refused


# ---------------------------------------------------------------------------------------------------------------------
# Whose it is

DIFFERENT = [
    ["given_family1/", "given_family2/"],
    ["given.family1_x.ipynb", "given.family2_y.ipynb"],
    ["Given Family_1001_assignsubmission_file/", "Given Family_1002_assignsubmission_file/"],
    ["Given Family_1001_assignsubmission_file_a.ipynb", "Given Family_1002_assignsubmission_file_a.ipynb"],
    ["familygiven_4001_90001_a1.ipynb", "familygiven_LATE_4002_90002_a1.ipynb"],
    ["李小明.ipynb", "李小红.zip", "王小明/"],
    ["Иван_Петров.ipynb", "Иван_Петрова.ipynb"],
    ["a b.ipynb", "a_b.ipynb", "a.b.ipynb", "a-b.ipynb", "a'b.ipynb", "ab.ipynb"],
    ["-dash.ipynb", "dash.ipynb", "[x]/", "(x)/", "{x}/"],
    ["Wang Wei.ipynb", "Wang Wei (1).ipynb"],  # two attachments from two people, perhaps
    ["ann.marie.tar.gz", "ann.ipynb"],
]


@pytest.mark.parametrize("names", DIFFERENT, ids=lambda names: names[0])
def test_different_students_stay_different(tmp_path, names):
    put(tmp_path / "in", *names)
    found, refused = whose(tmp_path / "in")
    assert refused == {} and len(found) == len(names)
    assert sorted(sum(found.values(), [])) == sorted(n.rstrip("/") for n in names)


COLLISIONS = [
    ["ada.ipynb", "ada.zip"],
    ["ada.ipynb", "ada/"],
    ["Ada.ipynb", "ada.ipynb"],
    ["\u00e9va.ipynb", "e\u0301va.ipynb"],
    ["ada .ipynb", "ada.ipynb"],
]


@pytest.mark.parametrize("names", COLLISIONS, ids=repr)
def test_collisions_are_refused_and_named(tmp_path, names):
    """Nobody is left aside: both are named, and a third student is taken."""
    put(tmp_path / "in", *names, "bob.ipynb")
    found, refused = whose(tmp_path / "in")
    assert list(found) == ["bob"] and sorted(refused) == sorted(n.rstrip("/") for n in names)
    assert all(len(why) > 20 for why in refused.values())


def test_collision_with_an_earlier_collection(tmp_path):
    put(tmp_path / "in", "ada.ipynb", "Given Family_1002_assignsubmission_file/")
    _, refused = whose(tmp_path / "in", taken={"Ada": ""})
    assert "upper and lower case" in refused["ada.ipynb"]
    roster = rosters.Roster({"gf": rosters.Student("gf", "Given", "Family")})
    found, refused = whose(tmp_path / "in", roster, taken={"gf": "1001"})
    assert found == {} and "had the number 1001" in refused["Given Family_1002_assignsubmission_file"]


def test_one_student_of_a_platform_may_have_several_entries(tmp_path):
    put(
        tmp_path / "in",
        "A B_7_assignsubmission_file/",
        "A B_7_assignsubmission_onlinetext/",
        "B C_8_assignsubmission_file/",
    )
    assert whose(tmp_path / "in")[0] == {
        "A B_7": ["A B_7_assignsubmission_file", "A B_7_assignsubmission_onlinetext"],
        "B C_8": ["B C_8_assignsubmission_file"],
    }
    put(tmp_path / "canvas", "ab_7_100_x.ipynb", "ab_7_101_x-1.ipynb", "bc_LATE_8_102_x.ipynb")
    assert sorted(whose(tmp_path / "canvas")[0]) == ["ab_7", "bc_8"]


def test_canvas_is_recognised_as_a_whole_only(tmp_path):
    """A name of numbers alone does not make an inbox one of Canvas."""
    put(tmp_path / "in", "ada_1_2_x.ipynb", "bob.ipynb")
    assert sorted(whose(tmp_path / "in")[0]) == ["ada_1_2_x", "bob"]
    assert sorted(e.name for e in inbox.look(tmp_path / "in", "canvas")) == ["ada", "bob"]


def test_with_a_roster(tmp_path):
    """The roster knows more than names do; whoever is not in it is refused, and a doubtful name is."""
    roster = rosters.read(write(tmp_path, CLASS))
    put(
        tmp_path / "in",
        "given_family1_final.ipynb",
        "given_family2/",
        "Wei Li.ipynb",
        "lxm.zip",
        "stranger.ipynb",
        "Family Given/",
    )
    found, refused = whose(tmp_path / "in", roster)
    assert sorted(found) == ["given_family1", "given_family2", "li", "lxm"]
    assert "not in the roster" in refused["stranger.ipynb"]
    assert "given_family1 or given_family2" in refused["Family Given"]


def test_moodles_worksheet_tells_two_of_the_same_name_apart(tmp_path):
    roster = rosters.read(write(tmp_path, CLASS))
    put(tmp_path / "in", "Given Family_1001_assignsubmission_file/", "Given Family_1002_assignsubmission_file/")
    found, refused = whose(tmp_path / "in", roster)
    assert found == {} and all("--worksheet" in why for why in refused.values())
    found, refused = whose(tmp_path / "in", roster, mails={"1001": "G1@x.org", "1002": "g2@x.org"})
    assert refused == {} and sorted(found) == ["given_family1", "given_family2"]


def test_junk_is_no_entry(tmp_path):
    put(tmp_path / "in", "ada.ipynb", ".DS_Store", "__MACOSX/", ".ipynb_checkpoints/", "Thumbs.db", "._ada.ipynb")
    assert whose(tmp_path / "in") == ({"ada": ["ada.ipynb"]}, {})


def test_links_are_refused(tmp_path):
    put(tmp_path / "in", "ada.ipynb")
    (tmp_path / "in" / "eve.ipynb").symlink_to("/etc/passwd")
    assert whose(tmp_path / "in")[1] == {"eve.ipynb": "a link to another place"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES.filter(lambda n: "/" not in n and n not in (".", "..")), min_size=1, max_size=6, unique=True))
def test_every_entry_is_taken_or_named(tmp_path, names):
    """Whatever the names are: an entry is one student's or is refused, and no student has two entries."""
    import shutil

    folder = tmp_path / "in"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in names:
        (folder / f"{name}.ipynb").write_text("{}", encoding="utf-8")
    entries = inbox.look(folder)
    found, refused = inbox.assign(entries, NOBODY, {})
    assert all(len(s.entries) == 1 for s in found)
    assert sorted([s.entries[0].path.name for s in found] + list(refused)) == sorted(e.path.name for e in entries)
    assert len({s.student.casefold() for s in found}) == len(found)


# ---------------------------------------------------------------------------------------------------------------------
# What is in it


def archive(path, members, **options):
    """A zip of {name: text}."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, text in members.items():
            z.writestr(zipfile.ZipInfo(name, options.get("time", (2026, 5, 1, 12, 0, 0))), text)
    return path


def contents(path):
    submission = inbox.Submission("ada", [inbox.Entry(path, "ada")])
    return inbox.candidates(submission)


def encrypted(path):
    """Marks every member as encrypted, as an archive with a password is."""
    data = bytearray(archive(path, {"x.ipynb": "{}"}).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)


def damaged(path):
    data = bytearray(archive(path, {"x.ipynb": "x" * 1000 + "{}"}).read_bytes())
    data[50] ^= 0xFF
    path.write_bytes(data)


def wrong_sum(path):
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("x.ipynb", "{} " * 100)
    path.write_bytes(path.read_bytes().replace(b"{} {}", b"{} {]", 1))


def tar_outside(path):
    with tarfile.open(path, "w:gz") as t:
        info = tarfile.TarInfo("../../evil.ipynb")
        info.size = 2
        t.addfile(info, io.BytesIO(b"{}"))


def nested(path, depth=5):
    data = b"{}"
    for n in range(depth):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as z:
            z.writestr("x.ipynb" if n == 0 else "inner.zip", data)
        data = buffer.getvalue()
    path.write_bytes(data)


BAD = {
    "no archive": lambda p: p.write_text("no archive", encoding="utf-8"),
    "empty file": lambda p: p.write_bytes(b""),
    "cut off": lambda p: p.write_bytes(archive(p, {"x.ipynb": "{}" * 5000}).read_bytes()[:200]),
    "damaged": damaged,
    "wrong sum": wrong_sum,
    "encrypted": encrypted,
    "..": lambda p: archive(p, {"../../evil.ipynb": "{}"}),
    ".. of Windows": lambda p: archive(p, {"..\\..\\evil.ipynb": "{}"}),
    "from the root": lambda p: archive(p, {"/etc/evil.ipynb": "{}"}),
    "from a drive": lambda p: archive(p, {"C:\\evil.ipynb": "{}"}),
    "tar with ..": tar_outside,
    "archives in archives": nested,
    "rar": lambda p: p.write_bytes(b"Rar!\x1a\x07\x01\x00" + bytes(100)),
    "7z": lambda p: p.write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(100)),
    "nothing in it": lambda p: archive(p, {}),
    "no notebook in it": lambda p: archive(p, {"report.pdf": "x"}),
    "too many files": lambda p: archive(p, {f"{n}.txt": "" for n in range(inbox.MEMBERS + 1)}),
    "a bomb": lambda p: archive(p, {"x.ipynb": b"0" * (inbox.LARGEST + 2)}),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_archives(tmp_path, what):
    """One sentence that begins with the name of the file, and nothing written anywhere."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "ada.zip"
    BAD[what](path)
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    with pytest.raises(inbox.Refused, match=r"^ada\.zip"):
        contents(path)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def backslashes(path):
    with zipfile.ZipFile(path, "w") as z:
        info = zipfile.ZipInfo("x")
        info.filename = "homework\\x.ipynb"  # past the constructor, which would mend it on Windows alone
        info.date_time = (2026, 5, 1, 12, 0, 0)
        z.writestr(info, "{}")


def tarred(path, mode):
    with tarfile.open(path, mode) as t:
        info = tarfile.TarInfo("homework/x.ipynb")
        info.size, info.mtime = 2, datetime(2026, 5, 1, 12).timestamp()
        t.addfile(info, io.BytesIO(b"{}"))


GOOD = {
    "a.zip": lambda p: archive(p, {"homework/x.ipynb": "{}", "__MACOSX/._x.ipynb": "junk", "y.png": "x"}),
    "A.ZIP": lambda p: archive(p, {"X.IPYNB": "{}"}),
    "b.zip": backslashes,
    "c.zip": lambda p: archive(p, {"李/ü.ipynb": "{}"}),
    "d.zip": lambda p: nested(p, 2),
    "e.tar.gz": lambda p: tarred(p, "w:gz"),
    "f.tar": lambda p: tarred(p, "w"),
    "g.zip": lambda p: archive(p, {"x.ipynb.txt": "{}"}),
    "h.ipynb": lambda p: p.write_text("{}", encoding="utf-8"),
    "i.ipynb.json": lambda p: p.write_text("{}", encoding="utf-8"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_archives(tmp_path, name):
    """One notebook with its content; times as the archive or the file has them."""
    path = tmp_path / name
    GOOD[name](path)
    moment = datetime(2026, 5, 1, 12).timestamp()
    os.utime(path, (moment, moment))
    (found,), stamp = contents(path)
    assert found.data == b"{}" and stamp is None
    if name != "d.zip":  # its inner zip is given the earliest time that there is
        assert found.time == datetime.fromtimestamp(moment, UTC)


def test_folders(tmp_path):
    """Notebooks at any depth, the time of timestamp.txt, and no links."""
    put(tmp_path / "in", "ada/")
    folder = tmp_path / "in" / "ada"
    (folder / "deep" / ".ipynb_checkpoints").mkdir(parents=True)
    (folder / "deep" / "y.ipynb").write_text("[]", encoding="utf-8")
    (folder / "deep" / ".ipynb_checkpoints" / "y-checkpoint.ipynb").write_text("old", encoding="utf-8")
    (folder / "link.ipynb").symlink_to("/etc/passwd")
    (folder / "timestamp.txt").write_text("2026-05-01 10:00:00.000000 UTC\n", encoding="utf-8")
    found, stamp = contents(folder)
    assert {c.data for c in found} == {b"{}", b"[]"} and stamp == datetime(2026, 5, 1, 10, tzinfo=UTC)
    (folder / "timestamp.txt").write_bytes(b"\xff\x00 not a time")
    assert contents(folder)[1] is None


@pytest.mark.parametrize("name", ["notes.pdf", "essay.docx", "README"])
def test_no_submission(tmp_path, name):
    (tmp_path / name).write_text("x", encoding="utf-8")
    with pytest.raises(inbox.Refused, match="neither a notebook nor an archive"):
        contents(tmp_path / name)


def test_a_class_in_one_archive(tmp_path):
    """Moodle's and Canvas's download as it is."""
    members = {"A B_7_assignsubmission_file_/x.ipynb": "{}", "B C_8_assignsubmission_file_/deep/y.zip": "x"}
    inbox.unpack(archive(tmp_path / "all.zip", members), tmp_path / "in") if (tmp_path / "in").mkdir() is None else None
    assert sorted(whose(tmp_path / "in")[0]) == ["A B_7", "B C_8"]
    moment = (tmp_path / "in" / "A B_7_assignsubmission_file_" / "x.ipynb").stat().st_mtime
    assert datetime.fromtimestamp(moment) == datetime(2026, 5, 1, 12)
    for name in ("../x/y.ipynb", "/x.ipynb"):
        (tmp_path / "other").mkdir(exist_ok=True)
        with pytest.raises(inbox.Refused, match="outside"):
            inbox.unpack(archive(tmp_path / "bad.zip", {name: "{}"}), tmp_path / "other")
        assert list((tmp_path / "other").iterdir()) == [] and not (tmp_path / "x").exists()


SEED = io.BytesIO()
with zipfile.ZipFile(SEED, "w", zipfile.ZIP_DEFLATED) as _zip:
    _zip.writestr("a/x.ipynb", '{"cells": []}' * 20)
    _zip.writestr("b.zip", b"PK\x05\x06" + bytes(18))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(SEED.getvalue()) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_fuzzed_archives(tmp_path, changes):
    """Whatever bytes are changed: candidates, or Refused, and no file beside the archive."""
    data = bytearray(SEED.getvalue())
    for place, value in changes:
        data[place] = value
    path = tmp_path / "ada.zip"
    path.write_bytes(data)
    try:
        found, _ = contents(path)
        assert all(isinstance(c.data, bytes) for c in found)
    except inbox.Refused:
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ada.zip"]
