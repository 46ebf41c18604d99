"""helpers.experiments.identity_training: the loss, the pictures of people, and that a run learns and goes on."""

import io
import json
import os
import signal
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.data import load_faces
from helpers.degrade import GaussianBlur
from helpers.engine.errors import ImageError, Stopped
from helpers.experiments import identity_training as training
from helpers.experiments.embedding import Embedder, load_embedder
from helpers.seeds import rng_for


@pytest.fixture(scope="module")
def people():
    """Eight faces; a person's second photograph is mirrored and darker."""
    faces = load_faces("train", 8)
    return np.stack([faces, faces[:, :, ::-1] // 4 * 3], axis=1)


def test_the_loss_against_a_plain_loop():
    torch.manual_seed(0)
    codes = torch.nn.functional.normalize(torch.randn(6, 4), dim=1)
    table = torch.exp(codes @ codes.T / 0.1)
    wanted = 0
    for i in range(6):
        others = [j for j in range(6) if j != i]
        wanted -= torch.log(table[i, (i + 3) % 6] / table[i, others].sum()) / 6
    assert training.nt_xent(codes).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_two_views_are_two_photographs(people):
    rng = rng_for(1, 2)
    views = training.two_views(people, [3, 5], rng, GaussianBlur(2.0))
    assert views.shape == (4, 3, 128, 128) and views.abs().max() <= 1
    assert torch.equal(views, training.two_views(people, [3, 5], rng_for(1, 2), GaussianBlur(2.0)))
    plain = training.two_views(people, [3, 5], rng_for(1, 3), GaussianBlur(2.0))
    assert not torch.equal(views, plain)


def make_zip(folder, people, shots):
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        for person, shot in ((p, s) for p in range(people) for s in range(1, shots + 1)):
            file = io.BytesIO()
            Image.new("RGB", (128, 128), (person, shot, 0)).save(file, "PNG")
            archive.writestr(f"{person:05d}_{shot}.webp", file.getvalue())


def test_people_are_read_with_the_courses_face_first(tmp_path):
    make_zip(tmp_path, 3, 2)
    found = training.load_people(tmp_path, "train")
    assert found.shape == (3, 3, 128, 128, 3)
    assert np.array_equal(found[:, 0], load_faces("train", 3))
    assert found[2, 1, 0, 0].tolist() == [2, 1, 0] and found[2, 2, 0, 0].tolist() == [2, 2, 0]
    assert len(training.load_people(tmp_path, "train", 2)) == 2
    with pytest.raises(ImageError, match=r"val\.zip is missing; python data/make_faces\.py"):
        training.load_people(tmp_path, "val")


def test_it_learns_and_goes_on(people, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "VARIETY", lambda image, rng: image)
    monkeypatch.setattr(training, "preset", lambda name: GaussianBlur(0.5))
    whole, history = training.train(people, None, 10, persons=6, rate=2e-3, progress=False)
    assert history[-1]["loss"] < np.log(11)  # of a guess among the eleven others
    view, calls = training.two_views, []

    def stopped(*args):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return view(*args)

    monkeypatch.setattr(training, "two_views", stopped)
    with pytest.raises(Stopped, match="after step 5"):
        training.train(people, tmp_path, 10, persons=6, rate=2e-3, progress=False)
    resumed, _ = training.train(people, tmp_path, 10, persons=6, rate=2e-3, progress=False)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("shape", [(3, 2), (8, 1)])
def test_too_few_are_refused(shape):
    with pytest.raises(ImageError, match="too few"):
        training.train(np.zeros((*shape, 128, 128, 3), np.uint8), None, 1, persons=6)


def test_what_is_measured(people):
    torch.manual_seed(0)
    found = training.on_people(Embedder().eval(), people)
    assert found["persons"] == 8 and 0 <= found["found again"] <= 1 and found["likeness, other"] <= 1


def test_the_command(people, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "load_people", lambda folder, split, limit: people)
    line = ["--out", str(tmp_path), "--people", "somewhere", "--train-steps", "2", "--batch-size", "6"]
    training.main(line)
    about = json.loads((tmp_path / "identity.json").read_text(encoding="utf-8"))
    assert about["steps"] == 2 and about["training_data"].startswith("8 rendered people, 2 photographs")
    assert {"val_found again", "val_told apart"} <= about["history"].keys()
    load_embedder(tmp_path / "identity.safetensors")
