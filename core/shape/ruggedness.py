"""How rugged a landscape is: how far a random walk of swaps remembers its energy."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ruggedness:
    """Of random walks by swaps over all states of M of N units."""

    own: float  # variance of the energy that units explain one by one
    pairs: float  # variance that only pairs explain
    step: float  # correlation of the energies of two states that are one swap apart
    removed: int
    units: int

    @property
    def length(self) -> float:
        """Correlation length in swaps, -1 / log(step); 0 where neighbours are not alike."""
        return -1 / math.log(self.step) if 0 < self.step < 1 else 0.0 if self.step <= 0 else math.inf

    @property
    def share(self) -> float:
        """Share of the variance that is pairs: 0 is a landscape where blocks simply add up."""
        return self.pairs / (self.own + self.pairs) if self.own + self.pairs else 0.0

    def after(self, steps: np.ndarray) -> np.ndarray:
        """float64: correlation after so many swaps."""
        one, two = _decay(self.units, self.removed)
        total = self.own + self.pairs
        return (self.own * one**steps + self.pairs * two**steps) / total if total else np.ones(len(steps))


def _decay(n: int, m: int) -> tuple[float, float]:
    """What one random swap leaves of the parts of first and second order: eigenvalues of the Johnson
    graph.
    """
    pairs = m * (n - m)
    return 1 - n / pairs, 1 - 2 * (n - 1) / pairs


def ruggedness(H: np.ndarray, removed: int) -> Ruggedness:
    """Exact, from the couplings H float64 [N, N] alone, without rules (2 <= M <= N - 2, else pairs vanish).

    Over the states of M units the energy is the sum of a part of first order and one of second (harmonic
    functions of the Johnson scheme, Delsarte 1973); a random walk multiplies each by its own eigenvalue a
    step, as in elementary landscapes (Stadler 1996).
    """
    n, m = len(H), removed
    diagonal = np.diag(H)
    outside = H - np.diag(diagonal)
    row, total = outside.sum(axis=1), float(outside.sum())
    p = [1.0]  # of k given units all being removed
    for k in range(4):
        p.append(p[-1] * max(m - k, 0) / (n - k) if n > k else 0.0)
    second = 0.0
    if n > 3:
        G = outside - (row[:, None] + row) / (n - 2) + total / ((n - 1) * (n - 2))
        np.fill_diagonal(G, 0)
        second = float(2 * (G**2).sum() * (p[2] - 2 * p[3] + p[4]))
    slope = _slopes(H, m)
    first = float((slope**2).sum() * m * (n - m) / (n * (n - 1)))
    rounding = n * (4 * np.finfo(np.float64).eps * n * float(np.abs(H).max())) ** 2
    first, second = (part if part > rounding else 0.0 for part in (first, second))
    one, two = _decay(n, m)
    both = first + second
    return Ruggedness(first, second, (first * one + second * two) / both if both else 1.0, m, n)


def _slopes(H: np.ndarray, m: int) -> np.ndarray:
    """float64 [N], mean 0: what a unit adds on average where it is removed, its cost and its pairs with M - 1
    of the others.
    """
    n, diagonal = len(H), np.diag(H)
    row = H.sum(axis=1) - diagonal
    slope = diagonal + 2 * row * (m - 1) / (n - 2) if n > 2 else diagonal
    return slope - slope.mean()


def distance_correlation(H: np.ndarray, state: tuple[int, ...]) -> float:
    """Correlation of the energy with the number of swaps to one state, over all states of as many units
    without rules: exact, near 1 where the landscape is one funnel around it (fitness-distance correlation,
    Jones and Forrest 1995). NaN where all energies are equal.

    Only the part of first order has to do with a distance, which is of first order itself.
    """
    n, m = len(H), len(state)
    found = ruggedness(H, m)
    total = (found.own + found.pairs) * m * (n - m) / n * (m * (n - m)) / (n * (n - 1))
    covariance = float(_slopes(H, m)[list(state)].sum()) * m * (n - m) / (n * (n - 1))
    return -covariance / math.sqrt(total) if total > 0 else math.nan
