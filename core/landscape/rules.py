"""Single rules for which listed states deserve a measurement, side by side: what each part of the automatic
candidates (core.landscape.candidates) would propose alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.landscape.candidates import Pool, State, candidates, medoid_groups, one_per_basin, window_of
from core.shape.tree import BarrierTree
from core.spectrum.lowest import Spectrum


@dataclass(frozen=True)
class Listed:
    """What a rule looks at. H: float64 [N, N]; noise: float64 [K] or None, as for `candidates`."""

    H: np.ndarray
    tree: BarrierTree
    noise: np.ndarray | None = None

    @property
    def spectrum(self) -> Spectrum:
        """The listed states."""
        return self.tree.valleys.spectrum

    def window(self, count: int) -> np.ndarray:
        """bool [W, N]: the states that the sample cannot tell from the lowest, or enough to choose from."""
        return self.spectrum.x[: window_of(self.spectrum, count, None, self.noise)[0]]


def lowest(listed: Listed, count: int) -> list[State]:
    """The lowest in energy."""
    return listed.spectrum.removed[:count]


def max_min(listed: Listed, count: int) -> list[State]:
    """The ground state, then again and again the state of the window that is least like those chosen."""
    pool = Pool(listed.H, listed.window(count), listed.spectrum, [])
    pool.take(0, "")
    while len(pool.chosen) < count and (k := pool.farthest()) is not None:
        pool.take(k, "")
    return [c.removed for c in pool.chosen]


def medoids(listed: Listed, count: int) -> list[State]:
    """The most central state of each of as many groups of the window."""
    removed = listed.spectrum.removed
    return [removed[k] for k, _ in medoid_groups(listed.window(count), count)]


def per_basin(listed: Listed, count: int) -> list[State]:
    """The minima of the list, the most persistent first; the lowest states fill what is left."""
    found = [c.removed for c in one_per_basin(listed.H, listed.tree, count)]
    seen = set(found)
    return [*found, *(s for s in listed.spectrum.removed if s not in seen)][:count]


def mix(listed: Listed, count: int) -> list[State]:
    """The automatic candidates as they are."""
    found = candidates(listed.H, listed.spectrum, count, noise=listed.noise, tree=listed.tree)
    return [c.removed for c in found.chosen]


RULES: dict[str, Callable[[Listed, int], list[State]]] = {
    "lowest energy": lowest,
    "Pearson max-min": max_min,
    "medoids": medoids,
    "one per basin": per_basin,
    "automatic mix": mix,
}
