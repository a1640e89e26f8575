"""Secant couplings: how removing one block changes the slope of the loss along another's gate.

The two-body part of removing i and j is the integral of d2L / d alpha_i d alpha_j over the square between the
intact model and both blocks removed. Rows with one block removed (core.store.runs.Secants) give the integral
along two of its edges exactly, g_j(1) - g_j(1 - e_i) and g_i(1) - g_i(1 - e_j), g the mean gate gradient;
K_ij is their mean. Nothing is extrapolated from the intact model alone, as H0 does.
"""

from dataclasses import dataclass

import numpy as np

from core.store.runs import Secants


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


def secant_pairs(secants: Secants) -> SecantPairs:
    """K_ij = ((g_j(1) - g_j(1 - e_i)) + (g_i(1) - g_i(1 - e_j))) / 2 in nats, and its standard error."""
    A = secants.A.astype(np.float64)
    change = A[0][None] - A[1:]  # [i, s, j]
    both = (change + change.transpose(2, 1, 0)) / 2
    K, se = both.mean(axis=1), both.std(axis=1, ddof=1) / np.sqrt(both.shape[1])
    np.fill_diagonal(K, 0.0)
    np.fill_diagonal(se, 0.0)
    return SecantPairs(K, se)


def trapezoid(secants: Secants) -> np.ndarray:
    """float64 [N], nats: what each removal costs by the slopes at its two ends, -(g_i(1) + g_i(1 - e_i)) / 2.

    Where it is far from the measured cost no quadratic form holds along that block's gate.
    """
    g = secants.A.astype(np.float64).mean(axis=1)
    return -(g[0] + np.diag(g[1:])) / 2


def bounded(own: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """float64 [N, N]: couplings with these own costs and pair energies `pairs` (2 H_ij), where no pair costs
    less than its dearer block: the second removal is free at best.
    """
    H = np.maximum(pairs, -np.minimum.outer(own, own)) / 2
    np.fill_diagonal(H, own)
    return H
