"""The Explore page without a browser: first sight, links, errors.

The lens's own behaviour is tested in tests/browser.
"""

import base64
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from core import jobs
from core.energy.couplings import available, couplings
from core.energy.mix import mix_weights
from core.energy.sources import store_matrix
from core.job_kinds import solve
from core.landscape.landscape import landscape
from core.landscape.wording import exponent, proof, with_power
from core.spectrum.constraints import Constraints
from core.spectrum.lowest import lowest_states
from core.spectrum.memory_budget import read_budget, with_budget
from core.store import folders
from core.store.runs import load_run
from core.view.lens import landscape_data, rank_intervals, tray_data
from pages.shared.view import source_of

APP = str(Path(__file__).resolve().parents[2] / "app.py")


def open_app(**query) -> AppTest:
    """The app at a link, on the paper's couplings unless it names others; e=None: on those it opens with."""
    app = AppTest.from_file(APP, default_timeout=300)
    for name, value in {"e": "h0", **query}.items():
        if value is not None:
            app.query_params[name] = value
    app.run()
    assert not app.exception, app.exception
    return app


def shown(app: AppTest) -> str:
    return " ".join(h.proto.body for h in app.get("html"))


def test_first_sight_is_the_demo_solved_and_proved():
    app = open_app(e=None)
    assert app.session_state.estimator == "pairs"  # of what the demo's run has, what orders states best
    assert app.session_state.source == load_run(folders.DEMO_RUN).key
    assert app.session_state.removed == 8 and not app.error and not app.warning
    assert "735\u202f471 states listed" in shown(app) and "✓ exact" in shown(app)
    assert "".join(app.query_params["m"]) == "8"


def test_changing_m_solves_again():
    app = open_app()
    app.number_input(key="removed").set_value(3).run()
    assert (
        not app.exception
        and "2\u202f024 states are listed" in shown(app)
        and "".join(app.query_params["m"]) == "3"
    )


def test_every_estimator_and_count_of_the_demo():
    app = open_app()
    for estimator in available(load_run(folders.DEMO_RUN)):
        app.selectbox(key="estimator").select(estimator).run()
        assert not app.exception and not app.error
    app.selectbox(key="count").select(100).run()
    assert not app.exception and "".join(app.query_params["k"]) == "100"


def test_a_link_rebuilds_the_view():
    key = load_run(folders.DEMO_RUN).key
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
        ({"mix": "poem:1"}, "no domain 'poem'"),
        ({"mix": "story:0"}, "all 0"),
        ({"mix": "story:-5,memory:5"}, "-5"),
        ({"mix": "story"}, "domain=share"),
        ({"mix": "x" * 9000}, "domain=share"),
    ],
)
def test_a_bad_link_is_one_sentence_over_the_demo(query, says):
    app = open_app(**query)
    assert any(says in w.value.replace("\\", "") for w in app.warning), [w.value for w in app.warning]
    assert "states listed" in shown(app)


def test_one_bad_part_of_a_link_leaves_the_others():
    app = open_app(m="3", mark="a:1-x", cur="1-1-2", tray="1-2-3_4-5-6")
    assert app.session_state.tray == [(1, 2, 3), (4, 5, 6)] and app.session_state.cursor is None
    assert len(app.warning) == 2 and all(name in w.value for name, w in zip(("mark", "cur"), app.warning))


def test_the_warning_of_block_0_is_for_couplings_of_gradients_only():
    warned = lambda app: any("keep it" in m.value for m in app.markdown)  # noqa: E731
    app = open_app(m="16")
    assert warned(app)
    app.selectbox(key="estimator").select("hybrid").run()
    assert not warned(app)


def test_hostile_links_are_cut_short():
    for query in (
        {"k": "9" * 5000},
        {"run": "x" * 300},
        {"m": "00001999"},
        {"cur": "0-" * 3000 + "1"},
        {"tray": "_".join(["1-2"] * 400)},
    ):
        app = open_app(**query)
        assert "states listed" in shown(app) and len(app.session_state.tray) <= 1


def test_damaged_things_in_the_store_break_nothing_else():
    (folders.home() / "runs" / ("b" * 64)).mkdir(parents=True)
    (folders.home() / "runs" / ("b" * 64) / "run.json").write_text("{")
    (folders.home() / "matrices").mkdir()
    (folders.home() / "matrices" / ("a" * 64 + ".npz")).write_bytes(b"junk")
    app = open_app()
    assert (
        not app.error
        and "states listed" in shown(app)
        and app.selectbox(key="source").options == [load_run(p).name for p in folders.shipped_runs().values()]
    )


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
    assert any("proof: bound" in caption.value for caption in app.caption)
    (go,) = [b for b in app.button if b.label.startswith("Search on")]
    go.click().run()
    (job,) = jobs.list_jobs()
    assert job.kind == "solve" and not app.exception
    jobs.cancel(job.id)
    app.number_input(key="removed").set_value(2).run()
    assert not app.exception and not app.error and "✓ exact" in shown(app)


def test_what_the_job_found_replaces_the_bound():
    source = store_matrix(np.diag(np.sqrt(np.arange(2.0, 32.0))), "diagonal")
    request = solve.solve_request(source.key, "matrix", 15, 100, Constraints())
    job = jobs.start("solve", request)
    while (job := jobs.read(job.id)).active:
        time.sleep(0.05)
    assert job.status == "done", jobs.log_tail(job)
    found = solve.solved(job.result, source.matrix)
    direct = lowest_states(source.matrix, 15, 100)
    assert (
        found.exact
        and (found.x == direct.x).all()
        and found.lower_bound == direct.lower_bound
        and found.total == direct.total
    )
    assert found.curve == tuple(map(tuple, job.result["curve"]))
    before = {**job.result, "curve": [[0.3, 1.5, None]]}  # too few states were known by then
    assert solve.solved(before, source.matrix).curve == ((0.3, 1.5, np.inf),)
    del before["curve"]
    assert solve.solved(before, source.matrix).curve == ()
    assert "✓ exact" in shown(open_app(run=source.key[:8], m="15", k="100"))
    Path(job.result["out"]).write_bytes(b"rot")
    assert solve.solved(job.result, source.matrix) is None


def unfolded(app: AppTest, popover: str) -> AppTest:
    """With a popover open, whose controls are on the page then alone."""
    app.session_state[popover] = True
    return app.run()


def test_rules_restrict_every_state_and_are_in_the_link():
    app = open_app(m="3", keep="1, 6", remove="20", max_run="1")
    picked = app.session_state
    assert (picked.keep, picked.remove, picked.max_run) == ("1, 6", "20", "1") and "✓ exact" in shown(app)
    assert "".join(app.query_params["keep"]) == "1, 6"
    unfolded(app, "rules").text_input(key="groups").set_value("0-11: 1; 12-23: 2").run()
    assert not app.error and "".join(app.query_params["groups"]) == "0-11: 1; 12-23: 2"
    unfolded(app, "rules").text_input(key="keep").set_value("1-x").run()
    assert "1-x" in app.error[0].value.replace("\\", "")
    next(b for b in app.button if b.label == "Clear the rules").click().run()
    assert not app.error and app.session_state.keep == "" and "keep" not in app.query_params


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"keep": "0-21"}, "are to go"),
        ({"groups": "0-3"}, "write blocks, a colon"),
        ({"max_run": "0"}, "at least 1"),
        ({"keep": "3", "remove": "3"}, "choose one"),
    ],
)
def test_rules_that_cannot_hold_are_one_sentence(rules, says):
    app = open_app(m="5", **rules)
    assert says in app.error[0].value.replace("\\", "") and "Clear the rules" in [b.label for b in app.button]


def shown_ground(app: AppTest) -> str:
    """The energy of the ground state as the page writes it."""
    return re.search(r"<span>E₀</span><b>(.*?)</b>", shown(app))[1]


def ground(mix: dict | None, estimator: str = "h0", removed: int = 8) -> str:
    found = lowest_states(couplings(load_run(folders.DEMO_RUN), estimator, mix), removed, 2600)
    return with_power(found.energies[0], exponent(found.energies))


def test_a_slider_of_the_domain_mix_solves_again_in_place():
    app = open_app()
    assert shown_ground(app) == ground(None) and "mix" not in app.query_params and "mix:" not in shown(app)
    sliders = {s.label.split(" · ")[0]: s for s in app.slider}
    assert list(sliders) == load_run(folders.DEMO_RUN).meta["texts"]["domains"] and sum(
        s.value for s in sliders.values()
    ) in range(98, 103)
    mix = {name: 90 if name == "story" else s.value for name, s in sliders.items()}
    sliders["story"].set_value(90).run()
    assert not app.exception and not app.error and shown_ground(app) == ground(mix) != ground(None)
    assert "story:90" in "".join(app.query_params["mix"]) and app.session_state.mix == mix
    assert "mix: story 49 %" in shown(app) and "✓ exact" in shown(app)
    link = "".join(app.query_params["mix"])
    again = open_app(mix=link)  # the link restores it
    assert again.session_state.mix == mix and shown_ground(again) == ground(mix) and not again.warning
    assert next(s for s in again.slider if s.label.startswith("story")).value == 90
    for estimator in ("h1", "hybrid"):
        app.selectbox(key="estimator").select(estimator).run()
        assert shown_ground(app) == ground(mix, estimator) != ground(None, estimator)
    app.selectbox(key="estimator").select("h0").run()
    next(b for b in app.button if b.label == "As sampled").click().run()
    assert (
        shown_ground(app) == ground(None) and "mix" not in app.query_params and app.session_state.mix is None
    )
    app.slider(key="mix-6").set_value(50).run()
    app.slider(key="mix-6").set_value(4).run()  # put back by hand
    assert app.session_state.mix is None


def test_a_link_with_two_domains_gives_the_others_nothing():
    app = open_app(mix="story:60,memory:40", m="6")
    assert shown_ground(app) == ground(
        {"story": 60, "memory": 40}, removed=6
    ) and "mix: story 60 %, memory 40 %" in shown(app)
    assert sorted(s.value for s in app.slider) == [0, 0, 0, 0, 0, 40, 60]
    app.switch_page("pages/compare.py").run().switch_page("pages/explore.py").run()  # it outlives a page
    assert "".join(app.query_params["mix"]) == "story:60,memory:40" and shown_ground(app) == ground(
        {"story": 60, "memory": 40}, removed=6
    )


def drawn(app: AppTest) -> dict:
    """What the lens is given."""
    (component,) = app.get("bidi_component")
    return json.loads(component.proto.json or component.proto.mixed.json)["landscape"]


def test_the_lens_resamples_with_the_mix_and_marks_the_misjudged_block():
    run, mix = load_run(folders.DEMO_RUN), {"story": 60, "memory": 40}
    H = couplings(run, "h0", mix)
    found = landscape(H, lowest_states(H, 8, 100))
    data = drawn(open_app(mix="story:60,memory:40", k="100"))
    assert (
        data["ranks"]
        == rank_intervals(run.rows.A, found, mix_weights(run, mix))
        != rank_intervals(run.rows.A, found)
    )
    assert list(data["warnings"]) == ["0"] and "6.40 nats" in data["warnings"]["0"]
    assert drawn(open_app(mix="story:60,memory:40", e="hybrid", k="100"))["ranks"] == []
    assert drawn(open_app(k="100"))["version"] != data["version"]


def test_by_branch_the_lens_and_the_rules_speak_of_units():
    app = open_app(by="branch", m="6", k="100", keep="3f", mark="theirs:1-2-3a", tray="1-2a-3f-9-11")
    data, landscape_ = lens_data(app), drawn(app)
    assert landscape_["names"][7] == "3f" and landscape_["word"] == "unit" and landscape_["keep"] == [7]
    assert data["marks"][0]["reason"].startswith("removes 5 units, and the listed states 6")
    assert data["tray"][0]["removed"] == [2, 3, 4, 7, 18, 19, 22, 23]
    assert {"Units that stay", "Units that go"} <= {
        field.label for field in unfolded(app, "rules").text_input
    }
    assert any(box.label == "Remove M of 48" for box in app.number_input)


def test_a_mix_of_nothing_is_one_sentence_with_a_way_back():
    app = open_app()
    for k in range(7):
        app.slider(key=f"mix-{k}").set_value(0)
    app.run()
    assert "all 0" in app.error[0].value.replace("\\", "") and not app.exception
    couplings_page = app.switch_page("pages/couplings.py").run()
    assert "all 0" in couplings_page.error[0].value.replace("\\", "") and not couplings_page.exception
    app.switch_page("pages/explore.py").run()
    next(b for b in app.button if b.label == "Domains as sampled").click().run()
    assert not app.error and shown_ground(app) == ground(None)


def test_a_search_job_searches_the_mixed_couplings(monkeypatch):
    mix = {"story": 0.75, "memory": 0.25}
    key = load_run(folders.DEMO_RUN).key
    request = solve.solve_request(key, "h0", 8, 100, Constraints(), mix)
    assert "mix" not in solve.solve_request(key, "h0", 8, 100, Constraints())
    job = jobs.start("solve", request)
    while (job := jobs.read(job.id)).active:
        time.sleep(0.05)
    assert job.status == "done", jobs.log_tail(job)
    H, expected = couplings(load_run(folders.DEMO_RUN), "h0", mix), ground(mix)
    assert (solve.solved(job.result, H).x == lowest_states(H, 8, 100).x).all()
    from core.spectrum import lowest

    # another spelling of the mix finds the job, and solves nothing
    monkeypatch.setattr(lowest, "lowest_states", None)
    st.cache_resource.clear()
    assert shown_ground(open_app(mix="story:75,memory:25", k="100")) == expected
    page = AppTest.from_file(APP, default_timeout=300).run().switch_page("pages/jobs.py").run()
    assert "mix story 75 %, memory 25 %" in page.expander[0].label.replace("\\", "")


def test_without_domains_there_is_no_mix():
    source = store_matrix(np.eye(5) + 0.1, "mine")
    assert not open_app(run=source.key[:8]).slider
    app = open_app(run=source.key[:8], mix="story:1")
    assert "bare matrix" in app.warning[0].value.replace("\\", "") and app.session_state.mix is None
    mixed = open_app(mix="story:1")
    mixed.selectbox(key="source").select(source.key).run()  # another run: its own domains
    assert not mixed.exception and not mixed.error and "mix" not in mixed.query_params


def warned(app: AppTest) -> list[str]:
    return [m.value for m in app.markdown if "nats alone" in m.value]


def test_a_block_that_its_gradient_misjudges_is_named_where_listed_states_remove_it():
    assert not warned(open_app())  # the demo opens at an M where no listed state removes it
    app = open_app(m="16")
    (sentence,) = warned(app)
    assert sentence.startswith("Block 0, removed in 100 of the 100 lowest states, costs 6.40 nats alone")
    next(b for b in app.button if b.label == "Keep block 0").click().run()
    assert (
        not app.exception
        and app.session_state.keep == "0"
        and not warned(app)
        and "".join(app.query_params["keep"]) == "0"
    )
    app = open_app(m="16", keep="23")
    next(b for b in app.button if b.label == "Keep block 0").click().run()
    assert app.session_state.keep == "0, 23"
    assert not warned(open_app(m="16", remove="0"))


def test_without_any_run_the_page_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(folders, "SHIPPED_RUNS", {"demo": tmp_path / "none"})
    app = open_app()
    assert "No run is at hand" in app.error[0].value


def test_lens_data_is_what_the_states_are_worth():
    H = load_run(folders.DEMO_RUN).rows.A.astype(float)
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
    assert np.allclose(
        [t["diversity"] for t in tray],
        [1 - max(r[0, 1], r[0, 2]), 1 - max(r[0, 1], r[1, 2]), 1 - max(r[0, 2], r[1, 2])],
    )
    assert tray_data(found, []) == [] and "50 of 735" in proof(found.spectrum, 0)


def test_no_state_in_time_is_said_and_can_be_left(monkeypatch):
    from core.spectrum import lowest

    honest = lowest.lowest_states

    def none_in_time(*args, **options):
        found = honest(*args, **options)
        return (
            replace(found, x=found.x[:0], energies=found.energies[:0], exact=False)
            if options.get("time_limit")
            else found
        )

    monkeypatch.setattr(lowest, "lowest_states", none_in_time)
    app = open_app(m="3", max_run="1", k="100")
    assert "No state that fits the rules" in app.info[0].value and not app.exception
    monkeypatch.setattr(lowest, "lowest_states", honest)
    next(b for b in app.button if b.label == "Clear the rules").click().run()
    assert "✓ exact" in shown(app)


def test_damaged_or_removed_jobs_break_no_page():
    folder = folders.home() / "jobs" / "0123456789abcdef"
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


def lens_data(app: AppTest) -> dict:
    (component,) = app.get("bidi_component")
    return json.loads(component.proto.json or component.proto.mixed.json)


def test_marks_of_a_link_stand_where_the_library_places_them():
    listed = lowest_states(couplings(load_run(folders.DEMO_RUN)), 8, 100)
    third = listed.removed[3]
    app = open_app(k="100", mark=f"theirs:{'-'.join(map(str, third))}_:0-1-2-3-4-5-6-7_pair:4-5")
    marks = {tuple(mark["removed"]): mark for mark in lens_data(app)["marks"]}
    assert marks[third]["rank"] == 3 and marks[third]["label"] == "theirs" and marks[third]["own"]
    far = marks[(0, 1, 2, 3, 4, 5, 6, 7)]
    H = couplings(load_run(folders.DEMO_RUN))
    assert (
        far["rank"] is None
        and np.isclose(far["delta"], H[:8, :8].sum() - listed.energies[0])
        and far["label"] == far["hash"]
    )
    assert marks[(4, 5)]["delta"] is None and "removes 2 blocks" in marks[(4, 5)]["reason"]
    assert "".join(app.query_params["mark"]).startswith("theirs:")


def test_a_panel_alone_keeps_the_view_and_leaves_the_controls_out():
    app = open_app(panel="matrix", m="5", keep="1", fits="4.5 MB")
    assert not app.number_input and not app.selectbox and lens_data(app)["panel"] == "matrix"
    app.run()
    assert (
        app.session_state.removed == 5
        and app.session_state.keep == "1"
        and "".join(app.query_params["fits"]) == "4.5 MB"
    )
    assert lens_data(open_app(panel="nonsense"))["panel"] is None


def test_a_budget_restricts_every_listed_state_and_impossible_ones_are_one_sentence():
    app = open_app(m="8", fits="3.6 MB")
    model = load_run(folders.DEMO_RUN).meta["model"]
    assert not app.error and model["bytes"] - 8 * model["blocks"][0]["bytes"] <= 3.6e6
    for fits, says in (("3 MB", "raise the budget"), ("1 kB", "raise it"), ("soon", "is no limit")):
        app = open_app(m="8", fits=fits)
        assert says in app.error[0].value.replace("\\", "") and not app.exception, app.error[0].value
    source = store_matrix(np.eye(5) + 0.1, "mine")
    assert "bare matrix" in open_app(run=source.key[:8], fits="3 MB").error[0].value


@pytest.mark.parametrize("by", ["block", "branch"])
def test_m_left_free_follows_from_a_budget_everywhere(by):
    app = open_app(e="secant", by=by, m="free", fits="weights 80 %, kv 60 %", k="300")
    source = source_of(app.session_state.source)
    model, H = source.run.meta["model"], source.couplings("secant")
    rules = with_budget(model, read_budget("weights 80 %, kv 60 %"))
    listed = lowest_states(H, None, 300, constraints=rules)
    data = lens_data(app)
    sizes = np.frombuffer(base64.b64decode(data["landscape"]["sizes"]), "<u2")
    states = np.split(
        np.frombuffer(base64.b64decode(data["landscape"]["states"]), "<u2"), sizes.cumsum()[:-1]
    )
    assert [tuple(s.tolist()) for s in states] == listed.removed and data["landscape"]["removed"] is None
    assert len(set(sizes.tolist())) > 1  # of different M, in one list
    assert data["cursor"] == list(listed.removed[0]) and app.number_input(key="removed").value is None
    assert "".join(app.query_params["m"]) == "free" and not app.error and not app.warning
    cli, python = (data["snippets"][name] for name in ("cli", "python"))
    assert "--remove" not in cli and "lowest_states(H, None, 300, constraints=constraints)" in python
    # any state is compared, and picked states differ from those of other sizes
    app.session_state.picks, app.session_state.marks = ["pick"], {(0, 1): "two"}
    app.session_state.tray = [(2, 3, 4)]
    app.run()
    data = lens_data(app)
    assert len(data["tray"]) == 6 and all(pick["delta"] is not None for pick in data["tray"])
    assert data["marks"][0]["delta"] == pytest.approx(H[:2, :2].sum() - listed.energies[0])
    # a number is a number again, and no number asks for something that says how many
    app.number_input(key="removed").set_value(14).run()
    assert lens_data(app)["landscape"]["removed"] == 14 and "".join(app.query_params["m"]) == "14"
    app.number_input(key="removed").set_value(None).run()
    assert "".join(app.query_params["m"]) == "free"
    app.session_state.fits = ""
    app.run()
    assert app.error[0].value.startswith("Nothing says how much to remove") and not app.exception
    next(b for b in app.button if b.label == f"Remove {source.opening}").click().run()
    assert not app.error and app.session_state.removed == source.opening


def test_m_left_free_is_what_groups_remove_together():
    app = open_app(e="secant", by="branch", m="free", groups="attention: 4; FFN: 2", k="100")
    data = lens_data(app)["landscape"]
    assert data["removed"] == 6 and not app.error and app.session_state.removed is None
    app.switch_page("pages/couplings.py").run()
    assert not app.exception
    assert any(b.proto.label == "QUBO text for M = 6" for b in app.get("download_button"))


def test_far_more_than_a_budget_asks_for_is_said_with_ways_out():
    app = open_app(by="branch", m="free", fits="kv 60 %", k="100")
    (said,) = (m.value for m in app.markdown if "The rules need" in m.value)
    assert said.startswith("The rules need 10 of these 47 units to go; 37 more go because")
    (usual,) = (b for b in app.button if b.label == "Take secant")
    usual.click().run()
    assert app.session_state.estimator == "secant" and app.session_state.removed is None
    assert not any("The rules need" in m.value for m in app.markdown) and not app.exception
    app = open_app(by="branch", m="free", fits="kv 60 %", k="100")
    next(b for b in app.button if b.label == "Remove 10").click().run()
    assert app.session_state.removed == 10 and not any("The rules need" in m.value for m in app.markdown)


def test_a_picked_state_carries_its_reason_and_the_snippets_say_the_view():
    app = open_app(k="100", m="6")
    app.session_state.picks = ["pick"]
    app.run()
    tray = lens_data(app)["tray"]
    assert len(tray) == 5 and all(pick["reason"] for pick in tray) and len(app.session_state.tray) == 5
    snippets = lens_data(app)["snippets"]
    assert "--remove 6" in snippets["cli"] and "lowest_states(H, 6, 100)" in snippets["python"]


def test_one_per_basin_fills_the_tray_with_minima_that_are_not_in_it():
    app = open_app()
    for expected in (5, 10):
        app.session_state.picks = ["basins"]
        app.run()
        data = lens_data(app)
        picked, minimum = data["tray"], base64.b64decode(data["landscape"]["minimum"])
        assert len(picked) == expected and all(minimum[pick["rank"]] for pick in picked)
        assert all(pick["reason"].startswith("minimum of a valley of") for pick in picked)
    assert picked[0]["rank"] == 0


def test_uploaded_matrices_can_be_deleted():
    source = store_matrix(np.eye(5) + 0.1, "mine")
    app = open_app(run=source.key[:8])
    app.button(key=f"delete-{source.key}").click().run()
    assert (
        not app.exception
        and app.session_state.source == load_run(folders.DEMO_RUN).key
        and not list((folders.home() / "matrices").iterdir())
    )


def test_choices_of_other_methods_are_marked_at_their_m_only(monkeypatch):
    folder, listed = (
        str(folders.DEMO_RUN.absolute()),
        lowest_states(couplings(load_run(folders.DEMO_RUN)), 8, 100).removed,
    )
    done = SimpleNamespace(kind="peers", status="done", active=False, request={"run": folder, "remove": 8})
    done.result = {
        "methods": {
            "greedy": {"removed": listed[7]},
            "random": {"removed": listed[7]},
            "last blocks": {"removed": range(16, 24)},
        }
    }
    monkeypatch.setattr("core.jobs.job.list_jobs", lambda: [done])
    marks = {tuple(mark["removed"]): mark for mark in lens_data(open_app(k="100"))["marks"]}
    assert (
        marks[listed[7]]["label"] == "greedy, random"
        and marks[listed[7]]["rank"] == 7
        and not marks[listed[7]]["own"]
    )
    assert marks[tuple(range(16, 24))]["label"] == "last blocks" and len(marks) == 2
    assert lens_data(open_app(m="5"))["marks"] == []


def test_an_answer_to_the_lens_is_not_undone_by_an_address_that_is_older():
    picked = (1, 2, 3, 4, 5, 6, 7, 8)
    for answered, tray in ((True, [picked]), (False, [])):
        app = open_app(m="8")
        link = {name: "".join(values) for name, values in app.query_params.items()}
        for name, value in {
            "tray": [picked],
            "link": {**link, "tray": "1-2-3-4-5-6-7-8"},
            "from_lens": answered,
        }.items():
            app.session_state[name] = value
        app.run()
        assert app.session_state.tray == tray and ("tray" in app.query_params) == bool(tray)


def test_an_address_older_than_a_change_undoes_nothing_and_back_does():
    app = open_app()
    first = {name: "".join(values) for name, values in app.query_params.items()}
    app.number_input(key="removed").set_value(3).run()
    for name, value in first.items():  # a control is touched before the browser has the new address
        app.query_params[name] = value
    app.selectbox(key="count").select(100).run()
    assert (
        app.session_state.removed == 3
        and "".join(app.query_params["m"]) == "3"
        and "".join(app.query_params["k"]) == "100"
    )
    for name, value in first.items():  # nothing but the address has changed: Back
        app.query_params[name] = value
    app.run()
    assert (app.session_state.removed, app.session_state.count) == (8, 2600) and not app.exception


@pytest.mark.parametrize(
    ("look", "kept"),
    [
        ("density~spin~-1.2e-5:3.1e-5", True),
        ("spin", True),
        ("structure~kinds", True),
        ("tree.50.pearson~T10~spin", True),
        ("tree.all~Tnoise", True),
        ("tree.30.loss", True),
        ("tree~Tlist~0.1:0.2", True),
        ("tree.51", False),
        ("T12345", False),
        ("x" * 900, False),
        ("density~<b>", False),
    ],
)
def test_how_the_landscape_is_looked_at_comes_from_the_link_in_the_lens_s_words_only(look, kept):
    app = open_app(look=look)
    assert app.session_state.look == (look if kept else "") and ("look" in app.query_params) == kept
    # another landscape: a stretch of its energy axis is another
    app.number_input(key="removed").set_value(5).run()
    assert ":" not in app.session_state.look and app.session_state.look == (
        "~".join(part for part in look.split("~") if ":" not in part) if kept else ""
    )
