"""The Compare page without a browser."""

import csv
import io
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core import jobs
from core.calibration.calibrate import calibrate
from core.compare.comparison import compare, model_key
from core.energy.couplings import couplings
from core.energy.sources import store_matrix
from core.ising.units import whole
from core.jobs.files import folder_of, id_of, write_whole
from core.model.load import load_model
from core.spectrum.lowest import lowest_states
from core.store import named_models
from core.store.folders import DEMO_RUN, SHIPPED_RUNS
from core.store.results import Key, Results
from core.store.runs import keep_run, load_run, stored_run
from core.store.token_kl import packed, put_token_kl
from core.tasks.presets import asked
from core.tasks.short_prompts import PROMPTS
from core.texts import pack, read_texts
from pages.compare_parts.protocols import harness_csv
from pages.compare_parts.race import finding
from pages.compare_parts.searches import comparable
from pages.compare_parts.table import as_csv

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


def test_empty_it_shows_what_could_be_measured_and_two_clicks_fill_it():
    app = compare_page()
    (figure,) = app.get("plotly_chart")
    assert "lowest energy" in figure.proto.spec and "5 low states that differ" in captions(app)
    press(app, "Pick these 5")
    picked = app.session_state.tray
    assert len(picked) == 5 == len(set(picked)) and {len(s) for s in picked} == {8}
    assert picked[0] == lowest_states(couplings(load_run(DEMO_RUN), "pairs"), 8, 1).removed[0]
    assert "the states to measure" in captions(app) and "Measure 5 picked states" in labels_of(app)
    assert "Pick these 5" not in labels_of(app)
    app = compare_page(m="5", tray="1-2-3")  # of another M: what is drawn is of this one
    press(app, "Take the 20 lowest")
    assert "Measure 20 lowest states" in labels_of(app) and "the states to measure" in captions(app)


def captions(app: AppTest) -> str:
    return " ".join(c.value for c in app.caption)


def labels_of(app: AppTest) -> list[str]:
    return [b.label for b in app.button]


def test_texts_that_moved_are_asked_for_and_remembered(tiny, text_file, tmp_path):
    file = tmp_path / "play.txt"
    file.write_text(text_file.read_text())
    loaded = load_model(str(tiny["llama"]))
    request = jobs.request_of(str(tiny["llama"]), str(file), samples=6, length=24)
    run = calibrate(loaded, pack(read_texts(file), loaded.tokenizer, "calibrate", 24, 6), request=request)
    keep_run(run)
    app = compare_page(run=run.key[:8])
    assert "texts_now" not in app.session_state
    new, other = file.rename(tmp_path / "elsewhere.txt"), tmp_path / "other.txt"
    other.write_text("something else")
    app.run()
    assert any("not where they were" in w.value for w in app.warning)
    app.text_input(key="texts_now").set_value(str(other)).run()
    assert "what is given has" in app.error[0].value.replace("\\", "")
    app.text_input(key="texts_now").set_value(str(new)).run()
    assert not app.error and not any("not where they were" in w.value for w in app.warning)
    assert stored_run(run.key).meta["request"]["texts"] == str(new)
    assert not app.exception


def test_empty_it_says_what_to_do():
    app = compare_page()
    labels = [b.label for b in app.button]
    assert (
        labels[0] == "Measure the original"
        and "Improve: learn the landscape" in labels
        and f"Ask the original {len(PROMPTS)} short prompts" in labels
    )
    assert "Measure some states" in shown(app) and "original" in shown(app)


def test_the_tray_comes_along_and_measurements_are_shown():
    for state, loss in (((), 1.0), ((1, 2), 1.5)):
        Results().put(Key(MODEL, state, "t", "report", "loss"), {0: loss, 1: loss + 0.1})
    app = compare_page(m="2", tray="1-2")
    assert app.session_state.tray == [(1, 2)]
    assert "Measure 1 picked state" in [b.label for b in app.button]
    assert "+0.5000 ± 0.0000" in shown(app) and "1, 2" in shown(app)


def test_where_m_is_left_free_the_page_is_about_that_of_the_lowest_state(monkeypatch):
    app = compare_page(by="branch", m="free", fits="kv 60 %", e="secant")
    assert any("M = 11 ·" in h.proto.body for h in app.get("html"))
    app.segmented_control(key="scope").set_value("Lowest states").run()
    assert not app.exception and not app.warning
    (label,) = (b.label for b in app.button if b.label.startswith("Race"))
    assert 2 <= int(label.split()[2]) < 20  # those of one M
    asked = []
    monkeypatch.setattr(jobs, "start", lambda kind, request: asked.append((kind, request["remove"])))
    app.button(key="start-learn").click().run()
    assert asked == [("learn", 11)] and not app.exception


def test_measured_kl_stands_beside_the_loss_and_in_the_csv():
    for state, kl in (((), 0.0), ((1, 2), 0.25)):
        key = Key(MODEL, state, "t", "report", "loss")
        Results().put(key, {0: 1.0 + kl, 1: 1.1 + kl})
        Results().put(replace(key, metric="kl"), {0: kl, 1: kl * 1.2})
        Results().put(replace(key, metric="same"), {0: 1 - kl, 1: 1 - kl})
        put_token_kl(Results(), key, {0: packed(np.array([kl] * 9)), 1: packed(np.array([8 * kl] * 9))})
    app = compare_page(m="2", tray="1-2")
    assert "0.2750 [0.2260 0.3240]" in shown(app) and "75.0 % [75.0 75.0]" in shown(app)
    rows = compare(load_run(DEMO_RUN), [(1, 2)], Results())
    tokens = rows[1].distance
    assert abs(tokens.median / 0.25 - 1) < 0.042 and f"{tokens.median:.2g} / {tokens.p99:.2g}" in shown(app)
    (_, row) = csv.DictReader(io.StringIO(as_csv(rows, whole(24), {})))
    assert float(row["kl"]) == 0.275 and float(row["kl_high"]) == pytest.approx(0.324)
    assert float(row["same"]) == 0.75 and float(row["kl_99"]) == pytest.approx(2, rel=0.042)


def test_the_view_of_explore_outlives_the_page():
    app = compare_page(m="5", e="h1", k="300", tray="1-2-3-4-5")
    app.switch_page("pages/explore.py").run()
    state = app.session_state
    assert (state.removed, state.estimator, state.count, state.tray) == (5, "h1", 300, [(1, 2, 3, 4, 5)])


def test_without_the_weights_the_landscape_and_its_measurements_are_there_and_a_sentence_says_what_is_not(
    monkeypatch,
):
    monkeypatch.setattr(named_models, "_PACKAGE", "no_such_package_at_all")
    app = compare_page(run=load_run(SHIPPED_RUNS["smollm2"]).key[:8], m="6")
    assert "make smollm2" in app.info[0].value and "need the weights" in app.info[0].value
    assert "measured states" in shown(app) and "Measuring takes" not in captions(app)


def test_a_bare_matrix_has_nothing_to_measure():
    source = store_matrix([[1.0, 0.2, 0], [0.2, 1, 0], [0, 0, 1]], "mine")
    assert "there is no model to measure" in compare_page(run=source.key[:8]).info[0].value


def finished(app: AppTest, kind: str) -> jobs.Job:
    """The job of this kind at its end, and the page as it is then."""
    deadline = time.monotonic() + 300
    while (job := next(j for j in jobs.list_jobs() if j.kind == kind)).active:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert job.status == "done", (job.error, jobs.log_tail(job))
    app.run()
    assert not app.exception, app.exception
    return job


def press(app: AppTest, label: str) -> None:
    (button,) = [b for b in app.button if b.label.startswith(label)]
    button.click().run()
    assert not app.exception, app.exception


def kept_run(tiny, text_file):
    """A run of the tiny model, in the store."""
    model = str(tiny["llama"])
    loaded = load_model(model)
    request = jobs.request_of(model, str(text_file), samples=24, length=32, sampled=True)
    run = calibrate(
        loaded,
        pack(read_texts(text_file), loaded.tokenizer, "calibrate", 32, 24),
        sampled=True,
        request=request,
    )
    keep_run(run)
    return run


def test_from_the_lowest_states_to_a_learned_landscape_and_other_methods(tiny, text_file):
    app = compare_page(run=kept_run(tiny, text_file).key[:8], m="2")
    app.selectbox(key="sequences").set_value(64)
    app.segmented_control(key="scope").set_value("Lowest states").run()
    press(app, "Measure 15 lowest states")
    assert len(finished(app, "benchmark").result["states"]) == 16
    assert "15 measured states" in shown(app) and shown(app).count('class="mini"') >= 16
    assert "KL, nats a token" in shown(app) and "same first choice" in shown(app)
    assert app.session_state.benchmark and "KL(original || state)" in captions(app)

    state, app.session_state.budget = app.session_state, 30
    app.run()
    press(app, "Improve")
    learned = finished(app, "learn").result
    press(app, "What other methods find")
    others = finished(app, "peers").result
    assert set(others["methods"]) == {
        "greedy",
        "evolutionary",
        "random",
        "block influence",
        "angular window",
        "taylor",
        "perplexity",
        "magnitude",
        "best window",
    }
    assert "learned landscape" in shown(app) and "block influence" in shown(app)
    report = learned["report"]
    assert f"{report['kl']['mean']:.4f} [{report['kl']['low']:.4f}" in shown(app)
    app.segmented_control(key="ruler").set_value("kl").run()
    assert "learned landscape" not in shown(app) and "Best KL found" in shown(app)  # of losses
    press(app, "Improve")
    by_kl = finished(app, "learn")
    assert by_kl.request["ruler"] == "kl" and by_kl.result["original"] == 0
    assert f"{by_kl.result['best']['kl']:.4f}" in shown(app) and "KL when choosing" in shown(app)
    press(app, "Show the learned landscape")
    assert state.estimator.startswith("learned-2-kl-") and "learned at M = 2 by KL" in shown(app)
    app.segmented_control(key="ruler").set_value("loss").run()
    assert "block influence" in shown(app) and "loss when choosing" in shown(app)
    press(app, "Show the learned landscape")
    assert state.estimator.startswith("learned-2-") and "learned at M = 2" in shown(app)
    assert "by KL" not in shown(app) and "kl" not in state.estimator
    app.switch_page("pages/explore.py").run()
    assert not app.exception and state.estimator.startswith("learned-2-")
    app.switch_page("pages/couplings.py").run()
    assert not app.exception and any("Posterior standard deviation" in c.value for c in app.caption)
    app.switch_page("pages/compare.py").run()

    app.segmented_control(key="scope").set_value("Tray").run()
    (add,) = [b for b in app.button if b.label == "Add these states to the tray"]
    add.click().run()
    assert tuple(learned["best"]["removed"]) in state.tray


def test_the_lowest_states_race_and_the_ties_are_named(tiny, text_file):
    app = compare_page(run=kept_run(tiny, text_file).key[:8], m="2")
    assert not any(label.startswith("Race") for label in labels_of(app))  # of what is picked all is measured
    app.segmented_control(key="scope").set_value("Lowest states").run()
    assert "in at most about" in captions(app)
    press(app, "Race the 15 lowest")
    found = finished(app, "race").result
    ties, left = found["ties"], found["dropped"]
    assert len(ties) + len(left) == 15 and f"Race of 15 states</b><span>{finding(found)}" in shown(app)
    told = f"Cost {found['forwards']:.1f} forwards; measuring all would have cost"
    assert f"{told} {found['forwards_of_all']:.1f}." in shown(app)
    assert all(f"left at {racer['items']}<" in shown(app) for racer in left)
    app.segmented_control(key="ruler").set_value("kl").run()
    assert "Race of 15" not in shown(app)  # its losses are no KL
    press(app, "Race the 15 lowest by KL")
    by_kl = finished(app, "race").result
    assert "Race of 15 states by KL</b>" in shown(app) and "above the winner, nats of KL" in shown(app)
    assert f"{by_kl['ties'][0]['report']['kl']['mean']:.4f} [" in shown(app)
    app.segmented_control(key="ruler").set_value("loss").run()
    press(app, f"Add the {len(ties)} ties" if len(ties) > 1 else "Add the winner")
    assert app.session_state.tray == [tuple(racer["removed"]) for racer in ties]


def test_what_a_race_has_found_is_a_sentence():
    about = {"decided_at": 40, "sequences": 256}
    assert finding({"ties": [{}, {}], **about}) == "2 states tie: 256 sequences do not tell them apart."
    assert "after 40 of 256" in finding({"ties": [{}], **about})


def test_the_tray_and_the_original_are_asked_the_prompts(tiny, text_file):
    app = compare_page(run=kept_run(tiny, text_file).key[:8], m="2", tray="1-4_2-3")
    press(app, "Ask the original and")
    asked = finished(app, "behaviour").result
    assert (
        app.session_state.tray == [(1, 4), (2, 3)] and len(asked["states"]) == 3 and "verdict" in shown(app)
    )


def test_a_prompt_is_answered_by_both_and_the_chat_goes_on(tiny, text_file):
    app = compare_page(run=kept_run(tiny, text_file).key[:8], m="2", tray="1-4")
    assert any("About 24 s and" in c.value for c in app.caption)  # told before it is begun

    def ask(text: str) -> dict:
        (field,) = [field for field in app.text_input if field.label == "Ask both"]
        assert field.value == ("What is the capital of France?" if not jobs.list_jobs() else "")
        field.set_value(text)
        (button,) = [b for b in app.button if b.label == "Ask"]
        button.click().run()
        return finished(app, "chat").result

    app.number_input(key="chat-tokens-1-4").set_value(5)
    first = ask("<b>hello</b>")
    assert "&lt;b&gt;hello&lt;/b&gt;" in shown(app) and "without 1, 4" in shown(app)
    assert shown(app).count("tokens, ") == 2 and 0 < first["pruned"]["tokens"] <= 5
    assert any("no template" in c.value for c in app.caption)
    ask("again")
    job = next(job for job in jobs.list_jobs() if job.request["original"][-1][1] == "again")
    assert job.request["pruned"][:2] == [["user", "<b>hello</b>"], ["assistant", first["pruned"]["text"]]]
    assert shown(app).count('class="turn"') == 2

    app.text_input(key="chat-text-1-4-2").set_value("x" * 200)  # the model has 96 positions
    (button,) = [b for b in app.button if b.label == "Ask"]
    button.click().run()
    while (job := jobs.list_jobs()[0]).active:
        time.sleep(0.1)
    app.run()
    assert job.status == "failed" and "begin a new one" in app.error[0].value
    press(app, "Begin anew")
    assert 'class="turn"' not in shown(app)


def test_numbers_of_other_tools_are_marked_as_such(tmp_path):
    from core.compare import other_tools

    (tmp_path / "theirs.csv").write_text('removed,mmlu\n"1,2",0.41\n')
    path = tmp_path / "theirs.csv"
    other_tools.keep(MODEL, path, other_tools.read_results(path))
    app = compare_page(m="2")
    assert "imported value" in shown(app) and "theirs.csv" in shown(app) and "0.41" in shown(app)
    (add,) = [b for b in app.button if b.label == "Add these states to the tray"]
    add.click().run()
    assert app.session_state.tray == [(1, 2)]


def test_scores_of_another_tool_are_kept_once_the_blocks_are_said():
    """An upload alone, before its blocks are typed, had been kept as the original's."""
    from core.compare import other_tools

    content = b'{"results": {"piqa": {"acc,none": 0.5}}}'
    app = compare_page(m="2")
    (field,) = [f for f in app.get("file_uploader") if f.label == "Results of another tool"]
    field.set_value(("results.json", content, "application/json")).run()
    assert other_tools.kept(MODEL) == []
    app.text_input(key="imported_removed").set_value("3,7").run()
    assert other_tools.kept(MODEL) == []
    press(app, "Keep its scores")
    assert [row.removed for row in other_tools.kept(MODEL)] == [(3, 7)] and "0.5" in shown(app)
    app.text_input(key="imported_removed").set_value("99").run()
    press(app, "Keep its scores")
    assert len(other_tools.kept(MODEL)) == 1 and "99" in app.error[0].value


def ended_job(kind: str, request: dict, result: dict) -> None:
    """A finished job, as its worker leaves it."""
    folder = folder_of(id_of(kind, request))
    folder.mkdir(parents=True)
    write_whole(folder / "request.json", {"kind": kind, "request": request, "t": 1.0})
    write_whole(folder / "result.json", {"status": "done", "result": result, "t": 2.0})


def stored_benchmarks(states: list[list[int]], rows: list[dict]) -> None:
    """A finished job of the protocol that the tab opens with, its rows as an earlier version wrote them."""
    protocol, reads = asked((), "bundled", None)
    about = {"states": states, "preset": protocol.to_json(), "limit": 100, "batch": 16}
    request = jobs.request_for(load_run(DEMO_RUN), reads, **about)
    found = [{"removed": s, "tasks": r, "groups": {}} for s, r in zip(states, rows, strict=True)]
    result = {"preset": about["preset"], "harness": "0.4.13", "limit": 100, "states": found}
    ended_job("harness", request, result)


def test_searches_and_losses_of_one_sequence_are_told_without_an_error():
    """The command line may ask for one, and such a mean has no standard error."""
    run, results = load_run(DEMO_RUN), Results()
    for removed, loss in (((), 3.0), ((1, 2), 3.5), ((3, 4), 3.25)):
        results.put(Key(MODEL, removed, "texts", "report", "loss"), {0: loss})
    alone = {"low": None, "high": None, "se": None, "mean": 0.5}
    report = {"original": 3.0, "loss": 3.5, "loss_se": None, "increase": 0.5, "increase_se": None}
    report |= {"kl": {**alone, "median": None, "p99": None}, "same": alone}
    found = {"removed": [1, 2], "forwards": 2.0, "loss": 3.5, "report": report}
    racer = {**found, "items": 1, "above": 0.0, "low": None, "high": None}
    about = {"remove": 2, "sequences": 1}
    request = lambda **more: jobs.request_on(run, DEMO_RUN.absolute(), **about, **more)  # noqa: E731
    searched = {"original": 3.0, "forwards": 2.0, "budget": 5.0, "sequences": 1}
    methods = {
        **searched,
        "methods": {"greedy": found},
        "curves": {"greedy": [[2.0, 3.5]], "evolutionary": []},
    }
    ended_job("peers", request(budget=5.0, seed=0), methods)
    learned = {**searched, "best": found, "curve": [[2.0, 3.5]], "states": 1, "report": report}
    ended_job("learn", request(budget=5.0, seed=0), learned)
    race = {**searched, "ties": [racer, racer], "dropped": [], "delta": 0.05, "decided_at": 1}
    ended_job("race", request(states=[[1, 2], [3, 4]], delta=0.05), {**race, "forwards_of_all": 3.0})
    app = compare_page(m="2", tray="1-2_3-4")
    assert "<td>+0.5000</td>" in shown(app) and "<td>50.0 %</td>" in shown(app)
    assert "5.0 forwards do not pay for the first states of: evolutionary." in captions(app)
    press(app, "Show the learned landscape")  # whose file is not there: nothing happens
    assert "Race of 2 states" in shown(app) and "<td>3.5000</td>" in shown(app)
    assert "± nan" not in shown(app)
    rows = compare(run, [(1, 2)], results)
    assert "nan" not in as_csv(rows, whole(24), {})


def test_searches_on_other_numbers_of_sequences_do_not_stand_side_by_side():
    job = lambda kind, count: SimpleNamespace(kind=kind, request={"sequences": count})  # noqa: E731
    few, many, race, old = job("learn", 64), job("peers", 256), job("race", 8), job("peers", 64)
    assert comparable([race, few, many, old]) == [race, few, old]
    assert comparable([many, few, old]) == [many] and comparable([race]) == [race] and comparable([]) == []


def test_scores_of_before_carry_their_metrics_name_and_lower_perplexity_is_first():
    def row(perplexity: float) -> dict:
        kept = {"metric": "perplexity,none", "se": 0.1, "chance": None, "n": 40, "shots": 0, "version": "1"}
        return {"lambada": {"accuracy": perplexity, **kept, "metrics": {"perplexity,none": perplexity}}}

    stored_benchmarks([[], [1, 2], [3, 4]], [row(20.0), row(50.0), row(30.0)])
    app = compare_page(m="2", tray="1-2_3-4")
    assert "lambada perplexity, lower is better (n = 40)" in shown(app) and "50 [41.1 60.83]" in shown(app)
    table = lambda: next(h.proto.body for h in app.get("html") if "harness" in h.proto.body)  # noqa: E731
    assert table().index("1, 2") < table().index("3, 4")
    app.selectbox(key="harness_order").set_value("lambada").run()
    assert table().index("original") < table().index("3, 4") < table().index("1, 2")


def test_the_quick_protocol_asks_for_the_files_that_are_missing(tmp_path):
    app = compare_page(m="2")
    app.selectbox(key="preset").set_value("quick-real").run()
    app.text_input(key="tasks_data").set_value(str(tmp_path)).run()
    asking = " ".join(info.value.replace("\\", "") for info in app.info)
    assert "lacks arc_easy.jsonl, arc_challenge.jsonl, piqa.jsonl" in asking
    for name in ("arc_easy", "arc_challenge", "piqa", "winogrande", "openbookqa"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n")
    app.run()
    assert not app.exception and any("200 items each, drawn with seed 0" in c.value for c in app.caption)
    assert "start-harness" in [button.key for button in app.button]


def test_the_benchmarks_csv_names_every_metric():
    row = {
        **{"metric": "acc_norm,none", "value": 0.5, "se": 0.1, "low": 0.3, "high": 0.7, "n": 20, "shots": 0},
        **{"higher_is_better": True, "chance": 0.5, "version": "1"},
        "metrics": {"acc,none": 0.4, "acc_norm,none": 0.5},
    }
    states = [{"removed": [3, 4], "tasks": {"piqa": row}}]
    text = harness_csv({"states": states, "preset": {"name": "own"}, "harness": "0.4.13"})
    acc, norm = csv.DictReader(io.StringIO(text))
    assert (acc["metric"], acc["value"], acc["low"]) == ("acc", "0.4", "")
    assert norm == {
        **{"removed": "3,4", "task": "piqa", "metric": "acc_norm", "value": "0.5", "se": "0.1", "low": "0.3"},
        **{"high": "0.7", "higher_is_better": "True", "n": "20", "shots": "0", "protocol": "own"},
        "harness": "0.4.13",
    }
