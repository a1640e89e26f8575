"""How long a token takes at a context: what people wait for, and what fewer attentions make shorter.

The keys and values of the context are made up, for their number alone decides the time: a context of 8192
tokens costs no forward over 8192 tokens.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from core.blocks.structure import cache_argument, probe_ids
from core.errors import InputError
from core.ising.units import BRANCH, State
from core.model.load import LoadedModel
from core.model.surgery import without

TOKENS = 8  # timed of a context; the shortest counts
_WARM = 1  # tokens before them, not timed


@dataclass(frozen=True)
class KindTime:
    """What one branch of a kind takes."""

    units: int  # of this kind there are
    milliseconds: float  # a token of one; 0 where it is less than the clock shows


@dataclass(frozen=True)
class TokenTime:
    """Milliseconds a token of a model at a context, and of what."""

    context: int
    milliseconds: float  # of the whole model
    kinds: dict[str, KindTime]  # {"attention": ..., "FFN": ...}

    def without(self, kinds: Mapping[str, int]) -> float:
        """Milliseconds a token, by the parts, of a state that removes so many branches of each kind."""
        gone = sum(n * self.kinds[kind].milliseconds for kind, n in kinds.items() if kind in self.kinds)
        return max(0.0, self.milliseconds - gone)


def milliseconds_a_token(loaded: LoadedModel, context: int, tokens: int = TOKENS) -> float:
    """Milliseconds that the model as it is now takes for one token, the last of `context`: batch 1, greedy,
    with its cache; the shortest of so many tokens.

    Errors: InputError for a context that the model has no positions for.
    """
    return min(_Decoder(loaded, context, tokens + _WARM).times(tokens))


def time_by_kind(loaded: LoadedModel, context: int, rounds: int = 3) -> TokenTime:
    """Milliseconds a token of the whole model, and of one branch of each kind: what the model without every
    second one of them saves, divided by their number. Whole and removed take turns, so that a busy machine is
    as busy for both.

    Errors: InputError, as `milliseconds_a_token`.
    """
    branches = loaded.seen(BRANCH)
    by_kind: dict[str, list[int]] = {}
    for unit, kind in enumerate(branches.units.kinds):
        by_kind.setdefault(kind, []).append(unit)
    states: dict[str, State] = {kind: tuple(own[1::2]) for kind, own in by_kind.items() if len(own) > 1}
    best = dict.fromkeys(["", *states], math.inf)
    for _ in range(rounds):
        for kind in best:
            with without(branches, states.get(kind, ())):
                best[kind] = min(best[kind], milliseconds_a_token(branches, context))
    kinds = {
        kind: KindTime(len(by_kind[kind]), max(0.0, best[""] - best[kind]) / len(gone))
        for kind, gone in states.items()
    }
    return TokenTime(context, best[""], kinds)


class _Decoder:
    """A model with a made-up context in its cache, that goes on token by token."""

    def __init__(self, loaded: LoadedModel, context: int, tokens: int):
        start = context - tokens
        if start < 1:
            raise InputError(
                f"A context of {context} tokens is too short to time; choose {tokens + 1} or more."
            )
        if loaded.max_length and context > loaded.max_length:
            raise InputError(
                f"A context of {context} tokens is more than the {loaded.max_length} positions of "
                f"{loaded.source!r}; choose a smaller one."
            )
        self.loaded, self.length = loaded, start
        self.takes = cache_argument(loaded.model)
        self.cache = filled_cache(loaded, start)

    @torch.no_grad()
    def times(self, tokens: int) -> list[float]:
        """Milliseconds of each of so many tokens, behind those that warm up."""
        token = probe_ids(self.loaded.model)[:1, :1]
        found = []
        for number in range(_WARM + tokens):
            self.length += 1
            mask = torch.ones(1, self.length, dtype=torch.long, device=token.device)
            began = time.perf_counter()
            out = self.loaded.model(
                input_ids=token, attention_mask=mask, use_cache=True, **{self.takes: self.cache}
            )
            token = out.logits[:, -1:].argmax(-1)
            token.sum().item()  # reading a number waits for a GPU
            if number >= _WARM:
                found.append(1000 * (time.perf_counter() - began))
        return found


@torch.no_grad()
def filled_cache(loaded: LoadedModel, tokens: int):
    """A cache of the model as it is now that holds so many tokens, batch 1; layers that keep a window, or a
    state that does not grow, keep that.

    Errors: InputError where the model has no cache that transformers knows.
    """
    begun = probe_ids(loaded.model)[:1, : min(tokens, 4)]
    cache: Any = getattr(loaded.model(input_ids=begun, use_cache=True), "past_key_values", None)
    if not hasattr(cache, "layers"):
        raise InputError(
            f"{loaded.source!r} (type {loaded.model.config.model_type!r}) keeps its context in a way that is "
            "not known here, so a token cannot be timed at a context; measure tokens per second instead."
        )
    left = tokens - begun.shape[1]
    for layer in cache.layers:
        keys = getattr(layer, "keys", None)
        if left and isinstance(keys, torch.Tensor) and keys.ndim == 4:
            layer.update(*(t[:, :, :1].repeat(1, 1, left, 1) for t in (keys, layer.values)))
    return cache


def cache_bytes(cache) -> int:
    """Bytes of the keys and values that a cache holds, in the type that they are in."""
    held = (getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values"))
    return sum(t.numel() * t.element_size() for t in held if isinstance(t, torch.Tensor))
