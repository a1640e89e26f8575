"""The sweep over M against enumeration, and what enters and leaves."""

import itertools

import numpy as np
import pytest

from core.errors import InputError
from core.ising.states import indicator
from core.spectrum.constraints import Constraints, make_rules
from core.spectrum.sweep import sweep


def symmetric(n: int, seed: int) -> np.ndarray:
    A = np.random.default_rng(seed).normal(size=(n, n))
    return A + A.T


RULES = [
    None,
    Constraints(keep=(0,), remove=(3,)),
    Constraints(groups=(((0, 1, 2, 3), 2),), max_run=2),
    Constraints(groups=(((0, 1, 2), 1), ((5, 6, 7), 2))),
    Constraints(groups=(((0, 1, 2, 3), 2), ((4, 5, 6, 7), 1))),  # they hold every block: M = 3 alone
    Constraints(weights=(1.0,) * 8, at_least=3),
    Constraints(weights=((1.0, 3.0) * 4, (2.0, 0.5) * 4), at_least=(7.0, 5.0)),
    Constraints(
        keep=(7,), remove=(1,), groups=(((2, 3, 4), 1),), weights=tuple(range(8)), at_least=6.0, max_run=2
    ),
]


@pytest.mark.parametrize("rules", RULES)
def test_every_feasible_m_has_its_ground_state(rules):
    H, expected = symmetric(8, 4), {}
    for m in range(1, 8):
        x = indicator(list(itertools.combinations(range(8), m)), 8)
        try:
            x = x[make_rules(rules, 8, m).allows(x)]
        except InputError:
            continue
        if len(x):
            e = np.sort(np.einsum("ki,ij,kj->k", x, H, x))
            expected[m] = (e[0], e[1] - e[0] if len(e) > 1 else None)
    steps, before = list(sweep(H, constraints=rules)), ()
    assert [s.removed for s in steps] == list(expected)
    for s in steps:
        energy, gap = expected[s.removed]
        assert (
            np.isclose(s.energy, energy)
            and s.gap == (None if gap is None else pytest.approx(gap))
            and s.degeneracy == 1
        )
        assert set(s.entered) == set(s.ground) - set(before) and set(s.left) == set(before) - set(s.ground)
        assert s.nested == (set(before) <= set(s.ground))
        before = s.ground


def test_it_can_be_stopped_and_says_when_nothing_fits():
    asked = []
    steps = sweep(symmetric(40, 0), report=asked.append)
    assert [next(steps).removed for _ in range(3)] == [1, 2, 3]
    steps.close()
    with pytest.raises(InputError):
        list(sweep(symmetric(6, 0), constraints=Constraints(keep=(9,))))


def test_a_flat_landscape_is_one_level():
    for s in sweep(np.ones((6, 6)), count=5):
        assert s.gap is None and s.degeneracy == 5
