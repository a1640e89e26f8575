"""Races: the best state is lost no more often than promised, a killed race measures nothing twice."""

from dataclasses import replace

import numpy as np
import pytest

from core.calibration.calibrate import calibrate
from core.choose.race import BATCH, DELTA, FIRST_LOOK, Moments, critical, in_batches, low, race, stay
from core.errors import InputError
from core.job_kinds.race import run as run_job
from core.jobs.requests import request_of, request_on
from core.measure.replay import Replay
from core.measure.state_losses import Forwards, open_forwards, stratified
from core.model.load import load_model
from core.store.runs import keep_run
from core.texts import pack, read_texts
from tests.bench_race import KINDS, RULES, races, simulated

# "rare" is what no rule sees: docs/race.md says so
SEEN = [kind for kind in KINDS if not kind.startswith("rare")]


@pytest.mark.parametrize("gap", ["close", "clear"])
@pytest.mark.parametrize("kind", SEEN)
def test_of_1000_races_no_more_than_the_stated_share_lose_the_best(kind, gap):
    found = races(simulated(kind, gap, 1000, states=6), {"the race": stay})["the race"]
    assert found.lost <= DELTA
    if gap == "clear":  # and it is worth it: what is clear is decided before the end
        assert found.cost < 0.7 and found.left < 2.5


@pytest.mark.parametrize("kind", ["normal", "lognormal, others at times much worse", "Bernoulli, -1 or 1"])
def test_nor_where_none_is_better(kind):
    found = races(simulated(kind, "equal", 1000, states=6), {"the race": stay})["the race"]
    assert found.lost <= DELTA and found.left > 5


def test_the_old_rule_and_plain_intervals_lose_it_more_often():
    rules = {name: RULES[name] for name in ("2.5 standard errors", "Student")}
    normal = races(simulated("normal", "close", 1000, states=6), rules)
    assert normal["2.5 standard errors"].lost > DELTA >= normal["Student"].lost
    skewed = races(simulated("lognormal, others at times much worse", "equal", 1000, states=6), rules)
    assert skewed["Student"].lost > DELTA  # so the guards are needed


def test_a_limit_is_infinite_of_few_items_and_holds_at_all_of_them_together():
    n, rng = np.arange(2, 257), np.random.default_rng(0)
    limit = critical(n, 0.05)
    assert np.isinf(limit[0]) and np.isfinite(limit[-1]) and limit.min() > 2.6
    x = rng.standard_normal((4000, 256))
    total, squares = x.cumsum(axis=1)[:, 1:], (x * x).cumsum(axis=1)[:, 1:]
    t = total / n / np.sqrt((squares - total**2 / n) / (n - 1) / n)
    crossed = (np.abs(t) > limit).any(axis=1).mean()
    assert 0.005 < crossed <= 0.05 + 3 * (0.05 * 0.95 / 4000) ** 0.5


def test_the_lowest_mean_never_leaves_and_ends_are_in_order():
    rng = np.random.default_rng(1)
    losses = rng.standard_t(3, (50, 7, 64)) + np.linspace(0, 2, 7)[:, None]
    pairs, racing = Moments((50, 7)), np.ones((50, 7), dtype=bool)
    for start in range(0, 64, BATCH):
        pairs.add(losses[..., start : start + BATCH], racing)
        before, racing = racing, stay(pairs, racing, 0.01)
        assert (racing <= before).all() and racing.any(axis=1).all()
        assert start + BATCH >= FIRST_LOOK or racing.all()
    means = np.where(racing, losses.mean(axis=-1), np.inf)
    assert racing[np.arange(50), means.argmin(axis=1)].all()
    ends, off = low(pairs, 0.01), ~np.eye(7, dtype=bool)
    assert (ends <= pairs.mean())[:, off].all() and (-np.swapaxes(ends, 1, 2) >= pairs.mean())[:, off].all()


def made_up(losses: dict, sequences: int) -> Forwards:
    """A meter over losses that are known."""
    blocks = 6

    def run(part, kept, start, hidden):
        state = tuple(b for b in range(blocks) if b not in kept)
        return losses[state][None, part], list(kept[start:])

    return Forwards(blocks, sequences, run, chunk=BATCH)


def test_a_race_tells_who_won_who_ties_who_left_when_and_what_was_saved():
    rng = np.random.default_rng(2)
    common, means = 3 + rng.normal(size=128), {(0, 1): 0.0, (0, 2): 0.001, (1, 2): 0.35, (3, 4): 2.0}
    losses = {s: common + m + 0.2 * rng.normal(size=128) for s, m in means.items()}
    found = race(made_up(losses, 128), [(4, 3), *means])
    assert {r.removed for r in found.ties} == {(0, 1), (0, 2)} and found.items == 128
    assert found.winner.removed == min(((0, 1), (0, 2)), key=lambda s: losses[s].mean())
    assert [r.removed for r in found.dropped] == [(1, 2), (3, 4)]  # the last to leave first
    first, second = (r.items for r in found.dropped)
    assert FIRST_LOOK <= second < first < 128
    for racer in found.racers:
        own = losses[racer.removed][: racer.items]
        assert np.isclose(racer.loss, own.mean())
        assert np.isclose(racer.above, (own - losses[found.winner.removed][: racer.items]).mean())
        assert racer.low <= racer.above <= racer.high
    assert found.dropped[1].low > 0 and found.ties[1].low <= 0 <= found.ties[1].high
    every = made_up(losses, 128)
    for chunk in range(len(every.chunks)):
        for state in sorted(means, key=lambda s: [b for b in range(6) if b not in s]):
            every.measure(state, chunk)
    assert np.isclose(found.of_all, every.forwards) and found.forwards < found.of_all
    # as the simulation has it
    order = [r.removed for r in found.racers]
    table = np.array([[losses[s] for s in order]])
    outcome = races(table, {"the race": stay})["the race"]
    assert outcome.left == 2 and np.isclose(outcome.cost, sum(r.items for r in found.racers) / (4 * 128))


def test_one_left_ends_it_early():
    losses = {(0,): np.random.default_rng(0).normal(size=64), (1,): np.full(64, 50.0)}
    found = race(made_up(losses, 64), list(losses))
    assert found.items == found.winner.items == found.dropped[0].items < 64 and len(found.ties) == 1


def test_a_state_that_overflows_leaves():
    rng = np.random.default_rng(0)
    losses = {(0,): 3 + rng.normal(size=64), (1,): np.full(64, np.inf), (2,): 3 + rng.normal(size=64)}
    losses[(2,)][::2] = np.inf  # on every other sequence
    found = race(made_up(losses, 64), list(losses))
    assert [racer.removed for racer in found.ties] == [(0,)]
    assert all(np.isfinite(racer.above) and racer.low > 0 for racer in found.dropped)


def test_what_is_no_race_is_one_sentence():
    forwards = made_up({(0,): np.zeros(8)}, 8)
    with pytest.raises(InputError, match="two different states"):
        race(forwards, [(0,), (0,)])
    for delta in (0.0, 0.7, float("nan")):
        with pytest.raises(InputError, match="delta"):
            race(forwards, [(0,), (1,)], delta=delta)


def test_by_another_ruler_it_goes_by_that_alone():
    rng = np.random.default_rng(3)
    noise = [rng.normal(size=64) for _ in range(3)]
    values = {(k,): np.array([9.0 - k + 0.1 * noise[k], k + 0.1 * noise[k]]) for k in range(3)}

    def run(part, kept, start, hidden):
        (state,) = ({0, 1, 2} - set(kept),)
        return values[tuple(state)][:, part], list(kept[start:])

    by = [race(Forwards(3, 64, run, chunk=BATCH, ruler=ruler), list(values)) for ruler in (0, 1)]
    assert [found.winner.removed for found in by] == [(2,), (0,)]
    for found, row in zip(by, (0, 1)):
        for racer in found.racers:
            assert np.isclose(racer.loss, values[racer.removed][row, : racer.items].mean())


@pytest.fixture
def loaded(tiny):
    return load_model(str(tiny["llama"]))


def test_every_batch_has_its_share_of_every_domain(loaded, text_file):
    sequences = pack(read_texts(text_file), loaded.tokenizer, "choose", 32, 64)
    sequences = replace(sequences, domain=np.repeat([0, 1, 2, 3], 16))
    found = in_batches(sequences)
    assert sorted(found.index.tolist()) == sorted(sequences.index.tolist())
    for part in np.split(found.domain, 8):
        assert np.bincount(part, minlength=4).tolist() == [2, 2, 2, 2]
    by_index = dict(zip(sequences.index.tolist(), sequences.ids.tolist()))
    assert all(by_index[i] == ids for i, ids in zip(found.index.tolist(), found.ids.tolist()))
    assert found.index.tolist() == in_batches(sequences).index.tolist() != sequences.index.tolist()


class Stops:
    """The progress of a job that is killed at its n-th report."""

    def __init__(self, after: float = float("inf")):
        self.left = after

    def report(self, done: int, total: int, message: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.fixture
def asked(tiny, loaded, text_file):
    return a_race(tiny, loaded, text_file)


def a_race(tiny, loaded, text_file) -> dict:
    """The request of a race on a run of the tiny model."""
    request = request_of(str(tiny["llama"]), str(text_file), samples=8, length=32)
    sequences = pack(read_texts(text_file), loaded.tokenizer, "calibrate", 32, 8)
    run = calibrate(loaded, sequences, request=request)
    states = [[0, 1], [0, 2], [1, 3], [2, 4], [4, 5]]
    return request_on(run, keep_run(run), remove=2, states=states, sequences=48, delta=0.05)


def test_killed_and_resumed_a_race_measures_nothing_twice(asked, monkeypatch, tmp_path):
    measured: list[tuple] = []
    execute = Replay.__call__

    def counted(self, part, kept, *rest):
        measured.append((self.sequences.split, tuple(self.sequences.index[part]), kept))
        return execute(self, part, kept, *rest)

    monkeypatch.setattr(Replay, "__call__", counted)
    kills = 0
    while True:  # killed again and again, each time a few measurements on
        try:
            resumed = run_job(asked, Stops(10 + 5 * kills))
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills > 2 and len(measured) == len(set(measured)) > 20
    together = set(measured)
    monkeypatch.setenv("BLOCKSCAPE_HOME", str(tmp_path / "another"))
    measured.clear()
    assert run_job(asked, Stops()) == resumed and set(measured) == together


def test_the_job_tells_ties_on_texts_that_no_choice_has_seen(asked, loaded, text_file):
    done = run_job(asked, Stops())
    assert done["sequences"] == 48 and done["winner"] == done["ties"][0]["removed"]
    removed = [tuple(r["removed"]) for r in [*done["ties"], *done["dropped"]]]
    assert sorted(removed) == sorted(map(tuple, asked["states"]))
    unseen = open_forwards(
        loaded, pack(read_texts(text_file), loaded.tokenizer, "report", 32, 48), keep=False
    )
    for tie in done["ties"]:
        assert np.isclose(tie["report"]["loss"], unseen.whole(tie["removed"]).mean(), atol=1e-5)
    by_kl = run_job({**asked, "ruler": "kl"}, Stops())
    first = [*by_kl["ties"], *by_kl["dropped"]]
    assert sorted(r["removed"] for r in first) == sorted(asked["states"])
    choose = pack(read_texts(text_file), loaded.tokenizer, "choose", 32, 48)
    own = open_forwards(loaded, in_batches(stratified(choose)), keep=False, ruler="kl")
    for racer in first:
        assert set(racer) - {"report"} == {"removed", "items", "kl", "above", "low", "high"}
        assert np.isclose(racer["kl"], own.whole(racer["removed"])[: racer["items"]].mean(), atol=1e-6)
        assert racer["kl"] > 0
    for bad, why in (({"ruler": "bits"}, "no ruler 'bits'"), ({"states": [[0], [1, 2]]}, "removes 1 blocks")):
        with pytest.raises(InputError, match=why):
            run_job({**asked, **bad}, Stops())
