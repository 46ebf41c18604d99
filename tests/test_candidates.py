"""helpers.candidates: six trunks of one size that begin alike, time that counts, rows that are kept."""

import json
import time

import numpy as np
import pytest
import torch

from helpers import candidates
from helpers.candidates import CANDIDATES, clock, compare, train
from helpers.data import load_split, square
from helpers.nafnet import NafNet
from helpers.networks import count_parameters
from helpers.pairs import Pairs
from helpers.skip_model import rate_at
from helpers.training import TrainingError
from tests.conftest import make_faces

FACES = make_faces(20, 32)
TINY = {"width": 4, "encoder": (1, 1), "decoder": (1, 1)}


class Small(torch.nn.Module):
    """A candidate that is trained in an instant."""

    def __init__(self):
        super().__init__()
        self.network = NafNet(**TINY)

    def forward(self, inputs):
        return self.network(inputs[:, :3])


@pytest.fixture(scope="module")
def networks() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    return {name: make().eval() for name, (_, make) in CANDIDATES.items()}


@pytest.fixture
def small(monkeypatch):
    """Two small candidates in place of the six."""
    monkeypatch.setattr(candidates, "CANDIDATES", {"one": ("the first", Small), "two": ("the second", Small)})


# ---------------------------------------------------------------------------------------------------------------------
# The networks


def test_about_equal_size(networks):
    """At most a fifth apart in what is trained; the perceptual exit and the LatentEncoder are not."""
    sizes = {name: count_parameters(network) for name, network in networks.items()}
    assert len(sizes) == 6 and max(sizes.values()) < 1.2 * min(sizes.values()) and min(sizes.values()) > 2e6
    for name in (n for n in networks if n.startswith("skip")):
        assert not any("latent_encoder" in n for n, _ in networks[name].named_parameters())
        assert not any(p.requires_grad for p in networks[name].model.generator.exits[1].parameters())
        assert all(p.requires_grad for p in networks[name].model.generator.exits[0].parameters())


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
    """After the zeros at the exits are gone: the fourth channel matters to three of them, the others to all."""
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
    """On a CPU, processor time: half a second of sleep is nothing, work is."""
    started = clock(torch.device("cpu"))
    time.sleep(0.5)
    slept = clock(torch.device("cpu"))
    assert slept - started < 0.3
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    assert clock(torch.device("cpu")) - slept >= 0.2


def test_time_decides(monkeypatch):
    """A clock that moves by one second a look: in 5 seconds four steps, and the rate follows the time that is gone."""
    ticks, rates, original = iter(range(1000)), [], torch.optim.AdamW

    class Spy(original):
        def step(self, *rest):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*rest)

    monkeypatch.setattr(candidates, "clock", lambda device: next(ticks))
    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    torch.manual_seed(0)
    network = Small()
    before = [p.clone() for p in network.parameters()]
    averaged, steps = train(network, FACES, 5, rate=3e-3)
    assert steps == 4
    warm = [(i + 1) / 100 for i in range(4)]
    assert rates == pytest.approx([rate_at(20 * i + 20, 100, 3e-3, warm=1) * w for i, w in enumerate(warm)])
    assert averaged is not network and any(
        not torch.equal(a, b) for a, b in zip(averaged.parameters(), before, strict=True)
    )
    assert not averaged.training and not any(p.requires_grad for p in averaged.parameters())
    assert train(Small(), FACES, 0.5)[1] == 1  # never none at all


def test_training_lowers_the_error(monkeypatch):
    """By the count of steps, so that a busy machine does not matter."""
    ticks = iter(range(1000))
    monkeypatch.setattr(candidates, "clock", lambda device: next(ticks))
    torch.manual_seed(0)
    network, batch = Small(), Pairs(FACES).batch(range(20))
    train(network, FACES, 26, rate=3e-2)
    with torch.no_grad():
        restored = network(batch.input)
    before, after = ((x - batch.target).square().mean().item() for x in (batch.input[:, :3], restored))
    assert after < 0.97 * before


# ---------------------------------------------------------------------------------------------------------------------
# Rows


def test_rows_and_the_second_call(small, random_ruler, monkeypatch):
    told = []
    arguments = (["one", "two"], FACES, FACES[:5], 0.001, random_ruler)
    rows = compare(*arguments, on_row=lambda r: told.append(list(r)), progress=False)
    assert told == [["one"], ["one", "two"]] and rows["two"]["title"] == "the second"
    for row in rows.values():
        assert row["parameters"] == count_parameters(Small()) and row["steps"] >= 1 and row["images"] == 5
        assert row["minutes"] == 0.001 and row["milliseconds"] > 0 and row["hardware"] and row["date"]
        assert all(np.isfinite(row[k]) for k in ("PSNR", "SSIM", "L1", "MSE", random_ruler.name))
    monkeypatch.setattr(candidates, "train", None)  # must not be called
    assert compare(*arguments, rows=rows, progress=False) == rows
    with pytest.raises(TypeError):
        compare(*arguments, rows={"one": rows["one"]}, progress=False)


def test_measured_as_everything_is(small, random_ruler, monkeypatch):
    """The row holds the means over the test pictures with the blur of every table; here of the blurred input."""
    monkeypatch.setattr(candidates, "train", lambda network, *rest: (network, 0))  # still the identity
    row = compare(["one"], FACES, FACES[:5], 1, random_ruler, progress=False)["one"]
    batch = Pairs(FACES[:5]).batch(range(5))
    table = candidates.evaluate(lambda x: x[:, :3], Pairs(FACES[:5]), random_ruler)["input"].mean()
    assert {k: row[k] for k in table.index} == pytest.approx(table.to_dict())
    assert row["MSE"] == pytest.approx((batch.input[:, :3] - batch.target).square().mean().item(), rel=1e-4)


@pytest.mark.parametrize(("minutes", "count"), [(0.002, 5), (0.001, 4)])
def test_rows_of_another_kind_are_refused(small, random_ruler, minutes, count):
    rows = {"one": {"minutes": 0.001, "images": 5}}
    with pytest.raises(TrainingError, match="one was trained for 0.001 minutes and measured on 5 pictures, not"):
        compare(["two"], FACES, FACES[:count], minutes, random_ruler, rows=rows, progress=False)


def test_the_real_ones_for_an_instant(random_ruler):
    """A step each of the thesis's kind and of the plain network, at their real size: near the blurred picture still."""
    rows = compare(["skip", "nafnet"], FACES, FACES[:4], 1e-6, random_ruler, progress=False)
    assert [row["steps"] for row in rows.values()] == [1, 1]
    table = candidates.evaluate(lambda x: x[:, :3], Pairs(FACES[:4]))["input"].mean()
    assert [row["PSNR"] for row in rows.values()] == pytest.approx([table["PSNR"]] * 2, abs=0.2)


# ---------------------------------------------------------------------------------------------------------------------
# In a shell


@pytest.fixture
def ruler(monkeypatch, random_ruler):
    """The random ruler, and pictures a quarter as large, which are trained on sooner."""
    monkeypatch.setattr(candidates, "load_lpips", lambda: random_ruler)
    monkeypatch.setattr(candidates, "load_split", lambda *which: np.array([square(i, 32) for i in load_split(*which)]))


def test_command_line_and_again(small, ruler, tmp_path, capsys, monkeypatch):
    """On the shipped faces; rows that are there are kept, a new one joins them."""
    out = tmp_path / "new" / "candidates.json"
    arguments = ["--out", str(out), "--minutes", "0.001", "--limit", "16"]
    candidates.main([*arguments, "--candidates", "two"])
    first = json.loads(out.read_text())
    assert list(first) == ["two"] and first["two"]["images"] == 16 and "the second" in capsys.readouterr().out
    candidates.main(arguments)
    both = json.loads(out.read_text())
    assert both["two"] == first["two"] and set(both) == {"one", "two"}
    with pytest.raises(SystemExit, match="error: two was trained for 0.001 minutes .*choose another file"):
        candidates.main([*arguments[:2], "--minutes", "0.002", *arguments[4:]])
    assert json.loads(out.read_text()) == both


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--limit", "3"], "3 training images are fewer than one batch of 16"),
        (["--limit", "0"], "there are no images"),
    ],
)
def test_errors_are_one_sentence(command, told, small, ruler, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        candidates.main(["--out", "x.json", "--minutes", "0.001", *command])
    text = str(error.value.code)
    assert text.startswith("error: ") and "\n" not in text and told in text
    assert not (tmp_path / "x.json").exists()
