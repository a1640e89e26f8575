"""The K best states seen by compiled code: every state once, in fixed memory, each offered at O(log K).

A state is packed into 64-bit words, block i in bit i % 64 of word i // 64. States lie in slots, in no order:
a heap finds the highest, which the next better one replaces, and a hash table finds whether a state is known.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

_A, _B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)  # odd, to mix the bits of a word
_SHIFT = np.uint64(29)


class Pool(NamedTuple):
    """The arrays of a pool, as compiled code takes them."""

    energies: np.ndarray  # float64 [K] by slot; inf: empty
    words: np.ndarray  # uint64 [K, W] by slot
    closed: np.ndarray  # bool [K] by slot: whether all that one move makes of the state was offered
    size: np.ndarray  # int64 [1]: slots taken, the first ones
    heap: (
        np.ndarray
    )  # int64 [K]: slots, the highest energy first, that of 2 i + 1 and 2 i + 2 below that of i
    table: np.ndarray  # int32 [a power of two]: slot + 1 at or behind the place its words hash to; 0: empty


def new_pool(count: int, blocks: int) -> Pool:
    """An empty pool for `count` states of `blocks` blocks."""
    places = 1 << (2 * count).bit_length()  # more than 2 K, so that searches in the table stay short
    return Pool(
        np.full(count, np.inf),
        np.zeros((count, (blocks + 63) // 64), np.uint64),
        np.zeros(count, np.bool_),
        np.zeros(1, np.int64),
        np.zeros(count, np.int64),
        np.zeros(places, np.int32),
    )


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


def pool_states(pool: Pool, blocks: int) -> np.ndarray:
    """bool [k, N]: the states of a pool, in an order that depends on the states alone."""
    words = pool.words[: pool.size[0]]
    return unpack(words[np.lexsort(words.T[::-1])], blocks)


@njit(cache=True, nogil=True)
def pool_limit(pool):
    """The energy a state must stay below to enter."""
    return pool.energies[pool.heap[0]] if pool.size[0] == len(pool.energies) else np.inf


@njit(cache=True, nogil=True)
def pool_insert(pool, energy, words, slack):
    """Insert one state; False when it is known or not below the limit by `slack`."""
    k, full = pool.size[0], len(pool.energies)
    if k == full and energy >= pool.energies[pool.heap[0]] - slack:
        return False
    # by its blocks alone: the energy of one state differs by rounding from path to path
    place = _place(pool, words)
    if pool.table[place]:
        return False
    if k < full:
        slot = k
        pool.size[0] = k + 1
        _rise(pool, energy, slot, k)
    else:
        slot = pool.heap[0]
        _forget(pool, slot)
        place = _place(pool, words)
        _sink(pool, energy, slot)
    pool.energies[slot] = energy
    pool.words[slot] = words
    pool.closed[slot] = False
    pool.table[place] = slot + 1
    return True


@njit(cache=True, nogil=True)
def _rise(pool, energy, slot, i):
    """Put a new slot into the heap, from its last place `i` on upwards."""
    while i > 0 and pool.energies[pool.heap[(i - 1) // 2]] < energy:
        pool.heap[i] = pool.heap[(i - 1) // 2]
        i = (i - 1) // 2
    pool.heap[i] = slot


@njit(cache=True, nogil=True)
def _sink(pool, energy, slot):
    """Put a slot into the heap in place of the highest."""
    i, k = 0, pool.size[0]
    while True:
        below = 2 * i + 1
        if below >= k:
            break
        if below + 1 < k and pool.energies[pool.heap[below + 1]] > pool.energies[pool.heap[below]]:
            below += 1
        if pool.energies[pool.heap[below]] <= energy:
            break
        pool.heap[i] = pool.heap[below]
        i = below
    pool.heap[i] = slot


@njit(cache=True, nogil=True)
def _home(words, places):
    """Where in the table a state is looked for first."""
    h = np.uint64(0)
    for i in range(len(words)):
        h = (h ^ words[i]) * _A
        h = (h ^ (h >> _SHIFT)) * _B
        h ^= h >> _SHIFT
    return np.int64(h & np.uint64(places - 1))


@njit(cache=True, nogil=True)
def _place(pool, words):
    """The place of a state in the table, or the empty one where it would go."""
    places = len(pool.table)
    at = _home(words, places)
    while pool.table[at] and not _same(pool.words[pool.table[at] - 1], words):
        at = (at + 1) & (places - 1)
    return at


@njit(cache=True, nogil=True)
def _forget(pool, slot):
    """Take a slot out of the table; those behind it that it kept from their own place move up."""
    places = len(pool.table)
    hole = _place(pool, pool.words[slot])
    at = hole
    while True:
        at = (at + 1) & (places - 1)
        if pool.table[at] == 0:
            break
        home = _home(pool.words[pool.table[at] - 1], places)
        if (at - home) & (places - 1) >= (at - hole) & (places - 1):
            pool.table[hole] = pool.table[at]
            hole = at
    pool.table[hole] = 0


@njit(cache=True, nogil=True)
def _same(a, b):
    for i in range(len(a)):
        if a[i] != b[i]:
            return False
    return True
