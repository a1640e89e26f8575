"""Where a state stands among the listed ones: every place against the full list."""

import itertools

import numpy as np
import pytest

from core.ising.states import indicator
from core.landscape.locate import place
from core.spectrum.constraints import Constraints
from core.spectrum.lowest import levels, lowest_states


def symmetric(n: int, seed: int) -> np.ndarray:
    A = np.random.default_rng(seed).normal(size=(n, n))
    return A + A.T


@pytest.mark.parametrize("seed", range(3))
def test_every_state_of_m_stands_where_the_full_list_has_it(seed):
    H, everything = symmetric(9, seed), list(itertools.combinations(range(9), 3))
    full, part = lowest_states(H, 3, 84), lowest_states(H, 3, 20)
    for p in place(H, part, everything):
        truth = full.removed.index(p.removed)
        assert np.isclose(p.energy, full.energies[truth]) and np.isclose(
            p.delta, full.energies[truth] - full.energies[0]
        )
        assert (
            p.rank == (truth if truth < 20 else None)
            and p.below == min(truth, 20)
            and not p.degenerate
            and p.allowed
        )
        assert p.words.startswith(f"rank {truth}, " if truth < 20 else "ΔE") and (
            "above the 20 listed" in p.words
        ) == (truth >= 20)
    assert place(H, part, []) == []


def test_levels_are_seen_also_where_the_list_cuts_them():
    H = np.diag([0.0, 0, 1, 1, 1, 5])
    s = lowest_states(H, 2, 5)  # one state of 0, four of the six of 1
    assert levels(s.energies, s.tolerance).tolist() == [0, 1, 1, 1, 1] and s.level_cut
    ground, listed, unlisted, above = place(H, s, [(0, 1), (0, 2), (1, 4), (2, 3)])
    assert (ground.rank, ground.same, ground.degenerate) == (
        0,
        0,
        False,
    ) and "the ground state" in ground.words
    assert (listed.rank, listed.same, listed.below) == (
        1,
        3,
        1,
    ) and "on a level with 3 others" in listed.words
    assert (unlisted.rank, unlisted.same, unlisted.below) == (
        None,
        4,
        1,
    ) and "the level that the list cuts off" in unlisted.words
    assert (above.rank, above.same, above.below) == (None, 0, 5)


def test_other_numbers_of_blocks_and_broken_rules_are_said():
    H = symmetric(8, 1)
    rules = Constraints(keep=(0,), max_run=2)
    s = lowest_states(H, 3, 10, constraints=rules)
    other, kept, run = place(H, s, [(1, 2), (0, 3, 5), (1, 2, 3)], rules)
    assert other.rank is other.delta is other.below is None and "removes 2 blocks" in other.words
    assert not kept.allowed and not run.allowed and kept.words.startswith("outside the rules")
    truth = indicator([(0, 3, 5)], 8)[0] @ H @ indicator([(0, 3, 5)], 8)[0]
    assert np.isclose(kept.energy, truth) and kept.below == (s.energies < truth).sum()


def test_where_no_m_was_asked_for_states_of_any_size_are_compared():
    H = np.diag([1.0, 2.0, 4.0, 8.0])
    rules = Constraints(weights=(1.0,) * 4, at_least=2.0)
    s = lowest_states(H, None, 4, constraints=rules)
    assert s.removed == [(0, 1), (0, 2), (1, 2), (0, 1, 2)]
    three, far, alone = place(H, s, [(0, 1, 2), (1, 2, 3), (3,)], rules, free=True)
    assert three.rank == 3 and three.delta == 4.0 and far.delta == 11.0 and far.below == 4
    assert not alone.allowed and alone.delta == 5.0 and "outside the rules" in alone.words


def test_a_state_that_an_unproved_search_has_missed_is_placed_below():
    from dataclasses import replace

    H = symmetric(8, 2)
    s = lowest_states(H, 3, 10)
    missed = replace(s, x=s.x[1:], energies=s.energies[1:], exact=False, lower_bound=-100.0)
    (p,) = place(H, missed, [s.removed[0]])
    assert p.rank is None and p.below == 0 and p.delta < 0 and "not proved" in p.words
