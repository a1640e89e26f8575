"""The heuristic: feasible, seeded, never called exact, with a bound that holds, and good recall where the
truth is known.
"""

import numpy as np
import pytest

from core.errors import InputError
from core.spectrum.constraints import Constraints
from core.spectrum.heuristic import heuristic_states
from core.spectrum.lowest import lowest_states
from tests.families import duplicated, integer, llm_like, wishart


def recall(found, truth) -> float:
    """Share of the listed states that belong to the true list, members of its last level counted
    whichever.
    """
    return float((found.energies <= truth.energies[-1] + truth.tolerance).sum()) / len(truth.energies)


@pytest.mark.parametrize(
    ("H", "m", "least"),
    [
        (llm_like(40, 1), 16, 0.98),
        (wishart(32, 2), 12, 0.98),
        (duplicated(24, 3), 10, 0.9),
        (integer(28, 4), 12, 0.9),
    ],
    ids=["llm", "wishart", "duplicated", "integer"],
)
def test_recall_and_bound(H, m, least):
    truth = lowest_states(H, m, 100)
    found = heuristic_states(H, m, 100, time_limit=0.5)
    assert not found.exact and found.nodes == 0 and len(found.x) == 100 and (found.x.sum(axis=1) == m).all()
    assert recall(found, truth) >= least
    assert found.lower_bound <= truth.energies[0] + truth.tolerance
    assert found.bound_gap > 0


@pytest.mark.parametrize("size", [-900, -130, 900])
def test_the_size_of_the_couplings_changes_nothing(size):
    H, unit = wishart(12, 3), 2.0**size
    found, truth = heuristic_states(H * unit, 5, 5, time_limit=0.1), lowest_states(H, 5, 5)
    assert found.removed == truth.removed
    assert 0 < found.lower_bound <= truth.energies[0] * unit


def test_it_honours_constraints():
    c = Constraints(
        keep=(0,), max_run=2, groups=(((3, 4, 5, 6), 2),), weights=tuple(range(24)), at_least=80.0
    )
    H = wishart(24, 5)
    found = heuristic_states(H, 9, 30, constraints=c, time_limit=0.5)
    x = found.x
    assert (
        len(x)
        and not x[:, 0].any()
        and (x[:, 3:7].sum(axis=1) == 2).all()
        and (x @ np.arange(24) >= 80).all()
    )
    assert not (x[:, 2:] & x[:, 1:-1] & x[:, :-2]).any() and (x.sum(axis=1) == 9).all()


@pytest.mark.parametrize(
    "c",
    [
        Constraints(weights=(1.0,) * 7, at_least=3.0),
        Constraints(remove=(1,), weights=(1.0,) * 7, at_least=3.0, max_run=7),
        Constraints(groups=(((0, 2, 4), 3),)),
    ],
    ids=["budget", "budget and rules", "groups"],
)
@pytest.mark.parametrize("count", [1, 5, 1000])
def test_where_m_is_free_something_always_stays(c, count):
    H = -wishart(7, 1)  # the more go, the lower
    found = heuristic_states(H, None, count, constraints=c, time_limit=0.05)
    truth = lowest_states(H, None, count, constraints=c)
    assert found.removed[:1] == truth.removed[:1] and len(found.x) <= count
    assert set(found.removed) <= set(lowest_states(H, None, 1000, constraints=c).removed)


def test_rules_that_leave_nothing_are_refused():
    everything = Constraints(weights=(1.0, 1.0, 2.0), at_least=4.0)
    for solve in (lowest_states, heuristic_states):
        with pytest.raises(InputError, match="No choice of blocks"):
            solve(np.eye(3), None, 5, constraints=everything)


def test_the_same_seed_gives_the_same_states():
    a, b = (heuristic_states(llm_like(16, 0), 6, 20, time_limit=30, seed=3) for _ in range(2))
    assert a.removed == b.removed and a.seconds < 30


def test_bad_input():
    with pytest.raises(InputError, match="time limit"):
        heuristic_states(np.eye(5), 2, 5, time_limit=-1)
    with pytest.raises(InputError, match="at least 1"):
        heuristic_states(np.eye(5), 2, 0)
