"""Canny edge maps and the four-channel input (thesis section 2.2).

The edges that a network sees are computed from the *blurred* image, the only one there when a photograph is to be
restored. ``helpers.pairs`` offers edges of the sharp image under the name ``oracle``, to show what leakage would do.
"""

import cv2
import numpy as np
import torch

from helpers.data import as_tensor, normalise
from helpers.engine.errors import ImageError

# After a Gaussian blur of σ = 4..8 the thresholds 100 and 200 of most tutorials find almost nothing. These two come
# from an experiment on the validation faces that notebook 05 repeats.
THRESHOLDS = (8, 24)


def canny(image: np.ndarray, low: float = THRESHOLDS[0], high: float = THRESHOLDS[1]) -> np.ndarray:
    """OpenCV's Canny detector on the grey version of one 8-bit image.

    Parameters
    ----------
    image : uint8, H×W×3 (RGB) or H×W
    low, high : thresholds of the hysteresis, in units of |∂x| + |∂y| as the 3×3 Sobel operator gives them

    Returns
    -------
    uint8 array, H×W, 1 on an edge and 0 elsewhere
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ImageError("canny expects an 8-bit image, H×W×3 or H×W")
    if not 0 <= low <= high:
        raise ValueError(f"the thresholds must satisfy 0 <= low <= high, not {low} and {high}")
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    return cv2.Canny(np.ascontiguousarray(grey), low, high) // 255


def edge_maps(images: np.ndarray, thresholds: tuple[float, float] = THRESHOLDS) -> np.ndarray:
    """:func:`canny` of each image: uint8 N×H×W×3 to uint8 N×H×W of 0 and 1."""
    return np.stack([canny(image, *thresholds) for image in images])


def four_channels(images: np.ndarray | torch.Tensor, edges: np.ndarray | torch.Tensor) -> torch.Tensor:
    """The network's input: normalised RGB (equation 31) and the edge map as the fourth channel.

    Parameters
    ----------
    images : uint8, N×H×W×3
    edges : N×H×W of 0 and 1

    Returns
    -------
    float32 tensor, N×4×H×W; channels 0–2 in [-1, 1], channel 3 is 0 or 1
    """
    if images.shape[:3] != edges.shape:
        raise ImageError(f"images {images.shape} and edge maps {edges.shape} do not belong together")
    return torch.cat([normalise(images), as_tensor(edges).float()[:, None]], dim=1)
