"""Tiny random models of every causal-LM type of the pinned transformers.

A tiny config comes from two tables. RULES says by attribute name how a config class is shrunk, at every depth
of its sub-configs. OVERRIDES says by model type what else that type needs. `check` says whether what came out
is usable; tests.coverage does that for all.
"""

import dataclasses
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

TYPES: list[str] = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
VOCAB = 97
WIDTH = 32
POSITIONS = 64
STD = 0.18

_SHARED_KEYS = "its forward pass takes the hidden states, keys and values of another model, not tokens"
_NO_DECODER = "AutoModelForCausalLM hands the composite config to a class that reads the decoder's config"
unbuildable: dict[str, str] = {
    "gemma4_assistant": _SHARED_KEYS,
    "gemma4_unified_assistant": _SHARED_KEYS,
    "gemma3n": "its vision tower needs timm, which is not among the requirements",
    "musicgen": _NO_DECODER,
    "musicgen_melody": _NO_DECODER,
}
# What a type does otherwise than the others, in the pinned transformers.
not_causal: dict[str, str] = {
    "cpmant": "every token counts as context, which attends both ways",
    "prophetnet": "the predict stream's relative position terms are laid out so that positions mix",
}
not_differentiable: dict[str, str] = {
    "reformer": "its reversible blocks have a backward pass only in train mode"
}
not_reloadable: dict[str, str] = dict.fromkeys(
    ["emu3", "mllama"],
    "the model keeps the text config alone, which AutoModelForCausalLM does not know when it reads it back",
)
not_masked: dict[str, str] = {"xlnet": "an attention mask over several rows fails where attn_type is uni"}
inert: dict[str, str] = {"mllama": "its cross-attention block is passed over where there is no image"}


def _named(names: str, value) -> dict:
    return dict.fromkeys(names.split(), value)


# Attribute name -> tiny value. An attribute that is None by default stays None, unless ALWAYS names it.
RULES: dict = {
    # widths
    **_named(
        "hidden_size d_model n_embd emb_dim embedding_dim embedding_size input_embedding_size "
        "output_embedding_size",
        WIDTH,
    ),
    **_named(
        "word_embed_proj_dim lru_width attention_hidden_size out_hidden_size hidden_size_global "
        "ple_embed_dim",
        WIDTH,
    ),
    **_named(
        "pronunciation_embed_dim shape_embed_dim prompt_mid_dim classifier_proj_size dim_model_base", WIDTH
    ),
    **_named(
        "intermediate_size intermediate_size_mlp ffn_dim n_inner encoder_ffn_dim decoder_ffn_dim "
        "ffn_hidden_size dff dim_ff",
        48,
    ),
    **_named(
        "d_inner d_ff feed_forward_size dense_intermediate_size mlp_dim prefix_dense_intermediate_size", 48
    ),
    **_named(
        "moe_intermediate_size expert_ffn_hidden_size shared_expert_intermediate_size "
        "shared_experts_intermediate_size",
        16,
    ),
    **_named("shared_intermediate_size moe_shared_expert_intermediate_size", 16),
    # heads
    **_named(
        "num_attention_heads n_head n_heads num_heads attention_heads encoder_attention_heads "
        "decoder_attention_heads",
        4,
    ),
    **_named(
        "num_encoder_attention_heads num_decoder_attention_heads swa_num_attention_heads linear_num_heads", 4
    ),
    **_named("num_key_value_heads num_kv_heads kv_n_heads num_query_groups swa_num_key_value_heads", 2),
    **_named("linear_num_value_heads", 4),
    **_named("linear_num_key_heads", 2),
    **_named(
        "head_dim d_head swa_head_dim dim_head kv_channels attention_head_size linear_head_dim d_kv "
        "global_head_dim",
        8,
    ),
    **_named("linear_key_head_dim linear_value_head_dim qk_nope_head_dim v_head_dim", 8),
    **_named("qk_rope_head_dim rotary_dim", 4),
    **_named(
        "q_lora_rank kv_lora_rank o_lora_rank laurel_rank adapter_rank d_rel loop_gate_rank hc_lowrank "
        "gated_norm_rank",
        8,
    ),
    **_named("router_hidden_size block_multiple_of", 16),
    # experts
    **_named("num_experts num_local_experts n_routed_experts moe_num_experts", 4),
    **_named("num_experts_per_tok num_experts_per_token moe_topk moe_k moe_top_k top_k_experts", 2),
    **_named(
        "n_group topk_group num_expert_group n_shared_experts num_shared_experts moe_num_shared_experts", 1
    ),
    **_named("first_k_dense_replace num_dense_layers", 1),
    **_named("zero_expert_num", 2),
    # state-space and linear-attention layers
    **_named(
        "state_size ssm_state_size mamba_d_state mamba_d_head mamba_headdim mamba_head_dim time_step_rank "
        "mamba_dt_rank",
        8,
    ),
    **_named("n_mamba_heads", 2),
    **_named("mamba_n_heads mamba_num_heads", 8),
    **_named("n_groups mamba_n_groups mamba_ngroups", 1),
    **_named("chunk_size mamba_chunk_size", 4),
    # sparse attention
    **_named("index_head_dim", 8),
    **_named("index_n_heads", 2),
    **_named("index_topk", 4),
    **_named("sliding_window sliding_window_size attention_window_size window_size attention_chunk_size", 4),
    # sizes of the input
    **_named(
        "vocab_size unpadded_vocab_size decoder_vocab_size vocab_size_per_layer_input audio_vocab_size "
        "shape_vocab_size pronunciation_vocab_size",
        VOCAB,
    ),
    **_named(
        "max_position_embeddings n_positions n_ctx max_seq_len max_target_positions max_source_positions "
        "context_length",
        POSITIONS,
    ),
    **_named("model_max_length original_max_position_embeddings rel_extent", POSITIONS),
    **_named("hidden_size_per_layer_input", 8),
    # scales of the random weights
    **_named("initializer_range init_std initializer_factor embed_init_std embedding_initializer_range", STD),
    # token ids
    **_named("pad_token_id", 0),
    **_named("bos_token_id decoder_start_token_id", 1),
    **_named("eos_token_id forced_eos_token_id eod_token_id sep_token_id", 2),
    **_named("cls_token_id mask_token_id", 3),
    # what reads images or sound, as small as it can be
    **_named("depth num_global_layers num_lstm_layers num_residual_layers num_blocks", 1),
    **_named("image_size crop_size", 32),
    **_named("patch_size", 8),
    **_named(
        "num_filters codebook_dim vector_quantization_hidden_dimension base_channels output_channels", 8
    ),
    **_named("ext_pw_out_channel nemo_conv_channels depthwise_separable_out_channel", WIDTH),
    **_named("codebook_size", 16),
    **_named("num_quantizers", 2),
}
ALWAYS = (
    "head_dim num_key_value_heads num_experts_per_tok n_routed_experts n_shared_experts n_group topk_group"
).split()
ALWAYS += "pad_token_id bos_token_id eos_token_id".split()
DROP = object()  # as an override: leave the class's own default
DEPTHS = (
    "num_hidden_layers n_layer n_layers num_layers num_decoder_layers decoder_layers encoder_layers "
    "num_encoder_layers"
).split()
CYCLES = "layer_types layers_block_type indexer_types".split()  # one kind after the other, over and over
RUNS = ["mlp_layer_types"]  # each kind once, then the last one
TEXT_PARTS = ["text_config", "global_config"]  # sub-configs that hold the blocks
# special tokens of other inputs sit at the vocabulary's end
PREFIX_IDS = "image audio video vision boi eoi boa eoa".split()

# for the types that are encoders or both by default
DECODER = {"is_decoder": True, "is_encoder_decoder": False}
# latent attention: head_dim is the rotary part, one key and value a query head
MLA = {"head_dim": 4, "num_key_value_heads": 4}


def _every(*kinds):
    """An override that goes through the kinds over and over, a value a block."""
    return lambda blocks: [kinds[i % len(kinds)] for i in range(blocks)]


def _within(part: str, changes: dict) -> dict:
    """The same changes for a sub-config."""
    return {f"{part}.{name}": value for name, value in changes.items()}


SLIDING = {"use_sliding_window": True, "max_window_layers": 2, "sliding_window": 4, "layer_types": DROP}
GEMMA3N = {"num_kv_shared_layers": lambda blocks: max(0, blocks - 2)}
DOTS3 = {
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 4,
    "swa_q_lora_rank": 8,
    "swa_kv_lora_rank": 8,
}
DOTS3 |= {"swa_head_dim": 12, "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 8, "head_dim": 12}
QWEN4 = {
    "ple_layer_ids": [1],
    "heads_per_ngram": 2,
    "ngram_vocab_size_base": 50,
    "make_ngram_vocab_size_divisible_by": 8,
}
QWEN4 |= {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 4,
    "indexer_compress_ratio": 2,
}
QWEN4 |= {"split_ngram_parts": 2}

# Model type -> attributes that the rules do not settle; "part.attribute" reaches into a sub-config.
OVERRIDES: dict[str, dict] = {
    "bamba": {"attn_layer_indices": lambda blocks: list(range(1, blocks, 2))},
    "blt": {"encoder_hash_byte_group_vocab": 50, "max_patch_length": 2},
    "cohere2_moe": {"first_k_dense_replace": 1, "mlp_layer_types": DROP},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    },
    "dbrx": {"attn_config.rope_theta": 10000.0, "attn_config.clip_qkv": 8.0},
    "dory": {"n_input_layers": 1, "n_output_layers": 1},
    "dots1": {"layer_types": _every("full_attention", "sliding_attention")},
    "dots3_note_text": DOTS3,
    "dots3_note": {
        **_within("text_config", DOTS3),
        **_within(
            "vision_config", {"adapter_in_dim": WIDTH, "adapter_out_dim": WIDTH, "mlp_layer_types": ["dense"]}
        ),
        **_within(
            "audio_config",
            {"adapter_input_size": WIDTH, "adapter_out_dim": WIDTH, "downsample_hidden_size": 8},
        ),
    },
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": GEMMA3N,
    "gemma4_text": {"global_head_dim": 16},
    "gemma4": {"text_config.global_head_dim": 16},
    "gemma4_unified_text": {"global_head_dim": 16},
    "gemma4_unified": {"text_config.global_head_dim": 16},
    "glm_moe_dsa": {"indexer_types": _every("full", "shared")},
    "gpt_neo": {
        "attention_types": lambda blocks: [[[kind], 1] for kind in _every("global", "local")(blocks)]
    },
    "granitemoehybrid": {"layer_types": _every("linear_attention", "full_attention")},
    "inkling_text": {"mlp_layer_types": lambda blocks: ["dense"] + ["sparse"] * (blocks - 1)},
    "inkling2_text": {"n_layers_per_attn_res_block": 2},
    "inkling2_loop_text": {
        "n_layers_per_attn_res_block": 1,
        "loop_layer_index_start": 1,
        "loop_layer_index_end": lambda blocks: blocks - 1,
        "loop_num_passes": 2,
    },
    "jamba": {"attn_layer_period": 4, "attn_layer_offset": 2},
    "laguna": {"layer_types": _every("full_attention", "sliding_attention")},
    "lfm2": {"layer_types": _every("conv", "full_attention")},
    "lfm2_moe": {"layer_types": _every("conv", "full_attention")},
    "llama4_text": {"interleave_moe_layer_step": 2},
    "llama4": {"text_config.interleave_moe_layer_step": 2},
    "mamba2": {"num_heads": 8},
    "mellum": {"layer_types": _every("full_attention", "sliding_attention")},
    "minimax_m3_vl_text": {
        "layer_types": _every("full_attention", "minimax_m3_sparse"),
        "mlp_layer_types": lambda blocks: ["dense"] + ["sparse"] * (blocks - 1),
        "index_block_size": 2,
        "index_topk_blocks": 2,
    },
    "ministral": {"layer_types": _every("sliding_attention", "full_attention")},
    "mllama": {"text_config.cross_attention_layers": [2]},
    "modernbert-decoder": {"local_attention": 8},
    "moshi": {"num_codebooks": 2},
    "qwen2": SLIDING,
    "qwen2_moe": {**SLIDING, "mlp_only_layers": [0]},
    "qwen3": SLIDING,
    "qwen3_moe": {"mlp_only_layers": [0]},
    "qwen3_next": {"mlp_only_layers": [0]},
    "qwen4_exp_text": QWEN4,
    "qwen4_exp": _within("text_config", QWEN4),
    "reformer": {
        "attn_layers": _every("local", "lsh"),
        "axial_pos_shape": (8, 8),
        "axial_pos_embds_dim": (8, WIDTH - 8),
        "hash_seed": 0,
        "num_buckets": 2,
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
    },
    "smollm3": {
        "use_sliding_window": True,
        "sliding_window": 4,
        "no_rope_layer_interval": 2,
        "layer_types": DROP,
    },
    "xlm": {"causal": True},
    "xlnet": {"attn_type": "uni"},
    "xlstm": {"num_blocks": lambda blocks: blocks},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "layers_block_type": _every("hybrid", "linear_attention"),
    },
    "zaya": {
        "num_experts_per_tok": 1,
        "layer_types": _every("hybrid", "hybrid_sliding"),
        "sliding_window": 4,
    },
}


def _kinds(values) -> list:
    """The distinct values of a list, in order of appearance."""
    return list(dict.fromkeys(values))


def _attributes(config_class, default, blocks: int) -> dict:
    """The attributes with which a config class is built tiny; its default config says which there are and of
    what kind.
    """
    default.allow_global_per_layer_attribute_access = True
    names = [field.name for field in dataclasses.fields(config_class) if field.init]
    rules = RULES | (DECODER if "is_decoder" in names else {}) | (MLA if "qk_rope_head_dim" in names else {})
    result = {}
    ids = VOCAB - 1
    for name in names:
        value = getattr(default, name, None)
        if isinstance(value, PreTrainedConfig):
            result[name] = _attributes(type(value), value, blocks if name in TEXT_PARTS else 1)
            if "model_type" in vars(type(value)):
                result[name]["model_type"] = value.model_type
        elif value is None and name not in ALWAYS:
            continue
        elif name in DEPTHS:
            result[name] = blocks
        elif name in CYCLES:
            kinds = _kinds(value)
            result[name] = [kinds[i % len(kinds)] for i in range(blocks)]
        elif name in RUNS:
            kinds = _kinds(value)
            result[name] = [kinds[min(i, len(kinds) - 1)] for i in range(blocks)]
        elif name in rules:
            result[name] = rules[name]
        elif isinstance(value, float) and ("dropout" in name or name.endswith(("pdrop", "layerdrop"))):
            result[name] = 0.0
        elif (
            isinstance(value, int)
            and name.endswith(("_token_id", "_token_index"))
            and name.startswith(tuple(PREFIX_IDS))
        ):
            result[name], ids = ids, ids - 1
    return result


def tiny_config(model_type: str, blocks: int = 4) -> PreTrainedConfig:
    """A config of one type with so many decoder blocks, and little of everything else.

    Zamba needs three blocks to share weights.
    """
    config_class = CONFIG_MAPPING[model_type]
    changes = {
        name: value(blocks) if callable(value) else value
        for name, value in OVERRIDES.get(model_type, {}).items()
    }
    attributes = _attributes(config_class, config_class(), blocks)
    for name, value in changes.items():
        *parts, last = name.split(".")
        target = attributes
        for part in parts:
            target = target.setdefault(part, {})
        if value is DROP:
            target.pop(last, None)
        else:
            target[last] = value
    return config_class(**attributes)


def _enliven(model: PreTrainedModel) -> None:
    """Give random values to parameters that are unset, constant or so small that a block would do nothing."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.is_floating_point() or not parameter.numel():
                continue
            if not torch.isfinite(parameter).all():
                parameter.normal_(0, STD)
            elif parameter.min() == parameter.max():
                parameter.add_(torch.randn_like(parameter) * STD)
            elif parameter.dim() > 1 and parameter.std() < STD / 4:
                parameter.mul_(STD / parameter.std())


def tiny_model(model_type: str, blocks: int = 4, seed: int = 0) -> PreTrainedModel:
    """A random model of one type in float32, in eval mode, in which every block matters.

    The attention is eager where the type has it. `inert` names the type one of whose blocks text alone never
    enters.
    """
    config = tiny_config(model_type, blocks)
    # Deterministic mode fills memory that nobody initialises with NaN, so that such parameters are found.
    before, warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        torch.manual_seed(seed)
        try:
            model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
        except ValueError as error:
            if "attn" not in str(error) and "attention" not in str(error):
                raise
            model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
        _enliven(model)
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if (
            tensor.is_floating_point()
            and not torch.isfinite(tensor).all()
            and not (tensor.isneginf() | tensor.isfinite()).all()
        ):
            raise ValueError(f"{name} is not finite")
    return model.float().eval()


def bypass_effects(model: PreTrainedModel, ids: torch.Tensor, blocks: int) -> tuple[str, list[float]]:
    """The name of the list of blocks, and how far the logits move when one block passes on its input.

    The list is empty where no modules work that way.
    """
    skip = {"number": -1, "fired": False}

    def hook(number):
        def bypass(module, args, kwargs, output):
            if number != skip["number"]:
                return output
            entering = kwargs.get("hidden_states", args[0] if args else None)
            leaving = output[0] if type(output) in (tuple, list) else output
            if torch.is_tensor(entering) and torch.is_tensor(leaving) and entering.shape == leaving.shape:
                skip["fired"] = True
                return entering if leaving is output else (entering, *output[1:])
            return output

        return bypass

    for name, blocks_list in model.named_modules():
        if (
            not isinstance(blocks_list, torch.nn.ModuleList)
            or len(blocks_list) != blocks
            or "experts" in name
        ):
            continue
        handles = [
            block.register_forward_hook(hook(i), with_kwargs=True) for i, block in enumerate(blocks_list)
        ]
        effects, fired = [], 0
        with torch.no_grad():
            for number in range(-1, blocks):
                skip.update(number=number, fired=False)
                logits = model(input_ids=ids, use_cache=False).logits
                if number < 0:
                    whole = logits
                else:
                    effects.append((logits - whole).abs().max().item())
                    fired += skip["fired"]
        for handle in handles:
            handle.remove()
        if fired > blocks // 2:
            return name, effects
    return "", []


def check(model_type: str, model: PreTrainedModel) -> None:
    """Assert that a tiny model is a usable causal one, of which every block matters."""
    ids = torch.randint(4, VOCAB - 12, (2, 7), generator=torch.Generator().manual_seed(1))
    logits = model(input_ids=ids, use_cache=False).logits
    assert logits.dim() == 3 and logits.shape[:2] == (2, 7), f"logits of shape {tuple(logits.shape)}"
    assert logits.isfinite().all(), "logits are not finite"
    assert logits.shape[2] == VOCAB, f"{logits.shape[2]} logits a token"
    if model_type not in not_differentiable:
        logits.sum().backward()
        gradient = model.get_input_embeddings().weight.grad
        assert gradient is not None and gradient.isfinite().all() and gradient.any(), (
            "no gradient in the embeddings"
        )
    other = ids.clone()
    other[:, 5] = (other[:, 5] + 1) % 50 + 4
    with torch.no_grad():
        change = (model(input_ids=other, use_cache=False).logits - logits).abs().amax((0, 2))
    leak = f"a change of token 5 moves logits by {[round(x, 5) for x in change.tolist()]}"
    assert change[5:].max() > 1e-4, f"the logits do not depend on the tokens: {leak}"
    assert model_type in not_causal or change[:5].max() < 1e-4, f"not causal: {leak}"
    name, effects = bypass_effects(model, ids, 4)
    assert model_type in inert or not effects or min(effects) > 1e-2, (
        f"a block does nothing: {name} {effects}"
    )
