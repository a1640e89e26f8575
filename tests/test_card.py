"""The facts of a state against plain sums."""

import itertools

import numpy as np
import pytest

from core.card import card
from core.couplings import couplings
from core.runs import load_run
from core.store import DEMO_RUN


@pytest.mark.parametrize("state", [(), (4,), (0, 1, 5), (2, 3, 4, 8), tuple(range(9))])
def test_the_parts_are_the_energy_in_both_forms(state):
    A = np.random.default_rng(1).normal(size=(9, 9))
    H, g = A + A.T, np.arange(9.0)
    c = card(H, state, linear=g, pairs=4)
    assert np.isclose(c.own, sum(H[i, i] + g[i] for i in state))
    pairs = {(i, j): 2 * H[i, j] for i, j in itertools.combinations(state, 2)}
    assert np.isclose(c.pairs, sum(pairs.values())) and np.isclose(c.own + c.pairs, c.energy)
    ranked = sorted(pairs.items(), key=lambda p: -abs(p[1]))[:4]
    assert [((p.i, p.j), p.energy) for p in c.strongest] == ranked
    s = np.array([1.0 if i in state else -1.0 for i in range(9)])
    J, h = H / 2, H.sum(axis=1) / 2 + g / 2
    terms = {(i, j): J[i, j] * s[i] * s[j] for i, j in itertools.combinations(range(9), 2)}
    assert np.isclose(c.spins.fields, h @ s) and np.isclose(c.spins.couplings, sum(terms.values()))
    assert np.isclose(c.spins.fields + c.spins.couplings + c.spins.offset, c.energy)
    assert [(p.i, p.j) for p in c.spins.strongest] == [p for p, _ in sorted(terms.items(), key=lambda p: -abs(p[1]))[:4]]


def test_runs_and_depths():
    H = np.eye(10)
    c = card(H, (9, 0, 1, 4, 6, 5))
    assert c.removed == (0, 1, 4, 5, 6, 9) and c.runs == ((0, 1), (4, 6), (9, 9)) and c.longest_run == 3 and c.saved is None
    assert c.depths == (("first third", 2, 4), ("middle third", 3, 3), ("last third", 1, 3))
    assert card(H, ()).runs == () and card(H, ()).longest_run == 0
    assert sum(size for _, _, size in card(np.eye(2), (0,)).depths) == 2


def test_what_is_saved_is_what_the_blocks_have():
    run = load_run(DEMO_RUN)
    model = run.meta["model"]
    saved = card(couplings(run), (3, 5), model).saved
    assert (saved.parameters, saved.bytes, saved.kv_bytes) == tuple(
        2 * model["blocks"][3][name] for name in ("parameters", "bytes", "kv_bytes")
    )
    assert saved.kinds == (("attention + FFN", 2, 24),) and saved.kv_bytes_of == 24 * 512 and saved.parameters_of == 1_272_896
    uneven = [
        {"kind": k, "parameters": p, "active_parameters": a, "bytes": 2 * p, "kv_bytes": 1}
        for k, p, a in (("attention", 5, 5), ("MoE", 90, 9), ("attention", 7, 7))
    ]
    saved = card(np.eye(3), (1, 2), {"parameters": 200, "bytes": 400, "blocks": uneven}).saved
    assert saved.kinds == (("attention", 1, 2), ("MoE", 1, 1)) and (saved.parameters, saved.active, saved.bytes_of) == (97, 16, 400)
