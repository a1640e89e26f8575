"""Which rule finds the best loss with the same number of measured candidates (core.landscape.rules)?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.energy.couplings import couplings
from core.energy.sources import Source
from core.energy.uncertainty import energy_noise, resampled
from core.landscape.landscape import landscape
from core.landscape.rules import RULES, Listed
from core.measure.state_losses import State, by_prefix
from core.spectrum.lowest import lowest_states

COUNTS, LISTED, NOISE, RESAMPLES = (5, 10, 20), 1000, 100, 10
FIRST = next(iter(RULES))  # the others are compared with it


@dataclass(frozen=True)
class Judge:
    """Loss increases float64 [S], nats, of a state: on the sequences that choose, and on others."""

    choosing: Callable[[State], np.ndarray]
    unseen: Callable[[State], np.ndarray]


def proposals(source: Source, H: np.ndarray, estimator: str, m: int) -> tuple[int, dict]:
    """(minima among the listed, {count: {rule: states}}) of couplings H float64 [N, N] of the run's data."""
    s = lowest_states(H, m, LISTED)
    found = landscape(H, s)
    listed = Listed(H, found.tree, energy_noise(source, estimator, s.x, resamples=NOISE))
    return len(found.valleys.minimum), {
        count: {name: rule(listed, count) for name, rule in RULES.items()} for count in COUNTS
    }


def compared(source: Source, estimator: str, m: int, judges: Sequence[Judge], resamples: int = 0) -> dict:
    """For every count and rule the loss of the chosen state on unseen sequences, and what it lies above that
    of the first rule, sequence by sequence; the mean of every judge's and of couplings whose rows were drawn
    anew `resamples` times.
    """
    assert source.run is not None  # a bare matrix has no losses
    rng = np.random.default_rng(m)
    runs = [source.run] + [resampled(source.run, rng) for _ in range(resamples)]
    drawn = [proposals(replace(source, run=run), couplings(run, estimator), estimator, m) for run in runs]
    _measure_all(drawn, judges, source.blocks)
    counts = {str(count): _judged([cells[count] for _, cells in drawn], judges) for count in COUNTS}
    return {"minima": float(np.mean([minima for minima, _ in drawn])), "draws": len(runs), "counts": counts}


def _measure_all(drawn: list, judges: Sequence[Judge], blocks: int) -> None:
    """All proposals at once, in the order in which they share most."""
    states = {s for _, cells in drawn for rules in cells.values() for own in rules.values() for s in own}
    for judge in judges:
        for state in by_prefix(states, blocks):
            judge.choosing(state)


def _judged(cells: list[dict[str, list[State]]], judges: Sequence[Judge]) -> dict:
    """{rule: what it found}; several judges' sequences follow each other."""
    losses = {
        name: np.array([np.concatenate([_chosen(own[name], judge) for judge in judges]) for own in cells])
        for name in RULES
    }
    best = {
        name: [min(own[name], key=lambda s: judges[0].choosing(s).mean()) for own in cells] for name in RULES
    }
    return {
        name: {
            "loss": float(found.mean()),
            "gap": [round(float(v), 5) for v in (found - losses[FIRST]).mean(axis=0)]
            if name != FIRST
            else [],
            "measured": float(np.mean([len(own[name]) for own in cells])),
            "state": list(best[name][0]),
            "same": float(np.mean([a == b for a, b in zip(best[name], best[FIRST])])),
        }
        for name, found in losses.items()
    }


def _chosen(states: list[State], judge: Judge) -> np.ndarray:
    """Unseen losses of the state that the choosing sequences like best."""
    return judge.unseen(min(states, key=lambda s: judge.choosing(s).mean()))
