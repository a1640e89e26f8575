"""States and their energies: which blocks are removed, E(x) = x^T H x, and the same in other forms.

states are sets of blocks and how alike they are; energies are of H, checked, and of the Ising model;
matrix_files reads H from the files people have; interchange writes the problem for other solvers.
"""

from core.ising.energies import Spins, check_matrix, from_spins, to_spins
from core.ising.matrix_files import read_matrix
from core.ising.states import block_list, indicator, parse_blocks, removed_blocks

__all__ = [
    "Spins",
    "block_list",
    "check_matrix",
    "from_spins",
    "indicator",
    "parse_blocks",
    "read_matrix",
    "removed_blocks",
    "to_spins",
]
