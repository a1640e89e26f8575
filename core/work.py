"""What each kind of job does: called by the worker of core.jobs with the request and its Progress."""

import json
import logging
import math
import os
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
import transformers

import core
from core import evaluation, learning, store
from core.calibration import calibrate as compute_run
from core.calibration import run_key
from core.comparison import model_key
from core.drawing import Read, available, draw, read_sources
from core.errors import InputError
from core.export import is_export_of, zip_export
from core.export import prune as write_pruned
from core.forwards import open_forwards, stratified
from core.gates import gate_of
from core.jobs import Progress
from core.models import LoadedModel, load_model
from core.own import own_sequences
from core.ranks import ALONE, Ranks
from core.results import Key, Results
from core.rows import gradient_rows, made_up_ids, measure_batch
from core.runs import Run, canonical_key, keep_run, load_run, set_aside, stored_run
from core.surgery import without
from core.tasks import read_tasks, tasks_digest
from core.texts import Sequences

LOG = logging.getLogger(__name__)
OWN_BATCH = 4  # own samples drawn to time them


def describe(request: dict, progress: Progress) -> dict:
    """What a model is, what its texts give, and what calibration costs here: measured on one batch of made-up tokens.

    The result: model {...}, blocks [...], domains and parts as core.drawing.available gives them, and for core.costs: batch, rows_seconds and forward_seconds of a batch, own_seconds of
    an own sample, load_seconds, memory (peak bytes), threads.
    """
    progress.report(0, 3, "loading the model")
    texts, loaded = read_sources(request["texts"]), load_model(request["model"])
    load_seconds = time.monotonic() - progress.began  # with the worker's own imports
    loaded.check_length(request["length"])
    progress.report(1, 3, "reading the texts")
    drawable = available(loaded, texts, request["length"], request.get("form"))
    progress.report(2, 3, "timing one batch")
    checkpointed, length = request.get("checkpointed", False), request["length"]
    batch = request["batch"] or measure_batch(loaded, length, request["sampled"], checkpointed)
    ids = made_up_ids(loaded, batch, length)
    uniforms = torch.rand(ids.shape, dtype=torch.float64) if request["sampled"] else None
    work = partial(gradient_rows, loaded, checkpointed=checkpointed)
    work(ids[:1], sampled_uniforms=None if uniforms is None else uniforms[:1])  # the first call sets up
    rows_seconds = _seconds(lambda: work(ids, sampled_uniforms=uniforms))
    forward_seconds = _seconds(lambda: evaluation.sequence_losses(loaded, ids.numpy(), [], batch))
    own_seconds = _seconds(lambda: own_sequences(loaded, "calibrate", length, OWN_BATCH)) / OWN_BATCH if texts.own else 0.0
    return {
        "model": {
            "name": loaded.name, "type": loaded.model.config.model_type, "parameters": loaded.parameters(), "bytes": loaded.weights_bytes(),
            "max_length": loaded.max_length,
        },
        "blocks": [b.to_json() for b in loaded.blocks],
        "gate": gate_of(loaded),
        **drawable, "own_seconds": own_seconds,
        "batch": batch, "rows_seconds": rows_seconds, "forward_seconds": forward_seconds, "load_seconds": load_seconds,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024), "threads": torch.get_num_threads(),
    }  # fmt: skip


def _seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def calibrate(request: dict, progress: Progress, ranks: Ranks = ALONE) -> dict | None:
    """Gradient rows of a model on texts, kept in the store under the run's key.

    Where the store held a damaged copy, the result says as `set_aside` where that is now. Of several
    ranks the first draws the sequences and has the result, the others None.
    """
    progress.report(0, request["samples"], "loading the model")
    texts, loaded = read_sources(request["texts"]) if ranks.rank == 0 else None, load_model(request["model"])
    loaded.check_length(request["length"])
    asked = [("calibrate", request["samples"]), *([("choose", request["singles"])] if request["singles"] else [])]
    drawn = ranks.agree([_draw(loaded, texts, request, *one, progress) for one in asked] if ranks.rank == 0 else None)
    sequences, singles = (*drawn, None)[:2]
    key = run_key(loaded, sequences, request["sampled"], singles, request["seed"])
    aside, run = ranks.agree(_kept(key) if ranks.rank == 0 else None)
    if run is None:
        run = compute_run(
            loaded, sequences, batch=request["batch"], sampled=request["sampled"], singles=singles, seed=request["seed"],
            checkpointed=request.get("checkpointed", False), request=request, checkpoint=progress.work, report=progress.report, ranks=ranks,
        )  # fmt: skip
        if run is None:
            return None
        keep_run(run)
    return {
        "key": run.key,
        "rows": len(run.rows.A),
        "blocks": run.blocks,
        "dropped": len(run.meta["dropped"]),
        "seconds": run.meta["times"]["seconds"],
        **({"set_aside": str(aside)} if aside else {}),
    }


def _draw(loaded: LoadedModel, texts: Read, request: dict, split: str, samples: int, progress: Progress) -> Sequences:
    return draw(
        loaded,
        texts,
        split,
        request["length"],
        samples,
        request.get("seed", 0),
        form=request.get("form"),
        report=progress.report,
    )


def _kept(key: str) -> tuple[Path | None, Run | None]:
    """(where a damaged copy of the run is set aside, the run if it is in the store)."""
    aside = set_aside(key)
    if aside:
        LOG.warning("the stored run %s was damaged and is set aside in %s; it is computed again", key[:8], aside)
    try:
        return aside, stored_run(key)
    except InputError:  # not there (any more)
        return aside, None


def prune(request: dict, progress: Progress) -> dict:
    """A real checkpoint without the request's blocks, verified, in the folder `out`, and beside it a .zip when `zip` asks and it is small."""
    out = Path(request["out"])
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(progress.work, ignore_errors=True)  # what a worker that was killed has left
    progress.work.mkdir(exist_ok=True)
    same_disk = out.parent.stat().st_dev == progress.work.stat().st_dev
    if is_export_of(out, request["model"], request["blocks"]):  # a killed worker's: moved away whole, never thinned out
        os.replace(out, progress.work / "earlier") if same_disk else shutil.rmtree(out)
    done = write_pruned(
        request["model"], request["blocks"], out, provenance=request["provenance"], workshop=progress.work if same_disk else None,
        report=progress.report,
    )  # fmt: skip
    archive = zip_export(out) if request["zip"] else None
    return {**done.to_json(), "zip": archive and str(archive)}


def evaluate(request: dict, progress: Progress) -> dict:
    """Loss, tasks and speed of one model, as the command line prints them."""
    progress.report(0, request["sequences"], "loading the model")
    texts, loaded = read_sources(request["texts"]), load_model(request["model"])
    loaded.check_length(request["length"])
    sequences = _draw(loaded, texts, request, "report", request["sequences"], progress)
    items = read_tasks() if request["tasks"] else []
    return evaluation.evaluate(loaded, sequences, items, batch=request["batch"], report=progress.report).to_json()


ANSWER_TOKENS = 40
_BATCH, _ITEMS = 16, 25  # sequences and task items measured between two writes


def benchmark(request: dict, progress: Progress) -> dict:
    """Loss, tasks, speed and one answer for every state of the request, each item once; the model is loaded once.

    States are lists of removed blocks; the empty list is the original.
    """
    progress.report(0, 1, "loading the model")
    texts, loaded, results = read_sources(request["texts"]), load_model(request["model"]), Results()
    loaded.check_length(request["length"])
    sequences = _draw(loaded, texts, request, "report", request["sequences"], progress)
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
            mask, scored = (None if a is None else a[part] for a in (sequences.mask, sequences.scored))
            values = evaluation.sequence_losses(loaded, sequences.ids[part], state, mask=mask, scored=scored)
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
            torch.tensor([tokens], device=loaded.device),
            do_sample=False,
            max_new_tokens=room,
            pad_token_id=loaded.tokenizer.pad_token_id or 0,
        )
    return loaded.tokenizer.decode(out[0, len(tokens) :], skip_special_tokens=True)


def learn(request: dict, progress: Progress) -> dict:
    """The best state of M that a budget of forwards finds, measured on texts not used to choose; what it learned lies in the file `landscape`.

    Losses are kept in the store, so that the same request goes on where it was stopped, and Compare shows what was measured.
    """
    progress.report(0, 1, "loading the model")
    run = load_run(Path(request["run"]))
    texts, loaded = read_sources(request["texts"]), load_model(request["model"])
    if canonical_key(loaded.digest()) != model_key(run):
        raise InputError(f"The run {request['run']!r} is of another model than {request['model']!r} is now; calibrate it again.")
    asked = {"length": run.meta["texts"]["length"], "form": request.get("form")}
    choose, unseen = (_draw(loaded, texts, asked, split, request["sequences"], progress) for split in ("choose", "report"))
    found = learning.learn(
        learning.rows_for_prior(run), open_forwards(loaded, stratified(choose)), request["remove"], request["budget"], seed=request["seed"],
        report=progress.report,
    )  # fmt: skip
    judged = open_forwards(loaded, unseen)
    losses = {state: judged.whole(state) for state in ((), found.removed)}
    judged.known.flush()
    increase = losses[found.removed] - losses[()]
    return {
        "best": {"removed": list(found.removed), "loss": found.loss},
        "original": found.original,
        "curve": [[spent, loss] for spent, loss, _ in found.curve],
        "forwards": found.forwards,
        "sequences": request["sequences"],
        "states": len(found.measured),
        "report": {
            "loss": float(losses[found.removed].mean()), "original": float(losses[()].mean()), "increase": float(increase.mean()),
            "increase_se": float(increase.std(ddof=1) / math.sqrt(len(increase))),
        },
        "landscape": str(store.keep("landscapes", found.to_bytes(), ".npz")),
    }  # fmt: skip


def harness(request: dict, progress: Progress) -> dict:
    """Tasks of lm-evaluation-harness for every state of the request, by one protocol; see core.harness.measure."""
    from core import harness as tool  # takes seconds to import
    from core.presets import Preset

    progress.report(0, 1, "loading the model and the tasks")
    loaded = load_model(request["model"])
    protocol = Preset(**{**request["preset"], "tasks": tuple(request["preset"]["tasks"])})
    return tool.measure(loaded, request["states"], protocol, request["limit"], request["batch"], progress.report)


def behaviour(request: dict, progress: Progress) -> dict:
    """Short prompts answered by the original and every state of the request; see core.behaviour.measure."""
    from core.behaviour import measure

    progress.report(0, 1, "loading the model")
    return measure(load_model(request["model"]), request["states"], progress.report, request["tokens"])
