"""What a removal changes in a config: told beforehand from the raw one, found between two. Loads no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.blocks.architectures import BLOCK_NUMBERS, DEPTHS, FIRST_BLOCKS, PER_BLOCK_LISTS, PREDICTS_MORE

Change = tuple[str, Any, Any]  # name, before, after; None: not there
RAW_DEPTHS = (*DEPTHS, "n_layer", "n_layers", "num_layers")  # also as a file may call what DEPTHS does
_OF_TEXT = "text_config"


def foretold(config: Mapping[str, Any], removed: Sequence[int], blocks: int) -> list[Change]:
    """What removing whole blocks of `blocks` will change in a raw config, as far as its own entries say;
    transformers may write defaults beside them.
    """
    kept = [b for b in range(blocks) if b not in set(removed)]
    prefix, own = "", config
    if isinstance(config.get(_OF_TEXT), Mapping):
        prefix, own = f"{_OF_TEXT}.", config[_OF_TEXT]
    found: list[Change] = []
    for name, value in own.items():
        after = value
        if name in RAW_DEPTHS and value == blocks:
            after = len(kept)
        elif name in PER_BLOCK_LISTS and isinstance(value, list) and len(value) == blocks:
            after = [value[b] for b in kept]
        elif name in BLOCK_NUMBERS and isinstance(value, list):
            after = [kept.index(b) for b in value if b in kept]
        elif name in FIRST_BLOCKS and isinstance(value, int):
            after = sum(b < value for b in kept)
        elif name in PREDICTS_MORE and value:
            after = 0
        if after != value:
            found.append((prefix + name, value, after))
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[Change]:
    """Every entry of two configs that differs, nested ones by their path."""
    found: list[Change] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{prefix}{name}.")
        elif old != new:
            found.append((prefix + name, old, new))
    return found
