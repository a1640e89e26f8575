"""One type of every structure through discovery, gates, rows and removal; `python -m tests.coverage` does
all.
"""

from pathlib import Path

import pytest

from core.blocks.structure import find_structure
from core.errors import InputError
from core.model.load import auto_class, wrap
from core.weights.files import WeightFiles
from tests.coverage import check
from tests.zoo import tiny_model

FILES = WeightFiles("x", Path())

PAPER = "attention and FFN"
TYPES = {  # type: (gate, a kind of block it has)
    "llama": (PAPER, "attention + FFN"),
    "gpt2": (PAPER, "attention + FFN"),
    "bloom": (PAPER, "attention + FFN"),  # the residual is added inside the branches
    "opt": (PAPER, "attention + FFN"),  # tokens of all samples in one row
    "gemma2": (PAPER, "sliding attention + FFN"),  # norms after the branches
    "gpt_neox": (PAPER, "attention + FFN"),  # parallel
    "falcon": (PAPER, "attention + FFN"),
    "cohere2": (PAPER, "sliding attention + FFN"),
    "phi3": (PAPER, "attention + FFN"),
    "qwen3": (PAPER, "attention + FFN"),
    "olmo2": (PAPER, "attention + FFN"),
    "granite": (PAPER, "attention + FFN"),  # scaled branches
    "mixtral": (PAPER, "attention + MoE"),
    "qwen2_moe": (PAPER, "attention + FFN"),
    "deepseek_v3": (PAPER, "attention + MoE"),
    "gpt_oss": (PAPER, "MoE"),
    "dbrx": (PAPER, "attention + MoE"),
    "llama4_text": (PAPER, "MoE"),
    "mamba": (PAPER, "Mamba"),
    "mamba2": (PAPER, "Mamba"),
    "jamba": (PAPER, "Mamba"),
    "nemotron_h": (PAPER, "Mamba"),
    "falcon_h1": (PAPER, "FFN"),
    "qwen3_next": (PAPER, "linear attention + MoE"),
    "recurrent_gemma": (PAPER, "FFN"),
    "lfm2": (PAPER, "convolution + FFN"),
    "minimax": ("whole blocks", "MoE"),  # scaled residual
    "bert": ("whole blocks", "attention + FFN"),  # norms on the stream
    "xlnet": ("whole blocks", "attention + FFN"),  # the batch is the second axis
    "deepseek_v4": ("whole blocks", "MoE"),  # several streams
}


@pytest.mark.parametrize("model_type", TYPES)
def test_a_type_of_each_structure(model_type):
    gate, kind = TYPES[model_type]
    found = check(model_type)
    assert found["what"] == "" and gate in found["gate"] and kind in found["kinds"]


@pytest.mark.parametrize("model_type", ["hrm_text", "dory", "mllama"])
def test_blocks_that_are_not_one_stack_are_refused(model_type):
    with pytest.raises(InputError, match=r"no list of blocks that are each called once") as caught:
        wrap(tiny_model(model_type), None, model_type, FILES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
        {"model_type": "llama", "is_encoder_decoder": True},
        {},
    ],
)
def test_encoder_decoders_and_the_unknown_are_refused(config):
    with pytest.raises(InputError, match="not a causal language model"):
        auto_class(config, "x")


def test_blocks_are_described():
    moe = wrap(tiny_model("mixtral"), None, "x", FILES, item_size=2).blocks[1]
    experts = sum(
        p.numel()
        for name, p in tiny_model("mixtral").model.layers[1].named_parameters()
        if ".experts." in name
    )
    assert (
        moe.kind == "attention + MoE"
        and moe.bytes == 2 * moe.parameters
        and moe.active_parameters == moe.parameters - experts // 2
    )
    hybrid = wrap(tiny_model("nemotron_h"), None, "x", None).blocks
    assert {b.kind: b.kv_bytes > 0 for b in hybrid} == {
        "Mamba": False,
        "MoE": False,
        "attention": True,
        "FFN": False,
    }
    llama = tiny_model("llama")
    own = llama.config
    kept = {b.kv_bytes for b in wrap(llama, None, "x", None).blocks}
    assert kept == {2 * own.num_key_value_heads * own.head_dim * 4}
    shared = wrap(tiny_model("gemma3n_text"), None, "x", None).blocks
    # the last reuse the keys and values of earlier ones
    assert [b.kv_bytes > 0 for b in shared] == [True, True, False, False]


def test_a_structure_is_found_in_half_precision():
    for model_type in ("llama", "gemma2", "mixtral"):
        model = tiny_model(model_type)
        assert find_structure(model.bfloat16(), "x") == find_structure(tiny_model(model_type), "x")
