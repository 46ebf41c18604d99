"""helpers.experiments.candidates: five trunks of one size that begin alike, time that counts, rows that are kept."""

import itertools
import json
import time

import numpy as np
import pytest
import torch

from helpers.data import data_folder, load_split, square
from helpers.engine.runs import TrainingError
from helpers.engine.updates import cosine_rate
from helpers.experiments import candidates
from helpers.experiments.candidates import CANDIDATES, clock, compare, nafnet, steps_within, train
from helpers.metrics import evaluate
from helpers.networks import count_parameters
from helpers.pairs import Pairs
from tests.conftest import make_faces

FACES = make_faces(20, 32)


def small() -> torch.nn.Module:
    """A candidate that is trained in an instant."""
    return nafnet(8, encoder=(1, 1), decoder=(1, 1))


@pytest.fixture(scope="module")
def networks() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    return {name: make().eval() for name, (_, make) in CANDIDATES.items()}


@pytest.fixture
def two(monkeypatch):
    """Two small candidates in place of the five, and a clock that moves by one second a look."""
    ticks = itertools.count()
    monkeypatch.setattr(candidates, "CANDIDATES", {"one": ("the first", small), "two": ("the second", small)})
    monkeypatch.setattr(candidates, "clock", lambda device: next(ticks))


# ---------------------------------------------------------------------------------------------------------------------
# The networks


def test_the_recorded_rows_are_of_these_networks(networks):
    """What chapter 13 shows: every candidate, under its title, with its number of trained parameters."""
    recorded = json.loads((data_folder() / "results" / "candidates.json").read_text(encoding="utf-8"))
    assert set(recorded) == set(CANDIDATES)
    for name, row in recorded.items():
        assert row["title"] == CANDIDATES[name][0] and row["parameters"] == count_parameters(networks[name])


def test_about_equal_size(networks):
    """At most a fifth apart in what is trained; the perceptual exit and the LatentEncoder are not."""
    sizes = {name: count_parameters(network) for name, network in networks.items()}
    assert len(sizes) == 5 and max(sizes.values()) < 1.2 * min(sizes.values()) and min(sizes.values()) > 2e6
    for name in (n for n in networks if n.startswith("skip")):
        assert not any("latent_encoder" in n for n, _ in networks[name].named_parameters())
        assert not any(p.requires_grad for p in networks[name].network.generator.exits[1].parameters())
        assert all(p.requires_grad for p in networks[name].network.generator.exits[0].parameters())


@torch.no_grad()
@pytest.mark.parametrize("name", list(CANDIDATES))
def test_all_take_the_same_input(networks, name):
    """N×4×H×W to N×3×H×W. Before training all but DIRformer, which starts elsewhere, are the blurred picture."""
    inputs = Pairs(FACES[:2]).batch(range(2)).input
    restored = networks[name](inputs)
    assert restored.shape == (2, 3, 32, 32) and torch.isfinite(restored).all()
    assert torch.equal(restored, inputs[:, :3]) == (name != "dirformer")


@torch.no_grad()
@pytest.mark.parametrize("name", list(CANDIDATES))
def test_who_sees_the_edge_map(name):
    """After the zeros at the exits are gone: the fourth channel matters to two of them, the others to all."""
    torch.manual_seed(0)
    network = CANDIDATES[name][1]().eval()
    for p in network.parameters():
        p.add_(torch.randn(p.shape) * 0.05)
    inputs = Pairs(FACES[:1]).batch([0]).input
    changed = {c: inputs.clone() for c in (1, 3)}
    for channel, other in changed.items():
        other[:, channel] = other[:, channel].flip(-1)
    restored = network(inputs)
    assert not torch.equal(network(changed[1]), restored)
    assert torch.equal(network(changed[3]), restored) == (name in ("skip-no-edges", "dirformer", "nafnet"))


# ---------------------------------------------------------------------------------------------------------------------
# Time and training


def test_waiting_does_not_count():
    """On a CPU, processor time: a quarter of a second of sleep is nothing, work is."""
    started = clock(torch.device("cpu"))
    time.sleep(0.25)
    slept = clock(torch.device("cpu"))
    assert slept - started < 0.15
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    assert clock(torch.device("cpu")) - slept >= 0.1


def test_time_decides_how_many_steps(monkeypatch):
    """Steps of 9, 2, 3 and 2 seconds: the first is preparation, the median of the others 2. The network stays as it
    was."""
    looks = iter(np.cumsum([0, 9, 0, 2, 0, 3, 0, 2]))
    monkeypatch.setattr(candidates, "clock", lambda device: next(looks))
    network = small()
    before = [p.clone() for p in network.parameters()]
    assert steps_within(25, network, FACES) == 12
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before, strict=True))
    ticks = itertools.count()
    monkeypatch.setattr(candidates, "clock", lambda device: next(ticks))
    assert steps_within(0.1, network, FACES) == 1  # never none at all


def test_training(tmp_path, monkeypatch):
    """The rate of the skip model, step by step; the average comes back; the error falls; the same call goes on."""
    rates, original = [], torch.optim.AdamW

    class Spy(original):
        def step(self, *rest, **more):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*rest, **more)

    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    monkeypatch.setattr(candidates, "cosine_rate", lambda step, steps, rate: cosine_rate(step, steps, 10 * rate, 1))
    torch.manual_seed(0)
    network, batch = small(), Pairs(FACES).batch(range(20))
    averaged = train(network, FACES, 20, tmp_path, progress=False)
    assert rates == pytest.approx([cosine_rate(i, 20, 1e-2, 1) for i in range(20)])
    assert averaged is not network and not averaged.training and not any(p.requires_grad for p in averaged.parameters())
    with torch.no_grad():
        restored = network(batch.input)
    before, after = ((x - batch.target).square().mean().item() for x in (batch.input[:, :3], restored))
    assert after < 0.98 * before
    again = train(small(), FACES, 20, tmp_path, progress=False)
    assert len(rates) == 20
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), averaged.parameters(), strict=True))


# ---------------------------------------------------------------------------------------------------------------------
# Rows


def test_rows_and_the_second_call(two, random_lpips, monkeypatch, tmp_path):
    arguments = (["one", "two"], FACES, FACES[:5], 0.05, random_lpips, tmp_path)
    rows = compare(*arguments, progress=False)
    assert json.loads((tmp_path / "candidates.json").read_text(encoding="utf-8")) == rows
    assert list(rows) == ["one", "two"]
    for row in rows.values():
        assert row["parameters"] == count_parameters(small()) and row["steps"] == 3 and row["images"] == 5
        assert row["minutes"] == 0.05 and row["milliseconds"] > 0 and row["hardware"] and row["date"]
        assert all(np.isfinite(row[k]) for k in ("PSNR", "SSIM", "L1", "MSE", random_lpips.name))
    monkeypatch.setattr(candidates, "train", None)  # must not be called
    assert compare(*arguments, progress=False) == rows


def test_a_training_that_was_stopped_keeps_its_number_of_steps(two, random_lpips, monkeypatch, tmp_path):
    """The time is measured once; the row that has begun says how many steps it gave."""
    original, asked = candidates.train, []

    def broken(*rest):
        raise TrainingError("the lights went out")

    monkeypatch.setattr(candidates, "train", broken)
    arguments = (["one"], FACES, FACES[:5], 0.05, random_lpips, tmp_path)
    with pytest.raises(TrainingError, match="lights"):
        compare(*arguments, progress=False)
    begun = json.loads((tmp_path / "candidates.json").read_text(encoding="utf-8"))["one"]
    assert begun["steps"] == 3 and "PSNR" not in begun
    monkeypatch.setattr(candidates, "train", lambda *rest: asked.append(rest[2]) or original(*rest))
    monkeypatch.setattr(candidates, "steps_within", None)  # must not be called
    rows = compare(*arguments, progress=False)
    assert asked == [3] and np.isfinite(rows["one"]["PSNR"])


def test_measured_as_everything_is(two, random_lpips, monkeypatch, tmp_path):
    """The row holds the means over the test pictures with the blur of every table; here of the blurred input."""
    monkeypatch.setattr(candidates, "train", lambda network, *rest: network)  # still the identity
    row = compare(["one"], FACES, FACES[:5], 1, random_lpips, tmp_path, progress=False)["one"]
    batch = Pairs(FACES[:5]).batch(range(5))
    table = evaluate(lambda x: x[:, :3], Pairs(FACES[:5]), random_lpips)["input"].mean()
    assert {k: row[k] for k in table.index} == pytest.approx(table.to_dict())
    assert row["MSE"] == pytest.approx((batch.input[:, :3] - batch.target).square().mean().item(), rel=1e-4)


@pytest.mark.parametrize(("minutes", "count"), [(0.002, 5), (0.001, 4)])
def test_rows_of_another_kind_are_refused(two, random_lpips, minutes, count, tmp_path):
    (tmp_path / "candidates.json").write_text(json.dumps({"one": {"minutes": 0.001, "images": 5}}), encoding="utf-8")
    with pytest.raises(TrainingError, match="one was trained for 0.001 minutes and measured on 5 pictures, not"):
        compare(["two"], FACES, FACES[:count], minutes, random_lpips, tmp_path, progress=False)


def test_the_real_one_for_an_instant(random_lpips, tmp_path):
    """A step of the thesis's kind at its real size: near the blurred picture still."""
    rows = compare(["skip"], FACES, FACES[:4], 1e-6, random_lpips, tmp_path, progress=False)
    table = evaluate(lambda x: x[:, :3], Pairs(FACES[:4]))["input"].mean()
    assert rows["skip"]["steps"] == 1 and rows["skip"]["PSNR"] == pytest.approx(table["PSNR"], abs=0.2)


# ---------------------------------------------------------------------------------------------------------------------
# In a shell


@pytest.fixture
def metric(monkeypatch, random_lpips):
    """The random metric, and pictures a quarter as large, which are trained on sooner."""
    monkeypatch.setattr(candidates, "load_lpips", lambda: random_lpips)
    monkeypatch.setattr(candidates, "load_split", lambda *which: np.array([square(i, 32) for i in load_split(*which)]))


def test_command_line_and_again(two, metric, tmp_path, capsys):
    """On the shipped faces; rows that are there are kept, a new one joins them."""
    out = tmp_path / "new" / "candidates.json"
    arguments = ["--out", str(out.parent), "--minutes", "0.05", "--limit", "16"]
    candidates.main([*arguments, "--candidates", "two"])
    first = json.loads(out.read_text(encoding="utf-8"))
    assert list(first) == ["two"] and first["two"]["images"] == 16 and "the second" in capsys.readouterr().out
    candidates.main(arguments)
    both = json.loads(out.read_text(encoding="utf-8"))
    assert both["two"] == first["two"] and set(both) == {"one", "two"}
    with pytest.raises(SystemExit, match="error: two was trained for 0.05 minutes .*choose another folder"):
        candidates.main([*arguments[:2], "--minutes", "0.002", *arguments[4:]])
    assert json.loads(out.read_text(encoding="utf-8")) == both


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--limit", "3"], "3 training images are fewer than one batch of 16"),
    ],
)
def test_errors_are_one_sentence(command, told, two, metric, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        candidates.main(["--out", "x", "--minutes", "0.001", *command])
    text = str(error.value.code)
    assert text.startswith("error: ") and "\n" not in text and told in text
    assert not (tmp_path / "x").exists()
