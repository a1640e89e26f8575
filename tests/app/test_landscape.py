"""The Landscape page without a browser."""

import json
from dataclasses import replace

import numpy as np
import pytest

from core.compare.comparison import model_key
from core.energy.couplings import couplings
from core.energy.sources import store_matrix
from core.shape import lowest_minima
from core.shape.paths import path
from core.spectrum.constraints import Constraints, make_rules
from core.store.folders import DEMO_RUN
from core.store.results import Key, Results
from core.store.runs import Secants, extend_run, load_run
from pages.landscape_parts.found import LISTED, shown
from pages.shared.view import source_of
from tests.app.test_explore import open_app

SECTIONS = ["Minima", "Temperature", "Paths", "Density", "Every M", "Structure or noise"]


def _page(section: str, **view):
    app = open_app(**view)
    app.switch_page("pages/landscape.py").run()
    if section != "Minima":
        app.segmented_control(key="shape_section").set_value(section).run()
    assert not app.exception, app.exception
    return app


def _said(app) -> str:
    return " ".join(m.value.replace("\\", "") for m in [*app.markdown, *app.caption])


def test_the_minima_are_listed_with_their_basins_and_barriers():
    app = _page("Minima", m="6", e="h0")
    said = _said(app)
    assert "the 30 lowest minima, proved" in said or "minima among the" in said
    assert "different minima" in said and "(estimated)" in said
    table = next(h for h in app.get("html") if "minima" in h.proto.body)
    assert "#0" in table.proto.body and "2, 6, 9, 16, 17, 18" in table.proto.body
    app.toggle(key="shape_sure").set_value(True).run()
    assert not app.exception and "resamples (estimated); the standard deviation" in _said(app)
    app.segmented_control(key="shape_moves").set_value("shift").run()
    assert not app.exception and "shifts one removed block by one in depth" in _said(app)


def test_a_temperature_says_what_is_safe_to_remove():
    app = _page("Temperature", m="6", e="h0")
    said = _said(app)
    assert (
        "effective states" in said
        and "standard deviations of E₀" in said
        and "exact: all 134596 states are counted" in said
    )
    shares = json.loads(app.get("plotly_chart")[0].proto.spec)["data"][0]
    assert len(app.get("plotly_chart")) == 3 and len(shares["customdata"]) == 24
    app.select_slider(key="shape_t").set_value(1000).run()
    assert not app.exception and "exact" in _said(app)


def test_a_path_leads_from_one_minimum_to_another_and_offers_to_measure():
    app = _page("Paths", m="6", e="h0")
    assert "exact: every state below it is listed" in _said(app) or "at most so high" in _said(app)
    assert any("Measure the loss along the path" in b.label for b in app.button)
    other = app.selectbox(key="shape_to").options[-1]
    app.selectbox(key="shape_to").set_value(other).run()
    assert not app.exception and "moves; the highest state is step" in _said(app)


def test_losses_along_a_path_are_drawn_and_said_where_they_are_measured():
    run = load_run(DEMO_RUN)
    app = _page("Paths", m="6", e="h0")
    ends = [
        tuple(map(int, app.selectbox(key=k).value.partition(": ")[2].split(", ")))
        for k in ("shape_from", "shape_to")
    ]
    H = couplings(run, "h0")
    minima = lowest_minima(H, 6, 30, most=5000)
    way = path(H, minima.valleys, *ends, make_rules(None, 24, 6))
    for removed in [(), *way.removed]:
        loss = 1.0 + (0.4 if removed == way.removed[1] else 0.1 if removed else 0.0)
        Results().put(Key(model_key(run), removed, "t", "report", "loss"), {0: loss, 1: loss})
    app.run()
    assert not app.exception and "the path rises 0.300 ± 0.000 nats above its worse end, at step 1" in _said(
        app
    )
    drawn = json.loads(app.get("plotly_chart")[0].proto.spec)["data"]
    assert [t.get("name") for t in drawn][:2] == ["energy", "measured, nats"]


@pytest.mark.parametrize("section", SECTIONS[3:])
def test_the_other_sections_draw_and_say_how_sure_they_are(section):
    app = _page(section, m="6", e="h0")
    assert app.get("plotly_chart") and ("exact" in _said(app) or "estimated" in _said(app))


@pytest.mark.parametrize("section", SECTIONS)
def test_a_bare_matrix_and_rules_have_a_landscape_too(section):
    rng = np.random.default_rng(0)
    B = rng.normal(size=(40, 14))
    source = store_matrix(B.T @ B, "mine")
    app = _page(section, run=source.key[:8], m="5", keep="0", max_run="2")
    assert "mine" in _said(app)
    if section == "Paths":
        assert "no loss can be measured" in _said(app)


def test_rules_too_narrow_to_draw_states_at_random_are_told_and_the_rest_is_there():
    app = _page("Minima", m="12", e="h0", max_run="1")  # 13 states
    assert "every state is listed. Basins of all states cannot be estimated: Of " in _said(app)
    table = next(h for h in app.get("html") if "minima" in h.proto.body)
    assert "0, 2, 4, " in table.proto.body or "1, 3, 5, " in table.proto.body


def test_where_a_budget_leaves_a_number_of_states_that_is_not_known_they_are_shares():
    app = _page("Density", m="8", fits="weights 70 %", e="h0")
    app.toggle(key="shape_density").set_value(True).run()
    app.toggle(key="shape_low").set_value(True).run()
    assert not app.exception and "How many states the rules leave is not known" in _said(app)
    axis = json.loads(app.get("plotly_chart")[0].proto.spec)["layout"]["yaxis"]["title"]["text"]
    assert axis == "share of states" and "nan" not in " ".join(h.proto.body for h in app.get("html"))


def test_by_branch_every_section_draws():
    assert load_run(DEMO_RUN).branches is not None
    for section in SECTIONS[:3]:
        app = _page(section, m="8", by="branch")
        assert "a" in _said(app)


def test_what_more_secants_say_is_drawn_anew():
    """They are added to a run under its key, while the server holds what it made of the fewer before."""
    demo = load_run(DEMO_RUN)
    run = replace(demo, meta={**demo.meta, "key": "ab" * 32}, folder=None)
    few = replace(
        run, secants=Secants(demo.secants.A[:, :8], demo.secants.loss[:, :8]), pairs=None, branches=None
    )
    view = run.key, "secant", None, 4, Constraints(), "swap", 3
    found = []
    for known in (few, replace(few, secants=demo.secants)):
        extend_run(known)
        H = couplings(known, "secant")
        assert (source_of(run.key).couplings("secant") == H).all()
        found.append(shown(*view).spectrum.energies)
        assert (found[-1] == lowest_minima(H, 4, 3, most=LISTED).valleys.spectrum.energies).all()
    assert (found[0] != found[1]).any()
