"""Measurements: written once, shared by processes, compared item by item."""

import json
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from core.store.results import Key, Results

KEY = Key("m" * 64, (3, 7), "texts", "report", "loss")


def test_items_are_written_once_and_read_back():
    results = Results()
    assert results.of_model(KEY.model) == [] and results.items(KEY) == set()
    assert results.put(KEY, {0: 1.0, 2: 3.0}, seconds=1.5) == 2
    assert results.put(KEY, {2: 9.0, 5: 5.0}, seconds=0.5) == 1
    assert results.items(KEY) == {0, 2, 5}
    (found,) = results.of_model(KEY.model)
    assert (
        found.key == KEY
        and found.items.tolist() == [0, 2, 5]
        and found.values.tolist() == [1.0, 3.0, 5.0]
        and found.seconds == 2.0
    )
    assert found.mean == 3.0 and math.isclose(found.se, 2 / math.sqrt(3))


def test_every_part_of_the_key_separates():
    results = Results()
    keys = [
        KEY,
        *(
            Key(**{**vars(KEY), part: value})
            for part, value in {
                "removed": (3,),
                "data": "x",
                "split": "choose",
                "metric": "y",
                "settings": "z",
            }.items()
        ),
    ]
    keys.append(Key(**{**vars(KEY), "removed": ()}))
    for i, key in enumerate(keys):
        results.put(key, {0: float(i)})
    assert [m.values.tolist() for m in results.of_model(KEY.model)] == [[float(i)] for i in range(7)]
    assert results.of_model("other") == []
    assert [m.key for m in results.of_model(KEY.model, split="choose")] == [keys[3]]
    speed = Key(**{**vars(KEY), "split": "", "metric": "tokens_per_second"})  # measured on no split
    results.put(speed, {0: 7.0})
    assert [results.of_model(KEY.model, but=but)[-1].key for but in (None, "choose")] == [speed, speed]
    keys.append(speed)
    assert [m.key for m in results.of_model(KEY.model, but="choose")] == [
        k for k in keys if k.split != "choose"
    ]
    assert [m.key for m in results.of_model(KEY.model, like=KEY)] == [KEY, keys[1], keys[6]]


def test_the_stamp_changes_with_every_write():
    results = Results()
    stamps = [results.stamp]
    for item in range(5):
        results.put(KEY, {item: 1.0})
        stamps.append(results.stamp)
        assert (
            results.of_model(KEY.model)[0].items.tolist() == list(range(item + 1))
            and results.stamp == stamps[-1]
        )
    assert len(set(stamps)) == 6


def test_paired_differences_use_common_items():
    results = Results()
    other = Key(**{**vars(KEY), "removed": ()})
    a, b = np.random.default_rng(0).normal(size=(2, 10))
    results.put(KEY, dict(enumerate(a)))
    results.put(other, {i: b[i] for i in range(4, 10)} | {77: 0.0})
    mine, theirs = sorted(results.of_model(KEY.model), key=lambda m: -len(m.key.removed))
    mean, se, n = mine.minus(theirs)
    d = (a - b)[4:]
    assert n == 6 and math.isclose(mean, d.mean()) and math.isclose(se, d.std(ddof=1) / math.sqrt(6))


def _write(worker: int) -> int:
    return sum(Results().put(KEY, {i: float(i)}) for i in range(60))


def test_four_processes_write_every_item_once():
    with ProcessPoolExecutor(4) as pool:
        assert sum(pool.map(_write, range(4))) == 60
    assert Results().items(KEY) == set(range(60))


def test_answers():
    results = Results()
    results.put_answer("m", (1, 2), "Hello", "{}", "world")
    results.put_answer("m", (), "Hello", "{}", "there")
    assert (
        results.answers("m") == {((1, 2), "Hello"): "world", ((), "Hello"): "there"}
        and results.answers("x") == {}
    )
    results.put_answer("m", (), "Hello", '{"begins": "no BOS"}', "friend")
    assert results.answers("m", "{}")[(), "Hello"] == "there"
    assert results.answers("m")[(), "Hello"] == "friend"


SESSIONS, EACH = 3, 112  # with three writes each time: 1008
OWN = Key("m" * 64, (1,), "texts", "report", "loss")


def _session(worker: int) -> int:
    """Every session writes its own items one by one, and items that all of them write; returns how many were
    new.
    """
    results, new = Results(), 0
    for i in range(EACH):
        new += results.put(OWN, {worker * EACH + i: worker + i / EACH})
        new += results.put(KEY, {i: float(i)}, seconds=1.0)
        new += results.put_responses("source", {str(i): json.dumps(i)})
    return new


def test_a_thousand_writes_of_three_processes_lose_and_double_nothing():
    with ProcessPoolExecutor(SESSIONS, mp_context=multiprocessing.get_context("spawn")) as pool:
        new = list(pool.map(_session, range(SESSIONS)))
    assert sum(new) == EACH * (SESSIONS + 1 + 1)
    own, shared = sorted(Results().of_model(KEY.model), key=lambda m: m.key.removed)
    assert dict(zip(own.items.tolist(), own.values.tolist())) == {
        w * EACH + i: w + i / EACH for w in range(SESSIONS) for i in range(EACH)
    }
    assert shared.items.tolist() == list(range(EACH)) and shared.values.tolist() == list(range(EACH))
    assert shared.seconds == SESSIONS * EACH  # an update that was lost would be missing here
    assert (
        Results().responses("source") == {str(i): str(i) for i in range(EACH)}
        and Results().responses("other") == {}
    )
