"""The lowest states of E(x) = x^T H x (+ linear . x) with exactly M blocks removed, and more constraints if
wanted.

Small problems by full enumeration (core.spectrum.enumeration): only states that can still be among the K
lowest are kept. All others by branch and bound (core.spectrum.branch_and_bound). Both are complete.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from core.errors import InputError
from core.ising.energies import check_linear, check_matrix, energies
from core.ising.states import removed_blocks
from core.spectrum.constraints import Constraints, Rules, make_rules
from core.spectrum.enumeration import ENUMERATION_LIMIT, parts

BLOCK_LIMIT = 256
COUNT_LIMIT = 20_000  # states of a search
# fewer states than this are enumerated in less time than a search takes to start
_ENUMERATION_WINS = 3 * 10**6
TIE_TOLERANCE = 1e-9  # relative to the spread of the matrix
# how far is looked for the end of a level that is cut: states beyond the list, nodes of the search
_FURTHER, _FURTHER_NODES = 1000, 10**7
_POINTS = 100  # of a curve, at most
NOTHING_FITS = (
    "No choice of blocks satisfies the budgets together with the rules; ask for less of one, or relax the "
    "rules."
)


@dataclass(frozen=True)
class Spectrum:
    """The K lowest states, sorted by energy, then by removed blocks within a level."""

    x: np.ndarray  # bool [K, N]
    energies: np.ndarray  # float64 [K], recomputed from H
    exact: bool  # proved: no unlisted state lies below the listed ones
    # proved: every unlisted feasible state has at least this energy (inf: none is unlisted)
    lower_bound: float
    level_cut: bool  # the last level goes on beyond the list
    total: int | None  # number of feasible states; None: not cheap to count
    tolerance: float  # width of a level: closer energies are ties
    seconds: float
    nodes: int = 0  # nodes of the search tree; 0: by enumeration
    level_size: int | None = None  # states in the last level, listed or not; None: not cheap to count
    # how far the proof was, by time: (seconds, bound of all unseen states, highest energy of the list; inf:
    # the list was not full)
    curve: tuple[tuple[float, float, float], ...] = ()

    @property
    def removed(self) -> list[tuple[int, ...]]:
        """The removed blocks of each state."""
        return removed_blocks(self.x)

    @property
    def gap(self) -> float:
        """E of the first level above the ground level, minus that of the ground level; inf when none is
        listed.
        """
        above = self.energies[levels(self.energies, self.tolerance) > 0]
        return float(above.min() - self.energies.min()) if len(above) else math.inf

    @property
    def degeneracy(self) -> int:
        """Listed states in the ground level."""
        return int((levels(self.energies, self.tolerance) == 0).sum())

    @property
    def bound_gap(self) -> float:
        """How far below the last listed energy an unlisted state may still lie: 0 for an exact list, inf for
        an empty one.
        """
        return (
            0.0
            if self.exact
            else float(self.energies[-1] - self.lower_bound)
            if len(self.energies)
            else math.inf
        )


def tie_tolerance(H: np.ndarray, rules: Rules, linear: np.ndarray | None = None) -> float:
    """Absolute width of a level: TIE_TOLERANCE times the spread (max - min) of the couplings that low states
    are made of.

    Those are the couplings among the blocks whose largest coupling is smallest, of each class one more than
    go of it, and half of one that is left free: one block that dwarfs all others must not blur the rest. What
    stays by the rules has no part in it, and what always goes is a field on the others. Never below the
    rounding of such an energy, with what always goes, and where M is free of any energy, so that a constant
    matrix is one level; `linear` counts there only.
    """
    open_, gone = np.flatnonzero(rules.fixed < 0), np.flatnonzero(rules.fixed == 1)
    inner = H[np.ix_(open_, open_)] + np.diag(2 * H[np.ix_(open_, gone)].sum(axis=1))
    loudness, parts_ = np.abs(inner).max(axis=1, initial=0.0), [np.empty(0, np.int64)]
    for k, count in enumerate(rules.counts.tolist()):
        own = np.flatnonzero(rules.klass[open_] == k)
        go = (len(own) + 1) // 2 if count < 0 else count - int((rules.klass[gone] == k).sum())
        parts_.append(own[np.argsort(loudness[own], kind="stable")[: go + (go > 0)]])
    calm = np.concatenate(parts_)
    part = inner[np.ix_(calm, calm)]
    any_ = bool((rules.counts < 0).any())
    field = np.zeros(len(H)) if linear is None else np.abs(linear)
    heaviest = np.sort(field[open_])[: None if any_ else len(calm)].max(initial=0.0)
    terms = len(H) ** 2 * float(np.abs(inner if any_ else part).max(initial=0.0)) + len(H) * float(heaviest)
    terms += float(np.abs(H[np.ix_(gone, gone)]).sum() + field[gone].sum())
    spread = float(part.max() - part.min()) if part.size else 0.0
    return float(max(TIE_TOLERANCE * spread, 4 * np.finfo(np.float64).eps * terms))


def check_removed(removed: int, blocks: int) -> int:
    """M as an int with 1 <= M < N. Errors: InputError."""
    if isinstance(removed, bool) or not isinstance(removed, (int, np.integer)):
        raise InputError(f"The number of removed blocks M must be a whole number, not {removed!r}.")
    if not 1 <= removed < blocks:
        raise InputError(
            f"M = {removed} blocks cannot be removed from {blocks}; choose 1 <= M <= {blocks - 1}."
        )
    return int(removed)


def checked_count(count: int) -> int:
    """The number of states asked for. Errors: InputError."""
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise InputError(f"The number of states must be a whole number of at least 1, not {count!r}.")
    return int(count)


def check_time_limit(time_limit: float) -> None:
    """Errors: InputError for a time limit that is no number of seconds above 0."""
    if not time_limit > 0:
        raise InputError(f"The time limit must be a number of seconds above 0, not {time_limit!r}.")


def lowest_states(
    H: np.ndarray,
    removed: int | None,
    count: int,
    linear: np.ndarray | None = None,
    *,
    constraints: Constraints | None = None,
    time_limit: float | None = None,
    report: Callable | None = None,
    method: str = "auto",
    seeds: np.ndarray | None = None,
) -> Spectrum:
    """The `count` lowest states with exactly `removed` blocks removed, proved complete.

    H: float [N, N] symmetric, N <= 256; linear: float [N] added literally. removed None: any
    number of blocks, when `constraints` say how much to remove. time_limit: seconds, after which
    the states found so far come back with exact False and the bound that is proved by then (there
    may be none). report: called a few times a second with a core.spectrum.branch_and_bound.Progress; what it
    raises ends the search and goes on to the caller. method: "auto", "enumerate" (up to ENUMERATION_LIMIT
    states and 128 blocks, no constraints) or "search". seeds: bool [k, N], states to start the search from.
    Errors: InputError for a bad matrix, M, count or constraint, or when no state is feasible.
    """
    began = time.perf_counter()
    H, g, rules = checked_problem(H, removed, linear, constraints)
    seeds = None if seeds is None else _checked_seeds(seeds, rules)
    count = checked_count(count)
    if time_limit is not None:
        check_time_limit(time_limit)
    method = _checked_method(method, rules, removed, count)
    tolerance = tie_tolerance(H, rules, g)
    curve = _Curve(report)
    solver = _Solver(H, g, rules, tolerance, method == "enumerate", curve.add, seeds)
    # one more than asked: it decides level_cut and the lower bound
    found = solver.lowest(int(min(count + 1, solver.most)), time_limit)
    if not len(found.x) and found.complete:
        raise InputError(NOTHING_FITS)
    k = min(count, len(found.x))
    size = None
    if found.complete and not found.goes_on(k, tolerance):
        size = _level_size(found.energies[:k], k, tolerance)
    elif found.complete:
        left = None if time_limit is None else time_limit - (time.perf_counter() - began)
        found, size = _look_further(solver, found, count, left)
    # the width of a level covers the rounding of a low energy
    more = found.energies[k:]
    rest = min([found.bound, *(more - np.maximum(tolerance, 4 * np.finfo(np.float64).eps * np.abs(more)))])
    spectrum = Spectrum(
        x=found.x[:k],
        energies=found.energies[:k],
        exact=found.complete or bool(k == count and rest >= found.energies[k - 1] - tolerance),
        lower_bound=float(rest),
        total=rules.total,
        tolerance=tolerance,
        level_cut=_is_cut(found.energies, k, tolerance),
        seconds=time.perf_counter() - began,
        nodes=found.nodes,
        level_size=size,
    )
    return replace(spectrum, curve=curve.ended(spectrum))


class _Curve:
    """Collects what a search reports, at fewer and fewer points, and hands it on."""

    def __init__(self, report: Callable | None):
        self.report, self.every, self.seen = report, 1, 0
        self.points: list[tuple[float, float, float]] = []

    def add(self, progress) -> None:
        """Take a core.spectrum.branch_and_bound.Progress."""
        if self.seen % self.every == 0:
            self.points.append((progress.seconds, progress.bound, progress.energy))
        self.seen += 1
        if len(self.points) == _POINTS:
            self.points, self.every = self.points[::2], 2 * self.every
        if self.report is not None:
            self.report(progress)

    def ended(self, s: Spectrum) -> tuple[tuple[float, float, float], ...]:
        """The points, and where the search has come to; none of one that was over before the first."""
        if not self.points:
            return ()
        return (*self.points, (s.seconds, s.lower_bound, float(s.energies[-1]) if len(s.x) else math.inf))


def _checked_seeds(seeds: np.ndarray, rules: Rules) -> np.ndarray:
    """Those of the rows bool [k, N] that the rules allow."""
    n = len(rules.fixed)
    seeds = np.asarray(seeds, dtype=bool)
    if seeds.ndim != 2 or seeds.shape[1] != n:
        raise InputError(f"Seeds are rows of {n} blocks, not shape {seeds.shape}.")
    return seeds[rules.allows(seeds)]


def _checked_method(method: str, rules: Rules, removed: int | None, count: int) -> str:
    """ "enumerate" or "search": the one asked for, where it can, or for "auto" the quicker one."""
    if method not in ("auto", "enumerate", "search"):
        raise InputError(f"The method must be auto, enumerate or search, not {method!r}.")
    n, total = len(rules.fixed), _number(rules)
    plain = rules.free and removed is not None and len(rules.counts) == 1
    many = min(count, total) > COUNT_LIMIT
    if method == "auto":
        limit = ENUMERATION_LIMIT if many else _ENUMERATION_WINS
        method = "enumerate" if plain and n <= 128 and total <= limit else "search"
    if method == "enumerate":
        if not plain:
            raise InputError('Enumeration knows no constraints; leave method at "auto".')
        if total > ENUMERATION_LIMIT or n > 128:
            raise InputError(
                f"Removing {removed} of {n} blocks has {total:.3g} states, and enumeration takes up to "
                f"{ENUMERATION_LIMIT:.0e} of 128 blocks; "
                'leave method at "auto".'
            )
    elif many:
        raise InputError(f"{count} states are too many for a search; ask for at most {COUNT_LIMIT}.")
    return method


def _number(rules: Rules) -> float:
    """Number of feasible states; inf where it is not cheap to count."""
    return math.inf if rules.total is None else rules.total


@dataclass(frozen=True)
class _Listed:
    """States in level order, and what is proved about all others."""

    x: np.ndarray  # bool [K, N]
    energies: np.ndarray  # float64 [K]
    complete: bool  # proved: no other state lies below
    bound: float  # of every other state
    nodes: int

    def goes_on(self, k: int, tolerance: float) -> bool:
        """Whether the level of the k-th state may go on behind it: the next is known to half a level."""
        return bool(k < len(self.x) and self.energies[k] <= self.energies[k - 1] + 1.5 * tolerance)


@dataclass(frozen=True)
class _Solver:
    """A checked problem and how its lowest states are found."""

    H: np.ndarray  # float64 [N, N]
    linear: np.ndarray  # float64 [N]
    rules: Rules
    tolerance: float
    by_enumeration: bool
    report: Callable | None
    seeds: np.ndarray | None

    @property
    def most(self) -> float:
        """Number of feasible states; inf where it is not cheap to count."""
        return _number(self.rules)

    def lowest(self, keep: int, time_limit: float | None, node_limit: float = math.inf) -> _Listed:
        """The `keep` lowest states; fewer, and not complete, when the time or the nodes are up before."""
        if self.by_enumeration:
            x, bound = _enumerate_lowest(
                self.H, self.linear, int(self.rules.counts[-1]), keep, self.tolerance
            )
            complete, nodes = True, 0
        else:
            # here: compiled code takes a while to load, and enumeration needs none
            from core.spectrum.branch_and_bound import search

            free = bool((self.rules.counts < 0).any())  # then one more: the tree knows the state without any
            problem = (self.H, self.linear, self.rules, keep + free, self.tolerance)
            found = search(*problem, time_limit, self.report, self.seeds, node_limit)
            x, complete, bound, nodes = found.x, found.complete, found.lower_bound, found.nodes
            x = x[~x.all(axis=1)]
        if len(x) == self.most:  # all of them are known, whatever the tree says
            complete, bound = True, math.inf
        e = energies(self.H, x, self.linear)
        order = level_order(e, x, self.tolerance)
        return _Listed(x[order], e[order], complete, bound, nodes)

    def holds_level(self, found: _Listed, k: int) -> bool:
        """Whether a list goes on beyond the level of its k-th state, or is all there is."""
        return len(found.x) == self.most or bool(
            found.energies[-1] > found.energies[k - 1] + 2 * self.tolerance
        )


def _look_further(
    solver: _Solver, found: _Listed, count: int, time_limit: float | None
) -> tuple[_Listed, int | None]:
    """(a complete list that is cut in a level, with the same members of that level every time; how many
    states the level has, where it ends soon).

    Which members a search with many threads finds depends on their timing. A longer list is therefore made by
    one thread: where it holds the whole level, those with the smallest block lists are taken, else those of
    what it has seen.
    """
    k = min(count, len(found.x))
    if time_limit is not None and time_limit <= 0:
        return found, None
    wider = solver.lowest(int(min(count + _FURTHER, solver.most)), time_limit, _FURTHER_NODES)
    nodes = found.nodes + wider.nodes
    if not wider.complete:
        return replace(_with_members(found, wider, k, solver.tolerance), nodes=nodes), None
    whole = solver.holds_level(wider, k)
    size = _level_size(wider.energies, k, solver.tolerance) if whole else None
    return replace(wider, nodes=nodes), size


def _with_members(found: _Listed, wider: _Listed, k: int, tolerance: float) -> _Listed:
    """`found`, the members of the level of its k-th state taken from `wider` first, by their block lists."""
    known = np.concatenate([found.x, wider.x])
    e = np.concatenate([found.energies, wider.energies])
    level = levels(e, tolerance)
    first = np.unique(np.packbits(known, axis=1), axis=0, return_index=True)[1]
    later = np.zeros(len(e), dtype=bool)  # where the others do not suffice
    later[: len(found.x)] = (level[: len(found.x)] == level[k - 1]) & ~_among(found.x, wider.x)
    order = first[level_order((2.0 * level + later)[first], known[first], 0.5)]
    return replace(found, x=known[order], energies=e[order])


def _among(x: np.ndarray, others: np.ndarray) -> np.ndarray:
    """bool [K]: which rows of x bool [K, N] are rows of `others`."""
    known = {row.tobytes() for row in others}
    return np.array([row.tobytes() in known for row in x], dtype=bool)


def checked_problem(
    H: np.ndarray, removed: int | None, linear: np.ndarray | None, constraints: Constraints | None
) -> tuple[np.ndarray, np.ndarray, Rules]:
    """(H float64 [N, N], linear float64 [N], rules), checked. Errors: InputError."""
    H = check_matrix(H)
    n = len(H)
    if n > BLOCK_LIMIT:
        raise InputError(
            f"The matrix has {n} blocks, and states are listed for up to {BLOCK_LIMIT}; leave blocks out."
        )
    removed = None if removed is None else check_removed(removed, n)
    g = np.zeros(n) if linear is None else np.asarray(linear, dtype=np.float64)
    check_linear(g, n)
    return H, g, make_rules(constraints, n, removed)


def _level_size(e: np.ndarray, k: int, tolerance: float) -> int:
    """States of `e`, in level order, that share the level of the k-th."""
    level = levels(e, tolerance)
    return int((level == level[k - 1]).sum())


def _is_cut(e: np.ndarray, k: int, tolerance: float) -> bool:
    """Whether the state behind the k-th of `e`, in level order, shares its level."""
    level = levels(e, tolerance)
    return bool(k < len(e) and level[k] == level[k - 1])


def levels(e: np.ndarray, tolerance: float) -> np.ndarray:
    """int64 [K]: the level of each energy [K], from 0 on; a level is at most `tolerance` wide, from its
    lowest energy on.
    """
    if not len(e):
        return np.empty(0, dtype=np.int64)
    order = np.argsort(e, kind="stable")
    ascending = e[order]
    new = np.concatenate([[True], np.diff(ascending) > tolerance])  # surely a new level: a gap
    starts = np.append(np.flatnonzero(new), len(e))
    # chains of small gaps wider than a level: cut them
    wide = ascending[starts[1:] - 1] - ascending[starts[:-1]] > tolerance
    for start, end in zip(starts[:-1][wide], starts[1:][wide]):
        while (
            start := start
            + int(np.searchsorted(ascending[start:end], ascending[start] + tolerance, side="right"))
        ) < end:
            new[start] = True
    level = np.empty(len(e), dtype=np.int64)
    level[order] = np.cumsum(new) - 1
    return level


def level_order(e: np.ndarray, x: np.ndarray, tolerance: float) -> np.ndarray:
    """Sort by level, then by the sorted list of blocks."""
    if not len(e):
        return np.empty(0, dtype=np.int64)
    level = levels(e, tolerance)
    if np.ptp(x.sum(axis=1)):  # of unequal lists, the shorter comes first where it begins the longer
        lists = np.full((len(x), x.shape[1]), -1)
        for row, blocks in zip(lists, removed_blocks(x)):
            row[: len(blocks)] = blocks
        return np.lexsort([*lists.T[::-1], level])
    # at equal M, a list is smaller when it removes the earlier block: the bits of x from block 0 on, True
    # first
    bits = np.packbits(~x, axis=1)
    return np.lexsort([*bits.T[::-1], level])


def _enumerate_lowest(
    H: np.ndarray, g: np.ndarray, m: int, keep: int, tolerance: float
) -> tuple[np.ndarray, float]:
    """(bool [keep, N]: the lowest states; inside a cut level, those with the smallest block lists, an energy
    that no other state lies below).
    """
    pool = _Pool(keep, tolerance)
    for part in parts(H, m, g):
        i, j = pool.candidates(part.energies)
        if len(i):
            pool.add(part.energies[i, j], np.concatenate([part.left[i], part.right[j]], axis=1))
    # what was not even looked at lies above the highest energy kept, less the width of a level
    return pool.x, min(pool.dropped, float(pool.e.max()) - tolerance)


class _Pool:
    """The `keep` best states seen, by energy and, within a level, by block list."""

    def __init__(self, keep: int, tolerance: float):
        self.keep, self.tolerance = keep, tolerance
        self.e = np.empty(0)
        self.x = np.empty((0, 0), dtype=bool)
        self.threshold = self.dropped = math.inf  # the lowest energy dropped: levels shift as states come in

    def candidates(self, e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the energies that may still belong to the pool."""
        threshold = self.threshold
        # the chunk alone bounds the threshold
        if e.size > self.keep and np.count_nonzero(e <= threshold) > 2 * self.keep:
            threshold = min(threshold, float(np.partition(e, self.keep - 1, axis=None)[self.keep - 1]))
        i, j = divmod(np.flatnonzero(e <= threshold + self.tolerance), e.shape[1])
        if len(i) > 4 * self.keep:
            # a large level: rows and columns are in list order, so its first states are the smallest lists
            below = e[i, j] < threshold - self.tolerance
            first = np.flatnonzero(~below)[: self.keep]
            chosen = np.concatenate([np.flatnonzero(below), first])
            self.dropped = min(self.dropped, threshold - self.tolerance)
            i, j = i[chosen], j[chosen]
        return i, j

    def add(self, e: np.ndarray, x: np.ndarray) -> None:
        self.e = np.concatenate([self.e, e])
        self.x = np.concatenate([self.x, x]) if self.x.size else x
        if len(self.e) > self.keep:
            order = level_order(self.e, self.x, self.tolerance)
            self.dropped = min(self.dropped, float(self.e[order[self.keep :]].min()))
            order = order[: self.keep]
            self.e, self.x = self.e[order], self.x[order]
        if len(self.e) == self.keep:
            self.threshold = float(self.e.max())
