"""The Boltzmann ensemble of the states of a landscape at a temperature T (units of energy)."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from core.errors import InputError
from core.spectrum.constraints import Rules, make_rules
from core.spectrum.lowest import Spectrum
from core.thermal.whole import Whole, whole

if TYPE_CHECKING:
    from core.thermal.sampling import Sampled

EXACT, BOUNDED, ESTIMATED = "exact", "bounded", "estimated"
UNLISTED = 0.01  # share of the weight that unlisted states may have at most, for the list to do


@dataclass(frozen=True)
class Ensemble:
    """What a temperature makes of a landscape."""

    temperature: float
    removed: np.ndarray  # float64 [N]: probability that each unit is removed
    pairs: np.ndarray  # float64 [N, N]: that both of two are; the diagonal is `removed`
    energy: float  # mean, above the ground state
    heat_capacity: float  # Var(E) / T^2
    entropy: float  # nats; NaN where the number of states is not known
    how: str  # exact, bounded or estimated
    error: float  # a probability is off by at most so much; where estimated, the largest standard error
    why: str  # one sentence without its full stop
    sampled: "Sampled | None" = field(default=None, compare=False)

    @property
    def effective(self) -> float:
        """Effective number of states, exp(entropy); NaN as there."""
        return math.inf if self.entropy >= 700 else math.exp(self.entropy)

    @property
    def connected(self) -> np.ndarray:
        """float64 [N, N]: P(both are removed) - P(one) P(other): above 0 where they go together more often
        than if each went on its own. In a state of M units going together is a little rarer even without any
        coupling.
        """
        return self.pairs - np.outer(self.removed, self.removed)


def ensemble(
    H: np.ndarray, spectrum: Spectrum, temperature: float, rules: Rules | None = None, *, seed: int = 0
) -> Ensemble:
    """The ensemble at a temperature, by the best of three ways: all states, the listed ones, samples.

    H: float64 [N, N]; spectrum: its lowest states within the rules (None: M alone). Errors: InputError for a
    temperature that is no number above 0, or far below the width of a level.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise InputError(f"The temperature must be a number above 0, not {temperature!r}.")
    if temperature < spectrum.tolerance / 100:  # weights would be those of rounding
        raise InputError(
            f"The temperature {temperature:.3g} is far below {spectrum.tolerance:.3g}, up to which energies "
            "are ties; choose a higher one."
        )
    rules = rules or make_rules(None, len(H), int(spectrum.x[0].sum()))
    listed = of_list(spectrum, temperature, rules)
    if listed.error == 0:
        return listed
    if (all_ := whole(H, rules)) is not None:
        return of_all(all_, temperature, float(spectrum.energies[0]))
    if listed.error <= UNLISTED:
        return listed
    # here: compiled code takes a while to load
    from core.thermal.sampling import sample

    return of_samples(sample(H, rules, temperature, seed=seed), float(spectrum.energies[0]))


def of_all(problem: Whole, temperature: float, ground: float) -> Ensemble:
    """Exact: every state is visited once. ground: the lowest energy."""
    n, half = len(problem.open), len(problem.open) // 2
    z = first = second = 0.0
    pairs = np.zeros((n, n))
    for part in problem.parts():
        above = part.energies  # in temperatures from here on
        above -= ground
        above /= temperature
        w = np.exp(-above)
        weight = above * w
        z += float(w.sum())
        first += float(weight.sum())
        second += float(np.vdot(weight, above))
        left, right = part.left.astype(np.float64), part.right.astype(np.float64)
        pairs[:half, :half] += (left.T * w.sum(axis=1)) @ left
        pairs[half:, half:] += (right.T * w.sum(axis=0)) @ right
        pairs[:half, half:] += left.T @ (w @ right)
    pairs[half:, :half] = pairs[:half, half:].T
    total = math.comb(n, problem.removed)
    return _made(
        temperature,
        *_with_fixed(problem, pairs / z),
        first / z,
        second / z,
        math.log(z),
        EXACT,
        0.0,
        f"exact: all {total} states are counted",
    )


def _with_fixed(problem: Whole, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities [N], of pairs [N, N]) of all units, from those of the open ones."""
    probability = problem.gone.astype(np.float64)
    probability[problem.open] = np.diag(pairs)
    both = np.outer(probability, probability)  # with what is fixed everything is independent
    both[np.ix_(problem.open, problem.open)] = pairs
    np.fill_diagonal(both, probability)
    return probability, both


def of_list(spectrum: Spectrum, temperature: float, rules: Rules) -> Ensemble:
    """From the listed states alone, with the share of the weight that unlisted ones may have at most."""
    s = spectrum
    above = (s.energies - s.energies[0]) / temperature
    w = np.exp(-above)
    z, x = float(w.sum()), s.x.astype(np.float64)
    share = unlisted(s, temperature, z, rules)
    pairs = (x.T * (w / z)) @ x
    why = (
        f"exact: all {len(x)} states are listed"
        if share == 0
        else f"the {len(x)} listed states; all others together have at most {100 * share:.2g} % of the weight"
    )
    mean, square = float(above @ w / z), float(above**2 @ w / z)
    how = EXACT if share == 0 else BOUNDED
    return _made(temperature, np.diag(pairs).copy(), pairs, mean, square, math.log(z), how, share, why)


def unlisted(s: Spectrum, temperature: float, z: float, rules: Rules) -> float:
    """The share of the weight that unlisted states may have at most; z: weight of the listed ones."""
    if math.isinf(s.lower_bound):
        return 0.0
    n, counts = s.x.shape[1], rules.counts
    most = rules.total or (math.comb(n, int(counts.sum())) if (counts >= 0).all() else 2**n)
    others = math.log(max(most - len(s.x), 1)) - (s.lower_bound - float(s.energies[0])) / temperature
    return 1 / (1 + math.exp(min(math.log(z) - others, 700)))


def of_samples(found: "Sampled", ground: float) -> Ensemble:
    """From samples of parallel tempering; ground: the lowest energy known."""
    x = found.x.reshape(-1, found.x.shape[-1]).astype(np.float64)
    pairs = x.T @ x / len(x)
    probability = np.diag(pairs).copy()
    above = (found.energies[:, -1].ravel() - ground) / found.temperature
    error = float(np.sqrt((probability * (1 - probability)).max() / found.effective))
    log_z = found.log_z + ground / found.temperature
    made = _made(
        found.temperature,
        probability,
        pairs,
        float(above.mean()),
        float((above**2).mean()),
        log_z,
        ESTIMATED,
        error,
        found.said,
    )
    return Ensemble(**{**made.__dict__, "sampled": found})


def _made(
    temperature: float,
    removed: np.ndarray,
    pairs: np.ndarray,
    mean: float,
    square: float,
    log_z: float,
    how: str,
    error: float,
    why: str,
) -> Ensemble:
    """mean, square: of the energy above the ground state in temperatures; log_z counts its weight as 1."""
    capacity, energy = max(square - mean**2, 0.0), mean * temperature
    return Ensemble(temperature, removed, pairs, energy, capacity, log_z + mean, how, error, why)
