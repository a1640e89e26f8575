"""The recipe for mergekit builds the tensors that we write; commands of other tools are whole lines."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from core.__main__ import main
from core.errors import InputError
from core.forms import commands
from core.forms.recipe import recipe, recipe_of
from core.model.load import load_model
from core.model.surgery import remove_blocks

REMOVED = (0, 2, 3, 5)
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


def ours(source: Path, out: Path) -> Path:
    loaded = load_model(str(source))
    remove_blocks(loaded, REMOVED)
    loaded.model.save_pretrained(out)
    return out


def built(text: str) -> dict[str, torch.Tensor]:
    """What a recipe says, read as mergekit's documentation does: ranges one after another, and what is of no
    block from the first.
    """
    said, found, number = yaml.safe_load(text), {}, 0
    assert said["merge_method"] == "passthrough"
    for part in said["slices"]:
        (source,) = part["sources"]
        whole = tensors(Path(source["model"]))
        for b in range(*source["layer_range"]):
            for name, value in whole.items():
                if (at := _NUMBER.search(name)) and int(at[0]) == b:
                    found[f"{name[: at.start()]}{number}{name[at.end() :]}"] = value
                elif not at:
                    found.setdefault(name, value)
            number += 1
    return found


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_reading_of_its_slices_is_what_we_write(tiny, tmp_path, kind):
    text = recipe(str(tiny[kind]), REMOVED, 6, "float32")
    assert [s["sources"][0]["layer_range"] for s in yaml.safe_load(text)["slices"]] == [[1, 2], [4, 5]]
    found, expected = built(text), tensors(ours(tiny[kind], tmp_path / "ours"))
    assert found.keys() == expected.keys() and all(torch.equal(found[k], v) for k, v in expected.items())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_mergekit_builds_what_we_write(tiny, tmp_path, kind):
    if importlib.util.find_spec("mergekit") is None:
        pytest.skip("mergekit is not installed (pip install mergekit)")
    file = tmp_path / "recipe.yml"
    file.write_text(recipe(str(tiny[kind]), REMOVED, 6, "float32"), encoding="utf-8")
    told = commands.mergekit_command(file, tmp_path / "theirs", kind)
    assert told.tested
    _, *rest = shlex.split(told.command)
    subprocess.run([sys.executable, "-m", "mergekit.scripts.run_yaml", *rest], check=True)
    found, expected = tensors(tmp_path / "theirs"), tensors(ours(tiny[kind], tmp_path / "ours"))
    assert found.keys() == expected.keys() and all(torch.equal(found[k], v) for k, v in expected.items())
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "theirs").config.num_hidden_layers == 2


def test_it_is_plain_yaml_whatever_the_model_is_called():
    name = "Örtlich: a/b #1"
    text = recipe(name, [1], 3, "bfloat16")
    said = yaml.safe_load(text)
    assert {s["sources"][0]["model"] for s in said["slices"]} == {name} and said["dtype"] == "bfloat16"
    assert text.count("\n") == 9 and name in text


def test_bad_blocks_are_refused():
    for removed, words in (((), "No blocks"), ((3,), "0 to 2"), ((0, 1, 2), "All 3 blocks")):
        with pytest.raises(InputError, match=words):
            recipe("a", removed, 3, "float32")


def test_commands_are_lines_that_a_shell_takes_apart_again(tmp_path):
    place = tmp_path / "it's here"
    file = place / "a b.gguf"
    made = [
        commands.converter_command(place, "llama"),
        commands.converter_command(place, "qwen3"),
        commands.prune_layers_command(file, (7, 3), place / "out.gguf"),
        commands.quantize_command(file),
        commands.vllm_command(place),
        commands.mergekit_command(file, place, "qwen3"),
        *commands.run_commands(file).values(),
    ]
    for command in made:
        words = shlex.split(command.command)
        assert any(str(place) in word for word in words) and command.why and "\n" not in command.command
    assert shlex.split(made[2].command)[1:3] == ["--prune-layers", "3,7"]
    assert [c.tested for c in made] == [True] + [False] * (len(made) - 1)


def test_what_was_not_run_on_a_type_says_so():
    told = {kind: commands.mergekit_command(Path("r.yml"), Path("out"), kind) for kind in ("llama", "qwen3")}
    assert told["llama"].tested and not told["qwen3"].tested
    assert "list of its blocks" in told["qwen3"].why


def test_the_command_line_writes_a_recipe(tiny, tmp_path, capsys):
    out = tmp_path / "recipe"
    argv = ["prune", "--model", str(tiny["llama"]), "--format", "recipe", "--out", str(out), "--json"]
    assert main([*argv, "--blocks", "1,4"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["recipe"] == str(out / "recipe.yml") and said["tested"] and "mergekit-yaml" in said["command"]
    slices = yaml.safe_load((out / "recipe.yml").read_text())["slices"]
    assert [s["sources"][0]["layer_range"] for s in slices] == [[0, 1], [2, 4], [5, 6]]
    assert main([*argv, "--blocks", "1a"]) == 2 and "part of a block" in capsys.readouterr().out
    assert main([*argv, "--blocks", "9"]) == 2


def test_what_has_no_config_has_no_recipe(tmp_path):
    with pytest.raises(InputError, match="no folder with a config"):
        recipe_of(tmp_path, "nothing", [1])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="how many blocks"):
        recipe_of(tmp_path, "nothing", [1])
