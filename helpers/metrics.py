"""The five measures of thesis section 3.2, as section 3.1 applies them, always beside those of the blurred input.

PSNR and SSIM (by scikit-image) are computed image by image on 8-bit pictures; L1, MSE and LPIPS on [-1, 1].
``python -m helpers.evaluation`` prints the table of a checkpoint.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch
from skimage.metrics import structural_similarity
from tqdm.auto import tqdm

from helpers.data import ImageError, denormalise, normalise
from helpers.engine.loading import available_cores, prefetch
from helpers.pairs import Pairs
from helpers.perceptual import Lpips

MOST_PSNR = 60.0  # dB: where equal pictures occur, so that their infinity does not swallow a mean
RETURNED = 42.0  # dB: a picture that comes back so close has come back as it was
HIGHER_IS_BETTER = {"PSNR": True, "SSIM": True, "L1": False, "MSE": False, "LPIPS": False}

INFINITE = "infinite PSNR"  # how many images were left out of the mean of PSNR, see means

# Table 1 of the thesis, lowest and highest of each reported range. Its "0.905" for L1 is read as 0.0905.
THESIS_TABLE_1 = {
    "PSNR": (23.53, 23.68),
    "SSIM": (0.6927, 0.6980),
    "L1": (0.0891, 0.0905),
    "MSE": (0.0192, 0.0198),
    "LPIPS": (0.0788, 0.0808),
}


def _same(restored, target) -> None:
    if restored.shape != target.shape:
        raise ImageError(f"cannot compare images of shape {tuple(restored.shape)} and {tuple(target.shape)}")


def _8_bit(restored: np.ndarray, target: np.ndarray) -> None:
    """Of images in [0, 1] the measures with L = 255 would be far too high, and nothing else would show it."""
    _same(restored, target)
    for image in (restored, target):
        if image.dtype != np.uint8:
            raise ImageError(
                f"expected 8-bit images, got {image.dtype}; helpers.data.denormalise makes them of [-1, 1]"
            )


def l1(restored: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Equation 43: mean absolute error of each image. N×3×H×W in [-1, 1] to N values."""
    _same(restored, target)
    return (restored - target).abs().mean((1, 2, 3))


def mse(restored: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Equation 44: mean squared error of each image. N×3×H×W in [-1, 1] to N values."""
    _same(restored, target)
    return (restored - target).square().mean((1, 2, 3))


def psnr(restored: np.ndarray, target: np.ndarray) -> float:
    """Equation 45 with L = 255, in dB: two uint8 images H×W×3; infinite for equal images.

    Raises
    ------
    ImageError
        for images of different shapes, and for others than 8-bit images
    """
    _8_bit(restored, target)  # written out, since scikit-image's loads scipy.stats, a second of every start
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(255**2 / np.mean((target.astype(float) - restored) ** 2)))


def ssim(restored: np.ndarray, target: np.ndarray) -> float:
    """Equation 46 averaged over 7×7 windows and the three channels: two uint8 images H×W×3; 1 for equal images.

    Raises
    ------
    ImageError
        for images of different shapes, and for others than 8-bit images
    """
    _8_bit(restored, target)
    return float(structural_similarity(target, restored, channel_axis=-1, data_range=255))


@torch.no_grad()
def measure(restored: np.ndarray, target: np.ndarray, lpips: Lpips | None = None, batch_size: int = 50) -> pd.DataFrame:
    """All five measures of each image.

    Parameters
    ----------
    restored, target : uint8, N×H×W×3
    lpips : the metric of equation 47; without it the column is left out

    Returns
    -------
    a table of N rows with the columns PSNR, SSIM, L1, MSE and ``lpips.name``
    """
    _same(restored, target)
    device = next(lpips.parameters()).device if lpips else "cpu"
    rows = []
    with ThreadPoolExecutor(available_cores()) as pool:  # SSIM takes most of the time, and an image has its own
        for start in range(0, len(restored), batch_size):
            some, truth = restored[start : start + batch_size], target[start : start + batch_size]
            by_image = [pool.map(function, some, truth) for function in (psnr, ssim)]
            a, b = normalise(some), normalise(truth)
            block = {"L1": l1(a, b).numpy(), "MSE": mse(a, b).numpy()}
            if lpips:
                block[lpips.name] = lpips(a.to(device), b.to(device)).cpu().numpy()
            rows.append(pd.DataFrame({"PSNR": list(by_image[0]), "SSIM": list(by_image[1]), **block}))
    return pd.concat(rows, ignore_index=True)


@torch.no_grad()
def evaluate(
    model: Callable[[torch.Tensor], torch.Tensor],
    pairs: Pairs,
    lpips: Lpips | None = None,
    batch_size: int = 50,
    progress: bool = False,
    with_input: bool = True,
    part: tuple[int, int] = (0, 1),
) -> dict[str, pd.DataFrame]:
    """Measure the blurred input and what a model makes of it, on the same images.

    Parameters
    ----------
    model : takes N×4×H×W and gives N×3×H×W in [-1, 1]; a module is put into evaluation mode, on its own device
    with_input : measure the blurred input too; training leaves it out, since a fixed blur scores the same each epoch
    part : (r, w) measures every w-th batch from the r-th: the share of one of w processes, which may be none

    Returns
    -------
    {"input": table, "restored": table}, one row for each image; :func:`means` of it is what the thesis reports
    """
    device = "cpu"
    if isinstance(model, torch.nn.Module):
        device = next(model.parameters()).device
        was_training = model.training
        model.eval()
    tables = {"input": [], "restored": []}
    total = len(range(part[0] * batch_size, len(pairs), part[1] * batch_size))
    batches = pairs.batches(batch_size, part)
    batches = prefetch(
        lambda _, made=batches: next(made), range(total)
    )  # while the one before is restored and measured
    for batch in tqdm(batches, total=total, desc="evaluate", disable=not progress):
        restored = denormalise(model(batch.input.to(device)))
        if with_input:
            tables["input"].append(measure(batch.blurred, batch.sharp, lpips))
        tables["restored"].append(measure(restored, batch.sharp, lpips))
    if isinstance(model, torch.nn.Module):
        model.train(was_training)
    return {name: pd.concat(blocks, ignore_index=True) for name, blocks in tables.items() if blocks}


def means(table: pd.DataFrame) -> pd.Series:
    """The mean of each measure over the images of ``table``.

    The PSNR of an image that equals its target is infinite. One such image would make the mean infinite, so it is left
    out of the mean of PSNR and counted under ``infinite PSNR``, a row that is absent where there is none. Where all are
    infinite the mean is, too.
    """
    finite = table.replace([np.inf, -np.inf], np.nan)
    result = finite.mean().where(finite.notna().any(), table.mean())
    infinite = int(np.isinf(table["PSNR"]).sum()) if "PSNR" in table else 0
    return pd.concat([result, pd.Series({INFINITE: infinite})]) if infinite else result


def summary(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The :func:`means` over the test set, a row for each table."""
    return pd.DataFrame({name: means(table) for name, table in tables.items()}).T
