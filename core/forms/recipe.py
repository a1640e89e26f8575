"""A recipe for mergekit that builds the same model: slices of the original, passed through one after another.

https://github.com/arcee-ai/mergekit; its ranges begin at 0 and end before their second number.
"""

from collections.abc import Iterator, Sequence

import yaml

from core.errors import InputError
from core.ising.states import check_blocks


def recipe(model: str, removed: Sequence[int], blocks: int, dtype: str) -> str:
    """The recipe as YAML. model: a folder or hub id; blocks: how many it has; dtype: of its weights, as
    mergekit names it, "bfloat16" for example.

    Errors: InputError for blocks that are not there or all of them.
    """
    gone = set(check_blocks(removed, blocks))
    if not gone:
        raise InputError("No blocks to remove were given; name at least one, for example 3,7-9.")
    slices = [{"sources": [{"model": model, "layer_range": list(kept)}]} for kept in _runs(gone, blocks)]
    content = {"merge_method": "passthrough", "dtype": dtype, "slices": slices}
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, allow_unicode=True, width=1000)


def _runs(gone: set[int], blocks: int) -> Iterator[tuple[int, int]]:
    """(first, behind the last) of each run of blocks that stay."""
    start = 0
    for b in (*sorted(gone), blocks):
        if start < b:
            yield start, b
        start = b + 1
