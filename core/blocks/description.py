"""What each block of a model is and holds: parameters, bytes, keys and values."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn
from transformers import PreTrainedModel

from core.blocks.architectures import EXPERTS_USED, OWN_NUMBERS
from core.blocks.structure import Branch, Structure, probe_ids, recorded

# kinds of branches that keep no keys and values; what a Mamba keeps does not grow
_KEEPS_NOTHING = ("FFN", "MoE", "convolution", "Mamba", "linear attention", "other")


@dataclass(frozen=True)
class Part(Branch):
    """A branch, and what goes with it where it is removed alone; the parts of a block add up to the block."""

    parameters: int = 0
    active_parameters: int = 0
    bytes: int = 0
    kv_bytes: int = 0


@dataclass(frozen=True)
class Block:
    """One block, as found in the loaded model."""

    index: int
    kind: str
    parameters: int
    active_parameters: int  # that a token uses: of the experts, those it is sent to
    bytes: int  # of the weights as stored in the checkpoint's type
    kv_bytes: int  # of keys and values a token of context, in that type, as seen in the model's cache
    branches: tuple[Part, ...]

    def to_json(self) -> dict:
        """The fields, as a run keeps them."""
        return asdict(self)


def describe_blocks(model: PreTrainedModel, structure: Structure, item_size: int) -> list[Block]:
    """What each block is and holds; item_size: bytes of a weight as stored."""
    kept = _kept_per_token(model, structure)
    used, order = experts_used(model.config), _calls(model, structure)
    blocks = []
    for i, module in enumerate(structure.modules(model)):
        count = sum(p.numel() for p in module.parameters())
        branches = structure.branches[i]
        blocks.append(
            Block(
                i,
                " + ".join(b.kind for b in branches),
                count,
                count - _idle(module, used),
                count * item_size,
                kept[i] * item_size,
                _parts(module, branches, order.get(i, []), used),
            )
        )
    return [with_sizes(block, block.bytes) for block in blocks]


def _calls(model: PreTrainedModel, structure: Structure) -> dict[int, list[str]]:
    """{block: paths of its sub-modules in the order in which they are done}."""
    modules = {
        f"{i} {path}": module
        for i, block in enumerate(structure.modules(model))
        for path, module in block.named_modules()
        if path
    }
    with torch.no_grad(), recorded(modules) as calls:
        model(input_ids=probe_ids(model), use_cache=False)
    order: dict[int, list[str]] = {}
    for call in calls:
        number, _, path = call.path.partition(" ")
        order.setdefault(int(number), []).append(path)
    return order


def _parts(
    block: nn.Module, branches: Sequence[Branch], order: Sequence[str], used: int | None
) -> tuple[Part, ...]:
    """The branches with their parameters: what is computed before a branch and after the one before it is its
    own (its norm, the first half of its FFN); what is never seen, shared evenly. Bytes and cache are
    `with_sizes`'.
    """
    if len(branches) == 1:
        count = sum(p.numel() for p in block.parameters())
        return (Part(branches[0].path, branches[0].kind, count, count - _idle(block, used)),)
    owner: dict[int, int] = {}  # of each parameter, by its identity
    at = 0
    for path in order:
        for p in block.get_submodule(path).parameters():
            owner.setdefault(id(p), at)
        if path == branches[at].path and at < len(branches) - 1:
            at += 1
    own, unseen = [0] * len(branches), 0
    for p in block.parameters():
        if id(p) in owner:
            own[owner[id(p)]] += p.numel()
        else:
            unseen += p.numel()
    own = [n + more for n, more in zip(own, shared_evenly(unseen, [True] * len(own)))]
    idle = shared_evenly(_idle(block, used), ["MoE" in b.kind for b in branches])
    return tuple(Part(b.path, b.kind, n, n - rest) for b, n, rest in zip(branches, own, idle))


def with_sizes(block: Block, size: int) -> Block:
    """The block with so many bytes as stored, which its parts share as they share its parameters; keys and
    values are of those that may have a cache.
    """
    parts, total = block.branches, max(1, block.parameters)
    sizes = [size * p.parameters // total for p in parts]
    over = shared_evenly(size - sum(sizes), [True] * len(parts))
    cached = shared_evenly(block.kv_bytes, [not any(w in p.kind for w in _KEEPS_NOTHING) for p in parts])
    held = [replace(p, bytes=s + o, kv_bytes=kv) for p, s, o, kv in zip(parts, sizes, over, cached)]
    return replace(block, bytes=size, branches=tuple(held))


def shared_evenly(total: int, among: Sequence[bool]) -> list[int]:
    """Whole numbers that add up to `total`, of those who take part (of all, where nobody would)."""
    takers = [k for k, takes in enumerate(among) if takes] or list(range(len(among)))
    each, over = divmod(total, len(takers))
    found = [0] * len(among)
    for n, k in enumerate(takers):
        found[k] = each + (n < over)
    return found


def experts_used(config) -> int | None:
    """Experts that a token is sent to; None where the config names no number."""
    text = config.get_text_config(decoder=True)
    for name in EXPERTS_USED:
        value = getattr(text, name, None)
        if isinstance(value, list) and value:
            value = max(value)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _idle(block: nn.Module, used: int | None) -> int:
    """Parameters of the experts that a token is not sent to."""
    idle = 0
    for path, module in block.named_modules():
        if path.rpartition(".")[2] == "experts" and used:
            own = sum(p.numel() for p in module.parameters())
            first = next(iter(module.parameters()), None)
            number = (
                len(module)
                if isinstance(module, nn.ModuleList)
                else getattr(module, "num_experts", None) or (first.shape[0] if first is not None else 0)
            )
            if number > used:
                idle += own * (number - used) // number
    return idle


def block_number(module: nn.Module) -> int | None:
    """The number under which a block's attention keeps its keys and values."""
    numbers = (getattr(m, name, None) for m in module.modules() for name in OWN_NUMBERS)
    return next((number for number in numbers if isinstance(number, int)), None)


def _kept_per_token(model: PreTrainedModel, structure: Structure) -> list[int]:
    """Numbers that each block keeps of a token, as seen in the cache after one forward; 0 for state that does
    not grow.
    """
    try:
        with torch.no_grad():
            layers = model(input_ids=probe_ids(model), use_cache=True).past_key_values.layers
    except Exception:  # models without attention have caches of many kinds
        layers = []
    kept = []
    for i, block in enumerate(structure.modules(model)):
        number = block_number(block)
        layer = (
            layers[i if number is None else number]
            if (i if number is None else number) < len(layers)
            else None
        )
        tensors = [getattr(layer, name, None) for name in ("keys", "values")]
        kept.append(
            sum(
                t.numel() // (t.shape[0] * t.shape[2])
                for t in tensors
                if isinstance(t, torch.Tensor) and t.ndim == 4
            )
        )
    return kept
