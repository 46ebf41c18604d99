"""helpers.panels: a control moves, the picture changes; no Output widget anywhere."""

import cv2
import ipywidgets
import numpy as np
import pytest

from helpers import figures
from helpers.panels import Panel, choice, slider


def draw(count, kind="line"):
    """A figure that depends on both controls; ten is too many."""
    if count >= 10:
        raise ValueError("ten is too many")
    figure, axes = figures.new(size=(2, 1))
    (axes.plot if kind == "line" else axes.bar)(range(count), range(count))
    return figure


@pytest.fixture
def panel():
    return Panel(draw, count=slider("how many", 1, 10, 3), kind=choice("what", ["line", "bar"]))


def everything(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from everything(child)


def test_shows_a_picture_at_once(panel):
    picture = cv2.imdecode(np.frombuffer(panel.picture.value, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and panel.picture.format == "png"
    assert panel.picture.value == figures.png(draw(3)) and panel.values == {"count": 3, "kind": "line"}


@pytest.mark.parametrize(("control", "value"), [("count", 5), ("kind", "bar")])
def test_redraws_when_a_control_moves(panel, control, value):
    before = panel.picture.value
    panel.controls[control].value = value
    assert panel.picture.value != before and panel.picture.value == figures.png(draw(**panel.values))
    assert panel.message.value == ""


def test_a_bad_setting_says_so_and_keeps_the_picture(panel):
    before = panel.picture.value
    panel.controls["count"].value = 10
    assert panel.picture.value == before and "ten is too many" in panel.message.value
    panel.controls["count"].value = 4
    assert panel.picture.value != before and panel.message.value == ""


def test_other_errors_are_not_swallowed():
    """A fault in a chapter's code must be seen when the chapter is run."""

    def broken(count):
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        Panel(broken, count=slider("how many", 1, 10, 3))


def test_a_message_is_no_markup():
    """What an error says is shown as text, not run as HTML."""

    def angry(count):
        if count > 3:
            raise ValueError("count < 4 & <b>no</b>")
        return draw(count)

    panel = Panel(angry, count=slider("how many", 1, 10, 3))
    panel.controls["count"].value = 4
    assert "&lt;b&gt;no&lt;/b&gt;" in panel.message.value


def test_no_output_widget(panel):
    """With matplotlib inside they make executed notebooks hang at random."""
    kinds = [type(w) for w in everything(panel)]
    assert ipywidgets.Image in kinds and not any(issubclass(kind, ipywidgets.Output) for kind in kinds)
    assert all(c in list(everything(panel)) for c in panel.controls.values())


def test_readable_without_a_kernel(panel):
    """Where widgets cannot be shown there is a line of text instead of an object's address."""
    assert repr(panel) == "Panel(count=3, kind='line') - run the notebook to move it"
    bundle = panel._repr_mimebundle_()
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    assert bundle["text/plain"] == repr(panel) and "application/vnd.jupyter.widget-view+json" in bundle


@pytest.mark.parametrize(
    ("numbers", "kind", "step"),
    [
        ((1, 10, 3), ipywidgets.IntSlider, 1),
        ((0.5, 8.0, 4.0), ipywidgets.FloatSlider, 0.15),
        ((0, 1, 0.5), ipywidgets.FloatSlider, 0.02),
    ],
)
def test_sliders_are_whole_where_their_numbers_are(numbers, kind, step):
    control = slider("x", *numbers)
    assert type(control) is kind and control.step == pytest.approx(step)
    assert (control.min, control.max, control.value) == numbers and control.description == "x"
    assert control.continuous_update is False  # redraws once, when it is let go


def test_slider_with_a_step_and_choice_with_a_value():
    assert slider("x", 0.0, 1.0, 0.5, step=0.25).step == 0.25
    assert choice("y", ["a", "b"]).value == "a" and choice("y", ["a", "b"], "b").value == "b"
