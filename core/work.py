"""What each kind of job does: called by the worker of core.jobs with the request and its Progress."""

from core.calibration import calibrate as compute_run
from core.calibration import run_key
from core.errors import InputError
from core.jobs import Progress
from core.models import load_model
from core.runs import keep_run, load_run
from core.store import home
from core.texts import pack, read_texts


def calibrate(request: dict, progress: Progress) -> dict:
    """Gradient rows of a model on texts, kept in the store under the run's key."""
    progress.report(0, request["samples"], "loading the model")
    texts = read_texts(request["texts"])
    loaded = load_model(request["model"])
    loaded.check_length(request["length"])
    sequences = pack(texts, loaded.tokenizer, "calibrate", request["length"], request["samples"], request["seed"])
    singles = (
        pack(texts, loaded.tokenizer, "choose", request["length"], request["singles"], request["seed"]) if request["singles"] else None
    )
    key = run_key(loaded, sequences, request["sampled"], singles, request["seed"])
    try:
        run = load_run(home() / "runs" / key)
    except InputError:  # not there, or damaged: compute it
        run = compute_run(
            loaded, sequences, batch=request["batch"], sampled=request["sampled"], singles=singles, seed=request["seed"],
            request=request, checkpoint=progress.work, report=progress.report,
        )  # fmt: skip
        keep_run(run)
    return {
        "key": run.key,
        "rows": len(run.rows.A),
        "blocks": run.blocks,
        "dropped": len(run.meta["dropped"]),
        "seconds": run.meta["times"]["seconds"],
    }
