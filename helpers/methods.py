"""Every restoration method of the course behind one call, for tables (notebook 11) and for the inspector.

::

    method = load_method("thesis")
    restored = method.restore(blurred)      # uint8 N×H×W×3 to the same

A method that searches anew for every picture (``slow``) reports its progress to ``on_step``, which can stop it.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from helpers.data import ImageError, denormalise
from helpers.degrade import preset
from helpers.edges import edge_maps, four_channels
from helpers.engine.checkpoints import load_checkpoint, read_about, shipped
from helpers.engine.devices import device_for
from helpers.experiments.skip_model import KNOB, model_of
from helpers.perceptual import load_lpips
from helpers.restorer import Restorer
from helpers.reviewed.approximations import from_params
from helpers.reviewed.autodecoder import small_generator
from helpers.reviewed.diffir import PRIOR, SMALL, DiffIRS2
from helpers.reviewed.inversion import MultiResolutionLoss, invert
from helpers.reviewed.pmrf import SIGMA_S, Pmrf, UNet
from helpers.seeds import SEED
from helpers.wiener import deconvolve

# Called with the steps done and the steps there are; False stops the search.
OnStep = Callable[[int, int], bool]


class Cancelled(RuntimeError):
    """``on_step`` said to stop."""


class Method:
    """What tables and the inspector need to know of a method.

    Attributes
    ----------
    name, title : its key in :data:`TITLES` and what a table calls it
    slow : it optimises each picture for many seconds, so run it on request only
    edge_aware : it looks at an edge map; ``restore`` takes one (``edges``, uint8 N×H×W of 0 and 1) or finds its own
    knows_blur : it needs the blur (``params``), which nobody knows of a real photograph
    networks : the modules that it runs, for counting parameters
    weights : the name of its checkpoint among those that ship; "" for a method without
    trained_for : the preset of :mod:`helpers.degrade` that it was trained for, "celebablur" or "blind"; "" for a method
        that was not, or is told the blur
    about : what made the checkpoint, its JSON; empty for a method that was not trained

    Thesis, Skip, Flow, DiffIR and StyleGan take the ``path`` of another checkpoint than the one that ships.
    """

    name = title = weights = trained_for = ""
    slow = knows_blur = edge_aware = False
    networks: tuple[nn.Module, ...] = ()
    about: dict = {}

    def restore(
        self, blurred: np.ndarray, params: list[dict] | None = None, on_step: OnStep | None = None
    ) -> np.ndarray:
        """Restore pictures: uint8 N×H×W×3 to the same shape.

        Parameters
        ----------
        params : what the degradation drew for each picture; only a method with ``knows_blur`` looks at it
        on_step : see :data:`OnStep`; called by slow methods alone

        Raises
        ------
        Cancelled
            when ``on_step`` gave False
        """
        raise NotImplementedError

    def checkpoint(self, path: str | Path | None) -> str | Path:
        """``path``, or the checkpoint that ships where it is None."""
        return shipped(self.weights) if path is None else path

    @property
    def parameters(self) -> int:
        """Trained numbers that restoring a picture uses."""
        return sum(p.numel() for network in self.networks for p in network.parameters())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.title}, {self.parameters:,} parameters)"


class Thesis(Method):
    """The thesis's own model: DeblurEncoder and Generator (chapter 2)."""

    name, title, edge_aware = "thesis", "thesis's model", True
    weights, trained_for = "thesis", "celebablur"

    def __init__(self, device: str | torch.device | None = None, path: str | Path | None = None):
        self.restorer = Restorer(path, device)
        self.about = self.restorer.about
        self.networks = (self.restorer.model.deblur_encoder, self.restorer.model.generator)

    def restore(self, blurred, params=None, on_step=None, edges=None):
        return self.restorer.restore(blurred, edges)


class Skip(Method):
    """The better model of chapter 13: the thesis's ideas with skip connections (:mod:`helpers.experiments.skip_model`).

    ``knob`` moves it from the mean (0) to the perceptual end (1); by default it stands where the validation faces,
    measured by ``python -m helpers.experiments.skip_training --measure``, put it. What another checkpoint than the
    shipped one was trained for, its JSON says.
    """

    name, title, edge_aware = "skip", "skip model, edge-aware", True
    weights, trained_for = "skip", "celebablur"

    def __init__(self, device: str | torch.device | None = None, path: str | Path | None = None):
        self.device = device_for(device)
        path = self.checkpoint(path)
        self.model = model_of(read_about(path))
        self.about = load_checkpoint(path, self.model)
        self.trained_for = self.about.get("degradation", self.trained_for)
        self.knob = self.about.get("knob", KNOB)
        self.model.to(self.device, memory_format=torch.channels_last).eval()
        self.networks = (self.model.deblur_encoder, self.model.generator)
        self.edge_aware = self.model.deblur_encoder.in_channels == 4

    @torch.no_grad()
    def restore(self, blurred, params=None, on_step=None, edges=None):
        _expect(blurred)
        edges = edge_maps(blurred) if edges is None else edges
        parts = []
        for start in range(0, len(blurred), 25):
            some = slice(start, start + 25)
            inputs = four_channels(blurred[some], edges[some])[:, : self.model.deblur_encoder.in_channels]
            inputs = inputs.to(self.device, memory_format=torch.channels_last)
            parts.append(denormalise(self.model(inputs, knob=self.knob)))
        return np.concatenate(parts)


class Blind(Skip):
    """The skip model trained for photographs whose blur nobody knows (chapter 14): any blur, fewer pixels, noise, JPEG.

    Real portraits, rendered faces, random sizes and colours; :class:`helpers.degrade.Blind` says what was done to them.
    """

    name, title = "blind", "skip model, trained blind"
    weights, trained_for = "blind", "blind"


class Wiener(Method):
    """Wiener's filter with the blur known: classical, without training (:mod:`helpers.wiener`).

    Its one constant, :data:`helpers.wiener.NOISE`, is chosen on validation faces by ``python -m helpers.wiener``.
    """

    name, title, knows_blur = "wiener", "Wiener filter, blur known", True

    def __init__(self, device: str | torch.device | None = None):
        pass

    def restore(self, blurred, params=None, on_step=None):
        return deconvolve(blurred, _params_of(params, blurred))


class Flow(Method):
    """Posterior-Mean Rectified Flow (section 1.3), 25 Euler steps."""

    name, title, steps = "pmrf", "PMRF, 25 steps", 25
    weights, trained_for = "pmrf", "celebablur"

    def __init__(self, device: str | torch.device | None = None, path: str | Path | None = None):
        self.device, path = device_for(device), self.checkpoint(path)
        self.model = Pmrf(read_about(path).get("width", 32))
        self.about = load_checkpoint(path, self.model)
        self.sigma = self.about.get("sigma_s", SIGMA_S)
        self.model.to(self.device, memory_format=torch.channels_last).eval()
        self.networks = (self.model.posterior_mean, self.model.field)

    def restore(self, blurred, params=None, on_step=None):
        def part(images, noise):
            return self.model.restore(images, self.steps, self.sigma, noise)

        return _by_parts(part, blurred, self.device, (3, *blurred.shape[1:3]))


class PosteriorMean(Method):
    """The first stage of PMRF alone: the estimate of E[X | Y]."""

    name, title = "posterior_mean", "posterior mean (PMRF, stage 1)"
    weights, trained_for = "pmrf", "celebablur"

    def __init__(self, device: str | torch.device | None = None):
        self.device, path = device_for(device), shipped(self.weights)
        self.model = UNet(read_about(path).get("width", 32))
        about = load_checkpoint(path, self.model, part="posterior_mean")
        self.about = {k: v for k, v in about.items() if k != "flow_steps"}  # the second stage is not its own
        self.model.to(self.device, memory_format=torch.channels_last).eval()
        self.networks = (self.model,)

    def restore(self, blurred, params=None, on_step=None):
        return _by_parts(lambda images, noise: self.model(images), blurred, self.device)


class DiffIR(Method):
    """DiffIR's second stage (section 1.4): four steps of diffusion for the prior, one pass of DIRformer."""

    name, title = "diffir", "DiffIR"
    weights, trained_for = "diffir", "celebablur"

    def __init__(self, device: str | torch.device | None = None, path: str | Path | None = None):
        self.device, path = device_for(device), self.checkpoint(path)
        self.model = DiffIRS2(**SMALL | {k: v for k, v in read_about(path).items() if k in SMALL})
        self.about = load_checkpoint(path, self.model, part="stage2")
        self.model.to(self.device, memory_format=torch.channels_last).eval()
        self.networks = (self.model,)

    def restore(self, blurred, params=None, on_step=None):
        def part(images, noise):
            return self.model(images, noise=noise)

        return _by_parts(part, blurred, self.device, (PRIOR,))


class StyleGan(Method):
    """Robust StyleGAN inversion (section 1.2): three phases of 150 steps for every picture, the blur known."""

    name, title, slow, knows_blur = "stylegan", "StyleGAN inversion, blur known", True, True
    steps, weights = 150, "stylegan"

    def __init__(self, device: str | torch.device | None = None, path: str | Path | None = None):
        self.device, path = device_for(device), self.checkpoint(path)
        about = read_about(path)
        self.generator = small_generator(about.get("w_dim", 128), about.get("channel_max", 128))
        self.about = load_checkpoint(path, self.generator)
        self.generator.to(self.device).eval()
        self.loss = MultiResolutionLoss(load_lpips(device=self.device))
        self.networks = (self.generator,)

    def restore(self, blurred, params=None, on_step=None):
        params, out, at_once = _params_of(params, blurred), [], 4
        total = -(-len(blurred) // at_once) * 3 * self.steps
        for start in range(0, len(blurred), at_once):
            before = start // at_once * 3 * self.steps
            generator = torch.Generator(self.device).manual_seed(SEED + start)

            def report(done, _, before=before):
                return on_step is None or on_step(before + done, total) is not False

            found = invert(
                self.generator, _to_tensor(blurred[start : start + at_once], self.device),
                from_params(params[start : start + at_once], generator), self.loss, self.steps, on_step=report,
            )  # fmt: skip
            if "W++" not in found.images:
                raise Cancelled(f"stopped after {before + len(found.history)} of {total} steps")
            out.append(_to_bytes(found.images["W++"]))
        return np.concatenate(out)


def _expect(blurred: np.ndarray) -> None:
    if blurred.dtype != np.uint8 or blurred.ndim != 4 or blurred.shape[-1] != 3 or not len(blurred):
        raise ImageError(f"expected 8-bit RGB pictures N×H×W×3, got {blurred.shape} of {blurred.dtype}")


def _params_of(params: list[dict] | None, blurred: np.ndarray) -> list[dict]:
    _expect(blurred)
    if params is None or len(params) != len(blurred):
        raise ValueError("this method needs the blur of every picture: params, a dict for each")
    return params


def _to_tensor(images: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1).float().to(device) / 255


def _to_bytes(images: torch.Tensor) -> np.ndarray:
    """Images in [0, 1], or a little outside, N×3×H×W to uint8 N×H×W×3."""
    return (images.float().clamp(0, 1) * 255).round().to(torch.uint8).movedim(1, -1).cpu().numpy()


@torch.no_grad()
def _by_parts(function, blurred: np.ndarray, device: torch.device, noise_shape=(0,), size: int = 25) -> np.ndarray:
    """``function(images, noise)`` on a few pictures at a time; the noise of a picture depends on its place alone."""
    _expect(blurred)
    out = []
    for start in range(0, len(blurred), size):
        part = _to_tensor(blurred[start : start + size], device)
        generators = [torch.Generator().manual_seed(SEED + start + i) for i in range(len(part))]
        noise = torch.stack([torch.randn(noise_shape, generator=g) for g in generators]).to(device)
        out.append(_to_bytes(function(part, noise)))
    return np.concatenate(out)


METHODS = {m.name: m for m in (Thesis, Skip, Blind, PosteriorMean, Flow, DiffIR, StyleGan, Wiener)}
TITLES = {name: method.title for name, method in METHODS.items()}


def available() -> list[str]:
    """The names of the methods whose weights are there, and of those that need none."""
    return [name for name, method in METHODS.items() if not method.weights or shipped(method.weights).exists()]


def measurable() -> list[str]:
    """The names of the methods that many pictures can be given: fast, and not told how they were blurred."""
    return [name for name, method in METHODS.items() if not method.slow and not method.knows_blur]


def outside(trained_for: str, params: dict[str, float]) -> bool:
    """Whether a degradation lies outside of what a method was trained for, so that it may make the picture worse.

    Parameters
    ----------
    trained_for : :attr:`Method.trained_for`; a method that was not trained is never outside
    params : the degradation's, as ``sample`` gives them ({"sigma": 5.7}); {} for a picture of which nothing is known,
        or that is as sharp as it came
    """
    if trained_for == "celebablur":
        low, high = preset("celebablur").sigma
        return params.keys() != {"sigma"} or not low <= params["sigma"] <= high
    if trained_for == "blind":
        drawn = preset("blind")
        most = {"sigma": drawn.strong, "length": drawn.length, "radius": drawn.radius, "scale": drawn.scale}
        most["noise"] = drawn.noise
        too_much = any(params.get(name, 0) > high for name, (_, high) in most.items())
        return too_much or params.get("quality", 100) < drawn.quality[0]
    return False


def load_method(name: str, device: str | torch.device | None = None) -> Method:
    """A method by name, with the weights that ship; CUDA where there is one.

    Raises
    ------
    CheckpointError
        if its weights are not there; the message says what to do
    """
    if name not in METHODS:
        raise ValueError(f"there is no method {name!r}; choose one of {', '.join(METHODS)}")
    return METHODS[name](device)
