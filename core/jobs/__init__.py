"""Long work in worker processes that survive reloads, restarts and kills.

What pages and the command line do with jobs is offered here. A kind of job is an entry of `KINDS` (kinds)
and a module of core/job_kinds; nothing here loads torch.

How a job ends: `cancel` (control) leaves a file, which the worker's next report meets (progress), and kills
a worker that reports nothing; the worker writes every end of its own (worker); one that was killed leaves no
end, and `read` (job) calls that interrupted.
"""

from core.jobs.control import cancel, find, follow, redo, start
from core.jobs.files import folder_of
from core.jobs.job import Job, list_jobs, log_tail, on_run, read, running
from core.jobs.kinds import KINDS, about, kind_of
from core.jobs.progress import Cancelled, Progress, curves_of, said_of, unpaid
from core.jobs.requests import (
    default_texts,
    fingerprint,
    point_at,
    push_request,
    request_for,
    request_of,
    request_on,
)
from core.jobs.worker import together

__all__ = [
    "KINDS",
    "Cancelled",
    "Job",
    "Progress",
    "about",
    "cancel",
    "curves_of",
    "default_texts",
    "find",
    "fingerprint",
    "folder_of",
    "follow",
    "kind_of",
    "list_jobs",
    "log_tail",
    "on_run",
    "point_at",
    "push_request",
    "read",
    "redo",
    "request_for",
    "request_of",
    "request_on",
    "running",
    "said_of",
    "start",
    "together",
    "unpaid",
]
