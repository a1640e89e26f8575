"""Energies of removed sets, in the x basis (x_i = 1: removed) and as an Ising model.

E(x) = x^T H x (+ linear . x), no factor 1/2; a state's energy splits into its
own cost (sum of H_ii) and its pairs (2 sum_{i<j} H_ij).
"""

from dataclasses import dataclass

import numpy as np

from core.errors import InputError

LARGEST = 1e300  # of a coupling: sums of 4096 x 4096 of them are numbers


def energies(H: np.ndarray, x: np.ndarray, linear: np.ndarray | None = None) -> np.ndarray:
    """float64 [K]: E of each row of `x` (bool or 0/1, [K, N])."""
    x = np.asarray(x, dtype=np.float64)
    e = np.einsum("ki,ki->k", x @ H, x)
    return e if linear is None else e + x @ linear


def own_costs(H: np.ndarray, x: np.ndarray) -> np.ndarray:
    """float64 [K]: the part sum_i H_ii x_i of each state's energy; the rest are its pairs."""
    return np.asarray(x, dtype=np.float64) @ np.diag(H)


@dataclass(frozen=True)
class Spins:
    """E = sum_{i<j} J_ij s_i s_j + sum_i h_i s_i + offset, with s = 2x - 1."""

    J: np.ndarray  # float64 [N, N], symmetric, zero diagonal
    h: np.ndarray  # float64 [N]
    offset: float


def to_spins(H: np.ndarray, linear: np.ndarray | None = None) -> Spins:
    """The Ising form of x^T H x (+ linear . x): J_ij = H_ij / 2, h_i = 1/2 sum_j H_ij."""
    g = np.zeros(len(H)) if linear is None else np.asarray(linear, dtype=np.float64)
    J = H / 2 - np.diag(np.diag(H)) / 2
    return Spins(J, H.sum(axis=1) / 2 + g / 2, float((H.sum() + np.trace(H)) / 4 + g.sum() / 2))


def from_spins(spins: Spins) -> tuple[np.ndarray, float]:
    """(H float64 [N, N], offset): x^T H x + offset is the energy of `spins` at s = 2x - 1.

    h goes to the diagonal, as x_i^2 = x_i.
    """
    J = spins.J - np.diag(np.diag(spins.J))
    offset = spins.offset + float(J.sum() / 2 - spins.h.sum())
    return 2 * J + np.diag(2 * spins.h - 2 * J.sum(axis=1)), offset


def check_matrix(H: np.ndarray, name: str = "the matrix") -> np.ndarray:
    """float64 copy of a symmetric, finite, real, square matrix of at least 2 blocks, no entry beyond LARGEST.

    Asymmetry up to 1e-8 of the largest entries of the two blocks (their geometric mean) counts as rounding
    and is averaged out: beside one block that dwarfs all others it is none.
    Errors: InputError naming what is wrong.
    """
    H = np.asarray(H)
    if H.ndim != 2 or H.shape[0] != H.shape[1]:
        raise InputError(
            f"{name} has shape {tuple(H.shape)}; couplings need a square matrix (blocks x blocks)."
        )
    if len(H) < 2:
        raise InputError(f"{name} has {len(H)} block(s); a choice needs at least 2.")
    if H.dtype.kind not in "fiub":
        raise InputError(f"{name} holds {H.dtype} values; couplings must be real numbers.")
    H = H.astype(np.float64)
    bad = np.argwhere(~np.isfinite(H))
    if len(bad):
        i, j = bad[0]
        raise InputError(
            f"{name} has {len(bad)} entr{'y' if len(bad) == 1 else 'ies'} not finite, the first at row {i}, "
            f"column {j} ({H[i, j]}); recompute it."
        )
    scale = np.abs(H).max()
    if scale > LARGEST:
        raise InputError(
            f"{name} has entries as large as {scale:.3g}, and what is beyond {LARGEST:g} cannot be summed; "
            "divide it by its largest entry."
        )
    sizes = np.sqrt(np.maximum(np.abs(H).max(axis=0), np.abs(H).max(axis=1)))
    excess = np.abs(H - H.T) - 1e-8 * np.outer(sizes, sizes)
    if excess.max() > 0:
        i, j = np.unravel_index(excess.argmax(), H.shape)
        raise InputError(
            f"{name} is not symmetric: entry ({i}, {j}) is {H[i, j]:.6g} and ({j}, {i}) is {H[j, i]:.6g}; "
            "give (H + H.T) / 2 if that is meant."
        )
    return (H + H.T) / 2


def check_linear(g: np.ndarray, blocks: int) -> None:
    """Errors: InputError for a linear term that is not one finite number a block, none beyond LARGEST."""
    if g.shape != (blocks,):
        raise InputError(f"The linear term must be {blocks} finite numbers, not shape {g.shape}.")
    wrong = g[~(np.abs(g) <= LARGEST)]  # NaN as well
    if len(wrong):
        raise InputError(
            f"The linear term must be {blocks} finite numbers of at most {LARGEST:g}, not {wrong[0]:g}."
        )
