"""Training a student: the loss, the methods, budgets, ends, and the same weights after any kill."""

import json
import math
import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core.errors import InputError
from core.heal.losses import distillation_loss
from core.heal.needs import seams
from core.heal.settings import KL, LORA, SEAMS, Settings
from core.heal.student import keep, made_ready
from core.heal.teacher import Padded, Teacher
from core.heal.training import _arguments, _Budget, _steps, train
from core.model.load import load_model, wrap
from core.model.surgery import remove_blocks
from core.ranks import ALONE
from tests.heal.conftest import losses_of
from tests.zoo import tiny_model

REMOVED = (2, 3)


def hidden_and_heads(vocabulary=40, width=8):
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(2, 9, width, generator=generator) for _ in range(2)]
    weights = [torch.randn(vocabulary, width, generator=generator) for _ in range(2)]
    ids = torch.randint(0, vocabulary, (2, 9), generator=generator)
    return made, weights, ids


@pytest.mark.parametrize("pieces", [3, 256])
def test_the_loss_is_what_its_definition_says(monkeypatch, pieces):
    monkeypatch.setattr("core.heal.losses.TOKENS", pieces)
    (h, t), (own, theirs), ids = hidden_and_heads()
    scored = torch.ones_like(ids, dtype=torch.bool)
    scored[0, :4] = False
    settings = Settings(KL, tokens=1, temperature=2.0, next_token=0.5, hidden=0.25)
    h.requires_grad_()
    heads = (lambda x: x @ own.T, lambda x: x @ theirs.T)
    found = distillation_loss(h, t, ids, scored, heads, settings)
    (gradient,) = torch.autograd.grad(found, h)

    counts = scored[:, 1:]
    a, b = h[:, :-1][counts], t[:, :-1][counts]
    p, q = (b @ theirs.T / 2).softmax(-1), (a @ own.T / 2).log_softmax(-1)
    kl = 4 * (p * (p.log() - q)).sum(-1).mean()
    loss = torch.nn.functional.cross_entropy(a @ own.T, ids[:, 1:][counts])
    apart = (a - b).square().sum() / b.square().sum()
    expected = kl + 0.5 * loss + 0.25 * apart
    assert float(found.detach()) == pytest.approx(float(expected), rel=1e-5)
    assert torch.allclose(gradient, torch.autograd.grad(expected, h)[0], atol=1e-5)


def test_seams_are_the_blocks_beside_each_cut():
    assert seams([2, 3], 6) == [1, 2]  # 1 and 4 of the whole model
    assert seams([0, 5], 6) == [0, 3]
    assert seams([1, 3], 6) == [0, 1, 2]


def healed(pair, sequences, tmp_path, settings, removed=REMOVED, states_room=0):
    teacher, student = pair()
    remove_blocks(student, removed)
    before = {name: p.clone() for name, p in student.model.named_parameters()}
    found = train(
        student,
        Teacher(teacher),
        removed,
        settings,
        sequences("calibrate", 48),
        sequences("choose", 12),
        tmp_path,
        states_room=states_room,
    )
    return teacher, student, before, found


@pytest.mark.parametrize("method", [KL, LORA, SEAMS])
def test_a_method_wins_back_part_of_the_loss(pair, sequences, tmp_path, method):
    settings = Settings(method, tokens=8000, rate=3e-3, batch=4)
    _, student, before, found = healed(pair, sequences, tmp_path, settings)
    held = sequences("choose", 12)
    assert found.tokens == found.steps * 4 * 24 and found.steps == 8000 // (4 * 24)
    assert found.after.kl < 0.8 * found.before.kl
    assert losses_of(student, held) == pytest.approx(found.after.loss, abs=1e-5)  # the best, LoRA merged
    after = dict(student.model.named_parameters())
    assert after.keys() == before.keys()  # no matrix of LoRA is left
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    if method == SEAMS:
        assert {name.split(".")[2] for name in changed} == {"1", "2"}
    elif method == LORA:
        assert all("proj" in name for name in changed) and len(changed) == 4 * 7
    else:
        assert len(changed) == len(after)
    assert not any(p.requires_grad for p in student.model.parameters())


def test_kept_states_train_as_computed_ones(pair, sequences, tmp_path):
    """The original's hidden states on disk are exact: equal weights, to the last bit."""
    ends = []
    for kept in (False, True):
        settings = Settings(SEAMS, tokens=3000, batch=4)
        work = tmp_path / str(kept)
        work.mkdir()
        _, student, _, found = healed(pair, sequences, work, settings, states_room=kept << 20)
        ends.append((found.after, dict(student.model.named_parameters())))
    assert (tmp_path / "True" / "teacher.npy").exists()
    assert ends[0][0] == ends[1][0]
    assert all(torch.equal(p, ends[1][1][name]) for name, p in ends[0][1].items())


@pytest.mark.parametrize("method", [KL, LORA, SEAMS])
def test_a_model_in_half_precision_learns(tiny, sequences, tmp_path, method):
    """As a GPU holds one that is stored so."""
    teacher, student = (load_model(str(tiny["llama"]), dtype=torch.bfloat16) for _ in range(2))
    remove_blocks(student, REMOVED)
    parts = sequences("calibrate", 16), sequences("choose", 4)
    settings = Settings(method, tokens=2000, batch=4, rate=3e-3)
    found = train(student, Teacher(teacher), REMOVED, settings, *parts, tmp_path, states_room=1 << 20)
    assert found.after.kl < 0.6 * found.before.kl and (tmp_path / "teacher.npy").exists()
    assert next(teacher.model.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["mamba", "llama4_text", "zamba"])
def test_a_model_that_lora_does_not_fit_is_refused(kind):
    """peft knows no layer of the first; in the second it lies around a router, which then does not run; the
    third has layers that share their weights.
    """
    student = wrap(tiny_model(kind), None, kind, None)
    with pytest.raises(InputError, match=f"LoRA does not fit '{kind}'.*choose the method 'seams'"):
        made_ready(student, [1], 5, Settings(LORA, tokens=1))


def test_a_process_takes_one_gpu_of_several(tmp_path, monkeypatch):
    """As transformers sees two: it would share each step among them."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    arguments = _arguments(Settings(KL, tokens=1), 10, tmp_path, gpu=True)
    assert arguments.n_gpu == 1 and arguments.train_batch_size == 8 and arguments.bf16
    assert _arguments(Settings(KL, tokens=1), 10, tmp_path, gpu=False).use_cpu


def test_states_of_a_head_that_is_not_cut_off_are_kept_too(pair, sequences, tmp_path):
    """Its hidden states are the logits."""
    teacher, student = pair()
    remove_blocks(student, REMOVED)
    teacher.head.pieces = student.head.pieces = False
    parts = sequences("calibrate", 16), sequences("choose", 4)
    settings = Settings(SEAMS, tokens=1000, batch=4)
    found = train(student, Teacher(teacher), REMOVED, settings, *parts, tmp_path, states_room=1 << 20)
    kept = np.load(tmp_path / "teacher.npy", mmap_mode="r")
    assert kept.shape == (16, 24, teacher.config.vocab_size) and found.after.kl < found.before.kl


@pytest.mark.parametrize("accumulate", [1, 3])
def test_tokens_are_those_that_were_read(pair, sequences, tmp_path, monkeypatch, accumulate):
    """A step holds no sequence twice: the last one of a reading of all is smaller."""
    teacher, student = pair()
    remove_blocks(student, REMOVED)
    read, own = [], Teacher.hidden
    monkeypatch.setattr(Teacher, "hidden", lambda self, n, ids: (read.append(ids), own(self, n, ids))[1])
    settings = Settings(SEAMS, tokens=4000, batch=8, accumulate=accumulate, evaluations=2)
    parts = sequences("calibrate", 20), sequences("choose", 4)
    found = train(student, Teacher(teacher), REMOVED, settings, *parts, tmp_path)
    assert found.tokens == sum(ids.numel() for ids in read) and 4000 - 20 * 24 < found.tokens <= 4000
    assert [row["tokens"] for row in found.curve if "loss" in row][:3] == {
        1: [192, 384, 480],
        3: [480, 960, 1440],
    }[accumulate]


def test_minutes_become_steps_that_fit_in(pair, sequences, tmp_path):
    began = time.monotonic()
    settings = Settings(KL, minutes=0.03, batch=4, evaluations=3)
    _, _, _, found = healed(pair, sequences, tmp_path, settings)
    assert found.steps == found.planned > 3
    assert time.monotonic() - began < 15
    rows = [row for row in found.curve if "kl" in row]
    assert rows[0]["tokens"] == 0 and rows[-1]["tokens"] == found.tokens and len(rows) in (3, 4, 5)
    assert all(a["seconds"] <= b["seconds"] for a, b in zip(found.curve, found.curve[1:]))


def test_what_planning_took_is_of_the_minutes_too(sequences, monkeypatch):
    """The timed steps, and the original's reading where its states are kept."""
    monkeypatch.setattr("core.heal.training._step_seconds", lambda *_: 0.1)
    budget = _Budget(Settings(KL, minutes=1.0), None, Padded(sequences("calibrate", 16)), ALONE)
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    steps = [_steps(budget, None, lambda: None, 1000.0 - taken) for taken in (0, 30)]
    assert steps == pytest.approx([600, 300], abs=3)


def test_a_rate_too_high_ends_with_a_sentence_and_the_best_weights(pair, sequences, tmp_path):
    settings = Settings(KL, tokens=20_000, rate=30.0, batch=4)
    _, student, before, found = healed(pair, sequences, tmp_path, settings)
    assert "makes it worse" in found.stopped or "no number" in found.stopped
    assert found.steps < found.planned and found.best_step == 0 and found.after == found.before
    assert all(torch.equal(p, before[name]) for name, p in student.model.named_parameters())


def test_weights_that_become_nan_end_it(pair, sequences, tmp_path):
    settings = Settings(KL, tokens=20_000, rate=1e30, batch=4)
    _, student, before, found = healed(pair, sequences, tmp_path, settings)
    assert "learning rate" in found.stopped and found.steps < found.planned
    assert all(torch.equal(p, before[name]) for name, p in student.model.named_parameters())
    assert json.dumps(found.curve, allow_nan=False)


def test_what_gets_no_better_stops_early(pair, sequences, tmp_path):
    settings = Settings(SEAMS, tokens=50_000, rate=1e-12, batch=4, evaluations=40, patience=2)
    _, _, _, found = healed(pair, sequences, tmp_path, settings)
    assert found.steps < found.planned and "no better in 2 evaluations" in found.stopped


@pytest.mark.parametrize(
    "settings",
    [
        Settings(SEAMS, tokens=3000, batch=4, evaluations=4),
        Settings(SEAMS, tokens=9000, rate=1e-12, batch=4, evaluations=20, patience=2),
    ],
    ids=["at the end of its budget", "early"],
)
def test_killed_behind_its_last_checkpoint_it_trains_no_more(pair, sequences, tmp_path, settings):
    _, student, _, found = healed(pair, sequences, tmp_path, settings)
    (tmp_path / "end.json").unlink()
    _, other, _, again = healed(pair, sequences, tmp_path, settings)
    assert (again.steps, again.after, again.stopped) == (found.steps, found.after, found.stopped)
    ends = [dict(s.model.named_parameters()) for s in (student, other)]
    assert all(torch.equal(p, ends[1][name]) for name, p in ends[0].items())


@pytest.mark.parametrize("budget", [{"tokens": 3000}, {"minutes": 0.01}])
def test_a_student_whose_loss_is_no_number_is_refused(pair, sequences, tmp_path, budget):
    teacher, student = pair()
    remove_blocks(student, REMOVED)
    next(student.model.parameters()).fill_(math.nan)
    parts = sequences("calibrate", 8), sequences("choose", 4)
    with pytest.raises(InputError, match="no number before any training"):
        train(student, Teacher(teacher), REMOVED, Settings(KL, **budget), *parts, tmp_path)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"method": "best"}, "no method 'best'"),
        ({}, "minutes or tokens"),
        ({"minutes": 1, "tokens": 5}, "minutes or tokens"),
        ({"minutes": -1.0}, "minutes must be a number above 0"),
        ({"minutes": math.nan}, "minutes must be a number above 0"),
        ({"minutes": 1e9}, "minutes must be at most 10,000, a week, not 1e"),
        ({"tokens": 10, "batch": 0}, "batch must be at least 1"),
        ({"tokens": 10, "hidden": -1}, "hidden must be 0 or more"),
        ({"tokens": 10, "replace": "glue"}, "'glue' replaces no blocks"),
        ({"method": "linear", "replace": "merge"}, "'linear' trains nothing"),
    ],
)
def test_settings_that_cannot_be(options, said):
    with pytest.raises(InputError, match=said):
        Settings(**options)


EVERY, KILLS = 9, 10


def forked(made, work, last: int | None = None) -> tuple[int, object]:
    """(process id, file of its steps) of a process that heals in `work` and keeps the end there; behind the
    last step it waits.
    """
    ours, theirs = os.pipe()
    child = os.fork()
    if child:
        os.close(theirs)
        return child, os.fdopen(ours)
    try:
        torch.set_num_threads(1)
        teacher, student, parts = made
        settings = Settings("lora", tokens=10_000, batch=4, evaluations=12, rate=3e-3)

        def told(done, total, message):
            os.write(theirs, f"{done}\n".encode())
            if done == last:
                signal.pause()

        train(student, Teacher(teacher), REMOVED, settings, *parts, work, report=told)
        student.model.requires_grad_(True)
        keep(student.model, work / "ended.safetensors")
    finally:
        os._exit(0)


def test_killed_again_and_again_it_ends_with_the_same_weights(pair, sequences, tmp_path):
    """SIGKILL at random steps, ten times: what is lost is one checkpoint's work at most, and the end is bit
    for bit that of a run that nobody killed.
    """
    teacher, student = pair()
    remove_blocks(student, REMOVED)
    made = teacher, student, (sequences("calibrate", 48), sequences("choose", 12))
    rng, at, lost = random.Random(0), 0, []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    for _ in range(KILLS):
        seen, stop = [], at + rng.randint(1, 12)
        child, steps = forked(made, tmp_path / "killed", stop + 2)
        for line in steps:
            seen.append(int(line))
            if seen[-1] >= stop:
                time.sleep(rng.uniform(0, 0.1))
                os.kill(child, signal.SIGKILL)
                break
        seen += [int(line) for line in steps if line.endswith("\n")]
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        lost.append(at - (seen[0] - 1))
        at = seen[-1]
    assert max(lost) <= EVERY and any(lost), lost
    for name in ("killed", "whole"):
        child, steps = forked(made, tmp_path / name)
        steps.read()
        os.waitpid(child, 0)
    ends = [load_file(tmp_path / name / "ended.safetensors") for name in ("whole", "killed")]
    assert ends[0].keys() == ends[1].keys() and len(ends[0]) > 4 * 7
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    logs = [json.loads((tmp_path / name / "end.json").read_text())["curve"] for name in ("whole", "killed")]
    held = [[(row["step"], row["kl"]) for row in log if "kl" in row] for log in logs]
    assert held[0] == held[1] and len(held[0]) == 13
