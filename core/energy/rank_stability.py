"""How sure the order of listed states is, given that H0 comes from a sample: see `rank_stability`."""

from dataclasses import dataclass

import numpy as np

from core.energy.couplings import outer_mean
from core.errors import InputError

_CHUNK = 1 << 22  # entries held at once


@dataclass(frozen=True)
class RankStability:
    """Of each listed state, over the resamples; ranks are 0-based and within the list only."""

    low: np.ndarray  # float64 [K]: lower end of the interval of the rank
    high: np.ndarray  # float64 [K]: upper end
    top: np.ndarray  # float64 [K]: share of the resamples in which the state is among the `k` lowest
    k: int
    resamples: int


def rank_stability(
    A: np.ndarray,
    x: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    k: int = 10,
    resamples: int = 1000,
    interval: float = 0.95,
    noise: float = 0.0,
    seed: int = 0,
) -> RankStability:
    """Bootstrap over samples: how the states x would rank had other samples been drawn.

    A: float [m, N], gradient rows, so that H0 = A^T A / m.
    x: bool [K, N], the listed states.
    weights: float [m], not negative, those of a domain mix (H0 = A^T W A / sum W): a row counts its weight as
        often as it is drawn, and rows of weight 0 are left out.
    k: how many of the lowest count as the top.
    noise: standard deviation of a relative Gaussian error on every entry of H0 on top.

    A resample draws m rows with replacement; with row weights w the energy of x is w @ (A x)^2 / sum(w), so
    all of them are one matrix product. It ranks the listed states anew and says nothing about states that are
    not listed. Ties keep the order of the list.
    Errors: InputError for shapes that do not fit or a parameter out of range.
    """
    A, x = np.asarray(A, dtype=np.float64), np.asarray(x, dtype=bool)
    _check_rows(A, x)
    if weights is not None:
        weights = np.asarray(weights, dtype=np.float64)
        _check_weights(weights, len(A))
        A, weights = A[weights > 0], weights[weights > 0] / weights.max()
    for name, value, good, range_ in (
        ("k", k, k >= 1, "at least 1"),
        ("resamples", resamples, resamples >= 1, "at least 1"),
        ("interval", interval, 0 < interval < 1, "between 0 and 1"),
        ("noise", noise, 0 <= noise < np.inf, "at least 0"),
    ):
        if not good:
            raise InputError(f"{name} must be {range_}, not {value!r}.")
    ranks = _resampled_ranks(A, x, weights, resamples, noise, np.random.default_rng(seed))
    low, high = np.quantile(ranks, [(1 - interval) / 2, (1 + interval) / 2], axis=0)
    return RankStability(low, high, (ranks < k).mean(axis=0), int(k), int(resamples))


def _resampled_ranks(
    A: np.ndarray,
    x: np.ndarray,
    weights: np.ndarray | None,
    resamples: int,
    noise: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """int64 [resamples, K]: the rank of every state in every resample."""
    m, states = len(A), len(x)
    squares = (A @ x.T.astype(np.float64)) ** 2  # [m, K]
    if weights is not None:
        squares *= weights[:, None]
    rows, columns = np.triu_indices(A.shape[1])
    entries = outer_mean(A, weights)[rows, columns] * np.where(rows == columns, 1.0, 2.0)
    ranks = np.empty((resamples, states), dtype=np.int64)
    step = max(1, _CHUNK // max(m, states, len(rows)))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.multinomial(m, np.full(m, 1 / m), size=size)
        energy = drawn @ squares / (m if weights is None else (drawn @ weights)[:, None])
        if noise:
            errors = noise * rng.normal(size=(size, len(rows))) * entries
            for s, state in enumerate(x):
                energy[:, s] += errors @ (state[rows] & state[columns])
        order = np.argsort(energy, axis=1, kind="stable")
        np.put_along_axis(ranks[start : start + size], order, np.arange(states)[None], axis=1)
    return ranks


def _check_rows(A: np.ndarray, x: np.ndarray) -> None:
    if A.ndim != 2 or x.ndim != 2 or A.shape[1] != x.shape[1] or not len(A) or not len(x):
        raise InputError(
            f"Gradient rows {A.shape} and states {x.shape} do not fit; give A [m, N] and x [K, N], neither "
            "empty."
        )
    if not np.isfinite(A).all():
        raise InputError(f"{int((~np.isfinite(A)).sum())} gradients are not finite; leave those rows out.")


def _check_weights(weights: np.ndarray, rows: int) -> None:
    fits = weights.shape == (rows,) and np.isfinite(weights).all()
    if not fits or (weights < 0).any() or not weights.any():
        raise InputError(
            f"The weights of {rows} rows must be as many finite numbers of at least 0, not all 0; "
            f"shape {weights.shape}."
        )
