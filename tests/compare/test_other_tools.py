"""Rows from other tools: read, marked, kept apart from what was measured here."""

import json

import pytest

from core.compare.other_tools import Imported, Listed, keep, kept, read_listed, read_results, read_states
from core.errors import InputError
from core.ising.units import whole
from core.store.results import Key, Results

HARNESS = {
    "results": {
        "mmlu": {
            "name": "mmlu",
            "alias": "mmlu",
            "sample_len": 99,
            "acc,none": 0.61,
            "acc_stderr,none": 0.02,
        },
        "gsm8k": {
            "alias": "gsm8k",
            "exact_match,strict-match": 0.3,
            "exact_match_stderr,strict-match": "N/A",
            "exact_match,flexible-extract": 0.4,
        },
    },
    "versions": {"mmlu": 2, "gsm8k": 3.0},
    "n-shot": {"mmlu": 5, "gsm8k": 8},
    "n-samples": {"gsm8k": {"original": 1319, "effective": 40}},
    "lm_eval_version": "0.4.9",
}


def write(folder, name, content):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_a_harness_results_file(tmp_path):
    tool = "lm-evaluation-harness 0.4.9"
    assert read_results(write(tmp_path, "r.json", HARNESS), removed=(7, 3)) == [
        Imported((3, 7), "mmlu", "acc,none", 0.61, "r.json", tool, 0.02, 99, 5, "2"),
        Imported((3, 7), "gsm8k", "exact_match,strict-match", 0.3, "r.json", tool, None, 40, 8, "3.0"),
        Imported((3, 7), "gsm8k", "exact_match,flexible-extract", 0.4, "r.json", tool, None, 40, 8, "3.0"),
    ]


def test_what_the_installed_harness_writes_can_be_read(tiny, tmp_path):
    from lm_eval.evaluator import evaluate
    from lm_eval.models.dummy import DummyLM
    from lm_eval.tasks.manager import TaskManager

    from core.tasks.presets import PRESETS
    from core.tasks.task_files import read_task_file

    config = read_task_file(tmp_path.__class__(PRESETS["bundled"].tasks[0]))
    config["dataset_kwargs"]["cache_dir"] = str(tmp_path / "cache")
    done = evaluate(
        DummyLM(), TaskManager(include_defaults=False).load([config]), limit=10, bootstrap_iters=10
    )
    (row,) = read_results(
        write(
            tmp_path,
            "own.json",
            {k: v for k, v in done.items() if k in ("results", "versions", "n-shot", "n-samples")},
        )
    )
    assert (row.task, row.metric, row.n, row.shots) == ("bundled", "acc,none", 10, 0)
    assert (
        row.value == done["results"]["bundled"]["acc,none"]
        and row.se == done["results"]["bundled"]["acc_stderr,none"]
    )


def test_lists_of_states(tmp_path):
    expected = [((3, 7, 8), "mmlu", 0.5), ((3, 7, 8), "loss", 2.0), ((), "mmlu", 0.6)]
    lists = {
        "a.csv": 'removed,mmlu,loss,note\n"3,7-8",0.5,2e0,good\n,0.6,,original\n',
        "b.json": [
            {"removed": [8, 3, 7], "mmlu": 0.5, "loss": 2.0, "note": "good"},
            {"removed": [], "mmlu": 0.6},
        ],
        "c.json": {
            "states": [
                {"removed": "3,7-8", "scores": {"mmlu": 0.5, "loss": 2}},
                {"removed": [], "scores": {"mmlu": 0.6}},
            ]
        },
    }
    for name, content in lists.items():
        rows = read_results(write(tmp_path, name, content), units=whole(9))
        assert [(r.removed, r.task, r.value) for r in rows] == expected and {r.source for r in rows} == {name}


def test_lists_of_states_with_labels_and_without_scores(tmp_path):
    expected = [Listed((3, 7, 8), "from a paper", {"mmlu": 0.5}), Listed((0,), "", {})]
    lists = {
        "a.csv": 'removed,label,mmlu\n"3,7-8",from  a paper,0.5\n0,,\n',
        "b.json": [{"removed": [8, 3, 7], "label": "from a paper", "mmlu": 0.5}, {"removed": [0]}],
        "c.json": {
            "states": [
                {"removed": "3,7-8", "label": "from a\npaper", "scores": {"mmlu": 0.5}},
                {"removed": "0", "scores": {}},
            ]
        },
    }
    for name, content in lists.items():
        path = write(tmp_path, name, content)
        assert read_listed(path, units=whole(9)) == expected and read_states(path, whole(9)) == [
            listed.removed for listed in expected
        ]
    for content in ([], [{"label": "x"}], [{"removed": [9]}], HARNESS):
        with pytest.raises(InputError):
            read_listed(write(tmp_path, "wrong.json", content), units=whole(9))


def test_a_label_that_is_a_number_stays_as_it_is_written(tmp_path):
    path = write(tmp_path, "a.csv", "removed,label,mmlu\n3,7,0.5\n4,007,0.5\n")
    assert [listed.label for listed in read_listed(path)] == ["7", "007"]


def test_blocks_beside_a_list_are_refused(tmp_path):
    """They had been passed over in silence."""
    path = write(tmp_path, "a.csv", "removed,mmlu\n3,0.5\n")
    with pytest.raises(InputError, match="which says itself what is removed; leave the blocks 4,5 out"):
        read_results(path, (4, 5))


def test_imported_rows_are_kept_once_and_never_count_as_measured(tmp_path):
    path = write(tmp_path, "r.json", HARNESS)
    rows = read_results(path, (2,))
    Results().put(Key("m", (2,), "texts", "report", "loss"), {0: 1.0})
    assert keep("m", path, rows) == 3 and keep("m", path, rows) == 0
    assert kept("m") == rows and kept("other") == []
    metrics = {m.key.metric for m in Results().of_model("m")}
    assert len(metrics) == 4 and all(m == "loss" or m.startswith("imported:") for m in metrics)


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("gone.json", None, "No results file"),
        ("a.txt", "x", "No results file"),
        ("a.json", "{", "not JSON"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", '{"results": {"mmlu": {"acc,none": NaN}}}', "NaN"),
        ("a.json", {"results": {"mmlu": {"alias": "x"}}}, "METRIC,FILTER"),
        ("a.json", {"other": 1}, "neither"),
        ("a.json", [], "no states"),
        ("a.json", [{"removed": [1], "mmlu": 0.5}, 3], "Entry 2"),
        ("a.json", [{"removed": [9], "mmlu": 0.5}], "Block 9 does not exist"),
        ("a.json", [{"removed": [1, 1], "mmlu": 0.5}], "listed twice"),
        ("a.json", [{"removed": [1.5], "mmlu": 0.5}], "'1.5'"),
        ("a.json", [{"removed": [True], "mmlu": 0.5}], "'True'"),
        ("a.json", [{"removed": [1], "mmlu": "high"}], "no score"),
        ("a.json", f'[{{"removed": [1], "mmlu": 1{"0" * 400}}}]', "no score"),
        ("a.json", [{"removed": [1, 2], "x": 0.5}, {"removed": "1-2", "x": 0.6}], "so does entry 1"),
        ("a.csv", "removed,mmlu,mmlu\n3,0.5,0.6\n", "several columns 'mmlu'"),
        ("a.csv", "states,mmlu\n1,2\n", "'removed'"),
        ("a.csv", "removed,mmlu\n3,7,0.5\n", "quote lists"),
        ("a.csv", 'removed,mmlu\n"3', "not CSV"),
        ("a.csv", "removed,mmlu\n", "no states"),
        ("a.csv", "removed,mmlu\n3,nan\n", "no score"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, name, content, says):
    path = tmp_path / name if content is None else write(tmp_path, name, content)
    with pytest.raises(InputError, match=says) as error:
        read_results(path, units=whole(9))
    assert "\n" not in str(error.value)
