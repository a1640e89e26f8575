"""lm-evaluation-harness in the suite: its numbers are its own, nothing is asked twice, task files are
data.
"""

import json
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import lm_eval.evaluator
import numpy as np
import pytest
import torch
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml

from core import jobs
from core.__main__ import main
from core.errors import InputError
from core.jobs.files import id_of
from core.measure import harness, harness_tasks
from core.measure.evaluation import option_scores, task_results
from core.measure.harness import measure
from core.measure.harness_model import AnsweringModel
from core.model.load import load_model
from core.store.results import Results
from core.tasks.items import BUNDLED, read_tasks
from core.tasks.presets import PAPER, PRESETS, asked, own, preset
from core.tasks.task_files import parse_task, read_task_file
from tests.conftest import REAL_MODEL

DATA = REAL_MODEL.parent
SHIPPED = Path(PRESETS["bundled"].tasks[0])


@pytest.fixture(scope="module")
def demo():
    return load_model("demo")


def task_file(folder: Path, every: int, **changes) -> Path:
    """The shipped task file over each `every`-th bundled item."""
    lines = BUNDLED.read_text(encoding="utf-8").splitlines()[::every]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = (
        SHIPPED.read_text(encoding="utf-8")
        .replace("../demo/tasks.jsonl", "items.jsonl")
        .replace("task: bundled", "task: some")
    )
    text = text.replace("num_fewshot: 0\n", "") + "".join(
        f"{key}: {value}\n" for key, value in changes.items()
    )
    (folder / "some.yaml").write_text(text, encoding="utf-8")
    return folder / "some.yaml"


def items_of(loaded, metric: str, state=()) -> np.ndarray:
    model = harness.canonical_key(loaded.digest())
    (found,) = [
        m for m in Results().of_model(model) if m.key.metric == metric and m.key.removed == tuple(state)
    ]
    assert found.items.tolist() == list(range(len(found.items)))
    return found.values


def test_the_harness_and_our_own_evaluation_agree_on_every_item(demo, tmp_path):
    file = task_file(tmp_path, 12)
    items = read_tasks(tmp_path / "items.jsonl")
    protocol = replace(PRESETS["bundled"], tasks=(str(file),))
    done = measure(demo, [(), (5, 9, 20)], protocol)
    for state, row in zip([(), (5, 9, 20)], done["states"]):
        own_results = task_results(items, option_scores(demo, items, state))
        correct = [c for name in dict.fromkeys(i.task for i in items) for c in own_results[name]["correct"]]
        assert items_of(demo, "harness:some:acc,none", state).tolist() == correct
        assert row["removed"] == list(state) and row["tasks"]["some"]["value"] == pytest.approx(
            np.mean(correct)
        )
        assert row["tasks"]["some"]["n"] == len(items) and row["tasks"]["some"]["chance"] == pytest.approx(
            np.mean([1 / len(i.options) for i in items])
        )
    assert done["preset"]["name"] == "bundled" and done["harness"] == version("lm_eval")


def test_the_numbers_are_those_of_calling_the_harness_directly(demo, tmp_path, monkeypatch):
    # takes seconds, and is no number
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)
    file = task_file(tmp_path, 30, fewshot_split="test")
    done = measure(demo, [()], own((str(file),), shots=2), limit=20, batch=7)
    lm = HFLM(pretrained=demo.model, tokenizer=demo.tokenizer, batch_size=16)
    direct = simple_evaluate(
        lm,
        tasks=[read_task_file(file)],
        num_fewshot=2,
        limit=20,
        bootstrap_iters=0,
        task_manager=harness_tasks.TaskManager(include_defaults=False),
    )
    row, samples = done["states"][0]["tasks"]["some"], direct["samples"]["some"]
    assert row["value"] == direct["results"]["some"]["acc,none"] and row["shots"] == 2 and row["n"] == 20
    assert items_of(demo, "harness:some:acc,none").tolist() == [s["acc"] for s in samples]
    kept = sorted(json.loads(v)[0] for v in stored_answers())
    assert np.allclose(kept, sorted(value for s in samples for ((value, _),) in s["resps"]), atol=1e-4)


def stored_answers() -> list[str]:
    with Results()._connection() as c:
        return [value for (value,) in c.execute("SELECT value FROM response")]


def test_what_was_asked_is_not_asked_again_after_a_stop_or_for_a_larger_limit(demo, tmp_path, monkeypatch):
    asked: list[int] = []
    plain = HFLM.loglikelihood

    def counting(self, requests, **options):
        asked.append(len(requests))
        return plain(self, requests, **options)

    monkeypatch.setattr(HFLM, "loglikelihood", counting)
    protocol = own((str(task_file(tmp_path, 20)),))

    class Stop(Exception):
        pass

    def stop_in_the_second_state(done, total, message):
        assert 0 <= done <= total == 40
        if done > 30:
            raise Stop

    with pytest.raises(Stop):
        measure(demo, [(), (3,)], protocol, limit=20, batch=2, report=stop_in_the_second_state)
    before, kept = sum(asked), len(stored_answers())
    assert 0 < before == kept
    resumed = measure(demo, [(), (3,)], protocol, limit=20, batch=2)
    first = sum(asked)
    assert measure(demo, [(), (3,)], protocol, limit=20) == resumed and sum(asked) == first
    larger = measure(demo, [(), (3,)], protocol, limit=30)
    total = sum(asked)
    assert total == len(stored_answers()) and len(items_of(demo, "harness:some:acc,none", (3,))) == 30
    monkeypatch.setenv("BLOCKSCAPE_HOME", str(tmp_path / "fresh"))
    asked.clear()
    assert measure(demo, [(), (3,)], protocol, limit=30) == larger and sum(asked) == total


def test_answers_belong_to_one_model_and_one_state(tiny, tmp_path):
    protocol = own((str(task_file(tmp_path, 100)),))
    counts = []
    for kind in ("llama", "qwen2"):
        for state in ((), (1,), (2,)):
            measure(load_model(str(tiny[kind])), [state], protocol)
            counts.append(len(stored_answers()))
    half = load_model(str(tiny["llama"]), dtype=torch.bfloat16)  # what a GPU computes in
    measure(half, [()], protocol)
    assert [*counts, len(stored_answers())] == [counts[0] * k for k in range(1, 8)]


@pytest.mark.parametrize(
    "bos, first", [("auto", True), ("always", True), ("never", False), ("tokenizer", False)]
)
def test_the_bos_policy_is_kept(tiny, bos, first):
    loaded = load_model(str(tiny["llama"]))
    loaded.tokenizer.add_bos_token = False  # it adds no BOS by itself
    protocol = replace(own(("x",)), bos=bos)
    lm = AnsweringModel(loaded, protocol, 2, dict, None, None)
    for ids in (
        lm.tok_encode("ab"),
        lm.tok_encode("<s>ab") if first else lm.tok_encode("ab"),
        lm.tok_batch_encode(["ab", "c"])[0][0].tolist(),
    ):
        assert (ids[0] == loaded.tokenizer.bos_token_id) is first and len(ids) == 2 + first
    context, option = lm._encode_pair("ab", " c")
    assert len(context) == 2 + first and len(option) == 2


def test_the_papers_presets_say_what_the_harness_says():
    files = {
        "mmlu": "mmlu/default/_default_template_yaml",
        "winogrande": "winogrande/default.yaml",
        "gsm8k": "gsm8k/gsm8k.yaml",
        "bbh": "bbh/cot_fewshot/navigate.yaml",
        "hellaswag": "hellaswag/hellaswag.yaml",
        "arc_challenge": "arc/arc_challenge.yaml",
    }
    assert set(files) == set(PAPER)
    for name, file in files.items():
        config, said = load_yaml(harness_tasks.SHIPPED / file, resolve_func=False), preset(name)
        metric, _, chosen = said.metric.partition(",")
        assert said.dataset == config["dataset_path"] and said.revision == (
            config.get("dataset_kwargs") or {}
        ).get("revision")
        assert metric in [m["metric"] for m in config["metric_list"]]
        assert chosen in [f["name"] for f in config.get("filter_list") or [{"name": "none"}]]
        assert config.get("num_fewshot") in (None, said.shots)  # where the task file has a number, it is ours
        assert (
            said.harness == version("lm_eval")
            and f"lm_eval=={said.harness}\n" in (Path(__file__).parents[2] / "requirements.txt").read_text()
        )
    assert preset("mmlu", 0).name == "mmlu (0 shots)" and preset("mmlu", 5) is PRESETS["mmlu"]
    with pytest.raises(InputError, match="no preset 'mlu'"):
        preset("mlu")


def needs(name: str) -> Path:
    if not (DATA / name).is_file():
        pytest.skip(f"{name} is not on this machine")
    return DATA / name


@pytest.mark.parametrize(
    "task, file, rows",
    [
        ("gsm8k", "gsm8k_test.jsonl", ""),
        *(
            (f"bbh_cot_fewshot_{n}", f"bbh/{n}.json", ",field=examples")
            for n in ("navigate", "date_understanding")
        ),
    ],
)
def test_gsm8k_and_bbh_run_on_local_files(real_model, task, file, rows):
    loaded = load_model(str(real_model))
    name = "gsm8k" if task == "gsm8k" else "bbh"
    protocol = replace(PRESETS[name], tasks=(f"{task}::data={needs(file)}{rows}",))
    (row,) = measure(loaded, [(1,)], protocol, limit=3)["states"]
    assert row["tasks"][task]["metric"] == protocol.metric and row["tasks"][task]["shots"] == protocol.shots
    assert (
        row["tasks"][task]["n"] == 3
        and 0 <= row["tasks"][task]["value"] <= 1
        and row["tasks"][task]["chance"] is None
    )
    answers = [json.loads(v) for v in stored_answers()]
    assert len(answers) == 3 and all(isinstance(a, str) for a in answers)


def test_task_files_that_are_not_plain_data_are_refused(tmp_path):
    good = task_file(tmp_path, 200).read_text()
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    cases = {
        "doc_to_text: !function evil.f\n": "plain YAML",
        "process_docs: evil.f\n": "'process_docs'",
        "class: evil.F\n": "'class'",
        "use_prompt: promptsource\n": "'use_prompt'",
        "unsafe_code: true\n": "'unsafe_code'",
        "metadata: &a [1]\ntag: *a\n": "alias",
        "include: ../other.yaml\n": "its own folder",
        "dataset_path: ./evil.py\n": "'./evil.py'",
        "dataset_kwargs: {data_files: gone.jsonl}\n": "'gone.jsonl'",
        "dataset_kwargs: {data_files: 'http://127.0.0.1/x.jsonl'}\n": "no local file",
        "dataset_kwargs: {trust_remote_code: true}\n": "dataset_kwargs",
        "metric_list: [{metric: acc, hf_evaluate: true}]\n": "metric",
        "task: [a]\n": "names no task",
        "test_split: [test]\n": "test_split that is no name",
        "validation_split: 5\n": "validation_split that is no name",
        "metric_list: 5\n": "metric_list that is no list",
    }
    for number, (line, says) in enumerate(cases.items()):
        file = tmp_path / f"bad{number}.yaml"
        key = line.split(":")[0]
        lines = good.splitlines(keepends=True)
        kept, skip = [], False
        for old in lines:  # the key's own block gives way
            skip = old.startswith(key + ":") or (skip and old[0] in " -")
            kept += [] if skip else [old]
        file.write_text("".join(kept) + line)
        with pytest.raises(InputError, match=says):
            read_task_file(file)
    for text, says in {
        "gone.yaml": "No task file",
        "a b": "neither",
        "gsm8k::data=gone.jsonl": "gone.jsonl",
    }.items():
        with pytest.raises(InputError, match=says):
            parse_task(text)


@pytest.mark.parametrize(
    "changes, shots, says",
    [
        ({"doc_to_text": "\"{{ ''.__class__.__mro__ }}\""}, None, "SecurityError"),
        ({"metric_list": "[{metric: made_up}]"}, None, "made_up"),
        ({}, 3, "fewshot_split"),
        ({"test_split": "other"}, None, "KeyError"),
    ],
)
def test_tasks_that_cannot_be_set_up_are_one_sentence(tmp_path, changes, shots, says):
    file = task_file(tmp_path, 200)
    for key, value in changes.items():
        lines = [
            line
            for line in file.read_text().splitlines(keepends=True)
            if not line.startswith((f"{key}:", "  - metric", "    agg", "    higher"))
        ]
        file.write_text("".join(lines) + f"{key}: {value}\n")
    with pytest.raises(InputError, match=says) as error:
        harness_tasks.load_tasks([str(file)], own((str(file),), shots))
    assert "\n" not in str(error.value)


def test_unknown_tasks_are_named_with_their_neighbours(monkeypatch):
    folder = partial(
        harness_tasks.TaskManager, include_defaults=False, include_path=str(harness_tasks.SHIPPED / "gsm8k")
    )
    monkeypatch.setattr(harness_tasks, "TaskManager", lambda *args, **options: folder())
    with pytest.raises(InputError, match="'gsm8j'.*gsm8k"):
        harness_tasks.load_tasks(["gsm8j"], own(("gsm8j",)))
    with pytest.raises(InputError, match="No task"):
        harness_tasks.load_tasks([], own(()))


@pytest.mark.parametrize("name", ["humaneval", "humaneval_plus", "mbpp"])
def test_tasks_that_run_what_the_model_writes_are_refused_before_they_are_loaded(name):
    with pytest.raises(InputError, match="runs code that the model writes"):
        harness_tasks.load_tasks([name], own((name,)))
    with pytest.raises(InputError, match="runs code that the model writes"):
        harness_tasks.load_tasks([f"{name}::data={BUNDLED}"], own((name,)))


def call(capsys, *argv) -> tuple[int, dict]:
    code = main([*map(str, argv), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_evaluate_takes_tasks_shots_and_a_limit(tiny, text_file, tmp_path, capsys):
    file = task_file(tmp_path, 40, fewshot_split="test", target_delimiter="''")
    plain = [
        "evaluate",
        "--model",
        tiny["llama"],
        "--texts",
        text_file,
        "--sequences",
        2,
        "--length",
        16,
        "--batch",
        8,
    ]
    code, done = call(capsys, *plain, "--tasks", file, "--shots", 0, "--limit", 12)
    assert code == 0 and {"loss", "perplexity", "tokens_per_second", "preset", "harness"} <= set(done)
    assert set(done["tasks"]) == {"some"} and done["tasks"]["some"]["n"] == done["limit"] == 12
    assert (
        {"metric", "value", "low", "high", "chance", "n"} <= set(done["tasks"]["some"])
        and done["preset"]["name"] == "own"
        and done["preset"]["shots"] == 0
    )
    (job,) = [j for j in jobs.list_jobs() if j.kind == "harness"]
    assert job.status == "done" and job.done == job.total == 12
    wrong = {
        ("--shots", 2): "needs --tasks",
        ("--limit", 2): "needs --tasks",
        ("--tasks", file, "--preset", "bundled"): "not both",
        ("--tasks", file, "--no-tasks"): "contradict",
        ("--preset", "mlu"): "no preset",
        ("--tasks", tmp_path / "gone.yaml"): "No task file",
        ("--tasks", file, "--shots", "x"): "at least",
    }
    for options, says in wrong.items():
        code, failed = call(capsys, *plain, *options)
        assert code == 2 and says in failed["error"] and "\n" not in failed["error"], options


def test_a_changed_task_file_or_data_file_makes_another_job(tmp_path):
    file = task_file(tmp_path, 100)
    ids = set()
    for change in (None, "some.yaml", "items.jsonl"):
        if change:
            with open(tmp_path / change, "a") as f:
                f.write("\n")
        protocol, reads = asked([str(file)], None, None)
        assert {Path(r).name for r in reads} == {"some.yaml", "items.jsonl"}
        ids.add(id_of("harness", jobs.request_of("demo", reads=reads, preset=protocol.to_json())))
    assert len(ids) == 3
