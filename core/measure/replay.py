"""A model that goes on from hidden states behind kept blocks; core.measure.state_losses decides from
which.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch

from core.blocks.structure import first_tensor, hidden_argument, probe_ids, replace_first
from core.ising.units import Units
from core.model.gates import closed, gated, removal
from core.model.head import forward_as
from core.model.load import LoadedModel
from core.model.losses import (
    kl_of_tokens,
    padded_batch,
    sample_divergences,
    sample_losses,
    sample_means,
    token_distances,
)
from core.model.memory import give_back
from core.texts.sequences import Sequences

_CLOSE = 1e-3  # of the logits' spread: skipping a block is not the same as closing its gates beyond that
_LARGE = 1 << 20  # bytes of hidden states behind a block
# the blocks that are executed: b as it is, or (b, units of it that are closed)
Path = tuple[int | tuple[int, ...], ...]
TokenKl = Callable[[slice, Path, list[np.ndarray]], None]  # gets the KL of the tokens of each sequence


def closed_units(path: Path, units: Units) -> tuple[int, ...]:
    """The removed units of a path: the state it is of."""
    closed = [u for step in path if isinstance(step, tuple) for u in step[1:]]
    executed = set(map(_block, path))
    gone = [u for b, own in enumerate(units.of_block) if b not in executed for u in own]
    return tuple(sorted([*closed, *gone]))


def _block(step: int | tuple[int, ...]) -> int:
    return step[0] if isinstance(step, tuple) else step


class Replay:
    """Runs a model on sequences from a kept prefix on: blocks that are passed over hand their input on.

    Where a block cannot be passed over (it returns more than hidden states, or the model is another
    one then than with closed gates, as a trial on a few tokens shows) `shares` is False and gates do it.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        sequences: Sequences,
        distances: bool = False,
        tokens: TokenKl | None = None,
        divergences: bool = False,
    ):
        """distances: each run also tells how far the model is from the original, whose hidden states in front
        of the head are kept from the first on; tokens: is told the KL of every token as well; divergences: it
        tells nothing but the Jensen-Shannon divergence to the original.
        """
        self.loaded, self.sequences, self.distances, self.tokens = loaded, sequences, distances, tokens
        self.divergences = divergences
        self.every: Path = tuple(range(len(loaded.blocks)))
        self.originals: dict[int, torch.Tensor] = {}  # by the first sequence of a part
        loaded.check_length(sequences.ids.shape[1])
        self.outputs: list = []  # what each block returns, without hidden states
        self.bytes = 0  # of the hidden states of one token
        self.shares = self._can_share()

    @torch.no_grad()
    def __call__(self, part: slice, path: Path, start: int, hidden) -> tuple[np.ndarray, list[torch.Tensor]]:
        """(float64 [1, B] the losses of the sequences of `part`, or their divergences, or [3, B] their
        `Distances`; hidden states behind each of path[start:]).

        hidden: those behind path[:start], as returned before; None where start is 0.
        """
        s, head = self.sequences, self.loaded.head
        ids, scored = padded_batch(s.ids, s.mask, s.scored, part, self.loaded.device)
        last, seen = self._last(ids, path, start, hidden)
        if self.distances or self.divergences:
            original = self._original(part, ids, last if path == self.every else None)
        if self.divergences:
            found = sample_divergences(last, original, ids, scored, head.logits)[None]
        elif self.distances:
            each = token_distances(last, original, ids, scored, head.logits)
            found = torch.stack(sample_means(each, ids, scored))
            if self.tokens:
                self.tokens(part, path, kl_of_tokens(each, ids, scored))
        else:
            found = sample_losses(last, ids, scored, head.logits)[None]
        # what overflows is no number: the worst there is, which can be compared, and kept
        losses = found.double().nan_to_num(nan=torch.inf, posinf=torch.inf).cpu().numpy()
        if self.loaded.device.type == "cpu" and ids.numel() * self.bytes >= _LARGE:
            give_back()  # between what is kept, freed memory would pile up to several times that
        return losses, seen

    def _original(self, part: slice, ids: torch.Tensor, last: torch.Tensor | None) -> torch.Tensor:
        """What the head is applied to with all blocks; last: the same, where it was just computed."""
        if part.start not in self.originals:
            self.originals[part.start] = self._last(ids, self.every)[0] if last is None else last
        return self.originals[part.start]

    def _last(
        self, ids: torch.Tensor, path: Path, start: int = 0, hidden=None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(what the head is applied to, hidden states behind each of path[start:]); hidden: those behind
        path[:start].
        """
        if not self.shares:
            with gated(self.loaded, removal(self.loaded, closed_units(path, self.loaded.units))):
                return self.loaded.head.hidden(ids), []
        halves = [u for step in path[start:] if isinstance(step, tuple) for u in step[1:]]
        with self._passing(path, start, hidden) as seen, closed(self.loaded, halves):
            return self.loaded.head.hidden(ids), seen

    def _logits(self, ids: torch.Tensor, path: Path, start: int = 0, hidden=None) -> torch.Tensor:
        """[B * T, V], as `_last`: of few tokens."""
        return self.loaded.head.logits(self._last(ids, path, start, hidden)[0].flatten(0, 1))

    @contextmanager
    def _passing(self, path: Path, start: int, hidden) -> Iterator[list[torch.Tensor]]:
        """Inside the context only path[start:] are executed; their hidden states are listed as they come."""
        seen: list[torch.Tensor] = []
        handed = _block(path[start - 1]) if start else None
        executed = set(map(_block, path[start:]))

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

        with ExitStack() as stack:
            for i, module in enumerate(self.loaded.modules):
                stack.enter_context(forward_as(module, partial(instead, i)))
            yield seen

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
        truth = [self._logits(ids, kept) for kept in trials]
        self.shares = True
        try:
            return all(self._agrees(ids, kept, expected) for kept, expected in zip(trials, truth))
        except Exception:  # its blocks take more from each other than hidden states, such as keys and values
            return False

    def _agrees(self, ids: torch.Tensor, kept: Path, expected: torch.Tensor) -> bool:
        """Whether passing blocks over, at once and from a prefix on, gives the expected logits."""
        last, seen = self._last(ids, kept)
        found, half = self.loaded.head.logits(last.flatten(0, 1)), len(kept) // 2
        resumed = self._logits(ids, kept, half, seen[half - 1]) if half else found
        limit = _CLOSE * float(expected.float().std())
        return max(float((f - expected).abs().max()) for f in (found, resumed)) <= limit
