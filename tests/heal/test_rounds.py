"""Removing in rounds: which blocks go first, what a round gets, and that the end is that of a run that nobody
killed.
"""

from itertools import combinations

import numpy as np
import pytest
import torch

from core.errors import InputError
from core.heal.parts import in_parts, share_of
from core.heal.rounds import train_in_rounds
from core.heal.settings import KL, LORA, SEAMS, Settings
from core.heal.teacher import Padded, Teacher
from core.heal.training import judged
from core.model.load import load_model
from core.model.surgery import remove_blocks
from tests.heal.conftest import losses_of


def energy(H, state) -> float:
    return float(H[np.ix_(state, state)].sum())


@pytest.mark.parametrize("seed", range(4))
def test_each_round_takes_what_leaves_the_lowest_energy(seed):
    rng = np.random.default_rng(seed)
    H = rng.normal(size=(12, 12))
    H = H + H.T
    removed = sorted(rng.choice(12, 7, replace=False).tolist())
    parts = in_parts(removed, 3, H)
    assert [len(part) for part in parts] == [3, 2, 2] and sorted(sum(parts, [])) == removed
    gone: list[int] = []
    for part in parts:
        choices = [[*gone, *more] for more in combinations(sorted(set(removed) - set(gone)), len(part))]
        gone = sorted([*gone, *part])
        assert energy(H, gone) == pytest.approx(min(energy(H, c) for c in choices))


def test_without_couplings_they_go_as_they_are_named():
    assert in_parts([9, 3, 7, 1], 2) == [[9, 3], [7, 1]]
    assert in_parts([3, 7, 9], 1, np.eye(12)) == [[3, 7, 9]]
    with pytest.raises(InputError, match="cannot be removed in 4 rounds"):
        in_parts([3, 7, 9], 4)


def test_rounds_share_one_budget():
    settings = Settings(KL, tokens=1001, seed=5, evaluations=10)
    shares = [share_of(settings, 3, number) for number in range(3)]
    assert [s.tokens for s in shares] == [333] * 3 and [s.seed for s in shares] == [5, 6, 7]
    assert shares[0].evaluations == 4
    assert share_of(Settings(KL, minutes=3), 2, 0).minutes == 1.5
    for settings in (Settings("linear"), Settings(KL, tokens=9, replace="merge")):
        with pytest.raises(InputError, match="plain removal"):
            share_of(settings, 2, 0)


def test_rounds_that_diverge_end_with_a_sentence_each(tiny, sequences, tmp_path):
    settings = Settings(KL, tokens=2000, rate=1e30, batch=4, evaluations=2)
    found, student, *_ = run(tiny, sequences, tmp_path / "work", settings)
    assert found.stopped.count("no number any more") == 2 and "Round 2 of 2: " in found.stopped
    assert any(row.get("loss", 0.0) is None for row in found.curve) and found.after.kl == found.before.kl
    assert all(torch.isfinite(p).all() for p in student.model.parameters())


class Killed(Exception):
    pass


def run(tiny, sequences, work, settings, stop=None):
    """(what it told, the student, the progress that was reported, the log), ended where `stop` says."""
    teacher, student = (load_model(str(tiny["llama"])) for _ in range(2))
    seen, log = [], []

    def report(done, total, message):
        seen.append((done, total, message))
        if stop and stop(message, done):
            raise Killed

    held = sequences("choose", 12)
    work.mkdir(exist_ok=True)
    found = train_in_rounds(
        student,
        Teacher(teacher),
        [[3], [1, 4]],
        settings,
        sequences("calibrate", 32),
        held,
        work,
        states_room=1 << 24,
        report=report,
        note=log.append,
    )
    return found, student, seen, log


@pytest.mark.parametrize("method", [KL, LORA, SEAMS])
def test_rounds_heal_and_go_on_where_they_were_killed(tiny, sequences, tmp_path, method):
    settings = Settings(method, tokens=6000, rate=3e-3, batch=4, evaluations=6)
    found, student, seen, log = run(tiny, sequences, tmp_path / "whole", settings)
    assert len(student.blocks) == 3 and student.config.num_hidden_layers == 3
    held = sequences("choose", 12)
    assert found.after.kl < 0.8 * found.before.kl
    assert found.after.loss == pytest.approx(losses_of(student, held), abs=1e-5)
    bare = load_model(str(tiny["llama"]))
    remove_blocks(bare, [1, 3, 4])
    teacher = Teacher(load_model(str(tiny["llama"])))
    assert found.before.kl == pytest.approx(judged(bare, teacher, Padded(held)).kl, abs=1e-6)
    assert found.steps == 2 * (3000 // 96) == found.planned and found.tokens == found.steps * 96
    steps = [row["step"] for row in found.curve]
    assert steps == sorted(steps) and steps[-1] == found.steps and found.best_step > found.steps // 2
    shares = [done / total for done, total, message in seen if "healing" in message]
    assert shares == sorted(shares) and shares[-1] == 1
    assert [row["kl"] for row in log if "kl" in row] == [row["kl"] for row in found.curve if "kl" in row]

    work, stops = tmp_path / "killed", [("round 1", 15), ("round 2", 40), ("round 2", 55)]
    for name, at in stops:
        with pytest.raises(Killed):
            run(tiny, sequences, work, settings, lambda text, done, n=name, a=at: n in text and done == a)
    again, other, _, relog = run(tiny, sequences, work, settings)
    assert again.after == found.after and again.best_step == found.best_step
    ends = [dict(s.model.named_parameters()) for s in (student, other)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(p, ends[1][name]) for name, p in ends[0].items())
    told = lambda rows: [(row["tokens"], row["kl"]) for row in rows if "kl" in row]  # noqa: E731
    assert told(relog) == told(log)  # what a page draws begins with the first round again
    assert (
        not list(work.glob("round-*/checkpoints"))
        and (work / "teacher.npy").exists() == (tmp_path / "whole" / "teacher.npy").exists()
    )
