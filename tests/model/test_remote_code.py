"""A model folder's own Python files: run only on request, part of the run's key, and taken along by an
export.
"""

import json
from shutil import copyfile, copytree

import numpy as np
import pytest
import torch
import transformers.dynamic_module_utils as dynamic

from core.calibration.calibrate import run_key
from core.calibration.gradient_rows import gradient_rows
from core.errors import InputError
from core.export import write
from core.export.by_shard import plan_of, write_plan
from core.export.making import beside
from core.export.shard_proof import prove_by_shard
from core.measure.evaluation import sequence_losses
from core.model.gates import GATE, gate_of
from core.model.load import load_model
from core.model.skeleton import open_skeleton
from core.model.surgery import remove_blocks
from core.texts import pack, read_texts
from tests.targets import differs

CONFIGURATION = """
from transformers import LlamaConfig

class OwnConfig(LlamaConfig):
    model_type = "own-kind"
"""
MODELING = """
import pathlib
from transformers import LlamaForCausalLM
from .configuration_own import OwnConfig

pathlib.Path({marker!r}).touch()

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        out.logits = 1.5 * out.logits
        return out
"""
IDS = np.random.default_rng(0).integers(2, 200, (3, 20))


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory):
    """A place of the tests' own for the copies that transformers makes of such code, here and in other
    processes.
    """
    place = str(tmp_path_factory.mktemp("modules"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic, "HF_MODULES_CACHE", place)
        patch.setenv("HF_MODULES_CACHE", place)
        yield


@pytest.fixture
def own(tiny, tmp_path):
    """(folder, marker that its code writes) of a llama whose logits are scaled by code in its folder."""
    folder, marker = copytree(tiny["llama"], tmp_path / "own"), tmp_path / "marker"
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own-kind",
        "architectures": ["OwnForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_own.OwnConfig",
            "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_own.py").write_text(CONFIGURATION)
    (folder / "modeling_own.py").write_text(MODELING.format(marker=str(marker)))
    return folder, marker


def test_without_the_request_one_sentence_says_what_would_run_and_how(own):
    folder, marker = own
    with pytest.raises(InputError) as caught:
        load_model(str(folder))
    sentence = str(caught.value)
    assert (
        "auto_map in config.json: configuration_own.py, modeling_own.py" in sentence
        and "give --trust-remote-code" in sentence
    )
    assert "\n" not in sentence and len(sentence) < 420 and not marker.exists()


def test_on_request_the_code_is_run_and_the_model_is_calibrated_by_it(own, tiny, text_file):
    folder, marker = own
    loaded, plain = (
        load_model(str(folder), remote_code=True),
        load_model(str(tiny["llama"]), remote_code=True),
    )
    assert marker.exists() and loaded.own_code and not plain.own_code
    assert (
        type(loaded.model).__name__ == "OwnForCausalLM"
        and len(loaded.blocks) == 6
        and gate_of(loaded) == GATE
    )
    ids = torch.from_numpy(IDS)
    with torch.no_grad():
        assert torch.allclose(loaded.model(input_ids=ids).logits, 1.5 * plain.model(input_ids=ids).logits)
    assert torch.isfinite(gradient_rows(loaded, ids)[0]).all()

    sequences = pack(read_texts(text_file), loaded.tokenizer, "calibrate", 24, 3)
    key = run_key(loaded, sequences, False, None, 0)
    assert "code" not in plain.digest() and len(loaded.digest()["code"]) == 2
    with open(folder / "modeling_own.py", "a") as f:
        f.write("# another version\n")
    assert run_key(load_model(str(folder), remote_code=True), sequences, False, None, 0) != key


def test_an_export_takes_the_code_along_and_is_verified_with_it(own, tmp_path):
    folder, _ = own
    expected = sequence_losses(load_model(str(folder), remote_code=True), IDS, (1, 4))
    write.prune(str(folder), [1, 4], tmp_path / "out", remote_code=True)
    assert {p.name for p in (tmp_path / "out").glob("*.py")} == {"configuration_own.py", "modeling_own.py"}
    record = json.loads((tmp_path / "out" / "blockscape.json").read_text())
    assert "modeling_own.py" in record["files"]
    with pytest.raises(InputError, match="only on request"):
        load_model(str(tmp_path / "out"))
    again = load_model(str(tmp_path / "out"), remote_code=True)
    assert np.allclose(sequence_losses(again, IDS), expected, atol=1e-5) and len(again.blocks) == 4


def test_own_code_is_taken_along_shard_by_shard_too(own, tmp_path):
    folder, _ = own
    skeleton = open_skeleton(str(folder), remote_code=True)
    write_plan(plan_of(skeleton, (1, 4)), tmp_path / "out", lambda *_: None)
    for file in beside(skeleton.loaded.files):
        copyfile(file, tmp_path / "out" / file.name)
    found = prove_by_shard(str(folder), tmp_path / "out", (1, 4), remote_code=True)
    assert found["problem"] is None and found["proof"] == "logits"
    loaded = load_model(str(folder), remote_code=True)
    remove_blocks(loaded, [1, 4])
    loaded.model.save_pretrained(tmp_path / "memory")
    assert differs(tmp_path / "memory", tmp_path / "out") is None


@pytest.mark.parametrize(
    "reference",
    [
        "owner/other--modeling_own.OwnForCausalLM",
        "../modeling_own.Own",
        "missing.Model",
        "os.path",
        7,
        {"a": ["gone.X", None]},
    ],
)
def test_code_from_elsewhere_is_refused_on_request_too(own, reference):
    folder, marker = own
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"]["AutoModelForCausalLM"] = reference
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="which is no Python file in its folder"):
        load_model(str(folder), remote_code=True)
    assert not marker.exists()


@pytest.mark.parametrize(
    "entries", [{"custom_generate": "evil/generate"}, {"kernel_config": {"RMSNorm": "evil/kernel"}}]
)
def test_other_ways_to_code_stay_closed_on_request(own, entries):
    folder, marker = own
    (folder / "generation_config.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match="which Blockscape never does"):
        load_model(str(folder), remote_code=True)
    assert not marker.exists()
