"""The peers choose what their papers say, and pay what is executed."""

import itertools

import numpy as np
import pytest
import torch

from core.choose import other_methods
from core.ising.units import units_of
from core.measure.evaluation import sequence_losses
from core.measure.replay import closed_units
from core.measure.state_losses import CHUNK, Forwards, open_forwards
from core.model.gates import gated, removal
from core.model.load import load_model
from core.store.results import JS
from core.texts import pack, read_texts
from tests.measure.test_state_losses import prefixes


def ising(n: int, sequences: int = 2 * CHUNK, seed: int = 0) -> tuple[Forwards, np.ndarray]:
    """A meter over the losses x^T H x of a made-up landscape, and H."""
    rng = np.random.default_rng(seed)
    B = rng.normal(size=(n, n))
    H = B @ B.T / n

    def run(part, kept, start, hidden):
        x = np.ones(n)
        x[list(kept)] = 0
        return np.full(part.stop - part.start, x @ H @ x), list(kept[start:])

    return Forwards(n, sequences, run), H


def energy(H, state) -> float:
    return float(H[np.ix_(state, state)].sum())


@pytest.fixture(scope="module")
def small(tiny, text_file):
    loaded = load_model(str(tiny["llama"]))
    return loaded, pack(read_texts(str(text_file)), loaded.tokenizer, "choose", 24, 20)


def test_greedy_removes_the_cheapest_block_every_time_and_pays_for_distinct_prefixes():
    forwards, H = ising(8)
    found = other_methods.greedy(forwards, 5)
    tried, removed = [()], ()
    for m in range(1, 6):
        more = [tuple(sorted((*removed, b))) for b in range(8) if b not in removed]
        tried += more
        removed = min(more, key=lambda s: energy(H, s))
        assert found[m].removed == removed and found[m].loss == pytest.approx(energy(H, removed))
        assert found[m].forwards == pytest.approx(prefixes(tried, 8) / 8)
        alone = 1 + sum((8 - k) * (7 - k) / 2 for k in range(m)) / 8
        # what it costs with the prefixes of one state kept at a time
        assert found[m].forwards <= alone + 1e-9


@pytest.mark.parametrize("search", [other_methods.evolutionary, other_methods.random_search])
def test_searches_keep_the_budget_and_only_get_better(search):
    forwards, H = ising(8)
    curve = search(forwards, 3, 12.0, seed=1)
    assert forwards.forwards <= 12 and curve
    assert all(a.loss > b.loss and a.forwards <= b.forwards for a, b in itertools.pairwise(curve))
    assert all(c.loss == pytest.approx(energy(H, c.removed)) and len(c.removed) == 3 for c in curve)


def test_evolution_finds_the_best_of_all_where_it_may_look_at_all():
    forwards, H = ising(7)
    curve = other_methods.evolutionary(forwards, 3, 1e9)
    assert curve[-1].removed == min(itertools.combinations(range(7), 3), key=lambda s: energy(H, s))


def test_evolution_ends_when_no_mutant_is_new_though_states_are_left():
    forwards, H = ising(10)
    best = other_methods.evolutionary(forwards, 4, 1e9)[-1].removed
    near = [s for s in itertools.combinations(range(10), 4) if set(s) & set(best)]
    assert best == min(near, key=lambda s: energy(H, s))


def test_the_best_window_is_the_best_of_all_windows():
    forwards, H = ising(8)
    choice = other_methods.best_window(forwards, 3)
    assert choice.removed == min([(k, k + 1, k + 2) for k in range(6)], key=lambda s: energy(H, s))
    assert choice.forwards == pytest.approx(prefixes([(k, k + 1, k + 2) for k in range(6)], 8) / 8)


def test_perplexity_takes_the_blocks_that_cost_least_alone(small):
    loaded, texts = small
    alone = [sequence_losses(loaded, texts.ids, [i]).mean() for i in range(6)]
    found = other_methods.perplexity(open_forwards(loaded, texts, keep=False), 5)
    for m in range(1, 6):
        assert set(found[m].removed) == set(np.argsort(alone)[:m])


def test_block_influence_and_angles_are_those_of_the_hidden_states(small):
    loaded, texts = small
    with torch.no_grad():
        hidden = []
        handles = [
            m.register_forward_hook(lambda _m, a, out: hidden.append((a[0], out))) for m in loaded.modules
        ]
        loaded.model(input_ids=torch.from_numpy(texts.ids), use_cache=False)
        for handle in handles:
            handle.remove()
    states = [hidden[0][0], *(out for _, out in hidden)]
    influence = [
        1 - float(torch.cosine_similarity(a, b, dim=-1).mean()) for a, b in itertools.pairwise(states)
    ]
    found = other_methods.block_influence(loaded, texts, 4, batch=7)
    assert set(found[3].removed) == set(np.argsort(influence)[:3]) and found[3].forwards == 1
    angle = lambda a, b: float(torch.arccos(torch.cosine_similarity(a[:, -1], b[:, -1], dim=-1)).mean())  # noqa: E731
    windows = other_methods.angular_window(loaded, texts, 4, batch=7)
    for m in range(1, 5):
        first = int(np.argmin([angle(states[k], states[k + m]) for k in range(6 - m + 1)]))
        assert windows[m].removed == tuple(range(first, first + m))


def test_magnitude_and_taylor_by_hand(small):
    loaded, texts = small
    weights = [[p for p in module.parameters() if p.ndim == 2] for module in loaded.modules]
    assert set(other_methods.magnitude(loaded, 3)[2].removed) == set(
        np.argsort([sum(p.abs().sum().item() for p in own) for own in weights])[:2]
    )
    found = other_methods.taylor(loaded, texts, 3, batch=7)
    assert not any(p.requires_grad for p in loaded.model.parameters()) and all(
        p.grad is None for p in loaded.model.parameters()
    )
    for own in weights:
        for p in own:
            p.requires_grad_(True)
    ids = torch.from_numpy(texts.ids)
    loaded.model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    scores = [sum((p * p.grad).abs().sum().item() for p in own) for own in weights]
    for p in loaded.model.parameters():
        p.requires_grad_(False)
        p.grad = None
    assert set(found[3].removed) == set(np.argsort(scores)[:3]) and found[3].forwards == 3


def by_branch(blocks: int, sequences: int = 2 * CHUNK, seed: int = 0) -> tuple[Forwards, np.ndarray]:
    """As `ising`, of a made-up model of so many blocks of attention and FFN that is seen by branch."""
    units, n = units_of([("attention", "FFN")] * blocks, "branch"), 2 * blocks
    B = np.random.default_rng(seed).normal(size=(n, n))
    H = B @ B.T / n

    def run(part, path, start, hidden):
        x = np.zeros(n)
        x[list(closed_units(path, units))] = 1
        return np.full(part.stop - part.start, x @ H @ x), list(path[start:])

    return Forwards(units, sequences, run), H


@pytest.mark.parametrize("removed", [4, 5])
def test_levels_stay_in_an_evolution_by_kind_and_it_finds_the_best_of_them(removed):
    forwards, H = by_branch(5)
    curve = other_methods.evolutionary_by_kind(forwards, removed, 1e9)
    level = (removed + 1) // 2  # of attention, where it does not come out even
    states = [s for s in forwards.losses if s]
    assert states and all(sum(u % 2 == 0 for u in s) == level and len(s) == removed for s in states)
    every = [s for s in itertools.combinations(range(10), removed) if sum(u % 2 == 0 for u in s) == level]
    # three swaps lead to all but a few of them
    best = min((s for s in every if len(set(s) - set(curve[-1].removed)) <= 3), key=lambda s: energy(H, s))
    assert curve[-1].removed == best


def test_levels_are_shares_of_each_kind_and_of_one_kind_a_search_is_as_ever():
    hybrid = units_of([("Mamba",), ("attention", "MoE"), ("Mamba",), ("attention", "MoE")], "branch")
    levels = other_methods.levels_of(hybrid, 4)
    assert [(level.units, level.count) for level in levels] == [((0, 3), 2), ((1, 4), 1), ((2, 5), 1)]
    assert sum(level.count for level in other_methods.levels_of(hybrid, 5)) == 5
    both = [
        [(c.removed, c.forwards) for c in search(ising(8)[0], 3, 12.0, seed=1)]
        for search in (other_methods.evolutionary, other_methods.evolutionary_by_kind)
    ]
    assert both[0] == both[1]


def test_a_state_that_cannot_change_is_its_own_mutant():
    levels = [other_methods.Level((0,), 1), other_methods.Level((1,), 0)]
    assert other_methods.mutant((0,), levels, np.random.default_rng(0)) == (0,)
    forwards, _ = by_branch(1)
    assert [c.removed for c in other_methods.evolutionary_by_kind(forwards, 1, 1e9)] == [(0,)]


def test_finercut_removes_what_changes_the_distribution_of_the_next_token_least(small):
    loaded, texts = small
    loaded = loaded.seen("branch")
    ids = torch.from_numpy(texts.ids)

    def said(state) -> torch.Tensor:
        with torch.no_grad(), gated(loaded, removal(loaded, state)):
            return loaded.model(input_ids=ids, use_cache=False).logits[:, :-1].double().softmax(dim=-1)

    original = said(())

    def apart(state) -> float:
        p = said(state)
        middle = (p + original) / 2
        halves = [(q * (q / middle).log()).sum(dim=-1).mean() for q in (p, original)]
        return float(sum(halves)) / 2

    meter = open_forwards(loaded, texts, ruler=JS)
    found = other_methods.finercut(meter, 3)
    removed: tuple = ()
    for m in range(1, 4):
        tried = [tuple(sorted((*removed, u))) for u in range(12) if u not in removed]
        removed = min(tried, key=apart)
        assert found[m].removed == removed
        assert meter.whole(removed).mean() == pytest.approx(apart(removed), abs=1e-6)
    assert 0 < meter.whole(removed).mean() < np.log(2)
    assert meter.whole(()) == pytest.approx(0, abs=1e-6)
    assert found[3].forwards == meter.forwards > found[1].forwards > 1
    # what was measured is in the store, and costs the same again
    again = other_methods.finercut(open_forwards(loaded, texts, ruler=JS), 3)
    assert again == found


def test_who_chooses_among_branches_only_is_asked_by_branch_only(small):
    loaded, texts = small
    for by, has in (("block", False), ("branch", True)):
        seen = loaded.seen(by)
        meter = lambda seen=seen: open_forwards(seen, texts, keep=False)  # noqa: E731
        chosen = dict(other_methods.chosen_at_once(other_methods.Look(seen, texts, meter, [2])))
        searches = dict(other_methods.searched(meter, 2, 3.0))
        assert ("FinerCut" in chosen, "evolutionary by kind" in searches) == (has, has)
        assert ("taylor" in chosen) != has and {"greedy", "evolutionary"} <= set(searches)
