"""What all tests share: no network, no window, small pictures with structure, the metrics, optional real material.

``LPIPS_TRUNK`` (a file with AlexNet's ``features.*``), ``COURSE_REAL_FACES`` (a folder with ``train/``, ``val/`` and
``test/``) and ``COURSE_PORTRAITS`` (cut portraits, see ``helpers.portraits``) may name material that lies beside the
project; tests that need it are skipped where it is absent.
"""

import os

# Before NumPy and torch start their threads. Two threads of tiny networks that wait for each other on a busy machine
# are many times slower than one, and a process that a test starts must round as this one does.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib.util
import sys
import time
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

matplotlib.use("Agg")
os.environ["COURSE_OFFLINE"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # notebook kernels
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from helpers.perceptual import Lpips, load_lpips  # noqa: E402
from tests.kernels import as_a_reader, patient  # noqa: E402

if importlib.util.find_spec("nbval"):  # what runs on a bare GPU machine needs no notebooks
    import nbval.kernel

    nbval.kernel.start_new_kernel = patient(as_a_reader(nbval.kernel.start_new_kernel))

# The same examples every time, however slow the machine is.
settings.register_profile("course", derandomize=True, deadline=None, database=None, suppress_health_check=HealthCheck)
settings.load_profile("course")

LONG = ("notebooks/", "tests/test_browser", "tests/test_coursework", "tests/coursework/", "tests/experiments/")


def pytest_collection_modifyitems(items):
    """What takes minutes begins first, so that no worker waits for the others at the end."""
    items.sort(key=lambda item: next((i for i, start in enumerate(LONG) if item.nodeid.startswith(start)), len(LONG)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test of a live page that fails tells what the server and the inspector's state said."""
    report = yield
    place = getattr(item, "funcargs", {}).get("place")
    if report.failed and place is not None:
        for name in ("server.log", ".inspector.json"):
            said = (place / name).read_text(encoding="utf-8")[-4000:] if (place / name).exists() else "there is none"
            report.sections.append((name, said))
    return report


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


def seconds_of(action, times: int = 3) -> float:
    """Processor time of the quickest of several calls: on a shared core the time of others is counted too."""
    taken = []
    for _ in range(times):
        started = time.process_time()
        action()
        taken.append(time.process_time() - started)
    return min(taken)


@pytest.fixture(scope="session")
def faces() -> np.ndarray:
    """Twelve synthetic pictures of 64×64, the size that tiny models take."""
    return make_faces(12, 64)


@pytest.fixture(scope="session")
def random_lpips() -> Lpips:
    """LPIPS on the random trunk: the same on every machine, no file needed."""
    return Lpips(None)


@pytest.fixture(scope="session")
def true_lpips() -> Lpips:
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
def portraits() -> Path:
    """The folder of cut portraits of the US Congress."""
    path = os.environ.get("COURSE_PORTRAITS")
    if not path or not Path(path).is_dir():
        pytest.skip("COURSE_PORTRAITS does not name a folder of portraits")
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
    from helpers.engine.checkpoints import CheckpointError

    class Absent(methods.Method):
        name, title = "ghost", "the ghost"

        def __init__(self, device=None):
            raise CheckpointError("ghost.safetensors: there is no such checkpoint")

    monkeypatch.setitem(methods.METHODS, "ghost", Absent)
    monkeypatch.setitem(methods.TITLES, "ghost", Absent.title)
    return "ghost"


def linked_data(folder: Path, *without: str) -> Path:
    """A data folder that holds what ships, except the checkpoints ``without``."""
    for source in (ROOT / "data").rglob("*"):
        if source.is_file() and not (source.parent.name == "checkpoints" and source.stem in without):
            place = folder / source.relative_to(ROOT / "data")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(source)
    return folder


@pytest.fixture(scope="session")
def data_without_blind(tmp_path_factory) -> Path:
    """A data folder without the model that was trained blind, for ``COURSE_DATA``."""
    return linked_data(tmp_path_factory.mktemp("data"), "blind")


@pytest.fixture(scope="session")
def data_without_finder(tmp_path_factory) -> Path:
    """A data folder without the face finder, for ``COURSE_DATA``."""
    return linked_data(tmp_path_factory.mktemp("data"), "finder")


@pytest.fixture(scope="session")
def data_with_blind(tmp_path_factory) -> Path:
    """A data folder in which a small random network, its knob at 0.4, stands for the model that was trained blind."""
    from helpers.engine.checkpoints import save_checkpoint
    from helpers.experiments.skip_model import SkipModel

    folder = linked_data(tmp_path_factory.mktemp("data"), "blind")
    torch.manual_seed(0)
    model = SkipModel(8, widths=(8, 8, 16, 16), depths=(1, 1, 1, 1))
    for layers in model.generator.exits:
        torch.nn.init.normal_(layers[-1].weight, std=0.02)
    about = {**model.shape, "name": "blind", "degradation": "blind", "knob": 0.4}
    save_checkpoint(folder / "checkpoints" / "blind.safetensors", model, about)
    return folder


@pytest.fixture
def no_trunk(monkeypatch, tmp_path):
    """A machine that has never seen AlexNet: no variable, an empty torch hub, no network."""
    monkeypatch.delenv("LPIPS_TRUNK", raising=False)
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
