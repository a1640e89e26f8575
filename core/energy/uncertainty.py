"""How far the energies of states scatter, given that rows and single removals come from a sample."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from core.energy.couplings import couplings
from core.energy.learned import learned_at, read_learned
from core.energy.sources import Source
from core.errors import InputError
from core.ising.energies import energies
from core.ising.states import indicator
from core.store.runs import Pairs, Rows, Run, Secants, Singles

RESAMPLES = 200


def energy_noise(
    source: Source,
    estimator: str,
    x: np.ndarray,
    mix: Mapping[str, float] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray | None:
    """float64 [K]: standard error of each state's energy above that of the first; None for a bare matrix.

    x: bool [K, N], a state a row.
    A bootstrap of whatever the estimator is made of, so it holds for every entry of ESTIMATORS: rows are
    drawn with replacement, in each domain as many as it has, so are the sequences of secants and pairs, and
    measured single removals move by their standard errors. Of a learned landscape it is the posterior's
    standard deviation. What states share does not count: the difference is taken within a resample.
    Errors: InputError for fewer than 2 resamples, and as core.energy.sources.Source.couplings.
    """
    if source.run is None:
        return None
    if learned_at(estimator) is not None:
        return read_learned(source.key, estimator).above(x)
    if resamples < 2:
        raise InputError(f"A standard error needs at least 2 resamples, not {resamples!r}.")
    rng = np.random.default_rng(seed)
    above = np.empty((resamples, len(x)))
    for k in range(resamples):
        e = energies(couplings(resampled(source.run, rng), estimator, mix), x)
        above[k] = e - e[:1]
    return above.std(axis=0, ddof=1)


def energy_spread(
    source: Source,
    estimator: str,
    state: tuple[int, ...],
    mix: Mapping[str, float] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> float | None:
    """Standard deviation of one state's own energy over such resamples; None for a bare matrix, and of a
    learned landscape, whose posterior is not drawn again.
    """
    if source.run is None or learned_at(estimator) is not None:
        return None
    rng, x = np.random.default_rng(seed), indicator([state], source.blocks)
    drawn = [energies(couplings(resampled(source.run, rng), estimator, mix), x)[0] for _ in range(resamples)]
    return float(np.std(drawn, ddof=1))


def energy_error(A: np.ndarray, state: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Standard error of the energy of a state, bool [N], where H is the mean of the rows A [m, N].

    weights: float [m], those of a domain mix. What a bootstrap over rows tends to.
    """
    each = (np.asarray(A, dtype=np.float64) @ state) ** 2
    share = np.full(len(A), 1 / len(A)) if weights is None else weights / weights.sum()
    return float(np.sqrt(share**2 @ (each - share @ each) ** 2))


def resampled(run: Run, rng: np.random.Generator) -> Run:
    """The run as it might have been: other rows drawn, single removals moved by their standard errors, those
    of whole blocks as well where it is seen by branch, and other sequences of its secants and pairs drawn.
    """
    singles = None if run.singles is None else _moved(run.singles, rng)
    rows = _drawn(run.rows, rng)
    sampled = None if run.sampled is None else _drawn(run.sampled, rng)
    own = rng.spawn(1)[0]  # what not every run has leaves the draws before as they are
    secants, pairs, whole, branches = run.secants, run.pairs, run.whole, run.branches
    if secants is not None:
        chosen = own.integers(secants.A.shape[1], size=secants.A.shape[1])
        secants = Secants(secants.A[:, chosen], secants.loss[:, chosen])
    if pairs is not None:
        pairs = Pairs(
            pairs.blocks, pairs.part[:, own.integers(pairs.part.shape[1], size=pairs.part.shape[1])]
        )
    if whole is not None and whole.singles is not None and run.singles is not None:
        more = whole.singles.sequences / run.singles.sequences  # blocks were measured with their branches
        errors = replace(whole.singles, se=whole.singles.se * np.sqrt(more))
        whole = replace(whole, singles=_moved(errors, own))
        if branches is not None and branches.block is not None:
            branches = replace(branches, block=_moved(replace(errors, increase=branches.block), own).increase)
    return replace(
        run,
        rows=rows,
        sampled=sampled,
        singles=singles,
        secants=secants,
        pairs=pairs,
        whole=whole,
        branches=branches,
    )


def _moved(singles: Singles, rng: np.random.Generator) -> Singles:
    """Single removals as they might have been measured."""
    error = np.nan_to_num(singles.se) * rng.normal(size=len(singles.se))
    return replace(singles, increase=singles.increase + error)


def _drawn(rows: Rows, rng: np.random.Generator) -> Rows:
    """As many rows of each domain, drawn with replacement."""
    own = [np.flatnonzero(rows.domain == d) for d in np.unique(rows.domain)]
    chosen = np.concatenate([rng.choice(members, len(members)) for members in own])
    return Rows(rows.A[chosen], rows.sample[chosen], rows.domain[chosen], rows.loss[chosen])
