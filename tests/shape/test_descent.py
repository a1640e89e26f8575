"""Local minima, descents and basins of states that need not be listed."""

import itertools

import numpy as np
import pytest
from scipy.stats import chisquare

from core.errors import InputError
from core.ising.energies import energies
from core.ising.states import indicator
from core.landscape.landscape import landscape
from core.shape.descent import descend, lowered, random_states, sampled_basins
from core.shape.moves import moves_of
from core.shape.valleys import lowest_minima, valleys
from core.spectrum.constraints import Constraints, make_rules
from core.spectrum.lowest import lowest_states
from tests.shape.brute import Brute, kinds


def test_minima_count_only_swaps_that_the_rules_allow():
    rng = np.random.default_rng(5)
    B = rng.normal(size=(9, 9))
    H = B.T @ B
    for c in (
        Constraints(keep=(0,), remove=(4,)),
        Constraints(groups=(((0, 1, 2, 3), 2),)),
        Constraints(max_run=1),
        Constraints(keep=(7,), max_run=2),
    ):
        rules = make_rules(c, 9, 4)
        states = [s for s in itertools.combinations(range(9), 4) if rules.allows(indicator([s], 9))[0]]
        energy = {s: H[np.ix_(s, s)].sum() for s in states}
        expected = [
            not any(len(set(s) & set(t)) == 3 and energy[t] < energy[s] - 1e-9 for t in states)
            for s in states
        ]
        found = ~lowered(H, indicator(states, 9), moves_of(rules), rules, tolerance=1e-9)
        assert found.tolist() == expected and any(expected)


def test_minima_of_any_number_also_count_one_block_more_or_less():
    rng, n = np.random.default_rng(3), 8
    B = rng.normal(size=(n + 2, n))
    H, w = B.T @ B, rng.uniform(1, 3, n)
    for rules in (
        Constraints(weights=tuple(w), at_least=6.0),
        Constraints(weights=((*w,), (1.0, 0.0) * 4), at_least=(5.0, 2.0)),
        Constraints(groups=(((0, 1, 2), 2),)),
    ):
        x = np.array(list(itertools.product([False, True], repeat=n)))
        x = x[make_rules(rules, n, None).allows(x)]
        found = landscape(H, lowest_states(H, None, len(x), constraints=rules), rules)
        energy = {s: H[np.ix_(s, s)].sum() for s in found.spectrum.removed}
        for s, minimum in zip(found.spectrum.removed, found.minimum):
            near = (
                t
                for t in energy
                if (d := set(s) ^ set(t)) and (len(d) == 1 or (len(d) == 2 and len(s) == len(t)))
            )
            assert minimum == (not any(energy[t] < energy[s] - 1e-7 for t in near))
        assert found.minimum.any() and not found.minimum.all() and np.isfinite(found.pearson[0])


@pytest.mark.parametrize("kind", ["random", "indefinite", "like a model"])
def test_descents_end_where_the_list_says(kind):
    H, m = kinds(9, 3)[kind], 4
    rules = make_rules(None, 9, m)
    s = lowest_states(H, m, 200)
    found = valleys(s, moves_of(rules))
    ends = descend(H, s.x, moves_of(rules), rules, s.tolerance)
    assert (ends == s.x[found.minimum[found.valley]]).all()
    sampled = sampled_basins(H, moves_of(rules), rules, 4000, tolerance=s.tolerance, seed=1)
    assert sampled.hits.sum() == 4000 and len(sampled.hits) == len(found.minimum) and sampled.unseen == 0
    share = dict(zip(map(tuple, s.x[found.minimum].tolist()), found.basin / len(s.x)))
    low, high = sampled.share(sampled.hits)
    for row, a, b in zip(sampled.x.tolist(), low, high):
        assert a - 0.02 <= share[tuple(row)] <= b + 0.02


def test_random_states_are_evenly_drawn_within_the_rules():
    rules = make_rules(Constraints(keep=(0,), groups=(((1, 2, 3), 1),), max_run=2), 7, 3)
    x = random_states(rules, 20_000, np.random.default_rng(0))
    assert rules.allows(x).all()
    states, hits = np.unique(x, axis=0, return_counts=True)
    assert len(states) == rules.total
    assert chisquare(hits).pvalue > 1e-4


def test_too_narrow_rules_are_said_to_be_too_narrow():
    rules = make_rules(Constraints(weights=(1.0,) * 3 + (0.0,) * 57, at_least=3.0), 60, 3)
    with pytest.raises(InputError, match="too few to draw a sample"):
        random_states(rules, 10, np.random.default_rng(0))


def test_the_list_grows_until_the_minima_are_found():
    H = kinds(18, 2)["random"]
    slow = valleys(lowest_states(H, 7, 40_000), moves_of(make_rules(None, 18, 7)))
    assert len(slow.minimum) >= 3
    few = lowest_minima(H, 7, 2)
    assert few.complete and few.valleys.removed[:2] == slow.removed[:2] and few.count == 2
    assert len(few.valleys.spectrum.x) < len(slow.spectrum.x)
    every = lowest_minima(H, 7, 10_000, most=40_000)
    assert (every.count, every.complete) == (len(every.valleys.minimum), False)
    assert every.valleys.removed == [r for r in slow.removed if r in set(every.valleys.removed)]
    assert "others may lie above" in every.why
    assert lowest_minima(H, 7, 5, most=1).why.startswith("1 minimum among the 1 lowest")
    small = lowest_minima(kinds(8, 2)["random"], 3, 50)
    assert small.complete and "every state is listed" in small.why
    assert lowest_minima(np.eye(3), 1, 5).why == "the only minimum: every state is listed"
    assert small.valleys.removed == [
        s for k, s in enumerate(Brute(kinds(8, 2)["random"], 3).states) if k in small.valleys.minimum
    ]


@pytest.mark.parametrize("removed", [-1, 0, 8, 9])
def test_more_or_less_than_can_go_is_refused(removed):
    with pytest.raises(InputError, match=f"M = {removed} blocks cannot be removed from 8"):
        lowest_minima(np.eye(8), removed, 3)


def test_of_a_list_that_is_not_proved_only_true_minima_count():
    H, m = kinds(10, 4)["indefinite"], 4
    rules = make_rules(None, 10, m)
    whole, part = lowest_states(H, m, 210), lowest_states(H, m, 210)
    keep = np.arange(210) % 3 != 0
    holes = type(part)(
        **{**part.__dict__, "x": part.x[keep], "energies": part.energies[keep], "exact": False}
    )
    found, true = valleys(holes, moves_of(rules), H, rules), valleys(whole, moves_of(rules))
    assert set(found.removed) == set(true.removed) & set(holes.removed)
    assert (found.valley == -1).any()
    with pytest.raises(InputError, match="not proved complete"):
        valleys(holes, moves_of(rules))


def test_energies_fall_on_the_way_down():
    rng = np.random.default_rng(0)
    H = kinds(30, 1)["like a model"]
    rules = make_rules(Constraints(max_run=2, weights=tuple(rng.uniform(1, 2, 30)), at_least=12.0), 30, 10)
    start = random_states(rules, 50, rng)
    ends = descend(H, start, moves_of(rules), rules)
    assert rules.allows(ends).all() and (energies(H, ends) <= energies(H, start)).all()
    assert not lowered(H, ends, moves_of(rules), rules, 1e-12).any()


@pytest.mark.parametrize("most", [4, 8, 15, 1000])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_minima_on_a_level_that_the_list_cuts_are_not_called_proved(count, most):
    """What looks like two minima may be one plateau, or drain, by states that are not listed."""
    rng = np.random.default_rng(0)
    for n, m in ((6, 2), (7, 3), (8, 5), (8, 2)) * 5:
        A = rng.integers(0, 2, (n, n))
        H = (A + A.T).astype(float)
        slow = Brute(H, m)
        found = lowest_minima(H, m, count, most=most)
        if found.complete:
            wanted = slow.e[slow.minima()[:count]]
            assert found.count == len(wanted) and (found.valleys.energies[: found.count] == wanted).all()
        else:
            assert "proved" not in found.why or "not proved" in found.why
            assert most < 1000


def test_a_plateau_is_one_minimum_and_a_way_down():
    H = np.diag(np.arange(22) // 4).astype(float)  # the four cheapest units are equal, and so on
    rules = make_rules(None, 22, 6)
    found = sampled_basins(H, moves_of(rules), rules, 200)
    assert found.x.tolist() == [[True] * 6 + [False] * 16] and found.minima == 1 and found.unseen == 0
    flat = sampled_basins(np.ones((20, 20)), moves_of(rules_ := make_rules(None, 20, 9)), rules_, 200)
    assert flat.minima == 1
    for seed in range(10):  # swaps and units that come and go alone: each end is a state of a true minimum
        A = np.random.default_rng(seed).integers(-1, 2, (8, 8))
        H, c = (A + A.T).astype(float), Constraints(weights=(1.0,) * 8, at_least=2.0)
        rules = make_rules(c, 8, None)
        whole = lowest_states(H, None, 1000, constraints=c)
        ends = descend(H, whole.x, moves_of(rules), rules, whole.tolerance)
        assert not lowered(H, ends, moves_of(rules), rules, whole.tolerance).any()


def test_where_m_is_free_descents_leave_something():
    """The groups say how much of three units goes; of the others all might, but something must stay."""
    H, c = -np.ones((6, 6)), Constraints(groups=(((0, 1, 2), 3),))
    rules = make_rules(c, 6, None)
    ends = descend(H, lowest_states(H, None, 50, constraints=c).x, moves_of(rules), rules)
    assert (ends.sum(axis=1) == 5).all() and not lowered(H, ends, moves_of(rules), rules).any()


def test_where_no_state_is_found_in_time_that_is_said():
    """Two budgets that hardly any 20 of 60 units keep together."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(60, 60))
    one = rng.integers(1, 10**6, 60).astype(float)
    both, enough = (tuple(one), tuple(one.max() + 1 - one)), 10 * (one.max() + 1) * 0.999**0.001
    rules = Constraints(weights=both, at_least=(enough, enough), max_run=1)
    with pytest.raises(InputError, match="Not one state"):
        lowest_minima(A @ A.T, 20, 5, constraints=rules, time_limit=1e-6)
