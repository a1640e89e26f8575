"""The density of states: how many states have which energy."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.spectrum.constraints import Rules
from core.spectrum.lowest import Spectrum
from core.thermal.ensemble import ESTIMATED, EXACT
from core.thermal.whole import Whole, whole

if TYPE_CHECKING:
    from core.thermal.sampling import Sampled

BINS = 200


@dataclass(frozen=True)
class Density:
    """States by energy, and below given energies."""

    edges: np.ndarray  # float64 [bins + 1]
    states: np.ndarray  # float64 [bins]: whole numbers where exact; shares where the total is not known
    below: np.ndarray  # float64 [Q]: states of lower energy than each that was asked for, or their share
    total: float  # all states; NaN where rules leave a number that is not known
    how: str  # exact or estimated
    why: str  # one sentence without its full stop

    def quantile(self, share: float) -> float:
        """The energy below which about a share of all states lies, by whole bins."""
        return float(self.edges[1 + int(np.searchsorted(np.cumsum(self.states), share * self.states.sum()))])


def density(
    H: np.ndarray,
    rules: Rules,
    ground: float,
    asked: np.ndarray,
    tolerance: float,
    sampled: "Sampled | None" = None,
    bins: int = BINS,
    top: float | None = None,
) -> Density | None:
    """Exact where all states can be enumerated, else from samples of a whole ladder of temperatures; None
    without them.

    ground: the lowest energy; asked: float [Q], energies of states whose place is wanted, lower by more than
    `tolerance` counts as below; top: energy at which the histogram ends (None: the highest there is).
    """
    asked = np.asarray(asked, dtype=np.float64)
    if (problem := whole(H, rules)) is not None:
        return _counted(problem, ground, asked, tolerance, bins, top)
    return None if sampled is None else _estimated(sampled, asked, tolerance, bins, top)


def density_of_list(
    spectrum: Spectrum, asked: np.ndarray, bins: int = BINS, top: float | None = None
) -> Density:
    """The same, exact, of a list that holds every state."""
    e, asked = np.sort(spectrum.energies), np.asarray(asked, dtype=np.float64)
    top = float(e[-1]) if top is None else min(top, float(e[-1]))
    width = (top - e[0]) / bins or 1.0
    number = np.clip((e[e <= top] - e[0]) / width, 0, bins - 1).astype(np.int64)
    return Density(
        e[0] + width * np.arange(bins + 1),
        np.bincount(number, minlength=bins).astype(np.float64),
        np.searchsorted(e, asked - spectrum.tolerance).astype(np.float64),
        float(len(e)),
        EXACT,
        f"exact: all {len(e)} states are listed",
    )


def _counted(
    problem: Whole, ground: float, asked: np.ndarray, tolerance: float, bins: int, top: float | None
) -> Density:
    highest = max(float(part.energies.max()) for part in problem.parts())
    top = highest if top is None else min(top, highest)
    width = (top - ground) / bins or 1.0
    order = np.argsort(asked, kind="stable")
    limits = asked[order] - tolerance
    states, under = np.zeros(bins + 1, np.int64), np.zeros(len(asked) + 1, np.int64)
    for part in problem.parts():
        e = part.energies.ravel()
        inside = e if top == highest else e[e <= top]
        number = np.clip((inside - ground) / width, 0, bins - 1).astype(np.int64)
        states += np.bincount(number, minlength=bins + 1)
        if len(asked):
            low = e[e < limits[-1]]
            under += np.bincount(np.searchsorted(limits, low, side="right"), minlength=len(asked) + 1)
    below = np.empty(len(asked))
    below[order] = np.cumsum(under[:-1])
    total = math.comb(len(problem.open), problem.removed)
    edges = ground + width * np.arange(bins + 1)
    return Density(
        edges,
        states[:bins].astype(np.float64),
        below,
        float(total),
        EXACT,
        f"exact: all {total} states are counted",
    )


def _estimated(
    found: "Sampled", asked: np.ndarray, tolerance: float, bins: int, top: float | None
) -> Density:
    """All replicas together, every sample by the inverse of how likely the ladder is to draw it (multistate
    reweighting, Ferrenberg and Swendsen 1989).
    """
    e = found.energies.transpose(1, 0, 2).reshape(len(found.betas), -1)
    flat = e.ravel()
    log_mix = np.full(len(flat), -np.inf)
    for beta, log_ratio in zip(found.betas, found.log_ratio):
        log_mix = np.logaddexp(log_mix, -beta * flat - log_ratio)
    weight = np.exp(-(log_mix - log_mix.min()))
    total = float(found.total) if found.total else math.nan
    weight *= (total if found.total else 1.0) / weight.sum()
    edges = np.linspace(flat.min(), flat.max() if top is None else top, bins + 1)
    states = np.histogram(flat, edges, weights=weight)[0]
    below = np.array([weight[flat < limit].sum() for limit in asked - tolerance])
    return Density(edges, states, below, total, ESTIMATED, found.said)
