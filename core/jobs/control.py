"""Start, find, follow and cancel jobs: what pages and the command line do with them.

Equal requests are one job, and one job has one worker: whoever holds the lock. A worker that was killed
leaves an interrupted job; starting it again resumes from its checkpoints.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from core.jobs.files import (
    folder_of,
    forget_end,
    id_of,
    is_held,
    on_its_way,
    read_request,
    read_result,
    tidy,
    write_whole,
)
from core.jobs.job import Job, read
from core.jobs.kinds import kind_of
from core.store import folders

ROOT = Path(__file__).resolve().parents[2]
_GRACE = 2.0  # seconds a cancelled worker has to stop by itself


def find(kind: str, request: dict) -> Job | None:
    """The job of this request, if it was ever started and what it made is still there."""
    job_id = id_of(kind, request)
    if read_request(folder_of(job_id)) is None:
        return None
    job = read(job_id)
    return None if job.status == "done" and not _whole(job) else job


def start(kind: str, request: dict) -> Job:
    """Start the job of this request, or join it: a finished one is returned, a running one is left alone, any
    other resumes.
    """
    job_id = id_of(kind, request)
    folder = folder_of(job_id)
    with folders.locked(folder / "start"):  # who comes second finds the worker of the first
        job = asked_job(kind, request)
        fresh = job.status == "queued" and not (folder / "log.txt").exists()
        if job.status == "done":
            tidy(folder)
        if job.status == "done" or (job.active and not fresh):
            return job
        now = time.time()  # what the worker reports is later, by the same clock
        os.utime(folder / "request.json", (now, now))
        forget_end(folder)
        spawn(job_id)
        return read(job_id)


def redo(kind: str, request: dict) -> Job:
    """Start the job of this request anew although it is done: for what is measured of the moment."""
    folder = folder_of(id_of(kind, request))
    with folders.locked(folder / "start"):
        if read_request(folder) is not None and read(folder.name).status == "done":
            (folder / "result.json").unlink(missing_ok=True)
    return start(kind, request)


def spawn(job_id: str) -> None:
    """A worker process for the job, that outlives this one."""
    folder = folder_of(job_id)
    with open(folder / "log.txt", "ab") as log, on_its_way(folder) as coming:
        subprocess.Popen(
            [sys.executable, "-m", "core.jobs", job_id],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[coming],
            env={**os.environ, "BLOCKSCAPE_HOME": str(folders.home())},
        )


def asked_job(kind: str, request: dict) -> Job:
    """The job of this request, written down where it was not."""
    job_id = id_of(kind, request)
    folder = folder_of(job_id)
    if read_request(folder) is None:
        write_whole(folder / "request.json", {"kind": kind, "request": request, "t": time.time()})
    job = read(job_id)
    if job.status == "done" and not _whole(job):  # what it made was removed or damaged: make it again
        (folder / "result.json").unlink(missing_ok=True)
        job = read(job_id)
    return job


def _whole(job: Job) -> bool:
    """Whether what a done job made is still there."""
    return kind_of(job.kind).whole(job.request, job.result or {})


def cancel(job_id: str) -> Job:
    """Ask the worker to stop, and after two seconds make it: the job ends as cancelled, its checkpoints
    stay.
    """
    folder = folder_of(job_id)
    if not read(job_id).active:
        return read(job_id)
    (folder / "cancel").touch()
    deadline = time.monotonic() + _GRACE
    while time.monotonic() < deadline and read(job_id).active:
        time.sleep(0.05)
    while is_held(folder):
        with suppress(ProcessLookupError, ValueError):  # just gone, or about to write down who it is
            os.killpg(int((folder / "lock").read_text()), signal.SIGKILL)
        time.sleep(0.02)
    if not read_result(folder):
        write_whole(folder / "result.json", {"status": "cancelled", "t": time.time()})
    return read(job_id)


def follow(job_id: str, report: Callable[[int, int, str, float | None], None]) -> Job:
    """Wait for the job's end, passing its progress to `report(done, total, message, seconds left)`."""
    seen = None
    while True:
        job = read(job_id)
        now = (job.done, job.total, job.message, job.seconds_left)
        if now != seen and job.total:
            report(*now)
            seen = now
        if not job.active:
            return job
        time.sleep(0.1)
