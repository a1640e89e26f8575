"""A job as its files tell it: what was asked, how far it is, how it ended."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from core.errors import InputError
from core.ising.units import BLOCK
from core.jobs.files import folder_of, is_held, last_progress, read_request, read_result
from core.store import folders

_QUEUED = 5.0  # seconds from the request to the start of its worker


@dataclass(frozen=True)
class Job:
    """One piece of long work, as it is now."""

    id: str
    kind: str
    request: dict
    status: str  # queued, running, done, failed, cancelled, interrupted
    done: int = 0
    total: int = 0
    rate: float = 0.0  # units of `done` a second
    message: str = ""
    result: dict | None = None
    error: str | None = None
    bad_input: bool = False  # the error is the request's fault, not ours
    changed: float = 0.0  # time of the last sign of life
    asked: float = 0.0  # time of the first request

    @property
    def folder(self) -> Path:
        return folder_of(self.id)

    @property
    def active(self) -> bool:
        return self.status in ("queued", "running")

    @property
    def seconds_left(self) -> float | None:
        return seconds_left(self.done, self.total, self.rate) if self.active else None


def seconds_left(done: int, total: int, rate: float) -> float | None:
    """Of work of which so many units a second are done; None where that is not known."""
    return (total - done) / rate if rate > 0 else None


def read(job_id: str) -> Job:
    """The job as its files tell it now. Errors: InputError for an unknown id."""
    folder = folder_of(job_id)
    asked = read_request(folder)
    if asked is None:
        raise InputError(
            f"No job {job_id!r} in {str(folders.home() / 'jobs')!r}; it may have been removed or damaged."
        )
    last = last_progress(folder)
    state = {
        "done": last.get("done", 0),
        "total": last.get("total", 0),
        "rate": last.get("rate", 0.0),
        "message": last.get("message", ""),
    }
    started = (folder / "request.json").stat().st_mtime
    coming, held = is_held(folder, "coming"), is_held(folder)  # in this order: who comes may have ended since
    outcome = None if held else read_result(folder)
    if outcome:
        status, started = outcome["status"], outcome["t"]
    elif held:
        status = "running"
    elif coming:
        status = "queued"
    else:
        status = "queued" if time.time() - started < _QUEUED and last.get("t", 0) < started else "interrupted"
    return Job(
        job_id,
        asked["kind"],
        asked["request"],
        status,
        **state,
        result=(outcome or {}).get("result"),
        error=(outcome or {}).get("error"),
        bad_input=(outcome or {}).get("bad_input", False),
        changed=max(started, last.get("t", 0.0)),
        asked=asked.get("t", 0.0),
    )


def list_jobs() -> list[Job]:
    """All jobs, the latest sign of life first; a damaged one is left out."""
    found = [
        read(p.parent.name)
        for p in (folders.home() / "jobs").glob("*/request.json")
        if read_request(p.parent)
    ]
    return sorted(found, key=lambda job: job.changed, reverse=True)


def on_run(folder: Path, removed: int, by: str = BLOCK) -> list[Job]:
    """The jobs that were asked for on the run in this folder at M (`request_on`) in this view, the latest
    sign of life first.
    """
    wanted = (str(folder.absolute()), removed, by)
    asked = lambda r: (r.get("run"), r.get("remove"), r.get("by", BLOCK))  # noqa: E731
    return [job for job in list_jobs() if asked(job.request) == wanted]


def running() -> list[Job]:
    """The jobs at work or about to be, the latest first; those that have ended are passed over unread."""
    found = []
    for file in (folders.home() / "jobs").glob("*/request.json"):
        try:
            if not (file.parent / "result.json").exists() and (job := read(file.parent.name)).active:
                found.append(job)
        except (InputError, OSError):  # damaged, or just removed
            continue
    return sorted(found, key=lambda job: job.changed, reverse=True)


def log_tail(job: Job, size: int = 4000) -> str:
    """The end of what the worker printed."""
    try:
        with open(job.folder / "log.txt", "rb") as f:
            f.seek(max(0, f.seek(0, os.SEEK_END) - size))
            return f.read().decode("utf-8", "replace")
    except OSError:
        return ""
