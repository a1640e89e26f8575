"""The real tasks over local rows: the numbers are those of the harness called by itself on the same rows."""

import json
import math
from dataclasses import replace

import datasets
import lm_eval.evaluator
import numpy as np
import pytest
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM

from core.__main__ import main
from core.errors import InputError
from core.measure import harness, harness_tasks
from core.measure.harness import measure
from core.model.load import load_model
from core.store.results import Results
from core.tasks.presets import PRESETS, asked

SPLITS = {
    "arc_easy": "test",
    "arc_challenge": "test",
    "piqa": "validation",
    "winogrande": "validation",
    "openbookqa": "test",
    "lambada_openai": "test",
}


def row_of(task: str, k: int) -> dict:
    """An invented row in the shape of the task's own."""
    things = ["a stone", "warm water", "the moon", f"{k} green apples"]
    choices = {"text": things, "label": ["A", "B", "C", "D"]}
    if task.startswith("arc"):
        return {"question": f"What is {task} thing {k}?", "choices": choices, "answerKey": "ABCD"[k % 4]}
    if task == "openbookqa":
        return {"question_stem": f"Thing {k} is", "choices": choices, "answerKey": "ABCD"[(k + 1) % 4]}
    if task == "piqa":
        return {
            "goal": f"How to lift thing {k}?",
            "sol1": "with both hands",
            "sol2": "by a look",
            "label": k % 2,
        }
    if task == "winogrande":
        names = {"option1": "box", "option2": "bag", "answer": str(1 + k % 2)}
        return {"sentence": f"The box did not fit in the bag number {k} since the _ was small.", **names}
    return {"text": f"He counted {k} boats, and every one of the boats"}


@pytest.fixture
def folder(tmp_path):
    """A file of six rows for each task."""
    place = tmp_path / "rows"
    place.mkdir()
    for task in SPLITS:
        rows = "".join(json.dumps(row_of(task, k)) + "\n" for k in range(6))
        (place / f"{task}.jsonl").write_text(rows, encoding="utf-8")
    return place


def by_itself(loaded, folder, monkeypatch) -> dict:
    """What the harness says of its own tasks when the hub gives it these rows."""

    def hub(path, name=None, **options):
        (task,) = [
            t for t in SPLITS
            if (path, name) in HUB[t]
        ]  # fmt: skip
        rows = datasets.Dataset.from_list([row_of(task, k) for k in range(6)])
        return datasets.DatasetDict({split: rows for split in ("train", "validation", SPLITS[task])})

    monkeypatch.setattr(datasets, "load_dataset", hub)
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)  # takes seconds
    lm = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=16)
    manager = harness_tasks._manager(list(SPLITS))
    return simple_evaluate(lm, tasks=list(SPLITS), bootstrap_iters=0, task_manager=manager)


HUB = {
    "arc_easy": [("allenai/ai2_arc", "ARC-Easy")],
    "arc_challenge": [("allenai/ai2_arc", "ARC-Challenge")],
    "piqa": [("baber/piqa", None)],
    "winogrande": [("allenai/winogrande", "winogrande_xl")],
    "openbookqa": [("allenai/openbookqa", "main")],
    "lambada_openai": [("EleutherAI/lambada_openai", "default")],
}


def test_six_tasks_over_local_rows_give_the_harness_its_own_numbers(tiny, folder, monkeypatch):
    loaded = load_model(str(tiny["llama"]))
    protocol, reads = asked(tuple(SPLITS), None, None, str(folder))
    assert len(reads) == 6
    (state,) = measure(loaded, [()], protocol)["states"]
    direct = by_itself(loaded, folder, monkeypatch)
    for task, row in state["tasks"].items():
        scores = direct["results"][task]
        own = {name: v for name, v in scores.items() if "," in name and "_stderr" not in name}
        assert row["metrics"] == pytest.approx(own, rel=1e-4) and row["n"] == 6, task
        assert row["value"] == row["metrics"][row["metric"]]
        assert row["higher_is_better"] is (row["metric"] != "perplexity,none")
        assert row["low"] <= row["value"] <= row["high"]
    assert state["tasks"]["lambada_openai"]["metric"] == "perplexity,none"
    assert state["tasks"]["piqa"]["metrics"].keys() == {"acc,none", "acc_norm,none"}


def stored(loaded) -> dict:
    model = harness.canonical_key(loaded.digest())
    return {m.key.metric: m for m in Results().of_model(model) if not m.key.removed}


def test_a_perplexity_is_kept_under_its_own_name_and_its_items_under_theirs(tiny, folder):
    loaded = load_model(str(tiny["llama"]))
    protocol, _ = asked(("lambada_openai",), None, None, str(folder))
    (state,) = measure(loaded, [()], protocol)["states"]
    row, kept = state["tasks"]["lambada_openai"], stored(loaded)
    number, items = (kept[f"harness:lambada_openai:perplexity,none{end}"] for end in ("", ":item"))
    assert number.values.tolist() == [row["value"]] and number.key.split == "test, all of 6"
    assert math.exp(-items.mean) == pytest.approx(row["value"]) and len(items.values) == 6
    assert kept["harness:lambada_openai:acc,none"].key.split == "test"


def test_the_quick_protocol_asks_a_fixed_draw_by_the_usual_metrics(tiny, folder):
    loaded = load_model(str(tiny["llama"]))
    protocol, _ = asked((), "quick-real", None, str(folder))
    few = replace(protocol, items=4)
    told: list[tuple[int, int]] = []
    done = measure(loaded, [(), (2,)], few, report=lambda done, total, message: told.append((done, total)))
    assert told[-1] == (40, 40) and done["preset"]["items"] == 4 and "limit" in done
    metrics = {task: row["metric"] for task, row in done["states"][1]["tasks"].items()}
    assert metrics == {
        "arc_easy": "acc,none",
        "arc_challenge": "acc_norm,none",
        "piqa": "acc_norm,none",
        "winogrande": "acc,none",
        "openbookqa": "acc_norm,none",
    }
    whole = measure(loaded, [()], protocol)["states"][0]["tasks"]
    assert all(row["n"] == 6 and row["shots"] == 0 for row in whole.values())
    # each number of an item is that of the same row among all
    four = np.array(few.drawn(6))
    assert stored(loaded)["harness:piqa:acc_norm,none"].items.tolist() == list(range(6))
    values = stored(loaded)["harness:piqa:acc_norm,none"].values
    assert done["states"][0]["tasks"]["piqa"]["value"] == values[four].mean()
    assert measure(loaded, [()], protocol, limit=4)["states"][0]["tasks"] == done["states"][0]["tasks"]


def test_without_a_hub_and_a_folder_the_files_are_asked_for():
    with pytest.raises(InputError, match=r"--data") as error:
        harness_tasks.load_tasks(["piqa"], PRESETS["quick-real"])
    assert "\n" not in str(error.value)


def test_an_answer_longer_than_the_model_is_one_sentence(tiny, tmp_path):
    rows = [{**row_of("piqa", 0), "sol1": "with both hands " * 20}]
    (tmp_path / "piqa.jsonl").write_text(json.dumps(rows[0]) + "\n")
    loaded, (protocol, _) = load_model(str(tiny["llama"])), asked(("piqa",), None, None, str(tmp_path))
    with pytest.raises(InputError, match="takes 321 tokens and the model has room for 96"):
        measure(loaded, [()], protocol)


def test_evaluate_tells_metrics_and_intervals(tiny, text_file, folder, capsys):
    argv = ["evaluate", "--model", tiny["llama"], "--texts", text_file, "--sequences", 2, "--length", 16]
    asks = ["--data", folder, "--tasks", "lambada_openai", "--tasks", "piqa"]
    assert main([*map(str, [*argv, *asks])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("lambada_openai perplexity, lower is better (n = 6): ") for line in lines)
    assert any(line.startswith("piqa acc (n = 6, chance 0.50): ") and line.endswith("]") for line in lines)
    assert main([*map(str, [*argv, *asks, "--json"])]) == 0
    row = json.loads(capsys.readouterr().out)["tasks"]["lambada_openai"]
    assert row["metric"] == "perplexity,none" and "accuracy" not in row and row["low"] < row["value"]
    for options, says in {
        ("--data", folder): "--data needs --tasks",
        ("--tasks", "hellaswag", "--data", folder): "lacks hellaswag.jsonl",
        ("--preset", "quick-real", "--data", folder / "gone"): "is no folder with arc_easy.jsonl",
    }.items():
        assert main([*map(str, [*argv, *options, "--json"])]) == 2
        assert says in json.loads(capsys.readouterr().out)["error"]
