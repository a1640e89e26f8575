"""Tasks on many states at once: the harness's values, item by item."""

import json
from dataclasses import replace

import numpy as np
import pytest

from core.errors import InputError
from core.measure import harness
from core.measure.task_walk import item_values
from core.model.load import load_model
from core.store.results import Results
from core.tasks.presets import asked, own
from tests.choose.bed_cases import write_tasks

STATES = [(), (1, 4), (0, 1, 2)]


def test_every_item_of_every_state_is_worth_what_the_harness_says(tiny, tmp_path):
    loaded = load_model(str(tiny["llama"]))
    preset, _ = asked((), "quick-real", None, str(write_tasks(tmp_path / "tasks")))
    found = item_values(loaded, preset, STATES, 5)
    assert {name: values.shape for name, values in found.items()} == dict.fromkeys(found, (3, 5))
    harness.measure(loaded, STATES, preset, limit=5)
    model = harness.canonical_key(loaded.digest())
    measured = {(m.key.metric, m.key.removed): m.values for m in Results().of_model(model)}
    for name, values in found.items():
        metric = f"harness:{name}:{preset.quoted(name)}"
        for state, own_values in zip(STATES, values):
            assert own_values.tolist() == measured[metric, state].tolist()
    assert len({tuple(v.ravel()) for v in found.values()}) > 1  # they tell something apart
    first = item_values(loaded, preset, STATES, 2)
    rest = item_values(loaded, preset, STATES, 3, skip=2)
    for name, values in found.items():
        assert np.sort(np.hstack([first[name], rest[name]])).tolist() == np.sort(values).tolist()


def test_a_task_without_options_is_refused(tiny, tmp_path):
    loaded = load_model(str(tiny["llama"]))
    (tmp_path / "lambada_openai.jsonl").write_text(json.dumps({"text": "the quick brown fox"}) + "\n")
    preset = own((f"lambada_openai::data={tmp_path / 'lambada_openai.jsonl'}",))
    with pytest.raises(InputError, match="no choice among options"):
        item_values(loaded, replace(preset), [()], 1)
