"""One healing, measured: what tests.bench_heal and tests.bench_heal_smollm2 have in common.

Budgets are CPU seconds by the process's own clock, so that a busy machine changes nothing; all that the
training takes is counted (reading by the original, steps, evaluations, checkpoints), loading models and
judging are not. Judged on sequences that neither training nor the choice of a checkpoint has seen.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from core.heal.healing import healed as heal
from core.heal.replacement import replace_blocks
from core.heal.settings import Settings
from core.heal.teacher import Padded, Teacher
from core.heal.training import train
from core.measure.evaluation import sequence_losses
from core.model.load import LoadedModel, load_model
from core.model.surgery import remove_blocks
from core.texts import Sequences
from core.texts.sequences import part_of

FITTED = 256  # sequences of a linear map
PROBE = 8  # steps that tell what a step costs
MOST = 0.97  # of a budget that is planned: a probe of a few steps is no promise


@dataclass(frozen=True)
class Bench:
    """A model and its sequences: those it learns on, those that choose the checkpoint, those that judge."""

    model: str
    learn: Sequences
    held: Sequences
    report: Sequences

    def losses(self, loaded: LoadedModel, removed: Sequence[int] = ()) -> np.ndarray:
        """float64 [S], nats of each judging sequence."""
        return sequence_losses(loaded, self.report.ids, removed)


def won_back(original: np.ndarray, pruned: np.ndarray, healed: np.ndarray) -> tuple[float, float]:
    """(share of the increase that came back, ± of its 95 % interval): paired over sequences, a ratio of
    means. All: nats [S].
    """
    lost, back = pruned - original, pruned - healed
    share = back.mean() / lost.mean()
    return float(share), float(1.96 * (back - share * lost).std(ddof=1) / len(lost) ** 0.5 / lost.mean())


def healed(
    bench: Bench,
    removed: Sequence[int],
    settings: Settings,
    work: Path | None = None,
    parts: Sequence[Sequence[int]] = (),
) -> tuple[LoadedModel, dict]:
    """A student healed with the settings' tokens, and {losses [S], cpu, tokens, best_tokens, before, after,
    curve}: CPU seconds; tokens read, and up to the best; before, after: (KL, loss) on `bench.held`.

    work: a folder from which a call that was cut off goes on; None: one for this call. parts: the removed
    blocks in rounds.
    """
    if work is None:
        with TemporaryDirectory() as own:
            return healed(bench, removed, settings, Path(own), parts)
    work.mkdir(parents=True, exist_ok=True)
    original, student = load_model(bench.model), load_model(bench.model)
    clock, row = _Clock(work / "cpu.json"), dict[str, Any](tokens=0)
    if not settings.trains:  # alone: nothing is judged in between
        replace_blocks(student, original, removed, settings.method, part_of(bench.learn, slice(0, FITTED)))
        spent = clock.spent()
    else:
        rounds = list(map(list, parts or [removed]))
        found, _ = heal(student, original, rounds, settings, bench.learn, bench.held, work, note=clock)
        spent = clock.spent()
        row = {
            "tokens": found.tokens,
            "best_tokens": found.best_step * found.tokens // max(1, found.steps),
            "before": [found.before.kl, found.before.loss],
            "after": [found.after.kl, found.after.loss],
            "stopped": found.stopped,
            "curve": [
                {**point, "cpu": clock.at[str(point["tokens"])]} for point in found.curve if "kl" in point
            ],
        }
    return student, {"cpu": spent, **row, "losses": bench.losses(student)}


class _Clock:
    """CPU seconds of a training over all processes that it took: kept at each line of its log."""

    def __init__(self, path: Path):
        self.path, self.began = path, time.process_time()
        kept = json.loads(path.read_text()) if path.exists() else {"spent": 0.0, "at": {}}
        self.earlier: float = kept["spent"]
        self.at: dict[str, float] = kept["at"]  # at the first line with so many tokens

    def spent(self) -> float:
        """Of this process and those before."""
        return self.earlier + time.process_time() - self.began

    def __call__(self, row) -> None:
        self.at.setdefault(str(row["tokens"]), round(self.spent(), 1))
        self.path.write_text(json.dumps({"spent": self.spent(), "at": self.at}))


def tokens_within(bench: Bench, removed: Sequence[int], settings: Settings, seconds: float) -> int:
    """Of a training that takes so many CPU seconds, by one of a few steps."""
    each = settings.batch * settings.accumulate * bench.learn.ids.shape[1]
    original, student = load_model(bench.model), load_model(bench.model)
    remove_blocks(student, removed)
    teacher, marks = Teacher(original), []
    probe = replace(settings, tokens=PROBE * each, minutes=None, evaluations=1)
    with TemporaryDirectory() as own:
        train(
            student,
            teacher,
            removed,
            probe,
            bench.learn,
            bench.held,
            Path(own),
            note=lambda row: marks.append((time.process_time(), row)),
        )
    steps = [at for at, row in marks if "loss" in row]
    evaluation = next(at for at, row in reversed(marks) if "kl" in row) - steps[-1]
    step = (steps[-1] - steps[1]) / (len(steps) - 2)
    left = MOST * seconds - (settings.evaluations + 1) * evaluation
    count = int(left / step)
    if count * each > bench.learn.ids.size:  # read again and again: what the original says of it is kept
        reading = _reading(teacher, bench.learn)
        count = int((left - reading * bench.learn.ids.size) / (step - reading * each))
    return count * each


def _reading(teacher: Teacher, learn: Sequences) -> float:
    """CPU seconds that the original reads a token for."""
    few = Padded(part_of(learn, slice(0, 16)))
    teacher.hidden(torch.arange(16), few.ids)
    began = time.process_time()
    teacher.hidden(torch.arange(16), few.ids)
    return (time.process_time() - began) / few.ids.numel()
