"""States healed with one budget, side by side: does the order by energy, and by loss, survive it?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from core.compare.agreement import spearman

FEWEST = 3  # states below which an order says nothing
RULERS = ("energy", "before", "after")


@dataclass(frozen=True)
class Healed:
    """A state and what healing made of it; losses in nats a token, on the same sequences for all states."""

    removed: tuple[int | str, ...]  # units by their names
    original: float
    before: float  # pruned
    after: float  # healed
    energy: float | None = None  # None: no landscape says it
    rank: int | None = None  # by energy among all states of its M; None: not known

    @property
    def won(self) -> float | None:
        """The share of the loss increase that came back; None where there was none."""
        rise = self.before - self.original
        return (self.before - self.after) / rise if rise > 0 else None


def won_in_words(share: float) -> str:
    """What came back of a loss increase, in a sentence without its full stop."""
    if share <= -0.005:
        grown = f"{-100 * share:.0f} % larger" if share > -0.5 else f"{1 - share:.1f} times as large"
        return f"worse than plain removal: the loss increase is {grown}"
    return f"{100 * max(share, 0.0):.0f} % of the loss increase came back, on texts not trained on"


@dataclass(frozen=True)
class Orders:
    """places: {ruler: the place of each state by it, from 1 on, equal ones the better place}, of the rulers
    that all states have; spearman: {(ruler, ruler): rank correlation} of FEWEST states or more, where neither
    is constant.
    """

    places: Mapping[str, tuple[int, ...]]
    spearman: Mapping[tuple[str, str], float]

    def to_json(self) -> dict:
        """As the command line prints it: the pairs as "before, after"."""
        pairs = {", ".join(pair): value for pair, value in self.spearman.items()}
        return {"places": {name: list(own) for name, own in self.places.items()}, "spearman": pairs}


def orders_of(states: Sequence[Healed]) -> Orders:
    """How energy, loss before and loss after healing order the states."""
    values = {name: [getattr(s, name) for s in states] for name in RULERS}
    known = {name: np.array(own) for name, own in values.items() if None not in own}
    places = {name: tuple(int((own < v).sum()) + 1 for v in own) for name, own in known.items()}
    correlations = {
        (a, b): spearman(known[a], known[b])
        for a, b in combinations(known, 2)
        if len(states) >= FEWEST and np.ptp(known[a]) > 0 and np.ptp(known[b]) > 0
    }
    return Orders(places, correlations)
