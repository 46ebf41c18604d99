"""What all tests share: no network, no window, small pictures with structure, the rulers, optional real material.

``LPIPS_TRUNK`` (a file with AlexNet's ``features.*``) and ``COURSE_REAL_FACES`` (a folder with ``train/``, ``val/`` and
``test/``) may name material that lies beside the project; tests that need it are skipped where it is absent.
"""

import os

# Before NumPy and torch start their threads. Two threads of tiny networks that wait for each other on a busy machine
# are many times slower than one, and a process that a test starts must round as this one does.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import time
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent

matplotlib.use("Agg")
os.environ["COURSE_OFFLINE"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # notebook kernels
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from helpers.perceptual import Lpips, load_lpips  # noqa: E402


def make_faces(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Pictures with smooth shading, ellipses and hard edges, about as busy as a face: uint8 count×size×size×3."""
    rng = np.random.default_rng(seed)
    pictures = np.empty((count, size, size, 3), np.uint8)
    for picture in pictures:
        corners = rng.integers(40, 216, (2, 2, 3)).astype(np.uint8)
        canvas = cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)
        for _ in range(6):
            centre = tuple(int(v) for v in rng.integers(size // 4, 3 * size // 4, 2))
            axes = tuple(int(v) for v in rng.integers(size // 16, size // 3, 2))
            colour = tuple(int(v) for v in rng.integers(0, 256, 3))
            cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        picture[:] = canvas
    return pictures


@pytest.fixture(scope="session")
def faces() -> np.ndarray:
    """Twelve synthetic pictures of 64×64, the size that tiny models take."""
    return make_faces(12, 64)


@pytest.fixture(scope="session")
def random_ruler() -> Lpips:
    """LPIPS on the random trunk: the same on every machine, no file needed."""
    return Lpips(None)


@pytest.fixture(scope="session")
def true_ruler() -> Lpips:
    """LPIPS on AlexNet's trunk."""
    path = os.environ.get("LPIPS_TRUNK")
    if not path:
        pytest.skip("LPIPS_TRUNK does not name AlexNet's weights")
    return load_lpips(path)


@pytest.fixture(scope="session")
def real_faces() -> Path:
    """The folder of real photographs."""
    path = os.environ.get("COURSE_REAL_FACES")
    if not path:
        pytest.skip("COURSE_REAL_FACES does not name a folder of photographs")
    return Path(path)


@pytest.fixture(scope="session")
def official_keys(real_faces) -> Path:
    """The folder with the authors' key lists; it lies beside the real photographs."""
    path = real_faces.parent / "official-keys"
    if not path.is_dir():
        pytest.skip("the authors' key lists do not lie beside COURSE_REAL_FACES")
    return path


@pytest.fixture
def slow_method(monkeypatch) -> str:
    """A method that takes two hundred steps to turn a picture into its negative; its name."""
    from helpers import methods

    class Slow(methods.Method):
        name, title, slow = "snail", "the snail", True

        def __init__(self, device=None):
            pass

        def restore(self, blurred, params=None, on_step=None):
            for step in range(200):
                time.sleep(0.005)
                if not on_step(step + 1, 200):
                    raise methods.Cancelled("cancelled")
            return 255 - blurred

    monkeypatch.setitem(methods.METHODS, "snail", Slow)
    monkeypatch.setitem(methods.TITLES, "snail", Slow.title)
    return "snail"


@pytest.fixture
def absent_method(monkeypatch) -> str:
    """A method whose weights are not there; its name."""
    from helpers import methods
    from helpers.checkpoints import CheckpointError

    class Absent(methods.Method):
        name, title = "ghost", "the ghost"

        def __init__(self, device=None):
            raise CheckpointError("ghost.safetensors: there is no such checkpoint")

    monkeypatch.setitem(methods.METHODS, "ghost", Absent)
    monkeypatch.setitem(methods.TITLES, "ghost", Absent.title)
    return "ghost"


@pytest.fixture
def no_trunk(monkeypatch, tmp_path):
    """A machine that has never seen AlexNet: no variable, an empty torch hub, no network."""
    monkeypatch.delenv("LPIPS_TRUNK", raising=False)
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
