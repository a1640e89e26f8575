"""What other methods choose, on the same sequences and the same meter."""

from functools import partial

from core.choose import other_methods as rivals
from core.job_kinds.common import choosing, ruler_of, unseen_losses
from core.jobs.progress import Progress
from core.measure.state_losses import open_forwards


def run(request: dict, progress: Progress) -> dict:
    """What other methods choose for the run's model at M, on the same sequences and the same meter
    (core.choose.other_methods).

    The result: original, the loss in nats; methods {name: {removed, forwards, loss, report}}; curves {search:
    [[forwards, loss], ..]}. Searches get the budget, or what greedy takes if that is more; one whose first
    states that does not pay for has no method there, and an empty curve. By another ruler than the loss
    (core.job_kinds.common.ruler_of) what is measured is that, under its name: the searches, the best window
    and the removals one at a time of "perplexity" go by it; the other rules are as ever. The reports give
    both. Of rules and budgets they know nothing: M units go, that is all.
    """
    progress.report(0, 1, "loading the model")
    _, loaded, choose, unseen = choosing(request, progress)
    m, note, ruler = request["remove"], progress.curves(), ruler_of(request)
    meter = partial(open_forwards, loaded, choose, ruler=ruler)
    found: dict[str, rivals.Choice] = {}
    rules = [rule for rule in rivals.RULES.values() if loaded.by in rule.by]
    for name, choices in rivals.chosen_at_once(rivals.Look(loaded, choose, meter, [m], progress.report)):
        found[name] = choices[m]
        # they take so different times that no rate holds
        progress.report(0, 1, f"{rivals.RULES[name].label}, {len(found)} of {len(rules)} rules")
    curves = {}
    for name, curve in rivals.searched(meter, m, request["budget"], request["seed"], progress.report):
        curves[name] = [[c.forwards, c.loss] for c in curve]
        for c in curve:
            note(name, c.forwards, c.loss, c.removed)
        if curve:
            found[name] = curve[-1]
    own = meter()
    measured = {name: float(own.whole(choice.removed).mean()) for name, choice in found.items()}
    original = float(own.whole(()).mean())
    own.save()
    reported = unseen_losses(loaded, unseen, {choice.removed for choice in found.values()})
    return {
        "original": original,
        "methods": {
            name: {
                "removed": loaded.units.listed(c.removed),
                "forwards": c.forwards,
                ruler: measured[name],
                "report": reported[c.removed],
            }
            for name, c in found.items()
        },
        "curves": curves,
        "budget": max(request["budget"], found[rivals.GREEDY].forwards),
    }
