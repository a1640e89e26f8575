"""A pruned checkpoint, verified."""

import os
import shutil
from pathlib import Path

from core.export.write import is_export_of, zip_export
from core.export.write import prune as write_pruned
from core.jobs.progress import Progress


def run(request: dict, progress: Progress) -> dict:
    """A real checkpoint without the request's `blocks`, blocks and branches by name, in its `form` where it
    names one; verified, in the folder `out`, and beside it a .zip when `zip` asks and it is small.
    """
    out = Path(request["out"])
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(progress.work, ignore_errors=True)  # what a worker that was killed has left
    progress.work.mkdir(exist_ok=True)
    same_disk = out.parent.stat().st_dev == progress.work.stat().st_dev
    # a killed worker's: moved away whole, never thinned out
    if is_export_of(out, request["model"], request["blocks"], request.get("written")):
        os.replace(out, progress.work / "earlier") if same_disk else shutil.rmtree(out)
    done = write_pruned(
        request["model"],
        request["blocks"],
        out,
        form=request.get("written"),
        provenance=request["provenance"],
        workshop=progress.work if same_disk else None,
        remote_code=request.get("remote_code", False),
        report=progress.report,
    )
    archive = zip_export(out) if request["zip"] else None
    return {**done.to_json(), "zip": archive and str(archive)}
