"""The easiest way from one state to another: the path of moves whose highest energy is lowest (minimax).

Of listed states and below the end of a complete list it is exact. Where two states are not connected within
the list, or one is not listed, the best *direct* path (every step undoes one difference) bounds the barrier
from above, and the end of the list from below.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from core.errors import InputError
from core.ising.energies import energies
from core.ising.states import indicator
from core.shape.valleys import Valleys
from core.spectrum.constraints import Rules

State = tuple[int, ...]
_WIDTH = 4000  # states at one distance of the direct path that are followed: all of them up to 7 swaps


@dataclass(frozen=True)
class Path:
    """States from one to another, one move apart."""

    removed: list[State]
    energies: np.ndarray  # float64 [steps + 1]
    exact: bool  # no path has a lower highest energy
    at_least: float  # of the highest energy of any path
    why: str  # one sentence without its full stop

    @property
    def barrier(self) -> float:
        """The highest energy on the way."""
        return float(self.energies.max())

    @property
    def top(self) -> int:
        """The step where it is, the first of several."""
        return int(self.energies.argmax())


def path(H: np.ndarray, valleys: Valleys, start: State, end: State, rules: Rules) -> Path:
    """The minimax path between two states of H float64 [N, N]; of those the one of fewest moves, and of those
    the lowest.

    rules: those of the list. Errors: InputError where the two cannot be joined: other numbers of units, or
    rules that leave no path that is known.
    """
    start, end = tuple(sorted(start)), tuple(sorted(end))
    for state in (start, end):
        if not rules.allows(indicator([state], len(H)))[0]:
            raise InputError(
                f"The rules of the list do not allow {list(state)}; choose a state that they allow."
            )
    s = valleys.spectrum
    rank = {state: k for k, state in enumerate(s.removed)}
    if start in rank and end in rank and (ranks := _listed(valleys, rank[start], rank[end])) is not None:
        e = s.energies[ranks]
        sure = (
            "exact: every state below it is listed" if s.exact else "the list is not proved: it may be lower"
        )
        return Path(
            [s.removed[k] for k in ranks],
            e,
            s.exact,
            float(e.max()) if s.exact else float(e[[0, -1]].max()),
            sure,
        )
    found = _direct(H, start, end, rules, valleys.moves.swap, valleys.moves.alone)
    if found is None:
        raise InputError(
            f"No direct path joins {list(start)} and {list(end)} within the rules and moves; choose other "
            "states, or list more of them."
        )
    steps, every = found
    e = energies(H, indicator(steps, len(H)))
    ends = float(max(e[0], e[-1]))
    least = max(ends, float(s.energies[-1])) if s.exact and np.isfinite(s.lower_bound) else ends
    exact = float(e.max()) <= least
    why = (
        "exact: no higher than its ends"
        if exact
        else f"at most so high: the best path {'' if every else 'found '}whose every step undoes a difference"
    )
    return Path(steps, e, exact, least, why)


def _listed(valleys: Valleys, start: int, end: int) -> list[int] | None:
    """Ranks of the minimax path in the list; None where it does not connect the two."""
    level, near = valleys.level, valleys.neighbours
    # the lowest level up to which they are connected, by halving
    low, high = int(max(level[start], level[end])), int(level.max())
    if not _reaches(near, level, start, end, high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _reaches(near, level, start, end, middle) else (middle + 1, high)
    return _shortest(near, level, valleys.spectrum.energies, start, end, high)


def _of(near: csr_array, k: int) -> list[int]:
    """The neighbours of state k, ascending."""
    return near.indices[near.indptr[k] : near.indptr[k + 1]].tolist()


def _reaches(near: csr_array, level: np.ndarray, start: int, end: int, top: int) -> bool:
    """Whether moves over states up to level `top` lead from one state to another."""
    seen = np.zeros(len(level), dtype=bool)
    seen[start], front = True, [start]
    while front:
        around = np.unique(near[front].indices)
        front = around[~seen[around] & (level[around] <= top)].tolist()
        seen[front] = True
    return bool(seen[end])


def _shortest(near: csr_array, level: np.ndarray, e: np.ndarray, start: int, end: int, top: int) -> list[int]:
    """The path of fewest moves over states up to level `top`; of those the lowest sum of energies."""
    before = {start: -1}
    cost, front = {start: 0.0}, [start]
    while end not in before:
        ahead: dict[int, float] = {}
        for k in front:
            for j in _of(near, k):
                if level[j] <= top and j not in before:
                    total = cost[k] + float(e[j])
                    if total < ahead.get(j, np.inf):
                        ahead[j], cost[j] = total, total
        parent = {}
        for k in front:
            for j in _of(near, k):
                if j in ahead and j not in parent and cost[k] + float(e[j]) == ahead[j]:
                    parent[j] = k
        before |= parent
        front = list(ahead)
    steps = [end]
    while steps[-1] != start:
        steps.append(before[steps[-1]])
    return steps[::-1]


def _direct(
    H: np.ndarray, start: State, end: State, rules: Rules, swap: np.ndarray, alone: np.ndarray
) -> tuple[list[State], bool] | None:
    """(the direct path of lowest highest energy, whether all were looked at, or at a distance from the end
    the lowest _WIDTH only); None where there is none.
    """
    first = len(set(start) ^ set(end))
    # by how many units differ from the end: {state: (highest energy on the way, moves, their sum, before)}
    ahead: dict[int, dict[State, tuple[float, int, float, State | None]]] = {k: {} for k in range(first + 1)}
    ahead[first][start] = (-np.inf, 0, 0.0, None)
    known: dict[State, State | None] = {}
    every = True
    for left in range(first, 0, -1):
        here = ahead[left]
        if len(here) > _WIDTH:
            every, here = False, dict(sorted(here.items(), key=lambda item: item[1][:3])[:_WIDTH])
        known |= {a: way[3] for a, way in here.items()}
        tried = [(a, b) for a in here for b in _steps(a, end, swap, alone)]
        states = list(dict.fromkeys(b for _, b in tried))
        x = indicator(states, len(H))
        height = {b: float(e) for b, e, fit in zip(states, energies(H, x), rules.allows(x)) if fit}
        for a, b in tried:
            if b in height:
                highest, moves, total, _ = here[a]
                way = (max(highest, height[b]), moves + 1, total + height[b], a)
                there = ahead[left - (2 if len(a) == len(b) else 1)]
                if b not in there or way[:3] < there[b][:3]:
                    there[b] = way
    if end not in ahead[0]:
        return None
    steps, before = [end], ahead[0][end][3]
    while before is not None:
        steps.append(before)
        before = known[before]
    return steps[::-1], every


def _steps(a: State, end: State, swap: np.ndarray, alone: np.ndarray) -> list[State]:
    """The states one move nearer to `end`."""
    out, into = sorted(set(a) - set(end)), sorted(set(end) - set(a))
    found = [_moved(a, i, j) for i, j in itertools.product(out, into) if swap[i, j]]
    found += [tuple(k for k in a if k != i) for i in out if alone[i]]
    return found + [tuple(sorted((*a, j))) for j in into if alone[j]]


def _moved(a: State, i: int, j: int) -> State:
    return tuple(sorted((*(k for k in a if k != i), j)))
