"""The worker: takes a job's lock, does the work, writes how it ended. `python -m core.jobs ID`."""

import importlib
import os
import time
import traceback
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from core.errors import InputError
from core.jobs.control import asked_job
from core.jobs.files import folder_of, forget_end, id_of, locked, read_request, tidy, write_whole
from core.jobs.job import Job, read
from core.jobs.processors import usable_processors
from core.jobs.progress import Cancelled, Progress


def work(job_id: str) -> int:
    """The worker: take the lock, do the work, write the result. Another worker's lock ends it quietly."""
    os.nice(10)
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_processors()))  # before torch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    folder = folder_of(job_id)
    with locked(folder) as mine:
        asked = read_request(folder) if mine else None
        if asked:
            _do(folder, partial(_call, asked["kind"], asked["request"]))
    return 0


def together(kind: str, request: dict, ranks, echo) -> Job | None:
    """Do the job in the processes of one launch (core.ranks), in place of a worker; on rank 0 the job as it
    is then, else None.

    A job that is done is not done again, and one that a worker is at is left to it. echo: gets what is
    reported.
    """
    job_id = id_of(kind, request)
    folder = folder_of(job_id)
    if ranks.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        asked_job(kind, request)
    with locked(folder) if ranks.rank == 0 else nullcontext(False) as mine:
        if ranks.agree(mine):
            if mine:
                forget_end(folder)
                _do(folder, partial(_call, kind, request, ranks=ranks), echo)
            else:
                quiet = SimpleNamespace(work=folder / "work", report=lambda *_: None, kept=lambda units: None)
                _call(kind, request, quiet, ranks=ranks)
    return read(job_id) if ranks.rank == 0 else None


def _call(kind: str, request: dict, progress, **how) -> dict | None:
    """What core/job_kinds/<kind>.py does for the request."""
    return importlib.import_module(f"core.job_kinds.{kind}").run(request, progress, **how)


def _do(folder: Path, call, echo=None) -> None:
    """Do the job in this folder with `call(its Progress)`, and write how it ended."""
    progress = Progress(folder, echo)
    try:
        progress.report(0, 1, "starting")
        result = call(progress)
        outcome = {"status": "done", "result": result}
    except Cancelled:
        outcome = {"status": "cancelled"}
    except InputError as error:
        outcome = {"status": "failed", "error": str(error), "bad_input": True}
    except Exception as error:
        traceback.print_exc()
        outcome = {
            "status": "failed",
            "error": (
                f"Unexpected {type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}; "
                "see the job's log."
            ),
        }
    write_whole(folder / "result.json", {**outcome, "t": time.time()})
    if outcome["status"] == "done":
        tidy(folder)
