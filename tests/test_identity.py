"""helpers.identity: what degradations leave of a person, and the command."""

import json

import numpy as np
import pytest
import torch

from helpers import identity
from helpers.data import load_faces
from helpers.degrade import GaussianBlur, preset
from helpers.engine.checkpoints import save_checkpoint
from helpers.experiments.embedding import Embedder, embed, found_again, likeness
from helpers.pairs import Pairs


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Embedder().eval()


@pytest.fixture(scope="module")
def faces():
    return load_faces("test", 8)


class Same:
    """A method that gives back faces that it was told, whatever it is shown."""

    def __init__(self, faces):
        self.faces = faces

    def restore(self, images, params=None):
        return self.faces


def test_what_is_left_of_a_person(network, faces):
    cases, mirrored = {"soft": GaussianBlur(2.0)}, faces[:, :, ::-1]
    soft = Pairs(faces, cases["soft"]).batch(range(8)).blurred
    row = identity.after(network, None, faces, cases, mirrored)["soft"]
    assert row["likeness"][1] <= row["likeness"][0] <= row["likeness"][2] <= 1
    assert row["likeness"][0] == pytest.approx(likeness(network, soft, faces).mean(), abs=1e-5)
    assert row["found again"] == found_again(embed(network, soft), embed(network, mirrored))
    sharp = identity.after(network, None, faces, {"sharp": preset("blind").__class__(untouched=1, alone=0)})["sharp"]
    assert sharp["likeness"] == pytest.approx([1, 1, 1], abs=1e-5) and sharp["found again"] == 1


def test_what_a_method_brings_back(network, faces):
    """All of the person where it gives back the sharp face; another person where it gives back the neighbour's."""
    cases = {"soft": GaussianBlur(8.0)}
    right, wrong = (identity.after(network, Same(f), faces, cases)["soft"] for f in (faces, np.roll(faces, 1, 0)))
    assert right["likeness"][0] == pytest.approx(1, abs=1e-5) and right["found again"] == 1
    assert wrong["likeness"][0] < 1 - 1e-4 and wrong["found again"] == 0


def test_another_view_is_the_same_each_time(faces):
    other = identity.varied(faces)
    assert np.array_equal(other, identity.varied(faces)) and other.shape == faces.shape
    assert (np.abs(other.astype(int) - faces[:, :, ::-1]).mean((1, 2, 3)) > 0.5).all()


@pytest.mark.parametrize("portraits", [False, True], ids=["alone", "portraits"])
def test_the_command(network, faces, portraits, tmp_path, monkeypatch, capsys):
    """Rendered people, and portraits where they were fetched."""
    people = np.stack([faces, faces[:, :, ::-1] // 4 * 3], axis=1)
    monkeypatch.setattr(identity, "load_people", lambda folder, split, limit: people[:limit])
    monkeypatch.setenv("COURSE_PORTRAITS", str(tmp_path / "portraits"))
    if portraits:
        (tmp_path / "portraits" / "test").mkdir(parents=True)
        monkeypatch.setattr(identity, "named_set", lambda name, split: faces[:3])
    save_checkpoint(tmp_path / "mine.safetensors", network, {})
    out = tmp_path / "identity.json"
    line = ["--people", "somewhere", "--weights", str(tmp_path / "mine.safetensors"), "--out", str(out)]
    identity.main([*line, "--limit", "6", "--methods", "blind", "--cases", "sharp"])
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert kept["rendered"]["persons"] == 6 and str(kept["rendered"]) in capsys.readouterr().out
    assert list(kept["sets"]) == ["rendered faces"] + ["portraits"] * portraits
    assert all(set(rows) == {"input", "blind"} for rows in kept["sets"].values())
    assert kept["sets"]["rendered faces"]["input"]["sharp"]["likeness"][0] == pytest.approx(1, abs=1e-4)
    assert kept.get("portraits", {}).get("persons") == (3 if portraits else None)


def test_missing_weights_end_with_a_sentence(tmp_path):
    with pytest.raises(SystemExit, match="error: .*there is no such checkpoint"):
        identity.main(["--people", "somewhere", "--weights", str(tmp_path / "none.safetensors")])
