"""helpers.reviewed.stages: batches in [0, 1], crops, and a stage of a network of one number."""

import numpy as np
import pytest
import torch
from torch import nn

from helpers.engine import runs
from helpers.pairs import Pairs
from helpers.reviewed.stages import VALIDATED, Stages, random_crop, unit_pair
from tests.conftest import make_faces

FACES = make_faces(6, 32)
SETTINGS = {"seed": 3, "batch_size": 2, "degradation": "motion"}


class Shift(nn.Module):
    """Adds a number to the blurred image."""

    def __init__(self):
        super().__init__()
        self.by = nn.Parameter(torch.zeros(()))

    def forward(self, blurred):
        return blurred + self.by


def error(network, blurred, sharp):
    return {"mean": (network(blurred) - sharp).mean() ** 2, "noise": torch.rand(()) + 0 * network.by}


def stages(out, **changes):
    return Stages(FACES, out, SETTINGS, precision="no", progress=False, **changes)


def test_pairs_are_in_0_to_1():
    batch = Pairs(FACES).batch([0, 1])
    blurred, sharp = unit_pair(batch, torch.device("cpu"))
    assert torch.allclose(blurred * 255, torch.from_numpy(batch.blurred).movedim(-1, 1).float(), atol=1e-3)
    assert torch.allclose(sharp * 255, torch.from_numpy(batch.sharp).movedim(-1, 1).float(), atol=1e-3)
    assert blurred.is_contiguous(memory_format=torch.channels_last)


def test_crops_are_the_same_window():
    """Of both images; every place occurs; seed and step alone decide."""
    image = torch.arange(36.0).view(1, 1, 6, 6)
    corners = set()
    for number in range(60):
        a, b = random_crop((image, image + 100), 4, 1, number)
        assert a.shape == (1, 1, 4, 4) and torch.equal(b, a + 100)
        assert torch.equal(random_crop((image, image), 4, 1, number)[0], a)
        corners.add(int(a[0, 0, 0, 0]))
    assert corners == {6 * y + x for y in range(3) for x in range(3)}


def test_batches_depend_on_seed_and_step(tmp_path):
    blurred, sharp = stages(tmp_path).batch(4)
    again = runs.batch_of(Pairs(FACES, "motion", flip=True, seed=3), 4, 2)
    assert torch.equal(sharp, (again.target + 1) / 2) and torch.equal(blurred, (again.input[:, :3] + 1) / 2)
    cropped = Stages(FACES, tmp_path, SETTINGS | {"crop": 8}, precision="no").batch(4)
    assert all(torch.equal(a, b) for a, b in zip(cropped, random_crop((blurred, sharp), 8, 3, 4), strict=True))


def test_a_stage_by_hand(tmp_path):
    """Two steps of SGD at rates of their own; the network ends as the average of its weights, decay 1/10 then 2/11."""
    shift, training = Shift(), stages(tmp_path)
    optimiser = torch.optim.SGD(shift.parameters(), lr=1.0)
    training.fit("one", shift, optimiser, error, 2, {}, rate=lambda step: 0.1 * (step + 1))
    by = average = 0.0
    for number in range(2):
        blurred, sharp = training.batch(number)
        by -= 0.1 * (number + 1) * 2 * ((blurred - sharp).mean().item() + by)
        average += (1 - (1 + number) / (10 + number)) * (by - average)
    assert shift.by.item() == pytest.approx(average, rel=1e-3)
    assert set(training.histories["one"][-1]) == {"step", "mean", "noise"}


def test_validation_is_of_the_average_and_the_same_each_time(tmp_path):
    """The first pictures with their fixed blur, draws that repeat; the measures may be others than the loss."""
    held_out, seen = make_faces(VALIDATED + 3, 16, seed=1), []

    def measures(network, blurred, sharp):
        seen.append(blurred)
        return {"draw": torch.rand(()), "by": network.by}

    training = stages(tmp_path, validation=held_out)
    for name in ("one", "two"):
        training.fit(
            name, Shift(), torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0), error, 1, {}, None, measures
        )
    first, second = (training.histories[name][-1] for name in ("one", "two"))
    assert first["val_draw"] == second["val_draw"] and first["val_by"] == 0
    assert len(seen[0]) == VALIDATED and torch.equal(seen[0], seen[1])
    expected = Pairs(held_out, "motion").batch(range(VALIDATED)).blurred
    assert np.abs(seen[0].movedim(1, -1).numpy() * 255 - expected).max() < 1e-3
    training.fit("three", Shift(), torch.optim.SGD(Shift().parameters(), lr=1.0), error, 1, {})
    assert {"val_mean", "val_noise"} < set(training.histories["three"][-1])


def test_settings_of_a_stage(tmp_path):
    """Which pictures, which format, which stage, and what the stage adds are in the state of its folder."""
    stages(tmp_path).fit("one", Shift(), torch.optim.SGD(Shift().parameters(), lr=1.0), error, 1, {"own": 5})
    settings = torch.load(tmp_path / "one" / "state.pt", weights_only=True)["settings"]
    expected = SETTINGS | {"pictures": runs.fingerprint(FACES), "precision": "no", "stage": "one", "own": 5}
    assert settings == expected
