"""Multiple-choice tasks of the harness on many states at once, on kept prefixes.

core.measure.harness asks one state after the other. Here the options of some items are sequences, on which
states share the blocks that they begin with (core.measure.state_losses) and the head is applied to options
alone. Items, prompts and metrics are the harness's own, and values are its values within rounding.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from core.measure.harness_tasks import load_tasks  # first: it sets what lm_eval reads

# isort: split
import numpy as np

from core.errors import InputError
from core.measure.state_losses import State, by_prefix, open_forwards
from core.model.load import LoadedModel
from core.tasks.presets import Preset
from core.texts import Sequences
from core.texts.special_tokens import begins

GROUP = 32  # options measured at a time
Report = Callable[..., None]  # (items done, all of them, message)
Tokens = tuple[list[int], int]  # of a prompt with its option, and the first that is the option's


def silent(done: int, total: int, message: str) -> None:
    """A report to nobody."""


def item_values(
    loaded: LoadedModel,
    preset: Preset,
    states: Sequence[State],
    limit: int,
    skip: int = 0,
    report: Report = silent,
) -> dict[str, np.ndarray]:
    """{task: float64 [K, items]}: the metric that the preset quotes, of every state and item; limit: the
    first so many of those that the preset draws, behind the first `skip` of them. Prompts begin as the
    tokenizer begins a text. Errors: InputError, as `load_tasks`, and for a task that is
    no choice among options.
    """
    found = {}
    for name, task in load_tasks(preset.tasks, preset)["tasks"].items():
        count = len(task.eval_docs)
        which = _which(preset, count, limit + skip)
        which = sorted(set(which) - set(_which(preset, count, skip) if skip else ()))
        task.build_all_requests(samples=which)
        if task.OUTPUT_TYPE != "multiple_choice":
            raise InputError(f"Task {name!r} is no choice among options; name one that is.")
        likelihood = _likelihoods(loaded, task.instances, states, partial(report, message=name))
        items: dict[int, list[int]] = {}
        for number, request in enumerate(task.instances):
            items.setdefault(request.doc_id, []).append(number)
        metric = preset.quoted(name).split(",")[0] or "acc"
        found[name] = np.array(
            [[_value(task, own, options, metric) for options in items.values()] for own in likelihood]
        )
    return found


def _which(preset: Preset, count: int, limit: int) -> list[int]:
    return preset.drawn(count, limit) or list(range(min(limit, count)))


def _value(task: Any, likelihood: np.ndarray, options: list[int], metric: str) -> float:
    """What the harness makes of the likelihoods of one item's options."""
    answers = [(float(likelihood[k]), False) for k in options]
    return float(task.process_results(task.instances[options[0]].doc, answers)[metric])


def _likelihoods(
    loaded: LoadedModel, requests: Sequence, states: Sequence[State], report: Report
) -> np.ndarray:
    """float64 [K, requests], nats: of every option behind its prompt."""
    rows = [_tokens(loaded.tokenizer, *request.args) for request in requests]
    order = np.argsort([len(ids) for ids, _ in rows], kind="stable")  # like lengths: little padding
    found, at = np.zeros((len(states), len(rows))), {tuple(s): k for k, s in enumerate(states)}
    for start in range(0, len(order), GROUP):
        report(start, len(order))
        own = order[start : start + GROUP]
        sequences = _sequences([rows[r] for r in own])
        assert sequences.scored is not None
        meter = open_forwards(loaded, sequences, keep=False, chunk=GROUP)
        for state in by_prefix(at, len(loaded.blocks)):
            found[at[state], own] = -meter.whole(state) * sequences.scored.sum(axis=1)
    return found


def _tokens(tokenizer: Any, prompt: str, option: str) -> Tokens:
    """As the harness divides them: spaces that end the prompt are the option's."""
    bare = prompt.rstrip()
    whole = tokenizer(prompt + option, add_special_tokens=False)["input_ids"]
    first = len(tokenizer(bare, add_special_tokens=False)["input_ids"])
    head = begins(tokenizer)
    return head + whole, len(head) + first


def _sequences(rows: Sequence[Tokens]) -> Sequences:
    """Prompts with their options, padded; the options are scored."""
    shape = len(rows), max(len(ids) for ids, _ in rows)
    ids, mask, scored = np.zeros(shape, np.int64), np.zeros(shape, bool), np.zeros(shape, bool)
    for k, (tokens, first) in enumerate(rows):
        ids[k, : len(tokens)], mask[k, : len(tokens)], scored[k, first : len(tokens)] = tokens, True, True
    return Sequences(
        ids=ids,
        index=np.arange(len(rows)),
        domain=np.zeros(len(rows), np.int16),
        domains=("options",),
        split="test",
        source="options",
        texts_sha256="",
        available=len(rows),
        template="none",
        mask=mask,
        scored=scored,
    )
