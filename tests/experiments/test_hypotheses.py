"""helpers.experiments.hypotheses: what is asked is well formed, and is written down before the first run."""

import json
from dataclasses import asdict, replace
from datetime import date

import pytest

from helpers.data import ImageError
from helpers.engine.runs import TrainingError
from helpers.experiments import hypotheses
from helpers.experiments.hypotheses import FILE, HYPOTHESES, REGIME, claim, claimed
from helpers.experiments.variants import ALL, COURSE, PRESETS


def test_well_formed():
    """Five to seven, each of two arms of the preset that differ in one thing, each with a sentence of its own."""
    assert 5 <= len(HYPOTHESES) <= 7
    for h in HYPOTHESES:
        assert {h.one, h.other} <= set(COURSE) and h.one != h.other and "thesis" in (h.one, h.other)
        assert h.measure in ("PSNR", "SSIM", "LPIPS", "SWD") and h.expected in ("higher", "lower")
        assert h.sentence.endswith(".") and h.expected in h.sentence and h.measure in h.sentence
    assert len({h.name for h in HYPOTHESES}) == len({h.sentence for h in HYPOTHESES}) == len(HYPOTHESES)
    arms = {name for h in HYPOTHESES for name in (h.one, h.other)}
    assert arms | {"thesis-own"} == set(COURSE)  # no arm is trained for nothing
    assert not any(ALL[name].own_seeds for name in arms)  # those of one seed start alike


def test_the_regime_says_the_presets_numbers():
    course = PRESETS["course"]
    for number in (course.image_size, course.width, course.code):
        assert str(number) in REGIME["pictures"] + REGIME["network"]
    assert f"{course.steps:,} steps" in REGIME["trial"]  # another length wants another trial


def test_written_before_the_first_run(tmp_path):
    claim(tmp_path)
    record = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
    assert record == claimed(tmp_path)
    assert record["date"] == date.today().isoformat() and record["regime"] == REGIME
    assert record["hypotheses"] == [asdict(h) for h in HYPOTHESES]


def test_the_date_stays(tmp_path):
    """The second call, a year later, changes nothing."""
    claim(tmp_path)
    record = claimed(tmp_path) | {"date": "2025-01-01"}
    (tmp_path / FILE).write_text(json.dumps(record), encoding="utf-8")
    claim(tmp_path)
    assert claimed(tmp_path)["date"] == "2025-01-01"


@pytest.mark.parametrize("change", ["direction", "fewer", "regime"])
def test_changed_afterwards_is_refused(change, tmp_path, monkeypatch):
    claim(tmp_path)
    before = (tmp_path / FILE).read_bytes()
    if change == "regime":
        monkeypatch.setattr(hypotheses, "REGIME", REGIME | {"correction": "none"})
    else:
        other = (replace(HYPOTHESES[0], expected="lower"), *HYPOTHESES[1:])
        monkeypatch.setattr(hypotheses, "HYPOTHESES", other if change == "direction" else HYPOTHESES[1:])
    with pytest.raises(TrainingError, match="holds other hypotheses.*before the first run"):
        claim(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_after_the_first_run_is_too_late(tmp_path):
    (tmp_path / "edges-none-2025.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TrainingError, match="runs from before any hypothesis"):
        claim(tmp_path)
    assert not (tmp_path / FILE).exists() and claimed(tmp_path) == {}


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / FILE).write_text('{"date": "20', encoding="utf-8")
    with pytest.raises(ImageError, match="cannot be read"):
        claimed(tmp_path)
