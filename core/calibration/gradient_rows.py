"""Gradient rows: d loss_s / d alpha of every sample of a batch, from one forward and one backward.

Alpha has shape [batch, N] and the weights are frozen, so the gradient of the summed losses with
respect to alpha holds one row a sample (arXiv 2602.00161).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from core.errors import InputError
from core.measure.replay import Replay
from core.model.devices import free_memory
from core.model.gates import gated
from core.model.head import forward_as
from core.model.load import LoadedModel
from core.model.losses import loss_gradients, right_padded
from core.model.memory import GRAPH, held
from core.texts import Sequences

LARGEST_BATCH = 64


def gradient_rows(
    loaded: LoadedModel,
    ids: torch.Tensor,
    mask: torch.Tensor | None = None,
    sampled_uniforms: torch.Tensor | None = None,
    scored: torch.Tensor | None = None,
    checkpointed: bool = False,
    gates: Sequence[float] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
    """Gate gradients of one batch: (rows float32 [B, N], losses float32 [B], the same for sampled labels or
    None), on the CPU.

    ids: int64 [B, T]; mask: bool [B, T], real tokens, padding on either side; scored: bool [B, T],
    tokens whose prediction counts (None: all real ones after a real one); sampled_uniforms:
    float64 [B, T] in [0, 1), the randomness of labels sampled from the model itself
    (inverse of the distribution function, so that a sample's labels do not depend on its batch).
    checkpointed: activations inside blocks are computed again in the backward: less memory, more time.
    gates: where the gradient is taken, N numbers, one a unit; None: at the trained model, all 1.
    """
    mask, scored = (None if t is None else t.to(loaded.device) for t in (mask, scored))
    ids, scored = right_padded(ids.to(loaded.device), mask, scored)
    point = [1.0] * len(loaded.units) if gates is None else gates
    alpha = torch.tensor(point, device=ids.device).repeat(len(ids), 1).requires_grad_()
    head = loaded.head  # tried without gates
    with gated(loaded, alpha), _checkpointed(loaded, checkpointed), torch.enable_grad():
        hidden = head.hidden(ids)
        labelled = loss_gradients(hidden, ids, scored, head.logits, sampled_uniforms)
        found = []
        for kind, (losses, gradient) in enumerate(labelled):
            (rows,) = torch.autograd.grad(hidden, alpha, gradient, retain_graph=kind < len(labelled) - 1)
            found.append((rows.cpu(), losses.cpu()))
    return *found[0], found[1] if len(found) > 1 else None


@contextmanager
def _checkpointed(loaded: LoadedModel, on: bool) -> Iterator[None]:
    """Inside the context, blocks keep only their inputs for the backward."""
    if not on:
        yield
        return

    def sparing(forward):
        return lambda *args, **kwargs: checkpoint(
            forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs
        )

    with ExitStack() as stack:
        for block in loaded.modules:
            stack.enter_context(forward_as(block, sparing))
        yield


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


def at_once(loaded: LoadedModel, batch: int, length: int, checkpointed: bool = False) -> int:
    """How many of a batch's sequences memory holds between forward and backward: half of what is free, on the
    CPU 0.5 GiB at most; more gain nothing there.

    Errors: InputError when not even one sequence fits.
    """
    try:
        return held(batch, graph_bytes(loaded, length, checkpointed), _room(loaded))
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise InputError(
            f"One sequence of {length} tokens does not fit the memory beside {loaded.source!r}; choose a "
            "smaller --length or --checkpointed."
        ) from error


def singles_at_once(loaded: LoadedModel, sequences: Sequences, batch: int) -> int:
    """How many of a batch's sequences memory holds where single removals share hidden states: two paths of
    them through the model.
    """
    replay = Replay(loaded, sequences)
    path = len(loaded.blocks) * replay.bytes * sequences.ids.shape[1]
    return held(batch, 2 * path, _room(loaded)) if replay.shares else batch


def measure_batch(loaded: LoadedModel, length: int, sampled: bool, checkpointed: bool) -> int:
    """The batch that gives the most rows a second here: doubled while that gains 5 % and memory holds it
    (`at_once`).

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

    most = at_once(loaded, LARGEST_BATCH, length, checkpointed)
    batch = 1
    try:
        rate = 1 / seconds(1)
        while 2 * batch <= most:
            faster = 2 * batch / seconds(2 * batch)
            if faster < 1.05 * rate:
                break
            rate, batch = faster, 2 * batch
    except RuntimeError as error:  # what is halved where it happens again (core.calibration.calibrate)
        if not out_of_memory(error):
            raise
    return batch


def _room(loaded: LoadedModel) -> float:
    """Bytes for activations where the model is."""
    if loaded.device.type == "cuda":
        return torch.cuda.mem_get_info(loaded.device)[0] / 2
    free = free_memory()
    return GRAPH if free is None else min(GRAPH, free / 2)
