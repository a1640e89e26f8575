"""Calibration: sequences -> A, the per-sample gradients of the loss with respect to the gates
(core.calibration.gradient_rows).

A is kept, of every branch and summed over those of a block; H0 and every other estimator is derived from it
later (core.energy.couplings). The work is a list of steps, batches of rows and single removals, that one
process or many share.
"""

import itertools
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers

import core
from core.calibration.gradient_rows import (
    at_once,
    gradient_rows,
    label_uniforms,
    measure_batch,
    out_of_memory,
    singles_at_once,
)
from core.errors import InputError
from core.ising.units import BRANCH, Units
from core.measure.state_losses import ROW_FORWARDS, State, open_forwards, singles_order
from core.model.gates import gate_of
from core.model.load import LoadedModel
from core.ranks import ALONE, Ranks
from core.store import runs
from core.store.checkpoint import COLUMNS, FIRST, ROWS, Checkpoint
from core.store.runs import BRANCH_SINGLES, Branches, Rows, Run, Singles, by_block
from core.texts import Sequences
from core.texts.sequences import start_of

LOSS = "mean negative log-likelihood over predicted tokens, nats"
DROPPED_LIMIT = 0.01
OWN_FORWARDS = 1.3  # what sampled labels add to ROW_FORWARDS: a backward more
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
    from there, with the batch it began with: at the same number of threads bit-identical to a run in one
    piece.
    Of several `ranks` each computes its share of the steps, and rank 0 returns the run, the others None.
    The sequences of a batch that memory does not hold together are computed one part after the other, and
    where it runs out all the same in halves: the plan records how many at once.
    A sequence whose rows (of the texts' labels or of sampled ones) are not finite is
    dropped from both and counted; so is one that makes a single removal's loss not
    finite. Errors: InputError for a bad length or batch, or when more than 1 % of the
    sequences are not finite.
    """
    check(loaded, sequences, singles, batch)
    began, started = time.monotonic(), datetime.now(UTC)
    asked = _Asked(loaded, sequences, sampled, singles, seed)
    saved = Checkpoint(checkpoint, {}, run_key(loaded, sequences, sampled, singles, seed))
    _make_plan(asked, saved, batch, checkpointed, report, ranks)
    if COLUMNS not in saved:
        saved.put(COLUMNS, {FIRST: np.array([own[0] for own in loaded.seen(BRANCH).units.of_block])})
    steps = _steps(asked, saved.plan, ranks.world)
    done = compute(steps, saved, report, ranks)
    if done is None:
        return None
    main, own, dropped = _joined_rows(asked, done)
    measured, dropped_singles = _joined_singles(singles, done) if singles else ({}, [])
    units = loaded.seen(BRANCH).units
    total = round(sum(step.cost for step in steps.values()))
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
    summed = lambda rows: replace(rows, A=by_block(rows.A, units))  # noqa: E731
    run = Run(meta, summed(main), own and summed(own), _single_costs(measured, loaded.units))
    if units.by != BRANCH:
        return run
    alone = _single_costs(measured, units)
    block = None
    if alone is not None:
        block = np.array([measured[str(b)][: alone.sequences].mean() for b in range(len(loaded.blocks))])
    return replace(run, branches=Branches(main.A, own.A if own else None, alone, block))


class _Asked(NamedTuple):
    """What is to be computed."""

    loaded: LoadedModel
    sequences: Sequences
    sampled: bool  # rows of sampled labels too
    singles: Sequences | None  # to measure single removals on
    seed: int  # of the sampled labels


class Step(NamedTuple):
    """A piece of work: its arrays depend on nothing but its argument."""

    work: Callable[..., dict[str, np.ndarray]]
    argument: tuple
    cost: float  # against that of the rows of one sequence
    message: str
    turn: int  # whose it is: core.ranks.Ranks.mine


def check(loaded: LoadedModel, sequences: Sequences, singles: Sequences | None, batch: int | None) -> None:
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
    """Give the checkpoint the plan that all ranks follow, that of an earlier launch where there was one, with
    the threads of rank 0 of this one.
    """
    count = len(asked.sequences.ids)
    if saved.damaged:
        LOG.warning(
            "%d damaged checkpoint files were set aside; what they held is computed again", saved.damaged
        )
    if not saved.plan and ranks.rank == 0:
        report(0, count, "measuring the batch")
        saved.plan = new_plan(
            asked.loaded, asked.sequences, asked.singles, asked.sampled, batch, checkpointed
        )
    saved.plan = ranks.agree({**saved.plan, "threads": torch.get_num_threads()})
    torch.set_num_threads(saved.plan["threads"])


def new_plan(
    loaded: LoadedModel,
    sequences: Sequences,
    singles: Sequences | None,
    sampled: bool,
    batch: int | None,
    checkpointed: bool,
) -> dict:
    """The batch, and how many of its sequences at once where memory does not hold it whole."""
    length = sequences.ids.shape[1]
    batch = batch or measure_batch(loaded, length, sampled, checkpointed)
    few = {"at_once": at_once(loaded, batch, length, checkpointed)}
    if singles is not None:
        few["singles"] = singles_at_once(loaded, singles, batch)
    return {
        "batch": batch,
        "checkpointed": checkpointed,
        **{what: count for what, count in few.items() if count < batch},
    }


def _steps(asked: _Asked, plan: dict, world: int) -> dict[str, Step]:
    """All work by name, in order: batches of rows, then single removals; shared by so many ranks."""
    _, sequences, sampled, singles, seed = asked
    loaded = asked.loaded.seen(BRANCH)
    size, count = plan["batch"], len(sequences.ids)

    def rows(start: int) -> dict[str, np.ndarray]:
        parts = [
            rows_in_halves(loaded, sequences, part, sampled, seed, plan)
            for part in batch_parts(start, min(start + size, count), plan)
        ]
        return joined(parts)

    steps = {
        f"{ROWS}{start}": Step(rows, (start,), min(size, count - start), "gradient rows", start // size)
        for start in range(0, count, size)
    }
    return steps if singles is None else steps | _single_steps(asked, plan, world)


def _single_steps(asked: _Asked, plan: dict, world: int) -> dict[str, Step]:
    """Of each chunk of sequences the full model's losses and those without each block and each branch, each
    from the hidden states that the full model has in front of it.
    """
    loaded, singles = asked.loaded.seen(BRANCH), asked.singles
    assert singles is not None
    meter = open_forwards(loaded, singles, keep=False, memory=0, chunk=plan.get("singles", plan["batch"]))
    n, head = meter.depth, _head_share(loaded)
    row = ROW_FORWARDS + (OWN_FORWARDS if asked.sampled else 0)

    def single(removed: State, chunk: int) -> dict[str, np.ndarray]:
        return {"loss": meter.measure(removed, chunk)}

    steps: dict[str, Step] = {}
    for chunk, part in enumerate(meter.chunks):
        halves = part.start < BRANCH_SINGLES
        for removed in singles_order(meter.units, halves):
            executed = meter.executed_of(removed) if meter.shares else n
            cost = (head + (1 - head) * executed / n) / row * (part.stop - part.start)
            # a chunk is one rank's, so that its hidden states are computed once; few chunks are shared
            turn = chunk if len(meter.chunks) >= world else len(steps)
            name = f"single-{meter.units.write(removed)}-{part.start}"
            steps[name] = Step(single, (removed, chunk), cost, "single removals", turn)
    return steps


def _head_share(loaded: LoadedModel) -> float:
    """Of a forward's work: the head's."""
    weight = getattr(loaded.model.get_output_embeddings(), "weight", None)
    head = 0 if weight is None else weight.numel()
    return head / (head + sum(block.active_parameters for block in loaded.blocks))


def compute(
    steps: dict[str, Step], saved: Checkpoint, report: Report, ranks: Ranks
) -> dict[str, dict[str, np.ndarray]] | None:
    """The arrays of all steps by name, of which this rank computes its own; None on ranks other than 0."""
    ends = [round(end) for end in itertools.accumulate(step.cost for step in steps.values())]
    for (name, step), begin in zip(steps.items(), [0, *ends]):
        if ranks.mine(step.turn) and name not in saved:
            report(begin, ends[-1], step.message)
            saved.put(name, step.work(*step.argument))
    saved.flush()
    shares = ranks.gather({name: saved[name] for name in steps if name in saved})
    if shares is None:
        return None
    done = {name: arrays for share in shares for name, arrays in share.items()}
    for name, step in steps.items():
        if name not in done:  # of a rank of an earlier launch, that kept it on a disk of its own
            done[name] = step.work(*step.argument)
    return {name: done[name] for name in steps}


def _joined_rows(
    asked: _Asked, done: dict[str, dict[str, np.ndarray]]
) -> tuple[Rows, Rows | None, list[int]]:
    """(rows of the texts' labels, those of sampled ones, sequences dropped from both)."""
    arrays = joined([own for name, own in done.items() if name.startswith(ROWS)])
    finite = np.isfinite(np.column_stack(list(arrays.values()))).all(axis=1)
    dropped = left_out(finite, asked.sequences, "gradient rows")
    main = _rows(arrays["A"], arrays["loss"], asked.sequences, finite)
    own = _rows(arrays["own_A"], arrays["own_loss"], asked.sequences, finite) if asked.sampled else None
    return main, own, dropped


def _joined_singles(
    singles: Sequences, done: dict[str, dict[str, np.ndarray]]
) -> tuple[dict[str, np.ndarray], list[int]]:
    """({name of a block or branch: loss increase of each sequence without it, float64 [S]}, sequences
    dropped).
    """
    found: dict[str, dict[int, np.ndarray]] = {}
    for name, arrays in done.items():
        if name.startswith("single-"):
            _, unit, start = name.split("-")
            found.setdefault(unit, {})[int(start)] = arrays["loss"]
    losses = {unit: np.concatenate([own[k] for k in sorted(own)]) for unit, own in found.items()}
    base = losses.pop("")
    finite = np.isfinite(base)
    for loss in losses.values():
        finite[: len(loss)] &= np.isfinite(loss)
    dropped = left_out(finite, singles, "losses with a block removed")
    return {unit: (loss - base[: len(loss)])[finite[: len(loss)]] for unit, loss in losses.items()}, dropped


def _single_costs(increases: dict[str, np.ndarray], units: Units) -> Singles | None:
    """Of the units of a view; None where nothing was measured."""
    if not increases:
        return None
    count = min(len(increases[name]) for name in units.names)
    own = np.array([increases[name][:count] for name in units.names])
    return Singles(own.mean(axis=1), own.std(axis=1, ddof=1) / np.sqrt(count), count)


def joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
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
            "start": start_of(sequences, loaded.tokenizer),
            **({"content": sequences.content} if sequences.content else {}),
            **({"empty_rows": sequences.empty} if sequences.empty else {}),
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


def batch_parts(start: int, end: int, plan: dict) -> Iterator[slice]:
    """The sequences of one batch, as many at once as memory holds by now."""
    size = plan.get("at_once", plan["batch"])
    return (slice(i, min(i + size, end)) for i in range(start, end, size))


def rows_in_halves(
    loaded: LoadedModel,
    sequences: Sequences,
    part: slice,
    sampled: bool,
    seed: int,
    plan: dict,
    gates: list[float] | None = None,
) -> dict[str, np.ndarray]:
    """Rows of some sequences, {A, loss} and of sampled labels {own_A, own_loss}, at these gates (None: all
    1); where memory runs out, in halves, noted in the plan.
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
            gates=gates,
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
    first, second = (rows_in_halves(loaded, sequences, h, sampled, seed, plan, gates) for h in halves)
    return joined([first, second])


def left_out(finite: np.ndarray, sequences: Sequences, what: str) -> list[int]:
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
