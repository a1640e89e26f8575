"""Tasks of lm-evaluation-harness on a loaded model, with any blocks removed.

Prompts, scoring and aggregation are the harness's own. What is ours is the model's side: every
answer is kept under the model's weights, its removed blocks and the request itself, so that work
goes on where it was stopped, a larger limit asks only what is new, and no answer is ever another
model's (the harness's own cache has no model in its key).

Scores move within rounding with the batch. Against core.measure.evaluation: the harness takes an option's
tokens after the *number* of tokens of the context, core.measure.evaluation after the longest common prefix,
which differs where a token spans both; and of tied options the harness takes the first,
core.measure.evaluation gives each its share.
"""

import copy
import difflib
import hashlib
import inspect
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

os.environ["HF_EVALUATE_OFFLINE"] = "1"  # metrics that come as code from the hub

import lm_eval.utils
import torch
import transformers
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval.api.registry import AGGREGATION_REGISTRY, METRIC_REGISTRY
from lm_eval.defaults import DEFAULT_OTHER_SEED
from lm_eval.evaluator import evaluate as run_harness
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._index import Kind
from lm_eval.tasks._yaml_loader import load_yaml
from lm_eval.tasks.manager import TaskManager

import core
from core.errors import InputError
from core.model.load import LoadedModel
from core.model.surgery import without
from core.store import folders
from core.store.results import Key, Results
from core.store.runs import canonical_key
from core.tasks.files import Task, loader_of, parse_task, read_task_file
from core.tasks.presets import Preset

Report = Callable[[int, int, str], None]
SHIPPED = Path(lm_eval.__file__).parent / "tasks"
_ASKED = 16  # batches asked between two writes

for _name in ("lm_eval", "lm-eval", "lm_eval.models.huggingface"):
    logging.getLogger(_name).setLevel(logging.ERROR)
# templates of task files are rendered in a sandbox: Jinja's plain environment reaches Python
_filters = lm_eval.utils.env.filters
lm_eval.utils.env = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
lm_eval.utils.env.filters.update(_filters)


def load_tasks(named: Sequence[str], preset: Preset) -> dict:
    """The harness's tasks and groups by their names, {tasks, groups, group_map}, their data loaded and their
    shots set.

    Errors: InputError for unknown tasks, tasks that run generated code, data that is not at hand, and shots
    there is nothing to draw from.
    """
    asked = [parse_task(text) for text in named]
    if not asked:
        raise InputError("No task is named; give for example --tasks hellaswag.")
    manager = _manager([task.name for task in asked if not task.file])
    for task in asked:
        if not task.file:
            _refuse_code(manager, task.name)
    specs = [_config_of(task, manager) if task.file or task.data else task.name for task in asked]
    try:
        loaded = manager.load(specs)
    except Exception as error:
        # the hub's clients, the data loaders and the task's own functions have a class for each
        raise InputError(
            f"Task {', '.join(t.name for t in asked)[:100]} could not be set up ({_line(error)}); for lack "
            "of a connection, "
            f"give its data as NAME::data=FILE."
        ) from error
    for name, task in loaded["tasks"].items():
        own = task.config.num_fewshot
        if preset.shots is not None and own != 0:  # a task file that says 0 means it, as in the harness
            task.set_config(key="num_fewshot", value=preset.shots)
        elif own is None:
            task.set_config(key="num_fewshot", value=0)
        drawn = (
            task.fewshot_cfg.split
            or task.fewshot_cfg.samples
            or task.has_training_docs()
            or task.has_validation_docs()
        )
        if task.config.num_fewshot and not drawn:
            raise InputError(
                f"Task {name!r} has only the items it measures to draw {task.config.num_fewshot} examples "
                "from; "
                f"name a fewshot_split in its file, or ask for 0 shots."
            )
    return loaded


def _manager(names: list[str]) -> TaskManager:
    """One that knows the tasks of these names: all the harness's task files take 15 s to read, one folder
    mostly less than one.
    """
    folders = {SHIPPED / name.split("_")[0] for name in names}
    if all(folder.is_dir() for folder in folders):
        manager = TaskManager(include_defaults=False, include_path=sorted(map(str, folders)))
        if all(_complete(manager, name) for name in names):
            return manager
    manager = TaskManager()
    for name in names:
        if name not in manager.task_index:
            near = difflib.get_close_matches(name, manager.all_tasks, 3, 0.5)
            raise InputError(
                f"The harness has no task {name!r}; "
                f"{'similar: ' + ', '.join(near) if near else 'check its name'}."
            )
    return manager


def _complete(manager: TaskManager, name: str) -> bool:
    """Whether the manager knows this task or group and all that it stands for; tasks of one tag may be in
    many folders.
    """
    entry = manager.task_index.get(name)
    if entry is None or entry.kind is Kind.TAG:
        return False
    members = (entry.cfg or {}).get("task") if entry.kind is Kind.GROUP else []
    return all(
        _complete(manager, m if isinstance(m, str) else m.get("task") or m.get("group"))
        for m in members or []
    )


def _refuse_code(manager: TaskManager, name: object) -> None:
    """Errors: InputError where the task, or one of a group or tag, runs code that a model wrote; before any
    of its own is loaded.
    """
    entry = manager.task_index.get(name) if isinstance(name, str) else None
    if entry is None:
        return
    config = entry.cfg or {}
    if config.get("unsafe_code"):
        raise InputError(
            f"Task {name!r} runs code that the model writes, which Blockscape never does; choose another."
        )
    members = config.get("task") if entry.kind is Kind.GROUP else entry.tags if entry.kind is Kind.TAG else []
    for member in members or []:
        _refuse_code(
            manager, member if isinstance(member, str) else member.get("task") or member.get("group")
        )


def _config_of(task: Task, manager: TaskManager) -> dict:
    """The configuration of a local file, or of the harness's task over local data."""
    if task.file:
        config = read_task_file(task.file)
        if "data_files" in config["dataset_kwargs"]:
            config["dataset_kwargs"]["cache_dir"] = str(folders.home() / "datasets")
        for metric in config.get("metric_list") or []:
            if (
                metric["metric"] not in METRIC_REGISTRY
                or str(metric.get("aggregation", "mean")) not in AGGREGATION_REGISTRY
            ):
                raise InputError(
                    f"The task file {task.file.name!r} asks for {str(metric)[:80]}, which the harness does "
                    "not have; use acc."
                )
        return config
    entry = manager.task_index[task.name]
    if entry.kind is not Kind.TASK:
        raise InputError(
            f"{task.name!r} is not a single task, so it has no single data file; name one of its tasks."
        )
    config = load_yaml(entry.yaml_path)
    split = config.get("test_split") or config.get("validation_split")
    drawn = (config.get("fewshot_config") or {}).get("samples")
    return {
        **{
            k: v
            for k, v in config.items()
            if k not in ("tag", "group", "training_split", "validation_split", "test_split", "dataset_name")
        },
        "dataset_path": loader_of(task.data),
        "dataset_kwargs": {
            "data_files": {split: str(task.data.absolute())},
            "cache_dir": str(folders.home() / "datasets"),
            **({"field": task.field} if task.field else {}),
        },
        "test_split": split,
        **({} if drawn else {"fewshot_split": split}),  # the harness leaves the item itself out
    }


class _Kept(HFLM):
    """The loaded model as the harness sees it, answering from the store what it has answered before."""

    def __init__(
        self,
        loaded: LoadedModel,
        preset: Preset,
        batch: int,
        answers: Callable,
        keep: Callable,
        report: Callable,
    ):
        own = copy.deepcopy(loaded.tokenizer)  # the harness gives it a padding token
        super().__init__(
            pretrained=loaded.model, tokenizer=own, batch_size=batch, max_length=_length(loaded, preset)
        )
        self.first = loaded.tokenizer.bos_token if preset.bos in ("auto", "always") else None
        if preset.bos == "never":
            self.add_bos_token = False
        if preset.bos == "always" and self.first is None:
            raise InputError(
                f"The tokenizer of {loaded.source!r} has no BOS, which this preset puts first; choose "
                "another preset."
            )
        if preset.template == "chat" and not loaded.tokenizer.chat_template:
            raise InputError(
                f"The tokenizer of {loaded.source!r} has no chat template, which this preset needs; choose "
                "another preset."
            )
        self.kept, self.keep, self.told = answers, keep, report

    def tok_encode(self, string, add_special_tokens=None, **options):
        return super().tok_encode(
            self._opened(string) if add_special_tokens is None else string, add_special_tokens, **options
        )

    def tok_batch_encode(self, strings, *args, **options):
        return super().tok_batch_encode([self._opened(s) for s in strings], *args, **options)

    def _opened(self, string: str) -> str:
        return string if self.first is None or string.startswith(self.first) else self.first + string

    def loglikelihood(self, requests, disable_tqdm=True):
        return [(value, greedy) for value, greedy in self._answered("loglikelihood", requests)]

    def loglikelihood_rolling(self, requests, disable_tqdm=True):
        return self._answered("loglikelihood_rolling", requests)

    def generate_until(self, requests, disable_tqdm=True):
        return self._answered("generate_until", [self._fitting(r) for r in requests])

    def _fitting(self, request):
        """Where a task asks for answers as long as the model has positions, which the harness refuses, half
        of them.
        """
        prompt, options = request.args[:2]
        asked = options.get("max_gen_toks", self.max_gen_toks)
        if asked < self.max_length:
            return request
        fitting = copy.copy(request)
        fitting.arguments = (prompt, {**options, "max_gen_toks": self.max_length // 2})
        return fitting

    def _answered(self, kind: str, requests: list) -> list:
        seen: Counter = Counter()
        names = []
        for request in requests:
            asked = json.dumps([kind, request.args], sort_keys=True, default=str)
            # a sampled answer is asked for again
            names.append(hashlib.sha256(f"{seen[asked]}{asked}".encode()).hexdigest()[:32])
            seen[asked] += 1
        have = self.kept()
        left = list({name: request for name, request in zip(names, requests) if name not in have}.items())
        step = _ASKED * self.batch_size
        self.told([r for name, r in zip(names, requests) if name in have])
        for start in range(0, len(left), step):
            part = left[start : start + step]
            with torch.no_grad():
                values = getattr(super(), kind)([request for _, request in part], disable_tqdm=True)
            fresh = {name: json.dumps(_plain(value)) for (name, _), value in zip(part, values)}
            self.keep(fresh)
            have.update(fresh)
            self.told([request for _, request in part])
        return [json.loads(have[name]) for name in names]


def _plain(value):
    return (
        [float(value[0]), bool(value[1])]
        if isinstance(value, tuple)
        else value
        if isinstance(value, str)
        else float(value)
    )


def _length(loaded: LoadedModel, preset: Preset) -> int:
    """Tokens of prompt and answer together: the preset's, or fewer where the model has fewer positions."""
    has = loaded.max_length or HFLM._DEFAULT_MAX_LENGTH
    return min(preset.length or has, has)


def measure(
    loaded: LoadedModel,
    states: Sequence[Sequence[int]],
    preset: Preset,
    limit: int | None = None,
    batch: int = 16,
    report: Report = lambda done, total, message: None,
) -> dict:
    """The preset's tasks on every state (a list of removed blocks; the empty one is the original), each
    answer asked for once.

    limit: the first so many items of each task; None: all. report: counts items.
    Returns {preset, harness, limit, states: [{removed, tasks: {task: row}, groups: {group: {METRIC,FILTER:
    value}}}]}; a row has accuracy (the preset's metric, or the task's first), metric, se, chance (None where
    there are no options), n, shots, version and metrics {METRIC,FILTER: value}. The value of every item is in
    core.store.results as harness:TASK:METRIC,FILTER.
    Errors: InputError, see `load_tasks`.
    """
    results, tasks = Results(), load_tasks(preset.tasks, preset)
    model = canonical_key(loaded.digest())
    settings = _settings(loaded, preset)
    digests = {name: _digest(task) for name, task in tasks["tasks"].items()}
    each = sum(min(limit or len(t.eval_docs), len(t.eval_docs)) for t in tasks["tasks"].values())
    rows = []
    for number, state in enumerate(tuple(sorted(s)) for s in states):
        source = canonical_key({"model": model, "removed": state, **{k: settings[k] for k in _ANSWERS}})
        items: set = set()

        def told(requests, items=items, number=number, state=state):
            items.update((r.task_name, r.doc_id) for r in requests)
            report(number * each + len(items), len(states) * each, f"{_label(state)}: tasks")

        told([])
        began = time.monotonic()
        with without(loaded, state):
            lm = _Kept(
                loaded,
                preset,
                batch,
                lambda s=source: results.responses(s),
                lambda v, s=source: results.put_responses(s, v),
                told,
            )
            for task in tasks["tasks"].values():
                task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
            found = run_harness(
                lm=lm,
                task_dict=tasks,
                limit=limit,
                bootstrap_iters=0,
                apply_chat_template=preset.template == "chat",
                fewshot_as_multiturn=True,
            )
        seconds = time.monotonic() - began
        for name, samples in found["samples"].items():
            key = Key(
                model,
                state,
                digests[name],
                "test",
                "",
                json.dumps({**settings, "shots": found["n-shot"][name]}, sort_keys=True),
            )
            _keep_items(
                results,
                key,
                name,
                samples,
                found["results"][name],
                seconds * len({s["doc_id"] for s in samples}) / each,
            )
        rows.append({"removed": list(state), **_table(found, preset)})
    return {"preset": preset.to_json(), "harness": lm_eval.__version__, "limit": limit, "states": rows}


# of the settings, those that change what a model says to a given request
_ANSWERS = ("length", "bos", "tokenizer", "harness")


def _settings(loaded: LoadedModel, preset: Preset) -> dict:
    return {
        "preset": preset.name,
        "length": _length(loaded, preset),
        "bos": preset.bos,
        "template": preset.template,
        "tokenizer": loaded.tokenizer_digest(),
        "harness": lm_eval.__version__,
    }


def _label(state: Sequence[int]) -> str:
    return f"without {','.join(map(str, state))[:40]}" if state else "original"


def _digest(task) -> str:
    """SHA-256 of a task: its configuration, the items it measures and those its examples are drawn from."""
    config = task.config.to_dict(keep_callable=True)
    # where the data lie; the rest is settings
    for where in ("dataset_path", "dataset_kwargs", "dataset_name", "metadata", "num_fewshot"):
        config.pop(where, None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=_source).encode())
    drawn = task.sampler.df if task.config.num_fewshot else []
    for documents in (task.eval_docs, drawn):
        for document in documents:
            digest.update(json.dumps(document, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _source(value) -> str:
    """What a function of a task file is, without the address it has in this process."""
    if not callable(value):
        return str(value)
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        return getattr(value, "__qualname__", type(value).__qualname__)


def _keep_items(
    results: Results, key: Key, task: str, samples: list[dict], scores: dict, seconds: float
) -> None:
    """Every metric's value of every item; of a metric that is not a number for one item, what the harness
    makes of all.
    """
    versions = {
        "blockscape": core.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    values: dict[str, dict[int, object]] = {}
    for sample in samples:
        for metric in sample["metrics"]:
            values.setdefault(f"{metric},{sample['filter']}", {})[sample["doc_id"]] = sample[metric]
    for number, (metric, of_items) in enumerate(values.items()):
        named = replace(key, metric=f"harness:{task}:{metric}")
        if not all(isinstance(v, int | float) for v in of_items.values()):
            named, of_items = replace(named, split=f"test, all of {len(of_items)}"), {0: scores[metric]}
        if number or results.items(named) >= set(of_items):
            seconds = 0.0
        results.put(named, of_items, seconds, versions)


def _table(found: dict, preset: Preset) -> dict:
    tasks = {}
    for name, samples in found["samples"].items():
        metrics = _numbers(found["results"][name])
        metric = preset.metric if preset.metric in metrics else next(iter(metrics))
        values = [
            s[metric.split(",")[0]]
            for s in samples
            if s["filter"] == metric.split(",")[1] and metric.split(",")[0] in s
        ]
        options = [len(s["arguments"]) for s in samples]
        chosen = found["configs"][name].get("output_type") == "multiple_choice"
        tasks[name] = {
            "accuracy": metrics[metric],
            "metric": metric,
            "se": _standard_error(values),
            "chance": sum(1 / n for n in options) / len(options) if chosen else None,
            "n": len({s["doc_id"] for s in samples}),
            "shots": found["n-shot"][name],
            "version": str(found["versions"].get(name)),
            "metrics": metrics,
        }
    return {
        "tasks": tasks,
        "groups": {name: _numbers(scores) for name, scores in found.get("groups", {}).items()},
    }


def _numbers(scores: dict) -> dict[str, float]:
    return {
        k: float(v)
        for k, v in scores.items()
        if "," in k and "_stderr" not in k and isinstance(v, int | float)
    }


def _standard_error(values: list) -> float | None:
    """Of the mean of numbers; None where there are too few, or they are no numbers."""
    if len(values) < 2 or not all(isinstance(v, int | float) for v in values):
        return None
    return float(torch.tensor(values, dtype=torch.float64).std() / len(values) ** 0.5)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:160]}"
