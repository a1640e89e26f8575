"""A race of states, on growing batches of sequences until it is decided."""

import math
from dataclasses import asdict

from core.choose.race import BATCH, Racer, check_delta, in_batches, race
from core.errors import InputError
from core.ising.units import Units
from core.job_kinds.common import choosing, ruler_of, unseen_losses
from core.jobs.progress import Progress
from core.measure.state_losses import open_forwards
from core.model.named import state_of
from core.store.results import LOSS


def run(request: dict, progress: Progress) -> dict:
    """The best of the states and all that cannot be told from it, with what those lose on texts not used to
    choose.

    By the request's ruler (core.job_kinds.common.ruler_of): with KL, states leave by their KL to the
    original, nats a token, which stands under `kl` in place of `loss`. The reports give both.
    Losses are kept in the store after each is measured, so that the same request goes on where it was
    stopped and measures nothing twice.
    """
    check_delta(request["delta"])
    ruler = ruler_of(request)
    progress.report(0, 1, "loading the model")
    _, loaded, choose, unseen = choosing(request, progress)
    states = list(dict.fromkeys(state_of(state, loaded) for state in request["states"]))
    units = loaded.units
    for state in states:
        if len(state) != request["remove"]:
            raise InputError(
                f"The state {units.write(state) or 'original'!r} removes {len(state)} {units.word}s, and "
                f"this race is between states that remove {request['remove']}; leave it out."
            )
    forwards = open_forwards(loaded, in_batches(choose), chunk=BATCH, ruler=ruler)
    found = race(forwards, states, delta=request["delta"], report=progress.report)
    judged = unseen_losses(loaded, unseen, [racer.removed for racer in found.ties])
    return {
        "winner": units.listed(found.winner.removed),
        "ties": [{**_told(racer, units, ruler), "report": judged[racer.removed]} for racer in found.ties],
        "dropped": [_told(racer, units, ruler) for racer in found.dropped],
        "delta": request["delta"],
        "sequences": len(choose.ids),
        "decided_at": found.items,
        "forwards": found.forwards,
        "forwards_of_all": found.of_all,
    }


def _told(racer: Racer, units: Units, ruler: str) -> dict:
    """As JSON takes it: what it goes by under its name, no interval where one is infinite."""
    told = {ruler if name == LOSS else name: value for name, value in asdict(racer).items() if name != "left"}
    return {
        **told,
        "removed": units.listed(racer.removed),
        **{end: told[end] if math.isfinite(told[end]) else None for end in ("low", "high")},
    }
