"""A pruned checkpoint, verified."""

from pathlib import Path

from core.compare.facts import facts
from core.energy.sources import open_source
from core.export.workshop import put_back, workshop
from core.export.write import prune as write_pruned
from core.forms.record import zip_export
from core.ising.units import name_text
from core.jobs.progress import Progress


def run(request: dict, progress: Progress) -> dict:
    """A real checkpoint without the request's `blocks`, blocks and branches by name, in its `form` where it
    names one; verified, in the folder `out`, and beside it a .zip when `zip` asks and it is small.

    An equal export that is there stays until the new one is verified. The request's `landscape`, {run: a
    folder, by, estimator, mix}, is what the card tells of the state.
    """
    out = Path(request["out"])
    put_back(progress.work, out)
    with workshop(progress.work, out) as place:
        done = write_pruned(
            request["model"],
            request["blocks"],
            out,
            form=request.get("written"),
            provenance=request["provenance"] | _landscape(request, progress),
            workshop=place,
            remote_code=request.get("remote_code", False),
            replace=True,  # of a worker that was killed behind its end
            by_shard=request.get("by_shard"),
            report=progress.report,
        )
    archive = zip_export(out) if request["zip"] else None
    return {**done.to_json(), "zip": archive and str(archive)}


def _landscape(request: dict, progress: Progress) -> dict:
    """{"landscape": what is known of the state}, where the request names one."""
    asked = request.get("landscape")
    if not asked:
        return {}
    progress.report(0, 4, "what the landscape says")
    source = open_source(asked["run"]).seen(asked["by"])
    assert source.run is not None
    state = source.run.units.parse(name_text(request["blocks"]))
    return {"landscape": facts(source, asked["estimator"], asked.get("mix"), state)}
