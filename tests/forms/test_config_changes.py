"""What is told beforehand of a config is what removal does to it."""

import json

import pytest

from core.forms.config_changes import differences, foretold
from core.model.load import load_model
from core.model.surgery import remove_blocks
from tests.conftest import TINY


@pytest.mark.parametrize("kind", TINY)
def test_foretold_is_what_happens(tiny, kind):
    raw = json.loads((tiny[kind] / "config.json").read_text())
    loaded = load_model(str(tiny[kind]))
    before = loaded.model.config.to_dict()
    told = foretold(raw, [1, 4], len(loaded.blocks))
    remove_blocks(loaded, [1, 4])
    found = differences(before, loaded.model.config.to_dict())
    assert told and {name: after for name, _, after in told} == {
        name: after for name, _, after in found if name in raw
    }


def test_counts_of_dense_blocks_and_heads_for_more_tokens_are_foretold():
    config = {"num_hidden_layers": 4, "first_k_dense_replace": 2, "num_nextn_predict_layers": 1}
    assert foretold(config, [1], 4) == [
        ("num_hidden_layers", 4, 3),
        ("first_k_dense_replace", 2, 1),
        ("num_nextn_predict_layers", 1, 0),
    ]


def test_a_text_part_is_named_by_its_path():
    config = {"text_config": {"num_hidden_layers": 4, "layer_types": ["a", "b", "c", "d"]}, "depth": 4}
    assert foretold(config, [1], 4) == [
        ("text_config.num_hidden_layers", 4, 3),
        ("text_config.layer_types", ["a", "b", "c", "d"], ["a", "c", "d"]),
    ]
