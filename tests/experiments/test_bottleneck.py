"""helpers.experiments.bottleneck: sizes and budgets, resumption, the table; a tiny run from the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest

from helpers.engine.runs import TrainingError
from helpers.experiments import bottleneck
from helpers.experiments.bottleneck import PLACES, rows_of, table, train_all
from helpers.experiments.variants import PRESETS, VARIANTS

TINY = replace(PRESETS["course"], image_size=64, width=8, batch_size=4, faces=(24, 4, 6), code=64)
SIZES = (32, 128)  # 4 and 16 numbers here; the row of all places has 256


def test_only_the_code_differs():
    rows = rows_of()
    assert list(rows) == ["32", "128", "512", "2048", PLACES]
    for name, variant in rows.items():
        assert replace(variant, title="", group="", latent_dim=512, pooled=True) == replace(
            VARIANTS["only-l1"], title="", group=""
        )
        assert variant.latent_dim == int(name.split(",")[0]) and variant.pooled == (name != PLACES)
    course = PRESETS["course"]
    assert [course.code_of(v) for v in rows.values()] == [8, 32, 128, 512, 512]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Two sizes and the row of all places, with one and with two steps; the folder and what was found."""
    out = tmp_path_factory.mktemp("bottleneck")
    return out, train_all(out, TINY, (1, 2), SIZES, progress=False)


def test_every_size_with_every_budget(tiny):
    out, found = tiny
    assert [(r["name"], r["steps"]) for r in found["rows"]] == [(n, b) for b in (1, 2) for n in ("32", "128", PLACES)]
    assert [r["code"] for r in found["rows"][:3]] == [4, 16, 256]
    for record in found["rows"]:
        assert record["images_seen"] == 4 * record["steps"] and record["curve"][-1]["step"] == record["steps"]
        for split in ("test", "train"):
            assert record[split]["PSNR"] == pytest.approx(np.mean(record[f"{split} PSNR"]), rel=1e-4)
            assert len(record[f"{split} PSNR"]) == 6
    assert found["linear"]["restored"].keys() == found["linear"]["rebuilt"].keys() == {"4", "16"}
    assert found["hardware"] and found["date"] and found["torch"] and found["seed"]
    assert found["linear"]["rebuilt"]["16"]["PSNR"] > found["linear"]["rebuilt"]["4"]["PSNR"]
    shown = table(found)
    assert np.isnan(shown.loc[PLACES, "linear map"]) and not shown.drop(index=PLACES).isna().any(axis=None)
    assert shown.loc["128", 2] == found["rows"][4]["test"]["PSNR"]
    assert not (out / "states").exists()


def test_only_what_is_missing_is_run_again(tiny, monkeypatch):
    out, found = tiny
    lost = out / "128-2.json"
    before = json.loads(lost.read_text(encoding="utf-8"))
    lost.unlink()
    original, called = bottleneck._run, []

    def spy(variant, preset, *rest):
        called.append((variant.title, preset.steps))
        return original(variant, preset, *rest)

    monkeypatch.setattr(bottleneck, "_run", spy)
    train_all(out, TINY, (1, 2), SIZES, progress=False)
    assert called == [("128 numbers", 2)]
    assert json.loads(lost.read_text(encoding="utf-8")) | {"seconds": 0} == before | {"seconds": 0}


def test_another_preset_is_refused(tiny):
    with pytest.raises(TrainingError, match="runs of another preset"):
        train_all(tiny[0], replace(TINY, strength=1.0), (1,), SIZES, progress=False)


def made(psnr: dict[str, list[float]]) -> dict:
    """Results as :func:`train_all` gives them, as far as the table looks at them; budgets 10 and 20."""
    rows = [
        {"name": name, "code": int(name) // 4, "steps": steps, "test": {"PSNR": value, "L1": 1 / value}}
        for name, values in psnr.items()
        for steps, value in zip((10, 20), values, strict=False)
    ]
    lines = {str(int(name) // 4): {"PSNR": 30.0 + i, "L1": 0.1 * i} for i, name in enumerate(psnr)}
    return {"rows": rows, "linear": {"restored": lines, "rebuilt": lines}}


def test_the_table_by_hand():
    """32 gains 0.05 dB by the last doubling and has converged; 128 gains 1 and has not, in whatever is shown."""
    shown = table(made({"32": [20.0, 20.05], "128": [20.0, 21.0]}))
    assert list(shown.index) == ["32", "128"] and shown["code"].tolist() == [8, 32]
    assert shown[10].tolist() == [20, 20] and shown[20].tolist() == [20.05, 21]
    assert shown["last doubling"].tolist() == pytest.approx([0.05, 1]) and shown["converged"].tolist() == [True, False]
    assert shown["linear map"].tolist() == shown["components"].tolist() == [30, 31]
    other = table(made({"32": [20.0, 20.05], "128": [20.0, 21.0]}), "L1")
    assert other["converged"].tolist() == [True, False] and other[10].tolist() == [0.05, 0.05]
    assert table(made({"32": [20.0]}))["converged"].tolist() == [False]  # one budget tells nothing


def test_the_command(tmp_path, monkeypatch, capsys):
    """Writes what was found, and prints the table with its input."""
    given = made({"32": [20.0, 20.5]}) | {"input": {"PSNR": 18.0}}
    asked = []
    monkeypatch.setattr(bottleneck, "train_all", lambda *rest: asked.append(rest) or given)
    to = tmp_path / "new" / "bottleneck.json"
    bottleneck.main(["--out", str(tmp_path), "--to", str(to), "--budgets", "20", "10"])
    assert asked == [(str(tmp_path), PRESETS["course"], [10, 20])]
    assert json.loads(to.read_text(encoding="utf-8")) == given
    told = capsys.readouterr().out
    assert "blurred input: 18.00 dB" in told and "20.50" in told
