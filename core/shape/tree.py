"""The barrier tree of a list of states, the field's disconnectivity graph (Becker and Karplus 1997).

The list is flooded in order of energy: a minimum starts a lake; where a state joins two lakes, its energy is
the barrier between them, and the lake of the lower minimum goes on (the elder rule). Of a complete list every
barrier is exact; lakes that stay apart are not connected below the last listed energy.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree

from core.shape.valleys import Valleys


@dataclass(frozen=True)
class BarrierTree:
    """Merges of lakes, the lowest barrier first; numbers are positions in `valleys.minimum`."""

    valleys: Valleys
    survivor: np.ndarray  # int64 [B]: the lowest minimum of the part that goes on
    dying: np.ndarray  # int64 [B]: the lowest minimum of the other
    energy: np.ndarray  # float64 [B]: absolute, of the barrier
    saddle: np.ndarray  # int64 [B]: the listed state that joins them
    top: float  # energy up to which the list says everything
    exact: bool  # False: the list is not proved, and a barrier may be lower

    @property
    def roots(self) -> np.ndarray:
        """int64: minima whose lakes are not connected below `top`, ascending."""
        return np.setdiff1d(np.arange(len(self.valleys.minimum)), self.dying)

    @property
    def persistence(self) -> np.ndarray:
        """float64 [L]: how far each minimum lies below its barrier to a lower one; inf for roots."""
        found = np.full(len(self.valleys.minimum), np.inf)
        found[self.dying] = self.energy - self.valleys.energies[self.dying]
        return found

    def lasting(self, count: int) -> np.ndarray:
        """int64: the `count` most persistent minima, ascending; of those that end nowhere the ground state
        and then those farthest below the last listed energy.
        """
        known = self.known_persistence
        known[:1] = np.inf
        return np.sort(np.lexsort([np.arange(len(known)), -known])[:count])

    @property
    def known_persistence(self) -> np.ndarray:
        """float64 [L]: the same; at least so far for those that end nowhere: below the last listed energy."""
        v = self.valleys
        return np.minimum(self.persistence, v.spectrum.energies[-1:].sum() - v.energies)

    def barriers(self) -> np.ndarray:
        """float64 [L, L]: the barrier between every two minima, absolute; their own energy on the diagonal,
        inf where they are not connected below `top`.
        """
        n = len(self.valleys.minimum)
        found = np.full((n, n), np.inf)
        np.fill_diagonal(found, self.valleys.energies)
        lake = {i: [i] for i in range(n)}
        for survivor, dying, energy in zip(self.survivor.tolist(), self.dying.tolist(), self.energy):
            joined = lake.pop(dying)
            found[np.ix_(lake[survivor], joined)] = energy
            found[np.ix_(joined, lake[survivor])] = energy
            lake[survivor] += joined
        return found

    def merges(self, kept: np.ndarray) -> np.ndarray:
        """int64: the merges that stay when only the minima `kept` are drawn; `lasting` keeps every survivor
        of those it keeps.
        """
        return np.flatnonzero(np.isin(self.dying, kept))


def barrier_tree(valleys: Valleys) -> BarrierTree:
    """The tree of the minima of a list."""
    s = valleys.spectrum
    position = np.full(len(s.x), -1, dtype=np.int64)
    position[valleys.minimum] = np.arange(len(valleys.minimum))
    merges = np.array(_flood(valleys.neighbours, position), dtype=np.int64).reshape(-1, 3)
    survivor, dying, saddle = merges.T
    top = float(s.energies[-1]) if len(s.x) and np.isfinite(s.lower_bound) else float("inf")
    return BarrierTree(valleys, survivor, dying, s.energies[saddle], saddle, top, s.exact)


def _flood(near: csr_array, position: np.ndarray) -> list[tuple[int, int, int]]:
    """(survivor, dying, saddle) of every merge, states joining their earlier neighbours in turn.

    position: [K], of a minimum at its first state, else -1. Lakes without a minimum of their own are parts of
    a plateau (or drain out of the list): joining them is no merge.
    """
    later, earlier = near.nonzero()
    up = earlier < later
    weights = csr_array((later[up], (later[up], earlier[up])), shape=near.shape)
    tree = minimum_spanning_tree(weights).tocoo()  # only its edges ever join two lakes
    order = np.lexsort([tree.col, tree.row])
    parent, lowest, merges = list(range(len(position))), position.tolist(), []

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = k = parent[parent[k]]
        return k

    for saddle, edges in itertools.groupby(
        zip(tree.row[order].tolist(), tree.col[order].tolist()), itemgetter(0)
    ):
        lakes = [saddle, *(root(k) for _, k in edges)]
        minima = sorted(lowest[lake] for lake in lakes if lowest[lake] >= 0)
        merges += [(minima[0], other, saddle) for other in minima[1:]]
        for lake in lakes[:-1]:
            parent[lake] = lakes[-1]
        lowest[lakes[-1]] = minima[0] if minima else -1
    return merges


def columns(tree: BarrierTree, kept: Sequence[int] | np.ndarray) -> np.ndarray:
    """float64 [len(kept)]: where to draw each kept minimum, 0 to 1, so that no branch crosses another and
    both sides of every stem weigh about the same.

    kept: as `BarrierTree.lasting` gives them. Every lake stands under its lowest minimum; what merges into it
    goes to its lighter side, the earlier the nearer.
    """
    kept = [int(i) for i in kept]
    # (left of the stem, the stem, right of it)
    lake: dict[int, tuple[list[int], list[int], list[int]]] = {i: ([], [i], []) for i in kept}
    for b in tree.merges(np.array(kept, dtype=np.int64)):
        left, stem, right = lake[int(tree.survivor[b])]
        joined = [i for part in lake.pop(int(tree.dying[b])) for i in part]
        if len(left) < len(right):
            left[:0] = joined
        else:
            right += joined
    order = [i for part in _alternating(lake) for i in part]
    place = {i: k for k, i in enumerate(order)}
    return np.array([place[i] for i in kept], dtype=np.float64) / max(1, len(kept) - 1)


def _alternating(lake: dict) -> list[list[int]]:
    """The lakes that stay apart, the lowest in the middle and the others to its lighter side in turn."""
    left: list[list[int]] = []
    right: list[list[int]] = []
    middle: list[list[int]] = []
    for lowest in sorted(lake):
        own = [i for part in lake[lowest] for i in part]
        if not middle:
            middle = [own]
        elif sum(map(len, left)) < sum(map(len, right)):
            left.insert(0, own)
        else:
            right.append(own)
    return [*left, *middle, *right]
