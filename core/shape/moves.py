"""The moves of a landscape, and which listed states are one move apart.

A *swap* puts one removed unit back and removes another; a *shift* is a swap with the next unit in depth.
Where rules leave the number of removed units open, one may also come back or go alone.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from core.errors import InputError
from core.ising.units import Units
from core.spectrum.constraints import Rules

MOVES = {
    "swap": "one removed unit comes back and another goes",
    "shift": "a removed unit gives way to the next",
}
LISTED_MOST = 50_000  # states of a list: all pairs of them are looked at
_ROWS = 1024  # at once


@dataclass(frozen=True)
class Moves:
    """Which single changes of a state count as a move; what a rule forbids is in neither array."""

    name: str
    swap: np.ndarray  # bool [N, N], symmetric: one of the two may come back for the other
    alone: np.ndarray  # bool [N]: may go or come back without another


def moves_of(rules: Rules, name: str = "swap", units: Units | None = None) -> Moves:
    """The moves that rules leave; units: whose depth a shift follows (None: their numbers).

    A shift stays among units of one kind where units are branches. Errors: InputError for another name.
    """
    if name not in MOVES:
        raise InputError(f"A move is one of {', '.join(MOVES)}, not {name[:40]!r}.")
    free, opened = rules.fixed < 0, rules.counts[rules.klass] < 0
    swap = free[:, None] & free & ((rules.klass[:, None] == rules.klass) | (opened[:, None] & opened))
    swap &= ~np.eye(len(free), dtype=bool)
    if name == "shift":
        swap &= _next_in_depth(len(free), units)
    return Moves(name, swap, free & opened)


def _next_in_depth(n: int, units: Units | None) -> np.ndarray:
    """bool [N, N]: pairs of units with none of their kind between them."""
    next_to = np.zeros((n, n), dtype=bool)
    kinds = [""] * n if units is None or len(set(units.block)) == n else units.kinds
    for kind in sorted(set(kinds)):
        own = [u for u in range(n) if kinds[u] == kind]
        next_to[own[:-1], own[1:]] = next_to[own[1:], own[:-1]] = True
    return next_to


def adjacency(x: np.ndarray, moves: Moves) -> csr_array:
    """bool [K, K], symmetric: which rows of x bool [K, N], all of them feasible, are one move apart.

    Errors: InputError for too many states.
    """
    if len(x) > LISTED_MOST:
        raise InputError(
            f"{len(x)} states are too many to look for neighbours among; list at most {LISTED_MOST}."
        )
    p, removed = x.astype(np.float32), x.sum(axis=1).astype(np.float32)
    one_m = not np.ptp(removed) if len(x) else True
    first, second = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(x), _ROWS):
        stop = min(start + _ROWS, len(x))
        common = p[start:stop] @ p[:stop].T
        if one_m:
            found = common == removed[0] - 1
        else:  # two units differ: a swap, where M is the same; one: it went or came back alone
            apart = removed[start:stop, None] + removed[:stop] - 2 * common
            found = (apart == 1) | (apart == 2)
        later, earlier = np.divmod(np.flatnonzero(found), stop)
        later += start
        below = earlier < later
        later, earlier = later[below], earlier[below]
        fits = _is_move(x, later, earlier, moves)
        first.append(later[fits])
        second.append(earlier[fits])
    later, earlier = np.concatenate(first), np.concatenate(second)
    ends = np.concatenate([later, earlier]), np.concatenate([earlier, later])
    near = csr_array((np.ones(2 * len(later), dtype=bool), ends), shape=(len(x), len(x)))
    near.sort_indices()
    return near


def _is_move(x: np.ndarray, later: np.ndarray, earlier: np.ndarray, moves: Moves) -> np.ndarray:
    """bool [E]: of pairs of states that differ in one unit or two, those that a move joins."""
    even = x[later].sum(axis=1) == x[earlier].sum(axis=1)
    # two feasible states that a swap parts: no rule forbids it
    if moves.name == "swap" and not moves.alone.any():
        return even
    apart = x[later] ^ x[earlier]
    single = apart.sum(axis=1) == 1
    i, j = apart.argmax(axis=1), apart.shape[1] - 1 - apart[:, ::-1].argmax(axis=1)
    return np.where(single, moves.alone[i], even & moves.swap[i, j])
