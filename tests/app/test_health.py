"""The health card of Explore and the audit of Couplings, from what the store holds."""

from unittest.mock import Mock

import numpy as np
import pytest

from core import jobs
from core.compare.agreement import agreement
from core.compare.audit import audit_states
from core.compare.comparison import model_key
from core.compare.health import check_states
from core.energy.couplings import couplings
from core.energy.sources import store_matrix
from core.ising.energies import energies
from core.ising.states import indicator
from core.spectrum.lowest import lowest_states
from core.store.folders import DEMO_RUN
from core.store.results import Key, Results
from core.store.runs import load_run
from tests.app.test_explore import open_app, shown

M, SEQUENCES = 6, 16


@pytest.fixture
def run():
    return load_run(DEMO_RUN)


def measure(run, states, loss) -> None:
    """Put losses of some states into the store: loss(x [K, N]) above an original of 2 nats, with noise."""
    rng = np.random.default_rng(0)
    base = 2 + rng.normal(size=SEQUENCES)
    for state in dict.fromkeys([(), *states]):
        x = indicator([state], run.blocks)
        values = base + float(loss(x)[0]) + 0.001 * rng.normal(size=SEQUENCES) * bool(state)
        key = Key(model_key(run), state, "texts", "report", "loss")
        Results().put(key, dict(enumerate(values.tolist())))


def test_not_known_without_a_measurement_and_the_button_says_what_it_takes(run, monkeypatch):
    started = []
    monkeypatch.setattr(jobs, "start", lambda kind, request: started.append((kind, request)))
    app = open_app(m=str(M))
    assert 'class="health not-known"' in shown(app) and "nothing was measured at M = 6" in shown(app)
    (button,) = [b for b in app.button if b.label.startswith("Check: measure")]
    assert "more" not in button.label
    button.click().run()
    assert not app.exception
    (kind, request), *_ = started
    H = couplings(run)
    expected = check_states(lowest_states(H, M, 2600).x, run.singles.increase)
    assert kind == "benchmark" and [tuple(s) for s in request["states"]] == expected
    assert request["sequences"] == 16 and not request["tasks"]


@pytest.mark.parametrize(("estimator", "colour"), [("h0", "green"), ("singles", "yellow"), ("other", "red")])
def test_the_colour_goes_by_what_is_measured(run, estimator, colour):
    """A model whose loss is H0 itself: its couplings are green; single removals choose nearly as well,
    and order loosely; on a model of other couplings they are red.
    """
    truth = couplings(run) * 3000
    if estimator == "other":
        some = np.random.default_rng(0).permutation(run.blocks)
        estimator, truth = "h0", truth[np.ix_(some, some)]
    x = lowest_states(couplings(run, estimator), M, 2600).x
    measure(run, check_states(x, run.singles.increase), lambda s: energies(truth, s))
    app = open_app(m=str(M), e=estimator)
    assert f'class="health {colour}"' in shown(app), shown(app)
    assert "states of this M measured" in shown(app) and not app.exception
    assert not any(b.label.startswith("Check") for b in app.button)  # all of it is known
    assert any(b.label == "Learn it" for b in app.button) == (colour != "green")


def test_a_bare_matrix_is_never_judged():
    H = np.diag(np.arange(1.0, 9.0))
    app = open_app(run=store_matrix(H, "mine").key, e=None)
    assert 'class="health not-known"' in shown(app) and "no model to measure" in shown(app)
    assert not any(b.label.startswith("Check") for b in app.button)


def test_couplings_says_whether_the_pairs_carry_information(run, monkeypatch):
    app = open_app(m=str(M))
    app.switch_page("pages/couplings.py").run()
    assert any("No pair of blocks was measured yet" in m.value for m in app.markdown)
    assert any(b.label.startswith("Measure 30 pairs") for b in app.button)
    truth = couplings(run, "pairs")
    measure(run, audit_states(run.blocks, run.singles.increase), lambda s: energies(truth, s) * 10)
    app = open_app(m=str(M), e="pairs")
    app.switch_page("pages/couplings.py").run()
    assert not app.exception
    assert any("say what two removals cost beyond their sum" in m.value for m in app.markdown)
    table = next(h.proto.body for h in app.get("html") if "audits" in h.proto.body)
    assert "<td>secant + pairs</td>" in table and "<td>informative</td>" in table, table
    spied = Mock(wraps=agreement)
    monkeypatch.setattr("core.compare.audit.agreement", spied)
    app.run()
    assert not app.exception and not spied.called  # a rerun bootstraps nothing
    measure(run, [(1, 2), (1,), (2,)], lambda s: energies(truth, s) * 20)
    app.run()
    assert not app.exception and spied.called  # what was measured since counts
