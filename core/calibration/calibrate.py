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
    began, started = time.monotonic(), datetime.now(UTC)
    count, length = sequences.ids.shape
    n = len(loaded.blocks)
    key = run_key(loaded, sequences, sampled, singles, seed)
    saved = Checkpoint(checkpoint, {}, key, ranks.rank)
    if saved.damaged:
        LOG.warning(
            "%d damaged checkpoint files were set aside; what they held is computed again", saved.damaged
        )
    if not saved.plan:
        if batch is None and ranks.rank == 0:
            report(0, count, "measuring the batch")
            batch = measure_batch(loaded, length, sampled, checkpointed)
        saved.plan = {"batch": batch, "threads": torch.get_num_threads(), "checkpointed": checkpointed}
    saved.plan = ranks.agree(saved.plan)
    torch.set_num_threads(saved.plan["threads"])
    size = saved.plan["batch"]

    def rows(start: int) -> dict[str, np.ndarray]:
        parts = [
            _rows_in_halves(loaded, sequences, part, sampled, seed, saved.plan)
            for part in _parts(start, min(start + size, count), saved.plan)
        ]
        return {field: np.concatenate([p[field] for p in parts]) for field in parts[0]}

    def single(i: int) -> dict[str, np.ndarray]:
        removed = [i] if i >= 0 else []  # -1: the full model
        return {
            "loss": sequence_losses(
                loaded, singles.ids, removed, size, mask=singles.mask, scored=singles.scored
            )
        }

    steps = {
        f"rows-{start}": (rows, start, min(size, count - start), "gradient rows")
        for start in range(0, count, size)
    }
    if singles:
        steps |= {f"single-{i}": (single, i, len(singles.ids), "single removals") for i in range(-1, n)}
    ends = list(itertools.accumulate(cost for *_, cost, _ in steps.values()))
    for position, (name, (work, argument, cost, message)) in enumerate(steps.items()):
        if ranks.mine(position) and name not in saved:
            report(ends[position] - cost, ends[-1], message)
            saved.put(name, work(argument))
    saved.flush()
    shares = ranks.gather({name: saved[name] for name in steps if name in saved})
    if shares is None:
        return None
    done = {name: arrays for share in shares for name, arrays in share.items()}
    for name, (work, argument, _, _) in steps.items():
        if name not in done:  # of a rank of an earlier launch, that kept it on a disk of its own
            done[name] = work(argument)
    parts = [done[name] for name in steps if name.startswith("rows-")]
    joined = {field: np.concatenate([p[field] for p in parts]) for field in parts[0]}
    finite = np.isfinite(np.column_stack(list(joined.values()))).all(axis=1)
    dropped = _dropped(finite, sequences, "gradient rows")
    main = _rows(joined["A"], joined["loss"], sequences, finite)
    own = _rows(joined["own_A"], joined["own_loss"], sequences, finite) if sampled else None
    measured, dropped_singles = None, []
    if singles:
        losses = np.array([done[f"single-{i}"]["loss"] for i in range(-1, n)])
        finite = np.isfinite(losses).all(axis=0)
        dropped_singles = _dropped(finite, singles, "losses with a block removed")
        increase = losses[1:, finite] - losses[0, finite]
        measured = Singles(
            increase.mean(axis=1),
            increase.std(axis=1, ddof=1) / np.sqrt(increase.shape[1]),
            increase.shape[1],
        )
    report(ends[-1], ends[-1], "done")
    meta = {
        "key": key,
        "request": request or {},
        "model": {
            "name": loaded.name,
            "source": loaded.source,
            "type": loaded.model.config.model_type,
            **loaded.digest(),
            "parameters": loaded.parameters(),
            "bytes": loaded.weights_bytes(),
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
            "length": length,
            "available": sequences.available,
            "predicted": round(sequences.predicted / len(sequences.ids), 3),
            "tokens": sequences.sha256,
        },
        "gate": gate_of(loaded),
        "loss": LOSS,
        "labels": ["data", "sampled"] if sampled else ["data"],
        "seed": seed,
        "dropped": dropped,
        "dropped_singles": dropped_singles,
        "plan": {**saved.plan, "ranks": ranks.world, "dtype": _dtype(loaded), "device": str(loaded.device)},
        "versions": {
            "blockscape": core.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "times": {
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - began, 3),
        },
    }
    return Run(meta, main, own, measured)


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
    return {field: np.concatenate([first[field], second[field]]) for field in first}


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
