"""Every constraint and every mixture of them against filtering all choices; what cannot be is one
sentence.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from core.ising.units import BRANCH, units_of, whole
from core.spectrum.constraints import Constraints, make_rules
from core.spectrum.lowest import lowest_states
from tests.families import llm_like, wishart
from tests.spectrum.test_lowest import KINDS, symmetric


def feasible(n: int, m: int | None, c: Constraints) -> np.ndarray:
    """bool [F, n]: all feasible states, by the words of the constraints."""
    kept = []
    for bits in itertools.product([False, True], repeat=n):
        removed = [i for i in range(n) if bits[i]]
        runs = [len(list(run)) for value, run in itertools.groupby(bits) if value]
        if (
            len(removed) < n
            and (m is None or len(removed) == m)
            and not set(removed) & set(c.keep)
            and set(c.remove) <= set(removed)
            and all(len(set(blocks) & set(removed)) == count for blocks, count in c.groups)
            and all(
                sum(w[i] for i in removed) >= least for w, least in zip(c.weights or (), c.at_least or ())
            )
            and (c.max_run is None or max(runs, default=0) <= c.max_run)
        ):
            kept.append(bits)
    return np.array(kept, dtype=bool).reshape(-1, n)


@st.composite
def problems(draw):
    n = draw(st.integers(4, 9))
    some = st.lists(st.integers(0, n - 1), unique=True, max_size=2).map(tuple)
    fields = {}
    if draw(st.booleans()):
        fields["keep"] = draw(some)
    if draw(st.booleans()):
        fields["remove"] = tuple(b for b in draw(some) if b not in fields.get("keep", ()))
    if draw(st.booleans()):
        order, cut = draw(st.permutations(range(n))), draw(st.integers(1, n - 1))
        fields["groups"] = ((tuple(order[:cut]), draw(st.integers(0, cut))),)
    if budgets := draw(st.integers(0, 2)):
        row = st.lists(st.integers(0, 9), min_size=n, max_size=n).map(lambda w: tuple(map(float, w)))
        fields["weights"] = tuple(draw(row) for _ in range(budgets))
        fields["at_least"] = tuple(float(draw(st.integers(1, 3 * n))) for _ in range(budgets))
    if draw(st.booleans()):
        fields["max_run"] = draw(st.integers(1, 3))
    m = (
        None
        if ("at_least" in fields or "groups" in fields) and draw(st.booleans())
        else draw(st.integers(1, n - 1))
    )
    return (
        n,
        m,
        Constraints(**fields),
        draw(st.sampled_from(KINDS)),
        draw(st.integers(0, 10**6)),
        draw(st.integers(1, 40)),
    )


@settings(max_examples=300, deadline=None)
@given(problems())
def test_equals_filtering_all_choices(problem):
    n, m, constraints, kind, seed, count = problem
    H = symmetric(kind, n, seed)
    g = np.random.default_rng(seed).integers(-2, 3, n).astype(float)
    x = feasible(n, m, constraints)
    if not len(x):
        with pytest.raises(InputError) as caught:
            lowest_states(H, m, count, g, constraints=constraints)
        assert "\n" not in str(caught.value)
        return
    found = lowest_states(H, m, count, g, constraints=constraints)
    e = np.sort(np.einsum("ki,ki->k", x @ H, x.astype(float)) + x @ g)
    k = min(count, len(e))
    rounding = 1e-12 * (1 + np.abs(H).max() * n)
    assert found.exact and len(found.x) == k and len(set(found.removed)) == k
    assert set(found.removed) <= {tuple(np.flatnonzero(row).tolist()) for row in x}
    np.testing.assert_allclose(found.energies, e[:k], rtol=0, atol=2 * found.tolerance + rounding)
    assert found.total in (None, len(e)) and (found.total is not None or constraints.weights is not None)
    assert found.lower_bound <= (e[k] + rounding if k < len(e) else math.inf)


def test_no_two_adjacent_of_many_is_quick_and_counted():
    H = llm_like(48, 0)
    found = lowest_states(H, 16, 100, constraints=Constraints(max_run=1), time_limit=30)
    assert found.exact and found.total == math.comb(33, 16)
    assert not (found.x[:, 1:] & found.x[:, :-1]).any()
    tight = lowest_states(wishart(40, 0), 20, 100, constraints=Constraints(max_run=1), time_limit=30)
    assert tight.exact and tight.total == 21 == len(tight.x)


def test_a_budget_instead_of_m():
    H = llm_like(28, 1)
    weights = tuple(np.random.default_rng(0).uniform(1, 3, 28))
    found = lowest_states(H, None, 50, constraints=Constraints(weights=weights, at_least=18.0), time_limit=30)
    assert found.exact and (found.x @ np.array(weights) >= 18.0).all() and found.total is None


@pytest.mark.parametrize("seed", range(6))
def test_budgets_of_16_blocks_equal_brute_force(seed):
    rng, n = np.random.default_rng(seed), 16
    H = (wishart, llm_like)[seed % 2](n, seed)
    x = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(bool)
    e = np.einsum("ki,ki->k", x @ H, x.astype(float))
    for m, budgets in ((None, 1), (None, 2), (None, 3), (8, 2)):
        weights = rng.uniform(0.0, 3.0, (budgets, n)) * (rng.random((budgets, n)) < 0.7)
        least = weights.sum(axis=1) * rng.uniform(0.1, 0.4, budgets)
        rules = Constraints(weights=tuple(map(tuple, weights)), at_least=tuple(least))
        fits = (x @ weights.T >= least).all(axis=1) & ((m is None) | (x.sum(axis=1) == m))
        found = lowest_states(H, m, 100, constraints=rules, time_limit=30)
        assert found.exact and make_rules(rules, n, m).allows(found.x).all()
        np.testing.assert_allclose(found.energies, np.sort(e[fits])[:100], atol=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_budgets_of_two_kinds_are_kept_by_the_same_whole_numbers(seed):
    from core.spectrum.whole_budgets import sharpened

    rng, n = np.random.default_rng(seed), 10
    kind, budgets = rng.integers(0, 3, n), int(rng.integers(1, 4))  # the third weighs nothing
    weights = (rng.uniform(0, 3, (budgets, 3)) * (rng.random((budgets, 3)) < 0.8) * [1, 1, 0])[:, kind]
    least = np.maximum(weights.sum(axis=1) * rng.uniform(0.1, 0.8, budgets), 1e-6)
    fixed = np.where(rng.random(n) < 0.2, rng.integers(0, 2, n), -1).astype(np.int8)
    x = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(bool)
    x = x[((fixed < 0) | (x == (fixed == 1))).all(axis=1)]
    rows, needed = sharpened(weights, least, fixed)
    assert ((x @ weights.T >= least).all(axis=1) == (x @ rows.T >= needed).all(axis=1)).all()


def test_a_single_budget_may_be_written_bare_as_it_once_was():
    rows = Constraints(weights=((1.0, 2.0, 3.0),), at_least=(2.5,))
    assert rows == Constraints(weights=(1.0, 2.0, 3.0), at_least=2.5)
    assert rows == Constraints(weights=[1.0, 2.0, 3.0], at_least=2.5)
    assert lowest_states(np.diag([3.0, 1.0, 2.0]), None, 1, constraints=rows).removed == [(2,)]


@pytest.mark.parametrize(
    ("m", "fields", "says"),
    [
        (3, {"keep": (9,)}, "block 9"),
        (3, {"keep": (1, 1)}, "twice"),
        (3, {"keep": (1.5,)}, "whole number"),
        (3, {"keep": (1,), "remove": (1,)}, "kept and to be removed"),
        (3, {"remove": (0, 1, 2, 3)}, "4 of 6 blocks must go"),
        (3, {"groups": (((0, 1), 3),)}, "3 of the 2 blocks of group 0"),
        (3, {"groups": (((0, 1), 1), ((1, 2), 1))}, "shares block 1"),
        (3, {"groups": ((tuple(range(6)), 2),)}, "remove 2 together, but M is 3"),
        (3, {"keep": (0, 1, 2, 3)}, "leave only 2"),
        (3, {"groups": (((0, 1), 0),), "keep": (2, 3)}, "3 of the 4 blocks in no group"),
        (2, {"groups": (((0, 1, 2), 3),)}, "M is 2"),
        (3, {"weights": (1.0,) * 6}, "at_least is missing"),
        (3, {"weights": (1.0,) * 5, "at_least": 1.0}, "6 finite"),
        (3, {"weights": ((1.0,) * 6,) * 2, "at_least": 1.0}, "2 rows of weights and 1 number"),
        (None, {"weights": ((1.0,) * 6,) * 2, "at_least": (1.0, 7.0)}, "needs 7"),
        (3, {"weights": (-1.0,) * 6, "at_least": 1.0}, "not negative"),
        (3, {"weights": (1.0,) * 6, "at_least": 4.0}, "at most 3 together"),
        (3, {"weights": (1.0,) * 6, "at_least": math.nan}, "finite number above 0"),
        (3, {"max_run": 0}, "max_run"),
        (5, {"max_run": 1}, "max_run = 1"),
        (None, {"keep": (1,)}, "Neither M"),
    ],
)
def test_bad_or_impossible_constraints_are_one_sentence(m, fields, says):
    with pytest.raises(InputError, match=says) as caught:
        make_rules(Constraints(**fields), 6, m)
    assert "\n" not in str(caught.value)


def test_what_could_stay_is_what_budgets_do_not_need():
    from core.spectrum.constraints import spare

    weights = (5.0, 3.0, 2.0, 1.0, 0.0, 4.0)
    rules = Constraints(weights=weights, at_least=8.0)
    assert spare(rules, (0, 1), 6) == 0
    assert spare(rules, (0, 1, 3, 4), 6) == 2
    assert spare(rules, (0, 1, 2, 4, 5), 6) == 3  # nothing, 2, then 3: 5 + 4 stay gone
    assert spare(Constraints(remove=(4,), weights=weights, at_least=8.0), (0, 1, 4), 6) == 0
    grouped = Constraints(groups=(((3, 4), 1),), weights=weights, at_least=8.0)
    assert spare(grouped, (0, 1, 2, 4), 6) == 1
    two = Constraints(weights=(weights, (0.0, 0.0, 1.0, 0.0, 0.0, 0.0)), at_least=(8.0, 1.0))
    assert spare(two, (0, 1, 2), 6) == 0 and spare(two, (0, 1, 2, 3), 6) == 1


def test_constraints_as_people_write_them():
    from core.spectrum.constraints import read_constraints

    read = read_constraints(
        {"keep": "0, 3-5", "remove": "", "groups": "0-5: 2 ; 6-8:1;", "max_run": " 2 "}, whole(9)
    )
    assert read == Constraints(keep=(0, 3, 4, 5), groups=(((0, 1, 2, 3, 4, 5), 2), ((6, 7, 8), 1)), max_run=2)
    assert read_constraints({}, whole(9)) == Constraints()
    kinds = ["mamba", "attention + FFN", "mamba", "attention + MoE"]
    by_kind = read_constraints({"groups": "Mamba: 1; attention + FFN: 0; 3: 1"}, whole(4, kinds))
    assert by_kind.groups == (((0, 2), 1), ((1,), 0), ((3,), 1))
    assert read_constraints({"groups": "attention: 1"}, whole(4, kinds)).groups == (((1, 3), 1),)
    branches = units_of([("attention", "FFN")] * 4, BRANCH)
    with pytest.raises(InputError, match="^Unit 2a is to be kept and to be removed"):
        read_constraints({"keep": "2", "remove": "1,2a"}, branches)
    with pytest.raises(InputError, match="^The group 'attention: 5' holds 4 units; lower its count"):
        read_constraints({"groups": "attention: 5; FFN: 4"}, branches)
    with pytest.raises(InputError, match="'moon'"):
        read_constraints({"groups": "moon: 1"}, whole(4, kinds))
    for bad in (
        {"keep": "9"},
        {"remove": "x"},
        {"groups": "1-2"},
        {"groups": "1-2: many"},
        {"max_run": "0"},
        {"max_run": "-1"},
    ):
        with pytest.raises(InputError):
            read_constraints(bad, whole(9))


def test_where_m_is_free_something_always_stays():
    """The lowest state of couplings that fall with every block would remove them all."""
    H = np.ones((6, 6)) - 7 * np.eye(6)
    B = np.diag(-np.arange(1.0, 7.0))
    for matrix in (H, B):
        for rules in (
            Constraints(weights=(1.0,) * 6, at_least=2.0),
            Constraints(groups=(((0, 1, 2), 2),)),
            Constraints(groups=(((0, 1, 2), 3),)),
        ):
            s = lowest_states(matrix, None, 100, constraints=rules)
            assert s.exact and not s.x.all(axis=1).any()
            every = feasible(6, None, rules)
            assert len(s.x) == len(every) == len({*s.removed})
            assert s.total in (None, len(every))
    with pytest.raises(InputError, match="nothing would be left"):
        lowest_states(H, None, 3, constraints=Constraints(groups=((tuple(range(6)), 6),)))
