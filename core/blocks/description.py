"""What each block of a model is and holds: parameters, bytes, keys and values."""

from dataclasses import asdict, dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from core.blocks.architectures import EXPERTS_USED
from core.blocks.structure import Branch, Structure, probe_ids


@dataclass(frozen=True)
class Block:
    """One block, as found in the loaded model."""

    index: int
    kind: str
    parameters: int
    active_parameters: int  # that a token uses: of the experts, those it is sent to
    bytes: int  # of the weights as stored in the checkpoint's type
    kv_bytes: int  # of keys and values a token of context, in that type, as seen in the model's cache
    branches: tuple[Branch, ...]

    def to_json(self) -> dict:
        """The fields, as a run keeps them."""
        return asdict(self)


def describe_blocks(model: PreTrainedModel, structure: Structure, item_size: int) -> list[Block]:
    """What each block is and holds; item_size: bytes of a weight as stored."""
    kept = _kept_per_token(model, structure)
    used = experts_used(model.config)
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
                branches,
            )
        )
    return blocks


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
    numbers = (getattr(m, "layer_idx", None) for m in module.modules())
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
