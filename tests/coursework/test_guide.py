"""The instructor's guide knows what there is."""

import re

from tests.coursework import answers
from tests.coursework.test_answers import solutions

import confine  # isort: skip - found by answers.py
import course as commands  # isort: skip
import reports  # isort: skip

GUIDE = (answers.COURSEWORK / "README.md").read_text(encoding="utf-8")


def test_every_assignment_exercise_and_command():
    for stem in answers.ASSIGNMENTS:
        assert f"{stem}.ipynb" in GUIDE
        assert [name for name in solutions(stem) if f"`{name}`" not in GUIDE] == []
    assert [c for c in commands.COMMANDS if f"course.py {c}" not in GUIDE] == []
    targets = re.findall(r"\]\(([^)#\s]+)", GUIDE)
    assert [t for t in targets if "://" not in t and not (answers.COURSEWORK / t).exists()] == []


def test_every_option():
    parser = commands._parser()
    (sub,) = [a for a in parser._actions if a.dest == "command"]
    options = {o for p in sub.choices.values() for a in p._actions for o in a.option_strings if o.startswith("--")}
    assert [o for o in sorted(options - {"--help"}) if f"`{o}" not in GUIDE and f" {o}" not in GUIDE] == []


def test_every_status_and_bound():
    """What a column may hold, and what is and is not protected."""
    assert [state for state in reports.STATES if f"`{state}`" not in GUIDE] == []
    assert all(word in GUIDE for word in ("network", "processes", "files", "not protected"))
    assert str(confine.MEGABYTE * 256 // 2**20) in GUIDE
