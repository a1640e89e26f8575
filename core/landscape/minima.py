"""The landscape of swaps: a move puts one removed block back and removes another; where rules leave the
number of blocks open, a move may also put one back or remove one more.
"""

import numpy as np

from core.spectrum.constraints import Rules


def minima(
    H: np.ndarray,
    x: np.ndarray,
    linear: np.ndarray | None = None,
    tolerance: float = 0.0,
    rules: Rules | None = None,
) -> np.ndarray:
    """bool [K]: which rows of x bool [K, N] no single move lowers (by more than `tolerance`).

    H: float64 [N, N]; linear: float64 [N], on top; rules: only moves that lead to a feasible state count.

    Exact for each state, listed or not: all M (N - M) swaps are tried. Swapping i out of the removed set for
    j changes the energy by f_j - f_i - 2 H_ij, with f_k = H_kk + 2 sum_{l removed, l != k} H_kl (+ linear_k).
    """
    x = np.asarray(x, dtype=bool)
    diagonal = np.diag(H)
    may_swap = np.ones(H.shape, dtype=bool)
    alone = np.zeros(len(H), dtype=bool)  # may go or come without another
    if rules is not None:  # fixed blocks stay where they are, and a swap keeps the count of each class
        free = rules.fixed < 0
        may_swap = free[:, None] & free[None] & (rules.klass[:, None] == rules.klass[None])
        alone = free & (rules.counts[rules.klass] < 0)
    out = np.empty(len(x), dtype=bool)
    for start in range(0, len(x), 256):  # bounded memory: 256 x N x N
        part = x[start : start + 256]
        field = 2 * (part.astype(np.float64) @ H)
        f_in = field - diagonal  # for removed blocks: the part of E that mentions them
        f_out = field + diagonal  # for kept blocks: what removing them would add
        if linear is not None:
            f_in, f_out = f_in + linear, f_out + linear
        change = f_out[:, None, :] - f_in[:, :, None] - 2 * H[None]
        change[~(part[:, :, None] & ~part[:, None, :] & may_swap)] = np.inf
        single = np.where(alone, np.where(part, -f_in, f_out), np.inf)
        if rules is None or not rules.local:
            out[start : start + 256] = np.minimum(change.min(axis=(1, 2)), single.min(axis=1)) >= -tolerance
            continue
        k, i, j = np.nonzero(change < -tolerance)
        lowered = part[k]
        lowered[np.arange(len(k)), i], lowered[np.arange(len(k)), j] = False, True
        k1, i1 = np.nonzero(single < -tolerance)
        flipped = part[k1]
        flipped[np.arange(len(k1)), i1] ^= True
        better = np.concatenate([k[rules.allows(lowered)], k1[rules.allows(flipped)]])
        out[start : start + 256] = ~np.isin(np.arange(len(part)), better)
    return out
