"""Who is who: names of students as identifiers that nbgrader can hold, and the list of a class.

A student's identifier is a folder's name, part of a pattern (``glob``) and a column of tables, so not every name will
do. :func:`identifier` makes one that is: two names that differ never give the same one.
"""

import csv
import io
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from common import CourseError, write_text

COLUMNS = ("student_id", "first_name", "last_name", "email", "canvas_id", "login")
# What the columns are called in lists made by hand, by Moodle (participants, grading worksheet) and Canvas (gradebook).
KNOWN = {
    "student_id": ("studentid", "student_id", "username", "idnumber", "matriculationnumber", "sisuserid"),
    "first_name": ("firstname", "givenname", "forename"),
    "last_name": ("lastname", "surname", "familyname"),
    "email": ("email", "emailaddress", "mail", "mailaddress"),
    "full_name": ("fullname", "name", "student"),
    "canvas_id": ("id", "canvasid", "canvasuserid"),
    "login": ("sisloginid", "login", "loginid"),
    "moodle": ("identifier",),
    "submitted": ("lastmodifiedsubmission",),
}
LONGEST = 120, 200  # characters and bytes of an identifier: databases allow 128, file systems 255


def identifier(name: str) -> str:
    """The folder's name for a student called ``name``.

    Letters of all scripts stay as they are (in Unicode's composed form), as do spaces, dots, dashes, underscores and
    apostrophes within the name. What a path, a pattern or a file system of Windows cannot hold is written %XX.

    Raises
    ------
    ValueError
        if there is no name, or one too long for a folder
    """
    name = unicodedata.normalize("NFC", name).strip()
    if not name:
        raise ValueError("a name without a letter")
    text = ""
    for c in name:  # an accent after %XX would change the last letter of that
        accent = unicodedata.category(c)[0] == "M" and text[-3:-2] == "%"
        text += _escaped(c) if _special(c) or accent else c
    if text[0] == ".":  # hidden, and not matched by *
        text = _escaped(".") + text[1:]
    if text[-1] == ".":  # dropped by Windows
        text = text[:-1] + _escaped(".")
    if len(text) > LONGEST[0] or len(text.encode()) > LONGEST[1]:
        raise ValueError(f"the name {name[:40]}… is too long for a folder")
    return text


def usable(name: str) -> bool:
    """Whether a folder in ``submitted/`` has a name that nbgrader can handle: one that :func:`identifier` has made."""
    plain = name.replace("%", "")
    return bool(plain) and plain == unicodedata.normalize("NFC", plain) and identifier(plain) == plain


def _special(character: str) -> bool:
    return character in '/\\*?[]%<>:"|{}+' or unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def same(name: str) -> str:
    """What two spellings of a name have in common: case, separators and accents' encodings do not count."""
    name = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\s._,\-]+", " ", name).strip()


@dataclass
class Student:
    """One line of the roster."""

    student_id: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    canvas_id: str = ""
    login: str = ""

    def names(self) -> set[str]:
        """Everything that a submission of this student may be called, as :func:`same` writes it."""
        full = {f"{self.first_name} {self.last_name}", f"{self.last_name} {self.first_name}"}
        return {same(n) for n in (self.student_id, self.email, self.email.partition("@")[0], self.login, *full)} - {""}


@dataclass
class Roster:
    """The list of a class, perhaps empty."""

    students: dict[str, Student] = field(default_factory=dict)

    def __bool__(self):
        return bool(self.students)

    def look_up(self, name: str) -> list[str]:
        """The students that this name may stand for: exactly, or as its beginning (``ada_assignment1``)."""
        # The longest beginning that is a name: given_family2_x is given_family2 and not given_family.
        words = name.split("_")
        for count in range(len(words), 0, -1):
            beginning = "_".join(words[:count])
            if beginning in self.students:
                return [beginning]
            found = [s.student_id for s in self.students.values() if same(beginning) in s.names()]
            if found:
                return found
        return []

    def by(self, column: str, value: str) -> list[str]:
        """Students with this value in a column."""
        return [s.student_id for s in self.students.values() if value and getattr(s, column).lower() == value.lower()]


def table(path: Path) -> list[dict[str, str]]:
    """A table with a header as a spreadsheet or a learning platform writes it: commas, semicolons or tabs, any
    encoding.

    Columns that are known get our names beside their own.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CourseError(f"{path}: {error.strerror or error}") from None
    text = None
    for encoding in ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252"):
        try:
            text = data.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    if not text or "\0" in text:
        raise CourseError(f"{path} is no table of text (CSV): save it as one in the spreadsheet")
    first = text.splitlines()[0]
    delimiter = max(",;\t", key=first.count)
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    for row in rows:
        for column in [c for c in row if c is not None]:
            row[column] = value = (row[column] or "").strip()
            plain = re.sub(r"[^a-z_]", "", column.lower())
            for ours, theirs in KNOWN.items():
                if plain in theirs and ours not in row:
                    row[ours] = value
    return rows


def read(path: Path, to_identifier=identifier) -> Roster:
    """A roster from a table; one of the columns must say who is who: an identifier, a login or a mail address.

    Raises
    ------
    CourseError
        if a line has no identifier, or two lines have the same, or two that differ by upper case only
    """
    roster, seen = Roster(), {}
    for number, row in enumerate(table(path), 2):
        if not any(v for k, v in row.items() if k):
            continue
        if row.get("canvas_id") and "full_name" not in row and "login" not in row:
            row.setdefault("student_id", row["canvas_id"])  # "id" in a list made by hand
        given = next((row[c] for c in ("student_id", "login", "email", "canvas_id") if row.get(c)), "")
        if not given:
            if row.get("full_name", "").strip().lower() in ("points possible", "student, test"):
                continue  # lines of Canvas that are nobody
            raise CourseError(f"{path}, line {number}: no identifier, login or mail address")
        try:
            student_id = to_identifier(given)
        except ValueError as error:
            raise CourseError(f"{path}, line {number}: {error}") from None
        if student_id.casefold() in seen:
            raise CourseError(f"{path}: lines {seen[student_id.casefold()]} and {number} are both {student_id}")
        seen[student_id.casefold()] = number
        first, last = row.get("first_name", ""), row.get("last_name", "")
        if not (first or last):
            last, comma, first = row.get("full_name", "").partition(",")
            if not comma:
                first, _, last = last.rpartition(" ")
        names = {"first_name": first.strip(), "last_name": last.strip()}
        others = {c: row.get(c, "") for c in ("email", "canvas_id", "login")}
        roster.students[student_id] = Student(student_id, **names, **others)
    if not roster:
        raise CourseError(f"{path} holds no students")
    return roster


def load(course: Path) -> Roster:
    """The course's roster; an empty one if there is none."""
    path = course / "roster.csv"
    return read(path, str) if path.exists() else Roster()


def save(course: Path, roster: Roster) -> None:
    """Keep a roster in the course folder."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({c: getattr(s, c) for c in COLUMNS} for s in roster.students.values())
    write_text(course / "roster.csv", out.getvalue())
