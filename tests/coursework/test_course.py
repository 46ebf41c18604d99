"""What the commands do with what comes in: times, archives of earlier collections, one bad entry among good ones."""

import io
import os
import re
import zipfile
from datetime import UTC, datetime

import nbformat
import pytest

from tests.coursework.making import LAST, command, solved

import common  # isort: skip - found by answers.py
import course as commands  # isort: skip
import inbox  # isort: skip

FIRST, SECOND = datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def text(course):
    """A right notebook, as text."""
    return nbformat.writes(solved(course))


def put(path, content, when=FIRST):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.utime(path, (when.timestamp(), when.timestamp()))


def zipped(text, when):
    """A zip with the notebook of that time, in this computer's zone as archives have it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("x.ipynb", when.astimezone().timetuple()[:6]), text)
    return out.getvalue()


WORKSHEET = """Identifier,Full name,Email address,Status,Grade,Last modified (submission)
Participant 1001,Ada Love,ada@x.org,Submitted for grading,,"Monday, 2 March 2026, 12:00 PM"
Participant 1002,Ada Love,other@x.org,Submitted for grading,,"Monday, 2 March 2026, 12:00"
"""


def test_times_of_submissions(fresh, tmp_path, text, monkeypatch):
    """Moodle's worksheet before timestamp.txt before the archive's member before the file; nbgrader reads them all."""
    monkeypatch.setenv("TZ", "UTC")
    box = tmp_path / "inbox"
    put(box / "file.ipynb", text, SECOND)
    put(box / "archive.zip", zipped(text, SECOND), FIRST)
    put(box / "stamped" / "x.ipynb", text, FIRST)
    put(box / "stamped" / "timestamp.txt", "2026-03-02 12:00:00.000000 UTC")
    for number in (1001, 1002):
        put(box / f"Ada Love_{number}_assignsubmission_file" / "x.ipynb", text, FIRST)
    (tmp_path / "sheet.csv").write_text(WORKSHEET, encoding="utf-8")
    found = commands.collect(fresh, LAST, box, worksheet=tmp_path / "sheet.csv")
    assert sorted(found) == ["ada@x.org", "archive", "file", "other@x.org", "stamped"]
    local = SECOND.replace(tzinfo=None).astimezone(UTC)  # Moodle's is this computer's time
    for student in found:
        folder = fresh / "submitted" / student / LAST
        assert inbox.stamp_of(folder) == (local if "@" in student else SECOND), student
        told = common.directory(fresh).get_existing_timestamp(folder)
        assert told.replace(tzinfo=UTC) == inbox.stamp_of(folder)


@pytest.mark.parametrize("form", ["%A, %d %B %Y, %I:%M %p", "%A, %d %B %Y, %H:%M", "%Y-%m-%d %H:%M"])
def test_moments(form):
    when = datetime(2026, 3, 2, 15, 7)
    assert commands._moment(when.strftime(form)) == when.astimezone(UTC)
    assert commands._moment("-") is None and commands._moment("") is None


def test_every_collection_stays(fresh, tmp_path, text):
    """Three in the same second: each is kept as it came; a submission is replaced by a newer one alone."""
    for number, when in enumerate((FIRST, SECOND, FIRST)):
        put(tmp_path / f"{number}" / "ada.ipynb", text.replace("inversion", f"inversion{number}"), when)
        commands.collect(fresh, LAST, tmp_path / f"{number}")
    kept = sorted((fresh / "downloaded" / LAST).glob("*/ada.ipynb"))
    assert [f"inversion{n}" in p.read_text(encoding="utf-8") for n, p in enumerate(kept)] == [True, True, True]
    assert "inversion1" in (fresh / "submitted" / "ada" / LAST / f"{LAST}.ipynb").read_text(encoding="utf-8")


BAD = {
    "damaged": lambda text: {"bad.zip": zipped(text, FIRST)[:-30]},
    "climbs out": lambda text: {"bad.zip": zipped(text, FIRST).replace(b"x.ipynb", b"../x.py")},
    "two of one": lambda text: {"bad.zip": zipped(text, FIRST), "bad.ipynb": text.encode()},
    "no notebook": lambda text: {"bad.ipynb": b"{"},
}


@pytest.mark.parametrize("what", BAD)
def test_one_bad_entry_does_not_hold_up_the_others(fresh, tmp_path, text, what, capsys):
    """The others are taken, that one is named as NOT GRADED, and the command ends with an error."""
    for name, content in {"ada.ipynb": text.encode(), **BAD[what](text), "zoe.ipynb": text.encode()}.items():
        put(tmp_path / "inbox" / name, content)
    with pytest.raises(SystemExit, match="some submissions need you"):
        commands.main(["collect", "6", str(tmp_path / "inbox"), "--course", str(fresh)])
    assert sorted(p.name for p in (fresh / "submitted").iterdir()) == ["ada", "zoe"]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("bad")]
    assert lines and all("NOT GRADED" in line for line in lines)


def test_a_course_holds_no_absolute_path(fresh, tmp_path, text):
    """Settings, status, baseline and the gradebook: nothing in them says where course or checkout lie."""
    put(tmp_path / "inbox" / "ada.ipynb", text)
    assert command(fresh, "collect", "6", str(tmp_path / "inbox")).returncode == 0
    for path in fresh.iterdir():
        if path.is_file():
            content = path.read_text(encoding="utf-8", errors="replace")
            for place in (tmp_path, common.ROOT):  # the settings lead to the checkout from where the course lies
                assert not re.search(rf"(?<!\.\.){re.escape(str(place))}", content), path.name
