"""What each kind of job does: called by the worker of core.jobs.job with the request and its Progress."""

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from core.calibration.calibrate import calibrate as compute_run
from core.calibration.calibrate import run_key
from core.calibration.corpus import Read, available, draw, read_sources
from core.calibration.gradient_rows import gradient_rows, made_up_ids, measure_batch
from core.calibration.own_samples import own_sequences
from core.choose import learning
from core.choose import peers as rivals
from core.compare.comparison import model_key
from core.energy.learned import keep_learned
from core.errors import InputError
from core.export.write import is_export_of, zip_export
from core.export.write import prune as write_pruned
from core.ising.states import check_blocks
from core.jobs.job import Progress
from core.measure import evaluation
from core.measure.forwards import Kept, open_forwards, stratified
from core.model.devices import free_memory
from core.model.gates import gate_of
from core.model.load import LoadedModel, load_model
from core.model.memory import calibration_bytes, peak_bytes
from core.model.surgery import without
from core.ranks import ALONE, Ranks
from core.store.results import Key, Results
from core.store.runs import Run, canonical_key, keep_run, load_run, set_aside, stored_run
from core.tasks.items import read_tasks, tasks_digest
from core.texts.sequences import Sequences

LOG = logging.getLogger(__name__)
OWN_BATCH = 4  # own samples drawn to time them


def _load(request: dict) -> LoadedModel:
    return load_model(request["model"], remote_code=request.get("remote_code", False))


def describe(request: dict, progress: Progress) -> dict:
    """What a model is, what its texts give, and what calibration costs here: measured on one batch of made-up
    tokens.

    The result: model {...}, blocks [...], domains and parts as core.calibration.corpus.available gives them,
    and for core.jobs.costs: batch, rows_seconds and forward_seconds of a batch, own_seconds of an own sample,
    load_seconds, memory (peak bytes), threads.
    """
    progress.report(0, 3, "loading the model")
    texts, length, checkpointed = (
        read_sources(request["texts"]),
        request["length"],
        request.get("checkpointed", False),
    )
    _check_memory(request)
    loaded = _load(request)
    load_seconds = time.monotonic() - progress.began  # with the worker's own imports
    loaded.check_length(request["length"])
    progress.report(1, 3, "reading the texts")
    drawable = available(loaded, texts, request["length"], request.get("form"))
    progress.report(2, 3, "timing one batch")
    batch = request["batch"] or measure_batch(loaded, length, request["sampled"], checkpointed)
    ids = made_up_ids(loaded, batch, length)
    uniforms = torch.rand(ids.shape, dtype=torch.float64) if request["sampled"] else None
    work = partial(gradient_rows, loaded, checkpointed=checkpointed)
    work(ids[:1], sampled_uniforms=None if uniforms is None else uniforms[:1])  # the first call sets up
    rows_seconds = _seconds(lambda: work(ids, sampled_uniforms=uniforms))
    forward_seconds = _seconds(lambda: evaluation.sequence_losses(loaded, ids.numpy(), [], batch))
    own_seconds = (
        _seconds(lambda: own_sequences(loaded, "calibrate", length, OWN_BATCH)) / OWN_BATCH
        if texts.own
        else 0.0
    )
    return {
        "model": {
            "name": loaded.name,
            "type": loaded.model.config.model_type,
            "parameters": loaded.parameters(),
            "bytes": loaded.weights_bytes(),
            "max_length": loaded.max_length,
        },
        "blocks": [b.to_json() for b in loaded.blocks],
        "gate": gate_of(loaded),
        **drawable,
        "own_seconds": own_seconds,
        "batch": batch,
        "rows_seconds": rows_seconds,
        "forward_seconds": forward_seconds,
        "load_seconds": load_seconds,
        "memory": peak_bytes(),
        "threads": torch.get_num_threads(),
    }


def _check_memory(request: dict) -> None:
    """Errors: InputError where a batch of a calibration needs more memory than there is, before any weight is
    read; where that can be told.
    """
    free = None if torch.cuda.is_available() or request.get("remote_code") else free_memory()
    if free is None:
        return
    batch = request["batch"] or 1
    needed = calibration_bytes(
        request["model"], batch, request["length"], request["sampled"], request.get("checkpointed", False)
    )
    if needed and needed - peak_bytes() > free:
        raise InputError(
            f"{batch} sequences of {request['length']} tokens of {request['model']!r} take about "
            f"{needed / 1e9:.1f} GB and {free / 1e9:.1f} GB "
            f"of memory are free; choose a smaller batch or length, or checkpoint blocks."
        )


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
    texts, loaded = read_sources(request["texts"]) if ranks.rank == 0 else None, _load(request)
    loaded.check_length(request["length"])
    asked = [
        ("calibrate", request["samples"]),
        *([("choose", request["singles"])] if request["singles"] else []),
    ]
    drawn = ranks.agree(
        [_draw(loaded, texts, request, *one, progress) for one in asked] if ranks.rank == 0 else None
    )
    sequences, singles = (*drawn, None)[:2]
    key = run_key(loaded, sequences, request["sampled"], singles, request["seed"])
    aside, run = ranks.agree(_kept(key) if ranks.rank == 0 else None)
    if run is None:
        run = compute_run(
            loaded,
            sequences,
            batch=request["batch"],
            sampled=request["sampled"],
            singles=singles,
            seed=request["seed"],
            checkpointed=request.get("checkpointed", False),
            request=request,
            checkpoint=progress.work,
            report=progress.report,
            ranks=ranks,
        )
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


def _draw(
    loaded: LoadedModel, texts: Read, request: dict, split: str, samples: int, progress: Progress
) -> Sequences:
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
        LOG.warning(
            "the stored run %s was damaged and is set aside in %s; it is computed again", key[:8], aside
        )
    try:
        return aside, stored_run(key)
    except InputError:  # not there (any more)
        return aside, None


def prune(request: dict, progress: Progress) -> dict:
    """A real checkpoint without the request's blocks, verified, in the folder `out`, and beside it a .zip
    when `zip` asks and it is small.
    """
    out = Path(request["out"])
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(progress.work, ignore_errors=True)  # what a worker that was killed has left
    progress.work.mkdir(exist_ok=True)
    same_disk = out.parent.stat().st_dev == progress.work.stat().st_dev
    # a killed worker's: moved away whole, never thinned out
    if is_export_of(out, request["model"], request["blocks"]):
        os.replace(out, progress.work / "earlier") if same_disk else shutil.rmtree(out)
    done = write_pruned(
        request["model"],
        request["blocks"],
        out,
        provenance=request["provenance"],
        workshop=progress.work if same_disk else None,
        remote_code=request.get("remote_code", False),
        report=progress.report,
    )
    archive = zip_export(out) if request["zip"] else None
    return {**done.to_json(), "zip": archive and str(archive)}


def evaluate(request: dict, progress: Progress) -> dict:
    """Loss, tasks and speed of one model, as the command line prints them."""
    progress.report(0, request["sequences"], "loading the model")
    texts, loaded = read_sources(request["texts"]), _load(request)
    loaded.check_length(request["length"])
    sequences = _draw(loaded, texts, request, "report", request["sequences"], progress)
    items = read_tasks() if request["tasks"] else []
    return evaluation.evaluate(
        loaded, sequences, items, batch=request["batch"], report=progress.report
    ).to_json()


def _states(request: dict, loaded: LoadedModel) -> list[tuple[int, ...]]:
    """The states that are asked for, each once.

    Errors: InputError for one that the model does not have: nothing is measured under its name.
    """
    return list(dict.fromkeys(check_blocks(state, len(loaded.blocks)) for state in request["states"]))


ANSWER_TOKENS = 40
_ITEMS = 25  # task items measured between two writes


def benchmark(request: dict, progress: Progress, ranks: Ranks = ALONE) -> dict | None:
    """Loss, tasks, speed and one answer for every state of the request, each item once; the model is loaded
    once.

    States are lists of removed blocks; the empty list is the original. Losses come first, a chunk of
    sequences for all states at a time, on kept prefixes (core.measure.forwards): an early stop has something
    of every state. `speed`, where it is False, leaves out tokens per second. Of several ranks each measures
    its share of the states.
    """
    progress.report(0, 1, "loading the model")
    texts, loaded, results = read_sources(request["texts"]), _load(request), Results()
    states = _states(request, loaded)
    loaded.check_length(request["length"])
    drawn = (
        _draw(loaded, texts, request, "report", request["sequences"], progress) if ranks.rank == 0 else None
    )
    sequences = ranks.agree(drawn)
    items = read_tasks() if request["tasks"] else []
    # neighbours share prefixes
    walked = sorted(states, key=lambda s: [i for i in range(len(loaded.blocks)) if i not in s])
    own = [walked[k] for k in np.array_split(np.arange(len(walked)), ranks.world)[ranks.rank]]
    model = canonical_key(loaded.digest())
    speed = request.get("speed", True)
    each = len(sequences.ids) + len(items) + speed + bool(request["prompt"])
    done, total = 0, len(own) * each

    meter = open_forwards(loaded, sequences)
    for chunk, part in enumerate(meter.chunks):
        for state in own:
            progress.report(done, total, f"loss of {len(own)} states" if len(own) > 1 else "loss")
            meter.measure(state, chunk)
            done += part.stop - part.start
    meter.known.flush()

    names = sorted({item.task for item in items})
    for number, state in enumerate(own):
        label = "original" if not state else f"state {number + 1} of {len(own)}"
        with without(loaded, state):
            for name in names:
                key = Key(
                    model,
                    state,
                    tasks_digest(),
                    "test",
                    f"task:{name}",
                    json.dumps({"tokenizer": loaded.tokenizer_digest()}),
                )
                have = results.items(key)
                asked = [k for k, item in enumerate(items) if item.task == name]
                left = [k for k in asked if k not in have]
                done += len(asked) - len(left)
                for start in range(0, len(left), _ITEMS):
                    progress.report(done, total, f"{label}: {name}")
                    part, began = left[start : start + _ITEMS], time.monotonic()
                    chosen = [items[k] for k in part]
                    correct = evaluation.task_results(chosen, evaluation.option_scores(loaded, chosen))[name][
                        "correct"
                    ]
                    results.put(key, dict(zip(part, correct)), time.monotonic() - began, meter.known.versions)
                    done += len(part)
            progress.report(done, total, f"{label}: speed and answer")
            if speed:
                _measure_speed(loaded, results, model, state, sequences.ids)
            if request["prompt"] and (state, request["prompt"]) not in results.answers(model):
                results.put_answer(
                    model,
                    state,
                    request["prompt"],
                    json.dumps({"tokens": ANSWER_TOKENS}),
                    _answer(loaded, request["prompt"]),
                )
        done += speed + bool(request["prompt"])
    progress.report(total, total, "done")
    if ranks.gather(len(own)) is None:
        return None
    known = Kept(loaded, sequences)  # of all ranks
    base = known.get((), slice(None))
    return {
        "model": model,
        "states": [
            {"removed": list(state), **_told(known.get(state, slice(None)), base)} for state in states
        ],
        "sequences": len(sequences.ids),
        "items": len(items),
    }


def _told(losses: np.ndarray, base: np.ndarray | None) -> dict:
    """Mean loss and, where the original was measured too, its paired increase, with standard errors (None of
    one sequence).
    """
    se = lambda values: float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None  # noqa: E731
    found = {"loss": float(losses.mean()), "loss_se": se(losses)}
    if base is None:
        return found
    return {**found, "increase": float((losses - base).mean()), "increase_se": se(losses - base)}


def _measure_speed(loaded: LoadedModel, results: Results, model: str, state: Sequence[int], ids) -> None:
    """Of the model as it is now, the blocks of `state` really removed."""
    key = Key(
        model,
        tuple(state),
        "speed",
        "",
        "tokens_per_second",
        json.dumps({"length": ids.shape[1], "threads": torch.get_num_threads(), **loaded.arithmetic()}),
    )
    if not results.items(key):
        results.put(key, {0: evaluation.tokens_per_second(loaded, ids)})


def _answer(loaded: LoadedModel, prompt: str) -> str:
    """The greedy continuation of the prompt, prompt not repeated."""
    head = [] if loaded.tokenizer.bos_token_id is None else [loaded.tokenizer.bos_token_id]
    tokens = head + loaded.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    room = min(ANSWER_TOKENS, (loaded.max_length or math.inf) - len(tokens))
    if room < 1:
        raise InputError(
            f"The prompt takes {len(tokens)} tokens and {loaded.source!r} has {loaded.max_length} positions; "
            "shorten it."
        )
    with torch.no_grad():
        out = loaded.model.generate(
            torch.tensor([tokens], device=loaded.device),
            do_sample=False,
            max_new_tokens=room,
            pad_token_id=loaded.tokenizer.pad_token_id or 0,
        )
    return loaded.tokenizer.decode(out[0, len(tokens) :], skip_special_tokens=True)


def _choosing(request: dict, progress: Progress) -> tuple[Run, LoadedModel, Sequences, Sequences]:
    """(the run, its model, sequences to choose by with every domain in every chunk, sequences to report on).
    Errors: InputError.
    """
    run = load_run(Path(request["run"]))
    texts, loaded = read_sources(request["texts"]), _load(request)
    if canonical_key(loaded.digest()) != model_key(run):
        raise InputError(
            f"The run {request['run']!r} is of another model than {request['model']!r} is now; calibrate it "
            "again."
        )
    asked = {"length": run.meta["texts"]["length"], "form": request.get("form")}
    choose, unseen = (
        _draw(loaded, texts, asked, split, request["sequences"], progress) for split in ("choose", "report")
    )
    return run, loaded, stratified(choose), unseen


def _unseen(
    loaded: LoadedModel, unseen: Sequences, states: Iterable[tuple[int, ...]]
) -> dict[tuple[int, ...], dict]:
    """{state: what it loses on sequences that no choice has seen}."""
    judged = open_forwards(loaded, unseen)
    base, found = judged.whole(()), {}
    for state in states:
        found[state] = {"original": float(base.mean()), **_told(judged.whole(state), base)}
    judged.known.flush()
    return found


def learn(request: dict, progress: Progress) -> dict:
    """The best state of M that a budget of forwards finds, measured on texts not used to choose; what it
    learned lies in the file `landscape`.

    Losses are kept in the store, so that the same request goes on where it was stopped, and Compare shows
    what was measured.
    """
    progress.report(0, 1, "loading the model")
    run, loaded, choose, unseen = _choosing(request, progress)
    note = progress.curves()
    found = learning.learn(
        learning.rows_for_prior(run),
        open_forwards(loaded, choose),
        request["remove"],
        request["budget"],
        seed=request["seed"],
        report=progress.report,
        better=lambda point: note("learned", *point),
    )
    return {
        "best": {"removed": list(found.removed), "loss": found.loss},
        "original": found.original,
        "curve": [[spent, loss] for spent, loss, _ in found.curve],
        "forwards": found.forwards,
        "sequences": request["sequences"],
        "states": len(found.measured),
        "report": _unseen(loaded, unseen, [found.removed])[found.removed],
        "landscape": str(keep_learned(run.key, request["remove"], found.posterior)),
    }


def peers(request: dict, progress: Progress) -> dict:
    """What other methods choose for the run's model at M, on the same sequences and the same meter
    (core.choose.peers).

    The result: original, the loss in nats; methods {name: {removed, forwards, loss, report}}, forwards None
    where the budget is below what the method needs; curves {search: [[forwards, loss], ..]}. Searches get the
    budget, or what greedy takes if that is more.
    """
    progress.report(0, 1, "loading the model")
    _, loaded, choose, unseen = _choosing(request, progress)
    m, note = request["remove"], progress.curves()
    meter = partial(open_forwards, loaded, choose)
    found: dict[str, rivals.Choice] = {}
    for name, choices in rivals.chosen_at_once(loaded, choose, meter, [m]):
        found[name] = choices[m]
        progress.report(
            0, 1, f"{rivals.ONE_SHOT[name]}, {len(found)} of {len(rivals.ONE_SHOT)} rules"
        )  # they take so different times that no rate holds
    own = meter()
    steps = rivals.greedy(own, m, progress.report)
    own.known.flush()
    found["greedy"] = steps[m]
    note("greedy", steps[m].forwards, steps[m].loss, steps[m].removed)
    budget, curves = (
        max(request["budget"], steps[m].forwards),
        {"greedy": [[steps[m].forwards, steps[m].loss]]},
    )
    for name, search in (("evolutionary", rivals.evolutionary), ("random", rivals.random_search)):
        own = meter()
        curve = search(own, m, budget, request["seed"], progress.report)
        own.known.flush()
        curves[name] = [[c.forwards, c.loss] for c in curve]
        for c in curve:
            note(name, c.forwards, c.loss, c.removed)
        if curve:
            found[name] = curve[-1]
    own = meter()
    losses = {name: float(own.whole(choice.removed).mean()) for name, choice in found.items()}
    original = float(own.whole(()).mean())
    own.known.flush()
    reported = _unseen(loaded, unseen, {choice.removed for choice in found.values()})
    return {
        "original": original,
        "methods": {
            name: {
                "removed": list(c.removed),
                "forwards": c.forwards,
                "loss": losses[name],
                "report": reported[c.removed],
            }
            for name, c in found.items()
        },
        "curves": curves,
        "budget": budget,
    }


def harness(request: dict, progress: Progress) -> dict:
    """Tasks of lm-evaluation-harness for every state of the request, by one protocol; see
    core.measure.harness.measure.
    """
    from core.measure import harness as tool  # takes seconds to import
    from core.tasks.presets import Preset

    progress.report(0, 1, "loading the model and the tasks")
    loaded = _load(request)
    protocol = Preset(**{**request["preset"], "tasks": tuple(request["preset"]["tasks"])})
    return tool.measure(
        loaded, _states(request, loaded), protocol, request["limit"], request["batch"], progress.report
    )


def behaviour(request: dict, progress: Progress) -> dict:
    """Short prompts answered by the original and every state of the request; see
    core.measure.behaviour.measure.
    """
    from core.measure.behaviour import measure

    progress.report(0, 1, "loading the model")
    loaded = _load(request)
    return measure(loaded, _states(request, loaded), progress.report, request["tokens"])
