"""helpers.engine.distributed: two processes with half a batch each normalise and learn as one with all of it."""

import pandas as pd
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from helpers.engine.acceleration import accelerator_for
from helpers.engine.distributed import SyncBatchNorm, mean_of_all, rows_of_all, share, synchronise


def net_and_batch(kind=nn.BatchNorm2d):
    """A small network with batch norm that has seen something, and a batch of six far from mean 0."""
    generator = torch.Generator().manual_seed(3)
    shape = (6, 3, 5, 4) if kind is nn.BatchNorm2d else (6, 3)
    x = torch.randn(shape, generator=generator) * 2 + 30
    norm = kind(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
        norm.bias.copy_(torch.tensor([0.0, -1.0, 3.0]))
    return norm, x


def learn(norm, x, weight):
    """Output, gradient of the input, of the weights, and the statistics, for a loss that treats images unequally."""
    x = x.clone().requires_grad_()
    out = norm(x)
    (out.square() * weight.view(-1, *[1] * (x.ndim - 1))).sum().backward()
    return out.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var


def one_of_two(rank, store, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, 2), rank=rank, world_size=2)
    for kind in (nn.BatchNorm2d, nn.BatchNorm1d):
        norm, x = net_and_batch(kind)
        norm = synchronise(norm, torch.device("cpu"))
        half = slice(3 * rank, 3 * rank + 3)
        torch.save(learn(norm, x[half], torch.arange(1.0, 7.0)[half]), f"{results}/{kind.__name__}{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_are_one(tmp_path):
    """Outputs and input gradients of both halves together are those of the whole; weight gradients add up to them."""
    mp.start_processes(one_of_two, (str(tmp_path / "store"), str(tmp_path)), nprocs=2, start_method="spawn")
    for kind in (nn.BatchNorm2d, nn.BatchNorm1d):
        norm, x = net_and_batch(kind)
        whole = learn(norm, x, torch.arange(1.0, 7.0))
        halves = [torch.load(tmp_path / f"{kind.__name__}{rank}.pt", weights_only=True) for rank in (0, 1)]
        for i in (0, 1):
            assert torch.allclose(torch.cat([h[i] for h in halves]), whole[i], atol=2e-4), i
        for i in (2, 3):
            assert torch.allclose(halves[0][i] + halves[1][i], whole[i], rtol=1e-4)
        for i in (4, 5):
            assert torch.allclose(halves[0][i], whole[i]) and torch.equal(halves[0][i], halves[1][i])


@pytest.mark.parametrize("training", [True, False])
def test_one_process_is_plain_batch_norm(training):
    norm, x = net_and_batch()
    plain, _ = net_and_batch()
    ours = synchronise(nn.Sequential(norm), torch.device("cpu"))
    assert isinstance(ours[0], SyncBatchNorm) and ours[0].weight is norm.weight
    assert torch.equal(ours.train(training)(x), plain.train(training)(x))
    assert ours[0].state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(norm.running_var, plain.running_var)


def test_on_cuda_torchs_own_is_taken():
    """The conversion alone, which needs no GPU; its arithmetic was not run here."""
    norm, _ = net_and_batch()
    theirs = synchronise(nn.Sequential(norm), torch.device("cuda"))
    assert isinstance(theirs[0], nn.SyncBatchNorm) and theirs[0].weight is norm.weight


def test_one_process_alone_shares_nothing():
    """The module itself, its own numbers, its own rows; several processes: tests/test_training.py."""
    norm, _ = net_and_batch()
    accelerator, table = accelerator_for("no"), pd.DataFrame({"PSNR": [20.0, 30.0]}, index=[3, 4])
    model = nn.Sequential(norm)
    assert share(model, accelerator) is model and type(model[0]) is nn.BatchNorm2d
    assert mean_of_all(accelerator, {"total": torch.tensor(0.5), "l1": 1}) == {"total": 0.5, "l1": 1.0}
    assert mean_of_all(accelerator, {}) == {}
    assert rows_of_all(accelerator, table)["PSNR"].tolist() == [20.0, 30.0]
