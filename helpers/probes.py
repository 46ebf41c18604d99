"""What a face's code knows of its person: linear probes, and the directions along which a property changes.

A probe reads one property (age, yaw, ...) from a code of 512 numbers by ridge regression. Moving a code along the
probe's direction changes its reading by a chosen amount; what the generator then draws shows what the code means by it.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

RIDGE = 100.0  # of 30, 100, ..., 3000 about the best for most properties on the validation faces, and never far from it
PROPERTIES = {  # column of data/faces/parameters.csv -> what it is called, unit
    "age": ("age", "years"),
    "yaw": ("head turned (yaw)", "degrees"),
    "smile": ("smile", "of 1"),
    "melanin": ("skin tone (melanin)", "of 1"),
    "hair_grey": ("grey hair", "of 1"),
    "light_azimuth": ("light from the side", "degrees"),
}


@dataclass(frozen=True)
class Probe:
    """A linear reading of codes.

    Attributes
    ----------
    weights : 512 numbers; a reading is ``code @ weights + offset``
    direction : 512 numbers; adding ``amount * direction`` to a code adds ``amount`` to its reading
    accuracy : R², the share of the property's variance that is predicted, on faces that the probe has not seen
    spread : the property's standard deviation in the training faces
    """

    name: str
    weights: np.ndarray
    offset: float
    direction: np.ndarray
    accuracy: float
    spread: float

    def read(self, codes: np.ndarray) -> np.ndarray:
        """Predicted property of codes: N×512 to N, or 512 to one number."""
        return codes @ self.weights + self.offset

    def move(self, code: np.ndarray, amount: float) -> np.ndarray:
        """The code, 512 numbers, whose reading is larger by ``amount``."""
        return code + amount * self.direction


def fit_probes(
    codes: np.ndarray, table: pd.DataFrame, unseen_codes: np.ndarray, unseen_table: pd.DataFrame
) -> dict[str, Probe]:
    """A probe for each of :data:`PROPERTIES`, learnt on ``codes`` and measured on ``unseen_codes``.

    Parameters
    ----------
    codes, unseen_codes : N×512 and M×512
    table, unseen_table : their rows of :func:`helpers.data.load_parameters`
    """
    if len(codes) != len(table) or len(unseen_codes) != len(unseen_table):
        raise ValueError(f"{len(codes)} codes for {len(table)} rows, {len(unseen_codes)} for {len(unseen_table)}")
    codes, unseen_codes = codes.astype(float), unseen_codes.astype(float)
    mean, scale = codes.mean(0), codes.std(0) + 1e-9
    z = (codes - mean) / scale
    gram = z.T @ z
    probes = {}
    for name in PROPERTIES:
        y = table[name].to_numpy(float)
        w = np.linalg.solve(gram + RIDGE * np.eye(len(gram)), z.T @ (y - y.mean()))
        # The weights suppress what disturbs the reading; how codes really differ along it is their covariance with it
        # (Haufe et al. 2014). Moving along the weights themselves would leave the region where codes lie.
        direction = (gram @ w) * scale
        weights = w / scale
        offset = float(y.mean() - mean @ weights)
        truth = unseen_table[name].to_numpy(float)
        wrong = truth - (unseen_codes @ weights + offset)
        accuracy = float(1 - np.mean(wrong**2) / max(truth.var(), 1e-12))  # few faces may all be alike in something
        probes[name] = Probe(name, weights, offset, direction / (direction @ weights), accuracy, float(y.std()))
    return probes
