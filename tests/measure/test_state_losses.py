"""Losses on kept prefixes equal whole forwards, and the count is what was executed."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.ising.units import BRANCH
from core.measure.evaluation import sequence_losses
from core.measure.prefix_walk import prefix_walk, walk_order
from core.measure.replay import Replay
from core.measure.state_losses import CHUNK, DISTANCES, Forwards, Kept, open_forwards, stratified
from core.model.gates import gated, removal
from core.model.load import load_model
from core.store.token_kl import median_and_99, unpacked
from core.texts import Sequences, pack, read_texts
from tests.conftest import TINY


def prefixes(states, blocks: int) -> int:
    """Distinct kept prefixes, by brute force: what has to be executed when every hidden state is kept."""
    found = set()
    for state in states:
        kept = [i for i in range(blocks) if i not in state]
        found |= {tuple(kept[: k + 1]) for k in range(len(kept))}
    return len(found)


def counting(blocks: int, sequences: int = CHUNK, **options) -> Forwards:
    """A meter over made-up losses that checks what it is handed."""

    def run(part, kept, start, hidden):
        assert hidden == (kept[:start] or None)
        return np.full(part.stop - part.start, float(sum(kept))), [
            kept[: k + 1] for k in range(start, len(kept))
        ]

    return Forwards(blocks, sequences, run, **options)


@pytest.fixture(scope="module")
def sequences(text_file):
    def of(loaded, count=20):
        return pack(read_texts(str(text_file)), loaded.tokenizer, "choose", 24, count)

    return of


@pytest.mark.parametrize("kind", TINY)
def test_losses_from_kept_prefixes_equal_whole_forwards(tiny, sequences, kind, monkeypatch):
    if kind == "llama":  # as where hidden states are large
        monkeypatch.setattr("core.measure.replay._LARGE", 1)
    loaded = load_model(str(tiny[kind]))
    texts = sequences(loaded)
    meter = open_forwards(loaded, texts, keep=False)
    assert meter.shares
    for state in [(), (0,), (2, 3), (2, 4), (0, 1, 2, 3, 4), (5,), (0, 1, 2, 3, 4, 5)]:
        assert np.abs(meter.whole(state) - sequence_losses(loaded, texts.ids, state)).max() < 1e-5


@pytest.mark.parametrize("kind", TINY)
def test_losses_of_branches_equal_closed_gates_and_share_the_store_with_blocks(
    tiny, sequences, kind, tmp_path, monkeypatch
):
    monkeypatch.setenv("BLOCKSCAPE_HOME", str(tmp_path))
    whole = load_model(str(tiny[kind]))
    loaded, texts = whole.seen(BRANCH), sequences(whole, 6)
    meter, ids = open_forwards(loaded, texts, tokens=True), torch.from_numpy(texts.ids)
    states = [(), (0,), (1,), (4, 5), (2, 5, 6, 7, 10), (11,)]
    for state in states:
        with torch.no_grad(), gated(loaded, removal(loaded, state)):
            logits = loaded.model(input_ids=ids, use_cache=False).logits[:, :-1].double()
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        assert np.abs(meter.whole(state) - losses.mean(dim=1).numpy()).max() < 1e-5
    meter.save()
    named = {loaded.units.stored(s) for s in states}
    assert named == {(), ("0a",), ("0f",), (2,), ("1a", "2f", 3, "5a"), ("5f",)}
    known = Kept(whole, texts, DISTANCES, tokens=True)
    assert set(known.values) == set(known.histograms) == {(), (2,)}  # half a block is no state by block
    again = open_forwards(loaded, texts, tokens=True)
    monkeypatch.setattr(again, "run", lambda *_: pytest.fail("measured twice"))
    for state in states:
        assert (again.whole(state) == meter.whole(state)).all()
    assert again.forwards == pytest.approx(meter.forwards)


def test_blocks_that_cannot_be_passed_over_are_gated_at_full_cost(tiny, sequences, monkeypatch):
    loaded = load_model(str(tiny["llama"]))
    texts = sequences(loaded)
    monkeypatch.setattr(Replay, "_can_share", lambda self: False)
    meter = open_forwards(loaded, texts, keep=False)
    for state in [(), (1,), (0, 4)]:
        assert np.abs(meter.whole(state) - sequence_losses(loaded, texts.ids, state)).max() < 1e-5
    assert meter.forwards == pytest.approx(3)


def test_a_model_that_is_another_when_blocks_are_passed_over_is_found_out(tiny, sequences):
    loaded = load_model(str(tiny["llama"]))
    norm = loaded.model.model.norm
    plain = norm.forward
    norm.forward = lambda x: plain(x) + len(vars(loaded.modules[0]).get("forward", lambda: None).__name__)
    assert not Replay(loaded, sequences(loaded)).shares


@pytest.mark.parametrize("blocks", [4, 7])
def test_the_count_is_the_number_of_distinct_prefixes(blocks):
    states = [s for m in range(blocks + 1) for s in itertools.combinations(range(blocks), m)]
    rng = np.random.default_rng(blocks)
    drawn = [states[k] for k in rng.permutation(len(states))[:20]]
    meter = counting(blocks, 3 * CHUNK)
    for k, state in enumerate(drawn):
        expected = meter.cost(state, 0)
        before = meter.forwards
        meter.measure(state, 0)
        assert meter.forwards - before == pytest.approx(expected)
        assert meter.executed == prefixes(drawn[: k + 1], blocks) * CHUNK
    for state in drawn:
        meter.whole(state)
    assert meter.forwards == pytest.approx(prefixes(drawn, blocks) / blocks)


def test_single_removals_cost_what_the_format_says():
    meter = counting(16, 2 * CHUNK)
    for state in [(), *((i,) for i in range(16))]:
        meter.whole(state)
    assert meter.forwards == pytest.approx(1 + 16 * 15 / 2 / 16)


def test_little_room_costs_more_and_changes_nothing():
    states = np.random.default_rng(0).permutation(list(itertools.combinations(range(7), 3)))
    large, small = counting(7), counting(7, room=8)
    assert [large.measure(s, 0)[0] for s in states] == [small.measure(s, 0)[0] for s in states]
    assert len(small.prefixes) == 8 and small.forwards > large.forwards


def test_what_is_kept_is_not_measured_again_and_costs_the_same(tiny, sequences, monkeypatch):
    loaded = load_model(str(tiny["llama"]))
    texts = sequences(loaded)
    states = [(), (1,), (1, 3), (3, 5)]
    first = open_forwards(loaded, texts)
    losses = [first.whole(s) for s in states]
    first.known.flush()
    ran = []
    plain = Replay.__call__
    monkeypatch.setattr(
        Replay, "__call__", lambda self, part, *rest: ran.append(rest[0]) or plain(self, part, *rest)
    )
    second = open_forwards(loaded, texts)
    assert all(np.array_equal(a, second.whole(s)) for a, s in zip(losses, states)) and not ran
    assert second.forwards == first.forwards
    assert np.abs(second.whole((1, 4)) - sequence_losses(loaded, texts.ids, (1, 4))).max() < 1e-5
    first.whole((1, 4))
    assert set(ran) == {(0, 2, 3, 5)} and second.forwards == first.forwards
    stored = Kept(loaded, texts)
    assert (
        stored.get((1, 3), slice(0, 20)).tolist() == [losses[2].tolist()]
        and stored.get((2,), slice(0, 20)) is None
    )


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_distances_are_those_of_the_whole_distributions(tiny, sequences, kind, monkeypatch):
    monkeypatch.setattr("core.model.losses.TOKENS", 7)  # in pieces
    loaded = load_model(str(tiny[kind]))
    texts = sequences(loaded)
    meter = open_forwards(loaded, texts, keep=False, distances=True)
    ids = torch.from_numpy(texts.ids)

    first = log_probabilities(loaded, ids, ())
    for state in [(1, 3), (), (0, 5)]:  # the original is not the first that is asked for
        other = log_probabilities(loaded, ids, state)
        loss, kl, same = np.concatenate([meter.every(state, c) for c in range(len(meter.chunks))], axis=1)
        assert np.abs(loss - sequence_losses(loaded, texts.ids, state)).max() < 1e-5
        assert np.abs(kl - (first.exp() * (first - other)).sum(-1).mean(1).numpy()).max() < 1e-5
        assert np.abs(same - (first.argmax(-1) == other.argmax(-1)).double().mean(1).numpy()).max() < 1e-6
    assert meter.every((), 0)[1].tolist() == [0.0] * CHUNK and meter.every((), 0)[2].tolist() == [1.0] * CHUNK


def test_distances_are_kept_beside_losses_that_were_measured_before(tiny, sequences):
    loaded = load_model(str(tiny["llama"]))
    texts = sequences(loaded)
    losses = open_forwards(loaded, texts)
    before = losses.whole((2, 4))
    losses.save()
    meter = open_forwards(loaded, texts, ruler="kl")
    found = meter.whole((2, 4))
    meter.save()
    assert Kept(loaded, texts, DISTANCES).whole((2, 4)).tolist() == before.tolist()
    again = open_forwards(loaded, texts, ruler="kl")
    again.run = None  # nothing is measured
    assert again.whole((2, 4)).tolist() == found.tolist() and (found > 0).all()


def test_the_walk_measures_every_state_once_and_resumes(tiny, sequences, tmp_path):
    loaded = load_model(str(tiny["llama"]))
    texts = sequences(loaded)

    class Stop(Exception):
        pass

    def stop(done, total, message):
        if done > total // 2:
            raise Stop

    with pytest.raises(Stop):
        prefix_walk(loaded, texts, 3, tmp_path, stop)
    x, losses = prefix_walk(loaded, texts, 3, tmp_path)
    assert x.shape == (20, 6) and losses.shape == (20, 20) and len({tuple(r) for r in x}) == 20
    for row, own in zip(x, losses):
        assert np.abs(own - sequence_losses(loaded, texts.ids, np.flatnonzero(row))).max() < 1e-5
    meter = counting(8, room=16)
    for state in walk_order(8, 3):
        meter.measure(state, 0)
    assert meter.executed == prefixes(walk_order(8, 3), 8) * CHUNK


def test_every_chunk_has_its_share_of_every_domain():
    loaded = load_model("demo")
    plain = pack(read_texts(), loaded.tokenizer, "choose", 64, 96)
    even = stratified(plain)
    assert sorted(even.index) == sorted(plain.index) and even.sha256 != plain.sha256
    assert all((even.ids[k] == plain.ids[list(plain.index).index(i)]).all() for k, i in enumerate(even.index))
    for start in range(0, 96, CHUNK):
        part = even.domain[start : start + CHUNK]
        for d in range(len(plain.domains)):
            assert abs((part == d).sum() - CHUNK * (plain.domain == d).mean()) < 2


@pytest.mark.parametrize("count", [20, 24, 40, 100])
def test_so_has_every_chunk_where_they_do_not_come_out_even(count):
    domain = np.arange(count, dtype=np.int16) % 4
    ids = np.arange(count)[:, None] * np.ones(4, dtype=np.int64)
    found = stratified(Sequences(ids, np.arange(count), domain, tuple("abcd"), "choose", "", "", count, ""))
    assert sorted(found.index) == list(range(count)) and (found.ids[:, 0] == found.index).all()
    for start in range(0, count, CHUNK):
        part = found.domain[start : start + CHUNK]
        assert np.ptp(np.bincount(part, minlength=4)) <= 2, start


def test_what_only_a_loss_is_known_of_is_measured_again_for_its_tokens_and_its_time_counts_once(
    tiny, sequences
):
    loaded = load_model(str(tiny["llama"]))
    texts = sequences(loaded)
    losses = open_forwards(loaded, texts)
    before = losses.whole((2, 4))
    losses.save()

    def stored(metric):
        key = replace(losses.known.key, metric=metric)
        (found,) = losses.known.results.of_model(key.model, like=key)
        return found

    spent = stored("loss").seconds
    meter = open_forwards(loaded, texts, tokens=True)
    assert meter.known.get((2, 4), slice(0, 20)) is None
    values = np.concatenate([meter.every((2, 4), c) for c in range(len(meter.chunks))], axis=1)
    meter.save()
    order = np.argsort(texts.index)
    assert stored("loss").seconds == spent and np.array_equal(stored("loss").values, before[order])
    assert np.array_equal(stored("kl").values, values[1][order])
    again = open_forwards(loaded, texts, tokens=True)
    again.run = None  # nothing is measured
    assert again.whole((2, 4)).tolist() == before.tolist()
    known = Kept(loaded, texts, DISTANCES, tokens=True)
    assert set(known.histograms[2, 4]) == set(texts.index.tolist())
    ids = torch.from_numpy(texts.ids)
    found = [log_probabilities(loaded, ids, state) for state in ((), (2, 4))]
    kl = (found[0].exp() * (found[0] - found[1])).sum(-1).flatten().numpy()
    exact = np.quantile(kl, [0.5, 0.99], method="inverted_cdf")
    assert np.abs(np.log(np.array(median_and_99(known.histograms[2, 4].values())) / exact)).max() < 0.045


def log_probabilities(loaded, ids, state):
    with gated(loaded, removal(loaded, state)), torch.no_grad():
        return loaded.model(ids, use_cache=False).logits[:, :-1].double().log_softmax(-1)


def test_the_tokens_of_padded_sequences_that_do_not_count_are_left_out(tiny, sequences):
    loaded = load_model(str(tiny["llama"]))
    texts = sequences(loaded)
    scored = np.zeros_like(texts.ids, dtype=bool)
    scored[:, 10:15] = True
    meter = open_forwards(loaded, replace(texts, scored=scored), tokens=True)
    meter.whole((1,))
    assert all(unpacked(text).sum() == 5 for text in meter.known.histograms[(1,)].values())


def test_what_overflows_is_the_worst_and_is_kept(tiny, sequences, monkeypatch):
    loaded = load_model(str(tiny["llama"]))
    texts = sequences(loaded)
    real = loaded.head.logits
    with monkeypatch.context() as patch:
        meter = open_forwards(loaded, texts, tokens=True)
        meter.whole(())
        patch.setattr(loaded.head, "logits", lambda hidden: real(hidden) * torch.nan)
        assert np.isposinf(meter.whole((2,))).all()
        meter.save()
    known = Kept(loaded, texts, DISTANCES, tokens=True)
    assert np.isposinf(known.whole((2,))).all() and np.isfinite(known.whole(())).all()
    assert unpacked(known.histograms[(2,)][known.index[0]])[-1] == texts.ids.shape[1] - 1
