"""The landscape of swaps: a move puts one removed block back and removes another."""

import numpy as np


def minima(H: np.ndarray, x: np.ndarray, linear: np.ndarray | None = None, tolerance: float = 0.0) -> np.ndarray:
    """bool [K]: which rows of x [K, N] no single swap lowers (by more than `tolerance`).

    Exact for each state, listed or not: all M (N - M) swaps are tried. Swapping i
    out of the removed set for j changes the energy by f_j - f_i - 2 H_ij, where
    f_k = H_kk + 2 sum_{l removed, l != k} H_kl (+ linear_k).
    """
    x = np.asarray(x, dtype=bool)
    diagonal = np.diag(H)
    out = np.empty(len(x), dtype=bool)
    for start in range(0, len(x), 256):  # bounded memory: 256 x M x (N - M)
        part = x[start : start + 256]
        field = 2 * (part.astype(np.float64) @ H)
        f_in = field - diagonal  # for removed blocks: the part of E that mentions them
        f_out = field + diagonal  # for kept blocks: what removing them would add
        if linear is not None:
            f_in, f_out = f_in + linear, f_out + linear
        change = f_out[:, None, :] - f_in[:, :, None] - 2 * H[None]
        change[~(part[:, :, None] & ~part[:, None, :])] = np.inf
        out[start : start + 256] = change.min(axis=(1, 2)) >= -tolerance
    return out
