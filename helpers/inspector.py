"""What the inspector (notebook 12) shows, computed and remembered apart from any widget.

:class:`helpers.state.State` is what its controls stand at; :class:`Workbench` answers what follows from a state: the
blurred picture, its edges, what each method makes of it, the measures. Answers are cached: going back is free.
"""

import os
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import torch

from helpers.checkpoints import CheckpointError
from helpers.data import SIZE, ImageError, data_folder, load_faces, load_parameters, open_folder, read_image
from helpers.degrade import DefocusBlur, GaussianBlur, GaussianNoise, Jpeg, MotionBlur, preset
from helpers.edges import canny
from helpers.methods import METHODS, TITLES, Cancelled, Method, OnStep, load_method
from helpers.metrics import HIGHER_IS_BETTER, measure
from helpers.pairs import Pairs
from helpers.perceptual import load_lpips
from helpers.probes import Probe, fit_probes
from helpers.restorer import Restorer
from helpers.seeds import SEED, rng_for
from helpers.state import EDGES, State

KEPT = 512  # answers that are kept: at most 25 MB of pictures
SCORED = 400  # pictures of a folder that are measured for sorting
PHOTO_SIDE = 1024  # longer side of an uploaded photograph in memory; the models look at 128 pixels


class Blurred(NamedTuple):
    """A degraded picture, what was drawn for it, and both in words."""

    image: np.ndarray  # uint8 128×128×3
    params: dict
    words: str


class Restored(NamedTuple):
    """A method's answer and how long it took."""

    image: np.ndarray  # uint8 128×128×3
    milliseconds: float


@contextmanager
def one_thread():
    """One picture at a time is faster on one thread: handing its many small steps to several costs more than it saves,
    where other programs run many times more.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Workbench:
    """Pictures, methods and measures of the inspector.

    Parameters
    ----------
    folder : own photographs; by default what the environment variable ``COURSE_PHOTOS`` names
    device : of the methods; CUDA where there is one, by default
    """

    def __init__(self, folder: str | Path | None = None, device: str | torch.device | None = None):
        self.device = device
        self.photo: np.ndarray | None = None  # uint8, an uploaded photograph
        self.photos = 0  # how many were uploaded; tells one from the next in the caches
        self.scores: dict[tuple[str, str], pd.DataFrame] = {}  # (set, method or "input") -> a row for each picture
        self.probes: dict[str, Probe] = {}
        self._cache: dict[tuple, object] = {}
        self._thumbs: dict[tuple, np.ndarray] = {}  # 12 kB each, a few for each picture of a set
        self._methods: dict[str, Method | CheckpointError] = {}
        self._sets: dict[str, object] = {}
        self._photographs = None
        self.folder_problem = "no folder is named"
        folder = folder or os.environ.get("COURSE_PHOTOS")
        if folder:
            self.open_folder(folder)
        self.ruler, self.ruler_problem = None, ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a random trunk: said on the page instead
                self.ruler = load_lpips()
            if self.ruler.name != "LPIPS":
                self.ruler_problem = "AlexNet's weights are absent: on a random trunk LPIPS is no LPIPS"
        except (FileNotFoundError, ValueError) as error:
            self.ruler_problem = f"LPIPS is absent: {error}"

    # -- sets and pictures ---------------------------------------------------------------------------------------------

    def open_folder(self, folder: str | Path) -> None:
        """Use the photographs below ``folder`` as the set "folder"; ImageError if there are none."""
        try:
            self._photographs, self.folder_problem = open_folder(str(folder).strip()), ""
        except ImageError as error:
            self._photographs, self.folder_problem = None, str(error)
            raise
        finally:
            self.photos += 1  # whatever was cached of an earlier folder is another picture
            self.scores = {key: table for key, table in self.scores.items() if key[0] != "folder"}

    def pictures(self, source: str):
        """A set as a sequence of uint8 128×128×3; ImageError says why it cannot be had."""
        if source == "folder":
            if self._photographs is None:
                raise ImageError(self.folder_problem)
            return self._photographs
        if source == "photo":
            if self.photo is None:
                raise ImageError("no photograph is uploaded")
            return [self.photo]
        if source not in self._sets:
            try:
                self._sets[source] = load_faces(source)
            except ImageError as error:
                self._sets[source] = error
        if isinstance(self._sets[source], ImageError):
            raise self._sets[source]
        return self._sets[source]

    def why_not(self, source: str) -> str:
        """Why a set cannot be chosen; "" if it can."""
        try:
            self.pictures(source)
        except ImageError as error:
            return _short(error)
        return ""

    def upload(self, content: bytes) -> None:
        """Take an uploaded file as the set "photo"; ImageError says what is wrong with it, the earlier one then stays.

        Kept in memory alone, at most :data:`PHOTO_SIDE` pixels wide or high.
        """
        starts = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")
        if not content.startswith(starts) or (content[:4] == b"RIFF" and content[8:12] != b"WEBP"):
            raise ImageError("This file is no PNG, JPEG or WebP picture.")
        image = read_image(bytes(content), size=None, longest=PHOTO_SIDE)
        if min(image.shape[:2]) < 16:
            raise ImageError(f"{image.shape[1]}×{image.shape[0]} pixels are too few to hold a face (at least 16×16)")
        self.photo = image
        self.photos += 1

    def square(self, crop: tuple[int, ...]) -> tuple[int, int, int]:
        """``crop`` (left, top, side) moved into the uploaded photograph; the largest centred square for ()."""
        height, width = self.photo.shape[:2]
        if len(crop) != 3:
            side = min(height, width)
            return (width - side) // 2, (height - side) // 2, side
        side = int(np.clip(crop[2], 16, min(height, width)))
        return int(np.clip(crop[0], 0, width - side)), int(np.clip(crop[1], 0, height - side)), side

    def sharp(self, state: State) -> np.ndarray:
        """The picture before it is degraded: uint8 128×128×3."""
        pictures = self.pictures(state.source)
        if state.source == "photo":
            left, top, side = self.square(state.crop)
            cut = self.photo[top : top + side, left : left + side]
            return cv2.resize(cut, (SIZE, SIZE), interpolation=cv2.INTER_AREA if side > SIZE else cv2.INTER_CUBIC)
        return pictures[min(state.index, len(pictures) - 1)]

    def has_truth(self, state: State) -> bool:
        """Whether measures mean anything: an uploaded photograph has no ground truth."""
        return state.source != "photo"

    # -- one picture ---------------------------------------------------------------------------------------------------

    def _cached(self, key: tuple, compute: Callable[[], object]):
        if key not in self._cache:
            answer = compute()
            while len(self._cache) >= KEPT:
                del self._cache[next(iter(self._cache))]
            self._cache[key] = answer
        else:  # used again: the last to be forgotten
            self._cache[key] = self._cache.pop(key)
        return self._cache[key]

    def _picture_key(self, state: State) -> tuple:
        key = (state.source, state.index)
        if state.source == "photo":
            key = ("photo", self.photos, self.square(state.crop))
        elif state.source == "folder":
            key = ("folder", self.photos, state.index)
        kind = (state.kind,) if state.kind in ("drawn", "none") else (state.kind, state.strength, state.angle)
        return key, (*kind, state.noise, state.quality)

    def blurred(self, state: State) -> Blurred:
        """The picture as the methods get it."""
        return self._cached(("blurred", self._picture_key(state)), lambda: self._blur(state))

    def _blur(self, state: State) -> Blurred:
        rng = rng_for(SEED, state.index)  # as helpers.pairs draws it, so "drawn" is the test set's own blur
        image = torch.from_numpy(np.ascontiguousarray(self.sharp(state))).movedim(-1, 0).float()[None] / 255
        blur = {
            "drawn": lambda: preset("celebablur"),
            "gaussian": lambda: GaussianBlur(state.strength),
            "motion": lambda: MotionBlur(state.strength, state.angle),
            "defocus": lambda: DefocusBlur(state.strength),
        }
        chain = [blur[state.kind]()] if state.kind in blur else []
        chain += [GaussianNoise(state.noise / 255)] * (state.noise > 0) + [Jpeg(state.quality)] * (state.quality < 100)
        params = {}
        for degradation in chain:
            drawn = degradation.sample(rng)
            image = degradation(image, [drawn])
            params |= drawn
        picture = (image[0] * 255).round().clamp(0, 255).to(torch.uint8).movedim(0, -1).contiguous().numpy()
        words = {
            "sigma": "σ = {:.1f} px", "length": "motion {:.0f} px", "angle": "at {:.0f}°", "radius": "radius {:.1f} px",
            "noise": "noise {:.3f}", "quality": "JPEG {:.0f}",
        }  # fmt: skip
        told = [text.format(params[name]) for name, text in words.items() if name in params]
        return Blurred(picture, params, ", ".join(told) or "not degraded")

    def edges(self, state: State, of: str = "blurred") -> np.ndarray:
        """The edge map, uint8 128×128 of 0 and 1; ``of`` is a key of :data:`EDGES`."""
        if of not in EDGES:
            raise ValueError(f"edges are {', '.join(EDGES)}, not {of!r}")
        image = self.sharp(state) if of == "sharp" else self.blurred(state).image
        found = canny(np.ascontiguousarray(image), state.low, state.high)
        return found * 0 if of == "blank" else found

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
            return _short(error)
        return ""

    def restorer(self, name: str) -> Restorer | None:
        """The model whose code can be drawn, behind a method that has one."""
        found = getattr(self.method(name), "restorer", None)
        return found if isinstance(found, Restorer) else None

    def coder(self, state: State) -> Restorer | None:
        """The first chosen method's model that has a code; else that of any method whose weights are there."""
        for name in (*state.methods, *METHODS):
            try:
                if not METHODS[name].slow and self.restorer(name):
                    return self.restorer(name)
            except CheckpointError:
                continue
        return None

    def restored(self, state: State, name: str, edges: str = "blurred") -> Restored | None:
        """What a method makes of the picture; None for a slow one that has not been run (:meth:`run_slow`).

        Raises
        ------
        CheckpointError, ValueError
            if its weights are not there, or it cannot work on this degradation
        """
        if METHODS[name].slow:
            return self._cache.get(("slow", name, self._picture_key(state)))
        key = ("restored", name, edges, state.low, state.high, self._picture_key(state))
        return self._cached(key, lambda: self._restore(state, name, edges))

    def told(self, state: State, name: str) -> list[dict]:
        """The blur, as a method wants to be told it; ValueError where it must know one and there is none to tell."""
        params = self.blurred(state).params
        if METHODS[name].knows_blur and not {"sigma", "length", "radius"} & params.keys():
            raise ValueError("must be told the blur: choose one under Degradation")
        return [params]

    def _restore(self, state: State, name: str, edges: str) -> Restored:
        params, blurred, method = self.told(state, name), self.blurred(state), self.method(name)
        started = time.perf_counter()
        with one_thread():
            given = {"edges": self.edges(state, edges)[None]} if method.edge_aware else {}
            image = method.restore(blurred.image[None], params, **given)[0]
        return Restored(image, 1000 * (time.perf_counter() - started))

    def run_slow(self, state: State, name: str) -> Callable[[OnStep], tuple]:
        """The long computation of a slow method, for :class:`helpers.jobs.Worker`; :meth:`keep` takes its result."""
        key, params = ("slow", name, self._picture_key(state)), self.told(state, name)
        blurred = self.blurred(state)

        def work(on_step: OnStep):
            method, started = self.method(name), time.perf_counter()
            image = method.restore(blurred.image[None], params, on_step)[0]
            return key, Restored(image, 1000 * (time.perf_counter() - started))

        return work

    def keep(self, result: tuple) -> None:
        """Remember what :meth:`run_slow` gave."""
        self._cached(result[0], lambda: result[1])

    # -- measures ------------------------------------------------------------------------------------------------------

    def measures(self, state: State, name: str = "input", edges: str = "blurred") -> dict[str, float] | None:
        """The five measures of a method's answer, or of the input; None without a truth or without an answer."""
        if not self.has_truth(state):
            return None
        answer = self.blurred(state) if name == "input" else self.restored(state, name, edges)
        if answer is None:
            return None
        key = ("measures", name, edges, state.low, state.high, self._picture_key(state))
        return self._cached(key, lambda: self._measure(answer.image, self.sharp(state)))

    def _measure(self, image: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        with one_thread():
            return measure(image[None], np.ascontiguousarray(truth)[None], self.ruler).iloc[0].to_dict()

    def table(self, state: State) -> pd.DataFrame:
        """A row for the input and for each chosen method: measures, parameters, milliseconds, remark."""
        columns = [*list(HIGHER_IS_BETTER)[:4], self.ruler.name if self.ruler else "LPIPS"]
        rows = {}
        for name in ("input", *state.methods):
            row = {"parameters": np.nan, "ms": np.nan, "remark": ""}
            try:
                row |= self.measures(state, name) or {}
                if name != "input":
                    answer = self.restored(state, name)
                    row["ms"] = answer.milliseconds if answer else np.nan
                    row["remark"] = "" if answer else "slow: press its button"
                    if answer:
                        row["parameters"] = self.method(name).parameters
            except ValueError as error:  # CheckpointError, or a degradation that it cannot work on
                row["remark"] = _short(error)
            rows["input" if name == "input" else TITLES[name]] = row
        return pd.DataFrame(rows).T.reindex(columns=[*columns, "parameters", "ms", "remark"])

    # -- a whole set ---------------------------------------------------------------------------------------------------

    def score(self, source: str, name: str) -> Callable[[OnStep], dict]:
        """The measuring of a set under the course's own blur, for a worker; :attr:`scores` takes its result."""
        pictures = self.pictures(source)

        def work(on_step: OnStep) -> dict:
            pairs, count = Pairs(pictures), min(len(pictures), SCORED)
            tables: dict[str, list] = {"input": [], name: []}
            for start in range(0, count, 10):
                batch = pairs.batch(range(start, min(start + 10, count)))
                if name != "input":
                    restored = self.method(name).restore(batch.blurred, batch.params)
                    tables[name].append(measure(restored, batch.sharp, self.ruler))
                if (source, "input") not in self.scores:
                    tables["input"].append(measure(batch.blurred, batch.sharp, self.ruler))
                if not on_step(min(start + 10, count), count):
                    raise Cancelled("cancelled")
            return {(source, n): pd.concat(parts, ignore_index=True) for n, parts in tables.items() if parts}

        return work

    def scored_method(self, state: State) -> str:
        """The method whose measures sort the set: the first chosen one that is not slow, else "input"."""
        return next((name for name in state.methods if not METHODS[name].slow and not self.missing(name)), "input")

    def thumbnail(self, state: State, index: int) -> np.ndarray:
        """Picture ``index`` as the gallery shows it, under the course's own blur: uint8 64×64×3."""
        plain = State(source=state.source, index=index)
        name = self.scored_method(state)
        key = ("thumb", state.thumbs, name, self._picture_key(plain))
        if key not in self._thumbs:
            if state.thumbs == "restored" and name != "input":
                image = self.restored(plain, name).image
            elif state.thumbs == "edges":
                image = np.repeat(self.edges(plain)[..., None] * 255, 3, axis=2)
            else:
                image = self.sharp(plain) if state.thumbs == "sharp" else self.blurred(plain).image
            self._thumbs[key] = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
        return self._thumbs[key]

    def order(self, state: State) -> list[int]:
        """Indices of the set, sorted by the first chosen method's measure; as stored where that is not measured."""
        count = len(self.pictures(state.source))
        table = self.scores.get((state.source, self.scored_method(state)))
        if not state.sort_by or table is None:
            return list(range(count))
        values = table[column(table, state.sort_by)].to_numpy()
        sign = -1 if HIGHER_IS_BETTER[state.sort_by] != state.worst_first else 1
        return [*np.argsort(sign * values, kind="stable").tolist(), *range(len(values), count)]

    # -- the code ------------------------------------------------------------------------------------------------------

    def learn_probes(self, state: State, faces: int = 800) -> Callable[[OnStep], dict[str, Probe]]:
        """The fitting of the probes on training faces, for a worker; :attr:`probes` takes its result."""

        def work(on_step: OnStep) -> dict[str, Probe]:
            coder, codes, done = self.coder(state), {}, 0
            if coder is None:
                raise CheckpointError("no method with a code has its weights here")
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

    def code(self, state: State, index: int | None = None) -> np.ndarray:
        """z_deblur of the picture, or of picture ``index`` of the same set (a test face for a photo): 512 numbers."""
        if index is not None:
            source = "test" if state.source == "photo" else state.source
            state = state.but(source=source, index=index, kind="drawn" if state.source == "photo" else state.kind)
        coder = self.coder(state)
        if coder is None:
            raise CheckpointError("no method with a code has its weights here")
        with one_thread():
            return coder.encode(self.blurred(state).image[None], self.edges(state)[None])[0].cpu().numpy()

    def decode(self, state: State, codes: np.ndarray) -> np.ndarray:
        """Pictures of codes: N×512 to uint8 N×128×128×3."""
        with one_thread():
            return self.coder(state).decode(torch.from_numpy(np.asarray(codes, np.float32)))


def _short(error: Exception) -> str:
    """The message without the folders in which the course lies."""
    return str(error).replace(f"{data_folder().parent}{os.sep}", "")


def column(table: pd.DataFrame, metric: str) -> str:
    """The table's own name of a measure: "LPIPS" may be called "LPIPS (random trunk)"."""
    return next(c for c in table.columns if str(c).startswith(metric))
