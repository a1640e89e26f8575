"""The text part of models that also read images: found, gated, removed and exported on text alone, the vision
part whole.
"""

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from core.calibration.calibrate import calibrate
from core.calibration.gradient_rows import gradient_rows
from core.errors import InputError
from core.export import write
from core.measure.evaluation import greedy, greedy_tokens, sequence_losses
from core.model.gates import gated
from core.model.load import auto_class, load_model
from core.model.losses import sample_losses
from core.texts import pack, read_texts
from tests.conftest import byte_tokenizer
from tests.zoo import _enliven, tiny_config

ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
CHANGES = {
    "gemma3": {},
    "qwen2_5_vl": {"rope_parameters": ROPE},
    "qwen3_vl": {},
    "llava": {},
    "paligemma": {},
}
IDS = np.random.default_rng(0).integers(2, 200, (3, 20))


def write_vision(folder, kind):
    """A random checkpoint whose text part reads the bytes of the test tokenizer."""
    config, tokenizer = tiny_config(kind), byte_tokenizer()
    for name, value in {"vocab_size": 300, **CHANGES[kind]}.items():
        setattr(config.text_config, name, value)
    for name in (
        "image_token_id",
        "image_token_index",
        "video_token_id",
        "vision_start_token_id",
        "vision_end_token_id",
    ):
        if hasattr(config, name):
            setattr(config, name, 290)
    torch.manual_seed(3)
    model = AutoModelForImageTextToText.from_config(config)
    _enliven(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def vision(tmp_path_factory):
    root = tmp_path_factory.mktemp("vision")
    return {kind: write_vision(root / kind, kind) for kind in CHANGES if kind != "paligemma"}


@pytest.mark.parametrize("kind", ["gemma3", "qwen2_5_vl", "llava"])
def test_the_text_part_is_gated_pruned_and_reloaded_and_the_vision_part_stays(vision, kind, tmp_path):
    loaded = load_model(str(vision[kind]))
    assert (
        type(loaded.model).__name__.endswith("ForConditionalGeneration") and not loaded.structure.block_gate
    )
    assert len(loaded.blocks) == loaded.config.num_hidden_layers == 4 and loaded.blocks[0].kv_bytes > 0
    assert "vision" not in loaded.structure.path and all("attention + FFN" in b.kind for b in loaded.blocks)
    ids = torch.from_numpy(IDS)
    rows, losses, _ = gradient_rows(loaded, ids)
    assert torch.isfinite(rows).all() and (rows != 0).any(dim=0).all()
    step = 1e-2
    slopes = []
    for i in range(4):
        at = [torch.ones(4), torch.ones(4)]
        at[0][i] += step
        at[1][i] -= step
        up, down = (_loss_at(loaded, ids, alpha) for alpha in at)
        slopes.append((up - down) / (2 * step))
    assert np.allclose(rows.sum(dim=0), slopes, atol=2e-2 * max(map(abs, slopes)))

    expected, tokens = sequence_losses(loaded, IDS, (1, 2)), greedy_tokens(loaded, ids, 6, (1, 2))
    done = write.prune(str(vision[kind]), [1, 2], tmp_path / "out")
    again, info = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert (
        not info["missing_keys"]
        and not info["unexpected_keys"]
        and (tmp_path / "out" / "preprocessor_config.json").is_file()
    )
    assert torch.equal(greedy(again.eval(), ids, 6, True), tokens)
    pruned = load_model(str(tmp_path / "out"))
    assert np.allclose(sequence_losses(pruned, IDS), expected, atol=1e-5) and len(pruned.blocks) == 2
    assert done.parameters[0] - done.parameters[1] == sum(loaded.blocks[i].parameters for i in (1, 2))
    before, after = (
        json.loads((folder / "config.json").read_text()) for folder in (vision[kind], tmp_path / "out")
    )
    assert (
        after["vision_config"] == {**before["vision_config"], "dtype": "float32"}
        and after["text_config"]["num_hidden_layers"] == 2
    )


def _loss_at(loaded, ids, alpha) -> float:
    with torch.no_grad(), gated(loaded, alpha):
        return float(sample_losses(loaded.model(input_ids=ids, use_cache=False).logits, ids).sum())


def test_a_model_with_a_vision_part_is_calibrated_on_texts(vision, text_file):
    loaded = load_model(str(vision["gemma3"]))
    texts = read_texts(text_file)
    run = calibrate(
        loaded,
        pack(texts, loaded.tokenizer, "calibrate", 32, 5),
        batch=2,
        singles=pack(texts, loaded.tokenizer, "choose", 32, 3),
    )
    assert (
        run.rows.A.shape == (5, 4)
        and np.isfinite(run.rows.A).all()
        and np.isfinite(run.singles.increase).all()
    )


def test_blocks_that_image_features_go_into_by_number_have_to_stay(vision, tmp_path):
    depth = len(AutoConfig.from_pretrained(vision["qwen3_vl"]).vision_config.deepstack_visual_indexes)
    assert depth == 3
    with pytest.raises(InputError, match="first blocks take image features by their number"):
        write.prune(str(vision["qwen3_vl"]), [2], tmp_path / "out")
    assert write.prune(str(vision["qwen3_vl"]), [3], tmp_path / "out").blocks == (4, 3)


def test_a_model_that_sees_later_tokens_is_refused(tmp_path):
    folder = write_vision(tmp_path, "paligemma")
    with pytest.raises(InputError, match="sees later tokens when it reads text alone") as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)


def test_the_reader_follows_the_checkpoints_own_class():
    def reader(model_type, *classes):
        return auto_class({"model_type": model_type, "architectures": list(classes)}, "x").__name__

    assert (
        reader("llama", "LlamaForCausalLM")
        == reader("qwen3_5", "Qwen3_5ForCausalLM")
        == reader("llama")
        == "AutoModelForCausalLM"
    )
    assert (
        reader("qwen3_5", "Qwen3_5ForConditionalGeneration")
        == reader("llava")
        == "AutoModelForImageTextToText"
    )
    with pytest.raises(
        InputError,
        match="LlavaModel.*no next-token head; choose the checkpoint of a LlavaForConditionalGeneration",
    ):
        reader("llava", "LlavaModel")
