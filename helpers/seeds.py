"""Randomness, set in one place."""

import random
from functools import lru_cache

import numpy as np
import torch

SEED = 2025  # the year of the thesis


def seed_everything(seed: int = SEED) -> None:
    """Seed Python, NumPy and PyTorch (every device), so that a notebook gives the same picture each time.

    Random numbers of one seed differ between CPU and GPU: draw on the CPU and move the tensor where equality matters.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def rng_for(seed: int, *keys: int) -> np.random.Generator:
    """A NumPy generator that depends on ``seed`` and ``keys`` alone (an epoch, an image's index, ...).

    Because nothing is carried over from image to image, image 17 gets the same blur in any order, in any batch and
    after any restart.
    """
    return np.random.default_rng([seed, *keys])


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return rng_for(seed, epoch).permutation(count)


def indices_of(count: int, seed: int, step: int, batch_size: int) -> tuple[np.ndarray, int]:
    """Which of ``count`` images the training step ``step`` (from 0) sees, and in which epoch (from 0).

    Every epoch has another order, which the seed decides; the last images that do not fill a batch are left out.
    """
    epoch, place = divmod(step, count // batch_size)
    return _order(count, seed, epoch)[place * batch_size : (place + 1) * batch_size], epoch
