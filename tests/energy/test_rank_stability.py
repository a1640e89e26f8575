"""Rank stability against a plain loop over resamples, and its limits."""

import numpy as np
import pytest

from core.energy.rank_stability import rank_stability
from core.errors import InputError
from core.spectrum.lowest import lowest_states


def rows(m: int, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(m, n)) * np.linspace(0.5, 2, n)


def test_equals_a_plain_bootstrap():
    A = rows(40, 9)
    x = lowest_states(A.T @ A / 40, 4, 12).x
    found = rank_stability(A, x, k=3, resamples=200, seed=5)
    rng = np.random.default_rng(5)
    ranks = []
    for w in rng.multinomial(40, np.full(40, 1 / 40), size=200):
        H = (A * w[:, None]).T @ A / 40
        e = [s @ H @ s for s in x.astype(float)]
        ranks.append(np.argsort(np.argsort(e, kind="stable"), kind="stable"))
    np.testing.assert_allclose(found.top, (np.array(ranks) < 3).mean(axis=0), atol=0.011)
    np.testing.assert_allclose(found.low, np.quantile(ranks, 0.025, axis=0), atol=1)
    np.testing.assert_allclose(found.high, np.quantile(ranks, 0.975, axis=0), atol=1)


def test_one_sample_or_many_say_how_sure():
    few, many = rows(16, 10), rows(20000, 10, seed=1)
    for A in (few, many):
        A[:, 0] *= 0.01
    narrow = rank_stability(many, lowest_states(many.T @ many, 3, 30).x)
    wide = rank_stability(few, lowest_states(few.T @ few, 3, 30).x)
    assert (narrow.high - narrow.low).mean() < (wide.high - wide.low).mean()
    certain = rank_stability(rows(1, 6), np.eye(6, dtype=bool), k=2)
    assert (certain.low == certain.high).all() and set(certain.top.tolist()) == {0.0, 1.0}


def test_noise_widens_and_seeds_repeat():
    A = rows(5000, 12)
    x = lowest_states(A.T @ A / 5000, 5, 40).x
    quiet, loud = rank_stability(A, x, seed=2), rank_stability(A, x, noise=0.3, seed=2)
    assert (loud.high - loud.low).mean() > (quiet.high - quiet.low).mean()
    again = rank_stability(A, x, noise=0.3, seed=2)
    assert (again.low == loud.low).all() and (again.top == loud.top).all()
    assert abs(loud.top.sum() - 10) < 1e-9


@pytest.mark.parametrize(
    "change",
    [
        {"k": 0},
        {"resamples": 0},
        {"interval": 1.0},
        {"noise": -1.0},
        {"x": np.ones((2, 3))},
        {"A": np.full((4, 5), np.nan)},
    ],
)
def test_bad_input(change):
    arguments = {"A": np.ones((4, 5)), "x": np.ones((2, 5), dtype=bool), **change}
    with pytest.raises(InputError):
        rank_stability(arguments.pop("A"), arguments.pop("x"), **arguments)


def test_the_cards_rank_intervals_hold_the_rank_where_samples_are_many_and_alike():
    from core.landscape.landscape import landscape
    from core.spectrum.lowest import lowest_states
    from core.view.lens import rank_intervals

    rng = np.random.default_rng(3)
    A = rng.choice([-1.0, 1.0], size=(4000, 8)) * np.arange(1, 9)  # own costs far apart
    found = landscape(A.T @ A / len(A), lowest_states(A.T @ A / len(A), 2, 10))
    intervals = rank_intervals(A, found)
    assert (
        len(intervals) == 10
        and intervals[0] == [0, 0]
        and all(low <= k <= high for k, (low, high) in enumerate(intervals))
    )
    noisy = rank_intervals(A[:20], found)
    assert sum(high - low for low, high in noisy) > sum(high - low for low, high in intervals)
    assert rank_intervals(None, found) == []
