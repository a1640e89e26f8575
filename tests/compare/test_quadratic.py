"""Measured KL against the quadratic form of H1: exact for a model whose KL is quadratic, no scale fitted."""

import numpy as np
import pytest
import torch

from core.calibration.calibrate import calibrate
from core.compare.comparison import Mean, measured_kl, model_key
from core.compare.quadratic import Foretold, foretold, predicted_kl, told
from core.model.gates import gated
from core.model.load import load_model
from core.store.folders import DEMO_RUN
from core.store.results import Key, Results
from core.store.runs import load_run
from core.texts import pack, read_texts

RUN = load_run(DEMO_RUN)


def test_the_prediction_is_the_kl_of_gates_that_are_closed_a_little(tiny, text_file):
    loaded = load_model(str(tiny["llama"]))
    texts = read_texts(text_file)
    run = calibrate(loaded, pack(texts, loaded.tokenizer, "calibrate", 24, 400), sampled=True)
    ids = torch.from_numpy(pack(texts, loaded.tokenizer, "report", 24, 40).ids)
    states, step = [(1,), (4,), (0, 3), (1, 2, 5)], 0.05

    def log_probabilities(state):
        alpha = torch.ones(6)
        alpha[list(state)] -= step
        with gated(loaded, alpha), torch.no_grad():
            return loaded.model(ids, use_cache=False).logits[:, :-1].double().log_softmax(-1)

    first = log_probabilities(())
    for state, predicted in zip(states, predicted_kl(run, states)):
        other = log_probabilities(state)
        kl = float((first.exp() * (first - other)).sum(-1).mean())
        assert 0.75 < kl / (step**2 * predicted) < 1.33, (state, kl, step**2 * predicted)


def made(ratios: dict[int, list[float]]) -> Foretold:
    """States of each M whose measured KL is so many times the predicted."""
    states, all_ratios = [], []
    for m, own in ratios.items():
        for k, ratio in enumerate(own):
            states.append((*range(m - 1), 10 + k))
            all_ratios.append(ratio)
    predicted = predicted_kl(RUN, states)
    measured = dict(zip(states, predicted * np.array(all_ratios)))
    found = foretold(RUN, {s: Mean(v, 0.1, 0.0, 1.0) for s, v in measured.items()})
    assert np.allclose(found.predicted, predicted) and found.states == states
    return found


def test_it_ends_at_the_first_m_whose_median_leaves_a_factor_of_two():
    found = made({1: [1.0, 9.0, 0.9], 2: [1.9], 4: [2.2, 2.1, 0.4], 5: [1.0], 6: [0.3]})
    assert found.end == 4 and found.ratios[1] == (pytest.approx(1.0), 3)
    assert told(found) == (
        "The quadratic form ends at M = 4: measured KL is 2.1 times the prediction in the median of 3 "
        "states. Up to M = 2 it holds within a factor of 2."
    )
    low = made({3: [0.4]})
    assert low.end == 3 and "0.4 times the prediction of the one state" in told(low)
    assert "Of fewer blocks none is measured." in told(low)
    assert "Up to" not in told(made({1: [3.0]})) and "fewer" not in told(made({1: [3.0]}))


def test_where_it_holds_it_says_how_far():
    assert told(made({1: [1.0], 2: [0.6], 5: [1.9]})).startswith("At every measured M, 1 to 5, measured KL")
    assert told(made({3: [1.0]})).startswith("At M = 3 measured KL")
    assert made({3: [1.0]}).end is None


def test_nothing_measured_says_so_and_what_cannot_be_drawn_is_left_out():
    empty = foretold(RUN, {})
    assert (
        empty.states == [] and empty.end is None and told(empty).startswith("No state's KL is measured yet")
    )
    one = foretold(RUN, {(3,): Mean(0.0, None, None, None), (5,): Mean(0.1, None, None, None)})
    assert one.states == [(5,)] and np.isnan(one.se).all()
    run = load_run(DEMO_RUN)
    object.__setattr__(run, "sampled", None)
    assert foretold(run, {}) is None


def test_the_measured_kl_is_that_of_unseen_sequences_of_every_m():
    def put(state, values, split="report", data="texts", metric="kl"):
        Results().put(Key(model_key(RUN), state, data, split, metric), dict(enumerate(values)))

    put((1,), [0.1, 0.3])
    put((1,), [9.0], data="fewer")
    put((2, 3), [0.5])
    put((4,), [1.0], split="choose")
    put((5,), [1.0], metric="loss")
    put((99,), [1.0])
    put((), [0.0])
    found = measured_kl(RUN, Results())
    assert set(found) == {(1,), (2, 3)} and found[1,].mean == pytest.approx(0.2) and found[2, 3].se is None
