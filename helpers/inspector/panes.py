"""Pictures in a browser: side by side with one zoom for all, a wipe, a gallery, a photograph and the square in it.

The pointer is followed by ``panes.js``, in the browser. No Output widget, nothing fetched from elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anywidget
import cv2
import numpy as np
import traitlets

HERE = Path(__file__).parent
MODES = ("panes", "wipe", "gallery", "crop")


@dataclass(frozen=True)
class Pane:
    """A picture and what is written over and under it."""

    title: str
    image: np.ndarray  # uint8 H×W×3, or H×W of 0 and 1 (an edge map)
    note: str = ""


def encode(image: np.ndarray) -> bytes:
    """A picture as a PNG file: uint8 H×W×3, or H×W of 0 and 1."""
    rows = image[..., ::-1] if image.ndim == 3 else image * 255
    return cv2.imencode(".png", np.ascontiguousarray(rows))[1].tobytes()


class Panes(anywidget.AnyWidget):
    """The pictures of one place on the page; see :data:`MODES`.

    Attributes
    ----------
    wipe : the line's place, 0 to 1
    transform : zoom, and shift to the right and down as shares of a frame
    picked : what was clicked in the gallery
    crop : left, top and side of the square in the photograph, in its pixels; where a browser moved it, also the number
        of the photograph on which it did, see :meth:`square`
    on_step, on_upload : called with -1 or 1 (an arrow key), with (name, bytes) of a chosen file
    """

    _esm = HERE / "panes.js"
    _css = HERE / "panes.css"
    mode = traitlets.Enum(MODES, "panes").tag(sync=True)
    panes = traitlets.List().tag(sync=True)
    wipe = traitlets.Float(0.5).tag(sync=True)
    transform = traitlets.List([1.0, 0.0, 0.0]).tag(sync=True)
    gallery = traitlets.Dict({"png": b""}).tag(sync=True)
    picked = traitlets.Int(-1).tag(sync=True)
    photo = traitlets.Dict({"png": b"", "size": [0, 0], "number": 0}).tag(sync=True)
    crop = traitlets.List([0, 0, 0]).tag(sync=True)

    def __init__(self, **kwargs):
        self.on_step: Callable[[int], None] = lambda by: None
        self.on_upload: Callable[[str, bytes], None] = lambda name, content: None
        self._parts: list[bytes] = []
        super().__init__(**kwargs)
        self.on_msg(self._receive)

    def show(self, panes: list[Pane], mode: str = "panes") -> None:
        """Show pictures; in mode "wipe" the first two, one over the other."""
        with self.hold_sync():
            self.panes = [{"title": p.title, "note": p.note, "png": encode(p.image)} for p in panes]
            self.mode = mode

    def show_gallery(self, images: np.ndarray, labels: list[str], picks: list[int], current: int) -> None:
        """Show thumbnails: uint8 N×S×S×3, a label for each, what a click on it puts into ``picked``, the chosen one."""
        columns, (count, side) = 10, images.shape[:2]
        sheet = np.zeros((-(-count // columns) * side, columns * side, 3), np.uint8)
        for k, image in enumerate(images):
            top, left = k // columns * side, k % columns * side
            sheet[top : top + side, left : left + side] = image
        with self.hold_sync():
            self.gallery = {
                "png": encode(sheet), "side": side, "columns": columns, "labels": labels, "picks": picks,
                "current": current,
            }  # fmt: skip
            self.picked = -1
            self.mode = "gallery"

    def show_photo(self, photo: np.ndarray | None, crop: tuple[int, int, int] = (0, 0, 0)) -> None:
        """Show the file chooser and, where there is one, the photograph (uint8 H×W×3) with its square."""
        number = self.photo["number"] + 1
        shown = (b"", [0, 0]) if photo is None else (encode(photo), [photo.shape[1], photo.shape[0]])
        with self.hold_sync():
            self.crop = list(crop)
            self.photo = {"png": shown[0], "size": shown[1], "number": number}
            self.mode = "crop"

    def square(self) -> tuple[int, int, int] | None:
        """Left, top and side of the square; None where it was moved on a photograph that is no longer shown."""
        place, of = self.crop[:3], self.crop[3:]
        return tuple(place) if of in ([], [self.photo["number"]]) else None

    def say(self, text: str) -> None:
        """Put a line under the file chooser."""
        self.send({"said": text})

    def download(self, name: str, content: bytes, kind: str = "image/png") -> None:
        """Have the browser save a file."""
        self.send({"download": name, "type": kind}, [content])

    def _receive(self, _, message, buffers) -> None:
        if "step" in message:
            self.on_step(int(message["step"]))
        elif "upload" in message:  # in parts, because servers close a connection at a message of 10 MB
            if message["part"] == 0:
                self._parts = []
            self._parts.append(bytes(buffers[0]))
            if len(self._parts) == message["parts"]:
                content, self._parts = b"".join(self._parts), []
                self.on_upload(str(message["upload"]), content)

    def __repr__(self) -> str:
        shown = [pane["title"] for pane in self.panes]
        return f"Panes({self.mode}{': ' if shown else ''}{', '.join(shown)}) - run the notebook to see it"
