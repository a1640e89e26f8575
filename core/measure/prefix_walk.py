"""Every state of M on the same sequences, by one walk over the tree of kept prefixes."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from core.ising.states import indicator
from core.measure.replay import Replay
from core.measure.state_losses import CHUNK, Forwards, State
from core.model.load import LoadedModel
from core.store.checkpoint import Checkpoint
from core.store.runs import canonical_key
from core.texts.sequences import Sequences


def walk_order(blocks: int, removed: int) -> list[State]:
    """Every state of M removed blocks, in the order of a depth-first walk over the tree of kept prefixes."""
    kept = itertools.combinations(range(blocks), blocks - removed)
    return [tuple(sorted(set(range(blocks)) - set(k))) for k in kept]


def prefix_walk(
    loaded: LoadedModel,
    sequences: Sequences,
    removed: int,
    folder: Path,
    report: Callable[[int, int, str], None] = lambda done, total, message: None,
) -> tuple[np.ndarray, np.ndarray]:
    """The loss of every state of M: (x bool [K, N], losses float32 [K, S]), rows in the order of
    `walk_order`.

    Every prefix is executed once a chunk, and only one path of hidden states is held. Resumable: finished
    pieces lie in `folder` (core.store.checkpoint), named by what changes them.
    """
    n, count = len(loaded.blocks), len(sequences.ids)
    states = walk_order(n, removed)
    key = canonical_key(
        {
            "model": loaded.digest(),
            "tokens": sequences.sha256,
            "removed": removed,
            "chunk": CHUNK,
            **loaded.arithmetic(),
        }
    )
    saved = Checkpoint(folder, {}, key)
    replay = Replay(loaded, sequences)
    piece = max(1, math.ceil(len(states) / 16))  # states between two writes
    meter = Forwards(n, count, replay, room=2 * n, shares=replay.shares)
    total, done = len(states) * count, 0
    for chunk, part in enumerate(meter.chunks):
        for start in range(0, len(states), piece):
            own = states[start : start + piece]
            name = f"{chunk}-{start}"
            if name not in saved:
                losses = []
                for k, state in enumerate(own):
                    losses.append(meter.measure(state, chunk))
                    report(done + k * (part.stop - part.start), total, f"every state of M = {removed}")
                meter.losses.clear()
                saved.put(name, {"loss": np.array(losses, dtype=np.float32)})
            done += len(own) * (part.stop - part.start)
    saved.flush()
    rows = [
        np.concatenate([saved[f"{chunk}-{start}"]["loss"] for start in range(0, len(states), piece)])
        for chunk in range(len(meter.chunks))
    ]
    report(total, total, f"every state of M = {removed}")
    return indicator(states, n), np.concatenate(rows, axis=1)
