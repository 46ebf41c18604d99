"""The inspector's controls and places, laid out: what there is. What it does: :mod:`helpers.inspector.controller`."""

import html
import os

import ipywidgets

from helpers import panels
from helpers.inspector import views
from helpers.inspector.panes import Panes
from helpers.inspector.state import KINDS, SOURCES, State
from helpers.inspector.workbench import Workbench
from helpers.methods import METHODS, TITLES
from helpers.metrics import HIGHER_IS_BETTER
from helpers.probes import PROPERTIES

ORDERS = {"as stored": ("", True)} | {
    f"{metric}, {word} first": (metric, worst)
    for metric in HIGHER_IS_BETTER
    for word, worst in (("worst", True), ("best", False))
}
# Voilà's cells are .jp-Cell in a <div> each: hide those after the inspector, and the text between title and inspector.
ONLY_THE_INSPECTOR = """
div:has(> .jp-Cell .inspector) ~ * {display: none}
div:has(~ div .inspector) > .jp-Cell :is(p, ul) {display: none}
"""
WRAP = {"flex_flow": "row wrap"}
HIDDEN = {"display": "none"}


def served() -> bool:
    """Whether this kernel works for a page of Voilà, whose visitor is not the owner of the machine."""
    return "VOILA_BASE_URL" in os.environ


def _narrow(control: ipywidgets.Widget, width: str = "99%") -> ipywidgets.Widget:
    """A control of :mod:`helpers.panels` for a narrow place; sliders report while they move."""
    control.layout.width, control.style.description_width = width, "104px"
    if isinstance(control, ipywidgets.IntSlider | ipywidgets.FloatSlider | ipywidgets.IntRangeSlider):
        control.continuous_update = True
    return control


def _button(text: str, tip: str = "", **more) -> ipywidgets.Button:
    return ipywidgets.Button(description=text, tooltip=tip or text, layout={"width": "auto"}, **more)


def _heading(text: str) -> ipywidgets.HTML:
    return ipywidgets.HTML(f"<div class='heading'>{text}</div>")


def _grey(text: str) -> ipywidgets.HTML:
    return ipywidgets.HTML(f"<div class='absent'>{html.escape(text)}</div>")


class InspectorPage(panels.Readable, ipywidgets.VBox):
    """The widgets of the inspector; :class:`helpers.inspector.controller.Inspector` connects them.

    Parameters
    ----------
    bench, state : what there is to choose from, and what is chosen
    """

    def __init__(self, bench: Workbench, state: State):
        groups = self._picture(bench), self._degradation(), self._choice_of_methods(bench, state)
        side = ipywidgets.VBox([ipywidgets.VBox(group) for group in groups])
        main = ipywidgets.VBox([*self._looking(), *self._reading(), self._saving()])
        side.add_class("side")
        main.add_class("main")
        super().__init__([ipywidgets.HBox([side, main], layout=WRAP)])
        self.add_class("inspector")
        if served():  # the page is the inspector; what the chapter says below it is for readers of the notebook
            self.children += (ipywidgets.HTML(f"<style>{ONLY_THE_INSPECTOR}</style>"),)

    def _picture(self, bench: Workbench) -> list[ipywidgets.Widget]:
        """Which set and which picture; what is not there is grey, with the reason."""
        self.sources, reasons = {}, []
        for source, title in SOURCES.items():
            why = "" if source == "photo" else bench.sets.why_not(source)
            if source == "folder" and not os.environ.get("COURSE_PHOTOS"):
                why = "on a served page, the folder that COURSE_PHOTOS names when Voilà is started" if served() else ""
            reasons += [_grey(f"{title}: {why}")] if why else []
            self.sources[source] = ipywidgets.ToggleButton(
                description=title,
                tooltip=why or f"look at {title}",
                layout={"width": "auto"},
                disabled=bool(why) and (source != "folder" or served()),  # in a notebook another folder can be named
            )
        self.folder = ipywidgets.Text(placeholder="path of a folder", description="folder", continuous_update=False)
        self.photo = Panes(mode="crop")
        self.example = _button("example photograph", "an astronaut, photographed by NASA; from scikit-image")
        self.position, self.order = panels.slider("picture", 0, 1, 0), panels.choice("sort by", list(ORDERS))
        self.faces, self.next_face = ipywidgets.HTML(), _button("next face ▸", "put the square onto the next face")
        for control in (self.folder, self.position, self.order):
            _narrow(control)
        self.previous, self.next = _button("◂ previous"), _button("next ▸")
        self.steps = ipywidgets.HBox([self.previous, self.next])
        sources = ipywidgets.HBox([*self.sources.values()], layout=WRAP)
        choice = [
            self.folder,
            self.photo,
            self.faces,
            self.next_face,
            self.example,
            self.position,
            self.order,
            self.steps,
        ]
        return [_heading("Picture"), sources, *reasons, *choice]

    def _choice_of_methods(self, bench: Workbench, state: State) -> list[ipywidgets.Widget]:
        """A box for each method; a button to run it where it is slow."""
        self.boxes, self.runs, rows = {}, {}, []
        for name, method in METHODS.items():
            why = bench.missing(name)
            self.boxes[name] = ipywidgets.Checkbox(
                value=name in state.methods, description=TITLES[name], indent=False, disabled=bool(why),
                tooltip=why or f"restore with {TITLES[name]}", layout={"width": "auto", "flex": "1 1 auto"},
            )  # fmt: skip
            row = [self.boxes[name]]
            if method.trained_for not in ("", "blind"):
                row.append(_grey("trained for one blur"))
            if method.slow:
                self.runs[name] = _button("run", f"run {TITLES[name]}: slow", disabled=bool(why))
                row.append(self.runs[name])
            rows += [ipywidgets.HBox(row, layout=WRAP), *([_grey(why)] if why else [])]
        return [_heading("Methods"), *rows]

    def _degradation(self) -> list[ipywidgets.Widget]:
        """Kind and strength of the blur, noise, JPEG; Canny's thresholds."""
        self.kind = panels.choice("kind", [(kind.title, name) for name, kind in KINDS.items()], "drawn")
        self.strength = panels.slider("strength", 0.5, 30.0, 6.0, 0.1)
        self.angle = panels.slider("angle, degrees", 0, 180, 0)
        self.noise = panels.slider("noise, levels", 0, 50, 0)
        self.quality = panels.slider("JPEG quality", 1, 100, 100)
        self.canny = ipywidgets.IntRangeSlider(value=(8, 24), min=0, max=300, description="low, high")
        controls = [_narrow(c) for c in (self.kind, self.strength, self.angle, self.noise, self.quality, self.canny)]
        edges = _heading("Edge map (Canny’s thresholds)")
        return [_heading("Degradation"), *controls[:-1], edges, controls[-1]]

    def _looking(self) -> list[ipywidgets.Widget]:
        """The views, what some of them ask for, and where they are shown."""
        self.view = ipywidgets.ToggleButtons(
            options=[(title, name) for name, title in views.VIEWS.items()], style={"button_width": "auto"}
        )
        names = {"input": "blurred", "edges": "edge map"} | TITLES | {"truth": "ground truth"}
        pairs = [(title, name) for name, title in names.items()]
        self.extras = {  # named like the state's own values
            "left": panels.choice("left", pairs, "input"),
            "right": panels.choice("right", pairs, "truth"),
            "other": panels.slider("walk to face", 0, 399, 1),
            "step": panels.slider("how far", 0.0, 1.0, 0.5, 0.05),
            "wanted": panels.choice("property", [(title, name) for name, (title, _) in PROPERTIES.items()], "age"),
            "amount": panels.slider("move, st. dev.", -3.0, 3.0, 0.0, 0.1),
            "thumbs": panels.choice("show", [(title, name) for name, title in views.THUMBS.items()], "sharp"),
        }
        for control in self.extras.values():
            _narrow(control, "330px")
        self.measure = _button("Measure the set", "measure every picture of the set")
        self.learn = _button("Learn the directions", "fit the probes on training faces")
        e = self.extras
        self.asked = {
            "wipe": [e["left"], e["right"]],
            "code": [e["other"], e["step"], e["wanted"], e["amount"], self.learn],
            "gallery": [e["thumbs"]],
            "among": [self.measure],
        }
        self.row = ipywidgets.HBox([], layout=WRAP)
        self.bar, self.doing = ipywidgets.IntProgress(layout={"width": "260px"}), ipywidgets.Label()
        self.cancel = _button("Cancel")
        self.job = ipywidgets.HBox([self.doing, self.bar, self.cancel], layout=HIDDEN)
        self.message = ipywidgets.HTML()
        self.panes = Panes()
        self.plot = ipywidgets.Image(format="png", layout=HIDDEN | {"max_width": "100%"})
        return [self.view, self.row, self.job, self.message, self.panes, self.plot]

    def _reading(self) -> list[ipywidgets.Widget]:
        self.legend, self.table = ipywidgets.HTML(), ipywidgets.HTML()
        self.legend.add_class("legend")
        return [self.legend, self.table]

    def _saving(self) -> ipywidgets.Widget:
        self.saves = {
            "view": _button("View as PNG", "save what is shown"),
            "table": _button("Table as CSV", "save the table of measures"),
            "result": _button("Result as PNG", "save the restored picture alone"),
            "pair": _button("Side by side as PNG", "save input and results in one picture"),
            "whole": _button("Whole photograph as PNG", "save the photograph, its square restored, in its own size"),
        }
        return ipywidgets.HBox([*self.saves.values()], layout=WRAP)

    def __repr__(self) -> str:
        return "Inspector - run the notebook, or open it with Voilà, to use it"
