"""Tiny GGUF files, written with the package gguf as llama.cpp's converter lays them out."""

from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# llama.cpp turns the halves of each head of q and k into pairs for this architecture alone
_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _vocabulary() -> tuple[list[str], list[str]]:
    """(tokens, merges) of a small byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog"] * 4, trainer)
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    known = set(tokens) - set(_SPECIAL)
    merges = [f"{t[:k]} {t[k:]}" for t in tokens for k in range(1, len(t)) if {t, t[:k], t[k:]} <= known][
        :200
    ]
    return tokens, merges


def model_of(kind: str, blocks: int = 3, **changes) -> torch.nn.Module:
    """A random model of 64 dimensions, so that rows hold whole quantised groups."""
    torch.manual_seed(5)
    config = AutoConfig.for_model(
        kind,
        vocab_size=len(_vocabulary()[0]),
        hidden_size=64,
        intermediate_size=96,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=blocks,
        max_position_embeddings=128,
        initializer_range=0.15,
        tie_word_embeddings=False,
        **changes,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def _add_tokenizer(writer: gguf.GGUFWriter, bos: bool = False) -> int:
    """Writes its entries; how many tokens it has."""
    tokens, merges = _vocabulary()
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if t in _SPECIAL else 1 for t in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(bos)
    writer.add_chat_template(TEMPLATE)
    return len(tokens)


def _pairs(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from halves to pairs."""
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def tensors_of(model) -> dict[str, np.ndarray]:
    """{name in GGUF: float32 values}."""
    c, found = model.config, {}
    for name, value in model.state_dict().items():
        array = value.numpy()
        for theirs, ours in _NAMES.items():
            if theirs in name:
                prefix = name.partition(theirs)[0].replace("model.layers", "blk")
                if c.model_type == "llama" and ours in ("attn_q", "attn_k"):
                    array = _pairs(
                        array, c.num_attention_heads if ours == "attn_q" else c.num_key_value_heads
                    )
                found[f"{prefix}{ours}{name.partition(theirs)[2]}"] = array
    return found


def write(
    path: Path,
    model,
    quantisation: str = "F32",
    *,
    bos: bool = False,
    part: tuple | None = None,
    more: dict[str, np.ndarray] | None = None,
    **extra,
) -> Path:
    """The model as a GGUF file; bos: what the file says of it; part: (number, of how many), tensors being
    shared out in turn; more: tensors beside the
    model's; extra: entries by their full name, "." written as "__".
    """
    c, kind = model.config, gguf.GGMLQuantizationType[quantisation]
    writer = gguf.GGUFWriter(path, c.model_type)
    if part is None or part[0] == 0:
        writer.add_name(f"tiny {c.model_type}")
        writer.add_context_length(c.max_position_embeddings)
        writer.add_embedding_length(c.hidden_size)
        writer.add_block_count(c.num_hidden_layers)
        writer.add_feed_forward_length(c.intermediate_size)
        writer.add_head_count(c.num_attention_heads)
        writer.add_head_count_kv(c.num_key_value_heads)
        writer.add_layer_norm_rms_eps(c.rms_norm_eps)
        writer.add_rope_freq_base(c.rope_parameters["rope_theta"])
        writer.add_rope_dimension_count(c.hidden_size // c.num_attention_heads)
        _add_tokenizer(writer, bos)
        for name, value in extra.items():
            writer.add_key_value(name.replace("__", "."), value, gguf.GGUFValueType.get_type(value))
    if part is not None:
        writer.add_uint16("split.no", part[0])
        writer.add_uint16("split.count", part[1])
    for number, (name, array) in enumerate((tensors_of(model) | (more or {})).items()):
        if part is None or number % part[1] == part[0]:
            plain = array.ndim == 1 or kind == gguf.GGMLQuantizationType.F32
            data = array if plain else gguf.quantize(array, kind)
            writer.add_tensor(name, data, raw_dtype=None if plain else kind)
    return _written(writer, path)


def _written(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_random(path: Path, arch: str, entries: dict, shapes: dict[str, tuple], kind: str = "F32") -> Path:
    """A file of any architecture with random numbers in it. entries: what it says of the architecture;
    shapes: of its tensors by name, first dimension first, 0 for the number of tokens.
    """
    writer, quantised = gguf.GGUFWriter(path, arch), gguf.GGMLQuantizationType[kind]
    writer.add_name(f"tiny {arch}")
    for name, value in entries.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
        add.get(type(value), writer.add_array)(f"{arch}.{name}", value)
    tokens, random = _add_tokenizer(writer), np.random.default_rng(0)
    for name, shape in shapes.items():
        array = random.normal(0, 0.15, [n or tokens for n in shape]).astype(np.float32)
        if name.endswith("norm.weight"):
            array = 1 + array
        if name.endswith("ssm_a"):  # decays, whose logarithms transformers takes
            array = -np.abs(array)
        plain = kind == "F32" or len(shape) == 1 or shape[-1] % 32
        data = array if plain else gguf.quantize(array, quantised)
        writer.add_tensor(name, data, raw_dtype=None if plain else quantised)
    return _written(writer, path)
