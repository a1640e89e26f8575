"""How long a token takes at a context: what people wait for, and what fewer attentions make shorter.

The keys and values of the context are made up, for their number alone decides the time: a context of 8192
tokens costs no forward over 8192 tokens.
"""

import inspect
import time

import torch

from core.blocks.structure import probe_ids
from core.errors import InputError
from core.model.load import LoadedModel

TOKENS = 8  # timed of a context; the shortest counts
_WARM = 1  # tokens before them, not timed


def milliseconds_a_token(loaded: LoadedModel, context: int, tokens: int = TOKENS) -> float:
    """Milliseconds that the model as it is now takes for one token, the last of `context`: batch 1, greedy,
    with its cache; the shortest of so many tokens.

    Errors: InputError for a context that the model has no positions for.
    """
    return min(_Decoder(loaded, context, tokens + _WARM).times(tokens))


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
        taken = inspect.signature(loaded.model.forward).parameters
        self.takes = "cache" if "cache" in taken else "past_key_values"  # the latter: in code of its own
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
    cache = getattr(loaded.model(input_ids=begun, use_cache=True), "past_key_values", None)
    if not hasattr(cache, "layers"):
        raise InputError(
            f"{loaded.source!r} (type {loaded.model.config.model_type!r}) keeps its context in a way that is "
            "not known here, so a token cannot be timed at a context; measure tokens per second instead."
        )
    left = tokens - begun.shape[1]
    for layer in cache.layers:
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if left and isinstance(keys, torch.Tensor) and keys.ndim == 4:
            layer.update(*(t[:, :, :1].repeat(1, 1, left, 1) for t in (keys, values)))
    return cache


def cache_bytes(cache) -> int:
    """Bytes of the keys and values that a cache holds, in the type that they are in."""
    held = (getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values"))
    return sum(t.numel() * t.element_size() for t in held if isinstance(t, torch.Tensor))
