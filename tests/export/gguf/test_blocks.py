"""Whole blocks out of a GGUF file: its own bytes in a new file, whole or not at all, the source untouched."""

import errno
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from core.errors import InputError
from core.export.gguf import blocks as gguf_blocks
from core.export.gguf.blocks import plan_gguf, write_gguf
from core.export.gguf.plan import KNOWN
from core.export.gguf.same import same_bytes
from core.store.named_models import missing, place_of
from core.weights.gguf_files import architectures
from tests.export.gguf.tiny_hybrids import gemma3, lfm2, qwen35
from tests.weights.tiny_gguf import model_of, write, write_random

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    """A Llama of five blocks in Q8_0."""
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf", model_of("llama", 5), "Q8_0")


@pytest.fixture(autouse=True)
def untouched(llama):
    """Whatever happens to a source in a test, its bytes and what lies beside it stay."""
    before = digest(llama), llama.stat().st_mtime_ns
    yield
    assert (digest(llama), llama.stat().st_mtime_ns) == before
    assert [p.name for p in llama.parent.iterdir()] == ["tiny.gguf"]


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def said(file: Path) -> dict:
    return {name: field.contents() for name, field in gguf.GGUFReader(file).fields.items()}


def refused(source: Path, removed, file: Path, *words: str) -> None:
    """With one sentence, and nothing is in the folder of `file` that was not there."""
    before = sorted(file.parent.iterdir())
    with pytest.raises(InputError) as found:
        write_gguf(source, removed, file)
    sentence = str(found.value)
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence and sentence.endswith(".") and sorted(file.parent.iterdir()) == before


def test_what_stays_is_the_same_bytes_under_new_numbers(llama, tmp_path):
    told: list[tuple[int, int]] = []
    out = tmp_path / "new" / "out.gguf"
    cut = write_gguf(llama, (1, 3), out, lambda done, total, message: told.append((done, total)))
    assert cut == plan_gguf(llama, [3, 1]) and cut.changes == {"llama.block_count": (5, 3)}
    assert cut.blocks == (5, 3) and cut.bytes == (llama.stat().st_size, out.stat().st_size)
    old = {t.name: t for t in gguf.GGUFReader(llama).tensors}
    new = {t.name: t for t in gguf.GGUFReader(out).tensors}
    assert len(new) == 3 + 3 * 9 == same_bytes(llama, out, (1, 3))
    for b, n in {0: 0, 2: 1, 4: 2}.items():
        was, now = old[f"blk.{b}.ffn_down.weight"], new[f"blk.{n}.ffn_down.weight"]
        assert now.tensor_type == gguf.GGMLQuantizationType.Q8_0 and now.data.tobytes() == was.data.tobytes()
    assert all(t.data_offset % 32 == 0 for t in new.values())
    assert cut.parameters[1] == sum(t.n_elements for t in new.values()) < cut.parameters[0]
    assert told == sorted(told) and told[-1] == (cut.bytes[1],) * 2 and len(told) > len(new)


def test_every_list_of_blocks_is_cut_and_no_other(tmp_path):
    """A list that is as long as there are blocks need not be of blocks."""
    lists = {
        "attention.head_count": [4, 5, 6, 7],
        "attention.head_count_kv": [1, 2, 3, 4],
        "feed_forward_length": [96, 97, 98, 99],
        "attention.sliding_window_pattern": [True, False, False, True],
        "rope.freq_base_by_block": [1.5, 2.5, 3.5, 4.5],
        "expert_count": [0, 8, 8, 8],
    }
    others = {"rope.dimension_sections": [2, 1, 1, 0], "other": [1, 2, 3], "leading_dense_block_count": 2}
    shapes = {f"blk.{b}.attn_norm.weight": (8 + b,) for b in range(4)} | {"token_embd.weight": (0, 8)}
    source = write_random(tmp_path / "lists.gguf", "llama", {"block_count": 4, **lists, **others}, shapes)
    cut = write_gguf(source, (0, 2), tmp_path / "out.gguf")
    found = said(tmp_path / "out.gguf")
    for name, values in lists.items():
        assert found[f"llama.{name}"] == [values[1], values[3]] == cut.changes[f"llama.{name}"][1]
    assert found["llama.rope.dimension_sections"] == [2, 1, 1, 0] and found["llama.other"] == [1, 2, 3]
    assert found["llama.leading_dense_block_count"] == 1 and found["llama.block_count"] == 2
    sizes = {t.name: t.n_elements for t in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert (sizes["blk.0.attn_norm.weight"], sizes["blk.1.attn_norm.weight"]) == (9, 11)


def test_windows_are_told_one_by_one_where_every_sixth_no_longer_says_it(tmp_path):
    source, key = gemma3(tmp_path / "source.gguf", blocks=12), "gemma3.attention.sliding_window_pattern"
    assert key not in plan_gguf(source, range(1, 7)).changes  # with six in a row gone it is every sixth again
    for removed in ((5, 11), (0,), (3, 9)):
        kept = [b for b in range(12) if b not in removed]
        assert plan_gguf(source, removed).changes[key] == (None, [(b + 1) % 6 != 0 for b in kept])
    write_gguf(source, (0,), tmp_path / "out.gguf")
    again = plan_gguf(tmp_path / "out.gguf", (0, 4))
    assert again.changes[key][1] == [(b + 1) % 6 != 0 for b in (2, 3, 4, 6, 7, 8, 9, 10, 11)]
    named = gemma3(tmp_path / "named.gguf", attention__sliding_window_pattern=3)
    assert plan_gguf(named, (0, 1, 2)).changes.keys() == {"gemma3.block_count"}
    assert plan_gguf(named, (4,)).changes[key] == (3, [True, True, False, True, False])


def test_blocks_for_drafting_go_and_the_interval_of_attention_becomes_a_list(tmp_path):
    source = qwen35(tmp_path / "source.gguf")
    cut = write_gguf(source, (0,), tmp_path / "out.gguf")
    recurrent = [True, True, False, True, True, True, False]
    assert cut.blocks == (8, 7) and cut.changes == {
        "qwen35.block_count": (9, 7),
        "qwen35.nextn_predict_layers": (1, 0),
        "qwen35.attention.recurrent_layers": (None, recurrent),
    }
    names = {t.name for t in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert not any("nextn" in name or name.startswith("blk.7.") for name in names)
    assert set(plan_gguf(source, range(4)).changes) == {"qwen35.block_count", "qwen35.nextn_predict_layers"}
    with pytest.raises(InputError, match="each of 0 to 7"):
        plan_gguf(source, (8,))


def test_a_hybrid_keeps_a_block_of_each_kind(tmp_path):
    source, out = lfm2(tmp_path / "lfm2.gguf"), tmp_path / "out.gguf"
    assert plan_gguf(source, (1, 2)).changes["lfm2.attention.head_count_kv"][1] == [0, 0, 2, 0]
    refused(source, (2, 4), out, "none left with full attention", "keep one of the blocks [2, 4]")
    refused(source, (0, 1, 3, 5), out, "none left without full attention", "[0, 1, 3, 5]")
    refused(qwen35(tmp_path / "q.gguf"), (3, 7), out, "none left with full attention", "[3, 7]")
    refused(gemma3(tmp_path / "g.gguf"), range(5), out, "none left without full attention")


def test_what_llama_cpp_reads_off_the_number_of_blocks_is_refused(tmp_path):
    """It would scale attention otherwise, without a word."""
    shapes = {f"blk.{b}.attn_norm.weight": (8,) for b in range(46)}
    own = {"block_count": 46, "embedding_length": 4608, "attention.head_count": 32}
    for head, fits in ((128, False), (144, True)):
        file = write_random(tmp_path / "large.gguf", "gemma2", {**own, "attention.key_length": head}, shapes)
        if fits:
            assert plan_gguf(file, (44, 45)).blocks == (46, 44)
        else:
            refused(file, (44, 45), tmp_path / "out.gguf", "has 46 blocks and would have 44", "is scaled")


def test_only_architectures_whose_files_can_be_proved_are_known():
    assert set(architectures()) > KNOWN


def test_a_split_file_is_read_as_one_and_written_whole(tmp_path, llama):
    parts = [
        write(tmp_path / f"tiny-{n + 1:05d}-of-00003.gguf", model_of("llama", 5), "Q8_0", part=(n, 3))
        for n in range(3)
    ]
    whole = write_gguf(llama, (0, 4), tmp_path / "whole.gguf")
    for part in parts:
        out = tmp_path / f"of-{part.name[5:10]}.gguf"
        cut = write_gguf(part, (0, 4), out)
        assert (cut.blocks, cut.parameters, cut.bytes[1]) == (whole.blocks, whole.parameters, whole.bytes[1])
        assert same_bytes(part, out, (0, 4)) == 3 + 3 * 9
        assert not any(name.startswith("split.") for name in said(out))
    parts[1].unlink()
    refused(parts[0], (0,), tmp_path / "out.gguf", "1 of them are not beside it")


# what goes wrong


def test_bad_blocks_and_foreign_files(tmp_path, llama):
    out, content = tmp_path / "out.gguf", llama.read_bytes()
    refused(llama, (), out, "No blocks to remove")
    refused(llama, range(5), out, "All 5 blocks")
    refused(llama, (5,), out, "0 to 4")
    refused(llama, (1, 1), out, "at most once")
    for name, data, words in (
        ("text", b"once upon a time", "is no GGUF file"),
        ("header", content[:900], "take it anew from its origin"),
        ("tensors", content[:-4000], "is cut off"),
        ("big-endian", content[:4] + content[4:8][::-1] + content[8:], "is of version"),
    ):
        file = tmp_path / f"{name}.gguf"
        file.write_bytes(data)
        refused(file, (1,), out, words, str(file))
    refused(tmp_path / "none.gguf", (1,), out, "cannot be read", "none.gguf")
    strange = write_random(tmp_path / "s.gguf", "t5", {"block_count": 1}, {"blk.0.attn_norm.weight": (8,)})
    refused(strange, (0,), out, "the architecture 't5'", "llama-quantize --prune-layers")
    short = write_random(tmp_path / "n.gguf", "llama", {"block_count": 3}, {"blk.0.attn_norm.weight": (8,)})
    refused(short, (0,), out, "says that it has 3 blocks", "holds 1")


def test_a_target_that_is_there_stays(tmp_path, llama):
    file, folder, link = tmp_path / "a.gguf", tmp_path / "folder", tmp_path / "link.gguf"
    file.write_text("mine")
    folder.mkdir()
    link.symlink_to(tmp_path / "nowhere")
    for target in (file, folder, link, llama):
        refused(llama, (1,), target, "already exists")
    assert file.read_text() == "mine" and link.is_symlink() and not (tmp_path / "nowhere").exists()


def test_a_place_that_cannot_be_written(tmp_path, llama):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written .*name another place"):
        write_gguf(llama, (1,), tmp_path / "file" / "out.gguf")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_in_the_middle(tmp_path, llama, code):
    def fail(done: int, total: int, message: str) -> None:
        if done > total / 2:
            raise OSError(code, os.strerror(code))

    with pytest.raises(
        InputError, match=rf"could not be written \({os.strerror(code)}\) and nothing is left"
    ):
        write_gguf(llama, (1,), tmp_path / "out.gguf", fail)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_small_is_told_before(tmp_path, llama, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(gguf_blocks.shutil, "disk_usage", lambda place: usage)
    refused(llama, (1,), tmp_path / "out.gguf", "0.00 GB are free there")


def test_a_source_that_shrinks_meanwhile(tmp_path, llama):
    source, out = tmp_path / "source.gguf", tmp_path / "out.gguf"
    shutil.copy(llama, source)

    def cut(done: int, total: int, message: str) -> None:
        os.truncate(source, 9000)

    with pytest.raises(InputError, match="is cut off"):
        write_gguf(source, (1,), out, cut)
    assert list(tmp_path.iterdir()) == [source]


def test_cancelled_nothing_is_left(tmp_path, llama):
    def stop(done: int, total: int, message: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_gguf(llama, (1,), tmp_path / "out.gguf", stop)
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from core.export.gguf.blocks import write_gguf
def die(done, total, message):
    if done > total * float(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
write_gguf(Path(sys.argv[1]), (1,), Path(sys.argv[2]), die)
"""


def test_killed_there_is_no_file_and_the_next_one_is_whole(tmp_path, llama):
    out = tmp_path / "out.gguf"
    for share in (0.2, 0.9, 0.999999):
        done = subprocess.run([sys.executable, "-c", KILLED, llama, out, str(share)], cwd=ROOT)
        assert done.returncode == -signal.SIGKILL and not out.exists()
        assert [p.name for p in tmp_path.iterdir()] == [".out.gguf.part"]
    write_gguf(llama, (1,), out)
    assert list(tmp_path.iterdir()) == [out] and same_bytes(llama, out, (1,)) == 3 + 4 * 9


def test_two_do_not_write_one_file(tmp_path, llama):
    out, other = tmp_path / "out.gguf", tmp_path / ".out.gguf.part"
    with open(other, "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused(llama, (1,), out, "is being written by another process")
    write_gguf(llama, (1,), out)
    assert list(tmp_path.iterdir()) == [out]


LIGHT = """
import re, sys, time
from pathlib import Path
from core.export.gguf.blocks import write_gguf
began = time.process_time()
write_gguf(Path(sys.argv[1]), (3, 7), Path(sys.argv[2]))
heavy = {"torch", "transformers"} & set(sys.modules)
most = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(bool(heavy), time.process_time() - began, int(most) * 1024)
"""


def light(source: Path, out: Path) -> tuple[float, int]:
    """(seconds, bytes of memory at most) of a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, source, out], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy, seconds, memory = done.stdout.split()
    assert heavy == "False"
    return float(seconds), int(memory)


def test_neither_time_nor_memory_grow_with_the_file(tmp_path):
    """Twelve blocks of 8 MB through a few megabytes."""
    shapes = {f"blk.{b}.ffn_up.weight": (1024, 2048) for b in range(12)}
    source = write_random(tmp_path / "source.gguf", "llama", {"block_count": 12}, shapes)
    seconds, memory = light(source, tmp_path / "out.gguf")
    assert seconds < 10 and memory < 90e6 < source.stat().st_size


def test_smollm2_takes_seconds_and_little_memory(tmp_path):
    if lacking := missing("smollm2"):
        pytest.skip(lacking)
    seconds, memory = light(place_of("smollm2"), tmp_path / "out.gguf")
    assert seconds < 10 and memory < 300e6
    assert np.isclose((tmp_path / "out.gguf").stat().st_size, 93.9e6, rtol=0.01)
