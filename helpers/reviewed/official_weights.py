"""The authors' published weights: read without executing anything in their files.

* NVIDIA's StyleGAN2-ADA nets are pickles that carry Python source and run it when loaded. :func:`read_stylegan_pickle`
  goes through such a file with an unpickler that knows tensors and containers and refuses everything else.
* DiffIR's files are dicts ``{"params", "params_ema"}`` of tensors, which PyTorch itself can read safely.

In a shell::

    python -m helpers.reviewed.official_weights stylegan ffhq.pkl ffhq.safetensors
    python -m helpers.reviewed.official_weights diffir Deblurring-DiffIRS2.pth diffir.safetensors
"""

import collections
import io
import pickle
import pickletools
import zipfile
from pathlib import Path

import torch
from torch import nn

from helpers.engine.checkpoints import CheckpointError, differences, save_checkpoint
from helpers.engine.commands import bare_parser
from helpers.reviewed.diffir import DiffIRS1, DiffIRS2
from helpers.reviewed.stylegan import Generator


class _Persistent:
    """What is left of a network object: its state, without its code."""

    def __init__(self, meta: dict):
        self.state = meta.get("state", {}) if isinstance(meta, dict) else {}


class _Bag(dict):
    """NVIDIA's dict with attribute access, as a plain dict."""


class _Ignored:
    """Something that weights do not consist of, such as a layer's gain as a NumPy number: read and forgotten."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def _encode(text: str, encoding: str) -> bytes:
    """How old pickles write bytes."""
    if encoding != "latin1":
        raise CheckpointError(f"the pickle asks for the encoding {encoding!r}; refused, nothing was run")
    return text.encode("latin1")


def _safe_storage(data: bytes):
    _no_larger_inside(io.BytesIO(data))
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _rebuild_parameter(data: torch.Tensor, requires_grad: bool, hooks) -> nn.Parameter:
    return nn.Parameter(data, requires_grad)


_ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("dnnlib.util", "EasyDict"): _Bag,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Persistent,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): _safe_storage,
    ("numpy.core.multiarray", "scalar"): _Ignored,
    ("numpy._core.multiarray", "scalar"): _Ignored,
    ("numpy", "dtype"): _Ignored,
    ("_codecs", "encode"): _encode,
}


def _no_larger_inside(file) -> None:
    """PyTorch's archives are not compressed: one that holds more than its size is meant to fill the memory."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            inside = sum(member.file_size for member in archive.infolist())
        if inside > file.seek(0, io.SEEK_END):
            raise CheckpointError(f"an archive that would grow to {inside:,} bytes; refused")
    file.seek(0)


def _no_far_places(file) -> None:
    """A pickle numbers what it remembers; the unpickler reserves memory for all numbers below the largest."""
    for count, (operation, number, _) in enumerate(pickletools.genops(file)):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and number > count:
            raise CheckpointError(f"the pickle remembers its thing number {count} as number {number}; refused")
    file.seek(0)


class _TensorsOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise CheckpointError(f"the pickle asks for {module}.{name}, which no weights need; refused, nothing was run")


def read_stylegan_pickle(path: str | Path, network: str = "G_ema") -> dict[str, torch.Tensor]:
    """The state dict of a network in NVIDIA's pickle: names such as ``synthesis.b4.const``.

    Raises
    ------
    CheckpointError
        if the file asks for anything but tensors and containers, is damaged, or holds no such network
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            _no_far_places(file)
            content = _TensorsOnly(file).load()
        found, state = content.get(network) if isinstance(content, dict) else None, {}
        if not isinstance(found, _Persistent):
            raise CheckpointError(f"holds no network {network!r}")
        _collect(found, "", state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except Exception as error:
        raise CheckpointError(f"{path}: is no pickle of NVIDIA's networks ({type(error).__name__})") from None
    return state


def _collect(node, prefix: str, state: dict) -> None:
    if not isinstance(node.state, dict):
        return
    for kind in ("_parameters", "_buffers"):
        for name, value in (node.state.get(kind) or {}).items():
            if isinstance(value, torch.Tensor):
                if value.nbytes > value.untyped_storage().nbytes():
                    raise CheckpointError(f"{prefix}{name} has more elements than the file holds; refused")
                state[prefix + name] = value.detach().float()
    for name, child in (node.state.get("_modules") or {}).items():
        if isinstance(child, _Persistent):
            _collect(child, f"{prefix}{name}.", state)


def generator_of(state: dict[str, torch.Tensor]) -> Generator:
    """A ``Generator`` of the width, depth and resolution of ``state``, filled with it."""
    try:
        sizes = sorted(
            int(k.split(".")[1][1:]) for k in state if k.startswith("synthesis.b") and k.endswith("torgb.bias")
        )
        widths = {r: state[f"synthesis.b{r}.conv1.weight"].shape[0] for r in sizes}
        layers = sum(k.startswith("mapping.fc") and k.endswith("weight") for k in state)
        w_dim = state["mapping.w_avg"].shape[0]
        z_dim = state["mapping.fc0.weight"].shape[1] if layers else w_dim
        # Widths are min(base / resolution, max): the last resolution tells the base, the widest block the maximum.
        shape = z_dim, w_dim, sizes[-1], widths[sizes[-1]] * sizes[-1], max(widths.values()), layers
        if _numbers(*shape) > sum(value.numel() for value in state.values()):  # before memory is taken for them
            raise ValueError(f"fewer numbers than {sizes[-1]} pixels and a latent of {w_dim} take")
        model = Generator(*shape)
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(f"these are not the weights of a StyleGAN2 generator ({error})") from None
    _fits(model, state, "StyleGAN2's generator")
    model.load_state_dict(state)
    return model


def _numbers(z_dim: int, w_dim: int, size: int, base: int, most: int, layers: int) -> int:
    """How many numbers a ``Generator`` of these arguments has at least, and about half of what it has at most."""
    sides = [2**i for i in range(2, size.bit_length())]
    widths = [min(base // side, most) for side in sides]
    mapping = w_dim * z_dim + (layers - 1) * w_dim**2 if layers else 0
    return mapping + sum(9 * w * w + w * w_dim + side**2 for w, side in zip(widths, sides, strict=True))


def read_diffir(path: str | Path, model: DiffIRS1 | DiffIRS2) -> None:
    """Fill ``model`` from one of DiffIR's files: the averaged weights, ``params_ema``.

    Stage 2's files hold CPEN and denoiser twice; both copies are read into the same tensors and must be equal.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file:
            _no_larger_inside(file)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be read as tensors alone ({type(error).__name__})") from None
    state = content.get("params_ema") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise CheckpointError(f"{path}: holds no params_ema of tensors, so it is none of DiffIR's files")
    copies = {"diffusion.condition.": "condition.", "diffusion.model.": "denoise."}
    for name, value in state.items():
        for long, short in copies.items():
            first = state.get(short + name[len(long) :]) if name.startswith(long) else None
            if first is not None and not torch.equal(first, value):
                raise CheckpointError(f"{path}: {name} and its copy {short + name[len(long) :]} differ")
    _fits(model, state, type(model).__name__)
    model.load_state_dict(state)


def _fits(model: nn.Module, state: dict[str, torch.Tensor], what: str) -> None:
    wrong = differences(model.state_dict(), state)
    if wrong:
        raise CheckpointError(f"the weights do not fit {what} ({'; '.join(wrong[:4])}; {len(wrong)} in all)")


def main(argv: list[str] | None = None) -> None:
    parser = bare_parser("helpers.reviewed.official_weights", __doc__)
    parser.add_argument("kind", choices=("stylegan", "diffir"))
    parser.add_argument("source")
    parser.add_argument("out", help="a .safetensors file")
    parser.add_argument("--stage", type=int, choices=(1, 2), default=2, help="DiffIR's stage")
    args = parser.parse_args(argv)
    try:
        if args.kind == "stylegan":
            model = generator_of(read_stylegan_pickle(args.source))
        else:
            model = DiffIRS1() if args.stage == 1 else DiffIRS2()
            read_diffir(args.source, model)
    except CheckpointError as error:
        raise SystemExit(f"error: {error}") from None
    save_checkpoint(args.out, model, {"name": args.kind, "source": Path(args.source).name})
    print(f"wrote {args.out}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
