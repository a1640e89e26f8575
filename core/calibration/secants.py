"""Secants: gate gradients at the intact model and with each block removed, N + 1 backward passes.

They are added to a run that is there: its key names rows and single removals, and stays.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.calibration.calibrate import (
    Step,
    batch_parts,
    check,
    compute,
    joined,
    left_out,
    new_plan,
    rows_in_halves,
)
from core.errors import InputError
from core.ising.units import BRANCH
from core.model.load import LoadedModel
from core.ranks import ALONE, Ranks
from core.store.checkpoint import Checkpoint
from core.store.runs import Run, Secants, by_block, canonical_key
from core.texts import Sequences

Report = Callable[[int, int, str], None]


def with_secants(
    run: Run,
    loaded: LoadedModel,
    sequences: Sequences,
    *,
    batch: int | None = 16,
    checkpointed: bool = False,
    checkpoint: Path | None = None,
    report: Report = lambda done, total, message: None,
    ranks: Ranks = ALONE,
) -> Run | None:
    """The run with rows of these sequences at the intact model and with each block removed.

    Resumable in `checkpoint` as a calibration is; of several `ranks` rank 0 returns the run, the others None.
    Errors: InputError for fewer than 2 sequences, and as core.calibration.calibrate.
    """
    check(loaded, sequences, None, batch)
    if len(sequences.ids) < 2:
        raise InputError(
            f"Secants need at least 2 sequences for a standard error, not {len(sequences.ids)}; give a "
            "larger --secants."
        )
    key = canonical_key({"run": run.key, "secants": sequences.sha256})
    saved = Checkpoint(checkpoint, {}, key)
    if not saved.plan:
        saved.plan = new_plan(loaded, sequences, None, False, batch, checkpointed) if ranks.rank == 0 else {}
    saved.plan = ranks.agree(saved.plan)
    n, size, count = len(loaded.blocks), saved.plan["batch"], len(sequences.ids)
    apart = loaded.seen(BRANCH)
    units = apart.units

    def rows(removed: int, start: int) -> dict[str, np.ndarray]:
        gates = [float(b != removed) for b in units.block]
        own = [
            rows_in_halves(apart, sequences, part, False, 0, saved.plan, gates)
            for part in batch_parts(start, min(start + size, count), saved.plan)
        ]
        return joined(own)

    pieces = [(removed, start) for removed in range(-1, n) for start in range(0, count, size)]
    steps = {
        f"branch-secant-{removed}-{start}": Step(
            rows, (removed, start), min(size, count - start), "rows with a block removed", turn
        )
        for turn, (removed, start) in enumerate(pieces)
    }
    done = compute(steps, saved, report, ranks)
    if done is None:
        return None
    each = [
        joined([done[f"branch-secant-{removed}-{start}"] for start in range(0, count, size)])
        for removed in range(-1, n)
    ]
    A, loss = (np.array([own[field] for own in each]) for field in ("A", "loss"))
    finite = np.isfinite(A).all(axis=(0, 2)) & np.isfinite(loss).all(axis=0)
    gone = left_out(finite, sequences, "rows with a block removed")
    about = {"sequences": int(finite.sum()), "tokens": sequences.sha256, "dropped": gone}
    total = round(sum(step.cost for step in steps.values()))
    report(total, total, "done")
    found = Secants(by_block(A[:, finite], units), loss[:, finite])
    branches = run.branches and replace(run.branches, secants=A[:, finite])
    return replace(run, meta={**run.meta, "secants": about}, secants=found, branches=branches)
