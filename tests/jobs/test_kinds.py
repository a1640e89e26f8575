"""The registry of job kinds: every entry has its module, every module its entry, and a request its words."""

import importlib
import inspect
import json
from pathlib import Path

import pytest

from core import job_kinds, jobs
from core.forms.record import PROVENANCE

MODULES = {p.stem for p in Path(job_kinds.__path__[0]).glob("*.py")} - {"__init__", "common"}


def test_every_kind_is_a_module_and_every_module_a_kind():
    assert set(jobs.KINDS) == MODULES


@pytest.mark.parametrize("kind", sorted(MODULES))
def test_a_kind_runs_a_request_with_its_progress(kind):
    run = importlib.import_module(f"core.job_kinds.{kind}").run
    assert list(inspect.signature(run).parameters)[:2] == ["request", "progress"]


def test_a_request_is_told_in_a_few_words():
    calibrate = {"model": "/models/tiny/", "samples": 8, "length": 32}
    assert jobs.about("calibrate", calibrate) == "tiny · 8 samples of 32 tokens"
    assert jobs.about("prune", {"model": "demo", "blocks": [3, 7]}) == "demo · without 3, 7"
    solve = {"source": "0123456789", "removed": 4, "count": 20, "mix": {"a": 1.0, "b": 3.0}}
    assert jobs.about("solve", solve).startswith("01234567 · M = 4 · 20 states · mix ")
    heal = {"model": "demo", "blocks": [3], "settings": {"method": "kl", "minutes": 0.2}}
    assert jobs.about("heal", heal) == "demo · without 3, kl, 0.2 minutes"
    heal |= {"settings": {**heal["settings"], "seed": 4}, "answers": "/a/b.jsonl::column=q", "prompt": "hi"}
    assert jobs.about("heal", heal).endswith("minutes, seed 4, from answers to b.jsonl, asked 'hi'")
    assert jobs.about("of a later version", {"model": "demo"}) == "demo"
    assert jobs.kind_of("of a later version").name == "of a later version"


def test_an_export_is_still_there_where_no_other_has_its_place(tmp_path):
    request = {"model": "demo", "blocks": [3], "out": str(tmp_path / "out")}
    result, whole = {"out": request["out"], "removed": [3]}, jobs.kind_of("prune").whole
    assert not whole(request, result)
    (tmp_path / "out").mkdir()
    for record, same in (
        ({"source": "demo", "removed": [3]}, True),
        ({"source": "demo", "removed": [5]}, False),
        ({"source": "other", "removed": [3]}, False),
        ({"source": "demo", "removed": [3], "form": "portable"}, False),
        ({"source": "demo", "removed": [3], "healed": {}}, False),
    ):
        (tmp_path / "out" / PROVENANCE).write_text(json.dumps(record))
        assert whole(request, result) == same
