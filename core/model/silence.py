"""Branches that add nothing and keep their shapes: the weights of their last step are zero."""

import re
from collections.abc import Sequence

import torch
from torch import nn

from core.blocks.structure import Call, first_tensor, recorded
from core.errors import InputError
from core.model.load import LoadedModel
from core.model.places import block_calls, find_places
from core.model.surgery import check_removal, divided, gated_logits, same_as_gated

# what the last step is called where a branch has several at once, one an expert
_LAST = re.compile(
    r"(^|[._])(down_proj|w2|c_proj|fc2|o_proj|out_proj|output_linear|dense_4h_to_h)(_bias|[._]|$)"
)


@torch.no_grad()
def silence(loaded: LoadedModel, removed: Sequence[int]) -> list[str]:
    """Set the last step of the branches of `removed` to zero where their block stays; the names of these
    tensors.

    Whole blocks of the state stay as they are: core.model.surgery removes them.
    Errors: InputError where no weights do it, tried on a few tokens.
    """
    units = check_removal(loaded, removed)
    _, partial = divided(loaded, units)
    inside = {b: [unit for unit in units if loaded.units.block[unit] == b] for b in partial}
    state = [unit for own in inside.values() for unit in own]
    expected = gated_logits(loaded, state)
    zeroed: list[str] = []
    for b, call in block_calls(loaded, partial).items():
        prefix = f"{loaded.structure.path}.{b}."
        places = [p["path"].removeprefix(prefix) for p in find_places(loaded, {b: partial[b]})]
        for k in partial[b]:
            names = _zero_last(call, loaded.blocks[b].branches[k].path, places)
            if names is None:
                name = loaded.units.names[loaded.units.of_block[b][k]]
                raise InputError(
                    f"{name} of {loaded.source!r} has no last weights that can be zero; choose another form."
                )
            zeroed += [prefix + name for name in names]
    same_as_gated(loaded, expected, loaded.units.write(state))
    return zeroed


def _zero_last(call: Call, branch: str, places: Sequence[str]) -> list[str] | None:
    """Names of the block's parameters that are zero now, so that the branch gives zeros; None where none
    do.
    """
    for names in _candidates(call, branch, places):
        held = {name: call.module.get_parameter(name) for name in names}
        before = {name: p.clone() for name, p in held.items()}
        for p in held.values():
            p.zero_()
        if held and _gives_nothing(call, branch):
            return list(held)
        for name, p in held.items():
            p.copy_(before[name])
    return None


def _candidates(call: Call, branch: str, places: Sequence[str]) -> list[list[str]]:
    """Groups of parameters to try: each matrix of the branch with its bias, the last one first; then all that
    are called like last ones.
    """
    modules = {path: module for path, module in call.module.named_modules() if path}
    with recorded(modules) as seen:
        call.module(*call.args, **call.kwargs)
    own = [path for path in (c.path for c in seen) if any(_inside(path, p) for p in (branch, *places))]
    upto = own[: own.index(branch) + 1] if branch in own else own
    matrices = [
        [f"{path}.{name}" for name, _ in modules[path].named_parameters(recurse=False)]
        for path in reversed(upto)
        if not isinstance(modules[path], nn.Embedding)
        and getattr(modules[path], "weight", torch.empty(0)).ndim == 2
    ]
    region = {path for path in modules if any(_inside(path, p) for p in (branch, *places))}
    last = [
        name
        for name, _ in call.module.named_parameters()
        if name.rpartition(".")[0] in region and _LAST.search(name)
    ]
    return [*matrices, last]


def _gives_nothing(call: Call, branch: str) -> bool:
    """Whether the branch gives zeros: looked at when it returns, for some blocks add to it in place."""
    seen: list[bool] = []
    handle = call.module.get_submodule(branch).register_forward_hook(
        lambda _module, _args, output: seen.append(bool(first_tensor(output).any()))
    )
    try:
        call.module(*call.args, **call.kwargs)
    finally:
        handle.remove()
    return not any(seen)


def _inside(path: str, parent: str) -> bool:
    return path == parent or path.startswith(f"{parent}.")
