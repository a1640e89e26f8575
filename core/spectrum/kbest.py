"""The K best states seen by compiled code: sorted by energy, every state once, in fixed memory.

A state is packed into 64-bit words, block i in bit i % 64 of word i // 64. A pool
is the triple (energies float64 [K], words uint64 [K, W], size int64 [1]).
"""

import numpy as np
from numba import njit

Pool = tuple[np.ndarray, np.ndarray, np.ndarray]


def new_pool(count: int, blocks: int) -> Pool:
    """An empty pool for `count` states of `blocks` blocks."""
    return np.full(count, np.inf), np.zeros((count, (blocks + 63) // 64), np.uint64), np.zeros(1, np.int64)


def pack(x: np.ndarray) -> np.ndarray:
    """uint64 [K, W] from bool [K, N]."""
    x = np.atleast_2d(x).astype(bool)
    padded = np.zeros((len(x), (x.shape[1] + 63) // 64 * 64), dtype=bool)
    padded[:, : x.shape[1]] = x
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def unpack(words: np.ndarray, blocks: int) -> np.ndarray:
    """bool [K, N] from uint64 [K, W]."""
    octets = np.ascontiguousarray(words.astype("<u8")).view(np.uint8)
    return np.unpackbits(octets, axis=1, bitorder="little", count=blocks).astype(bool)


@njit(cache=True, nogil=True)
def pool_limit(pool):
    """The energy a state must stay below to enter."""
    energies, _, size = pool
    return energies[len(energies) - 1] if size[0] == len(energies) else np.inf


@njit(cache=True, nogil=True)
def pool_insert(pool, energy, words, slack):
    """Insert one state; its place, or -1 when it is known or not below the limit by `slack`."""
    energies, rows, size = pool
    k, full = size[0], len(energies)
    if k == full and energy >= energies[full - 1] - slack:
        return -1
    for i in range(k):  # by its blocks alone: the energy of one state differs by rounding from path to path
        if _same(rows[i], words):
            return -1
    place = np.searchsorted(energies[:k], energy)
    last = min(k, full - 1)
    for i in range(last, place, -1):
        energies[i] = energies[i - 1]
        rows[i] = rows[i - 1]
    energies[place] = energy
    rows[place] = words
    size[0] = min(k + 1, full)
    return place


@njit(cache=True, nogil=True)
def _same(a, b):
    for i in range(len(a)):
        if a[i] != b[i]:
            return False
    return True
