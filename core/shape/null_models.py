"""What is structure in a landscape, and what would noise show as well?

The same figures for couplings that keep something of the real ones and are random in the rest: the diagonal
with its pairs shuffled, a Wishart matrix of the same rank with the same diagonal, the rows with each column
permuted on its own (the columns keep what they are, and lose what they have to do with each other).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from core.energy.couplings import outer_mean
from core.ising.states import pearson
from core.shape.descent import sampled_basins
from core.shape.moves import moves_of
from core.shape.ruggedness import ruggedness
from core.shape.tree import barrier_tree
from core.shape.valleys import valleys
from core.spectrum.constraints import make_rules
from core.spectrum.lowest import lowest_states

DRAWS, LISTED, DESCENTS = 20, 1000, 300
FIGURES = {
    "minima": "minima among the lowest states",
    "basin": "share of all states that drains into the ground state",
    "depth": "depth of the deepest valley beside the ground state's, in spreads of the listed energies",
    "likeness": "mean Pearson coefficient of the minima",
    "pairs": "share of the energy's variance that only pairs explain",
}


@dataclass(frozen=True)
class Null:
    """One kind of noise."""

    about: str
    values: Mapping[str, np.ndarray]  # float64 [draws] of each figure

    def range(self, figure: str) -> tuple[float, float]:
        """The middle 95 % of the draws."""
        low, high = np.quantile(self.values[figure], [0.025, 0.975])
        return float(low), float(high)


@dataclass(frozen=True)
class Structure:
    """The real figures beside those of noise."""

    real: Mapping[str, float]
    nulls: Mapping[str, Null]

    def outside(self, null: str) -> list[str]:
        """Figures of the real couplings that lie outside the range of a null model."""
        ranges = {name: self.nulls[null].range(name) for name in FIGURES}
        return [name for name, (low, high) in ranges.items() if not low <= self.real[name] <= high]


def figures(H: np.ndarray, removed: int, time_limit: float | None = None) -> dict[str, float]:
    """The FIGURES of couplings H float64 [N, N] at M, without rules; time_limit: seconds that the list of
    states may take, which is not proved when they are over.
    """
    rules = make_rules(None, len(H), removed)
    s = lowest_states(H, removed, LISTED, time_limit=time_limit)
    found = valleys(s, moves_of(rules), H, rules)
    tree = barrier_tree(found)
    ends = sampled_basins(H, found.moves, rules, DESCENTS, tolerance=s.tolerance)
    ground = (ends.x == s.x[0]).all(axis=1)
    deep = tree.known_persistence  # of a valley that is not connected to the others, as deep as is known
    spread = float(s.energies.std()) or 1.0
    alike = pearson(s.x[found.minimum], s.x[found.minimum])[np.triu_indices(len(found.minimum), 1)]
    return {
        "minima": float(len(found.minimum)),
        "basin": float(ends.hits[ground].sum() / DESCENTS),
        "depth": float(deep[1:].max(initial=0.0)) / spread,
        "likeness": float(alike.mean()) if len(alike) else 1.0,
        "pairs": ruggedness(H, removed).share,
    }


def structure(
    H: np.ndarray,
    removed: int,
    A: np.ndarray | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    time_limit: float | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Structure:
    """The figures of H float64 [N, N] at M beside those of noise; A: float [m, N], rows whose mean product H
    is, for the null model that needs them; time_limit: as `figures`, for each.
    """
    rng = np.random.default_rng(seed)
    kinds: dict[str, tuple[str, Callable[[], np.ndarray]]] = {
        "shuffled": ("the same diagonal, pairs shuffled", lambda: _shuffled(H, rng)),
        "wishart": ("a Wishart matrix of the same rank and diagonal", lambda: _wishart(H, rng)),
    }
    if A is not None:
        rows = np.asarray(A, dtype=np.float64)
        kinds["permuted"] = (
            "the rows, each column permuted on its own",
            lambda: outer_mean(rng.permuted(rows, axis=0)),
        )
    real, nulls, done = figures(H, removed, time_limit), {}, 0
    for name, (about, draw) in kinds.items():
        found = []
        for _ in range(draws):
            found.append(figures(draw(), removed, time_limit))
            done += 1
            if report:
                report(done, draws * len(kinds))
        nulls[name] = Null(about, {key: np.array([f[key] for f in found]) for key in FIGURES})
    return Structure(real, nulls)


def _shuffled(H: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    i, j = np.triu_indices(len(H), 1)
    found = np.diag(np.diag(H))
    found[i, j] = found[j, i] = rng.permutation(H[i, j])
    return found


def _wishart(H: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    G = rng.normal(size=(int(np.linalg.matrix_rank(H)), len(H)))
    W = G.T @ G
    scale = np.sqrt(np.abs(np.diag(H)) / np.diag(W).clip(min=np.finfo(float).tiny))
    return W * np.outer(scale, scale)
