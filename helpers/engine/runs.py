"""A run lives in a folder and goes on where it stopped; and the training loop counted in steps (chapters 02 to 04).

``state.pt`` holds everything that a run needs to go on, ``history.jsonl`` a line of JSON for each record. In the loop
everything random in a step depends on the seed and the step's number alone, so a run that was killed and started again
ends with the same weights as one that was not.
"""

import hashlib
import json
import math
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from helpers.engine.checkpoints import bare_names, differences, fill, state_of
from helpers.engine.ema import Ema
from helpers.engine.errors import ImageError, Stopped, TrainingError
from helpers.engine.folders import atomic_write, locked, write_errors
from helpers.engine.precision import NAMES
from helpers.seeds import SEED, indices_of, seed_everything

FORMAT = 2  # of state.pt; files without a number are older
LOOKED_AT = 8192  # pictures that a fingerprint reads, at most


def hardware(device: torch.device, precision: str | None = None) -> str:
    """What ran: the GPU's name, or the processor's kind and the number of threads; the number format if it is told."""
    device = torch.device(device)
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{device.type.upper()}, {torch.get_num_threads()} threads, {platform.machine()}"
    return f"{name}, {NAMES[precision]}" if precision else name


def fingerprint(images) -> str:
    """Which pictures these are, for the settings of a run: their number and a hash, "6600 pictures 8f02...".

    Parameters
    ----------
    images : uint8 N×H×W×3 or any sequence of uint8 H×W×3, whose pixels are hashed (of more than 8192 pictures so many,
        evenly spaced); or pictures on disk that are read when asked for (they have ``paths``), whose names, sizes and
        times of change are

    Raises
    ------
    ImageError
        if such a picture is no longer there
    """
    found = hashlib.blake2b(digest_size=8)
    if hasattr(images, "paths"):
        for path in images.paths:
            try:
                stat = os.stat(path)
            except FileNotFoundError:
                raise ImageError(f"{path}: there is no such file") from None
            found.update(os.fsencode(os.path.basename(path)) + f"\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    else:
        places = np.linspace(0, len(images) - 1, min(len(images), LOOKED_AT)).round().astype(int)
        for place in places.tolist():
            image = np.ascontiguousarray(images[place])
            found.update(f"{image.shape}{image.dtype}".encode())
            found.update(image)
    return f"{len(images)} pictures {found.hexdigest()}"


# ---------------------------------------------------------------------------------------------------------------------
# The folder


class RunFolder:
    """The folder ``out`` of a run; a context manager that keeps every other run out of it.

    Parameters
    ----------
    settings : what must be the same when the run goes on (plain numbers, strings, lists and dictionaries of them)
    free : names of settings that may change
    writes : False in all but one of several processes that train together: they read, and write nothing

    Raises
    ------
    TrainingError
        on entering: if another run is in the folder, or was there with other settings (the message names them), or if
        the folder or its state cannot be read or written. Folders of earlier versions are understood; they know fewer
        settings, and those that they do not know are not compared.
    """

    def __init__(self, out: str | Path, settings: dict, free: tuple[str, ...] = ("epochs",), writes: bool = True):
        self.out, self.free, self.writes = Path(out), free, writes
        self.settings = json.loads(json.dumps(settings))
        self.path = self.out / "state.pt"
        self._content: dict | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "RunFolder":
        try:
            if self.writes:
                with write_errors(self.out):
                    self.out.mkdir(parents=True, exist_ok=True)
                    self._stack.enter_context(locked(self.out))
                    for left in self.out.glob("*.part"):  # by a run that was killed while it wrote
                        left.unlink()
            self._content = self._read()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error) -> None:
        self._content = None
        self._stack.close()

    def load(self, parts: dict[str, object]) -> dict:
        """Fill ``parts`` (name -> module, optimiser, whatever has a state dict) from the state, where there is one.

        Returns
        -------
        the plain values that were saved beside them; {} in a fresh folder
        """
        content, self._content = self._content, None
        if content is None:
            return {}
        for name, part in parts.items():
            try:
                _fill(part, content["parts"].get(name))
            except Exception as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise TrainingError(
                    f"{self.out} holds another run: its state does not fit {name} ({reason}); choose another folder"
                ) from None
        return content["plain"]

    def save(self, parts: dict[str, object], **plain) -> None:
        """Write the state of ``parts`` and plain values (numbers, strings, lists, dictionaries), whole or not at all.

        What is saved is what the run goes on from, so see to it that it is finite (:func:`holds_nan`).
        """
        if not self.writes:
            return
        states = {
            name: state_of(part) if isinstance(part, nn.Module) else part.state_dict() for name, part in parts.items()
        }
        content = {"format": FORMAT, "settings": self.settings, "plain": plain, "parts": states}
        with write_errors(self.path):
            atomic_write(self.path, lambda part: torch.save(content, part))

    def write_history(self, records: list[dict]) -> None:
        """``history.jsonl``: a line of JSON for each record."""
        if self.writes:
            path, lines = self.out / "history.jsonl", "".join(json.dumps(r) + "\n" for r in records)
            with write_errors(path):
                atomic_write(path, lambda part: part.write_text(lines, encoding="utf-8"))

    @property
    def resume_hint(self) -> str:
        """How to go on, to end a message with."""
        if not self.path.exists():
            return "nothing was saved yet"
        return f"{self.path} holds everything, the same command goes on from there"

    def _read(self) -> dict | None:
        """The content of the state, if there is one and it is of this run."""
        content = read_state(self.out)
        if content is None:
            return None
        now, then = self.settings, content["settings"]
        names = (now.keys() & then.keys() if content["old"] else now.keys() | then.keys()) - set(self.free)
        changed = [f"{k}: {then.get(k)} -> {now.get(k)}" for k in sorted(names) if now.get(k) != then.get(k)]
        if changed:
            raise TrainingError(
                f"{self.out} holds a run with other settings ({'; '.join(changed)}); choose another folder"
            )
        return content


def read_state(out: str | Path) -> dict | None:
    """What the run in the folder ``out`` saved last, whichever version wrote it; None if it saved nothing yet.

    Returns
    -------
    "settings"; "plain", the plain values; "parts", name -> state dict; "old", whether it knows fewer settings than
    this version records

    Raises
    ------
    TrainingError
        if it is damaged
    """
    path = next((p for p in (Path(out) / "state.pt", Path(out) / "last.pt") if p.exists()), None)
    if path is None:
        return None
    try:
        return _current(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        reason = error if isinstance(error, TrainingError) else type(error).__name__
        raise TrainingError(f"{path} cannot be read ({reason}); remove it to start anew") from None


def steps_done(out: str | Path) -> int:
    """How many steps the run in the folder ``out`` has saved; 0 where there is none."""
    state = read_state(out)
    return state["plain"]["done"] if state else 0


HISTORIES = ("history.jsonl", "history.json")  # the second was written by earlier versions


def read_history(out: str | Path) -> list[dict]:
    """The records of the run in the folder ``out``, or of a file of records itself.

    Raises
    ------
    TrainingError
        if there is none, or if it is damaged
    """
    path = Path(out)
    if path.is_dir():
        path = next((path / name for name in HISTORIES if (path / name).exists()), path / HISTORIES[0])
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read as a history ({error})") from None


def averaged_network(
    out: str | Path, build: Callable[[dict], nn.Module], what: str, noted: Sequence[str] = ()
) -> tuple[nn.Module, dict, dict]:
    """The network of the run in the folder ``out`` with its averaged weights, trained to the end or not.

    Parameters
    ----------
    build : the untrained network from the run's settings; a KeyError says that they are not those of such a network
    what : its name, for the error
    noted : settings that the facts repeat, where the run has them

    Returns
    -------
    network, settings of the run, facts for a checkpoint: steps, images seen, ``noted``, hours, the last record

    Raises
    ------
    TrainingError
        if there is no such run, or it is another network's
    """
    state = read_state(out)
    if state is None:
        raise TrainingError(f"{out}: holds no run; nothing was saved there yet")
    settings, plain, average = state["settings"], state["plain"], state["parts"].get("ema0")
    try:
        model = build(settings)
    except KeyError:
        average = model = None
    if average is None or differences(state_of(model), average):
        raise TrainingError(f"{out}: holds a run of another network than the {what}")
    fill(model, average)
    done, seconds = plain["done"], plain.get("seconds", math.nan)  # runs of earlier versions did not note them
    about = {"steps": done, "images_seen": done * settings["batch_size"]}
    about |= {name: settings[name] for name in noted if name in settings}
    if done < settings["steps"]:
        about["stopped"] = f"stopped after {done} of {settings['steps']} steps"
    if math.isfinite(seconds):
        about["hours"] = float(f"{seconds / 3600:.3g}")
    return model, settings, about | {"history": plain["history"][-1] if plain["history"] else None}


def holds_nan(parts: dict[str, object]) -> bool:
    """Does any module among ``parts`` hold a parameter that is NaN or infinite?"""
    modules = [part for part in parts.values() if isinstance(part, nn.Module)]
    return any(not bool(torch.nn.utils.get_total_norm(list(m.parameters())).isfinite()) for m in modules)


def _current(content: dict) -> dict:
    """The content of a state file of any version, as this one writes it; ``old`` says that it knows fewer settings."""
    if "format" in content:
        if content["format"] > FORMAT:
            raise TrainingError("a later version wrote it")
        return {name: content[name] for name in ("settings", "plain", "parts")} | {"old": False}
    if "recipe" in content:  # last.pt of the thesis's training
        parts = {k: content[k] for k in ("model", "optimiser", "scaler", "ema") if k in content}
        plain = {k: v for k, v in content.items() if k != "recipe" and k not in parts}
        known = {"images": plain["images"]} if "images" in plain else {}
        return {"settings": content["recipe"] | known, "plain": plain, "parts": parts, "old": True}
    parts = {k.removeprefix("state."): v for k, v in content.items() if k.startswith("state.")}
    plain = {"done": content["done"], "history": content["history"]}
    return {"settings": content["settings"], "plain": plain, "parts": parts, "old": True}


def _fill(part, state: dict | None) -> None:
    if state is None:
        if part.state_dict():  # a scaler that does nothing has no state, and older files do not name it
            raise TrainingError("it is not there")
    elif isinstance(part, nn.Module):
        fill(part, bare_names(state, state_of(part)))
    else:
        part.load_state_dict(state)


@contextmanager
def stop_on_signals():
    """Inside, Ctrl-C and SIGTERM are noted, so that a run can end after a step; a second one ends it at once.

    Gives a function that tells whether a signal has come. Outside the main thread Python hands out no signals, and
    none ever comes.
    """
    caught = []

    def note(number, frame):
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


# ---------------------------------------------------------------------------------------------------------------------
# The loop


def batch_of(pairs, step: int, batch_size: int):
    """The training batch of ``step`` (from 0): every epoch in another order, which the seed of ``pairs`` decides.

    Parameters
    ----------
    pairs : a :class:`helpers.pairs.Pairs`, or what has a length, ``seed`` and ``batch(indices, epoch)`` like it
    """
    if len(pairs) < batch_size:
        raise TrainingError(f"{len(pairs)} training images are fewer than one batch of {batch_size}")
    indices, epoch = indices_of(len(pairs), pairs.seed, step, batch_size)
    return pairs.batch(indices.tolist(), epoch)


def run(
    out: str | Path | None,
    settings: dict,
    parts: dict,
    step: Callable[[int], dict[str, float]],
    steps: int,
    emas: tuple[Ema, ...] = (),
    save_every: int = 250,
    validate: Callable[[], dict[str, float]] | None = None,
    validate_every: int | None = None,
    desc: str = "train",
    progress: bool = True,
    go_on: bool = True,
    look_every: int = 1,
) -> list[dict]:
    """Call ``step(0)``, ``step(1)``, ... up to ``steps``, or from where the folder ``out`` says the run stopped.

    Parameters
    ----------
    out : None keeps nothing: for a training that is not worth going on with
    settings : what must be the same when the run goes on, see :class:`RunFolder`; ``seed`` among them
    parts : name -> module or optimiser, everything that a step changes
    step : does one update, gives the parts of its loss (numbers or tensors of one); raises nothing, a NaN is found here
    emas : averages to update after each step
    save_every : steps between two records of the history; the state is saved with each
    validate : gives measures on the validation set; they enter the record as ``val_...``
    validate_every : steps between two validations at least, which happen at a record; by default at each of them
    go_on : False takes no step and only fills ``parts`` and ``emas``, as far as the run in ``out`` has come
    look_every : steps between two looks at the losses, which make a GPU wait; a record looks as well

    Returns
    -------
    the history: the mean of each part over every ``save_every`` steps, with the number of steps done. The state also
    counts the ``seconds`` that the steps took, all sittings together (NaN where an earlier version began the run).

    Raises
    ------
    TrainingError
        if the loss or the weights are no longer finite (``state.pt`` is then the last good state), if the folder is
        another run's, if the disk is full
    Stopped
        after Ctrl-C or SIGTERM: the step was finished and its state saved
    """
    parts = {**parts, **{f"ema{i}": ema.module for i, ema in enumerate(emas)}}
    seed = settings.get("seed", SEED)
    with RunFolder(out or os.devnull, settings, writes=out is not None) as folder, stop_on_signals() as stop:
        loaded = folder.load(parts)
        state = {"done": 0, "history": [], "sums": {}, "count": 0, "seconds": math.nan if loaded else 0.0} | loaded
        if state["history"]:  # the run may have been killed between two files, or be of an earlier version
            folder.write_history(state["history"])
        done, started, unseen = state["done"], time.monotonic() - state["seconds"], []
        with tqdm(total=steps, initial=min(done, steps), desc=desc, unit="step", disable=not progress) as bar:
            for number in range(done, steps if go_on else 0):
                seed_everything((seed * 1_000_003 + number) % 2**32)  # a step's draws are its own, whenever it is run
                unseen.append((number, step(number)))
                for ema in emas:
                    ema.update(number)
                bar.update()
                record, asked = (number + 1) % save_every == 0 or number + 1 == steps, stop()
                if record or asked or len(unseen) >= look_every:
                    _add(state, unseen, folder)
                if not record and not asked:
                    continue
                if holds_nan(parts):
                    raise TrainingError(f"step {number + 1}: the weights are not finite; {_last_good(folder)}")
                if record:
                    _record(state, number + 1, validate, validate_every, number + 1 == steps)
                    shown = {k: f"{v:.4f}" for k, v in state["history"][-1].items() if k != "step"}
                    bar.set_postfix(shown, refresh=False)
                folder.save(parts, **state | {"seconds": time.monotonic() - started})
                folder.write_history(state["history"])
                if asked and number + 1 < steps:
                    raise Stopped(f"stopped after step {number + 1}; {folder.resume_hint}")
    return state["history"]


def _add(state: dict, unseen: list[tuple[int, dict]], folder: RunFolder) -> None:
    """Add the losses of steps that nobody has looked at, (number, values) each, to the sums since the last record."""
    for number, values in unseen:
        numbers = {k: float(v) for k, v in values.items()}
        if not all(map(math.isfinite, numbers.values())):
            raise TrainingError(f"step {number + 1}: the loss is not finite: {numbers}; {_last_good(folder)}")
        state["sums"] = {k: state["sums"].get(k, 0.0) + v for k, v in numbers.items()}
        state |= {"count": state["count"] + 1, "done": number + 1}
    unseen.clear()


def _record(state: dict, done: int, validate: Callable | None, validate_every: int | None, last: bool) -> None:
    """Append the means since the last record to the history, and the validation's measures where it is their turn."""
    record = {"step": done, **{k: v / state["count"] for k, v in state["sums"].items()}}
    if validate:
        before = max((r["step"] for r in state["history"] if any(k.startswith("val_") for k in r)), default=0)
        if last or done - before >= (validate_every or 0):
            record |= {f"val_{k}": float(v) for k, v in validate().items()}
    state["history"] = [*state["history"], record]
    state["sums"], state["count"] = {}, 0


def _last_good(folder: RunFolder) -> str:
    return f"{folder.path} is the last good state" if folder.path.exists() else "nothing was saved yet"
