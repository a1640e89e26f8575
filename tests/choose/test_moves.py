"""Moves keep the rules, are what they are called, and a search with them ends lower."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from core.choose import moves
from core.energy.couplings import couplings
from core.ising.energies import energies
from core.ising.states import indicator, removed_blocks
from core.ising.units import units_of, whole
from core.spectrum.constraints import Constraints, make_rules
from core.store.runs import load_run

RUN = Path(__file__).resolve().parents[2] / "docs" / "beds" / "smollm2" / "run"
UNITS = units_of([("attention", "FFN")] * 6, "branch")
WEIGHTS = np.tile([1.0, 3.0], 6)


def symmetric(n: int, seed: int) -> np.ndarray:
    B = np.random.default_rng(seed).normal(size=(n, n))
    return B @ B.T / n


def budget(weights: np.ndarray, at_least: float, **rules) -> Constraints:
    return Constraints(weights=tuple(weights), at_least=at_least, **rules)


def test_swaps_are_all_states_one_swap_away():
    x = indicator([(1, 3, 4)], 6)[0]
    y = moves.swaps(x)
    assert len({tuple(r) for r in y}) == 9 and (y.sum(axis=1) == 3).all() and ((y & x).sum(axis=1) == 2).all()


@pytest.mark.parametrize("seed", range(3))
def test_an_ffn_is_exchanged_for_three_attentions_and_back(seed):
    H, rules = symmetric(12, seed), make_rules(budget(WEIGHTS, 6.0), 12, None)

    def exchanged(text: str) -> list:
        found = moves.exchanges(H, indicator([UNITS.parse(text)], 12)[0], rules, UNITS)
        return removed_blocks(found[rules.allows(found)])

    for own in (s for s in exchanged("1f,3f") if len(s) == 4):
        assert sum(u % 2 for u in own) == 1 and len({3, 7} & set(own)) == 1
        back = [s for s in exchanged(UNITS.write(own)) if len(s) == 2]
        assert back and all(u % 2 for s in back for u in s)
    # the first of the three is any of the lowest few, the others follow one by one: the best of all is met
    every = [(*sorted((f, *three)),) for f in (3, 7) for three in itertools.combinations(range(0, 12, 2), 3)]
    lowest = [float(energies(H, indicator(s, 12)).min()) for s in (every, exchanged("1f,3f"))]
    assert lowest[1] <= lowest[0] + 1e-12


def test_an_exchange_keeps_two_budgets_at_once_and_what_is_fixed():
    kv = np.tile([1.0, 0.0], 6)
    both = Constraints(weights=(tuple(WEIGHTS), tuple(kv)), at_least=(8.0, 2.0), keep=(0,), remove=(11,))
    rules, H = make_rules(both, 12, None), symmetric(12, 3)
    x = indicator([UNITS.parse("1a,2a,3a,4a,5")], 12)[0]
    found = moves.exchanges(H, x, rules, UNITS)
    found = found[rules.allows(found)]
    # an FFN more, and three attentions less: a fourth would leave too much of the cache
    assert 4 in found.sum(axis=1) and (found @ kv >= 2).all()
    near = moves.around(H, x[None], rules, UNITS)
    assert rules.allows(near).all() and not near[:, 0].any() and near[:, 11].all()
    assert {tuple(r) for r in found} <= {tuple(r) for r in near}


def test_a_block_is_exchanged_for_two_halves_and_back(monkeypatch):
    H, rules = symmetric(12, 0), make_rules(Constraints(keep=(2,)), 12, 4)
    x = indicator([UNITS.parse("3,0a,5f")], 12)[0]
    every: dict[int, list] = {}
    for b, y in ((b, x ^ indicator([own], 12)[0]) for b, own in enumerate(UNITS.of_block)):
        gone = bool(x[2 * b])
        if gone == bool(x[2 * b + 1]) and b != 1:
            for a, f in itertools.product(range(0, 12, 2), range(1, 12, 2)):
                if bool(x[a]) != gone and bool(x[f]) != gone and 2 not in (a, f):
                    every.setdefault(b, []).append(y ^ indicator([(a, f)], 12)[0])
    few = {tuple(r) for r in moves.halves(H, x, rules, UNITS)}
    for own in every.values():
        assert tuple(min(own, key=lambda y: energies(H, y[None])[0])) in few
    monkeypatch.setattr(moves, "_PAIRS", 100)
    assert {tuple(r) for r in moves.halves(H, x, rules, UNITS)} == {
        tuple(y) for own in every.values() for y in own
    }
    assert rules.allows(np.concatenate([*every.values()])).all()


def test_by_block_there_are_swaps_and_flips_only():
    H, units = symmetric(8, 1), whole(8)
    x = indicator([(1, 4, 6)], 8)[0]
    for rules in (make_rules(None, 8, 3), make_rules(budget(np.arange(1.0, 9), 9.0), 8, None)):
        assert not len(moves.halves(H, x, rules, units)) and not len(moves.exchanges(H, x, rules, units))


@pytest.mark.parametrize("seed", range(4))
def test_mutants_and_draws_keep_every_rule(seed):
    rng = np.random.default_rng(seed)
    kv = np.tile([1.0, 0.0], 6)
    for asked, m in (
        (budget(WEIGHTS, 8.0), None),
        (Constraints(weights=(tuple(WEIGHTS), tuple(kv)), at_least=(8.0, 3.0), keep=(0,)), None),
        (Constraints(groups=((tuple(range(0, 12, 2)), 3), (tuple(range(1, 12, 2)), 1))), 4),
        (None, 4),
    ):
        rules = make_rules(asked, 12, m)
        states = {moves.drawn(rules, rng) for _ in range(20)}
        states |= {moves.mutant_within(s, rules, UNITS, rng) for s in [*states] for _ in range(10)}
        own = indicator([s for s in states if s is not None], 12)
        assert len(own) > 20 and rules.allows(own).all()


def targets(run) -> list[Constraints]:
    parts = run.meta["model"]["blocks"]
    weights, kv = (np.array([float(p[name]) for p in parts]) for name in ("parameters", "kv_bytes"))
    fifth, third = weights.sum() / 5 * (1 - 1e-9), weights.sum() / 3 * (1 - 1e-9)
    return [
        budget(weights, fifth),
        budget(weights, third),
        Constraints(weights=(tuple(weights), tuple(kv)), at_least=(fifth, 0.4 * kv.sum())),
    ]


def descent(H, rules, units, start, states: int) -> float:
    """The lowest energy of so many states, each the lowest that is not looked at yet next to the best."""
    known = {start: float(energies(H, indicator([start], len(H)))[0])}
    while len(known) < states:
        x = indicator([min(known, key=known.get)], len(H))[0]
        near = np.concatenate(
            [
                moves.swaps(x),
                moves.flips(x),
                moves.exchanges(H, x, rules, units),
                moves.halves(H, x, rules, units),
            ]
        )
        near = near[rules.allows(near)]
        for k in np.argsort(energies(H, near), kind="stable"):
            state = removed_blocks(near[[k]])[0]
            if state not in known:
                known[state] = float(energies(H, near[[k]])[0])
                break
    return min(known.values())


def test_a_search_with_them_ends_lower_after_as_many_states_on_a_real_model(monkeypatch):
    run = load_run(RUN).seen("branch")
    H, found = np.array(couplings(run, "secant")), {}
    for how in ("with", "without"):
        found[how] = np.array(
            [
                descent(H, rules, run.units, moves.drawn(rules, np.random.default_rng(seed)), 30)
                for rules in (make_rules(asked, len(H), None) for asked in targets(run))
                for seed in range(6)
            ]
        ).reshape(3, 6)
        for name in ("exchanges", "halves"):
            monkeypatch.setattr(moves, name, lambda H, x, rules, units: np.zeros((0, len(x)), dtype=bool))
    assert (found["with"] <= found["without"] + 1e-12).all()
    assert ((found["with"] < found["without"] - 1e-9).sum(axis=1) >= 4).all()
    assert (found["with"] / found["without"]).mean() < 0.98
