"""official_weights: the authors' files are read, and nothing that lies in them is run."""

import collections
import io
import os
import pickle
import sys
import types
import zipfile
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from helpers.engine.checkpoints import CheckpointError, load_checkpoint
from helpers.reviewed import official_weights
from helpers.reviewed.diffir import DiffIRS1, DiffIRS2
from helpers.reviewed.official_weights import generator_of, read_diffir, read_stylegan_pickle
from helpers.reviewed.stylegan import Generator

SMALL = {"z_dim": 6, "w_dim": 5, "img_resolution": 16, "channel_base": 64, "channel_max": 8, "mapping_layers": 2}
NET = {
    "dim": 4, "num_blocks": (1, 1, 1, 1), "num_refinement_blocks": 1, "heads": (1, 2, 2, 4), "n_encoder_res": 1
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# A file as NVIDIA's code writes it


@contextmanager
def nvidia():
    """Modules of the names that NVIDIA's pickles ask for, there only while one is written."""

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("code of the pickle was run")

    class EasyDict(dict):
        pass

    made = {
        name: types.ModuleType(name) for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")
    }
    for function, module in ((_reconstruct_persistent_obj, "torch_utils.persistence"), (EasyDict, "dnnlib.util")):
        function.__module__, function.__qualname__ = module, function.__name__
        setattr(made[module], function.__name__, function)
    sys.modules.update(made)
    try:
        yield _reconstruct_persistent_obj, EasyDict
    finally:
        for name in made:
            del sys.modules[name]


class Persistent:
    """A module as persistence writes it: the name of a function, and a dict with source and state."""

    def __init__(self, module: nn.Module, rebuild, bag, extra: dict):
        state = {
            "training": False,
            "_parameters": collections.OrderedDict(module._parameters),
            "_buffers": collections.OrderedDict(module._buffers),
            "_non_persistent_buffers_set": set(),
            "_backward_hooks": collections.OrderedDict(),
            "_modules": collections.OrderedDict(
                (k, Persistent(v, rebuild, bag, extra)) for k, v in module._modules.items()
            ),
            "_init_args": (),
            "_init_kwargs": bag(z_dim=512, nested=bag(conv_clamp=None)),
            **extra,
        }
        source = "raise AssertionError('the source in the pickle was run')"
        meta = {"type": "class", "version": 6, "module_src": source, "class_name": type(module).__name__}
        self.parts = rebuild, ({**meta, "state": state},)

    def __reduce__(self):
        return self.parts


def write_nvidia(path, module: nn.Module, protocol: int = 4, name: str = "G_ema", extra: dict | None = None):
    with nvidia() as (rebuild, bag):
        content = {
            "G": None, "D": None, "training_set_kwargs": bag(class_name="x", resolution=16), "augment_pipe": None,
            name: Persistent(module, rebuild, bag, extra or {}),
        }  # fmt: skip
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def random_generator(**settings) -> Generator:
    torch.manual_seed(0)
    model = Generator(**{**SMALL, **settings}).eval()
    with torch.no_grad():
        for name, value in [*model.named_parameters(), ("w_avg", model.mapping.w_avg)]:
            if value.ndim < 2 and "affine" not in name:
                value.normal_()
    return model


@torch.no_grad()
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_nvidias_pickle_is_read(tmp_path, protocol):
    """All names and values, with parameters, buffers and nested containers; the source in it is not run."""
    model = random_generator()
    state = read_stylegan_pickle(write_nvidia(tmp_path / "net.pkl", model, protocol))
    assert "torch_utils" not in sys.modules and "dnnlib" not in sys.modules
    expected = model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[k], expected[k]) and state[k].dtype == torch.float32 for k in expected)
    again = generator_of(state).eval()
    z = torch.randn(2, 6)
    assert torch.equal(again(z, 0.7), model(z, 0.7))


def test_numpy_numbers_among_the_attributes(tmp_path):
    """NVIDIA's layers keep gains such as 1 / np.sqrt(n) as attributes: numpy.float64, a scalar and its dtype."""
    extra = {"weight_gain": 1 / np.sqrt(512), "act_gain": np.sqrt(2), "bias_gain": 1}
    state = read_stylegan_pickle(write_nvidia(tmp_path / "net.pkl", random_generator(), extra=extra))
    assert state.keys() == random_generator().state_dict().keys()


def test_other_networks_and_half_precision(tmp_path):
    """``network`` names which one; 16-bit tensors become float32."""
    model = random_generator()
    path = write_nvidia(tmp_path / "net.pkl", model.half(), name="G")
    assert read_stylegan_pickle(path, "G")["synthesis.b4.const"].dtype == torch.float32
    with pytest.raises(CheckpointError, match="holds no network 'G_ema'"):
        read_stylegan_pickle(path)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mapping_layers": 0, "z_dim": 5},
        {"img_resolution": 32, "channel_base": 4096, "channel_max": 8},
        {"img_resolution": 8, "channel_base": 40, "channel_max": 512},
    ],
)
def test_width_and_depth_are_read_from_the_weights(settings):
    model = Generator(**{**SMALL, **settings})
    assert generator_of(model.state_dict()).state_dict().keys() == model.state_dict().keys()


def test_the_full_size_is_read_from_the_weights():
    """1024 pixels, from the shapes alone."""
    with torch.device("meta"):
        state = Generator().state_dict()
        model = generator_of(state)
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in state.items()}


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda s: s.pop("synthesis.b8.conv0.weight"), "missing synthesis.b8.conv0.weight"),
        (lambda s: s.update({"mapping.embed.weight": torch.zeros(1)}), "unknown mapping.embed.weight"),
        (lambda s: s.update({"synthesis.b4.const": torch.zeros(8, 8, 8)}), r"\(8, 8, 8\) instead of \(8, 4, 4\)"),
        (lambda s: s.pop("mapping.w_avg"), "not the weights of a StyleGAN2 generator"),
        (lambda s: s.clear(), "not the weights of a StyleGAN2 generator"),
    ],
)
def test_weights_of_something_else(spoil, told):
    state = Generator(**SMALL).state_dict()
    spoil(state)
    with pytest.raises(CheckpointError, match=told):
        generator_of(state)


# ---------------------------------------------------------------------------------------------------------------------
# Hostile and broken files


class Call:
    """Unpickling it calls ``function`` with ``arguments``."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


class Storage:
    """What a tensor's storage looks like in a pickle, with bytes of one's own."""

    def __init__(self, content: bytes):
        self.content = content

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.content,)


def evils(trace):
    """Programs that would make the file ``trace``."""
    command = f"open({str(trace)!r}, 'w').close()"
    return {
        "os.system": Call(os.system, f"touch {trace}"),
        "builtins.eval": Call(eval, command),
        "builtins.exec": Call(exec, command),
        "torch.load": Call(torch.load, io.BytesIO(b"")),
        "builtins.getattr": Call(getattr, "text", "upper"),
        "os.mkdir": Call(os.mkdir, str(trace)),
    }


@pytest.mark.parametrize("name", list(evils("x")))
@pytest.mark.parametrize("place", ["top", "state", "beside"])
def test_a_hostile_pickle_is_refused_and_does_not_run(name, place, tmp_path):
    trace = tmp_path / "trace"
    evil = evils(trace)[name]
    if place == "state":
        path = write_nvidia(tmp_path / "evil.pkl", Generator(**SMALL), extra={"gain": evil})
    else:
        path = tmp_path / "evil.pkl"
        path.write_bytes(pickle.dumps(evil if place == "top" else {"G_ema": evil, "x": 1}))
    with pytest.raises(CheckpointError, match=r"which no weights need; refused, nothing was run"):
        read_stylegan_pickle(path)
    assert not trace.exists()


@pytest.mark.parametrize("writer", ["pickle", "legacy", "zip"])
def test_a_storage_with_a_program_in_it_is_refused(writer, tmp_path):
    """The bytes of a storage are a pickle of their own, and a second door."""
    trace, buffer = tmp_path / "trace", io.BytesIO()
    evil = {"x": evils(trace)["os.mkdir"]}
    if writer == "pickle":
        buffer.write(pickle.dumps(evil))
    else:
        torch.save(evil, buffer, _use_new_zipfile_serialization=writer == "zip")
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"G_ema": Storage(buffer.getvalue())}))
    with pytest.raises(CheckpointError, match=r"evil\.pkl"):
        read_stylegan_pickle(path)
    assert not trace.exists()
    # The bomb is live: without the guard it would have gone off.
    pickle.loads(pickle.dumps(evil))
    assert trace.exists()


def test_only_what_tensors_need_is_known():
    """The list of what a pickle may ask for: nothing in it calls, imports, opens or evaluates."""
    allowed = {f"{m}.{n}" for m, n in official_weights._ALLOWED if not m.startswith("numpy")}
    assert allowed == {
        "collections.OrderedDict", "builtins.set", "__builtin__.set", "dnnlib.util.EasyDict",
        "torch_utils.persistence._reconstruct_persistent_obj", "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter", "torch.storage._load_from_bytes", "_codecs.encode",
    }  # fmt: skip


@pytest.mark.parametrize("keep", [0, 10, 2000, -20])
def test_a_damaged_pickle(keep, tmp_path):
    path = write_nvidia(tmp_path / "net.pkl", Generator(**SMALL))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"net\.pkl: is no pickle of NVIDIA's networks"):
        read_stylegan_pickle(path)


@pytest.mark.parametrize("content", [[1, 2], {"G_ema": {"a": 1}}, {"G": None}, 5])
def test_a_pickle_of_something_else(content, tmp_path):
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="holds no network 'G_ema'"):
        read_stylegan_pickle(tmp_path / "net.pkl")


@pytest.mark.parametrize(
    "put", [b"r" + (2**31 - 1).to_bytes(4, "little"), b"r\x00\x00\x01\x00", b"q\xff", b"p99999999\n"]
)
def test_a_place_far_away_reserves_no_memory(put, tmp_path):
    """The unpickler keeps what it remembers in a list: 16 GB for the number 2**31."""
    (tmp_path / "net.pkl").write_bytes(b"\x80\x04}" + put + b".")
    with pytest.raises(
        CheckpointError, match=r"net\.pkl: the pickle remembers its thing number 2 as number \d+; refused"
    ):
        read_stylegan_pickle(tmp_path / "net.pkl")


@pytest.mark.parametrize("dtype", [torch.half, torch.float32])
def test_a_tensor_larger_than_its_storage(dtype, tmp_path):
    """One number, shown 10**12 times by steps of nothing: it would be made real when its type is changed."""
    net = nn.Linear(1, 1)
    net.weight = nn.Parameter(torch.zeros(1, dtype=dtype).expand(10**6, 10**6))
    with pytest.raises(CheckpointError, match="weight has more elements than the file holds"):
        read_stylegan_pickle(write_nvidia(tmp_path / "net.pkl", net))


def blown_up(path, kind):
    """A file of PyTorch's with the content compressed: 64 MB of zeros in 64 kB."""
    plain, small = io.BytesIO(), io.BytesIO()
    torch.save({"params_ema": {"a": torch.zeros(2**24)}}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    path.write_bytes(small.getvalue() if kind == "diffir" else pickle.dumps({"G_ema": Storage(small.getvalue())}))
    return path


def test_an_archive_that_grows(tmp_path):
    """PyTorch would unpack it: a thousand times the file's size."""
    for kind, read in (("diffir", lambda p: read_diffir(p, DiffIRS2(**NET))), ("stylegan", read_stylegan_pickle)):
        with pytest.raises(CheckpointError, match=r"would grow to|as tensors alone \(CheckpointError\)"):
            read(blown_up(tmp_path / "net", kind))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("synthesis.b8.conv1.weight", torch.empty(200_000, 0)),
        ("synthesis.b1048576.conv1.weight", torch.zeros(200_000, 1, 1, 1)),
        ("synthesis.b8.conv0.weight", torch.zeros(1)),
        ("mapping.fc0.weight", torch.empty(0, 10**12)),
        ("mapping.w_avg", torch.zeros(10**6)),
    ],
)
def test_sizes_that_only_a_name_or_a_shape_tells(name, value):
    """No network of hundreds of gigabytes is made before it is known that there are the numbers for it."""
    state = Generator(**SMALL).state_dict()
    state["synthesis.b1048576.conv1.weight"] = state["synthesis.b16.conv1.weight"]
    state["synthesis.b1048576.torgb.bias"] = torch.zeros(3)
    state[name] = value
    with pytest.raises(CheckpointError, match="generator .fewer numbers than|do not fit"):
        generator_of(state)


def test_a_missing_pickle(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.pkl: there is no such file"):
        read_stylegan_pickle(tmp_path / "absent.pkl")


# ---------------------------------------------------------------------------------------------------------------------
# DiffIR's files


def diffir_file(path, model: nn.Module, **changes):
    """A file as BasicSR writes it: raw weights and averaged ones."""
    average = {k: v.clone() for k, v in model.state_dict().items()}
    average |= changes
    torch.save({"params": {k: v * 0 for k, v in average.items()}, "params_ema": average}, path)
    return path


@pytest.mark.parametrize("network", [DiffIRS1, DiffIRS2])
def test_diffirs_files_are_read(network, tmp_path):
    """The averaged weights, into a module that had others; stage 2's twins stay one tensor."""
    torch.manual_seed(0)
    model, other = network(**NET), network(**NET)
    path = diffir_file(tmp_path / "net.pth", model)
    read_diffir(path, other)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in other.state_dict().items())
    if network is DiffIRS2:
        assert other.diffusion.condition is other.condition and other.diffusion.model is other.denoise


@torch.no_grad()
def test_a_full_size_file_is_read(tmp_path):
    """The published size, random weights, its own layout of 588 entries."""
    with torch.device("meta"):
        names = DiffIRS2().state_dict()
    generator = torch.Generator().manual_seed(0)
    single = {k: torch.randn(v.shape, generator=generator) for k, v in names.items()}
    for name in single:
        for long, short in (("diffusion.condition.", "condition."), ("diffusion.model.", "denoise.")):
            if name.startswith(long):
                single[name] = single[short + name[len(long) :]]
    torch.save({"params_ema": single}, tmp_path / "net.pth")
    with torch.device("meta"):
        model = DiffIRS2()
    model.to_empty(device="cpu")
    # to_empty makes two tensors of a pair, so the twins are tied again as the constructor ties them
    model.diffusion.condition, model.diffusion.model = model.condition, model.denoise
    read_diffir(tmp_path / "net.pth", model)
    assert len(single) == 588 and all(torch.equal(v, single[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", ["diffusion.condition.E.0.weight", "diffusion.model.resmlp.0.bias"])
def test_twins_that_differ(name, tmp_path):
    model = DiffIRS2(**NET)
    path = diffir_file(tmp_path / "net.pth", model, **{name: model.state_dict()[name] + 1e-3})
    with pytest.raises(CheckpointError, match=f"{name} and its copy (condition|denoise).* differ"):
        read_diffir(path, DiffIRS2(**NET))


def test_the_wrong_stage_and_the_wrong_size(tmp_path):
    """One sentence with the first few differences; the model keeps its weights."""
    path = diffir_file(tmp_path / "net.pth", DiffIRS1(**NET))
    model = DiffIRS2(**NET)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="do not fit DiffIRS2 .*in all"):
        read_diffir(path, model)
    with pytest.raises(CheckpointError, match=r"do not fit DiffIRS1 .*instead of"):
        read_diffir(path, DiffIRS1(**{**NET, "dim": 8}))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("content", [{"params": {}}, {"params_ema": [1]}, [1, 2], torch.zeros(2)])
def test_a_file_of_something_else(content, tmp_path):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="holds no params_ema"):
        read_diffir(tmp_path / "net.pth", DiffIRS1(**NET))


def test_damaged_missing_and_hostile_files(tmp_path):
    path = diffir_file(tmp_path / "net.pth", DiffIRS1(**NET))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="cannot be read as tensors alone"):
        read_diffir(path, DiffIRS1(**NET))
    with pytest.raises(CheckpointError, match="there is no such file"):
        read_diffir(tmp_path / "absent.pth", DiffIRS1(**NET))
    torch.save({"params_ema": {"G.output.weight": Call(os.mkdir, str(tmp_path / "trace"))}}, path)
    with pytest.raises(CheckpointError, match="cannot be read as tensors alone"):
        read_diffir(path, DiffIRS1(**NET))
    assert not (tmp_path / "trace").exists()


# ---------------------------------------------------------------------------------------------------------------------
# The converter


def test_converter_of_stylegan(tmp_path, capsys):
    model = random_generator()
    source, out = write_nvidia(tmp_path / "net.pkl", model), tmp_path / "net.safetensors"
    official_weights.main(["stylegan", str(source), str(out)])
    count = sum(p.numel() for p in model.parameters())
    assert f"{count:,} parameters" in capsys.readouterr().out
    other = Generator(**SMALL)
    assert load_checkpoint(out, other)["source"] == "net.pkl"
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in other.state_dict().items())


@pytest.mark.parametrize(("network", "stage"), [(DiffIRS1, "1"), (DiffIRS2, "2")])
def test_converter_of_diffir(network, stage, tmp_path, monkeypatch):
    """With the class narrowed, as the published size would be read."""
    model = network(**NET)
    monkeypatch.setattr(official_weights, network.__name__, partial(network, **NET))
    source, out = diffir_file(tmp_path / "net.pth", model), tmp_path / "net.safetensors"
    official_weights.main(["diffir", str(source), str(out), "--stage", stage])
    other = network(**NET)
    load_checkpoint(out, other)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in other.state_dict().items())


def test_converter_tells_in_one_sentence(tmp_path):
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Call(os.mkdir, str(tmp_path / "trace"))))
    for arguments in (["stylegan", "absent.pkl"], ["stylegan", "evil.pkl"]):
        with pytest.raises(SystemExit) as error:
            official_weights.main([arguments[0], str(tmp_path / arguments[1]), str(tmp_path / "out.safetensors")])
        text = str(error.value.code)
        assert text.startswith("error: ") and arguments[1] in text and "\n" not in text
    assert not (tmp_path / "trace").exists() and not (tmp_path / "out.safetensors").exists()
