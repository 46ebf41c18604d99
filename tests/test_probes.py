"""helpers.probes: on codes that were made to hold the properties, the probes find them."""

import numpy as np
import pandas as pd
import pytest

from helpers.probes import PROPERTIES, fit_probes


@pytest.fixture(scope="module")
def made():
    """Codes in which every property but one sits on an axis of its own, and their tables."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({name: rng.normal(3, 2, 900) for name in PROPERTIES})
    codes = rng.normal(0, 1, (900, 512))
    for k, name in enumerate(PROPERTIES):
        if name != "smile":
            codes[:, k] = table[name] * 5 + rng.normal(0, 0.1, 900)
    return codes, table


@pytest.fixture(scope="module")
def probes(made):
    codes, table = made
    return fit_probes(codes[:600], table[:600], codes[600:], table[600:])


def test_finds_what_is_there_and_nothing_else(probes):
    assert all(probes[name].accuracy > 0.8 for name in PROPERTIES if name != "smile")
    assert probes["smile"].accuracy < 0.2  # the codes know nothing of it


def test_accuracy_is_that_of_unseen_faces(probes, made):
    """R² by its definition, computed here on the faces that were kept apart."""
    codes, table = made
    y, read = table["age"][600:], probes["age"].read(codes[600:])
    assert probes["age"].accuracy == pytest.approx(1 - ((y - read) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    assert probes["age"].spread == pytest.approx(table["age"][:600].std(ddof=0))


def test_moving_changes_the_reading_by_the_amount(probes, made):
    code = made[0][3]
    for probe in probes.values():
        assert probe.read(probe.move(code, 2.5)) - probe.read(code) == pytest.approx(2.5)


def test_the_direction_is_how_codes_differ(probes):
    """The property's own axis stands out, by the factor with which it was put in."""
    direction = probes["yaw"].direction
    k = list(PROPERTIES).index("yaw")
    assert np.abs(direction).argmax() == k and direction[k] == pytest.approx(5, rel=0.2)


def test_codes_and_tables_must_belong_together(made):
    codes, table = made
    with pytest.raises(ValueError, match="600 codes for 500 rows"):
        fit_probes(codes[:600], table[:500], codes[600:], table[600:])
