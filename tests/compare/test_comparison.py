"""Measured states side by side."""

import json
import math
from dataclasses import astuple, replace

import numpy as np

from core.compare.comparison import (
    compare,
    finding,
    mean_of,
    measured_increases,
    measured_rows,
    model_key,
    points,
    record,
    wilson,
)
from core.store.folders import DEMO_RUN
from core.store.results import Key, Results
from core.store.runs import load_run
from core.store.token_kl import packed, put_token_kl
from core.tasks.items import TaskItem, chance_levels

RUN = load_run(DEMO_RUN)
MODEL = model_key(RUN)


def put(state, metric, values, data="texts", settings="{}"):
    Results().put(Key(MODEL, state, data, "report", metric, settings), dict(enumerate(values)))


def test_an_empty_store_says_what_is_known_without_measuring():
    original, pruned = compare(RUN, [(1, 2)], Results())
    assert (
        original.loss is pruned.loss is pruned.increase is original.tokens_per_second is None
        and not original.tasks
    )
    blocks = RUN.meta["model"]["blocks"]
    assert original.parameters - pruned.parameters == blocks[1]["parameters"] + blocks[2]["parameters"]
    assert measured_increases(RUN, Results()) == {}


def test_rows_hold_the_paired_increase_and_the_tasks():
    base, mine = np.random.default_rng(0).random((2, 20))
    put((), "loss", base)
    put((3, 4), "loss", mine)
    put((3, 4), "loss", [99.0], data="other texts")
    put((3, 4), "task:order", [1, 1, 0, 1])
    put((3, 4), "tokens_per_second", [1234.0])
    original, row = compare(RUN, [(3, 4)], Results())
    d = mine - base
    assert np.allclose(row.increase[:2], (d.mean(), d.std(ddof=1) / math.sqrt(20))) and row.increase[2] == 20
    assert original.increase is None and row.loss.mean == mine.mean() and row.tokens_per_second == 1234.0
    assert row.tasks["order"].accuracy == 0.75 and row.tasks["order"].n == 4
    assert row.tied == (abs(row.increase[0]) <= 2 * row.increase[1])
    assert measured_increases(RUN, Results()) == {(3, 4): row.increase}


def test_states_are_compared_on_the_texts_that_most_of_them_were_measured_on():
    base = np.random.default_rng(3).normal(3, 0.3, 32)
    put((), "loss", base)
    put((), "loss", base[:16] + 5, data="hard texts")
    put((0, 1), "loss", base + 5)  # more sequences, and alone there
    for k in range(2, 10):
        noise = 0.01 * np.random.default_rng(k).normal(size=16)
        put((0, k), "loss", base[:16] + 5 + 0.1 * k + noise, data="hard texts")
    rows = measured_rows(RUN, Results(), 2)
    assert rows[0].loss.key.data == "hard texts"
    energy = {row.removed: float(sum(row.removed)) for row in rows if row.removed}
    found = points(rows, energy)
    assert (0, 1) not in found.states and len(found.rows) == 8 and found.agreement.spearman > 0.9
    assert "nan" not in finding(found, {})
    # one that was measured on both stands beside the others
    put((0, 1), "loss", base[:16] + 5.05, data="hard texts")
    found = points(measured_rows(RUN, Results(), 2), energy)
    assert found.states[found.best] == (0, 1) and len(found.rows) == 9


def test_own_samples_are_the_same_texts_however_many_are_drawn():
    """They have another digest for every number of them."""
    base = np.random.default_rng(4).normal(3, 0.3, 32)
    for data, count in (("of 32", 32), ("of 8", 8)):
        put((), "loss", base[:count] * (1 + 1e-7 * (count == 8)), data=data)  # of another batch
    put((), "loss", base[::-1], data="others")
    for k in range(1, 4):
        put((0, k), "loss", base[:8] + 0.1 * k, data="of 8")
    put((0, 4), "loss", base + 0.05, data="of 32")
    put((0, 5), "loss", base[::-1] + 0.5, data="others")
    rows = measured_rows(RUN, Results(), 2)
    found = points(rows, {row.removed: float(sum(row.removed)) for row in rows if row.removed})
    assert found.states == [(0, 1), (0, 2), (0, 3), (0, 4)] and found.states[found.best] == (0, 4)
    assert found.rows[0].above(found.rows[3])[2] == 8 and rows[-1].above(rows[1])[2] == 0


def test_speeds_are_of_one_setting():
    short, long = '{"length": 128}', '{"length": 2048}'
    put((), "tokens_per_second", [900.0], "speed", short)
    put((), "tokens_per_second", [300.0], "speed", long)
    put((1,), "tokens_per_second", [330.0], "speed", long)
    put((2,), "tokens_per_second", [990.0], "speed", short)
    put((3,), "tokens_per_second", [340.0], "speed", long)
    speeds = [row.tokens_per_second for row in compare(RUN, [(1,), (2,), (3,)], Results())]
    assert speeds == [300.0, 330.0, None, 340.0]


def test_rows_hold_the_distance_measured_beside_the_loss():
    rng = np.random.default_rng(1)
    kl, same = rng.random(20), rng.random(20)
    for state in ((), (3, 4)):
        put(state, "loss", rng.random(20))
    put((3, 4), "kl", kl)
    put((3, 4), "same", same)
    put((3, 4), "kl", [9.0], data="other texts")
    put((3, 4), "same", [0.5], data="other texts")
    original, row = compare(RUN, [(3, 4)], Results())
    assert original.distance is None and row.distance.median is row.distance.p99 is None
    se = kl.std(ddof=1) / math.sqrt(20)
    assert astuple(row.distance.kl) == (kl.mean(), se, kl.mean() - 1.96 * se, kl.mean() + 1.96 * se)
    assert row.distance.same.mean == same.mean()
    key, tokens = Key(MODEL, (3, 4), "texts", "report", "loss"), np.array([0.01] * 98 + [3.0] * 2)
    put_token_kl(Results(), key, {0: packed(tokens[:50]), 1: packed(tokens[50:])})
    put_token_kl(Results(), replace(key, data="other texts"), {0: packed(np.array([5.0]))})
    row = compare(RUN, [(3, 4)], Results())[1]
    assert abs(row.distance.median / 0.01 - 1) < 0.042 and abs(row.distance.p99 / 3 - 1) < 0.042
    told = {
        m["metric"]: m
        for m in record(RUN, [(3, 4)], Results())["measurements"]
        if m["n"] == 20 and m["removed"]
    }
    assert told["kl"]["median"] == row.distance.median and "median" not in told["same"]
    assert told["kl"]["values"] == kl.tolist()


def test_intervals_stay_where_values_can_be():
    assert astuple(mean_of(np.array([0.0, 0.0, 0.3])))[2] == 0.0
    assert astuple(mean_of(np.array([1.0, 1.0, 0.7]), 1.0))[3] == 1.0
    assert astuple(mean_of(np.array([0.2]))) == (0.2, None, None, None)


def test_a_state_without_the_original_has_no_increase():
    put((5,), "loss", [1.0, 2.0])
    assert compare(RUN, [(5,)], Results())[1].increase is None and measured_increases(RUN, Results()) == {}


def test_wilson_against_known_values():
    low, high = wilson(8, 10)
    assert abs(low - 0.4902) < 2e-4 and abs(high - 0.9433) < 2e-4
    assert wilson(10, 10)[1] == 1.0 and wilson(0, 10)[0] == 0.0


def test_chance_levels():
    items = [
        TaskItem("a", "", ("x", "y"), 0),
        TaskItem("a", "", ("x", "y", "z", "w"), 0),
        TaskItem("b", "", ("x", "y"), 0),
    ]
    assert chance_levels(items) == {"a": 0.375, "b": 0.5}


def found_points(n=12, seed=0):
    """States of two blocks whose loss grows with their energy, up to noise."""
    rng = np.random.default_rng(seed)
    base = rng.random(64)
    put((), "loss", base)
    states = [(0, k) for k in range(1, n + 1)]
    for k, s in enumerate(states):
        put(s, "loss", base + 0.05 * (k + 1) + 0.001 * rng.normal(size=64))
    return measured_rows(RUN, Results(), 2), {s: float(k) for k, s in enumerate(states)}


def test_energies_that_order_the_losses_are_called_so():
    rows, energy = found_points()
    put((5, 6, 7), "loss", [1.0])  # of another M
    found = points(rows, energy)
    assert len(rows) == 13 and found.states == list(energy) and found.agreement.spearman == 1
    assert found.best == found.lowest == 0 and found.tied() == [0]
    assert finding(found, {}).startswith(
        "Energy orders the losses well: Spearman 1.00"
    ) and "The lowest in energy is the best" in finding(found, {})


def test_an_excited_state_that_is_better_is_named_with_its_paired_difference():
    rows, energy = found_points()
    energy[(0, 1)], energy[(0, 12)] = 100.0, -1.0
    found = points(rows, energy)
    assert found.states[found.best] == (0, 1) and found.states[found.lowest] == (0, 12)
    said = finding(found, {(0, 1): "#27"})
    assert "The lowest in energy is not the best: #27 loses 0.5" in said


def test_states_that_cannot_be_told_from_the_best_are_tied():
    rng = np.random.default_rng(3)
    base = rng.random(64)
    put((), "loss", base)
    for k, shift in enumerate((0.1, 0.1, 0.5)):
        put((k, 9), "loss", base + shift + 0.05 * rng.normal(size=64))
    found = points(measured_rows(RUN, Results(), 2), {(0, 9): 2.0, (1, 9): 1.0, (2, 9): 0.0})
    assert found.tied() == [0, 1] and "too few to say" in finding(found, {})


def test_losses_that_a_choice_was_made_by_are_not_reported():
    put((), "loss", [1.0, 2.0])
    Results().put(Key(MODEL, (1, 2), "texts", "choose", "loss"), {0: 1.0, 1: 2.0})
    assert measured_rows(RUN, Results(), 2)[1:] == [] and measured_increases(RUN, Results()) == {}
    assert finding(points(measured_rows(RUN, Results(), 2), {}), {}).startswith("Measure some states")


def test_a_state_that_the_model_does_not_have_is_passed_over():
    put((), "loss", [1.0, 1.1])
    put((99,), "loss", [1.0, 1.1])
    put((5,), "loss", [1.5, 1.5])
    assert list(measured_increases(RUN, Results())) == [(5,)]
    assert [row.removed for row in measured_rows(RUN, Results(), 1)] == [(), (5,)]


def test_the_record_holds_every_item_and_what_names_it():
    put((), "loss", [1.0, 1.5])
    put((5,), "loss", [2.0, 2.5], settings='{"length": 64}')
    put((6,), "loss", [3.0])
    Results().put(Key(MODEL, (5,), "texts", "choose", "loss"), {0: 9.0})
    kept = json.loads(json.dumps(record(RUN, [(5,)], Results())))
    assert kept["run"] == RUN.key and kept["model"]["weights"] == RUN.meta["model"]["weights"]
    original, pruned = kept["measurements"]
    assert original["removed"] == [] and pruned["removed"] == [5] and pruned["settings"] == {"length": 64}
    assert (pruned["items"], pruned["values"], pruned["mean"], pruned["n"]) == ([0, 1], [2.0, 2.5], 2.25, 2)
