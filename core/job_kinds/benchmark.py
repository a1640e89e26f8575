"""Many states of one model: loss, tasks, speed and an answer each."""

import json
import math
import time

import numpy as np
import torch

from core.calibration.corpus import read_sources
from core.errors import InputError
from core.ising.units import Name
from core.job_kinds.common import draw_sequences, load, measured_of, states_of
from core.jobs.progress import Progress
from core.measure import evaluation
from core.measure.state_losses import DISTANCES, VERSIONS, Kept, by_prefix, open_forwards
from core.model.generation import by_itself, by_itself_unlike_before
from core.model.load import LoadedModel
from core.model.surgery import without
from core.ranks import ALONE, Ranks
from core.store.results import Key, Results
from core.store.runs import canonical_key
from core.tasks.items import TaskItem, read_tasks, tasks_digest
from core.texts.special_tokens import begins, begins_unlike_before

ANSWER_TOKENS = 40
_ITEMS = 25  # task items measured between two writes


class _Tally:
    """How much of the work is done, told as the job's progress."""

    def __init__(self, progress: Progress, total: int):
        self.progress, self.done, self.total = progress, 0, total

    def report(self, message: str) -> None:
        self.progress.report(self.done, self.total, message)

    def add(self, units: int, kept: bool = False) -> None:
        """kept: they were measured before."""
        self.done += units
        if kept:
            self.progress.kept(units)


def run(request: dict, progress: Progress, ranks: Ranks = ALONE) -> dict | None:
    """Loss, distance to the original, tasks, speed and one answer for every state of the request, each item
    once; the model is loaded once.

    States are lists of removed blocks and branches, by name; the empty list is the original. Losses and
    distances come first, a chunk of sequences for all states at a time, on kept prefixes
    (core.measure.state_losses): an early stop has something of every state. What only a loss is known of is
    measured again for its distance, and the loss that is stored stays. `speed`, where it is False, leaves out
    tokens per second. Of several ranks each measures its share of the states.
    """
    progress.report(0, 1, "loading the model")
    texts, results = read_sources(request["texts"]), Results()
    loaded, states = states_of(request, load(request))
    loaded.check_length(request["length"])
    drawn = None
    if ranks.rank == 0:
        drawn = draw_sequences(loaded, texts, request, "report", request["sequences"], progress)
    sequences = ranks.agree(drawn)
    items = read_tasks() if request["tasks"] else []
    own, named = _share(states, len(loaded.units), ranks), loaded.units.stored
    model = canonical_key(loaded.digest())
    speed, prompt = request.get("speed", True), request["prompt"]
    settings = _answer_settings(loaded)
    tally = _Tally(progress, len(own) * (len(sequences.ids) + len(items) + speed + bool(prompt)))

    meter = open_forwards(loaded, sequences, tokens=True)
    for chunk, part in enumerate(meter.chunks):
        for state in own:
            tally.report(f"loss and KL of {len(own)} states" if len(own) > 1 else "loss and KL")
            kept = meter.known is not None and meter.known.get(state, part) is not None
            meter.measure(state, chunk)
            tally.add(part.stop - part.start, kept)
    meter.save()

    for number, state in enumerate(own):
        label = "original" if not state else f"state {number + 1} of {len(own)}"
        with without(loaded, state):
            _measure_tasks(loaded, results, model, named(state), items, tally, label)
            tally.report(f"{label}: speed and answer")
            if speed:
                _measure_speed(loaded, results, model, named(state), sequences.ids)
            if prompt and (named(state), prompt) not in results.answers(model, settings):
                results.put_answer(model, named(state), prompt, settings, _answer(loaded, prompt))
        tally.add(speed + bool(prompt))
    progress.report(tally.total, tally.total, "done")
    if ranks.gather(len(own)) is None:
        return None
    known = Kept(loaded, sequences, DISTANCES, tokens=True)  # of all ranks
    original = Kept(loaded, sequences).get((), slice(None))  # None where it is not asked for, and not known
    base = None if original is None else original[0]
    return {
        "model": model,
        "states": [{"removed": loaded.units.listed(s), **measured_of(known, s, base)} for s in states],
        "sequences": len(sequences.ids),
        "items": len(items),
    }


def _share(states: list[tuple[int, ...]], blocks: int, ranks: Ranks) -> list[tuple[int, ...]]:
    """The states that this rank measures, neighbours in the order of their kept blocks: they share
    prefixes.
    """
    walked = by_prefix(states, blocks)
    return [walked[k] for k in np.array_split(np.arange(len(walked)), ranks.world)[ranks.rank]]


def _measure_tasks(
    loaded: LoadedModel,
    results: Results,
    model: str,
    state: tuple[Name, ...],
    items: list[TaskItem],
    tally: _Tally,
    label: str,
) -> None:
    """Every item that is not measured yet, of the model as it is now, a few between two writes."""
    begun = begins_unlike_before(loaded.tokenizer)
    settings = json.dumps({"tokenizer": loaded.tokenizer_digest(), **begun, **loaded.arithmetic()})
    for name in sorted({item.task for item in items}):
        key = Key(model, state, tasks_digest(), "test", f"task:{name}", settings)
        have = results.items(key)
        asked = [k for k, item in enumerate(items) if item.task == name]
        left = [k for k in asked if k not in have]
        tally.add(len(asked) - len(left), kept=True)
        for start in range(0, len(left), _ITEMS):
            tally.report(f"{label}: {name}")
            part, began = left[start : start + _ITEMS], time.monotonic()
            chosen = [items[k] for k in part]
            scored = evaluation.task_results(chosen, evaluation.option_scores(loaded, chosen))
            results.put(key, dict(zip(part, scored[name]["correct"])), time.monotonic() - began, VERSIONS)
            tally.add(len(part))


def _measure_speed(
    loaded: LoadedModel, results: Results, model: str, state: tuple[Name, ...], ids: np.ndarray
) -> None:
    """Of the model as it is now, the blocks of `state` really removed."""
    setting = {"length": ids.shape[1], "threads": torch.get_num_threads(), **loaded.arithmetic()}
    key = Key(model, state, "speed", "", "tokens_per_second", json.dumps(setting))
    if not results.items(key):
        results.put(key, {0: evaluation.tokens_per_second(loaded, ids)})


def _answer_settings(loaded: LoadedModel) -> str:
    """What names an answer beside the model and the prompt: all that changes what is said."""
    unusual = {**begins_unlike_before(loaded.tokenizer), **by_itself_unlike_before(loaded.model)}
    return json.dumps({"tokens": ANSWER_TOKENS, **unusual, **loaded.arithmetic()})


def _answer(loaded: LoadedModel, prompt: str) -> str:
    """The greedy continuation of the prompt, prompt not repeated."""
    tokens = begins(loaded.tokenizer) + loaded.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    room = min(ANSWER_TOKENS, (loaded.max_length or math.inf) - len(tokens))
    if room < 1:
        raise InputError(
            f"The prompt takes {len(tokens)} tokens and {loaded.source!r} has {loaded.max_length} positions; "
            "shorten it."
        )
    with by_itself(loaded.model), torch.no_grad():
        out = loaded.model.generate(  # type: ignore[operator]  # torch says Tensor | Module
            torch.tensor([tokens], device=loaded.device),
            do_sample=False,
            max_new_tokens=room,
            pad_token_id=loaded.tokenizer.pad_token_id or 0,
        )
    return str(loaded.tokenizer.decode(out[0, len(tokens) :], skip_special_tokens=True))
