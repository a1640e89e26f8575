"""What the shape of an energy says of measured losses, where the loss of every state of M is known."""

import math
from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import hypergeom

from core.compare.agreement import spearman
from core.ising.energies import energies
from core.ising.states import removed_blocks
from core.shape.bootstrap import joined
from core.shape.measured_minima import listed, same_minima
from core.shape.moves import Moves, adjacency, moves_of
from core.shape.paths import path
from core.shape.ruggedness import ruggedness
from core.shape.tree import barrier_tree
from core.shape.valleys import Valleys, valleys
from core.spectrum.constraints import make_rules
from core.thermal.overlap import overlap_of_states

SPLITS, RESAMPLES, PATHS = 50, 200, 60  # halves drawn; of an interval; paths of which the loss is followed


def moves_at(blocks: int, removed: int, name: str) -> Moves:
    """The moves between all states of M of N blocks."""
    return moves_of(make_rules(None, blocks, removed), name)


def minima_of(near: csr_array, values: np.ndarray) -> np.ndarray:
    """bool [K]: states lower than all their neighbours; values: float [K], near: bool [K, K], each with a
    neighbour.
    """
    return values < np.minimum.reduceat(values[near.indices], near.indptr[:-1])


def fitted(x: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """float64 [N, N]: the couplings whose energy is nearest to the losses [K] of the states x bool [K, N] by
    least squares, up to a constant that they hold as well: M is one.
    """
    n = x.shape[1]
    i, j = np.triu_indices(n, 1)
    features = np.concatenate([x, x[:, i] & x[:, j]], axis=1).astype(np.float64)
    own = np.linalg.lstsq(features, loss, rcond=None)[0]
    H = np.diag(own[:n])
    H[i, j] = H[j, i] = own[n:] / 2
    return H


def explained(x: np.ndarray, loss: np.ndarray) -> tuple[float, float]:
    """Shares of the losses' variance that blocks alone, and blocks and pairs, can explain at most."""
    spread = float(loss.var())
    alone = np.linalg.lstsq(x.astype(np.float64), loss, rcond=None)[0]
    left = (loss - x @ alone).var(), (loss - energies(fitted(x, loss), x)).var()
    return 1 - float(left[0]) / spread, 1 - float(left[1]) / spread


def step(near: csr_array, one: np.ndarray, other: np.ndarray | None = None) -> float:
    """Correlation of values [K] of states one move apart; of two measurements: without their noise."""
    a, b = one - one.mean(), (one if other is None else other) - (one if other is None else other).mean()
    i, j = near.nonzero()
    return float((a[i] * b[j]).mean() / (a * b).mean())


def halves(losses: np.ndarray, seed: int = 0, count: int = SPLITS):
    """Pairs of float64 [K]: mean losses on two halves of the sequences of losses [K, S], drawn at random."""
    rng, half = np.random.default_rng(seed), losses.shape[1] // 2
    for _ in range(count):
        order = rng.permutation(losses.shape[1])
        yield losses[:, order[:half]].mean(axis=1, dtype=float), losses[:, order[half:]].mean(1, dtype=float)


def of_loss(x: np.ndarray, losses: np.ndarray, moves: Moves) -> dict:
    """The landscape of the measured loss itself: x bool [K, N], losses [K, S]."""
    near, loss = adjacency(x, moves), losses.mean(axis=1, dtype=float)
    there = minima_of(near, loss)
    both, either, kept, best = 0, 0, [], []
    for a, b in halves(losses):
        one, two = minima_of(near, a), minima_of(near, b)
        both, either = both + int((one & two).sum()), either + int(one.sum() + two.sum())
        kept += [one[there].mean(), two[there].mean()]
        best += [int((b < b[a.argmin()]).sum())]
    first, second = losses[:, ::2].mean(axis=1, dtype=float), losses[:, 1::2].mean(axis=1, dtype=float)
    blocks, pairs = explained(x, loss)
    apart = (x & ~x[loss.argmin()]).sum(axis=1)
    alike = overlap_of_states(x[there])
    return {
        "states": len(x),
        "minima": int(there.sum()),
        "minima of a half": either / (2 * SPLITS),
        "of them of the other": 2 * both / either,
        "kept on a half": float(np.mean(kept)),
        "half against half": spearman(first, second),
        "rank of a half's best": [float(v) for v in np.quantile(best, [0.5, 0.9])],
        "spread": float(loss.std()),
        "step": step(near, loss),
        "step without noise": step(near, first, second),
        "blocks explain": blocks,
        "pairs explain": pairs,
        "distance": spearman(loss, apart),
        "overlap": alike.mean,
        "of random": alike.q @ alike.random,
        "picture": alike.verdict,
    }


def of_energy(x: np.ndarray, losses: np.ndarray, H: np.ndarray, moves: Moves) -> dict:
    """The landscape of an energy beside that of the loss: x bool [K, N], losses [K, S], H float64 [N, N]."""
    loss, e, m = losses.mean(axis=1, dtype=float), energies(H, x), int(x[0].sum())
    same = same_minima(x, e, loss, moves)
    number = {state: k for k, state in enumerate(removed_blocks(x))}
    ends = [np.array([number[s] for s in v.removed]) for v in (same.energy, same.loss)]
    shares = [dict(zip(own, v.basin / len(x))) for own, v in zip(ends, (same.energy, same.loss))]
    ground, rugged = int(ends[0][0]), ruggedness(H, m)
    away = (x & ~x[ground]).sum(axis=1)
    chance = hypergeom(len(x), len(ends[0]), len(ends[1])).sf(same.shared - 1)
    alike = overlap_of_states(x[ends[0]])
    return {
        "minima": len(ends[0]),
        "loss minima": len(ends[1]),
        "shared": same.shared,
        "expected": same.expected,
        "by chance": float(chance),
        "valleys agree": same.basins,
        "by chance agree": float(sum(shares[0][k] * shares[1][k] for k in set(ends[0]) & set(ends[1]))),
        "spearman": spearman(e, loss),
        "ground": regret(losses, lambda part: ground),
        "best minimum": regret(losses, lambda part: int(ends[0][part[ends[0]].argmin()])),
        "rank of the best": same.best,
        "loss rank of the ground": int((loss < loss[ground]).sum()),
        "step": rugged.step,
        "pairs share": rugged.share,
        "basin": float(same.energy.basin[0] / len(x)),
        "distance": spearman(e, away),
        "loss by distance": spearman(loss, away),
        "overlap": alike.mean,
        "picture": alike.verdict,
    }


def regret(losses: np.ndarray, pick: Callable[[np.ndarray], int]) -> list[float]:
    """[mean, standard error] of the loss of the state picked above that of the state of lowest loss, nats:
    both chosen on one half of the sequences of losses [K, S] and judged on the other, and the other way
    round. pick: from mean losses [K].
    """
    gaps = []
    for part in (slice(0, None, 2), slice(1, None, 2)):
        own, judged = losses[:, part].mean(axis=1, dtype=float), np.ones(losses.shape[1], dtype=bool)
        judged[part] = False
        gaps.append(losses[pick(own), judged].astype(float) - losses[own.argmin(), judged])
    gap = np.concatenate(gaps)
    return [float(gap.mean()), float(gap.std(ddof=1) / math.sqrt(len(gap)))]


def barriers(x: np.ndarray, losses: np.ndarray, H: np.ndarray, moves: Moves, seed: int = 0) -> dict:
    """Barriers between minima of the energy, above the higher of the two, in the energy and in the loss: the
    lowest way over all states. Beside them those of as many states as low that are no minima.
    """
    e, loss = energies(H, x), losses.mean(axis=1, dtype=float)
    found = valleys(listed(x, e), moves)
    order = [k for _, k in sorted(zip(map(_rank(found), removed_blocks(x)), range(len(x))))]
    loss, losses = loss[order], losses[order]  # in the order of the list
    i, j = np.triu_indices(len(found.minimum), 1)
    if not len(i):
        return {"minima": len(found.minimum), "pairs": 0}
    high = barrier_tree(found).barriers()[i, j] - np.maximum(found.energies[i], found.energies[j])
    edges = found.neighbours.nonzero()
    edges = edges[0][edges[0] < edges[1]], edges[1][edges[0] < edges[1]]
    measured = _heights(edges, loss, found.minimum[i], found.minimum[j])
    rng, others = np.random.default_rng(seed), []
    free = np.setdiff1d(np.arange(len(x)), found.minimum)
    for _ in range(10):
        twin = [int(rng.choice(free[np.argsort(np.abs(free - k))[:10]])) for k in found.minimum]
        others.append(_there(_heights(edges, loss, np.array(twin)[i], np.array(twin)[j])))
    one, two = next(halves(losses, seed))
    again = [_heights(edges, part, found.minimum[i], found.minimum[j]) for part in (one, two)]
    interval = _interval(high, measured, i, j, len(found.minimum), rng)
    along = _along(H, found, high, loss, rng)
    return {
        "minima": len(found.minimum),
        "pairs": len(i),
        "spearman": _spearman(high, measured),
        "interval": interval,
        "in the loss": _there(measured),
        "of others": float(np.mean(others)),
        "others range": [float(np.min(others)), float(np.max(others))],
        "height": float(measured.mean()),
        "spread": float(loss.std()),
        "both halves": float(((again[0] > 0) & (again[1] > 0)).mean()),
        "half against half": _spearman(*again),
        **along,
    }


def _rank(found: Valleys) -> Callable:
    place = {state: k for k, state in enumerate(found.spectrum.removed)}
    return place.__getitem__


def _there(heights: np.ndarray) -> float:
    return float((heights > 0).mean())


def _spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """None where one of the two is constant."""
    return spearman(a, b) if len(a) > 2 and np.ptp(a) and np.ptp(b) else None


def _heights(edges: tuple, values: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """float64 [pairs]: of the lowest way between two states above the higher of the two."""
    pairs = list(zip(start.tolist(), end.tolist()))
    top = np.fromiter(joined(edges, values, pairs), dtype=np.float64, count=len(pairs))
    return top - np.maximum(values[start], values[end])


def _interval(high, measured, i, j, count: int, rng: np.random.Generator) -> list[float] | None:
    """95 % of the Spearman coefficient, minima drawn with replacement."""
    at = np.full((count, count), -1)
    at[i, j] = at[j, i] = np.arange(len(i))
    found = []
    for _ in range(RESAMPLES):
        own = rng.integers(0, count, count)
        pairs = at[np.ix_(own, own)][np.triu_indices(count, 1)]
        pairs = pairs[pairs >= 0]
        value = _spearman(high[pairs], measured[pairs])
        found += [] if value is None else [value]
    return [float(v) for v in np.quantile(found, [0.025, 0.975])] if len(found) > RESAMPLES / 2 else None


def _along(H: np.ndarray, found: Valleys, high: np.ndarray, loss: np.ndarray, rng) -> dict:
    """The loss along the energy's easiest way between minima, above the higher of its ends."""
    removed, place = found.spectrum.removed, _rank(found)
    rules = make_rules(None, len(H), len(removed[0]))
    i, j = np.triu_indices(len(found.minimum), 1)
    own = np.sort(rng.permutation(len(i))[:PATHS])
    climbs = []
    for a, b in zip(found.minimum[i[own]], found.minimum[j[own]]):
        steps = loss[[place(s) for s in path(H, found, removed[a], removed[b], rules).removed]]
        climbs.append(steps.max() - max(steps[0], steps[-1]))
    climb = np.array(climbs)
    return {
        "paths": len(own),
        "climbs": _there(climb),
        "climb": float(climb.mean()),
        "climb spearman": _spearman(high[own], climb),
    }
