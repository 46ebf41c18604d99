"""helpers.inspector.page: what is on the page, whoever connects it."""

import ipywidgets
import pytest

from helpers.data import ImageError, load_faces
from helpers.inspector import workbench
from helpers.inspector.page import ORDERS, InspectorPage, served
from helpers.inspector.panes import Panes, encode
from helpers.inspector.pictures import PictureSets
from helpers.inspector.state import State
from helpers.inspector.views import VIEWS
from helpers.inspector.workbench import Workbench
from helpers.methods import METHODS, TITLES


@pytest.fixture(scope="module")
def networks():
    """All methods, loaded once."""
    bench = Workbench()
    for name in METHODS:
        bench.missing(name)
    return bench._methods


@pytest.fixture
def bench(random_lpips, monkeypatch, networks):
    monkeypatch.setattr(workbench, "load_lpips", lambda: random_lpips)
    bench = Workbench()
    bench._methods = dict(networks)
    bench.sets.loaded |= {"test": load_faces("test", 3), "val": load_faces("val", 3)}
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
    bench.sets.loaded["val"] = ImageError("val.zip is missing")
    page = InspectorPage(bench, State())
    assert page.boxes[absent_method].disabled and "no such checkpoint" in page.boxes[absent_method].tooltip
    assert page.sources["val"].disabled and not page.sources["test"].disabled and not page.sources["folder"].disabled
    assert slow_method in page.runs and absent_method not in page.runs
    text = " ".join(w.value for w in everything(page) if isinstance(w, ipywidgets.HTML))
    assert "val.zip is missing" in text and "ghost.safetensors" in text


def test_methods_for_one_blur_say_so(bench):
    """Beside their boxes; the one that was trained blind and those that are told the blur do not."""
    page = InspectorPage(bench, State())
    rows = [w for w in everything(page) if set(page.boxes.values()) & set(getattr(w, "children", ()))]
    named = {row.children[0].description: [w.value for w in row.children[1:] if hasattr(w, "value")] for row in rows}
    told = {title for title, notes in named.items() if any("trained for one blur" in note for note in notes)}
    assert told == {TITLES[name] for name in ("thesis", "skip", "posterior_mean", "pmrf", "diffir")}
    assert len(named) == len(METHODS)


def test_a_served_page_shows_the_inspector_alone(bench, monkeypatch):
    """No path of the machine can be typed, and a style hides the chapter's other cells."""
    assert not served() and len(InspectorPage(bench, State()).children) == 1
    monkeypatch.setenv("VOILA_BASE_URL", "/")
    page = InspectorPage(bench, State())
    assert served() and page.sources["folder"].disabled and "display: none" in page.children[1].value


@pytest.mark.parametrize("named", ["nonexistent", "empty", "file"])
def test_a_mistake_in_course_photos_greys_the_set_alone(bench, monkeypatch, tmp_path, named):
    """The page comes up with the reason beside the button; in a notebook the button stays, to name another folder."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("COURSE_PHOTOS", str(tmp_path / named))
    bench.sets = PictureSets()
    text = " ".join(w.value for w in everything(InspectorPage(bench, State())) if isinstance(w, ipywidgets.HTML))
    assert "own folder: COURSE_PHOTOS: " in text
    assert not InspectorPage(bench, State()).sources["folder"].disabled
    monkeypatch.setenv("VOILA_BASE_URL", "/")
    page = InspectorPage(bench, State())
    assert page.sources["folder"].disabled and not page.sources["test"].disabled
    assert "COURSE_PHOTOS: " in page.sources["folder"].tooltip and str(tmp_path) not in page.sources["folder"].tooltip


def test_a_served_page_offers_the_folder_that_is_named(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("VOILA_BASE_URL", "/")
    assert "COURSE_PHOTOS names" in InspectorPage(bench, State()).sources["folder"].tooltip
    (tmp_path / "a.png").write_bytes(encode(load_faces("val", 1)[0]))
    monkeypatch.setenv("COURSE_PHOTOS", str(tmp_path))
    bench.sets = PictureSets()
    assert not InspectorPage(bench, State()).sources["folder"].disabled
