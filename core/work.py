"""What each kind of job does: called by the worker of core.jobs with the request and its Progress."""

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Sequence

import torch
import transformers

import core
from core import evaluation
from core.calibration import calibrate as compute_run
from core.calibration import run_key
from core.errors import InputError
from core.export import PROVENANCE
from core.export import prune as write_pruned
from core.jobs import Progress
from core.models import LoadedModel, load_model
from core.results import Key, Results
from core.runs import canonical_key, keep_run, set_aside, stored_run
from core.store import home
from core.surgery import without
from core.tasks import read_tasks, tasks_digest
from core.texts import pack, read_texts

LOG = logging.getLogger(__name__)


def calibrate(request: dict, progress: Progress) -> dict:
    """Gradient rows of a model on texts, kept in the store under the run's key.

    Where the store held a damaged copy, the result says as `set_aside` where that is now.
    """
    progress.report(0, request["samples"], "loading the model")
    texts = read_texts(request["texts"])
    loaded = load_model(request["model"])
    loaded.check_length(request["length"])
    sequences = pack(texts, loaded.tokenizer, "calibrate", request["length"], request["samples"], request["seed"])
    singles = (
        pack(texts, loaded.tokenizer, "choose", request["length"], request["singles"], request["seed"]) if request["singles"] else None
    )
    key = run_key(loaded, sequences, request["sampled"], singles, request["seed"])
    aside = set_aside(key)
    if aside:
        LOG.warning("the stored run %s was damaged and is set aside in %s; it is computed again", key[:8], aside)
    try:
        run = stored_run(key)
    except InputError:  # not there (any more): compute it
        run = compute_run(
            loaded, sequences, batch=request["batch"], sampled=request["sampled"], singles=singles, seed=request["seed"],
            request=request, checkpoint=progress.work, report=progress.report,
        )  # fmt: skip
        keep_run(run)
    return {
        "key": run.key,
        "rows": len(run.rows.A),
        "blocks": run.blocks,
        "dropped": len(run.meta["dropped"]),
        "seconds": run.meta["times"]["seconds"],
        **({"set_aside": str(aside)} if aside else {}),
    }


def prune(request: dict, progress: Progress) -> dict:
    """A real checkpoint without the request's blocks, verified, in the store's exports."""
    out = home() / "exports" / request["name"]
    shutil.rmtree(progress.work, ignore_errors=True)  # what a worker that was killed has left
    progress.work.mkdir(exist_ok=True)
    if (out / PROVENANCE).exists():  # by an earlier worker that was killed before it could say so: moved away whole, never thinned out
        os.replace(out, progress.work / "earlier")
    return write_pruned(
        request["model"], request["blocks"], out, provenance=request["provenance"], workshop=progress.work, report=progress.report
    ).to_json()


ANSWER_TOKENS = 40
_BATCH, _ITEMS = 16, 25  # sequences and task items measured between two writes


def benchmark(request: dict, progress: Progress) -> dict:
    """Loss, tasks, speed and one answer for every state of the request, each item once; the model is loaded once.

    States are lists of removed blocks; the empty list is the original.
    """
    progress.report(0, 1, "loading the model")
    texts, loaded, results = read_texts(request["texts"]), load_model(request["model"]), Results()
    loaded.check_length(request["length"])
    sequences = pack(texts, loaded.tokenizer, "report", request["length"], request["sequences"])
    items = read_tasks() if request["tasks"] else []
    states = [tuple(sorted(state)) for state in request["states"]]
    model = canonical_key(loaded.digest())
    versions = {"blockscape": core.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    names = sorted({item.task for item in items})
    each = len(sequences.ids) + len(items) + 2
    settings = json.dumps(
        {"length": request["length"], "template": sequences.template, "tokenizer": loaded.tokenizer_digest()}, sort_keys=True
    )
    for number, state in enumerate(states):
        done, total = number * each, len(states) * each
        label = "original" if not state else f"state {number} of {len(states)}"

        loss = Key(model, state, sequences.texts_sha256, "report", "loss", settings)
        have = results.items(loss)
        left = [k for k, index in enumerate(sequences.index) if int(index) not in have]
        done += len(sequences.ids) - len(left)
        for start in range(0, len(left), _BATCH):
            progress.report(done, total, f"{label}: loss")
            part, began = left[start : start + _BATCH], time.monotonic()
            values = evaluation.sequence_losses(loaded, sequences.ids[part], state)
            results.put(loss, dict(zip(sequences.index[part].tolist(), values.tolist())), time.monotonic() - began, versions)
            done += len(part)

        for name in names:
            key = Key(model, state, tasks_digest(), "test", f"task:{name}", json.dumps({"tokenizer": loaded.tokenizer_digest()}))
            have = results.items(key)
            own = [k for k, item in enumerate(items) if item.task == name]
            left = [k for k in own if k not in have]
            done += len(own) - len(left)
            for start in range(0, len(left), _ITEMS):
                progress.report(done, total, f"{label}: {name}")
                part, began = left[start : start + _ITEMS], time.monotonic()
                chosen = [items[k] for k in part]
                correct = evaluation.task_results(chosen, evaluation.option_scores(loaded, chosen, state))[name]["correct"]
                results.put(key, dict(zip(part, correct)), time.monotonic() - began, versions)
                done += len(part)

        progress.report(done, total, f"{label}: speed and answer")
        _measure_speed(loaded, results, model, state, sequences.ids)
        if request["prompt"] and (state, request["prompt"]) not in results.answers(model):
            results.put_answer(
                model, state, request["prompt"], json.dumps({"tokens": ANSWER_TOKENS}), _answer(loaded, request["prompt"], state)
            )
    progress.report(each * len(states), each * len(states), "done")
    return {"model": model, "states": [list(state) for state in states], "sequences": len(sequences.ids), "items": len(items)}


def _measure_speed(loaded: LoadedModel, results: Results, model: str, state: Sequence[int], ids) -> None:
    key = Key(
        model, tuple(state), "speed", "", "tokens_per_second", json.dumps({"length": ids.shape[1], "threads": torch.get_num_threads()})
    )
    if not results.items(key):
        with without(loaded, state):
            results.put(key, {0: evaluation.tokens_per_second(loaded, ids)})


def _answer(loaded: LoadedModel, prompt: str, state: Sequence[int]) -> str:
    """The greedy continuation of the prompt, prompt not repeated."""
    head = [] if loaded.tokenizer.bos_token_id is None else [loaded.tokenizer.bos_token_id]
    tokens = head + loaded.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    room = min(ANSWER_TOKENS, (loaded.max_length or math.inf) - len(tokens))
    if room < 1:
        raise InputError(f"The prompt takes {len(tokens)} tokens and {loaded.source!r} has {loaded.max_length} positions; shorten it.")
    with without(loaded, state), torch.no_grad():
        out = loaded.model.generate(
            torch.tensor([tokens]), do_sample=False, max_new_tokens=room, pad_token_id=loaded.tokenizer.pad_token_id or 0
        )
    return loaded.tokenizer.decode(out[0, len(tokens) :], skip_special_tokens=True)
