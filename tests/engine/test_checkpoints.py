"""checkpoints: what is written comes back, what is broken is refused, nothing is executed."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from helpers.data import data_folder
from helpers.engine import checkpoints
from helpers.engine.checkpoints import (
    CheckpointError,
    load_checkpoint,
    read_about,
    save_checkpoint,
    shipped,
)
from helpers.networks import DeblurModel


def tiny(seed: int = 0, width: int = 32) -> nn.Sequential:
    """A convolution, a norm with statistics, a linear layer with one slice of zeros: every kind of weight."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width, 64))
    net[1].running_mean.normal_()
    net[1].num_batches_tracked.fill_(7)
    with torch.no_grad():
        net[3].weight[5] = 0
    return net


def errors(a: nn.Module, b: nn.Module) -> dict[str, float]:
    """For each weight the largest difference, relative to the largest number of its slice."""
    out = {}
    for name, x in a.state_dict().items():
        y = b.state_dict()[name]
        if not x.numel():
            continue
        x, y = (t.float().reshape(len(t), -1) if t.ndim > 1 else t.float().reshape(1, -1) for t in (x, y))
        out[name] = ((x - y).abs().amax(1) / x.abs().amax(1).clamp(min=1e-12)).max().item()
    return out


def test_float32_comes_back_exactly(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", tiny(0), {})
    other = tiny(1)
    load_checkpoint(tmp_path / "a.safetensors", other)
    assert set(errors(tiny(0), other).values()) == {0}


@pytest.mark.parametrize(("precision", "bound"), [("half", 2**-11), ("8-bit", 0.5 / 127)])
def test_smaller_forms_come_back_closely(precision, bound, tmp_path):
    """Half has 11 bits, so 2^-11 of a number; 8-bit rounds to 1/127 of a slice's largest, half of that at most."""
    save_checkpoint(tmp_path / "a.safetensors", tiny(0), {}, precision)
    other = tiny(1)
    load_checkpoint(tmp_path / "a.safetensors", other)
    measured = errors(tiny(0), other)
    assert max(measured.values()) <= bound * 1.001 and measured["0.weight"] > 0
    assert other[3].weight[5].abs().sum() == 0  # a slice of zeros has no scale
    assert {v.dtype for k, v in other.state_dict().items() if "num" not in k} == {torch.float32}
    assert other[1].num_batches_tracked == 7
    if precision == "8-bit":  # vectors (norms, biases) are small and stay as they are
        assert {v for k, v in measured.items() if tiny().state_dict()[k].ndim < 2} == {0}


def test_sizes(tmp_path):
    """A half, and about a quarter: one byte a weight, four for each slice's scale, the names."""
    net = nn.Linear(512, 512)
    size = {}
    for precision in ("float32", "half", "8-bit"):
        save_checkpoint(tmp_path / f"{precision}.safetensors", net, {}, precision)
        size[precision] = (tmp_path / f"{precision}.safetensors").stat().st_size
    assert size["half"] / size["float32"] == pytest.approx(0.5, abs=0.01)
    assert size["8-bit"] / size["float32"] == pytest.approx(0.25, abs=0.02)


def test_unknown_precision(tmp_path):
    with pytest.raises(ValueError, match="8-bit"):
        save_checkpoint(tmp_path / "a.safetensors", tiny(), {}, "4-bit")
    assert not list(tmp_path.iterdir())


def test_what_made_it_stands_beside_it(tmp_path):
    path = tmp_path / "deep" / "a.safetensors"
    about = {"name": "trial", "thresholds": [8, 24], "record": {"epoch": 3, "total": 0.25}}
    save_checkpoint(path, tiny(), about, "half")
    written = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert written == {**about, "precision": "half"} == load_checkpoint(path, tiny()) == read_about(path)


def test_no_json_is_an_empty_note_and_a_broken_one_an_error(tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, tiny(), {})
    path.with_suffix(".json").unlink()
    assert load_checkpoint(path, tiny()) == {}
    for broken, told in (
        (b'{"cut', "no JSON"), (b'{"name": "\xff"}', "no JSON"), (b"[" * 10**5, "no JSON"), (b"[1]", "says nothing"),
        (b"1e999", "says nothing"), (b"\xff\xfe{", "no JSON"),
    ):  # fmt: skip
        path.with_suffix(".json").write_bytes(broken)
        with pytest.raises(CheckpointError, match=told):
            load_checkpoint(path, tiny())


@pytest.mark.parametrize("scale", [(1, 40_000), (40_000,), (3,), (), (40_000, 1, 1)])
def test_scales_of_another_shape(scale, tmp_path):
    """Numbers of 8 bits times their scales: a row by a column would be a matrix of gigabytes."""
    path = tmp_path / "a.safetensors"
    state = {"weight": torch.ones(40_000, 1, dtype=torch.int8), "weight.scale": torch.ones(scale)}
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: .*are no scales of"):
        load_checkpoint(path, nn.Linear(1, 40_000, bias=False))


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.safetensors: there is no such"):
        load_checkpoint(tmp_path / "absent.safetensors", tiny())


def test_another_network(tmp_path):
    """Says which weights are missing, unknown or of another shape; the model keeps its own."""
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, tiny(width=16), {})
    net = tiny(1)
    with pytest.raises(CheckpointError, match=r"another network than Sequential \(.*\(16, 3, 3, 3\) instead of \(32"):
        load_checkpoint(path, net)
    assert set(errors(tiny(1), net).values()) == {0}
    with pytest.raises(CheckpointError, match="missing bias; missing weight; unknown 0.bias.*more"):
        load_checkpoint(path, nn.Linear(2, 2))


def test_a_deblur_model_of_another_size(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", DeblurModel(16, 64), {}, "8-bit")
    with pytest.raises(CheckpointError, match=r"DeblurModel.*\(16, 512\) instead of \(8, 512\)"):
        load_checkpoint(tmp_path / "a.safetensors", DeblurModel(8, 64))


@pytest.mark.parametrize("keep", [0, 4, 100, -10])
def test_truncated_file(keep, tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, tiny(), {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"a\.safetensors: is no safetensors file, or a damaged one"):
        load_checkpoint(path, tiny())


@pytest.mark.parametrize("precision", ["float32", "half", "8-bit"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(precision, value, tmp_path):
    net = tiny()
    with torch.no_grad():
        net[0].weight[1, 1, 1, 1] = value
    save_checkpoint(tmp_path / "a.safetensors", net, {}, precision)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        load_checkpoint(tmp_path / "a.safetensors", tiny())


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("writer", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_nothing_is_executed(writer, tmp_path):
    """A pickle that is called a checkpoint is refused, and the program in it does not run."""
    path, trace = tmp_path / "evil.safetensors", tmp_path / "executed"
    writer({"weight": Bomb(trace)}, path)
    with pytest.raises(CheckpointError):
        load_checkpoint(path, tiny())
    assert not trace.exists()


def test_writing_leaves_nothing_aside(tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, tiny(), {})
    save_checkpoint(path, tiny(1), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.safetensors"]


def test_a_kill_while_writing_leaves_the_earlier_file(tmp_path, monkeypatch):
    """The new file is written aside; until it is complete, the old one stands."""
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, tiny(0), {"name": "old"})

    def interrupted(state, part):
        part.write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, tiny(1), {"name": "new"})
    other = tiny(1)
    assert load_checkpoint(path, other)["name"] == "old"
    assert set(errors(tiny(0), other).values()) == {0}


class Shared(nn.Module):
    """A layer that is reached, and named, in two ways; and another that only looks the same."""

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.one = nn.Linear(40, 30)
        self.deep = nn.ModuleDict({"again": self.one, "other": nn.Linear(40, 30)})
        self.register_buffer("empty", torch.zeros(0))
        self.register_buffer("nothing", torch.zeros(0))


@pytest.mark.parametrize("precision", ["float32", "half", "8-bit"])
def test_tensors_that_are_named_twice(precision, tmp_path):
    """Stored once, read under both names, and still one tensor; equal values alone are no twins."""
    path, net = tmp_path / "a.safetensors", Shared()
    with torch.no_grad():
        net.deep["other"].load_state_dict(net.one.state_dict())
    save_checkpoint(path, net, {}, precision)
    stored = {k for k in load_file(path) if not k.endswith(".scale")}
    own = {"deep.other.weight", "deep.other.bias", "empty", "nothing"}
    assert stored == own | {"one.weight", "one.bias"}
    other = Shared(1)
    load_checkpoint(path, other)
    bound = {"float32": 0, "half": 2**-11, "8-bit": 0.5 / 127}[precision] * 1.001
    assert max(v for k, v in errors(net, other).items() if v.__class__ is float and "weight" in k) <= bound
    assert other.deep["again"].weight is other.one.weight


def test_a_file_may_hold_both_names(tmp_path):
    """As the authors' files do: nothing is missing, nothing unknown."""
    path, net = tmp_path / "a.safetensors", Shared()
    save_file({k: v.clone() for k, v in net.state_dict().items()}, path)
    other = Shared(1)
    load_checkpoint(path, other)
    assert torch.equal(other.one.weight, net.one.weight)


def test_a_twin_does_not_hide_what_is_missing(tmp_path):
    path, state = tmp_path / "a.safetensors", Shared().state_dict()
    save_file({k: v.clone() for k, v in state.items() if "one" not in k and "again" not in k}, path)
    with pytest.raises(CheckpointError, match="missing deep.again.bias.*missing one.weight"):
        load_checkpoint(path, Shared())


def test_one_part_of_a_network(tmp_path):
    """Only the tensors below its name are looked at: damage elsewhere is not seen, a part that is not there is told."""
    torch.manual_seed(0)
    whole = nn.ModuleDict({"a": nn.Linear(3, 4), "ab": nn.Linear(5, 6)})
    with torch.no_grad():
        whole["ab"].weight.fill_(float("nan"))
    save_checkpoint(tmp_path / "a.safetensors", whole, {"width": 4}, "8-bit")
    part = nn.Linear(3, 4)
    assert load_checkpoint(tmp_path / "a.safetensors", part, part="a")["width"] == 4
    assert torch.allclose(part.weight, whole["a"].weight, atol=0.01) and torch.equal(part.bias, whole["a"].bias)
    with pytest.raises(CheckpointError, match="belongs to another network than Linear .missing bias; missing weight"):
        load_checkpoint(tmp_path / "a.safetensors", part, part="b")


def test_shipped_names(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert shipped("thesis") == tmp_path / "checkpoints" / "thesis.safetensors"


def test_shipped_checkpoints_are_small():
    """What a reader clones: under 70 MB in all, and the model itself loads (the 8-bit form)."""
    folder = data_folder() / "checkpoints"
    assert shipped("thesis").exists()
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 70e6
    about = load_checkpoint(shipped("thesis"), DeblurModel())
    assert about["name"] == "thesis" and about["image_size"] == 128 and about["latent_dim"] == 512


def test_shipped_checkpoint_comes_from_the_shipped_faces():
    """Photographs may be for research only, and weights trained on them with them: what ships is trained on renders."""
    source = read_about(shipped("thesis"))["training_data"]
    assert "shipped faces" in source and "photographs" not in source


# ---------------------------------------------------------------------------------------------------------------------
# Wrapped networks


class Outer(nn.Module):
    """A network with a part of its own called "module", whose name must not be taken for a wrapper's."""

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.module, self.inner = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3))


@pytest.fixture
def one_process(tmp_path):
    """A group of processes of which there is one, as DistributedDataParallel wants it."""
    if torch.distributed.is_initialized():
        pytest.skip("there is a group of processes already")
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def part_compiled(net: Outer) -> Outer:
    net.inner = torch.compile(net.inner)
    return net


WRAPPERS = {
    "bare": lambda net: net,
    "compiled": torch.compile,
    "distributed": nn.parallel.DistributedDataParallel,
    "both": lambda net: torch.compile(nn.parallel.DistributedDataParallel(net)),
    "part compiled": part_compiled,
}


@pytest.mark.parametrize("reader", WRAPPERS)
@pytest.mark.parametrize("writer", WRAPPERS)
def test_wrappers_are_stripped_at_saving_and_loading(writer, reader, tmp_path, one_process):
    """Whatever is wrapped around the network, the file has the bare names and fills the network."""
    path, other = tmp_path / "a.safetensors", Outer(1)
    save_checkpoint(path, WRAPPERS[writer](Outer(0)), {})
    assert set(load_file(path)) == set(Outer().state_dict())
    load_checkpoint(path, WRAPPERS[reader](other))
    expected = Outer(0).state_dict()
    assert all(torch.equal(v, expected[k.replace("_orig_mod.", "")]) for k, v in other.state_dict().items())


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."])
def test_files_with_the_prefixes_of_wrappers(prefix, tmp_path):
    """As PyTorch itself would have written them, and earlier versions of this course."""
    save_file({prefix + k: v for k, v in Outer(0).state_dict().items()}, tmp_path / "a.safetensors")
    other = Outer(1)
    load_checkpoint(tmp_path / "a.safetensors", other)
    assert set(errors(Outer(0), other).values()) == {0}


def test_a_part_called_module_is_no_wrapper(tmp_path):
    """Every name begins with "module." in both, and nothing is cut off; a missing part is still told."""
    net = nn.ModuleDict({"module": nn.Linear(2, 2)})
    save_checkpoint(tmp_path / "a.safetensors", net, {})
    load_checkpoint(tmp_path / "a.safetensors", net)
    with pytest.raises(CheckpointError, match="another network than Outer"):
        load_checkpoint(tmp_path / "a.safetensors", torch.compile(Outer()))


def test_names_that_are_not_utf8(tmp_path):
    """A folder whose name was written in another encoding."""
    path = tmp_path / os.fsdecode(b"\xc4\xc1") / "a.safetensors"
    try:
        path.parent.mkdir()
    except OSError:
        pytest.skip("this disk takes UTF-8 alone")
    save_checkpoint(path, tiny(0), {"name": "trial"})
    other = tiny(1)
    assert load_checkpoint(path, other)["name"] == "trial" and set(errors(tiny(0), other).values()) == {0}
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        load_checkpoint(path.with_name("absent.safetensors"), other)
