"""Measured two-body parts of pairs of light blocks: what two removals cost together beyond their sum.

They are added to a run that is there, as secants are.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.calibration.calibrate import left_out
from core.errors import InputError
from core.measure.state_losses import State, by_prefix, open_forwards
from core.model.load import LoadedModel
from core.store.checkpoint import Checkpoint
from core.store.runs import Pairs, Run, canonical_key
from core.texts import Sequences
from core.texts.sequences import part_of

LIGHT, MOST = 0.75, 300  # share of the blocks whose pairs are measured, the cheapest alone; pairs, at most
Report = Callable[[int, int, str], None]


def light_pairs(increase: np.ndarray) -> list[tuple[int, int]]:
    """The pairs that are measured, in order: of the LIGHT cheapest blocks, the MOST that cost least together.

    increase: float64 [N], measured single removals.
    """
    order = np.argsort(increase, kind="stable")
    light = sorted(order[: max(3, round(LIGHT * len(increase)))].tolist())
    pairs = sorted(itertools.combinations(light, 2), key=lambda p: increase[p[0]] + increase[p[1]])
    return sorted(pairs[:MOST])


def walk_of(pairs: Iterable[Iterable[int]], blocks: int) -> list[State]:
    """The original, the blocks of the pairs alone, and the pairs, in the order that shares most prefixes."""
    both = [tuple(sorted(map(int, p))) for p in pairs]
    states: set[State] = {(), *((b,) for p in both for b in p), *both}
    return by_prefix(states, blocks)


def forwards_of(pairs: Iterable[Iterable[int]], blocks: int) -> float:
    """What measuring them takes, in forwards of their sequences: blocks executed behind shared prefixes."""
    seen: set[State] = set()
    for state in walk_of(pairs, blocks):
        kept = [i for i in range(blocks) if i not in state]
        seen |= {tuple(kept[: k + 1]) for k in range(len(kept))}
    return len(seen) / blocks


def with_pairs(
    run: Run,
    loaded: LoadedModel,
    sequences: Sequences,
    *,
    batch: int | None = 16,
    checkpoint: Path | None = None,
    report: Report = lambda done, total, message: None,
) -> Run:
    """The run with the two-body parts of its light pairs, measured on these sequences. Resumable in
    `checkpoint`.

    Errors: InputError for a run without single removals, and for fewer than 2 sequences.
    """
    if run.singles is None:
        raise InputError(
            "Pairs are measured among the blocks that are cheapest alone; give --singles as well."
        )
    if len(sequences.ids) < 2:
        raise InputError(
            f"Pairs need at least 2 sequences for a standard error, not {len(sequences.ids)}; give a larger "
            "--pairs."
        )
    pairs = light_pairs(run.singles.increase)
    states = walk_of(pairs, run.blocks)
    saved = Checkpoint(checkpoint, {}, canonical_key({"run": run.key, "pairs": sequences.sha256}))
    size = batch or 16
    total = len(states) * len(sequences.ids)
    for start in range(0, len(sequences.ids), size):
        some = part_of(sequences, slice(start, start + size))
        meter = open_forwards(loaded, some, keep=False, memory=0, chunk=size)  # two paths are kept: enough
        for k, state in enumerate(states):
            name = f"pair-{'-'.join(map(str, state))}-{start}"
            if name not in saved:
                done = start * len(states) + k * len(some.ids)
                report(done, total, "pairs of blocks")
                saved.put(name, {"loss": meter.measure(state, 0)})
    saved.flush()
    losses = {
        state: np.concatenate(
            [
                saved[f"pair-{'-'.join(map(str, state))}-{start}"]["loss"]
                for start in range(0, len(sequences.ids), size)
            ]
        )
        for state in states
    }
    parts = np.array([losses[(i, j)] - losses[(i,)] - losses[(j,)] + losses[()] for i, j in pairs])
    finite = np.isfinite(parts).all(axis=0)
    gone = left_out(finite, sequences, "losses with two blocks removed")
    about = {"sequences": int(finite.sum()), "tokens": sequences.sha256, "dropped": gone}
    report(total, total, "done")
    found = Pairs(np.array(pairs, dtype=np.int16), parts[:, finite].astype(np.float32))
    return replace(run, meta={**run.meta, "pairs": about}, pairs=found)
