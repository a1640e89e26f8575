"""What the couplings say of KL with no fitted scale, against what was measured.

Sampled labels make H1 = mean of g g^T the Fisher matrix of the mean loss over T tokens, so T H1 is the
second derivative, with respect to the gates at 1, of KL(original || gated) a token, and removing blocks x
costs about T/2 x^T H1 x nats a token. It is exact for gates near 1; at 0, where the blocks are gone, the form
has to be taken far outside, the farther the more blocks go.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.compare.comparison import Mean
from core.energy.couplings import available, couplings
from core.ising.energies import energies
from core.ising.states import indicator
from core.store.runs import Run

FACTOR = 2.0  # the form ends where the median measured KL is more than so many times the predicted, or less

State = tuple[int, ...]


def predicted_kl(run: Run, states: list[State]) -> np.ndarray:
    """float64 [n], nats a token: T/2 x^T H1 x of each state, T the predicted tokens of a row of the run.

    Errors: InputError for a run without rows of sampled labels.
    """
    texts = run.meta["texts"]
    tokens = texts.get("predicted", texts["length"] - 1)  # runs from before it was noted were packed
    return tokens / 2 * energies(couplings(run, "h1"), indicator(states, run.blocks))


@dataclass(frozen=True)
class Foretold:
    """Measured states beside their predictions, float64 [n] each, nats a token; in order of M."""

    states: list[State]
    predicted: np.ndarray
    measured: np.ndarray
    se: np.ndarray  # of the measured; NaN of one sequence

    @property
    def m(self) -> np.ndarray:
        """int64 [n]: how many blocks each state removes."""
        return np.array([len(s) for s in self.states], dtype=int)

    @property
    def ratios(self) -> dict[int, tuple[float, int]]:
        """{M: (median of measured / predicted, states)}, in order of M."""
        ratio = self.measured / self.predicted
        return {
            int(m): (float(np.median(ratio[self.m == m])), int((self.m == m).sum()))
            for m in sorted(set(self.m.tolist()))
        }

    @property
    def end(self) -> int | None:
        """The first M whose median ratio is beyond FACTOR; None where none is."""
        beyond = [m for m, (ratio, _) in self.ratios.items() if not 1 / FACTOR <= ratio <= FACTOR]
        return min(beyond, default=None)


def foretold(run: Run, measured: Mapping[State, Mean]) -> Foretold | None:
    """The states whose KL was measured (core.compare.comparison.measured_kl) beside what H1 says of them;
    None where the run has no rows of sampled labels.
    """
    if "h1" not in available(run):
        return None
    states = sorted((s for s in measured if measured[s].mean > 0), key=lambda s: (len(s), s))
    se = [np.nan if (e := measured[s].se) is None else e for s in states]
    predicted = predicted_kl(run, states) if states else np.zeros(0)
    return Foretold(states, predicted, np.array([measured[s].mean for s in states]), np.array(se))


def told(found: Foretold) -> str:
    """Where the quadratic form ends, in a sentence."""
    if not found.states:
        return (
            "No state's KL is measured yet. Measure some in Compare: each will stand here beside what the "
            "couplings predict of it."
        )
    ratios, end = found.ratios, found.end
    if end is None:
        span = " and ".join(dict.fromkeys(str(m) for m in (min(ratios), max(ratios))))
        within = (
            f"At M = {span}" if len(ratios) < 3 else f"At every measured M, {min(ratios)} to {max(ratios)},"
        )
        return (
            f"{within} measured KL is within a factor of {FACTOR:g} of the prediction in the median: the "
            "quadratic form holds as far as it was measured."
        )
    ratio, n = ratios[end]
    several = f"in the median of {n} states" if n > 1 else "of the one state"
    before = [m for m in ratios if m < end]
    until = (
        f" Up to M = {max(before)} it holds within a factor of {FACTOR:g}."
        if before
        else " Of fewer blocks none is measured."
        if end > 1
        else ""
    )
    return (
        f"The quadratic form ends at M = {end}: measured KL is {ratio:.2g} times the prediction "
        f"{several}.{until}"
    )
