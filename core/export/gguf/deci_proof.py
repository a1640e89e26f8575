"""A GGUF file of core.export.gguf.deci, read back: by the package gguf into a Llama of transformers, and by
core.export.gguf.llama_cpp.
"""

import copy
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaMLP

from core.export.gguf import llama_cpp
from core.model.partial import take_out


@torch.no_grad()
def read_back(path: Path) -> LlamaForCausalLM:
    """The model of a file, its numbers as the package gguf dequantises them, in float32.

    Errors: RuntimeError for tensors that are missing or left over.
    """
    reader = gguf.GGUFReader(path)
    tensors = {t.name: t for t in reader.tensors}
    model = LlamaForCausalLM(_config(reader, tensors)).eval()
    stack: Any = model.model.layers
    for n, block in enumerate(stack):
        width = _width(tensors, n)
        if width != model.config.intermediate_size:  # an FFN of zeros
            own = copy.deepcopy(model.config)
            own.intermediate_size = width
            block.mlp = LlamaMLP(own)
        if f"blk.{n}.attn_norm.weight" not in tensors:
            take_out(
                model, [_empty(n, "self_attn", model.config), _empty(n, "input_layernorm", model.config)]
            )
        elif (
            len(tensors[f"blk.{n}.attn_q.weight"].data)
            != model.config.num_attention_heads * model.config.head_dim
        ):
            block.self_attn = _Nothing()  # a head of zeros, where the graph wants one
    heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.DECI, len(stack))
    state = {}
    for name, old in model.state_dict().items():
        ours = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            ours = "token_embd.weight"
        if ours not in tensors:
            raise RuntimeError(f"the tensor {ours} is missing")
        array = np.array(gguf.dequantize(tensors[ours].data, tensors[ours].tensor_type), dtype=np.float32)
        count = next((n for part, n in heads.items() if f".{part}." in ours), None)
        if count:  # pairs to halves
            array = array.reshape(count, -1, 2, array.shape[-1]).swapaxes(1, 2)
        state[name] = torch.from_numpy(np.ascontiguousarray(array)).reshape(old.shape)
    model.load_state_dict(state)
    if "rope_freqs.weight" in tensors:
        model.model.rotary_emb.inv_freq /= torch.from_numpy(tensors["rope_freqs.weight"].data.copy())
    return model


class _Nothing(nn.Module):
    """An attention of zeros."""

    def forward(self, hidden_states, **_):
        return torch.zeros_like(hidden_states), None


def _width(tensors: dict, block: int) -> int:
    return len(tensors[f"blk.{block}.ffn_gate.weight"].data)


def _empty(block: int, name: str, config: LlamaConfig) -> dict:
    attention = name == "self_attn"
    return {
        "path": f"model.layers.{block}.{name}",
        "input": "hidden_states" if attention else 0,
        "width": config.hidden_size,
        "rows": False,
        "form": "tuple" if attention else None,
        "others": int(attention),
        "layer": block if attention else None,
    }


def _config(reader: gguf.GGUFReader, tensors: dict) -> LlamaConfig:
    architecture = reader.fields["general.architecture"].contents()

    def said(name: str) -> Any:
        return reader.fields[f"{architecture}.{name}"].contents()

    def largest(name: str) -> int:
        """Of a number for all blocks, or one for each."""
        found = said(name)
        return max(found) if isinstance(found, list) else found

    theta = reader.fields.get(f"{architecture}.rope.freq_base")  # files of before need not say it
    return LlamaConfig(
        vocab_size=len(tensors["token_embd.weight"].data),
        hidden_size=said("embedding_length"),
        intermediate_size=largest("feed_forward_length"),
        num_hidden_layers=said("block_count"),
        num_attention_heads=largest("attention.head_count"),
        num_key_value_heads=largest("attention.head_count_kv"),
        head_dim=said("attention.key_length"),
        max_position_embeddings=said("context_length"),
        rms_norm_eps=said("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": theta.contents() if theta else 10_000.0},
        tie_word_embeddings="output.weight" not in tensors,
    )


@torch.no_grad()
def in_llama_cpp(path: Path, model: LlamaForCausalLM, ids: list[int], count: int) -> str:
    """What llama.cpp does with a file, in words.

    A file of float32 must continue with the same greedy tokens; of others llama.cpp rounds activations.
    Errors: RuntimeError for other tokens, and where it does not load it.
    """
    if not llama_cpp.at_hand():
        return "not run here"
    if {t.tensor_type for t in gguf.GGUFReader(path).tensors} != {gguf.GGMLQuantizationType.F32}:
        llama_cpp.next_tokens(path, ids, len(ids) - 1)
        return "loads it and continues"
    llama_cpp.check_exact(path, model, ids, count)
    return "continues with the same tokens"
