"""Secants give the pairs of a loss that is quadratic in the gates, and no pair is a bargain."""

import numpy as np

from core.energy.secants import SecantPairs, bounded, not_quadratic, secant_pairs, trapezoid
from core.store.runs import Secants

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
