"""Long work in worker processes that survive reloads, restarts and kills.

    HOME/jobs/<id>/request.json     kind and request; the id is their hash
    HOME/jobs/<id>/progress.jsonl   append-only {t, done, total, rate, message}
    HOME/jobs/<id>/result.json      {status: done | failed | cancelled, result | error, t}
    HOME/jobs/<id>/log.txt          what the worker printed
    HOME/jobs/<id>/lock             held by flock while a worker lives; holds its process id
    HOME/jobs/<id>/cancel           present when somebody asked to stop
    HOME/jobs/<id>/start            held by flock while somebody starts it
    HOME/jobs/<id>/work/            the worker's own checkpoints

request.json and result.json hold their own digest: a damaged one counts as absent.

Equal requests are one job, and one job has one worker: whoever holds the lock.
A worker that was killed leaves an interrupted job; starting it again resumes
from its checkpoints. This module needs no torch: the app and the command line
read and start jobs, `python -m core.jobs ID` is the worker.
"""

import fcntl
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from core.errors import InputError
from core.store import folders
from core.store.folders import DEMO
from core.store.runs import Run, canonical_key, file_sha256, stored_run
from core.store.sealed_json import seal, unseal
from core.texts.documents import BUNDLED, BUNDLED_NAME, FORM, OWN, parse_source

KINDS = {
    kind: f"core.job_kinds.work:{kind}"
    for kind in (
        "describe",
        "calibrate",
        "benchmark",
        "evaluate",
        "prune",
        "learn",
        "peers",
        "harness",
        "behaviour",
    )
} | {"solve": "core.job_kinds.solve:solve"}
ROOT = Path(__file__).resolve().parents[2]
_GRACE = 2.0  # seconds a cancelled worker has to stop by itself
_QUEUED = 5.0  # seconds a new worker may take to its lock
_INTERVAL = 0.2  # seconds between two lines of progress


class Cancelled(Exception):
    """Raised inside a worker when the job's cancel file appears."""


@dataclass(frozen=True)
class Job:
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
        return _folder(self.id)

    @property
    def active(self) -> bool:
        return self.status in ("queued", "running")

    @property
    def seconds_left(self) -> float | None:
        return (self.total - self.done) / self.rate if self.rate > 0 and self.active else None


def _folder(job_id: str) -> Path:
    return folders.home() / "jobs" / job_id


def request_of(
    model: str,
    texts: str | Sequence[str] | None = None,
    reads: tuple[str, ...] = (),
    form: Mapping[str, str] | None = None,
    **options,
) -> dict:
    """A request to work on a model and texts (None: bundled): paths made absolute, and the state of every
    file it reads.

    texts: one source or several, each as core.texts.documents.parse_source takes it. form: mode, template and
    bos, as core.calibration.corpus.draw takes them; remote_code: whether the model's own code may run. What
    is as usual is left out, so that equal work has equal requests.
    Errors: InputError for options that cannot be.
    """
    model, named, paths = _absolute(model), [], []
    for text in [texts] if isinstance(texts, str) else texts or []:
        given = parse_source(text).path
        paths.append(str(BUNDLED) if given == BUNDLED_NAME else None if given == OWN else _absolute(given))
        # the options go along
        named.append(text if given in (BUNDLED_NAME, OWN) else paths[-1] + text[len(given) :])
    if named in ([], [BUNDLED_NAME]):
        named, paths = None, [str(BUNDLED)]
    elif len(named) == 1:
        named = named[0]
    if not options.get("remote_code", True):
        del options["remote_code"]
    unusual = {name: value for name, value in (form or {}).items() if value != FORM.get(name)}
    if unusual:
        options["form"] = unusual
    return {"model": model, "texts": named, **options, "inputs": fingerprint(model, *paths, *reads)}


def request_on(run: Run, folder: Path, **options) -> dict:
    """A request to work on the model and texts of a run that lies in `folder`.

    Errors: InputError where the run does not name them.
    """
    if "model" not in run.meta["request"]:
        raise InputError(
            f"The run {run.key[:8]!r} does not say where its model and texts are; calibrate it from the "
            "command line or the app."
        )
    return request_for(run, (str(folder / "run.json"),), with_texts=True, run=str(folder), **options)


def request_for(run: Run, reads: tuple[str, ...] = (), /, *, with_texts: bool = False, **options) -> dict:
    """A request to work on a run's model, its own code allowed where the run allowed it; with_texts: on the
    run's texts, in their form.
    """
    asked = run.meta["request"]
    texts = {name: asked.get(name) for name in ("texts", "form")} if with_texts else {}
    return request_of(
        run.meta["model"]["source"],
        reads=reads,
        remote_code=asked.get("remote_code", False),
        **texts,
        **options,
    )


def _absolute(path: str | None) -> str | None:
    """A path that a worker understands; names such as demo or a hub id stay."""
    if path in (None, "demo") or "\0" in path or len(path) > 4000:
        return path
    try:
        full = Path(path).expanduser()
        return str(full.resolve()) if full.exists() else path
    except (OSError, RuntimeError):  # no such user, or too long for a path: the worker says so
        return path


def _id(kind: str, request: dict) -> str:
    return canonical_key({"kind": kind, "request": request})[:16]


def find(kind: str, request: dict) -> Job | None:
    """The job of this request, if it was ever started and what it made is still there."""
    job_id = _id(kind, request)
    if _read_request(_folder(job_id)) is None:
        return None
    job = read(job_id)
    return None if job.status == "done" and not _outputs_exist(job) else job


def start(kind: str, request: dict) -> Job:
    """Start the job of this request, or join it: a finished one is returned, a running one is left alone, any
    other resumes.
    """
    job_id = _id(kind, request)
    folder = _folder(job_id)
    with folders.locked(folder / "start"):  # who comes second finds the worker of the first
        return _start(job_id, kind, request)


def _asked(job_id: str, kind: str, request: dict) -> Job:
    """The job of this request, written down where it was not."""
    folder = _folder(job_id)
    if _read_request(folder) is None:
        _write(folder / "request.json", {"kind": kind, "request": request, "t": time.time()})
    job = read(job_id)
    if job.status == "done" and not _outputs_exist(job):  # what it made was removed or damaged: make it again
        (folder / "result.json").unlink(missing_ok=True)
        job = read(job_id)
    return job


def _start(job_id: str, kind: str, request: dict) -> Job:
    folder, job = _folder(job_id), _asked(job_id, kind, request)
    fresh = job.status == "queued" and not (folder / "log.txt").exists()
    if job.status == "done":
        _tidy(folder)
    if job.status == "done" or (job.active and not fresh):
        return job
    _forget_end(folder)
    with open(folder / "log.txt", "ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "core.jobs", job_id],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "BLOCKSCAPE_HOME": str(folders.home())},
        )
    os.utime(folder / "request.json")
    return read(job_id)


def _forget_end(folder: Path) -> None:
    for name in ("cancel", "result.json"):
        (folder / name).unlink(missing_ok=True)


def together(kind: str, request: dict, ranks, echo) -> Job | None:
    """Do the job in the processes of one launch (core.ranks), in place of a worker; on rank 0 the job as it
    is then, else None.

    A job that is done is not done again, and one that a worker is at is left to it. echo: gets what is
    reported.
    """
    job_id = _id(kind, request)
    folder = _folder(job_id)
    if ranks.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        _asked(job_id, kind, request)
    with _locked(folder) if ranks.rank == 0 else nullcontext(False) as mine:
        if ranks.agree(mine):
            if mine:
                _forget_end(folder)
                _do(folder, partial(_call, kind, ranks=ranks), echo)
            else:
                quiet = SimpleNamespace(work=folder / "work", report=lambda done, total, message: None)
                _call(kind, request, quiet, ranks=ranks)
    return read(job_id) if ranks.rank == 0 else None


def _call(kind: str, request: dict, progress, **how) -> dict | None:
    """What core.job_kinds.work, or another module of KINDS, does for the request."""
    module, _, function = KINDS[kind].partition(":")
    return getattr(importlib.import_module(module), function)(request, progress, **how)


def _outputs_exist(job: Job) -> bool:
    """Whether what a finished job made is still whole."""
    if job.kind == "calibrate":
        try:
            stored_run(job.result["key"])
        except InputError:
            return False
    if job.kind == "solve":  # the file's name is its digest
        out = Path(job.result["out"])
        return out.is_file() and file_sha256(out) == out.stem
    return job.kind != "prune" or Path(job.result["out"]).exists()


def fingerprint(*paths: str | None) -> dict[str, list]:
    """[name, size, time of change] of every file a request reads, so that a changed file makes another
    request.

    The change time is the inode's: unlike the time of modification it cannot be set back.
    """
    found = {}
    for path in (DEMO / "model" if p == "demo" else Path(p) for p in paths if p):
        found[str(path)] = files = []
        try:
            inside = (
                sorted(
                    f
                    for f in path.iterdir()
                    if f.suffix in (".json", ".safetensors", ".txt", ".model", ".jinja")
                )
                if path.is_dir()
                else [path]
            )
            for f in inside:
                if f.is_file():
                    files.append([f.name, f.stat().st_size, f.stat().st_ctime_ns])
        except (OSError, ValueError):  # no path at all, or not ours to read: the worker says so
            continue
    return found


def read(job_id: str) -> Job:
    """The job as its files tell it now. Errors: InputError for an unknown id."""
    folder = _folder(job_id)
    asked = _read_request(folder)
    if asked is None:
        raise InputError(
            f"No job {job_id!r} in {str(folders.home() / 'jobs')!r}; it may have been removed or damaged."
        )
    last = _last_progress(folder)
    state = {
        "done": last.get("done", 0),
        "total": last.get("total", 0),
        "rate": last.get("rate", 0.0),
        "message": last.get("message", ""),
    }
    started = (folder / "request.json").stat().st_mtime
    held = _is_held(folder)
    outcome = None if held else _read_result(folder)
    if outcome:
        status, started = outcome["status"], outcome["t"]
    elif held:
        status = "running"
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
        if _read_request(p.parent)
    ]
    return sorted(found, key=lambda job: job.changed, reverse=True)


def on_run(folder: Path, removed: int) -> list[Job]:
    """The jobs that were asked for on the run in this folder at M (`request_on`), the latest sign of life
    first.
    """
    wanted = (str(folder.absolute()), removed)
    return [job for job in list_jobs() if (job.request.get("run"), job.request.get("remove")) == wanted]


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


def cancel(job_id: str) -> Job:
    """Ask the worker to stop, and after two seconds make it: the job ends as cancelled, its checkpoints
    stay.
    """
    folder = _folder(job_id)
    if not read(job_id).active:
        return read(job_id)
    (folder / "cancel").touch()
    deadline = time.monotonic() + _GRACE
    while time.monotonic() < deadline and read(job_id).active:
        time.sleep(0.05)
    if _is_held(folder):
        try:
            os.killpg(int((folder / "lock").read_text()), signal.SIGKILL)
        except (ProcessLookupError, ValueError):
            pass
        while _is_held(folder):
            time.sleep(0.02)
    if not _read_result(folder):
        _write(folder / "result.json", {"status": "cancelled", "t": time.time()})
    return read(job_id)


def follow(job_id: str, report) -> Job:
    """Wait for the job's end, passing its progress to `report(done, total, message)`."""
    seen = None
    while True:
        job = read(job_id)
        now = (job.done, job.total, job.message)
        if now != seen and job.total:
            report(*now)
            seen = now
        if not job.active:
            return job
        time.sleep(0.1)


class Progress:
    """What a worker's function gets: `report`, and `work`, the folder of its checkpoints.

    echo: gets every report too.
    """

    def __init__(self, folder: Path, echo=None):
        self.folder, self.work, self.echo = folder, folder / "work", echo
        self.work.mkdir(exist_ok=True)
        self.began, self.first, self.last = time.monotonic(), None, 0.0
        self.file = open(folder / "progress.jsonl", "a", encoding="utf-8")
        if self.file.tell():  # a worker killed while writing may have left half a line
            self.file.write("\n")

    def report(self, done: int, total: int, message: str) -> None:
        """Append a line (at most five a second); raises Cancelled when the job shall stop."""
        if (self.folder / "cancel").exists():
            raise Cancelled
        if self.echo:
            self.echo(done, total, message)
        now = time.monotonic()
        if self.first is None:  # work taken over from an earlier worker is not this one's rate
            self.first, self.began = done, now
        if done < total and now - self.last < _INTERVAL:
            return
        self.last = now
        rate = (done - self.first) / (now - self.began) if now > self.began else 0.0
        self.file.write(
            json.dumps({"t": time.time(), "done": done, "total": total, "rate": rate, "message": message})
            + "\n"
        )
        self.file.flush()

    def curves(self):
        """A function (name, forwards, loss, state) that appends a point to the job's curves, from their
        beginning.
        """
        file = open(self.folder / "curves.jsonl", "w", encoding="utf-8")

        def note(name: str, forwards: float, loss: float, state) -> None:
            file.write(json.dumps([name, forwards, loss, list(state)]) + "\n")
            file.flush()

        return note


def curves_of(job: Job) -> dict[str, list[tuple[float, float, tuple[int, ...]]]]:
    """{method: [(forwards, loss, state)]} that a job has noted so far (`Progress.curves`)."""
    found: dict[str, list] = {}
    try:
        lines = (job.folder / "curves.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError:
        return {}
    for line in lines:
        if line.endswith("\n"):  # not one that is being written
            name, forwards, loss, state = json.loads(line)
            found.setdefault(name, []).append((forwards, loss, tuple(state)))
    return found


def work(job_id: str) -> int:
    """The worker: take the lock, do the work, write the result. Another worker's lock ends it quietly."""
    os.nice(10)
    # a niced worker with more threads than free cores waits for its slowest thread at every operation
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) - round(os.getloadavg()[0]))))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with _locked(_folder(job_id)) as mine:
        if mine:
            kind = _read_request(_folder(job_id))["kind"]
            _do(_folder(job_id), partial(_call, kind))
    return 0


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether the job is this process's: nobody else is at it, and it is not done."""
    with open(folder / "lock", "a+", encoding="utf-8") as lock:
        for _ in range(20):  # a reader that looks whether the lock is held holds it for a moment itself
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
        else:
            yield False
            return
        if (_read_result(folder) or {}).get("status") == "done":
            yield False
            return
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield True


def _do(folder: Path, call, echo=None) -> None:
    """Do the job with `call(the request, its Progress)`, and write how it ended."""
    asked, progress = _read_request(folder), Progress(folder, echo)
    try:
        progress.report(0, 1, "starting")
        progress.first = None
        result = call(asked["request"], progress)
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
    _write(folder / "result.json", {**outcome, "t": time.time()})
    if outcome["status"] == "done":
        _tidy(folder)


def _tidy(folder: Path) -> None:
    """Remove what a job that is done needs no more, and what was half written by a worker that was killed."""
    shutil.rmtree(folder / "work", ignore_errors=True)
    for half in folder.glob(".*.json.*"):
        half.unlink(missing_ok=True)


def _write(path: Path, data: dict) -> None:
    """Whole or not at all, with its digest."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    staging.write_text(seal(data), encoding="utf-8")
    os.replace(staging, path)


def _read_whole(path: Path) -> dict | None:
    """What `_write` wrote; None when there is nothing, or it was cut off or changed."""
    try:
        return unseal(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def _read_request(folder: Path) -> dict | None:
    """{kind, request, t} of the job in this folder; None when it is absent, damaged, or another job's."""
    asked = _read_whole(folder / "request.json")
    return asked if asked and _id(asked["kind"], asked["request"]) == folder.name else None


def _read_result(folder: Path) -> dict | None:
    return _read_whole(folder / "result.json")


def _is_held(folder: Path) -> bool:
    """Whether a living worker holds the lock: the kernel frees it however the worker ended."""
    try:
        with open(folder / "lock", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _last_progress(folder: Path) -> dict:
    """The last whole line of progress.jsonl."""
    try:
        with open(folder / "progress.jsonl", "rb") as f:
            f.seek(max(0, f.seek(0, os.SEEK_END) - 4096))
            lines = [line for line in f.read().split(b"\n")[:-1] if line.strip()]
        last = json.loads(lines[-1])
        return last if isinstance(last, dict) else {}
    except (OSError, IndexError, ValueError, RecursionError):
        return {}
