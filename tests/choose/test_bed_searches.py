"""The searches on a bed's model: each is made once, judged on unseen sequences, and told as it was."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from core.choose import bed_searches, bed_searches_page, bed_study
from core.choose.bed_parts import Parts
from core.choose.bed_searches import EVOLUTIONARY, GREEDY, LEARNED, METHODS, SCRATCH, Search, Searches
from core.errors import InputError
from core.measure.evaluation import sequence_losses
from core.model.load import load_model
from core.store.runs import load_run
from core.texts import pack, read_texts
from tests.choose.test_bed import DOCS


@pytest.fixture
def studied(tiny, text_file, tmp_path, monkeypatch):
    """What searches are measured with, at sizes of a tiny model."""
    monkeypatch.setenv("BLOCKSCAPE_HOME", str(tmp_path / "home"))
    for name, size in dict(
        LENGTH=24, SEQUENCES=2, CHUNK=1, SKIPPED=4, JUDGED=3, BUDGET=8, SEEDS=(0, 1)
    ).items():
        monkeypatch.setattr(bed_searches, name, size)
    for name, size in dict(
        LENGTH=24, ROWS=8, SINGLES=4, SECANTS=4, PAIRS=4, JUDGED=4, FEW=1, LISTED={}
    ).items():
        monkeypatch.setattr(bed_study, name, size)
    folder = tmp_path / "bed"
    loaded = load_model(str(tiny["llama"]))
    bed_study.measure(loaded, text_file, text_file, folder, 4)
    return bed_searches.Study(loaded, text_file, text_file, folder, Parts(tmp_path / "parts"))


def test_every_search_is_made_once_and_its_states_are_judged_on_unseen_sequences(studied, caplog):
    caplog.set_level(logging.INFO)
    texts, loaded, file = studied.texts, studied.loaded, studied.folder / bed_searches.FILE

    def measured(*asked, **how):
        assert bed_searches.measure(studied, *asked, **how)
        bed_searches.collect(studied.parts, studied.folder)
        return bed_searches.read_searches(file)

    found = measured(budget=12, seeds=(0,))
    assert {s.method for s in found.found} == set(METHODS) and {s.removed for s in found.found} == {2, 3}
    for search in found.found:
        spent, losses, states = zip(*search.curve)
        assert list(spent) == sorted(spent) and list(losses) == sorted(losses, reverse=True)
        assert search.method == GREEDY or spent[-1] <= 12
        assert states[-1] in found.judged
    greedy = found.get(GREEDY, 2, 0)
    choose = pack(read_texts(texts), loaded.tokenizer, "choose", 24, 6)
    loss = sequence_losses(loaded, choose.ids[4:6], greedy.held()).mean()  # behind those that the run had
    assert abs(loss - greedy.curve[-1][1]) < 1e-5
    unseen = pack(read_texts(texts), loaded.tokenizer, "report", 24, 3).ids
    gap = sequence_losses(loaded, unseen, greedy.held()) - sequence_losses(loaded, unseen)
    assert np.abs(found.judged[greedy.held()] - gap).max() < 1e-4
    before, made = file.read_bytes(), len(caplog.records)
    assert measured(budget=12, seeds=(0,)).found == found.found
    assert file.read_bytes() == before and len(caplog.records) == made
    more = measured([EVOLUTIONARY], budget=16, seeds=(0, 1))
    assert len(more.found) == len(found.found) + 2 and more.get(EVOLUTIONARY, 2, 0).budget == 16
    assert more.get(GREEDY, 2, 0) == greedy
    with pytest.raises(InputError, match="no search 'anneal'"):
        bed_searches.measure(studied, ["anneal"])


def made_up() -> Searches:
    """Two seeds at M = 2: ours is where greedy ends after 4 forwards of 20, and from nothing never."""
    best, worse, worst = (0, 1), (0, 2), (1, 2)
    found = []
    for seed in (0, 1):
        found += [
            Search(GREEDY, 2, seed, 30, [(20.0, 3.0, worse)]),
            Search(EVOLUTIONARY, 2, seed, 60, [(25.0, 3.1, worst), (50.0, 3.0, worse)]),
            Search(SCRATCH, 2, seed, 30, [(12.0, 3.1, worst)]),
            Search(LEARNED, 2, seed, 60, [(2.0, 3.1, worst), (4.0 + 4 * seed, 2.9, best)]),
        ]
    judged = {best: np.array([0.1, 0.2]), worse: np.array([0.2, 0.4]), worst: np.array([0.5, 0.5])}
    meta = {"texts": "a", "judge": "b", "length": 24, "sequences": 2, "chunk": 1, "judged": 2}
    return Searches(meta, tuple(found), judged, {"block influence": {2: worse}})


def test_the_page_compares_at_equal_forwards_and_says_what_was_not_let_go_on():
    run = load_run(DOCS / "beds" / "smollm2" / "run")
    lines = bed_searches_page.section(made_up(), run)
    assert "| 2 | greedy | +0.300 | +0.300 | +0.300 | 20 |" in lines
    assert "| 2 | evolutionary | +0.500 | +0.300 | +0.300 | 60 |" in lines
    assert f"| 2 | {SCRATCH} | +0.500 | - | +0.500 | 30 |" in lines  # stopped at 30
    assert f"| 2 | {LEARNED} | +0.150 | +0.150 | +0.150 | 60 |" in lines
    assert "| 2 | block influence |  |  | +0.300 | 1 |" in lines
    gaps = next(line for line in lines if line.startswith(f"| 2 | {LEARNED} | -0.350"))
    assert gaps == f"| 2 | {LEARNED} | -0.350 ± 0.050 | -0.150 ± 0.050 | -0.150 ± 0.050 | -0.150 ± 0.050 |"
    passes = 2.3 * 31 * 24 + 15.5 * 32
    (told,) = [line for line in lines if line.startswith(f"| 2 | {LEARNED} | 20.0, 20.0 |")]
    assert told.startswith(f"| 2 | {LEARNED} | 20.0, 20.0 | 4.0, 8.0 | 1 of 2 | ")
    pays = int(told.split("|")[-2])
    assert pays > passes / 14 and any(f"{pays * 14 // 1000}" in line for line in lines)  # pairs cost, too
    assert f"| 2 | {SCRATCH} | 20.0, 20.0 | not reached, not reached | 0 of 2 | - |" in lines


def test_what_was_found_survives_its_file(tmp_path):
    found = made_up()
    found.write(tmp_path / "searches.json")
    again = bed_searches.read_searches(tmp_path / "searches.json")
    assert again.found == found.found and again.meta == found.meta and again.free == found.free
    assert all((again.judged[s] == v).all() for s, v in found.judged.items())
    assert bed_searches.looked_at(again, replace(again.found[3], budget=1))[2] == 20 / 3
