"""How many blocks?

The ground state of every M, one after the other, and what changes from one to the next.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from core.errors import InputError
from core.spectrum.constraints import Constraints
from core.spectrum.lowest import Spectrum, checked_problem, lowest_states

COUNT = 20  # states of each M: enough to see the ground level and the gap


@dataclass(frozen=True)
class Step:
    """The lowest states of one M, and how its ground state differs from that of the M listed before."""

    removed: int
    spectrum: Spectrum
    entered: tuple[int, ...]  # blocks that the ground state removes and the one before keeps
    left: tuple[int, ...]  # blocks that the one before removes and this one keeps

    @property
    def ground(self) -> tuple[int, ...]:
        """The removed blocks of the ground state."""
        return self.spectrum.removed[0]

    @property
    def energy(self) -> float:
        """Of the ground state."""
        return float(self.spectrum.energies[0])

    @property
    def gap(self) -> float | None:
        """Energy of the next level above the ground level; None when the listed states are all on the ground
        level.
        """
        return None if math.isinf(self.spectrum.gap) else self.spectrum.gap

    @property
    def degeneracy(self) -> int:
        """States of the ground level: at least so many where the level goes on beyond the list."""
        return self.spectrum.degeneracy

    @property
    def nested(self) -> bool:
        """Whether it only adds blocks to the choice before: greedy removal would find it from there."""
        return not self.left


def sweep(
    H: np.ndarray,
    count: int = COUNT,
    linear: np.ndarray | None = None,
    *,
    constraints: Constraints | None = None,
    time_limit: float | None = None,
    report: Callable | None = None,
) -> Iterator[Step]:
    """A step for every M = 1..N-1 that the constraints leave feasible, each solved when it is asked for.

    time_limit: seconds for each M; an M of which no state is found by then is left out. Each search starts
    from the states of the M before with one block more. On a degenerate ground level, the state with the
    first list stands for it.
    Errors: InputError as in core.spectrum.lowest.lowest_states, and when no M is feasible.
    """
    H, g, _ = checked_problem(H, 1, linear, None)
    before: Step | None = None
    error: InputError | None = None
    for m in range(1, len(H)):
        seeds = _one_more(H, g, before.spectrum.x) if before else None
        try:
            found = lowest_states(
                H, m, count, g, constraints=constraints, time_limit=time_limit, report=report, seeds=seeds
            )
        except InputError as infeasible:
            error = infeasible
            continue
        if len(found.x):
            now, old = set(found.removed[0]), set(before.ground) if before else set()
            before = Step(m, found, tuple(sorted(now - old)), tuple(sorted(old - now)))
            yield before
    if before is None and error is not None:
        raise error


def _one_more(H: np.ndarray, g: np.ndarray, x: np.ndarray) -> np.ndarray:
    """bool [K, N]: every row of x with the block removed as well that raises its energy least."""
    rise = np.where(x, np.inf, 2 * (x @ H) + np.diag(H) + g)
    more = x.copy()
    more[np.arange(len(x)), rise.argmin(axis=1)] = True
    return more
