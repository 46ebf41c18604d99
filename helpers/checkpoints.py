"""Weights in safetensors, and beside them a small JSON that says what made them. Loading never executes anything.

``precision="8-bit"`` stores every matrix and convolution as whole numbers from -127 to 127 with one scale for each
slice along the first axis: a quarter of the size, and on this model no visible loss (a test measures it).
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from helpers.data import data_folder

SCALE = ".scale"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or of another network; the message says which and what to do."""


def save_checkpoint(path: str | Path, model: nn.Module, about: dict, precision: str = "float32") -> None:
    """Write ``model`` to ``path`` (``.safetensors``) and ``about`` to the same name with ``.json``.

    Written aside and renamed, so that a kill in between leaves the earlier file whole.

    Parameters
    ----------
    precision : "float32", "half" or "8-bit"
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    state = {k: v.detach().cpu().contiguous() for k, v in state.items() if k not in _twins(state)}
    if precision == "half":
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    elif precision == "8-bit":
        state = _to_8_bit(state)
    elif precision != "float32":
        raise ValueError(f'precision must be "float32", "half" or "8-bit", not {precision!r}')
    write_whole(path, lambda part: save_file(state, part))
    write_json(path.with_suffix(".json"), {**about, "precision": precision})


def load_checkpoint(path: str | Path, model: nn.Module) -> dict:
    """Fill ``model`` from ``path`` and give back what the JSON says.

    Raises
    ------
    CheckpointError
        if the file is missing, damaged, or does not fit the model (the message names the first few differences)
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such checkpoint")
    try:
        state = _from_8_bit(load_file(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: is no safetensors file, or a damaged one ({error})") from None
    own = model.state_dict()
    state |= {name: state[first] for name, first in _twins(own).items() if first in state and name not in state}
    wrong = differences(own, state)
    if wrong:
        listed = "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise CheckpointError(f"{path}: belongs to another network than {type(model).__name__} ({listed})")
    if any(not torch.isfinite(v).all() for v in state.values() if v.is_floating_point()):
        raise CheckpointError(f"{path}: holds NaN or infinite weights")
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in state.items()})
    return read_about(path)


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
        return json.loads(path.read_text()) if path.exists() else {}
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: is no JSON ({error})") from None


def shipped(name: str) -> Path:
    """The path of a checkpoint that ships with the course: ``shipped("thesis")``."""
    return data_folder() / "checkpoints" / f"{name}.safetensors"


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file aside, then rename it: whatever happens, the file is the old or the new one.

    The new one is on the disk before it takes the name, so that this holds for a power cut too. Where writing fails
    (a full disk), what was written aside is removed.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, content) -> None:
    """``content`` as JSON, whole or not at all."""
    write_whole(path, lambda part: part.write_text(json.dumps(content, indent=1) + "\n"))


def _twins(state: dict[str, torch.Tensor]) -> dict[str, str]:
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
    scales = {k for k in state if k.endswith(SCALE) and state.get(k[: -len(SCALE)], torch.empty(0)).dtype == torch.int8}
    return {k: v.float() * state[k + SCALE] if k + SCALE in scales else v for k, v in state.items() if k not in scales}
