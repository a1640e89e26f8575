"""How well an energy orders measured losses, and what trusting it costs."""

from dataclasses import dataclass

import numpy as np

FEWEST = 5  # points below which a coefficient says nothing
RESAMPLES = 1000


@dataclass(frozen=True)
class Agreement:
    """Rank correlations of energy and loss."""

    spearman: float
    low: float  # of the 95 % bootstrap interval of Spearman's, over states
    high: float
    kendall: float
    n: int  # states


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of two arrays [n]."""
    from scipy import stats

    return float(stats.spearmanr(a, b).statistic)


def agreement(energy: np.ndarray, loss: np.ndarray, seed: int = 0) -> Agreement | None:
    """The agreement of two float64 [n]; None below FEWEST states, or where one of the two is constant."""
    from scipy import stats

    n = len(energy)
    if n < FEWEST or min(len(np.unique(energy)), len(np.unique(loss))) < 2:  # infinite ones are equal, too
        return None
    picks = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    counts = np.bincount((picks + n * np.arange(RESAMPLES)[:, None]).ravel(), minlength=RESAMPLES * n)
    counts = counts.reshape(RESAMPLES, n).astype(float)
    a, b = (_ranks(values, counts) - (n + 1) / 2 for values in (energy, loss))
    scale = np.sqrt((counts * a * a).sum(axis=1) * (counts * b * b).sum(axis=1))
    resampled = (counts * a * b).sum(axis=1)[scale > 0] / scale[scale > 0]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Agreement(
        spearman(energy, loss), float(low), float(high), float(stats.kendalltau(energy, loss).statistic), n
    )


def _ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """float64 [R, n]: the rank, from 1 on, of each of the values [n] in R resamples; equal ones share a mean
    rank. One sort serves all resamples. counts: float64 [R, n], how often each holds which.
    """
    order = np.argsort(values)
    _, first, group = np.unique(values[order], return_index=True, return_inverse=True)
    held = np.add.reduceat(counts[:, order], first, axis=1)
    ranks = np.empty_like(counts)
    ranks[:, order] = (held.cumsum(axis=1) - (held - 1) / 2)[:, group]
    return ranks


def regret(energy: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """float64 [n]: by how much the best of the first 1 to n states by energy is worse than the best of all.

    energy, loss: float64 [n]; what is returned is in units of the loss.
    """
    return np.minimum.accumulate(loss[np.argsort(energy, kind="stable")]) - loss.min()


def fitted(energy: np.ndarray, loss: np.ndarray) -> tuple[float, float]:
    """(a, b) of the least-squares line loss = a energy + b, float64 [n] each.

    It is the scale on which an energy that is not in nats predicts.
    """
    a, b = np.polyfit(energy, loss, 1)
    return float(a), float(b)


def scaled(distance: np.ndarray) -> np.ndarray:
    """float64 [n, 2]: classical multidimensional scaling of distances [n, n] (Torgerson 1952)."""
    squared = np.asarray(distance, dtype=np.float64) ** 2
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1, keepdims=True) + squared.mean()
    values, vectors = np.linalg.eigh(-0.5 * centred)
    top = np.argsort(values)[::-1][:2]
    points = vectors[:, top] * np.sqrt(np.maximum(values[top], 0.0))
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def clustered(similarity: np.ndarray) -> np.ndarray:
    """int [n]: an order in which similar states stand together (average linkage on 1 - similarity [n, n])."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(similarity) < 3:
        return np.arange(len(similarity))
    apart = np.maximum(1 - (similarity + similarity.T) / 2, 0.0)
    np.fill_diagonal(apart, 0.0)
    return leaves_list(
        linkage(squareform(apart, checks=False), method="average", optimal_ordering=len(apart) <= 300)
    )
