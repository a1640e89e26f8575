"""Quantised checkpoints: those that become plain matrices are calibrated and exported; every other is one
sentence.
"""

import importlib.util
import json
from shutil import copytree

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from core.calibration.gradient_rows import gradient_rows
from core.errors import InputError
from core.export import write
from core.measure.evaluation import sequence_losses
from core.model.load import load_model
from core.weights.files import WeightFiles
from tests.conftest import byte_tokenizer

IDS = np.random.default_rng(0).integers(2, 200, (3, 20))
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 16], "fmt": "e4m3"}


def installed(package):
    return importlib.util.find_spec(package) is not None


def write_quantised(folder, kind, sizes, settings, quantise):
    """A random checkpoint in bf16 whose block matrices `quantise` turns into {name: tensor}; returns the
    plain tensors too.
    """
    tokenizer = byte_tokenizer()
    config = AutoConfig.for_model(
        kind, **sizes, vocab_size=len(tokenizer), max_position_embeddings=96, initializer_range=0.15
    )
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    plain = load_file(folder / "model.safetensors")
    stored = {}
    for name, tensor in plain.items():
        stored |= quantise(name, tensor) if ".layers." in name else {name: tensor}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    asked = {"quantization_config": settings} if settings else {}
    (folder / "config.json").write_text(json.dumps({**config, **asked}))
    return folder, plain


def fp8(name, tensor):
    """Blocks of 16 x 16 with one scale each, as DeepSeek and Qwen publish them."""
    if tensor.ndim != 2:
        return {name: tensor}
    rows, columns = (n // 16 for n in tensor.shape)
    blocks = tensor.float().reshape(rows, 16, columns, 16)
    scale = blocks.abs().amax((1, 3)) / 448
    return {
        name: (blocks / scale[:, None, :, None]).reshape(tensor.shape).to(torch.float8_e4m3fn),
        name.replace("weight", "weight_scale_inv"): scale,
    }


def channels(name, tensor):
    """One scale a row, as compressed-tensors writes fp8."""
    if tensor.ndim != 2:
        return {name: tensor}
    scale = tensor.float().abs().amax(1, keepdim=True) / 448
    return {
        name: (tensor.float() / scale).to(torch.float8_e4m3fn),
        name.replace("weight", "weight_scale"): scale.bfloat16(),
    }


def mxfp4(name, tensor):
    """Random four-bit codes, 32 to a scale, as gpt-oss is published."""
    if not name.endswith(("gate_up_proj", "down_proj")):
        return {name: tensor}
    experts, inside, outside = tensor.shape
    generator = torch.Generator().manual_seed(len(name))
    codes = torch.randint(
        0, 256, (experts, outside, inside // 32, 16), generator=generator, dtype=torch.uint8
    )
    return {f"{name}_blocks": codes, f"{name}_scales": torch.full(codes.shape[:3], 124, dtype=torch.uint8)}


_FLOAT8 = {"num_bits": 8, "type": "float", "symmetric": True}
COMPRESSED = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {**_FLOAT8, "strategy": "channel", "dynamic": False},
            "input_activations": {**_FLOAT8, "strategy": "token", "dynamic": True},
        }
    },
}
LLAMA = dict(
    hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=4
)
GPT_OSS = dict(
    LLAMA, intermediate_size=32, head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=8
)


BITS = {
    "bitsandbytes 4 bit": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True),
    "bitsandbytes 8 bit": dict(
        load_in_8bit=True, llm_int8_skip_modules=["lm_head", "layers.3.mlp.down_proj"]
    ),
}


def write_by_bitsandbytes(folder, **settings):
    """A random checkpoint that bitsandbytes itself has quantised; returns the plain tensors too."""
    wide = dict(LLAMA, hidden_size=128, intermediate_size=128)  # of smaller matrices its CPU code makes noise
    plain, tensors = write_quantised(folder / "plain", "llama", wide, None, lambda name, t: {name: t})
    model = AutoModelForCausalLM.from_pretrained(
        plain,
        quantization_config=BitsAndBytesConfig(**settings),
        device_map={"": "cpu"},
        dtype=torch.bfloat16,
    )
    model.save_pretrained(folder / "packed")
    byte_tokenizer().save_pretrained(folder / "packed")
    return folder / "packed", tensors


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    """{method: (folder, plain tensors)}."""
    root = tmp_path_factory.mktemp("quantised")
    return {
        "fp8": write_quantised(root / "fp8", "llama", LLAMA, FP8, fp8),
        "mxfp4": write_quantised(root / "mxfp4", "gpt_oss", GPT_OSS, {"quant_method": "mxfp4"}, mxfp4),
        "compressed-tensors": write_quantised(root / "compressed", "llama", LLAMA, COMPRESSED, channels),
        **{
            name: write_by_bitsandbytes(root / name, **settings)
            for name, settings in BITS.items()
            if installed("bitsandbytes")
        },
    }


needs_package = [
    pytest.param(name, marks=pytest.mark.skipif(not installed(package), reason=f"{package} is not installed"))
    for name, package in (("compressed-tensors", "compressed_tensors"), *((n, "bitsandbytes") for n in BITS))
]


@pytest.mark.parametrize("method", ["fp8", "mxfp4", *needs_package])
def test_weights_that_become_plain_matrices_are_calibrated_and_exported_in_bf16(quantised, method, tmp_path):
    folder, _ = quantised[method]
    loaded = load_model(str(folder))
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32} and len(loaded.blocks) == 4
    packed = WeightFiles("x", folder).stored()
    assert loaded.parameters() <= packed.values < 1.3 * loaded.parameters()  # with the scales
    rows, losses, _ = gradient_rows(loaded, torch.from_numpy(IDS))
    assert torch.isfinite(rows).all() and (rows != 0).any(dim=0).all()
    expected = sequence_losses(loaded, IDS, (1,))
    write.prune(str(folder), [1], tmp_path / "out", by_shard=False)  # else they stay packed
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in config and config["dtype"] == "bfloat16"
    again = load_model(str(tmp_path / "out"))
    assert WeightFiles("x", tmp_path / "out").stored().dtype == torch.bfloat16
    assert np.allclose(sequence_losses(again, IDS), expected, atol=1e-5) and len(again.blocks) == 3


@pytest.mark.parametrize("method", ["fp8", *needs_package])
def test_weights_are_those_that_were_quantised(quantised, method):
    folder, plain = quantised[method]
    apart = 0.12 if "4 bit" in method else 0.05
    for name, parameter in load_model(str(folder)).model.named_parameters():
        assert float((parameter - plain[name].float()).norm()) <= apart * float(plain[name].float().norm()), (
            name
        )


SETTINGS = [
    ({"quant_method": "gptq", "bits": 4}, "gptq", "gptqmodel"),
    ({"quant_method": "awq", "bits": 4}, "awq", "gptqmodel"),
    ({"quant_method": "hqq"}, "hqq", "package hqq"),
    ({"quant_method": "bitnet"}, "bitnet", "no derivative"),
    ({"quant_method": "brand-new"}, "brand-new", "no way is known"),
    ({"bits": 3}, "of no named method", "no way is known"),
    ("what", "of no named method", "no way is known"),
]


def with_settings(tiny, place, file="config.json", **entries):
    folder = copytree(tiny["llama"], place)
    config = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps({**config, **entries}))
    return folder


@pytest.mark.parametrize(("settings", "method", "why"), SETTINGS, ids=lambda value: str(value)[:30])
def test_other_methods_are_refused_with_name_reason_and_remedy(tiny, tmp_path, settings, method, why):
    folder = with_settings(tiny, tmp_path / "model", quantization_config=settings)
    with pytest.raises(InputError) as caught:
        load_model(str(folder))
    sentence = str(caught.value)
    assert f"quantised weights (quantization_config in config.json: {method})" in sentence and why in sentence
    assert sentence.endswith("take the unquantised model.") and "\n" not in sentence and len(sentence) < 420


@pytest.mark.parametrize(
    ("file", "entries"),
    [
        ("config.json", {"text_config": {"quantization_config": FP8}}),
        ("hf_quant_config.json", {"quantization": {"quant_algo": "FP8"}}),
    ],
)
def test_a_method_is_read_in_its_own_place_only(tiny, tmp_path, file, entries):
    with pytest.raises(InputError, match="quantised weights"):
        load_model(str(with_settings(tiny, tmp_path / "model", file, **entries)))


@pytest.mark.parametrize(
    ("settings", "package"),
    [
        (COMPRESSED, "compressed_tensors"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"load_in_8bit": True}, "bitsandbytes"),
    ],
    ids=str,
)
def test_a_package_that_is_missing_is_named(tiny, tmp_path, settings, package):
    if installed(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(InputError, match=f"takes the package {package}, which is not installed; install it"):
        load_model(str(with_settings(tiny, tmp_path / "model", quantization_config=settings)))
