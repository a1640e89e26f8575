"""The landscape that learns, on a budget of forwards."""

from dataclasses import replace

import numpy as np

from core.choose import learning
from core.energy.learned import KnownPairs, keep_learned
from core.ising.units import BRANCH
from core.job_kinds.common import choosing, ruler_of, rules_of, unseen_losses
from core.jobs.progress import Progress
from core.measure.state_losses import open_forwards
from core.spectrum.constraints import removed_by_groups


def run(request: dict, progress: Progress) -> dict:
    """The best state of M that a budget of forwards finds, measured on texts not used to choose; what it
    learned lies in the file `landscape`.

    By branch the single removals and secants of the run are the prior, and not charged; by block they are
    (core.choose.learning.known_of). Every state respects the request's rules
    (core.job_kinds.common.rules_of). By the request's ruler (core.job_kinds.common.ruler_of): with KL, the
    increase of a state is its KL to the original, whose own is 0, and `best`, `original` and `curve` are in
    it. The report gives both. Losses are kept in the store, so that the same request goes on where it was
    stopped, and Compare shows what was measured.
    """
    progress.report(0, 1, "loading the model")
    run, loaded, choose, unseen = choosing(request, progress)
    note, ruler = progress.curves(), ruler_of(request)
    units, removed = loaded.units, request["remove"]
    meter, constraints = open_forwards(loaded, choose, ruler=ruler), rules_of(request, run)
    if removed is None and constraints is not None and constraints.groups and not constraints.budgeted:
        removed = removed_by_groups(constraints)
    if run.by == BRANCH and run.singles is not None and run.secants is not None:
        known: np.ndarray | KnownPairs = learning.from_run(run)  # of so many units they were paid for once
    else:
        known = learning.known_of(run, len(choose.ids), request["budget"])
    found = learning.learn(
        known,
        meter,
        removed,
        request["budget"],
        constraints=constraints,
        proposals=learning.influence(loaded, choose, meter, removed) if removed and not constraints else (),
        seed=request["seed"],
        report=progress.report,
        better=lambda point: note("learned", *point),
    )
    m = removed or len(found.removed)
    landscape = keep_learned(run.view_key, m, replace(found.posterior, ruler=ruler))
    return {
        "best": {"removed": units.listed(found.removed), ruler: found.loss},
        "original": found.original,
        "curve": [[spent, loss] for spent, loss, _ in found.curve],
        "forwards": found.forwards,
        "sequences": request["sequences"],
        "states": len(found.measured),
        "report": unseen_losses(loaded, unseen, [found.removed])[found.removed],
        "landscape": str(landscape),
    }
