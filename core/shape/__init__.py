"""The shape of an energy landscape: minima, their basins, the barriers between them, paths over them.

A landscape is states, energies, and moves between states (moves). From a list of low states come the minima
and what drains into each (valleys, descent), the tree of barriers (tree) and the easiest path between two
states (paths). The words are those of the field: minimum, basin, barrier, disconnectivity graph (Becker and
Karplus 1997), plateau, funnel. Where the list is complete, everything below its last energy is exact.
"""

from core.shape.moves import MOVES, Moves, moves_of
from core.shape.tree import BarrierTree, barrier_tree
from core.shape.valleys import Valleys, lowest_minima, valleys

__all__ = ["MOVES", "BarrierTree", "Moves", "Valleys", "barrier_tree", "lowest_minima", "moves_of", "valleys"]
