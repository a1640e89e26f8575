"""The spectrum against plain brute force: same states, same order, honest bound."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from core.ising.states import indicator
from core.spectrum.constraints import Constraints, make_rules
from core.spectrum.lowest import level_order, levels, lowest_states, tie_tolerance

KINDS = ["random", "gram", "low rank", "integer", "duplicated", "negative", "zero", "constant"]


def matrix(kind: str, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    B = rng.normal(size=(n, n))
    if kind == "gram":
        return B @ B.T / n * 1e-5
    if kind == "low rank":
        return B[:, :2] @ B[:, :2].T
    if kind == "integer":
        return rng.integers(-3, 4, size=(n, n)).astype(float)
    if kind == "duplicated":
        C = B[: (n + 1) // 2]
        C = np.repeat(C, 2, axis=0)[:n]
        return C @ C.T
    if kind == "negative":
        return -(B @ B.T)
    if kind == "zero":
        return np.zeros((n, n))
    if kind == "constant":
        return np.full((n, n), 0.1)
    return (B + B.T) / 2


def symmetric(kind: str, n: int, seed: int) -> np.ndarray:
    H = matrix(kind, n, seed)
    return np.triu(H) + np.triu(H, 1).T


def brute_force(H: np.ndarray, m: int, g: np.ndarray) -> list[tuple[float, tuple[int, ...]]]:
    """All states by level (energies within the tolerance of a neighbour), then by list; no code shared with
    core.
    """
    n = len(H)
    tolerance = tie_tolerance(H, make_rules(None, n, m))
    found = []
    for s in itertools.combinations(range(n), m):
        found.append((math.fsum(H[i, j] for i in s for j in s) + math.fsum(g[i] for i in s), s))
    found.sort()
    levels, first = [], -math.inf
    for e, s in found:
        if e - first > tolerance:
            levels.append([])
            first = e
        levels[-1].append((e, s))
    return [pair for level in levels for pair in sorted(level, key=lambda p: p[1])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", range(1, 16))
def test_equals_brute_force_for_every_m_of_16_blocks(kind, m):
    H = symmetric(kind, 16, seed=m)
    reference = brute_force(H, m, np.zeros(16))
    found = lowest_states(H, m, count=200)
    k = min(200, len(reference))
    assert found.removed == [s for _, s in reference[:k]]
    assert np.allclose(
        found.energies, [e for e, _ in reference[:k]], rtol=0, atol=1e-12 * max(1.0, np.abs(H).max() * 256)
    )
    assert found.exact and found.total == math.comb(16, m)
    rest = [e for e, _ in reference[k:]]
    assert found.lower_bound <= min(rest, default=math.inf)
    if rest:
        assert found.lower_bound >= reference[k][0] - 2 * found.tolerance
        assert found.level_cut == (min(rest) - reference[k - 1][0] <= found.tolerance)


@settings(max_examples=120, deadline=None)
@given(st.integers(2, 11), st.sampled_from(KINDS), st.integers(0, 10**6), st.data())
def test_equals_brute_force_with_a_linear_term(n, kind, seed, data):
    m, count = data.draw(st.integers(1, n - 1)), data.draw(st.integers(1, 60))
    H, g = symmetric(kind, n, seed), np.random.default_rng(seed + 1).integers(-2, 3, n).astype(float)
    reference = brute_force(H, m, g)
    found = lowest_states(H, m, count, linear=g)
    assert found.removed == [s for _, s in reference[:count]]


@pytest.mark.parametrize("size", [1e3, 1e5, 1e7, 1e9])
def test_one_block_that_dwarfs_the_rest_blurs_nothing(size):
    B = np.random.default_rng(0).normal(size=(40, 14))
    H = B.T @ B / 40
    H[0, 0] = size
    found = lowest_states(H, 5, 300)
    reference = brute_force(H, 5, np.zeros(14))
    assert found.removed == [s for _, s in reference[:300]]
    assert (np.diff(found.energies) >= 0).all() and found.lower_bound <= reference[300][0] + 1e-9
    assert found.lower_bound > found.energies[-1] - 1e-7


@pytest.mark.parametrize("size", [1e4, 1e6, 1e8])
def test_a_block_that_stays_blurs_nothing_where_m_is_free(size):
    B = np.random.default_rng(0).normal(size=(30, 10))
    B[:, 0] *= size**0.5
    H = B.T @ B
    rules = Constraints(keep=(0,), weights=(1.0,) * 10, at_least=3.0)
    found = lowest_states(H, None, 40, constraints=rules)
    states = [s for m in range(3, 10) for s in itertools.combinations(range(1, 10), m)]
    states.sort(key=lambda s: math.fsum(H[i, j] for i in s for j in s))
    assert found.removed == states[:40]


@pytest.mark.parametrize("size", [1e6, 1e9, 1e12])
def test_a_large_block_that_always_goes_makes_no_false_proof(size):
    """Energies are rounded by what it adds to each, so ties are told to that, and no finer."""
    B = np.random.default_rng(2).normal(size=(30, 10))
    B[:, 5:] = B[:, :5]  # every block twice: ties
    B[:, 0] *= size**0.5
    H = B.T @ B
    exact = lambda s: sum(Fraction(H[i, j]) for i in s for j in s)  # noqa: E731
    energy = {s: exact(s) for s in itertools.combinations(range(10), 5) if 0 in s}
    found = lowest_states(H, 5, 40, constraints=Constraints(remove=(0,)))
    errors = [abs(Fraction(e) - energy[s]) for s, e in zip(found.removed, found.energies.tolist())]
    assert found.exact and max(errors) < found.tolerance
    assert min(e for s, e in energy.items() if s not in found.removed) >= Fraction(found.lower_bound)


def test_levels_are_not_chained():
    e = np.arange(10) * 0.6
    x = np.eye(10, dtype=bool)[::-1]
    order = level_order(e, x, tolerance=1.0)
    assert (np.sort(order.reshape(5, 2), axis=1) == np.arange(10).reshape(5, 2)).all()


@pytest.mark.parametrize("method", ["enumerate", "search"])
def test_levels_that_follow_each_other_closely_are_told_apart(method):
    """Energies less than a level apart in long chains: each level begins where the one before ends."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        n = int(rng.integers(5, 8))
        m = int(rng.integers(1, n - 1))
        own = rng.integers(0, 2, n) + rng.integers(0, 8, n) * 0.6e-9 / max(1, m // 2)
        own[0] = 1.0
        H, states = np.diag(own), list(itertools.combinations(range(n), m))
        e = np.array([float(own[list(s)].sum()) for s in states])
        for count in (1, 2, 4, 7):
            found = lowest_states(H, m, count, method=method)
            level, k = levels(e, found.tolerance), len(found.x)
            order = sorted(range(len(states)), key=lambda i: (level[i], states[i]))
            assert found.removed == [states[i] for i in order[:k]]
            assert found.level_cut == (k < len(states) and level[order[k]] == level[order[k - 1]])
            assert found.level_size in (None, (level == level[order[k - 1]]).sum())
            assert found.degeneracy == min(k, (level == 0).sum())
            rest = [x for s, x in zip(states, e) if s not in found.removed]
            assert found.lower_bound <= min(rest, default=math.inf) + 1e-15


def test_a_large_level_keeps_the_smallest_lists_across_chunks():
    found = lowest_states(np.zeros((24, 24)), 12, count=50)
    assert found.removed == list(itertools.islice(itertools.combinations(range(24), 12), 50))
    assert found.level_cut and found.degeneracy == 50 and found.gap == math.inf


@pytest.mark.parametrize(("n", "kept"), [(80, 1), (80, 3), (61, 2), (7, 2)])
def test_nearly_all_blocks_removed_are_the_few_that_stay(n, kept):
    """C(40, 20) half-states of middling size never come up on the way."""
    H = symmetric("random", n, 3)
    states = [tuple(b for b in range(n) if b not in stay) for stay in itertools.combinations(range(n), kept)]
    x = indicator(states, n).astype(float)
    e = np.einsum("ki,ij,kj->k", x, H, x, optimize=True)
    found = lowest_states(H, n - kept, 20, method="enumerate")
    assert found.removed == [states[k] for k in np.argsort(e, kind="stable")[:20]] and found.exact


def test_more_blocks_than_one_word_of_bits():
    H = symmetric("random", 100, seed=0)
    reference = brute_force(H, 2, np.zeros(100))
    assert lowest_states(H, 2, count=30).removed == [s for _, s in reference[:30]]


@pytest.mark.parametrize(
    ("H", "m", "count", "says"),
    [
        (np.eye(4), 0, 5, "M = 0"),
        (np.eye(4), 4, 5, "M = 4"),
        (np.eye(4), -1, 5, "M = -1"),
        (np.eye(4), 2.0, 5, "2.0"),
        (np.eye(4), True, 5, "True"),
        (np.eye(4), 2, 0, "at least 1"),
        (np.eye(1), 1, 1, "1 block"),
        (np.eye(300), 1, 1, "256"),
        (np.array([[1, 2], [3, 1.0]]), 1, 1, "not symmetric"),
        (np.array([[np.nan, 0], [0, 1]]), 1, 1, "not finite"),
        (np.ones((2, 3)), 1, 1, "square"),
        (np.eye(3) * 1j, 1, 1, "complex"),
    ],
)
def test_bad_input_is_one_sentence(H, m, count, says):
    with pytest.raises(InputError, match=says.replace("+", r"\+")) as caught:
        lowest_states(H, m, count)
    assert "\n" not in str(caught.value)
