"""Short prompts, answered."""

from core.job_kinds.common import load, states_of
from core.jobs.progress import Progress
from core.measure.behaviour import measure


def run(request: dict, progress: Progress) -> dict:
    """Short prompts answered by the original and every state of the request; see
    core.measure.behaviour.measure.
    """
    progress.report(0, 1, "loading the model")
    loaded, states = states_of(request, load(request))
    return measure(loaded, states, progress.report, request["tokens"])
