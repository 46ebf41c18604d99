"""helpers.inspector_page: what is on the page, whoever connects it."""

import ipywidgets
import pytest

from helpers import inspector
from helpers.data import ImageError, load_faces
from helpers.inspector import Workbench
from helpers.inspector_page import ORDERS, InspectorPage, served
from helpers.panes import Panes
from helpers.state import State
from helpers.views import VIEWS


@pytest.fixture
def bench(random_ruler, monkeypatch):
    monkeypatch.setattr(inspector, "load_lpips", lambda: random_ruler)
    bench = Workbench()
    bench._sets = {"test": load_faces("test", 3), "val": load_faces("val", 3)}
    return bench


def everything(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from everything(child)


def test_no_output_widget_and_readable(bench):
    page = InspectorPage(bench, State())
    kinds = [type(w) for w in everything(page)]
    assert any(issubclass(k, Panes) for k in kinds) and not any(issubclass(k, ipywidgets.Output) for k in kinds)
    bundle = page._repr_mimebundle_()
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    assert bundle["text/plain"] == repr(page) and repr(page).startswith("Inspector - run the notebook")


def test_every_control_is_named(bench):
    """A screen reader says what a control is by its description; the views' buttons are named each."""
    page = InspectorPage(bench, State())
    silent = (ipywidgets.HTML, ipywidgets.Label, ipywidgets.Image, ipywidgets.IntProgress)
    controls = [w for w in everything(page) if isinstance(w, ipywidgets.ValueWidget | ipywidgets.Button)]
    controls += [w for row in page.asked.values() for w in row]
    assert [w for w in controls if not isinstance(w, silent) and not w.description] == [page.view]
    assert set(VIEWS.values()) == {title for title, _ in page.view.options} and len(ORDERS) == 11


def test_absent_things_are_grey_with_the_reason(bench, absent_method, slow_method):
    bench._sets["val"] = ImageError("val.zip is missing")
    page = InspectorPage(bench, State())
    assert page.boxes[absent_method].disabled and "no such checkpoint" in page.boxes[absent_method].tooltip
    assert page.sources["val"].disabled and not page.sources["test"].disabled and not page.sources["folder"].disabled
    assert slow_method in page.runs and absent_method not in page.runs
    text = " ".join(w.value for w in everything(page) if isinstance(w, ipywidgets.HTML))
    assert "val.zip is missing" in text and "ghost.safetensors" in text


def test_a_served_page_shows_the_inspector_alone(bench, monkeypatch):
    """No path of the machine can be typed, and a style hides the chapter's other cells."""
    assert not served() and len(InspectorPage(bench, State()).children) == 1
    monkeypatch.setenv("VOILA_BASE_URL", "/")
    page = InspectorPage(bench, State())
    assert served() and page.sources["folder"].disabled and "display: none" in page.children[1].value
