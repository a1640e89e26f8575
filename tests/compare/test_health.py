"""The verdict on couplings: red where they mislead, green where they are the loss itself, never a guess."""

import itertools

import numpy as np
import pytest

from core.compare.audit import Audit, audit, audit_states, finding
from core.compare.comparison import Row, points
from core.compare.health import GREEN, RED, UNKNOWN, YELLOW, check_states, health
from core.ising.energies import energies
from core.ising.states import indicator
from core.spectrum.lowest import lowest_states
from core.store.results import Key, Measurement

N, M, SEQUENCES = 14, 4, 16
FIRST = 3.0  # nats, of the original


def quadratic(seed: int = 0) -> np.ndarray:
    """Couplings of a made-up model whose pairs matter."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(2 * N, N)) * rng.uniform(0.3, 1.0, N)
    return A.T @ A / (2 * N)


def losses(truth: np.ndarray, states, noise: float = 0.02, seed: int = 1) -> dict:
    """{state: its measured loss}: FIRST + x^T truth x, with noise that each sequence has of its own."""
    rng, made = np.random.default_rng(seed), {}
    base = FIRST + rng.normal(size=SEQUENCES)
    for s in dict.fromkeys([(), *states]):
        x = indicator([s], N)[0].astype(float)
        values = base + x @ truth @ x + noise * rng.normal(size=SEQUENCES) * (len(s) > 0)
        key = Key("model", s, "data", "report", "loss", "{}")
        made[s] = Measurement(key, np.arange(SEQUENCES), values, 0.0)
    return made


def verdict(
    truth: np.ndarray,
    H: np.ndarray,
    *,
    count: int | None = None,
    pairs: bool = True,
    audited: Audit | None = None,
):
    """Health of H on a model whose loss is the quadratic form `truth`, after the check of the card; audited:
    another audit than that of exact pairs.
    """
    listed = lowest_states(H, M, 200)
    asked = check_states(listed.x, np.diag(truth))[:count]
    measured = losses(truth, [*asked, *(audit_states(N, np.diag(truth)) if pairs else [])])
    rows = [Row(s, 0, 0, m, m.minus(measured[()]) if s else None) for s, m in measured.items() if s in asked]
    states = [row.removed for row in rows if row.removed]
    energy = dict(zip(states, energies(H, indicator(states, N)).tolist())) if states else {}
    return health(H, listed.removed[0], points(rows, energy), audited or audit(H, measured), nats=True)


def shuffled(H: np.ndarray, seed: int) -> np.ndarray:
    """The same own costs, the pairs in another order."""
    i, j = np.triu_indices(N, 1)
    S = np.diag(np.diag(H)).copy()
    S[i, j] = np.random.default_rng(seed).permutation(H[i, j])
    return S + np.triu(S, 1).T


@pytest.mark.parametrize("seed", range(5))
def test_green_where_the_couplings_are_the_loss(seed):
    H = quadratic(seed)
    found = verdict(H, H)
    assert found.colour == GREEN and "Spearman" in found.sentence


def test_states_that_lose_nothing_are_told_as_they_are():
    truth, H = np.diag([-0.01] * 4 + [-0.02] * 10), np.diag(np.arange(1.0, 15.0))
    assert "measured, -0.04 nats" in verdict(truth, H, count=2, pairs=False).sentence
    few, many = verdict(truth, H, count=3, pairs=False), verdict(truth, H, pairs=False)
    assert "within 0 % of the best measured" in few.sentence
    assert not any("Predicted over" in fact for fact in (*few.facts, *many.facts))


@pytest.mark.parametrize("seed", range(5))
def test_red_on_the_rows_of_another_model(seed):
    found = verdict(quadratic(seed), quadratic(seed + 100))
    assert found.colour == RED and "Do not trust" in found.sentence


@pytest.mark.parametrize("seed", range(8))
def test_red_on_shuffled_pairs(seed):
    found = verdict(quadratic(seed), shuffled(quadratic(seed), seed))
    assert found.colour == RED and "Do not trust" in found.sentence


def test_the_pairs_are_to_blame_only_where_measured_ones_say_so_beyond_their_noise():
    truth = quadratic(0)  # shuffled, its lowest state is good by chance
    H = shuffled(truth, 0)
    assert "its pairs carry no information" in verdict(truth, H).sentence
    assert "own costs alone order the measured states better" in verdict(truth, H).sentence
    assert verdict(truth, H, pairs=False).colour == YELLOW  # no audit
    assert verdict(truth, np.diag(np.diag(truth))).colour != RED  # pairs that are not there do no harm
    own = losses(truth, audit_states(N, np.diag(truth)), noise=20.0)
    assert verdict(truth, H, audited=audit(H, own)).colour == YELLOW  # nothing but noise was measured


def test_not_known_without_a_measurement_of_the_lowest_state():
    H = quadratic()
    assert verdict(H, H, count=1).colour == UNKNOWN  # the original alone
    assert verdict(H, H, count=2).colour == UNKNOWN  # nothing beside the lowest
    listed = lowest_states(H, M, 50)
    others = losses(H, listed.removed[5:9])
    rows = [Row(s, 0, 0, m, m.minus(others[()]) if s else None) for s, m in others.items()]
    energy = {s: 1.0 for s in others if s}
    found = health(H, listed.removed[0], points(rows, energy), None, nats=True)
    assert found.colour == UNKNOWN and "4 other states" in found.sentence
    assert verdict(H, H, count=4).colour == YELLOW  # few


def test_a_check_measures_the_lowest_the_cheapest_and_windows():
    H = quadratic(3)
    listed, increase = lowest_states(H, M, 100), np.diag(H)
    states = check_states(listed.x, increase)
    assert states[0] == () and states[1] == listed.removed[0] and len(states) == len(set(states))
    assert all(len(s) == M for s in states[1:]) and 8 <= len(states) <= 13
    assert tuple(sorted(np.argsort(increase)[:M].tolist())) in states
    assert any(s == tuple(range(s[0], s[0] + M)) for s in states[1:])
    assert states == check_states(listed.x, increase) and check_states(listed.x, None)[1] == states[1]


def test_the_audit_tells_pairs_that_carry_information_from_those_that_do_not():
    truth = quadratic(2)
    asked = audit_states(N, np.diag(truth))
    pairs = [s for s in asked if len(s) == 2]
    assert len(pairs) == 30 and all((b,) in asked for p in pairs for b in p)
    measured = losses(truth, asked)
    true, none = audit(truth, measured), audit(shuffled(truth, 5), measured)
    assert true.informative is True and none.informative is not True
    assert np.abs(true.measured - true.predicted).max() < 5 * true.se.max() and true.reliability > 0.9
    assert "say what two removals cost" in finding(true, "H")
    blurred = audit(truth, losses(truth, asked, noise=20.0))
    assert blurred.reliability < 0.5
    assert audit(truth, losses(truth, [(1,), (2,)])) is None and "not known" in finding(None, "H")
    few = audit(truth, losses(truth, [(1,), (2,), (1, 2)]))
    assert few.informative is None and "too few" in finding(few, "H")


def test_two_body_parts_are_of_common_sequences_only():
    truth = quadratic(4)
    measured = losses(truth, [(1,), (2,), (1, 2)], noise=0.0)
    whole = measured[(1, 2)]
    measured[(1, 2)] = Measurement(whole.key, whole.items[4:], whole.values[4:], 0.0)
    found = audit(truth, measured)
    assert found.sequences == SEQUENCES - 4 and found.measured[0] == pytest.approx(2 * truth[1, 2])


def test_pairs_of_blocks_are_chosen_among_those_that_are_not_fatal():
    increase = np.full(20, 0.1)
    increase[[0, 19]] = 9.0
    asked = audit_states(20, increase)
    assert not {0, 19} & set(itertools.chain(*asked))


def test_a_state_that_loses_next_to_nothing_is_no_bad_choice_beside_one_that_gains():
    own = np.full(N, 0.05)
    own[:6] = [0.0002, 0.0002, 0.0002, 0.0002, -0.0003, -0.0003]
    measured = losses(np.diag(own), [(0, 1, 2, 3), (2, 3, 4, 5), (0, 1, 4, 5)], noise=1e-6)
    H = np.diag(np.arange(1.0, N + 1))
    rows = [Row(s, 0, 0, m, m.minus(measured[()]) if s else None) for s, m in measured.items()]
    energy = {row.removed: float(sum(row.removed)) for row in rows}
    found = health(H, (0, 1, 2, 3), points(rows, energy), None, nats=True)
    assert found.colour == YELLOW and "within 0 % of the best" in found.sentence


def test_a_lowest_state_that_overflows_is_not_trusted():
    measured = losses(np.eye(N), [(k, k + 1, k + 2, k + 3) for k in range(8)])
    measured[(0, 1, 2, 3)].values[:] = np.inf
    rows = [Row(s, 0, 0, m, m.minus(measured[()]) if s else None) for s, m in measured.items()]
    energy = {row.removed: float(sum(row.removed)) for row in rows}
    found = points(rows, energy)
    verdict_ = health(np.eye(N), (0, 1, 2, 3), found, None, nats=True)
    assert verdict_.colour == RED and "loses inf nats" in verdict_.sentence
    # where the original overflows nothing can be told
    measured[()].values[:] = np.inf
    rows = [Row(s, 0, 0, m, m.minus(measured[()]) if s else None) for s, m in measured.items()]
    assert not points(rows, energy).rows


def test_a_better_state_that_is_not_surely_so_is_not_said_to_be_none():
    truth = np.diag(np.linspace(1.0, 2.0, N))
    H = truth.copy()
    H[0, 0] += 1.05  # the couplings pass block 0 over, which is a little cheaper than another
    rows, energy = [], {}
    measured = losses(truth, [(1, 2, 3, 4), (0, 1, 2, 3)], noise=2.0)
    for s, m in measured.items():
        rows.append(Row(s, 0, 0, m, m.minus(measured[()]) if s else None))
        energy[s] = float(H[list(s), list(s)].sum())
    found = points(rows, energy)
    assert found.best != found.lowest
    assert "is surely better than" in health(H, (1, 2, 3, 4), found, None, nats=True).sentence
