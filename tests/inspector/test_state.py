"""helpers.inspector.state: what controls may stand at, and the file that keeps it."""

import json
from dataclasses import asdict

import pytest

from helpers.inspector.state import KINDS, State


def test_survives_the_file(tmp_path):
    """Tuples come back as tuples, so the state can be a key again."""
    state = State("val", 7, kind="motion", strength=12.0, angle=30.0, crop=(1, 2, 64), sort_by="LPIPS", wanted="yaw")
    state.save(tmp_path / "state.json")
    assert State.load(tmp_path / "state.json") == state and hash(state) == hash(State.load(tmp_path / "state.json"))


@pytest.mark.parametrize(
    "content", ["", "[1, 2]", "null", '{"source": "nowhere"}', '{"noise": "much"}', '{"methods": ["magic"]}', "\x00"]
)
def test_a_useless_file_gives_the_default(tmp_path, content):
    (tmp_path / "state.json").write_text(content, encoding="utf-8")
    assert State.load(tmp_path / "state.json") == State() == State.load(tmp_path / "absent.json")


def test_a_file_of_a_later_version_is_read_as_far_as_it_is_known(tmp_path):
    (tmp_path / "state.json").write_text(json.dumps(asdict(State(index=3)) | {"colour": "blue"}), encoding="utf-8")
    assert State.load(tmp_path / "state.json") == State(index=3)


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "moon"}, {"kind": "fog"}, {"sort_by": "beauty"}, {"thumbs": "x"}, {"index": -1}, {"noise": 51},
        {"quality": 0}, {"quality": 101}, {"low": 50, "high": 20}, {"low": -1}, {"step": 1.1}, {"amount": 6},
        {"methods": ("magic",)}, {"kind": "gaussian", "strength": 9.0}, {"kind": "motion", "strength": 31.0},
    ],
)  # fmt: skip
def test_nonsense_is_refused(changes):
    with pytest.raises(ValueError):
        State(**changes)
    with pytest.raises(ValueError):
        State().but(**changes)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_starts_at_an_allowed_strength(kind):
    assert State(kind=kind, strength=KINDS[kind].start).kind == kind
