"""Removal at several temperatures against the ensemble and against brute force."""

import numpy as np
import pytest

from core.spectrum.constraints import Constraints, make_rules
from core.spectrum.lowest import lowest_states
from core.thermal.ensemble import UNLISTED, ensemble
from core.thermal.removal import removal
from core.thermal.whole import whole
from tests.shape.brute import Brute, kinds

T = (0.01, 0.3, 2.0, 50.0)


@pytest.mark.parametrize("kind", list(kinds(4, 0)))
@pytest.mark.parametrize("count", [3, 10_000], ids=["enumerated", "all listed"])
def test_probabilities_are_those_of_all_states(kind, count):
    H = kinds(10, 2)[kind]
    slow, s = Brute(H, 4), lowest_states(H, 4, count)
    x = np.array([[i in state for i in range(10)] for state in slow.states], dtype=float)
    for t, found in zip(T, removal(H, s, T)):
        w = np.exp((slow.e.min() - slow.e) / t)
        assert found.how == "exact" and found.temperature == t
        assert np.allclose(found.removed, w @ x / w.sum(), atol=1e-9)
        assert found.removed.sum() == pytest.approx(4)


def test_rules_that_fix_units_are_counted_and_others_leave_the_list():
    H = kinds(12, 3)["like a model"]
    fixed = Constraints(keep=(0, 5), remove=(7,))
    s, rules = lowest_states(H, 5, 20, constraints=fixed), make_rules(fixed, 12, 5)
    for t, found in zip(T, removal(H, s, T, rules)):
        assert np.allclose(found.removed, ensemble(H, s, t, rules).removed, atol=1e-9)
        assert found.removed[0] == found.removed[5] == 0 and found.removed[7] == pytest.approx(1)
    apart = Constraints(max_run=1)
    s, rules = lowest_states(H, 5, 5, constraints=apart), make_rules(apart, 12, 5)
    assert whole(H, rules) is None  # nothing to enumerate: the list must do
    found = removal(H, s, (0.01 * s.gap, 1e3 * s.gap), rules)
    assert found[0].how == "exact" and found[1] is None


def test_beyond_what_is_enumerated_the_list_says_how_far_off_it_may_be():
    H = kinds(14, 1)["indefinite"]
    s = lowest_states(H, 6, 200)
    temperatures = np.geomspace(0.05, 5, 40) * (s.energies[-1] - s.energies[0])
    found = removal(H, s, temperatures, most=10)
    assert found[0] is not None and found[-1] is None
    bounded = [one for one in found if one and one.how == "bounded"]
    assert len(bounded) > 2
    for one in bounded:
        true = ensemble(H, s, one.temperature).removed
        assert 0 < np.abs(one.removed - true).max() <= one.error <= UNLISTED
