"""helpers.inspector_view: controls and what they do to the page, without a browser."""

import asyncio
import time
from functools import partial

import cv2
import numpy as np
import pytest

from helpers import inspector
from helpers.data import load_faces
from helpers.inspector import Workbench
from helpers.inspector_view import Inspector
from helpers.panes import encode
from helpers.state import State
from helpers.views import VIEWS


@pytest.fixture(scope="module")
def shared():
    bench = Workbench()
    bench.method("thesis")
    return bench


@pytest.fixture
def bench(shared, monkeypatch):
    monkeypatch.setattr(inspector, "load_lpips", lambda: shared.ruler)
    bench = Workbench()
    bench._methods = dict(shared._methods)
    bench._sets = {"test": load_faces("test", 20), "val": load_faces("val", 6)}
    bench.learn_probes = partial(bench.learn_probes, faces=40)
    return bench


@pytest.fixture
def page(bench):
    return Inspector(bench)


def shown(page) -> list[np.ndarray]:
    return [cv2.imdecode(np.frombuffer(pane["png"], np.uint8), cv2.IMREAD_COLOR) for pane in page.panes.panes]


def changed(page, action) -> list[bool]:
    """Which panes are another picture after ``action``."""
    before = shown(page)
    action()
    return [not np.array_equal(a, b) for a, b in zip(before, shown(page), strict=True)]


def put(control, value):
    return lambda: setattr(control, "value", value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("strength", 2.0, [True, True, True, False]),  # blurred, edges, restored; never the truth
        ("noise", 30, [True, True, True, False]),
        ("quality", 5, [True, True, True, False]),
        ("kind", "defocus", [True, True, True, False]),
        ("canny", (60, 120), [False, True, True, False]),
        ("position", 3, [True, True, True, True]),
    ],
)
def test_a_control_moves_and_the_panes_follow(page, name, value, expected):
    table = page.table.value
    assert changed(page, put(getattr(page, name), value)) == expected
    assert page.table.value != table


def test_angle_belongs_to_motion(page):
    assert page.angle.disabled
    page.kind.value = "motion"
    assert not page.angle.disabled and page.strength.description.startswith("length")
    assert changed(page, put(page.angle, 90))[0]
    page.kind.value = "none"
    assert page.strength.disabled and page.state.kind == "none"


def test_taking_the_slider_of_a_drawn_blur_sets_it(page):
    assert page.state.kind == "drawn" and page.strength.value == pytest.approx(page._drawn())
    page.strength.value = page._drawn() + 0.04  # what a browser's rounding may send back
    assert page.state.kind == "drawn"
    page.strength.value = 2.0
    assert page.state.kind == page.kind.value == "gaussian" and "2.0 px" in page.panes.panes[0]["note"]


def test_methods(page):
    page.boxes["thesis"].value = False
    assert page.state.methods == () and len(page.panes.panes) == 3
    page.boxes["thesis"].value = True
    assert len(page.panes.panes) == 4 and "22,596,611" in page.table.value


def test_sets_and_steps(page):
    page.step(-1)
    assert page.state.index == 19
    page.step(1)
    assert page.state.index == 0 and page.position.value == 0
    page.sources["val"].value = True
    assert page.state.source == "val" and not page.sources["test"].value and page.position.max == 5
    page.sources["val"].value = False  # pressed again: stays
    assert page.sources["val"].value and page.state.source == "val"
    page.panes.on_step(1)
    assert page.state.index == 1


@pytest.mark.parametrize("view", VIEWS)
def test_views(page, view):
    page.view.value = view
    assert page.state.view == view and page.message.value == ""
    if view == "among":
        assert page.plot.value[:4] == b"\x89PNG" and page.plot.layout.display == "flex"
    else:
        assert page.panes.gallery["png"] if view == "gallery" else len(page.panes.panes) >= 2
        assert page.panes.mode == {"wipe": "wipe", "gallery": "gallery"}.get(view, "panes")
    page.view.value = "stages"
    assert len(page.panes.panes) == 4 and page.plot.layout.display == "none"


def test_sorting_and_the_gallery(page):
    page.order.value = "SSIM, worst first"
    table = page.bench.scores["test", "thesis"]
    page.position.value = 0
    page.step(0)
    assert page.position.value == page.bench.order(page.state).index(page.state.index)
    page.position.value = 19
    assert page.state.index == table.SSIM.idxmax()
    page.view.value = "gallery"
    page.panes.picked = int(table.SSIM.idxmin())
    assert page.state.index == table.SSIM.idxmin() and page.position.value == 0
    assert page.panes.gallery["current"] == page.state.index


# ---------------------------------------------------------------------------------------------------------------------
# Photographs


def upload(page, name, content):
    page.photo._receive(page.photo, {"upload": name, "part": 0, "parts": 1}, [content])


def test_photo(page, monkeypatch):
    said = []
    monkeypatch.setattr(page.photo, "say", said.append)
    page.sources["photo"].value = True
    assert "Choose a photograph" in page.message.value and page.panes.panes == [] and page.table.value == ""
    upload(page, "notes.txt", b"hello")
    assert said[-1] == "notes.txt: This file is no PNG, JPEG or WebP picture." and page.bench.photo is None
    upload(page, "me.png", encode(np.concatenate([load_faces("val", 1)[0]] * 2, axis=1)))
    assert page.state.source == "photo" and page.state.kind == "none" and page.photo.crop == [64, 0, 128]
    assert [p["title"] for p in page.panes.panes] == ["input", "edge map", "thesis's model"]
    assert "guess" in page.message.value and "the five measures are absent" in page.table.value
    page.photo.crop = [100, 0, 100]
    assert page.state.crop == (100, 0, 100)
    assert (
        changed(page, put(page.photo, None) if False else lambda: setattr(page.photo, "crop", [0, 0, 128]))
        == [True] * 3
    )
    page.view.value = "maps"
    assert "no ground truth" in page.message.value and page.panes.panes == []


def test_saving(page, monkeypatch):
    sent = {}
    monkeypatch.setattr(page.panes, "download", lambda name, content, kind="image/png": sent.update({name: content}))
    for what in ("view", "table", "result", "pair"):
        page.save(what)
    assert list(sent) == ["test_0_stages.png", "test_0_measures.csv", "test_0_thesis.png", "test_0_side_by_side.png"]
    result = cv2.imdecode(np.frombuffer(sent["test_0_thesis.png"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(result, page.bench.restored(page.state, "thesis").image)
    lines = sent["test_0_measures.csv"].decode().splitlines()
    assert lines[0].startswith("method,PSNR,SSIM,L1,MSE,LPIPS") and len(lines) == 3
    page.boxes["thesis"].value = False
    page.save("result")
    assert "No chosen method" in page.message.value


# ---------------------------------------------------------------------------------------------------------------------
# Long computations


def live(page, story, limit=60):
    """Play ``story`` inside an event loop, as a kernel has one, until the page is idle again."""

    async def main():
        await story()
        end = time.monotonic() + limit
        while page.worker.busy and time.monotonic() < end:
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert not page.worker.busy


def test_a_slow_method_runs_beside_the_page(bench, slow_method):
    page = Inspector(bench)
    page.boxes[slow_method].value = True
    assert page.panes.panes[3]["note"].startswith("slow") and page.job.layout.display == "none"

    async def story():
        page.runs[slow_method].click()
        assert page.job.layout.display == "flex" and page.runs[slow_method].disabled
        await asyncio.sleep(0.3)
        assert 0 < page.bar.value < page.bar.max and page.worker.busy
        assert changed(page, put(page.canny, (60, 120)))[1] and page.worker.busy  # the page is alive

    live(page, story)
    assert page.job.layout.display == "none" and not page.runs[slow_method].disabled
    assert np.array_equal(shown(page)[3], 255 - shown(page)[0])


def test_cancelling_a_slow_method(bench, slow_method):
    page = Inspector(bench)

    async def story():
        page.runs[slow_method].click()
        await asyncio.sleep(0.1)
        page.cancel.click()

    live(page, story)
    assert "cancelled" in page.message.value and page.panes.panes[3]["note"].startswith("slow")
    assert slow_method in page.state.methods  # its box was ticked by the button


def test_one_thing_at_a_time(bench, slow_method):
    page = Inspector(bench)

    async def story():
        page.runs[slow_method].click()
        page.measure.click()
        assert "under way" in page.message.value
        page.worker.cancel()

    live(page, story)
    assert page.bench.scores == {}


def test_a_failing_computation_says_so(page, monkeypatch):
    monkeypatch.setattr(page.bench, "learn_probes", lambda state: lambda on_step: 1 / 0)
    page.view.value = "code"
    assert "division by zero" in page.message.value or len(page.panes.panes) == 3
    page.learn.click()
    assert "division by zero" in page.message.value and page.job.layout.display == "none"


# ---------------------------------------------------------------------------------------------------------------------
# What is missing, what is kept


def test_without_a_test_set_it_starts_with_another(bench):
    bench._sets["test"] = inspector.ImageError("test.zip is missing")
    assert Inspector(bench).state.source == "val"
    bench._sets["val"] = inspector.ImageError("val.zip is missing")
    page = Inspector(bench)
    assert page.state.source == "photo" and "Choose a photograph" in page.message.value


def test_own_folder(page, tmp_path):
    page.folder.value = str(tmp_path / "nowhere")
    assert "no such folder" in page.message.value
    cv2.imwrite(str(tmp_path / "a.png"), load_faces("val", 1)[0])
    page.folder.value = str(tmp_path)
    assert page.state.source == "folder" and len(page.panes.panes) == 4 and "guess" in page.message.value


def test_the_state_survives_a_restart(bench, tmp_path):
    page = Inspector(bench, remember=tmp_path / "state.json")
    page.position.value = 4
    page.noise.value = 12
    page.view.value = "maps"
    again = Inspector(bench, remember=tmp_path / "state.json")
    assert (
        again.state == page.state
        and again.noise.value == 12
        and again.view.value == "maps"
        and again.position.value == 4
    )
    (tmp_path / "state.json").write_text("{broken")
    assert Inspector(bench, remember=tmp_path / "state.json").state == State()


def test_a_remembered_state_that_is_not_possible_any_more(bench, tmp_path):
    State("photo", kind="none").save(tmp_path / "state.json")  # uploads are not kept
    assert Inspector(bench, remember=tmp_path / "state.json").state.source == "test"
    State("val", 300, view="cinema").save(tmp_path / "state.json")
    state = Inspector(bench, remember=tmp_path / "state.json").state
    assert (state.source, state.index, state.view) == ("val", 5, "stages")


def test_on_a_served_page_nothing_of_the_machine_is_open(bench, tmp_path, monkeypatch):
    """No file of the state that visitors would share, no path to type, no second computing of figures."""
    monkeypatch.setenv("VOILA_BASE_URL", "/")
    page = Inspector(bench, remember=tmp_path / "state.json")
    page.noise.value = 9
    assert not (tmp_path / "state.json").exists() and page.sources["folder"].disabled
    assert page.figure("stages") is None


def test_figures_for_readers_without_a_kernel(page):
    assert all(page.figure(view).axes for view in ("stages", "gallery", "among"))
    assert page.state == State()  # a figure does not move the controls
