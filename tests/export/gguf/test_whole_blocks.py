"""A GGUF file without blocks as an export: the folder that `prune` writes, or nothing."""

import json

import pytest

from core.errors import InputError
from core.export.gguf import proof as gguf_proof
from core.export.gguf import whole_blocks as of_gguf
from core.export.gguf.deci import FILE
from core.export.gguf.plan import cached_numbers
from core.export.gguf.proof import prove
from core.export.gguf.same import same_bytes
from core.export.write import prune
from core.forms.record import is_export_of
from core.jobs.requests import request_of
from core.model.load import load_model
from core.weights.gguf_header import read_header
from tests.export.gguf.tiny_hybrids import gemma3, lfm2, qwen35
from tests.weights.tiny_gguf import model_of, write


@pytest.fixture
def llama(tmp_path):
    return write(tmp_path / "tiny.gguf", model_of("llama", 4), "Q8_0")


@pytest.fixture
def proved(monkeypatch):
    """The proof without the fresh process, which test_proof.py starts."""
    monkeypatch.setattr(of_gguf, "prove_gguf", prove)


def test_it_is_an_export_like_others(llama, tmp_path, proved):
    out, told = tmp_path / "out", []
    done = prune(str(llama), [2, 0], out, form="gguf", report=lambda *state: told.append(state))
    said, whole = done.to_json(), load_model(str(llama))
    assert same_bytes(llama, out / FILE, (0, 2)) == 3 + 2 * 9
    assert (said["form"], said["blocks"], said["removed"]) == ("gguf", [4, 2], [0, 2]) and said["verified"]
    assert said["config"] == [["llama.block_count", 4, 2]] and said["proof"] == "logits"
    assert said["bytes"] == [llama.stat().st_size, (out / FILE).stat().st_size]
    assert said["parameters"][0] == whole.parameters() and done.largest_difference == 0.0
    assert said["kv_bytes"] == [sum(b.kv_bytes for b in whole.blocks[:n]) for n in (4, 2)]
    assert sorted(p.name for p in out.iterdir()) == ["README.md", "blockscape.json", FILE]
    record = json.loads((out / "blockscape.json").read_text())
    assert (
        record["form"] == "gguf" and record["kept"] == [1, 3] and set(record["files"]) == {"README.md", FILE}
    )
    assert is_export_of(out, str(llama), (0, 2), "gguf") and not is_export_of(out, str(llama), (0, 2))
    assert len(load_model(str(out)).blocks) == 2
    assert any("writing" in message and total == said["bytes"][1] for _, total, message in told)


def test_a_split_file_goes_the_same_way(llama, tmp_path, proved):
    for n in range(2):
        write(tmp_path / f"s-{n + 1:05d}-of-00002.gguf", model_of("llama", 4), "Q8_0", part=(n, 2))
    done = prune(str(tmp_path / "s-00002-of-00002.gguf"), [1], tmp_path / "out", form="gguf")
    assert done.bytes[1] == prune(str(llama), [1], tmp_path / "whole", form="gguf").bytes[1]


def test_links_such_as_the_hubs_cache_has_keep_the_names_of_the_parts(tmp_path):
    """They lead to files that are called by their digests; the proof is a process of its own."""
    for n in range(2):
        name = f"s-{n + 1:05d}-of-00002.gguf"
        write(tmp_path / name, model_of("llama", 4), "Q8_0", part=(n, 2)).rename(tmp_path / f"digest{n}")
        (tmp_path / name).symlink_to(tmp_path / f"digest{n}")
    source = request_of(str(tmp_path / "s-00001-of-00002.gguf"))["model"]
    assert prune(source, [1], tmp_path / "out", form="gguf").blocks == (4, 3)


@pytest.mark.parametrize("make", [gemma3, lfm2, qwen35])
def test_what_is_kept_of_a_token_is_read_off_the_header(tmp_path, make):
    file = make(tmp_path / "tiny.gguf")
    loaded = load_model(str(file))
    numbers = cached_numbers(file, read_header(file))[: len(loaded.blocks)]
    assert [4 * n for n in numbers] == [block.kv_bytes for block in loaded.blocks]


def test_what_an_older_llama_cpp_would_pass_over_is_told(tmp_path, proved):
    source = gemma3(tmp_path / "tiny.gguf", "Q8_0")
    told = [prune(str(source), [b], tmp_path / f"out{b}", form="gguf").llama_cpp for b in (0, 1)]
    assert all(words and "before October 2026 it may pass over the list" in words for words in told)
    every_third = gemma3(tmp_path / "third.gguf", "Q8_0", attention__sliding_window_pattern=3)
    done = prune(str(every_third), [0, 1, 2], tmp_path / "third", form="gguf")
    assert done.llama_cpp and "older" not in done.llama_cpp and "before" not in done.llama_cpp


def test_what_is_not_proved_is_not_kept(llama, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("its logits differ")

    monkeypatch.setattr(of_gguf, "prove_gguf", fail)
    with pytest.raises(RuntimeError, match="its logits differ"):
        prune(str(llama), [1], tmp_path / "out", form="gguf")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "home") == ["tiny.gguf"]
    with pytest.raises(InputError, match="0 to 3"):
        prune(str(llama), [4], tmp_path / "out", form="gguf")


def test_who_was_killed_before_the_proof_does_not_copy_again(llama, tmp_path, proved, monkeypatch):
    making = of_gguf.pruned(str(llama), [1], "gguf", False, lambda *_: None)
    making.write(tmp_path / "first", lambda *_: None, tmp_path / "shelf")
    monkeypatch.setattr(of_gguf, "write_gguf", lambda *_: pytest.fail("it is there"))
    making.write(tmp_path / "second", lambda *_: None, tmp_path / "shelf")
    assert (tmp_path / "second" / FILE).samefile(tmp_path / "first" / FILE)


def test_of_a_model_that_does_not_fit_the_bytes_are_proved(llama, tmp_path, monkeypatch):
    prune_out = tmp_path / "out.gguf"
    of_gguf.write_gguf(llama, (1,), prune_out)
    monkeypatch.setattr(gguf_proof, "free_memory", lambda: 1000)
    monkeypatch.setattr(gguf_proof, "load_model", lambda *_, **__: pytest.fail("it does not fit"))
    monkeypatch.setattr(gguf_proof.llama_cpp, "at_hand", lambda: False)
    told = {"difference": None, "proof": "tensors", "llama_cpp": "not run here"}
    assert prove(llama, prune_out, (1,)) == {"problem": None, "tensors": 3 + 3 * 9, **told}
