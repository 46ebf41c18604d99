"""Sliders that redraw a picture.

No Output widget is used, and no ``interact``: with a matplotlib figure inside they make executed notebooks hang at
random. A panel draws into a PNG and pushes its bytes into ``ipywidgets.Image``.
"""

import html
from collections.abc import Callable

import ipywidgets
from matplotlib.figure import Figure

from helpers.figures import png


class Readable:
    """Mixed into a widget: where it cannot be shown, its ``repr`` stands in its place."""

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        (bundle[0] if isinstance(bundle, tuple) else bundle)["text/plain"] = repr(self)
        return bundle


class Panel(Readable, ipywidgets.VBox):
    """Controls above, a picture below that is drawn anew when one of them moves.

    Parameters
    ----------
    draw : takes the controls' values as keyword arguments, gives a ``matplotlib.figure.Figure``
    controls : keyword -> a widget with a ``value``; see :func:`slider` and :func:`choice`
    """

    def __init__(self, draw: Callable[..., Figure], **controls: ipywidgets.Widget):
        self.draw, self.controls = draw, controls
        self.picture = ipywidgets.Image(format="png", value=png(draw(**self.values)))
        self.message = ipywidgets.HTML()
        for control in controls.values():
            control.observe(self._redraw, names="value")
        super().__init__([*controls.values(), self.message, self.picture])

    @property
    def values(self) -> dict:
        """What the controls stand at."""
        return {name: control.value for name, control in self.controls.items()}

    def _redraw(self, _) -> None:
        try:
            self.picture.value = png(self.draw(**self.values))
            self.message.value = ""
        except ValueError as error:  # a setting that makes no sense: say so and keep the last picture
            self.message.value = f"<b>{html.escape(str(error))}</b>"

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"Panel({settings}) - run the notebook to move it"


def slider(label: str, low: float, high: float, value: float, step: float | None = None) -> ipywidgets.Widget:
    """A labelled slider; whole numbers where ``low``, ``high`` and ``value`` are whole. Redraws when it is let go."""
    whole = all(isinstance(v, int) for v in (low, high, value))
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    step = step or (1 if whole else (high - low) / 50)
    return kind(
        value=value, min=low, max=high, step=step, description=label, continuous_update=False,
        style={"description_width": "140px"}, layout={"width": "480px"},
    )  # fmt: skip


def choice(label: str, options: list, value=None) -> ipywidgets.Widget:
    """A labelled drop-down list."""
    return ipywidgets.Dropdown(
        options=options, value=options[0] if value is None else value, description=label,
        style={"description_width": "140px"}, layout={"width": "480px"},
    )  # fmt: skip
