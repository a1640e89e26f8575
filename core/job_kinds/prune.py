"""A pruned checkpoint, verified."""

import shutil
from pathlib import Path

from core.export.making import put_back
from core.export.record import zip_export
from core.export.write import prune as write_pruned
from core.jobs.progress import Progress


def run(request: dict, progress: Progress) -> dict:
    """A real checkpoint without the request's `blocks`, blocks and branches by name, in its `form` where it
    names one; verified, in the folder `out`, and beside it a .zip when `zip` asks and it is small.

    An equal export that is there stays until the new one is verified.
    """
    out = Path(request["out"])
    out.parent.mkdir(parents=True, exist_ok=True)
    put_back(progress.work, out)
    shutil.rmtree(progress.work, ignore_errors=True)  # what a worker that was killed has left
    progress.work.mkdir(exist_ok=True)
    same_disk = out.parent.stat().st_dev == progress.work.stat().st_dev
    done = write_pruned(
        request["model"],
        request["blocks"],
        out,
        form=request.get("written"),
        provenance=request["provenance"],
        workshop=progress.work if same_disk else None,
        remote_code=request.get("remote_code", False),
        replace=True,  # of a worker that was killed behind its end
        report=progress.report,
    )
    archive = zip_export(out) if request["zip"] else None
    return {**done.to_json(), "zip": archive and str(archive)}
