"""Attentions and FFNs removed for real: the gated model, cached and not; weights and cache as promised."""

import json

import pytest
import torch

from core.errors import InputError
from core.ising.units import BRANCH
from core.measure.evaluation import greedy
from core.measure.token_time import cache_bytes, filled_cache
from core.model.gates import gated, removal
from core.model.load import LoadedModel, load_model, wrap
from core.model.surgery import _say, check_native, is_native, pass_on, remove_blocks, without
from tests import zoo

IDS = torch.randint(3, 80, (2, 10), generator=torch.Generator().manual_seed(1))
KEPT = 3  # tokens in a cache: windows are four long
# of four blocks: the first attention, whose cache counts tokens; an FFN; a block and parts; no attention left
STATES = ("0a", "1f", "0,1a,2f", "0a,1a,2a,3a")
# pre-norm, norms behind, no rotary positions, sliding, experts, parallel branches, residual added inside,
# in-place sums, a mixer in the same block
TYPES = ["llama", "gemma2", "opt", "mixtral", "gptj", "falcon", "bloom", "gpt_neo", "qwen3_next"]
SHARED_NORM = {"gptj": 2 * 32, "falcon": 2 * 32}  # parameters of a norm that the other branch reads


def logits(loaded: LoadedModel) -> torch.Tensor:
    with torch.no_grad():
        return loaded.model(input_ids=IDS, use_cache=False).logits


def gated_logits(loaded: LoadedModel, state) -> torch.Tensor:
    with torch.no_grad(), gated(loaded, removal(loaded, state)):
        return loaded.model(input_ids=IDS, use_cache=False).logits


def check(loaded: LoadedModel, name: str) -> dict[str, int]:
    """Everything that a removal promises; {what: by how much it got smaller}."""
    state, whole = loaded.units.parse(name), logits(loaded)
    expected, parts = gated_logits(loaded, state), [p for b in loaded.blocks for p in b.branches]
    before = {"parameters": loaded.parameters(), "kv": cache_bytes(filled_cache(loaded, KEPT))}
    tree = [(path, id(module)) for path, module in loaded.model.named_modules()]
    config = json.dumps(loaded.config.to_dict(), sort_keys=True, default=str)
    with without(loaded, state):
        assert float((logits(loaded) - expected).abs().max()) < 1e-5 * float(expected.abs().max())
        assert torch.equal(*(greedy(loaded.model, IDS, 8, cache) for cache in (True, False)))
        after = {"parameters": loaded.parameters(), "kv": cache_bytes(filled_cache(loaded, KEPT))}
        assert sum(b.parameters for b in loaded.blocks) == sum(
            p.parameters for u, p in enumerate(parts) if u not in state
        )
    assert torch.equal(logits(loaded), whole)
    assert [(path, id(module)) for path, module in loaded.model.named_modules()] == tree
    assert json.dumps(loaded.config.to_dict(), sort_keys=True, default=str) == config
    assert before["kv"] - after["kv"] == KEPT * sum(parts[u].kv_bytes for u in state)
    return {name: before[name] - after[name] for name in before}


@pytest.mark.parametrize("kind", TYPES)
def test_units_really_go_and_come_back(kind):
    loaded = wrap(zoo.tiny_model(kind), None, kind, None).seen(BRANCH)
    parts = [p for b in loaded.blocks for p in b.branches]
    for name in STATES:
        state = loaded.units.parse(name)
        alone = sum(loaded.units.names[u].endswith("a") for u in state) - (
            name[0] == "0" and "0a" not in name
        )
        promised = sum(parts[u].parameters for u in state) - SHARED_NORM.get(kind, 0) * alone
        assert check(loaded, name)["parameters"] == promised


@pytest.mark.parametrize("kind", ["gpt2", "qwen2"])
def test_units_of_a_checkpoint(tiny, kind):
    loaded = load_model(str(tiny[kind])).seen(BRANCH)
    assert check(loaded, "0a,3f,5")["kv"] == KEPT * 2 * loaded.blocks[0].kv_bytes


def test_units_of_real_models(real_model):
    for loaded, name in ((load_model("demo"), "5a,13f,20"), (load_model(str(real_model)), "0a,1f,3a")):
        assert check(loaded.seen(BRANCH), name)["parameters"] > 0


def test_the_state_of_both_halves_is_the_block(tiny):
    loaded = load_model(str(tiny["llama"]))
    branches = loaded.seen(BRANCH)
    with without(loaded, (2,)):
        block, modules = logits(loaded), len(loaded.modules)
    with without(branches, branches.units.parse("2a,2f")):
        assert torch.equal(logits(branches), block) and len(branches.modules) == modules == 5


def test_a_removal_that_stays_says_what_is_left(tiny):
    loaded = load_model(str(tiny["llama"])).seen(BRANCH)
    places = remove_blocks(loaded, loaded.units.parse("1,3a,5f"))
    found = {p["path"].removeprefix("model.layers."): p["layer"] for p in places}
    assert found == {
        "2.self_attn": 2,
        "2.input_layernorm": None,
        "4.mlp": None,
        "4.post_attention_layernorm": None,
    }
    assert [b.kind for b in loaded.blocks] == ["attention + FFN"] * 2 + [
        "FFN",
        "attention + FFN",
        "attention",
    ]
    assert not any("layers.2.self_attn" in name for name, _ in loaded.model.named_parameters())


def test_what_other_blocks_need_is_refused_and_stays():
    """The first attention of this type finds what the next ones attend to."""
    loaded = wrap(zoo.tiny_model("glm_moe_dsa"), None, "glm_moe_dsa", None).seen(BRANCH)
    whole = logits(loaded)
    with pytest.raises(
        InputError, match=r"0a cannot be taken out of 'glm_moe_dsa' .*top-k.*; measure it with gates"
    ):
        with without(loaded, (0,)):
            pass
    assert torch.equal(logits(loaded), whole) and len(loaded.units) == 8


def test_a_wrong_removal_is_found(tiny, monkeypatch):
    """Places that leave something of the branch must not pass."""
    loaded = load_model(str(tiny["llama"])).seen(BRANCH)
    monkeypatch.setattr("core.model.surgery.find_places", lambda *_: [])
    with pytest.raises(InputError, match="1f cannot be taken out.*not the gated model's"):
        with without(loaded, loaded.units.parse("1f")):
            pass
    monkeypatch.undo()
    monkeypatch.setattr("core.model.partial.Removed._count", lambda *_: None)
    with pytest.raises(InputError, match="0a cannot be taken out.*with and without cache"):
        with without(loaded, loaded.units.parse("0a")):
            pass


@pytest.mark.parametrize(
    ("kind", "changes", "name", "after"),
    [
        ("bart", {}, "decoder_layers", 2),
        ("whisper", {}, "decoder_layers", 2),
        ("xlstm", {}, "num_blocks", 2),
        (
            "recurrent_gemma",
            {"block_types": ["recurrent", "attention"]},
            "block_types",
            ["recurrent", "attention"],
        ),
        ("minicpm3", {"scale_depth": 1.4}, "scale_depth", 1.4 / 2**0.5),
        ("deepseek_v3", {"num_nextn_predict_layers": 1}, "num_mtp_layers", 0),
        ("deepseek_v3", {"first_k_dense_replace": 3}, "first_k_dense_replace", 1),
        ("lfm2_moe", {"num_dense_layers": 4}, "num_dense_layers", 2),
        ("ernie4_5_moe", {"moe_layer_start_index": 1}, "moe_layer_start_index", 1),
        ("ernie4_5_moe", {"moe_layer_end_index": 3}, "moe_layer_end_index", 1),
        ("ernie4_5_moe", {"moe_layer_end_index": 2}, "moe_layer_end_index", 0),
        ("qwen2_moe", {"mlp_only_layers": [0, 2, 3]}, "mlp_only_layers", [0, 1]),
        ("cohere2", {"layer_types": ["a", "b", "c", "d"]}, "layer_types", ["a", "d"]),
    ],
)
def test_a_config_says_what_is_left(kind, changes, name, after):
    config = zoo.tiny_config(kind)
    for entry, value in changes.items():
        setattr(config, entry, value)
    _say(config, [0, 3], 4)
    assert getattr(config, name) == pytest.approx(after)
    assert config.num_hidden_layers == 2


def test_what_single_blocks_have_otherwise_follows_them():
    config = zoo.tiny_config("gemma4_unified_text")
    before = dict(config._heterogeneity_spec.per_layer_overrides)
    assert before.keys() == {1, 3}
    _say(config, [0, 3], 4)
    assert config._heterogeneity_spec.per_layer_overrides == {1: before[3]}


@pytest.mark.parametrize(
    ("kind", "removed", "why"),
    [
        ("nemotron_h", (2,), "no attention would be left"),
        ("jamba", (1, 2), "no attention would be left"),
        ("jamba", (0,), "by a period which blocks are attention"),
        ("diffllama", (1,), "depends on the block's number"),
        ("beam", (1,), "earlier outputs by the block's number"),
        ("gemma4_text", (1,), "hidden_size_per_layer_input"),
    ],
)
def test_what_a_config_cannot_say_is_refused_with_its_reason(kind, removed, why):
    loaded = wrap(zoo.tiny_model(kind), None, kind, None)
    with pytest.raises(InputError, match=why) as caught:
        check_native(loaded, removed)
    assert "write the portable form" in str(caught.value) and "\n" not in str(caught.value)
    assert is_native(loaded, (3,)) == (kind in ("nemotron_h", "jamba"))


def test_blocks_that_pass_on_keep_the_others_numbers():
    loaded = wrap(zoo.tiny_model("diffllama"), None, "diffllama", None)
    expected, parameters = gated_logits(loaded, (1, 2)), loaded.parameters()
    places = pass_on(loaded, (1, 2))
    assert [place["path"] for place in places] == ["model.layers.1", "model.layers.2"]
    assert torch.allclose(logits(loaded), expected, atol=1e-5) and loaded.parameters() < parameters
    assert torch.equal(*(greedy(loaded.model, IDS, 8, cache) for cache in (True, False)))
    assert len(loaded.blocks) == 2 and loaded.config.num_hidden_layers == 4


def test_a_block_that_others_need_more_of_does_not_pass_on():
    loaded = wrap(zoo.tiny_model("gemma3n_text"), None, "gemma3n_text", None)
    with pytest.raises(InputError, match="cannot be taken out"):
        pass_on(loaded, (1,))
