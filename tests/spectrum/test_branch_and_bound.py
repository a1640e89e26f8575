"""The search against brute force on every kind of matrix, and what it promises about time, cancelling and
threads.
"""

import itertools
import math
import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from core.spectrum import branch_and_bound, lowest
from core.spectrum.constraints import Constraints, make_rules
from core.spectrum.lowest import lowest_states
from core.spectrum.sweep import sweep
from tests.families import dependent, duplicated, instance, integer, llm_like, wishart
from tests.spectrum.test_lowest import KINDS, symmetric


def choices(n: int, m: int) -> np.ndarray:
    """bool [C(n, m), n], all of them, by itertools alone."""
    rows = np.array(list(itertools.combinations(range(n), m)))
    x = np.zeros((len(rows), n), dtype=bool)
    np.put_along_axis(x, rows, True, axis=1)
    return x


def check(found, H, x, g, count):
    """`found` is the `count` lowest of the rows of x: every level below the last whole, in the last any
    members.
    """
    e = np.einsum("ki,ki->k", x @ H, x.astype(float)) + x @ g
    order = np.argsort(e, kind="stable")
    e, x = e[order], x[order]
    k = min(count, len(e))
    rounding = 1e-12 * (1 + np.abs(H).max() * len(H) + np.abs(g).max())
    assert found.exact and len(found.energies) == k
    np.testing.assert_allclose(found.energies, e[:k], rtol=0, atol=2 * found.tolerance + rounding)
    listed = set(found.removed)
    assert len(listed) == k
    below = x[:k][e[:k] < e[k - 1] - 3 * found.tolerance - rounding]
    assert {tuple(np.flatnonzero(row).tolist()) for row in below} <= listed
    if k < len(e):
        assert found.lower_bound <= e[k] + rounding
        assert found.lower_bound >= e[k] - 3 * found.tolerance - 100 * rounding
    else:
        assert found.lower_bound == math.inf


@pytest.mark.parametrize("n", range(2, 17))
def test_every_m_of_up_to_16_blocks(n):
    rng = np.random.default_rng(n)
    for m in range(1, n):
        kinds = KINDS if n <= 9 else [KINDS[(m + n) % len(KINDS)], KINDS[(m + n + 3) % len(KINDS)]]
        x = choices(n, m)
        for kind in kinds:
            H = symmetric(kind, n, seed=100 * n + m)
            g = rng.normal(size=n) if m % 2 else np.zeros(n)
            count = int(rng.choice([1, 7, 100]))
            check(lowest_states(H, m, count, g, method="search"), H, x, g, count)


FAMILIES = {
    "llm": llm_like,
    "wishart": wishart,
    "duplicated": duplicated,
    "integer": integer,
    "dependent": dependent,
}


@settings(max_examples=100, deadline=None)
@given(
    st.integers(3, 12),
    st.sampled_from(["llm", "wishart", "duplicated", "integer", "dependent"]),
    st.integers(0, 10**6),
    st.data(),
)
def test_the_families(n, family, seed, data):
    H = FAMILIES[family](n, seed)
    m, count = data.draw(st.integers(1, n - 1)), data.draw(st.integers(1, 50))
    sign = data.draw(st.sampled_from([1.0, -1.0]))
    check(lowest_states(sign * H, m, count, method="search"), sign * H, choices(n, m), np.zeros(n), count)


def test_forms_tightened_in_the_tree_lose_nothing(monkeypatch):
    tightened, own = [], branch_and_bound._Search.tightened
    monkeypatch.setattr(
        branch_and_bound._Search, "tightened", lambda *a: tightened.append(own(*a)) or tightened[-1]
    )
    for name, value in {"_FIRST": 5, "_WALK": 5, "_HARD": 0}.items():
        monkeypatch.setattr(branch_and_bound, name, value)
    monkeypatch.setattr(lowest, "_FURTHER_NODES", 2000)
    rng = np.random.default_rng(0)
    for seed, (family, make) in enumerate([*FAMILIES.items()] * 5):
        H, m, count = make(14, seed), int(rng.integers(2, 13)), int(rng.choice([1, 30]))
        g = rng.normal(size=14) * np.abs(H).max() if seed % 2 else np.zeros(14)
        check(lowest_states(H, m, count, g, method="search"), H, choices(14, m), g, count)
        rules = (
            Constraints(keep=(3,), remove=(5,), max_run=2)
            if family != "integer"
            else Constraints(weights=tuple(range(14)), at_least=50)
        )
        x = choices(14, 7)
        x = x[make_rules(rules, 14, 7).allows(x)]
        check(lowest_states(H, 7, count, g, constraints=rules, method="search"), H, x, g, count)
    assert None in tightened and len([f for f in tightened if f]) > 100


@pytest.mark.parametrize("size", [1e3, 1e6, 1e9])
def test_one_block_that_dwarfs_the_rest(size):
    H = wishart(14, 0)
    H[0, 0] = size
    check(lowest_states(H, 5, 60, method="search"), H, choices(14, 5), np.zeros(14), 60)


@pytest.mark.parametrize("kind", ["random", "gram", "integer", "negative"])
@pytest.mark.parametrize("size", [-990, -600, -130, -90, 500, 990])
def test_the_size_of_the_couplings_changes_nothing(size, kind):
    H, unit, rules = symmetric(kind, 9, 1), 2.0**size, Constraints(keep=(3,), max_run=3)
    for count, ruled in ((5, None), (1000, None), (5, rules)):
        once = lowest_states(H, 4, count, constraints=ruled, method="search")
        again = lowest_states(H * unit, 4, count, constraints=ruled, method="search")
        assert again.removed == once.removed and again.exact
        assert (again.energies == once.energies * unit).all() and again.lower_bound == once.lower_bound * unit


def test_larger_problems_agree_with_enumeration():
    for H, m in [(llm_like(26, 1), 9), (wishart(24, 2), 12), (integer(22, 3), 11), (duplicated(22, 4), 8)]:
        a, b = lowest_states(H, m, 100, method="search"), lowest_states(H, m, 100, method="enumerate")
        np.testing.assert_allclose(a.energies, b.energies, rtol=0, atol=2 * a.tolerance)
        assert a.exact and a.nodes > 0 and b.nodes == 0 and a.level_cut == b.level_cut
        if not a.level_cut:
            assert a.removed == b.removed


def test_levels_that_fit_are_whole_and_counted():
    found = lowest_states(np.diag(np.repeat([0.0, 1.0], 14)), 3, 10, method="search")
    assert found.level_cut and found.level_size == math.comb(14, 3)
    assert found.removed == list(itertools.islice(itertools.combinations(range(14), 3), 10))


@pytest.mark.parametrize("H", [np.zeros((90, 90)), np.full((90, 90), 0.1), np.eye(90)])
def test_huge_levels_take_neither_time_nor_memory(H):
    tracemalloc.start()
    found = lowest_states(H, 40, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.exact and found.level_cut and found.level_size is None and len(found.x) == 100
    assert found.seconds < 10 and peak < 200 * 2**20


def test_against_cp_sat():
    cp_model = pytest.importorskip("ortools.sat.python.cp_model")
    for H, m in [(llm_like(26, 5), 8), (wishart(18, 6, rows=4.0), 6), (llm_like(32, 7), 4)]:
        n = len(H)
        Q = np.round(H / np.abs(H).max() * 10**6).astype(np.int64)
        model = cp_model.CpModel()
        x = [model.new_bool_var(f"x{i}") for i in range(n)]
        model.add(sum(x) == m)
        terms = [int(Q[i, i]) * x[i] for i in range(n)]
        for i in range(n):
            for j in range(i):
                y = model.new_bool_var("")
                model.add_multiplication_equality(y, [x[i], x[j]])
                terms.append(2 * int(Q[i, j]) * y)
        model.minimize(sum(terms))
        solver = cp_model.CpSolver()
        solver.parameters.num_workers, solver.parameters.max_time_in_seconds = 2, 10
        status = solver.solve(model)
        ours = lowest_states(Q.astype(float), m, 1, method="search")
        assert solver.best_objective_bound <= ours.energies[0] + 0.5
        if status == cp_model.OPTIMAL:
            assert round(solver.objective_value) == round(float(ours.energies[0]))


def hard() -> np.ndarray:
    return wishart(128, 0, rows=1.0)


def test_the_time_limit_gives_an_honest_part():
    began = time.perf_counter()
    found = lowest_states(hard(), 64, 20, time_limit=0.6)
    assert time.perf_counter() - began < 5
    assert not found.exact and len(found.x) == 20 and (found.x.sum(axis=1) == 64).all()
    assert found.lower_bound < found.energies[-1] and found.bound_gap == pytest.approx(
        found.energies[-1] - found.lower_bound
    )


@pytest.mark.parametrize("count", [100, 10_000])
def test_the_time_limit_ends_the_warm_start(monkeypatch, count):
    """At 128 blocks moves and the first bound take longer than this: both end early, with what holds by
    then.
    """
    monkeypatch.setattr(branch_and_bound.os, "cpu_count", lambda: 1)  # the time of all threads is counted
    H = hard()
    lowest_states(H, 64, count, time_limit=0.001)  # compiled by then
    began = time.process_time()
    found = lowest_states(H, 64, count, time_limit=0.05)
    assert time.process_time() - began < 0.3
    assert not found.exact and len(found.x) and (found.x.sum(axis=1) == 64).all()
    assert np.isfinite(found.lower_bound) and found.lower_bound < found.energies[0]


def test_the_curve_of_the_proof_rises():
    seen = []
    found = lowest_states(hard(), 64, 20, time_limit=2.0, report=seen.append)
    seconds, bounds, energies = np.array(found.curve).T
    assert [(p.seconds, p.bound, p.energy) for p in seen] == list(found.curve[:-1]) and len(seen) > 1
    assert (np.diff(seconds) > 0).all() and (np.diff(bounds) >= -found.tolerance).all()
    assert (np.diff(energies) <= 0).all()
    assert found.curve[-1] == (found.seconds, found.lower_bound, found.energies[-1])
    assert lowest_states(np.eye(30), 15, 5).curve == ()


def test_a_long_curve_is_thinned(monkeypatch):
    monkeypatch.setattr(lowest, "_POINTS", 8)
    curve = lowest._Curve(None)
    for k in range(100):
        curve.add(branch_and_bound.Progress(k, 2.0, 1.0, float(k)))
    times = [seconds for seconds, *_ in curve.points]
    assert 4 <= len(times) <= 8 and len(set(np.diff(times))) == 1 and times[0] == 0


TIES = {
    "integer": (integer(28, 4), 12),
    "integer, another": (integer(24, 9), 8),
    "duplicated": (duplicated(28, 3, copies=4), 12),
    "one level": (np.full((60, 60), 0.1), 20),
    "few levels": (np.diag(np.repeat([0.0, 1.0, 2.0], 14)), 20),
    **{
        name: (H, len(H) // 2) for name in ("cint_N24_s1", "cint_N32_s1") if (H := instance(name)) is not None
    },
}


@pytest.mark.parametrize("name", TIES)
def test_members_of_a_level_that_is_cut_do_not_depend_on_threads(monkeypatch, name):
    """The same states, energies and words for any number of threads, and again; a level that ends soon is cut
    by its block lists.
    """
    monkeypatch.setattr(branch_and_bound, "_FIRST", 300)  # many tasks, so that threads meet
    monkeypatch.setattr(branch_and_bound, "_WALK", 300)
    if "dup" in name:  # where nothing is known beforehand, it differed
        monkeypatch.setattr(branch_and_bound, "improve", lambda *a, **k: None)
    H, m = TIES[name]
    listed = []
    for threads in (1, 4, 2, 4):
        monkeypatch.setattr(branch_and_bound.os, "cpu_count", lambda threads=threads: threads)
        listed.append(lowest_states(H, m, 40, method="search"))
    one = listed[0]
    assert one.exact and one.level_cut
    for found in listed[1:]:
        assert found.removed == one.removed and (found.energies == one.energies).all()
        assert (found.level_cut, found.level_size, found.lower_bound) == (
            one.level_cut,
            one.level_size,
            one.lower_bound,
        )
    if math.comb(len(H), m) < 4e6:
        assert one.removed == lowest_states(H, m, 40, method="enumerate").removed


@pytest.mark.parametrize("name", ["integer", "duplicated"])
def test_members_do_not_depend_on_threads_where_a_level_is_too_long_to_look_through(monkeypatch, name):
    monkeypatch.setattr(lowest, "_FURTHER_NODES", 1)  # what is seen by one thread, and no further
    monkeypatch.setattr(branch_and_bound, "_FIRST", 100)
    H, m = TIES[name]
    listed = []
    for threads in (1, 4, 2, 4):
        monkeypatch.setattr(branch_and_bound.os, "cpu_count", lambda threads=threads: threads)
        listed.append(lowest_states(H, m, 40, method="search"))
    assert all(found.removed == listed[0].removed and found.exact for found in listed)
    truth = lowest_states(H, m, 40, method="enumerate" if len(H) < 26 else "search")
    np.testing.assert_allclose(listed[0].energies, truth.energies, rtol=0, atol=2 * truth.tolerance)


def test_a_bound_reached_early_holds():
    H = llm_like(30, 8)
    truth = lowest_states(H, 10, 50)
    part = lowest_states(H, 10, 50, time_limit=1e-6, method="search")
    unlisted = [e for e, s in zip(truth.energies, truth.removed) if s not in set(part.removed)]
    assert part.lower_bound <= min(unlisted, default=math.inf) + truth.tolerance


class Stop(Exception):
    pass


def test_what_report_raises_cancels_within_a_second():
    seen, before = [], set(threading.enumerate())

    def report(progress):
        seen.append((progress, time.perf_counter()))
        if len(seen) == 2:
            raise Stop

    with pytest.raises(Stop):
        lowest_states(hard(), 64, 20, report=report)
    assert time.perf_counter() - seen[-1][1] < 1
    assert seen[1][0].nodes > 0 and seen[1][0].bound <= seen[1][0].energy and seen[1][0].seconds > 0
    assert not [t for t in set(threading.enumerate()) - before if not t.daemon]


def test_two_callers_at_once():
    problems = [(llm_like(40, s), 15) for s in range(4)]
    alone = [lowest_states(H, m, 50) for H, m in problems]
    together: dict = {}
    threads = [
        threading.Thread(target=lambda i=i: together.update({i: lowest_states(*problems[i], 50)}))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, found in enumerate(alone):
        assert together[i].exact and together[i].removed == found.removed


def test_sweep_is_every_m():
    H = llm_like(13, 9)
    for m, step in enumerate(sweep(H, 20), 1):
        check(step.spectrum, H, choices(13, m), np.zeros(13), 20)
    H = wishart(30, 1)
    swept = [step.spectrum for step in sweep(H, 10)]
    for m in (4, 15, 26):
        np.testing.assert_allclose(
            swept[m - 1].energies, lowest_states(H, m, 10).energies, rtol=0, atol=2 * swept[m - 1].tolerance
        )


@pytest.mark.parametrize(
    "name", ["d_llama24_N24_s1", "d_llama40_N40_s1", "a_N52_s1", "a_N80_s1", "cint_N32_s1"]
)
def test_shared_instances_are_exact(name):
    H = instance(name)
    if H is None:
        pytest.skip("the shared instances are not on this machine")
    found = lowest_states(H, len(H) // 2, 100, time_limit=60)
    assert found.exact and len(found.x) == 100


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"time_limit": 0}, "time limit"),
        ({"method": "guess"}, "method"),
        ({"method": "enumerate"}, "1.18e"),
        ({"count": 10**6}, "1000000 states"),
        ({"removed": None}, "Neither M"),
        ({"seeds": np.zeros((2, 3))}, "Seeds"),
    ],
)
def test_bad_input_is_one_sentence(change, says):
    with pytest.raises(InputError, match=says):
        lowest_states(**{"H": np.eye(60), "removed": 30, "count": 5, **change})
