"""What the inspector's controls stand at, checked, and kept in a file from one run of the notebook to the next."""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

from helpers.edges import THRESHOLDS
from helpers.engine.folders import write_json
from helpers.methods import METHODS
from helpers.metrics import HIGHER_IS_BETTER

SOURCES = {"test": "test faces", "val": "validation faces", "folder": "own folder", "photo": "your photo"}


class Kind(NamedTuple):
    """A kind of blur and the control of its strength."""

    title: str
    quantity: str  # what its strength measures
    low: float
    high: float
    start: float  # where the control stands when the kind is chosen


KINDS = {
    "drawn": Kind("as in the test set", "σ in pixels", 0.5, 8.0, 6.0),
    "gaussian": Kind("Gaussian blur", "σ in pixels", 0.5, 8.0, 6.0),
    "motion": Kind("motion blur", "length in pixels", 1.0, 30.0, 12.0),
    "defocus": Kind("out of focus", "radius in pixels", 0.5, 12.0, 5.0),
    "none": Kind("no blur", "", 0.0, 0.0, 0.0),
}
EDGES = {"blurred": "blurred", "blank": "blank", "sharp": "sharp, LEAKAGE"}  # what they are taken from


@dataclass(frozen=True)
class State:
    """What the controls stand at. Values that make no sense raise ValueError.

    Attributes
    ----------
    source, index : which picture; see :data:`SOURCES`
    methods : keys of :data:`helpers.methods.METHODS`
    kind, strength, angle : the blur, see :data:`KINDS`; "drawn" ignores the other two
    noise : standard deviation in grey levels, 0 to 50
    quality : of JPEG, 1 to 100; 100 stands for no compression at all
    low, high : Canny's thresholds
    sort_by : a measure or "", worst_first : its order
    crop : left, top and side of the square cut from an uploaded photograph, in its pixels; () for the middle
    thumbs : what the gallery shows: "sharp", "blurred", "edges" or "restored"
    left, right : what the wipe lies between: "input", "edges", a method, "truth"; "" for input and first method
    other, step : the walk between two faces; where to, and how far (0 to 1)
    wanted, amount : a property of :data:`helpers.probes.PROPERTIES` and by how many standard deviations to move it
    """

    source: str = "test"
    index: int = 0
    methods: tuple[str, ...] = ("thesis",)
    kind: str = "drawn"
    strength: float = 6.0
    angle: float = 0.0
    noise: float = 0.0
    quality: int = 100
    low: int = THRESHOLDS[0]
    high: int = THRESHOLDS[1]
    view: str = "stages"
    sort_by: str = ""
    worst_first: bool = True
    crop: tuple[int, ...] = ()
    thumbs: str = "sharp"
    left: str = ""
    right: str = ""
    other: int = 1
    step: float = 0.5
    wanted: str = "age"
    amount: float = 0.0

    def __post_init__(self):
        for name in ("methods", "crop"):  # JSON knows no tuples
            object.__setattr__(self, name, tuple(getattr(self, name)))
        choices = {"source": SOURCES, "kind": KINDS, "sort_by": ("", *HIGHER_IS_BETTER)}
        choices["thumbs"] = ("sharp", "blurred", "edges", "restored")
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {getattr(self, name)!r}")
        limits = {"index": (0, 10**9), "noise": (0, 50), "quality": (1, 100), "other": (0, 10**9), "step": (0, 1)}
        limits |= {"low": (0, 2000), "high": (0, 2000), "amount": (-5, 5)}
        limits["strength"] = (KINDS[self.kind].low, KINDS[self.kind].high)
        for name, (low, high) in limits.items():
            if name == "strength" and self.kind in ("none", "drawn"):
                continue
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie between {low} and {high}, not at {getattr(self, name)}")
        if self.low > self.high:
            raise ValueError(f"Canny's low threshold ({self.low}) must not exceed the high one ({self.high})")
        if unknown := set(self.methods) - METHODS.keys():
            raise ValueError(f"there is no method {', '.join(map(repr, unknown))}")

    @property
    def has_truth(self) -> bool:
        """Whether measures mean anything: an uploaded photograph has no ground truth."""
        return self.source != "photo"

    def but(self, **changes) -> "State":
        """The same with some values changed."""
        return replace(self, **changes)

    def save(self, path: Path) -> None:
        """Write to ``path`` as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "State":
        """What :meth:`save` wrote; the default state where there is no such file or nothing usable in it."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(**{k: v for k, v in content.items() if k in {f.name for f in fields(cls)}})
        except (OSError, ValueError, TypeError, AttributeError):
            return cls()
