"""helpers.experiments.full_size: what differs between the arms, resumption, the table, the recorded results."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.data import data_folder
from helpers.engine.checkpoints import load_checkpoint
from helpers.engine.errors import TrainingError
from helpers.experiments import full_size
from helpers.experiments.full_size import PAIRS, network, table, train_all, variant_of
from helpers.experiments.skip_model import SkipModel
from helpers.experiments.skip_training import WEIGHTS
from helpers.networks import DeblurModel
from helpers.perceptual import Lpips

TINY = {k: replace(p, preset=replace(p.preset, steps=2, batch_size=4, faces=(16, 4, 6))) for k, p in PAIRS.items()}


def small(variant, preset, start):
    """Networks of the right kind that train in no time; ``start`` is not loaded into them."""
    if variant.network == "skip":
        return SkipModel(16, 128, (8, 8, 16, 16), (1, 1, 1, 1))
    return DeblurModel(16, 128, 8)


def test_the_arms_of_a_pair_differ_in_the_edge_map_alone():
    for pair in PAIRS.values():
        one, other = map(variant_of, pair.arms)
        assert (one.edges, other.edges) == ("blurred", "none")
        assert replace(one, edges="", title="", group="") == replace(other, edges="", title="", group="")
    assert variant_of("skip").weights == WEIGHTS


def test_networks_have_the_size_in_which_they_ship():
    skip = network(variant_of("skip"), PAIRS["skip"].preset, None)
    load_checkpoint(data_folder() / "checkpoints" / "skip.safetensors", skip)  # fits, or this raises
    thesis = network(variant_of("edges-none"), PAIRS["thesis"].preset, "thesis")
    shipped = DeblurModel()
    load_checkpoint(data_folder() / "checkpoints" / "thesis.safetensors", shipped)
    assert all(torch.equal(a, b) for a, b in zip(thesis.parameters(), shipped.parameters(), strict=True))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """All four arms with two steps, in two calls; the folder and what was found."""
    out, lpips = tmp_path_factory.mktemp("full-size"), Lpips(None)
    first = train_all(out, TINY, ["thesis"], lpips, progress=False, make=small)
    assert {k: list(v) for k, v in first.items()} == {"thesis": ["thesis"]}
    return out, train_all(out, TINY, None, lpips, progress=False, make=small)


def test_every_arm_is_measured(tiny):
    out, found = tiny
    assert {k: tuple(v) for k, v in found.items()} == {k: p.arms for k, p in PAIRS.items()}
    for title, records in found.items():
        for record in records.values():
            assert record["images_seen"] == 8 and record["curve"][-1]["step"] == 2 and record["hardware"]
            assert (record["before"] is None) == (title == "skip")
            assert all(len(values) == 6 and np.isfinite(values).all() for values in record["test"].values())
    one, other = (found["thesis"][name]["test"]["PSNR"] for name in PAIRS["thesis"].arms)
    row = table(found).set_index(["pair", "measure"]).loc[("thesis", "PSNR")]
    assert row["difference"] == pytest.approx(np.mean(other) - np.mean(one))
    assert row["low"] <= row["difference"] <= row["high"]
    assert list(table(found, when="before")["pair"].unique()) == ["thesis"]
    assert not (out / "states").exists()


def test_what_is_there_is_not_trained_again(tiny, monkeypatch):
    out, found = tiny
    monkeypatch.setattr(full_size, "_run", lambda *_: pytest.fail("trained again"))
    assert train_all(out, TINY, None, Lpips(None), progress=False) == found
    with pytest.raises(TrainingError, match="another preset"):
        train_all(out, PAIRS, None, Lpips(None), progress=False)


def test_another_preset_is_refused_before_anything_is_trained(tiny, monkeypatch, tmp_path):
    """Of all arms only the last one is there, so all others would be trained before it is reached."""
    out, _ = tiny
    last = f"{list(PAIRS.values())[-1].arms[-1]}.json"
    (tmp_path / last).write_bytes((out / last).read_bytes())
    monkeypatch.setattr(full_size, "_run", lambda *_: pytest.fail("trained"))
    with pytest.raises(TrainingError, match="another preset"):
        train_all(tmp_path, PAIRS, None, Lpips(None), progress=False)


def test_the_command_tells_what_it_waits_for(tiny, monkeypatch, capsys, tmp_path):
    out, found = tiny
    half = {"thesis": found["thesis"], "skip": {"skip": found["skip"]["skip"]}}
    for results, there in ((half, False), (found, True)):
        monkeypatch.setattr(full_size, "train_all", lambda *_, results=results, **__: results)
        full_size.main(["--out", str(out), "--to", str(tmp_path / "results.json")])
        printed = capsys.readouterr()
        assert "thesis" in printed.out and ("waits for" in printed.err) != there
        assert (tmp_path / "results.json").exists() == there
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == found
