"""helpers.inspector: the door of the package."""

import subprocess
import sys

import pytest

import helpers.inspector
from helpers.inspector import KINDS, VIEWS, Inspector, State, controller, state, views
from tests.conftest import ROOT


def test_the_door_leads_to_the_same_things():
    assert Inspector is controller.Inspector and State is state.State
    assert KINDS is state.KINDS and VIEWS is views.VIEWS
    assert sorted(helpers.inspector.__all__) == ["Inspector", "KINDS", "State", "VIEWS"]


def test_nothing_else_stands_there():
    with pytest.raises(AttributeError, match="no attribute 'Workbench'"):
        helpers.inspector.Workbench  # noqa: B018
    with pytest.raises(ImportError):
        exec("from helpers.inspector import Page")


@pytest.mark.parametrize("wanted", ["State", "KINDS"])
def test_a_state_needs_no_widgets(wanted):
    """Who reads a state loads neither widgets nor figures."""
    program = f"""
from helpers.inspector import {wanted}
import sys
print([name for name in ("ipywidgets", "anywidget", "matplotlib", "helpers.inspector.page") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
