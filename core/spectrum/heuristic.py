"""Low states without a proof, for what stays out of reach of the search: see `heuristic_states`."""

import time

import numpy as np

from core.errors import InputError
from core.ising.energies import energies
from core.spectrum.branch_and_bound import one_blas_thread, search, start_problem, unit_of
from core.spectrum.constraints import Constraints
from core.spectrum.kbest import new_pool, pool_states
from core.spectrum.lowest import (
    NOTHING_FITS,
    Spectrum,
    check_time_limit,
    checked_count,
    checked_problem,
    level_order,
    tie_tolerance,
)
from core.spectrum.moves import improve, insert_states
from core.spectrum.relaxation import root_bound


def heuristic_states(
    H: np.ndarray,
    removed: int | None,
    count: int,
    linear: np.ndarray | None = None,
    *,
    constraints: Constraints | None = None,
    time_limit: float = 0.2,
    seed: int = 0,
) -> Spectrum:
    """Up to `count` low states found by annealing, kicks and swaps in about `time_limit` seconds; exact is
    always False.

    H: float [N, N] symmetric; linear: float [N]. The lower bound is that of the root relaxation: proved, and
    usually loose. The same seed gives the same states only when the rounds end before the time does.
    Errors: InputError as in core.spectrum.lowest.lowest_states.
    """
    began = time.perf_counter()
    H, g, rules = checked_problem(H, removed, linear, constraints)
    count = checked_count(count)
    check_time_limit(time_limit)
    n = len(H)
    tolerance = tie_tolerance(H, rules, g)
    unit = unit_of(H, g)
    slack = max(tolerance / unit / 2, 1e-30)
    free = bool((rules.counts < 0).any())  # then one more: moves know the state without any blocks
    keep = (count if rules.total is None else min(count, rules.total)) + free
    pool = new_pool(keep, n)
    problem, template = start_problem(H / unit, g / unit, rules)
    # random states are rarely feasible: the tree gives the first ones
    if rules.local or not len(problem.blocks):
        first = search(H, g, rules, keep, tolerance, time_limit=time_limit / 2)
        if first.complete and first.x.all(axis=1).all():
            raise InputError(NOTHING_FITS)
        insert_states(pool, problem, template, first.x, slack)
    improve(
        pool,
        problem,
        template,
        rules,
        slack,
        rounds=100_000,
        patience=150,
        seed=seed * 100_003,
        deadline=began + time_limit,
    )
    x = pool_states(pool, n)
    x = x[~x.all(axis=1)]
    e = energies(H, x, g)
    order = level_order(e, x, tolerance)[:count]
    with one_blas_thread:
        bound = unit * root_bound(problem, float(e.max()) / unit if len(x) >= keep - free else np.inf, slack)
    return Spectrum(
        x=x[order],
        energies=e[order],
        exact=False,
        lower_bound=bound,
        level_cut=False,
        total=rules.total,
        tolerance=tolerance,
        seconds=time.perf_counter() - began,
    )
