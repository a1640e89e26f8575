"""Gated = pruned = reloaded, for every type; nothing half-written is left behind."""

import json
import shutil
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPTNeoXJapaneseForCausalLM

from core.errors import InputError
from core.export import in_memory, making, write
from core.export import writers as forms
from core.measure.evaluation import greedy, greedy_tokens, sequence_losses
from core.model.gates import gated, removal
from core.model.load import load_model
from core.model.surgery import remove_blocks, without
from core.weights.files import WeightFiles
from tests import zoo
from tests.conftest import TINY, write_tiny

REMOVED = (1, 4)


@pytest.mark.parametrize("kind", TINY)
def test_gated_pruned_and_reloaded_models_are_one(tiny, kind, tmp_path, request):
    if kind == "llama":  # the fresh process as it is at a user's
        request.getfixturevalue("cold_start")
    loaded = load_model(str(tiny[kind]))
    ids = torch.randint(2, 200, (3, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), gated(loaded, removal(loaded, REMOVED)):
        expected = loaded.model(input_ids=ids, use_cache=False).logits
    with torch.no_grad():
        full = loaded.model(input_ids=ids, use_cache=False).logits
    assert not torch.allclose(expected, full, atol=1e-2)
    losses = sequence_losses(loaded, ids.numpy(), REMOVED)
    tokens = greedy_tokens(loaded, ids, 20, REMOVED)

    done = write.prune(str(tiny[kind]), REMOVED, tmp_path / "out")
    reloaded, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert reloaded.config.num_hidden_layers == 4
    assert getattr(reloaded.config, "layer_types", None) is None or len(reloaded.config.layer_types) == 4
    reloaded.eval()
    with torch.no_grad():
        assert torch.allclose(reloaded(input_ids=ids, use_cache=False).logits, expected, atol=1e-5)
    for cache in (True, False):
        assert torch.equal(greedy(reloaded, ids, 20, cache), tokens)
    again = load_model(str(tmp_path / "out"))
    assert np.allclose(sequence_losses(again, ids.numpy()), losses, atol=1e-5)

    with without(loaded, REMOVED), torch.no_grad():
        assert torch.allclose(loaded.model(input_ids=ids, use_cache=False).logits, expected, atol=1e-5)
        assert torch.equal(greedy(loaded.model, ids, 20, True), tokens)
    with torch.no_grad():
        assert (
            torch.equal(loaded.model(input_ids=ids, use_cache=False).logits, full) and len(loaded.blocks) == 6
        )
    assert torch.equal(greedy_tokens(loaded, ids, 20, REMOVED), tokens)

    remove_blocks(loaded, REMOVED)
    with torch.no_grad():
        assert torch.allclose(loaded.model(input_ids=ids, use_cache=False).logits, expected, atol=1e-5)
    gone = sum(load_model(str(tiny[kind])).blocks[i].parameters for i in REMOVED)
    assert done.parameters[0] - done.parameters[1] == gone
    assert done.bytes[1] == (tmp_path / "out" / "model.safetensors").stat().st_size < done.bytes[0]
    record = json.loads((tmp_path / "out" / "blockscape.json").read_text())
    assert record["removed"] == [1, 4] and record["kept"] == [0, 2, 3, 5]
    assert (tmp_path / "out" / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_half_precision_checkpoints_keep_their_type(tiny, tmp_path):
    AutoModelForCausalLM.from_pretrained(tiny["llama"], dtype=torch.bfloat16).save_pretrained(
        tmp_path / "half"
    )
    for file in tiny["llama"].glob("tokenizer*"):
        (tmp_path / "half" / file.name).write_bytes(file.read_bytes())
    assert (
        load_model(str(tmp_path / "half")).blocks[0].bytes
        == 2 * load_model(str(tmp_path / "half")).blocks[0].parameters
    )
    done = write.prune(str(tmp_path / "half"), [2], tmp_path / "out")
    assert done.bytes[1] < done.bytes[0]
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype == torch.bfloat16


def test_weights_of_several_types_keep_them_or_have_the_widest(tiny, tmp_path):
    """Norms in float32 beside matrices in bfloat16: rounding those too would be another model."""
    source, noise = shutil.copytree(tiny["llama"], tmp_path / "source"), torch.Generator().manual_seed(1)
    mixed = {
        name: t.bfloat16() if t.ndim == 2 else t + 0.1 * torch.rand(t.shape, generator=noise)
        for name, t in load_file(source / "model.safetensors").items()
    }
    whole = {n: t.bfloat16() for n, t in mixed.items()} | {"model.rotary_emb.inv_freq": torch.ones(4)}
    for tensors, wider in ((whole, None), (mixed, torch.float32)):  # positions are computed anew
        save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
        assert WeightFiles("x", source).stored().wider == wider
    whole = load_file(write.prune(str(source), [2], tmp_path / "out").out / "model.safetensors")
    assert {t.dtype for t in whole.values() if t.ndim == 2} == {torch.bfloat16}
    assert {t.dtype for t in whole.values() if t.ndim == 1} == {torch.float32}
    done = write.prune(str(source), ["2a"], tmp_path / "parts", form="shapes")
    assert {t.dtype for t in load_file(done.out / "model.safetensors").values()} == {torch.float32}


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        ([], "at least one"),
        ([6], "0 to 5"),
        ([1, 1], "at most once"),
        ([-1], "0 to 5"),
        (range(6), "keep at least one"),
    ],
)
def test_bad_blocks_are_refused(tiny, tmp_path, blocks, says):
    with pytest.raises(InputError, match=says):
        write.prune(str(tiny["llama"]), blocks, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_structure_that_depends_on_depth_is_refused_with_its_reason(tmp_path):
    folder = write_tiny(tmp_path / "model", "gpt2", scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(InputError, match="scale_attn_by_inverse_layer_idx"):
        write.prune(str(folder), [1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_proof_has_the_memory_of_what_was_written(tiny, tmp_path, monkeypatch):
    """The model that was pruned is gone before another process loads the export."""
    seen = []

    def write_hf(loaded, units, folder):
        seen.append(weakref.ref(loaded.model))
        return forms.FORMS["hf"].write(loaded, units, folder)

    def prove(*_):
        seen.append(seen[0]() is None)
        return {"difference": 0.0}

    form = replace(forms.FORMS["hf"], write=write_hf, prove=prove)
    monkeypatch.setattr(in_memory, "FORMS", {"hf": form})
    write.prune(str(tiny["llama"]), [1], tmp_path / "out")
    assert seen[1:] == [True]


def test_what_is_beside_the_weights_goes_along(tiny, tmp_path):
    source = shutil.copytree(tiny["llama"], tmp_path / "source")
    (source / "tokenizer").mkdir()
    for name in ("LICENSE.txt", "qwen.tiktoken", "training.log"):
        (source / name).write_text(name)
    found = {file.name for file in making.beside(WeightFiles("x", source))}
    assert found == {"LICENSE.txt", "qwen.tiktoken", "tokenizer.json", "tokenizer_config.json"}


def test_what_only_the_whole_config_builds_is_told_before_anything_is_written(tmp_path, monkeypatch):
    """The last block of this type has a bias that no other has."""
    zoo.tiny_model("gpt_neox_japanese").save_pretrained(tmp_path / "source")
    monkeypatch.setattr(GPTNeoXJapaneseForCausalLM, "save_pretrained", lambda *_: pytest.fail("written"))
    with pytest.raises(InputError, match="its config would make another .*dense_bias; write the portable"):
        write.prune(str(tmp_path / "source"), [3], tmp_path / "out")


def test_nothing_is_overwritten(tiny, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(InputError, match="already exists"):
        write.prune(str(tiny["llama"]), [1], tmp_path / "out")
    assert (tmp_path / "out" / "precious").read_text() == "x"


def test_the_folder_of_the_original_takes_no_export(tiny):
    before = sorted(tiny["llama"].iterdir())
    with pytest.raises(InputError, match="lies in the folder of the model"):
        write.prune(str(tiny["llama"]), [1], tiny["llama"] / "inner")
    assert sorted(tiny["llama"].iterdir()) == before


@pytest.mark.parametrize(
    ("fault", "finds"),
    [("order", "logits differ"), ("config", "unexpected|missing"), ("weights", "logits differ")],
)
def test_a_wrong_checkpoint_is_caught_and_not_kept(tiny, tmp_path, monkeypatch, fault, finds):
    """The fresh process must find what surgery got wrong."""

    def broken(loaded, removed):
        remove_blocks(loaded, removed)
        if fault == "config":
            loaded.model.config.num_hidden_layers += 1
            loaded.model.config.layer_types = None
        if fault == "weights":
            loaded.modules[2].mlp.up_proj.weight.data += 0.5
        if fault == "order":
            loaded.modules[1], loaded.modules[2] = loaded.modules[2], loaded.modules[1]

    monkeypatch.setattr(forms, "remove_blocks", broken)
    monkeypatch.setattr(forms, "check_expressed", lambda loaded: None)
    with pytest.raises(Exception, match=finds):
        write.prune(str(tiny["llama"]), REMOVED, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_real_pretrained_model(real_model, tmp_path):
    done = write.prune(str(real_model), [1, 3], tmp_path / "out")
    assert (
        done.parameters[1] < done.parameters[0]
        and load_model(str(tmp_path / "out")).model.config.num_hidden_layers == 3
    )
