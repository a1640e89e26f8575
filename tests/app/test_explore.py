"""The Explore page without a browser: first sight, links, errors. The lens's own behaviour is tested in tests/browser."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core import jobs, solving, store
from core.constraints import Constraints
from core.couplings import ESTIMATORS
from core.lens import landscape, landscape_data, proof, tray_data
from core.runs import load_run
from core.sources import store_matrix
from core.spectrum import lowest_states

APP = str(Path(__file__).resolve().parents[2] / "app.py")


def open_app(**query) -> AppTest:
    app = AppTest.from_file(APP, default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, app.exception
    return app


def shown(app: AppTest) -> str:
    return " ".join(h.proto.body for h in app.get("html"))


def test_first_sight_is_the_demo_solved_and_proved():
    app = open_app()
    assert app.session_state.source == load_run(store.DEMO_RUN).key
    assert app.session_state.removed == 8 and not app.error and not app.warning
    assert "735\u202f471 states listed" in shown(app) and "✓ exact" in shown(app)
    assert "".join(app.query_params["m"]) == "8"


def test_changing_m_solves_again():
    app = open_app()
    app.number_input(key="removed").set_value(3).run()
    assert not app.exception and "2\u202f024 states are listed" in shown(app) and "".join(app.query_params["m"]) == "3"


def test_every_estimator_and_count_of_the_demo():
    app = open_app()
    for estimator in ESTIMATORS:
        app.selectbox(key="estimator").select(estimator).run()
        assert not app.exception and not app.error
    app.selectbox(key="count").select(100).run()
    assert not app.exception and "".join(app.query_params["k"]) == "100"


def test_a_link_rebuilds_the_view():
    key = load_run(store.DEMO_RUN).key
    app = open_app(run=key[:8], m="4", e="h1", k="300", cur="2-9-11-20", tray="1-2-3-4_5-6-7-8")
    state = app.session_state
    assert (state.removed, state.estimator, state.count) == (4, "h1", 300)
    assert state.cursor == (2, 9, 11, 20) and state.tray == [(1, 2, 3, 4), (5, 6, 7, 8)] and not app.warning


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"run": "deadbeef"}, "the run 'deadbeef'"),
        ({"m": "0"}, "M = '0'"),
        ({"m": "24"}, "from 1 to 23"),
        ({"m": "3.7"}, "'3.7'"),
        ({"m": "٣"}, "whole number"),
        ({"m": "1_0"}, "whole number"),
        ({"cur": "99"}, "Block 99"),
        ({"tray": "1-x"}, "'x'"),
        ({"run": "../../etc"}, "not in this store"),
    ],
)
def test_a_bad_link_is_one_sentence_over_the_demo(query, says):
    app = open_app(**query)
    assert any(says in w.value.replace("\\", "") for w in app.warning), [w.value for w in app.warning]
    assert "states listed" in shown(app)


def test_hostile_links_are_cut_short():
    for query in ({"k": "9" * 5000}, {"run": "x" * 300}, {"m": "00001999"}, {"cur": "0-" * 3000 + "1"}, {"tray": "_".join(["1-2"] * 400)}):
        app = open_app(**query)
        assert "states listed" in shown(app) and len(app.session_state.tray) <= 1


def test_damaged_things_in_the_store_break_nothing_else():
    (store.home() / "runs" / ("b" * 64)).mkdir(parents=True)
    (store.home() / "runs" / ("b" * 64) / "run.json").write_text("{")
    (store.home() / "matrices").mkdir()
    (store.home() / "matrices" / ("a" * 64 + ".npz")).write_bytes(b"junk")
    app = open_app()
    assert not app.error and "states listed" in shown(app) and app.selectbox(key="source").options == [load_run(store.DEMO_RUN).name]


def test_a_stored_matrix_is_explored_without_a_model():
    rng = np.random.default_rng(0)
    B = rng.normal(size=(5, 5))
    source = store_matrix(B @ B.T, "mine.npy")
    app = open_app(run=source.key[:8])
    assert app.session_state.removed == 2 and "all 10 states are listed" in shown(app)


def test_a_problem_that_takes_longer_says_what_is_proved_and_goes_on_as_a_job():
    B = np.random.default_rng(0).normal(size=(2, 64))
    source = store_matrix(B.T @ B, "rank 2")
    app = open_app(run=source.key[:8], m="32", k="100")
    assert not app.error and "not proved lowest" in shown(app) and "✓ exact" not in shown(app)
    (go,) = [b for b in app.button if b.label.startswith("Search on")]
    go.click().run()
    (job,) = jobs.list_jobs()
    assert job.kind == "solve" and not app.exception
    jobs.cancel(job.id)
    app.number_input(key="removed").set_value(2).run()
    assert not app.exception and not app.error and "✓ exact" in shown(app)


def test_what_the_job_found_replaces_the_bound():
    source = store_matrix(np.diag(np.sqrt(np.arange(2.0, 32.0))), "diagonal")
    request = solving.solve_request(source.key, "matrix", 15, 100, Constraints())
    job = jobs.start("solve", request)
    while (job := jobs.read(job.id)).active:
        time.sleep(0.05)
    assert job.status == "done", jobs.log_tail(job)
    found = solving.solved(job.result, source.matrix)
    direct = lowest_states(source.matrix, 15, 100)
    assert found.exact and (found.x == direct.x).all() and found.lower_bound == direct.lower_bound and found.total == direct.total
    assert "✓ exact" in shown(open_app(run=source.key[:8], m="15", k="100"))
    Path(job.result["out"]).write_bytes(b"rot")
    assert solving.solved(job.result, source.matrix) is None


def test_rules_restrict_every_state_and_are_in_the_link():
    app = open_app(m="3", keep="1, 6", remove="20", max_run="1")
    picked = app.session_state
    assert (picked.keep, picked.remove, picked.max_run) == ("1, 6", "20", "1") and "✓ exact" in shown(app)
    assert "".join(app.query_params["keep"]) == "1, 6"
    app.text_input(key="groups").set_value("0-11: 1; 12-23: 2").run()
    assert not app.error and "".join(app.query_params["groups"]) == "0-11: 1; 12-23: 2"
    app.text_input(key="keep").set_value("1-x").run()
    assert "1-x" in app.error[0].value.replace("\\", "")
    next(b for b in app.button if b.label == "Clear the rules").click().run()
    assert not app.error and app.session_state.keep == "" and "keep" not in app.query_params


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"keep": "0-21"}, "are to be removed"),
        ({"groups": "0-3"}, "write blocks, a colon"),
        ({"max_run": "0"}, "at least 1"),
        ({"keep": "3", "remove": "3"}, "choose one"),
    ],
)
def test_rules_that_cannot_hold_are_one_sentence(rules, says):
    app = open_app(m="5", **rules)
    assert says in app.error[0].value.replace("\\", "") and "Clear the rules" in [b.label for b in app.button]


def test_without_the_demo_the_page_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "DEMO_RUN", tmp_path / "none")
    app = open_app()
    assert "No run is at hand" in app.error[0].value


def test_lens_data_is_what_the_states_are_worth():
    H = load_run(store.DEMO_RUN).rows.A.astype(float)
    H = H.T @ H / len(H)
    found = landscape(H, lowest_states(H, 8, 50))
    data = landscape_data(found, "t", "u", None, None)
    assert data["blocks"] == 24 and data["removed"] == 8 and data["count"] == 50 and len(data["hash"]) == 50
    own = [sum(H[i, i] for i in s) for s in found.spectrum.removed]
    assert np.allclose(found.own, own)
    tray = tray_data(found, [found.spectrum.removed[3], (0, 1, 2, 3, 4, 5, 6, 7), (0, 1)])
    assert tray[0]["rank"] == 3 and tray[1]["rank"] is None and tray[2]["delta"] is None
    x = np.zeros((3, 24))
    for row, t in zip(x, tray):
        row[t["removed"]] = 1
        assert np.isclose(t["energy"], row @ H @ row)
    r = np.corrcoef(x)
    assert np.allclose([t["diversity"] for t in tray], [1 - max(r[0, 1], r[0, 2]), 1 - max(r[0, 1], r[1, 2]), 1 - max(r[0, 2], r[1, 2])])
    assert tray_data(found, []) == [] and "50 of 735" in proof(found.spectrum, 0)


def test_no_state_in_time_is_said_and_can_be_left(monkeypatch):
    from core import spectrum

    honest = spectrum.lowest_states

    def none_in_time(*args, **options):
        found = honest(*args, **options)
        return replace(found, x=found.x[:0], energies=found.energies[:0], exact=False) if options.get("time_limit") else found

    monkeypatch.setattr(spectrum, "lowest_states", none_in_time)
    app = open_app(m="3", max_run="1", k="100")
    assert "No state that fits the rules" in app.info[0].value and not app.exception
    monkeypatch.setattr(spectrum, "lowest_states", honest)
    next(b for b in app.button if b.label == "Clear the rules").click().run()
    assert "✓ exact" in shown(app)


def test_damaged_or_removed_jobs_break_no_page():
    folder = store.home() / "jobs" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "request.json").touch()
    app = open_app()
    app.session_state.benchmark = "feedfeedfeedfeed"
    app.switch_page("pages/compare.py").run()
    assert not app.exception and not app.error


def test_a_dismissed_prune_dialog_leaves_compare_alone():
    app = open_app(m="3", tray="1-2-3_2-3-4")
    app.session_state.prune_state = None
    app.switch_page("pages/compare.py").run()
    assert not app.exception
    app.switch_page("pages/explore.py").run()
    assert not app.exception and not app.session_state.prune_state


def test_a_rule_too_long_for_a_link_is_left_out_and_said():
    app = open_app(keep=", ".join(["1"] * 2000))
    assert "left out" in app.warning[0].value.replace("\\", "") and app.session_state.keep == ""
