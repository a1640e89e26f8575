"""GGUF files: read as the package gguf dequantises them; what is damaged or foreign gets one sentence."""

import random
import re
import shutil
import struct
import time

import gguf
import numpy as np
import pytest
import torch

from core.calibration.gradient_rows import gradient_rows
from core.errors import InputError
from core.export.write import prune
from core.jobs.requests import request_of
from core.model.load import load_model
from core.model.memory import calibration_bytes
from core.weights.find import find_weights
from core.weights.gguf_copy import read_content
from core.weights.gguf_files import architectures
from tests.weights.tiny_gguf import model_of, tensors_of, write

IDS = torch.arange(3, 43)[None]


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """(the model, the file of its weights in Q8_0)."""
    model = model_of("llama")
    return model, write(tmp_path_factory.mktemp("gguf") / "tiny.gguf", model, "Q8_0")


@pytest.mark.parametrize("quantisation", ["Q8_0", "Q4_1", "F16"])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_logits_are_those_of_the_dequantised_weights(tmp_path, kind, quantisation):
    model = model_of(kind)
    path = write(tmp_path / "m.gguf", model, quantisation)
    whole = tensors_of(model)  # names in the order of the state
    stored = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}
    names = dict(zip(model.state_dict(), whole))
    heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}

    def back(name: str) -> torch.Tensor:
        array = np.asarray(stored[names[name]], dtype=np.float32)
        count = next((n for part, n in heads.items() if part in names[name]), None)
        if kind == "llama" and count:  # pairs to halves
            array = array.reshape(count, -1, 2, *array.shape[1:]).swapaxes(1, 2)
        return torch.from_numpy(array.copy()).reshape(model.state_dict()[name].shape)

    before = logits(model)
    model.load_state_dict({name: back(name) for name in model.state_dict()})
    loaded = load_model(str(path))
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32} and len(loaded.blocks) == 3
    assert (logits(loaded.model) - logits(model)).abs().max() <= 1e-5 * logits(model).abs().max()
    assert (logits(loaded.model) - before).abs().max() > 1e-4  # the numbers of the file, not the first ones


def test_unquantised_weights_are_the_models_own(tmp_path):
    model = model_of("llama")
    loaded = load_model(str(write(tmp_path / "m.gguf", model)))
    assert torch.equal(logits(loaded.model), logits(model))
    assert loaded.files.stored().dtype == torch.float32 == loaded.files.written()


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def test_scaled_positions_are_the_models(tmp_path):
    plain = logits(model_of("llama"))
    model = model_of("llama", rope_parameters=LLAMA3)
    unscaled = model_of("llama").model.rotary_emb.inv_freq
    factors = {"rope_freqs.weight": (unscaled / model.model.rotary_emb.inv_freq).numpy().astype(np.float32)}
    loaded = load_model(str(write(tmp_path / "llama3.gguf", model, more=factors)))
    expected = logits(model)
    assert (logits(loaded.model) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (plain - expected).abs().max() > 1e-3
    model = model_of("llama", rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0})
    scaling = {"llama__rope__scaling__type": "linear", "llama__rope__scaling__factor": 4.0}
    expected, loaded = logits(model), load_model(str(write(tmp_path / "linear.gguf", model, **scaling)))
    assert (logits(loaded.model) - expected).abs().max() <= 1e-5 * expected.abs().max()
    strange = write(tmp_path / "strange.gguf", model, llama__rope__scaling__type="spiral")
    refused(strange, "scaled in a way not known here, 'spiral'")


def test_the_tokenizer_is_the_files(tmp_path, llama):
    _, path = llama
    tokenizer = load_model(str(path)).tokenizer
    text = "the lazy fox"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.get_chat_template() and tokenizer.eos_token == "<|im_end|>"
    assert tokenizer(text)["input_ids"][0] != tokenizer.bos_token_id
    with_bos = load_model(str(write(tmp_path / "bos.gguf", model_of("llama"), bos=True))).tokenizer
    assert with_bos(text)["input_ids"][0] == with_bos.bos_token_id


def test_a_second_load_reads_what_the_first_kept_and_is_the_same(llama):
    _, path = llama
    first, began = load_model(str(path)), time.process_time()
    kept = find_weights(str(path)).arguments()
    assert "gguf_file" not in kept and time.process_time() - began < 5
    again = load_model(str(path))
    assert first.digest() == again.digest() and first.weights_bytes() == path.stat().st_size
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), again.model.parameters()))
    assert again.model.config.to_dict().get("quantization_config") is None


def test_a_file_its_folder_and_a_copy_are_one_model(tmp_path, llama):
    _, path = llama
    copy = tmp_path / "elsewhere" / "other-name.gguf"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    digests = [load_model(str(place)).digest() for place in (path, path.parent, copy)]
    assert digests[0] == digests[1] == digests[2]
    assert request_of(str(path))["inputs"] != request_of(str(copy))["inputs"]
    assert [file[0] for file in request_of(str(copy.parent))["inputs"][str(copy.parent)]] == [copy.name]


def test_split_files_are_one(tmp_path, llama):
    model, path = llama
    for number in range(3):
        write(tmp_path / f"tiny-{number + 1:05d}-of-00003.gguf", model, "Q8_0", part=(number, 3))
    whole = logits(load_model(str(path)).model)
    for place in (tmp_path, tmp_path / "tiny-00002-of-00003.gguf"):
        loaded = load_model(str(place))
        assert torch.equal(logits(loaded.model), whole) and len(loaded.digest()["weights"]) == 3
    first = str(tmp_path / "tiny-00001-of-00003.gguf")
    before = request_of(first)["inputs"][first]
    assert [name for name, *_ in before] == [file.name for file in sorted(tmp_path.glob("tiny-*"))]
    for file in tmp_path.glob("tiny-*"):  # other weights under the same names and sizes
        for piece in read_content([file]).pieces:
            with open(file, "r+b") as f:
                f.seek(piece.at)
                f.write(bytes(piece.tensor.bytes))
    assert not logits(load_model(str(tmp_path)).model).any()
    (tmp_path / "tiny-00003-of-00003.gguf").unlink()
    refused(tmp_path, "1 of them are not beside it, the first 'tiny-00003-of-00003.gguf'")


def test_rows_memory_and_export_work_on_it(tmp_path, llama):
    _, path = llama
    loaded = load_model(str(path))
    stored = sum(t.n_bytes for t in gguf.GGUFReader(path).tensors if t.name.startswith("blk.1."))
    assert loaded.blocks[1].bytes == stored < loaded.blocks[1].parameters * 2
    rows = gradient_rows(loaded, IDS)[0]
    assert rows.shape == (1, 3) and np.isfinite(rows).all()
    assert calibration_bytes(str(path), 2, 32) > 0
    done = prune(str(path), [1], tmp_path / "out")
    pruned = load_model(str(tmp_path / "out"))
    assert done.blocks == (3, 2) and pruned.tokenizer_digest() == loaded.tokenizer_digest()
    assert not (tmp_path / "out" / "tiny.gguf").exists()
    assert pruned.tokenizer.get_chat_template() == loaded.tokenizer.get_chat_template()


def refused(place, *words: str) -> str:
    """The sentence that a model is refused with."""
    with pytest.raises(InputError) as found:
        load_model(str(place))
    sentence = str(found.value)
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence and sentence.endswith(".")
    return sentence


def test_foreign_files(tmp_path, llama):
    _, path = llama
    content = path.read_bytes()
    cases = {
        "empty.gguf": (b"", "does not begin with the letters GGUF"),
        "text.gguf": (b"once upon a time", "does not begin with the letters GGUF"),
        "old.gguf": (content[:4] + struct.pack("<I", 1) + content[8:], "is of version 1"),
        "cut-header.gguf": (content[:400], ""),
        "cut-tensors.gguf": (content[:-5000], "is cut off"),
        "model.bin": (b"once upon a time", "of files only .gguf"),
    }
    for name, (data, words) in cases.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, words)
    refused(tmp_path / "none.gguf", "No model folder or file")
    refused(tmp_path, "GGUF files; name one of them")
    (tmp_path / "nothing").mkdir()
    refused(tmp_path / "nothing", "no config.json and no .gguf file")


def test_claimed_sizes_take_neither_time_nor_memory(tmp_path, llama):
    """Each number of the first kilobyte that could be a length, as large as it can be."""
    _, path = llama
    content, began = path.read_bytes(), time.process_time()
    name = (
        content.index(b"tokenizer.ggml.tokens") + len(b"tokenizer.ggml.tokens") + 8
    )  # the length of the array
    for at in (8, 16, 24, name):
        for claim in (2**63, 2**40, 2**31):
            (tmp_path / "m.gguf").write_bytes(content[:at] + struct.pack("<Q", claim) + content[at + 8 :])
            refused(tmp_path / "m.gguf", "m.gguf")
    assert time.process_time() - began < 5


def test_unknown_kinds_are_told_with_what_is_known(tmp_path, llama):
    model, path = llama
    content = path.read_bytes()
    strange = tmp_path / "strange.gguf"
    strange.write_bytes(content.replace(b"llama", b"lamma"))
    assert set(architectures()) >= {"llama", "qwen2", "qwen3moe", "gpt2"}
    refused(strange, "architecture 'lamma'", ", ".join(architectures()))
    wrong = write(tmp_path / "blocks.gguf", model_of("llama"), llama__block_count=1000)
    refused(wrong, "says that it has 1000 blocks and holds 3")


def test_two_hundred_flipped_bits(tmp_path, llama):
    """Each file is read, or refused in one sentence; GGUF has no checksum, so another weight is no fault."""
    _, path = llama
    content, generator, header = path.read_bytes(), random.Random(0), find_weights(str(path)).header.size
    loads = 0
    for number in range(200):
        at = generator.randrange(header if number % 4 else len(content))
        flipped = bytearray(content)
        flipped[at] ^= 1 << generator.randrange(8)
        file = tmp_path / f"{number}.gguf"
        file.write_bytes(flipped)
        try:
            find_weights(str(file))
            if number % 10 == 0:
                load_model(str(file))
            loads += 1
        except InputError as error:
            assert re.fullmatch(r"[^\n]+\.", str(error)), number
        file.unlink()
    assert 20 < loads < 190
