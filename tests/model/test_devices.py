"""Where weights go: the decision on made-up machines, and accelerate's hooks on the CPU and disk, as no GPU
is needed for either.
"""

from pathlib import Path

import pytest
import torch
from accelerate import dispatch_model
from transformers import AutoModelForCausalLM

from core.calibration.gradient_rows import gradient_rows, graph_bytes
from core.errors import InputError
from core.measure.evaluation import greedy_tokens, option_scores, sequence_losses, tokens_per_second
from core.model.devices import ROOM, Placement, place, usable_gpus
from core.model.gates import gated, removal
from core.model.load import load_model, wrap
from core.model.surgery import without
from core.tasks.items import TaskItem
from core.weights.files import WeightFiles
from tests.zoo import tiny_model

GB = 10**9
SEVEN = 7 * GB  # parameters


def test_the_cpu_computes_in_float32_whatever_is_stored():
    for stored in (torch.bfloat16, torch.float16, torch.float32, None):
        assert place(SEVEN, stored, "x", memory=30 * GB) == Placement(torch.float32, None)
    assert place(SEVEN, torch.bfloat16, "x", memory=15 * GB, dtype="auto").dtype == torch.bfloat16
    with pytest.raises(InputError, match="28.0 GB in float32 and 20.0 GB of memory are free"):
        place(SEVEN, torch.bfloat16, "x", memory=20 * GB)
    assert place(SEVEN, torch.bfloat16, "x", memory=None).device_map is None
    with pytest.raises(InputError, match="no type 'float32' to load 'x' in; give a torch.dtype"):
        place(SEVEN, torch.bfloat16, "x", dtype="float32")  # was taken for "auto"


@pytest.mark.parametrize(
    ("stored", "computed"),
    [
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float16),
        (torch.float32, torch.float32),
        (torch.float64, torch.float32),
        (None, torch.bfloat16),
    ],
)
def test_a_gpu_computes_in_half_precision_where_that_is_stored(stored, computed):
    assert place(GB, stored, "x", gpus={0: 80 * GB}).dtype == computed
    assert place(GB, stored, "x", gpus={0: 80 * GB}, dtype=torch.float32).dtype == torch.float32


def test_a_model_goes_to_one_gpu_then_to_all_then_to_the_cpu_too_and_else_nowhere():
    def of(parameters, gpus, **more):
        return place(parameters, torch.bfloat16, "x", gpus=gpus, memory=64 * GB, **more)

    two = {1: 24 * GB, 0: 20 * GB}  # the first is the process's own
    assert of(SEVEN, two).device_map == {"": 1}
    assert of(int(ROOM * 12 * GB), two).device_map == {"": 1}
    spread = of(15 * GB, two)
    assert spread.device_map == "auto" and spread.max_memory == {
        1: int(19.2 * GB),
        0: 16 * GB,
        "cpu": int(51.2 * GB),
    }
    assert of(30 * GB, {0: 24 * GB}).device_map == "auto"
    with pytest.raises(
        InputError, match="120.0 GB in bfloat16 and 86.4 GB of memory on the GPUs and the CPU are free"
    ):
        of(60 * GB, two)
    with pytest.raises(
        InputError,
        match="30.0 GB in bfloat16 and 19.2 GB of GPU 1 are free for it; "
        "name no device and start one process",
    ):
        of(15 * GB, two, spread=False)


def test_a_rank_uses_its_own_gpu_and_all_the_cpu_where_gpus_are_fewer_than_ranks():
    def of(device, count, current=0, **environment):
        return usable_gpus(device, count, current, environment)

    rank = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert of(None, 2, **rank) == [1] and of("cuda", 4, 1, **rank) == [1]
    assert of(None, 1, **rank) == of(None, 0, **rank) == []
    assert of(None, 3, 1) == [1, 0, 2] and of("cuda", 3, 1) == [1] and of("cuda:2", 3, 1) == [2]
    assert of("cpu", 3) == of(None, 0) == []
    for device, count in [("cuda", 0), ("cuda:2", 2), ("gpu", 2), ("cuda:x", 2)]:
        with pytest.raises(
            InputError, match=f"no device '{device}' here: choose cpu{', cuda:0, cuda:1' * (count > 0)}"
        ):
            of(device, count)


def test_the_stored_type_is_read_from_the_weights_not_from_the_config(tiny, tmp_path):
    stored = WeightFiles("x", tiny["llama"]).stored()
    assert stored.dtype == torch.float32 and stored.values == load_model(str(tiny["llama"])).parameters()
    AutoModelForCausalLM.from_pretrained(tiny["llama"], dtype=torch.float16).save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"float16"', '"float32"'))
    for file in tiny["llama"].glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert WeightFiles("x", tmp_path).stored().dtype == torch.float16
    loaded = load_model(str(tmp_path))
    assert loaded.model.dtype == torch.float32 and loaded.blocks[0].bytes == 2 * loaded.blocks[0].parameters
    assert load_model(str(tmp_path), dtype="auto").model.dtype == torch.float16


def hooked(tiny, how: str, place):
    """The tiny llama with accelerate's hooks: moved for nothing, or with most weights on disk."""
    if how == "hooks":
        model = dispatch_model(
            AutoModelForCausalLM.from_pretrained(tiny["llama"]), {"": "cpu"}, force_hooks=True
        )
    else:
        disk = [
            "model.embed_tokens",
            "model.layers.0",
            *(f"model.layers.{i}" for i in range(2, 6)),
            "lm_head",
        ]
        places = {
            "model.layers.1": "cpu",
            "model.norm": "cpu",
            "model.rotary_emb": "cpu",
            **dict.fromkeys(disk, "disk"),
        }
        model = AutoModelForCausalLM.from_pretrained(tiny["llama"], device_map=places, offload_folder=place)
        assert model.model.layers[4].mlp.up_proj.weight.is_meta and model.model.embed_tokens.weight.is_meta
    return wrap(
        model, load_model(str(tiny["llama"])).tokenizer, "hooked", WeightFiles("hooked", tiny["llama"])
    )


@pytest.mark.parametrize("how", ["hooks", "disk"])
def test_a_model_with_accelerates_hooks_has_the_same_rows_losses_and_tokens(tiny, how, tmp_path):
    plain, other = load_model(str(tiny["llama"])), hooked(tiny, how, tmp_path)
    assert [(b.kind, b.branches, b.parameters, b.kv_bytes) for b in plain.blocks] == [
        (b.kind, b.branches, b.parameters, b.kv_bytes) for b in other.blocks
    ]
    assert other.device == plain.device and other.structure == plain.structure
    ids = torch.randint(2, 200, (3, 20), generator=torch.Generator().manual_seed(0))
    uniforms = torch.rand(3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert plain.head.pieces and other.head.pieces == (how == "hooks")

    def same(a, b):
        """In bits, or where the head on disk is not read for every piece, beyond rounding."""
        a, b = torch.as_tensor(a), torch.as_tensor(b)
        return torch.equal(a, b) if how == "hooks" else torch.allclose(a, b, atol=1e-6 * float(a.norm()))

    for checkpointed in (False, True, False):
        expected, found = (
            gradient_rows(m, ids, sampled_uniforms=uniforms, checkpointed=checkpointed)
            for m in (plain, other)
        )
        for a, b in ((expected[0], found[0]), (expected[1], found[1]), (expected[2][0], found[2][0])):
            assert same(a, b)
    with torch.no_grad(), gated(other, removal(other, (1, 4))):
        gates = other.model(input_ids=ids, use_cache=False).logits
    with torch.no_grad(), without(other, (1, 4)):
        assert torch.allclose(other.model(input_ids=ids, use_cache=False).logits, gates, atol=1e-5)
    assert same(sequence_losses(plain, ids.numpy(), (2,)), sequence_losses(other, ids.numpy(), (2,)))
    assert torch.equal(greedy_tokens(plain, ids, 8, (1,)), greedy_tokens(other, ids, 8, (1,)))
    items = [TaskItem("t", "The lamp", (" is red.", " is blue and old."), 0)]
    assert same(option_scores(plain, items, (3,))[0], option_scores(other, items, (3,))[0])
    assert (
        tokens_per_second(other, ids.numpy()) > 0
        and graph_bytes(other, 20) > graph_bytes(other, 20, checkpointed=True) > 0
    )


def test_gates_on_whole_blocks_work_with_hooks_too():
    model = tiny_model("minimax")
    plain = wrap(model, None, "x", WeightFiles("x", Path()))
    ids = torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(0))
    expected = gradient_rows(plain, ids)[0]
    other = wrap(dispatch_model(model, {"": "cpu"}, force_hooks=True), None, "x", WeightFiles("x", Path()))
    assert other.structure.block_gate and torch.equal(gradient_rows(other, ids)[0], expected)
