"""Loading: what is supported loads with its blocks found; everything else is one sentence."""

import json
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, T5Config, T5ForConditionalGeneration

from core.errors import InputError
from core.model.load import load_model
from tests.conftest import TINY


@pytest.mark.parametrize("kind", TINY)
def test_blocks_are_found_and_described(tiny, kind):
    loaded = load_model(str(tiny[kind]))
    assert [b.index for b in loaded.blocks] == list(range(6))
    assert len(list(loaded.branches())) == 12
    rest = sum(
        p.numel() for n, p in loaded.model.named_parameters() if not n.startswith(loaded.structure.path + ".")
    )
    assert sum(b.parameters for b in loaded.blocks) + rest == loaded.parameters()
    assert all(b.bytes == 4 * b.parameters for b in loaded.blocks)
    assert all(p.dtype == torch.float32 for p in loaded.model.parameters())


def refused(source, says):
    with pytest.raises(InputError, match=says) as caught:
        load_model(str(source))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 420


def test_unknown_names(tmp_path):
    refused("no-such-owner/no-such-model", "no local folder and could not be had from the hub")
    refused(tmp_path / "nowhere", "No model folder")
    refused("../../no/such", "No model folder")
    refused("/etc/passwd", "no model folder, and of files only .gguf")
    refused("a\0b", "No model folder")
    refused("https://example.com/model", "No model folder")


def test_folders_that_are_no_model(tmp_path, tiny):
    refused(tmp_path, "no config.json")
    (tmp_path / "config.json").write_text("{")
    refused(tmp_path, "not readable JSON")
    (tmp_path / "config.json").write_text("[]")
    refused(tmp_path, "not a JSON object")
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{}")
    refused(tmp_path, "not readable JSON")
    (tmp_path / "config.json").write_text((tiny["llama"] / "config.json").read_text())
    refused(tmp_path, "no .safetensors")


def test_models_that_are_not_causal(tmp_path):
    small = dict(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, vocab_size=50
    )
    BertModel(BertConfig(**small)).save_pretrained(tmp_path / "bert")
    refused(tmp_path / "bert", "BertModel .*no next-token head")
    T5ForConditionalGeneration(
        T5Config(d_model=16, num_layers=2, num_heads=2, d_ff=16, vocab_size=50, d_kv=8)
    ).save_pretrained(tmp_path / "t5")
    refused(tmp_path / "t5", "not a causal language model")


def changed(tiny, tmp_path, config=None, weights=None):
    folder = copytree(tiny["llama"], tmp_path / "changed")
    if config:
        data = json.loads((folder / "config.json").read_text())
        data.update(config)
        (folder / "config.json").write_text(json.dumps(data))
    if weights:
        tensors = load_file(folder / "model.safetensors")
        weights(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_types_and_code_that_are_not_run(tiny, tmp_path):
    refused(changed(tiny, tmp_path / "a", {"model_type": "clip"}), "type 'clip'.*not a causal language model")
    refused(
        changed(tiny, tmp_path / "b", {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}), "its own code"
    )


def test_damaged_weights(tiny, tmp_path):
    name = "model.layers.3.mlp.up_proj.weight"
    refused(
        changed(tiny, tmp_path / "a", weights=lambda t: t.pop(name)), f"1 missing tensors, the first {name}"
    )
    refused(
        changed(tiny, tmp_path / "b", weights=lambda t: t.update(more=torch.ones(2))),
        "1 unexpected tensors, the first more",
    )
    refused(
        changed(tiny, tmp_path / "c", weights=lambda t: t[name].fill_(float("nan"))),
        f"NaN or infinite values in {name}",
    )
    refused(changed(tiny, tmp_path / "d", {"num_hidden_layers": 5}), "unexpected")
    refused(
        changed(tiny, tmp_path / "e", weights=lambda t: t.update({name: torch.ones(3, 3)})),
        "cannot be loaded|mismatched",
    )
    folder = changed(tiny, tmp_path / "f")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    refused(folder, "cannot be loaded")


def test_no_tokenizer(tiny, tmp_path):
    folder = changed(tiny, tmp_path)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    refused(folder, "tokenizer of")


def test_real_pretrained_model(real_model):
    loaded = load_model(str(real_model))
    assert len(loaded.blocks) == 5 and loaded.name == "tinystories-260k"
    ids = loaded.tokenizer(
        "Once upon a time, there was a little girl named Lily.", return_tensors="pt"
    ).input_ids
    text = loaded.tokenizer.decode(loaded.model.generate(ids, max_new_tokens=12, do_sample=False)[0])
    assert "She loved to play" in text


def test_a_hub_id_loads_from_the_local_cache(tiny, tmp_path, monkeypatch):
    import huggingface_hub.constants as constants

    snapshot = tmp_path / "models--owner--name" / "snapshots" / ("0" * 40)
    copytree(tiny["gpt2"], snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    loaded = load_model("owner/name")
    assert loaded.files.folder == snapshot and loaded.name == "name" and len(loaded.blocks) == 6
