"""Randomness, set in one place."""

import random

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
