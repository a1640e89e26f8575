"""The proof of a GGUF file without blocks: what is right passes, each thing that can be wrong is found."""

import signal
import subprocess

import gguf
import pytest

from core.errors import InputError
from core.export import verify
from core.export.gguf import llama_cpp
from core.export.gguf import proof as gguf_proof
from core.export.gguf.blocks import write_gguf
from core.export.gguf.llama_cpp import LLAMA_CPP, Next
from core.export.gguf.proof import prove, prove_gguf
from core.export.gguf.same import is_plain, write_float32
from core.model.load import load_model
from tests.export.gguf.tiny_hybrids import gemma3, lfm2, qwen35
from tests.weights.tiny_gguf import model_of, write


def llama(path, kind="F32"):
    return write(path, model_of("llama", 4), kind)


CASES = {  # some that change what a file must say of its blocks
    "llama": (llama, (0, 2)),
    "gemma3": (gemma3, (1, 3)),
    "lfm2": (lfm2, (1, 2)),
    "qwen35": (qwen35, (0, 5)),
}


@pytest.fixture
def pruned(tmp_path):
    """(source, the file without its blocks 0 and 2)."""
    source = llama(tmp_path / "source.gguf", "Q8_0")
    write_gguf(source, (0, 2), tmp_path / "out.gguf")
    return source, tmp_path / "out.gguf"


@pytest.fixture
def no_llama_cpp(monkeypatch):
    monkeypatch.setattr(llama_cpp, "at_hand", lambda: False)


@pytest.mark.parametrize("name", CASES)
def test_a_file_without_blocks_is_the_gated_model(name, tmp_path, no_llama_cpp):
    make, removed = CASES[name]
    source = make(tmp_path / "source.gguf", "Q8_0")
    write_gguf(source, removed, tmp_path / "out.gguf")
    found = prove(source, tmp_path / "out.gguf", removed)
    tensors = len(gguf.GGUFReader(tmp_path / "out.gguf").tensors)
    assert found == {"problem": None, "tensors": tensors, "difference": 0.0, "llama_cpp": "not run here"}
    assert sorted(p.name for p in tmp_path.glob("*.gguf")) == ["out.gguf", "source.gguf"]


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
@pytest.mark.parametrize("name", CASES)
def test_llama_cpp_reads_it_as_transformers_does(name, kind, tmp_path):
    pytest.importorskip(LLAMA_CPP, reason="xllamacpp is not installed (pip install xllamacpp, 34 MB)")
    make, removed = CASES[name]
    source = make(tmp_path / "source.gguf", kind)
    write_gguf(source, removed, tmp_path / "out.gguf")
    found = prove(source, tmp_path / "out.gguf", removed)
    assert found["llama_cpp"].startswith("continues with the same tokens")
    assert ("quantised" in found) == (kind == "Q8_0")


def test_it_is_proved_in_a_fresh_process(pruned):
    source, out = pruned
    found = prove_gguf(source, out, (0, 2))
    assert found["difference"] == 0.0 and found["tensors"] == 3 + 2 * 9 and "problem" not in found


@pytest.mark.parametrize(
    ("out", "err", "words"),
    [
        ('noise\n{"problem": "its logits differ"}', "", "failed verification and was not kept: its logits"),
        ("", "a\nGGML_ASSERT(buffer) failed\n[detached]", r"could not be verified: GGML_ASSERT\(buffer\)"),
        ("", "Killed", "could not be verified: Killed"),
        ("", "", "could not be verified: no output"),
    ],
)
def test_what_the_fresh_process_says_is_told(pruned, monkeypatch, out, err, words):
    done = subprocess.CompletedProcess([], 0, out, err)
    monkeypatch.setattr(verify.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(RuntimeError, match=words):
        prove_gguf(*pruned, (0, 2))
    done.returncode = -signal.SIGKILL  # not its fault: what was copied stays for who goes on
    with pytest.raises(InputError, match="runs out of memory; free some"):
        prove_gguf(*pruned, (0, 2))


def changed(file, before: bytes, after: bytes):
    """One of its bytes is another."""
    content = file.read_bytes()
    assert content.count(before) == 1 and len(before) == len(after)
    file.write_bytes(content.replace(before, after))


def test_what_is_wrong_with_the_bytes_is_found(pruned, tmp_path, no_llama_cpp):
    source, out = pruned
    whole = out.read_bytes()
    tensor = next(t for t in gguf.GGUFReader(out).tensors if t.name == "blk.1.ffn_up.weight")
    at = tensor.data_offset + 40
    out.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(RuntimeError, match="the tensor 'blk.1.ffn_up.weight' is not the one of the original"):
        prove(source, out, (0, 2))
    with pytest.raises(RuntimeError, match="the entry 'llama.block_count' says 2"):
        prove(source, out, (0,))
    for before, after, words in (
        (b"blk.1.ffn_up.weight", b"blk.1.ffn_xp.weight", "'blk.1.ffn_up.weight' is missing or left over"),
        (b"tiny llama", b"tony llama", "the entry 'general.name' says tony llama"),
        (b"llama.context_length", b"llama.kontext_length", "is missing or left over"),
    ):
        out.write_bytes(whole)
        changed(out, before, after)
        with pytest.raises(RuntimeError, match=words):
            prove(source, out, (0, 2))
    out.write_bytes(whole[:-4000])
    with pytest.raises((RuntimeError, ValueError)):
        prove(source, out, (0, 2))


def test_another_model_is_found(pruned, tmp_path, no_llama_cpp, monkeypatch):
    """Were the bytes right and the numbers of the blocks not."""
    source, _ = pruned
    write_gguf(source, (1, 2), tmp_path / "other.gguf")
    monkeypatch.setattr(gguf_proof, "same_bytes", lambda *_: 0)
    with pytest.raises(RuntimeError, match="its logits differ from the gated model's by"):
        prove(source, tmp_path / "other.gguf", (0, 2))


def test_the_same_model_in_float32(pruned, tmp_path):
    _, out = pruned
    write_float32(out, tmp_path / "exact.gguf")
    assert is_plain(tmp_path / "exact.gguf") and not is_plain(out)
    new = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "exact.gguf").tensors}
    for tensor in gguf.GGUFReader(out).tensors:
        assert (new[tensor.name] == gguf.dequantize(tensor.data, tensor.tensor_type)).all()


# what llama.cpp says, by a stand-in: the package is not required


@pytest.fixture
def said(pruned, monkeypatch):
    """A llama.cpp that says what transformers says of a file, but for what is put into the dict."""
    wrong: dict = {}

    def next_tokens(path, ids, start):
        own = path.name if path.name != "float32.gguf" else "exact"
        model = load_model(str(path)).model
        costs = llama_cpp.by_transformers(model, ids)[start - 1 :]
        found = [Next(token, {token: cost}) for token, cost in zip(ids[start:], costs)]
        return wrong.get(own, lambda found: found)(found)

    monkeypatch.setattr(llama_cpp, "at_hand", lambda: True)
    monkeypatch.setattr(llama_cpp, "next_tokens", next_tokens)
    return wrong


def other_tokens(found):
    return [Next(token + 1, likely) for token, likely in found]


def untold(found):
    return [Next(None, {}) for _ in found]


def costlier(found):
    return [Next(token, {k: v - 0.5 for k, v in likely.items()}) for token, likely in found]


def test_what_llama_cpp_says_is_held_against_transformers(pruned, said):
    source, out = pruned
    same = "continues with the same tokens from the same numbers in float32"
    assert prove(source, out, (0, 2))["llama_cpp"] == same
    said["out.gguf"] = costlier
    with pytest.raises(RuntimeError, match="its tokens are 0.5 nats off, and those of the original 0"):
        prove(source, out, (0, 2))
    said["source.gguf"] = costlier  # it costs the original as much
    assert prove(source, out, (0, 2))["quantised"] == pytest.approx([0.5, 0.5])
    said["exact"] = untold
    assert prove(source, out, (0, 2))["llama_cpp"] == same


@pytest.mark.parametrize(("how", "words"), [(other_tokens, "continues with the token"), (costlier, "costs")])
def test_other_tokens_are_told_and_whose_fault_it_is(pruned, said, monkeypatch, how, words):
    source, out = pruned
    said["exact"] = how
    monkeypatch.setattr(gguf_proof, "_agrees", lambda *_: True)
    with pytest.raises(RuntimeError, match=words):
        prove(source, out, (0, 2))
    monkeypatch.undo()


def test_of_a_file_that_llama_cpp_reads_otherwise_from_the_start(pruned, said):
    source, out = pruned
    said["exact"] = other_tokens
    found = prove(source, out, (0, 2))["llama_cpp"]
    assert found == "continues with other tokens than transformers, as it does for the original"


def test_a_source_that_cannot_be_loaded(pruned, tmp_path, monkeypatch):
    source, out = pruned

    def fail(*_, **__):
        raise InputError("It needs 12 GB, and 8 are free.")

    monkeypatch.setattr(gguf_proof, "load_model", fail)
    with pytest.raises(InputError, match="needs 12 GB"):
        prove(source, out, (0, 2))
