"""Find the blocks of any causal language model by watching it run, and what each of them does.

One forward of a few made-up tokens with hooks finds the blocks: the outermost list of modules
that are each called once, in order, and map hidden states to hidden states of the same shape.
In a block, the branches are the outermost sub-modules whose outputs are added to the residual
stream: with all of them scaled to 0 the block is the identity, and its output is linear in the scale
of each. That is where the paper's gate belongs (arXiv 2602.00161). Where no such set exists
(post-norm blocks, several streams) the block as a whole is gated.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from core.blocks.architectures import KINDS, LAYER_TYPES
from core.errors import InputError

BATCH, LENGTH = 2, 5  # of the probe: two numbers that differ, so that shapes tell the axes apart


@dataclass(frozen=True)
class Branch:
    """A part of a block that writes to the residual stream: the sub-module whose output is added."""

    path: str  # within the block; "": the block as a whole
    kind: str


@dataclass(frozen=True)
class Structure:
    """Where the blocks of a model are, and where their gates."""

    path: str  # of the list of blocks
    batch_axis: int  # of the hidden states
    branches: tuple[tuple[Branch, ...], ...]  # of each block

    def modules(self, model: nn.Module) -> nn.ModuleList:
        """The blocks of the model."""
        blocks = model.get_submodule(self.path)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    @property
    def block_gate(self) -> bool:
        """Whether whole blocks are gated, because their branches were not found."""
        return any(branch.path == "" for branches in self.branches for branch in branches)


def first_tensor(output):
    """The hidden states in what a module returns: itself, or the first of a tuple or list."""
    return output[0] if isinstance(output, (tuple, list)) and len(output) else output


def input_device(model: PreTrainedModel) -> torch.device:
    """Where token ids go: to the embeddings, or to where accelerate brings weights that it keeps
    elsewhere.
    """
    embeddings: Any = model.get_input_embeddings()
    hook: Any = getattr(embeddings, "_hf_hook", None)
    away = embeddings.weight.is_meta and hook is not None
    return torch.device(hook.execution_device if away else embeddings.weight.device)


def probe_ids(model: PreTrainedModel) -> torch.Tensor:
    """int64 [2, 5]: tokens that every vocabulary has."""
    embeddings: Any = model.get_input_embeddings()
    vocabulary = embeddings.weight.shape[0]
    return (
        torch.arange(BATCH * LENGTH, device=input_device(model)).reshape(BATCH, LENGTH) * 7 + 3
    ) % vocabulary


def cache_argument(model: PreTrainedModel) -> str:
    """By what name the model takes its cache; the old one in code of its own."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def reads_ahead(model: PreTrainedModel) -> bool:
    """Whether logits depend on tokens that come later: some models with a vision part attend both ways
    without an image.
    """
    ids = probe_ids(model)
    other = ids.clone()
    other[:, -1] = ids[:, 0]
    with torch.no_grad():
        before, after = (model(input_ids=tokens, use_cache=False).logits.float() for tokens in (ids, other))
    return float((before - after)[:, :-1].norm()) > 1e-2 * float(before[:, :-1].norm())


class Call(NamedTuple):
    """A finished call of a module."""

    path: str
    module: nn.Module
    args: tuple
    kwargs: dict
    output: object


@contextmanager
def recorded(modules: dict[str, nn.Module]) -> Iterator[list[Call]]:
    """Inside the context, every finished call of the modules is listed, in order of completion."""
    calls: list[Call] = []

    def hook(path: str):
        return lambda *call: calls.append(Call(path, *call))

    handles = [module.register_forward_hook(hook(path), with_kwargs=True) for path, module in modules.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _shape(output) -> tuple[int, ...] | None:
    tensor = first_tensor(output)
    return tuple(tensor.shape) if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() else None


def _batch_axis(shape: tuple[int, ...] | None) -> int | None:
    """Of hidden states; None for what are none."""
    if shape is None or len(shape) < 3:
        return None
    if shape[:2] == (BATCH, LENGTH):
        return 0
    # the latter: several streams
    return 1 if shape[:2] == (LENGTH, BATCH) or shape[1:3] == (BATCH, LENGTH) else None


def hidden_argument(args: tuple, kwargs: dict) -> torch.Tensor | None:
    """The hidden states a block is called with."""
    return args[0] if args else kwargs.get("hidden_states")


def find_structure(model: PreTrainedModel, source: str) -> Structure:
    """The blocks of a loaded model in evaluation mode.

    Errors: InputError that says what was looked for in vain.
    """
    path, axis, own = find_stack(model, source)
    types = getattr(model.config.get_text_config(decoder=True), "layer_types", None)
    known: dict[tuple, tuple[str, ...] | None] = {}
    branches = []
    for i, call in enumerate(own):
        signature = tuple((name, type(module).__qualname__) for name, module in call.module.named_modules())
        if signature not in known:
            known[signature] = find_branches(call.module, call.args, call.kwargs)
        attention = LAYER_TYPES.get(types[i]) if types is not None and len(types) == len(own) else None
        branches.append(_name_branches(call.module, known[signature], attention))
    # one gate for all blocks: their derivatives must be comparable
    if any(b[0].path == "" for b in branches):
        branches = [(Branch("", " + ".join(b.kind for b in block)),) for block in branches]
    return Structure(path, axis, tuple(branches))


def find_stack(model: PreTrainedModel, source: str) -> tuple[str, int, list[Call]]:
    """(the path of the list of blocks, the batch axis of what they are called with, how each was called) of
    a model in evaluation mode; what its weights are does not matter.

    Errors: as `find_structure`.
    """
    lists = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module)
    }
    children = {f"{path}.{i}": child for path, blocks in lists.items() for i, child in enumerate(blocks)}
    try:
        with torch.no_grad(), recorded(children) as calls:
            model(input_ids=probe_ids(model), use_cache=False)
    except Exception as error:
        raise InputError(
            f"{source!r} (type {model.config.model_type!r}) does not run on token ids alone "
            f"({_sentence(error)}), so its blocks cannot be found; choose a text-only causal language model."
        ) from error
    called = {path: [call for call in calls if call.path.rpartition(".")[0] == path] for path in lists}
    found = [path for path, own in called.items() if _is_stack(own, len(lists[path]))]
    outermost = [p for p in found if not any(p.startswith(f"{other}.") for other in found)]
    if not outermost:
        raise InputError(
            f"{source!r} (type {model.config.model_type!r}) has no list of blocks that are each called once, "
            "in order, on hidden states of one shape, so none can be removed; choose another model."
        )
    path = max(outermost, key=lambda p: len(lists[p]))
    own = called[path]
    axis = _batch_axis(_shape(own[0].output))
    assert axis is not None  # or it would be no stack
    return path, axis, own


def _is_stack(own: list[Call], length: int) -> bool:
    """Whether the calls of a list's children are those of blocks: each once, in order, on hidden states of
    one shape.
    """
    if [int(call.path.rpartition(".")[2]) for call in own] != list(range(length)) or not any(
        next(call.module.children(), None) for call in own
    ):
        return False
    shapes = {
        _shape(hidden) for call in own for hidden in (call.output, hidden_argument(call.args, call.kwargs))
    }
    return len(shapes) == 1 and _batch_axis(shapes.pop()) is not None


def find_branches(block: nn.Module, args: tuple, kwargs: dict) -> tuple[str, ...] | None:
    """Paths of the sub-modules whose outputs the block adds to its input, in order; None where there are no
    such.

    args, kwargs: what the block is called with. Looked for from the last to the first, with those found so
    far scaled to 0: then each is the last, and the block's output must be linear in its scale.
    """
    given = hidden_argument(args, kwargs)
    assert given is not None  # or it would be no block
    hidden = given.detach()
    dtype = hidden.dtype
    # rounding must not hide the branches
    x = (hidden / hidden.float().pow(2).mean().sqrt().clamp(min=1.0).to(dtype)).clone()
    close = 1e-3 if dtype in (torch.float32, torch.float64) else 0.1
    args = (x, *args[1:]) if args else args
    kwargs = kwargs if args else {**kwargs, "hidden_states": x}
    size = float(x.float().norm())

    def run(scales: dict[nn.Module, float]) -> torch.Tensor:
        def scaling(scale: float):
            return lambda _module, _args, output: replace_first(output, first_tensor(output) * scale)

        handles = [module.register_forward_hook(scaling(scale)) for module, scale in scales.items()]
        try:
            with torch.no_grad():
                return first_tensor(block(*args, **kwargs)).to(x.device, torch.float32)
        finally:
            for handle in handles:
                handle.remove()

    modules = {path: module for path, module in block.named_modules() if path}
    with recorded(modules) as calls:
        run({})
    shapes = (tuple(x.shape), (BATCH * LENGTH, x.shape[-1]))  # the second: tokens of all samples in one row
    order = [call.path for call in calls if _shape(call.output) in shapes]
    # one that is called twice cannot be told apart
    order = [path for path in order if order.count(path) == 1]
    chosen: list[str] = []

    def zeros() -> dict[nn.Module, float]:
        return {modules[path]: 0.0 for path in chosen}

    def look(path: str) -> None:
        own = modules[path]
        with_it, without_it, half = (run({**zeros(), own: scale}) for scale in (1.0, 0.0, 0.5))
        change = float((with_it - without_it).norm())
        if change <= 1e-5 * size:
            return
        linear = float((half - (with_it + without_it) / 2).norm()) <= close * change
        if linear and float(without_it.norm()) > 1e-3 * size:
            chosen.append(path)
            return
        for child in _outermost(order, path):
            look(child)

    for path in _outermost(order, ""):
        look(path)
    if chosen and float((run(zeros()) - x.float()).norm()) <= close * size:
        return tuple(reversed(chosen))
    return None


def _outermost(order: list[str], parent: str) -> list[str]:
    """The paths of `order` below `parent` that are below no other such, the last called first."""
    inside = [path for path in order if path.startswith(f"{parent}." if parent else "") and path != parent]
    return [p for p in reversed(inside) if not any(p.startswith(f"{other}.") for other in inside)]


def replace_first(output, tensor: torch.Tensor):
    """What a module returned, with other hidden states in it."""
    if isinstance(output, tuple):
        return (tensor, *output[1:])
    if isinstance(output, list):
        return [tensor, *output[1:]]
    return tensor


def _name_branches(
    block: nn.Module, paths: tuple[str, ...] | None, attention: str | None
) -> tuple[Branch, ...]:
    """Branches with their kinds; of a block whose branches were not found, one for the whole."""
    children = [name for name, child in block.named_children() if not _is_plain(name, child)]
    if paths is None:
        kinds = [
            kind for kind in (_kind(block.get_submodule(name), name, attention) for name in children) if kind
        ]
        return (Branch("", " + ".join(dict.fromkeys(kinds)) or "block"),)
    named, left = [], [name for name in children if _kind(block.get_submodule(name), name, attention)]
    for path in paths:
        parts = path.split(".")
        # follows the part it belongs to
        if "norm" in type(block.get_submodule(path)).__name__.lower() and left:
            steps = left[:1]
        else:
            steps = [".".join(parts[: k + 1]) for k in range(len(parts))]
        kinds = [
            kind for kind in (_kind(block.get_submodule(step), step, attention) for step in steps) if kind
        ]
        left = [name for name in left if name not in (steps[0], parts[0])]
        named.append(Branch(path, kinds[0] if kinds else "other"))
    return tuple(named)


def _is_plain(name: str, module: nn.Module) -> bool:
    """Norms, dropout, activations: parts that do nothing of their own."""
    words = f"{name} {type(module).__name__}".lower()
    return (
        "norm" in words
        or "dropout" in words
        or "activation" in words
        or next(module.parameters(), None) is None
    )


def _kind(module: nn.Module, path: str, attention: str | None) -> str | None:
    name = path.rpartition(".")[2]
    if any(child.startswith("experts") or child.endswith(".experts") for child, _ in module.named_modules()):
        return "MoE"
    for words in (name, type(module).__name__):
        for kind, pattern in KINDS:
            if pattern.search(words):
                return attention if kind == "attention" and attention else kind
    return None


def _sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160].rstrip(".")
