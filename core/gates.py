"""Alpha gates: block i adds alpha_i * attention(...) and alpha_i * FFN(...) to the residual stream.

alpha = 1 is the trained model, alpha_i = 0 removes block i (arXiv 2602.00161).
The gate sits on the outputs of each block's branches by forward hooks, so the
model's own code stays untouched.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from core.models import LoadedModel

GATE = "alpha on attention and FFN outputs (paper)"


@contextmanager
def gated(loaded: LoadedModel, alpha: torch.Tensor) -> Iterator[None]:
    """Inside the context, branch outputs are multiplied by alpha: [N], or [B, N] with a gate of its own for each sample."""
    scales = alpha.unbind(dim=-1)

    def hook(index: int):
        scale = scales[index] if alpha.ndim == 1 else scales[index].view(-1, 1, 1)

        def multiply(_module, _args, output):
            if isinstance(output, tuple):
                return (output[0] * scale, *output[1:])
            return output * scale

        return multiply

    handles = [module.register_forward_hook(hook(i)) for i, module in loaded.branches()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def keep_all(loaded: LoadedModel) -> torch.Tensor:
    """float32 [N]: the trained model's gates."""
    return torch.ones(len(loaded.blocks))


def removal(loaded: LoadedModel, removed: Iterable[int]) -> torch.Tensor:
    """float32 [N]: gates with the blocks of `removed` at 0."""
    alpha = keep_all(loaded)
    alpha[list(removed)] = 0.0
    return alpha
