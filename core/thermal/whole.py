"""Problems whose states can all be enumerated: M of N units, some of them fixed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from core.spectrum.constraints import Rules
from core.spectrum.enumeration import ENUMERATION_LIMIT, Part, parts

_WIDEST = 128  # open units


@dataclass(frozen=True)
class Whole:
    """The open units of a problem, and the energy of what is fixed."""

    H: np.ndarray  # float64 [n, n]: of the open units, the pairs with what always goes on the diagonal
    removed: int  # of the open units
    open: np.ndarray  # int64 [n]: their numbers
    gone: np.ndarray  # bool [N]: units that every state removes
    offset: float  # energy of every state on top

    def parts(self) -> Iterator[Part]:
        """Every state once, with its whole energy; states are of the open units."""
        for part in parts(self.H, self.removed):
            part.energies.__iadd__(self.offset)
            yield part


def whole(H: np.ndarray, rules: Rules, most: int = ENUMERATION_LIMIT) -> Whole | None:
    """The problem in that form; None where rules say more than M and fixed units, or it has over `most`
    states.
    """
    if rules.local or len(rules.counts) > 1 or rules.counts[0] < 0:
        return None
    opened, gone = np.flatnonzero(rules.fixed < 0), rules.fixed == 1
    removed = int(rules.counts[0]) - int(gone.sum())
    if not 0 < removed < len(opened) or len(opened) > _WIDEST or math.comb(len(opened), removed) > most:
        return None
    inner = H[np.ix_(opened, opened)] + np.diag(2 * H[np.ix_(opened, np.flatnonzero(gone))].sum(axis=1))
    fixed = gone.astype(np.float64)
    return Whole(inner, removed, opened, gone, float(fixed @ H @ fixed))
