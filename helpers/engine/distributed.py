"""Several processes that train as one would: shared gradients, shared batch normalisation, shared means.

Gradients are averaged by PyTorch's DistributedDataParallel. Batch normalisation looks at the images of all processes:
``torch.nn.SyncBatchNorm`` does this on CUDA and refuses tensors of the CPU; for these :class:`SyncBatchNorm` does it.
Without it each process would normalise with the statistics of its own part, and a run's result would depend on the
number of processes.
"""

import pandas as pd
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel


def share(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """What to call in a step for ``model``, which stays the module to validate and save.

    Alone, ``model`` itself. Of several processes, a module that averages the gradients; the batch norm of ``model`` is
    then over all processes. (``accelerator.prepare`` would also change ``model`` itself, so that validation ran in
    16 bits.)
    """
    if accelerator.num_processes == 1:
        return model
    model = synchronise(model, accelerator.device)
    devices = [accelerator.device] if accelerator.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)


def mean_of_all(accelerator: Accelerator, values: dict) -> dict[str, float]:
    """Each number's mean over the processes."""
    if accelerator.num_processes > 1 and values:
        numbers = torch.tensor([float(v) for v in values.values()], dtype=torch.float64, device=accelerator.device)
        values = dict(zip(values, accelerator.reduce(numbers, "mean").tolist(), strict=True))
    return {k: float(v) for k, v in values.items()}


def rows_of_all(accelerator: Accelerator, table: pd.DataFrame | None) -> pd.DataFrame:
    """The rows of every process's table in one; a process may have none."""
    tables = gather_object([table]) if accelerator.num_processes > 1 else [table]
    return pd.concat([t for t in tables if t is not None], ignore_index=True)


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes. Each process's loss depends on it, so the gradients are summed too."""

    @staticmethod
    def forward(ctx, tensor):
        tensor = tensor.contiguous().clone()
        dist.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


class SyncBatchNorm(_BatchNorm):
    """Batch norm with mean and variance over the parts of all processes, which must be of equal size.

    In evaluation mode, and where there is one process, plain batch norm. Computes in float32 in 16-bit training too.
    """

    def _check_input_dim(self, input):
        if input.ndim < 2:
            raise ValueError(f"expected N×C or N×C×..., got {input.ndim} dimensions")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        dims, shape = [0, *range(2, input.ndim)], [1, -1] + [1] * (input.ndim - 2)
        count = input.numel() // input.shape[1] * dist.get_world_size()
        values = input.float()
        mean = _Sum.apply(values.sum(dims)) / count
        # Two sums one after the other: E[x²] - E[x]² would lose the digits that chapter 10 shows.
        centred = values - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(dims)) / count
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean.detach(), self.momentum)
                self.running_var.lerp_(variance.detach() * (count / (count - 1)), self.momentum)
        out = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)


def synchronise(model: nn.Module, device: torch.device) -> nn.Module:
    """``model`` with every batch norm over all processes; weights, statistics and their names stay as they are."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = SyncBatchNorm  # in place: parameters, buffers and settings are the same
    return model
