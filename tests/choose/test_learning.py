"""The learned landscape: the posterior by brute force, the best state from few measurements, budgets kept."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.choose.learning import (
    ROWS,
    Measured,
    cost_of,
    from_nothing,
    from_run,
    influence,
    known_of,
    learn,
    pair_passes,
)
from core.choose.other_methods import block_influence
from core.energy.learned import (
    OWN_SPREAD,
    KnownPairs,
    Posterior,
    Prior,
    features,
    prior_from,
    read_posterior,
    to_bytes,
    upper,
)
from core.errors import InputError
from core.ising.energies import energies
from core.ising.states import indicator
from core.measure.state_losses import CHUNK, Forwards, open_forwards, singles_of
from core.model.load import load_model
from core.spectrum.constraints import Constraints
from core.store.folders import DEMO_RUN
from core.store.runs import Singles, load_run
from core.texts import pack, read_texts

DOCS = Path(__file__).resolve().parents[2] / "docs"
NONE = (np.zeros((0, 6), bool), np.zeros(0), np.zeros(0), np.zeros(0))


def symmetric(rng, n: int) -> np.ndarray:
    B = rng.normal(size=(n, n))
    return (B + B.T) / 2


def a_prior(rng, n: int) -> Prior:
    return Prior(symmetric(rng, n), np.abs(symmetric(rng, n)) + 0.1, 0.5)


def world(
    n: int, chunks: int = 4, seed: int = 0, deviation: float = 0.0, difficulty: float = 0.0
) -> tuple[Forwards, np.ndarray, np.ndarray]:
    """(a meter over a made-up model whose losses are Ising but for a relative deviation of each state, the
    true increases' H, gate rows).
    """
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(300, n)) @ np.diag(rng.uniform(0.3, 1, n)) + 0.5 * rng.normal(size=(300, 1))
    H = rows.T @ rows / len(rows)
    own = rng.uniform(0.5, 2, n)
    # the rows know the couplings roughly
    H = 0.05 * H * np.sqrt(np.outer(own, own)) * np.exp(0.3 * symmetric(rng, n))
    hard = 1 + difficulty * rng.normal(size=chunks * CHUNK)

    def run(part, kept, start, hidden):
        x = np.ones(n)
        x[list(kept)] = 0
        state = tuple(np.flatnonzero(x))
        own = np.random.default_rng([seed, *state]).normal() if len(state) else 0.0
        return 2.0 + (x @ H @ x) * (1 + deviation * own) * hard[part], list(kept[start:])

    return Forwards(n, chunks * CHUNK, run), H, rows[:60]


def test_features_times_weights_are_energies():
    rng = np.random.default_rng(0)
    H, x = symmetric(rng, 7), rng.random((20, 7)) < 0.5
    assert np.allclose(features(x) @ upper(H), energies(H, x))


def test_the_posterior_is_that_of_bayesian_regression():
    rng = np.random.default_rng(1)
    n, prior = 6, a_prior(rng, 6)
    x = rng.random((9, n)) < 0.5
    y, deviation, sampling = rng.normal(size=9), rng.uniform(0.1, 1, 9), rng.uniform(0.1, 1, 9)
    got = Posterior(prior, x, y, deviation, sampling)
    phi, mean = features(x), upper(prior.mean)
    before = np.diag(upper(prior.sd) ** 2) + 0.25 * np.outer(mean, mean)
    precision = np.linalg.inv(before) + phi.T @ np.diag(1 / (deviation**2 + sampling**2)) @ phi
    after = np.linalg.inv(precision)
    expected = after @ (np.linalg.inv(before) @ mean + phi.T @ (y / (deviation**2 + sampling**2)))
    assert np.allclose(upper(got.couplings), expected)
    assert np.allclose(upper(got.spread), np.sqrt(np.diag(after)))
    every = indicator([s for m in range(1, 6) for s in itertools.combinations(range(6), m)], 6)
    e, sd = got.energies(every)
    assert np.allclose(e, energies(got.couplings, every))
    assert np.allclose(sd, np.sqrt(np.einsum("kf,fg,kg->k", features(every), after, features(every))))
    # a state's own increase: the energy and its deviation, jointly
    joint = phi @ before @ phi.T + np.diag(deviation**2)
    gain = joint @ np.linalg.inv(joint + np.diag(sampling**2))
    mean_of, sd_of = got.measured()
    assert np.allclose(mean_of, phi @ mean + gain @ (y - phi @ mean))
    assert np.allclose(sd_of**2, np.diag(joint - gain @ joint))


def test_every_spread_shrinks_as_states_are_measured():
    rng = np.random.default_rng(2)
    prior, x = a_prior(rng, 6), rng.random((8, 6)) < 0.5
    every = rng.random((30, 6)) < 0.5
    spread, sd = Posterior(prior, *NONE).spread, Posterior(prior, *NONE).energies(every)[1]
    assert np.allclose(spread, np.hypot(prior.sd, 0.5 * prior.mean))
    for k in range(1, 9):
        now = Posterior(prior, x[:k], rng.normal(size=k), np.full(k, 0.1), np.full(k, 0.1))
        assert (now.spread <= spread + 1e-12).all() and (now.energies(every)[1] <= sd + 1e-12).all()
        spread, sd = now.spread, now.energies(every)[1]
    assert (spread < 0.95 * np.hypot(prior.sd, 0.5 * prior.mean)).any()


def test_the_prior_is_the_hybrid_and_nearly_free_blocks_stay_positive():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(50, 4))
    increase = np.array([0.1, -0.02, 0.4, 0.1])
    prior = prior_from(increase, np.full(4, 0.01), rows)
    r = np.corrcoef(rows.T @ rows) is not None and (rows.T @ rows) / np.sqrt(
        np.outer(*[np.diag(rows.T @ rows)] * 2)
    )
    assert np.allclose(np.diag(prior.mean), [0.1, 0.005, 0.4, 0.1])
    assert np.isclose(prior.mean[0, 2], r[0, 2] * 0.2) and np.isclose(prior.sd[0, 2], 0.1)
    # texts that the model has not learned
    assert (np.diag(prior_from(-increase, np.full(4, 0.01), rows).mean) > 0).all()
    with pytest.raises(InputError, match="nothing to learn"):
        prior_from(np.zeros(4), np.zeros(4), rows)


def test_a_state_measured_on_an_easy_chunk_is_not_taken_for_a_good_one():
    losses = {0: 1.0, 1: 1.0, 2: 0.5, 3: 1.5}  # difficulty by chunk

    def run(part, kept, start, hidden):
        removed = 5 - len(kept)
        return np.full(part.stop - part.start, 1.0 + removed * losses[part.start // CHUNK]), list(
            kept[start:]
        )

    measured = Measured(Forwards(5, 4 * CHUNK, run))
    for state in [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)]:
        for _ in range(4):
            measured.add(state)
    for _ in range(3):  # the chunks of difficulty 1, 1 and 0.5
        measured.add((3, 4))
    level, se = measured.estimates()
    assert np.allclose(level[:5], 2) and (se[:5] == 0).all()  # measured on all
    assert abs(level[5] - 2) < 0.2 < 2 - 5 / 3 and se[5] > 0  # its plain mean is 5/3


@pytest.mark.parametrize("removed", [3, 5])
def test_the_best_of_all_states_is_found_with_a_fraction_of_the_measurements(removed):
    for seed in range(3):
        forwards, H, rows = world(12, seed=seed, deviation=0.03, difficulty=0.2)
        states = list(itertools.combinations(range(12), removed))
        truth = {s: float(forwards.whole(s).mean()) for s in states}
        fresh, _, _ = world(12, seed=seed, deviation=0.03, difficulty=0.2)
        found = learn(rows, fresh, removed, budget=12.0)
        assert found.forwards <= 12 and len(found.measured) < len(states) / 3
        assert found.loss == min(truth.values()) and truth[found.removed] == found.loss
        learned = energies(found.posterior.couplings, indicator(states, 12))
        rank = lambda v: np.argsort(np.argsort(v))  # noqa: E731
        assert np.corrcoef(rank(learned), rank(list(truth.values())))[0, 1] > 0.8


def test_the_curve_only_falls_and_says_what_was_spent():
    forwards, _, rows = world(10)
    found = learn(rows, forwards, 4, budget=15.0)
    spent, losses, _ = zip(*found.curve)
    assert (
        list(spent) == sorted(spent)
        and list(losses) == sorted(losses, reverse=True)
        and spent[-1] <= found.forwards
    )
    assert found.original == pytest.approx(2.0) and found.loss == losses[-1]
    assert forwards.forwards == found.forwards > 2.3 * len(rows) / forwards.sequences


def test_equal_seeds_make_equal_choices_and_another_seed_may_not():
    runs = [learn(world(10)[2], world(10, deviation=0.1)[0], 4, budget=14.0, seed=s) for s in (0, 0, 1)]
    assert (
        [m[0] for m in runs[0].measured]
        == [m[0] for m in runs[1].measured]
        != [m[0] for m in runs[2].measured]
    )


def test_constraints_hold_for_everything_that_is_measured():
    forwards, _, rows = world(10)
    found = learn(rows, forwards, 4, budget=15.0, constraints=Constraints(keep=(0, 9), max_run=2))
    for state, _, _ in found.measured:
        assert not {0, 9} & set(state) and not any(b + 1 in state and b + 2 in state for b in state)


@pytest.mark.parametrize("seed", range(3))
def test_a_budget_says_how_much_goes_and_every_state_keeps_it(seed):
    n = 10
    meter, H, rows = world(n, chunks=1, seed=seed)
    weights = np.random.default_rng(seed).uniform(1, 3, n)
    budget = Constraints(weights=tuple(weights), at_least=float(weights.sum() * 0.4), keep=(0,))
    found = learn(rows, meter, None, 40.0, constraints=budget, seed=seed)
    sizes = set()
    for state, *_ in found.measured:
        assert weights[list(state)].sum() >= weights.sum() * 0.4 - 1e-9 and 0 not in state
        sizes.add(len(state))
    every = indicator([s for m in range(1, n) for s in itertools.combinations(range(1, n), m)], n)
    fits = every[every @ weights >= weights.sum() * 0.4]
    best = energies(H, fits).min()
    assert found.loss - found.original <= 1.02 * best and len(sizes) > 1


def test_groups_are_drawn_and_changed_within_themselves():
    n = 12
    meter, _, rows = world(n, chunks=1)
    groups = Constraints(groups=((tuple(range(0, n, 2)), 3), (tuple(range(1, n, 2)), 1)))
    found = learn(rows, meter, 4, 30.0, constraints=groups)
    assert len(found.measured) > 20
    for state, *_ in found.measured:
        assert [sum(u % 2 == k for u in state) for k in (0, 1)] == [3, 1]


def test_a_small_space_is_measured_out_before_the_budget_ends():
    forwards, _, rows = world(5, deviation=0.3)
    found = learn(rows, forwards, 2, budget=1000.0)
    truth = {s: forwards.whole(s).mean() for s in itertools.combinations(range(5), 2)}
    assert len(found.measured) == 10 and found.removed == min(truth, key=truth.get)


def test_a_budget_that_pays_for_nothing_is_one_sentence():
    forwards, _, rows = world(10)
    with pytest.raises(InputError, match="does not pay"):
        learn(rows, forwards, 4, budget=2.0)


def test_what_a_run_knows_is_taken_as_far_as_a_budget_pays_for_it():
    run = replace(load_run(DEMO_RUN), secants=None, pairs=None)
    every = known_of(run, 256, 45)
    assert len(every) == ROWS and np.array_equal(every, run.sampled.A[:ROWS])
    some = known_of(run, 16, 40)  # a tenth of 640 forwards of a sequence, 2.3 a row
    assert len(some) == 27 and cost_of(some, 16) <= 4
    none = known_of(run, 16, 30)
    assert isinstance(none, KnownPairs) and not none.energies.any() and cost_of(none, 16) == 0
    real = load_run(DOCS / "beds" / "smollm2" / "run")
    passes = pair_passes(real)
    assert isinstance(known_of(real, 256, 3 * passes / 256 + 0.01), KnownPairs)
    assert isinstance(known_of(real, 256, 3 * passes / 256 - 0.01), np.ndarray)
    free = from_run(real)
    assert free.passes == 0 and free.singles is real.singles
    assert np.array_equal(free.energies, known_of(real, 256, 1e4).energies)


def test_single_removals_of_a_run_are_not_measured_again():
    forwards, H, _ = world(10)
    singles = Singles(np.diag(H).copy(), np.full(10, 0.01), 64)
    found = learn(KnownPairs(np.zeros((10, 10)), 0.0, singles), forwards, 4, budget=3.0)
    assert found.curve[0][0] < 3.5 / 10 + 2.5 and not any(len(s) == 1 for s in forwards.losses)
    assert np.array_equal(np.diag(found.posterior.prior.mean), np.maximum(singles.increase, 0))


def test_proposals_are_measured_first_where_they_are_allowed():
    states = [(0, 3, 6, 9), (1, 3, 5, 7)]
    forwards, _, rows = world(10)
    found = learn(rows, forwards, 4, budget=15.0, proposals=states)
    assert [s for s, _, _ in found.measured[:2]] == states
    forwards, _, rows = world(10)
    found = learn(rows, forwards, 4, budget=15.0, proposals=states, constraints=Constraints(keep=(0,)))
    assert found.measured[0][0] == states[1] and states[0] not in [s for s, _, _ in found.measured]


def test_block_influence_is_proposed_and_its_forward_charged(tiny, text_file):
    loaded = load_model(str(tiny["llama"]))
    texts = pack(read_texts(str(text_file)), loaded.tokenizer, "choose", 24, 4)
    meter = open_forwards(loaded, texts, keep=False)
    (state,) = influence(loaded, texts, meter, 2)
    assert state == block_influence(loaded, texts, 3)[2].removed and meter.forwards == 1
    with pytest.raises(InputError):
        influence(loaded, texts, meter, 7)


def test_of_one_sequence_no_error_is_known_and_the_spread_is_wide():
    run = lambda part, kept, start, hidden: (np.full(1, 7.0 - len(kept)), list(kept[start:]))  # noqa: E731
    found = singles_of(Forwards(5, 2, run, chunk=1), [0])
    increase, se = found.increase, found.se
    assert (increase == 1).all() and np.isnan(se).all()
    alone, known = (prior_from(increase, e, KnownPairs(np.zeros((5, 5)), 0.0)) for e in (se, np.zeros(5)))
    assert np.allclose(np.diag(known.sd), OWN_SPREAD) and np.isfinite(alone.sd).all()
    assert (np.diag(alone.sd) > 1.5 * OWN_SPREAD).all()


def test_a_posterior_survives_its_file():
    forwards, _, rows = world(8)
    found = learn(rows, forwards, 3, budget=12.0)
    again = read_posterior(to_bytes(found.posterior))
    assert np.array_equal(again.couplings, found.posterior.couplings) and np.array_equal(
        again.spread, found.posterior.spread
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_budget_that_pays_for_one_state_completes_one_whatever_is_proposed(seed):
    rng = np.random.default_rng(seed)
    n, m, chunks = 8, 4, int(rng.integers(1, 6))
    with pytest.raises(InputError, match="does not pay") as told:
        learn(from_nothing(n), world(n, chunks, seed)[0], m, 0.01)
    least = float(str(told.value).split("one state, ")[1].split(";")[0])
    dear = [tuple(sorted(rng.choice(n, m, replace=False).tolist())) for _ in range(3)]
    for more in (0.05, 0.1, 0.3, 0.6, 1.0):
        forwards, _, _ = world(n, chunks, seed, deviation=0.3, difficulty=0.3)
        found = learn(from_nothing(n), forwards, m, least + more, proposals=dear, seed=seed)
        assert found.curve and found.forwards <= least + more + 1e-9


def plain(loss, n: int = 6, sequences: int = 2 * CHUNK) -> Forwards:
    """A meter over a made-up model: {state: its loss on every sequence}."""

    def run(part, kept, start, hidden):
        state = tuple(b for b in range(n) if b not in kept)
        return np.full(part.stop - part.start, loss(state)), list(kept[start:])

    return Forwards(n, sequences, run)


def test_states_that_overflow_are_avoided_and_an_original_that_does_is_one_sentence():
    usual = lambda s: 2 + 0.1 * len(s) + 0.01 * sum(s)  # noqa: E731
    alone = learn(from_nothing(6), plain(lambda s: np.inf if 0 in s else usual(s)), 3, 20.0)
    assert alone.removed == (1, 2, 3) and np.isfinite(alone.posterior.couplings).all()
    pair = learn(from_nothing(6), plain(lambda s: np.inf if {0, 1} <= {*s} else usual(s)), 3, 20.0)
    assert pair.removed == (0, 2, 3)
    with pytest.raises(InputError, match="of the 20 states that .* is a number"):
        learn(from_nothing(6), plain(lambda s: np.inf if len(s) > 1 else usual(s)), 3, 40.0)
    with pytest.raises(InputError, match="original is no number"):
        learn(from_nothing(6), plain(lambda s: np.inf), 3, 20.0)


def test_states_that_cost_nothing_are_learned_like_others():
    found = learn(from_nothing(6), plain(lambda s: 2.1 if len(s) == 1 else 2.0), 3, 20.0)
    assert found.loss == 2.0 and np.isfinite(found.posterior.couplings).all()
