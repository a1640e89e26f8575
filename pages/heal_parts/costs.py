"""What a healing takes, told before it begins."""

import math

from core.heal.needs import Needs, needs_of_state, widths_of
from core.heal.parts import in_parts
from core.jobs.costs import in_words, measure_seconds, prune_seconds
from core.spectrum.memory_budget import size
from core.store.named_models import place_of
from core.store.runs import Run
from core.texts.text_source import parse_source
from pages.heal_parts.asked import HELD, REPORT, WRITTEN, How, Names, finest
from pages.heal_parts.shown import FEW
from pages.shared.parts import healings, seconds_of_forward

_WRITING = 3  # as much as reading as many sequences, of writing them


def costs(run: Run, states: list[Names], how: How) -> str:
    """Time, memory and disk in a sentence; of several states the time of all, and what the largest takes."""
    run = run.whole or run  # of which the parts are known by block
    model, length = run.meta["model"], run.meta["texts"]["length"]
    judging = measure_seconds(seconds_of_forward(run, REPORT, length), 2)
    seconds, found = _writing(run, how), []
    training, few = _training(run, how)
    for removed in states:
        whole, lost = _gone(run, removed)
        left = model["parameters"] - sum(model["blocks"][b]["parameters"] for b in whole) - sum(lost.values())
        each = model.get("written_item") or model["bytes"] / model["parameters"]
        exported = int(left * each)
        seconds += training + judging + prune_seconds(exported)
        found.append(_needs(run, whole, lost, how, exported))
    most = [n for n in found if n]
    room = (
        f", {size(max(n.memory for n in most))} of memory and up to {size(max(n.disk for n in most))} of disk"
        if most
        else ""
    )
    several = f" for {len(states)} states, one after the other" if len(states) > 1 else ""
    return (
        f"About {in_words(seconds)}{several}, with losses of the three models and a verified checkpoint at "
        f"the end{room}.{few}"
    )


def _writing(run: Run, how: How) -> float:
    """Seconds until the original has written what is learned from or judged on: once for all states."""
    asked, many = run.meta["request"].get("texts") or [], WRITTEN if how.learn else 0
    own = any(parse_source(text).is_own for text in ([asked] if isinstance(asked, str) else asked))
    if own and not any(job.status == "done" for job in healings(run)):  # what was written is kept
        many += HELD + REPORT
    return _WRITING * seconds_of_forward(run, many, run.meta["texts"]["length"])


def _training(run: Run, how: How) -> tuple[float, str]:
    """(seconds of it, what is to be told of minutes that hold few steps): a judgement reads the held-out
    sequences with two models, and a step takes as long as four forwards, of which some are timed first.
    """
    settings, rounds = how.settings, how.rounds
    if not settings.trains:
        return 0.0, ""
    forward = seconds_of_forward(run, 1, run.meta["texts"]["length"])
    judged, step, asked = 2 * HELD * forward, 4 * settings.batch * forward, 60 * (settings.minutes or 0.0)
    beside = (settings.evaluations + 2 * rounds) * judged + 4 * rounds * step
    steps = max(rounds, int((asked - beside) / step))
    seconds = max(asked, rounds * (3 * judged + 5 * step))
    if steps >= FEW:
        return seconds, ""
    need = math.ceil((beside + FEW * step) / 60)
    return seconds, (
        f" So few minutes hold about {steps} step{'s' if steps > 1 else ''} beside their judging, too few to "
        f"learn much: {need} or more hold {FEW}."
    )


def _gone(run: Run, removed: Names) -> tuple[list[int], dict[int, int]]:
    """(blocks that go whole, {block that stays: parameters of what goes of it})."""
    blocks, lost = run.meta["model"]["blocks"], dict[int, int]()
    units = finest(run)
    for name in removed:
        if isinstance(name, str):
            unit = units.number[name]
            b = units.block[unit]
            part = blocks[b]["branches"][units.of_block[b].index(unit)]
            lost[b] = lost.get(b, 0) + part.get("parameters", 0)
    return [name for name in removed if isinstance(name, int)], lost


def _needs(run: Run, whole: list[int], lost: dict[int, int], how: How, exported: int) -> Needs | None:
    """As the job will see it; None where the model's config is not on this machine."""
    widths = widths_of(place_of(run.meta["model"]["source"]))
    if widths is None:
        return None
    model, texts = run.meta["model"], run.meta["texts"]
    parts = in_parts(whole, min(how.rounds, len(whole))) if whole else [[]]
    return needs_of_state(
        [block["parameters"] for block in model["blocks"]],
        model["parameters"],
        *widths,
        parts,
        how.settings,
        texts["length"],
        WRITTEN if how.learn else min(4096, texts["available"]),
        exported,
        lost,
    )
