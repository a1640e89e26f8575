"""From picking states to a pruned checkpoint, in a real browser, across a reload and a server restart."""

import os
import re
import signal
import time
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from playwright.sync_api import expect

from core import jobs
from core.ising.interchange import read_qubo
from core.jobs.files import is_held
from core.store.checkpoint import rows_so_far
from core.tasks.items import BUNDLED
from tests.browser.conftest import Server, settle
from tests.browser.test_lens import demo
from tests.browser.test_tour import opened
from tests.jobs.test_jobs import until

# every text that a link has had since the page began
LINKS_SEEN = """
window.seen = new Set();
new MutationObserver(() => {
  for (const link of document.querySelectorAll("a")) seen.add(link.textContent);
}).observe(document, { childList: true, subtree: true });
"""


@pytest.fixture
def server(tmp_path):
    """A server of its own, with an empty store, that the test may restart."""
    home = tmp_path / "home"
    home.mkdir()
    server = Server(home)
    yield server
    server.stop()


def assert_done(page, *names) -> None:
    """The list of jobs shows these as done."""
    page.get_by_role("link", name="Jobs").click()
    for name in names:
        expect(page.get_by_text(re.compile(f"✓ {name}.*done"))).to_be_visible()


@contextmanager
def standing_still(at_work):
    """The worker stands still in between, lest it end before the page is looked at; at_work: whether a job is
    at what it shall be stopped in.
    """
    until(lambda: any(is_held(job.folder) and at_work(job) for job in jobs.list_jobs()))
    (job,) = (job for job in jobs.list_jobs() if is_held(job.folder) and at_work(job))
    worker = int((job.folder / "lock").read_text())
    os.killpg(worker, signal.SIGSTOP)
    yield
    with suppress(ProcessLookupError):  # cancelled
        os.killpg(worker, signal.SIGCONT)


def restart(server, *tabs) -> None:
    for tab in tabs:  # an open tab would rightly complain of the lost server
        tab.goto("about:blank")
    server.stop()
    server.start()


def test_from_an_empty_store_to_a_run_of_ones_own_and_found_again(visit, server, monkeypatch):
    monkeypatch.setenv("BLOCKSCAPE_HOME", str(server.home))
    page = opened(visit())

    # calibrate; a reload in the middle sees the same job at work
    page.get_by_role("link", name="Model & calibration").click()
    expect(page.locator(".strip div")).to_have_count(24)
    for name, number in (("Samples", "32"), ("Singles", "4"), ("Secants", "0"), ("Pairs", "0")):
        field = page.get_by_role("spinbutton", name=name)
        field.fill(number)
        field.press("Enter")
    page.get_by_role("button", name="Calibrate", exact=True).click()
    with standing_still(lambda job: rows_so_far(job.folder / "work") is not None):
        expect(page.locator(".st-key-chip")).to_contain_text("calibrating")
        page.reload()
        expect(page.locator(".st-key-chip")).to_contain_text("calibrating")
        expect(page.get_by_test_id("stProgress")).to_be_visible()
        expect(page.locator(".js-plotly-plot").first).to_be_visible()  # rows as they arrive
    page.get_by_role("button", name="Open in Explore").click(timeout=180_000)
    (run,) = (p for p in (server.home / "runs").iterdir() if p.is_dir())
    opened(page)
    page.wait_for_url(re.compile(f"run={run.name[:8]}"))

    # the server restarts: the link finds the run
    link = page.url.removeprefix(server.url)
    restart(server, page)
    again = opened(visit(link))
    again.wait_for_url(re.compile(f"run={run.name[:8]}"))
    assert_done(again, "Look at a model", "Calibration")


def test_from_a_card_to_a_pruned_model(visit, server):
    page = opened(visit())
    page.locator(".lens .frame").focus()
    page.keyboard.press("a")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("a")
    expect(page.locator(".lens .picked")).to_have_count(2)
    page.wait_for_url(re.compile("tray=.*_"))
    page.keyboard.press("p")
    page.get_by_role("button", name="Write and verify").click()
    dialog = page.get_by_role("dialog").last
    expect(dialog).to_contain_text("reloaded in a fresh process and verified")
    expect(dialog).to_contain_text("KV bytes a token")
    (export,) = (p for p in (server.home / "exports").iterdir() if p.is_dir())
    assert (export / "model.safetensors").is_file() and (export / "blockscape.json").is_file()
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("Download as .zip")).click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.read(f"{export.name}/model.safetensors") == (export / "model.safetensors").read_bytes()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
    assert_done(page, "Prune")


def test_from_picked_states_to_their_losses(visit, server, monkeypatch):
    monkeypatch.setenv("BLOCKSCAPE_HOME", str(server.home))
    page = opened(visit())
    page.locator(".lens .frame").focus()
    page.keyboard.press("a")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("a")
    expect(page.locator(".lens .picked")).to_have_count(2)
    page.wait_for_url(re.compile("tray=.*_"))

    # measure both and the original
    page.get_by_role("link", name="Compare").click()
    page.get_by_role("combobox", name="Sequences").click()
    page.get_by_role("option", name="64").click()
    page.get_by_text(
        "Toy tasks", exact=True
    ).click()  # without them: minutes for what this test does not look at
    settle(page)
    page.get_by_role("button", name="Measure 2 picked states").click()
    with standing_still(lambda job: job.kind == "benchmark"):
        expect(page.locator(".st-key-chip")).to_contain_text("benchmarking")

        # a reload in the middle, and a second browser, see the same job
        page.reload()
        expect(page.locator(".st-key-chip")).to_contain_text("benchmarking")
        expect(page.get_by_test_id("stProgress")).to_be_visible()
        other = visit("/")
        expect(other.locator(".st-key-chip")).to_contain_text("benchmarking")
        assert [job.kind for job in jobs.running()] == ["benchmark"]

    expect(page.locator(".st-key-chip a")).to_have_count(0, timeout=180_000)
    expect(page.locator("table.states tbody tr")).to_have_count(3)
    increases = page.locator("table.states tbody tr td:nth-child(5)").all_inner_texts()
    assert increases[0] == "" and all(
        re.match(r"[+-]\d\.\d{4} ± \d\.\d{4}", text) for text in increases[1:]
    ), increases
    expect(page.get_by_role("heading", name="The same prompt")).to_be_visible()
    expect(page.locator(".finding")).to_contain_text("2 measured states")


def test_a_link_finds_measurements_after_a_restart(visit, server, monkeypatch):
    """View, tray and measurements, in Compare and in Explore."""
    monkeypatch.setenv("BLOCKSCAPE_HOME", str(server.home))
    picked = demo(8, 2).removed
    states = [[], *map(list, picked)]
    reads, sizes = (str(BUNDLED),), {"sequences": 16, "length": 128}
    request = jobs.request_of("demo", reads=reads, states=states, tasks=False, prompt="", **sizes)
    job = jobs.follow(jobs.start("benchmark", request).id, lambda *step: None)
    assert job.status == "done", job
    tray = "_".join("-".join(map(str, state)) for state in picked)
    page = visit(f"/compare?m=8&tray={tray}")
    expect(page.locator("table.states tbody tr")).to_have_count(3)
    increases = page.locator("table.states tbody tr td:nth-child(5)").all_inner_texts()
    assert all(re.match(r"[+-]\d\.\d{4} ± \d\.\d{4}", text) for text in increases[1:]), increases

    link = page.url.removeprefix(server.url)
    restart(server, page)
    again = visit(link)
    expect(again.locator("table.states tbody tr")).to_have_count(3)
    assert again.locator("table.states tbody tr td:nth-child(5)").all_inner_texts() == increases
    explore = opened(visit("/?" + link.split("?")[1]))
    expect(explore.locator(".lens .picked").first).to_contain_text(
        f"loss {increases[1].split(' ')[0].replace('-', '−')}"
    )
    expect(explore.locator(".lens .picked")).to_have_count(2)
    assert_done(explore, "Benchmark")


def test_a_job_outlives_kills_of_the_server_and_is_seen_again_within_5_seconds(chromium, server, monkeypatch):
    monkeypatch.setenv("BLOCKSCAPE_HOME", str(server.home))
    light = {"number": 0, "steps": 10**6, "pause": 0.05, "count": str(server.home / "count.txt")}
    request = jobs.request_of("demo", reads=(str(BUNDLED),), states=[[]], sequences=16, length=128, **light)
    with monkeypatch.context() as own:  # the real worker, at work that costs nothing
        own.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "faults" / "standin"))
        job = jobs.start("benchmark", request)
    done, seconds = 0, []
    for _ in range(5):
        server.process.kill()
        server.process.wait(10)
        server.start()
        context = chromium.new_context()
        page = context.new_page()
        began = time.monotonic()
        page.goto(server.url + "/jobs")
        expect(page.get_by_test_id("stProgress")).to_be_visible(timeout=20_000)
        seconds.append(time.monotonic() - began)
        context.close()
        now = jobs.read(job.id)
        assert now.status in ("queued", "running") and now.done >= done
        done = now.done
    assert done > 0 and len(jobs.list_jobs()) == 1 and jobs.cancel(job.id).status == "cancelled"
    assert min(seconds) <= 5, seconds  # the machine is not this test's alone


def test_cancel_from_the_browser(visit, server, monkeypatch):
    monkeypatch.setenv("BLOCKSCAPE_HOME", str(server.home))
    page = opened(visit())
    page.get_by_role("link", name="Compare").click()
    page.get_by_role("button", name="Measure the original").click()
    with standing_still(lambda job: job.kind == "benchmark"):
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_test_id("stAlert").filter(has_text="Cancelled")).to_be_visible()
    assert [job.status for job in jobs.list_jobs()] == ["cancelled"]


@pytest.mark.parametrize("path", ["compare", "couplings", "calibrate", "jobs", "about"])
def test_a_fresh_server_opens_a_pages_own_path_with_its_navigation(visit, path):
    page = visit(f"/{path}?m=5&e=h1", watch=LINKS_SEEN)
    expect(page.get_by_role("link", name="Model & calibration")).to_be_visible()
    seen = page.evaluate("[...seen]")
    # not, even for a moment, what Streamlit makes of the folder pages/ by itself
    assert "Model & calibration" in seen and "calibrate" not in seen
    if path in ("compare", "couplings"):
        page.wait_for_url(re.compile("run="))  # the page has read the link
        page.get_by_role("link", name="Explore").click()
        opened(page)
        expect(page.locator(".lens .chip")).to_have_count(5)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_couplings_draws_both_figures(visit, width, scheme):
    page = visit("/couplings", width=width, scheme=scheme)
    expect(page.locator(".js-plotly-plot .heatmaplayer image")).to_have_count(1)
    expect(page.locator(".js-plotly-plot .scatterlayer .point").first).to_be_visible()
    main, inner = page.evaluate("[document.querySelector('.stMain').scrollWidth, window.innerWidth]")
    assert main <= inner and page.locator('[data-testid="stException"]').count() == 0
    matrix = page.locator(".js-plotly-plot").first.locator(".nsewdrag").first.bounding_box()
    page.mouse.click(matrix["x"] + 0.31 * matrix["width"], matrix["y"] + 0.6 * matrix["height"])
    expect(page.get_by_text(re.compile("^Blocks 14 and 7"))).to_be_visible()
    # the run that told the pair draws the buttons anew: a click before its end would be lost
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    with page.expect_download() as download:
        page.get_by_role("button", name="QUBO text for M = 8").click()
    H, _ = read_qubo(download.value.path())
    assert H.shape == (24, 24)


def test_compare_has_no_sideways_overflow(visit):
    page = opened(visit("/?m=3&tray=1-2-3_5-9-11"))
    link = page.url.split("?")[1]
    page.goto(page.url.split("?")[0] + "compare?" + link)
    expect(page.locator("table.states tbody tr")).to_have_count(3)
    for width, scheme in ((1280, "light"), (1280, "dark"), (390, "dark"), (390, "light")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(500)
        settle(page)
        main, inner = page.evaluate(
            "[Math.max(document.documentElement.scrollWidth, document.querySelector('.stMain').scrollWidth), "
            "window.innerWidth]"
        )
        assert main <= inner == width, (width, scheme)
        assert page.locator('[data-testid="stException"]').count() == 0
