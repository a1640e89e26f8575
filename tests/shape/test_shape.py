"""Minima, basins, barriers and paths against brute force, on all N <= 12 kinds of matrices."""

import numpy as np
import pytest

from core.ising.energies import energies
from core.ising.states import indicator
from core.shape import barrier_tree, moves_of, valleys
from core.shape.descent import random_states
from core.shape.paths import path
from core.spectrum.constraints import Constraints, make_rules
from core.spectrum.lowest import lowest_states
from tests.shape.brute import Brute, kinds

SIZES = [*((n, m) for n in (4, 6, 7) for m in range(1, n)), (8, 4), (9, 2), (10, 5), (12, 3)]


def _case(n, m, kind, move="swap", count=10**5, constraints=None):
    H = kinds(n, seed=10 * n + m)[kind]
    rules = make_rules(constraints, n, m)
    s = lowest_states(H, m, min(count, 20_000), constraints=constraints)
    return H, rules, s, valleys(s, moves_of(rules, move), H, rules)


@pytest.mark.parametrize("move", ["swap", "shift"])
@pytest.mark.parametrize("kind", list(kinds(4, 0)))
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_minima_basins_and_barriers_are_those_of_brute_force(n, m, kind, move):
    H, rules, s, found = _case(n, m, kind, move)
    slow = Brute(H, m, move)
    assert s.removed == slow.states and found.level.tolist() == slow.level.tolist()
    minima = slow.minima()
    assert found.minimum.tolist() == minima
    assert found.plateau.tolist() == [len(slow.plateau(k)) for k in minima]
    assert found.minimum[found.valley].tolist() == [slow.descent(k) for k in range(len(slow.states))]
    assert found.basin.sum() == len(slow.states)
    tree = barrier_tree(found)
    barriers = tree.barriers()
    some = range(min(len(minima), 12))
    for i in some:
        for j in some:
            level = slow.barrier(minima[i], minima[j]) if i != j else slow.level[minima[i]]
            if level > slow.level.max():
                assert np.isinf(barriers[i, j])
            else:
                inside = slow.e[slow.level == level]
                assert inside.min() <= barriers[i, j] <= inside.max()
    assert len(tree.roots) + len(tree.dying) == len(minima)


@pytest.mark.parametrize("kind", list(kinds(4, 0)))
@pytest.mark.parametrize(("n", "m"), [(7, 3), (8, 4), (10, 3)])
def test_paths_are_minimax_and_every_step_is_a_move(n, m, kind):
    H, rules, s, found = _case(n, m, kind)
    slow, rng = Brute(H, m), np.random.default_rng(0)
    for a, b in rng.integers(len(s.x), size=(12, 2)):
        way = path(H, found, s.removed[a], s.removed[b], rules)
        steps = [slow.number[state] for state in way.removed]
        assert steps[0] == a and steps[-1] == b and way.exact
        assert all(j in slow.near[i] for i, j in zip(steps, steps[1:]))
        top = slow.barrier(a, b)
        assert max(slow.level[k] for k in steps) == top
        shortest, front, seen = 0, {a}, {a}
        while b not in front:
            front = {j for i in front for j in slow.near[i] if slow.level[j] <= top} - seen
            seen |= front
            shortest += 1
        assert len(steps) == shortest + 1


@pytest.mark.parametrize("kind", ["random", "indefinite", "like a model", "integer"])
def test_what_a_shorter_list_says_is_what_the_whole_one_says(kind):
    H, rules, whole, all_ = _case(10, 4, kind)
    _, _, s, part = _case(10, 4, kind, count=60)
    level = part.level[-1]  # of which the list may hold a part
    sure = [k for k in all_.minimum if all_.level[k] < level]
    assert [k for k in part.minimum if part.level[k] < level] == sure
    assert (all_.valley[: len(s.x)][part.level < level] == part.valley[part.level < level]).all()
    short, long = barrier_tree(part), barrier_tree(all_).barriers()
    known = short.barriers()[: len(sure), : len(sure)]
    inside = np.isfinite(known)
    assert np.allclose(known[inside], long[: len(sure), : len(sure)][inside], atol=s.tolerance)
    assert (long[: len(sure), : len(sure)][~inside] >= short.top - s.tolerance).all()


def test_rules_restrict_the_moves():
    constraints = Constraints(keep=(0,), remove=(3,), groups=(((1, 2, 4, 5), 2),), max_run=2)
    H, rules, s, found = _case(9, 4, "random", constraints=constraints)
    slow = Brute(H, 4, allowed=lambda t: bool(rules.allows(np.isin(np.arange(9), t)[None])[0]))
    slow_order = [slow.states[k] for k in slow.minima()]
    assert sorted(found.removed) == sorted(slow_order) and len(s.x) == len(slow.states)
    assert sorted(sorted(found.neighbours[[k]].indices.tolist()) for k in range(len(s.x))) == sorted(
        map(sorted, slow.near)
    )


@pytest.mark.parametrize("kind", ["random", "indefinite", "integer"])
def test_where_a_budget_says_how_much_goes_units_come_and_go_alone(kind):
    H, n = kinds(7, 3)[kind], 7
    constraints = Constraints(weights=(1.0, 2.0, 1.0, 3.0, 1.0, 2.0, 1.0), at_least=4.0)
    rules = make_rules(constraints, n, None)
    s = lowest_states(H, None, 200, constraints=constraints)
    fits = lambda t: bool(t) and bool(rules.allows(np.isin(np.arange(n), t)[None])[0])  # noqa: E731
    slow = Brute(H, None, allowed=fits, tolerance=s.tolerance)
    found = valleys(s, moves_of(rules))
    assert sorted(s.removed) == sorted(slow.states)
    assert sorted(found.removed) == sorted(slow.states[k] for k in slow.minima())
    here = [slow.number[state] for state in s.removed]
    barriers = barrier_tree(found).barriers()
    for i, a in enumerate(found.minimum):
        for j, b in enumerate(found.minimum):
            if i != j:
                top = slow.e[slow.level == slow.barrier(here[a], here[b])]
                assert top.min() - 1e-9 <= barriers[i, j] <= top.max() + 1e-9
    way = path(H, found, s.removed[0], s.removed[-1], rules)
    steps = [slow.number[state] for state in way.removed]
    assert way.exact and all(b in slow.near[a] for a, b in zip(steps, steps[1:]))
    assert max(slow.level[k] for k in steps) == slow.barrier(steps[0], steps[-1])


@pytest.mark.parametrize("seed", [10, 12, 19, 24, 39])
def test_the_direct_path_is_the_best_where_units_also_come_and_go_alone(seed):
    """Against all orders of undoing the differences, singly or two at once."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(7, 7))
    H, c = A + A.T, Constraints(weights=tuple(rng.integers(1, 4, 7).astype(float)), at_least=3.0)
    rules, s = make_rules(c, 7, None), lowest_states(H, None, 1, constraints=c)
    found = valleys(s, moves_of(rules), H, rules)  # one listed state: no path leads over the list
    fits = lambda t: bool(rules.allows(indicator([t], 7))[0])  # noqa: E731

    def lowest(a, end):
        if a == end:
            return -np.inf
        out, into = set(a) - set(end), set(end) - set(a)
        ahead = {tuple(sorted({*a, j} - {i})) for i in out for j in into}
        ahead |= {tuple(sorted(set(a) ^ {u})) for u in out | into}
        each = ((b, float(energies(H, indicator([b], 7))[0])) for b in ahead if fits(b))
        return min((max(e, lowest(b, end)) for b, e in each), default=np.inf)

    for _ in range(12):
        start, end = (tuple(np.flatnonzero(x).tolist()) for x in random_states(rules, 2, rng))
        if start != end:
            way = path(H, found, start, end, rules)
            assert way.energies[1:].max() == pytest.approx(lowest(start, end))
            assert way.removed[0] == start and way.removed[-1] == end
