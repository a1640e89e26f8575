"""A LoRA adapter is merged into the model that it names; what is no such adapter gets one sentence."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from core.errors import InputError
from core.export.write import prune
from core.model.load import load_model
from tests.weights.tiny_gguf import model_of, write

IDS = torch.arange(3, 43)[None]


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def adapted(base: torch.nn.Module, name: str, folder):
    """A folder with an adapter of random weights that does something."""
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    model = get_peft_model(base, config)
    model.peft_config["default"].base_model_name_or_path = name
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(tiny, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(tiny["llama"])
    return adapted(base, str(tiny["llama"]), tmp_path / "adapter")


def test_base_and_adapter_are_one_model(tiny, adapter, tmp_path):
    loaded, base = load_model(str(adapter)), load_model(str(tiny["llama"]))
    with_peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny["llama"]), adapter).eval()
    expected = logits(with_peft)
    assert (logits(loaded.model) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (logits(base.model) - expected).abs().max() > 1e-2
    assert type(loaded.model) is type(base.model) and loaded.parameters() == base.parameters()
    assert loaded.digest() != base.digest() and len(loaded.blocks) == 6
    assert loaded.tokenizer_digest() == base.tokenizer_digest()


def test_it_is_pruned_into_a_plain_checkpoint(adapter, tmp_path):
    prune(str(adapter), [2], tmp_path / "out")
    assert len(load_model(str(tmp_path / "out")).blocks) == 5
    assert not list((tmp_path / "out").glob("adapter*"))


def test_a_base_in_gguf_and_one_beside_the_adapter(tmp_path):
    base = model_of("llama")
    folder = adapted(base, "base.gguf", tmp_path / "adapter")
    write(folder / "base.gguf", model_of("llama"))
    found = logits(load_model(str(folder)).model)
    assert (found - logits(model_of("llama"))).abs().max() > 1e-2


def test_what_cannot_be_merged_is_refused(tiny, adapter, tmp_path):
    def refused(words: str, drop: str = "", **entries) -> None:
        folder = tmp_path / "other"
        shutil.copytree(adapter, folder)
        config = {**json.loads((folder / "adapter_config.json").read_text()), **entries}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        if drop:
            (folder / drop).unlink()
        with pytest.raises(InputError, match=words) as found:
            load_model(str(folder))
        assert "\n" not in str(found.value)
        shutil.rmtree(folder)

    refused("type 'IA3' and only LORA", peft_type="IA3")
    refused("import the module 'os'", auto_mapping={"base_model_class": "X", "parent_library": "os"})
    refused("has no adapter_model.safetensors", drop="adapter_model.safetensors")
    refused("does not say which model", base_model_name_or_path=None)
    refused("No model folder or file", base_model_name_or_path="/nowhere/at/all")
    refused("cannot be merged into", base_model_name_or_path=str(tiny["gpt2"]))
    refused("names an adapter", base_model_name_or_path=str(adapter))
