"""The demo's spectrum and the browser, measured by `make bench` with the other benches; figures depend on the
machine.

Prints each figure with its bar; exits with 1 when a bar is missed.
"""

import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from core.energy.couplings import couplings
from core.spectrum.lowest import lowest_states
from core.store.folders import DEMO_RUN
from core.store.runs import load_run

PAGES = ["calibrate", "couplings", "landscape", "compare", "heal", "jobs", "about"]
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
    named = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
    load = f"load {os.getloadavg()[0]:.1f}, " if hasattr(os, "getloadavg") else ""
    return (
        f"{named}, {os.cpu_count()} cores, {load}{platform.system()}, torch {torch.__version__}, Python "
        f"{platform.python_version()}"
    )


def spectrum() -> None:
    H = couplings(load_run(DEMO_RUN))
    slowest = max((lowest_states(H, m, 2600).seconds, m) for m in range(1, 24))
    figure(f"slowest spectrum of the demo, 2600 states (M = {slowest[1]})", 1e3 * slowest[0], None, "ms")


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far."""
    used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """MB of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def computed(pid: int, act: Callable[[int], None], times: int) -> float:
    """ms that the server computes for each of so many actions."""
    before = cpu_seconds(pid)
    for k in range(times):
        act(k)
    return 1e3 * (cpu_seconds(pid) - before) / times


def browser() -> None:
    path = shutil.which("chromium")
    if path is None:
        print("no Chromium here: the browser's figures are not measured")
        return
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import FLAGS, Server
    from tests.browser.test_lens import large, upload

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
        pid = server.process.pid
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)

        def visit(path: str = "", sign: str = ".lens .chip", leave: bool = True):
            """(page, seconds until it shows its sign) in a browser context of its own."""
            page = chromium.new_context(viewport={"width": 1280, "height": 800}).new_page()
            began = time.perf_counter()
            page.goto(f"{server.url}/{path}")
            page.locator(sign).first.wait_for()
            spent = time.perf_counter() - began
            if leave:  # what is measured next has the machine for itself
                page.context.close()
            return page, spent

        def reload() -> float:
            began = time.perf_counter()
            page.reload()
            page.locator(".lens .chip").first.wait_for()
            return time.perf_counter() - began

        figure("landscape drawn, first visit after the server's start", visit()[1], 4.0, "s")
        figure(
            "landscape drawn, new browser context on a warm server",
            min(visit()[1] for _ in range(2)),
            4.0,
            "s",
        )
        for name in PAGES:
            figure(f"page {name}, by link, in a new browser context", visit(name, "h1")[1], 6.5, "s")
        page, _ = visit(leave=False)
        figure("landscape drawn, reload, best of 3", min(reload() for _ in range(3)), 1.5, "s")
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
        page.wait_for_timeout(1500)

        def again(k: int) -> None:  # both are solved: what is left is the page itself
            field.fill(str((9, 5)[k % 2]))
            page.evaluate("(m) => window.untilChips(m)", (9, 5)[k % 2])
            page.wait_for_timeout(300)

        def commit(_: int) -> None:
            page.keyboard.press("ArrowDown")
            page.wait_for_timeout(900)

        figure("server CPU of a whole rerun of Explore, solved before", computed(pid, again, 10), 100, "ms")
        page.locator(".lens .frame").focus()
        figure("server CPU of a commit of the lens", computed(pid, commit, 10), 20, "ms")
        figure(
            "server CPU of an open page that nobody touches, a second",
            computed(pid, lambda _: page.wait_for_timeout(1000), 5),
            None,
            "ms",
        )
        upload(page, Path(folder), large())
        page.wait_for_timeout(1000)
        for view in ("Levels", "Density"):
            page.locator(".lens .tools .tab", has_text=view).click()
            page.wait_for_timeout(1000)
            moves = page.evaluate("() => window.hoverMoves(200)")
            figure(
                f"hover, 128 blocks, 2600 states, {view}, 95th percentile",
                float(np.percentile(moves, 95)),
                16,
                "ms",
            )
        chromium.close()
        time.sleep(2)
        memory(server, playwright.chromium.launch(executable_path=path, args=FLAGS))
        server.stop()


def memory(server, chromium) -> None:
    """What the server holds once it has shown the demo, and for every session more."""
    server.stop()
    server.start()

    def visit() -> None:
        page = chromium.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.goto(server.url)
        page.locator(".lens .chip").first.wait_for()
        page.wait_for_timeout(500)

    visit()
    time.sleep(2)
    idle = resident(server.process.pid)
    figure("memory of the server that shows the demo", idle, 250, "MB")
    for _ in range(8):
        visit()
    time.sleep(2)
    figure("and for each of 8 sessions more", (resident(server.process.pid) - idle) / 8, 3, "MB")
    chromium.close()


def main() -> int:
    print(machine())
    spectrum()
    browser()
    return failed()


if __name__ == "__main__":
    sys.exit(main())
