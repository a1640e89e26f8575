"""Remove a part of the blocks, heal, remove the next, heal again (IteRABRe, arXiv 2503.06291)."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from core.heal.parts import share_of
from core.heal.settings import Settings
from core.heal.teacher import Padded, Teacher
from core.heal.training import CHECKPOINTS, STATES, Note, Report, Trained, judged, train
from core.model.load import LoadedModel
from core.model.surgery import remove_blocks, without
from core.ranks import ALONE, Ranks
from core.texts import Sequences


def train_in_rounds(
    student: LoadedModel,
    teacher: Teacher,
    parts: Sequence[Sequence[int]],
    settings: Settings,
    texts: Sequences,
    held: Sequences,
    work: Path,
    *,
    states_room: int = 0,
    report: Report = lambda done, total, message: None,
    note: Note = lambda row: None,
    ranks: Ranks = ALONE,
) -> Trained:
    """As core.heal.training.train, of a student that is whole: each part is removed and healed with an equal
    share of the budget, the next from the best of it. Killed, the same call goes on in its round.

    parts: the blocks of each round, by their numbers in the teacher. In what is told `before` is of all
    parts removed at once and unhealed, and `best_step` of the last round. Errors: as `train`,
    core.heal.parts.share_of and core.model.surgery.check_removal.
    """
    gone: list[int] = []
    with without(student, sorted(b for part in parts for b in part)):
        bare = judged(student, teacher, Padded(held))
    told = Trained(bare, bare, 0, 0, 0, 0.0, 0, None)
    for number, part in enumerate(parts):
        kept = [b for b in range(len(teacher.loaded.blocks)) if b not in gone]
        remove_blocks(student, [kept.index(b) for b in part])
        gone = sorted([*gone, *part])
        own = work / f"round-{number}"
        own.mkdir(exist_ok=True)
        found = train(
            student,
            teacher,
            gone,
            share_of(settings, len(parts), number),
            texts,
            held,
            own,
            states_room=states_room,
            states=work / STATES,
            report=_in_all(report, number, len(parts)),
            note=_after(told, note),
            ranks=ranks,
        )
        if ranks.rank == 0:
            shutil.rmtree(own / CHECKPOINTS, ignore_errors=True)  # the best weights are beside them
        told = _both(told, found, f"Round {number + 1} of {len(parts)}: ")
    return told


def _in_all(report: Report, number: int, rounds: int) -> Report:
    """Progress of a round as that of all, each as long as this one."""

    def tell(done: int, total: int, message: str) -> None:
        report(number * total + done, rounds * total, f"round {number + 1} of {rounds}, {message}")

    return tell


def _after(earlier: Trained, note: Note) -> Note:
    """What notes a round's log behind that of the earlier ones."""
    return lambda row: note(_behind(earlier, row))


def _behind(earlier: Trained, row: Mapping[str, float]) -> dict[str, float]:
    """A line of a round's log, counted from the beginning of the first."""
    starts = {"step": earlier.steps, "tokens": earlier.tokens, "seconds": earlier.seconds}
    return {name: value + starts[name] if name in starts else value for name, value in row.items()}


def _both(earlier: Trained, found: Trained, name: str) -> Trained:
    """All rounds up to this one as one training."""
    stopped = filter(None, (earlier.stopped, found.stopped and name + found.stopped))
    return replace(
        found,
        before=earlier.before,
        steps=earlier.steps + found.steps,
        planned=earlier.planned + found.planned,
        tokens=earlier.tokens + found.tokens,
        seconds=earlier.seconds + found.seconds,
        best_step=earlier.steps + found.best_step,
        stopped=" ".join(stopped) or None,
        curve=[*earlier.curve, *(_behind(earlier, row) for row in found.curve)],
    )
