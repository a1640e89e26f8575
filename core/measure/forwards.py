"""Losses of many states on the same sequences, block by block, and what they cost.

The hidden states behind a block depend only on the blocks executed so far: states that begin with the same
kept blocks share them. A *forward*, the unit of cost, is all N blocks over all sequences; what is executed
counts, block by block, and what is taken from a kept prefix or skipped does not, for every method alike.
"""

import itertools
import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers

import core
from core.ising.states import indicator
from core.model.gates import gated, removal
from core.model.load import LoadedModel
from core.model.losses import right_padded, sample_losses
from core.model.structure import first_tensor, hidden_argument, probe_ids, replace_first
from core.store.checkpoint import Checkpoint
from core.store.results import Key, Results
from core.store.runs import canonical_key
from core.texts import Sequences

CHUNK = 16  # sequences measured at a time
MEMORY = 2 << 30  # bytes of hidden states that are kept
# a gradient row in forwards over its sequence: 2.29 measured, limit of core.calibration.gradient_rows 2.0 to
# 3.0 with checkpoints
ROW_FORWARDS = 2.3
_CLOSE = 1e-3  # of the logits' spread: skipping a block is not the same as closing its gates beyond that

State = tuple[int, ...]
# (sequences, kept blocks, how many of them to skip, hidden states behind those) -> (losses, hidden states
# behind each block executed)
Run = Callable[[slice, State, int, torch.Tensor | None], tuple[np.ndarray, list]]


class Replay:
    """Runs a model on sequences from a kept prefix on: blocks that are passed over hand their input on.

    Where a block cannot be passed over (it returns more than hidden states, or the model is another
    one then than with closed gates, as a trial on a few tokens shows) `shares` is False and gates do it.
    """

    def __init__(self, loaded: LoadedModel, sequences: Sequences):
        self.loaded, self.sequences = loaded, sequences
        loaded.check_length(sequences.ids.shape[1])
        self.outputs: list = []  # what each block returns, without hidden states
        self.bytes = 0  # of the hidden states of one token
        self.shares = self._can_share()

    @torch.no_grad()
    def __call__(self, part: slice, kept: State, start: int, hidden) -> tuple[np.ndarray, list[torch.Tensor]]:
        s = self.sequences
        tensors = (
            None if a is None else torch.from_numpy(a[part]).to(self.loaded.device)
            for a in (s.ids, s.mask, s.scored)
        )
        ids, scored = right_padded(*tensors)
        logits, seen = self._logits(ids, kept, start, hidden)
        return sample_losses(logits, ids, scored).double().cpu().numpy(), seen

    def _logits(
        self, ids: torch.Tensor, kept: State, start: int = 0, hidden=None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(logits, hidden states behind each of kept[start:]); hidden: those behind kept[:start]."""
        if not self.shares:
            removed = [i for i in range(len(self.loaded.blocks)) if i not in kept]
            with gated(self.loaded, removal(self.loaded, removed)):
                return self.loaded.model(input_ids=ids, use_cache=False).logits, []
        with self._passing(kept, start, hidden) as seen:
            return self.loaded.model(input_ids=ids, use_cache=False).logits, seen

    @contextmanager
    def _passing(self, kept: State, start: int, hidden) -> Iterator[list[torch.Tensor]]:
        """Inside the context only kept[start:] are executed; their hidden states are listed as they come."""
        seen: list[torch.Tensor] = []
        handed = kept[start - 1] if start else None
        executed = set(kept[start:])

        def instead(index: int, forward: Callable) -> Callable:
            def run(*args, **kwargs):
                if index in executed:
                    output = forward(*args, **kwargs)
                    seen.append(first_tensor(output))
                    return output
                return replace_first(
                    self.outputs[index], hidden if index == handed else hidden_argument(args, kwargs)
                )

            return run

        modules = list(self.loaded.modules)
        for i, module in enumerate(modules):
            module.forward = instead(i, module.forward)
        try:
            yield seen
        finally:
            for module in modules:
                del module.forward  # the class's own shows again

    @torch.no_grad()
    def _can_share(self) -> bool:
        ids, n = probe_ids(self.loaded.model), len(self.loaded.blocks)
        outputs: list = [None] * n

        def note(index: int):
            return lambda _module, _args, output: outputs.__setitem__(index, output)

        handles = [module.register_forward_hook(note(i)) for i, module in enumerate(self.loaded.modules)]
        try:
            self.loaded.model(input_ids=ids, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        hidden = first_tensor(outputs[0])
        self.bytes = hidden.numel() * hidden.element_size() // ids.numel()
        if any(
            isinstance(part, torch.Tensor)
            for output in outputs
            if isinstance(output, (tuple, list))
            for part in output[1:]
        ):
            return False
        self.outputs = [replace_first(output, hidden[:0]) for output in outputs]
        self.shares = False
        trials = [tuple(range(first, n, 2)) for first in (0, 1)] if n > 1 else [()]
        truth = [self._logits(ids, kept)[0] for kept in trials]
        self.shares = True
        try:
            return all(self._agrees(ids, kept, expected) for kept, expected in zip(trials, truth))
        except Exception:  # its blocks take more from each other than hidden states, such as keys and values
            return False

    def _agrees(self, ids: torch.Tensor, kept: State, expected: torch.Tensor) -> bool:
        """Whether passing blocks over, at once and from a prefix on, gives the expected logits."""
        found, seen = self._logits(ids, kept)
        half = len(kept) // 2
        resumed = self._logits(ids, kept, half, seen[half - 1])[0] if half else found
        limit = _CLOSE * float(expected.float().std())
        return max(float((f - expected).abs().max()) for f in (found, resumed)) <= limit


class Kept:
    """A model's losses on sequences, from the store and into it: what was measured is never measured again.

    Named as every other measurement (core.store.results), so that Compare shows them.
    """

    def __init__(self, loaded: LoadedModel, sequences: Sequences):
        self.results, self.index = Results(), sequences.index.tolist()
        settings = {
            "length": sequences.ids.shape[1],
            "template": sequences.template,
            "tokenizer": loaded.tokenizer_digest(),
            **loaded.arithmetic(),
        }
        model = canonical_key(loaded.digest())
        self.key = Key(
            model, (), sequences.texts_sha256, sequences.split, "loss", json.dumps(settings, sort_keys=True)
        )
        self.versions = {
            "blockscape": core.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
        same = self.results.of_model(model, like=self.key)
        self.values = {m.key.removed: dict(zip(m.items.tolist(), m.values.tolist())) for m in same}
        self.unsaved: dict[State, tuple[dict[int, float], float]] = {}
        self.last = time.monotonic()

    def _named(self, state: State) -> Key:
        return Key(self.key.model, state, self.key.data, self.key.split, self.key.metric, self.key.settings)

    def get(self, state: State, part: slice) -> np.ndarray | None:
        """float64: the losses on these sequences; None unless all are known."""
        known = self.values.get(state, {})
        items = self.index[part]
        return np.array([known[i] for i in items]) if all(i in known for i in items) else None

    def put(self, state: State, part: slice, losses: np.ndarray, seconds: float) -> None:
        new = dict(zip(self.index[part], losses.tolist()))
        self.values.setdefault(state, {}).update(new)
        before, spent = self.unsaved.get(state, ({}, 0.0))
        self.unsaved[state] = ({**before, **new}, spent + seconds)
        if time.monotonic() - self.last > Checkpoint.INTERVAL:
            self.flush()

    def flush(self) -> None:
        for state, (values, seconds) in self.unsaved.items():
            self.results.put(self._named(state), values, seconds, self.versions)
        self.unsaved, self.last = {}, time.monotonic()


class Forwards:
    """Measures states, a chunk of sequences at a time, and counts the forwards.

    blocks, sequences: N and how many sequences; run: executes (a `Replay`, or a function of the same kind);
    known: a `Kept`, or None; room: hidden states of a chunk that are kept, the least recently used ones go
    first. The count is that of a run in one piece: what `known` holds costs what it would cost to measure.
    """

    def __init__(
        self,
        blocks: int,
        sequences: int,
        run: Run,
        known: Kept | None = None,
        *,
        room: int = 1 << 62,
        shares: bool = True,
    ):
        self.blocks, self.sequences, self.run, self.known, self.room, self.shares = (
            blocks,
            sequences,
            run,
            known,
            room,
            shares,
        )
        self.chunks = [slice(start, min(start + CHUNK, sequences)) for start in range(0, sequences, CHUNK)]
        self.executed = 0  # blocks, each over one sequence
        self.charged = 0.0  # forwards spent elsewhere: gradient rows
        # hidden states, last used last
        self.prefixes: OrderedDict[tuple[int, State], torch.Tensor | None] = OrderedDict()
        self.losses: dict[State, dict[int, np.ndarray]] = {}  # by state and chunk

    @property
    def forwards(self) -> float:
        """Spent so far."""
        return self.executed / (self.blocks * self.sequences) + self.charged

    def measure(self, state: Iterable[int], chunk: int) -> np.ndarray:
        """float64: loss (nats) of each sequence of the chunk with the blocks of `state` removed; a second
        time for free.
        """
        state = tuple(sorted(state))
        own = self.losses.setdefault(state, {})
        if chunk not in own:
            own[chunk] = self._measure(state, chunk)
        return own[chunk]

    def whole(self, state: Iterable[int]) -> np.ndarray:
        """float64 [S]: loss of every sequence."""
        return np.concatenate([self.measure(state, chunk) for chunk in range(len(self.chunks))])

    def cost(self, state: State, chunk: int) -> float:
        """Forwards that measuring it now would add."""
        if chunk in self.losses.get(state, {}):
            return 0.0
        kept = self._kept(state)
        return (
            self._to_execute(kept, self._shared(kept, chunk))
            * self._size(chunk)
            / (self.blocks * self.sequences)
        )

    def _kept(self, state: State) -> State:
        return tuple(i for i in range(self.blocks) if i not in state)

    def _size(self, chunk: int) -> int:
        return self.chunks[chunk].stop - self.chunks[chunk].start

    def _shared(self, kept: State, chunk: int) -> int:
        """How many of the kept blocks the longest prefix at hand has behind it."""
        if not self.shares:
            return 0
        return next((k for k in range(len(kept), 0, -1) if (chunk, kept[:k]) in self.prefixes), 0)

    def _to_execute(self, kept: State, shared: int) -> int:
        return len(kept) - shared if self.shares else self.blocks

    def _measure(self, state: State, chunk: int) -> np.ndarray:
        kept, part = self._kept(state), self.chunks[chunk]
        shared = self._shared(kept, chunk)
        self.executed += self._to_execute(kept, shared) * self._size(chunk)
        losses = self.known.get(state, part) if self.known else None
        hidden: dict[int, torch.Tensor] = {}
        if losses is None:
            # a prefix that an earlier run has paid for has no hidden states here
            start = next(
                (k for k in range(shared, 0, -1) if self.prefixes.get((chunk, kept[:k])) is not None), 0
            )
            began = time.monotonic()
            losses, seen = self.run(part, kept, start, self.prefixes[chunk, kept[:start]] if start else None)
            hidden = {start + k + 1: tensor for k, tensor in enumerate(seen)}
            if self.known:
                self.known.put(state, part, losses, time.monotonic() - began)
        if self.shares:
            for k in range(1, len(kept) + 1):
                key = (chunk, kept[:k])
                if key not in self.prefixes or k in hidden:
                    self.prefixes[key] = hidden.get(k)
                self.prefixes.move_to_end(key)
            while len(self.prefixes) > self.room:
                self.prefixes.popitem(last=False)
        return losses


def stratified(sequences: Sequences) -> Sequences:
    """The same sequences in an order in which every chunk has its share of every domain.

    On the study's models one such chunk of 16 orders states as 256 sequences do to a Spearman of .94 to .99;
    of chunks as they come, .75 to .98.
    """
    chunks = -(-len(sequences.ids) // CHUNK)
    by_domain = np.argsort(sequences.domain, kind="stable")
    order = np.concatenate([by_domain[first::chunks] for first in range(chunks)])
    arrays = {name: getattr(sequences, name) for name in ("ids", "index", "domain", "mask", "scored")}
    return replace(
        sequences, **{name: None if array is None else array[order] for name, array in arrays.items()}
    )


def open_forwards(
    loaded: LoadedModel, sequences: Sequences, *, keep: bool = True, memory: int = MEMORY
) -> Forwards:
    """`Forwards` of a model; keep: in the store; memory: bytes for hidden states, at least two paths through
    the model.
    """
    replay = Replay(loaded, sequences)
    n, (count, length) = len(loaded.blocks), sequences.ids.shape
    room = max(2 * n, memory // max(1, replay.bytes * length * min(CHUNK, count)))
    return Forwards(
        n, count, replay, Kept(loaded, sequences) if keep else None, room=room, shares=replay.shares
    )


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
        {"model": loaded.digest(), "tokens": sequences.sha256, "removed": removed, "chunk": CHUNK}
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


def singles_of(forwards: Forwards, chunks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(loss increase of each block's removal float64 [N], its paired standard error), nats, on some
    chunks.
    """
    base = np.concatenate([forwards.measure((), c) for c in chunks])
    increase = np.array(
        [np.concatenate([forwards.measure((i,), c) for c in chunks]) - base for i in range(forwards.blocks)]
    )
    return increase.mean(axis=1), increase.std(axis=1, ddof=1) / math.sqrt(len(base))
