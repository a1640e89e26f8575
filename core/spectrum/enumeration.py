"""All states of M blocks, part by part, with their energies: quick enough for some ten million.

The blocks are split into two halves. The energies of all pairs of half-states come from one matrix product
for each pair of counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from core.ising.energies import energies

ENUMERATION_LIMIT = 5 * 10**7  # states
_CHUNK = 1 << 17  # energies held at once: they stay in the cache


@dataclass(frozen=True)
class Part:
    """All pairs of some states of the first half of the blocks with some of the other."""

    left: np.ndarray  # bool [a, N // 2], in list order
    right: np.ndarray  # bool [b, N - N // 2], in list order
    energies: np.ndarray  # float64 [a, b]; of this part alone: it may be overwritten


def parts(H: np.ndarray, m: int, linear: np.ndarray | None = None) -> Iterator[Part]:
    """Every state of `m` removed blocks once; H: float64 [N, N]; linear: float64 [N], added literally."""
    n = len(H)
    half = n // 2
    g = np.zeros(n) if linear is None else linear
    cross = 2 * H[:half, half:]
    for c in range(max(0, m - (n - half)), min(half, m) + 1):  # removed in the left half
        left, right = subsets(half, c), subsets(n - half, m - c)
        xl, xr = left.astype(np.float64), right.astype(np.float64)
        el = energies(H[:half, :half], xl, g[:half])
        er = energies(H[half:, half:], xr, g[half:])
        # E = (x_l cross) . x_r + E_l + E_r as one product: no further pass over the energies
        rows = np.concatenate([xl @ cross, el[:, None], np.ones((len(xl), 1))], axis=1)
        columns = np.concatenate([xr, np.ones((len(xr), 1)), er[:, None]], axis=1).T
        step = max(1, _CHUNK // len(xr))
        for start in range(0, len(xl), step):
            yield Part(left[start : start + step], right, rows[start : start + step] @ columns)


def subsets(n: int, c: int) -> np.ndarray:
    """bool [C(n, c), n]: all c-subsets in lexicographic order of their sorted lists."""
    if c == 0:
        return np.zeros((1, n), dtype=bool)
    if 2 * c > n:  # on the way to long lists there are far more of middling length
        return ~subsets(n, n - c)[::-1]
    rows = np.arange(n)[:, None]
    for _ in range(c - 1):  # extend every list by each later element, keeping the order
        last = rows[:, -1]
        repeats = n - 1 - last
        owner = np.repeat(np.arange(len(rows)), repeats)
        offset = np.arange(len(owner)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        rows = np.concatenate([rows[owner], (last[owner] + 1 + offset)[:, None]], axis=1)
    x = np.zeros((len(rows), n), dtype=bool)
    np.put_along_axis(x, rows, True, axis=1)
    return x
