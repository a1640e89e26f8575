"""The Prune panel: parts of blocks are asked for a form, whole blocks are not."""

from streamlit.testing.v1 import AppTest

from core import jobs
from core.forms.names import PARTIAL
from pages.shared.exports import shortened


def _panel(state: str):
    from core.store.named_models import place_of
    from core.store.runs import load_run
    from pages.shared.exports import prune_panel

    run = load_run(place_of("demo").parent / "run").seen("branch")
    prune_panel(run, run.units.parse(state))


def test_parts_of_blocks_have_a_form(no_worker):
    app = AppTest.from_function(_panel, args=("3,12a,13f",), default_timeout=300).run()
    assert not app.exception and app.selectbox[0].options == [form.title for form in PARTIAL.values()]
    app.selectbox[0].select("shapes").run()
    assert "saves no bytes" in app.caption[0].value
    app.button[0].click().run()
    assert not app.exception and len(no_worker) == 1
    (job,) = jobs.list_jobs()
    assert job.request["written"] == "shapes" and job.request["blocks"] == [3, "12a", "13f"]
    assert job.request["out"].endswith("-without-3-12a-13f-shapes")


def test_a_name_that_is_cut_still_tells_states_apart():
    units = "-".join(f"{b}a" for b in range(40))
    names = [shortened(f"model-without-{units}-{last}", 120) for last in ("41a", "42a")]
    assert len(set(names)) == 2 and [len(name) for name in names] == [120, 120]
    assert shortened("model-without-3-7", 120) == "model-without-3-7"


def test_whole_blocks_have_none(no_worker):
    app = AppTest.from_function(_panel, args=("3,12",), default_timeout=300).run()
    assert not app.exception and not app.selectbox
