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

import hashlib
import inspect
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from core.measure.harness_tasks import load_tasks  # first: it sets what lm_eval reads

# isort: split
import lm_eval
import torch
import transformers
from lm_eval.defaults import DEFAULT_OTHER_SEED
from lm_eval.evaluator import evaluate as run_harness

import core
from core.ising.units import Name
from core.measure.harness_model import AnsweringModel, context_length
from core.measure.harness_scores import is_mean, rows_of
from core.model.load import LoadedModel
from core.model.surgery import without
from core.store.results import Key, Results
from core.store.runs import canonical_key
from core.tasks.presets import Preset

Report = Callable[[int, int, str], None]


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

    limit: the first so many items of each task, or so many of those that the preset draws; None: all.
    report: counts items.
    Returns {preset, harness, limit, states: [{removed, tasks: {task: row}, groups: {group: {METRIC,FILTER:
    value}}}]}; core.tasks.scores says what a row is. Its metric is the preset's, or the task's first; chance
    is None where there are no options. The value of every item is in core.store.results as
    harness:TASK:METRIC,FILTER.
    Errors: InputError, see `load_tasks`.
    """
    tasks = load_tasks(preset.tasks, preset)
    kept = _Kept(loaded, preset, tasks["tasks"])
    sizes = {name: len(task.eval_docs) for name, task in tasks["tasks"].items()}
    drawn = {name: preset.drawn(size, limit) for name, size in sizes.items()}
    which: dict = {"samples": drawn} if preset.items else {"limit": limit}
    each = sum(len(drawn[name] or range(min(limit or size, size))) for name, size in sizes.items())
    rows = []
    for number, state in enumerate(tuple(sorted(s)) for s in states):

        def told(done: int, number=number, state=state) -> None:
            report(number * each + done, len(states) * each, f"{_label(loaded, state)}: tasks")

        began = time.monotonic()
        found = _run(loaded, state, tasks, preset, which, batch, kept, told)
        seconds = time.monotonic() - began
        for name, samples in found["samples"].items():
            share = len({s["doc_id"] for s in samples}) / each
            kept.keep(loaded.units.stored(state), name, samples, found, seconds * share)
        rows.append({"removed": loaded.units.listed(state), **rows_of(found, preset)})
    return {"preset": preset.to_json(), "harness": lm_eval.__version__, "limit": limit, "states": rows}


def _run(
    loaded: LoadedModel,
    state: tuple[int, ...],
    tasks: dict,
    preset: Preset,
    which: dict,
    batch: int,
    kept: "_Kept",
    told: Callable[[int], None],
) -> dict:
    """What the harness finds of the model without the blocks of `state`.

    which: its limit, or its samples; told: how many items are done.
    """
    items: set = set()

    def answered(requests) -> None:
        items.update((r.task_name, r.doc_id) for r in requests)
        told(len(items))

    answered([])
    source = kept.source(loaded.units.stored(state))
    with without(loaded, state):
        lm = AnsweringModel(
            loaded,
            preset,
            batch,
            lambda: kept.results.responses(source),
            lambda answers: kept.results.put_responses(source, answers),
            answered,
        )
        for task in tasks["tasks"].values():
            task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
        return run_harness(
            lm=lm,
            task_dict=tasks,
            **which,
            bootstrap_iters=0,
            apply_chat_template=preset.template == "chat",
            fewshot_as_multiturn=True,
        )


# of the settings, those that change what a model says to a given request
_ANSWERS = ("length", "bos", "tokenizer", "harness", "dtype", "device")


def _settings(loaded: LoadedModel, preset: Preset) -> dict:
    return {
        "preset": preset.name,
        "length": context_length(loaded, preset),
        "bos": preset.bos,
        "template": preset.template,
        "tokenizer": loaded.tokenizer_digest(),
        "harness": lm_eval.__version__,
        **loaded.arithmetic(),
    }


def _label(loaded: LoadedModel, state: Sequence[int]) -> str:
    return f"without {loaded.units.write(state)[:40]}" if state else "original"


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


class _Kept:
    """Where answers and item values of a model under a preset are kept, and under which names."""

    def __init__(self, loaded: LoadedModel, preset: Preset, tasks: dict):
        self.results, self.model = Results(), canonical_key(loaded.digest())
        self.settings = _settings(loaded, preset)
        self.digests = {name: _digest(task) for name, task in tasks.items()}
        self.versions = {
            "blockscape": core.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def source(self, state: tuple[Name, ...]) -> str:
        """What answers to requests belong to."""
        said = {name: self.settings[name] for name in _ANSWERS if name in self.settings}
        return canonical_key({"model": self.model, "removed": state, **said})

    def keep(
        self, state: tuple[Name, ...], task: str, samples: list[dict], found: dict, seconds: float
    ) -> None:
        """Every metric's value of every item. Of a metric that is not the mean of its items (a perplexity, an
        F1), what the harness makes of all; items that are numbers then stand under METRIC,FILTER:item.
        """
        settings = json.dumps({**self.settings, "shots": found["n-shot"][task]}, sort_keys=True)
        key = Key(self.model, state, self.digests[task], "test", "", settings)
        values: dict[str, dict[int, Any]] = {}
        for sample in samples:
            for metric in sample["metrics"]:
                values.setdefault(f"{metric},{sample['filter']}", {})[sample["doc_id"]] = sample[metric]
        for number, (metric, of_items) in enumerate(values.items()):
            named, score = replace(key, metric=f"harness:{task}:{metric}"), found["results"][task][metric]
            if not is_mean(score, list(of_items.values())):
                if all(isinstance(v, int | float) for v in of_items.values()):
                    item = replace(named, metric=f"{named.metric}:item")
                    self.results.put(item, of_items, 0.0, self.versions)
                named = replace(named, split=f"test, all of {len(of_items)}")
                of_items = {0: score}
            if number or self.results.items(named) >= set(of_items):
                seconds = 0.0
            self.results.put(named, of_items, seconds, self.versions)
