"""LPIPS (equations 36 and 47) with a trunk that is found without a network connection.

The package ``lpips`` brings its learned channel weights w_l; the AlexNet beneath, 233 MB as a whole, it would download.
:func:`load_lpips` looks for it in this order:

1. a file named by the argument or by the environment variable ``LPIPS_TRUNK`` (a state dict with ``features.*``)
2. torch hub's cache, where an earlier download lies
3. a download, unless ``COURSE_OFFLINE`` is set
4. else a random trunk from a fixed seed, with a warning; every table then says "LPIPS (random trunk)"
"""

import importlib.util
import os
import socket
import warnings
from pathlib import Path

import torch
from torch import nn

ALEXNET_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"


class Lpips(nn.Module):
    """Perceptual distance of two batches of images in [-1, 1], N×3×H×W: N values, 0 for equal images.

    ``name`` says what it is: "LPIPS", or "LPIPS (random trunk)" where AlexNet's weights could not be found.
    """

    def __init__(self, trunk: dict[str, torch.Tensor] | None):
        super().__init__()
        rng = torch.random.get_rng_state()
        torch.default_generator.manual_seed(0)  # the random trunk is the same one everywhere; built on the CPU
        self.trunk = _alexnet_features()
        torch.random.set_rng_state(rng)
        self.name = "LPIPS (random trunk)" if trunk is None else "LPIPS"
        if trunk is not None:
            self.trunk.load_state_dict({name: trunk["features." + name] for name in self.trunk.state_dict()})
        for layer, weights in enumerate(_package_weights()):
            self.register_buffer(f"weights{layer}", weights)
        # What the package subtracts from images in [-1, 1] and divides them by, before AlexNet sees them.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[None, :, None, None])
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True):
        """Stays in evaluation mode: the trunk has dropout, and the metric is never trained."""
        return super().train(False)

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """φ_l of equation 47: the activations after AlexNet's five ReLUs."""
        x, found = (images - self.shift) / self.scale, []
        for layer in self.trunk:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x)
        return found

    def unit_features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The same with every pixel's channel vector scaled to length 1, which equation 47 leaves out."""
        # The clamp keeps the gradient finite where all channels are 0; float32, because differences are taken next.
        return [
            f / f.square().sum(1, keepdim=True).clamp(min=1e-20).sqrt()
            for f in map(torch.Tensor.float, self.features(images))
        ]

    def channel_weights(self) -> list[torch.Tensor]:
        """The learned weights of each layer's squared differences, 1×C×1×1 (equation 47's w_l, squared)."""
        return [getattr(self, f"weights{layer}") for layer in range(5)]

    def forward(self, restored: torch.Tensor, target: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
        """Equation 47 for each pair of images; the gradient flows to ``restored`` alone.

        ``target`` may be the images' :meth:`unit_features`, computed once where many are compared with the same.
        """
        if isinstance(target, torch.Tensor):
            with torch.no_grad():
                target = self.unit_features(target)
        layers = zip(self.unit_features(restored), target, self.channel_weights(), strict=True)
        return sum((w * (a - b).square()).sum(1).mean((1, 2)) for a, b, w in layers)

    def __repr__(self) -> str:
        return f"Lpips({self.name})"


def _alexnet_features() -> nn.Sequential:
    """AlexNet up to its last ReLU, numbered as torchvision's ``features``; importing torchvision would take seconds."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True),
    )  # fmt: skip


def _package_weights() -> list[torch.Tensor]:
    """The learned channel weights of the package ``lpips``, 1×C×1×1 for each of the five layers.

    They are read from its file without importing it, since it imports torchvision.
    """
    package = Path(importlib.util.find_spec("lpips").submodule_search_locations[0])
    state = torch.load(package / "weights" / "v0.1" / "alex.pth", map_location="cpu", weights_only=True)
    return [state[f"lin{layer}.model.1.weight"] for layer in range(5)]


def load_lpips(trunk: str | Path | None = None, device: str | torch.device = "cpu") -> Lpips:
    """The metric, with the best trunk that is at hand (see the head of this module).

    Parameters
    ----------
    trunk : a file that holds AlexNet's ``features.*`` as a state dict; an error if it does not
    """
    given = trunk or os.environ.get("LPIPS_TRUNK")
    if given:
        return Lpips(_read_trunk(Path(given))).to(device)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET_URL.rsplit("/", 1)[1]
    if cached.exists():
        return Lpips(_read_trunk(cached)).to(device)
    if not os.environ.get("COURSE_OFFLINE"):
        try:
            socket.create_connection(("download.pytorch.org", 443), timeout=3).close()  # fails fast without a network
            torch.hub.load_state_dict_from_url(ALEXNET_URL, weights_only=True)
            return Lpips(_read_trunk(cached)).to(device)
        except Exception:
            pass  # no network, or none that allows it: said below
    warnings.warn(
        "AlexNet's weights are neither on this machine nor to be downloaded, so LPIPS works on a random trunk: its "
        "values are no LPIPS, only comparable with each other. Set LPIPS_TRUNK to a file with AlexNet's features.* "
        "(torchvision's alexnet-owt-7be5be79.pth).",
        stacklevel=2,
    )
    return Lpips(None).to(device)


def _read_trunk(path: Path) -> dict[str, torch.Tensor]:
    """A state dict with AlexNet's ``features.*``; never executes what is in the file."""
    if not path.exists():
        raise FileNotFoundError(f"the LPIPS trunk {path} does not exist (argument trunk, or LPIPS_TRUNK)")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        ok = state["features.0.weight"].shape == (64, 3, 11, 11) and state["features.10.weight"].shape[0] == 256
    except Exception as error:
        raise ValueError(f"{path} cannot be read as AlexNet's weights ({type(error).__name__})") from None
    if not ok:
        raise ValueError(f"{path} does not hold AlexNet's features.* as torchvision names them")
    return state
