"""Downhill from any state, listed or not: local minima, steepest descent, basins by sampling."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.errors import InputError
from core.shape.moves import Moves
from core.spectrum.constraints import Rules

_AT_ONCE = 256  # states: all their moves are in memory
_STEPS = 100  # of a descent, times the units: rounding may let equal states follow each other for ever
_TRIES = 10_000  # of drawing a state at random before it is given up


def lowered(H: np.ndarray, x: np.ndarray, moves: Moves, rules: Rules, tolerance: float = 0.0) -> np.ndarray:
    """bool [K]: which rows of x bool [K, N] some move lowers by more than `tolerance`: no local minima.

    H: float64 [N, N]. Exact for each state, listed or not: all its moves are tried.
    """
    out = np.empty(len(x), dtype=bool)
    for start in range(0, len(x), _AT_ONCE):
        out[start : start + _AT_ONCE] = _best(H, x[start : start + _AT_ONCE], moves, rules)[0] < -tolerance
    return out


def descend(H: np.ndarray, x: np.ndarray, moves: Moves, rules: Rules, tolerance: float = 0.0) -> np.ndarray:
    """bool [K, N]: where steepest descent from each row of x bool [K, N] ends: states that no move lowers by
    more than `tolerance`.

    The move that lowers the energy most; of equal ones the first, units ascending. Where none does, equal
    states are followed in the order of their lists, so that a plateau ends in one state, or is left.
    """
    x = np.array(x, dtype=bool)
    for start in range(0, len(x), _AT_ONCE):
        going = np.arange(start, min(start + _AT_ONCE, len(x)))
        for _ in range(_STEPS * x.shape[1]):
            change, out, into = _best(H, x[going], moves, rules)
            level = np.flatnonzero(change >= -tolerance)
            flat, *by = _best(H, x[going[level]], moves, rules, tolerance)
            out[level], into[level] = by
            stays = np.zeros(len(going), dtype=bool)
            stays[level] = np.isinf(flat)
            going, out, into = going[~stays], out[~stays], into[~stays]
            if not len(going):
                break
            x[going, out] ^= True
            swaps = out != into
            x[going[swaps], into[swaps]] ^= True
    return x


def _best(
    H: np.ndarray, x: np.ndarray, moves: Moves, rules: Rules, level: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(change of energy, first, second) [K] of the best move of each row of x, inf where there is none; a
    unit that moves alone is both. level: only of moves that change the energy by no more than this and lead
    to a state whose list comes first.

    Swapping i out of the removed set for j changes the energy by f_j - f_i - 2 H_ij, with f_k = H_kk + 2
    sum_{l removed, l != k} H_kl.
    """
    field = 2 * (x.astype(np.float64) @ H)
    f_in, f_out = field - np.diag(H), field + np.diag(H)  # of removed units, of kept ones
    change = f_out[:, None, :] - f_in[:, :, None] - 2 * H
    change[~(x[:, :, None] & ~x[:, None, :] & moves.swap)] = np.inf
    k, n = x.shape
    alone = np.where(moves.alone, np.where(x, -f_in, f_out), np.inf)
    np.einsum("kii->ki", change)[:] = alone  # nothing swaps with itself: the diagonal holds what moves alone
    if level is not None:
        change[(np.abs(change) > level) | ~_comes_first(x)] = np.inf
    flat = change.reshape(k, n * n)
    best = flat.argmin(axis=1)
    while rules.local or moves.alone.any():  # a budget or a run limit, or all gone: the best that is allowed
        first, second = np.divmod(best, n)
        moved = x.copy()
        moved[np.arange(k), first] ^= True
        swaps = np.flatnonzero(first != second)
        moved[swaps, second[swaps]] ^= True
        wrong = np.flatnonzero(~rules.allows(moved) & np.isfinite(flat[np.arange(k), best]))
        if not len(wrong):
            break
        flat[wrong, best[wrong]] = np.inf
        best[wrong] = flat[wrong].argmin(axis=1)
    first, second = np.divmod(best, n)
    return flat[np.arange(k), best], first, second


def _comes_first(x: np.ndarray) -> np.ndarray:
    """bool [K, N, N]: whether swapping i out for j, or moving i alone on the diagonal, makes the list of each
    row of x bool [K, N] a smaller one.
    """
    n = x.shape[1]
    found = np.repeat(np.tri(n, n, -1, dtype=bool)[None], len(x), axis=0)  # an earlier unit goes instead
    last = np.where(x.any(axis=1), n - 1 - x[:, ::-1].argmax(axis=1), -1)[:, None]
    units = np.arange(n)
    np.einsum("kii->ki", found)[:] = np.where(x, units == last, units < last)
    return found


def random_states(rules: Rules, count: int, rng: np.random.Generator) -> np.ndarray:
    """bool [count, N]: states drawn at random, each feasible one equally likely.

    Errors: InputError where budgets or a run limit leave so few that drawing finds none.
    """
    n, found, have, tried = len(rules.fixed), [], 0, 0
    while have < count:
        x = np.repeat((rules.fixed == 1)[None], max(count, 64), axis=0)
        for k, wanted in enumerate(rules.counts):
            own = np.flatnonzero((rules.klass == k) & (rules.fixed < 0))
            if wanted < 0:
                x[:, own] = rng.random((len(x), len(own))) < 0.5
            elif len(own):
                left = int(wanted) - int((rules.fixed[rules.klass == k] == 1).sum())
                order = rng.random((len(x), len(own))).argsort(axis=1)
                np.put_along_axis(x, own[order[:, :left]], True, axis=1)
        x = x[rules.allows(x)]
        found.append(x)
        have, tried = have + len(x), tried + max(count, 64)
        if tried > _TRIES * max(1, have):
            raise InputError(
                f"Of {tried} random states of {n} units the rules allow {have}: too few to draw a sample; "
                "relax a budget or the limit of a row."
            )
    return np.concatenate(found)[:count]


@dataclass(frozen=True)
class SampledBasins:
    """Where steepest descents from random states ended, the most frequent minimum first."""

    x: np.ndarray  # bool [L, N]
    hits: np.ndarray  # int64 [L]: descents that ended there
    descents: int

    @property
    def unseen(self) -> float:
        """Share of all states whose minimum was not met yet (Good 1953): minima met once over descents."""
        return float((self.hits == 1).sum() / self.descents)

    @property
    def minima(self) -> float:
        """Estimated number of minima, at least (Chao 1984)."""
        once, twice = int((self.hits == 1).sum()), int((self.hits == 2).sum())
        return len(self.hits) + once * (once - 1) / (2 * (twice + 1))

    def share(self, hits: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The 95 % interval (Wilson) of a share of which `hits` descents ended somewhere."""
        n, z = self.descents, 1.96
        p = np.asarray(hits) / n
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return np.maximum(middle - half, 0), np.minimum(middle + half, 1)


def sampled_basins(
    H: np.ndarray,
    moves: Moves,
    rules: Rules,
    descents: int = 1000,
    *,
    tolerance: float = 0.0,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
) -> SampledBasins:
    """The minima that random states drain into; with it the size of each basin, in shares of all states.

    A minimum that is a plateau counts once, unless several of its states have no equal neighbour that comes
    before them in the list.
    """
    rng, ends = np.random.default_rng(seed), []
    for done in range(0, descents, _AT_ONCE):
        start = random_states(rules, min(_AT_ONCE, descents - done), rng)
        ends.append(descend(H, start, moves, rules, tolerance))
        if report:
            report(min(done + _AT_ONCE, descents), descents)
    x, hits = np.unique(np.concatenate(ends), axis=0, return_counts=True)
    order = np.argsort(-hits, kind="stable")
    return SampledBasins(x[order], hits[order], descents)
