"""Secants give the pairs of a loss that is quadratic in the gates, and no pair is a bargain."""

from dataclasses import replace

import numpy as np
import pytest

from core.energy.couplings import couplings
from core.energy.secants import (
    MEASURED_SHARE,
    SHARE,
    SecantPairs,
    bounded,
    not_quadratic,
    secant_pairs,
    trapezoid,
)
from core.energy.sources import Source
from core.energy.uncertainty import energy_noise, energy_spread
from core.ising.energies import energies
from core.ising.states import indicator
from core.ising.units import BRANCH
from core.store.folders import DEMO_RUN
from core.store.runs import Pairs, Secants, Singles, load_run

N = 7


def quadratic(noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, Secants]:
    """(H, secants) of the loss (1 - alpha)^T H (1 - alpha), each of 12 sequences with slopes of its own."""
    rng = np.random.default_rng(seed)
    H = rng.normal(size=(N, N))
    H = (H + H.T) / 2
    points = np.vstack([np.ones(N), 1 - np.eye(N)])
    slopes = -2 * (1 - points) @ H
    A = slopes[:, None, :] + noise * rng.normal(size=(N + 1, 12, N))
    return H, Secants(A, np.zeros((N + 1, 12)))


def test_the_pairs_of_a_quadratic_loss_are_had_exactly():
    H, secants = quadratic()
    found = secant_pairs(secants)
    off = ~np.eye(N, dtype=bool)
    assert np.allclose(found.K[off], 2 * H[off]) and not found.K[~off].any() and np.allclose(found.se, 0)
    assert np.allclose(found.shrunk, found.K)
    assert np.allclose(trapezoid(secants), np.diag(H))


def test_of_the_two_edges_the_one_that_removes_the_later_block_counts():
    A = np.zeros((N + 1, 4, N))
    A[1 + 5, :, 2] = -1.0  # the later block gone, the slope along the earlier one's gate
    A[1 + 2, :, 5] = -9.0
    K = secant_pairs(Secants(A, np.zeros((N + 1, 4)))).K
    assert K[2, 5] == K[5, 2] == 1.0 and np.abs(K).sum() == 2


def test_noise_is_drawn_to_nothing_and_its_standard_error_is_honest():
    H, secants = quadratic(noise=0.5)
    found, off = secant_pairs(secants), ~np.eye(N, dtype=bool)
    z = (found.K - 2 * H)[off] / found.se[off]
    assert 0.6 < z.std() < 1.5
    assert (np.abs(found.shrunk) <= np.abs(found.K)).all()
    small = SecantPairs(np.full((2, 2), 0.1), np.full((2, 2), 0.2))
    assert not small.shrunk.any()


def test_no_pair_costs_less_than_its_dearer_block():
    own, pairs = np.array([0.1, 2.0, 0.3]), np.full((3, 3), -5.0)
    H = bounded(own, pairs)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.isclose(own[i] + own[j] + 2 * H[i, j], max(own[i], own[j]))
    assert np.allclose(np.diag(H), own) and np.allclose(H, H.T)


def test_blocks_along_whose_gate_nothing_is_quadratic_are_named():
    A, loss = np.zeros((N + 1, 6, N)), np.zeros((N + 1, 6))
    loss[1:] = 0.2
    for i in range(N):
        A[1 + i, :, i] = -0.4  # half of it is the cost
    assert not_quadratic(Secants(A, loss)) == []
    A[1 + 3, :, 3], A[1 + 5, :, 5] = -2.0, 0.3
    assert not_quadratic(Secants(A, loss)) == [3, 5]
    loss[1 + 5] += np.array([3.0, -3.0] * 3)  # noise that hides it
    assert not_quadratic(Secants(A, loss)) == [3]


@pytest.mark.parametrize("name", ["secant", "pairs"])
def test_the_noise_of_secants_and_pairs_is_part_of_the_noise_of_energies(name):
    """Single removals are known exactly here, so all that is left is how secants and pairs scatter."""
    rng, run, sequences = np.random.default_rng(0), load_run(DEMO_RUN), 40
    n = run.blocks
    A = np.zeros((n + 1, sequences, n))
    A[1:] = -5.0 + rng.normal(
        size=(n, sequences, n)
    )  # pairs of 5 nats: far from 0, so that none is drawn to it
    blocks = np.array([(i, j) for i in range(n) for j in range(i + 1, n)])
    part = 5.0 + 2 * rng.normal(size=(len(blocks), sequences))
    known = replace(
        run,
        singles=Singles(np.full(n, 10.0), np.zeros(n), sequences),
        secants=Secants(A, np.zeros((n + 1, sequences))),
        pairs=Pairs(blocks, part),
    )
    source = Source(run.key, "known", n, (name,), run=known)
    states = [(0, 3), (7, 20), (2, 5)]
    series = np.array([-A[1 + j, :, i] for i, j in states])
    measured = np.array([part[(blocks == pair).all(axis=1)][0] for pair in states])

    def variance(secant, measured):
        if name == "secant":
            return SHARE**2 * secant.var() / sequences
        return (MEASURED_SHARE / 2) ** 2 * (secant.var() + measured.var()) / sequences

    found = energy_noise(source, name, indicator(states, n), resamples=600)
    above = [variance(series[k] - series[0], measured[k] - measured[0]) for k in (1, 2)]
    assert found[0] == 0 and np.allclose(found[1:] ** 2, above, rtol=0.25)
    spread = energy_spread(source, name, states[1], resamples=600)
    assert np.isclose(spread**2, variance(series[1], measured[1]), rtol=0.25)


def test_a_whole_block_seen_by_branch_has_the_noise_of_its_own_measurement():
    run = load_run(DEMO_RUN)
    seen = run.seen(BRANCH)
    source = Source(run.view_key, "demo", seen.blocks, ("singles",), run=seen)
    found = [energy_spread(source, "singles", seen.units.state((b,)), resamples=400) for b in range(24)]
    assert np.allclose(
        found, run.singles.se * np.sqrt(run.singles.sequences / seen.singles.sequences), rtol=0.3
    )
    x = indicator([seen.units.state((b,)) for b in range(24)], seen.blocks)
    assert np.allclose(energies(couplings(seen, "singles"), x), seen.block_costs.clip(min=0), atol=1e-3)
