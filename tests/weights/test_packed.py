"""What settings of quantised weights say of modules, once blocks are gone."""

import pytest

from core.weights.packed import Renamed

KEPT = [0, 2, 3, 5]
PARTS = ("self_attn.q_proj", "mlp.down_proj", "mlp.experts.1.up_proj")


def names(prefix: str = "model.layers") -> Renamed:
    """Six blocks of a few modules, 1 and 4 of them gone; a vision tower with blocks of its own."""
    modules: dict[str, str | None] = {"lm_head": "lm_head", "model": "model", prefix: prefix}
    for b in range(6):
        new = f"{prefix}.{KEPT.index(b)}" if b in KEPT else None
        for part in ("", ".self_attn", ".mlp", *(f".{p}" for p in PARTS)):
            modules[f"{prefix}.{b}{part}"] = f"{new}{part}" if new else None
        tower = f"vision.encoder.layers.{b}.mlp"
        modules[tower] = tower
    return Renamed(modules, prefix, {b: n for n, b in enumerate(KEPT)})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # whole names: AWQ and FP8 (modules_to_not_convert), compressed-tensors (ignore)
        ("lm_head", ["lm_head"]),
        ("model.layers.2.mlp.down_proj", ["model.layers.1.mlp.down_proj"]),
        ("model.layers.4.mlp.down_proj", []),
        ("model.layers.5", ["model.layers.3"]),
        # parts of names: bitsandbytes skips what contains them
        ("down_proj", ["down_proj"]),
        ("layers.5.mlp", ["layers.3.mlp"]),
        ("layers.1.mlp", []),
        ("mlp.experts.1.up_proj", ["mlp.experts.1.up_proj"]),
        # of another list of blocks
        ("vision.encoder.layers.4.mlp", ["vision.encoder.layers.4.mlp"]),
        # what is no name
        ("Linear", ["Linear"]),
        ("group_0", ["group_0"]),
        # patterns that say the same afterwards
        ("*lm_head", ["*lm_head"]),
        ("model.layers.*.mlp.*", ["model.layers.*.mlp.*"]),
        ("re:.*down_proj", ["re:.*down_proj"]),
        ("-:.*self_attn.*", ["-:.*self_attn.*"]),
        ("re:(", ["re:("]),
        # patterns that mean numbers
        ("*.layers.2.self_attn*", ["model.layers.1.self_attn", "model.layers.1.self_attn.q_proj"]),
        (r"re:.*layers\.(2|4)\.mlp\.down_proj$", [r"re:^model\.layers\.1\.mlp\.down_proj$"]),
        (
            r"-:.*\.layers\.[0-2]\.self_attn$",
            [r"-:^model\.layers\.0\.self_attn$", r"-:^model\.layers\.1\.self_attn$"],
        ),
        (r"re:model\.layers\.4\..*", []),
        (r".*\.layers\.3\.mlp$", [r"^model\.layers\.2\.mlp$"]),
    ],
)
def test_a_name_speaks_of_what_is_left(before, after):
    if before.startswith((r".*\.layers", "-:.*\\.layers")):  # the tower's go on by themselves
        after = [*after, *names().name(before)[len(after) :]]
    assert names().name(before) == after


def test_settings_are_looked_through_at_every_depth():
    settings = {
        "quant_method": "gptq",
        "bits": 4,
        "modules_in_block_to_quantize": [["self_attn.q_proj"], ["mlp.experts.1.up_proj"]],
        "dynamic": {r"+:model\.layers\.5\.mlp.*": {"bits": 8}, r"-:model\.layers\.4\.": {}},
        "config_groups": {"group_0": {"targets": ["Linear", "re:.*q_proj"], "weights": {"num_bits": 4}}},
        "ignore": ["model.layers.1.mlp", "model.layers.3.mlp"],
        "block_name_to_quantize": "model.layers",
    }
    after = names().settings(settings)
    assert after["dynamic"] == {
        rf"+:^model\.layers\.3\.mlp{part}$": {"bits": 8}
        for part in ("", r"\.down_proj", r"\.experts\.1\.up_proj")
    }
    assert after["ignore"] == ["model.layers.2.mlp"]
    for name in ("modules_in_block_to_quantize", "config_groups", "block_name_to_quantize", "bits"):
        assert after[name] == settings[name]


def test_names_with_more_in_front_are_known():
    renamed = names("model.language_model.layers")
    assert renamed.name("language_model.layers.2.mlp") == ["language_model.layers.1.mlp"]
    assert renamed.name("tower.layers.2.mlp") == ["tower.layers.2.mlp"]
