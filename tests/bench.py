"""The demo's spectrum and the browser, measured by `make bench` with the other benches; figures depend on the machine.

Prints each figure with its bar; exits with 1 when a bar is missed.
"""

import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from core.couplings import couplings
from core.runs import load_run
from core.spectrum import lowest_states
from core.store import DEMO_RUN

FIGURES: list[tuple[str, float, float | None, str]] = []


def figure(name: str, value: float, bar: float | None, unit: str, note: str = "") -> None:
    FIGURES.append((name, value, bar, unit))
    verdict = "" if bar is None else f"bar {bar:g} {'ok' if value <= bar else 'MISSED'}"
    print(f"{name:<58} {value:8.2f} {unit:<3} {note:<8} {verdict}".rstrip(), flush=True)


def failed() -> int:
    """The exit status: 1 when a bar is missed."""
    return int(any(bar is not None and value > bar for _, value, bar, _ in FIGURES))


def machine() -> str:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    load = f"load {os.getloadavg()[0]:.1f}, " if hasattr(os, "getloadavg") else ""
    return f"{named}, {os.cpu_count()} cores, {load}{platform.system()}, torch {torch.__version__}, Python {platform.python_version()}"


def spectrum() -> None:
    H = couplings(load_run(DEMO_RUN))
    slowest = max((lowest_states(H, m, 2600).seconds, m) for m in range(1, 24))
    figure(f"slowest spectrum of the demo, 2600 states (M = {slowest[1]})", 1e3 * slowest[0], None, "ms")


def browser() -> None:
    import shutil

    path = shutil.which("chromium")
    if path is None:
        print("no Chromium here: the browser's figures are not measured")
        return
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import FLAGS, Server

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder) / "home"
        home.mkdir()
        server = Server(home)
        server.stop()
        ups = []
        for _ in range(3):
            ups.append(server.start())
            server.stop()
        figure("server up, median of 3", statistics.median(ups), 2.0, "s")
        server.start()
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        drawn = []
        for _ in range(3):
            page = chromium.new_context(viewport={"width": 1280, "height": 800}).new_page()
            began = time.perf_counter()
            page.goto(server.url)
            page.locator(".lens .chip").first.wait_for()
            drawn.append(time.perf_counter() - began)
        figure("landscape drawn, first visit after the server's start", drawn[0], 4.0, "s")
        figure("landscape drawn, new browser context on a warm server", min(drawn[1:]), 4.0, "s")
        page.add_script_tag(path=Path(__file__).parent / "browser" / "probes.js")
        field = page.get_by_test_id("stNumberInputField")
        changes = []
        for m in (5, 9, 12, 6, 11, 7):  # first visits of each M: solved, sent, drawn
            field.fill(str(m))
            changes.append(page.evaluate("(m) => window.untilChips(m)", m))
            page.wait_for_timeout(400)
        figure("M changed -> repainted, worst of 6 new values", max(changes), 300, "ms")
        page.locator(".lens .frame").focus()
        keys = page.evaluate("() => window.pressDown(40)")
        figure("arrow key -> repainted, worst of 40", max(keys), 300, "ms")
        figure("hover, 95th percentile of 200 moves", float(np.percentile(page.evaluate("() => window.hoverMoves(200)"), 95)), 16, "ms")
        chromium.close()
        server.stop()


def main() -> int:
    print(machine())
    spectrum()
    browser()
    return failed()


if __name__ == "__main__":
    sys.exit(main())
