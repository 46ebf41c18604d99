import json

import pytest

from helpers.experiments import records
from helpers.experiments.records import write_missing


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when a run says so."""
    now = [0.0]
    monkeypatch.setattr(records.time, "perf_counter", lambda: now[0])
    return now


def run_of(clock, seconds, **record):
    def run(state):
        state.mkdir(parents=True)
        (state / "state.pt").write_bytes(b"half done")
        clock[0] += seconds
        return record

    return run


def test_only_what_is_missing_is_run(tmp_path, clock, capsys):
    """A record that is there stays as it is; the states go, and after each run the rest is told."""
    (tmp_path / "b.json").write_text('{"from": "before"}', encoding="utf-8")
    wanted = {tmp_path / f"{name}.json": run_of(clock, 3600, name=name) for name in "abc"}
    write_missing(wanted)
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.json")}
    assert found == {"a": {"name": "a"}, "b": {"from": "before"}, "c": {"name": "c"}}
    assert not (tmp_path / "states").exists()
    assert capsys.readouterr().err.splitlines() == [
        "run 1 of 3, a: 3600 s; about 1.0 h to go", "run 3 of 3, c: 3600 s; about 0.0 h to go"
    ]  # fmt: skip


def test_long_runs_count_for_more(tmp_path, clock, capsys):
    """An hour for 1,500 steps, so six for the 3,000 and 6,000 that are left."""
    budgets = {tmp_path / f"{steps}.json": steps for steps in (1500, 3000, 6000)}
    write_missing({path: run_of(clock, 3600 * steps / 1500) for path, steps in budgets.items()}, budgets)
    assert "1500: 3600 s; about 6.0 h to go" in capsys.readouterr().err


def test_a_run_that_is_stopped_leaves_its_state(tmp_path, clock):
    """No record, the state where it was, and the run before it is kept; another process's states stay, too."""

    def stopped(state):
        run_of(clock, 1)(state)
        raise KeyboardInterrupt

    other = tmp_path / "states" / "other"
    other.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt):
        write_missing({tmp_path / "a.json": run_of(clock, 1), tmp_path / "b.json": stopped}, progress=False)
    assert (tmp_path / "a.json").exists() and not (tmp_path / "b.json").exists()
    assert (tmp_path / "states" / "b" / "state.pt").read_bytes() == b"half done" and other.exists()
