"""The pictures of the inspector in chapter 12, taken of the page in a browser: ``python -m tests.shoot``.

It starts Voilà and Chromium as ``tests/test_browser.py`` does, and writes ``inspector.png`` (four methods on one test
face) and ``inspector_wipe.png``, an animated PNG of the wipe, to ``notebooks/pictures``. Only rendered faces are shown.
"""

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.conftest import ROOT
from tests.test_browser import CHROMIUM, PATIENCE, open_voila, server

METHODS = ("skip model, edge-aware", "posterior mean (PMRF, stage 1)", "PMRF, 25 steps")  # besides the thesis's model
FRAMES, PRESSES = 17, 3  # of the animation, one way; keys between two of them, each moves the line by 2 % of the width
SIZE = {"width": 1400, "height": 950}  # the page must fit in: what is scrolled away is not taken
MOST = 350_000  # bytes of one picture


def main(folder: Path = ROOT / "notebooks" / "pictures") -> None:
    """Take both pictures; a ValueError if one has become too large for the repository."""
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        shutil.copy(ROOT / "notebooks" / "12_inspector.ipynb", place)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        arguments = ["voila", "12_inspector.ipynb", "--no-browser", "--port={port}", "--Voila.ip=127.0.0.1"]
        with server(*arguments, cwd=Path(place)) as address:
            page = open_voila(browser, None, address, SIZE, "shoot")
            _still(page).save(folder / "inspector.png", optimize=True)
            first, *others = _wipe(page)
            options = {"save_all": True, "append_images": others, "duration": 140, "loop": 0, "optimize": True}
            first.save(folder / "inspector_wipe.png", **options)
            page.context.close()
        browser.close()
    for path in folder.glob("inspector*.png"):
        print(f"{path.name}: {path.stat().st_size // 1000} kB")
        if path.stat().st_size > MOST:
            raise ValueError(f"{path.name} has more than {MOST // 1000} kB")


def _still(page) -> Image.Image:
    """The page with four methods on the first test face."""
    for title in METHODS:
        page.page.get_by_role("checkbox", name=title, exact=True).check()
    rows = len(METHODS) + 3  # head, input, the thesis's model
    page.page.wait_for_function(f"document.querySelectorAll('table.measures tr').length === {rows}", timeout=PATIENCE)
    count = len(METHODS) + 4  # blurred, edge map, thesis's model, truth
    page.page.wait_for_function(f"document.querySelectorAll('.main .grid figure').length === {count}")
    page.page.wait_for_timeout(1000)  # let the canvases be painted
    return _taken(page.page.locator(".inspector").first)


def _wipe(page) -> list[Image.Image]:
    """The line of the wipe on its way from right to left, and back."""
    page.view("Wipe")
    page.page.locator(".widget-dropdown", has_text="right").locator("select").select_option(label=METHODS[0])
    handle = page.page.locator(".handle")
    page.press(handle, "ArrowRight", 24)
    frames = []
    for _ in range(FRAMES):
        page.page.wait_for_timeout(100)
        frames.append(_taken(page.page.locator(".frame.wipe")))
        page.press(handle, "ArrowLeft", PRESSES)
    return frames + frames[-2:0:-1]


def _taken(locator) -> Image.Image:
    return Image.open(io.BytesIO(locator.screenshot())).convert("RGB")


if __name__ == "__main__":
    main()
