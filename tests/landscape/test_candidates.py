"""Automatic candidates: what is chosen, from which window, and whether the reason given is true."""

import itertools
import re

import numpy as np
import pytest

from core.energy.learned import Posterior, keep_learned, prior_from
from core.energy.sources import open_source, store_matrix
from core.energy.uncertainty import energy_noise
from core.errors import InputError
from core.ising.energies import energies
from core.ising.states import indicator, pearson
from core.landscape.candidates import (
    LEAST,
    STANDARD_ERRORS,
    WITHOUT_NOISE,
    candidates,
    equally_low,
    medoid_groups,
    one_per_basin,
)
from core.landscape.landscape import landscape
from core.landscape.wording import exponent, with_power
from core.measure.evaluation import sequence_losses
from core.model.load import load_model
from core.spectrum.constraints import Constraints
from core.spectrum.lowest import lowest_states
from core.texts import pack, read_texts
from tests.shape.brute import Brute


def problem(seed: int, n: int = 12, m: int = 4, count: int = 300):
    A = np.random.default_rng(seed).normal(size=(40, n)) * np.linspace(1, 1.3, n)
    H = A.T @ A / 40
    return H, lowest_states(H, m, count)


def test_the_error_of_an_energy_difference_is_that_of_the_rows():
    demo = open_source("demo")
    run = demo.run
    x = lowest_states(np.diag(np.arange(1.0, 25)), 4, 30).x
    A = run.rows.A.astype(float)
    share = (A @ x.T.astype(float)) ** 2
    difference = share - share[:, :1]
    plain = np.zeros(len(x))
    for d in range(len(run.meta["texts"]["domains"])):  # drawn within a domain: only what varies there counts
        plain += (run.rows.domain == d).sum() * difference[run.rows.domain == d].var(axis=0)
    found = energy_noise(demo, "h0", x, resamples=400)
    assert found[0] == 0 and np.allclose(found[1:], np.sqrt(plain[1:]) / len(A), rtol=0.2)
    assert np.array_equal(found, energy_noise(demo, "h0", x, resamples=400))
    assert (energy_noise(demo, "hybrid", x, {"story": 1.0}, resamples=20)[1:] > 0).all()
    with pytest.raises(InputError):
        energy_noise(demo, "h0", x, resamples=1)
    assert energy_noise(store_matrix(np.eye(24), "own"), "matrix", x) is None


def test_the_error_of_a_learned_landscape_is_its_posteriors():
    """Against energies of couplings drawn from the prior, which is the posterior of no measurement."""
    demo, rng = open_source("demo"), np.random.default_rng(0)
    prior = prior_from(demo.run.singles.increase, demo.run.singles.se, demo.run.sampled.A)
    keep_learned(demo.key, 3, Posterior(prior, np.zeros((0, 24), bool), *np.zeros((3, 0))))
    (name,) = [e for e in demo.estimators if e.startswith("learned")]
    x = lowest_states(demo.couplings(name), 3, 20).x
    drawn = []
    for _ in range(4000):
        noise = np.triu(rng.normal(size=(24, 24)) * prior.sd)
        e = energies(prior.mean * (1 + prior.scale * rng.normal()) + noise + np.triu(noise, 1).T, x)
        drawn.append(e - e[0])
    assert np.allclose(energy_noise(demo, name, x), np.std(drawn, axis=0), rtol=0.08)


@pytest.mark.parametrize("seed", range(4))
def test_each_diverse_candidate_is_the_farthest_of_the_window_and_its_reason_is_true(seed):
    H, s = problem(seed)
    found = candidates(H, s, 9, window=float(s.energies[120] - s.energies[0]))
    inside = [
        state for state, e in zip(s.removed, s.energies) if e <= s.energies[0] + found.window + s.tolerance
    ]
    assert len(inside) == found.states >= 121
    assert (
        found.chosen[0].removed == s.removed[0]
        and found.chosen[0].reason == "lowest energy"
        and found.chosen[0].diversity is None
    )
    before = []
    for c in found.chosen:
        assert c.removed in inside and s.removed[c.rank] == c.removed and c.energy == s.energies[c.rank]
        if before:
            r = [
                max(np.corrcoef(indicator([state], 12)[0], row)[0, 1] for row in indicator(before, 12))
                for state in inside
            ]
            assert np.isclose(c.diversity, 1 - r[inside.index(c.removed)])
            if c.reason.startswith("differs most"):
                assert np.isclose(1 - c.diversity, min(r), atol=1e-9)
                first = int(np.flatnonzero(np.array(r) <= min(r) + 1e-9)[0])
                assert inside[first] == c.removed  # of equally distant ones the lowest
                changed = min(len(set(c.removed) - set(b)) for b in before)
                assert f"{changed} of 4 blocks" in c.reason
        before.append(c.removed)
    assert len(set(before)) == 9 and sum(c.reason.startswith("differs") for c in found.chosen) >= 4


def test_medoids_say_what_their_group_shares():
    H, s = problem(5, n=16, m=6, count=400)
    found = candidates(H, s, 10, window=1e9).chosen
    medoids = [c for c in found if "medoid" in c.reason]
    assert len(medoids) >= 3
    for k, c in enumerate(found):
        if c in medoids:
            assert all(len(set(c.removed) - set(b.removed)) > 1 for b in found[:k])  # no near-copy
            size, named = re.search(
                r"group of (\d+) states that all remove ([\d, and]+), |$", c.reason
            ).groups()
            blocks = {int(b) for b in re.findall(r"\d+", named or "")}
            if blocks:
                assert (
                    blocks <= set(c.removed)
                    and sum(blocks <= set(state) for state in s.removed) >= int(size) > 1
                )


def test_groups_are_those_of_a_brute_force_search():
    x = np.concatenate(
        [
            indicator([(0, 1, 2, b) for b in (3, 4, 5)], 20),
            indicator([(9, 10, 11, b) for b in (12, 13, 14, 15)], 20),
        ]
    )
    distance = 1 - pearson(x, x)
    found = medoid_groups(x, 2)
    assert sorted(len(own) for _, own in found) == [3, 4] and {k for _, own in found for k in own} == set(
        range(7)
    )
    least = min(distance[:, list(pair)].min(axis=1).sum() for pair in itertools.combinations(range(7), 2))
    assert np.isclose(distance[:, [m for m, _ in found]].min(axis=1).sum(), least)


def test_the_window_is_where_the_sample_cannot_tell_states_apart():
    rng = np.random.default_rng(1)
    above, noise = np.sort(rng.random(60)), rng.random(60) * 0.5
    above[0] = noise[0] = 0
    k = 1
    while k < 60 and above[k] <= STANDARD_ERRORS * np.median(noise[1 : k + 1]):
        k += 1
    assert equally_low(above, noise) == k
    H, s = problem(1)
    above = s.energies - s.energies[0]
    for inside in (40, 100):
        noise = np.full(len(above), (above[inside - 1] + above[inside]) / 2 / STANDARD_ERRORS)
        found = candidates(H, s, 5, noise=noise)
        assert (
            found.states == inside
            and np.isclose(found.window, above[inside - 1])
            and "within one standard error of the ground state" in found.why
        )
    narrow = candidates(H, s, 5, noise=np.zeros(len(above)))
    assert narrow.states == 5 * LEAST and "only 1 states lie" in narrow.why
    assert candidates(H, s, 5).states == 5 * WITHOUT_NOISE
    assert candidates(H, s, 3, noise=np.full(len(above), 1e9)).why.endswith("all 300 looked at lie inside")


def test_what_was_picked_or_measured_before_counts():
    H, s = problem(2)
    measured = {s.removed[50]: (0.2, 0.01, 64), s.removed[9]: (0.1, 0.01, 64), (0,): (-1.0, 0.0, 64)}
    found = candidates(H, s, 4, measured=measured).chosen
    assert (
        found[1].removed == s.removed[9]
        and found[1].rank == 9
        and found[1].reason == "lowest measured loss of the 2 measured (+0.1 nats)"
    )
    far = (0, 1, 2, 3) if (0, 1, 2, 3) not in s.removed else (8, 9, 10, 11)
    found = candidates(
        H, lowest_states(H, 4, 60), 4, measured={far: (0.1, 0, 9), s.removed[0]: (0.2, 0, 9)}
    ).chosen
    assert found[1].removed == far and np.isclose(found[1].energy, energies(H, indicator([far], 12))[0])
    first = [c.removed for c in candidates(H, s, 4).chosen]
    more = candidates(H, s, 4, taken=first).chosen
    assert not {c.removed for c in more} & set(first) and all(c.diversity is not None for c in more)


def test_ends_are_whole():
    H, s = problem(0, n=5, m=2, count=10)
    assert {c.removed for c in candidates(H, s, 50).chosen} == set(s.removed)
    assert [c.removed for c in candidates(H, s, 1).chosen] == [s.removed[0]]
    flat = lowest_states(np.ones((6, 6)), 2, 15)
    one = candidates(np.ones((6, 6)), flat, 3)
    assert (
        one.window == 0
        and "one of 15 states" in one.chosen[0].reason
        and "on the ground level" in one.chosen[1].reason
    )
    assert len({b for c in one.chosen for b in c.removed}) == 6  # three pairs without a block in common


@pytest.mark.parametrize(
    "wrong", [{"count": 0}, {"count": True}, {"count": 3, "window": -1.0}, {"count": 3, "noise": np.zeros(3)}]
)
def test_bad_requests_are_one_sentence(wrong):
    H, s = problem(0)
    with pytest.raises(InputError) as caught:
        candidates(H, s, **wrong)
    assert "\n" not in str(caught.value)


def basins(seed: int = 3):
    """A whole landscape with several minima, and the same the slow way."""
    A = np.random.default_rng(seed).normal(size=(4, 12))
    H = A.T @ A
    return H, landscape(H, lowest_states(H, 5, 900)), Brute(H, 5)


def test_one_per_basin_gives_the_bottoms_of_the_deepest_valleys_and_says_why():
    H, found, slow = basins()
    minima, power = slow.minima(), exponent(found.spectrum.energies)
    ends = [slow.descent(k) for k in range(len(slow.states))]
    chosen = one_per_basin(H, found.tree, 99)
    assert sorted(c.rank for c in chosen) == minima and chosen[0].rank == 0 and len(minima) > 3
    heights = []
    for c in chosen[1:]:
        lower = [k for k in minima if k < c.rank]
        height = min(slow.e[slow.level == slow.barrier(c.rank, k)].min() for k in lower) - c.energy
        heights.append(height)
        assert c.removed == slow.states[c.rank] and c.reason == (
            f"minimum of a valley of {ends.count(c.rank)} listed state{'s' * (ends.count(c.rank) > 1)}, "
            f"barrier {with_power(height, power)} to a lower one"
        )
    assert heights == sorted(heights, reverse=True)
    assert chosen[0].reason.endswith("the lowest of all")
    three = one_per_basin(H, found.tree, 2, taken=[chosen[0].removed, chosen[2].removed])
    assert [c.removed for c in three] == [chosen[1].removed, chosen[3].removed]
    with pytest.raises(InputError, match="at least 1"):
        one_per_basin(H, found.tree, 0)


def test_with_the_tree_a_third_of_the_candidates_are_minima_and_no_near_copies():
    H, found, _ = basins()
    s = found.spectrum
    chosen = candidates(H, s, 9, window=1e9, tree=found.tree).chosen
    kinds_of = [c.reason.split()[0] for c in chosen]
    assert kinds_of[:3] == ["lowest", "differs", "differs"] and len(chosen) == 9
    named = [c for c in chosen if c.reason.startswith("minimum")]
    assert 1 <= len(named) <= 3
    for c in named:
        before = [b.removed for b in chosen[: chosen.index(c)]]
        assert found.minimum[c.rank] and min(len(set(c.removed) - set(b)) for b in before) > 1
    low = candidates(H, s, 9, window=0.0, noise=None, tree=found.tree)
    assert all(c.energy <= s.energies[0] + s.tolerance for c in low.chosen)
    plain = candidates(H, s, 9, window=1e9).chosen
    assert not any(c.reason.startswith("minimum") for c in plain)


def test_at_half_removal_the_demos_candidates_hold_a_better_state_than_as_many_lowest():
    """`python -m tests.bench_candidates` has the other numbers of blocks and couplings."""
    demo = open_source("demo")
    s = lowest_states(demo.couplings("h0"), 12, 300, constraints=Constraints(keep=(0,)))
    chosen = [
        c.removed for c in candidates(demo.couplings("h0"), s, 4, noise=energy_noise(demo, "h0", s.x)).chosen
    ]
    loaded = load_model("demo")
    ids = pack(read_texts(), loaded.tokenizer, "choose", 128, 64).ids
    loss = {state: sequence_losses(loaded, ids, state) for state in {*chosen, *s.removed[:4]}}
    best = min(chosen, key=lambda state: loss[state].mean())
    lowest = min(s.removed[:4], key=lambda state: loss[state].mean())
    gain = loss[lowest] - loss[best]
    assert gain.mean() > 2 * gain.std(ddof=1) / 8
