"""How alike two states of a landscape are: the distribution P(q) of the overlap q, the share of removed units
that both remove.

Many states far apart and equally low make it broad (glassy); one deep valley puts it near 1 (a funnel); two
valleys give two peaks (two-valleyed); above the temperature where the energies matter it is that of states
drawn at random (disordered). The question comes from spin glasses (Parisi 1983).
"""

import math
from dataclasses import dataclass

import numpy as np

from core.spectrum.constraints import Rules, make_rules
from core.spectrum.lowest import Spectrum
from core.thermal.ensemble import BOUNDED, ESTIMATED, EXACT, Ensemble
from core.thermal.whole import Whole, whole

_DRAWN = 3000  # states drawn of an ensemble
_MANY = 20_000  # listed states of which all pairs are taken
_PEAK = 0.15  # of the highest: what a peak must rise above the valley beside it
_FEW = 5  # states of which no picture is drawn
_RANDOM = 0.25  # distance (total variation) from states drawn at random below which there is no order
NEAR = 0.8  # mean overlap above which one valley holds nearly all


@dataclass(frozen=True)
class Overlap:
    """P(q) for two states drawn independently."""

    q: np.ndarray  # float64 [M + 1]: 0, 1/M, ... 1
    probability: np.ndarray  # float64 [M + 1]
    how: str  # exact, bounded or estimated
    random: np.ndarray  # float64 [M + 1]: of two states drawn from all, each alike
    states: int  # that it is made of

    @property
    def mean(self) -> float:
        """Mean overlap."""
        return float(self.q @ self.probability)

    @property
    def peaks(self) -> int:
        """Peaks that rise clearly above what lies between them, after smoothing over neighbours."""
        padded = np.concatenate([[0.0], self.probability, [0.0]])
        smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
        least, found, low, high, rising = _PEAK * smooth.max(), 0, 0.0, 0.0, True
        for value in [*smooth.tolist(), 0.0]:
            if rising:
                high = max(high, value)
                if value < high - least:
                    found, low, rising = found + 1, value, False
            else:
                low = min(low, value)
                if value > low + least:
                    high, rising = value, True
        return found

    @property
    def verdict(self) -> str:
        """The picture in a word or two."""
        if self.states < _FEW:
            return f"{self.states} states, too few for a picture"
        if np.abs(self.probability - self.random).sum() / 2 < _RANDOM:
            return "disordered, hardly more alike than states drawn at random"
        if self.peaks >= 2:
            return "two-valleyed" if self.peaks == 2 else f"{self.peaks} groups"
        return "funnel-like" if self.mean >= NEAR else "glassy"


def overlap_of_states(x: np.ndarray, how: str = EXACT) -> Overlap:
    """Of all pairs of different rows of x bool [K, N] with equal M, each alike."""
    return _weighted(x, np.ones(len(x)), how, itself=False)


def overlap_of_ensemble(
    H: np.ndarray, spectrum: Spectrum, found: Ensemble, rules: Rules | None = None, seed: int = 0
) -> Overlap | None:
    """Of two states of an ensemble of equal M; None where M varies, in the list or beyond it."""
    sampled = None if found.sampled is None else found.sampled.x.reshape(-1, found.sampled.x.shape[-1])
    counts = (spectrum.x if sampled is None else sampled).sum(axis=1)
    if np.ptp(counts):
        return None
    t = found.temperature
    if sampled is not None:
        rng = np.random.default_rng(seed)
        x = sampled[rng.permutation(len(sampled))[:_DRAWN]]
        return _weighted(x, np.ones(len(x)), ESTIMATED, itself=False)
    complete = np.isinf(spectrum.lower_bound)
    if (complete or found.how == BOUNDED) and len(spectrum.x) <= _MANY:
        return _weighted(spectrum.x, np.exp((spectrum.energies[0] - spectrum.energies) / t), found.how)
    problem = whole(H, rules or make_rules(None, len(H), int(counts[0])))
    if problem is None:
        return None
    x = _drawn(problem, t, float(spectrum.energies[0]), np.random.default_rng(seed))
    return _weighted(x, np.ones(len(x)), ESTIMATED, itself=False)


def _weighted(x: np.ndarray, w: np.ndarray, how: str, itself: bool = True) -> Overlap:
    m = int(x[0].sum())
    p, w, found = x.astype(np.float32), w / w.sum(), np.zeros(m + 1)
    for start in range(0, len(x), 1024):
        common = (p[start : start + 1024] @ p.T).astype(np.int64)
        weight = np.outer(w[start : start + 1024], w)
        if not itself:
            rows = np.arange(len(common))
            weight[rows, rows + start] = 0
        found += np.bincount(common.ravel(), weight.ravel(), minlength=m + 1)
    q, total = np.arange(m + 1), max(found.sum(), np.finfo(float).tiny)
    n = x.shape[1]  # of M units drawn from N, so many among M given ones (hypergeometric)
    random = np.array([math.comb(m, k) * math.comb(n - m, m - k) / math.comb(n, m) for k in range(m + 1)])
    return Overlap(q / m, found / total, how, random, len(x))


def _drawn(problem: Whole, temperature: float, ground: float, rng: np.random.Generator) -> np.ndarray:
    """bool [_DRAWN, N]: independent states of the ensemble, exactly by weight."""
    sums = [float(np.exp((ground - part.energies) / temperature).sum()) for part in problem.parts()]
    wanted = rng.multinomial(_DRAWN, np.array(sums) / np.sum(sums))
    rows = []
    for part, count in zip(problem.parts(), wanted):
        if count:
            w = np.exp((ground - part.energies.ravel()) / temperature).cumsum()
            flat = np.searchsorted(w, rng.random(count) * w[-1], side="right").clip(max=len(w) - 1)
            i, j = np.divmod(flat, part.energies.shape[1])
            rows.append(np.concatenate([part.left[i], part.right[j]], axis=1))
    x = np.repeat(problem.gone[None], _DRAWN, axis=0)
    x[:, problem.open] = np.concatenate(rows)
    return x
