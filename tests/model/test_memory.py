"""The memory that a calibration will need, against what a process of its own was seen to take."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from core.model.memory import calibration_bytes
from tests.conftest import byte_tokenizer

SIZES = {
    "llama": dict(
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        vocab_size=8000,
    ),
    "gpt2": dict(n_embd=384, n_layer=8, n_head=4, n_positions=512, vocab_size=2000),
}
SCRIPT = """
import json, sys
import torch
from core.model.memory import calibration_bytes, peak_bytes
from core.model.load import load_model
from core.calibration.gradient_rows import gradient_rows, made_up_ids

model, batch, length = sys.argv[1], 8, 192
base = peak_bytes()
both = (True, False)
estimates = [calibration_bytes(model, batch, length, checkpointed=c) - base for c in both]
loaded = load_model(model, device="cpu")
seen = []
for checkpointed in (True, False):  # the lower peak first
    gradient_rows(loaded, made_up_ids(loaded, batch, length), checkpointed=checkpointed)
    seen.append(peak_bytes() - base)
print(json.dumps([estimates, seen]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator is told in glibc's way")
@pytest.mark.parametrize("kind", SIZES)
def test_the_estimate_is_within_a_factor_of_one_and_a_half(kind, tmp_path):
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES[kind])).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    environment = {
        **os.environ,
        "MALLOC_MMAP_THRESHOLD_": "1000000",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.getcwd(),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path], capture_output=True, text=True, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    estimates, seen = json.loads(done.stdout.splitlines()[-1])
    assert seen[1] > 1.5 * seen[0]  # there is something to tell apart
    for estimate, peak in zip(estimates, seen):
        assert 1 / 1.5 < estimate / peak < 1.5, (estimates, seen)


def test_the_estimate_reads_no_weights_and_grows_with_batch_and_length(tiny, tmp_path):
    folder = str(tiny["llama"])
    before = torch.get_rng_state()
    base = calibration_bytes(folder, 1, 32)
    steps = [calibration_bytes(folder, 2, 32) - base, calibration_bytes(folder, 1, 64) - base]
    assert all(step > 32 * 258 * 8 for step in steps) and torch.equal(torch.get_rng_state(), before)


def test_a_model_of_experts_has_no_estimate(tmp_path):
    sizes = dict(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
    )
    AutoModelForCausalLM.from_config(AutoConfig.for_model("mixtral", **sizes, vocab_size=99)).save_pretrained(
        tmp_path
    )
    assert calibration_bytes(str(tmp_path), 2, 16) is None
