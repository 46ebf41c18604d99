"""helpers.perceptual: equation 47 as the lpips package computes it, and a trunk that is found or refused."""

import os
import pickle
import subprocess
import sys
import warnings

import pytest
import torch

from helpers.data import normalise
from helpers.perceptual import Lpips, load_lpips
from tests.benchmarks.plain import package_lpips
from tests.conftest import ROOT, make_faces


def seeded(seed: int, size: int = 64) -> torch.Tensor:
    """Two images in [-1, 1], the same on every machine."""
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# ---------------------------------------------------------------------------------------------------------------------
# What it measures


def test_zero_for_equal_images(random_lpips):
    assert random_lpips(seeded(0), seeded(0)).tolist() == [0, 0]


def test_symmetric_and_positive(random_lpips):
    a, b = seeded(0), seeded(1)
    distance = random_lpips(a, b)
    assert distance.shape == (2,) and (distance > 0).all()
    assert torch.allclose(distance, random_lpips(b, a), rtol=1e-5)


def test_images_do_not_influence_each_other(random_lpips):
    a, b = seeded(0), seeded(1)
    assert torch.allclose(random_lpips(a, b)[:1], random_lpips(a[:1], b[:1]), rtol=1e-4)


def test_grows_with_the_damage(random_lpips):
    """More noise, more distance: true even of random features."""
    a, noise = seeded(0), torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(9))
    distances = [random_lpips(a, a + s * noise).mean().item() for s in (0.02, 0.1, 0.5)]
    assert distances == sorted(distances)


def test_unit_features_have_length_one(random_lpips):
    """What equation 47 leaves out: each pixel's channel vector is scaled to length 1 (or is 0 throughout)."""
    layers = random_lpips.unit_features(seeded(0))
    assert [f.shape[1] for f in layers] == [64, 192, 384, 256, 256]
    for f in layers:
        length = f.square().sum(1).sqrt()
        assert torch.all((length - 1).abs().lt(1e-5) | length.eq(0))
        assert f.min() >= 0  # after a ReLU


def test_equation_47_by_hand(random_lpips):
    """Equation 47: Σ over layers of the mean over places of Σ over channels of w (φ - φ̂)², features of length 1."""
    a, b = seeded(0), seeded(1)
    expected = torch.zeros(2)
    layers = zip(random_lpips.features(a), random_lpips.features(b), random_lpips.channel_weights(), strict=True)
    for f, g, w in layers:
        f, g = (x / x.norm(dim=1, keepdim=True).clamp(min=1e-10) for x in (f, g))
        for n in range(2):
            expected[n] += torch.einsum("c,chw->hw", w.flatten(), (f[n] - g[n]) ** 2).mean()
    assert torch.allclose(random_lpips(a, b), expected, rtol=1e-4)


def test_channel_weights_are_the_packages_own(random_lpips):
    """The learned weights come with the package, so they are the true ones on any trunk: none is negative."""
    weights = random_lpips.channel_weights()
    assert [tuple(w.shape) for w in weights] == [(1, c, 1, 1) for c in (64, 192, 384, 256, 256)]
    assert all((w >= 0).all() and w.sum() > 0 for w in weights)


@torch.no_grad()
@pytest.mark.parametrize("metric", ["random_lpips", "true_lpips"])
def test_equals_the_lpips_package(metric, request):
    """Its own forward pass on the same trunk; it adds 1e-10 to lengths where we clamp them."""
    metric = request.getfixturevalue(metric)
    a, b = seeded(0), seeded(1)
    assert torch.allclose(metric(a, b), package_lpips(metric)(a, b).flatten(), rtol=1e-4, atol=1e-7)


def test_the_package_is_not_imported():
    """It imports torchvision and with it PyTorch's compiler: seconds of every notebook's first cell, as scipy.stats."""
    code = "import sys, helpers.metrics, helpers.face_rows, helpers.methods; from helpers.perceptual import load_lpips"
    code += "; load_lpips(); print({'lpips', 'torchvision', 'scipy.stats'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "set()", done.stderr


def test_pinned_values_on_the_true_trunk(true_lpips):
    """Computed once with torchvision's AlexNet and lpips 0.1.4; 1e-3 allows for other convolution algorithms."""
    assert true_lpips.name == "LPIPS"
    assert true_lpips(seeded(0), seeded(1)).tolist() == pytest.approx([0.12143, 0.113503], rel=1e-3)
    faces = normalise(make_faces(2, 64))
    assert true_lpips(faces, faces.roll(3, -1)).tolist() == pytest.approx([0.0475396, 0.0791722], rel=1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# As a loss


def test_features_in_place_of_the_target(random_lpips):
    """The same values and the same gradient, to the bit."""
    torch.manual_seed(0)
    a, b = torch.rand(2, 3, 32, 32, requires_grad=True), torch.rand(2, 3, 32, 32)
    values = random_lpips(a, b), random_lpips(a, random_lpips.unit_features(b))
    assert torch.equal(*values)
    assert torch.equal(*(torch.autograd.grad(v.sum(), a)[0] for v in values))


def test_gradient_flows_to_the_restored_image_alone(random_lpips):
    a, b = seeded(0).requires_grad_(), seeded(1).requires_grad_()
    random_lpips(a, b).sum().backward()
    assert b.grad is None and torch.isfinite(a.grad).all() and a.grad.abs().sum() > 0
    assert all(p.grad is None for p in random_lpips.parameters())


def test_gradient_is_finite_for_equal_images(random_lpips):
    """A square root at 0 has an infinite slope: the classic NaN of a hand-written LPIPS."""
    a = seeded(0).requires_grad_()
    random_lpips(a, a.detach().clone()).sum().backward()
    assert torch.isfinite(a.grad).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_is_finite_where_all_features_are_zero(dtype):
    """With biases far below zero every ReLU gives 0: length 0, no direction, still no NaN; also in 16 bits."""
    metric = Lpips(None)
    first = metric.trunk[0]
    first.bias.data.fill_(-1e4)
    a, b = seeded(0).requires_grad_(), seeded(1)
    assert metric.features(a)[0].abs().sum() == 0
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        distance = metric(a, b)
    distance.sum().backward()
    assert torch.isfinite(distance).all() and torch.isfinite(a.grad).all()


def test_stays_in_evaluation_mode():
    """Evaluation mode and frozen weights, whatever the model around it does: the trunk has dropout."""
    metric = Lpips(None)
    torch.nn.ModuleList([metric]).train()
    assert not any(m.training for m in metric.modules())
    assert not any(p.requires_grad for p in metric.parameters())


# ---------------------------------------------------------------------------------------------------------------------
# Where the trunk comes from


def test_random_trunk_warns_and_says_so(no_trunk):
    with pytest.warns(UserWarning, match="LPIPS_TRUNK"):
        metric = load_lpips()
    assert metric.name == "LPIPS (random trunk)" and "random trunk" in repr(metric)


def test_random_trunk_is_the_same_everywhere(random_lpips):
    torch.manual_seed(77)
    again = Lpips(None)
    own, other = random_lpips.state_dict(), again.state_dict()
    assert own.keys() == other.keys() and all(torch.equal(own[k], other[k]) for k in own)


def test_the_random_trunk_leaves_the_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Lpips(None)
    assert torch.equal(torch.rand(3), expected)


@pytest.fixture
def trunk_file(tmp_path, random_lpips):
    """The random trunk under torchvision's names, as a stand-in for AlexNet's file; its first bias is marked."""
    state = {"features." + name: value.clone() for name, value in random_lpips.trunk.state_dict().items()}
    state["features.0.bias"].fill_(0.125)
    path = tmp_path / "trunk.pth"
    torch.save(state, path)
    return path


def first_bias(metric: Lpips) -> float:
    return metric.trunk[0].bias.mean().item()


def test_trunk_by_argument_and_by_variable(trunk_file, no_trunk, monkeypatch):
    """A file that holds features.* makes it LPIPS proper, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert first_bias(load_lpips(trunk_file)) == 0.125
        monkeypatch.setenv("LPIPS_TRUNK", str(trunk_file))
        metric = load_lpips()
    assert first_bias(metric) == 0.125 and metric.name == "LPIPS"


def test_trunk_from_torch_hubs_cache(trunk_file, no_trunk, tmp_path):
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    trunk_file.rename(folder / "alexnet-owt-7be5be79.pth")
    assert first_bias(load_lpips()) == 0.125


def test_missing_trunk_is_an_error(no_trunk, tmp_path, monkeypatch):
    """A path that was given and does not exist must not end in a random trunk."""
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        load_lpips(tmp_path / "absent.pth")
    monkeypatch.setenv("LPIPS_TRUNK", str(tmp_path / "absent.pth"))
    with pytest.raises(FileNotFoundError, match="LPIPS_TRUNK"):
        load_lpips()


@pytest.mark.parametrize(
    "content", [{}, [1, 2], {"features.0.weight": torch.zeros(64, 3, 3, 3), "features.10.weight": torch.zeros(256)}]
)
def test_a_trunk_of_another_network_is_refused(content, tmp_path):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"other\.pth"):
        load_lpips(path)


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut"])
def test_a_file_that_is_no_trunk_is_refused(content, tmp_path):
    path = tmp_path / "junk.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as AlexNet"):
        load_lpips(path)


class Bomb:
    """Unpickling it makes a folder: the proof that something was executed."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("writer", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_nothing_in_a_trunk_file_is_executed(writer, tmp_path):
    """A file that would run a program when unpickled is refused, and the program does not run."""
    path, trace = tmp_path / "evil.pth", tmp_path / "executed"
    writer({"features.0.weight": Bomb(trace)}, path)
    with pytest.raises(ValueError, match=r"evil\.pth"):
        load_lpips(path)
    assert not trace.exists()
    # The bomb is a real one: a careless reader would have set it off.
    torch.load(path, weights_only=False) if writer is torch.save else pickle.loads(path.read_bytes())
    assert trace.exists()
