"""What several kinds of jobs share: a model and texts, the states that are asked for, paired losses."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from core.calibration.corpus import Read, draw, read_sources
from core.compare.comparison import distance_of, model_key
from core.errors import InputError
from core.ising.units import BLOCK, State
from core.jobs.progress import Progress
from core.measure.state_losses import DISTANCES, Kept, open_forwards, stratified
from core.model.load import LoadedModel, load_model
from core.model.named import seen_for, state_of
from core.spectrum.constraints import Constraints, read_constraints
from core.spectrum.memory_budget import read_budget, with_budget
from core.store.results import LOSS, RULERS
from core.store.runs import Run, canonical_key, load_run
from core.texts import Sequences


def load(request: dict) -> LoadedModel:
    """The model that a request names. Errors: InputError, as core.model.load.load_model."""
    return load_model(request["model"], remote_code=request.get("remote_code", False))


def draw_sequences(
    loaded: LoadedModel, texts: Read, request: dict, split: str, samples: int, progress: Progress
) -> Sequences:
    """`samples` sequences of a split, of the length, seed and form that the request asks for."""
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


def states_of(request: dict, loaded: LoadedModel) -> tuple[LoadedModel, list[State]]:
    """(the model as the states of a request see it, the states, each once). Errors: InputError, as
    `state_of`.
    """
    seen = seen_for(loaded, request["states"])
    return seen, list(dict.fromkeys(state_of(state, seen) for state in request["states"]))


def paired(losses: np.ndarray, base: np.ndarray | None) -> dict:
    """Mean loss and, where the original was measured too, its paired increase, with standard errors (None of
    one sequence).
    """
    found = {"loss": float(losses.mean()), "loss_se": _standard_error(losses)}
    if base is None:
        return found
    above = losses - base
    return {**found, "increase": float(above.mean()), "increase_se": _standard_error(above)}


def rules_of(request: dict, run: Run) -> Constraints | None:
    """What every state of a search must respect: the texts of `rules` in the request, as
    core.spectrum.constraints reads them, and a budget under "fits". Errors: InputError.
    """
    texts = request.get("rules") or {}
    if not texts:
        return None
    constraints = read_constraints(texts, run.units)
    fits = texts.get("fits", "").strip()
    return with_budget(run.meta["model"], read_budget(fits), constraints) if fits else constraints


def ruler_of(request: dict) -> str:
    """What a search goes by: the loss, or the KL to the original."""
    ruler = request.get("ruler", LOSS)
    if ruler not in RULERS:
        raise InputError(f"There is no ruler {str(ruler)[:40]!r}; choose one of {', '.join(RULERS)}.")
    return ruler


def measured_of(known: Kept, state: tuple[int, ...], base: np.ndarray | None) -> dict:
    """`paired`, and the distance to the original (core.compare.comparison.Distance), of what is known of all
    sequences.
    """
    loss, kl, same = known.every(state)
    histograms = known.histograms.get(state, {})
    own = distance_of(kl, same, [histograms[i] for i in known.index if i in histograms])
    return {**paired(loss, base), **own.to_json()}


def _standard_error(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def choosing(request: dict, progress: Progress) -> tuple[Run, LoadedModel, Sequences, Sequences]:
    """(the run, its model, sequences to choose by with every domain in every chunk, sequences to report on).
    Errors: InputError.
    """
    run = load_run(Path(request["run"]))
    texts, loaded = read_sources(request["texts"]), load(request)
    if canonical_key(loaded.digest()) != model_key(run):
        raise InputError(
            f"The run {request['run']!r} is of another model than {request['model']!r} is now; calibrate it "
            "again."
        )
    asked = {"length": run.meta["texts"]["length"], "form": request.get("form")}
    choose, unseen = (
        draw_sequences(loaded, texts, asked, split, request["sequences"], progress)
        for split in ("choose", "report")
    )
    by = request.get("by", BLOCK)
    return run.seen(by), loaded.seen(by), stratified(choose), unseen


def unseen_losses(
    loaded: LoadedModel, unseen: Sequences, states: Iterable[tuple[int, ...]]
) -> dict[tuple[int, ...], dict]:
    """{state: what it loses on sequences that no choice has seen, and how far it is from the original}."""
    judged, states = open_forwards(loaded, unseen, tokens=True), list(states)
    for state in ((), *states):
        judged.whole(state)
        judged.save()
    known = Kept(loaded, unseen, DISTANCES, tokens=True)
    base = known.whole(())
    return {s: {"original": float(base.mean()), **measured_of(known, s, base)} for s in states}
