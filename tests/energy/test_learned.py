"""Landscapes that were learned say by what, wherever they are shown."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from core.energy.learned import (
    Posterior,
    Prior,
    keep_learned,
    learned_at,
    learned_by,
    learned_names,
    read_learned,
    read_posterior,
    to_bytes,
)
from core.energy.sources import open_source
from core.errors import InputError
from core.landscape.landscape import landscape
from core.spectrum.lowest import lowest_states
from core.view.report import report_html
from core.view.snippets import View, cli_line
from core.view.state_files import states_json


def posterior(ruler: str) -> Posterior:
    """Of the demo's 24 blocks, another for each ruler."""
    own = np.arange(1.0, 25.0) if ruler == "loss" else np.arange(25.0, 1.0, -1.0)
    x = np.eye(24, dtype=bool)[:2]
    return Posterior(
        Prior(np.diag(own), np.full((24, 24), 0.1)), x, own[:2], *np.full((2, 2), 0.1), ruler=ruler
    )


def test_by_loss_and_by_kl_stand_side_by_side_and_say_so():
    source = open_source("demo")
    paths = {ruler: keep_learned(source.key, 3, posterior(ruler)) for ruler in ("loss", "kl")}
    by_loss, by_kl = learned_names(source.key)
    assert [p.parent.name for p in paths.values()] == ["3", "3-kl"] and by_kl.startswith("learned-3-kl-")
    assert [learned_by(name) for name in (by_loss, by_kl, "h0")] == ["loss", "kl", None]
    assert learned_at(by_loss) == learned_at(by_kl) == 3
    for ruler, name in (("loss", by_loss), ("kl", by_kl)):
        assert read_learned(source.key, name).ruler == ruler
        assert np.allclose(source.couplings(name), posterior(ruler).couplings)
    first, second = source.about(by_loss), source.about(by_kl)
    assert (first.label, first.unit) == ("learned at M = 3", "nats") and "loss increase" in first.about
    assert (second.label, second.unit) == ("learned at M = 3 by KL", "KL, nats")
    assert "KL to the original" in second.about and "loss" not in second.about
    with pytest.raises(InputError, match="learn it again"):
        read_learned(source.key, by_kl.replace("-kl", ""))


def test_files_say_it():
    source = open_source("demo")
    keep_learned(source.key, 3, posterior("kl"))
    (name,) = learned_names(source.key)
    view = View(source, name, 3, 5)
    found = landscape(source.couplings(name), lowest_states(source.couplings(name), 3, 5))
    told = json.loads(states_json(view, found))["view"]
    assert (told["estimator"], told["ruler"]) == (name, "kl")
    assert "ruler" not in json.loads(states_json(replace(view, estimator="h0"), found))["view"]
    assert name in cli_line(view)
    assert "learned at M = 3 by KL" in report_html(view, found)


def test_what_was_kept_before_it_said_so_went_by_the_loss():
    with np.load(io.BytesIO(to_bytes(posterior("loss")))) as kept:
        arrays = {name: kept[name] for name in kept.files if name != "ruler"}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    assert read_posterior(buffer.getvalue()).ruler == "loss"


def test_a_damaged_landscape_is_one_sentence():
    source = open_source("demo")
    path = keep_learned(source.key, 3, posterior("loss"))
    (name,) = (n for n in learned_names(source.key) if path.stem.startswith(n.split("-")[-1]))
    whole = path.read_bytes()
    for content in (b"", whole[:3], whole[: len(whole) // 2], whole[:200] + bytes(200) + whole[400:]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="learn it again"):
            source.couplings(name)
