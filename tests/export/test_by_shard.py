"""Blocks removed from the files of a checkpoint: what comes by way of memory too, or one sentence."""

import itertools
import json
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from core.errors import InputError
from core.export import by_shard, shard_proof, write
from core.export.by_shard import plan_of, write_plan
from core.export.shard_proof import prove_by_shard
from core.forms.names import LOGITS, PORTABLE
from core.model.load import load_model
from core.model.skeleton import open_skeleton
from core.model.streamed import streamed
from core.model.surgery import remove_blocks
from core.store.runs import file_sha256
from core.weights.files import INDEX, WeightFiles
from tests import zoo
from tests.conftest import write_tiny
from tests.targets import SHARD, differs, targets, tensors_in
from tests.weights.tiny_gguf import model_of
from tests.weights.tiny_gguf import write as write_gguf

REMOVED = (1, 4)
# experts that are one tensor in memory, tied, hybrid, a text part in a model that reads images, periods
TYPES = ["mixtral", "gpt2", "nemotron_h", "gemma3", "jamba"]


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """The folder of a tiny Llama in several files."""
    root = tmp_path_factory.mktemp("cut")
    whole = write_tiny(root / "whole", "llama")
    model = AutoModelForCausalLM.from_pretrained(whole)
    model.save_pretrained(root / "cut", max_shard_size=SHARD)
    for file in whole.glob("tokenizer*"):
        shutil.copy(file, root / "cut")
    return root / "cut"


def nobody(done: int, total: int, message: str) -> None:
    """Nobody is told."""


def written(source: Path, out: Path, removed=REMOVED, form: str = "hf") -> Path:
    write_plan(plan_of(open_skeleton(str(source)), removed, form), out, nobody)
    return out


def digests(folder: Path) -> dict[str, str]:
    return {file.name: file_sha256(file) for file in folder.iterdir()}


@pytest.mark.parametrize("kind", TYPES)
def test_every_way_gives_the_same(kind):
    assert targets(kind) == {"memory": "", "shards": "", "portable": ""}


def test_a_checkpoint_goes_shard_by_shard_as_in_memory(cut, tmp_path, monkeypatch):
    before, told = digests(cut), []
    monkeypatch.chdir(cut.parent)  # a name from here is one for the process of the proof, too
    done = write.prune(
        cut.name, REMOVED, tmp_path / "out", by_shard=True, report=lambda *told_now: told.append(told_now)
    )
    other = write.prune(str(cut), REMOVED, tmp_path / "memory", by_shard=False)
    assert differs(tmp_path / "out", tmp_path / "memory") is None and digests(cut) == before
    for name in ("removed", "parameters", "blocks", "kv_bytes", "proof", "config"):
        assert getattr(done, name) == getattr(other, name), name
    assert done.proof == LOGITS and done.largest_difference < 1e-5
    shards = [tuple(load_file(file)) for file in sorted((tmp_path / "out").glob("*.safetensors"))]
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    assert 1 < len(shards) <= len(list(cut.glob("*.safetensors"))) and all(shards)
    assert index["weight_map"].keys() == {name for shard in shards for name in shard}
    size = index["metadata"]["total_size"]
    assert size == sum(t.nbytes for t in tensors_in(tmp_path / "out").values())
    copied = [now[0] for now in told if now[1] == size]
    assert copied == sorted(copied) and copied[-1] == size
    again = load_model(str(tmp_path / "out"))
    assert len(again.blocks) == 4 and again.tokenizer("fox")["input_ids"]


def test_what_lies_beside_the_weights_of_a_model_is_none_of_it(cut, tiny, tmp_path):
    """An index that an earlier save has left beside the one file; weights in a format of their own."""
    source = shutil.copytree(cut, tmp_path / "source")
    whole = load_file(tiny["llama"] / "model.safetensors")
    save_file({n: 2 * t for n, t in whole.items()}, source / "consolidated.safetensors")
    assert WeightFiles("x", source).stored() == WeightFiles("x", cut).stored()
    save_file({n: 3 * t for n, t in whole.items()}, source / "model.safetensors", metadata={"format": "pt"})
    read = AutoModelForCausalLM.from_pretrained(source).state_dict()["model.norm.weight"]
    assert torch.equal(tensors_in(written(source, tmp_path / "out"))["model.norm.weight"], read)


def test_it_is_taken_where_a_model_does_not_fit(cut, tmp_path, monkeypatch):
    assert not by_shard.wanted(str(cut), REMOVED, None)
    monkeypatch.setattr(by_shard, "free_memory", lambda: 1000)
    assert by_shard.wanted(str(cut), REMOVED, None) and by_shard.wanted(str(cut), REMOVED, PORTABLE)
    for removed, form in (((1, "2a"), None), (REMOVED, "gguf")):
        assert not by_shard.wanted(str(cut), removed, form)
        with pytest.raises(
            InputError, match="whole blocks are removed, and written in the form hf or portable"
        ):
            write.prune(str(cut), removed, tmp_path / "out", form=form, by_shard=True)


def test_without_memory_for_a_block_the_bytes_are_the_proof(cut, tmp_path, monkeypatch):
    out = written(cut, tmp_path / "out")
    monkeypatch.setattr(shard_proof, "free_memory", lambda: 1000)
    found = prove_by_shard(str(cut), out, REMOVED)
    assert found == {"problem": None, "difference": None, "proof": "tensors", "tensors": len(tensors_in(out))}


@pytest.mark.parametrize("small", [0, 160, 1 << 20])
def test_a_model_that_stays_on_disk_computes_the_same(cut, monkeypatch, small):
    monkeypatch.setattr("core.model.streamed.SMALL", small)  # beside the blocks: rows, or all of it
    skeleton = open_skeleton(str(cut))
    ids = torch.arange(12).view(2, 6) + 3
    with streamed(skeleton) as loaded, torch.no_grad():
        found = loaded.model(input_ids=ids, use_cache=False).logits
    with torch.no_grad():
        assert torch.allclose(found, load_model(str(cut)).model(input_ids=ids).logits, atol=1e-6)
    assert all(not any(p.stride()) for p in skeleton.loaded.model.parameters() if p.numel() > 1)


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("gpt2", lambda name: name.removeprefix("transformer.")),  # as it lies on the hub
        ("llama", lambda name: name.removeprefix("model.")),
    ],
)
def test_names_on_disk_may_differ_from_those_in_memory(tiny, tmp_path, kind, changed):
    source = shutil.copytree(tiny[kind], tmp_path / "source")
    save_file(
        {changed(name): t for name, t in load_file(source / "model.safetensors").items()},
        source / "model.safetensors",
        metadata={"format": "pt"},
    )
    out = written(source, tmp_path / "out")
    assert prove_by_shard(str(source), out, REMOVED)["proof"] == LOGITS
    there = tensors_in(out)
    assert {*there} <= {*tensors_in(source)} and any(".3." in name for name in there)
    assert not any(".4." in name or ".5." in name for name in there)


@pytest.mark.parametrize("factor", [1, 2])
def test_a_copy_of_a_tied_weight_is_left_out_and_another_stays(tiny, tmp_path, factor):
    source = shutil.copytree(tiny["qwen2"], tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"] = factor * tensors["model.embed_tokens.weight"]
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    out = written(source, tmp_path / "out")
    assert ("lm_head.weight" in tensors_in(out)) == (factor != 1)
    assert prove_by_shard(str(source), out, REMOVED)["proof"] == LOGITS
    loaded = load_model(str(source))
    remove_blocks(loaded, REMOVED)
    loaded.model.save_pretrained(tmp_path / "memory")
    assert differs(tmp_path / "memory", out) is None


def test_heads_that_foretell_more_tokens_are_dropped_whole(tmp_path):
    model = zoo.tiny_model("qwen3_next")
    model.config.num_nextn_predict_layers = 1
    model.save_pretrained(tmp_path / "source")
    tensors = tensors_in(tmp_path / "source") | {"mtp.layers.0.mlp.up_proj.weight": torch.ones(4, 4)}
    save_file(tensors, tmp_path / "source" / "model.safetensors", metadata={"format": "pt"})
    state = (0, 2)
    out = written(tmp_path / "source", tmp_path / "out", state)
    assert prove_by_shard(str(tmp_path / "source"), out, state)["problem"] is None
    assert not any("mtp" in name for name in tensors_in(out))
    assert json.loads((out / "config.json").read_text())["num_nextn_predict_layers"] == 0


@pytest.mark.parametrize("kind", ["deepseek_v3", "ernie4_5_moe", "lfm2_moe"])
def test_the_first_blocks_which_are_dense_may_go(tmp_path, kind):
    zoo.tiny_model(kind).save_pretrained(tmp_path / "source")
    out = written(tmp_path / "source", tmp_path / "out", (0, 3))
    assert prove_by_shard(str(tmp_path / "source"), out, (0, 3))["proof"] == LOGITS


def test_a_checkpoint_without_a_tokenizer_is_pruned(tiny, tmp_path):
    source = shutil.copytree(tiny["llama"], tmp_path / "source", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(InputError, match="The tokenizer of .* cannot be loaded"):
        load_model(str(source))
    done = write.prune(str(source), REMOVED, tmp_path / "out")
    assert done.blocks == (6, 4) and not list(done.out.glob("tokenizer*"))
    assert differs(done.out, written(source, tmp_path / "shards")) is None


def test_the_portable_form_says_what_a_config_cannot(tmp_path):
    source = write_tiny(tmp_path / "source", "gpt2", scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(InputError, match="scale_attn_by_inverse_layer_idx.*write the portable form"):
        write.prune(str(source), REMOVED, tmp_path / "out")
    done = write.prune(str(source), REMOVED, tmp_path / "out", form=PORTABLE)
    assert differs(done.out, written(source, tmp_path / "shards", form=PORTABLE)) is None
    assert prove_by_shard(str(source), tmp_path / "shards", REMOVED)["proof"] == LOGITS
    config = json.loads((done.out / "config.json").read_text())
    assert [place["path"] for place in config["removed"]] == ["transformer.h.1", "transformer.h.4"]
    assert config["whole"]["n_layer"] == 6 and (done.out / "modeling_partial.py").is_file()
    assert done.kv_bytes[1] * 6 == done.kv_bytes[0] * 4 and done.parameters[1] < done.parameters[0]
    with pytest.raises(InputError, match="lacks parts of blocks already"):
        write.prune(str(done.out), [1], tmp_path / "more")


def test_the_portable_form_is_proved_beside_this_project_shard_by_shard_too(cut, tmp_path, proved_here):
    done = write.prune(str(cut), REMOVED, tmp_path / "out", form=PORTABLE, by_shard=True)
    assert done.form == PORTABLE and done.proof == LOGITS and done.largest_difference < 1e-5


@pytest.mark.parametrize(
    ("fault", "finds"),
    [
        ("byte", "is not what the original has there"),
        ("order", "is not what the original has there"),
        ("depth", "do not fit its config"),
        ("lists", "logits differ"),
    ],
)
def test_what_was_written_wrong_is_found(tmp_path, fault, finds):
    zoo.tiny_model("gemma2").save_pretrained(tmp_path / "source")
    out = written(tmp_path / "source", tmp_path / "out", (2,))
    weights, config = out / "model.safetensors", json.loads((out / "config.json").read_text())
    tensors = load_file(weights)
    if fault == "byte":
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    elif fault == "order":
        one, two = (f"model.layers.{b}.mlp.up_proj.weight" for b in (1, 2))
        save_file({**tensors, one: tensors[two], two: tensors[one]}, weights, metadata={"format": "pt"})
    elif fault == "depth":
        config |= {"num_hidden_layers": 2, "layer_types": config["layer_types"][:2]}
    else:
        config["layer_types"] = config["layer_types"][::-1]
    (out / "config.json").write_text(json.dumps(config))
    try:
        problem = prove_by_shard(str(tmp_path / "source"), out, (2,))["problem"]
    except InputError as error:
        problem = str(error)
    assert problem and finds in problem


# --- faults


def damaged(source: Path, place: Path, fault: str) -> Path:
    folder = shutil.copytree(source, place)
    shards = sorted(folder.glob("*.safetensors"))
    if fault == "truncated":
        shards[1].write_bytes(shards[1].read_bytes()[:-100])
    elif fault == "header":
        shards[1].write_bytes(b"\xff" * 64)
    elif fault == "missing":
        shards[1].unlink()
    elif fault == "config":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 52}))
    elif fault == "left over":
        save_file({"lm_head.extra": torch.ones(2)}, folder / "more.safetensors")
        index = json.loads((folder / INDEX).read_text())
        index["weight_map"]["lm_head.extra"] = "more.safetensors"
        (folder / INDEX).write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("truncated", "is cut off or damaged"),
        ("header", "is cut off or damaged"),
        ("missing", "lacks its weight file model-00002-of"),
        ("config", "do not fit its config"),
        ("left over", "1 unexpected tensors, the first lm_head.extra"),
    ],
)
def test_a_damaged_source_is_one_sentence(cut, tmp_path, fault, says):
    source = damaged(cut, tmp_path / "source", fault)
    before = digests(source)
    with pytest.raises(InputError, match=says) as caught:
        write.prune(str(source), REMOVED, tmp_path / "out", by_shard=True)
    assert "\n" not in str(caught.value) and digests(source) == before
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_a_file_that_shrinks_meanwhile_is_told(cut, tmp_path):
    source = shutil.copytree(cut, tmp_path / "source")
    plan = plan_of(open_skeleton(str(source)), REMOVED)
    file = sorted(source.glob("*.safetensors"))[-1]
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(InputError, match="ends within a tensor"):
        write_plan(plan, tmp_path / "out", nobody)


def test_a_target_that_is_there_or_leads_elsewhere_is_refused(cut, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").touch()
    (tmp_path / "elsewhere").mkdir()
    for link, to in (("link", "elsewhere"), ("nowhere", "gone")):
        (tmp_path / link).symlink_to(tmp_path / to)
    for name, says in (("full", "already exists"), ("link", "symbolic link"), ("nowhere", "symbolic link")):
        with pytest.raises(InputError, match=says):
            write.prune(str(cut), REMOVED, tmp_path / name, by_shard=True)
    with pytest.raises(InputError, match="cannot be written"):
        write.prune(str(cut), REMOVED, Path("/proc/nowhere/out"), by_shard=True)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["precious"]
    assert not list((tmp_path / "elsewhere").iterdir()) and not (tmp_path / "gone").exists()


def in_a_fork(work) -> int:
    """The process id of a child that does it and then ends, with 3 where it found an InputError."""
    child = os.fork()
    if child:
        return child
    try:
        torch.set_num_threads(1)
        work()
        os._exit(0)
    except InputError as error:
        os._exit(3 if "cannot be written" in str(error) and "\n" not in str(error) else 4)
    finally:
        os._exit(5)


def test_a_disk_that_is_full_leaves_nothing(cut, tmp_path):
    """As the system says it: no file of this process may be larger than what is written half way."""
    before, limit = digests(cut), max(f.stat().st_size for f in cut.glob("*.safetensors")) // 2

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        write.prune(str(cut), REMOVED, tmp_path / "out", by_shard=True)

    assert os.waitstatus_to_exitcode(os.waitpid(in_a_fork(work), 0)[1]) == 3
    assert not list(tmp_path.iterdir()) and digests(cut) == before


def test_cancelled_in_the_middle_leaves_nothing(cut, tmp_path):
    class Cancelled(Exception):
        pass

    def report(done: int, total: int, message: str) -> None:
        if "copying file 2" in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        write.prune(str(cut), REMOVED, tmp_path / "out", by_shard=True, report=report)
    assert not list(tmp_path.iterdir())


def test_files_that_were_whole_are_not_copied_again(cut, tmp_path, monkeypatch, proved_here):
    """Who goes on after a kill takes them from the shelf; a proof that fails clears it."""
    names: list[str] = []
    write_tensors = by_shard.write_tensors

    def killed_at_the_third(path, tensors, copied):
        names.append(path.name.strip("."))
        if len(names) == 3:
            raise KeyboardInterrupt
        write_tensors(path, tensors, copied)

    monkeypatch.setattr(by_shard, "write_tensors", killed_at_the_third)
    place = {"workshop": tmp_path / "work", "by_shard": True}
    place["workshop"].mkdir()
    with pytest.raises(KeyboardInterrupt):
        write.prune(str(cut), REMOVED, tmp_path / "out", **place)
    first = names[:2]
    assert sorted(file.name for file in (tmp_path / "work" / "shelf").iterdir()) == sorted(first)
    write.prune(str(cut), REMOVED, tmp_path / "out", **place)
    assert not set(first) & set(names[2:])
    write.prune(str(cut), REMOVED, tmp_path / "plain", by_shard=True)
    assert digests(tmp_path / "out") == digests(tmp_path / "plain")
    file = tmp_path / "work" / "shelf" / first[0]
    file.write_bytes(file.read_bytes()[:-4] + b"oops")
    with pytest.raises(RuntimeError, match="is not what the original has"):
        write.prune(str(cut), REMOVED, tmp_path / "again", **place)
    assert not (tmp_path / "work" / "shelf").exists() and not (tmp_path / "again").exists()


def test_killed_at_random_moments_nothing_half_has_the_name(cut, tmp_path, monkeypatch):
    before, rng, seen = digests(cut), random.Random(3), set()
    found = {"difference": 0.0, "proof": LOGITS, "problem": None}
    monkeypatch.setattr(by_shard, "prove_elsewhere", lambda *_: found)  # proved for real above
    whole = written(cut, tmp_path / "whole")

    def started(last=None):
        """A child at work, and the numbers of its reports as they come; behind the last it waits."""
        ours, theirs = os.pipe()
        numbers = itertools.count(1)

        def told(*_):
            number = next(numbers)
            os.write(theirs, f"{number}\n".encode())
            time.sleep(0.002)
            if number == last:
                signal.pause()

        place = {"by_shard": True, "report": told}
        child = in_a_fork(lambda: write.prune(str(cut), REMOVED, tmp_path / "home" / "out", **place))
        os.close(theirs)
        return child, os.fdopen(ours)

    child, numbers = started()
    reports = len(numbers.readlines())
    os.waitpid(child, 0)
    for _ in range(8):
        shutil.rmtree(tmp_path / "home")
        at = rng.randint(reports // 3, reports)
        child, numbers = started(at + 2)
        next(number for number in numbers if int(number) == at)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        out = tmp_path / "home" / "out"
        seen.add(out.exists())
        (tmp_path / "home").mkdir(exist_ok=True)
        if out.exists():
            assert differs(out, whole) is None and (out / "blockscape.json").is_file()
    assert digests(cut) == before and False in seen


def test_no_number_of_a_block_in_a_name_is_told(cut, monkeypatch):
    with pytest.raises(InputError, match="No number in the tensor's name head.weight"):
        by_shard._with_block("head.weight", "model.layers.0.x", -1, open_skeleton(str(cut)).names)


def test_other_sources_are_refused(tmp_path):
    path = write_gguf(tmp_path / "tiny.gguf", model_of("llama"), "Q8_0")
    with pytest.raises(InputError, match="no folder of safetensors"):
        open_skeleton(str(path))
