"""The K lowest states of x^T H x, exact, within constraints.

`lowest_states` with its `Spectrum` (lowest), one spectrum after the other for every M (`sweep`, sweep);
`Constraints` as people write them (constraints), `Budget` as what memory asks of them, "24 GB at 8k context"
(memory_budget). The engine: relaxation bounds, tree_walk walks, branch_and_bound runs the threads; moves and
kbest find states to start from, and `heuristic_states` (heuristic) offers those alone, without a proof.
Compiled code is loaded by the first search.
"""

from core.spectrum.constraints import Constraints, read_constraints
from core.spectrum.lowest import Spectrum, lowest_states
from core.spectrum.memory_budget import Budget, read_budget, with_budget

__all__ = [
    "Budget",
    "Constraints",
    "Spectrum",
    "lowest_states",
    "read_budget",
    "read_constraints",
    "with_budget",
]
