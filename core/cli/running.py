"""Jobs from the command line: started or joined, followed to their end, or done by the ranks of a launch."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from core import jobs, ranks
from core.cli.progress import Progress
from core.errors import InputError, JobError


def as_job(kind: str, request: dict, start: Callable[[str, dict], jobs.Job] = jobs.start) -> dict:
    """Run a job to its end, showing its progress; Ctrl-C cancels it, and the same command resumes it. start:
    jobs.redo for one that is done anew although it was done.
    """
    job = start(kind, request)
    try:
        job = jobs.follow(job.id, Progress())
    except KeyboardInterrupt:
        jobs.cancel(job.id)
        raise
    return _result(job)


def together(kind: str, request: dict) -> dict | None:
    """The job, done by the processes of this launch; None on all but rank 0."""
    with ranks.joined() as own:
        job = jobs.together(kind, own.agree(request), own, Progress())
        if job is None:
            return None
        if job.active:
            raise InputError(
                f"Job {job.id} is already at work on this; wait for it, or cancel it in the app."
            )
        return _result(job)


def _result(job) -> dict:
    """What an ended job made. Raises what its end was."""
    if job.status == "cancelled":
        raise KeyboardInterrupt
    if job.status == "interrupted":
        raise JobError(f"The worker of job {job.id} was killed; the same command resumes it.")
    if job.status == "failed":
        raise InputError(job.error) if job.bad_input else JobError(job.error)
    return job.result


def check_writable(out: Path) -> None:
    """Before long work: can `out` be made? Errors: InputError."""
    parent = out.absolute().parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    try:
        tempfile.TemporaryDirectory(prefix=".blockscape-", dir=parent).cleanup()
    except OSError as error:
        raise InputError(
            f"--out {str(out)[:200]!r} cannot be written: {str(parent)[:200]!r} is no folder to write to; "
            "give another place."
        ) from error
