"""A model that loops, stops nowhere or changes language must look broken, and a whole one must not."""

from types import SimpleNamespace

import pytest

from core.job_kinds import behaviour as job
from core.measure.behaviour import measure
from core.model.load import load_model
from core.store.results import Results
from core.store.runs import canonical_key
from core.tasks.short_prompts import PROMPTS


def test_without_block_0_the_demo_looks_broken_and_each_prompt_is_answered_once(monkeypatch):
    loaded = load_model("demo")
    done = measure(loaded, [(0,), (5, 9, 20)], tokens=16)
    whole, broken, light = done["states"]
    assert whole["removed"] == [] and whole["broken"] == [] and whole["checks"]["sound"]["difference"] == 0
    assert (
        "sound" in broken["broken"] and broken["checks"]["ends"]["worse"] > broken["checks"]["ends"]["better"]
    )
    assert light["broken"] == []
    assert all(len(row["answers"]) == len(done["prompts"]) for row in done["states"])
    kept = {
        m.key.removed: m
        for m in Results().of_model(canonical_key(loaded.digest()))
        if m.key.metric == "behaviour:ends"
    }
    assert kept[0,].minus(kept[()])[0] == pytest.approx(broken["checks"]["ends"]["difference"])
    monkeypatch.setattr(loaded.model, "generate", None)
    assert measure(loaded, [(0,), (5, 9, 20)], tokens=16) == done


def test_a_stopped_check_goes_on_where_it_was(tiny, monkeypatch):
    loaded, asked = load_model(str(tiny["llama"])), []
    plain = loaded.model.generate
    monkeypatch.setattr(loaded.model, "generate", lambda *a, **o: asked.append(1) or plain(*a, **o))

    class Stop(Exception):
        pass

    def stop(done, total, message):
        assert total == 2 * len(PROMPTS)
        if done == len(PROMPTS) + 9:
            raise Stop

    with pytest.raises(Stop):
        measure(loaded, [(2,)], stop, tokens=3)
    fit = [len(p.text.encode()) < 95 for p in PROMPTS]  # one token a byte, and 96 positions
    assert len(asked) == sum(fit) + sum(fit[:9])
    measure(loaded, [(2,)], tokens=3)
    assert len(asked) == 2 * sum(fit)
    monkeypatch.setattr(loaded, "arithmetic", lambda: {"dtype": "bfloat16", "device": "cuda"})
    measure(loaded, [], tokens=3)
    assert len(asked) == 3 * sum(fit)


def test_the_job_checks_the_original_and_every_state_of_the_request(tiny):
    reports = []
    progress = SimpleNamespace(report=lambda *report: reports.append(report))
    done = job.run({"model": str(tiny["llama"]), "states": [[2], [1, 3]], "tokens": 2}, progress)
    assert [row["removed"] for row in done["states"]] == [[], [2], [1, 3]]
    assert reports[0][:2] == (0, 1) and reports[-1][:2] == (3 * len(PROMPTS),) * 2
