"""How long a token takes at a context, and one branch of each kind."""

from core.job_kinds.common import load
from core.jobs.progress import Progress
from core.measure.token_time import time_by_kind
from core.store.runs import canonical_key
from core.store.unit_times import keep_times


def run(request: dict, progress: Progress) -> dict:
    """{"context", "device", "milliseconds": of the whole model a token, "kinds": {kind: {"units": how many,
    "milliseconds": of one}}}, measured and kept (core.store.unit_times), where budgets find it.
    """
    progress.report(0, 1, "loading the model")
    loaded = load(request)
    progress.report(0, 1, "timing tokens")
    found, device = time_by_kind(loaded, request["context"]), str(loaded.device)
    kinds = {kind: one.milliseconds for kind, one in found.kinds.items()}
    keep_times(canonical_key(loaded.digest()), found.context, device, found.milliseconds, kinds)
    told = {kind: {"units": one.units, "milliseconds": one.milliseconds} for kind, one in found.kinds.items()}
    return {"context": found.context, "device": device, "milliseconds": found.milliseconds, "kinds": told}
