"""Files of the current landscape: the page asks for nothing and says what the data says; CSV and JSON are
read back.
"""

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from core.compare.other_tools import read_listed
from core.energy.sources import Source, open_source, store_matrix
from core.ising.states import parse_blocks
from core.ising.units import whole
from core.landscape.candidates import candidates
from core.landscape.landscape import landscape
from core.landscape.wording import exponent, proof
from core.spectrum.constraints import Constraints
from core.spectrum.lowest import lowest_states
from core.spectrum.memory_budget import Budget
from core.view.report import report_html
from core.view.snippets import View, cli_line, python_snippet
from core.view.state_files import states_csv, states_json


def solved(view: View):
    H = view.source.couplings(view.estimator, view.mix)
    return landscape(H, lowest_states(H, view.removed, view.count, constraints=view.ruled), view.ruled)


@pytest.fixture(scope="module")
def demo():
    view = View(
        open_source("demo"),
        "h0",
        8,
        200,
        mix={"story": 0.5, "memory": 0.5},
        constraints=Constraints(keep=(0,), max_run=3),
    )
    return view, solved(view)


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps attributes and texts."""

    VOID = {"meta", "rect", "line", "path", "br"}

    def __init__(self, text: str):
        super().__init__()
        self.open, self.attributes, self.texts, self.tags = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        self.tags.append(tag)
        if tag not in self.VOID or self.get_starttag_text().rstrip(">")[-1] != "/" and tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))


def test_the_page_is_whole_and_asks_for_nothing(demo):
    view, found = demo
    picked = candidates(found.H, found.spectrum, 4).chosen
    tray = [c.removed for c in picked] + [tuple(range(1, 9)), (1, 2)]
    text = report_html(
        view,
        found,
        tray,
        measured={tray[0]: (0.1234, 0.005, 64), tray[1]: (0.5, float("nan"), 1)},
        reasons={c.removed: c.reason for c in picked},
    )
    page = Page(text)
    assert not {name for name, _ in page.attributes} & {
        "src",
        "href",
        "srcset",
        "action",
        "onload",
        "onclick",
    }
    assert (
        "default-src 'none'" in text
        and not re.search(r"url\(|@import|https?://", text)
        and page.tags.count("svg") == 3
    )
    assert (
        page.tags.count("tr") == 1 + len(tray)
        and "+0.1234 ± 0.0050 (64 sequences)" in text
        and "+0.5000 (1 sequences)" in text
    )
    assert "not measured" in text and text.count("not listed") >= 2 and picked[1].reason in text
    plain = "".join(data for tag, data in page.texts if tag in ("p", "pre", "dd"))
    assert (
        proof(found.spectrum, exponent(found.spectrum.energies)) in plain
        and python_snippet(view) in plain
        and cli_line(view) in plain
    )
    assert "story 50 %, memory 50 %" in plain and "at most 3 in a row" in plain
    data = json.loads(next(data for tag, data in page.texts if tag == "script"))
    assert (
        data["provenance"]["key"] == view.source.key
        and data["provenance"]["exact"]
        and data["provenance"]["rules"]["keep"] == [0]
    )
    assert [tuple(p["removed"]) for p in data["picked"]] == tray
    assert "prefers-color-scheme: dark" in text and len(text) < 400_000


def test_the_figures_draw_every_state_and_coupling(demo):
    view, found = demo
    text = report_html(view, found)
    levels, barcode, heat = re.findall(r"<svg.*?</svg>", text, re.S)
    assert levels.count('<line class="level"') == 200 and levels.count("<title>") == 200
    assert barcode.count("M") == found.spectrum.x[:80].sum()
    off = found.H[~np.eye(24, dtype=bool)]
    drawn = {
        sign: sum(d.count("M") for d in re.findall(rf'<path class="{sign}"[^>]* d="([^"]*)"', heat))
        for sign in ("pos", "neg")
    }
    assert drawn == {"pos": (off > 0).sum(), "neg": (off < 0).sum()}


def test_no_name_can_break_out_of_the_page():
    bad = "</script><script>alert(1)</script><img src=x onerror=y> & \"'"
    A = np.random.default_rng(0).normal(size=(6, 6))
    view = View(store_matrix(A + A.T, bad), "matrix", 2, 9)
    found = solved(view)
    page = Page(report_html(view, found, [found.ground], reasons={found.ground: bad}))
    assert "img" not in page.tags and page.tags.count("script") == 1
    assert (
        json.loads(next(data for tag, data in page.texts if tag == "script"))["provenance"]["source"] == bad
    )
    loose = View(Source("ab" * 32, "loose", 6, ("matrix",), matrix=A + A.T), "matrix", 2, 9)
    assert "not in the store" in report_html(loose, found)


@pytest.mark.parametrize("H", [np.zeros((4, 4)), np.eye(2), np.diag([1e-200] * 5), np.full((100, 100), 3.0)])
def test_flat_tiny_and_large_landscapes_have_a_page(H):
    view = View(store_matrix(H, "m"), "matrix", 1, 300)
    text = report_html(view, solved(view), [(0,)])
    assert Page(text).tags.count("svg") == 3 and not re.search(r"\b(nan|inf|None)\b", text)


def test_csv_and_json_are_read_back(demo, tmp_path):
    view, found = demo
    measured = {found.spectrum.removed[3]: (0.1, 0.01, 64), found.spectrum.removed[4]: (0.2, float("nan"), 1)}
    text = states_csv(found, measured)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [parse_blocks(r["removed"], 24) for r in rows] == found.spectrum.removed
    assert [float(r["energy"]) for r in rows] == found.spectrum.energies.tolist()
    assert [bool(int(r["minimum"])) for r in rows] == found.minimum.tolist()
    assert (
        rows[3]["loss_increase"],
        rows[3]["sequences"],
        rows[4]["loss_increase_se"],
        rows[0]["loss_increase"],
    ) == ("0.1", "64", "", "")
    (tmp_path / "s.csv").write_text(text)
    (tmp_path / "s.json").write_text(states_json(view, found, measured))
    for name in ("s.csv", "s.json"):
        listed = read_listed(tmp_path / name, whole(24))
        assert [one.removed for one in listed] == found.spectrum.removed
        assert np.allclose([one.scores["energy"] for one in listed], found.spectrum.energies, rtol=1e-15)
    about = json.loads((tmp_path / "s.json").read_text())["view"]
    assert (
        about["model"]["name"] == "demo"
        and about["mix"] == {"story": 0.5, "memory": 0.5}
        and about["listed"] == 200
    )


def test_a_budget_is_named():
    demo = open_source("demo")
    model = demo.run.meta["model"]
    view = View(demo, "h0", 6, 5, budget=Budget(model["bytes"] - 5 * model["blocks"][0]["bytes"]))
    found = solved(view)
    assert "fits 0.00410851" in report_html(view, found) and json.loads(states_json(view, found))["view"][
        "budget"
    ].endswith("GB")
    assert replace(view, budget=None).ruled == Constraints()
