"""A class that was never there: ordinary names of many scripts, right notebooks in every wrapping, broken ones of 15
kinds.

``python -m tests.coursework.klass 200`` makes a course for 200 students, collects and grades it with the commands that
a person would use, kills the grading twice on the way, and says whether everybody has what they should, how long it
took and how much memory. The tests do the same with a dozen.
"""

import argparse
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import nbformat
import psutil

from tests.coursework import answers
from tests.coursework.making import LAST, command, new_course, solved, strip

import common  # isort: skip - found by answers.py
import reports  # isort: skip
import roster as rosters  # isort: skip

GIVEN = [
    "Ada",
    "Seán",
    "Łucja",
    "Zoë",
    "Jürgen",
    "Ngọc",
    "José",
    "Иван",
    "Ольга",
    "Дмитрий",
    "小明",
    "伟",
    "秀英",
    "太郎",
    "花子",
    "민수",
    "지영",
    "محمد",
    "فاطمة",
    "דוד",
    "Γιώργος",
    "Ελένη",
    "आरव",
    "สมชาย",
    "O'Neil",
    "d’Arcy",
    "Anna-Lena",
    "J.R.",
    "Mary_Ann",
    "-dash",
    "[x]",
    "{y}",
    "Bo",
    "50%",
    "#1",
    "@t",
    "~z",
    "$v",
]
FAMILY = [
    "Lovelace",
    "O'Brien",
    "Żółć",
    "Müller-Lüdenscheidt",
    "Nguyễn",
    "Peña",
    "van_der_Berg",
    "Иванов",
    "Петрова",
    "Сидоров",
    "李",
    "王",
    "张",
    "欧阳",
    "山田",
    "佐藤",
    "김",
    "박",
    "علي",
    "חן",
    "Παπαδόπουλος",
    "शर्मा",
    "ใจดี",
    "St.John",
    "Smith",
    "smith2",
    "McX",
    "(Jr.)",
    "de.la.Cruz",
]
SEPARATORS = (" ", "_", ".", "-", ", ", "  ")


class Person(NamedTuple):
    """A student: the name of the entry in the inbox, the identifier, what is sent in, and whether it can be graded."""

    name: str
    student: str
    kind: str
    right: bool


def names(count: int, draw: random.Random) -> list[str]:
    """Names that are different people's, also where upper and lower case do not count."""
    found, seen = [], set()
    while len(found) < count:
        name = draw.choice(GIVEN) + draw.choice(SEPARATORS) + draw.choice(FAMILY)
        if draw.random() < 0.3:
            name += str(draw.randrange(100))
        name = " ".join(name.split())
        key = rosters.identifier(name).casefold()
        if key not in seen:
            seen.add(key)
            found.append(name)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# What right notebooks come in


def zipped(members: dict[str, bytes], **flags) -> bytes:
    """A zip archive; a name may have backslashes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo("x", (2026, 5, 1, 12, 0, 0))
            info.filename = name
            archive.writestr(info, data)
    return out.getvalue()


def tarred(name: str, data: bytes) -> bytes:
    """A compressed tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size, info.mtime = len(data), 1_777_000_000
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


RIGHT = {
    "a file": lambda t, other: {".ipynb": t},
    "a folder": lambda t, other: {"/homework.ipynb": t},
    "a zip": lambda t, other: {".zip": zipped({"homework/a.ipynb": t, "__MACOSX/._a.ipynb": b"x"})},
    "a zip of Windows": lambda t, other: {".zip": zipped({"homework\\a.ipynb": t})},
    "a tar": lambda t, other: {".tar.gz": tarred("a.ipynb", t)},
    "ends of lines": lambda t, other: {"/a.ipynb": t.replace(b"\\n", b"\\r\\n")},
    "a mark": lambda t, other: {".ipynb": b"\xef\xbb\xbf" + t},
    "no metadata": lambda t, other: {".ipynb": nbformat.writes(strip(nbformat.reads(t.decode(), 4))).encode()},
    "two versions": lambda t, other: {"/old.ipynb": other, "/old (1).ipynb": t},
    "a copy": lambda t, other: {f"/{LAST}.ipynb": other, f"/{LAST}-Copy1.ipynb": t},
    "text": lambda t, other: {"/a.ipynb.txt": t},
    "with pictures": lambda t, other: {"/a.ipynb": t, "/photo.png": b"png", "/notes.pdf": b"pdf"},
}


def flagged(data: bytes) -> bytes:
    """A zip marked as encrypted."""
    data = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


def other_assignment() -> bytes:
    """The notebook of the week before."""
    return nbformat.writes(answers.notebook(answers.ASSIGNMENTS[0])).encode()


BROKEN = {
    "a damaged zip": lambda t: {".zip": zipped({"a.ipynb": t})[: len(t) // 20]},
    "a zip with a flipped bit": lambda t: {".zip": (z := zipped({"a.ipynb": t}))[:80] + bytes([z[80] ^ 255]) + z[81:]},
    "an encrypted zip": lambda t: {".zip": flagged(zipped({"a.ipynb": t}))},
    "a zip that climbs out": lambda t: {".zip": zipped({"../../a.ipynb": t})},
    "an empty zip": lambda t: {".zip": zipped({})},
    "a zip without a notebook": lambda t: {".zip": zipped({"essay.pdf": b"pdf"})},
    "a bomb": lambda t: {".zip": zipped({"a.ipynb": bytes(51 * 2**20)})},
    "a rar": lambda t: {".rar": b"Rar!\x1a\x07\x01\x00" + bytes(100)},
    "a pdf": lambda t: {".pdf": b"%PDF-1.4"},
    "an empty file": lambda t: {".ipynb": b""},
    "half a file": lambda t: {".ipynb": t[: len(t) // 2]},
    "bytes": lambda t: {".ipynb": bytes(range(256)) * 10},
    "another assignment": lambda t: {"/a.ipynb": other_assignment()},
    "an empty folder": lambda t: {"/": b""},
    "a list": lambda t: {".ipynb": b"[1, 2, 3]"},
}


def make(course: Path, inbox: Path, count: int, seed: int = 1, broken: float = 0.02) -> list[Person]:
    """Fill an inbox for a class of ``count``; ``broken`` is the share of each of the kinds that cannot be graded."""
    draw = random.Random(seed)
    right = nbformat.writes(solved(course)).encode()
    older = nbformat.writes(solved(course, changes={"costs": "inversion = pmrf = heun = diffir = 0"})).encode()
    each = max(1, round(broken * count)) if broken * count >= 0.5 else 0
    kinds = [kind for kind in BROKEN for _ in range(each)]
    kinds = kinds or draw.sample(sorted(BROKEN), min(len(BROKEN), count // 3))
    everybody = [(k, False) for k in kinds[: count - 1]]
    everybody += [(list(RIGHT)[n % len(RIGHT)], True) for n in range(count - len(everybody))]
    draw.shuffle(everybody)
    people = []
    for name, (kind, fine) in zip(names(count, draw), everybody, strict=True):
        files = RIGHT[kind](right, older) if fine else BROKEN[kind](right)
        for number, (suffix, data) in enumerate(files.items()):
            path = inbox / f"{name}{suffix}"
            if suffix == "/":
                path.mkdir(parents=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            moment = 1_777_000_000 + number
            os.utime(path, (moment, moment))
        # A file of an unknown kind is known by all of its name.
        shown = f"{name}{next(iter(files))}" if kind in ("a pdf",) else name
        people.append(Person(shown, rosters.identifier(shown), kind, fine))
    return people


def check(course: Path, people: list[Person], collected: str) -> list[str]:
    """What is not as it should be: a right notebook without full points, a broken one without a sentence."""
    table = {line.student_id: line for line in reports.lines(course, LAST)}
    wrong = []
    for person in people:
        line = table.get(person.student)
        if person.right and (line is None or line.status != "to be read" or line.by_tests != 24):
            wrong.append(f"{person}: {line}")
        if not person.right:
            said = [row for row in collected.splitlines() if row.startswith(f"{person.student}: NOT GRADED")]
            if not said or line is None or line.status != "unreadable" or line.score != "":
                wrong.append(f"{person}: {line}, {said}")
    for student in set(table) - {p.student for p in people}:
        wrong.append(f"{student} is nobody")
    return wrong


class Graded(NamedTuple):
    """How grading went: in how many seconds, with how many GiB of all processes at most, and what the command said."""

    seconds: float
    memory: float
    said: str


def grade(course: Path, kills: int, seed: int = 1) -> Graded:
    """Grade with the command, killed ``kills`` times on the way."""
    draw, began, most = random.Random(seed), time.monotonic(), 0.0
    line = [sys.executable, str(answers.COURSEWORK / "course.py"), "grade", "6", "--course", str(course)]
    done, log = 0, course.parent / "grading.log"
    for left in range(kills, -1, -1):
        with log.open("w", encoding="utf-8") as said:
            process = subprocess.Popen(line, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
        enough = done + max(1, draw.randrange(2, 4))
        while process.poll() is None:
            most = max(most, memory(process.pid))
            done = sum(bool(k.get("graded")) for k in common.Status(course).of(LAST).values())
            if left and done >= enough:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            time.sleep(0.2)
    return Graded(time.monotonic() - began, most, log.read_text(encoding="utf-8"))


def memory(process: int) -> float:
    """GiB of a process and all below it."""
    total = 0
    try:
        top = psutil.Process(process)
        for one in [top, *top.children(recursive=True)]:
            total += one.memory_info().rss
    except psutil.Error:
        pass
    return total / 2**30


def main() -> None:
    """A class of any size, with the figures that a report needs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("students", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="class-") as folder:
        course, inbox = new_course(Path(folder) / "course", LAST), Path(folder) / "inbox"
        people = make(course, inbox, args.students, args.seed)
        began = time.monotonic()
        collected = command(course, "collect", "6", str(inbox)).stdout
        print(f"collected {len(people)} entries in {time.monotonic() - began:.0f} s")
        graded = grade(course, args.kills, args.seed)
        wrong = check(course, people, collected)
        right = sum(p.right for p in people)
        each = graded.seconds / max(right, 1)
        print(f"graded {right} in {graded.seconds:.0f} s ({each:.1f} s each), killed {args.kills} times")
        print(f"largest memory of all processes: {graded.memory:.1f} GiB")
        kinds = {p.kind for p in people if not p.right}
        print(f"{len(people) - right} broken ones of {len(kinds)} kinds")
        print("\n".join([*wrong, graded.said]) if wrong else "everybody has what they should")
        sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
