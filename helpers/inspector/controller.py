"""The inspector on the page: controls change the state; its picture is computed once and handed to what shows it.
Computing is the work of :mod:`helpers.inspector.pictures`, :mod:`helpers.inspector.workbench` and
:mod:`helpers.inspector.views`.

Everything runs between two messages of the page, one after the other. What takes long runs in a
:class:`helpers.inspector.jobs.Worker` with a progress bar and a button to cancel.
"""

import html
from pathlib import Path

from matplotlib.figure import Figure

from helpers.engine.errors import CheckpointError, ImageError
from helpers.figures import png
from helpers.inspector import views
from helpers.inspector.jobs import Worker
from helpers.inspector.page import ORDERS, InspectorPage, served
from helpers.inspector.panes import encode
from helpers.inspector.pictures import Picture
from helpers.inspector.state import KINDS, SOURCES, State
from helpers.inspector.views import NothingToShow
from helpers.inspector.workbench import Workbench
from helpers.methods import TITLES, Cancelled
from helpers.probes import PROPERTIES

ON_A_PHOTOGRAPH = (
    "All but the one that was trained blind learnt from <b>rendered</b> faces with one blur, and make a photograph "
    "worse that is sharp, or blurred otherwise. What they paint is what such a face might look like: often someone "
    "else's features, smooth skin, a smeared background. It is a guess, never evidence of how a person looks. Cut the "
    "square so that it holds a face from hair to chin."
)


class Inspector(InspectorPage):
    """Look at what the methods do.

    Parameters
    ----------
    bench : computes; a new :class:`helpers.inspector.workbench.Workbench` by default
    remember : a file that keeps the state over a restart; unused on a page of Voilà, where visitors would share it
    state : where to start, instead of what ``remember`` holds
    """

    def __init__(self, bench: Workbench | None = None, remember: str | Path | None = None, state: State | None = None):
        self.bench, self.worker = bench or Workbench(), Worker()
        self.sets, self.picture = self.bench.sets, None
        self.remember = Path(remember) if remember and not served() else None
        state = state or (State.load(self.remember) if self.remember else State())
        self.state = self._possible(state)
        self._mirroring = self._tried = False
        super().__init__(self.bench, self.state)
        self._connect()
        self.redraw()

    def _possible(self, state: State) -> State:
        """The state without what is not there (any more)."""
        if self.sets.why_not(state.source):
            there = [source for source in SOURCES if not self.sets.why_not(source)]
            state = state.but(**self._moved(state, there[0] if there else "photo"))
        else:
            state = state.but(index=min(state.index, len(self.sets.images(state.source)) - 1))
        methods = tuple(name for name in state.methods if not self.bench.missing(name))
        return state.but(methods=methods, view=state.view if state.view in views.VIEWS else "stages")

    def _moved(self, state: State, source: str) -> dict:
        """What changes with the set: its first picture, the usual blur, and the methods unless others were chosen."""
        usual = {
            s: ("blind",) if s == "photo" and not self.bench.missing("blind") else State().methods for s in SOURCES
        }
        methods = usual[source] if state.methods == usual[state.source] else state.methods
        return {"source": source, "index": 0, "kind": "none" if source == "photo" else "drawn", "methods": methods}

    def _connect(self) -> None:
        """Tie every control to what it does."""
        values = {"angle": self.angle, "noise": self.noise, "quality": self.quality, "view": self.view} | self.extras
        for name, control in values.items():
            control.observe(lambda change, name=name: self._set(**{name: change.new}), names="value")
        for source, button in self.sources.items():
            button.observe(lambda change, source=source: self._choose_source(source), names="value")
        for box in self.boxes.values():
            box.observe(self._choose_methods, names="value")
        self.canny.observe(lambda change: self._set(low=change.new[0], high=change.new[1]), names="value")
        self.photo.observe(self._move_square, names="crop")
        self.panes.observe(self._pick, names="picked")
        for control, action in {
            self.folder: self._open_folder, self.position: self._pick_position, self.order: self._sort,
            self.kind: self._choose_kind, self.strength: self._choose_strength,
        }.items():  # fmt: skip
            control.observe(action, names="value")
        clicks = {self.previous: lambda: self.step(-1), self.next: lambda: self.step(1)}
        clicks |= {self.example: self._show_example, self.next_face: self._to_next_face}
        clicks |= {self.measure: self._score, self.learn: self._learn, self.cancel: self.worker.cancel}
        clicks |= {button: lambda what=what: self.save(what) for what, button in self.saves.items()}
        clicks |= {button: lambda name=name: self._run_slow(name) for name, button in self.runs.items()}
        for button, action in clicks.items():
            button.on_click(lambda _, action=action: action())
        self.panes.on_step, self.photo.on_upload = self.step, self._upload

    # -- controls change the state -------------------------------------------------------------------------------------

    def _set(self, **changes) -> None:
        """The one way in which the state changes; says so where a value makes no sense."""
        if self._mirroring:
            return
        try:
            self.state = self.state.but(**changes)
        except ValueError as error:
            self._say(str(error))
            return
        self.redraw()
        if self.remember:
            try:
                self.state.save(self.remember)
            except OSError as error:  # a folder that cannot be written: everything but the memory works
                self._say(f"the settings cannot be kept: {error}")
                self.remember = None

    def _choose_source(self, source: str) -> None:
        if not self._mirroring:  # pressing the pressed button keeps it pressed
            self._set(**(self._moved(self.state, source) if source != self.state.source else {"source": source}))

    def _choose_methods(self, _) -> None:
        if self._mirroring:
            return
        chosen = [name for name, box in self.boxes.items() if box.value]
        self._set(methods=tuple(chosen))

    def _choose_kind(self, change) -> None:
        if not self._mirroring:
            self._set(kind=change.new, strength=KINDS[change.new].start)

    def _choose_strength(self, change) -> None:
        """Whoever takes the slider of a blur that was drawn wants to set it: from here on it is set."""
        if not self._mirroring:
            if self.state.kind == "drawn" and self.picture and abs(change.new - self._drawn()) < 0.1:
                return  # the browser rounds to the slider's steps and reports that as a move
            kind = "gaussian" if self.state.kind == "drawn" else self.state.kind
            self._set(kind=kind, strength=change.new)

    def _drawn(self) -> float:
        """The σ that was drawn for this picture."""
        return round(self.picture.params["sigma"], 1)

    def _pick_position(self, change) -> None:
        if not self._mirroring:
            order = self.bench.order(self.state)
            self._set(index=order[min(change.new, len(order) - 1)])

    def _pick(self, change) -> None:
        if change.new >= 0:
            self._set(index=change.new)

    def _sort(self, change) -> None:
        if not self._mirroring:
            metric, worst = ORDERS[change.new]
            self._set(sort_by=metric, worst_first=worst)
            if metric and (self.state.source, self.bench.scored_method(self.state.methods)) not in self.bench.scores:
                self._score()

    def step(self, by: int) -> None:
        """To the next (1) or previous (-1) picture in the chosen order."""
        if not self.sets.why_not(self.state.source):
            order = self.bench.order(self.state)
            self._set(index=order[(order.index(self.state.index) + by) % len(order)])

    def _open_folder(self, change) -> None:
        if self._mirroring or not change.new.strip():
            return
        try:
            self.bench.open_folder(Path(change.new.strip()).expanduser())
        except ImageError as error:
            self._say(str(error))
            return
        self._set(source="folder", index=0)

    def _upload(self, name: str, content: bytes) -> None:
        try:
            self.sets.upload(content)
        except ImageError as error:
            self.photo.say(f"{name}: {error}")
            return
        self._show_photo()

    def _show_example(self) -> None:
        self.sets.example()
        self._show_photo()

    def _move_square(self, _) -> None:
        """Take the place of the square, unless it was still on its way when another photograph was taken."""
        if place := self.photo.square():
            self._set(crop=place)
        else:
            self.photo.crop = list(self.state.crop)

    def _to_next_face(self) -> None:
        crop = self.sets.next_face(self.state.crop)
        self.photo.crop = list(crop)

    def _show_photo(self) -> None:
        """The photograph that was taken last, with the square cut out of it that is proposed first."""
        crop = self.sets.proposal.boxes[0]
        self.photo.say("")
        self._mirroring = True
        self.photo.show_photo(self.sets.photo, crop)
        self._mirroring = False
        self._set(crop=crop, **(self._moved(self.state, "photo") if self.state.source != "photo" else {}))

    # -- long computations ---------------------------------------------------------------------------------------------

    def _start(self, what: str, work, done) -> None:
        if self.worker.busy:
            self._say(f"{self.doing.value} is under way: wait for it or cancel it.")
            return

        def end(result=None, error: Exception | None = None):
            self.job.layout.display = "none"
            for name, button in self.runs.items():
                button.disabled = bool(self.bench.missing(name))
            if error is None:
                done(result)
                self.redraw()
            elif not isinstance(error, Cancelled):
                self._say(f"{what}: {error}")
            else:
                self._say(f"{what}: cancelled.")

        def progress(step: int, steps: int):
            self.bar.max, self.bar.value = steps, step

        self.doing.value, self.bar.value = what, 0
        self.job.layout.display = "flex"
        for button in self.runs.values():
            button.disabled = True
        self.worker.start(work, end, lambda error: end(error=error), progress)

    def _run_slow(self, name: str) -> None:
        if self.picture is None:
            return
        if not self.boxes[name].value:
            self.boxes[name].value = True
        try:
            work = self.bench.run_slow(self.picture, name)
        except ValueError as error:
            self._say(f"{TITLES[name]}: {error}")
        else:
            self._start(TITLES[name], work, self.bench.keep)

    def _score(self) -> None:
        if not self.state.has_truth:
            return
        source, name = self.state.source, self.bench.scored_method(self.state.methods)
        self._start("Measuring the set", self.bench.score(source, name), self.bench.scores.update)

    def _learn(self) -> None:
        self._tried = True  # by itself only once; cancelled or failed, it waits for its button
        self._start("Learning the directions", self.bench.learn_probes(self.state.methods), self.bench.probes.update)

    # -- the state is shown --------------------------------------------------------------------------------------------

    def redraw(self) -> None:
        """Compute the state's picture, once, and show it and what follows from it."""
        state, problem = self.state, ""
        try:
            self.picture = self.sets.picture(state)
        except ImageError as error:
            self.picture, problem = None, self.sets.short(error)
        self._mirror()
        if self.picture:
            problem = self._show_all(state, self.picture)
        else:
            self.table.value = ""
            if state.source == "photo":
                problem = "Choose a photograph first."
        if problem:
            self.panes.show([])
            self.plot.layout.display, self.legend.value = "none", ""
        if state.source == "folder" and self.sets.left_out:
            problem = "\n".join(filter(None, [problem, self.sets.left_out]))
        self._say(problem, ON_A_PHOTOGRAPH if state.source in ("photo", "folder") else "")

    def _mirror(self) -> None:
        """Make every control stand where the state says."""
        state, self._mirroring = self.state, True
        try:
            self._mirror_picture(state)
            self._mirror_degradation(state)
            for name, box in self.boxes.items():
                box.value = name in state.methods
            self.view.value = state.view
            shown = {"left": state.left or "input", "right": state.right or (*state.methods, "truth")[0]}
            shown["other"] = min(state.other, self.extras["other"].max)
            for name, control in self.extras.items():
                control.value = shown.get(name, getattr(state, name))
            self.row.children = self.asked.get(state.view, [])
        finally:
            self._mirroring = False

    def _mirror_picture(self, state: State) -> None:
        """Set, position and order."""
        for source, button in self.sources.items():
            button.value = source == state.source
        photo, folder = state.source == "photo", state.source == "folder"
        self.folder.layout.display = "flex" if folder and not served() else "none"
        self.photo.layout.display = self.example.layout.display = "flex" if photo else "none"
        self.saves["whole"].layout.display = "flex" if photo and self.picture else "none"
        told = self.sets.about_faces(state.crop) if photo else ""
        self.faces.value, self.faces.layout.display = (
            f"<div class='absent' role='status'>{html.escape(told)}</div>",
            "flex" if told else "none",
        )
        self.next_face.layout.display = "flex" if photo and len(self.sets.proposal.boxes) > 1 else "none"
        several = not photo and not self.sets.why_not(state.source)
        for control in (self.position, self.steps, self.order):
            control.layout.display = "flex" if several else "none"
        if several:
            order = self.bench.order(state)
            self.position.max = len(order) - 1
            self.position.value = order.index(min(state.index, len(order) - 1))
            self.extras["other"].max = len(order) - 1
        self.order.value = next(k for k, v in ORDERS.items() if v == (state.sort_by, state.worst_first or not v[0]))

    def _mirror_degradation(self, state: State) -> None:
        """Blur, noise, JPEG and Canny's thresholds."""
        kind = KINDS[state.kind]
        self.kind.value = state.kind
        self.strength.description = kind.quantity or "strength"
        self.strength.disabled = state.kind == "none"
        if state.kind != "none":
            if (self.strength.min, self.strength.max) != (kind.low, kind.high):
                self.strength.min = 0  # below every highest value, so the two can be set one after the other
                self.strength.max, self.strength.min = kind.high, kind.low
            self.strength.value = self._drawn() if state.kind == "drawn" and self.picture else state.strength
        self.angle.disabled = state.kind != "motion"
        self.angle.value, self.noise.value, self.quality.value = int(state.angle), int(state.noise), state.quality
        self.canny.value = (state.low, state.high)

    def _say(self, text: str, markup: str = "") -> None:
        """A line above the pictures; ``text`` is shown as it is, ``markup`` as HTML."""
        inside = "<br>".join(filter(None, [*map(html.escape, text.splitlines()), markup]))
        self.message.value = f"<div class='message' role='status'>{inside}</div>" if inside else ""

    def _show_all(self, state: State, picture: Picture) -> str:
        """The chosen view and the table of measures; why the view shows nothing, "" if it shows something."""
        problem = ""
        try:
            self._show(state, picture)
        except (ImageError, CheckpointError, NothingToShow) as error:
            problem = self.sets.short(error)
        table = self.bench.table(picture, state.methods)
        self.table.value = views.table_html(table, self.bench.lpips_problem, picture.has_truth)
        return problem

    def _show(self, state: State, picture: Picture) -> None:
        """The chosen view; starts what it needs and has not got."""
        view = state.view
        name = self.bench.scored_method(state.methods)
        if view == "among" and picture.has_truth and (state.source, name) not in self.bench.scores:
            if not self.worker.busy:
                self._score()
            if (state.source, name) not in self.bench.scores:
                raise NothingToShow("The whole set is being measured, once; the histograms follow.")
        if view == "code" and not self.bench.probes and not self.worker.busy and not self._tried:
            self._learn()
        if view == "gallery" and state.source == "photo":
            raise NothingToShow("One photograph makes no gallery.")
        self.panes.layout.display = "none" if view == "among" else "flex"
        self.legend.value = f"{views.HELP[view]}<br>{views.legend(view) if picture.has_truth else ''}"
        if view == "among":
            self.plot.value = png(views.among(self.bench, state, picture))
            self.plot.layout.display = "flex"
            return
        self.plot.layout.display = "none"
        if view == "gallery":
            images, picks = views.thumbnails(self.bench, state)
            self.panes.show_gallery(images, views.labels(self.bench, state, picks), picks, state.index)
        else:
            panes = [*views.panes_of(self.bench, state, picture, view).values()]
            self.panes.show(panes, "wipe" if view == "wipe" else "panes")
        if view == "code" and self.bench.probes:
            name, _ = PROPERTIES[state.wanted]
            probe = self.bench.probes[state.wanted]
            self.legend.value += (
                f"The probe for <b>{name}</b> explains {100 * max(probe.accuracy, 0):.0f} % of the variance "
                f"(R² = {probe.accuracy:.2f}) on faces that it has not seen. The lower, the less the pictures mean."
            )

    # -- what can be kept ----------------------------------------------------------------------------------------------

    def save(self, what: str) -> None:
        """Have the browser save "view" (PNG), "table" (CSV), "result", "pair" or "whole" (PNG)."""
        state, picture, name = self.state, self.picture, f"{self.state.source}_{self.state.index}"
        try:
            if picture is None:
                raise NothingToShow("There is no picture to save.")
            if what == "view":
                figure = views.draw_view(self.bench, state, picture, state.view, self.panes.wipe)
                self.panes.download(f"{name}_{state.view}.png", png(figure))
            elif what == "table":
                content = self.bench.table(picture, state.methods).to_csv(index_label="method").encode()
                self.panes.download(f"{name}_measures.csv", content, "text/csv")
            elif what == "pair":
                self.panes.download(f"{name}_side_by_side.png", png(views.side_by_side(self.bench, state, picture)))
            elif what == "whole":
                self._save_whole(picture, name)
            else:
                answers = {n: self.bench.restored(picture, n) for n in state.methods}
                there = [(n, answer) for n, answer in answers.items() if answer]
                if not there:
                    raise NothingToShow("No chosen method has a result yet.")
                self.panes.download(f"{name}_{there[0][0]}.png", encode(there[0][1].image))
        except ValueError as error:
            self._say(str(error))

    def _save_whole(self, picture: Picture, name: str) -> None:
        """The whole photograph with its square restored; computed beside the page, since it may be large."""
        if picture.params:
            raise NothingToShow("It is restored as it is: choose no blur, no noise and JPEG quality 100.")
        method, work = self.bench.whole(self.state.crop, self.state.methods)

        def done(content: bytes) -> None:
            self.panes.download(f"{name}_whole_{method}.png", content)

        self._start("Restoring the whole photograph", work, done)

    def figure(self, view: str, **changes) -> Figure | None:
        """A view as a figure, for readers without a kernel; the default state with ``changes``.

        On a page of Voilà there is the live view: nothing is computed a second time, and None is given.
        """
        if served():
            return None
        state = self._possible(State(view=view, **changes))
        name = self.bench.scored_method(state.methods)
        if (view == "among" or state.sort_by) and (state.source, name) not in self.bench.scores:
            self.bench.scores |= self.bench.score(state.source, name)(lambda step, steps: True)
        if view == "code" and not self.bench.probes:
            self.bench.probes |= self.bench.learn_probes(state.methods)(lambda step, steps: True)
        return views.draw_view(self.bench, state, self.sets.picture(state), view)
