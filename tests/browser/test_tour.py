"""Explore in a real browser: what a visitor does in the first minutes."""

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from core.spectrum.lowest import lowest_states
from core.store.folders import DEMO_RUN
from core.store.runs import load_run
from tests.browser.conftest import settle


def opened(page):
    """Wait until the landscape is drawn."""
    expect(page.locator(".lens .card h2")).to_have_text(re.compile(r"State #\d+"))
    expect(page.locator(".lens .status")).to_have_text(re.compile("removes"))
    return page


def chips(page) -> list[int]:
    return [int(text) for text in page.locator(".lens .chip").all_inner_texts()]


def expect_chips(page, blocks) -> None:
    """The card shows the state that removes these."""
    expect(page.locator(".lens .chip")).to_have_text([str(block) for block in blocks])


def spectrum(m: int, count: int = 100):
    A = load_run(DEMO_RUN).rows.A.astype(np.float64)
    return lowest_states(A.T @ A / len(A), m, count)


def painted(page, panel: str) -> int:
    """Distinct colours on a panel's base canvas: a blank one has a single one."""
    return page.evaluate(
        """(panel) => {
        const inside = (node) => node.shadowRoot?.querySelector('.lens');
        const lens = [...document.querySelectorAll('*')].map(inside).find(Boolean);
        const c = lens.querySelector(`.panel.${panel} canvas`), seen = new Set();
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        for (let i = 0; i < d.length; i += 4) seen.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);
        return seen.size; }""",
        panel,
    )


def test_the_tour(visit, server):
    page = opened(visit())
    ground = spectrum(8)
    assert chips(page) == list(ground.removed[0])
    for panel in ("levels", "states", "matrix", "arcs"):
        assert painted(page, panel) > 3, panel
    minima = page.locator(".facts div", has_text="minima").locator("b").inner_text()
    assert int(minima) >= 10
    expect(page.locator(".proof")).to_contain_text("exact")

    # walk by keyboard: second, third state; pick both
    page.locator(".lens .frame").focus()
    page.keyboard.press("ArrowDown")
    expect_chips(page, ground.removed[1])
    page.keyboard.press("a")
    page.keyboard.press("j")
    page.keyboard.press("a")
    expect(page.locator(".lens .picked")).to_have_count(2)
    r = np.corrcoef(ground.x[1].astype(float), ground.x[2].astype(float))[0, 1]
    shown = float(re.search(r"smallest diversity ([\d.]+)", page.locator(".lens .tray").inner_text())[1])
    assert abs(shown - (1 - r)) <= 0.00501
    expect(page.locator(".lens .card")).to_contain_text(
        f"{int((ground.x[2] & ~ground.x[0]).sum())} of 8 changed"
    )

    # a minimum by the right arrow: no listed neighbour lies lower
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".lens .badge")).to_have_text("a minimum")

    # M changes: solved again in place, the tray stays
    page.get_by_test_id("stNumberInputField").fill("4")
    page.keyboard.press("Enter")
    expect_chips(page, spectrum(4).removed[0])
    expect(page.locator(".lens .picked")).to_have_count(2)
    expect(page.locator(".lens .tray")).to_contain_text("M = 8")

    # a reload and another browser rebuild the same view from the link
    page.locator(".lens .frame").focus()
    page.keyboard.press("ArrowDown")
    wanted = "-".join(map(str, spectrum(4).removed[1]))
    page.wait_for_url(re.compile(f"cur={wanted}"))
    link = page.url.removeprefix(server.url)
    page.reload()
    opened(page)
    expect_chips(page, spectrum(4).removed[1])
    other = opened(visit(link))
    expect_chips(other, spectrum(4).removed[1])
    expect(other.locator(".lens .picked")).to_have_count(2)
    other.locator(".lens .picked .drop").first.click()
    expect(other.locator(".lens .picked")).to_have_count(1)


def test_back_walks_the_commits(visit):
    page = opened(visit())
    first, second = spectrum(8).removed[:2]
    expect_chips(page, first)
    page.locator(".lens .frame").focus()
    page.keyboard.press("ArrowDown")
    expect_chips(page, second)
    page.wait_for_url(re.compile("cur=" + "-".join(map(str, second))))
    page.keyboard.press("a")
    page.wait_for_url(re.compile("tray="))
    page.go_back()
    expect(page.locator(".lens .picked")).to_have_count(0)
    expect_chips(page, second)
    page.go_back()
    page.wait_for_function(
        "(n) => [...document.querySelectorAll('*')].map((e) => "
        "e.shadowRoot?.querySelector('.lens')).find(Boolean)?.querySelector('.card h2').textContent === n",
        arg="State #0",
    )
    expect_chips(page, first)


def test_hover_links_the_panels_without_a_rerun(visit):
    sent = []
    page = visit()
    opened(page)
    settle(page)
    page.on("request", lambda r: sent.append(r.url))
    status = page.locator(".lens .status")
    box = page.locator(".lens .panel.states canvas.over").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 150)
    expect(status).to_have_text(re.compile(r"^State [1-9]\d* removes"))
    page.mouse.move(box["x"] + 200, box["y"] + 20)
    expect(status).to_have_text(re.compile(r"^Block \d+ .*removed in \d+ % of the listed states"))
    box = page.locator(".lens .panel.matrix canvas.over").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 90)
    expect(status).to_have_text(re.compile(r"^Blocks \d+ and \d+: H = "))
    running = page.locator('[data-testid="stStatusWidget"]')
    assert running.count() == 0 and not sent


def test_click_selects_and_wheel_scrolls(visit):
    page = opened(visit())
    canvas = page.locator(".lens .panel.states canvas.over")
    box = canvas.bounding_box()
    page.mouse.click(box["x"] + 200, box["y"] + box["height"] - 8)
    expect(page.locator(".lens .card h2")).to_have_text(re.compile(r"State #[3-9]\d"))
    page.mouse.wheel(0, 500)
    expect(page.locator(".lens .panel.states .heading span")).to_have_text(re.compile(r"rows [1-9]"))


def test_what_is_not_proved_in_time_says_so_and_goes_on_as_a_job(visit, tmp_path):
    B = np.random.default_rng(1).normal(size=(2, 100))
    np.save(tmp_path / "large.npy", B.T @ B)
    page = opened(visit())
    page.get_by_text("Explore a matrix of your own").click()
    page.locator('input[type="file"]').first.set_input_files(tmp_path / "large.npy")
    expect(page.get_by_test_id("stNumberInputField")).to_have_value("33")
    # the search may have to be compiled first
    expect(page.locator(".proof", has_text="not proved lowest")).to_be_visible(timeout=20_000)
    expect(page.locator(".lens .card")).to_be_visible()
    page.get_by_role("button", name=re.compile("Search on for a proof")).click()
    expect(page.locator(".st-key-chip")).to_contain_text("searching")
    expect(page.get_by_test_id("stProgress")).to_contain_text("nodes")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_test_id("stAlert").filter(has_text="Cancelled")).to_be_visible()


def test_help_opens_and_closes_by_keyboard(visit):
    page = opened(visit())
    page.locator(".lens .frame").focus()
    page.keyboard.press("?")
    expect(page.locator(".lens .help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".lens .help")).to_be_hidden()


def test_a_first_visit_explains_itself_until_it_is_told_not_to(visit):
    page = opened(visit())
    hints = {
        ".panel.levels": "A state removes 8 blocks; the lower it lies",
        ".panel.states": "Each row is a state",
        ".tray": "Add to the tray what looks good",
    }
    for place, words in hints.items():  # each lies in the panel that it speaks of
        expect(page.locator(f".lens {place} .hint:visible")).to_contain_text(words)
    page.get_by_test_id("stNumberInputField").fill("1")
    page.keyboard.press("Enter")
    expect(page.locator(".lens .panel.levels .hint:visible")).to_contain_text("removes 1 block;")

    # by keyboard: gone, the landscape has the room and the keys
    plot = page.locator(".lens .panel.levels .plot")
    small = plot.bounding_box()["height"]
    page.get_by_role("button", name="dismiss this hint: levels").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".lens .hint:visible")).to_have_count(2)
    assert plot.bounding_box()["height"] >= small + 20
    page.keyboard.press("ArrowDown")
    expect(page.locator(".lens .card h2")).to_have_text("State #1")
    page.reload()
    opened(page)
    expect(page.locator(".lens .hint:visible")).to_have_count(2)
    for name in ("states", "tray"):
        page.get_by_role("button", name=f"dismiss this hint: {name}").click()
    expect(page.locator(".lens .hint:visible")).to_have_count(0)
    expect(page.locator(".lens .tray")).to_contain_text("Pick states with A")  # what an empty tray says

    page.keyboard.press("?")
    page.get_by_role("button", name="Show the first hints again").click()
    expect(page.locator(".lens .hint:visible")).to_have_count(3)


def test_a_browser_that_keeps_nothing_shows_the_hints_and_lets_them_go(visit):
    refuse = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied'); } })"
    page = opened(visit("/", width=390, height=844, watch=refuse))
    expect(page.locator(".lens .hint:visible")).to_have_count(2)  # one panel at a time, and the tray
    page.get_by_role("button", name="dismiss this hint: states").click()
    expect(page.locator(".lens .hint:visible")).to_have_count(1)


def test_matrices_of_ones_own(visit, tmp_path):
    np.save(tmp_path / "asymmetric.npy", np.arange(25.0).reshape(5, 5))
    np.save(tmp_path / "nan.npy", np.full((5, 5), np.nan))
    B = np.random.default_rng(0).normal(size=(40, 9))
    np.savetxt(tmp_path / "good.csv", B.T @ B, delimiter=",")
    page = opened(visit())
    page.get_by_text("Explore a matrix of your own").click()
    chooser = page.locator('input[type="file"]').first

    def give(name: str) -> None:
        """A file, while no rerun is under way, which shows only after a moment: it would be lost."""
        page.wait_for_timeout(700)
        settle(page)
        chooser.set_input_files(tmp_path / name)

    for name, says in (("asymmetric.npy", "is not symmetric"), ("nan.npy", "not finite")):
        give(name)
        expect(page.get_by_test_id("stAlert")).to_contain_text(says)
        expect(page.locator(".lens .chip")).to_have_count(8)
    give("good.csv")
    expect_chips(page, lowest_states(B.T @ B, 3, 1).removed[0])
    expect(page.get_by_test_id("stAlert")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844), (820, 1000)])
def test_no_sideways_overflow_and_no_exception(visit, width, height, scheme):
    page = opened(visit(width=width, height=height, scheme=scheme))
    main, inner = page.evaluate(
        "[Math.max(document.documentElement.scrollWidth, document.querySelector('.stMain').scrollWidth), "
        "window.innerWidth]"
    )
    assert main <= inner
    assert page.locator('[data-testid="stException"]').count() == 0
    dark = page.evaluate(
        "[...document.querySelectorAll('*')].map((n) => "
        "n.shadowRoot?.querySelector('.lens')).find(Boolean).classList.contains('dark')"
    )
    assert dark == (scheme == "dark")
    if width == 1280:
        status = page.locator(".lens .status").bounding_box()
        assert status["y"] + status["height"] <= height


def test_a_hostile_link_shows_text_and_fetches_nothing(visit):
    page = opened(
        visit(
            "/?run=![x](https://evil.example/a.png) [click](https://evil.example)&cur=<img src=x "
            "onerror=alert(1)>"
        )
    )
    expect(page.get_by_test_id("stAlert").first).to_contain_text("![x](https")
    assert page.locator('.stAlert img, .stAlert a[href*="evil"]').count() == 0


def test_about_and_back(visit):
    page = opened(visit())
    page.locator(".lens .frame").focus()
    page.keyboard.press("a")
    page.wait_for_url(re.compile("tray="))
    page.get_by_role("link", name="About").click()
    expect(page.get_by_role("heading", name="About Blockscape")).to_be_visible()
    expect(page.locator(".katex-display")).to_have_count(1)  # the formula is set, and so is every symbol
    expect(page.locator(".katex-error")).to_have_count(0)
    expect(page.locator("table tr")).to_have_count(15)
    page.get_by_role("link", name="Explore").click()
    opened(page)
    expect(page.locator(".lens .picked")).to_have_count(1)


def test_a_click_on_the_strip_keeps_removes_and_frees_a_block(visit):
    page = opened(visit("/?m=8"))
    ground = chips(page)
    block = int(ground[1])
    canvas = page.locator(".lens .states canvas.over")
    box = canvas.bounding_box()
    column = (box["width"] - 44 - 26) / 24

    def click():
        canvas.click(position={"x": 44 + column * (block + 0.5), "y": 55})

    click()
    page.wait_for_url(re.compile(f"keep={block}(&|$)"))
    expect(page.locator(".lens .chip", has_text=re.compile(f"^{block}$"))).to_have_count(0)
    click()
    page.wait_for_url(re.compile(f"remove={block}(&|$)"))
    assert "keep" not in page.url
    click()
    page.wait_for_url(lambda url: "keep" not in url and "remove" not in url)
    expect_chips(page, ground)
