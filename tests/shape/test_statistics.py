"""Bootstrap, ruggedness, null models, figures over M, minima of measured losses."""

import itertools
import math
import time

import numpy as np
import pytest

from core.energy.couplings import couplings, outer_mean
from core.ising.energies import energies
from core.shape import barrier_tree, moves_of, valleys
from core.shape.bootstrap import joined, stability
from core.shape.depths import depths, nested
from core.shape.measured_minima import same_minima
from core.shape.null_models import FIGURES, figures, structure
from core.shape.ruggedness import distance_correlation, ruggedness
from core.shape.tree import columns
from core.spectrum.constraints import Constraints, make_rules
from core.spectrum.lowest import lowest_states
from core.store import folders
from core.store.runs import load_run
from tests.shape.brute import Brute, kinds


@pytest.mark.parametrize("kind", ["random", "indefinite", "like a model", "integer"])
@pytest.mark.parametrize(("n", "m"), [(6, 2), (7, 3), (9, 5), (10, 4)])
def test_the_correlation_of_swap_walks_is_that_of_all_pairs_of_neighbours(n, m, kind):
    H = kinds(n, n)[kind]
    slow = Brute(H, m)
    e = slow.e - slow.e.mean()
    one = np.mean([e[k] * e[j] for k, near in enumerate(slow.near) for j in near]) / (e**2).mean()
    found = ruggedness(H, m)
    assert found.own + found.pairs == pytest.approx((e**2).mean())
    assert found.step == pytest.approx(one)
    assert found.after(np.array([0, 1])) == pytest.approx([1, one])
    walk = np.zeros((len(e), len(e)))
    for k, near in enumerate(slow.near):
        walk[k, near] = 1 / len(near)
    apart = [len(set(slow.states[0]) - set(s)) for s in slow.states]
    assert distance_correlation(H, slow.states[0]) == pytest.approx(np.corrcoef(slow.e, apart)[0, 1])
    third = e @ np.linalg.matrix_power(walk, 3) @ e / (e @ e)
    assert found.after(np.array([3]))[0] == pytest.approx(third)


def test_blocks_that_simply_add_up_have_no_pairs():
    assert ruggedness(np.diag(np.arange(8.0)), 3).share == pytest.approx(0)
    assert ruggedness(np.zeros((8, 8)), 3).step == 1


@pytest.mark.parametrize("n", range(2, 9))
def test_equal_energies_have_no_structure_but_rounding(n):
    for m in range(1, n):
        for H in (np.full((n, n), 0.1), np.full((n, n), 2.0), np.eye(n) / 3):
            found = ruggedness(H, m)
            assert (found.own, found.pairs, found.share, found.step) == (0, 0, 0, 1)
            assert math.isnan(distance_correlation(H, tuple(range(m))))


def test_barriers_of_other_energies_over_the_same_states_are_those_of_brute_force():
    H, m = kinds(9, 5)["indefinite"], 4
    s = lowest_states(H, m, 126)
    found = valleys(s, moves_of(make_rules(None, 9, m)))
    other = kinds(9, 6)["indefinite"]
    slow = Brute(other, m)
    at = [slow.number[state] for state in s.removed]
    pairs = list(itertools.combinations(range(0, 126, 9), 2))
    heights = list(joined(found.neighbours.nonzero(), energies(other, s.x), pairs))
    for (a, b), height in zip(pairs, heights):
        assert height == pytest.approx(slow.e[slow.level == slow.barrier(at[a], at[b])].max())


def test_stability_is_near_one_for_what_many_rows_agree_on():
    run = load_run(folders.DEMO_RUN)
    H = couplings(run, "h0")
    s = lowest_states(H, 6, 400)
    tree = barrier_tree(valleys(s, moves_of(make_rules(None, len(H), 6))))
    found = stability(tree, run, "h0", resamples=20)
    assert found.minimum.shape == (len(tree.valleys.minimum),)
    assert ((found.minimum >= 0) & (found.minimum <= 1)).all() and found.minimum[0] > 0.5
    assert found.barrier.shape == tree.dying.shape and (found.height[:, 0] <= found.height[:, 1]).all()
    e0 = [couplings(run, "h0")[np.ix_(s.removed[0], s.removed[0])].sum()]
    assert 0 < found.ground < e0[0]
    again = stability(tree, run, "h0", resamples=20)
    assert (again.minimum == found.minimum).all() and (again.height == found.height).all()


def test_depths_count_minima_where_all_states_are_listed():
    H = kinds(9, 4)["indefinite"]
    found = list(depths(H))
    assert [d.step.removed for d in found] == list(range(1, 9))
    for d in found:
        slow = Brute(H, d.step.removed)
        assert d.exact and d.minima == len(slow.minima())
        assert d.basin == pytest.approx(np.mean([slow.descent(k) == 0 for k in range(len(slow.states))]))
    steps = [d.step for d in found]
    assert nested(steps) == [b.removed for a, b in itertools.pairwise(steps) if set(a.ground) < set(b.ground)]
    large = kinds(22, 4)["random"]
    middle = next(d for d in depths(large, descents=200) if d.step.removed == 11)
    assert not middle.exact and middle.minima >= 1 and 0 <= middle.basin <= 1


def test_depths_whose_rules_leave_too_little_to_draw_from_have_no_number_of_minima():
    narrow = Constraints(weights=(1.0,) * 3 + (0.0,) * 57, at_least=3.0)
    found = next(d for d in depths(kinds(60, 4)["random"], narrow, descents=20) if d.step.removed == 3)
    assert found.step.ground == (0, 1, 2) and not found.exact
    assert np.isnan(found.minima) and np.isnan(found.basin)


def test_structure_is_found_where_there_is_some_and_not_in_noise():
    rng = np.random.default_rng(3)
    modes = rng.normal(size=(3, 16))  # three directions carry nearly everything: far from random pairs
    A = rng.normal(size=(400, 3)) @ modes + 0.3 * rng.normal(size=(400, 16))
    found = structure(outer_mean(A), 5, A, draws=15)
    assert set(found.nulls) == {"shuffled", "wishart", "permuted"} and set(found.real) == set(FIGURES)
    assert "pairs" in found.outside("permuted")
    noise = rng.normal(size=(400, 16))
    plain = structure(outer_mean(noise), 5, noise, draws=15)
    assert len(plain.outside("permuted")) <= 1 and len(plain.outside("wishart")) <= 2
    low, high = found.nulls["wishart"].range("minima")
    assert low <= high
    assert structure(outer_mean(A), 5, draws=2).nulls.keys() == {"shuffled", "wishart"}


def test_noise_whose_proof_takes_too_long_still_has_figures():
    B = np.random.default_rng(0).normal(size=(80, 80))
    figures(B @ B.T, 2, time_limit=0.2)  # compiles
    began = time.process_time()
    found = figures(B @ B.T, 40, time_limit=0.2)
    assert time.process_time() - began < 10  # the proof takes minutes
    assert found["minima"] >= 1 and all(np.isfinite(v) for v in found.values())


def test_the_shuffled_null_keeps_what_it_says():
    H = kinds(10, 1)["like a model"]
    a, b = figures(H, 4), figures(2 * H, 4)
    assert a == pytest.approx(b)  # no figure depends on the unit of energy


def test_equal_landscapes_have_equal_minima_and_others_chance():
    slow = Brute(kinds(10, 3)["indefinite"], 4)
    x = np.array([[i in s for i in range(10)] for s in slow.states])
    moves = moves_of(make_rules(None, 10, 4))
    same = same_minima(x, slow.e, 3 * slow.e + 1, moves)
    assert same.shared == len(slow.minima()) and same.basins == 1 and same.best == 0 and same.found == 0
    other = same_minima(x, slow.e, np.random.default_rng(0).normal(size=len(x)), moves)
    assert other.shared < len(other.loss.minimum) and other.basins < 0.5
    assert other.expected == pytest.approx(len(other.energy.minimum) * len(other.loss.minimum) / len(x))


@pytest.mark.parametrize("count", [1, 4, 9, 30, 300])
def test_branches_of_a_drawn_tree_do_not_cross_and_stems_stand_in_the_middle(count):
    H = kinds(16, 5)["indefinite"]
    s = lowest_states(H, 7, 12_000)
    tree = barrier_tree(valleys(s, moves_of(make_rules(None, 16, 7))))
    kept = tree.lasting(count)
    x = dict(zip(kept.tolist(), columns(tree, kept)))
    assert sorted(x.values()) == pytest.approx(np.linspace(0, 1, len(kept)) if len(kept) > 1 else [0])
    part = {i: {i} for i in x}
    for b in tree.merges(kept):
        survivor, dying = int(tree.survivor[b]), int(tree.dying[b])
        part[survivor] |= part.pop(dying)
        own = [x[i] for i in part[survivor]]
        inside = [i for i in x if min(own) <= x[i] <= max(own)]
        assert set(inside) == part[survivor]  # a lake is one stretch: nothing of another stands in it
    left = sum(v < x[0] for v in x.values())
    assert abs(left - (len(x) - 1 - left)) <= max(1, len(x) // 2)


@pytest.mark.parametrize("count", [40, 400, 3000])
def test_the_minima_that_are_kept_are_the_deepest_known_and_those_they_join(count):
    A = np.round(2 * np.random.default_rng(2).normal(size=(5, 18)))  # integers: some are on one level
    s = lowest_states(A.T @ A, 8, count)
    tree = barrier_tree(valleys(s, moves_of(make_rules(None, 18, 8))))
    v, joins = tree.valleys, dict(zip(tree.dying.tolist(), tree.survivor.tolist()))
    depth = [
        (dict(zip(tree.dying.tolist(), tree.energy)).get(i, s.energies[-1]) - e)
        for i, e in enumerate(v.energies)
    ]
    assert np.allclose(tree.known_persistence, depth)
    assert len(depth) > 20
    for count in range(1, len(depth) + 1):
        kept = set(tree.lasting(count).tolist())
        assert len(kept) == count and 0 in kept
        assert all(joins[i] in kept for i in kept if i in joins)
        others = [depth[i] for i in range(len(depth)) if i not in kept]
        assert not others or max(others) <= min(depth[i] for i in kept) + 1e-12
