"""What a model is and what calibrating it costs here."""

import time
from functools import partial

import numpy as np
import torch

from core.calibration.corpus import available, read_sources
from core.calibration.gradient_rows import at_once, gradient_rows, made_up_ids, measure_batch, singles_at_once
from core.calibration.own_samples import own_sequences
from core.errors import InputError
from core.ising.units import BRANCH
from core.job_kinds.common import load
from core.jobs.progress import Progress
from core.measure.state_losses import open_forwards
from core.model.devices import free_memory
from core.model.gates import gate_of
from core.model.load import LoadedModel
from core.model.memory import calibration_bytes, peak_bytes
from core.texts import Sequences

OWN_BATCH, OWN_TOKENS = 16, 32  # own samples drawn to time them: as many at once as always, and shorter


def run(request: dict, progress: Progress) -> dict:
    """What a model is, what its texts give, and what calibration costs here: measured on one batch of made-up
    tokens.

    The result: model {...}, blocks [...], domains and parts as core.calibration.corpus.available gives them,
    and for core.jobs.costs: batch, rows_seconds, forward_seconds, singles_seconds (all single removals) and
    branches_seconds (of branches) of a batch, own_seconds of an own sample, load_seconds, memory (peak
    bytes), threads.
    """
    progress.report(0, 3, "loading the model")
    texts = read_sources(request["texts"])
    length, checkpointed = request["length"], request.get("checkpointed", False)
    _check_memory(request)
    loaded = load(request)
    load_seconds = time.monotonic() - progress.began  # with the worker's own imports
    loaded.check_length(length)
    progress.report(1, 3, "reading the texts")
    drawable = available(loaded, texts, length, request.get("form"))
    progress.report(2, 3, "timing one batch")
    batch = request["batch"] or measure_batch(loaded, length, request["sampled"], checkpointed)
    ids = made_up_ids(loaded, batch, length)
    uniforms = torch.rand(ids.shape, dtype=torch.float64) if request["sampled"] else None
    together = at_once(loaded, batch, length, checkpointed)  # the first rows, which set up

    def rows() -> None:
        for start in range(0, batch, together):
            part = slice(start, start + together)
            own = None if uniforms is None else uniforms[part]
            gradient_rows(loaded, ids[part], sampled_uniforms=own, checkpointed=checkpointed)

    rows_seconds = _seconds(rows)
    forward_seconds, singles_seconds, branches_seconds = _forwards(loaded, ids.numpy())
    own_seconds = _own_seconds(loaded, length) if texts.own else 0.0
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
        "sampled": request["sampled"],
        "forward_seconds": forward_seconds,
        "singles_seconds": singles_seconds,
        "branches_seconds": branches_seconds,
        "load_seconds": load_seconds,
        "memory": peak_bytes(),
        "threads": torch.get_num_threads(),
    }


def _own_seconds(loaded: LoadedModel, length: int) -> float:
    """Of one own sample of so many tokens, from a batch of shorter ones."""
    timed = min(length, OWN_TOKENS)
    seconds = _seconds(lambda: own_sequences(loaded, "calibrate", timed, OWN_BATCH))
    return seconds / OWN_BATCH * length / timed


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


def _forwards(loaded: LoadedModel, ids: np.ndarray) -> tuple[float, float, float]:
    """Seconds of (a forward, the full model and every single removal, every branch alone) of a batch:
    removals go on from hidden states of the full model, so that the time falls evenly from the first block's
    to the last one's.
    """
    index = np.arange(len(ids))
    made_up = Sequences(
        ids, index, np.zeros_like(index), ("made up",), "calibrate", "made up", "", len(ids), "none"
    )
    n = len(loaded.blocks)
    together = singles_at_once(loaded, made_up, len(ids))
    meter = open_forwards(loaded, made_up, keep=False, memory=0, chunk=together)
    full, last = (
        sum(_seconds(partial(meter.measure, state, chunk)) for chunk in range(len(meter.chunks)))
        for state in ((), (n - 1,))
    )
    units = loaded.seen(BRANCH).units
    branches = len(units) * (full + last) / 2 if units.by == BRANCH else 0.0
    return full, full + n * (full + last) / 2, branches


def _seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
