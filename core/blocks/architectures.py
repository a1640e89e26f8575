"""What is special of a model type, as data: a new rule is an entry of one of these tables.

Blocks and branches are found by watching a model run (core.blocks.structure), so most types need no entry.
KINDS and LAYER_TYPES name what is found, EXPERTS_USED says where a config counts experts; the others say what
a config and its modules hold that removing blocks changes, and what cannot be removed (core.model.surgery).
Every type of the pinned transformers is tried by tests/coverage.py; one of each structure is a row of
tests/blocks/test_coverage.py.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

# what a sub-module is, by the words of its class and name; the first that fits
KINDS = tuple(
    (kind, re.compile(words, re.IGNORECASE))
    for kind, words in (
        ("MoE", r"moe|sparse|expert|switch"),
        ("Mamba", r"mamba|ssm"),
        (
            "linear attention",
            r"delta|linear_?att|lightning|rwkv|retention|[ms]lstm|xlstm|recurrent|rglru|kda",
        ),
        ("convolution", r"conv"),
        ("attention", r"attn|attention"),
        ("FFN", r"mlp|ffn|feed_?forward|fc|dense|glu|intermediate|output"),
    )
)
# how config.layer_types names attention that does not see everything
LAYER_TYPES = {
    "sliding_attention": "sliding attention",
    "chunked_attention": "chunked attention",
    "linear_attention": "linear attention",
}
# how a config names the experts that a token is sent to
EXPERTS_USED = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "moe_topk",
    "moe_top_k",
    "moe_k",
    "num_selected_experts",
    "top_k_experts",
    "moe_num_active_experts",
    "num_experts_per_topk",
    "experts_per_token",
)
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
# kinds that a config goes through over and over: written out, then sliced
CYCLES = ("block_types",)
# numbers of blocks: those kept, renumbered
BLOCK_NUMBERS = ("attn_layer_indices", "mlp_only_layers", "moe_layers", "hybrid_layer_ids")
# how many of the first blocks are of another kind, mostly dense among experts: those of them that are kept
FIRST_BLOCKS = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
# the number of the last block of a kind
LAST_BLOCK = ("moe_layer_end_index",)
# how many blocks there are: every one of them that says so
DEPTHS = ("num_hidden_layers", "decoder_layers", "num_blocks")
# divided by the root of how many there are when the model is built
OVER_ROOT_DEPTH = ("scale_depth",)
# heads that foretell several tokens: no blocks, never loaded, so none are left in what is written
PREDICTS_MORE = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers")
# sub-module attributes that hold the block's own number: the KV cache is addressed by them
OWN_NUMBERS = ("layer_idx", "layer_id")


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


def _kinds(config) -> list[str]:
    """What each block is, by its config; empty where that says nothing."""
    values = (getattr(config, name, None) for name in ("layers_block_type", "layer_types"))
    return next((list(v) for v in values if isinstance(v, (list, tuple))), [])


def _last_attention(config, removed: Sequence[int]) -> bool:
    """Whether attention is in the whole model and in none of the blocks that are kept."""
    here = ["attention" in str(kind) and "linear" not in str(kind) for kind in _kinds(config)]
    return any(here) and not any(has for b, has in enumerate(here) if b not in removed)


def _breaks_a_period(config, removed: Sequence[int]) -> bool:
    """Whether a config computes what each block is from its number, and what is kept is something else."""
    for name in ("layers_block_type", "layers_num_experts"):
        computed = isinstance(getattr(type(config), name, None), property)
        if computed and not any(hasattr(config, cycle) for cycle in CYCLES):
            values = list(getattr(config, name))
            kept = [v for b, v in enumerate(values) if b not in removed]
            if kept != values[: len(kept)]:
                return True
    return False


Refusals = tuple[tuple[str, Callable[[Any, Sequence[int]], bool]], ...]
# what removing blocks and renumbering the others would change: (reason, when it holds of a config and the
# sorted blocks to remove)
REFUSALS: Refusals = (
    (
        "its attention is scaled by the block's index (scale_attn_by_inverse_layer_idx), which changes when "
        "blocks are renumbered",
        lambda config, removed: getattr(
            config.get_text_config(decoder=True), "scale_attn_by_inverse_layer_idx", False
        ),
    ),
    (
        "its first blocks take image features by their number (deepstack), so they have to stay",
        lambda config, removed: removed[0] < _image_depth(config),
    ),
)
# what a config of the type cannot say: of the config of the language model
INEXPRESSIBLE: Refusals = (
    ("no attention would be left, and its cache counts tokens by that", _last_attention),
    ("its config says by a period which blocks are attention and which have experts", _breaks_a_period),
    (
        "its attention subtracts by an amount that depends on the block's number",
        lambda config, removed: config.model_type == "diffllama",
    ),
    (
        "its residual stream takes up earlier outputs by the block's number",
        lambda config, removed: config.model_type == "beam",
    ),
    (
        "each of its blocks reads a part of one wide embedding by its number (hidden_size_per_layer_input)",
        lambda config, removed: bool(getattr(config, "hidden_size_per_layer_input", 0)),
    ),
)
