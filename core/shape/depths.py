"""The shape for every M: ground state, gap, minima, and whether the choices are nested."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from core.errors import InputError
from core.shape.descent import sampled_basins
from core.shape.moves import moves_of
from core.shape.valleys import valleys
from core.spectrum.constraints import Constraints, make_rules
from core.spectrum.lowest import lowest_states
from core.spectrum.sweep import Step, sweep

WHOLE = 20_000  # states up to which all are listed, and minima counted
DESCENTS = 500


@dataclass(frozen=True)
class Depth:
    """One M."""

    step: Step
    minima: float  # NaN: the rules leave too few states to draw some at random
    exact: bool  # counted; else estimated from descents, and at least so many
    basin: float  # share of all states that drains into the ground state; NaN likewise


def depths(
    H: np.ndarray,
    constraints: Constraints | None = None,
    *,
    moves: str = "swap",
    time_limit: float | None = None,
    descents: int = DESCENTS,
    report: Callable | None = None,
) -> Iterator[Depth]:
    """Every M that the rules leave feasible, each when it is asked for.

    Where all states can be listed the minima are counted; else random descents say how many there are at
    least (Chao 1984). Errors: InputError as core.spectrum.sweep.sweep.
    """
    for step in sweep(H, constraints=constraints, time_limit=time_limit, report=report):
        rules = make_rules(constraints, len(H), step.removed)
        allowed = moves_of(rules, moves)
        if rules.total is not None and rules.total <= WHOLE:
            found = valleys(lowest_states(H, step.removed, rules.total, constraints=constraints), allowed)
            yield Depth(step, len(found.minimum), True, float(found.basin[0] / rules.total))
            continue
        s = step.spectrum
        try:
            ends = sampled_basins(H, allowed, rules, descents, tolerance=s.tolerance)
        except InputError:
            yield Depth(step, math.nan, False, math.nan)
            continue
        ground = (ends.x == s.x[0]).all(axis=1)
        yield Depth(step, ends.minima, False, float(ends.hits[ground].sum() / descents))


def nested(steps: list[Step]) -> list[int]:
    """The M whose ground state is that of M - 1 and one unit more, as greedy removal assumes."""
    both = itertools.pairwise(steps)  # an M of which nothing was found in time is left out
    return [step.removed for before, step in both if step.nested and step.removed == before.removed + 1]
