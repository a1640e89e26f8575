"""How large an export will be, told from what a run says of its model and from where that lies."""

import json
from pathlib import Path

import pytest

from core.forms.offers import bytes_after, gguf_at

# 100 numbers, of which a quantised file holds some in a byte; the weights are computed in two bytes
MODEL = {"parameters": 100, "bytes": 120, "written_item": 2}
BLOCK = {"parameters": 25, "bytes": 30}


@pytest.mark.parametrize(
    ("settings", "form", "removed", "expected"),
    [
        ({}, "hf", [3], 150),
        ({"quantization_config": {"quant_method": "fp8"}}, "hf", [3], 90),  # they stay as they are
        ({"quantization_config": {"quant_method": "fp8"}}, "portable", [3], 90),
        ({"quantization_config": {"quant_method": "fp8"}}, "portable", ["3a"], 150),
        ({"quantization_config": {"quant_method": "fp8"}}, "gguf", [3], 150),
    ],
)
def test_what_an_export_takes_is_told_before(tmp_path, settings, form, removed, expected):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "model.safetensors").touch()
    assert bytes_after(MODEL, tmp_path, form, removed, [BLOCK]) == expected


def test_only_gguf_of_a_gguf_file_keeps_its_bytes():
    file = Path("SmolLM2.Q4_1.gguf")
    assert [bytes_after(MODEL, file, form, [3], [BLOCK]) for form in ("gguf", "hf")] == [90, 150]
    old = {name: value for name, value in MODEL.items() if name != "written_item"}
    assert bytes_after(old, file, "hf", [3], [BLOCK]) == 90


def test_a_folder_with_a_gguf_file_is_that_file(tmp_path):
    assert gguf_at(tmp_path) is None
    for name in ("b-00002-of-00002.gguf", "b-00001-of-00002.gguf", "config.json"):
        (tmp_path / name).touch()
    assert gguf_at(tmp_path) == tmp_path / "b-00001-of-00002.gguf"
    (tmp_path / "model.safetensors").touch()
    assert gguf_at(tmp_path) is None
