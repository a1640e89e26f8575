"""Alpha gates: block i adds alpha_i * attention(...) and alpha_i * FFN(...) to the residual stream.

Of a model that is seen by branch (core.ising.units) attention and FFN have gates of their own: the derivative
along a block's gate is the sum of those along its branches'.

alpha = 1 is the trained model, alpha_i = 0 removes block i (arXiv 2602.00161).
The gate sits on the outputs of each block's branches by forward hooks, so the
model's own code stays untouched. Where the branches of a block were not found
(core.blocks.structure), the whole update is gated: h + alpha_i (F(h) - h).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from core.blocks.structure import first_tensor, hidden_argument, replace_first
from core.model.load import LoadedModel

GATE = "alpha on attention and FFN outputs (paper)"
BLOCK_GATE = "alpha on the update of whole blocks"


def gate_of(loaded: LoadedModel) -> str:
    """Which gate this model gets, in words: part of a run's key."""
    return BLOCK_GATE if loaded.structure.block_gate else GATE


class _Scale(torch.autograd.Function):
    """output * scale in the output's type; the gradient of the scale, one a sample, is summed in float32.

    The plain product would copy a half-precision output to float32 and keep it.
    """

    @staticmethod
    def forward(ctx, output, scale, axis):
        ctx.save_for_backward(output, scale)
        ctx.axis = axis
        return output * _aligned(scale, output, axis)

    @staticmethod
    def backward(ctx, gradient):
        output, scale = ctx.saved_tensors
        own = None
        if ctx.needs_input_grad[1]:
            left, right = (t.movedim(ctx.axis, 0).flatten(1).float() for t in (gradient, output))
            own = torch.linalg.vecdot(left, right)
            own = (own if scale.ndim else own.sum()).to(scale.device, scale.dtype)
        return gradient * _aligned(scale, gradient, ctx.axis), own, None


def _aligned(scale: torch.Tensor, output: torch.Tensor, axis: int) -> torch.Tensor:
    """The scale in the output's type and place, along its batch axis."""
    scale = scale.to(output.device, output.dtype)
    return (
        scale
        if scale.ndim == 0
        else scale.view(*(len(scale) if k == axis else 1 for k in range(output.ndim)))
    )


@contextmanager
def gated(loaded: LoadedModel, alpha: torch.Tensor) -> Iterator[None]:
    """Inside the context, branch outputs are multiplied by alpha: [N], one a unit, or [B, N] with a gate of
    its own for each sample.
    """
    scales, axis = alpha.unbind(dim=-1), loaded.structure.batch_axis

    def on_branch(index: int):
        def scale(_module, _args, output):
            hidden, own = first_tensor(output), scales[index]
            if hidden.ndim > 2 or own.ndim == 0:
                return replace_first(output, _Scale.apply(hidden, own, axis))
            by_sample = hidden.view(len(own), -1, hidden.shape[-1])  # tokens of all samples came in one row
            return replace_first(output, _Scale.apply(by_sample, own, axis).view(hidden.shape))

        return scale

    def on_block(index: int):
        def update(_module, args, kwargs, output):
            after = first_tensor(output)
            hidden = hidden_argument(args, kwargs).to(after.device)  # of a model that is spread over devices
            return replace_first(output, hidden + _Scale.apply(after - hidden, scales[index], axis))

        return update

    handles = [
        module.register_forward_hook(on_branch(i))
        if branch.path
        else module.register_forward_hook(on_block(i), with_kwargs=True)
        for i, branch, module in loaded.branches()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def closed(loaded: LoadedModel, units: Iterable[int]) -> Iterator[None]:
    """Inside the context the branches of these units add nothing: as with their gates at 0, and the others
    free of hooks.
    """
    gone = set(units)

    def shut(_module, _args, output):
        return replace_first(output, torch.zeros_like(first_tensor(output)))

    own = [module for unit, _, module in loaded.branches() if unit in gone] if gone else []
    handles = [module.register_forward_hook(shut) for module in own]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def keep_all(loaded: LoadedModel) -> torch.Tensor:
    """float32 [N]: the trained model's gates."""
    return torch.ones(len(loaded.units), device=loaded.device)


def removal(loaded: LoadedModel, removed: Iterable[int]) -> torch.Tensor:
    """float32 [N]: gates with the units of `removed` at 0."""
    alpha = keep_all(loaded)
    alpha[list(removed)] = 0.0
    return alpha
