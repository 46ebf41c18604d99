"""What a person who cannot see a figure is told: its finding, then what is drawn.

In a notebook :func:`helpers.figures.style` stores the text with every figure, as ``alt`` in the metadata of the output.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def describe(figure: Figure) -> str:
    """Alternative text of a figure, one paragraph.

    The figure's title comes first. Then comes ``figure.alt``, where the author or a function of the course has set it,
    and what the axes say: titles, axis labels, names of curves.
    """
    parts = [figure.get_suptitle(), getattr(figure, "alt", ""), *(_one(axes) for axes in figure.axes)]
    return " ".join(_sentence(part) for part in parts if part.strip())


def _one(axes: Axes) -> str:
    labels = [line.get_label() for line in axes.get_legend_handles_labels()[0]]
    x, y = (" ".join(label.split()) for label in (axes.get_xlabel(), axes.get_ylabel()))
    parts = [axes.get_title()]
    if axes.images:
        parts += [x, y]
    elif x or y:
        parts.append(f"{y} against {x}" if x and y else x or y)
    parts.append("curves: " + ", ".join(labels) if labels else "")
    return "; ".join(part for part in parts if part)


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", "?", "!")) else text + "."
