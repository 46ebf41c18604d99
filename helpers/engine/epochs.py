"""A run counted in epochs: how far it has come, its records, when it may be saved, and what a failure leaves."""

import math
from contextlib import contextmanager

from accelerate import Accelerator

from helpers.engine.distributed import mean_of_all
from helpers.engine.errors import ImageError, Stopped, TrainingError
from helpers.engine.runs import RunFolder, holds_nan


class NotFinite(TrainingError):
    """The loss or the weights are NaN or infinite."""


class EpochRun:
    """A run counted in epochs that goes on from the state in its folder.

    Parameters
    ----------
    folder : entered; its state fills ``parts``
    parts : everything that a step changes, name -> what has a state dict, or None for what the run does without
    per_epoch : steps of an epoch
    accelerator : the sums of a run on several processes are means over all of them
    warmup_seconds : told in the next record

    Attributes
    ----------
    done : steps so far
    history : the record of each epoch
    sums : of the epoch that is being trained: each part of the loss, summed over the steps
    """

    def __init__(
        self, folder: RunFolder, parts: dict, per_epoch: int, accelerator: Accelerator, warmup_seconds: float = 0.0
    ):
        self.folder, self.per_epoch, self.accelerator = folder, per_epoch, accelerator
        self.parts = {name: part for name, part in parts.items() if part is not None}
        saved = folder.load(self.parts)
        self.history = saved.get("history", [])
        self.done = saved.get("done", len(self.history) * per_epoch)  # earlier versions saved at an epoch's end alone
        self.sums = saved.get("sums", {})
        self.seconds, self.waiting = saved.get("seconds", 0.0), saved.get("waiting", 0.0)
        self.warmup_seconds = warmup_seconds
        folder.write_history(self.history)  # a kill may have come between the state and the history

    @contextmanager
    def step(self):
        """Inside, an error is told with the step in which it happened and what is left of the run."""
        epoch, place = divmod(self.done, self.per_epoch)
        try:
            yield
        except (TrainingError, ImageError) as error:
            text = f"epoch {epoch + 1}, step {place + 1}: {error}"
            raise TrainingError(f"{text}{_what_is_left(error, self.folder)}") from None

    def add(self, losses: dict, seconds: float, waiting: float, look: bool = True) -> None:
        """Count a step: its losses (numbers or tensors), how long it took, how long of that it waited for a batch.

        Raises
        ------
        NotFinite
            with ``look``, if a loss since the epoch began was not finite
        """
        self.done += 1
        self.sums = {k: self.sums.get(k, 0.0) + v for k, v in losses.items()}
        self.seconds, self.waiting = self.seconds + seconds, self.waiting + waiting
        if look and not all(math.isfinite(v) for v in self.sums.values()):
            raise NotFinite("the loss is not finite")

    def end_epoch(self, measures: dict, images_seen: int, learning_rate: float) -> dict:
        """The record of the epoch that ends with this step, which is added to the history.

        Parameters
        ----------
        measures : of the validation set; they enter the record as ``val_...``
        """
        record = {
            "epoch": len(self.history) + 1,
            "images_seen": images_seen,
            "learning_rate": learning_rate,
            **{k: v / self.per_epoch for k, v in mean_of_all(self.accelerator, self.sums).items()},
            **{f"val_{k}": float(v) for k, v in measures.items()},
            "seconds": round(self.seconds, 2),
            "waiting_seconds": round(self.waiting, 2),
            "warmup_seconds": round(self.warmup_seconds, 2),
            "images_per_second": round(images_seen / self.done * self.per_epoch / self.seconds, 2),
        }
        self.history = [*self.history, record]
        self.sums, self.seconds, self.waiting, self.warmup_seconds = {}, 0.0, 0.0, 0.0
        return record

    def require_finite(self) -> None:
        """Raise :class:`NotFinite` if a weight, or a loss since the epoch began, is NaN or infinite."""
        if holds_nan(self.parts) or not all(map(math.isfinite, mean_of_all(self.accelerator, self.sums).values())):
            raise NotFinite("the loss or the weights are not finite")

    def save(self) -> None:
        """Write the state and the history, unless something is not finite."""
        self.require_finite()
        sums = mean_of_all(self.accelerator, self.sums)
        plain = {"done": self.done, "history": self.history, "seconds": self.seconds, "waiting": self.waiting}
        self.folder.save(self.parts, sums=sums, **plain)
        self.folder.write_history(self.history)

    def stopped(self) -> Stopped:
        """What to raise after a stop that was asked for and saved."""
        epoch, place = divmod(self.done, self.per_epoch)
        where = f"in epoch {epoch + 1} after step {place}" if place else f"after epoch {epoch}"
        return Stopped(f"stopped {where}; {self.folder.resume_hint}")


def _what_is_left(error: Exception, folder: RunFolder) -> str:
    """The end of a message: what of the run is safe after ``error``, and what helps."""
    if isinstance(error, NotFinite):
        best = folder.out / "best.safetensors"
        safe = f"Nothing is lost: {best} is the last good checkpoint" if best.exists() else "No epoch was completed"
        return f". {safe}; a smaller learning rate, or precision='no', is the usual cure."
    return f"; {folder.resume_hint}" if isinstance(error, ImageError) else ""
