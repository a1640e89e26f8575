"""The card of an export says what is left, what the landscape says, and where it is from."""

import json
from pathlib import Path

import pytest

from core.errors import InputError
from core.export import making, write
from core.forms.card import card, snippet
from core.forms.names import PARTIAL, WHOLE
from core.forms.record import PROVENANCE, origin_of

RECORD = {
    "removed": [1, 2],
    "kept": [0, 3, 4, 6],
    "source": "owner/name",
    "parameters": [1000, 600],
    "versions": {"blockscape": "1"},
}
TOLD = {
    "run": "0123456789",
    "estimator": "pairs",
    "meaning": "secant + pairs",
    "energy": 0.125,
    "rank": 16,
    "place": "Rank 16.",
    "health": {"colour": "red", "sentence": "Do not trust it."},
    "texts": "own",
    "measured": [
        {"name": "original", "loss": 2.5, "tasks": {"arc": {"accuracy": 0.5, "low": 0.4, "high": 0.6}}},
        {"name": "pruned", "loss": 2.75, "tasks": {}},
    ],
}


def test_the_landscape_of_a_state_is_told():
    told = card({**RECORD, "landscape": TOLD}, "name", 7, Path("out"))
    assert told.startswith("---\nbase_model: owner/name\n") and "Kept: 0, 3-4, 6." in told
    assert "Energy 0.125 by the estimator pairs" in told and "Do not trust it." in told
    assert "| original | 2.5000 | 50.0 % [40.0, 60.0] |\n| pruned | 2.7500 |  |" in told
    assert "Rank 16. Ranks begin at 0" in told
    lowest = {**TOLD, "rank": 0, "place": "Rank 0, the ground state."}
    assert "Ranks begin" not in card({**RECORD, "landscape": lowest}, "name", 7, Path("out"))
    assert "2602.00161" in told and "Calibrated on the model's own samples (run 01234567)" in told


@pytest.mark.parametrize(
    "method, tokens, won, said",
    [
        ("kl", 9000, 0.604, "By `kl`, 9,000 tokens of the model's own samples, seed 3. 60 % of the loss"),
        ("merge", 0, -6.05, "By `merge`, without training. Worse than plain removal: the loss increase is"),
        ("linear", 0, None, "By `linear`, without training.\n"),
    ],
)
def test_how_it_was_healed_is_told(method, tokens, won, said):
    healed = {
        "asked": {"settings": {"method": method, "seed": 3}},
        "texts": {"source": "own"},
        "training": {"tokens": tokens},
        "report": {"healed": {"loss": 2.5, "perplexity": 12.18}},
        "won": won,
    }
    assert said in card({**RECORD, "healed": healed}, "name", 7, Path("out"))


@pytest.mark.parametrize("form", sorted({*WHOLE, *PARTIAL}))
def test_every_form_has_one(form):
    removed = [1, "2a"] if form in PARTIAL else [1]
    told = card({**RECORD, "removed": removed, "form": form, "source": "/a/b"}, "name", 7, Path("out"))
    assert "base_model" not in told and "FOLDER" in told


@pytest.mark.parametrize("form", ["hf", "portable"])
def test_a_tokenizer_is_loaded_where_there_is_one(tmp_path, form):
    for there in (False, True):
        if there:
            (tmp_path / "tokenizer.json").touch()
        told = card({**RECORD, "form": form}, "name", 7, tmp_path), snippet(form, str(tmp_path))[0]
        assert all(("AutoTokenizer" in text) == there for text in told)
        # else it asks at the terminal whether code may run, for the tokenizer too
        trusts = 1 + there if form == "portable" else 0
        assert all(text.count(", trust_remote_code=True)") == trusts for text in told)
        compile(told[1], "snippet", "exec")


def test_a_model_that_was_made_here_names_its_origin(tmp_path):
    first = {**RECORD, "files": {"model.gguf": "0" * 64}}
    (tmp_path / PROVENANCE).write_text(json.dumps(first))
    told = origin_of(tmp_path)
    assert told == {"of": RECORD} and origin_of(tmp_path / "nothing") == {}
    for name, expected in (("model.gguf", told), ("other.gguf", {})):
        (tmp_path / name).touch()
        assert origin_of(tmp_path / name) == expected
    again = {**RECORD, **told, "removed": [0], "source": "/a/b"}
    assert "made from is owner/name without 1,2" in card(again, "b", 4, Path("out"))


def test_whatever_is_made_of_an_export_keeps_that(tmp_path):
    """A healed one, too."""
    (tmp_path / PROVENANCE).write_text(json.dumps(RECORD))
    before = making.Before(str(tmp_path), "name", (1,), [0], 2, 2, 2, 2, 1, 0)

    def write(folder, report, shelf):
        folder.mkdir()
        return making.Written(1, 0)

    made = making.made(making.Making(before, "hf", write, lambda *_: {"difference": 0.0}), tmp_path / "out")
    assert json.loads((made.out / PROVENANCE).read_text())["of"] == RECORD


def test_a_full_disk_is_told_before_anything_is_written(tiny, tmp_path, monkeypatch):
    usage = making.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(making.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match="0.00 GB are free"):
        write.prune(str(tiny["llama"]), [1], tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_becomes_gguf_without_any_removal(tmp_path):
    done = write.prune("demo", (), tmp_path / "file", form="gguf")
    assert done.blocks == (24, 24) and done.removed == () and done.bytes[1] > 0
    assert "## What was removed" not in (done.out / "README.md").read_text()
