"""What measures at real scale runs here too, on shapes made small, and has the sizes it claims."""

import re

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from core.calibration.gradient_rows import gradient_rows, made_up_ids
from core.model.load import load_model
from tests import bench_gpu, bench_rows, bench_targets, bench_vocabulary


def test_every_shape_runs_in_small_on_the_cpu(capsys):
    assert bench_gpu.main(["--scale", "64", "--length", "16", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "not measured" not in printed
    assert len(re.findall(r"-shaped, sizes / 64: ", printed)) == len(bench_gpu.SHAPES)
    rates = [float(rate) for rate in re.findall(r"([\d.]+) rows a second", printed)]
    assert len(rates) == 2 * len(bench_gpu.SHAPES) and min(rates) > 0


def test_without_cuda_one_sentence_says_so(capsys):
    assert bench_gpu.main(["--device", "cpu"]) == 0
    assert capsys.readouterr().out.count(".") == 1


@pytest.mark.parametrize(
    ("name", "billions", "blocks"), [("llama", 8.03, 32), ("qwen", 14.77, 40), ("nemotron", 31.6, 52)]
)
def test_shapes_have_the_weights_of_the_published_models(name, billions, blocks):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(bench_gpu.configured(name, 1))
    assert abs(sum(p.numel() for p in model.parameters()) / 1e9 - billions) < 0.05
    assert model.config.num_hidden_layers == blocks


def test_operations_count_the_weights_that_a_token_meets():
    loaded = bench_gpu.built("nemotron", 64, torch.device("cpu"))
    idle = sum(b.parameters - b.active_parameters for b in loaded.blocks)
    assert idle > 0
    met = sum(p.numel() for p in loaded.modules.parameters()) - idle + loaded.model.lm_head.weight.numel()
    assert bench_gpu.operations(loaded, 10) == 40 * met


def test_the_rows_of_torch_func_are_the_same():
    loaded, _ = bench_rows.prepared("moe")
    ids = made_up_ids(loaded, 2, 12)
    assert bench_rows.no_vmap(loaded, ids) == ""
    rows, _, _ = gradient_rows(loaded, ids)
    assert torch.allclose(bench_rows.vmapped_rows(loaded, ids), rows, atol=1e-4 * float(rows.norm()))


def test_what_a_vocabulary_costs_is_measured_on_any_model(capsys, monkeypatch):
    monkeypatch.setattr(bench_vocabulary, "LENGTH", 16)
    monkeypatch.setattr(bench_vocabulary, "BATCH", 4)  # sequences
    loaded = load_model("demo")
    bench_vocabulary.ratios(loaded, 1)
    bench_vocabulary.singles(loaded)
    printed = capsys.readouterr().out
    assert re.search(r"rows against plain autograd.* 2 ok$", printed, re.M)
    assert re.search(r"losses against whole logits.* 10 ok$", printed, re.M)
    executed = re.search(r"all 24 single removals, executed +([\d.]+) forwards +bar 13 ok$", printed, re.M)
    assert executed and float(executed[1]) == 1 + 23 / 2
    for _, run in bench_vocabulary.TASKS.values():
        run(loaded)
    assert bench_vocabulary.SHAPE["vocab_size"] == 49152


def test_targets_are_listed_and_proved(capsys):
    bench_targets.main(["--blocks", "10", "--only", "branches"])
    bench_targets.main(["--blocks", "", "--only", "SmolLM2"])
    lines = capsys.readouterr().out.splitlines()
    for name, count in (("branches of 10 blocks", 1), ("SmolLM2", len(bench_targets.ESTIMATORS))):
        own = [line for line in lines if line.startswith(name)]
        assert len(own) == count * len(bench_targets.targets(30))
        assert all("  exact, bar 0.3 s" in line for line in own)


def test_the_trained_model_of_80_blocks_is_seen_by_branch():
    deep = [case for case in bench_targets.cases([]) if "80" in case.name]
    assert deep and all(case.H.shape == (160, 160) and case.bar == 10 for case in deep)
    for case in deep:
        assert np.isfinite(case.H).all() and np.allclose(case.H, case.H.T) and (np.diag(case.H) > 0).all()
        assert case.weights[1] > case.weights[0] > 0
