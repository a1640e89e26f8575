"""A whole healing: blocks are removed or replaced, then it is trained, at once or in rounds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from core.calibration.corpus import Read, available, draw, read_sources
from core.calibration.own_answers import own_answers, read_prompts
from core.errors import InputError
from core.forms.names import NATIVE, form_of
from core.heal.needs import STATES_ROOM
from core.heal.parts import check_names
from core.heal.replacement import replace_blocks
from core.heal.rounds import train_in_rounds
from core.heal.settings import KL, LINEAR, MINUTES, Settings
from core.heal.teacher import Padded, Teacher
from core.heal.training import Note, Report, Trained, judged, train
from core.ising.units import Name
from core.model.load import LoadedModel, load_model
from core.model.named import seen_for, state_of
from core.model.places import Place
from core.model.surgery import check_native, check_removal, remove_blocks, without
from core.ranks import ALONE, Ranks
from core.store import folders
from core.texts import Sequences
from core.texts.sequences import part_of

MOST = {"own": 256, "answers": 256, "texts": 4096}  # sequences to train on where nobody says how many
_FITTED = 256  # sequences that a linear map is fitted on: 32 768 tokens of 128


def heal(
    model: str,
    blocks: Sequence[Name],
    method: str = KL,
    *,
    texts: Any = None,
    learn: Any = None,
    answers: Any = None,
    length: int = 128,
    sequences: int | None = None,
    held: int = 32,
    seed: int = 0,
    **settings: Any,
) -> tuple[LoadedModel, Trained]:
    """(the model without the blocks, healed; what the healing did), as `python -m core heal` does it, without
    a checkpoint to go on from.

    model: as core.model.load.load_model takes it; blocks: numbers, or names of their parts, as "12a"; texts:
    as core.texts.read_texts takes them (None: the bundled ones); length: tokens a sequence; learn, answers,
    sequences: as `sequences_to_learn`; held: to watch; settings: of core.heal.settings.Settings, a training
    that names no budget takes MINUTES. Errors: InputError.
    """
    if Settings(method, minutes=1.0).trains and not {"minutes", "tokens"} & settings.keys():
        settings["minutes"] = MINUTES
    chosen = Settings(method, seed=seed, **settings)
    teacher, student = (seen_for(load_model(model), [blocks]) for _ in range(2))
    removed = check_removal(teacher, state_of(blocks, teacher))
    check_names(teacher.units.stored(removed), chosen, 1)
    if form_of(teacher.units.stored(removed)) == NATIVE:
        check_native(teacher, removed)
    read = read_sources(texts)
    own = sequences_to_learn(teacher, read, learn, answers, length, sequences, seed)
    watch = draw(teacher, read, "choose", length, held, seed)
    with TemporaryDirectory() as work:
        chosen = chosen.for_size(teacher.parameters())
        done, _ = healed(student, teacher, [removed], chosen, own, watch, Path(work))
    return student, done


def sequences_to_learn(
    loaded: LoadedModel,
    texts: Read,
    learn: Any,
    answers: Any,
    length: int,
    sequences: int | None,
    seed: int = 0,
    form: Mapping[str, str] | None = None,
    report: Report = lambda done, total, message: None,
) -> Sequences:
    """What a student learns from: what the original answers to the prompts of the source `answers`, where it
    is named, but for prompts that `texts` holds out to judge by; else the calibrate split of `learn`, where
    that is, else of `texts`, which are read already.

    sequences: how many (None: all there are, up to MOST). Errors: InputError, also for both.
    """
    if learn and answers:
        raise InputError("It learns from texts or from answers to prompts; name one of the two.")
    if answers:
        kept, count = folders.home() / "own-answers", sequences or MOST["answers"]
        prompts = read_prompts(answers)
        return own_answers(
            loaded, prompts, length, count, seed, judged_on=texts.texts, report=report, kept=kept
        )
    read = read_sources(learn) if learn else texts
    count = sequences or _there_are(loaded, read, length, form)
    return draw(loaded, read, "calibrate", length, count, seed, form=form, report=report)


def _there_are(loaded: LoadedModel, texts: Read, length: int, form: Mapping[str, str] | None) -> int:
    """Sequences of the split that is trained on, as many as there are, up to MOST."""
    parts = available(loaded, texts, length, form)["parts"]
    have = [p["have"]["calibrate"] / p["weight"] for p in parts if p["have"] is not None and p["weight"]]
    if not have:
        return MOST["own"]
    most = MOST["texts"] if all(p["have"] is not None for p in parts) else 2 * MOST["own"]
    return max(1, min(most, int(min(have) * sum(p["weight"] for p in parts))))


def healed(
    student: LoadedModel,
    teacher: LoadedModel,
    parts: list[list[int]],
    settings: Settings,
    learn: Sequences,
    held: Sequences,
    work: Path,
    *,
    report: Report = lambda done, total, message: None,
    note: Note = lambda row: None,
    ranks: Ranks = ALONE,
) -> tuple[Trained, list[Place]]:
    """(what it took to prune and heal the student in place, what is left empty in blocks that stay).

    student, teacher: the same model, loaded twice; parts: what each round removes, one of a state that goes
    at once; the rest as core.heal.training.train.
    """
    source, unseen = Teacher(teacher), Padded(held)
    removed = sorted(b for part in parts for b in part)
    how: dict[str, Any] = {"states_room": STATES_ROOM, "report": report, "note": note, "ranks": ranks}
    if len(parts) > 1:
        return train_in_rounds(student, source, parts, settings, learn, held, work, **how), []
    some = part_of(learn, slice(0, _FITTED))
    if not settings.trains:
        with without(student, removed):
            before = judged(student, source, unseen)
        replace_blocks(student, teacher, removed, settings.method, some, report)
        read = some.ids.size if settings.method == LINEAR else 0
        return Trained(before, judged(student, source, unseen), 0, 0, read, 0.0, 0, None), []
    places: list[Place] = []
    if settings.replace:
        replace_blocks(student, teacher, removed, settings.replace, some, report)
    else:
        places = remove_blocks(student, removed)
    return train(student, source, removed, settings, learn, held, work, **how), places
