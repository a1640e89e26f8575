"""Quantised checkpoints lose blocks as they are: every method's own tensors, its settings of what is left."""

import json
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from core.errors import InputError
from core.export import write
from core.export.by_shard import plan_of, wanted, write_plan
from core.export.shard_proof import prove_by_shard
from core.forms.names import PORTABLE
from core.model.load import load_model
from core.model.skeleton import open_skeleton
from tests import zoo
from tests.targets import tensors_in
from tests.weights.test_quantised import (
    BITS,
    COMPRESSED,
    FP8,
    LLAMA,
    channels,
    fp8,
    installed,
    write_by_bitsandbytes,
    write_quantised,
)

REMOVED = (1, 2)
IN, OUT = "model.layers.3.mlp.down_proj", "model.layers.1.mlp.down_proj"
Quantise = Callable[[str, torch.Tensor], dict[str, torch.Tensor]]


def packed(*parts: tuple[str, Callable[[int, int], torch.Tensor]]) -> Quantise:
    """Every matrix of a block as tensors of these suffixes, made of its sizes (out, in)."""

    def quantise(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
        if tensor.ndim != 2 or IN in name:  # one stays as it is, and the settings say so
            return {name: tensor}
        made = {name.replace(".weight", suffix): make(*tensor.shape) for suffix, make in parts}
        generator = torch.Generator().manual_seed(hash(name) % 1000)
        for value in made.values():
            noise = torch.randint(0, 100, value.shape, generator=generator)
            value.copy_(noise.to(value.dtype))
        return made

    return quantise


def ints(rows: Callable, columns: Callable) -> Callable[[int, int], torch.Tensor]:
    return lambda o, i: torch.empty(rows(o, i), columns(o, i), dtype=torch.int32)


def half(*shape: Callable) -> Callable[[int, int], torch.Tensor]:
    return lambda o, i: torch.empty(*(s(o, i) for s in shape), dtype=torch.float16)


def whole(dtype: torch.dtype, *shape: Callable) -> Callable[[int, int], torch.Tensor]:
    return lambda o, i: torch.empty([s(o, i) for s in shape], dtype=dtype)


GROUPS = lambda o, i: i // 16  # noqa: E731
GPTQ = packed(
    (".qweight", ints(lambda o, i: i // 8, lambda o, i: o)),
    (".qzeros", ints(GROUPS, lambda o, i: o // 8)),
    (".scales", half(GROUPS, lambda o, i: o)),
    (".g_idx", whole(torch.int32, lambda o, i: i)),
)
AWQ = packed(
    (".qweight", ints(lambda o, i: i, lambda o, i: o // 8)),
    (".qzeros", ints(GROUPS, lambda o, i: o // 8)),
    (".scales", half(GROUPS, lambda o, i: o)),
)
NF4 = packed(
    (".weight", whole(torch.uint8, lambda o, i: o * i // 2, lambda o, i: 1)),
    (".weight.absmax", whole(torch.uint8, lambda o, i: o * i // 64)),
    (".weight.nested_absmax", whole(torch.float32, lambda o, i: 1)),
    (".weight.nested_quant_map", whole(torch.float32, lambda o, i: 256)),
    (".weight.quant_map", whole(torch.float32, lambda o, i: 16)),
    (".weight.quant_state.bitsandbytes__nf4", whole(torch.uint8, lambda o, i: 81)),
)
INT8 = packed(
    (".weight", whole(torch.int8, lambda o, i: o, lambda o, i: i)),
    (".SCB", whole(torch.float32, lambda o, i: o)),
    (".weight_format", whole(torch.uint8)),
)
PACKED_INT4 = packed(
    (".weight_packed", ints(lambda o, i: o, lambda o, i: i // 8)),
    (".weight_scale", whole(torch.bfloat16, lambda o, i: o, GROUPS)),
    (".weight_shape", whole(torch.int64, lambda o, i: 2)),
)
_INT4 = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 16}
METHODS: dict[str, tuple[Quantise, dict, dict]] = {  # settings before and after
    "gptq": (
        GPTQ,
        {"quant_method": "gptq", "bits": 4, "group_size": 16, "dynamic": {rf"-:{IN}": {}}},
        {"dynamic": {rf"-:^{OUT}$".replace(".", r"\."): {}}},
    ),
    "awq": (
        AWQ,
        {"quant_method": "awq", "bits": 4, "version": "gemm", "modules_to_not_convert": [IN]},
        {"modules_to_not_convert": [OUT]},
    ),
    "bitsandbytes 4 bit": (
        NF4,
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "llm_int8_skip_modules": ["lm_head", IN]},
        {"llm_int8_skip_modules": ["lm_head", OUT]},
    ),
    "bitsandbytes 8 bit": (
        INT8,
        {"quant_method": "bitsandbytes", "load_in_8bit": True, "llm_int8_skip_modules": [IN]},
        {"llm_int8_skip_modules": [OUT]},
    ),
    "compressed-tensors": (
        PACKED_INT4,
        {
            **{"quant_method": "compressed-tensors", "format": "pack-quantized"},
            **{"ignore": ["lm_head", IN, "model.layers.1.mlp.up_proj"]},
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": _INT4}},
        },
        {"ignore": ["lm_head", OUT]},
    ),
    "fp8": (
        lambda name, t: {name: t} if IN in name else fp8(name, t),
        {**FP8, "modules_to_not_convert": ["lm_head", IN]},
        {"modules_to_not_convert": ["lm_head", OUT]},
    ),
}


@pytest.mark.parametrize("method", METHODS)
def test_what_is_packed_stays_as_it_is(method, tmp_path):
    quantise, settings, changed = METHODS[method]
    source, _ = write_quantised(tmp_path / "source", "llama", LLAMA, settings, quantise)
    before = tensors_in(source)
    assert len(before) > 4 * 9 and wanted(str(source), REMOVED, None)
    out = tmp_path / "out"
    write_plan(plan_of(open_skeleton(str(source)), REMOVED), out, lambda *_: None)
    after = tensors_in(out)
    number = {"0": "0", "3": "1"}
    for name, tensor in before.items():
        if ".layers." in name:
            *front, block, rest = name.split(".", 3)
            if block not in number:
                continue
            name = ".".join([*front, number[block], rest])
        own = after.pop(name)
        assert own.dtype == tensor.dtype and torch.equal(own.view(torch.uint8), tensor.view(torch.uint8))
    assert not after
    config = json.loads((out / "config.json").read_text())
    assert config["quantization_config"] == {**settings, **changed} and config["num_hidden_layers"] == 2
    found = prove_by_shard(str(source), out, REMOVED)
    # made-up numbers of a method are none that its package, where that is installed, must be able to read
    proofs = {"fp8": ["logits"], "bitsandbytes 8 bit": ["tensors", "logits"]}.get(method, ["tensors"])
    assert found["problem"] is None and found["proof"] in proofs


def write_by_compressed_tensors(folder):
    """A random checkpoint that compressed-tensors itself has packed, four bits to a weight."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
    from compressed_tensors.quantization.utils import calculate_qparams

    plain, _ = write_quantised(folder / "plain", "llama", LLAMA, None, lambda name, t: {name: t})
    model = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.bfloat16)
    groups = {"group_0": {"targets": ["Linear"], "weights": _INT4}}
    settings = QuantizationConfig(config_groups=groups, ignore=["lm_head", IN], format="pack-quantized")
    apply_quantization_config(model, settings)
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            parts = module.weight.detach().float().unflatten(1, (-1, _INT4["group_size"]))
            weights = module.quantization_scheme.weights
            module.weight_scale.data.copy_(calculate_qparams(parts.amin(-1), parts.amax(-1), weights)[0])
    compressor = ModelCompressor.from_pretrained_model(model, "pack-quantized")
    compressor.compress_model(model)
    model.save_pretrained(folder / "packed")
    compressor.update_config(str(folder / "packed"))
    return folder / "packed"


WRITERS = {  # package, what it writes
    **{
        name: ("bitsandbytes", lambda f, name=name: write_by_bitsandbytes(f, **BITS[name])[0])
        for name in BITS
    },
    "compressed-tensors": ("compressed_tensors", write_by_compressed_tensors),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_a_package_wrote_it_reads_without_the_blocks(name, tmp_path):
    package, written = WRITERS[name]
    if not installed(package):
        pytest.skip(f"{package} is not installed")
    source, out = written(tmp_path), tmp_path / "out"
    write_plan(plan_of(open_skeleton(str(source)), REMOVED), out, lambda *_: None)
    found = prove_by_shard(str(source), out, REMOVED)
    assert found["problem"] is None and found["proof"] == "logits" and found["difference"] <= 1e-5
    whole, pruned = (AutoModelForCausalLM.from_pretrained(f, device_map={"": "cpu"}) for f in (source, out))
    whole.model.layers = torch.nn.ModuleList([whole.model.layers[b] for b in (0, 3)])
    ids = torch.arange(40)[None] % 200
    with torch.no_grad():  # as its own kernels compute, nothing turned into plain matrices
        expected, logits = (model(ids, use_cache=False).logits for model in (whole, pruned))
    assert torch.equal(expected, logits)
    assert pruned.config.quantization_config and {"uint8", "int8", "int32"} & {
        str(tensor.dtype).removeprefix("torch.") for tensor in tensors_in(out).values()
    }


def test_quantised_weights_are_never_turned_into_plain_ones_unasked(tmp_path, proved_here):
    source, _ = write_quantised(tmp_path / "source", "llama", LLAMA, FP8, fp8)
    done = write.prune(str(source), REMOVED, tmp_path / "out")
    assert done.proof == "logits" and torch.float8_e4m3fn in {t.dtype for t in tensors_in(done.out).values()}
    assert done.bytes[1] < done.bytes[0] and len(load_model(str(done.out)).blocks) == 2


@pytest.mark.parametrize(("said", "written"), [({"torch_dtype": "float16"}, "float16"), ({}, "bfloat16")])
def test_what_packed_weights_are_computed_in_stays(tmp_path, said, written):
    """Kernels of AWQ take half precision alone."""
    source, _ = write_quantised(tmp_path / "source", "llama", LLAMA, *METHODS["awq"][1::-1])
    config = json.loads((source / "config.json").read_text())
    del config["dtype"]
    (source / "config.json").write_text(json.dumps({**config, **said}))
    write_plan(plan_of(open_skeleton(str(source)), REMOVED), tmp_path / "out", lambda *_: None)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == written


def test_settings_beside_the_config_follow(tmp_path):
    source, _ = write_quantised(tmp_path / "source", "llama", LLAMA, None, channels)
    beside = {"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head", "model.layers.3*"]}}
    (source / "hf_quant_config.json").write_text(json.dumps(beside))
    write_plan(plan_of(open_skeleton(str(source)), REMOVED), tmp_path / "out", lambda *_: None)
    after = json.loads((tmp_path / "out" / "hf_quant_config.json").read_text())["quantization"]
    assert after["quant_algo"] == "FP8" and "lm_head" in after["exclude_modules"]
    assert "model.layers.1.mlp.down_proj" in after["exclude_modules"]
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())


@pytest.mark.parametrize(
    ("fault", "says"),
    [("lost", "1 missing tensors, the first model.layers.0"), ("odd", "1 unexpected tensors")],
)
def test_packed_weights_that_do_not_fit_are_told(tmp_path, fault, says):
    source, _ = write_quantised(tmp_path / "source", "llama", LLAMA, METHODS["awq"][1], AWQ)
    tensors = tensors_in(source)
    if fault == "lost":
        tensors = {n: t for n, t in tensors.items() if "layers.0.mlp.up_proj" not in n}
    else:
        tensors["adapter.scales"] = torch.ones(2)
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=says):
        open_skeleton(str(source))


def test_what_lies_in_headers_of_files_is_not_left_behind(tmp_path):
    source, _ = write_quantised(tmp_path / "source", "llama", LLAMA, {"quant_method": "torchao"}, channels)
    assert wanted(str(source), REMOVED, None)
    with pytest.raises(InputError, match="quantised by torchao, which says in the headers of its files"):
        write.prune(str(source), REMOVED, tmp_path / "out")


def test_experts_that_are_many_on_disk_stay_many(tmp_path):
    model = zoo.tiny_model("mixtral").bfloat16()
    model.save_pretrained(tmp_path / "source")
    tensors: dict[str, torch.Tensor] = {}
    for name, t in tensors_in(tmp_path / "source").items():
        fits = ".experts." in name and t.ndim == 2
        tensors |= fp8(name, t) if fits else {name: t}
    assert any("experts.3." in name and "scale_inv" in name for name in tensors)
    save_file(tensors, tmp_path / "source" / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "source" / "config.json").read_text())
    settings = {**FP8, "modules_to_not_convert": ["model.layers.3.self_attn", "lm_head"]}
    (tmp_path / "source" / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    write_plan(plan_of(open_skeleton(str(tmp_path / "source")), REMOVED), tmp_path / "out", lambda *_: None)
    after = tensors_in(tmp_path / "out")
    per_block = {n.split(".", 3)[3] for n in tensors if n.startswith("model.layers.3.")}
    assert {n.split(".", 3)[3] for n in after if n.startswith("model.layers.1.")} == per_block
    assert prove_by_shard(str(tmp_path / "source"), tmp_path / "out", REMOVED)["problem"] is None


def test_what_compressed_tensors_reads_as_fp8_is_kept(tmp_path):
    source, _ = write_quantised(tmp_path / "source", "llama", LLAMA, COMPRESSED, channels)
    write_plan(plan_of(open_skeleton(str(source)), REMOVED), tmp_path / "out", lambda *_: None)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"] == COMPRESSED
    assert {n for n in tensors_in(tmp_path / "out") if "scale" in n and ".1." in n}


def test_in_the_portable_form_blocks_and_their_names_keep_their_numbers(tmp_path):
    source, _ = write_quantised(tmp_path / "source", "llama", LLAMA, *METHODS["awq"][1::-1])
    plan = plan_of(open_skeleton(str(source)), REMOVED, PORTABLE)
    write_plan(plan, tmp_path / "out", lambda *_: None)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["whole"]["quantization_config"] == METHODS["awq"][1]
    assert {*tensors_in(tmp_path / "out")} < {*tensors_in(source)}
    assert prove_by_shard(str(source), tmp_path / "out", REMOVED)["problem"] is None
