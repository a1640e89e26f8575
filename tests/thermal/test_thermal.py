"""The ensemble, the density of states and overlaps against brute force; the sampler against enumeration."""

import itertools
import math

import numpy as np
import pytest

from core.errors import InputError
from core.shape.moves import moves_of
from core.spectrum.constraints import Constraints, make_rules
from core.spectrum.lowest import lowest_states
from core.thermal.density import density, density_of_list
from core.thermal.ensemble import ensemble, of_list, of_samples
from core.thermal.overlap import Overlap, overlap_of_ensemble, overlap_of_states
from core.thermal.sampling import _arrays, _temper, effective_samples, sample, split_rhat
from tests.shape.brute import Brute, kinds

KINDS = list(kinds(4, 0))


def _figures(H, states, energies, t):
    """(probabilities, of pairs, mean above ground, heat capacity, entropy) by their definitions."""
    x = np.array([[i in s for i in range(len(H))] for s in states], dtype=float)
    above = energies - energies.min()
    w = np.exp(-above / t)
    p = w / w.sum()
    mean = p @ above
    return p @ x, (x.T * p) @ x, mean, (p @ above**2 - mean**2) / t**2, -(p[p > 0] @ np.log(p[p > 0]))


def _allowed_by(rules, n):
    return lambda state: bool(rules.allows(np.isin(np.arange(n), state)[None])[0])


@pytest.mark.parametrize("count", [5, 10_000], ids=["enumerated", "all listed"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "m"), [(5, 2), (8, 1), (8, 7), (10, 5), (12, 4)])
def test_every_figure_is_that_of_brute_force(n, m, kind, count):
    H = kinds(n, seed=n + m)[kind]
    slow, s = Brute(H, m), lowest_states(H, m, count)
    for t in (0.3, 2.0, 50.0):
        found = ensemble(H, s, t)
        p, pairs, mean, capacity, entropy = _figures(H, slow.states, slow.e, t)
        assert found.how == "exact" and found.error == 0 and "all" in found.why
        assert np.allclose(found.removed, p) and np.allclose(found.pairs, pairs)
        assert found.energy == pytest.approx(mean, abs=1e-9)
        assert found.heat_capacity == pytest.approx(capacity, abs=1e-7)
        assert found.effective == pytest.approx(math.exp(entropy))
        assert np.allclose(found.connected, pairs - np.outer(p, p))


def test_fixed_units_and_other_rules_too():
    H = kinds(10, 2)["random"]
    for constraints in (
        Constraints(keep=(0,), remove=(4, 5)),
        Constraints(max_run=1),
        Constraints(groups=(((0, 1, 2, 3), 2),)),
    ):
        rules = make_rules(constraints, 10, 4)
        slow = Brute(H, 4, allowed=_allowed_by(rules, 10))
        few = 5 if constraints.keep else 300
        found = ensemble(H, lowest_states(H, 4, few, constraints=constraints), 1.0, rules)
        p, pairs, mean, _, entropy = _figures(H, slow.states, slow.e, 1.0)
        assert found.how == "exact"
        assert np.allclose(found.removed, p) and np.allclose(found.pairs, pairs)
        assert found.energy == pytest.approx(mean) and found.entropy == pytest.approx(entropy)


def test_the_listed_states_do_where_all_others_have_little_weight():
    H = kinds(12, 9)["like a model"]
    rules = Constraints(groups=((tuple(range(12)), 5),))  # no plain M: nothing is enumerated
    whole, part = lowest_states(H, 5, 792), lowest_states(H, None, 300, constraints=rules)
    cold = (part.lower_bound - part.energies[0]) / 25
    found, true = of_list(part, cold, make_rules(rules, 12, None)), ensemble(H, whole, cold)
    assert found.how == "bounded" and 0 < found.error < 0.01
    assert np.abs(found.removed - true.removed).max() <= found.error
    assert np.abs(found.pairs - true.pairs).max() <= found.error
    hot = of_list(part, 50 * cold, make_rules(rules, 12, None))
    true = ensemble(H, whole, 50 * cold)
    assert hot.error > 0.01 and np.abs(hot.removed - true.removed).max() <= hot.error


@pytest.mark.parametrize(
    "constraints", [None, Constraints(keep=(2,), max_run=3, groups=(((0, 1, 3, 4), 2),))]
)
def test_the_sampler_agrees_with_enumeration_within_its_stated_error(constraints):
    n, m = 16, 6
    H = kinds(n, 8)["random"]
    s = lowest_states(H, m, 10_000, constraints=constraints)
    rules = make_rules(constraints, n, m)
    for t in (0.5, 3.0):
        true = of_list(s, t, rules)
        assert true.how == "exact"
        found = of_samples(sample(H, rules, t, seed=4), float(s.energies[0]))
        assert found.how == "estimated" and found.sampled.settled and "R-hat" in found.why
        assert np.abs(found.removed - true.removed).max() < 4 * found.error
        assert np.abs(found.pairs - true.pairs).max() < 4 * found.error
        assert found.energy == pytest.approx(true.energy, rel=0.1)
        assert found.entropy == pytest.approx(true.entropy, abs=0.05)
    again = sample(H, rules, 3.0, seed=4)
    assert (again.x == found.sampled.x).all()


def test_the_sampler_keeps_detailed_balance():
    """One replica visits each state, and goes over each pair of states both ways, as its weight says."""
    H, t = kinds(6, 1)["random"], 3.0
    rules = make_rules(Constraints(weights=(1.0, 2.0, 1.0, 2.0, 1.0, 2.0), at_least=4.0), 6, None)
    start = np.ones((1, 6), dtype=bool)
    x, _ = _temper(H, start, np.array([1 / t]), 100, 200_000, 5, *_arrays(rules, moves_of(rules)))
    codes = x @ (1 << np.arange(6))
    states = [s for s in itertools.product([False, True], repeat=6) if rules.allows(np.array([s]))[0]]
    rows = np.array(states, dtype=float)
    w = np.exp(-np.einsum("ki,ij,kj->k", rows, H, rows) / t)
    p = dict(zip((np.array(states) @ (1 << np.arange(6))).tolist(), w / w.sum()))
    visited, hits = np.unique(codes, return_counts=True)
    share = dict(zip(visited.tolist(), hits / codes.size))
    assert set(share) <= set(p) and max(abs(share.get(k, 0.0) - v) for k, v in p.items()) < 0.005
    flow = np.zeros((64, 64))
    np.add.at(flow, (codes[:-1], codes[1:]), 1)
    busy = np.argwhere(np.triu(flow, 1) > 100)
    assert len(busy) > 50
    assert all(abs(flow[a, b] - flow[b, a]) < 5 * math.sqrt(flow[a, b] + flow[b, a]) for a, b in busy)


def test_chains_that_disagree_are_told():
    rng = np.random.default_rng(0)
    fair = rng.normal(size=(4, 1000))
    assert split_rhat(fair) < 1.01 and 3000 < effective_samples(fair) <= 4000
    assert split_rhat(fair + np.arange(4)[:, None]) > 1.5
    slow = np.cumsum(fair, axis=1)
    assert effective_samples(slow) < 40
    steps = fair.copy()
    for k in range(1, 1000):  # an AR(1) chain of .9 is worth (1 - .9) / (1 + .9) of its samples
        steps[:, k] = 0.9 * steps[:, k - 1] + math.sqrt(1 - 0.81) * fair[:, k]
    assert effective_samples(steps) == pytest.approx(4000 / 19, rel=0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_counts_every_state(kind):
    H, m = kinds(11, 3)[kind], 4
    slow, s = Brute(H, m), lowest_states(H, m, 30)
    asked = np.array([slow.e[50], slow.e[0], slow.e[200] + 0.01, -100.0])
    found = density(H, make_rules(None, 11, m), float(s.energies[0]), asked, s.tolerance, bins=20)
    assert found.how == "exact" and found.states.sum() == found.total == 330
    assert found.below.tolist() == [(slow.e < e - s.tolerance).sum() for e in asked]
    inner = slow.e[(slow.e > found.edges[3] + 1e-9) & (slow.e < found.edges[9] - 1e-9)]
    assert abs(found.states[3:9].sum() - len(inner)) <= (np.abs(slow.e[:, None] - found.edges) < 1e-9).sum()


def test_the_density_of_a_whole_list_is_the_counted_one():
    H = kinds(11, 3)["random"]
    s = lowest_states(H, 4, 330)
    asked = s.energies[[0, 50, 200]]
    for top in (None, float(s.energies[100])):
        counted = density(H, make_rules(None, 11, 4), float(s.energies[0]), asked, s.tolerance, top=top)
        listed = density_of_list(s, asked, top=top)
        assert listed.how == "exact" and listed.total == counted.total == 330
        assert listed.below.tolist() == counted.below.tolist() == [0, 50, 200]
        assert np.abs(np.cumsum(listed.states) - np.cumsum(counted.states)).max() <= 1  # at an edge


def test_the_density_is_estimated_where_nothing_is_enumerated():
    H = kinds(16, 5)["random"]
    constraints = Constraints(groups=((tuple(range(16)), 6),))
    rules = make_rules(constraints, 16, None)
    s, whole = lowest_states(H, None, 20, constraints=constraints), lowest_states(H, 6, 8008)
    assert density(H, rules, float(s.energies[0]), np.array([]), s.tolerance) is None
    cold = sample(H, rules, 1.0, seed=2)
    asked = whole.energies[[100, 1000, 4000]]
    found = density(H, rules, float(s.energies[0]), asked, s.tolerance, cold)
    assert found.how == "estimated" and found.total == 8008
    assert found.below == pytest.approx([100, 1000, 4000], rel=0.15)


def test_within_a_budget_the_number_of_states_is_not_known():
    H, rng = kinds(12, 5)["random"], np.random.default_rng(1)
    weights = rng.random(12)
    constraints = Constraints(weights=tuple(weights), at_least=float(weights.sum() / 2))
    rules = make_rules(constraints, 12, None)
    s = lowest_states(H, None, 20, constraints=constraints)
    found = ensemble(H, s, 3.0, rules)
    assert found.how == "estimated" and math.isnan(found.entropy) and math.isnan(found.effective)
    x = np.array(list(itertools.product([False, True], repeat=12)))
    e = np.einsum("ki,ij,kj->k", x.astype(float), H, x.astype(float))[rules.allows(x)]
    asked = np.sort(e)[[100, 500]]
    shares = density(H, rules, float(s.energies[0]), asked, s.tolerance, found.sampled)
    assert math.isnan(shares.total) and shares.states.sum() == pytest.approx(1)
    assert shares.below == pytest.approx(np.array([100, 500]) / len(e), abs=0.03)
    assert (e < shares.quantile(0.1)).mean() == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("kind", ["random", "indefinite", "zero"])
def test_overlaps_are_those_of_all_pairs(kind):
    H, m, t = kinds(9, 2)[kind], 4, 1.5
    slow, s = Brute(H, m), lowest_states(H, m, 126)
    w = np.exp(-(slow.e - slow.e[0]) / t)
    w /= w.sum()
    expected = np.zeros(m + 1)
    for i, a in enumerate(slow.states):
        for j, b in enumerate(slow.states):
            expected[len(set(a) & set(b))] += w[i] * w[j]
    found = overlap_of_ensemble(H, s, ensemble(H, s, t))
    assert found.how == "exact" and np.allclose(found.probability, expected)
    drawn = overlap_of_ensemble(H, lowest_states(H, m, 10), ensemble(H, lowest_states(H, m, 10), t))
    assert drawn.how == "estimated" and np.abs(drawn.probability - expected).max() < 0.03
    of_minima = overlap_of_states(s.x[[0, 5, 9]])
    pairs = [len(set(a) & set(b)) for a, b in itertools.combinations([s.removed[k] for k in (0, 5, 9)], 2)]
    assert of_minima.mean == pytest.approx(np.mean(pairs) / m)


def test_overlaps_are_not_compared_where_samples_remove_different_numbers():
    """The lowest states all remove four here; higher ones, which only sampling knows, remove more."""
    H, c = np.ones((8, 8)), Constraints(weights=(1.0,) * 8, at_least=4.0)
    s, rules = lowest_states(H, None, 5, constraints=c), make_rules(c, 8, None)
    found = ensemble(H, s, 50.0, rules)
    assert found.how == "estimated" and not np.ptp(s.x.sum(axis=1))
    assert overlap_of_ensemble(H, s, found, rules) is None


@pytest.mark.parametrize("unit", [1e-290, 1e-170, 1e150])
def test_figures_do_not_depend_on_the_unit_of_energy(unit):
    H, rules = kinds(9, 1)["indefinite"], make_rules(Constraints(max_run=3), 9, 4)
    for count, ruled in ((5, None), (10_000, None), (10_000, rules)):
        of = {} if ruled is None else {"constraints": Constraints(max_run=3)}
        once = ensemble(H, lowest_states(H, 4, count, **of), 2.0, ruled)
        again = ensemble(H * unit, lowest_states(H * unit, 4, count, **of), 2.0 * unit, ruled)
        assert once.how == again.how == "exact" and np.allclose(once.pairs, again.pairs)
        assert again.heat_capacity == pytest.approx(once.heat_capacity, abs=1e-9)
        assert again.entropy == pytest.approx(once.entropy) and again.energy == pytest.approx(
            once.energy * unit
        )


def test_verdicts_on_the_shape_of_an_overlap():
    q = np.arange(11) / 10
    one = np.exp(-((q - 0.95) ** 2) / 0.01)
    two = one + np.exp(-((q - 0.3) ** 2) / 0.01)
    broad = np.exp(-((q - 0.5) ** 2) / 0.1)
    random = np.exp(-((q - 0.2) ** 2) / 0.02)
    random /= random.sum()
    said = [Overlap(q, p / p.sum(), "exact", random, 100).verdict for p in (one, two, broad, random)]
    assert said[:3] == ["funnel-like", "two-valleyed", "glassy"] and said[3].startswith("disordered")
    assert "too few" in Overlap(q, one / one.sum(), "exact", random, 3).verdict


def test_no_temperature_is_one_sentence():
    H = kinds(6, 0)["random"]
    s = lowest_states(H, 2, 5)
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="temperature must be a number above 0"):
            ensemble(H, s, wrong)
    with pytest.raises(InputError, match="up to which energies are ties"):
        ensemble(H, s, s.tolerance / 1000)


def test_moves_of_a_sampler_are_those_of_the_landscape():
    rules = make_rules(Constraints(groups=(((0, 1, 2), 1),)), 6, 3)
    moves = moves_of(rules)
    assert not moves.swap[0, 4] and moves.swap[0, 1] and moves.swap[3, 5] and not moves.alone.any()
