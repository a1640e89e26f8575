"""The Couplings page without a browser."""

import base64
import json

import numpy as np
import pytest

from core.compare.comparison import model_key
from core.compare.quadratic import predicted_kl
from core.energy.couplings import ESTIMATORS, couplings, first_order
from core.energy.sources import store_matrix
from core.store.folders import DEMO_RUN
from core.store.results import Key, Results
from core.store.runs import load_run
from tests.app.test_explore import open_app


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_it_draws_the_estimator_chosen_in_explore(estimator):
    app = open_app(m="6", e=estimator)
    app.switch_page("pages/couplings.py").run()
    assert not app.exception, app.exception
    assert len(app.get("plotly_chart")) == 5 and "of the trace" in app.caption[0].value
    assert "".join(app.query_params["m"]) == "6" and "".join(app.query_params["e"]) == estimator
    for name, values in {
        "view": ("J", "correlation"),
        "scale": ("linear",),
        "order": ("clustering",),
    }.items():
        for value in values:
            app.segmented_control(key=name).set_value(value).run()
            assert not app.exception, (value, app.exception)
    app.toggle(key="clip").set_value(True).run()
    assert not app.exception and any("Colours end at" in c.value for c in app.caption)
    for layout in ("force", "spectral"):
        app.segmented_control(key="layout").set_value(layout).run()
        assert not app.exception


def test_it_draws_says_and_offers_the_mix():
    app = open_app(m="6", mix="story:60,memory:40")
    app.switch_page("pages/couplings.py").run()
    assert not app.exception and "".join(app.query_params["mix"]) == "story:60,memory:40"
    said = " ".join(m.value.replace("\\", "") for m in app.markdown)
    assert "Domain mix: story 60 %, memory 40 %." in said
    plain, mixed = (first_order(load_run(DEMO_RUN), mix) for mix in (None, {"story": 60, "memory": 40}))
    assert (
        f"{100 * mixed.ratio:.2g} % of a row's entries" in said
        and f"{mixed.significant} of 24 blocks" in said
    )
    assert f"{100 * plain.ratio:.2g}" != f"{100 * mixed.ratio:.2g}"
    assert any("Block 0 costs 6.40 nats" in c.value for c in app.caption)
    matrix = json.loads(app.get("plotly_chart")[0].proto.spec)["data"][0]["customdata"]
    H = couplings(load_run(DEMO_RUN), "h0", {"story": 60, "memory": 40})
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(matrix["bdata"])).reshape(24, 24), H)


def test_a_matrix_has_no_gradient():
    source = store_matrix(np.eye(5) + 0.1, "mine")
    app = open_app(run=source.key[:8])
    app.switch_page("pages/couplings.py").run()
    assert not app.exception and len(app.get("plotly_chart")) == 4


def test_measured_kl_is_drawn_against_the_quadratic_form_and_nothing_measured_is_said():
    app = open_app(m="6")
    app.switch_page("pages/couplings.py").run()
    said = lambda: " ".join(m.value.replace("\\", "") for m in app.markdown)  # noqa: E731
    assert "No state's KL is measured yet" in said()
    run = load_run(DEMO_RUN)
    states = [(3,), (5, 6), (1, 2, 3)]
    for state, kl in zip(states, predicted_kl(run, states) * np.array([1.0, 1.5, 3.0])):
        Results().put(Key(model_key(run), state, "t", "report", "kl"), {0: kl, 1: kl})
    app.run()
    assert not app.exception and len(app.get("plotly_chart")) == 6
    assert (
        "The quadratic form ends at M = 3: measured KL is 3 times the prediction of the one state" in said()
    )
    drawn = json.loads(app.get("plotly_chart")[-1].proto.spec)["data"]
    assert [trace["name"] for trace in drawn] == ["M = 1", "M = 2", "M = 3", "measured = predicted"]


@pytest.mark.parametrize("estimator", ["h0", "secant"])
def test_by_branch_the_matrix_may_stand_in_order_of_kind_and_everything_is_named(estimator):
    app = open_app(by="branch", m="6", e=estimator)
    app.switch_page("pages/couplings.py").run()
    assert not app.exception, app.exception
    app.segmented_control(key="order").set_value("kind").run()
    assert not app.exception, app.exception
    matrix = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert [a["text"] for a in matrix["layout"]["annotations"]] == ["attention", "FFN"]
    assert "over the removed units" in app.caption[0].value
    assert any("of 48 units have a mean gradient" in m.value for m in app.markdown)
    (roles,) = (h.proto.body for h in app.get("html") if "sum of |H|" in h.proto.body)
    assert roles.count("<tr>") == 49 and "<td>12f</td>" in roles
    assert "kind" in app.segmented_control(key="order").options
    # by block there is no such order
    by_block = open_app(m="6", e=estimator)
    by_block.session_state["order"] = "kind"
    by_block.switch_page("pages/couplings.py").run()
    assert not by_block.exception and by_block.segmented_control(key="order").value == "depth"
