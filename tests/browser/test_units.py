"""Explore by branch in a real browser: lanes, names, kinds, and the strip by mouse and by keys."""

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from core.energy.sources import open_source
from core.errors import InputError
from core.ising.units import BRANCH
from core.landscape.landscape import landscape
from core.spectrum.lowest import lowest_states
from core.view.lens import landscape_data
from tests.browser.test_lens import PROBES, REVIEWED, WCAG
from tests.browser.test_tour import opened, painted
from tests.clocks import fastest

LENS = Path(__file__).resolve().parents[2] / "assets" / "lens"
LEFT, RIGHT = 44, 26  # of the panels in block columns
TEXTS = (
    *("3", "12a", "3, 12a, 13f", "7-9, 1f", "0-23", " 4a,4f ", "012a", "5, 5a", "5a, 5a"),
    *("24", "24a", "3x", "3-", "9-7", "a3", "3a-5a", "3 a", "1.5", "99999", "3a9"),
)


def wide(**query) -> str:
    return "/?run=demo&by=branch&" + "&".join(f"{name}={value}" for name, value in query.items())


def at(page, block: int, y: float) -> dict:
    """The place of a block's column in the panel of states."""
    plot = page.locator(".lens .panel.states .plot")
    column = (plot.evaluate("(node) => node.clientWidth") - LEFT - RIGHT) / 24
    return {"x": LEFT + (block + 0.5) * column, "y": y}


def test_the_script_reads_and_writes_names_as_core_does(chromium):
    source = open_source("demo").seen(BRANCH)
    units, H = source.units, source.couplings("h0")
    found = landscape(H, lowest_states(H, 6, 20))
    data = landscape_data(found, "t", "u", source.run.meta["model"]["blocks"], 1, units=units)
    page = chromium.new_page()
    text = "\n".join((LENS / f"{name}.js").read_text() for name in ("dom", "wording", "shape", "model"))
    page.add_script_tag(content=re.sub(r"^(import .*|export )", "", text, flags=re.MULTILINE))
    rng = np.random.default_rng(0)
    made = "([data, x]) => { const m = new Model(data); return x.map((s) => "
    states = [sorted(map(int, rng.choice(48, size, replace=False))) for size in (1, 5, 12, 30, 47)]
    stored = page.evaluate(made + "m.stored(s)); }", [data, states])
    assert [tuple(s) for s in stored] == [units.stored(s) for s in states]
    read = page.evaluate(made + "parseUnits(s, m)); }", [data, TEXTS])
    for text, answer in zip(TEXTS, read):
        try:
            assert tuple(answer["units"]) == units.parse(text), text
        except InputError:
            pytest.fail(f"{text!r} is read as {answer['units']}, and core does not read it")
        except KeyError:
            assert answer["problem"]
            with pytest.raises(InputError):
                units.parse(text)
    mixed = list(units.parse("3, 7-9, 12a, 13f"))
    assert page.evaluate(made + "m.said(s)); }", [data, [mixed]]) == ["3, 7–9, 12a, 13f"]
    page.close()


def test_lanes_are_locked_by_mouse_and_keys_and_states_named(visit):
    page = opened(visit(wide(m=6, k=100)))
    for panel in ("levels", "states", "matrix", "arcs"):
        assert painted(page, panel) > 3, panel
    over, status = page.locator(".lens .panel.states canvas.over"), page.locator(".lens .status")
    over.hover(position=at(page, 3, 52))
    expect(status).to_have_text(re.compile(r"^3a \(attention\): removed in"))
    over.hover(position=at(page, 3, 71))
    expect(status).to_have_text(re.compile(r"^3f \(FFN\): removed in"))
    over.click(position=at(page, 3, 71))
    expect(page).to_have_url(re.compile("keep=3f"))
    # by keys: from the first block to the fifth, its FFN; twice L: it goes
    opened(page)
    page.locator(".lens .frame").focus()
    page.mouse.move(2, 2)
    for _ in range(5):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    expect(status).to_have_text(re.compile(r"^4f \(FFN\): "))
    page.keyboard.press("l")
    expect(page).to_have_url(re.compile("keep=3f%2C\\+4f"))
    expect(status).to_have_text(re.compile(r"^4f \(FFN\): .*it always stays"))
    page.keyboard.press("l")
    expect(page).to_have_url(re.compile("remove=4f"))
    expect(status).to_have_text(re.compile(r"^4f \(FFN\): .*it always goes"))  # solved again
    # a state by name, of both halves of a block once by its number
    page.keyboard.press("/")
    page.keyboard.type("5, 12a, 13f, 20f, 4f")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("cur=4f-5-12a-13f-20f"))
    expect(page.locator(".lens .chip")).to_have_text(["4f", "5", "12a", "13f", "20f"])
    page.keyboard.press("a")
    expect(page.locator(".lens .mini.lanes span")).to_have_count(24)
    expect(page).to_have_url(re.compile("tray=4f-5-12a-13f-20f"))
    # in order of kind, and the link says so
    page.keyboard.press("o")
    expect(page).to_have_url(re.compile("look=kinds"))
    expect(page.locator(".lens .panel.matrix .tab[aria-pressed=true]")).to_have_text("Kind")


def test_m_left_free_follows_from_a_budget_by_keys_and_in_a_new_browser(visit):
    page = opened(visit(wide(m=10, k=100, fits="kv+60+%25", e="secant")))
    field, status = page.get_by_test_id("stNumberInputField"), page.locator(".lens .status")
    field.fill("")
    field.press("Enter")
    expect(page).to_have_url(re.compile("m=free"))
    expect(status).to_have_text(re.compile(r"^State 0 removes 1f, 2a, .*23a; energy"))  # 11 of them
    expect(page.locator(".lens .chip")).to_have_count(11)
    page.locator(".lens .frame").focus()
    for key in ("ArrowDown", "ArrowDown", "a"):
        page.keyboard.press(key)
    expect(page).to_have_url(re.compile("cur=.*tray="))
    expect(page.locator(".lens .chip")).to_have_count(12)  # of another size, compared all the same
    expect(status).to_have_text(re.compile("above the ground state"))
    again = opened(visit(page.url.removeprefix(page.url.split("/?")[0])))
    expect(again.locator(".lens .status")).to_have_text(status.inner_text())
    expect(again.locator(".lens .pick")).to_have_count(1)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_by_branch_the_lens_breaks_no_accessibility_rule_and_stays_in_its_frame(visit, width, scheme):
    page = opened(visit(wide(m=12, look="kinds", keep="3a"), width=width, height=844, scheme=scheme))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.add_script_tag(path=PROBES)
    if width == 1280:
        assert fastest(lambda: np.median(page.evaluate("() => window.hoverMoves(60)")), 16) <= 16
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page, options=WCAG).response["violations"]
    broken = [(v["id"], node["html"]) for v in found for node in v["nodes"]]
    assert not [b for b in broken if not any(b[0] == rule and part in b[1] for rule, part, _ in REVIEWED)]
