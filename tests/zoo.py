"""Tiny random models of every causal-LM type of the pinned transformers.

A tiny config comes from two tables. RULES says by attribute name how a config class is shrunk, at every depth of its sub-configs.
OVERRIDES says by model type what else that type needs. `python -m tests.zoo [TYPE ...]` builds the types and checks their forward pass.
"""

import dataclasses
import os
import subprocess
import sys
import time
import traceback

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

unbuildable: dict[str, str] = {}


def _named(names: str, value) -> dict:
    return dict.fromkeys(names.split(), value)


# Attribute name -> tiny value. An attribute that is None by default stays None.
RULES: dict = {
    # widths
    **_named("hidden_size d_model n_embd emb_dim embedding_dim embedding_size input_embedding_size output_embedding_size", WIDTH),
    **_named("word_embed_proj_dim lru_width attention_hidden_size out_hidden_size hidden_size_global ple_embed_dim", WIDTH),
    **_named("pronunciation_embed_dim shape_embed_dim prompt_mid_dim classifier_proj_size dim_model_base", WIDTH),
    **_named("intermediate_size intermediate_size_mlp ffn_dim n_inner encoder_ffn_dim decoder_ffn_dim ffn_hidden_size dff dim_ff", 48),
    **_named("d_inner d_ff feed_forward_size dense_intermediate_size mlp_dim prefix_dense_intermediate_size", 48),
    **_named("moe_intermediate_size expert_ffn_hidden_size shared_expert_intermediate_size shared_experts_intermediate_size", 16),
    **_named("shared_intermediate_size moe_shared_expert_intermediate_size", 16),
    # heads
    **_named("num_attention_heads n_head n_heads num_heads attention_heads encoder_attention_heads decoder_attention_heads", 4),
    **_named("num_encoder_attention_heads num_decoder_attention_heads swa_num_attention_heads linear_num_heads", 4),
    **_named("num_key_value_heads num_kv_heads kv_n_heads num_query_groups swa_num_key_value_heads", 2),
    **_named("linear_num_value_heads", 4),
    **_named("linear_num_key_heads", 2),
    **_named("head_dim d_head swa_head_dim dim_head kv_channels attention_head_size linear_head_dim d_kv", 8),
    **_named("linear_key_head_dim linear_value_head_dim qk_nope_head_dim v_head_dim", 8),
    **_named("qk_rope_head_dim rotary_dim", 4),
    **_named("qk_head_dim", 12),
    **_named("q_lora_rank kv_lora_rank o_lora_rank laurel_rank adapter_rank d_rel loop_gate_rank hc_lowrank gated_norm_rank", 8),
    # experts
    **_named("num_experts num_local_experts n_routed_experts moe_num_experts", 4),
    **_named("num_experts_per_tok num_experts_per_token moe_topk moe_k moe_top_k top_k_experts", 2),
    **_named("n_group topk_group num_expert_group n_shared_experts num_shared_experts moe_num_shared_experts", 1),
    **_named("first_k_dense_replace num_dense_layers", 1),
    **_named("zero_expert_num", 2),
    # state-space and linear-attention layers
    **_named("state_size ssm_state_size mamba_d_state mamba_d_head mamba_headdim mamba_head_dim time_step_rank mamba_dt_rank", 8),
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
    **_named("vocab_size decoder_vocab_size vocab_size_per_layer_input audio_vocab_size shape_vocab_size pronunciation_vocab_size", VOCAB),
    **_named("max_position_embeddings n_positions n_ctx max_seq_len max_target_positions max_source_positions context_length", POSITIONS),
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
    **_named("num_filters codebook_dim vector_quantization_hidden_dimension base_channels", 8),
    **_named("codebook_size", 16),
    **_named("num_quantizers", 2),
}
DEPTHS = "num_hidden_layers n_layer n_layers num_layers num_decoder_layers decoder_layers encoder_layers num_encoder_layers".split()
CYCLES = "layer_types layers_block_type indexer_types".split()  # one kind after the other, over and over
RUNS = ["mlp_layer_types"]  # each kind once, then the last one
TEXT_PARTS = ["text_config", "decoder", "llm_config"]  # sub-configs that hold the blocks
PREFIX_IDS = "image audio video vision boi eoi boa eoa".split()  # special tokens of other inputs sit at the vocabulary's end

# Model type -> attributes that the rules do not settle; "part.attribute" reaches into a sub-config.
OVERRIDES: dict[str, dict] = {}


def _kinds(values) -> list:
    """The distinct values of a list, in order of appearance."""
    return list(dict.fromkeys(values))


def _attributes(config_class, default, blocks: int) -> dict:
    """The attributes with which a config class is built tiny."""
    result = {}
    ids = VOCAB - 1
    for name in [field.name for field in dataclasses.fields(config_class) if field.init]:
        value = getattr(default, name, None)
        if isinstance(value, PreTrainedConfig):
            result[name] = _attributes(type(value), value, blocks if name in TEXT_PARTS else 1)
            if "model_type" in vars(type(value)):
                result[name]["model_type"] = value.model_type
        elif value is None:
            continue
        elif name in DEPTHS:
            result[name] = blocks
        elif name in CYCLES:
            kinds = _kinds(value)
            result[name] = [kinds[i % len(kinds)] for i in range(blocks)]
        elif name in RUNS:
            kinds = _kinds(value)
            result[name] = [kinds[min(i, len(kinds) - 1)] for i in range(blocks)]
        elif name in RULES:
            result[name] = RULES[name]
        elif isinstance(value, float) and ("dropout" in name or name.endswith(("pdrop", "layerdrop"))):
            result[name] = 0.0
        elif isinstance(value, int) and name.endswith(("_token_id", "_token_index")) and name.startswith(tuple(PREFIX_IDS)):
            result[name], ids = ids, ids - 1
    return result


def tiny_config(model_type: str, blocks: int = 4) -> PreTrainedConfig:
    """A config of one type with so many decoder blocks, and little of everything else."""
    config_class = CONFIG_MAPPING[model_type]
    changes = {name: value(blocks) if callable(value) else value for name, value in OVERRIDES.get(model_type, {}).items()}
    first = {name: value for name, value in changes.items() if "." not in name and name in _NEEDED}
    attributes = _attributes(config_class, config_class(**first), blocks)
    for name, value in changes.items():
        *parts, last = name.split(".")
        target = attributes
        for part in parts:
            target = target.setdefault(part, {})
        if value is DEFAULT:
            target.pop(last, None)
        else:
            target[last] = value
    return config_class(**attributes)


DEFAULT = object()  # as an override: leave the class's own default
_NEEDED: list[str] = []


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
    """A random model of one type in float32, in eval mode, in which every block matters."""
    config = tiny_config(model_type, blocks)
    # Deterministic mode fills memory that nobody initialises with NaN, so that such parameters are found.
    before, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
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
        if tensor.is_floating_point() and not torch.isfinite(tensor).all() and not (tensor.isneginf() | tensor.isfinite()).all():
            raise ValueError(f"{name} is not finite")
    return model.float().eval()


def check(model_type: str) -> None:
    """Build one type and run it; raise where it is not a usable causal model."""
    model = tiny_model(model_type)
    ids = torch.randint(4, VOCAB - 12, (2, 7), generator=torch.Generator().manual_seed(1))
    logits = model(input_ids=ids, use_cache=False).logits
    assert logits.dim() == 3 and logits.shape[:2] == (2, 7), f"logits of shape {tuple(logits.shape)}"
    assert logits.isfinite().all(), "logits are not finite"
    logits.sum().backward()
    assert any(parameter.grad is not None for parameter in model.parameters()), "no gradient"
    other = ids.clone()
    other[:, 5] = (other[:, 5] + 1) % 50 + 4
    with torch.no_grad():
        change = (model(input_ids=other, use_cache=False).logits - logits).abs().amax((0, 2))
    assert change[:5].max() < 1e-4, f"not causal: a change of token 5 moves logits {[round(x, 5) for x in change.tolist()]}"
    assert change[5:].max() > 1e-4, "logits do not depend on the tokens"


def _worker(types: list[str]) -> None:
    """Check types one after the other; one line for each on stdout."""
    for model_type in types:
        print(f"@start {model_type}", flush=True)
        start = time.perf_counter()
        try:
            check(model_type)
            verdict = "ok"
        except Exception as error:
            verdict = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
            if os.environ.get("ZOO_TRACE"):
                traceback.print_exc()
        print(f"@done {model_type}\t{time.perf_counter() - start:.2f}\t{verdict}", flush=True)


if __name__ == "__main__":
    _worker(sys.argv[1:] or TYPES)
