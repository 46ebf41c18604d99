"""What each view of the inspector shows: panes for the browser, and the same as a figure for static viewers."""

import html
from textwrap import fill

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from skimage.metrics import structural_similarity

from helpers import figures
from helpers.face_rows import show_faces
from helpers.inspector.panes import Pane
from helpers.inspector.pictures import Picture
from helpers.inspector.state import EDGES, State
from helpers.inspector.workbench import Workbench, column
from helpers.methods import METHODS, TITLES
from helpers.metrics import HIGHER_IS_BETTER
from helpers.photos import SIZE
from helpers.probes import PROPERTIES

VIEWS = {
    "stages": "Four stages", "wipe": "Wipe", "maps": "Error maps", "edges": "Edge channel",
    "among": "Among the set", "code": "Latent code", "gallery": "Gallery",
}  # fmt: skip
HELP = {
    "stages": "What goes in, the edges found in it, what each method makes of it, and the truth (thesis, Figure 5).",
    "wipe": "One picture over the other: move the line to see what the method adds, takes away and invents.",
    "maps": "Where a picture is wrong. Colours mean the same for every picture, so they can be compared.",
    "edges": "What the fourth input channel does. The sharp picture’s edges are not there when you need a restoration: "
    "results made with them are leakage.",
    "among": "Where this picture stands among all of its set. Move the blur and watch the dashed line.",
    "code": "Everything the model knows of a face are 512 numbers. Upper three: mix two codes. Lower three: move one.",
    "gallery": "Click a face, or walk with the arrow keys and press Enter; sort at the left to find best and worst.",
}
# Both maps differ in lightness throughout, so they read in grey and for colour-blind eyes; signs as in face_rows.
ERRORS, LIKENESS = mpl.colormaps["PuOr"], mpl.colormaps["cividis"]
ERROR_SPAN, CHANGE_SPAN = 64, 32  # grey levels at the ends of the scale
GALLERY = 100  # thesis, section 3.1: "the first 100 samples in the test set"
THUMBS = {"sharp": "ground truth", "blurred": "blurred", "edges": "edge map", "restored": "restored"}
GREY = np.full((SIZE, SIZE, 3), 200, np.uint8)


class NothingToShow(ValueError):
    """A view that makes no sense for this state; the message says why."""


def error_map(image: np.ndarray, truth: np.ndarray, span: int = ERROR_SPAN) -> np.ndarray:
    """Brightness of ``image`` minus that of ``truth`` in colours, uint8 H×W×3: violet too bright, orange too dark."""
    difference = image.astype(float).mean(-1) - truth.astype(float).mean(-1)
    return _coloured(ERRORS, 0.5 + difference / (2 * span))


def likeness_map(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """SSIM of the 7×7 window around each pixel in colours, uint8 H×W×3: yellow alike (1), blue unlike."""
    _, local = structural_similarity(truth, image, channel_axis=-1, data_range=255, full=True)
    return _coloured(LIKENESS, local.mean(-1))


def _coloured(colours, values: np.ndarray) -> np.ndarray:
    return (colours(np.clip(values, 0, 1))[..., :3] * 255).round().astype(np.uint8)


def legend(view: str) -> str:
    """The colour scale of a view's maps in HTML; "" for views without one."""
    scales = {"maps": [("too dark", ERRORS, "too bright", f"error, ±{ERROR_SPAN} grey levels")]}
    scales["maps"] += [("unlike (0)", LIKENESS, "alike (1)", "local SSIM")]
    scales["edges"] = [("darker", ERRORS, "brighter", f"change, ±{CHANGE_SPAN} grey levels")]
    bars = []
    for low, colours, high, name in scales.get(view, ()):
        stops = ", ".join(mpl.colors.to_hex(colours(x)) for x in np.linspace(0, 1, 9))
        bar = f"<span style='display:inline-block;width:110px;height:11px;background:linear-gradient(90deg,{stops})'>"
        bars.append(f"<span style='white-space:nowrap'>{name}: {low} {bar}</span> {high}</span>")
    return " &emsp; ".join(bars)


# ---------------------------------------------------------------------------------------------------------------------
# Panes


def _note(measures: dict | None) -> str:
    return f"{measures['PSNR']:.2f} dB, SSIM {measures['SSIM']:.3f}" if measures else ""


def _answer(bench: Workbench, picture: Picture, name: str) -> Pane:
    """A method's pane; grey with the reason where it has no answer."""
    try:
        answer = bench.restored(picture, name)
        if answer is None:
            return Pane(TITLES[name], GREY, "slow: press its button")
        notes = bench.caution(picture, name), _note(bench.measures(picture, name))
        return Pane(TITLES[name], answer.image, "; ".join(filter(None, notes)))
    except ValueError as error:
        return Pane(TITLES[name], GREY, bench.missing(name) or str(error))


def stages(bench: Workbench, state: State, picture: Picture) -> dict[str, Pane]:
    """Figure 5 of the thesis: "input", "edges", each chosen method, and "truth" where there is one."""
    title, note = "blurred" if picture.params else "input", picture.words
    if (measures := bench.measures(picture)) is not None:
        title, note = "blurred", f"{note}; {_note(measures)}"
    share = f"Canny {state.low}/{state.high}: {100 * picture.edges.mean():.1f} % edge"
    panes = {"input": Pane(title, picture.blurred, note), "edges": Pane("edge map", picture.edges, share)}
    panes |= {name: _answer(bench, picture, name) for name in state.methods}
    if picture.has_truth:
        panes["truth"] = Pane("ground truth", picture.sharp, f"picture {state.index}")
    elif picture.params:
        panes["truth"] = Pane("your photo", picture.sharp, "before it was degraded")
    return panes


def wipe(bench: Workbench, state: State, picture: Picture) -> dict[str, Pane]:
    """What lies left and right of the line: by default the input and the first method."""
    panes = stages(bench, state, picture)
    names = list(panes)
    left = state.left if state.left in panes else "input"
    right = state.right if state.right in panes else (state.methods[0] if state.methods else names[-1])
    return {left: panes[left], "over " + right: panes[right]}


def maps(bench: Workbench, state: State, picture: Picture) -> dict[str, Pane]:
    """Signed error and local SSIM, of the input and of each chosen method."""
    if not picture.has_truth:
        raise NothingToShow("A photograph has no ground truth, so there is no error to map.")
    truth, panes = picture.sharp, {}
    images = {"blurred": picture.blurred}
    for name in state.methods:
        answer = _answer(bench, picture, name)
        if answer.image is not GREY:
            images[answer.title] = answer.image
    for title, image in images.items():
        mean = np.abs(image.astype(float) - truth).mean()
        panes[f"error {title}"] = Pane(f"error, {title}", error_map(image, truth), f"mean |error| {mean:.1f} levels")
    for title, image in images.items():
        panes[f"ssim {title}"] = Pane(f"local SSIM, {title}", likeness_map(image, truth))
    return panes


def edge_channel(bench: Workbench, state: State, picture: Picture) -> dict[str, Pane]:
    """What the fourth channel does: restored with the true edge map, without, and with that of the sharp picture."""
    name = next((n for n in state.methods if METHODS[n].edge_aware and not bench.missing(n)), None)
    if name is None:
        raise NothingToShow("None of the chosen methods looks at edges. Choose the thesis's model.")
    panes, base = {}, None
    of = [kind for kind in EDGES if kind != "sharp" or picture.has_truth]
    for kind in of:
        image = bench.restored(picture, name, kind).image
        measures = bench.measures(picture, name, kind)
        base = base or (image, measures)
        note = _note(measures)
        if measures and kind != "blurred":
            note += f" ({measures['PSNR'] - base[1]['PSNR']:+.2f} dB)"
        panes[kind] = Pane(f"edges: {EDGES[kind]}", image, note)
    panes["edges"] = Pane("edge map, blurred", picture.edges, "as in training")
    for kind in of[1:]:
        image = panes[kind].image
        change = np.abs(image.astype(float) - base[0]).mean()
        title = f"change: {EDGES[kind]}"
        panes["change " + kind] = Pane(title, error_map(image, base[0], CHANGE_SPAN), f"mean {change:.1f} levels")
    return panes


def code(bench: Workbench, state: State, picture: Picture) -> dict[str, Pane]:
    """The walk from this code to that of another face of the set (of a test face, for a photograph), and moves along a
    probe's direction.
    """
    elsewhere = {} if state.has_truth else {"source": "test", "kind": "drawn"}
    other_face = bench.sets.picture(state.but(index=state.other, **elsewhere))
    own, other = bench.code(picture, state.methods), bench.code(other_face, state.methods)
    codes = {"own": own, "walk": (1 - state.step) * own + state.step * other, "other": other}
    probe = bench.probes.get(state.wanted)
    if probe:
        for key, amount in (("less", -2.0), ("moved", state.amount), ("more", 2.0)):
            codes[key] = probe.move(own, amount * probe.spread)
    images = dict(zip(codes, bench.decode(np.stack([*codes.values()]), state.methods), strict=True))
    panes = {
        "own": Pane("this code, decoded", images["own"]),
        "walk": Pane("on the walk", images["walk"], f"{100 * state.step:.0f} % of the way"),
        "other": Pane(f"code of face {state.other}", images["other"]),
    }
    if probe:
        name, unit = PROPERTIES[state.wanted]
        for key, title in {"less": "less", "moved": "moved", "more": "more"}.items():
            panes[key] = Pane(f"{title}: {name}", images[key], f"probe reads {probe.read(codes[key]):.3g} {unit}")
    return panes


PANES = {"stages": stages, "wipe": wipe, "maps": maps, "edges": edge_channel, "code": code}


def panes_of(bench: Workbench, state: State, picture: Picture, view: str) -> dict[str, Pane]:
    """The panes of a view made of panes; NothingToShow, ImageError, CheckpointError say why there are none."""
    return PANES[view](bench, state, picture)


# ---------------------------------------------------------------------------------------------------------------------
# The set


def thumbnails(bench: Workbench, state: State) -> tuple[np.ndarray, list[int]]:
    """The first 100 pictures in the chosen order: uint8 N×64×64×3, and their indices."""
    picks = bench.order(state)[:GALLERY]
    images = [bench.thumbnail(state, index) for index in picks]
    return np.stack(images), picks


def labels(bench: Workbench, state: State, picks: list[int]) -> list[str]:
    """What stands under each thumbnail: its number, and the measure by which the gallery is sorted."""
    table = bench.scores.get((state.source, bench.scored_method(state.methods)))
    if not state.sort_by or table is None:
        return [str(index) for index in picks]
    values = table[column(table, state.sort_by)]
    return [f"{i}: {values[i]:.{2 if state.sort_by == 'PSNR' else 3}f}" if i in values.index else str(i) for i in picks]


def among(bench: Workbench, state: State, picture: Picture) -> Figure:
    """Histograms of the set's measures with this picture's marked."""
    if not picture.has_truth:
        raise NothingToShow("A photograph has no ground truth, so it has no measures and no place among the faces.")
    name = bench.scored_method(state.methods)
    table, before = bench.scores.get((state.source, name)), bench.scores.get((state.source, "input"))
    if table is None:
        raise NothingToShow("The set has not been measured yet: press “Measure the set”.")
    here, input_here = bench.measures(picture, name), bench.measures(picture)
    title = f"Picture {state.index} among {len(table)}, their blur as in the test set: {TITLES.get(name, name)}"
    figure, axes = figures.new(1, table.shape[1], (2.0 * table.shape[1] - 0.5, 2.9), title)
    for axis, metric in zip(axes, table.columns, strict=True):
        both = pd.concat([before[metric], table[metric]])
        bins = np.linspace(both.min(), both.max(), 25)
        axis.hist(before[metric], bins, color=figures.LIGHT, alpha=0.6)
        axis.hist(table[metric], bins, histtype="step", color=figures.DARK, linewidth=1.5, linestyle="-")
        for value, colour, dash in ((input_here[metric], "#9a6a00", ":"), (here[metric], figures.DARK, "--")):
            axis.axvline(np.clip(value, bins[0], bins[-1]), color=colour, linestyle=dash, linewidth=2)
        better = "higher" if HIGHER_IS_BETTER[metric.split()[0]] else "lower"
        axis.set(title=fill(metric, 12), xlabel=f"{here[metric]:.4g}\n{better} is better", yticks=[])
        axis.spines["left"].set_visible(False)
        axis.locator_params(axis="x", nbins=4)
    figure.supxlabel(
        "filled, dotted: blurred input; outline, dashed: restored (line: this picture, as set now)", fontsize=8
    )
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Figures and tables


def draw_view(bench: Workbench, state: State, picture: Picture, view: str, line: float = 0.5) -> Figure:
    """A view as a figure; ``line`` is the wipe's place. Raises what :func:`panes_of` and :func:`among` raise."""
    if view == "among":
        return among(bench, state, picture)
    if view == "gallery":
        images, picks = thumbnails(bench, state)
        name = f"{THUMBS[state.thumbs]}, first {len(picks)} of the set"
        order = f", by {state.sort_by}, {'worst' if state.worst_first else 'best'} first" if state.sort_by else ""
        return figures.gallery(images, 20, name + order, scale=0.5)
    panes = [*panes_of(bench, state, picture, view).values()]
    if view == "wipe":
        left, right = panes
        wiped = _rgb(left.image).copy()
        split = round(line * SIZE)
        wiped[:, split:] = _rgb(right.image)[:, split:]
        wiped[:, max(0, split - 1) : split + 1] = 255
        panes = [left, Pane(f"{left.title} | {right.title}", wiped, "wiped"), right]
    return _grid(panes, 3 if len(panes) in (5, 6) else 4, VIEWS[view])


def _grid(panes: list[Pane], most: int, title: str) -> Figure:
    """Panes in rows of ``most``, twice their size where the page is wide enough, their titles and notes below."""
    columns = min(len(panes), most)
    side = 2 * SIZE if columns <= 4 else SIZE
    rows, captions = {}, {}
    for start in range(0, len(panes), columns):
        some, label = panes[start : start + columns], " " * start  # rows without a label that can be seen
        rows[label] = [_rgb(pane.image) for pane in some]
        captions[label] = ["\n".join(fill(text, side // 6) for text in (p.title, p.note) if text) for p in some]
    return show_faces(rows, title, captions=captions, side=side)


def _rgb(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else np.repeat(image[..., None] * 255, 3, axis=2)


def side_by_side(bench: Workbench, state: State, picture: Picture) -> Figure:
    """Input and answers in one row, for the person who brought the photograph."""
    shown = stages(bench, state, picture)
    panes = [pane for name, pane in shown.items() if name != "edges" and pane.image is not GREY]
    return _grid(panes, len(panes), "")


def table_html(table: pd.DataFrame, why_no_lpips: str = "", truth: bool = True) -> str:
    """``Workbench.table`` as HTML: the best of each measure in bold, what is absent in grey."""
    cells = []
    measures = [c for c in table.columns if c not in ("parameters", "ms", "remark")]
    for name, row in table.iterrows():
        cell = [f"<th>{html.escape(str(name))}</th>"]
        for c in measures:
            values, higher = table[c].astype(float), HIGHER_IS_BETTER[c.split()[0]]
            text = "–" if pd.isna(row[c]) else f"{row[c]:.2f}" if c == "PSNR" else f"{row[c]:.4f}"
            best = not pd.isna(row[c]) and row[c] == (values.max() if higher else values.min())
            cell.append(f"<td>{'<b>' + text + '</b>' if best else text}</td>")
        cell.append(f"<td>{'–' if pd.isna(row['parameters']) else format(int(row['parameters']), ',')}</td>")
        cell.append(f"<td>{'–' if pd.isna(row['ms']) else format(row['ms'], '.0f')}</td>")
        cell.append(f"<td class='absent'>{html.escape(row['remark'])}</td>")
        cells.append("<tr>" + "".join(cell) + "</tr>")
    heads = [f"{c}{' ↑' if HIGHER_IS_BETTER[c.split()[0]] else ' ↓'}" for c in measures]
    heads = ["", *heads, "parameters", "ms", ""]
    notes = [] if truth else ["A photograph has no ground truth, so the five measures are absent."]
    notes += [why_no_lpips] if why_no_lpips else []
    foot = "".join(f"<div class='absent'>{html.escape(n)}</div>" for n in notes)
    head = "".join(f"<th>{html.escape(h)}</th>" for h in heads)
    return f"<div class='scroll'><table class='measures'><tr>{head}</tr>{''.join(cells)}</table></div>{foot}"
