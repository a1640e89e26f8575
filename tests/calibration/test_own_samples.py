"""The model's own samples: drawn from its distribution, each by itself, one split never another's."""

import numpy as np
import pytest
import torch

from core.calibration.gradient_rows import label_uniforms
from core.calibration.own_samples import own_key, own_sequences
from core.errors import InputError
from core.model.load import load_model


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_samples_follow_the_model_and_not_their_batch(tiny, kind):
    loaded = load_model(str(tiny[kind]))
    drawn = own_sequences(loaded, "calibrate", 24, 7, seed=3)
    assert (
        drawn.ids.shape == (7, 24)
        and (drawn.ids[:, 0] == loaded.tokenizer.bos_token_id).all()
        and drawn.domains == ("own",)
    )
    assert (own_sequences(loaded, "calibrate", 24, 7, seed=3, batch=2).ids == drawn.ids).all()
    with torch.no_grad():
        chances = torch.softmax(
            loaded.model(input_ids=torch.from_numpy(drawn.ids), use_cache=False).logits.double(), dim=-1
        ).cumsum(dim=-1)
    uniforms = label_uniforms(drawn.index, 24, 3)
    for s in range(7):  # token t is where the distribution function passes its random number
        for t in range(1, 24):
            upper, token = chances[s, t - 1], drawn.ids[s, t]
            lower = upper[token - 1] if token else 0.0
            assert lower - 1e-5 <= uniforms[s, t - 1] <= upper[token] + 1e-5


def test_splits_and_seeds_are_apart(tiny):
    loaded = load_model(str(tiny["llama"]))
    drawn = [
        own_sequences(loaded, split, 16, 5, seed)
        for split, seed in (("calibrate", 0), ("choose", 0), ("report", 0), ("calibrate", 1))
    ]
    assert len({d.sha256 for d in drawn}) == 4
    assert not np.intersect1d(drawn[0].index, drawn[1].index).size


def test_too_long_is_one_sentence(tiny):
    with pytest.raises(InputError, match="96 positions"):
        own_sequences(load_model(str(tiny["llama"])), "calibrate", 97, 2)


def test_rules_of_generation_change_no_sample(tiny):
    """Instruct models bring a repetition penalty: what it lets through is not the model's distribution."""
    loaded = load_model(str(tiny["llama"]))
    plain, key = own_sequences(loaded, "calibrate", 24, 2).ids, own_key(loaded, "calibrate", 24, 0)
    loaded.model.generation_config.update(repetition_penalty=5.0, suppress_tokens=plain[0, 5:9].tolist())
    assert np.array_equal(own_sequences(loaded, "calibrate", 24, 2).ids, plain)
    assert loaded.model.generation_config.repetition_penalty == 5.0
    assert own_key(loaded, "calibrate", 24, 0) != key  # what an earlier version has kept followed them
