"""helpers.inspector.views: what each view shows, live and as a figure, and what it says when it shows nothing."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from helpers.figures import png
from helpers.inspector import views
from helpers.inspector.panes import encode
from helpers.inspector.state import State
from helpers.inspector.views import VIEWS, NothingToShow, error_map, likeness_map
from helpers.inspector.workbench import Workbench
from helpers.probes import PROPERTIES, Probe


@pytest.fixture(scope="module")
def bench():
    bench = Workbench()
    bench.sets.upload(encode(bench.sets.picture(State()).sharp))
    bench.sets.loaded["test"] = bench.sets.images("test")[:12]
    bench.scores |= bench.score("test", "thesis")(lambda *s: True)
    rng = np.random.default_rng(0)
    for name in PROPERTIES:
        direction = rng.normal(0, 1, 512)
        bench.probes[name] = Probe(name, direction / (direction @ direction), 0.0, direction, 0.5, 0.1)
    return bench


def look(view, bench, state, *rest):
    """A view of a state's picture."""
    return view(bench, state, bench.sets.picture(state), *rest)


def grey(colours):
    return colours.astype(float) @ [0.299, 0.587, 0.114]


def test_error_map_has_a_sign():
    """No error is white, too bright turns violet, too dark orange; both get darker with the error."""
    truth = np.full((16, 16, 3), 120, np.uint8)
    none, bright, dark = (
        error_map((truth.astype(int) + by).astype(np.uint8), truth)[0, 0].astype(int) for by in (0, 40, -40)
    )
    assert none.min() > 240 and dark[0] > dark[2] + 50 and bright[2] > bright[0] + 20
    steps = [grey(error_map(truth + by, truth))[0, 0] for by in (0, 10, 20, 40, 60)]
    assert steps == sorted(steps, reverse=True)


def test_likeness_map(faces):
    same, other = likeness_map(faces[0], faces[0]), likeness_map(faces[1], faces[0])
    assert len(np.unique(same.reshape(-1, 3), axis=0)) == 1 and grey(same).mean() > grey(other).mean() + 20


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_a_figure(bench, view):
    figure = look(views.draw_view, bench, State(), view)
    assert isinstance(figure, Figure) and png(figure)[:4] == b"\x89PNG" and views.HELP[view]


def test_stages(bench, absent_method, slow_method):
    state = State(methods=("thesis", absent_method, slow_method))
    panes = look(views.stages, bench, state)
    assert list(panes) == ["input", "edges", "thesis", "ghost", "snail", "truth"]
    assert np.array_equal(panes["thesis"].image, bench.restored(bench.sets.picture(state), "thesis").image)
    assert "no such checkpoint" in panes["ghost"].note and "press" in panes["snail"].note
    assert np.array_equal(panes["truth"].image, bench.sets.picture(state).sharp) and "σ" in panes["input"].note


def test_a_result_outside_of_the_training_is_marked(bench):
    panes = look(views.stages, bench, State(kind="motion", strength=9.0))
    assert panes["thesis"].note.startswith("not trained for this; ") and "dB" in panes["thesis"].note
    assert "not trained" not in panes["input"].note
    assert look(views.stages, bench, State("photo", kind="none"))["thesis"].note == "not trained for this"
    assert "not trained" not in look(views.stages, bench, State())["thesis"].note


def test_stages_of_a_photograph(bench):
    """No ground truth pane; once degraded further, the photo itself stands there, without measures."""
    state = State("photo", kind="none")
    assert list(look(views.stages, bench, state)) == ["input", "edges", "thesis"]
    degraded = look(views.stages, bench, state.but(kind="motion", strength=9.0))
    assert degraded["truth"].title == "your photo" and not any("dB" in pane.note for pane in degraded.values())
    assert isinstance(look(views.side_by_side, bench, state), Figure)


def test_wipe(bench):
    left, right = look(views.wipe, bench, State(methods=("thesis",))).values()
    assert (left.title, right.title) == ("blurred", "thesis's model")
    left, right = look(views.wipe, bench, State(left="thesis", right="truth")).values()
    assert (left.title, right.title) == ("thesis's model", "ground truth")
    assert len(look(views.wipe, bench, State(left="input", right="input"))) == 2
    assert len(look(views.wipe, bench, State("photo", kind="none", right="truth", methods=()))) == 2


def test_edge_channel_marks_the_leakage(bench):
    panes = look(views.edge_channel, bench, State())
    leaks = [pane.title for pane in panes.values() if "LEAKAGE" in pane.title]
    assert len(leaks) == 2 and "LEAKAGE" not in panes["blurred"].title
    picture = bench.sets.picture(State())
    expected = bench.measures(picture, "thesis", "sharp")["PSNR"] - bench.measures(picture, "thesis")["PSNR"]
    assert f"({expected:+.2f} dB)" in panes["sharp"].note
    assert not any("LEAKAGE" in p.title for p in look(views.edge_channel, bench, State("photo", kind="none")).values())
    with pytest.raises(NothingToShow):
        look(views.edge_channel, bench, State(methods=()))


def test_code(bench):
    """At the ends of the walk stand the two faces; the probe's reading moves by the amount that was asked for."""
    ends = [look(views.code, bench, State(step=step)) for step in (0.0, 1.0)]
    assert np.array_equal(ends[0]["walk"].image, ends[0]["own"].image)
    assert np.array_equal(ends[1]["walk"].image, ends[1]["other"].image)
    assert np.array_equal(ends[0]["moved"].image, ends[0]["own"].image)
    assert not np.array_equal(ends[0]["less"].image, ends[0]["more"].image)
    assert len(look(views.code, bench, State("photo", kind="none"))) == 6


@pytest.mark.parametrize("view", ["maps", "among"])
def test_a_photograph_has_no_errors(bench, view):
    with pytest.raises(NothingToShow, match="no ground truth"):
        look(views.draw_view, bench, State("photo", kind="none"), view)


def test_among_wants_the_set_measured(bench):
    with pytest.raises(NothingToShow, match="not been measured"):
        look(views.among, bench, State("val"))


def test_gallery_follows_the_order(bench):
    state = State(sort_by="SSIM")
    table = bench.scores["test", "thesis"]
    images, picks = views.thumbnails(bench, state)
    assert picks == bench.order(state) and images.shape == (12, 64, 64, 3)
    assert views.labels(bench, state, picks)[0] == f"{picks[0]}: {table.SSIM.min():.3f}"
    kinds = [views.thumbnails(bench, state.but(thumbs=kind))[0][0] for kind in views.THUMBS]
    assert not any(np.array_equal(a, b) for k, a in enumerate(kinds) for b in kinds[:k])


def test_table_marks_the_best_and_escapes():
    table = pd.DataFrame(
        {"PSNR": [20.0, 25.0], "SSIM": [0.6, 0.5], "L1": [0.1, 0.2], "MSE": [0.2, 0.1], "LPIPS": [np.nan, np.nan]},
        index=["input", "<b>me</b>"],
    ).assign(parameters=[np.nan, 1234.0], ms=[np.nan, 5.0], remark=["", "<script>"])
    text = views.table_html(table, "no trunk", truth=True)
    assert all(f"<b>{best}</b>" in text for best in ("25.00", "0.6000", "0.1000")) and "<b>20.00</b>" not in text
    assert "&lt;b&gt;me" in text and "<script>" not in text and "1,234" in text and "no trunk" in text
    assert text.count("–") == 2 + 2 and "ground truth" in views.table_html(table, truth=False)


def test_legends_say_what_colours_mean():
    assert "too bright" in views.legend("maps") and "brighter" in views.legend("edges") and views.legend("stages") == ""
    assert set(views.HELP) == set(VIEWS)
