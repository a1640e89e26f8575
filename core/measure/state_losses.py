"""Losses of many states on the same sequences, block by block, and what they cost.

The hidden states behind a block depend only on what was executed so far: states that begin with the same
kept blocks share them. A *forward*, the unit of cost, is all N blocks over all sequences; what is executed
counts, block by block, and what is taken from a kept prefix or skipped does not, for every method alike. A
block of which one branch is removed is executed with that branch closed, and counts as one.
"""

import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import transformers

import core
from core.ising.units import Units, whole
from core.measure.replay import Path, Replay, closed_units
from core.model.load import LoadedModel
from core.store.checkpoint import Checkpoint
from core.store.results import JS, KL, LOSS, SAME, Key, Results
from core.store.runs import canonical_key
from core.store.token_kl import packed, put_token_kl, token_kl
from core.texts import Sequences
from core.texts.sequences import part_of

CHUNK = 16  # sequences measured at a time
MEMORY = 1 << 30  # bytes of hidden states that are kept
# a gradient row in forwards over its sequence: 2.29 measured, limit of core.calibration.gradient_rows 2.0 to
# 3.0 with checkpoints
ROW_FORWARDS = 2.3

OVERFLOW = 100.0  # nats: what a loss that is no number counts as where means are taken

State = tuple[int, ...]  # removed units: core.ising.units
METRICS = (LOSS,)
DISTANCES = (LOSS, KL, SAME)
# (sequences, steps, how many of them to skip, hidden states behind those) -> (float64 [metrics, B],
# hidden states behind each step executed)
Run = Callable[[slice, Path, int, torch.Tensor | None], tuple[np.ndarray, list]]

# what a measurement was made with, kept beside it
VERSIONS = {
    "blockscape": core.__version__,
    "torch": torch.__version__,
    "transformers": transformers.__version__,
}


class Kept:
    """What a model measures on sequences, from the store and into it: what was measured is never measured
    again.

    Named as every other measurement (core.store.results), so that Compare shows them. metrics: measured
    together; a sequence is known where all of them are; tokens: and the distribution of its tokens' KL
    (core.store.token_kl).
    """

    def __init__(
        self,
        loaded: LoadedModel,
        sequences: Sequences,
        metrics: tuple[str, ...] = METRICS,
        tokens: bool = False,
    ):
        self.results, self.index, self.metrics = Results(), sequences.index.tolist(), metrics
        self.units = loaded.units
        settings = {
            "length": sequences.ids.shape[1],
            "template": sequences.template,
            "tokenizer": loaded.tokenizer_digest(),
            **loaded.arithmetic(),
        }
        model = canonical_key(loaded.digest())
        self.key = Key(
            model, (), sequences.texts_sha256, sequences.split, LOSS, json.dumps(settings, sort_keys=True)
        )
        # {state: {item: one value for each metric}}
        self.values: dict[State, dict[int, tuple[float, ...]]] = {}
        found: dict[State, list[dict[int, float]]] = {}
        self.timed: dict[State, set[int]] = {}  # items whose loss, and the seconds it took, are in the store
        for metric in metrics:
            for m in self.results.of_model(model, like=replace(self.key, metric=metric)):
                state = self.units.state(m.key.removed)
                if state is None:  # of another view, or of what an old version let in
                    continue
                found.setdefault(state, []).append(dict(zip(m.items.tolist(), m.values.tolist())))
                if metric == LOSS:
                    self.timed[state] = set(m.items.tolist())
        kept = token_kl(self.results, self.key) if tokens else {}
        self.histograms = {s: own for name, own in kept.items() if (s := self.units.state(name)) is not None}
        for state, own in found.items():
            if len(own) == len(metrics):
                known = set.intersection(*(set(values) for values in own))
                if tokens:
                    known &= set(self.histograms.get(state, {}))
                self.values[state] = {item: tuple(values[item] for values in own) for item in sorted(known)}
        self.unsaved: dict[State, tuple[dict[int, tuple[float, ...]], float]] = {}
        self.unsaved_tokens: dict[State, dict[int, str]] = {}
        self.last = time.monotonic()

    def get(self, state: State, part: slice) -> np.ndarray | None:
        """float64 [metrics, B]: what was measured on these sequences; None unless all are known."""
        known = self.values.get(state, {})
        items = self.index[part]
        return np.array([known[i] for i in items]).T if all(i in known for i in items) else None

    def whole(self, state: State) -> np.ndarray:
        """float64 [S]: every loss of a state that was measured. Errors: KeyError for any other."""
        return self.every(state)[0]

    def every(self, state: State) -> np.ndarray:
        """float64 [metrics, S]: all that is measured of every sequence. Errors: as `whole`."""
        return np.array([self.values[state][i] for i in self.index]).T

    def note_tokens(self, part: slice, path: Path, kl: list[np.ndarray]) -> None:
        """Keep how the KL of the tokens of some sequences is distributed, written with what is `put` next."""
        state = closed_units(path, self.units)
        new = dict(zip(self.index[part], map(packed, kl)))
        self.histograms.setdefault(state, {}).update(new)
        self.unsaved_tokens.setdefault(state, {}).update(new)

    def put(self, state: State, part: slice, values: np.ndarray, seconds: float) -> None:
        """Keep values [metrics, B] that took so many seconds to measure; in the store some seconds later."""
        new = dict(zip(self.index[part], map(tuple, values.T.tolist())))
        self.values.setdefault(state, {}).update(new)
        before, spent = self.unsaved.get(state, ({}, 0.0))
        self.unsaved[state] = ({**before, **new}, spent + seconds)
        if time.monotonic() - self.last > Checkpoint.INTERVAL:
            self.flush()

    def flush(self) -> None:
        """Write to the store what is not there yet."""
        for state, histograms in self.unsaved_tokens.items():
            key = replace(self.key, removed=self.units.stored(state))
            put_token_kl(self.results, key, histograms)
        for state, (values, seconds) in self.unsaved.items():
            timed = self.timed.setdefault(state, set())
            new = seconds * len(set(values) - timed) / len(values)
            timed |= set(values)
            for k, metric in enumerate(self.metrics):
                key = replace(self.key, removed=self.units.stored(state), metric=metric)
                own = {item: found[k] for item, found in values.items()}
                self.results.put(key, own, new if metric == LOSS else 0.0, VERSIONS)
        self.unsaved, self.unsaved_tokens, self.last = {}, {}, time.monotonic()


class Forwards:
    """Measures states, a chunk of sequences at a time, and counts the forwards.

    units, sequences: what a state removes (a number: so many blocks) and how many sequences; run: executes (a
    `Replay`, or a function of the same kind);
    known: a `Kept`, or None; room: hidden states of a chunk that are kept, the least recently used ones go
    first; chunk: sequences measured at a time. The count is that of a run in one piece: what `known` holds
    costs what it would cost to measure. ruler: which of the metrics that `run` gives is told, by number.
    """

    def __init__(
        self,
        units: Units | int,
        sequences: int,
        run: Run,
        known: Kept | None = None,
        *,
        room: int = 1 << 62,
        shares: bool = True,
        chunk: int = CHUNK,
        ruler: int = 0,
    ):
        self.units = whole(units) if isinstance(units, int) else units
        self.sequences, self.run, self.known, self.room, self.shares = sequences, run, known, room, shares
        self.ruler = ruler
        self.chunks = [slice(start, min(start + chunk, sequences)) for start in range(0, sequences, chunk)]
        self.executed = 0  # blocks, each over one sequence
        self.charged = 0.0  # forwards spent elsewhere: gradient rows
        # hidden states, last used last
        self.prefixes: OrderedDict[tuple[int, Path], torch.Tensor | None] = OrderedDict()
        self.losses: dict[State, dict[int, np.ndarray]] = {}  # by state and chunk, [metrics, B] each

    @property
    def blocks(self) -> int:
        """N of a state: how many units there are."""
        return len(self.units)

    @property
    def depth(self) -> int:
        """How many blocks a forward executes."""
        return len(self.units.of_block)

    @property
    def forwards(self) -> float:
        """Spent so far."""
        return self.executed / (self.depth * self.sequences) + self.charged

    def measure(self, state: Iterable[int], chunk: int) -> np.ndarray:
        """float64 [B]: loss (nats; or what the ruler is) of each sequence of the chunk with the blocks of
        `state` removed; a second time for free.
        """
        return self.every(state, chunk)[self.ruler]

    def every(self, state: Iterable[int], chunk: int) -> np.ndarray:
        """float64 [metrics, B]: all that is measured of each sequence of the chunk, as `measure`."""
        state = tuple(sorted(state))
        own = self.losses.setdefault(state, {})
        if chunk not in own:
            own[chunk] = np.atleast_2d(self._measure(state, chunk))
        return own[chunk]

    def whole(self, state: Iterable[int]) -> np.ndarray:
        """float64 [S]: loss of every sequence."""
        return np.concatenate([self.measure(state, chunk) for chunk in range(len(self.chunks))])

    def cost(self, state: State, chunk: int) -> float:
        """Forwards that measuring it now would add."""
        if chunk in self.losses.get(state, {}):
            return 0.0
        path = self._path(state)
        executed = self._to_execute(path, self._shared(path, chunk)) * self._size(chunk)
        return executed / (self.depth * self.sequences)

    def executed_of(self, state: State) -> int:
        """Blocks that a single removal executes behind the original's hidden states in front of it; N of the
        original.
        """
        first = min((self.units.block[u] for u in state), default=-1)
        return sum((step[0] if isinstance(step, tuple) else step) >= first for step in self._path(state))

    def save(self) -> None:
        """Write to the store what was measured, where it is kept."""
        if self.known:
            self.known.flush()

    def _path(self, state: State) -> Path:
        return path_of(state, self.units)

    def _size(self, chunk: int) -> int:
        return self.chunks[chunk].stop - self.chunks[chunk].start

    def _shared(self, path: Path, chunk: int) -> int:
        """How many of its steps the longest prefix at hand has behind it."""
        if not self.shares:
            return 0
        return next((k for k in range(len(path), 0, -1) if (chunk, path[:k]) in self.prefixes), 0)

    def _to_execute(self, path: Path, shared: int) -> int:
        return len(path) - shared if self.shares else self.depth

    def _measure(self, state: State, chunk: int) -> np.ndarray:
        path, part = self._path(state), self.chunks[chunk]
        shared = self._shared(path, chunk)
        self.executed += self._to_execute(path, shared) * self._size(chunk)
        losses = self.known.get(state, part) if self.known else None
        hidden: dict[int, torch.Tensor] = {}
        if losses is None:
            # a prefix that an earlier run has paid for has no hidden states here
            start = next(
                (k for k in range(shared, 0, -1) if self.prefixes.get((chunk, path[:k])) is not None), 0
            )
            began = time.monotonic()
            losses, seen = self.run(part, path, start, self.prefixes[chunk, path[:start]] if start else None)
            hidden = {start + k + 1: tensor for k, tensor in enumerate(seen)}
            if self.known:
                self.known.put(state, part, losses, time.monotonic() - began)
        if self.shares:
            for k in range(1, len(path) + 1):
                key = (chunk, path[:k])
                if key not in self.prefixes or k in hidden:
                    self.prefixes[key] = hidden.get(k)
                self.prefixes.move_to_end(key)
            while len(self.prefixes) > self.room:
                self.prefixes.popitem(last=False)
        return losses


def counted(losses: np.ndarray) -> np.ndarray:
    """The losses with `OVERFLOW` for infinite ones, so that their means and differences are numbers."""
    return np.where(np.isinf(losses), OVERFLOW, losses)


def path_of(state: Iterable[int], units: Units) -> Path:
    """The blocks that a state leaves, in order: b as it is, or (b, units of it that are closed)."""
    gone = set(state)
    path: list[int | tuple[int, ...]] = []
    for b, own in enumerate(units.of_block):
        closed = tuple(u for u in own if u in gone)
        if len(closed) < len(own):
            path.append((b, *closed) if closed else b)
    return tuple(path)


def by_prefix(states: Iterable[State], blocks: int) -> list[State]:
    """The states in the order in which neighbours keep the same first blocks: they share most prefixes."""
    return sorted(states, key=lambda s: [i for i in range(blocks) if i not in s])


def stratified(sequences: Sequences, chunk: int = CHUNK) -> Sequences:
    """The same sequences in an order in which every chunk of so many has its share of every domain.

    On the study's models one such chunk of 16 orders states as 256 sequences do to a Spearman of .94 to .99;
    of chunks as they come, .75 to .98.
    """
    count = len(sequences.ids)
    sizes = [min(chunk, count - start) for start in range(0, count, chunk)]
    by_domain = np.argsort(sequences.domain, kind="stable")
    # as many of each chunk as it holds, evenly along the sorted domains
    along = np.concatenate([(np.arange(size) + 0.5) / size for size in sizes])
    owner = np.repeat(np.arange(len(sizes)), sizes)[np.argsort(along, kind="stable")]
    return part_of(sequences, by_domain[np.argsort(owner, kind="stable")])


def open_forwards(
    loaded: LoadedModel,
    sequences: Sequences,
    *,
    keep: bool = True,
    memory: int = MEMORY,
    chunk: int = CHUNK,
    ruler: str = LOSS,
    distances: bool = False,
    tokens: bool = False,
) -> Forwards:
    """`Forwards` of a model; keep: in the store; memory: bytes for hidden states, at least two paths through
    the model; chunk: sequences at a time; distances: to the original too, as any other ruler than the loss
    needs; tokens: these, and how the KL of single tokens is distributed, where it is kept. By the ruler JS
    that alone is measured.
    """
    metrics = DISTANCES if distances or tokens or ruler != LOSS else METRICS
    if ruler == JS:
        metrics = (JS,)
    known = Kept(loaded, sequences, metrics, tokens) if keep else None
    note = known.note_tokens if known and tokens else None
    replay = Replay(loaded, sequences, distances=metrics is DISTANCES, tokens=note, divergences=ruler == JS)
    n, (count, length) = len(loaded.blocks), sequences.ids.shape
    room = max(2 * n, memory // max(1, replay.bytes * length * min(chunk, count)))
    return Forwards(
        loaded.units,
        count,
        replay,
        known,
        room=room,
        shares=replay.shares,
        chunk=chunk,
        ruler=metrics.index(ruler),
    )


def singles_order(units: Units, halves: bool = True) -> list[State]:
    """The original, then each single removal, the last block's first, whole and by its units: all that the
    next one needs of the original's hidden states is what the one before it used last, so that two paths of
    room are enough for 1 + (N - 1) / 2 forwards by block.
    """
    found: list[State] = [()]
    for own in reversed(units.of_block):
        found += [own, *((u,) for u in own if len(own) > 1 and halves)]
    return found


@dataclass(frozen=True)
class SingleRemovals:
    """What removing each unit alone costs, nats, and by branch each block whole."""

    increase: np.ndarray  # float64 [N]
    se: np.ndarray  # float64 [N], paired standard error; nan of one sequence
    block: np.ndarray  # float64 [blocks], of whole blocks


def singles_of(forwards: Forwards, chunks: Sequence[int]) -> SingleRemovals:
    """Measured on some chunks."""
    units = forwards.units
    losses = {
        state: np.concatenate([forwards.measure(state, c) for c in chunks]) for state in singles_order(units)
    }
    own = np.array([losses[(u,)] for u in range(len(units))]) - losses[()]
    block = np.array([losses[state].mean() for state in units.of_block]) - losses[()].mean()
    few = own.shape[1] == 1
    with np.errstate(invalid="ignore"):  # of losses that overflow
        se = np.full(len(units), np.nan) if few else own.std(axis=1, ddof=1) / math.sqrt(own.shape[1])
    return SingleRemovals(own.mean(axis=1), se, block)
