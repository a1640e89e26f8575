"""Calibration: sequences -> A, the per-sample gradients of the loss with respect to the gates
(core.calibration.gradient_rows).

A is kept; H0 and every other estimator is derived from it later (core.energy.couplings). The work is a
list of steps, batches of rows and single removals, that one process or many share.
"""

import itertools
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers

import core
from core.calibration.gradient_rows import gradient_rows, label_uniforms, measure_batch, out_of_memory
from core.errors import InputError
from core.measure.evaluation import sequence_losses
from core.model.gates import gate_of
from core.model.load import LoadedModel
from core.ranks import ALONE, Ranks
from core.store import runs
from core.store.checkpoint import Checkpoint
from core.store.runs import Rows, Run, Singles
from core.texts import Sequences

LOSS = "mean negative log-likelihood over predicted tokens, nats"
DROPPED_LIMIT = 0.01
LOG = logging.getLogger(__name__)
Report = Callable[[int, int, str], None]


def run_key(
    loaded: LoadedModel, sequences: Sequences, sampled: bool, singles: Sequences | None, seed: int
) -> str:
    """SHA-256 over all that changes the run's arrays beyond rounding; the plan (batch, threads) is not in
    it.
    """
    return runs.canonical_key(
        {
            "format": runs.FORMAT,
            "model": loaded.digest(),
            "tokens": sequences.sha256,
            "index": sequences.index.tolist(),
            "domain": [sequences.domains[d] for d in sequences.domain],
            "gate": gate_of(loaded),
            "loss": LOSS,
            "dtype": _dtype(loaded),
            "sampled": {"seed": seed} if sampled else None,
            "singles": singles.sha256 if singles else None,
        }
    )


def calibrate(
    loaded: LoadedModel,
    sequences: Sequences,
    *,
    batch: int | None = 16,
    sampled: bool = False,
    singles: Sequences | None = None,
    seed: int = 0,
    checkpointed: bool = False,
    request: dict | None = None,
    checkpoint: Path | None = None,
    report: Report = lambda done, total, message: None,
    ranks: Ranks = ALONE,
) -> Run | None:
    """Gradient rows of all sequences, and optionally rows of sampled labels and measured single removals.

    batch: sequences at once; None: measured before the first row. With a `checkpoint` folder, what is
    computed is saved every two seconds, and a later call with the same arguments and folder goes on
    from there, with the batch and threads it began with: bit-identical to a run in one piece.
    Of several `ranks` each computes its share of the steps, and rank 0 returns the run, the others None.
    Where memory runs out, the batch is computed in halves, which the plan then records.
    A sequence whose rows (of the texts' labels or of sampled ones) are not finite is
    dropped from both and counted; so is one that makes a single removal's loss not
    finite. Errors: InputError for a bad length or batch, or when more than 1 % of the
    sequences are not finite.
    """
    _check(loaded, sequences, singles, batch)
    began, started = time.monotonic(), datetime.now(UTC)
    asked = _Asked(loaded, sequences, sampled, singles, seed)
    saved = Checkpoint(checkpoint, {}, run_key(loaded, sequences, sampled, singles, seed), ranks.rank)
    _make_plan(asked, saved, batch, checkpointed, report, ranks)
    steps = _steps(asked, saved.plan)
    done = _compute(steps, saved, report, ranks)
    if done is None:
        return None
    main, own, dropped = _joined_rows(asked, done)
    measured, dropped_singles = _joined_singles(singles, len(loaded.blocks), done) if singles else (None, [])
    total = sum(step.cost for step in steps.values())
    report(total, total, "done")
    meta = {
        **_described(asked, saved, request),
        "dropped": dropped,
        "dropped_singles": dropped_singles,
        "plan": {**saved.plan, "ranks": ranks.world, "dtype": _dtype(loaded), "device": str(loaded.device)},
        **_circumstances(),
        "times": {
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - began, 3),
        },
    }
    return Run(meta, main, own, measured)


class _Asked(NamedTuple):
    """What is to be computed."""

    loaded: LoadedModel
    sequences: Sequences
    sampled: bool  # rows of sampled labels too
    singles: Sequences | None  # to measure single removals on
    seed: int  # of the sampled labels


class _Step(NamedTuple):
    """A piece of work: its arrays depend on nothing but its argument."""

    work: Callable[[int], dict[str, np.ndarray]]
    argument: int
    cost: int  # sequences
    message: str


def _check(loaded: LoadedModel, sequences: Sequences, singles: Sequences | None, batch: int | None) -> None:
    """Errors: InputError for what cannot be calibrated."""
    loaded.check_length(sequences.ids.shape[1])
    if len(loaded.blocks) < 2:
        raise InputError(
            f"{loaded.source!r} has {len(loaded.blocks)} block; choosing which to remove needs at least 2."
        )
    if singles is not None and len(singles.ids) < 2:
        raise InputError(
            "Single removals need at least 2 sequences for a standard error, not 1; give a larger --singles."
        )
    if batch is not None and batch < 1:
        raise InputError(f"The batch must be at least 1 sequence, not {batch}.")


def _make_plan(
    asked: _Asked, saved: Checkpoint, batch: int | None, checkpointed: bool, report: Report, ranks: Ranks
) -> None:
    """Give the checkpoint the plan that all ranks follow, that of an earlier launch where there was one, and
    take its number of threads.
    """
    count, length = asked.sequences.ids.shape
    if saved.damaged:
        LOG.warning(
            "%d damaged checkpoint files were set aside; what they held is computed again", saved.damaged
        )
    if not saved.plan:
        if batch is None and ranks.rank == 0:
            report(0, count, "measuring the batch")
            batch = measure_batch(asked.loaded, length, asked.sampled, checkpointed)
        saved.plan = {"batch": batch, "threads": torch.get_num_threads(), "checkpointed": checkpointed}
    saved.plan = ranks.agree(saved.plan)
    torch.set_num_threads(saved.plan["threads"])


def _steps(asked: _Asked, plan: dict) -> dict[str, _Step]:
    """All work by name, in order: batches of rows, then the full model and each block's removal."""
    loaded, sequences, sampled, singles, seed = asked
    size, count = plan["batch"], len(sequences.ids)

    def rows(start: int) -> dict[str, np.ndarray]:
        parts = [
            _rows_in_halves(loaded, sequences, part, sampled, seed, plan)
            for part in _parts(start, min(start + size, count), plan)
        ]
        return _joined(parts)

    steps = {
        f"rows-{start}": _Step(rows, start, min(size, count - start), "gradient rows")
        for start in range(0, count, size)
    }
    if singles is None:
        return steps
    ids, mask, scored = singles.ids, singles.mask, singles.scored

    def single(i: int) -> dict[str, np.ndarray]:
        removed = [i] if i >= 0 else []  # -1: the full model
        return {"loss": sequence_losses(loaded, ids, removed, size, mask=mask, scored=scored)}

    for i in range(-1, len(loaded.blocks)):
        steps[f"single-{i}"] = _Step(single, i, len(ids), "single removals")
    return steps


def _compute(
    steps: dict[str, _Step], saved: Checkpoint, report: Report, ranks: Ranks
) -> dict[str, dict[str, np.ndarray]] | None:
    """The arrays of all steps by name, of which this rank computes its own; None on ranks other than 0."""
    ends = list(itertools.accumulate(step.cost for step in steps.values()))
    for position, (name, step) in enumerate(steps.items()):
        if ranks.mine(position) and name not in saved:
            report(ends[position] - step.cost, ends[-1], step.message)
            saved.put(name, step.work(step.argument))
    saved.flush()
    shares = ranks.gather({name: saved[name] for name in steps if name in saved})
    if shares is None:
        return None
    done = {name: arrays for share in shares for name, arrays in share.items()}
    for name, step in steps.items():
        if name not in done:  # of a rank of an earlier launch, that kept it on a disk of its own
            done[name] = step.work(step.argument)
    return {name: done[name] for name in steps}


def _joined_rows(
    asked: _Asked, done: dict[str, dict[str, np.ndarray]]
) -> tuple[Rows, Rows | None, list[int]]:
    """(rows of the texts' labels, those of sampled ones, sequences dropped from both)."""
    arrays = _joined([own for name, own in done.items() if name.startswith("rows-")])
    finite = np.isfinite(np.column_stack(list(arrays.values()))).all(axis=1)
    dropped = _dropped(finite, asked.sequences, "gradient rows")
    main = _rows(arrays["A"], arrays["loss"], asked.sequences, finite)
    own = _rows(arrays["own_A"], arrays["own_loss"], asked.sequences, finite) if asked.sampled else None
    return main, own, dropped


def _joined_singles(
    singles: Sequences, blocks: int, done: dict[str, dict[str, np.ndarray]]
) -> tuple[Singles, list[int]]:
    """(loss increase of each block's removal, sequences dropped)."""
    losses = np.array([done[f"single-{i}"]["loss"] for i in range(-1, blocks)])
    finite = np.isfinite(losses).all(axis=0)
    dropped = _dropped(finite, singles, "losses with a block removed")
    increase = losses[1:, finite] - losses[0, finite]
    count = increase.shape[1]
    return Singles(increase.mean(axis=1), increase.std(axis=1, ddof=1) / np.sqrt(count), count), dropped


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays of the same fields, one part behind the other."""
    return {field: np.concatenate([part[field] for part in parts]) for field in parts[0]}


def _described(asked: _Asked, saved: Checkpoint, request: dict | None) -> dict:
    """What a run says of its model, its texts and its labels."""
    loaded, sequences = asked.loaded, asked.sequences
    return {
        "key": saved.key,
        "request": request or {},
        "model": {
            "name": loaded.name,
            "source": loaded.source,
            "type": loaded.model.config.model_type,
            **loaded.digest(),
            "parameters": loaded.parameters(),
            "bytes": loaded.weights_bytes(),
            "written_item": loaded.files.written().itemsize,  # bytes of a weight in an export
            "blocks": [b.to_json() for b in loaded.blocks],
        },
        "texts": {
            "source": sequences.source,
            "sources": [s.to_json() for s in sequences.sources],
            "form": dict(sequences.form),
            "hash": sequences.texts_sha256,
            "split": sequences.split,
            "domains": list(sequences.domains),
            "template": sequences.template,
            "length": sequences.ids.shape[1],
            "available": sequences.available,
            "predicted": round(sequences.predicted / len(sequences.ids), 3),
            "tokens": sequences.sha256,
        },
        "gate": gate_of(loaded),
        "loss": LOSS,
        "labels": ["data", "sampled"] if asked.sampled else ["data"],
        "seed": asked.seed,
    }


def _circumstances() -> dict:
    """The software and the machine."""
    return {
        "versions": {
            "blockscape": core.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
    }


def _dtype(loaded: LoadedModel) -> str:
    """The type the model computes in."""
    return str(next(loaded.model.parameters()).dtype).removeprefix("torch.")


def _parts(start: int, end: int, plan: dict) -> Iterator[slice]:
    """The sequences of one batch, as many at once as memory holds by now."""
    size = plan.get("at_once", plan["batch"])
    return (slice(i, min(i + size, end)) for i in range(start, end, size))


def _rows_in_halves(
    loaded: LoadedModel, sequences: Sequences, part: slice, sampled: bool, seed: int, plan: dict
) -> dict[str, np.ndarray]:
    """Rows of some sequences, {A, loss} and of sampled labels {own_A, own_loss}; where memory runs out, in
    halves, noted in the plan.
    """
    ids = torch.from_numpy(sequences.ids[part])
    mask, scored = (
        None if a is None else torch.from_numpy(a[part]) for a in (sequences.mask, sequences.scored)
    )
    uniforms = label_uniforms(sequences.index[part], ids.shape[1], seed) if sampled else None
    try:
        A, loss, own = gradient_rows(
            loaded,
            ids,
            mask=mask,
            sampled_uniforms=uniforms,
            scored=scored,
            checkpointed=plan["checkpointed"],
        )
        return {
            "A": A.numpy(),
            "loss": loss.numpy(),
            **({"own_A": own[0].numpy(), "own_loss": own[1].numpy()} if own else {}),
        }
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    if len(ids) == 1:
        raise InputError(
            f"Memory ran out on one sequence of {ids.shape[1]} tokens of {loaded.source!r}; choose a smaller "
            "--length or --checkpointed."
        )
    if loaded.device.type == "cuda":
        torch.cuda.empty_cache()
    half = -(-len(ids) // 2)
    plan["at_once"] = min(half, plan.get("at_once", half))
    LOG.warning("memory ran out on %d sequences at once: going on with %d", len(ids), half)
    halves = (slice(part.start, part.start + half), slice(part.start + half, part.stop))
    first, second = (_rows_in_halves(loaded, sequences, h, sampled, seed, plan) for h in halves)
    return _joined([first, second])


def _dropped(finite: np.ndarray, sequences: Sequences, what: str) -> list[int]:
    """Indices of the sequences that are not finite. Errors: InputError when they are more than 1 %."""
    dropped = sequences.index[~finite].tolist()
    if len(dropped) > DROPPED_LIMIT * len(finite):
        raise InputError(
            f"{len(dropped)} of {len(finite)} {what} are not finite (the first is sequence {dropped[0]}), "
            "more than 1 %; "
            f"the model's weights overflow or are damaged: take them anew from the model's origin."
        )
    return dropped


def _rows(A: np.ndarray, loss: np.ndarray, sequences: Sequences, finite: np.ndarray) -> Rows:
    return Rows(A[finite], sequences.index[finite], sequences.domain[finite], loss[finite])
