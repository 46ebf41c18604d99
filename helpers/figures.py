"""Pictures and diagrams of the notebooks.

Every function gives back a ``matplotlib.figure.Figure`` that pyplot knows nothing of: put it at the end of a cell and
it is shown once; hand it to :class:`helpers.panels.Panel` and a slider redraws it. Colours differ in lightness, lines
also in dash, so that all figures work in print and for colour-blind readers.
"""

import io
import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import torch
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from PIL import Image
from torch import nn

from helpers.alt_text import describe

DARK, MIDDLE, LIGHT = "#1b3a5c", "#d1495b", "#edae49"
COLOURS = [DARK, MIDDLE, LIGHT, "#66a182", "#8d96a3"]
DASHES = ["-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1))]


def style() -> None:
    """The look of all figures; in a notebook, also the display of a bare ``Figure`` (see :func:`displayed`)."""
    shell = get_ipython()
    if shell is not None:
        shell.run_line_magic("matplotlib", "inline")
        shell.display_formatter.formatters["image/png"].for_type(Figure, displayed)
    mpl.rcParams.update(
        {
            "figure.dpi": 100,
            "savefig.dpi": 100,
            "font.size": 10,
            "axes.titlesize": 10,
            "axes.labelsize": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": mpl.cycler(color=COLOURS) + mpl.cycler(linestyle=DASHES),
            "image.cmap": "gray",
            "image.interpolation": "nearest",
        }
    )


def new(rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 3), title: str = "", **kwargs):
    """An empty figure with ``rows``×``columns`` axes: (figure, axes), axes as ``pyplot.subplots`` gives them."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, **kwargs)
    if title:
        figure.suptitle(textwrap.fill(title, max(20, int(11 * size[0]))), fontsize=11)  # about 11 letters an inch
    return figure, axes


def png(figure: Figure, tight: bool = False) -> bytes:
    """The figure as a PNG file in true colour; ``tight`` cuts its margins off, except where pixels have their place."""
    buffer = io.BytesIO()
    tight = tight and figure.get_layout_engine() is not None  # rows of faces have none
    figure.savefig(buffer, format="png", bbox_inches="tight" if tight else None)
    picture, buffer = Image.open(buffer).convert("RGB"), io.BytesIO()  # without transparency a fifth smaller
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def displayed(figure: Figure) -> tuple[bytes, dict[str, str]]:
    """What a notebook stores of a figure: the PNG file, and its metadata with the alternative text."""
    return png(figure, tight=True), {"alt": describe(figure)}


def draw_image(axes: Axes, image: np.ndarray, title: str = "", **kwargs) -> None:
    """One picture without ticks: uint8 H×W×3, or H×W (an edge map, a residual) in grey."""
    if image.ndim == 2 and "vmin" not in kwargs and image.dtype == np.uint8 and image.max() <= 1:
        kwargs.update(vmin=0, vmax=1)
    axes.imshow(image, **kwargs)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=9)


def show_rows(
    rows: dict[str, Sequence[np.ndarray]],
    title: str = "",
    captions: dict[str, Sequence[str]] | None = None,
    columns: Sequence[str] | None = None,
    scale: float = 1.25,
) -> Figure:
    """Pictures in labelled rows, as Figure 5 of the thesis shows them.

    Parameters
    ----------
    rows : label -> images (uint8 H×W×3 or H×W), the same number in each row
    captions : label of a row -> a line under each of its images (a metric, a parameter)
    columns : a heading for each column
    scale : inches a picture
    """
    count = max(len(images) for images in rows.values())
    lines = 0.18 * len(captions or {})
    size = (1.0 + scale * count, scale * len(rows) + lines + (0.35 if title else 0) + (0.2 if columns else 0))
    figure, axes = new(len(rows), count, size, title, squeeze=False)
    for row, (label, images) in zip(axes, rows.items(), strict=True):
        for k, axis in enumerate(row):
            if k >= len(images):
                axis.axis("off")
                continue
            draw_image(axis, images[k])
            if captions and label in captions:
                axis.set_xlabel(captions[label][k], fontsize=8, labelpad=2)
        row[0].set_ylabel(label, fontsize=9, rotation=0, ha="right", va="center", labelpad=6)
    for axis, heading in zip(axes[0], columns or [], strict=False):
        axis.set_title(heading, fontsize=9)
    return figure


def gallery(
    images: Sequence[np.ndarray],
    columns: int = 10,
    title: str = "",
    captions: Sequence[str] | None = None,
    scale: float = 0.9,
) -> Figure:
    """Many pictures, ``columns`` in a row."""
    rows = -(-len(images) // columns)
    figure, axes = new(
        rows, columns, (scale * columns, (scale + (0.18 if captions else 0)) * rows + 0.3), title, squeeze=False
    )
    for k, axis in enumerate(axes.flat):
        if k < len(images):
            draw_image(axis, images[k])
            if captions:
                axis.set_xlabel(captions[k], fontsize=7, labelpad=1)
        else:
            axis.axis("off")
    return figure


def plot_history(history: list[dict], title: str = "") -> Figure:
    """Curves of a training run: the total loss, its five parts, and the validation PSNR, epoch by epoch."""
    epochs = [h["epoch"] for h in history]
    figure, (left, middle, right) = new(1, 3, (11, 3.1), title)
    left.plot(epochs, [h["total"] for h in history])
    left.set(xlabel="epoch", ylabel="training loss", title="what is minimised (equation 41)")
    rate = left.twinx()
    rate.step(epochs, [h["learning_rate"] for h in history], where="mid", color=COLOURS[4], linestyle=":")
    rate.set(ylim=(0, None), ylabel="learning rate (dotted)")
    rate.spines["right"].set_visible(True)
    for name, label in {"l1": "L1", "lpips": "LPIPS", "ssim": "1 - SSIM", "tv": "TV", "latent": "latent"}.items():
        middle.plot(epochs, [h[name] for h in history], label=label)
    middle.set(xlabel="epoch", ylabel="unweighted value", title="its five parts", yscale="log")
    middle.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=3)  # below, to hide no curve
    right.plot(epochs, [h["val_PSNR"] for h in history])
    right.set(xlabel="epoch", ylabel="PSNR in dB", title="validation faces")
    return figure


def forest(tables: dict[str, object], title: str = "", better: dict[str, bool] | None = None) -> Figure:
    """Differences with their intervals, a row for each variant, a column for each measure.

    A filled mark lies clear of 0; a hollow one is inside the noise. The words under the axis say which way is better.

    Parameters
    ----------
    tables : measure -> a table of :func:`helpers.experiments.ablations.differences`, all with the same rows
    better : measure -> True where higher is better (False where it is not named)
    """
    names = [n for n in next(iter(tables.values())).index]
    figure, axes = new(
        1, len(tables), (2.6 + 2.2 * len(tables), 1.2 + 0.27 * len(names)), title, sharey=True, squeeze=False
    )
    for axis, (column, table) in zip(axes[0], tables.items(), strict=True):
        for row, name in enumerate(names):
            r = table.loc[name]
            sure = r["low"] > 0 or r["high"] < 0
            axis.plot([r["low"], r["high"]], [row, row], "-", color=DARK, linewidth=1.4)
            axis.plot(r["difference"], row, "o", color=DARK, markersize=5, markerfacecolor=DARK if sure else "white")
        axis.axvline(0, color="0.4", linestyle="--", linewidth=0.8)
        higher = (better or {}).get(column, False)
        axis.set_xlabel(f"difference in {column}\n" + ("better →" if higher else "← better"), fontsize=9)
        axis.tick_params(labelsize=8)
        axis.locator_params(axis="x", nbins=4)
    axes[0][0].set_yticks(range(len(names)), [next(iter(tables.values())).loc[n, "title"] for n in names])
    axes[0][0].set_ylim(len(names) - 0.4, -0.6)  # the first on top
    return figure


def style_table(table, better: dict[str, bool], digits: dict[str, int] | None = None):
    """A pandas table with the best value of each column in bold; ``better[column]`` is True where higher is better."""
    digits = digits or {"PSNR": 2}

    def bold(column):
        name = next((k for k in better if str(column.name).startswith(k)), None)
        if name is None:
            return [""] * len(column)
        best = column.max() if better[name] else column.min()
        return ["font-weight: bold" if value == best else "" for value in column]

    return table.style.apply(bold).format({c: f"{{:.{digits.get(c, 4)}f}}" for c in table.columns}, na_rep="–")


# ---------------------------------------------------------------------------------------------------------------------
# Where time goes


def bars(
    values: dict[str, Sequence[float]],
    parts: Sequence[str],
    xlabel: str,
    title: str = "",
    notes: Sequence[str] | None = None,
    ranges: Sequence[tuple[float, float]] | None = None,
) -> Figure:
    """Horizontal bars, the first on top, each made of ``parts`` one behind the other.

    Parameters
    ----------
    values : label of a bar -> the length of each of its parts
    notes : a text behind each bar
    ranges : the lowest and the highest value measured, drawn as a line at the end of each bar
    """
    figure, axes = new(1, 1, (8, 0.9 + 0.27 * len(values)), title)
    lengths = np.array([list(v) for v in values.values()], float)
    starts = np.cumsum(lengths, 1) - lengths
    for k, part in enumerate(parts):
        axes.barh(
            range(len(values)), lengths[:, k], left=starts[:, k], height=0.7, label=part, color=COLOURS[::2][k % 3],
            edgecolor="black", linewidth=0.5, hatch=["", "//", ".."][k % 3],
        )  # fmt: skip
    ends = lengths.sum(1)
    if ranges:
        axes.hlines(range(len(ranges)), *zip(*ranges, strict=True), color=MIDDLE, linewidth=2.5, zorder=3)
        ends = np.maximum(ends, [high for _, high in ranges])
    for y, (end, note) in enumerate(zip(ends, notes or [], strict=False)):
        axes.text(end, y, f" {note}", va="center", fontsize=8)
    axes.set_yticks(range(len(values)), list(values), fontsize=9)
    axes.invert_yaxis()
    axes.set(xlabel=xlabel, xlim=(0, ends.max() * (1.15 if notes else 1.02)))
    if len(parts) > 1:
        axes.legend(fontsize=8, loc="lower right")
    return figure


def timeline(intervals: Sequence[tuple[str, float, float, str]], title: str = "") -> Figure:
    """What ran when: boxes from (name, start, duration, row), in ms; rows from top to bottom as they first appear.

    What has others inside it is drawn as a frame around them. Names stand in their boxes where they fit, and in the
    legend.
    """
    rows = list(dict.fromkeys(row for *_, row in intervals))
    end = max(start + duration for _, start, duration, _ in intervals)
    figure, axes = new(1, 1, (11, 1.3 + 0.62 * len(rows)), title)
    frames = {
        name
        for name, start, duration, row in intervals
        for other, s, d, where in intervals
        if other != name and where == row and start <= s and s + d <= start + duration
    }
    shades = [DARK, LIGHT, "#5b7fa6", "white", MIDDLE, "#b8c9dc", "#8d96a3"]
    names = sorted(dict.fromkeys(name for name, *_ in intervals), key=frames.__contains__)  # frames last
    look = {
        name: {"facecolor": "none"}
        if name in frames
        else {"facecolor": shades[k % 7], "hatch": ["", "//", "..", "xx"][(k + 2 * (k // 7)) % 4]}
        for k, name in enumerate(names)
    }
    for name, start, duration, row in intervals:
        height = 0.86 if name in frames else 0.56
        corner = (start, rows.index(row) - height / 2)
        axes.add_patch(Rectangle(corner, duration, height, edgecolor="black", linewidth=0.6, **look[name]))
        if name not in frames and duration > 0.011 * len(name) * end:
            back = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axes.text(start + duration / 2, rows.index(row), name, ha="center", va="center", fontsize=7, bbox=back)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlim=(0, end * 1.005), ylim=(len(rows) - 0.45, -0.55), xlabel="time in ms")
    boxes = [Rectangle((0, 0), 1, 1, edgecolor="black", linewidth=0.6, **kind) for kind in look.values()]
    labels = [f"frame: {name}" if name in frames else name for name in look]
    axes.legend(boxes, labels, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.35), ncols=6)
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Diagrams of networks, drawn from what runs


def trace(
    network: nn.Module, example: torch.Tensor, depth: int = 1, skip: tuple[str, ...] = ()
) -> list[tuple[str, str, tuple[int, ...], int]]:
    """Run ``example`` through and note, in order, each part down to ``depth`` levels; classes in ``skip`` are left out.

    Returns
    -------
    a list of (name, class name, shape of its output without the batch, parameters), the input first
    """
    notes: list = [("input", "", tuple(example.shape[1:]), 0)]
    handles = []
    for name, module in network.named_modules():
        level = name.count(".") + 1 if name else 0
        inner = level < depth and isinstance(module, nn.Sequential)
        if 0 < level <= depth and not inner and type(module).__name__ not in skip:

            def note(module, _, output, name=name):
                parameters = sum(p.numel() for p in module.parameters())
                notes.append((name, type(module).__name__, tuple(output.shape[1:]), parameters))

            handles.append(module.register_forward_hook(note))
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(example.to(next(network.parameters()).device))
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return notes


def draw_network(notes: list[tuple[str, str, tuple[int, ...], int]], title: str = "") -> Figure:
    """Blocks from :func:`trace`: height is the picture's side, width the number of channels, both on a gentle scale.

    Blue blocks are maps, C×H×W; yellow ones are vectors.
    """
    figure, axes = new(1, 1, (min(10.6, 1.15 * len(notes) + 0.5), 3.3), title)
    x = 0.0
    for k, (name, kind, shape, parameters) in enumerate(notes):
        side = shape[1] if len(shape) == 3 else 1
        height = 0.25 + 1.75 * (np.log2(side) / 7)
        width = 0.12 + 0.06 * np.log2(shape[0])
        colour = "#5b7fa6" if len(shape) == 3 else LIGHT
        axes.add_patch(Rectangle((x, -height / 2), width, height, facecolor=colour, edgecolor="black", linewidth=0.6))
        axes.text(x + width / 2, height / 2 + 0.08, "×".join(map(str, shape)), ha="center", va="bottom", fontsize=7)
        label = "\n".join(t for t in (name, kind, f"{parameters:,}" if parameters else "") if t)
        axes.text(x + width / 2, -height / 2 - 0.08, label, ha="center", va="top", fontsize=7)
        if k + 1 < len(notes):
            axes.add_patch(
                FancyArrowPatch((x + width, 0), (x + 1.0, 0), arrowstyle="->", mutation_scale=8, linewidth=0.8)
            )
        x += 1.0
    axes.set(xlim=(-0.35, x - 0.3), ylim=(-1.75, 1.4))
    axes.axis("off")
    return figure


def draw_training(model: nn.Module, size: int = 128) -> Figure:
    """Figure 4 of the thesis: what goes where in one training step, with the shapes that ``model`` really gives."""
    training, device = model.training, next(model.parameters()).device
    with torch.no_grad():
        blank = torch.zeros(1, 4, size, size, device=device)
        restored, z_deblur, z_gt = model.eval()(blank, blank[:, :3])
    model.train(training)
    shape = {
        "restored": "×".join(map(str, restored.shape[1:])),
        "z_deblur": str(z_deblur.shape[1]),
        "z_gt": str(z_gt.shape[1]),
    }
    boxes = {  # name: (x, y, text, colour, colour of the text)
        "input": (0, 1, f"blurred + edges\n4×{size}×{size}", "#dfe5ec", "black"),
        "sharp": (0, -1, f"sharp x\n3×{size}×{size}", "#dfe5ec", "black"),
        "encoder": (2.4, 1, "DeblurEncoder", DARK, "white"),
        "latent": (2.4, -1, "LatentEncoder", DARK, "white"),
        "z_deblur": (4.6, 1, f"z_deblur\n{shape['z_deblur']}", LIGHT, "black"),
        "z_gt": (4.6, -1, f"z_gt\n{shape['z_gt']}", LIGHT, "black"),
        "generator": (6.8, 1, "Generator", DARK, "white"),
        "restored": (9.0, 1, f"restored x̂\n{shape['restored']}", "#dfe5ec", "black"),
        "pixel": (9.0, -1, "L1, LPIPS, SSIM, TV*\nequations 35–38", "white", "black"),
        "align": (6.8, -1, "latent loss\nequation 40", "white", "black"),
    }
    arrows = [
        ("input", "encoder"), ("encoder", "z_deblur"), ("z_deblur", "generator"), ("generator", "restored"),
        ("sharp", "latent"), ("latent", "z_gt"), ("z_gt", "align"), ("z_deblur", "align"), ("restored", "pixel"),
    ]  # fmt: skip
    title = "One training step: the latent loss compares two codes, the other four losses judge the restored picture"
    figure, axes = new(1, 1, (11, 3.6), title)
    for x, y, text, colour, ink in boxes.values():
        axes.add_patch(Rectangle((x - 0.85, y - 0.42), 1.7, 0.84, facecolor=colour, edgecolor="black", linewidth=0.8))
        axes.text(x, y, text, ha="center", va="center", fontsize=8, color=ink)
    for start, end in arrows:
        (x0, y0), (x1, y1) = boxes[start][:2], boxes[end][:2]
        if y0 == y1:
            ends = (x0 + 0.85, y0), (x1 - 0.85, y1)
        else:
            ends = (x0 + (0.5 if x0 != x1 else 0), y0 - 0.42), (x1 - (0.5 if x0 != x1 else 0), y1 + 0.42)
        axes.add_patch(FancyArrowPatch(*ends, arrowstyle="->", mutation_scale=10, linewidth=1))
    # The target of the pixel losses runs along the foot of the picture.
    axes.plot([0, 0, 9], [-1.42, -1.75, -1.75], color="black", linewidth=1, linestyle="-")
    axes.add_patch(
        FancyArrowPatch((9, -1.75), (9, -1.42), arrowstyle="->", mutation_scale=10, linewidth=1, shrinkA=0, shrinkB=0)
    )
    axes.text(9.85, -1.75, "* without x", ha="right", va="center", fontsize=8)
    axes.set(xlim=(-1, 10), ylim=(-1.9, 1.6))
    axes.axis("off")
    return figure
