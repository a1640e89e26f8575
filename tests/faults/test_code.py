"""A model folder never runs code: pickles and keys that lead to code are refused before transformers sees
them.
"""

import json
import os
import pickle
import socket
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file

from core.errors import InputError
from core.model.load import load_model
from tests.clocks import spent


class Payload:
    """A pickle that runs a command when it is opened."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture
def marker(tmp_path):
    """The file that any code of a model folder would write."""
    return tmp_path / "marker"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Connections and look-ups are counted and refused; the hub client believes that it is online."""
    calls = []

    def refuse(*args, **_):
        calls.append(args)
        raise OSError("no network in this test")

    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield calls
    assert not calls


def refused(folder, marker, *says):
    began = spent()
    with pytest.raises(InputError) as caught:
        load_model(str(folder))
    sentence = str(caught.value)
    assert all(part in sentence for part in says) and "\n" not in sentence and len(sentence) < 420, sentence
    assert not marker.exists() and spent() - began < 2


# --- pickles


def with_pickle(tiny, tmp_path, name, content):
    """A checkpoint whose weights are only a pickle."""
    folder = copytree(tiny["llama"], tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if content == "honest":
        torch.save(tensors, folder / name)
    else:
        (folder / name).write_bytes(pickle.dumps(content))
    return folder


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "pytorch_model-00001-of-00001.bin", "model.pt", "model.pth", "model.ckpt"]
)
@pytest.mark.parametrize("kind", ["honest", "payload"])
def test_a_pickle_only_checkpoint_is_refused_and_its_payload_not_run(tiny, tmp_path, marker, name, kind):
    content = Payload(f"touch {marker}") if kind == "payload" else kind
    folder = with_pickle(tiny, tmp_path, name, content)
    refused(
        folder, marker, f"only {name}, a pickle", "reads only safetensors: convert with", "save_pretrained"
    )
    if kind == "payload":  # the payload is a live one
        pickle.loads((folder / name).read_bytes())
        assert marker.exists()


def test_a_pickle_under_the_name_of_safetensors_is_not_run(tiny, tmp_path, marker):
    folder = with_pickle(tiny, tmp_path, "model.safetensors", Payload(f"touch {marker}"))
    refused(folder, marker, "cannot be loaded")


@pytest.mark.parametrize(
    "shard", ["pytorch_model.bin", "../other/model.safetensors", "/tmp/model.safetensors", 7, None, ["a"]]
)
def test_an_index_leads_to_safetensors_in_the_folder_only(tiny, tmp_path, marker, shard):
    folder = copytree(tiny["llama"], tmp_path / "model")
    names = list(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").rename(folder / "decoy.safetensors")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(f"touch {marker}")))
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, shard)})
    )
    refused(folder, marker, "names the weight file", "only .safetensors files in the same folder")


# --- keys of the JSON files

CODE_CONFIGS = [  # file, what is added, key that is named
    (
        "config.json",
        {"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}},
        "auto_map",
    ),
    (
        "config.json",
        {"text_config": {"deep": [{"auto_map": {"AutoModelForCausalLM": "evil.Model"}}]}},
        "auto_map",
    ),
    (
        "config.json",
        {"model_type": "evil", "auto_map": {"AutoConfig": "other/repository--evil.Config"}},
        "auto_map",
    ),
    ("config.json", {"vision_config": {"trust_remote_code": True}}, "trust_remote_code"),
    ("config.json", {"_attn_implementation": "evil/kernel"}, "_attn_implementation"),
    ("config.json", {"attn_implementation": "evil/kernel:function"}, "attn_implementation"),
    (
        "config.json",
        {"_attn_implementation_internal": "paged|evil/kernel@main"},
        "_attn_implementation_internal",
    ),
    (
        "config.json",
        {"text_config": {"_attn_implementation": {"": "sdpa", "text": "evil/kernel"}}},
        "_attn_implementation",
    ),
    (
        "config.json",
        {"quantization_config": {"quant_method": "evil", "modules": ["evil"]}},
        "quantization_config",
    ),
    (
        "config.json",
        {"custom_pipelines": {"text-generation": {"impl": "evil.Pipeline", "pt": ["AutoModel"]}}},
        "custom_pipelines",
    ),
    ("config.json", {"kernel_config": {"RMSNorm": "evil/kernel"}}, "kernel_config"),
    ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}, "auto_map"),
    ("tokenizer_config.json", {"init_kwargs": {"trust_remote_code": "yes"}}, "trust_remote_code"),
    ("generation_config.json", {"custom_generate": "evil/generate"}, "custom_generate"),
    ("generation_config.json", {"trust_remote_code": True}, "trust_remote_code"),
    ("processor_config.json", {"auto_map": {"AutoProcessor": "evil.Processor"}}, "auto_map"),
    ("preprocessor_config.json", {"Auto_Map": {"AutoImageProcessor": "evil.Processor"}}, "Auto_Map"),
    ("adapter_config.json", {"auto_mapping": None, "trust_remote_code": 1}, "trust_remote_code"),
    ("config.4.0.0.json", {"auto_map": {"AutoConfig": "evil.Config"}}, "auto_map"),
]


def with_entries(tiny, place, name, entries, marker=None):
    folder = copytree(tiny["llama"], place)
    path = folder / name
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **entries}))
    if marker:
        (folder / "custom").mkdir()
        for file in (folder / "evil.py", folder / "custom" / "generate.py"):
            file.write_text(
                f"open({str(marker)!r}, 'w').close()\nclass Model: pass\nConfig = Tokenizer = Pipeline = "
                "Processor = Model\n"
            )
    return folder


@pytest.mark.parametrize(("name", "entries", "key"), CODE_CONFIGS, ids=lambda value: str(value)[:40])
def test_a_key_that_leads_to_code_is_refused_with_file_and_key(tiny, tmp_path, marker, name, entries, key):
    refused(with_entries(tiny, tmp_path / "model", name, entries, marker), marker, f"{key} in {name}")


def test_the_refusal_comes_before_transformers_sees_the_folder(tiny, tmp_path, marker, monkeypatch):
    import core.model.load as models

    seen = []
    for loader in (models.AutoModelForCausalLM, models.AutoTokenizer):
        monkeypatch.setattr(loader, "from_pretrained", lambda *a, **k: seen.append(a))
    for number, (name, entries, key) in enumerate(CODE_CONFIGS):
        refused(with_entries(tiny, tmp_path / str(number), name, entries, marker), marker, key)
    assert not seen


def test_a_folder_of_generation_code_is_refused(tiny, tmp_path, marker):
    folder = copytree(tiny["llama"], tmp_path / "model")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(f"open({str(marker)!r}, 'w').close()")
    refused(folder, marker, "folder custom_generate", "remove that folder")


def test_quantised_weights_are_refused_as_such(tiny, tmp_path, marker):
    entries = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    refused(
        with_entries(tiny, tmp_path / "model", "config.json", entries),
        marker,
        "quantised weights",
        "does not support",
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config.json", b"{"),
        ("generation_config.json", b"[]"),
        ("config.json", b"\xff\xfe{}"),
        ("tokenizer_config.json", b"[" * 10**5),
    ],
)
def test_a_file_that_cannot_be_searched_is_refused(tiny, tmp_path, marker, name, content):
    folder = copytree(tiny["llama"], tmp_path / "model")
    (folder / name).write_bytes(content)
    refused(folder, marker, name, "JSON")


HARMLESS = [
    ("config.json", {"auto_map": {}}),
    ("config.json", {"quantization_config": None, "trust_remote_code": False, "custom_pipelines": {}}),
    ("config.json", {"_attn_implementation": "sdpa"}),
    ("config.json", {"attn_implementation": "eager"}),
    (
        "config.json",
        {"_attn_implementation": {"": "sdpa", "text_config": None}, "_attn_implementation_autoset": True},
    ),
    ("tokenizer_config.json", {"auto_map": {}}),
    ("tokenizer_config.json", {"description": "auto_map and trust_remote_code are only words here"}),
]


@pytest.mark.parametrize(("name", "entries"), HARMLESS, ids=str)
def test_a_key_that_asks_for_nothing_may_pass_and_code_beside_it_is_not_run(
    tiny, tmp_path, marker, name, entries
):
    loaded = load_model(str(with_entries(tiny, tmp_path / "model", name, entries, marker)))
    assert (
        len(loaded.blocks) == 6 and loaded.model.config._attn_implementation == "sdpa" and not marker.exists()
    )


def test_a_chat_template_is_not_rendered_at_load(tiny, tmp_path):
    """This one would run for hours."""
    endless = (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor "
        "%}{% endfor %}{% endfor %}"
    )
    folder = with_entries(tiny, tmp_path / "model", "tokenizer_config.json", {"chat_template": endless})
    began = spent()
    assert load_model(str(folder)).tokenizer.chat_template == endless and spent() - began < 5
