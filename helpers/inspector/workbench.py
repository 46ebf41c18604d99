"""What methods make of the inspector's pictures, and the measures of it, apart from any widget.

A :class:`helpers.inspector.pictures.Picture` is computed once for a state and handed to everything here. Answers are
cached: going back is free.
"""

import time
import warnings
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import torch

from helpers.data import load_faces, load_parameters
from helpers.engine.devices import one_thread
from helpers.engine.errors import CheckpointError, ImageError
from helpers.inspector.pictures import Cache, Picture, PictureSets
from helpers.inspector.state import State
from helpers.methods import METHODS, TITLES, Cancelled, Method, OnStep, load_method, measurable, outside
from helpers.metrics import HIGHER_IS_BETTER, measure
from helpers.pairs import Batch, Pairs
from helpers.perceptual import load_lpips
from helpers.probes import Probe, fit_probes
from helpers.restore import restore_photograph
from helpers.restorer import Restorer

NOT_FOR_THIS = "not trained for this"
SCORED = 400  # pictures of a folder that are measured for sorting
THUMB = 64  # pixels a side of the gallery's thumbnails


class Restored(NamedTuple):
    """A method's answer and how long it took."""

    image: np.ndarray  # uint8 128×128×3
    milliseconds: float


class Workbench:
    """Methods and measures of the inspector, applied to pictures of its sets.

    Parameters
    ----------
    folder : own photographs; see :class:`helpers.inspector.pictures.PictureSets`
    device : of the methods; CUDA where there is one, by default

    Attributes
    ----------
    sets : the pictures
    scores : (set, method or "input") -> measures under the course's own blur, a row for each picture
    probes : property -> its probe, once they are learnt
    lpips, lpips_problem : the perceptual distance, and why it is absent or not what its name says
    """

    def __init__(self, folder: str | Path | None = None, device: str | torch.device | None = None):
        self.device = device
        self.sets = PictureSets(folder)
        self.scores: dict[tuple[str, str], pd.DataFrame] = {}
        self.probes: dict[str, Probe] = {}
        self._cache = Cache()
        self._thumbs: dict[tuple, np.ndarray] = {}  # 12 kB each, a few for each picture of a set
        self._methods: dict[str, Method | CheckpointError] = {}
        self.lpips, self.lpips_problem = None, ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a random trunk: said on the page instead
                self.lpips = load_lpips()
            if self.lpips.name != "LPIPS":
                self.lpips_problem = "AlexNet's weights are absent: on a random trunk LPIPS is no LPIPS"
        except (FileNotFoundError, ValueError) as error:
            self.lpips_problem = f"LPIPS is absent: {error}"

    def open_folder(self, folder: str | Path) -> None:
        """Use the photographs below ``folder`` as the set "folder"; ImageError if there are none."""
        self.scores = {key: table for key, table in self.scores.items() if key[0] != "folder"}
        self.sets.open_folder(folder)

    # -- methods -------------------------------------------------------------------------------------------------------

    def method(self, name: str) -> Method:
        """A method, loaded once; CheckpointError where its weights are not there."""
        if name not in self._methods:
            try:
                self._methods[name] = load_method(name, self.device)
            except CheckpointError as error:
                self._methods[name] = error
        found = self._methods[name]
        if isinstance(found, CheckpointError):
            raise found
        return found

    def missing(self, name: str) -> str:
        """Why a method cannot be used; "" if it can."""
        try:
            self.method(name)
        except CheckpointError as error:
            return self.sets.short(error)
        return ""

    def restorer(self, name: str) -> Restorer | None:
        """The model whose code can be drawn, behind a method that has one."""
        found = getattr(self.method(name), "restorer", None)
        return found if isinstance(found, Restorer) else None

    def coder(self, methods: tuple[str, ...]) -> Restorer:
        """The first of ``methods`` whose model has a code; else that of any method whose weights are there.

        Raises
        ------
        CheckpointError
            if there is none
        """
        for name in (*methods, *METHODS):
            try:
                if not METHODS[name].slow and (found := self.restorer(name)):
                    return found
            except CheckpointError:
                continue
        raise CheckpointError("no method with a code has its weights here")

    # -- one picture ---------------------------------------------------------------------------------------------------

    def blur_params(self, picture: Picture, name: str) -> list[dict]:
        """The degradation's parameters, for a method's ``restore``; ValueError where it must know a blur and there is
        none.
        """
        if METHODS[name].knows_blur and not {"sigma", "length", "radius"} & picture.params.keys():
            raise ValueError("must be told the blur: choose one under Degradation")
        return [picture.params]

    def caution(self, picture: Picture, name: str) -> str:
        """:data:`NOT_FOR_THIS` where a method was not trained for what was done to the picture, so that it may come out
        worse; else "".
        """
        return NOT_FOR_THIS if outside(METHODS[name].trained_for, picture.params) else ""

    def restored(self, picture: Picture, name: str, edges: str = "blurred") -> Restored | None:
        """What a method makes of the picture; None for a slow one that has not been run (:meth:`run_slow`).

        Parameters
        ----------
        edges : the edge map that it is given, a key of :data:`helpers.inspector.state.EDGES`

        Raises
        ------
        CheckpointError, ValueError
            if its weights are not there, or it cannot work on this degradation
        """
        if METHODS[name].slow:
            return self._cache.get(("slow", name, picture.key))
        key = ("restored", name, edges, picture.thresholds, picture.key)
        return self._cache.remember(key, lambda: self._restore(picture, name, edges))

    def _restore(self, picture: Picture, name: str, edges: str) -> Restored:
        params, method = self.blur_params(picture, name), self.method(name)
        given = {"edges": picture.edge_map(edges)[None]} if method.edge_aware else {}
        started = time.perf_counter()
        with one_thread():
            image = method.restore(picture.blurred[None], params, **given)[0]
        return Restored(image, 1000 * (time.perf_counter() - started))

    def run_slow(self, picture: Picture, name: str) -> Callable[[OnStep], tuple]:
        """The long computation of a slow method, for ``jobs.Worker``; :meth:`keep` takes its result."""
        key, params = ("slow", name, picture.key), self.blur_params(picture, name)

        def work(on_step: OnStep):
            method, started = self.method(name), time.perf_counter()
            image = method.restore(picture.blurred[None], params, on_step)[0]
            return key, Restored(image, 1000 * (time.perf_counter() - started))

        return work

    def keep(self, result: tuple) -> None:
        """Remember what :meth:`run_slow` gave."""
        self._cache.remember(result[0], lambda: result[1])

    def whole(self, crop: tuple[int, ...], methods: tuple[str, ...]) -> tuple[str, Callable[[OnStep], bytes]]:
        """The method that restores the uploaded photograph as ``python -m helpers.restore`` does, and its computation,
        for ``jobs.Worker``: the square ``crop`` at the photograph's own resolution, put back; a PNG file's bytes.

        Raises
        ------
        ValueError
            if none of ``methods`` can: slow ones cannot, nor those that must be told the blur
        """
        usable = [n for n in methods if n in measurable() and not self.missing(n)]
        if not usable:
            raise ValueError("Choose a method that is not slow and need not be told the blur.")

        sets = copy(self.sets)  # this photograph, also where another is uploaded meanwhile

        def work(on_step: OnStep) -> bytes:
            photograph, box = sets.original(crop)
            photograph.pixels = restore_photograph(photograph.pixels, self.method(usable[0]), box)
            if not on_step(1, 2):
                raise Cancelled("cancelled")
            return photograph.png()

        return usable[0], work

    def measures(self, picture: Picture, name: str = "input", edges: str = "blurred") -> dict[str, float] | None:
        """The five measures of a method's answer, or of the input; None without a truth or without an answer."""
        if not picture.has_truth:
            return None
        if name == "input":
            image, key = picture.blurred, ("measures", "input", picture.key)
        else:
            answer = self.restored(picture, name, edges)
            if answer is None:
                return None
            image, key = answer.image, ("measures", name, edges, picture.thresholds, picture.key)
        return self._cache.remember(key, lambda: self._measure(image, picture.sharp))

    def _measure(self, image: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        with one_thread():
            return measure(image[None], truth[None], self.lpips).iloc[0].to_dict()

    def table(self, picture: Picture, methods: tuple[str, ...]) -> pd.DataFrame:
        """A row for the input and for each method: measures, parameters, milliseconds, remark."""
        columns = [*list(HIGHER_IS_BETTER)[:4], self.lpips.name if self.lpips else "LPIPS"]
        rows = {"input": self._row(picture, "input")} | {TITLES[name]: self._row(picture, name) for name in methods}
        return pd.DataFrame(rows).T.reindex(columns=[*columns, "parameters", "ms", "remark"])

    def _row(self, picture: Picture, name: str) -> dict:
        row = {"parameters": np.nan, "ms": np.nan, "remark": ""}
        try:
            row |= self.measures(picture, name) or {}
            if name == "input":
                return row
            if (answer := self.restored(picture, name)) is None:
                return row | {"remark": "slow: press its button"}
            row |= {"ms": answer.milliseconds, "parameters": self.method(name).parameters}
            return row | {"remark": self.caution(picture, name)}
        except ValueError as error:  # CheckpointError, or a degradation that it cannot work on
            return row | {"remark": self.sets.short(error)}

    # -- a whole set ---------------------------------------------------------------------------------------------------

    def score(self, source: str, name: str) -> Callable[[OnStep], dict]:
        """The measuring of a set under the course's own blur, for a worker; :attr:`scores` takes its result.

        A picture that cannot be read has no row.
        """
        images = self.sets.images(source)

        def work(on_step: OnStep) -> dict:
            pairs, count, measured = Pairs(images), min(len(images), SCORED), 0
            tables: dict[str, list] = {"input": [], name: []}
            for start in range(0, count, 10):
                rows, batch = _readable(pairs, range(start, min(start + 10, count)))
                if rows:
                    answers = {} if (source, "input") in self.scores else {"input": batch.blurred}
                    if name != "input":
                        answers[name] = self.method(name).restore(batch.blurred, batch.params)
                    for n, answer in answers.items():
                        tables[n].append(measure(answer, batch.sharp, self.lpips).set_axis(rows))
                measured += len(rows)
                if not on_step(min(start + 10, count), count):
                    raise Cancelled("cancelled")
            if not measured:
                raise ImageError("no picture of this set can be read")
            return {(source, n): pd.concat(parts) for n, parts in tables.items() if parts}

        return work

    def scored_method(self, methods: tuple[str, ...]) -> str:
        """The method whose measures sort the set: the first of ``methods`` that is not slow, else "input"."""
        return next((name for name in methods if not METHODS[name].slow and not self.missing(name)), "input")

    def thumbnail(self, state: State, index: int) -> np.ndarray:
        """Picture ``index`` as the gallery shows it, under the course's own blur: uint8 64×64×3, grey where its file
        cannot be read.
        """
        name = self.scored_method(state.methods)
        key = (state.source, self.sets.folder_count, state.thumbs, name, index)
        if key not in self._thumbs:
            self._thumbs[key] = self._thumbnail(State(source=state.source, index=index), state.thumbs, name)
        return self._thumbs[key]

    def _thumbnail(self, state: State, thumbs: str, name: str) -> np.ndarray:
        try:
            if thumbs == "sharp":
                image = self.sets.images(state.source)[state.index]
            else:
                picture = self.sets.picture(state)
                if thumbs == "edges":
                    image = np.repeat(picture.edges[..., None] * 255, 3, axis=2)
                elif thumbs == "restored" and name != "input":
                    image = self.restored(picture, name).image
                else:
                    image = picture.blurred
        except ImageError:
            return np.full((THUMB, THUMB, 3), 200, np.uint8)
        return cv2.resize(image, (THUMB, THUMB), interpolation=cv2.INTER_AREA)

    def order(self, state: State) -> list[int]:
        """Indices of the set, sorted by the first chosen method's measure; as stored where that is not measured."""
        count = len(self.sets.images(state.source))
        table = self.scores.get((state.source, self.scored_method(state.methods)))
        if not state.sort_by or table is None:
            return list(range(count))
        values = table[column(table, state.sort_by)]
        sign = -1 if HIGHER_IS_BETTER[state.sort_by] != state.worst_first else 1
        measured = values.index[np.argsort(sign * values.to_numpy(), kind="stable")].tolist()
        return measured + sorted(set(range(count)) - set(measured))

    # -- the code ------------------------------------------------------------------------------------------------------

    def learn_probes(self, methods: tuple[str, ...], faces: int = 800) -> Callable[[OnStep], dict[str, Probe]]:
        """The fitting of the probes on training faces, for a worker; :attr:`probes` takes its result."""

        def work(on_step: OnStep) -> dict[str, Probe]:
            coder, codes, done = self.coder(methods), {}, 0
            sets = {"train": load_faces("train", faces), "val": load_faces("val", faces // 2)}
            total = sum(map(len, sets.values()))
            for split, pictures in sets.items():
                parts = []
                for batch in Pairs(pictures).batches(10):
                    parts.append(coder.encode(batch.blurred, batch.edges).cpu().numpy())
                    done += len(batch.sharp)
                    if not on_step(done, total):
                        raise Cancelled("cancelled")
                codes[split] = (np.concatenate(parts), load_parameters(split).iloc[: len(pictures)])
            return fit_probes(*codes["train"], *codes["val"])

        return work

    def code(self, picture: Picture, methods: tuple[str, ...]) -> np.ndarray:
        """z_deblur of the picture: 512 numbers."""
        coder = self.coder(methods)
        with one_thread():
            return coder.encode(picture.blurred[None], picture.edges[None])[0].cpu().numpy()

    def decode(self, codes: np.ndarray, methods: tuple[str, ...]) -> np.ndarray:
        """Pictures of codes: N×512 to uint8 N×128×128×3."""
        with one_thread():
            return self.coder(methods).decode(torch.from_numpy(np.asarray(codes, np.float32)))


def _readable(pairs: Pairs, indices: range) -> tuple[list[int], Batch | None]:
    """The batch of those of ``indices`` whose files can be read, and which they are."""
    try:
        return list(indices), pairs.batch(indices)
    except ImageError:
        rows = []
        for index in indices:
            try:
                pairs.sharp[index]
            except ImageError:
                continue
            rows.append(index)
        return rows, pairs.batch(rows) if rows else None


def column(table: pd.DataFrame, metric: str) -> str:
    """The table's own name of a measure: "LPIPS" may be called "LPIPS (random trunk)"."""
    return next(c for c in table.columns if str(c).startswith(metric))
