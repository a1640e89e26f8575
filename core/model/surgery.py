"""Remove blocks for real: fewer modules, renumbered, with a config that says so.

Config rules are data: what is a list with one entry a block is sliced, what
cannot be written in a native config is refused with the reason.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from core.errors import InputError
from core.ising.states import check_blocks
from core.model.load import LoadedModel

# one entry a block: sliced to the kept blocks (transformers checks their length on save and load)
PER_BLOCK_LISTS = (
    "layer_types",
    "mlp_layer_types",
    "layers_block_type",
    "indexer_types",
    "attention_layers",
    "no_rope_layers",
    "layer_rope_theta",
    "activation_sparsity_pattern",
    "intermediate_size",
    "num_attention_heads_per_layer",
)
# numbers of blocks: those kept, renumbered
BLOCK_NUMBERS = ("attn_layer_indices", "mlp_only_layers", "moe_layers", "hybrid_layer_ids")
# sub-module attributes that hold the block's own number: the KV cache is addressed by them
NUMBERS = ("layer_idx", "layer_id")


def _image_depth(config) -> int:
    """How many of the first blocks take image features of their own (deepstack: Qwen3-VL one each, Granite 4
    Vision as mapped).
    """
    mapped = getattr(config, "deepstack_layer_map", None) or ()
    return max(
        [
            len(getattr(getattr(config, "vision_config", None), "deepstack_visual_indexes", None) or ()),
            *(b + 1 for _, b in mapped),
        ]
    )


# (reason, when it holds of a model and blocks to remove): what depends on a block's depth, so that a native
# config cannot express the removal
REFUSALS: tuple[tuple[str, Callable], ...] = (
    (
        "its attention is scaled by the block's index (scale_attn_by_inverse_layer_idx), which changes when "
        "blocks are renumbered",
        lambda loaded, removed: getattr(loaded.config, "scale_attn_by_inverse_layer_idx", False),
    ),
    (
        "its first blocks take image features by their number (deepstack), so they have to stay",
        lambda loaded, removed: removed[0] < _image_depth(loaded.model.config),
    ),
)


def check_removal(loaded: LoadedModel, removed: Sequence[int]) -> list[int]:
    """The sorted blocks to remove.

    Errors: InputError for unknown, doubled, no or all blocks, or a refused structure.
    """
    blocks = list(check_blocks(removed, len(loaded.blocks)))
    if not blocks:
        raise InputError("No blocks to remove were given; name at least one, for example 3,7-9.")
    for reason, holds in REFUSALS:
        if holds(loaded, blocks):
            raise InputError(
                f"{loaded.source!r} cannot be pruned natively: {reason}; evaluate it with gates instead."
            )
    return blocks


def remove_blocks(loaded: LoadedModel, removed: Sequence[int]) -> None:
    """Remove the blocks from the loaded model in place: modules, numbering and config.

    Errors: see `check_removal`.
    """
    gone = set(check_removal(loaded, removed))
    kept = [i for i in range(len(loaded.blocks)) if i not in gone]
    parent_path, _, name = loaded.structure.path.rpartition(".")
    blocks = torch.nn.ModuleList(loaded.modules[i] for i in kept)
    for number, block in enumerate(blocks):
        for module in block.modules():
            for attribute in NUMBERS:
                if hasattr(module, attribute):
                    setattr(module, attribute, number)
    setattr(loaded.model.get_submodule(parent_path), name, blocks)
    config = loaded.config
    for attribute in PER_BLOCK_LISTS:
        values = vars(config).get(attribute)
        if isinstance(values, (list, tuple)):
            setattr(config, attribute, [values[i] for i in kept])
    for attribute in BLOCK_NUMBERS:
        values = vars(config).get(attribute)
        if isinstance(values, (list, tuple)):
            setattr(config, attribute, [kept.index(i) for i in values if i in kept])
    config.num_hidden_layers = len(kept)
    loaded.blocks = [loaded.blocks[i] for i in kept]


@contextmanager
def without(loaded: LoadedModel, removed: Sequence[int]) -> Iterator[None]:
    """Inside the context the blocks are really removed from the loaded model; afterwards it is whole again.

    Equal to gates at 0, but the removed blocks cost nothing: for measuring speed and for many states in a
    row.
    Errors: see `check_removal`.
    """
    if not len(removed):
        yield
        return
    config, path = loaded.config, loaded.structure.path
    modules, blocks = loaded.modules, loaded.blocks
    values = {a: vars(config).get(a) for a in (*PER_BLOCK_LISTS, *BLOCK_NUMBERS)}
    depth = getattr(config, "num_hidden_layers", None)
    numbers = [(m, a, getattr(m, a)) for m in modules.modules() for a in NUMBERS if hasattr(m, a)]
    remove_blocks(loaded, removed)
    try:
        yield
    finally:
        parent, _, name = path.rpartition(".")
        setattr(loaded.model.get_submodule(parent), name, modules)
        for attribute, value in values.items():
            if value is not None:
                setattr(config, attribute, value)
        if depth is not None:
            config.num_hidden_layers = depth
        for module, attribute, value in numbers:
            setattr(module, attribute, value)
        loaded.blocks = blocks
