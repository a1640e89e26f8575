"""The Heal page: what it asks for, and how it refuses."""

from pathlib import Path

from streamlit.testing.v1 import AppTest

from core import jobs
from core.heal.settings import METHODS

APP = str(Path(__file__).parents[2] / "app.py")


def opened() -> AppTest:
    return AppTest.from_file(APP, default_timeout=60).run().switch_page("pages/heal.py").run()


def test_a_typed_state_becomes_a_job(no_worker, monkeypatch):
    monkeypatch.setenv("BLOCKSCAPE_OPENS", "demo")
    app = opened()
    assert not app.exception and app.selectbox(key="heal_method").options == [
        m.title for m in METHODS.values()
    ]
    app.selectbox(key="heal_state").select("typed").run()
    assert "type the blocks" in app.info[0].value and not app.button
    app.text_input(key="heal_typed").input("3,7-9").run()
    assert not app.exception
    told = app.caption[-1].value
    assert told.startswith("About ") and "of memory" in told and "of disk" in told
    app.selectbox(key="heal_method").select("lora").run()
    app.number_input(key="heal_minutes").set_value(2.0).run()
    app.button(key="heal_start").click().run()
    assert not app.exception and len(no_worker) == 1
    (job,) = jobs.list_jobs()
    assert job.kind == "heal" and job.request["blocks"] == [3, 7, 8, 9] and job.request["tasks"]
    assert job.request["settings"] == {"method": "lora", "minutes": 2.0}
    assert "without-3-7-8-9-healed-lora" in job.request["out"]


def test_what_trains_nothing_has_no_budget(no_worker):
    app = opened()
    app.selectbox(key="heal_state").select("typed").run()
    app.text_input(key="heal_typed").input("5").run()
    app.selectbox(key="heal_method").select("linear").run()
    assert not app.exception and not app.number_input
    app.button(key="heal_start").click().run()
    assert jobs.list_jobs()[0].request["settings"] == {"method": "linear"}


def test_blocks_that_are_not_there_are_refused():
    app = opened()
    app.selectbox(key="heal_state").select("typed").run()
    app.text_input(key="heal_typed").input("3,99").run()
    assert app.error and not app.exception and not app.button
