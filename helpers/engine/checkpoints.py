"""Weights in safetensors, and beside them a small JSON that says what made them. Loading never executes anything.

``precision="8-bit"`` stores every matrix and convolution as whole numbers from -127 to 127 with one scale for each
slice along the first axis: a quarter of the size, and on this model no visible loss (a test measures it).
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from helpers.engine.errors import CheckpointError
from helpers.engine.folders import atomic_write, data_folder, write_json

SCALE = ".scale"
COMPILED = "_orig_mod."  # what torch.compile puts before the names of a module's weights


def save_checkpoint(path: str | Path, model: nn.Module, about: dict, precision: str = "float32") -> None:
    """Write ``model`` to ``path`` (``.safetensors``) and ``about`` to the same name with ``.json``.

    Written aside and renamed, so that a kill in between leaves the earlier file whole. The names of the weights are
    those of the bare network (:func:`state_of`).

    Parameters
    ----------
    precision : "float32", "half" or "8-bit"
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = state_of(model)
    state = {k: v.detach().cpu().contiguous() for k, v in state.items() if k not in _shared_tensors(state)}
    if precision == "half":
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    elif precision == "8-bit":
        state = _to_8_bit(state)
    elif precision != "float32":
        raise ValueError(f'precision must be "float32", "half" or "8-bit", not {precision!r}')
    atomic_write(path, lambda part: save_file(state, part))
    write_json(path.with_suffix(".json"), {**about, "precision": precision})


def load_checkpoint(path: str | Path, model: nn.Module, part: str = "") -> dict:
    """Fill ``model`` from ``path`` and give back what the JSON says.

    Parameters
    ----------
    part : the name of ``model`` inside the network of the file, of which the rest is then left alone

    Raises
    ------
    CheckpointError
        if the file is missing, damaged, or does not fit the model (the message names the first few differences)
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such checkpoint")
    try:
        state = load(path.read_bytes())  # load_file refuses names that are not UTF-8
        if part:
            state = {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(f"{part}.")}
        state = _from_8_bit(state)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is no safetensors file, or a damaged one ({error})") from None
    bare, own = unwrapped(model), state_of(model)
    state = bare_names(state, own)
    shared = _shared_tensors(own)
    state |= {name: state[first] for name, first in shared.items() if first in state and name not in state}
    wrong = differences(own, state)
    if wrong:
        listed = "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise CheckpointError(f"{path}: belongs to another network than {type(bare).__name__} ({listed})")
    if any(not torch.isfinite(v).all() for v in state.values() if v.is_floating_point()):
        raise CheckpointError(f"{path}: holds NaN or infinite weights")
    fill(model, {k: v.to(own[k].dtype) for k, v in state.items()})
    return read_about(path)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself, without what torch.compile and DistributedDataParallel have put around it."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif isinstance(model, DistributedDataParallel | nn.DataParallel):
            model = model.module
        else:
            return model


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of ``model`` under the names of the bare network, though it or a part of it is compiled."""
    return {name.replace(COMPILED, ""): value for name, value in unwrapped(model).state_dict().items()}


def fill(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Fill ``model``, or the network that it wraps, with weights under the names of the bare network."""
    names = {name.replace(COMPILED, ""): name for name in unwrapped(model).state_dict()}
    unwrapped(model).load_state_dict({names.get(name, name): value for name, value in state.items()})


def bare_names(state: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """``state`` without the prefixes that a wrapped network gave its names, for a network of the names ``own``."""
    state = {name.replace(COMPILED, ""): value for name, value in state.items()}
    if state and all(name.startswith("module.") for name in state):  # unless the network's own names begin so
        short = {name.removeprefix("module."): value for name, value in state.items()}
        return short if len(short.keys() & own.keys()) > len(state.keys() & own.keys()) else state
    return state


def differences(own: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> list[str]:
    """Names and shapes that keep ``state`` from filling a network of the state dict ``own``, sorted; [] if it fits."""
    wrong = [f"missing {k}" for k in own.keys() - state.keys()] + [f"unknown {k}" for k in state.keys() - own.keys()]
    wrong += [
        f"{k}: {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
        for k in own.keys() & state.keys()
        if own[k].shape != state[k].shape
    ]
    return sorted(wrong)


def read_about(path: str | Path) -> dict:
    """What made the checkpoint at ``path``: its JSON, empty if there is none."""
    path = Path(path).with_suffix(".json")
    try:
        about = json.loads(path.read_bytes()) if path.exists() else {}
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(f"{path}: is no JSON ({error})") from None
    if not isinstance(about, dict):
        raise CheckpointError(f"{path}: says nothing about a checkpoint")
    return about


def shipped(name: str) -> Path:
    """The path of a checkpoint that ships with the course: ``shipped("thesis")``."""
    return data_folder() / "checkpoints" / f"{name}.safetensors"


def _shared_tensors(state: dict[str, torch.Tensor]) -> dict[str, str]:
    """Names of tensors that are stored once although they are named twice -> the first name of each."""
    first: dict[tuple, str] = {}
    keys = {k: (v.data_ptr(), v.shape, v.stride()) for k, v in state.items() if v.numel()}
    return {k: first[key] for k, key in keys.items() if first.setdefault(key, k) != k}


def _to_8_bit(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    out = {}
    for name, value in state.items():
        if value.is_floating_point() and value.ndim >= 2:
            scale = value.abs().amax(dim=tuple(range(1, value.ndim)), keepdim=True).float() / 127
            out[name] = (value / scale.clamp(min=1e-12)).round().to(torch.int8)
            out[name + SCALE] = scale
        else:
            out[name] = value
    return out


def _from_8_bit(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What :func:`_to_8_bit` has stored; a scale of another shape would make a small file fill the memory."""
    scales = {k for k in state if k.endswith(SCALE) and state.get(k[: -len(SCALE)], torch.empty(0)).dtype == torch.int8}
    for name in scales:
        value, scale = state[name[: -len(SCALE)]], state[name]
        if scale.shape != value.shape[:1] + (1,) * (value.ndim - 1) or not scale.is_floating_point():
            raise ValueError(f"{name}: {tuple(scale.shape)} are no scales of {tuple(value.shape)}")
    return {k: v.float() * state[k + SCALE] if k + SCALE in scales else v for k, v in state.items() if k not in scales}
