"""A job on disk, and who holds it.

    HOME/jobs/<id>/request.json     kind and request; the id is their hash
    HOME/jobs/<id>/progress.jsonl   append-only {t, done, total, rate, message}
    HOME/jobs/<id>/curves.jsonl     points that a search has noted, where it has
    HOME/jobs/<id>/said.jsonl       what a chat has said so far
    HOME/jobs/<id>/result.json      {status: done | failed | cancelled, result | error, t}
    HOME/jobs/<id>/log.txt          what the worker printed
    HOME/jobs/<id>/lock             held by flock while a worker lives; holds its process id
    HOME/jobs/<id>/coming           held by flock while the process lives that was started to be the worker
    HOME/jobs/<id>/cancel           present when somebody asked to stop
    HOME/jobs/<id>/start            held by flock while somebody starts it
    HOME/jobs/<id>/work/            the worker's own checkpoints

request.json and result.json hold their own digest: a damaged one counts as absent.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.store import folders
from core.store.runs import canonical_key
from core.store.sealed_json import seal, unseal


def folder_of(job_id: str) -> Path:
    """HOME/jobs/<id>."""
    return folders.home() / "jobs" / job_id


def id_of(kind: str, request: dict) -> str:
    """16 hex digits, from all that was asked."""
    return canonical_key({"kind": kind, "request": request})[:16]


def write_whole(path: Path, data: dict) -> None:
    """Whole or not at all, with its digest."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    staging.write_text(seal(data), encoding="utf-8")
    os.replace(staging, path)


def _read_whole(path: Path) -> dict | None:
    """What `write_whole` wrote; None when there is nothing, or it was cut off or changed."""
    try:
        return unseal(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def read_request(folder: Path) -> dict | None:
    """{kind, request, t} of the job in this folder; None when it is absent, damaged, or another job's."""
    asked = _read_whole(folder / "request.json")
    return asked if asked and id_of(asked["kind"], asked["request"]) == folder.name else None


def read_result(folder: Path) -> dict | None:
    """{status, result | error, t} of a job that has ended; None when it has not, or the file is damaged."""
    return _read_whole(folder / "result.json")


def last_progress(folder: Path) -> dict:
    """The last whole line of progress.jsonl."""
    try:
        with open(folder / "progress.jsonl", "rb") as f:
            f.seek(max(0, f.seek(0, os.SEEK_END) - 4096))
            lines = [line for line in f.read().split(b"\n")[:-1] if line.strip()]
        last = json.loads(lines[-1])
        return last if isinstance(last, dict) else {}
    except (OSError, IndexError, ValueError, RecursionError):
        return {}


def is_held(folder: Path, name: str = "lock") -> bool:
    """Whether a living worker holds the lock: the kernel frees it however the worker ended; "coming": whether
    one is on its way to it.
    """
    try:
        with open(folder / name, encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def on_its_way(folder: Path) -> Iterator[int]:
    """A file that says so while a process has it open, by its number: who starts a worker hands it over, and
    however long that one takes to the job's lock, the job counts as queued, not as interrupted.
    """
    (folder / "coming").unlink(missing_ok=True)  # of one that is late: it would be waited for
    with open(folder / "coming", "a", encoding="utf-8") as coming:
        fcntl.flock(coming, fcntl.LOCK_EX)
        yield coming.fileno()


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Whether the job is this process's: nobody else is at it, and it is not done."""
    with open(folder / "lock", "a+", encoding="utf-8") as lock:
        held = 0
        while held < 20:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                held += is_held(folder)  # who only looks whether it is held holds it for a moment, too
                time.sleep(0.05)
        else:
            yield False
            return
        if (read_result(folder) or {}).get("status") == "done":
            yield False
            return
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield True


def forget_end(folder: Path) -> None:
    """Remove how an earlier worker ended, and that it was asked to stop."""
    for name in ("cancel", "result.json"):
        (folder / name).unlink(missing_ok=True)


def tidy(folder: Path) -> None:
    """Remove what a job that is done needs no more, and what was half written by a worker that was killed."""
    shutil.rmtree(folder / "work", ignore_errors=True)
    for half in folder.glob(".*.json.*"):
        half.unlink(missing_ok=True)
