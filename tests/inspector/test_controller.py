"""helpers.inspector.controller: controls and what they do to the page, without a browser."""

import asyncio
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from helpers.data import ImageError, load_faces
from helpers.engine.checkpoints import CheckpointError
from helpers.finder import Proposal
from helpers.inspector import pictures, workbench
from helpers.inspector.controller import Inspector
from helpers.inspector.panes import encode
from helpers.inspector.state import State
from helpers.inspector.views import VIEWS
from helpers.inspector.workbench import Workbench
from helpers.methods import METHODS, Blind, Cancelled
from helpers.photograph import centred_box
from helpers.restore import restore_file


@pytest.fixture(scope="module")
def shared():
    """A workbench whose networks, which nobody changes, are loaded once."""
    bench = Workbench()
    for name in METHODS:
        bench.missing(name)
    return bench


@pytest.fixture
def bench(shared, monkeypatch):
    monkeypatch.setattr(workbench, "load_lpips", lambda: shared.lpips)
    monkeypatch.setattr(pictures, "propose", lambda image: Proposal([centred_box(image)], "", False))
    bench = Workbench()
    bench._methods = shared._methods | {"blind": CheckpointError("blind.safetensors: there is no such checkpoint")}
    bench.sets.loaded |= {"test": load_faces("test", 10), "val": load_faces("val", 6)}
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
    assert page.state.index == 9
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
    page.position.value = 9
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
    assert said[-1] == "notes.txt: This file is no PNG, JPEG or WebP picture." and page.sets.photo is None
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


@pytest.fixture
def blind_page(bench, data_with_blind):
    """A page on which the model trained blind is there."""
    bench._methods["blind"] = Blind("cpu", data_with_blind / "checkpoints" / "blind.safetensors")
    return Inspector(bench)


def test_a_photograph_is_restored_blind(blind_page):
    """By default, where its weights are; rendered faces have the thesis's model again; a choice of one's own stays."""
    page = blind_page
    assert page.state.methods == ("thesis",) and not page.boxes["blind"].disabled
    page.sources["photo"].value = True
    assert page.state.methods == ("blind",) and page.boxes["blind"].value and not page.boxes["thesis"].value
    page.sources["val"].value = True
    assert page.state.methods == ("thesis",) and page.state.kind == "drawn"
    upload(page, "me.png", encode(load_faces("val", 1)[0]))
    assert [p["title"] for p in page.panes.panes] == ["input", "edge map", "skip model, trained blind"]
    assert page.state.kind == "none" and "not trained" not in page.panes.panes[-1]["note"] + page.table.value
    page.boxes["skip"].value = True
    assert page.state.methods == ("skip", "blind")
    page.sources["test"].value = True
    assert page.state.methods == ("skip", "blind")


def test_a_result_outside_of_the_training_is_marked(blind_page):
    """At the picture and in the table, for every degradation but the method's own."""
    page = blind_page
    page.boxes["blind"].value = True

    def marked() -> list[bool]:
        notes = {p["title"]: "not trained for this" in p["note"] for p in page.panes.panes}
        assert page.table.value.count("not trained for this") == sum(notes.values())
        return [notes["thesis's model"], notes["skip model, trained blind"]]

    assert marked() == [False, False]
    page.strength.value = 5.0
    assert page.state.kind == "gaussian" and marked() == [False, False]
    for control, value in ((page.strength, 2.0), (page.kind, "motion"), (page.kind, "none"), (page.quality, 50)):
        control.value = value
        assert marked() == [True, False]
    page.quality.value = 10
    assert marked() == [True, True]


def test_the_square_is_on_the_face_that_is_found(page, monkeypatch):
    """Where it is, said once; moved by hand, nothing is said of it."""
    assert page.faces.layout.display == "none" == page.next_face.layout.display
    monkeypatch.setattr(pictures, "propose", lambda image: Proposal([(30, 20, 60)], "a face was found", True))
    upload(page, "me.png", encode(load_faces("val", 1)[0]))
    assert page.state.crop == (30, 20, 60) == tuple(page.photo.crop) and len(page.panes.panes) == 3
    assert "The square: a face was found." in page.faces.value and page.faces.layout.display == "flex"
    assert page.next_face.layout.display == "none"
    page.photo.crop = [0, 0, 100]
    assert page.state.crop == (0, 0, 100) and page.faces.layout.display == "none"
    page.sources["test"].value = True
    assert page.faces.layout.display == "none" == page.next_face.layout.display


def test_several_faces_one_after_the_other(page, monkeypatch):
    """The button goes round; after the square was moved by hand it begins with the first again."""
    boxes = [(30, 20, 60), (0, 0, 40), (80, 80, 48)]
    monkeypatch.setattr(pictures, "propose", lambda image: Proposal(boxes, "3 faces were found", True))
    upload(page, "us.png", encode(load_faces("val", 1)[0]))
    for number in (1, 2, 3, 1, 2):
        assert page.state.crop == boxes[number - 1] == tuple(page.photo.crop)
        assert f"3 faces were found; this is number {number}." in page.faces.value
        assert page.next_face.layout.display == "flex"
        before = shown(page)[0]
        page.next_face.click()
        assert not np.array_equal(shown(page)[0], before)
    page.photo.crop = [5, 5, 50]
    assert "3 faces were found." in page.faces.value
    page.next_face.click()
    assert page.state.crop == boxes[0]


def test_no_face_found_is_said(page, monkeypatch):
    """The square is the centred one, and can be moved."""
    told = "no face was found, so it is the centred one"
    monkeypatch.setattr(pictures, "propose", lambda image: Proposal([centred_box(image)], told, False))
    upload(page, "sea.png", encode(load_faces("val", 1)[0][:96]))
    assert page.state.crop == (16, 0, 96) == tuple(page.photo.crop)
    assert f"The square: {told}. Move it onto a face, from hair to chin." in page.faces.value
    assert page.next_face.layout.display == "none"
    page.photo.crop = [10, 0, 90]
    assert page.state.crop == (10, 0, 90) and page.faces.layout.display == "none"


def test_a_move_that_comes_after_another_photograph_is_dropped(page):
    """A browser sends where the square is, and on which photograph; the next photograph may be there before it."""
    first, second = load_faces("val", 2)
    upload(page, "first.png", encode(first))
    number = page.photo.photo["number"]
    page.photo.set_state({"crop": [10, 20, 60, number]})
    assert page.state.crop == (10, 20, 60)
    upload(page, "second.png", encode(second))
    proposed = page.state.crop
    page.photo.set_state({"crop": [30, 40, 50, number]})
    assert page.state.crop == proposed == tuple(page.photo.crop)
    page.photo.set_state({"crop": [30, 40, 50, number + 1]})
    assert page.state.crop == (30, 40, 50)


def test_the_example_photograph(page):
    """An astronaut, the square on her face; offered where a photograph is asked for."""
    assert page.example.layout.display == "none"
    page.sources["photo"].value = True
    assert page.example.layout.display == "flex"
    page.example.click()
    assert page.sets.photo.shape == (512, 512, 3) and page.state.crop == (135, 5, 180) == tuple(page.photo.crop)
    assert len(page.panes.panes) == 3 and "not trained for this" in page.panes.panes[-1]["note"]
    upload(page, "me.png", encode(load_faces("val", 1)[0]))
    assert page.state.crop == (0, 0, 128)


def camera_file(folder) -> Path:
    """A photograph that a camera held upright has stored lying, with a profile: 800 pixels wide, 1280 high."""
    photograph = cv2.resize(load_faces("val", 1)[0], (800, 1280), interpolation=cv2.INTER_CUBIC)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a garden"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(np.rot90(photograph)).save(folder / "me.jpg", exif=exif, icc_profile=profile, quality=95)
    return folder / "me.jpg"


def test_saving_the_whole_photograph(page, monkeypatch, tmp_path):
    """The very file that the command writes: the photograph's own size, upright, with its profile and its EXIF."""
    sent, path = {}, camera_file(tmp_path)
    monkeypatch.setattr(page.panes, "download", lambda name, content, kind="image/png": sent.update({name: content}))
    button = page.saves["whole"]
    assert button.layout.display == "none"
    page.sources["photo"].value = True
    assert button.layout.display == "none"  # as long as there is none
    upload(page, "me.jpg", path.read_bytes())
    assert page.sets.photo.shape == (1024, 640, 3) and button.layout.display == "flex"
    page.photo.crop = [64, 128, 400]
    page.boxes["wiener"].value = True  # must be told the blur, so it is passed over
    button.click()
    assert page.message.value.count("whole") == 0 and list(sent) == ["photo_0_whole_thesis.png"]
    restore_file(path, tmp_path / "restored.png", page.bench.method("thesis"), (80, 160, 500))
    assert sent["photo_0_whole_thesis.png"] == (tmp_path / "restored.png").read_bytes()
    written = Image.open(tmp_path / "restored.png")
    assert written.size == (800, 1280) and written.info["icc_profile"] and written.getexif()[0x010E] == "a garden"
    page.sources["test"].value = True
    assert button.layout.display == "none"


def test_what_cannot_be_saved_whole_is_said(page, monkeypatch):
    """A degradation of the page's own, which the photograph's file has not; no method that can."""
    sent = []
    monkeypatch.setattr(page.panes, "download", lambda *arguments: sent.append(arguments))
    upload(page, "me.png", encode(load_faces("val", 1)[0]))
    page.quality.value = 30
    page.saves["whole"].click()
    assert "choose no blur, no noise" in page.message.value and sent == []
    page.quality.value = 100
    page.boxes["thesis"].value = False
    page.saves["whole"].click()
    assert "Choose a method" in page.message.value and sent == []
    page.boxes["thesis"].value = True
    page.saves["whole"].click()
    assert len(sent) == 1


def test_the_whole_photograph_is_that_of_the_click(page, monkeypatch):
    """Beside the page: another photograph that is uploaded meanwhile does not get into it; it can be cancelled."""
    sent, faces = [], load_faces("val", 2)
    monkeypatch.setattr(page.panes, "download", lambda name, content: sent.append(content))
    upload(page, "one.png", encode(faces[0]))
    page.saves["whole"].click()
    _, work = page.bench.whole(page.state.crop, page.state.methods)
    upload(page, "two.png", encode(faces[1][:, :100]))
    assert work(lambda step, steps: True) == sent[0]
    with pytest.raises(Cancelled):
        work(lambda step, steps: False)


def test_saving(page, monkeypatch):
    sent = {}
    monkeypatch.setattr(page.panes, "download", lambda name, content, kind="image/png": sent.update({name: content}))
    for what in ("view", "table", "result", "pair"):
        page.save(what)
    assert list(sent) == ["test_0_stages.png", "test_0_measures.csv", "test_0_thesis.png", "test_0_side_by_side.png"]
    result = cv2.imdecode(np.frombuffer(sent["test_0_thesis.png"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(result, page.bench.restored(page.picture, "thesis").image)
    lines = sent["test_0_measures.csv"].decode().splitlines()
    assert lines[0].startswith("method,PSNR,SSIM,L1,MSE,LPIPS") and len(lines) == 3
    page.boxes["thesis"].value = False
    page.save("result")
    assert "No chosen method" in page.message.value


# ---------------------------------------------------------------------------------------------------------------------
# Long computations


def live(page, story, limit=120):
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
        while page.worker.busy and not page.bar.value:
            await asyncio.sleep(0.01)
        assert 0 < page.bar.value < page.bar.max and page.worker.busy
        assert changed(page, put(page.canny, (60, 120)))[1] and page.worker.busy  # the page is alive

    live(page, story)
    assert page.job.layout.display == "none" and not page.runs[slow_method].disabled
    assert np.array_equal(shown(page)[3], 255 - shown(page)[0])


def test_cancelling_a_slow_method(bench, slow_method):
    page = Inspector(bench)

    async def story():
        page.runs[slow_method].click()
        await asyncio.sleep(0.05)
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
    monkeypatch.setattr(page.bench, "learn_probes", lambda methods: lambda on_step: 1 / 0)
    page.view.value = "code"
    assert "division by zero" in page.message.value or len(page.panes.panes) == 3
    page.learn.click()
    assert "division by zero" in page.message.value and page.job.layout.display == "none"


# ---------------------------------------------------------------------------------------------------------------------
# What is missing, what is kept


def test_without_a_test_set_it_starts_with_another(bench):
    bench.sets.loaded["test"] = ImageError("test.zip is missing")
    assert Inspector(bench).state.source == "val"
    bench.sets.loaded["val"] = ImageError("val.zip is missing")
    page = Inspector(bench)
    assert page.state.source == "photo" and "Choose a photograph" in page.message.value


def test_own_folder(page, tmp_path):
    page.folder.value = str(tmp_path / "nowhere")
    assert "no such folder" in page.message.value
    cv2.imwrite(str(tmp_path / "a.png"), load_faces("val", 1)[0])
    page.folder.value = str(tmp_path)
    assert page.state.source == "folder" and len(page.panes.panes) == 4 and "guess" in page.message.value


@pytest.fixture
def broken_folder(tmp_path):
    """a.png, a JPEG that is cut in half, c.png, a file that holds nothing."""
    for name, face in zip(("a.png", "b.jpg", "c.png"), load_faces("val", 3), strict=True):
        cv2.imwrite(str(tmp_path / name), face)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "b.jpg").read_bytes()[:1500])
    (tmp_path / "d.webp").touch()
    return tmp_path


def test_a_broken_file_is_named_and_the_page_lives_on(page, broken_folder):
    page.folder.value = str(broken_folder)
    page.step(1)
    assert page.state.index == 1 and page.position.value == 1
    assert "b.jpg: cannot be read" in page.message.value and page.panes.panes == [] and page.table.value == ""
    page.strength.value = 3.0  # controls of a picture that is not there
    page.kind.value = "motion"
    page.save("view")
    assert "b.jpg" not in page.message.value and "no picture to save" in page.message.value
    page.next.click()
    assert page.state.index == 2 and "cannot" not in page.message.value and len(page.panes.panes) == 4
    assert page.state.kind == page.kind.value == "motion" and page.table.value
    page.next.click()
    assert "d.webp" in page.message.value and page.panes.panes == []
    page.position.value = 0
    assert len(page.panes.panes) == 4


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_lives_with_a_broken_file(page, broken_folder, view):
    page.folder.value = str(broken_folder)
    page.extras["other"].value = 2  # the walk's other end can be read
    page.view.value = view
    page.step(1)
    assert "b.jpg" in page.message.value and page.panes.panes == [] and page.plot.layout.display == "none"
    page.step(-1)
    assert "b.jpg" not in page.message.value
    if view == "among":
        assert page.plot.layout.display == "flex"
    else:
        assert len(page.panes.gallery["labels"]) == 4 if view == "gallery" else len(page.panes.panes) >= 2
    page.order.value = "PSNR, worst first"
    assert page.bench.order(page.state)[2:] == [1, 3]  # what cannot be read comes last


def test_it_starts_on_a_broken_file(bench, broken_folder, tmp_path):
    bench.open_folder(broken_folder)
    page = Inspector(bench, state=State("folder", 1))
    assert "b.jpg: cannot be read" in page.message.value and page.panes.panes == []
    page.step(1)
    assert len(page.panes.panes) == 4


def test_one_move_computes_one_picture(page, monkeypatch):
    """The blur is made once for a move, whatever is shown of it."""
    made, original = [], page.sets.picture
    monkeypatch.setattr(page.sets, "picture", lambda state: made.append(state) or original(state))
    page.strength.value = 3.0
    assert made == [page.state]


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
    (tmp_path / "state.json").write_text("{broken", encoding="utf-8")
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
