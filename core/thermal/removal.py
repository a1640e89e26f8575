"""How likely each unit is removed at several temperatures at once, as far as that is known without sampling.

The marginals of core.thermal.ensemble alone, quick enough to come along with every landscape.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.spectrum.constraints import Rules, make_rules
from core.spectrum.lowest import Spectrum
from core.thermal.ensemble import BOUNDED, EXACT, UNLISTED, unlisted
from core.thermal.whole import Whole, whole

LIVE = 10**6  # states that are enumerated while somebody waits
_ROUNDING = 1e-12  # share of the weight that a sum of as many numbers is off by anyway


@dataclass(frozen=True)
class Removal:
    """The probability that each unit is removed at a temperature."""

    temperature: float  # units of energy
    removed: np.ndarray  # float64 [N]
    how: str  # exact or bounded
    error: float  # a probability is off by at most so much


def removal(
    H: np.ndarray,
    spectrum: Spectrum,
    temperatures: Sequence[float],
    rules: Rules | None = None,
    *,
    most: int = LIVE,
) -> list[Removal | None]:
    """For each temperature (above 0); None where only sampling could tell.

    H float64 [N, N], spectrum, rules: as core.thermal.ensemble.ensemble. Exact where the states can be
    enumerated (at most `most`) or all weight is listed; else from the list, where all unlisted states
    together have at most UNLISTED of the weight.
    """
    rules = rules or make_rules(None, len(H), int(spectrum.x[0].sum()))
    found = [_of_list(spectrum, t, rules) for t in temperatures]
    missing = [k for k, one in enumerate(found) if one is None or one.how != EXACT]
    if missing and (all_ := whole(H, rules, most)) is not None:
        asked = [temperatures[k] for k in missing]
        for k, one in zip(missing, _of_all(all_, asked, float(spectrum.energies[0]))):
            found[k] = one
    return found


def _of_list(s: Spectrum, temperature: float, rules: Rules) -> Removal | None:
    w = np.exp((s.energies[0] - s.energies) / temperature)
    z = float(w.sum())
    share = unlisted(s, temperature, z, rules)
    how = EXACT if share <= _ROUNDING else BOUNDED
    return Removal(temperature, w @ s.x / z, how, share) if share <= UNLISTED else None


def _of_all(problem: Whole, temperatures: Sequence[float], ground: float) -> list[Removal]:
    """Every state is visited once, and weighed at each temperature."""
    half = len(problem.open) // 2
    marginal = np.zeros((len(temperatures), len(problem.open)))
    z = np.zeros(len(temperatures))
    for part in problem.parts():
        below = ground - part.energies
        for k, temperature in enumerate(temperatures):
            w = np.exp(below / temperature)
            rows, columns = w.sum(axis=1), w.sum(axis=0)
            marginal[k, :half] += rows @ part.left
            marginal[k, half:] += columns @ part.right
            z[k] += rows.sum()
    removed = np.broadcast_to(problem.gone.astype(np.float64), (len(z), len(problem.gone))).copy()
    removed[:, problem.open] = marginal / z[:, None]
    return [Removal(t, row, EXACT, 0.0) for t, row in zip(temperatures, removed)]
