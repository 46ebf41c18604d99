"""Names of students as identifiers, and class lists of several origins."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.coursework import answers  # noqa: F401 - finds roster

import common  # isort: skip
import roster as rosters  # isort: skip

# Scripts, separators, and what is special in a path, a pattern or a table.
LETTERS = st.sampled_from(
    "abzAÉéßžøжЖя李小明王한국あア×ωΩअعב" + " ._-'’,;()[]{}*?%/\\:\"<>|&#+=@~^`!$0159\u0301\u200d\u202e\t\n"
)
NAMES = st.text(LETTERS, min_size=1, max_size=12)

ORDINARY = [
    "given_family1", "given.family1", "Given Family_1001", "Anna-Lena Müller-Lüdenscheidt", "O'Brien, Seán",
    "李小明", "山田 太郎", "김민수", "Иван Петров", "Ωμέγα", "محمد علي", "נועה", "Nguyễn Văn An",
    "Łukasz Żółć", "van der Berg", "J. R. R. T.", "d’Arcy", "-dash",
]  # fmt: skip


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_names_stay(name):
    """An identifier that a person can read: the name itself."""
    expected = name if name[-1] != "." else name[:-1] + "%2E"
    assert rosters.identifier(name) == unicodedata.normalize("NFC", expected)
    assert rosters.usable(rosters.identifier(name))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("[x]", "%5Bx%5D"), ("*", "%2A"), ("a/b", "a%2Fb"), (".hidden", "%2Ehidden"), ("50%", "50%25"), ("a\\b", "a%5Cb")],
)
def test_special_names(name, expected):
    assert rosters.identifier(name) == expected and not rosters.usable(name.replace("50%", "*"))


@pytest.mark.parametrize("name", ["", " ", "\t", "x" * 130, "я" * 101, "..." * 60])
def test_no_identifier(name):
    with pytest.raises(ValueError, match="name"):
        rosters.identifier(name)


@settings(max_examples=500, deadline=None)
@given(NAMES, NAMES)
def test_names_never_collide(first, second):
    """Two names that are not the same text give two identifiers, and each is a folder's name that glob finds."""

    def plain(name):
        return unicodedata.normalize("NFC", name).strip()

    try:
        ids = rosters.identifier(first), rosters.identifier(second)
    except ValueError:
        assert not plain(first) or not plain(second)
        return
    assert (ids[0] == ids[1]) == (plain(first) == plain(second))
    for name in ids:
        assert not set(name) & set('/\\*?[]<>:"|\n\t') and name.strip() == name and name[0] != "." and name[-1] != "."
        assert rosters.usable(name)


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "class.csv"
    path.write_bytes(text.encode(encoding))
    return path


LISTS = {
    "by hand": "id,first name,last name,email\nada,Ada,Love,ada@x.org\nbob,Bób,Ross,bob@x.org\n",
    "semicolons, Excel": (
        "\ufeffStudent ID;First name;Surname;Email address\nada;Ada;Love;ada@x.org\nbob;Bób;Ross;bob@x.org\n"
    ),
    "tabs": "username\tfirst name\tlast name\tmail\nada\tAda\tLove\tada@x.org\nbob\tBób\tRoss\tbob@x.org\n",
    "Moodle's participants": (
        'First name,Last name,ID number,Email address\n"Ada","Love","ada","ada@x.org"\n"Bób","Ross","bob","bob@x.org"\n'
    ),
    "Canvas's gradebook": (
        "Student,ID,SIS User ID,SIS Login ID,Section,Assignment 6 (77)\n    Points Possible,,,,,32\n"
        '"Love, Ada",4001,ada,ada.l,A,\n"Ross, Bób",4002,bob,bob.r,A,\n'
    ),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
@pytest.mark.parametrize("origin", LISTS)
def test_class_lists(tmp_path, origin, encoding):
    """The same two students, whoever has written the list."""
    text = LISTS[origin] if encoding != "cp1252" else LISTS[origin].lstrip("\ufeff")
    roster = rosters.read(write(tmp_path, text, encoding))
    assert list(roster.students) == ["ada", "bob"]
    bob = roster.students["bob"]
    assert (bob.first_name, bob.last_name) == ("Bób", "Ross")
    if "Canvas" in origin:
        assert roster.by("canvas_id", "4002") == ["bob"] and roster.by("login", "ada.l") == ["ada"]
    else:
        assert bob.email == "bob@x.org"
    rosters.save(tmp_path, roster)
    assert rosters.load(tmp_path) == roster


def test_special_identifiers_survive_saving(tmp_path):
    roster = rosters.read(write(tmp_path, "id,email\n[x],a@x.org\n50%,b@x.org\n"))
    rosters.save(tmp_path, roster)
    assert list(rosters.load(tmp_path).students) == ["%5Bx%5D", "50%25"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,email\nada,a@x.org\nada,b@x.org\n", "lines 2 and 3 are both ada"),
        ("id,email\nada,a@x.org\nAda,b@x.org\n", "lines 2 and 3 are both Ada"),
        ("first name,last name\nAda,Love\n", "line 2: no identifier"),
        ("id,email\n", "holds no students"),
        ("", "no table"),
        ("\x00\x01\x02", "no table"),
    ],
)
def test_lists_that_are_refused(tmp_path, text, message):
    with pytest.raises(common.CourseError, match=message):
        rosters.read(write(tmp_path, text))


CLASS = "id,first name,last name,email\n" + "".join(
    f"{line}\n"
    for line in [
        "given_family1,Given,Family,g1@x.org", "given_family2,Given,Family,g2@x.org", "given_family,Gi,Fam,g3@x.org",
        "li,Wei,Li,wei.li@x.org", "obrien,Seán,O'Brien,sean@x.org", "petrov,Иван,Петров,ip@x.org",
        "lxm,小明,李,lxm@x.org",
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("given_family1", ["given_family1"]),
        ("given_family2_assignment", ["given_family2"]),
        ("given_family_2nd try", ["given_family"]),
        ("Given Family", ["given_family1", "given_family2", "given_family"]),
        ("Family, Given", ["given_family1", "given_family2"]),
        ("g2@x.org", ["given_family2"]),
        ("LI", ["li"]),
        ("Wei Li", ["li"]),
        ("Li Wei", ["li"]),
        ("wei.li", ["li"]),
        ("Li Qiang", []),
        ("Sea\u0301n O'Brien_homework", ["obrien"]),
        ("Петров Иван", ["petrov"]),
        ("小明 李", ["lxm"]),
        ("somebody", []),
    ],
)
def test_look_up(tmp_path, name, expected):
    """Everybody whom a name may stand for, and nobody else."""
    assert sorted(rosters.read(write(tmp_path, CLASS)).look_up(name)) == sorted(expected)
