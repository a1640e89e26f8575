"""The Compare page without a browser."""

from pathlib import Path

from streamlit.testing.v1 import AppTest

from core.comparison import model_key
from core.results import Key, Results
from core.runs import load_run
from core.sources import store_matrix
from core.store import DEMO_RUN

APP = str(Path(__file__).resolve().parents[2] / "app.py")
MODEL = model_key(load_run(DEMO_RUN))


def compare_page(**query) -> AppTest:
    app = AppTest.from_file(APP, default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.run().switch_page("pages/compare.py").run()
    assert not app.exception, app.exception
    return app


def shown(app: AppTest) -> str:
    return " ".join(h.proto.body for h in app.get("html"))


def test_empty_it_says_what_to_do():
    app = compare_page()
    assert "Pick states in Explore" in app.info[0].value
    labels = [b.label for b in app.button]
    assert labels[0] == "Measure the original" and "Improve: learn the landscape" in labels and "Ask the original 30 short prompts" in labels
    assert "Measure some states" in shown(app) and "original" in shown(app)


def test_the_tray_comes_along_and_measurements_are_shown():
    for state, loss in (((), 1.0), ((1, 2), 1.5)):
        Results().put(Key(MODEL, state, "t", "report", "loss"), {0: loss, 1: loss + 0.1})
    app = compare_page(m="2", tray="1-2")
    assert app.session_state.tray == [(1, 2)]
    assert "Measure 1 picked state" in [b.label for b in app.button]
    assert "+0.5000 ± 0.0000" in shown(app) and "1, 2" in shown(app)


def test_the_view_of_explore_outlives_the_page():
    app = compare_page(m="5", e="h1", k="300", tray="1-2-3-4-5")
    app.switch_page("pages/explore.py").run()
    state = app.session_state
    assert (state.removed, state.estimator, state.count, state.tray) == (5, "h1", 300, [(1, 2, 3, 4, 5)])


def test_a_bare_matrix_has_nothing_to_measure():
    source = store_matrix([[1.0, 0.2, 0], [0.2, 1, 0], [0, 0, 1]], "mine")
    assert "there is no model to measure" in compare_page(run=source.key[:8]).info[0].value
