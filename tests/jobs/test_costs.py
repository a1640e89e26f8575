"""The estimate before a calibration."""

import json
from dataclasses import replace

from core.jobs.costs import (
    calibration_cost,
    chat_seconds,
    counted,
    forward_seconds,
    in_words,
    lacking,
    measure_seconds,
    prune_seconds,
    race_seconds,
    search_seconds,
)
from core.store.results import Key, Results

TEXTS = {"name": "texts", "weight": 2, "have": {"calibrate": 100, "choose": 20}}
OWN = {"name": "own", "weight": 1, "have": None}
KNOWN = {
    "batch": 16,
    "blocks": [{}] * 5,
    "rows_seconds": 2.0,
    "forward_seconds": 0.5,
    "own_seconds": 0.5,
    "parts": [TEXTS],
    "load_seconds": 3.0,
    "memory": 10**9,
}


def test_time_counts_batches_and_memory_does_not_grow():
    assert calibration_cost(KNOWN, 16, 0) == (5.0, 10**9)
    assert calibration_cost(KNOWN, 17, 0) == (7.0, 10**9)
    assert calibration_cost(KNOWN, 32, 20) == (3 + 4 + 6 * 2 * 0.5, 10**9)


def test_own_samples_cost_what_drawing_them_costs():
    assert calibration_cost({**KNOWN, "parts": [OWN]}, 16, 4) == (3 + 20 * 0.5 + 2 + 6 * 0.5, 10**9)
    assert calibration_cost({**KNOWN, "parts": [TEXTS, OWN]}, 15, 3)[0] == 3 + (5 + 1) * 0.5 + 2 + 6 * 0.5


def test_what_the_weights_ask_for_may_not_be_there():
    known = {**KNOWN, "parts": [TEXTS, OWN]}
    assert lacking(known, "calibrate", 150) == [] == lacking(known, "choose", 0)
    assert lacking(known, "calibrate", 153) == [("texts", 102, 100)] and lacking(known, "choose", 33) == [
        ("texts", 22, 20)
    ]


def test_a_chat_is_told_from_the_last_one_once_there_was_one():
    answer = {"tokens": 10, "seconds": 1.0}
    earlier = {"load_seconds": 3.0, "original": answer, "pruned": {"tokens": 0, "seconds": 0.05}}
    assert chat_seconds(10**9, 20, earlier) == 8 + 3 + 20 * (0.1 + 0.05)
    first = [chat_seconds(weights, tokens, None) for weights, tokens in ((10**6, 8), (10**9, 8), (10**9, 80))]
    assert first == sorted(first) and 8 < first[0] < 9


def test_an_export_takes_three_starts_and_its_writing():
    assert prune_seconds(0) == 24 and prune_seconds(4 * 10**8) == 34


def test_measuring_and_searching_are_told_by_what_was_measured_before():
    results, settings = Results(), json.dumps({"length": 100})
    key = Key("m", (), "texts", "report", "loss", settings)
    assert results.seconds_per_token("m") is None
    results.put(key, {0: 1.0, 1: 2.0}, 4.0)
    results.put(
        replace(key, removed=(3,)), {0: 1.0}, 900.0
    )  # a state shares prefixes: not the original's time
    assert results.seconds_per_token("m") == 4.0 / 200
    forward = forward_seconds(10**9, 1000, results.seconds_per_token("m"))
    assert forward == 20.0 and forward_seconds(6 * 10**8, 1000, None) == 10.0
    assert measure_seconds(forward, 4) > measure_seconds(forward, 0) > forward
    assert search_seconds(forward, 50) > 50 * forward
    assert race_seconds(forward, 20) > measure_seconds(forward, 20)  # and judges what is left
    assert [in_words(s) for s in (5.4, 600, 7200)] == ["5 s", "10 min", "2.0 h"]


def test_how_far_work_is_in_steps_and_in_bytes():
    assert counted(3, 8) == "3 of 8" and counted(0, 1) == ""
    assert counted(1_200_000_000, 3_000_000_000) == "1.2 GB of 3 GB"
