"""helpers.engine.acceleration: what a training is told of its device, and what compiling leaves behind."""

import os
from unittest import mock

import pytest
import torch

from helpers.engine.acceleration import accelerator_for, compiled, look_every, processes
from helpers.engine.errors import TrainingError
from helpers.losses import TotalLoss
from tests.test_training import CHEAP, CODE, SmallModel


def test_one_process_by_itself():
    here = processes()
    assert (here.process_index, here.num_processes, here.is_main_process) == (0, 1, True)
    assert here.device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_variable_keeps_it_off_the_gpu():
    with mock.patch.dict(os.environ, {"ACCELERATE_USE_CPU": "true"}):
        assert processes().device == accelerator_for("no").device == torch.device("cpu")
    processes()


@pytest.mark.parametrize("asked", [1, 2, 5])
@pytest.mark.parametrize("variable", ["4", None])
def test_accumulation_is_what_is_asked_for(asked, variable):
    """accelerate itself lets the variable overrule the argument; here it counts for nothing."""
    with mock.patch.dict(os.environ, {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": variable} if variable else {}):
        accelerator, layer, updates = accelerator_for("no", asked), torch.nn.Linear(1, 1), 0
        for _ in range(10):
            with accelerator.accumulate(layer):
                updates += accelerator.sync_gradients
    assert accelerator.gradient_accumulation_steps == asked and updates == 10 // asked


def test_one_precision_after_the_other():
    """Accelerate keeps the first of a process unless it is told to forget."""
    assert [accelerator_for(p).mixed_precision for p in ("bf16", "no", "bf16")] == ["bf16", "no", "bf16"]


def test_a_gpu_is_not_waited_for():
    assert look_every(torch.device("cpu")) == 1 and look_every(torch.device("cuda")) > 10


def start(random_lpips):
    torch.manual_seed(0)
    return SmallModel(**CODE), TotalLoss(random_lpips, CHEAP), accelerator_for("no")


def test_a_processor_does_not_compile_by_itself(random_lpips):
    model, loss, accelerator = start(random_lpips)
    assert compiled(model, loss, accelerator, (4, 64, 64), None) == (model, loss, 0.0)


def test_warming_up_leaves_no_trace(random_lpips, monkeypatch):
    """Weights, the statistics of batch norm and gradients are as before; its seconds are told."""
    model, loss, accelerator = start(random_lpips)
    before, calls = {k: v.clone() for k, v in model.state_dict().items()}, []
    monkeypatch.setattr(torch, "compile", lambda module: lambda *x: calls.append(len(x[0])) or module(*x))
    network, fused, seconds = compiled(model, loss, accelerator, (3, 64, 64), True)
    assert calls == [3, 3, 3, 3] and seconds > 0 and network is not model and fused is not loss
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_what_was_asked_for_and_fails_is_told(random_lpips, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no compiler\nwas found")

    model, loss, accelerator = start(random_lpips)
    monkeypatch.setattr(torch, "compile", lambda module: broken)
    with pytest.raises(TrainingError, match=r"torch.compile failed \(RuntimeError: no compiler\); train without it"):
        compiled(model, loss, accelerator, (4, 64, 64), True)
