"""The lens at its limits, by keyboard alone, from a link, and read by a machine that knows the accessibility
rules.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from core.energy.couplings import couplings
from core.ising.energies import energies
from core.ising.states import indicator
from core.landscape.landscape import landscape
from core.shape.tree import columns
from core.spectrum.lowest import lowest_states
from core.store.folders import DEMO_RUN
from core.store.runs import load_run
from core.thermal.ensemble import ensemble
from tests.browser.conftest import settle
from tests.browser.test_tour import chips, expect_chips, opened, painted
from tests.clocks import fastest

PROBES = Path(__file__).parent / "probes.js"
PAGES = ["", "calibrate", "couplings", "landscape", "compare", "heal", "take_home", "jobs", "about"]
WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
# of Streamlit's own making, each looked at: (rule, what its HTML holds, why)
REVIEWED = [
    (
        "color-contrast",
        "<p>How many</p>",
        "the label of a disabled select box: WCAG exempts inactive controls",
    )
]


def demo(m: int, count: int):
    return lowest_states(couplings(load_run(DEMO_RUN)), m, count)


def upload(page, tmp_path, H: np.ndarray, name: str = "matrix.npy"):
    np.save(tmp_path / name, H)
    page.get_by_text("Explore a matrix of your own").click()
    page.locator('input[type="file"]').first.set_input_files(tmp_path / name)
    page.wait_for_url(re.compile("e=matrix"))
    expect(page.locator(".lens .status")).to_have_text(re.compile("removes"))
    return page


def large() -> np.ndarray:
    """Couplings of 128 blocks of which 2600 states are listed at once."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(128, 128)) / 1000
    return np.diag(np.sort(rng.random(128)) + 1) + noise + noise.T


def test_hover_at_128_blocks_and_2600_states_stays_within_a_frame_and_sends_nothing(visit, tmp_path):
    page = upload(opened(visit()), tmp_path, large(), "large.npy")
    expect(page.locator(".lens .panel.states .note")).to_contain_text("of 2600")
    page.add_script_tag(path=PROBES)
    settle(page)
    sent = []
    page.on("request", lambda r: sent.append(r.url))
    page.on("websocket", lambda w: w.on("framesent", lambda f: sent.append("frame")))
    for view in ("Levels", "Density", "Tree"):
        page.locator(".lens .tools .tab", has_text=view).click()
        assert fastest(lambda: np.median(page.evaluate("() => window.hoverMoves(120)")), 16) <= 16, view
    assert not sent


def test_the_tree_shows_what_lasts_walks_from_leaf_to_leaf_and_is_linked(visit):
    found = landscape(couplings(load_run(DEMO_RUN)), demo(8, 2600))
    v, tree = found.valleys, found.tree
    kept = tree.lasting(10)
    leaves = v.minimum[kept[np.argsort(columns(tree, kept))]].tolist()
    page = opened(visit("/?m=8"))
    page.locator(".lens .tools .tab", has_text="Tree").click()
    said, slider = page.locator(".lens .levels .said"), page.get_by_label("minima the tree shows")
    expect(said).to_have_text(f"All {len(v.minimum)} minima among the listed states.")
    slider.focus()
    page.keyboard.press("Home")
    expect(said).to_have_text(re.compile(rf"^10 of {len(v.minimum)} minima; the others lie at most .* below"))
    page.get_by_label("Colour of the tree").select_option("Pearson to tray")
    page.wait_for_url(re.compile("look=tree.10.pearson"))
    page.locator(".lens .frame").focus()
    title, beside = page.locator(".lens .card h2"), leaves[leaves.index(0) + 1 :]
    for rank in beside[:3]:
        page.keyboard.press("ArrowRight")
        expect(title).to_have_text(f"State #{rank}")
    page.keyboard.press("ArrowLeft")
    expect(title).to_have_text(f"State #{beside[1]}")
    i = v.minimum.tolist().index(beside[1])
    barrier = tree.barriers()[0, i] - v.energies[0]
    shown = page.locator(".lens .card dt", has_text="barrier to #0").locator("+ dd")
    assert float(shown.inner_text()) * 1e-4 == pytest.approx(barrier, rel=0.01)
    outside = next(k for k in range(1, 99) if not found.minimum[k] and v.minimum[v.valley[k]] in leaves)
    page.keyboard.press("Home")
    for _ in range(outside):
        page.keyboard.press("ArrowDown")
    valley = v.minimum[v.valley[outside]]
    expect(page.locator(".lens .status")).to_contain_text(f"not a minimum, in the valley of #{valley}")
    page.keyboard.press("ArrowRight")  # from a state on a branch to its leaf
    expect(title).to_have_text(f"State #{valley}")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    i = v.minimum.tolist().index(beside[0])
    page.keyboard.press("b")  # over the barrier
    expect(title).to_have_text(f"State #{tree.saddle[tree.dying.tolist().index(i)]}")
    with page.expect_download() as saved:
        page.get_by_role("button", name="download the figure as SVG").click()
    svg = Path(saved.value.path()).read_text()
    assert all(f">#{rank}</text>" in svg for rank in leaves[:3]) and "not connected below" in svg


def test_the_strip_tells_how_likely_a_block_goes_at_a_temperature(visit):
    H, listed = couplings(load_run(DEMO_RUN)), demo(6, 300)
    page = opened(visit("/?m=6&k=300"))
    said, status = page.locator(".lens .states .said"), page.locator(".lens .status")
    expect(said).to_have_text(re.compile(r"^probability of removal at T = .* \(10 gaps\): exact$"))
    page.get_by_label("Temperature").focus()
    page.keyboard.press("ArrowRight")
    expect(said).to_contain_text("(20 gaps)")
    p = ensemble(H, listed, 20 * listed.gap).removed
    page.locator(".lens .frame").focus()
    page.keyboard.press("Shift+ArrowRight")
    for block in range(24):
        expect(status).to_contain_text(f"Block {block}")
        percent = re.search(r"probability of (over 99|under 1|\d+) %", status.inner_text())[1]
        said_p = {"over 99": 0.9975, "under 1": 0.0025}.get(percent) or int(percent) / 100
        assert said_p == pytest.approx(p[block], abs=0.0051)
        assert ("safe to remove at this temperature" in status.inner_text()) == (p[block] >= 0.95)
        page.keyboard.press("Shift+ArrowRight")
    page.get_by_label("Temperature").focus()
    page.keyboard.press("Home")
    expect(said).to_have_text("share of the 300 listed states that remove a block")
    page.wait_for_url(re.compile("look=Tlist"))


# what is pressed and typed in one breath, before Python can answer, as soon as the lens is there: Streamlit
# may have taken it away for a moment
AT_ONCE = """async () => {
  const inside = (node) => node.shadowRoot?.querySelector('.lens .frame');
  const seen = () => (window.first = [...document.querySelectorAll('*')].map(inside).find(Boolean));
  while (!seen()) await new Promise((resolve) => setTimeout(resolve, 20));
  const frame = window.first;
  const press = (key, shiftKey = false, node = frame) =>
      node.dispatchEvent(new KeyboardEvent('keydown', { key, shiftKey, bubbles: true }));
  const field = frame.querySelector('.find input');
  const find = (text) => { field.value = text; field.dispatchEvent(new Event('input')); };
  %s
}"""


# the key's own repeats, thirty a second: timed in the page, so that a machine which is busy delays them and
# the lens alike
HELD = """(times) => new Promise((resolve) => {
  const send = WebSocket.prototype.send;
  window.sent = 0;
  WebSocket.prototype.send = function (d) { window.sent += 1; return send.call(this, d); };
  let frame = document.activeElement; // outside of the lens only its host is seen
  while (frame.shadowRoot?.activeElement) frame = frame.shadowRoot.activeElement;
  const repeat = (k) => {
    const down = { key: "ArrowDown", code: "ArrowDown", repeat: k > 0, bubbles: true, cancelable: true };
    frame.dispatchEvent(new KeyboardEvent("keydown", down));
    if (k + 1 < times) setTimeout(repeat, 33, k + 1);
    else resolve(window.sent);
  };
  repeat(0);
})"""


def test_holding_an_arrow_key_sends_nothing_until_it_is_released(visit):
    page = visit()
    opened(page)
    settle(page)
    page.locator(".lens .frame").focus()
    assert page.evaluate(HELD, 30) == 0  # twice as long as a walk by keys waits until Python hears of it
    expect(page.locator(".lens .card h2")).to_have_text("State #30")
    page.wait_for_url(re.compile("cur=" + "-".join(map(str, demo(8, 31).removed[30]))))
    assert page.evaluate("window.sent") >= 1


def test_from_the_ground_state_over_the_fifth_to_compare_in_at_most_12_keys(visit):
    page = opened(visit())
    keys = ["ArrowDown"] * 4 + ["a", "Enter"]  # nothing has the focus: the landscape has the keys
    for key in keys:
        page.keyboard.press(key)
    assert len(keys) <= 12
    page.wait_for_url(re.compile(f"/compare.*tray={'-'.join(map(str, demo(8, 5).removed[4]))}"))
    expect(page.get_by_role("button", name="Measure 1 picked state")).to_be_visible()


def test_keys_in_quick_succession_lose_nothing(visit):
    fifth = "-".join(map(str, demo(8, 5).removed[4]))
    for wait in (0, 120, 300):
        page = opened(visit())
        page.evaluate(
            AT_ONCE
            % f"""for (let i = 0; i < 4; i++) press('ArrowDown');
            press('a'); setTimeout(() => press('Enter'), {wait});"""
        )
        page.wait_for_url(re.compile(f"/compare.*tray={fifth}"))


def test_a_state_that_is_opened_while_the_landscape_is_solved_anew_stays(visit):
    page = opened(visit("/?m=6"))
    page.evaluate(
        AT_ONCE
        % """press('ArrowRight', true);
        press('l'); // block 0 stays: the page solves anew
        find('1, 3, 5, 7, 9, 11');
        press('Enter', false, field);"""
    )
    page.wait_for_url(re.compile("keep=0.*cur=1-3-5-7-9-11|cur=1-3-5-7-9-11.*keep=0"))
    expect(page.locator(".lens .status")).to_have_text(re.compile("^Block 0 .*it always stays"))
    expect(page.locator(".lens .card h2")).to_have_text("Unlisted state")
    expect_chips(page, [1, 3, 5, 7, 9, 11])


def test_what_is_asked_for_in_one_breath_is_all_heard_and_the_lens_stays(visit):
    page = opened(visit("/?m=6"))
    page.evaluate(
        AT_ONCE
        % """press('ArrowRight', true);
        frame.querySelector('.tray button[title^="fill"]').click(); // Python picks four when the rest comes
        press('ArrowDown');
        press('a');
        press('l'); // block 0 stays
        find('1, 3, 5, 7, 9, 11');
        frame.querySelector('.find button[title^="mark"]').click();
        press('ArrowRight', true);
        press('l'); // block 1 too"""
    )
    for part in (r"keep=0%2C\+1", "tray=(?:[0-9-]+_){4}", "mark=[^&]*1-3-5-7-9-11"):
        page.wait_for_url(re.compile(part))
    assert page.evaluate("window.first.isConnected")


def test_what_the_form_and_the_lens_say_at_once_is_both_heard(visit):
    page = opened(visit("/?m=6&k=300"))
    page.evaluate(
        AT_ONCE
        % """press('a');
        document.querySelector('[data-testid=stNumberInputStepUp]').click();"""
    )
    expect(page.locator(".lens .chip")).to_have_count(7)
    page.wait_for_url(re.compile("m=7.*tray="))
    page.get_by_role("button", name="none").click()
    page.get_by_role("textbox", name="Blocks that stay").fill("5")
    page.get_by_role("textbox", name="Blocks that stay").press("Enter")
    page.evaluate(AT_ONCE % "press('ArrowRight', true); press('l'); // block 0, when block 5 is not heard of")
    page.wait_for_url(re.compile(r"keep=0%2C\+5"))
    page.keyboard.press("Escape")  # the browser would go on saying what the closed form showed
    page.evaluate(AT_ONCE % "press('ArrowRight', true); press('l'); // block 1")
    page.wait_for_url(re.compile(r"keep=0%2C\+1%2C\+5"))
    page.get_by_role("button", name="Increment").click()
    page.wait_for_url(re.compile(r"m=8.*keep=0%2C\+1%2C\+5"))


# the next message to the page is lost
LOSSY = """
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (d) {
    if (!window.lose) return send.call(this, d);
    window.lose = false;
  };"""


def test_a_lost_message_is_said_again_and_a_lens_that_was_away_goes_on(visit):
    page = opened(visit("/?m=6&k=300", watch=LOSSY))
    page.evaluate(AT_ONCE % "window.lose = true; press('a'); find('1, 3');")
    page.wait_for_url(re.compile("tray="))
    assert not page.evaluate("window.lose")
    page.get_by_role("button", name="Clear value").click()
    page.get_by_role(
        "button", name="Remove 8"
    ).click()  # nothing said how much goes, and there was no picture
    expect(page.locator(".lens .chip")).to_have_count(8)
    assert page.evaluate("window.first.isConnected")
    expect(page.locator(".lens .found span")).to_contain_text("2 of 8 blocks")


def test_what_a_screen_reader_hears_follows_the_selection(visit):
    page = opened(visit())
    status = page.locator(".lens [role=status]")
    assert status.get_attribute("aria-live") == "polite"
    for k in (1, 2, 3):
        page.keyboard.press("ArrowDown")
        expect(status).to_have_text(
            re.compile(
                rf"^State {k} removes [\d–, ]+; energy .* above the ground state; (a minimum|not a minimum)"
            )
        )


def test_a_link_in_a_fresh_profile_restores_run_m_locks_selection_tray_marks_and_panel(visit, server):
    found = demo(6, 9)
    page = opened(visit("/?m=6&keep=0&mark=theirs%205%255F1:1-2-3-4-5-6"))
    for key in ("ArrowDown", "ArrowDown", "a"):
        page.keyboard.press(key)
    page.wait_for_url(re.compile("tray="))
    link, selected, energy = (
        page.url.removeprefix(server.url),
        chips(page),
        page.locator(".facts b").first.inner_text(),
    )
    page.locator(".lens .tools .tab", has_text="Density").click()
    page.keyboard.press("s")
    for _ in range(2):
        page.keyboard.press("+")
    page.wait_for_url(re.compile("look=density.*spin.*%3A"))
    link, note = page.url.removeprefix(server.url), page.locator(".lens .panel.levels .note").inner_text()
    assert "keep=0" in link and len(selected) == 6 and 0 not in selected and len(found.x) == 9
    other = opened(visit(link))
    assert chips(other) == selected and other.locator(".facts b").first.inner_text() == energy
    expect(other.locator(".lens .picked .pick")).to_have_count(1)
    expect(other.locator(".lens .marked")).to_contain_text("theirs 5_1")
    expect(other.locator(".lens .panel.levels .note")).to_have_text(note)
    expect(other.locator(".lens .tab[aria-pressed=true]", has_text="spins")).to_be_visible()
    assert note.startswith("ΔE ")
    expect(other.get_by_test_id("stNumberInputField")).to_have_value("6")
    other.get_by_role("button", name="Increment").click()  # another landscape has another energy axis
    other.wait_for_url(re.compile(r"m=7.*look=density(~|%7E)spin(&|$)"))
    alone = visit(link + "&panel=matrix")
    expect(alone.locator(".lens .panel.matrix")).to_be_visible()
    expect(alone.locator(".lens .panel.levels")).to_be_hidden()
    expect(alone.locator(".lens .card")).to_be_hidden()
    expect(alone.get_by_test_id("stHeader")).to_be_hidden()
    alone.locator(".lens .panel.matrix .heading .icon").last.click()
    expect(alone.locator(".lens .panel.levels")).to_be_visible()
    alone.wait_for_url(lambda url: "panel=" not in url)
    assert chips(alone) == selected


def test_a_state_found_by_hand_has_its_place_and_can_be_marked_picked_and_shown(visit):
    H, listed = couplings(load_run(DEMO_RUN)), demo(8, 2600)
    page = opened(visit())
    page.keyboard.press("/")
    page.keyboard.type("1-3, 7-9, 20, 21")
    words = page.locator(".lens .found span")
    state = (1, 2, 3, 7, 8, 9, 20, 21)
    delta = float(energies(H, indicator([state], 24))[0] - listed.energies[0])
    expect(words).to_contain_text("above all 2600 listed")
    assert float(re.search(r"ΔE \+([\d.]+)", words.inner_text())[1]) * 1e-4 == pytest.approx(delta, rel=0.01)
    page.keyboard.press("Enter")
    expect_chips(page, state)
    expect(page.locator(".lens .card h2")).to_have_text("Unlisted state")
    page.wait_for_url(re.compile("cur=1-2-3-7-8-9-20-21"))
    page.keyboard.press("ArrowUp")
    expect(page.locator(".lens .card h2")).to_have_text("State #2599")
    page.locator(".lens .find input").fill(", ".join(map(str, listed.removed[41])))
    expect(words).to_contain_text("rank 41")
    page.get_by_role("button", name="mark this state on the axes").click()
    expect(page.locator(".lens .marked")).to_contain_text("#41")
    page.locator(".lens .marked").click()
    expect(page.locator(".lens .card h2")).to_have_text("State #41")
    page.locator(".lens .find input").fill("1, 2-x")
    expect(words).to_contain_text("is not a block or a range")
    page.locator(".lens .find input").fill("4, 5")
    page.locator(".lens .find input").press("Enter")  # of another M: that one is solved
    expect_chips(page, [4, 5])
    expect(page.get_by_test_id("stNumberInputField")).to_have_value("2")


def test_one_click_fills_the_tray_with_reasons_and_files_come_from_the_same_view(visit):
    page = opened(visit("/?k=300"))
    page.get_by_role("button", name=re.compile("fill the tray")).click()
    expect(page.locator(".lens .pick")).to_have_count(5)
    reasons = page.locator(".lens .pick .reason").all_inner_texts()
    assert len(reasons) == 5 and reasons[0].startswith("lowest energy") and all(len(r) > 10 for r in reasons)
    files = {}
    for name in ("CSV", "JSON", "SVG", "PNG", "Report"):
        with page.expect_download() as download:
            page.locator(".lens .exports button", has_text=name).click()
        files[name] = Path(download.value.path()).read_bytes()
    assert len(files["CSV"].decode().strip().splitlines()) == 301
    states = json.loads(files["JSON"])["states"]
    assert [tuple(s["removed"]) for s in states] == demo(8, 300).removed
    assert (
        files["PNG"].startswith(b"\x89PNG")
        and files["SVG"].count(b"<rect") > 300
        and b"NaN" not in files["SVG"]
    )
    assert b"Picked states" in files["Report"] and reasons[1].encode() in files["Report"]


@pytest.mark.parametrize("panel", ["levels", "states", "matrix", "arcs"])
def test_any_panel_fills_the_window_and_comes_back_by_key(visit, panel):
    page = opened(visit())
    node = page.locator(f".lens .panel.{panel}")
    before = node.bounding_box()
    node.locator(".plot").hover(position={"x": 150, "y": 100})
    page.keyboard.press("f")
    expect(page.locator(".lens.max")).to_have_count(1)
    assert node.bounding_box()["height"] > 1.5 * before["height"] and painted(page, panel) > 3
    page.keyboard.press("Escape")
    expect(page.locator(".lens.max")).to_have_count(0)
    assert node.bounding_box() == before


def test_equal_energies_are_drawn_and_told_as_one_level(visit, tmp_path):
    page = upload(opened(visit()), tmp_path, np.eye(6))  # nor are there couplings
    expect(page.locator(".lens .status")).to_contain_text("one of 15 states on its level")
    expect(page.locator(".lens .card dl")).to_contain_text("×15 on its level")
    with page.expect_download() as saved:
        page.get_by_role("button", name="download the figure as SVG").click()
    svg = Path(saved.value.path()).read_text()
    assert "NaN" not in svg and svg.count("rgb(247,247,249)") >= 30  # each pair in the colour of 0
    assert "rgba(" not in svg  # and no arc


def test_the_energy_axis_zooms_to_a_part_and_back(visit):
    page = opened(visit())
    note = page.locator(".lens .panel.levels .note")
    page.keyboard.press("+")
    expect(note).to_contain_text("ΔE 0–0.190 of 0.380")
    page.keyboard.press("+")
    expect(note).to_contain_text("ΔE 0–0.0950 of")
    page.keyboard.press("0")
    expect(note).to_have_text("lower is predicted better")


def test_an_uploaded_triangle_is_told_and_can_be_deleted(visit, tmp_path):
    page = upload(opened(visit()), tmp_path, np.triu(np.arange(1.0, 50.0).reshape(7, 7)), "away.npy")
    expect(page.get_by_text(re.compile("away.npy is an upper triangle: .* QUBO"))).to_be_visible()
    row = (
        page.get_by_test_id("stHorizontalBlock")
        .filter(has_text="away")
        .filter(has=page.get_by_role("button", name="Delete"))
    )
    row.last.get_by_role("button", name="Delete").click()
    page.wait_for_url(re.compile("e=pairs"))
    expect(page.locator(".lens .chip")).to_have_count(8)


def test_how_many_shows_every_m_and_a_budget_becomes_the_constraint(visit):
    page = opened(visit())
    page.get_by_role("button", name="M?").click()
    expect(page.locator(".js-plotly-plot .scatterlayer .point")).to_have_count(46)
    page.get_by_role("textbox", name="It must fit").fill("3 MB")
    page.get_by_role("textbox", name="It must fit").press("Enter")
    expect(page.get_by_text(re.compile("Removing 11 blocks is enough"))).to_be_visible()
    page.get_by_role("button", name="Remove 11").click()
    # a constrained search may have to be compiled first
    expect(page.locator(".lens .chip")).to_have_count(11)
    page.wait_for_url(re.compile(r"m=11.*fits=3\+MB"))
    page.get_by_role("button", name="M?").click()  # closed, the budget goes on
    expect(page.get_by_role("textbox", name="It must fit")).to_have_count(0)
    page.locator(".lens .frame").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_url(re.compile(r"fits=3\+MB.*cur="))


@pytest.mark.parametrize("path", PAGES)
def test_every_page_keeps_the_accessibility_rules(visit, path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    tray = "?tray=1-6-9-11-13-15-19-20&mark=theirs:1-2-3-4-5-6-7-8"
    look = "" if path else "&look=tree"
    page = visit(f"/{path}{tray}{look}")
    settle(page)
    if not path:
        opened(page)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(1000)
        settle(page)
        found = axe.run(page, options=WCAG).response["violations"]
        broken = [
            (scheme, v["id"], node["html"][:200], (node["any"] or [{"message": ""}])[0]["message"])
            for v in found
            for node in v["nodes"]
            if not any(rule == v["id"] and part in node["html"] for rule, part, _ in REVIEWED)
        ]
        assert not broken, broken


def test_a_list_from_elsewhere_is_marked_where_it_stands_and_a_bad_one_is_one_sentence(visit, tmp_path):
    listed = demo(8, 2600).removed
    rows = ["label,removed", f'ours,"{",".join(map(str, listed[12]))}"', '"far, away","0-7"']
    (tmp_path / "theirs.csv").write_text("\n".join(rows))
    (tmp_path / "bad.json").write_text('[{"removed": [3, 99]}]')
    page = opened(visit())
    page.get_by_text("Mark states from elsewhere").click()
    chooser = page.locator('input[type="file"]').last
    chooser.set_input_files(tmp_path / "theirs.csv")
    expect(page.locator(".lens .marked")).to_have_count(2)
    expect(page.locator(".lens .marked").first).to_contain_text("#12")
    expect(page.locator(".lens .marked").last).to_contain_text("ΔE +")
    page.wait_for_url(re.compile("mark=ours"))
    chooser.set_input_files(tmp_path / "bad.json")
    expect(page.get_by_test_id("stAlert")).to_contain_text("99")
    expect(page.locator(".lens .marked")).to_have_count(2)
