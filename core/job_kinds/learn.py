"""The landscape that learns, on a budget of forwards."""

from core.choose import learning
from core.energy.learned import keep_learned
from core.job_kinds.common import choosing, unseen_losses
from core.jobs.progress import Progress
from core.measure.state_losses import open_forwards


def run(request: dict, progress: Progress) -> dict:
    """The best state of M that a budget of forwards finds, measured on texts not used to choose; what it
    learned lies in the file `landscape`.

    Losses are kept in the store, so that the same request goes on where it was stopped, and Compare shows
    what was measured.
    """
    progress.report(0, 1, "loading the model")
    run, loaded, choose, unseen = choosing(request, progress)
    note = progress.curves()
    found = learning.learn(
        learning.known_of(run),
        open_forwards(loaded, choose),
        request["remove"],
        request["budget"],
        seed=request["seed"],
        report=progress.report,
        better=lambda point: note("learned", *point),
    )
    return {
        "best": {"removed": list(found.removed), "loss": found.loss},
        "original": found.original,
        "curve": [[spent, loss] for spent, loss, _ in found.curve],
        "forwards": found.forwards,
        "sequences": request["sequences"],
        "states": len(found.measured),
        "report": unseen_losses(loaded, unseen, [found.removed])[found.removed],
        "landscape": str(keep_learned(run.key, request["remove"], found.posterior)),
    }
