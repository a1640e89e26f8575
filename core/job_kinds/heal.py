"""A pruned model that learns from the original what it lost, or takes over what was removed; exported."""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from core.calibration.corpus import read_sources
from core.errors import InputError
from core.export.in_memory import check_whole
from core.export.workshop import check_disk, on_same_disk, put_back, workshop
from core.export.write import check_beside, write_healed
from core.export.writers import FORMS
from core.forms.names import form_of
from core.forms.record import is_healed_of, zip_export
from core.heal.healing import healed, sequences_to_learn
from core.heal.needs import check_room, needs_of_state
from core.heal.parts import check_names, share_of
from core.heal.settings import Settings
from core.job_kinds.common import draw_sequences, load, paired
from core.jobs.progress import Progress
from core.measure.chat import reply
from core.measure.evaluation import option_scores, sequence_losses, task_results
from core.model.devices import free_memory
from core.model.load import LoadedModel
from core.model.named import seen_for, state_of
from core.model.places import Place
from core.model.surgery import check_removal, divided
from core.ranks import ALONE, Ranks
from core.store import folders
from core.store.folders import check_free, in_turn
from core.store.named_models import place_of
from core.tasks.items import read_tasks
from core.texts import Sequences

COLUMNS = ("step", "tokens", "seconds", "loss", "kl", "held_loss")


def run(request: dict, progress: Progress, ranks: Ranks = ALONE) -> dict | None:
    """Heal the request's `model` without `blocks` by its `settings` (core.heal.settings.Settings), or without
    one of its `parts` after the other where it has any, on the calibrate split of its texts, or on what
    `learn` or `answers` name in their place (core.heal.healing.sequences_to_learn); judged while it trains on
    the choose split of its texts, in the end on the report split.

    The result: `table`, {original, pruned, healed: {loss, loss_se, perplexity, tasks}}; `won`, the share of
    the loss increase that came back; `training` (core.heal.training.Trained) or None; `needs` in bytes;
    `replies` to the request's `prompt`, where it has one; what core.export.write says of the checkpoint in
    `out`; `curve`, the CSV beside it. A worker that was killed goes on from its last checkpoint.

    Healings take turns: minutes of one budget are those of a machine that does nothing else. Of several ranks
    all train, and the first does the rest and has the result, the others None.
    """
    if ranks.rank:
        return _in_its_turn(request, progress, ranks)
    waiting = lambda: progress.report(0, 1, "waiting for another healing to end")  # noqa: E731
    with in_turn(folders.home() / "healing.lock", waiting):
        return _in_its_turn(request, progress, ranks)


def _in_its_turn(request: dict, progress: Progress, ranks: Ranks) -> dict | None:
    """See `run`."""
    progress.report(0, 1, "loading the model")
    teacher, student = (seen_for(load(request), [request["blocks"]]) for _ in range(2))
    settings = Settings(**request["settings"]).for_size(teacher.parameters())
    removed = check_removal(teacher, state_of(request["blocks"], teacher))
    parts = _parts(request, teacher, removed, settings)
    if ranks.rank == 0:
        _check_out(teacher, removed, request, progress)
    learn, held, report = ranks.agree(_drawn(teacher, request, progress) if ranks.rank == 0 else None)
    told = _checked(teacher, parts, settings, learn, request["out"], progress.work)
    asked = (student, teacher, parts, settings, learn, held, progress.work)
    if ranks.rank:
        healed(*asked, report=progress.report, ranks=ranks)
        return None
    table = {
        "original": _row(teacher, report, request, (), progress, "the original"),
        "pruned": _row(teacher, report, request, removed, progress, "the pruned model"),
    }
    replies = _replies(teacher, request, {"original": (), "pruned": removed})
    taught, places = healed(*asked, report=progress.report, note=_curve(progress), ranks=ranks)
    table["healed"] = _row(student, report, request, (), progress, "the healed model")
    replies |= _replies(student, request, {"healed": ()})
    won = _won(table)
    training = {name: value for name, value in asdict(taught).items() if name != "curve"}
    record = {
        "asked": _asked(request),
        "texts": {"source": learn.source, "sha256": learn.texts_sha256, "sequences": len(learn.ids)},
        "training": training,
        "curve": taught.curve,
        "report": table,
        "won": won,
    }
    done = _written(teacher, student, removed, places, request, record, progress)
    return {**done, "table": table, "won": won, "training": training, "needs": told, "replies": replies}


def _drawn(teacher: LoadedModel, request: Mapping, progress: Progress) -> list[Sequences]:
    """The sequences to train on, to watch, and to report on. Errors: InputError."""
    texts, options = read_sources(request["texts"]), dict(request)
    own = sequences_to_learn(
        teacher,
        texts,
        request.get("learn"),
        request.get("answers"),
        request["length"],
        request["sequences"],
        request.get("seed", 0),
        request.get("form"),
        progress.report,
    )
    counts = {"choose": request["held"], "report": request["report"]}
    others = [draw_sequences(teacher, texts, options, split, n, progress) for split, n in counts.items()]
    return [own, *others]


def _parts(request: Mapping, teacher: LoadedModel, removed: list[int], settings: Settings) -> list[list[int]]:
    """What each round removes: all at once, or the request's `parts`. Errors: InputError where these are not
    the blocks that are removed, or the settings cannot heal this, or no checkpoint could say what is left,
    in the end or after a round.
    """
    parts = request.get("parts") or [removed]
    if sorted(b for part in parts for b in part) != removed or not all(parts):
        raise InputError(f"The rounds {parts} are no parts of {removed}; divide what is removed among them.")
    check_whole(teacher)
    names = teacher.units.stored(removed)
    check_names(names, settings, len(parts))
    for k in range(len(parts)):
        FORMS[form_of(names)].check(teacher, sorted(b for part in parts[: k + 1] for b in part))
    if len(parts) > 1:
        share_of(settings, len(parts), 0)
    return parts


def _checked(
    teacher: LoadedModel,
    parts: list[list[int]],
    settings: Settings,
    learn: Sequences,
    out: str | None,
    work: Path,
) -> dict[str, int]:
    """What it takes (core.heal.needs.Needs). Errors: InputError where it does not fit, there or where the
    checkpoint is to lie.
    """
    config, blocks, total = teacher.config, teacher.blocks, teacher.parameters()
    own = [block.parameters for block in blocks]
    whole, partial = divided(teacher, [unit for part in parts for unit in part])
    lost = {b: sum(blocks[b].branches[k].parameters for k in gone) for b, gone in partial.items()}
    left = total - sum(own[b] for b in whole) - sum(lost.values())
    exported = teacher.weights_bytes() * left // max(1, total)
    elsewhere = None if not out or on_same_disk(work, Path(out)) else Path(out)
    if elsewhere:
        check_disk(exported, elsewhere)
    found = needs_of_state(
        own,
        total,
        config.hidden_size,
        config.vocab_size,
        parts if len(parts) > 1 else [whole],
        settings,
        learn.ids.shape[1],
        len(learn.ids),
        0 if elsewhere else exported,
        lost,
    )
    on_cpu = teacher.device.type == "cpu"
    check_room(found, 2 * total * 4, free_memory() if on_cpu else None, work)
    return asdict(found)


def _curve(progress: Progress) -> Callable[[Mapping[str, float]], None]:
    """A function that appends a line of the training's log to the job's curves."""
    point = progress.curves()

    def note(row: Mapping[str, float]) -> None:
        for name in ("loss", "kl", "held_loss"):
            if name in row and math.isfinite(row[name]):
                point(name, row["tokens"], row[name], ())

    return note


def _row(
    loaded: LoadedModel,
    report: Sequences,
    request: Mapping,
    removed: Sequence[int],
    progress: Progress,
    called: str,
) -> dict:
    """Loss with its standard error, perplexity and, where the request asks for them, the bundled tasks."""

    def tell(done: int, total: int, what: str) -> None:
        progress.report(done, total, f"{what} of {called}")

    losses = sequence_losses(loaded, report.ids, removed, report=tell, mask=report.mask, scored=report.scored)
    items = read_tasks() if request["tasks"] else []
    tasks = task_results(items, option_scores(loaded, items, removed, report=tell)) if items else {}
    told = paired(losses, None)
    return {
        **told,
        "perplexity": math.exp(min(told["loss"], 700.0)),
        "tasks": {name: {k: row[k] for k in ("accuracy", "chance", "n")} for name, row in tasks.items()},
    }


def _won(table: Mapping[str, Mapping]) -> float | None:
    """The share of the loss increase that came back; None where there was none."""
    original, pruned, healed = (table[name]["loss"] for name in ("original", "pruned", "healed"))
    return (pruned - healed) / (pruned - original) if pruned > original else None


def _replies(loaded: LoadedModel, request: Mapping, models: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """What each says to the request's prompt, greedily; models: {name: blocks that it lacks}."""
    if not request.get("prompt"):
        return {}
    turns = [("user", request["prompt"])]
    return {name: reply(loaded, turns, removed, tokens=48).text for name, removed in models.items()}


def _asked(request: Mapping) -> dict:
    """What decides how a model was healed: all of the request but where it goes."""
    names = (
        *("settings", "parts", "texts", "learn", "answers"),
        *("form", "length", "sequences", "held", "seed"),
    )
    return {name: request[name] for name in names if request.get(name) is not None}


def _check_out(teacher: LoadedModel, removed: Sequence[int], request: Mapping, progress: Progress) -> None:
    """Before anything is learned. Errors: InputError where something else has the name of the checkpoint or
    of its curve, or it would lie in the original's own folder.
    """
    if not request["out"]:
        return
    out, curve = Path(request["out"]), _curve_of(request)
    check_beside(out, place_of(teacher.source).expanduser())
    if curve.exists() and not (curve.is_file() and curve.read_bytes().startswith(",".join(COLUMNS).encode())):
        raise InputError(f"{str(curve)!r} already exists, where the curve would go; give another place.")
    put_back(progress.work, out)
    if not is_healed_of(out, teacher.source, teacher.units.stored(removed), _asked(request)):
        check_free(out)


def _curve_of(request: Mapping) -> Path:
    """The file of the curve, beside the checkpoint."""
    return Path(f"{request['out']}.csv")


def _written(
    teacher: LoadedModel,
    student: LoadedModel,
    removed: Sequence[int],
    places: list[Place],
    request: Mapping,
    record: Mapping,
    progress: Progress,
) -> dict:
    """What a checkpoint in the request's `out` and the curve beside it are; {} where it names none."""
    if not request["out"]:
        return {}
    out, curve = Path(request["out"]), _curve_of(request)
    with workshop(progress.work, out) as place:
        done = write_healed(
            teacher,
            student,
            removed,
            out,
            healed=dict(record),
            places=places,
            provenance=request["provenance"],
            workshop=place,
            report=progress.report,
        )
    with open(curve, "w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(record["curve"])
    archive = zip_export(out) if request["zip"] else None
    return {**done.to_json(), "curve": str(curve), "zip": archive and str(archive)}
