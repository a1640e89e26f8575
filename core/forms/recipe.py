"""A recipe for mergekit that builds the same model: slices of the original, passed through one after another.

https://github.com/arcee-ai/mergekit; its ranges begin at 0 and end before their second number.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from core.errors import InputError
from core.forms.config_changes import RAW_DEPTHS
from core.ising.states import check_blocks

RECIPE, FILE = "recipe", "recipe.yml"  # the word for it as a format; its name in a folder


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


def recipe_of(place: Path, source: str, removed: Sequence[int]) -> tuple[str, str]:
    """(the recipe, the model's type) of a Hugging Face folder at `place`, or of the hub under `source`.

    Errors: InputError where there is no config to say how many blocks it has; as `recipe`.
    """
    config = _config(place, source)
    own = config.get("text_config") or config
    blocks = next((own[name] for name in RAW_DEPTHS if isinstance(own.get(name), int)), None)
    if blocks is None:
        raise InputError(f"The config of {source!r} does not say how many blocks it has; prune it instead.")
    dtype = next((str(c[n]) for c in (config, own) for n in ("dtype", "torch_dtype") if c.get(n)), "float32")
    return recipe(str(place.absolute()), removed, blocks, dtype), str(config.get("model_type"))


def _config(place: Path, source: str) -> dict:
    try:
        return json.loads((place / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{source!r} is no folder with a config.json on this machine, which mergekit would read; choose "
            "another format."
        ) from error


def _runs(gone: set[int], blocks: int) -> Iterator[tuple[int, int]]:
    """(first, behind the last) of each run of blocks that stay."""
    start = 0
    for b in (*sorted(gone), blocks):
        if start < b:
            yield start, b
        start = b + 1
