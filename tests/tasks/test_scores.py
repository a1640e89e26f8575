"""Scores carry their metric's name, their interval, and which way is better; rows of before are read."""

import math

import numpy as np
import pytest

from core.errors import InputError
from core.measure.harness_scores import interval, is_mean
from core.tasks.presets import PRESETS, Preset, asked
from core.tasks.scores import best_first, called, title, todays, told
from core.tasks.task_files import listed_tasks, over_folder, parse_task

# as lm-evaluation-harness 0.4.13 rows were kept before their metric had a name of its own
BEFORE = {
    "accuracy": 25.0,
    "metric": "perplexity,none",
    "se": 0.1,
    "chance": None,
    "n": 40,
    "shots": 0,
    "version": "1.0",
    "metrics": {"perplexity,none": 25.0, "acc,none": 0.4},
}


def row(metric: str, value: float, **more) -> dict:
    kept = {"low": None, "high": None, "higher_is_better": metric != "perplexity,none", "chance": None}
    return {"metric": metric, "value": value, "n": 10, **kept, **more}


def test_a_row_of_before_is_told_by_its_metrics_own_name():
    now = todays(BEFORE)
    assert "accuracy" not in now and now["value"] == 25.0 and now["higher_is_better"] is False
    assert (now["low"], now["high"]) == pytest.approx((25 * math.exp(-0.196), 25 * math.exp(0.196)))
    assert now["se"] == pytest.approx(2.5) and now["metrics"] == BEFORE["metrics"]
    assert title("lambada", now) == "lambada perplexity, lower is better (n = 40)"
    acc = todays({**BEFORE, "accuracy": 0.5, "metric": "acc,none", "chance": 0.25})
    assert (acc["low"], acc["high"]) == pytest.approx((0.304, 0.696)) and acc["higher_is_better"]
    assert title("arc", acc) == "arc acc (n = 40, chance 0.25)" and told(acc) == "0.500 [0.304 0.696]"
    assert todays(now) is now  # what is written today stays
    assert told(todays({**BEFORE, "se": None})) == "25"


def test_metrics_as_people_read_them():
    assert called("acc_norm,none") == "acc_norm"
    assert called("exact_match,strict-match") == "exact_match (strict-match)"


def test_the_best_is_first_whichever_way_is_better():
    values = {(): (0.5, 20.0), (1,): (0.3, 40.0), (2,): (0.4, 30.0), (3,): (0.2, 25.0)}
    states = [
        {"removed": list(s), "tasks": {"a": row("acc,none", a), "p": row("perplexity,none", p)}}
        for s, (a, p) in values.items()
    ]
    order = {task: [tuple(s["removed"]) for s in best_first(states, task)] for task in "ap"}
    assert order == {"a": [(), (2,), (1,), (3,)], "p": [(), (3,), (2,), (1,)]}


def test_intervals_are_those_of_the_items():
    right = [1.0] * 30 + [0.0] * 70
    of_shares = interval(0.3, right)
    assert (of_shares["low"], of_shares["high"]) == pytest.approx((0.2189, 0.3958), abs=1e-4)  # Wilson's
    rng = np.random.default_rng(0)
    logs = (-3 + rng.normal(size=400)).tolist()
    perplexity = math.exp(-np.mean(logs))
    found = interval(perplexity, logs)
    half = 1.96 * np.std(logs, ddof=1) / 20
    assert (found["low"], found["high"]) == pytest.approx(
        (perplexity * math.exp(-half), perplexity * math.exp(half))
    )
    assert found["se"] == pytest.approx(perplexity * half / 1.96)
    assert interval(float(np.mean(logs)), logs)["high"] == pytest.approx(np.mean(logs) + half)
    for value, items in ((0.7, right), (0.5, [1.0]), (0.5, [(1, 2), (2, 3)]), (0.5, [])):
        assert interval(value, items) == {"se": None, "low": None, "high": None}
    assert is_mean(0.3, right) and not is_mean(perplexity, logs)


def test_the_draw_is_fixed_and_fewer_are_a_part_of_more():
    preset = PRESETS["quick-real"]
    whole = preset.drawn(2376)
    assert len(whole) == 200 == len(set(whole)) and whole == sorted(whole) and 0 <= whole[0] < 2376
    assert whole[:4] == [4, 49, 53, 72], "the items of the protocol are its name"
    assert set(preset.drawn(2376, 50)) < set(whole) and len(preset.drawn(2376, 50)) == 50
    assert preset.drawn(2376, 999) == whole and preset.drawn(120) == list(range(120))
    assert PRESETS["mmlu"].drawn(100) is None


def test_protocols_of_before_are_the_same_requests():
    assert set(PRESETS["mmlu"].to_json()) == {
        *("name", "tasks", "dataset", "revision", "metric", "shots", "length", "bos", "template", "harness")
    }
    for preset in PRESETS.values():
        assert Preset.from_json(preset.to_json()) == preset


def test_a_folder_gives_every_task_the_file_of_its_name(tmp_path):
    for name in ("arc_easy.jsonl", "piqa.parquet", "winogrande.csv", "openbookqa.json"):
        (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=r"lacks arc_challenge.jsonl; put") as error:
        asked((), "quick-real", None, str(tmp_path))
    assert "\n" not in str(error.value)
    (tmp_path / "arc_challenge.jsonl").write_text("x")
    protocol, reads = asked((), "quick-real", None, str(tmp_path))
    assert protocol.tasks[2] == f"piqa::data={tmp_path / 'piqa.parquet'}" and len(reads) == 5
    assert protocol.quoted("arc_easy") == "acc,none" and protocol.quoted("arc_challenge") == "acc_norm,none"
    named = over_folder(
        [parse_task(f"gsm8k::data={tmp_path / 'piqa.parquet'}"), parse_task("piqa")], tmp_path
    )
    assert [task.data.name for task in named] == ["piqa.parquet"] * 2  # what names its data keeps it
    several = "piqa, gsm8k::data=a.json,field=rows ,mmlu,"
    assert listed_tasks(several) == ["piqa", "gsm8k::data=a.json,field=rows", "mmlu"]
    comma = tmp_path / "rows, all"
    comma.mkdir()
    (comma / "piqa.jsonl").write_text("{}")
    (task,) = over_folder([parse_task("piqa")], comma)
    assert parse_task(task.text()) == task  # as a job reads it
    assert parse_task(f"{task.text()},field=rows").field == "rows"
    with pytest.raises(InputError, match=r"is no folder with piqa.jsonl, mmlu.jsonl"):
        asked(("piqa", "mmlu"), None, None, str(tmp_path / "gone"))
