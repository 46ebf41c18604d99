"""The inspector's page for several people at once: ``python -m tests.benchmark_pages --pages 10``; with ``--record``
into ``data/results/pages.json``, from which README and the page for a class take their figures.

Serves chapter 12 as the README says, opens it in many windows at the same moment, and prints the time until the first
picture and the memory of the kernels; whether a photograph that one page was given can be found in another; and how
long kernels live on whose browser has been ended without a word. Needs Chromium and Linux.
"""

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import psutil
from playwright.async_api import async_playwright

from helpers.engine.folders import write_json
from tests.conftest import ROOT
from tests.test_browser import CHROMIUM, PATIENCE, server

RECORDED = ROOT / "data" / "results" / "pages.json"
PICTURE = ".inspector .main canvas.zooms"


def kernels() -> list[psutil.Process]:
    """The kernels that the servers of this process have started."""
    below = psutil.Process().children(recursive=True)
    return [p for p in below if any("ipykernel" in word for word in _line(p))]


def _line(process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def megabytes(process) -> float:
    """What a process takes of the memory, shared pages by their share."""
    return process.memory_full_info().pss / 1e6


async def first_picture(browser, address: str):
    """(page, seconds until its first picture)"""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    page, began = await context.new_page(), time.perf_counter()
    await page.goto(address, timeout=PATIENCE)
    await page.wait_for_selector(PICTURE, timeout=PATIENCE)
    return page, time.perf_counter() - began


async def upload_stays(pages, photograph: Path) -> bool:
    """Give the first page a photograph; whether no other page knows of it."""
    await pages[0].get_by_role("button", name="your photo").click()
    await pages[0].locator("input[type=file]").set_input_files(photograph)
    await pages[0].wait_for_selector(".panes .square", timeout=PATIENCE)
    others = [await page.locator("body").inner_text() for page in pages[1:]]
    for page in pages[1:]:
        await page.get_by_role("button", name="your photo").click()
        await page.get_by_text("Choose a photograph first.").wait_for(timeout=PATIENCE)
    return not any(photograph.name in text for text in others)


async def measure(address: str, count: int, photograph: Path, server_process: psutil.Process) -> dict:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = await asyncio.gather(*(first_picture(browser, address) for _ in range(count)))
        pages, seconds = [page for page, _ in opened], [s for _, s in opened]
        running = kernels()
        sizes = [megabytes(p) for p in running]
        spent = [sum(p.cpu_times()[:2]) for p in running]
        found = {
            "pages": count,
            "seconds to the first picture": [round(min(seconds)), round(max(seconds))],
            "processor seconds of a kernel": round(statistics.median(spent), 1),
            "memory of a kernel (MB)": round(statistics.median(sizes)),
            "memory of all kernels (GB)": round(sum(sizes) / 1000, 1),
            "memory of the server (MB)": round(megabytes(server_process)),
        }
        if count > 1:
            found["a photograph stays with its page"] = await upload_stays(pages, photograph)
        await browser.close()  # every page at once, without a word
        ended = time.perf_counter()
        while kernels() and time.perf_counter() - ended < 180:
            await asyncio.sleep(0.5)
        found["kernels left"] = len(kernels())
        found["seconds until they had ended"] = round(time.perf_counter() - ended)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark_pages", description=__doc__.split("\n\n")[0])
    parser.add_argument("--pages", type=int, default=10)
    parser.add_argument("--record", action="store_true", help="write data/results/pages.json")
    args = parser.parse_args()
    arguments = ["voila", "12_inspector.ipynb", "--no-browser", "--port={port}"]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("12_inspector.ipynb", "voila.json"):
            (Path(folder) / name).write_bytes((ROOT / "notebooks" / name).read_bytes())
        photograph = Path(folder) / "a_photograph_of_mine.png"
        _draw(photograph)
        with server(*arguments, cwd=Path(folder)) as address:
            (process,) = [p for p in psutil.Process().children() if "voila" in _line(p)]
            load = os.getloadavg()[0]
            found = asyncio.run(measure(address, args.pages, photograph, process))
    found |= {"hardware": f"{platform.machine()}, {os.cpu_count()} cores", "load before": round(load, 1)}
    found["date"] = time.strftime("%Y-%m-%d")
    print(*(f"{what}: {value}" for what, value in found.items()), sep="\n")
    if args.record:
        write_json(RECORDED, found)


def _draw(path: Path) -> None:
    from PIL import Image

    from tests.conftest import make_faces

    Image.fromarray(make_faces(1, 256)[0]).save(path)


if __name__ == "__main__":
    main()
