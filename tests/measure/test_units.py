"""What is measured of really pruned models, of states that take parts of blocks, is of the gated ones."""

import numpy as np
import pytest
import torch

from core import jobs
from core.ising.units import BRANCH
from core.job_kinds import benchmark
from core.measure.evaluation import greedy_tokens, option_scores
from core.model.load import load_model
from core.model.surgery import without
from core.store.results import Results
from core.tasks.items import read_tasks
from core.texts.special_tokens import begins

STATE = ["12a", "13f"]


def test_a_benchmark_of_units(tmp_path, monkeypatch):
    asked = jobs.request_of(
        "demo", ["bundled"], states=[[], STATE], sequences=2, length=32, tasks=False, prompt="The"
    )
    done = benchmark.run(asked, jobs.Progress(tmp_path))
    original, pruned = done["states"]
    assert pruned["removed"] == STATE and pruned["loss"] != original["loss"]
    loaded = load_model("demo").seen(BRANCH)
    ids = torch.tensor(
        [begins(loaded.tokenizer) + loaded.tokenizer("The", add_special_tokens=False)["input_ids"]]
    )
    said = greedy_tokens(loaded, ids, benchmark.ANSWER_TOKENS, loaded.units.state(STATE))[0, ids.shape[1] :]
    answer = Results().answers(done["model"])[tuple(STATE), "The"]
    whole = loaded.tokenizer.decode(said, skip_special_tokens=True)
    assert answer and whole.startswith(answer)  # the answer may end by itself
    # what it said under other rules of generation is not what it says now
    monkeypatch.setattr(benchmark, "by_itself_unlike_before", lambda model: {"generated": "otherwise"})
    monkeypatch.setattr(benchmark, "_answer", lambda loaded, prompt: "another")
    benchmark.run(asked, jobs.Progress(tmp_path))
    assert Results().answers(done["model"])[tuple(STATE), "The"] == "another"
    speeds = {m.key.removed for m in Results().of_model(done["model"]) if m.key.metric == "tokens_per_second"}
    assert speeds == {(), tuple(STATE)}


def test_tasks_of_units():
    loaded, items = load_model("demo").seen(BRANCH), read_tasks()[:12]
    state = loaded.units.state(STATE)
    gated = option_scores(loaded, items, state)
    with without(loaded, state):
        assert np.concatenate(option_scores(loaded, items)) == pytest.approx(np.concatenate(gated), abs=1e-4)
