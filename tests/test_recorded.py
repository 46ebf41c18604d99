"""Every shipped checkpoint restores as it did when its restorations were recorded.

``tests/recorded/restorations.png`` holds them, a row for each checkpoint, and ``restorations.json`` their hashes and
what computed them. Moving code about must not change a bit. ``python -m tests.test_recorded`` records anew; do so only
where a checkpoint changes, or where a change of the arithmetic is wanted and said in the commit.
"""

import hashlib
import json

import cv2
import numpy as np
import pytest
import torch

from helpers.data import load_faces
from helpers.methods import StyleGan, load_method
from helpers.pairs import Pairs
from tests.conftest import ROOT

FOLDER = ROOT / "tests" / "recorded"
CHECKPOINTS = ("thesis", "skip", "posterior_mean", "pmrf", "diffir", "stylegan", "blind")


def restoration(name: str) -> np.ndarray:
    """What the checkpoint makes of two blurred test faces, beside each other: uint8 128×256×3, on the processor."""
    batch = Pairs(load_faces("test", 2)).batch([0, 1])
    method = load_method(name, "cpu")
    if isinstance(method, StyleGan):  # the search rounds differently with every change; the generator must not
        w = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 1, 128), np.float32))
        with torch.no_grad():
            images = method.generator.synthesis(w.expand(-1, method.generator.synthesis.num_ws, -1))
        restored = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).numpy()
    else:
        restored = method.restore(batch.blurred)
    return np.concatenate(list(restored), axis=1)


def machine() -> dict[str, str]:
    """What the rounding of sums depends on."""
    return {"torch": torch.__version__, "processor": torch.backends.cpu.get_cpu_capability()}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_restorations_are_those_that_were_recorded(name):
    """To the bit on a machine like the one that recorded; elsewhere no value is more than one level away."""
    recorded = json.loads((FOLDER / "restorations.json").read_text(encoding="utf-8"))
    rows = cv2.imread(str(FOLDER / "restorations.png"))[..., ::-1].reshape(len(CHECKPOINTS), 128, 256, 3)
    restored, row = restoration(name), rows[CHECKPOINTS.index(name)]
    if machine() == recorded["machine"]:
        assert hashlib.sha256(restored.tobytes()).hexdigest() == recorded["sha256"][name]
    assert np.abs(restored.astype(int) - row).max() <= 1 and (restored == row).mean() > 0.99


def record() -> None:
    rows = {name: restoration(name) for name in CHECKPOINTS}
    FOLDER.mkdir(exist_ok=True)
    cv2.imwrite(str(FOLDER / "restorations.png"), np.concatenate(list(rows.values()))[..., ::-1])
    hashes = {name: hashlib.sha256(row.tobytes()).hexdigest() for name, row in rows.items()}
    text = json.dumps({"machine": machine(), "sha256": hashes}, indent=1)
    (FOLDER / "restorations.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    record()
