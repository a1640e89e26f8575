"""The minima of a list of states, and the valley each state lies in.

States closer than the width of a level are equal. Equal states that moves join are one *plateau*; a plateau
that no move leads down from is one *minimum*. From any other state steepest descent goes to its lowest
neighbour (the first in the list), from a plateau to the lowest neighbour of any of its states, and so to one
minimum: the minimum's *valley* or basin.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from core.errors import InputError
from core.ising.units import Units
from core.shape.descent import lowered
from core.shape.moves import LISTED_MOST, Moves, adjacency, moves_of
from core.spectrum.constraints import Constraints, Rules
from core.spectrum.lowest import COUNT_LIMIT, Spectrum, checked_count, checked_problem, levels, lowest_states

MOST = 20_000  # states listed in search of minima
_MORE = 4  # times as many states when a list holds too few minima
FIRST = 1000  # states listed first


@dataclass(frozen=True)
class Valleys:
    """Minima, the lowest first, and what drains into each."""

    spectrum: Spectrum
    moves: Moves
    neighbours: csr_array  # bool [K, K]: one move apart
    level: np.ndarray  # int64 [K]: of each listed state
    minimum: np.ndarray  # int64 [L]: the first listed state of each minimum
    plateau: np.ndarray  # int64 [L]: listed states of it; 1: a single state
    valley: (
        np.ndarray
    )  # int64 [K]: position in `minimum` of where each listed state drains; -1: out of the list

    @property
    def basin(self) -> np.ndarray:
        """int64 [L]: listed states that drain into each minimum, itself among them."""
        return np.bincount(self.valley[self.valley >= 0], minlength=len(self.minimum))

    @property
    def removed(self) -> list[tuple[int, ...]]:
        """The removed units of each minimum."""
        removed = self.spectrum.removed
        return [removed[k] for k in self.minimum]

    @property
    def energies(self) -> np.ndarray:
        """float64 [L]"""
        return self.spectrum.energies[self.minimum]

    def unsure(self, k: int) -> bool:
        """Whether minimum k lies on a last level that goes on beyond the list: it may be part of a lower
        valley, or of the plateau of another one. The lowest is a minimum all the same.
        """
        return k > 0 and self.spectrum.level_cut and bool(self.level[self.minimum[k]] == self.level[-1])


def valleys(
    spectrum: Spectrum, moves: Moves, H: np.ndarray | None = None, rules: Rules | None = None
) -> Valleys:
    """Of the listed states. H float64 [N, N] and the rules: of a list that is not proved complete,
    whose minima are then tested against all moves, unlisted states too; needless otherwise.

    Errors: InputError for a list that is too long, or not complete and without its H.
    """
    s = spectrum
    if not s.exact and (H is None or rules is None):
        raise InputError("The list is not proved complete, so its minima need H and the rules; give both.")
    near = adjacency(s.x, moves)
    level = levels(s.energies, s.tolerance)
    out = np.zeros(len(s.x), dtype=bool)
    if not s.exact and H is not None and rules is not None:
        out = lowered(H, s.x, moves, rules, s.tolerance)
    flat = _plateaus(near, level)
    target = _downhill(near, level, flat, out)
    root = _roots(target)
    bottom = np.flatnonzero(target == np.arange(len(target)))  # of each minimum its first state
    position = np.full(len(target) + 1, -1, dtype=np.int64)
    position[bottom] = np.arange(len(bottom))
    size = np.bincount(flat, minlength=len(flat))[bottom] if len(flat) else np.zeros(0, np.int64)
    return Valleys(s, moves, near, level, bottom, size, position[root])


def _plateaus(near: csr_array, level: np.ndarray) -> np.ndarray:
    """int64 [K]: the first state of the plateau of each state."""
    k, j = near.nonzero()
    flat = level[k] == level[j]
    equal = csr_array((np.ones(int(flat.sum()), dtype=bool), (k[flat], j[flat])), shape=near.shape)
    _, number = connected_components(equal, directed=False)
    first = np.full(number.max(initial=-1) + 1, len(level), dtype=np.int64)
    np.minimum.at(first, number, np.arange(len(level)))
    return first[number]


def _downhill(near: csr_array, level: np.ndarray, flat: np.ndarray, out: np.ndarray) -> np.ndarray:
    """int64 [K]: the state each one descends to; itself: a minimum, for its first state; -1: out of the list.

    A state with lower neighbours goes to the first of them in the list; others of a plateau go where the
    plateau's first exit is, or to the first state of it.
    """
    count = len(level)
    has = np.diff(near.indptr) > 0
    lowest = np.full(count, count, dtype=np.int64)
    lowest[has] = near.indices[near.indptr[:-1][has]]  # neighbours ascend
    down = lowest < count
    down[down] = level[lowest[down]] < level[down]
    exits = np.full(count, count, dtype=np.int64)  # of each plateau, at its first state
    np.minimum.at(exits, flat[down], lowest[down])
    leaks = np.zeros(count, dtype=bool)
    leaks[flat[out & ~down]] = True
    inside = exits[flat]
    flows = np.where(inside < count, inside, np.where(leaks[flat], -1, flat))
    return np.where(down, lowest, flows)


def _roots(target: np.ndarray) -> np.ndarray:
    """int64 [K]: where following `target` ends."""
    root = np.append(target, -1)  # -1 leads to itself
    while not (root == (after := root[root])).all():
        root = after
    return root[:-1]


@dataclass(frozen=True)
class Minima:
    """The lowest minima, and how far they were looked for."""

    valleys: Valleys
    asked: int
    complete: bool  # proved: no minimum is missing below the last one that is asked for
    why: str  # one sentence without its full stop

    @property
    def count(self) -> int:
        """Minima that are given: as many as asked for, or all found."""
        return min(self.asked, len(self.valleys.minimum))


def lowest_minima(
    H: np.ndarray,
    removed: int | None,
    count: int,
    *,
    constraints: Constraints | None = None,
    moves: str = "swap",
    units: Units | None = None,
    most: int = MOST,
    time_limit: float | None = None,
    report: Callable | None = None,
) -> Minima:
    """The `count` lowest minima of H float64 [N, N]: the list of states grows until they are found.

    removed, constraints, time_limit (seconds for each list), report: as core.spectrum.lowest.lowest_states.
    most: states that are listed at most.
    Errors: InputError as there, and where no state is found in time.
    """
    count = checked_count(count)
    most = min(most, LISTED_MOST, COUNT_LIMIT)
    H, _, rules = checked_problem(H, removed, None, constraints)
    allowed = moves_of(rules, moves, units)
    listed = min(FIRST, most)
    while True:
        s = lowest_states(H, removed, listed, constraints=constraints, time_limit=time_limit, report=report)
        if not len(s.x):
            raise InputError(
                f"Not one state that the rules allow was found in {time_limit:g} s; give more time, or relax "
                "the rules."
            )
        found = valleys(s, allowed, H, rules)
        if len(found.minimum) >= count and not found.unsure(count - 1):
            break
        if not s.exact or len(s.x) < listed or listed == most or np.isinf(s.lower_bound):
            break
        listed = min(_MORE * listed, most)
    return _said(found, count)


def _said(found: Valleys, count: int) -> Minima:
    s, have = found.spectrum, len(found.minimum)
    given = min(have, count)
    some = f"{given} {'minimum' if given == 1 else 'minima'}"
    if not s.exact:
        return Minima(found, count, False, f"{some} found, not proved the lowest: the list is not complete")
    if have >= count and found.unsure(count - 1):
        return Minima(
            found,
            count,
            False,
            f"{some} among the {len(s.x)} lowest states, not proved: the level of the last goes on beyond "
            "the list",
        )
    if have >= count:
        lowest = "lowest minimum" if given == 1 else f"{given} lowest minima"
        return Minima(
            found, count, True, f"the {lowest}, proved: the {len(s.x)} lowest states are all listed"
        )
    if np.isinf(s.lower_bound):
        every = "the only minimum" if given == 1 else f"all {some}"
        return Minima(found, count, True, f"{every}: every state is listed")
    return Minima(
        found, count, False, f"{some} among the {len(s.x)} lowest states; others may lie above them"
    )
