"""Tasks of lm-evaluation-harness."""

from core.job_kinds.common import load, states_of
from core.jobs.progress import Progress
from core.measure import harness
from core.tasks.presets import Preset


def run(request: dict, progress: Progress) -> dict:
    """Tasks of lm-evaluation-harness for every state of the request, by one protocol; see
    core.measure.harness.measure.
    """
    progress.report(0, 1, "loading the model and the tasks")
    loaded, states = states_of(request, load(request))
    protocol = Preset.from_json(request["preset"])
    return harness.measure(loaded, states, protocol, request["limit"], request["batch"], progress.report)
