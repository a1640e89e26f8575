"""The landscape that learns, on a budget of forwards."""

from core.choose import learning
from core.energy.learned import keep_learned
from core.job_kinds.common import choosing, ruler_of, unseen_losses
from core.jobs.progress import Progress
from core.measure.state_losses import open_forwards


def run(request: dict, progress: Progress) -> dict:
    """The best state of M that a budget of forwards finds, measured on texts not used to choose; what it
    learned lies in the file `landscape`.

    By the request's ruler (core.job_kinds.common.ruler_of): with KL, the increase of a state is its KL to the
    original, whose own is 0, and `best`, `original` and `curve` are in it. The report gives both.
    Losses are kept in the store, so that the same request goes on where it was stopped, and Compare shows
    what was measured.
    """
    progress.report(0, 1, "loading the model")
    run, loaded, choose, unseen = choosing(request, progress)
    note, ruler = progress.curves(), ruler_of(request)
    meter = open_forwards(loaded, choose, ruler=ruler)
    found = learning.learn(
        learning.known_of(run, len(choose.ids), request["budget"]),
        meter,
        request["remove"],
        request["budget"],
        proposals=learning.influence(loaded, choose, meter, request["remove"]),
        seed=request["seed"],
        report=progress.report,
        better=lambda point: note("learned", *point),
    )
    return {
        "best": {"removed": list(found.removed), ruler: found.loss},
        "original": found.original,
        "curve": [[spent, loss] for spent, loss, _ in found.curve],
        "forwards": found.forwards,
        "sequences": request["sequences"],
        "states": len(found.measured),
        "report": unseen_losses(loaded, unseen, [found.removed])[found.removed],
        "landscape": str(keep_learned(run.key, request["remove"], found.posterior)),
    }
