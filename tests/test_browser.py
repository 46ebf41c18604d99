"""The inspector in Debian's Chromium: chapter 12 in JupyterLab, and the page that Voilà makes of it.

Skipped where Chromium or playwright is absent, never where ``CI`` is set: there that is a failure. Screenshots go to
the folder that ``COURSE_SCREENSHOTS`` names; look at them.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from helpers.data import denormalise, load_faces, normalise
from helpers.degrade import MATRIX, GaussianBlur
from helpers.engine.checkpoints import shipped
from helpers.engine.folders import data_folder
from helpers.inspector import State
from helpers.metrics import psnr
from helpers.seeds import rng_for
from tests.conftest import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if not os.environ.get("CI"):
    pytest.importorskip("playwright", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("there is no Chromium (Debian: apt-get install chromium)", allow_module_level=True)
from playwright.sync_api import expect, sync_playwright  # noqa: E402

# Milliseconds; a broken page would never be ready, a busy machine may be very slow.
PATIENCE = 1000 * int(os.environ.get("COURSE_PATIENCE", "240"))
WIDE, HALF = {"width": 1280, "height": 800}, {"width": 640, "height": 800}
# What Voilà's own template fetches for the icons of its buttons; nothing of the course comes from elsewhere.
ICONS = re.compile(r"^https://cdn\.jsdelivr\.net/npm/@fortawesome/")


@contextmanager
def server(*arguments: str, cwd: Path, **variables: str):
    """A server on a free port, in a process group of its own that is ended whatever happens; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (cwd / "server.log").open("w")
    command = [sys.executable, "-m", *(a.format(port=port) for a in arguments)]
    # A server cuts a browser off that leaves its pings unanswered, as one on a machine that stands still may. Here both
    # are always there, so there is nothing to find out by pings.
    application = {"voila": "Voila", "jupyterlab": "ServerApp"}[arguments[0]]
    command.append(f"--{application}.tornado_settings={{'ws_ping_interval': 0}}")
    # JupyterLab's settings and layout are its own, not those of whoever runs the tests.
    own = {f"JUPYTERLAB_{what}_DIR": str(cwd / what.lower()) for what in ("SETTINGS", "WORKSPACES")}
    process = subprocess.Popen(
        command, cwd=cwd, stdout=log, stderr=log, start_new_session=True, env=os.environ | own | variables
    )
    try:
        deadline = time.monotonic() + PATIENCE / 1000
        while True:
            try:  # asking Voilà for a page would start a kernel
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                said = (cwd / "server.log").read_text(encoding="utf-8")
                assert process.poll() is None and time.monotonic() < deadline, said[-3000:]
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        for ask in (signal.SIGTERM, signal.SIGKILL):  # at SIGINT Jupyter would ask whether that is meant, and wait
            try:
                os.killpg(process.pid, ask)
                process.wait(timeout=60)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        log.close()


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM, "CI is set, and there is no Chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def screenshots() -> Path | None:
    """The folder for them; None where nobody asked for any."""
    if not (named := os.environ.get("COURSE_SCREENSHOTS")):
        return None
    Path(named).mkdir(parents=True, exist_ok=True)
    return Path(named)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A copy of the chapter, so that its file of the state does not lie among the sources, and of Voilà's options; a
    photograph; no picture."""
    place = tmp_path_factory.mktemp("place")
    for name in ("12_inspector.ipynb", "voila.json"):
        shutil.copy(ROOT / "notebooks" / name, place)
    shutil.copytree(ROOT / "notebooks" / "pictures", place / "pictures")
    face = load_faces("val", 1)[0]
    tall = cv2.resize(np.concatenate([face, face[::-1]]), None, fx=3, fy=3)
    cv2.imwrite(str(place / "me.jpg"), tall[..., ::-1])
    person = cv2.resize(astronaut(), (256, 256), interpolation=cv2.INTER_AREA)[..., ::-1]
    cv2.imwrite(str(place / "two.png"), np.concatenate([person, person[:, ::-1]], axis=1))
    (place / "notes.jpg").write_text("this is no picture", encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def few_faces(tmp_path_factory) -> Path:
    """The course's data with 40 faces a set: a chapter that measures whole sets is soon through."""
    folder = tmp_path_factory.mktemp("data")
    for path in data_folder().iterdir():
        if path.name != "faces":
            (folder / path.name).symlink_to(path)
    (folder / "faces").mkdir()
    for path in (data_folder() / "faces").iterdir():
        if path.suffix != ".zip":
            (folder / "faces" / path.name).symlink_to(path)
            continue
        with zipfile.ZipFile(path) as whole, zipfile.ZipFile(folder / "faces" / path.name, "w") as part:
            for name in sorted(whole.namelist())[:40]:
                part.writestr(name, whole.read(name))
    return folder


class Page:
    """A browser's page with the inspector in it, and what its console said."""

    def __init__(self, browser, size, screenshots: Path | None, name: str):
        self.context = browser.new_context(viewport=size, accept_downloads=True)
        self.context.set_default_timeout(PATIENCE)
        self.page, self.name, self.screenshots = self.context.new_page(), name, screenshots
        self.errors, self.foreign = [], []
        self.page.on("console", lambda m: m.type == "error" and self.errors.append(m.text))
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.context.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), self._elsewhere)

    def _elsewhere(self, route):
        self.foreign.append(route.request.url)
        route.fulfill(status=200, body="", content_type="text/css")

    def shoot(self, name: str, whole: bool = False):
        if self.screenshots is None:
            return
        self.page.wait_for_timeout(300)  # let the canvases be painted
        self.page.screenshot(path=self.screenshots / f"{self.name}_{name}.png", full_page=whole)

    def pixels(self, number: int) -> str:
        """The picture in pane ``number``, as a data URL."""
        return self.page.evaluate(
            f"document.querySelectorAll('.inspector .main canvas.zooms')[{number}]?.toDataURL() ?? ''"
        )

    def becomes_other(self, number: int, before: str):
        """Wait until pane ``number`` shows another picture."""
        self.page.wait_for_function(
            f"""before => {{
                const now = document.querySelectorAll('.inspector .main canvas.zooms')[{number}]?.toDataURL();
                return now && now !== before;
            }}""",
            arg=before,
        )

    def settles(self, number: int):
        """Wait until pane ``number`` has shown the same picture for a second and a half."""
        before = None
        while before != (before := self.pixels(number)):
            self.page.wait_for_timeout(1500)

    def view(self, title: str):
        self.page.get_by_role("button", name=title, exact=True).click()

    def slider(self, label: str):
        """The handle of an ipywidgets slider."""
        return self.page.locator(".inspector .widget-hslider", has_text=label).locator(".noUi-handle").first

    def press(self, locator, key: str, times: int = 1):
        locator.focus()
        for _ in range(times):
            locator.press(key)


def open_voila(browser, screenshots, address, size, name) -> Page:
    page = Page(browser, size, screenshots, name)
    page.page.goto(address, timeout=PATIENCE)
    page.page.wait_for_selector(".inspector .main canvas.zooms", timeout=PATIENCE)
    page.page.wait_for_selector(".inspector table.measures")
    return page


@pytest.fixture(scope="module")
def voila(browser, screenshots, place):
    arguments = ["voila", "12_inspector.ipynb", "--no-browser", "--port={port}"]  # as the README does
    with server(*arguments, cwd=place) as address:
        page = open_voila(browser, screenshots, address, WIDE, "voila")
        yield page
        page.context.close()


@pytest.fixture(scope="module")
def lab(browser, screenshots, place, few_faces):
    """Chapter 12 in JupyterLab, all of its cells run."""
    arguments = ["jupyterlab", "--no-browser", "--allow-root", "--port={port}", "--ServerApp.ip=127.0.0.1"]
    arguments += ["--IdentityProvider.token=", "--ServerApp.password=", "--LabApp.news_url="]
    with server(*arguments, cwd=place, COURSE_DATA=str(few_faces)) as address:
        page = Page(browser, WIDE, screenshots, "lab")
        page.page.goto(f"{address}/doc/tree/12_inspector.ipynb?reset", timeout=PATIENCE)
        page.page.get_by_text("(ipykernel) | Idle").wait_for()  # what is run before the kernel is there is not run
        page.page.get_by_role("menuitem", name="Run", exact=True).click()
        page.page.get_by_text("Run All Cells", exact=True).click()
        # Running all ends at the last cell, and cells far from the screen leave the page: up, until it is there.
        page.page.wait_for_function(
            """() => {
                document.querySelector(".jp-WindowedPanel-outer").scrollTop = 0;
                return document.querySelector(".inspector .main canvas.zooms")?.offsetParent;
            }""",
            polling=100,
        )
        yield page
        page.context.close()


# ---------------------------------------------------------------------------------------------------------------------
# What a person does, the same in both


def move_a_slider(page: Page):
    """σ goes down by the keyboard: blurred and restored change, the truth stays, the table follows."""
    blurred, restored, truth = page.pixels(0), page.pixels(2), page.pixels(3)
    table = page.page.locator("table.measures").inner_text()
    page.press(page.slider("σ in pixels"), "ArrowLeft", 12)
    page.becomes_other(0, blurred)
    page.becomes_other(2, restored)
    page.page.wait_for_function("t => document.querySelector('table.measures').innerText !== t", arg=table)
    assert page.pixels(3) == truth
    page.shoot("moved")


def zoom(page: Page):
    """One pane is zoomed by the keyboard, and all follow."""
    frame = page.page.locator(".inspector .main .frame").first
    page.press(frame, "+", 3)
    shifts = page.page.eval_on_selector_all(".main canvas.zooms", "all => all.map(c => c.style.transform)")
    assert len(set(shifts)) == 1 and re.search(r"scale\(1\.9\d*\)", shifts[0])
    box = frame.bounding_box()
    page.page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 130, box["y"] + 80, steps=4)
    page.page.mouse.up()
    moved = page.page.eval_on_selector_all(".main canvas.zooms", "all => all.map(c => c.style.transform)")
    assert len(set(moved)) == 1 and moved[0] != shifts[0]
    page.shoot("zoomed")
    page.press(frame, "0")


def wipe(page: Page):
    """The line follows the pointer and the keyboard."""
    page.view("Wipe")
    handle = page.page.locator(".handle")
    expect(handle).to_have_attribute("aria-valuenow", "50")
    box = page.page.locator(".frame.wipe").bounding_box()
    page.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 150)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 150, steps=5)
    page.page.mouse.up()
    expect(handle).to_have_attribute("aria-valuenow", "25")
    assert "25%" in page.page.locator(".over").get_attribute("style")
    page.press(handle, "ArrowRight", 5)
    expect(handle).to_have_attribute("aria-valuenow", "35")
    page.shoot("wipe")


def every_view(page: Page):
    for title, sign in {"Error maps": "local SSIM", "Edge channel": "LEAKAGE", "Gallery": "99"}.items():
        page.view(title)
        page.page.locator(".inspector .main .panes").get_by_text(sign).first.wait_for()
        page.shoot(title.lower().replace(" ", "_"))
    thumb = page.page.locator(".thumb").nth(4)
    thumb.click()
    page.page.wait_for_selector(".thumb[aria-current=true] >> nth=0")
    expect(page.page.locator(".thumb").nth(4)).to_have_attribute("aria-current", "true")
    page.view("Four stages")
    expect(page.page.locator(".main .note").last).to_have_text("picture 4")


def switch_a_method(page: Page):
    box = page.page.get_by_role("checkbox", name="thesis's model")
    box.uncheck()
    page.page.wait_for_function("document.querySelectorAll('.main .grid figure').length === 3")
    box.check()
    page.page.wait_for_function("document.querySelectorAll('.main .grid figure').length === 4")
    page.page.wait_for_function("document.querySelectorAll('table.measures tr').length === 3")


def long_computation(page: Page):
    """The set is measured: a bar, the page goes on working, and Cancel stops it."""
    page.view("Among the set")
    cancel = page.page.get_by_role("button", name="Cancel")
    cancel.wait_for()
    page.shoot("measuring")
    page.view("Four stages")
    before = page.pixels(1)
    page.page.get_by_role("button", name="next ▸").click()
    page.becomes_other(1, before)
    assert cancel.is_visible()
    cancel.click()
    page.page.get_by_text("cancelled").wait_for()
    assert not cancel.is_visible()


def slow_method(page: Page):
    """The first method with a button of its own starts, shows its bar, and is cancelled."""
    page.page.get_by_role("button", name="run", exact=True).first.click()
    cancel = page.page.get_by_role("button", name="Cancel")
    cancel.wait_for()
    page.page.get_by_text("slow: press its button").first.wait_for()
    page.shoot("slow_method")
    cancel.click()
    page.page.get_by_text("cancelled").wait_for()
    assert not cancel.is_visible()


def next_face(page: Page, chooser, place: Path):
    """Two people side by side: the square is on a face, the button moves it onto the other, and the result follows."""
    chooser.set_input_files(place / "two.png")
    button = page.page.get_by_role("button", name="next face")
    button.wait_for()
    page.page.get_by_text("2 faces were found; this is number 1.").wait_for()
    page.settles(2)
    square, stage = page.page.locator(".square"), page.page.locator(".stage")

    def middle() -> float:
        """Of the square, from left to right, as a share of the photograph's width."""
        inner, outer = square.bounding_box(), stage.bounding_box()
        return (inner["x"] + inner["width"] / 2 - outer["x"]) / outer["width"]

    first, restored = middle(), page.pixels(2)
    button.click()
    page.page.get_by_text("this is number 2.").wait_for()
    page.becomes_other(2, restored)
    assert sorted([first, middle()]) == pytest.approx([0.22, 0.78], abs=0.08)
    page.shoot("next_face")


def photograph(page: Page, place: Path):
    """A file that is none is refused on the screen; a photograph is restored and its result saved."""
    page.page.get_by_role("button", name="your photo").click()
    page.page.get_by_text("Choose a photograph first.").wait_for()
    chooser = page.page.locator("input[type=file]")
    chooser.set_input_files(place / "notes.jpg")
    page.page.get_by_text("notes.jpg: This file is no PNG, JPEG or WebP picture.").wait_for()
    page.shoot("refused")
    chooser.set_input_files(place / "me.jpg")
    page.page.wait_for_selector(".panes .square")
    page.page.locator(".inspector").get_by_text("the five measures are absent").wait_for()
    restored = page.pixels(2)
    page.press(page.page.locator(".square"), "ArrowDown", 6)  # away from the upper face, where it was found
    page.becomes_other(2, restored)
    page.settles(2)  # a late move would take the square off the face of the next photograph
    page.shoot("photo")
    if shipped("finder").exists():
        next_face(page, chooser, place)
    with page.page.expect_download() as download:
        page.page.get_by_role("button", name="Result as PNG").click()
    result = cv2.imread(str(download.value.path()))
    assert download.value.suggested_filename in ("photo_0_thesis.png", "photo_0_blind.png")
    assert result.shape == (128, 128, 3)
    with page.page.expect_download() as download:
        page.page.get_by_role("button", name="Side by side as PNG").click()
    pair = cv2.imread(str(download.value.path()))
    assert pair.shape[1] > 1.5 * pair.shape[0]
    page.page.get_by_role("button", name="test faces", exact=True).click()
    # Counting the pictures would not do: with a slow method ticked, the photograph has as many as a test face had.
    page.page.locator(".inspector .main figcaption").get_by_text("ground truth").wait_for()
    with page.page.expect_download() as download:
        page.page.get_by_role("button", name="Table as CSV").click()
    assert download.value.suggested_filename == "test_0_measures.csv"
    assert Path(download.value.path()).read_text(encoding="utf-8").startswith("method,PSNR,SSIM")


PHOTO = "document.querySelector('.panes .stage canvas')?.toDataURL()"  # the uploaded photograph as it is drawn
# Whether the square on the photograph, whose width is given, overlaps the face by half or more; it may yet be drawn.
ON_FACE = """([left, top, side, width]) => {
    const box = part => document.querySelector(`.panes .${part}`)?.getBoundingClientRect();
    const square = box("square"), stage = box("stage");
    if (!square?.width || !stage.width) return false;
    const share = width / stage.width, found = square.width * share;
    const [x, y] = [(square.x - stage.x) * share, (square.y - stage.y) * share];
    const over = (a, b) => Math.max(0, Math.min(a + found, b + side) - Math.max(a, b));
    const both = over(x, left) * over(y, top);
    return both / (found ** 2 + side ** 2 - both) >= 0.5;
}"""


def whole_photograph(page: Page, file: Path, truth: np.ndarray, face: tuple[int, int, int]):
    """The face is found, restored blind, and the downloaded photograph is nearer to the truth than the uploaded one."""
    page.page.get_by_role("button", name="your photo").click()
    page.page.get_by_text("Choose a photograph (PNG, JPEG, WebP)").wait_for()
    page.page.wait_for_timeout(1000)  # an earlier photograph is drawn
    earlier = page.page.evaluate(PHOTO)
    page.page.locator("input[type=file]").set_input_files(file)
    page.page.wait_for_function(f"before => ![undefined, before].includes({PHOTO})", arg=earlier)
    page.page.wait_for_function(ON_FACE, arg=[*face, truth.shape[1]])
    page.page.get_by_role("checkbox", name="skip model, trained blind").check()
    page.page.get_by_role("checkbox", name="thesis's model").uncheck()
    with page.page.expect_download() as download:
        page.page.get_by_role("button", name="Whole photograph as PNG").click()
    assert download.value.suggested_filename == "photo_0_whole_blind.png"
    before, after = (cv2.imread(str(path))[..., ::-1] for path in (file, download.value.path()))
    assert psnr(after, truth) > psnr(before, truth)
    page.shoot(f"whole_{file.stem}")
    page.page.get_by_role("button", name="test faces", exact=True).click()
    page.page.locator(".inspector .main figcaption").get_by_text("ground truth").wait_for()


# ---------------------------------------------------------------------------------------------------------------------
# The two places


def test_voila_page_shows_no_code(voila):
    """Title and inspector, nothing of the chapter's code, and nothing below."""
    voila.shoot("start")
    assert (
        voila.page.locator(
            ".jp-CodeCell .jp-InputArea:visible, .jp-CodeMirrorEditor:visible, .highlight:visible"
        ).count()
        == 0
    )
    text = voila.page.locator("body").inner_text()
    assert "12 · The inspector" in text and "import " not in text and "Recap" not in text


def test_voila_controls(voila):
    move_a_slider(voila)
    zoom(voila)
    wipe(voila)
    every_view(voila)
    switch_a_method(voila)
    long_computation(voila)
    slow_method(voila)


def test_voila_photograph(voila, place):
    photograph(voila, place)


@pytest.mark.parametrize("degradation", [GaussianBlur(3.0), MATRIX["4× smaller, JPEG"]], ids=["blurred", "enlarged"])
def test_voila_whole_photograph(voila, tmp_path, degradation):
    worse = degradation((normalise(astronaut()) + 1) / 2, rng=rng_for(1))
    cv2.imwrite(str(tmp_path / "person.png"), denormalise(2 * worse - 1)[..., ::-1])
    whole_photograph(voila, tmp_path / "person.png", astronaut(), (134, 14, 180))


def test_voila_console_is_clean(voila):
    """After all of the above. Icons aside, nothing was asked of another place."""
    assert voila.errors == []
    assert [url for url in voila.foreign if not ICONS.match(url)] == []


def test_voila_on_half_a_screen(voila, screenshots):
    """Nothing sticks out sideways, and the pictures stand above the controls."""
    voila.page.set_viewport_size(HALF)
    sights = {"Four stages": ".grid figure >> nth=3", "Wipe": ".handle", "Error maps": "text=local SSIM"}
    for title, sight in (sights | {"Gallery": ".thumb >> nth=99"}).items():
        voila.view(title)
        voila.page.locator(f".inspector .main >> {sight}").first.wait_for()
        voila.shoot(f"half_{title.lower().replace(' ', '_')}")
        assert voila.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    boxes = [voila.page.locator(f".inspector .{part}").bounding_box() for part in ("main", "side")]
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"] + 1
    voila.page.set_viewport_size(WIDE)


def test_lab_controls(lab):
    lab.page.locator(".inspector .side").scroll_into_view_if_needed()
    lab.shoot("start")
    move_a_slider(lab)
    zoom(lab)
    wipe(lab)
    lab.view("Four stages")
    switch_a_method(lab)


def test_lab_photograph(lab, place):
    photograph(lab, place)


def test_lab_ran_every_cell(lab):
    """No traceback anywhere in the chapter. What the console says is JupyterLab's own, none of it the inspector's."""
    lab.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=PATIENCE)
    lab.shoot("end")
    assert lab.page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
    warnings = lab.page.locator("[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts()
    assert [text for text in warnings if "LPIPS works on a random trunk" not in text] == []  # said where it is true
    assert [e for e in lab.errors if re.search(r"panes|anywidget|widget", e, re.I)] == []


def test_lab_remembers(lab, place):
    """The file of the state holds what the controls stand at."""
    lab.press(lab.slider("noise, levels"), "ArrowRight", 7)
    deadline = time.monotonic() + PATIENCE / 1000
    while State.load(place / ".inspector.json").noise != 7 and time.monotonic() < deadline:
        time.sleep(0.2)
    kept = State.load(place / ".inspector.json")
    assert (kept.noise, kept.source, kept.view, kept.kind) == (7, "test", "stages", "drawn")
