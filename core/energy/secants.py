"""Secant couplings: how removing one block changes the slope of the loss along another's gate.

The two-body part of removing i and j is the integral of d2L / d alpha_i d alpha_j over the square from the
intact model to both blocks removed. Rows with one block removed (core.store.runs.Secants) give it exactly
along two edges of the square: with j removed along its whole way, g_i(1) - g_i(1 - e_j), and with i removed,
g_j(1) - g_j(1 - e_i); g is the mean gate gradient. What is left to assume is that the mixed curvature is the
same along the other gate. It is so rather along the gate of the earlier block: of the two edges, the one that
removes the later block tells the measured pairs (docs/study-smollm2.md), so it alone is taken.
"""

from dataclasses import dataclass

import numpy as np

from core.store.runs import Run, Secants

# of a secant, and of the mean of secant and measurement, that counts where several blocks go
# (docs/study-smollm2.md)
SHARE, MEASURED_SHARE = 1 / 2, 2 / 3


@dataclass(frozen=True)
class SecantPairs:
    """Two-body parts of all pairs, as secants estimate them."""

    K: np.ndarray  # float64 [N, N], nats, symmetric, 0 on the diagonal
    se: np.ndarray  # float64 [N, N], nats: standard error over the sequences

    @property
    def shrunk(self) -> np.ndarray:
        """K, every entry drawn to 0 as far as it is noise: K max(0, 1 - (se / K)^2)."""
        share = 1 - (self.se / np.abs(self.K).clip(min=np.finfo(np.float64).tiny)) ** 2
        return self.K * share.clip(min=0.0)


def secant_pairs(secants: Secants, later: bool = True) -> SecantPairs:
    """K_ij = g_i(1) - g_i(1 - e_j) for i < j in nats, and its standard error; later=False: of the other edge,
    where the earlier block is removed.
    """
    A = secants.A.astype(np.float64)
    change = A[0][None] - A[1:]  # [removed, s, gate]
    mean, spread = change.mean(axis=1), change.std(axis=1, ddof=1)
    K, se = (np.tril(v if later else v.T, -1) for v in (mean, spread))
    return SecantPairs(K + K.T, (se + se.T) / np.sqrt(change.shape[1]))


def pair_energies(run: Run) -> np.ndarray:
    """float64 [N, N], nats: what two removals cost beyond their sum as far as a run with secants knows it:
    half of the secant, or where the pair was measured two thirds of the mean of secant and measurement.
    """
    assert run.secants is not None
    K = secant_pairs(run.secants).shrunk if run.whole is None else _of_branches(run)
    found = SHARE * K
    if run.pairs is not None:
        i, j = run.pairs.blocks.astype(int).T
        both = (K[i, j] + run.pairs.part.astype(np.float64).mean(axis=1)) / 2
        found[i, j] = found[j, i] = MEASURED_SHARE * both
    return found


def _of_branches(run: Run) -> np.ndarray:
    """float64 [N, N], nats: of a run seen by branch, whose secants are with whole blocks removed. What the
    later block does to the slope along a branch is divided among its branches as their own costs are.
    """
    assert run.secants is not None and run.singles is not None
    change = run.secants.A.astype(np.float64)
    change = change[0] - change[1:]  # [removed block, s, gate]
    mean, se = change.mean(axis=1), change.std(axis=1, ddof=1) / np.sqrt(change.shape[1])
    shrunk = SecantPairs(mean, se).shrunk
    block, own = np.array(run.units.block), run.singles.increase.clip(min=1e-9)
    share = own / np.bincount(block, own)[block]
    K = np.where(block[:, None] > block, shrunk[block] * share[:, None], 0.0)
    return K + K.T


def trapezoid(secants: Secants) -> np.ndarray:
    """float64 [N], nats: what each removal costs by the slopes at its two ends, -(g_i(1) + g_i(1 - e_i)) / 2.

    Where it is far from the measured cost no quadratic form holds along that block's gate.
    """
    g = secants.A.astype(np.float64).mean(axis=1)
    return -(g[0] + np.diag(g[1:])) / 2


def not_quadratic(secants: Secants) -> list[int]:
    """Blocks whose slopes at both ends of the removal miss its cost by a factor of two: no quadratic form of
    the gates holds that far.
    """
    loss = secants.loss.astype(np.float64)
    increase = loss[1:] - loss[0]
    cost, se = increase.mean(axis=1), increase.std(axis=1, ddof=1) / np.sqrt(increase.shape[1])
    told = trapezoid(secants)
    far = (told > 2 * cost) | (told < cost / 2)
    return np.flatnonzero(far & (np.abs(told - cost) > 3 * se)).tolist()


def bounded(own: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """float64 [N, N]: couplings with these own costs and pair energies `pairs` (2 H_ij), where no pair costs
    less than its dearer block: the second removal is free at best.
    """
    H = np.maximum(pairs, -np.minimum.outer(own, own)) / 2
    np.fill_diagonal(H, own)
    return H
