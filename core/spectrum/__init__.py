"""The K lowest states of x^T H x, exact, within constraints.

`lowest_states` with its `Spectrum` (lowest), one spectrum after the other for every M (`sweep`, sweep);
`Constraints` as people write them, `Budget` as the constraints that memory asks for (budget). The engine:
relaxation bounds, tree walks, search runs the threads; moves and kbest find states to start from, and
`heuristic_states` (heuristic) offers those alone. Compiled code is loaded by the first search.
"""

from core.spectrum.budget import Budget, read_budget, with_budget
from core.spectrum.constraints import Constraints, read_constraints
from core.spectrum.lowest import Spectrum, lowest_states

__all__ = [
    "Budget",
    "Constraints",
    "Spectrum",
    "lowest_states",
    "read_budget",
    "read_constraints",
    "with_budget",
]
