"""The whole book as one PDF, printed by an installed Chromium."""

import shutil
from pathlib import Path

from notebooks.book import BookError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def print_book(page: Path, out: Path) -> None:
    """Print the page that holds the whole book, formulas set.

    Raises
    ------
    BookError
        without playwright or Chromium
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise BookError('playwright is not installed; pip install -e ".[test]"') from None
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        raise BookError("there is no Chromium to print with (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        sheet = browser.new_page()
        sheet.set_default_timeout(600_000)
        sheet.goto(page.resolve().as_uri())
        sheet.evaluate("window.MathJax?.startup?.promise")
        margin = {side: "18mm" for side in ("top", "bottom", "left", "right")}
        sheet.pdf(path=out, format="A4", margin=margin, outline=True, tagged=True)
        browser.close()
