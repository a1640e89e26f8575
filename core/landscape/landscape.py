"""A landscape: the listed states of a spectrum, with what every one of them is worth."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from core.ising.energies import own_costs
from core.ising.states import blocks_changed, pearson
from core.shape.moves import moves_of
from core.shape.tree import BarrierTree, barrier_tree
from core.shape.valleys import Valleys, valleys
from core.spectrum.constraints import Constraints, make_rules
from core.spectrum.lowest import Spectrum


@dataclass(frozen=True)
class Landscape:
    """A solved spectrum with what every listed state is worth."""

    H: np.ndarray  # float64 [N, N]
    spectrum: Spectrum
    removed: int | None  # M; None: the rules say how much goes, and states of different sizes are compared
    own: np.ndarray  # float64 [K]: the part of the energy that is no pair
    valleys: Valleys  # its minima, and what drains into each
    changed: np.ndarray  # int [K]: blocks that differ from the ground state
    pearson: np.ndarray  # float64 [K]: with the ground state

    @cached_property
    def minimum(self) -> np.ndarray:
        """bool [K]: the states that no allowed swap lowers, of a plateau the first one."""
        found = np.zeros(len(self.spectrum.x), dtype=bool)
        found[self.valleys.minimum] = True
        return found

    @cached_property
    def tree(self) -> BarrierTree:
        """The barriers between the minima."""
        return barrier_tree(self.valleys)

    @property
    def ground(self) -> tuple[int, ...]:
        """The state of lowest energy, as its removed blocks."""
        return self.spectrum.removed[0]


def landscape(
    H: np.ndarray, spectrum: Spectrum, constraints: Constraints | None = None, *, free: bool = False
) -> Landscape:
    """What each listed state of a spectrum of H, float64 [N, N], is worth; constraints: those it respects.

    free: no number of blocks was asked for, as is plain where the states remove different numbers: the
    constraints alone say which moves count.
    """
    x = spectrum.x
    removed = None if free or np.ptp(x.sum(axis=1)) else int(x[0].sum())
    rules = make_rules(constraints, len(H), removed)
    return Landscape(
        H,
        spectrum,
        removed,
        own_costs(H, x),
        valleys(spectrum, moves_of(rules), H, rules),
        blocks_changed(x, x[0]),
        pearson(x, x[:1])[:, 0],
    )
