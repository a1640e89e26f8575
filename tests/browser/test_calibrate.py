"""Calibration from the page: a real model on a file and on its own samples, and the mix of the two."""

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from core.store.runs import load_run
from tests.browser.conftest import settle
from tests.conftest import REAL_MODEL

SHAKESPEARE = REAL_MODEL.parent / "tinyshakespeare.txt"


def test_two_domains_of_a_real_model_and_their_mix(visit, server, real_model):
    if not SHAKESPEARE.is_file():
        pytest.skip("the Shakespeare text is not on this machine")
    page = visit("/calibrate")
    expect(page.locator(".strip div")).to_have_count(24)
    page.get_by_role("combobox", name="Model").fill(str(real_model))
    page.keyboard.press("Enter")
    expect(page.locator(".strip div")).to_have_count(5, timeout=180_000)  # its own samples, unasked
    page.get_by_role("button", name="Files and data sets").click()
    files = page.get_by_role("combobox", name="Files on this machine")
    files.fill(str(SHAKESPEARE))
    files.press("Enter")
    files.press("Escape")
    for name, value in (
        ("Samples", "40"),
        ("Length", "48"),
        ("Singles", "4"),
        ("Share of own", "3"),
        ("Share of tinyshakespeare", "1"),
    ):
        field = page.get_by_role("spinbutton", name=name)
        field.fill(value)
        field.press("Enter")
    expect(page.locator(".strip div")).to_have_count(5, timeout=180_000)
    page.get_by_role("button", name="Calibrate", exact=True).click(timeout=180_000)
    page.get_by_role("button", name="Open in Explore").click(timeout=180_000)
    expect(page.locator(".lens .frame")).to_be_visible(timeout=60_000)
    (folder,) = (
        p
        for p in (server.home / "runs").iterdir()
        if (p / "run.json").is_file() and "tinystories" in (p / "run.json").read_text()
    )
    run = load_run(folder)
    assert run.meta["texts"]["domains"] == ["tinyshakespeare", "own"] and np.bincount(
        run.rows.domain
    ).tolist() == [10, 30]

    page.get_by_role("combobox", name="Couplings").click()
    page.get_by_role("option", name="paper").click()  # what it opens on was measured on texts as sampled
    page.wait_for_url(re.compile("e=h0"))
    settle(page)
    energy = page.locator(".facts b").first
    before = energy.inner_text()
    page.get_by_text("as sampled").first.click()
    slider = page.get_by_role("slider", name=re.compile("own"))
    slider.focus()
    for _ in range(4):
        slider.press("PageDown")
        settle(page)  # an answer that is on its way sets the slider back
    expect(energy).not_to_have_text(before)
    page.wait_for_url(re.compile("mix="))
