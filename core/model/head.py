"""A model cut before its head: hidden states first, logits in pieces after.

The logits of a real vocabulary are what takes memory: 2048 tokens over 49 152 are 0.4 GB, and a loss or its
gradient several times that. Here the body runs on all tokens and what the model does to its output, the head
with whatever scales or caps its logits, on a few at a time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from core.blocks.structure import first_tensor, probe_ids, replace_first

_CLOSE = 64  # units of the type's precision, of the largest logit: a piece's sums run in another order


class Head:
    """Runs a model up to its head (`hidden`), and the head on tokens of any number (`logits`).

    The head is whatever the model's own forward does behind its body, which is handed hidden states in place
    of running. A trial on a few tokens shows whether that gives the model's logits; where it does not,
    `pieces` is False: then `hidden` gives the logits, and `logits` hands them on.
    """

    def __init__(self, model: PreTrainedModel, blocks: str):
        """blocks: the path of the list of blocks, which is in the body."""
        self.model = model
        self.body: nn.Module = model
        self.output: object = None  # what the body returns, for few tokens
        self.pieces = False
        head: Any = model.get_output_embeddings()
        if getattr(
            getattr(head, "weight", None), "is_meta", False
        ):  # accelerate would bring it for each piece
            return
        parts = blocks.split(".")
        for depth in range(1, len(parts)):  # the outermost that forward hands its logits' input to
            self.body = model.get_submodule(".".join(parts[:depth]))
            try:
                self.pieces = self._agrees(probe_ids(model))
            except Exception:  # of many kinds: forward takes more of the body than hidden states
                self.pieces = False
            if self.pieces:
                return

    def hidden(self, ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """[B, T, D]: what the head is applied to, of ids int64 [B, T]; the logits [B, T, V] where it cannot
        be cut off.
        """
        arguments = {"input_ids": ids, "attention_mask": attention_mask, "use_cache": False}
        if not self.pieces:
            return self.model(**arguments).logits
        seen: list[torch.Tensor] = []

        def note(forward: Callable) -> Callable:
            def run(*args, **kwargs):
                output = forward(*args, **kwargs)
                seen.append(first_tensor_of(output))
                return _with_hidden(output, seen[0][:1, :1])  # the head has next to nothing to do

            return run

        with forward_as(self.body, note):
            self.model(**arguments)
        return seen[0]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[n, V]: of hidden states [n, D], each token's from its own."""
        if not self.pieces:
            return hidden
        output = _with_hidden(self.output, hidden[None])
        ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
        with forward_as(self.body, lambda forward: lambda *args, **kwargs: output):
            return self.model(input_ids=ids, use_cache=False).logits[0]

    @torch.no_grad()
    def _agrees(self, ids: torch.Tensor) -> bool:
        """Whether tokens in another order, without some of them, get the logits that the whole model gives
        them.
        """
        seen: list = []
        handle = self.body.register_forward_hook(lambda _module, _args, output: seen.append(output))
        try:
            whole = self.model(input_ids=ids, use_cache=False).logits
        finally:
            handle.remove()
        (self.output,) = seen
        self.pieces = True
        hidden = self.hidden(ids)
        if hidden.shape[:2] != ids.shape or hidden.shape == whole.shape:  # or a body with the head in it
            return False
        some = torch.arange(ids.numel() - 2, 0, -1, device=hidden.device)
        found = self.logits(hidden.flatten(0, 1)[some])
        expected = whole.flatten(0, 1)[some.to(whole.device)].to(found.device)
        if found.shape != expected.shape or found.dtype != expected.dtype:
            return False
        limit = _CLOSE * torch.finfo(found.dtype).eps * float(expected.abs().max())
        return float((found - expected).abs().max()) <= limit


def first_tensor_of(output) -> torch.Tensor:
    """The hidden states in what a body returns."""
    return output[0] if isinstance(output, ModelOutput) else first_tensor(output)


def _with_hidden(output, hidden: torch.Tensor):
    """What a body returned, with other hidden states in it and, where it has names, nothing beside them."""
    if isinstance(output, ModelOutput):
        return type(output)(**{next(iter(output)): hidden})
    return replace_first(output, hidden)


@contextmanager
def forward_as(module: nn.Module, made: Callable[[Callable], Callable]) -> Iterator[None]:
    """Inside the context a module runs made(its forward) in place of its forward."""
    own = vars(module).get("forward")  # accelerate gives modules a forward of their own
    module.forward = made(module.forward)
    try:
        yield
    finally:
        if own:
            module.forward = own
        else:
            del module.forward  # the class's shows again
