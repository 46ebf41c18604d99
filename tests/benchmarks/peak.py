"""The machine's measured peak, the share of it that training reaches, and a roofline of every layer."""

from copy import deepcopy
from functools import partial

import torch
from torch import nn
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks import ours
from tests.benchmarks.measure import Setup, seconds, spread, wait

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def timed(action, setup: Setup) -> float:
    """Median seconds of a short action, by torch's own timer (it warms up, repeats, and waits for a GPU)."""
    action()
    timer = Timer("action()", globals={"action": action}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=setup.seconds).median


def matrix_peak(setup: Setup, kind: torch.dtype, size: int) -> float:
    """FLOP/s of a product of two size×size matrices: 2·size³ operations."""
    a, b = (torch.randn(size, size, device=setup.device).to(kind) for _ in "ab")
    with torch.no_grad():
        return 2 * size**3 / timed(lambda: a @ b, setup)


def bandwidth(setup: Setup) -> float:
    """Bytes/s that memory moves when 256 MB (far more than any cache) are copied: each is read and written."""
    count = 64_000_000 if setup.seconds > 0.01 else 1_000_000
    a, b = (torch.ones(count, device=setup.device) for _ in "ab")
    return 2 * 4 * count / timed(lambda: b.copy_(a), setup)


def peaks(setup: Setup) -> dict[str, dict[int, float]]:
    """FLOP/s by number format and size of the matrices."""
    # The float32 of a GPU is measured as training uses it: without TF32, unless PyTorch was told otherwise.
    kinds = ("float32", "bfloat16", "float16") if setup.device.type == "cuda" else ("float32", "bfloat16")
    return {kind: {size: matrix_peak(setup, TYPES[kind], size) for size in setup.matrices} for kind in kinds}


def step_flops(setup: Setup, batch_size: int) -> int:
    """Operations of one training step, forward and backward, counted by PyTorch in what the step calls."""
    run = ours.Ours(setup, batch_size, compiled=False)
    counter = FlopCounterMode(display=False)
    inputs, target = run.batch()
    with counter:
        run.forward_backward(inputs, target)
    return counter.get_total_flops()


def peak(setup: Setup) -> dict:
    """Matrix products of several sizes, memory copies, and a training step beside them."""
    found = peaks(setup)
    rows = [
        {"what": f"matrix product {size}×{size}", "precision": kind, "GFLOP/s": speed / 1e9}
        for kind, by_size in found.items()
        for size, speed in by_size.items()
    ]
    rows.append({"what": "memory copy", "GB/s": bandwidth(setup) / 1e9})
    for batch_size in sorted({setup.batch, max(setup.turns)}):
        flops = step_flops(setup, batch_size)
        run = ours.Ours(setup, batch_size)
        batch = run.batch()
        run.step(*batch)
        wait(setup.device)
        took = spread([seconds(partial(run.step, *batch), setup.device) for _ in range(setup.rounds * setup.steps)])
        best = max(found[run.kind].values())
        rows.append(
            {
                "what": f"training step, batch {batch_size}",
                "precision": run.kind,
                "GFLOP/s": flops / took["median"] / 1e9,
                "share of the peak": flops / took["median"] / best,
                "GFLOP": flops / 1e9,
                "ms": 1e3 * took["median"],
            }
        )
    note = (
        "Matrix products by `torch.utils.benchmark`; the operations of a step, forward and backward, LPIPS and SSIM "
        "included, by `torch.utils.flop_counter`. The share is that of the fastest product of the same precision; the "
        "batch lies ready."
    )
    return {"note": note, "rows": rows}


# ---------------------------------------------------------------------------------------------------------------------
# Roofline


def shapes(model: nn.Module, inputs: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Size]:
    """The input's shape of every convolution, transposed convolution and linear layer, by name, in order."""
    found, hooks = {}, []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):

            def remember(_, args, __, name=name):
                found[name] = args[0].shape

            hooks.append(layer.register_forward_hook(remember))
    with torch.no_grad():
        model(inputs, target)
    for hook in hooks:
        hook.remove()
    return found


def describe(layer: nn.Module) -> str:
    """The kind of a layer in words: "conv 3×3 /2, 64→128"."""
    if isinstance(layer, nn.Linear):
        return f"linear {layer.in_features}→{layer.out_features}"
    kind = "transposed conv" if isinstance(layer, nn.ConvTranspose2d) else "conv"
    stride = f" /{layer.stride[0]}" if layer.stride[0] > 1 else ""
    return f"{kind} {layer.kernel_size[0]}×{layer.kernel_size[1]}{stride}, {layer.in_channels}→{layer.out_channels}"


def layers(setup: Setup) -> dict:
    """Every layer alone, forward and backward: time, operations, bytes, and which of the machine's limits binds it."""
    torch.backends.cudnn.benchmark = True  # as training does on a GPU: the fastest kernel for each shape
    run = ours.Ours(setup, setup.batch, compiled=False)
    kind = TYPES[run.kind]
    best = max(max(s.values()) for k, s in peaks(setup).items() if k == run.kind)
    copy = bandwidth(setup)
    rows, measured = [], {}
    names = dict(run.model.named_modules())
    for name, shape in shapes(run.model, *run.batch()).items():
        layer, key = names[name], (describe(names[name]), shape)
        if key not in measured:
            measured[key] = layer_row(layer, shape, kind, setup, best, copy)
            rows.append(
                {"layer": name, "kind": key[0], "input": "×".join(map(str, shape)), **measured[key], "times": 0}
            )
        next(row for row in rows if (row["kind"], row["input"]) == (key[0], "×".join(map(str, shape))))["times"] += 1
    note = (
        f"Batch {setup.batch}, {run.kind}. Each layer alone, forward and backward (`times`: layers of the same "
        f"kind and shape). Bytes are the least that must move: inputs, weights, outputs and their gradients, once each "
        f"way. A layer of fewer operations a byte than the machine's {best / copy:.0f} (peak {best / 1e9:.0f} GFLOP/s, "
        f"copy {copy / 1e9:.1f} GB/s) is bound by memory, however well it is written; `roof` is what it could reach."
    )
    return {"note": note, "peak": best, "bandwidth": copy, "rows": rows}


def layer_row(
    layer: nn.Module, shape: torch.Size, kind: torch.dtype, setup: Setup, best: float, copy: float
) -> dict[str, float | str]:
    """One layer's place under the roofline."""
    layer = deepcopy(layer).to(kind)
    x = torch.randn(shape, device=setup.device).to(kind)
    if x.ndim == 4:
        layer, x = layer.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    first = layer.weight.shape[1] in (3, 4) and not isinstance(layer, nn.ConvTranspose2d)  # an image needs no gradient
    x.requires_grad_(not first)
    grad = torch.randn_like(layer(x))

    def forward_backward():
        layer.zero_grad(set_to_none=True)
        x.grad = None
        layer(x).backward(grad)

    with FlopCounterMode(display=False) as counter:
        forward_backward()
    flops, took = counter.get_total_flops(), timed(forward_backward, setup)
    weights = sum(p.numel() for p in layer.parameters())
    # forward: x, w -> y; backward: x, w, dy -> dw, and dx where it is wanted
    moved = (x.numel() * (2 + (not first)) + weights * (2 + (not first)) + grad.numel() * 2) * x.element_size()
    return {
        "ms": 1e3 * took,
        "GFLOP": flops / 1e9,
        "MB": moved / 1e6,
        "FLOP/byte": flops / moved,
        "GFLOP/s": flops / took / 1e9,
        "roof (GFLOP/s)": min(best, flops / moved * copy) / 1e9,
        "share of the roof": flops / took / min(best, flops / moved * copy),
        "bound by": "computing" if flops / moved > best / copy else "memory",
    }
