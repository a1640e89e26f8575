"""Gradient rows: d loss_s / d alpha of every sample of a batch, from one forward and one backward.

Alpha has shape [batch, N] and the weights are frozen, so the gradient of the summed losses with
respect to alpha holds one row a sample (arXiv 2602.00161).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from core.errors import InputError
from core.model.devices import free_memory
from core.model.gates import gated
from core.model.load import LoadedModel
from core.model.losses import loss_gradient, right_padded

LARGEST_BATCH = 64


def gradient_rows(
    loaded: LoadedModel,
    ids: torch.Tensor,
    mask: torch.Tensor | None = None,
    sampled_uniforms: torch.Tensor | None = None,
    scored: torch.Tensor | None = None,
    checkpointed: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
    """Gate gradients of one batch: (rows float32 [B, N], losses float32 [B], the same for sampled labels or
    None), on the CPU.

    ids: int64 [B, T]; mask: bool [B, T], real tokens, padding on either side; scored: bool [B, T],
    tokens whose prediction counts (None: all real ones after a real one); sampled_uniforms:
    float64 [B, T] in [0, 1), the randomness of labels sampled from the model itself
    (inverse of the distribution function, so that a sample's labels do not depend on its batch).
    checkpointed: activations inside blocks are computed again in the backward: less memory, more time.
    """
    mask, scored = (None if t is None else t.to(loaded.device) for t in (mask, scored))
    ids, scored = right_padded(ids.to(loaded.device), mask, scored)
    alpha = torch.ones(len(ids), len(loaded.blocks), requires_grad=True, device=ids.device)
    with gated(loaded, alpha), _checkpointed(loaded, checkpointed), torch.enable_grad():
        logits = loaded.model(input_ids=ids, use_cache=False).logits
        losses, gradient = loss_gradient(logits, ids, scored)
        (rows,) = torch.autograd.grad(logits, alpha, gradient, retain_graph=sampled_uniforms is not None)
        if sampled_uniforms is None:
            return rows.cpu(), losses.cpu(), None
        labels = ids.clone()
        labels[:, 1:] = sample_labels(logits.detach()[:, :-1], sampled_uniforms[:, :-1].to(ids.device))
        own_losses, gradient = loss_gradient(logits, labels, scored)
        (own_rows,) = torch.autograd.grad(logits, alpha, gradient)
    return rows.cpu(), losses.cpu(), (own_rows.cpu(), own_losses.cpu())


@contextmanager
def _checkpointed(loaded: LoadedModel, on: bool) -> Iterator[None]:
    """Inside the context, blocks keep only their inputs for the backward."""
    if not on:
        yield
        return
    plain = [
        (block, block.forward, vars(block).get("forward")) for block in loaded.modules
    ]  # accelerate gives blocks a forward of their own

    def sparing(forward):
        return lambda *args, **kwargs: checkpoint(
            forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs
        )

    for block, forward, _ in plain:
        block.forward = sparing(forward)
    try:
        yield
    finally:
        for block, _, own in plain:
            if own:
                block.forward = own
            else:
                del block.forward  # the class's shows again


def sample_labels(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """int64 [B, T]: tokens drawn from softmax(logits [B, T, V]) by inverting its distribution function at
    `uniforms`.
    """
    distribution = torch.softmax(logits.double(), dim=-1).cumsum(dim=-1)
    drawn = torch.searchsorted(distribution, uniforms[..., None].contiguous(), right=True).squeeze(-1)
    return drawn.clamp(max=logits.shape[-1] - 1)


def label_uniforms(index: np.ndarray, length: int, seed: int) -> torch.Tensor:
    """float64 [B, length]: a stream of its own for each sample index."""
    return torch.from_numpy(
        np.stack([np.random.Generator(np.random.Philox(key=[seed, int(i)])).random(length) for i in index])
    )


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that memory ran out, on a GPU or the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def made_up_ids(loaded: LoadedModel, batch: int, length: int) -> torch.Tensor:
    """int64 [batch, length]: random tokens, for timing."""
    return torch.randint(
        0, loaded.config.vocab_size, (batch, length), generator=torch.Generator().manual_seed(0)
    )


def graph_bytes(loaded: LoadedModel, length: int, checkpointed: bool = False) -> int:
    """Bytes that one sample of `length` tokens keeps between forward and backward, each tensor once."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.untyped_storage().data_ptr() for p in loaded.model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        gradient_rows(loaded, made_up_ids(loaded, 1, length), checkpointed=checkpointed)
    return sum(size for pointer, size in kept.items() if pointer not in weights)


def measure_batch(loaded: LoadedModel, length: int, sampled: bool, checkpointed: bool) -> int:
    """The batch that gives the most rows a second here: doubled while that gains 5 % and half the free memory
    holds it.

    Errors: InputError when not even one sample fits.
    """

    def seconds(batch: int) -> float:
        ids = made_up_ids(loaded, batch, length)
        uniforms = torch.rand(ids.shape, dtype=torch.float64) if sampled else None
        spent = []
        for _ in range(2):  # the first run of a size also sets up, and either may be disturbed
            began = time.perf_counter()
            gradient_rows(loaded, ids, sampled_uniforms=uniforms, checkpointed=checkpointed)
            spent.append(time.perf_counter() - began)
        return min(spent)

    batch = 0
    try:
        one = graph_bytes(loaded, length, checkpointed) + 16 * length * loaded.config.vocab_size
        rate, batch = 1 / seconds(1), 1
        while batch < LARGEST_BATCH and 2 * batch * one < _free(loaded) / 2:
            faster = 2 * batch / seconds(2 * batch)
            if faster < 1.05 * rate:
                break
            rate, batch = faster, 2 * batch
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        if not batch:
            raise InputError(
                f"One sequence of {length} tokens does not fit the memory beside {loaded.source!r}; choose a "
                "smaller --length or --checkpointed."
            ) from error
    return batch


def _free(loaded: LoadedModel) -> float:
    """Bytes free where the model is."""
    if loaded.device.type == "cuda":
        return torch.cuda.mem_get_info(loaded.device)[0]
    free = free_memory()
    return float("inf") if free is None else free
