"""A real server and a real Chromium.

A missing browser is a skip, and a failure where BLOCKSCAPE_REQUIRE_BROWSER is set.
"""

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


WAIT = 60_000  # milliseconds that a page may take on a busy machine: what is measured has bars of its own
# of a change of the form and a message of the lens in one moment: both are heard, which test_lens looks at
AT_ONCE = "Multiple different fragmentIds detected"


def free_port() -> int:
    """One that is not lent to whoever connects: while a server restarts, that could take it."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as s, suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


class Server:
    """The app as `make run` starts it, on a free port with a store of its own."""

    def __init__(self, home: Path):
        self.port = free_port()
        self.home, self.url = home, f"http://localhost:{self.port}"
        self.start()

    def start(self) -> float:
        """Seconds until the server answers."""
        environment = {**os.environ, "BLOCKSCAPE_HOME": str(self.home)}
        command = [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            "app.py",
            "--server.headless=true",
            f"--server.port={self.port}",
        ]
        began = time.monotonic()
        self.log = open(self.home.parent / "server.log", "a")
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=self.log, stderr=subprocess.STDOUT
        )
        while time.monotonic() - began < 180 and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1)
                return time.monotonic() - began
            except OSError:
                time.sleep(0.03)
        raise RuntimeError("the server did not start; see " + str(self.home.parent / "server.log"))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("app") / "home"
    home.mkdir()
    server = Server(home)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def chromium():
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        message = "no Chromium on this machine (Debian: apt-get install chromium)"
        pytest.fail(message) if os.environ.get("BLOCKSCAPE_REQUIRE_BROWSER") else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def profiles():
    """{(width, height, scheme): browser contexts that no test has}: what they hold of the app's scripts saves
    a second at every page.
    """
    return defaultdict(list)


def settle(page: Page) -> None:
    """Until the script has run and nothing of it is stale or on its way."""
    page.wait_for_load_state("networkidle")
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)
    expect(page.locator('[data-stale="true"]')).to_have_count(0)


def emptied(context: BrowserContext, url: str) -> BrowserContext:
    """A context as new, but for the browser's cache."""
    page = context.new_page()
    page.goto(f"{url}/_stcore/health")
    page.evaluate("localStorage.clear()")
    for each in context.pages:
        each.close()
    context.clear_cookies()
    return context


@pytest.fixture
def visit(chromium, server, profiles):
    """visit(path="/", width=1280, height=800, scheme="light", watch="", couplings="h0") -> page, in an empty
    profile; the test fails on console errors or foreign requests. watch: a script that runs in the page from
    its beginning; couplings: where the path names none, None: those that the app opens with.
    """
    contexts, problems = [], []

    def open_page(
        path: str = "/",
        width: int = 1280,
        height: int = 800,
        scheme: str = "light",
        watch: str = "",
        couplings: str | None = "h0",
    ):
        free = profiles[width, height, scheme]
        size = {"width": width, "height": height}
        context = free.pop() if free else chromium.new_context(viewport=size, color_scheme=scheme)
        contexts.append((free, context))
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on(
            "console",
            lambda m: (
                problems.append(f"console {m.type}: {m.text}")
                if m.type in ("error", "warning") and AT_ONCE not in m.text
                else None
            ),
        )
        page.on("pageerror", lambda e: problems.append(f"page error: {e}"))
        page.on(
            "request",
            lambda r: (
                problems.append(f"foreign request: {r.url}")
                if not r.url.startswith((server.url, "data:", "blob:", "about:"))
                else None
            ),
        )
        page.on(
            "websocket",
            lambda w: (
                problems.append(f"foreign socket: {w.url}")
                if f"localhost:{server.port}" not in w.url
                else None
            ),
        )
        page.add_init_script(watch)
        if couplings and not re.search(r"[?&]e=", path):
            path += ("&" if "?" in path else "?") + f"e={couplings}"
        page.goto(server.url + path)
        return page

    yield open_page
    found = list(problems)
    for free, context in contexts:
        free.append(emptied(context, server.url))
    assert not found, found
