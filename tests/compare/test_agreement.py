"""Statistics of energies against losses."""

import numpy as np
import pytest
from scipy import stats

from core.compare.agreement import RESAMPLES, agreement, clustered, fitted, regret, scaled


def test_an_order_that_agrees_entirely_and_one_that_does_not():
    energy = np.arange(20.0)
    same, opposite = agreement(energy, np.exp(energy)), agreement(energy, -energy)
    assert (same.spearman, same.kendall, same.low, same.n) == pytest.approx(
        (1, 1, 1, 20)
    ) and opposite.spearman == pytest.approx(-1)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # Spearman of two normals of correlation .6
    inside = 0
    for _ in range(60):
        a = rng.normal(size=80)
        found = agreement(a, 0.6 * a + 0.8 * rng.normal(size=80))
        inside += found.low <= truth <= found.high
    assert inside >= 50


@pytest.mark.parametrize("ties", [False, True])
def test_the_interval_is_that_of_the_resamples_ranked_one_by_one(ties):
    rng = np.random.default_rng(3)
    a = rng.normal(size=30)
    b = a + rng.normal(size=30)
    if ties:
        a, b = np.round(a), np.round(2 * b)
    picks = np.random.default_rng(0).integers(0, 30, (RESAMPLES, 30))
    own = [stats.spearmanr(a[p], b[p]).statistic for p in picks]
    found = agreement(a, b)
    assert (found.low, found.high) == pytest.approx(np.quantile(own, [0.025, 0.975]), abs=1e-9)


def test_too_few_points_have_no_coefficient():
    assert agreement(np.arange(4.0), np.arange(4.0)) is None and agreement(np.ones(9), np.arange(9.0)) is None


def test_infinite_losses_are_the_worst_and_equal():
    loss = np.array([1.0, 2.0, 3.0, np.inf, np.inf])
    assert agreement(np.arange(5.0), loss).spearman > 0.9
    assert agreement(np.arange(5.0), np.full(5, np.inf)) is None


def test_regret_is_what_the_first_states_miss():
    assert regret(np.array([3.0, 1, 2]), np.array([0.1, 0.5, 0.4])).tolist() == pytest.approx([0.4, 0.3, 0.0])


def test_a_line_is_found():
    energy = np.array([1.0, 2, 4])
    assert fitted(energy, 3 * energy - 1) == pytest.approx((3, -1))


def test_points_of_the_plane_keep_their_distances():
    points = np.random.default_rng(2).normal(size=(9, 2))
    apart = lambda p: np.linalg.norm(p[:, None] - p[None], axis=2)  # noqa: E731
    assert np.allclose(apart(scaled(apart(points))), apart(points)) and scaled(np.zeros((1, 1))).shape == (
        1,
        2,
    )


def test_similar_states_stand_together():
    group = np.array([0, 1, 0, 1, 0, 1])
    order = clustered((group[:, None] == group[None]).astype(float))
    assert sorted(order.tolist()) == list(range(6)) and (np.diff(group[order]) != 0).sum() == 1
    assert clustered(np.eye(2)).tolist() == [0, 1]
