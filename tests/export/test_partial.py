"""Attention or FFN gone on its own: every form is the gated model again, in a fresh process."""

import ast
import importlib.util
import json
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from core.errors import InputError
from core.export import nas, verify, write
from core.export.gguf import deci
from core.export.gguf.deci_proof import in_llama_cpp, read_back
from core.export.gguf.llama_cpp import LLAMA_CPP
from core.export.writers import FORMS
from core.forms import names as form_names
from core.ising.units import BRANCH
from core.model import partial
from core.model.gates import gated, removal
from core.model.load import load_model, wrap
from core.weights import guard
from core.weights.gguf_copy import read_content, write_content
from tests import zoo
from tests.conftest import write_tiny
from tests.weights.tiny_gguf import model_of
from tests.weights.tiny_gguf import write as write_gguf

IDS = torch.randint(3, 80, (2, 12), generator=torch.Generator().manual_seed(4))
REMOVED = (1, "2a", "4f")


def gated_logits(loaded, state) -> torch.Tensor:
    with torch.no_grad(), gated(loaded, removal(loaded, state)):
        return loaded.model(input_ids=IDS, use_cache=False).logits


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return float((a - b).abs().max()) <= 1e-5 * float(b.abs().max())


def of_tiny(tiny, kind="llama"):
    loaded = load_model(str(tiny[kind])).seen(BRANCH)
    return loaded, loaded.units.state(REMOVED)


def test_the_portable_form_is_smaller_and_loads_without_this_project(tiny, tmp_path):
    loaded, state = of_tiny(tiny, "gpt2")
    expected, parts = gated_logits(loaded, state), [p for b in loaded.blocks for p in b.branches]
    done = write.prune(str(tiny["gpt2"]), REMOVED, tmp_path / "out")
    said = done.to_json()
    assert said["form"] == "portable" and said["removed"] == [1, "2a", "4f"] and said["verified"]
    assert said["blocks"] == [6, 5] and said["units"] == [12, 8]
    gone = [parts[u] for u in state]
    assert done.parameters[0] - done.parameters[1] == sum(p.parameters for p in gone)
    assert done.kv_bytes[0] - done.kv_bytes[1] == sum(p.kv_bytes for p in gone) > 0
    weights = tmp_path / "out" / "model.safetensors"
    assert done.bytes[1] == weights.stat().st_size < done.bytes[0] - 3.9 * sum(p.parameters for p in gone)
    with safe_open(weights, framework="pt") as file:
        assert not any("h.1.attn" in name or "h.3.mlp" in name or "h.5." in name for name in file.keys())  # noqa: SIM118
    again = load_model(str(tmp_path / "out"))  # without its code
    assert close(logits(again.model), expected) and [b.kind for b in again.blocks][1:4] == [
        "FFN",
        "attention + FFN",
        "attention",
    ]
    record = json.loads((tmp_path / "out" / "blockscape.json").read_text())
    assert record["removed"] == [1, "2a", "4f"] and record["form"] == "portable"
    assert {"modeling_partial.py", "README.md", "model.safetensors"} <= set(record["files"])
    assert write.is_export_of(tmp_path / "out", str(tiny["gpt2"]), REMOVED)
    assert not write.is_export_of(tmp_path / "out", str(tiny["gpt2"]), REMOVED, "shapes")
    with pytest.raises(InputError, match="lacks parts of blocks already"):
        write.prune(str(tmp_path / "out"), [1], tmp_path / "more")


def test_nobody_else_fills_it_with_random_weights(tiny, tmp_path):
    loaded, state = of_tiny(tiny)
    FORMS["portable"].write(loaded, state, tmp_path / "out")
    with pytest.raises(ValueError, match="trust_remote_code|does not recognize"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=False)


@pytest.mark.parametrize("kind", ["gemma2", "mixtral", "bloom", "falcon", "qwen3_next", "opt"])
def test_the_portable_form_of_many_types(kind, tmp_path):
    loaded = wrap(zoo.tiny_model(kind), None, kind, None).seen(BRANCH)
    state = loaded.units.parse("0a,1,2f")
    expected = gated_logits(loaded, state)
    FORMS["portable"].write(loaded, state, tmp_path / "out")
    model = partial.load(tmp_path / "out").eval()
    assert close(logits(model), expected) and type(model).__name__ == type(loaded.model).__name__
    model.save_pretrained(tmp_path / "again")  # by whoever has it
    assert close(logits(partial.load(tmp_path / "again").eval()), expected)


def test_a_tensor_that_is_missing_is_told(tiny, tmp_path):
    loaded, state = of_tiny(tiny)
    FORMS["portable"].write(loaded, state, tmp_path / "out")
    config = tmp_path / "out" / "config.json"
    raw = json.loads(config.read_text())
    config.write_text(json.dumps({**raw, "removed": raw["removed"][1:]}))
    with pytest.raises(RuntimeError, match=r"missing or left over, the first model\.layers"):
        partial.load(tmp_path / "out")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(str(tmp_path / "out"))


def test_half_precision_stays(tiny, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny["llama"], dtype=torch.bfloat16)
    loaded = wrap(model, None, "llama", None, 2).seen(BRANCH)
    FORMS["portable"].write(loaded, loaded.units.parse("2a"), tmp_path / "out")
    assert partial.load(tmp_path / "out").dtype == torch.bfloat16


def test_the_guard_knows_what_is_written():
    """Its code is not run by this project, so that nobody is asked to trust it."""
    assert guard.PARTIAL == partial.MODEL_TYPE
    assert all(name.partition(".")[0] == Path(partial.FILE).stem for name in guard._PARTIAL_CODE.values())
    assert all(hasattr(partial, name.partition(".")[2]) for name in guard._PARTIAL_CODE.values())
    assert not guard.is_partial({"model_type": partial.MODEL_TYPE, "auto_map": {"AutoConfig": "evil.Config"}})


def test_same_shapes_are_zeros_that_load_everywhere(tiny, tmp_path):
    loaded, state = of_tiny(tiny)
    expected, whole = gated_logits(loaded, state), loaded.blocks[0]
    done = write.prune(str(tiny["llama"]), REMOVED, tmp_path / "out", form="shapes")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert close(logits(model), expected)
    layers = model.model.layers
    assert not layers[1].self_attn.o_proj.weight.any() and not layers[3].mlp.down_proj.weight.any()
    assert done.parameters[0] - done.parameters[1] == whole.parameters  # of the whole block alone
    assert done.kv_bytes[0] - done.kv_bytes[1] == whole.kv_bytes
    assert (
        "saves no bytes" in done.to_json()["note"]
        and "saves no bytes" in (tmp_path / "out" / "README.md").read_text()
    )


@pytest.mark.parametrize("name", ["2a,4f", "0a,1,3f", "0,1a,1f,2a"])
def test_gguf_is_the_gated_model_when_it_is_read_back(tiny, tmp_path, name, monkeypatch):
    loaded = load_model(str(tiny["llama"])).seen(BRANCH)
    state = loaded.units.parse(name)
    expected = gated_logits(loaded, state)
    written = FORMS["gguf"].write(loaded, state, tmp_path / "out")
    file = tmp_path / "out" / deci.FILE
    model = read_back(file)
    assert close(logits(model), expected)
    tensors = gguf.GGUFReader(file).tensors
    assert written.parameters == sum(int(np.prod(t.shape)) for t in tensors) < loaded.parameters()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert in_llama_cpp(file, model, IDS[0].tolist(), 24) == "not run here"


def test_llama_cpp_continues_as_transformers_does(real_model, tmp_path):
    """Attention gone alone, FFN gone alone, and both, in the first block, too."""
    pytest.importorskip(LLAMA_CPP, reason="xllamacpp is not installed (pip install xllamacpp, 34 MB)")
    loaded = load_model(str(real_model)).seen(BRANCH)
    for name in ("2a", "2f", "0a,1f,3a"):
        state = loaded.units.parse(name)
        FORMS["gguf"].write(loaded, state, tmp_path / name)
        file = tmp_path / name / deci.FILE
        assert in_llama_cpp(file, read_back(file), IDS[0].tolist(), 24) == "continues with the same tokens"


def test_gguf_is_exported_and_verified(tmp_path):
    done = write.prune(
        "demo", REMOVED, tmp_path / "out", form="gguf"
    )  # its tokenizer has merges, as llama.cpp asks
    said = done.to_json()
    assert said["llama_cpp"] in ("continues with the same tokens", "not run here") and said["units"] == [
        48,
        44,
    ]
    assert said["bytes"][1] == (tmp_path / "out" / deci.FILE).stat().st_size < said["bytes"][0]
    fields = gguf.GGUFReader(tmp_path / "out" / deci.FILE).fields
    found = {name: fields[f"deci.{name}"].contents() for name in ("block_count", "feed_forward_length")}
    heads, width = load_model("demo").config.num_attention_heads, load_model("demo").config.intermediate_size
    assert fields["deci.attention.head_count"].contents() == [heads, 0] + [heads] * 21
    assert found == {"block_count": 23, "feed_forward_length": [width] * 3 + [deci.TINY] + [width] * 19}


def test_whole_blocks_are_a_llama_of_llama_cpp(tmp_path):
    done = write.prune("demo", (3, 7), tmp_path / "out", form="gguf")
    file = tmp_path / "out" / deci.FILE
    fields = gguf.GGUFReader(file).fields
    assert (
        fields["general.architecture"].contents() == "llama" and fields["llama.block_count"].contents() == 22
    )
    assert done.llama_cpp in ("continues with the same tokens", "not run here")
    assert done.units is None and done.to_json()["form"] == "gguf" and done.blocks == (24, 22)
    assert "deci" not in (tmp_path / "out" / "README.md").read_text()


def test_quantised_bytes_stay(tmp_path):
    path = write_gguf(tmp_path / "tiny.gguf", model_of("llama"), "Q8_0")
    loaded = load_model(str(path)).seen(BRANCH)
    state = loaded.units.parse("0f,1a")
    expected = gated_logits(loaded, state)
    FORMS["gguf"].write(loaded, state, tmp_path / "out")
    before = {t.name: t for t in gguf.GGUFReader(path).tensors}
    after = {t.name: t for t in gguf.GGUFReader(tmp_path / "out" / deci.FILE).tensors}
    zeros = {f"blk.0.ffn_{part}.weight" for part in ("norm", "gate", "up", "down")}
    for name, tensor in after.items():
        if name in zeros:
            assert not tensor.data.any()
        else:
            assert tensor.tensor_type == before[name].tensor_type
            assert tensor.data.tobytes() == before[name].data.tobytes()
    gone = {name for name in before if name.startswith(("blk.0.ffn_", "blk.1.attn_"))}
    assert set(after) == set(before) - gone | zeros
    assert close(logits(read_back(tmp_path / "out" / deci.FILE)), expected)


def test_a_file_without_the_base_of_its_positions_has_the_usual_one(tmp_path):
    """As Llama 2 was converted."""
    content = read_content([write_gguf(tmp_path / "tiny.gguf", model_of("llama"), "Q8_0")])
    del content.entries["llama.rope.freq_base"]
    with open(tmp_path / "old.gguf", "wb") as file:
        write_content(file, *content, lambda *_: None)
    loaded = load_model(str(tmp_path / "old.gguf")).seen(BRANCH)
    state = loaded.units.parse("0f,1a")
    FORMS["gguf"].write(loaded, state, tmp_path / "out")
    assert close(logits(read_back(tmp_path / "out" / deci.FILE)), gated_logits(loaded, state))


def test_of_rounded_weights_a_smaller_checkpoint_is_written_in_a_wider_type(tmp_path):
    path = write_gguf(tmp_path / "tiny.gguf", model_of("llama"), "Q8_0")
    blocks = len(load_model(str(path)).blocks)
    said = write.prune(str(path), ("1a",), tmp_path / "out").to_json()
    assert said["form"] == "portable" and said["verified"]
    before, after = said["kv_bytes"]
    assert after * blocks == before * (blocks - 1) > 0


def test_a_wrong_gguf_is_found(tiny, tmp_path, monkeypatch):
    """What llama.cpp would do without an FFN of zeros is not the gated model."""
    loaded, state = of_tiny(tiny)
    FORMS["gguf"].write(loaded, loaded.units.parse("1,2a,4a,4f"), tmp_path / "out")
    probe = tmp_path / "probe.npz"
    np.savez(probe, ids=IDS.numpy(), logits=gated_logits(loaded, state).numpy())
    monkeypatch.setattr(verify, "in_llama_cpp", lambda *_: "not run here")
    assert "logits differ" in verify.verify(tmp_path / "out", probe)["problem"]


def test_nemotron_nas_says_what_is_left(tmp_path):
    folder = write_tiny(tmp_path / "model", "llama", intermediate_size=256)
    loaded = load_model(str(folder)).seen(BRANCH)
    state = loaded.units.state(REMOVED)
    nas.check(loaded, state)
    expected = gated_logits(loaded, state)
    FORMS["nas"].write(loaded, state, tmp_path / "out")
    config = json.loads((tmp_path / "out" / nas.FILE).read_text())
    blocks = config["block_configs"]
    assert [b["attention"]["no_op"] for b in blocks] == [False, True, False, False, False]
    assert [b["ffn"]["no_op"] for b in blocks] == [False, False, False, True, False]
    assert {b["attention"]["n_heads_in_group"] for b in blocks} == {2, None}
    assert int(2 * blocks[0]["ffn"]["ffn_mult"] * 32 / 3) == 256
    assert close(logits(partial.load(tmp_path / "out").eval()), expected)


@pytest.mark.parametrize(
    ("kind", "form", "says"),
    [
        ("gpt2", "gguf", "is of the type 'gpt2'"),
        ("gpt2", "nas", "is of the type 'gpt2'"),
        ("llama", "nas", "48 wide, which is no multiple of 256"),
    ],
)
def test_a_form_that_does_not_fit_is_refused(tiny, tmp_path, kind, form, says):
    with pytest.raises(InputError, match=says):
        write.prune(str(tiny[kind]), REMOVED, tmp_path / "out", form=form)
    assert not list(tmp_path.iterdir())


def test_forms_are_for_parts_of_blocks():
    assert form_names.form_of([1, 2]) == "hf" and form_names.form_of([1, "2a"]) == "portable"
    with pytest.raises(InputError, match="only whole blocks are removed here; choose one of hf, gguf"):
        form_names.form_of([1, 2], "shapes")
    with pytest.raises(InputError, match="cannot say that attention or FFN went"):
        form_names.form_of(["1a"], "hf")
    with pytest.raises(InputError, match="no form 'onnx'; choose one of portable, shapes, gguf, nas"):
        form_names.form_of(["1a"], "onnx")
    assert set(FORMS) == {*form_names.WHOLE, *form_names.PARTIAL}


def test_both_halves_are_the_block(tiny, tmp_path):
    done = write.prune(str(tiny["llama"]), ["1a", "1f", 4], tmp_path / "out")
    assert done.removed == (1, 4) and done.form == "hf"
    assert "Kept: 0, 2-3, 5." in (tmp_path / "out" / "README.md").read_text()


def test_what_goes_along_needs_torch_and_transformers_alone(tiny, tmp_path):
    loaded, state = of_tiny(tiny)
    FORMS["portable"].write(loaded, state, tmp_path / "out")
    code = (tmp_path / "out" / partial.FILE).read_text()
    assert code == Path(partial.__file__).read_text()
    for source in (code, (Path(verify.__file__).with_name("check_portable.py")).read_text()):
        named = [
            node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))
        ]
        rooms = {
            (n.module if isinstance(n, ast.ImportFrom) else n.names[0].name).partition(".")[0] for n in named
        }
        assert rooms - set(sys.stdlib_module_names) <= {"torch", "transformers", "numpy"}
