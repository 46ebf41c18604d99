"""What a chapter's first cell does on Colab and Kaggle, once the course is there: packages, widgets, the folder.

torch, torchvision and NumPy are never installed or changed: a host's own versions fit its graphics card, and a running
kernel cannot change NumPy. Everything else is installed only where it is missing or too old.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = ("torch", "torchvision", "numpy")
NOT_THERE = ("jupyterlab", "voila", "jsonschema")  # the host has a page of its own for notebooks


def missing() -> list[str]:
    """The requirements of ``pyproject.toml`` that this Python does not meet and that may be installed."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = []
    for requirement in pyproject["project"]["dependencies"]:
        name, _, lowest = requirement.partition(">=")
        if name.strip() not in KEPT + NOT_THERE and not _met(name.strip(), lowest):
            found.append(requirement)
    return found


def constraints() -> str:
    """Lines for pip that hold the packages of ``KEPT`` at the versions that are here."""
    lines = []
    for name in KEPT:
        try:
            lines.append(f"{name}=={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            raise SystemExit(f"{name} is not installed here; the course needs a host that brings it") from None
    return "\n".join(lines) + "\n"


def prepare() -> None:
    """Install what is missing, let widgets of other makers be shown, and go to the folder of the chapters."""
    wanted = missing()
    if wanted:
        with tempfile.TemporaryDirectory() as folder:
            limits = Path(folder) / "constraints.txt"
            limits.write_text(constraints(), encoding="utf-8")
            command = [sys.executable, "-m", "pip", "install", "-q", "-c", str(limits), *wanted]
            if subprocess.run(command).returncode:
                raise SystemExit(f"pip could not install {', '.join(wanted)}; its message stands above")
        importlib.invalidate_caches()
    if "google.colab" in sys.modules:
        from google.colab import output

        output.enable_custom_widget_manager()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.chdir(ROOT / "notebooks")
    print("installed:", ", ".join(wanted) if wanted else "nothing, all is there")


def _met(name: str, lowest: str) -> bool:
    """Whether a package is here in at least the version ``lowest``, compared number by number."""
    try:
        here = metadata.version(name)
    except metadata.PackageNotFoundError:
        return name.startswith("opencv") and importlib.util.find_spec("cv2") is not None  # its headless twin will do
    return _numbers(here) >= _numbers(lowest)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version.split("+")[0]))
