"""One model, as the command line measures it."""

from core.calibration.corpus import read_sources
from core.job_kinds.common import draw_sequences, load
from core.jobs.progress import Progress
from core.measure import evaluation
from core.tasks.items import read_tasks


def run(request: dict, progress: Progress) -> dict:
    """Loss, tasks and speed of one model, as the command line prints them; where the request names one
    `against`, how far it is from that on the same tokens, too.
    """
    progress.report(0, request["sequences"], "loading the model")
    texts, loaded = read_sources(request["texts"]), load(request)
    original = None
    if "against" in request:
        original = load({**request, "model": request["against"]})
        evaluation.check_same_tokens(loaded, original)  # before any text is read
    loaded.check_length(request["length"])
    sequences = draw_sequences(loaded, texts, request, "report", request["sequences"], progress)
    items = read_tasks() if request["tasks"] else []
    return evaluation.evaluate(
        loaded, sequences, items, batch=request["batch"], report=progress.report, original=original
    ).to_json()
