"""Tiny GGUF files of architectures whose blocks differ, as llama.cpp and transformers both read them."""

from pathlib import Path

from tests.weights.tiny_gguf import write_random

WIDTH, INNER, HEADS, KV = 64, 96, 4, 2
_SHARED = {"token_embd.weight": (0, WIDTH)}


def _entries(blocks: int, head: int, **more) -> dict:
    own = {
        "block_count": blocks,
        "context_length": 128,
        "embedding_length": WIDTH,
        "feed_forward_length": INNER,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10000.0,
        "rope.dimension_count": head,
    }
    return own | {name.replace("__", "."): value for name, value in more.items()}


def _of(block: int, parts: dict[str, tuple]) -> dict[str, tuple]:
    return {f"blk.{block}.{name}": shape for name, shape in parts.items()}


def _ffn() -> dict[str, tuple]:
    return {
        "ffn_gate.weight": (INNER, WIDTH),
        "ffn_up.weight": (INNER, WIDTH),
        "ffn_down.weight": (WIDTH, INNER),
    }


def _attention(head: int, gate: int = 1) -> dict[str, tuple]:
    return {
        "attn_norm.weight": (WIDTH,),
        "attn_q.weight": (gate * HEADS * head, WIDTH),
        "attn_k.weight": (KV * head, WIDTH),
        "attn_v.weight": (KV * head, WIDTH),
        "attn_output.weight": (WIDTH, HEADS * head),
        "attn_q_norm.weight": (head,),
        "attn_k_norm.weight": (head,),
    }


def gemma3(path: Path, kind: str = "F32", blocks: int = 6, **more) -> Path:
    """Five blocks with a window of 8 tokens, then one without."""
    norms = {f"{name}.weight": (WIDTH,) for name in ("ffn_norm", "post_attention_norm", "post_ffw_norm")}
    head = 256  # transformers reads no other scale of attention
    entries = _entries(blocks, head, attention__sliding_window=8, **more)
    tensors = _SHARED | {"output_norm.weight": (WIDTH,)}
    for b in range(blocks):
        tensors |= _of(b, _attention(head) | norms | _ffn())
    return write_random(path, "gemma3", entries, tensors, kind)


def lfm2(path: Path, kind: str = "F32") -> Path:
    """Six blocks, of which 2 and 4 have attention, the others convolutions."""
    convolution = {
        "attn_norm.weight": (WIDTH,),
        "shortconv.conv.weight": (WIDTH, 3),
        "shortconv.in_proj.weight": (3 * WIDTH, WIDTH),
        "shortconv.out_proj.weight": (WIDTH, WIDTH),
    }
    entries = _entries(6, 16, shortconv__l_cache=3)
    entries["attention.head_count_kv"] = [0, 0, KV, 0, KV, 0]
    tensors = _SHARED | {"token_embd_norm.weight": (WIDTH,)}
    for b in range(6):
        own = _attention(16) if b in (2, 4) else convolution
        tensors |= _of(b, own | {"ffn_norm.weight": (WIDTH,)} | _ffn())
    return write_random(path, "lfm2", entries, tensors, kind)


def qwen35(path: Path, kind: str = "F32") -> Path:
    """Eight blocks, every fourth with attention, the others recurrent; and one for drafting behind them."""
    state, keys, values = 16, 2, 4
    channels, norm = state * (2 * keys + values), {"post_attention_norm.weight": (WIDTH,)}
    recurrent = {
        "attn_norm.weight": (WIDTH,),
        "attn_qkv.weight": (channels, WIDTH),
        "attn_gate.weight": (state * values, WIDTH),
        "ssm_conv1d.weight": (channels, 4),
        "ssm_dt.bias": (values,),
        "ssm_a": (values,),
        "ssm_beta.weight": (values, WIDTH),
        "ssm_alpha.weight": (values, WIDTH),
        "ssm_norm.weight": (state,),
        "ssm_out.weight": (WIDTH, state * values),
    }
    drafting = {f"nextn.{name}.weight": (WIDTH,) for name in ("enorm", "hnorm", "shared_head_norm")}
    entries = _entries(
        *(9, 16),
        full_attention_interval=4,
        nextn_predict_layers=1,
        ssm__conv_kernel=4,
        ssm__inner_size=state * values,
        ssm__state_size=state,
        ssm__time_step_rank=values,
        ssm__group_count=keys,
        rope__dimension_sections=[2, 1, 1, 0],
        rope__dimension_count=8,
    )
    tensors = _SHARED | {"output_norm.weight": (WIDTH,), "output.weight": (0, WIDTH)}
    for b in range(9):
        own = _attention(16, gate=2) if b in (3, 7, 8) else recurrent
        tensors |= _of(b, own | norm | _ffn())
    tensors |= _of(8, drafting | {"nextn.eh_proj.weight": (WIDTH, 2 * WIDTH)})
    return write_random(path, "qwen35", entries, tensors, kind)
