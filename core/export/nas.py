"""The config of nemotron-nas for a Llama without some attentions and FFNs: `block_configs` with `no_op`, for
vLLM and TensorRT-LLM. Not run with either.

The tensors are those of the portable form, named as a Llama's.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from core.errors import InputError
from core.export.gguf.deci import layout_of
from core.model.load import LoadedModel

FILE = "config.nemotron-nas.json"
_WIDTHS = 256  # an FFN's width is said as a multiple of the model's, and rounded up to these
_TAKEN = (
    "hidden_size",
    "num_attention_heads",
    "rms_norm_eps",
    "vocab_size",
    "max_position_embeddings",
    "tie_word_embeddings",
    "hidden_act",
    "attention_bias",
    "mlp_bias",
    "bos_token_id",
    "eos_token_id",
)


def check(loaded: LoadedModel, units: Sequence[int]) -> None:
    """Errors: InputError for a model that the config cannot describe."""
    config, wrong = loaded.config, None
    if config.model_type != "llama":
        wrong = f"it is of the type {config.model_type!r}, and nemotron-nas is a Llama"
    elif config.intermediate_size % _WIDTHS:
        wrong = f"its FFNs are {config.intermediate_size} wide, which is no multiple of {_WIDTHS}"
    if wrong:
        raise InputError(
            f"{loaded.source!r} cannot be described as nemotron-nas: {wrong}; choose another form."
        )


def config_of(loaded: LoadedModel, units: Sequence[int]) -> dict:
    """The config of a state of the whole model."""
    own, layout = loaded.config, layout_of(loaded, units)
    rope = dict(own.rope_parameters)
    theta, scaling = rope.pop("rope_theta"), rope if rope.get("rope_type", "default") != "default" else None
    mult = 3 * own.intermediate_size / (2 * own.hidden_size)
    group = own.num_attention_heads // own.num_key_value_heads

    def block(b: int) -> dict:
        attention, ffn = b in layout.no_attention, b in layout.no_ffn
        other = {"replace_with_linear": False, "sparsify": None}
        return {
            "attention": {"n_heads_in_group": None if attention else group, "no_op": attention, **other},
            "ffn": {"ffn_mult": None if ffn else mult, "no_op": ffn, **other},
        }

    return {
        "model_type": "nemotron-nas",
        "architectures": ["DeciLMForCausalLM"],
        "num_hidden_layers": len(layout.kept),
        "num_key_value_heads": None,
        "intermediate_size": None,
        "block_configs": [block(b) for b in layout.kept],
        "rope_theta": theta,
        "rope_scaling": scaling,
        **{name: getattr(own, name) for name in _TAKEN},
    }


def write(config: dict, folder: Path) -> None:
    """Put the config beside the portable form."""
    (folder / FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
