"""An inbox of submissions: whose each entry is, and what it holds, without trusting any of it.

An entry is a file, a folder or an archive that lies directly in the inbox. Its whole name is the student's, unless it
is one of a learning platform's download (:data:`MOODLE`, :data:`CANVAS`) or a roster knows better. Two entries for the
same student are never resolved by leaving one aside: both are refused and named.

Archives are read, never unpacked: nothing in them says where a file is written. Their members are bounded in number and
in size, and an archive that names a place outside of itself, is encrypted or is damaged is refused as a whole.
"""

import io
import os
import re
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from roster import Roster, identifier, same
from submissions import LARGEST, Candidate

# <full name>_<participant>_assignsubmission_<file or onlinetext>, then "_" and perhaps the file's name
MOODLE = re.compile(r"^(?P<name>.+?)_(?P<number>\d+)_assignsubmission_[a-z]+(?:_.*)?$")
# <name without separators>[_LATE]_<user>_<attachment>_<file's name>
CANVAS = re.compile(r"^(?P<name>[^_\s]+?)(?:_LATE)?_(?P<number>\d+)_\d+_.+$")
JUNK = re.compile(r"^(\.ipynb_checkpoints|__MACOSX|\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|__pycache__|\.git)$", re.I)
NOTEBOOK = re.compile(r"\.ipynb(\.txt|\.json)?$", re.I)
ARCHIVE = re.compile(r"\.(zip|tar|tgz|gz|bz2|xz|rar|7z)$", re.I)
MEMBERS, DEPTH = 5000, 3  # files in an archive, archives in archives
TOTAL, UNPACKED = 300 * 2**20, 2**31  # bytes that are kept of a submission, and that are gone through to find them


class Refused(ValueError):
    """An entry that cannot be taken; the message says why."""


@dataclass
class Entry:
    """One thing in the inbox."""

    path: Path
    name: str  # the student's, as it stands there
    number: str = ""  # a learning platform's number for the student
    kind: str = "name"  # or "moodle", "canvas"


@dataclass
class Submission:
    """What is one student's."""

    student: str
    entries: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def look(folder: Path, kind: str = "auto") -> list[Entry]:
    """The entries of an inbox; ``kind`` is "names", "moodle", "canvas" or "auto"."""
    paths = [p for p in sorted(folder.iterdir()) if not JUNK.match(p.name)]
    if kind == "auto":
        files = [p for p in paths if _stem(p) != p.name]
        canvas = len(files) == len(paths) > 0 and all(CANVAS.match(p.name) for p in files)
        kind = "canvas" if canvas else "auto"
    entries = []
    for path in paths:
        pattern = {"canvas": CANVAS, "moodle": MOODLE, "auto": MOODLE}.get(kind)
        found = pattern.match(path.name) if pattern else None
        if found:
            platform = "canvas" if pattern is CANVAS else "moodle"
            entries.append(Entry(path, found["name"], found["number"], platform))
        else:
            entries.append(Entry(path, _stem(path)))
    return entries


def _stem(path: Path) -> str:
    """A file's name without what says that it is a notebook or an archive; a folder's name as it is."""
    if not path.is_dir():
        for pattern in (re.compile(r"\.tar\.\w+$", re.I), NOTEBOOK, ARCHIVE):
            if (stem := pattern.sub("", path.name)) and stem != path.name:
                return stem
    return path.name


def assign(
    entries: list[Entry], roster: Roster, taken: dict[str, str], mails: dict[str, str] | None = None
) -> tuple[list[Submission], dict[str, str]]:
    """Whose each entry is.

    Parameters
    ----------
    taken
        {student: the platform's number at an earlier collection of this assignment, or ""}
    mails
        {Moodle's number: mail address}, from a grading worksheet

    Returns
    -------
    The submissions, and {entry's name: why it was refused}
    """
    found, refused = {}, {}
    for entry in entries:
        try:
            if entry.path.is_symlink():
                raise Refused("a link to another place")
            student, note = _student(entry, roster, mails or {})
        except (Refused, ValueError) as error:
            refused[entry.path.name] = str(error)
            continue
        submission = found.setdefault(student, Submission(student))
        submission.entries.append(entry)
        submission.notes += note
    # A file system may take names for the same that differ in upper and lower case alone.
    folded = {}
    for student in {*found, *taken}:
        folded.setdefault(student.casefold(), set()).add(student)
    for student, submission in list(found.items()):
        rivals = sorted(folded[student.casefold()] - {student})
        numbers = {e.number for e in submission.entries}
        together = ", ".join(e.path.name for e in submission.entries)
        before, reason = taken.get(student, ""), ""
        if rivals:
            reason = f"{student} and {', '.join(rivals)} differ in upper and lower case alone"
        elif len(submission.entries) > 1 and (len(numbers) > 1 or numbers == {""}):
            reason = f"several entries for {student} ({together}): are these two students? See README, Whose file is it"
        elif before and numbers != {""} and numbers != {before}:
            reason = f"{student} had the number {before} and has {', '.join(numbers)} now: are these two students?"
        if reason:
            del found[student]
            refused |= {e.path.name: reason for e in submission.entries}
    return list(found.values()), refused


def _student(entry: Entry, roster: Roster, mails: dict[str, str]) -> tuple[str, list[str]]:
    """The student's identifier, and what should be said about it."""
    if entry.kind == "moodle" and (mail := mails.get(entry.number)):
        known = roster.by("email", mail)
        return (known[0] if known else identifier(mail)), []
    if not roster:
        name = entry.name if not entry.number else f"{entry.name}_{entry.number}"
        return identifier(name), []
    known = roster.by("canvas_id", entry.number) if entry.kind == "canvas" else []
    known = known or roster.look_up(unicodedata.normalize("NFC", entry.name).strip())
    if not known:
        raise Refused(f"{entry.name} is not in the roster")
    if len(known) > 1:
        hint = ": give Moodle's grading worksheet with --worksheet" if entry.kind == "moodle" else ""
        raise Refused(f"{entry.name} may be {' or '.join(sorted(known))}{hint}")
    exact = same(entry.name) in roster.students[known[0]].names() or entry.number
    return known[0], [] if exact else [f"{entry.path.name} is taken for {known[0]}'s, by the roster"]


def candidates(submission: Submission) -> tuple[list[Candidate], datetime | None]:
    """The notebooks in a submission, and the time of ``timestamp.txt`` if there is one.

    Raises
    ------
    Refused
        if one of the entries cannot be read as a whole
    """
    found, stamp = [], None
    for entry in submission.entries:
        budget = [MEMBERS, TOTAL, UNPACKED]
        try:
            for parts, time, data in _walk(entry.path, budget, 0):
                if parts[-1] == "timestamp.txt":
                    stamp = stamp or _time(data)
                else:
                    found.append(Candidate("/".join(parts[-2:]) if len(parts) > 2 else parts[-1], data, time))
        except Refused as error:
            raise Refused(f"{entry.path.name}: {error}") from None
        except Exception as error:  # an archive can be damaged in as many ways as it can be written
            raise Refused(f"{entry.path.name}: cannot be read ({type(error).__name__}: {error})") from None
    if not found:
        names = ", ".join(e.path.name for e in submission.entries)
        raise Refused(f"{names}: no notebook in it")
    return found, stamp


def _wanted(name: str) -> bool:
    return bool(NOTEBOOK.search(name)) or name == "timestamp.txt"


def _walk(path: Path, budget: list[int], depth: int) -> Iterator[tuple[tuple[str, ...], datetime | None, bytes]]:
    """(names of folders and file, time, bytes) of every notebook in a file, a folder or an archive."""
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            parts = inner.relative_to(path).parts
            if inner.is_symlink() or not inner.is_file() or any(JUNK.match(p) for p in parts):
                continue
            yield from _file((path.name, *parts), modified(inner), inner, budget, depth)
    else:
        yield from _file((path.name,), modified(path), path, budget, depth)


def modified(path: Path) -> datetime:
    """When a file was last changed."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _file(parts, time, path: Path, budget, depth):
    """A file that lies in the inbox."""
    if ARCHIVE.search(parts[-1]):
        with path.open("rb") as stream:
            yield from _archive(parts, stream, budget, depth)
    elif _wanted(parts[-1]):
        with path.open("rb") as stream:
            yield parts, time, _bounded(stream, parts[-1], budget)
    elif depth == 0 and len(parts) == 1:
        raise Refused("neither a notebook nor an archive")


def _bounded(stream, name: str, budget: list[int]) -> bytes:
    """What is in a file, up to the bounds, whatever size it says it has."""
    data = stream.read(min(LARGEST, budget[1]) + 1)
    if len(data) > LARGEST or len(data) > budget[1]:
        raise Refused(f"{name} is too large")
    budget[1] -= len(data)
    return data


def _archive(parts, stream, budget, depth):
    """The notebooks in an archive, and in archives in it."""
    if depth >= DEPTH:
        raise Refused("archives in archives in archives")
    if zipfile.is_zipfile(stream):
        stream.seek(0)
        yield from _zip(parts, stream, budget, depth)
        return
    stream.seek(0)
    try:
        opened = tarfile.open(fileobj=stream, mode="r:*")  # noqa: SIM115 - closed below
    except tarfile.TarError:
        raise Refused("a damaged archive, or one of a kind that cannot be read here (zip and tar can)") from None
    with opened:
        for member in opened:
            _count(budget, member.size)
            if member.isfile() and (inner := _names(member.name)):
                time = datetime.fromtimestamp(member.mtime, UTC)
                yield from _member((*parts, *inner), time, lambda m=member: opened.extractfile(m), budget, depth)


def _zip(parts, stream, budget, depth):
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            _count(budget, 0)
            name = info.filename if info.flag_bits & 0x800 else _decoded(info.filename)
            if info.is_dir() or not (inner := _names(name)):
                continue
            try:  # a time without a zone: this computer's
                time = datetime(*info.date_time).astimezone(UTC)
            except (ValueError, OverflowError):
                time = None
            if info.flag_bits & 1 and (_wanted(inner[-1]) or ARCHIVE.search(inner[-1])):
                raise Refused("an encrypted archive")
            yield from _member((*parts, *inner), time, lambda i=info: archive.open(i), budget, depth)


def _decoded(name: str) -> str:
    """A name that is not marked as UTF-8, which zipfile reads as CP437; many programs write UTF-8 without the mark."""
    try:
        return name.encode("cp437").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return name


def _count(budget: list[int], size: int) -> None:
    budget[0] -= 1
    budget[2] -= size
    if budget[0] < 0 or budget[2] < 0:
        raise Refused(f"an archive of more than {MEMBERS} files, or of more than {UNPACKED >> 30} GB")


def _names(name: str) -> tuple[str, ...]:
    """Folders and file of a member's name, of Windows as well; () for what is no submission."""
    parts = tuple(p for p in name.replace("\\", "/").split("/") if p not in ("", "."))
    if ".." in parts or name[:1] in "/\\" or re.match(r"^[A-Za-z]:", name):
        raise Refused(f"the archive names a place outside of itself ({name[:80]})")
    return () if any(JUNK.match(p) for p in parts) else parts


def _member(parts, time, opened, budget, depth):
    """A file in an archive."""
    if ARCHIVE.search(parts[-1]):
        with opened() as stream:
            data = stream.read(budget[1] + 1)
        if len(data) > budget[1]:
            raise Refused(f"{parts[-1]} is too large")
        budget[1] -= len(data)
        yield from _archive(parts, io.BytesIO(data), budget, depth + 1)
    elif _wanted(parts[-1]):
        with opened() as stream:
            yield parts, time, _bounded(stream, parts[-1], budget)


def stamp_of(folder: Path) -> datetime | None:
    """The time in a folder's timestamp.txt, if there is one."""
    path = folder / "timestamp.txt"
    return _time(path.read_bytes()) if path.is_file() else None


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a platform's archive of a whole class into an empty folder, for :func:`look`; folders become one level
    deep.

    Raises
    ------
    Refused
        if it is no zip archive, is damaged, or names a place outside of itself
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            left = UNPACKED
            for info in opened.infolist():
                name = info.filename if info.flag_bits & 0x800 else _decoded(info.filename)
                if info.is_dir() or not (parts := _names(name)):
                    continue
                target = folder / parts[0] if len(parts) == 1 else folder / parts[0] / "-".join(parts[1:])
                target.parent.mkdir(exist_ok=True)
                with opened.open(info) as stream, target.open("xb") as out:
                    while chunk := stream.read(2**20):
                        left -= len(chunk)
                        if left < 0:
                            raise Refused(f"more than {UNPACKED >> 30} GB")
                        out.write(chunk)
                try:
                    moment = datetime(*info.date_time).timestamp()
                    os.utime(target, (moment, moment))
                except (ValueError, OverflowError):
                    continue
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"cannot be read ({type(error).__name__}: {error})") from None


def _time(data: bytes) -> datetime | None:
    """The time of nbgrader's timestamp.txt, such as "2026-05-01 12:00:00.000000 UTC"."""
    from nbgrader.utils import parse_utc

    try:
        return parse_utc(data[:100].decode().strip()).replace(tzinfo=UTC)
    except Exception:  # whatever a file of this name may hold
        return None
