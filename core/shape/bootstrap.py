"""How sure minima and barriers are, given that the couplings come from a sample of texts.

After the significance of gaps in energy landscape analysis (Watanabe et al. 2014; ELA): the sample is drawn
again, the couplings are made anew, and of every minimum and barrier it is counted how often it is still
there.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree

from core.energy.couplings import couplings
from core.energy.uncertainty import resampled
from core.errors import InputError
from core.ising.energies import energies
from core.shape.descent import lowered
from core.shape.tree import BarrierTree
from core.spectrum.constraints import Rules, make_rules
from core.store.runs import Run

RESAMPLES = 100


@dataclass(frozen=True)
class Stability:
    """Shares of the resamples."""

    minimum: np.ndarray  # float64 [L]: in which each minimum is one still, against all its moves
    barrier: np.ndarray  # float64 [B]: in which the two minima of each merge are still parted
    height: np.ndarray  # float64 [B, 2]: 95 % interval of that barrier above the higher of the two
    ground: float  # standard deviation of the ground state's energy
    resamples: int


def stability(
    tree: BarrierTree,
    run: Run,
    estimator: str,
    mix: Mapping[str, float] | None = None,
    rules: Rules | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
) -> Stability:
    """Of the minima and merges of a tree made with `couplings(run, estimator, mix)`.

    rules: those of the list; None: M alone. Minima are tested against all moves, listed or not. Paths of a
    resample lead over the listed states alone, which are not all of its low ones: its barriers are upper
    bounds. Errors: InputError for fewer than 2 resamples.
    """
    if resamples < 2:
        raise InputError(f"A share needs at least 2 resamples, not {resamples!r}.")
    v, s = tree.valleys, tree.valleys.spectrum
    rules = rules or make_rules(None, s.x.shape[1], int(s.x[0].sum()))
    rng = np.random.default_rng(seed)
    minimum, height = np.zeros(len(v.minimum)), np.zeros((resamples, len(tree.dying)))
    one, other = v.neighbours.nonzero()
    edges = one[one < other], other[one < other]
    ground = np.zeros(resamples)
    pairs = list(zip(v.minimum[tree.survivor].tolist(), v.minimum[tree.dying].tolist()))
    for k in range(resamples):
        H = couplings(resampled(run, rng), estimator, mix)
        e = energies(H, s.x)
        ground[k] = e[0]
        minimum += ~lowered(H, s.x[v.minimum], v.moves, rules, s.tolerance)
        barrier = np.fromiter(joined(edges, e, pairs), dtype=np.float64, count=len(pairs))
        height[k] = barrier - np.maximum(e[v.minimum[tree.survivor]], e[v.minimum[tree.dying]])
        if report:
            report(k + 1, resamples)
    interval = np.quantile(height, [0.025, 0.975], axis=0).T.reshape(-1, 2)
    there = (height > s.tolerance).mean(axis=0) if len(pairs) else np.zeros(0)
    return Stability(minimum / resamples, there, interval, float(ground.std(ddof=1)), resamples)


def joined(
    edges: tuple[np.ndarray, np.ndarray], e: np.ndarray, pairs: list[tuple[int, int]]
) -> Iterator[float]:
    """The lowest energy up to which the two states of each pair are connected; all are, in the end."""
    rank = np.empty(len(e), dtype=np.int64)
    rank[np.argsort(e, kind="stable")] = np.arange(1, len(e) + 1)  # from 1: 0 is no edge
    heights = np.maximum(rank[edges[0]], rank[edges[1]])
    tree = minimum_spanning_tree(csr_array((heights, edges), shape=(len(e), len(e)))).tocoo()
    order = np.argsort(tree.data, kind="stable")
    parent = list(range(len(e)))
    waiting: list[set[int]] = [set() for _ in parent]  # pairs with one end in the lake, at its root
    for number, (i, j) in enumerate(pairs):
        waiting[i].add(number)
        waiting[j].add(number)
    at = np.sort(e)
    found, left = np.full(len(pairs), np.inf), len(pairs)

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = k = parent[parent[k]]
        return k

    for i, j, height in zip(tree.row[order].tolist(), tree.col[order].tolist(), tree.data[order].tolist()):
        small, large = sorted((root(i), root(j)), key=lambda lake: len(waiting[lake]))
        both = waiting[small] & waiting[large]
        found[list(both)] = at[int(height) - 1]
        waiting[large] ^= waiting[small]
        parent[small] = large
        if (left := left - len(both)) == 0:
            break
    return iter(found.tolist())
