"""The pool of best states against a sorted list."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.spectrum.kbest import new_pool, pack, pool_insert, pool_limit, pool_states, unpack


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 70), st.integers(0, 10**6))
def test_it_holds_what_a_sorted_list_would(count, kinds, seed):
    """Few different states, offered again and again: each is once in the pool, and the highest leave."""
    rng = np.random.default_rng(seed)
    x, energies = rng.random((kinds, 70)) < 0.5, rng.integers(0, 30, kinds) + rng.random(kinds)
    words, pool, held = pack(x), new_pool(count, 70), {}
    for k in rng.integers(0, kinds, 400).tolist():
        full = len(held) == count
        enters = k not in held and (not full or energies[k] < max(held.values()))
        assert pool_limit(pool) == (max(held.values()) if full else np.inf)
        assert pool_insert(pool, energies[k], words[k], 0.0) == enters
        if enters:
            if full:
                del held[max(held, key=lambda s: held[s])]
            held[k] = energies[k]
    assert sorted(pool.energies[: len(held)]) == sorted(held.values()) and pool.size[0] == len(held)
    assert {row.tobytes() for row in pool_states(pool, 70)} == {x[k].tobytes() for k in held}
    assert np.count_nonzero(pool.table) == len(held)


def test_states_come_in_an_order_of_their_own():
    x = np.random.default_rng(0).random((50, 130)) < 0.5
    one, other = new_pool(60, 130), new_pool(60, 130)
    for row in pack(x):
        pool_insert(one, float(row[0] % 97), row, 0.0)
    for row in pack(x)[::-1]:
        pool_insert(other, 0.0, row, 0.0)
    assert (pool_states(one, 130) == pool_states(other, 130)).all()
    assert (unpack(pack(x), 130) == x).all()
