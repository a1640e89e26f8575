"""What a worker says while it works: progress, and the curves of a search."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from core.jobs.job import Job, seconds_left

Echo = Callable[[int, int, str, float | None], None]
_INTERVAL = 0.2  # seconds between two lines of progress


class Cancelled(Exception):
    """Raised inside a worker when the job's cancel file appears."""


class Meter:
    """How fast work goes, from what was done since this process began with it: what an earlier one did and
    left behind is not this one's rate.

    Other work is another total, or begins before where the last had come to: loading, drawing texts, rows.
    """

    def __init__(self):
        self.first = self.done = self.total = 0
        self.began = time.monotonic()

    def rate(self, done: int, total: int) -> float:
        """Units of `done` a second so far; 0 while that is not known."""
        now = time.monotonic()
        if total != self.total or done < self.done:
            self.first, self.total, self.began = done, total, now
        self.done = done
        return max(0, done - self.first) / (now - self.began) if now > self.began else 0.0

    def kept(self, units: int) -> None:
        """So many of what the next report calls done are an earlier process's."""
        self.first += units


class Progress:
    """What a worker's function gets: `report`, and `work`, the folder of its checkpoints.

    echo: gets every report too, with the seconds left where they are known, else None.
    """

    def __init__(self, folder: Path, echo: Echo | None = None):
        self.folder, self.work, self.echo = folder, folder / "work", echo
        self.work.mkdir(exist_ok=True)
        self.began, self.last, self.meter = time.monotonic(), 0.0, Meter()
        self.file = open(folder / "progress.jsonl", "a", encoding="utf-8")
        if self.file.tell():  # a worker killed while writing may have left half a line
            self.file.write("\n")

    def report(self, done: int, total: int, message: str) -> None:
        """Append a line (at most five a second); raises Cancelled when the job shall stop."""
        if (self.folder / "cancel").exists():
            raise Cancelled
        now, rate = time.monotonic(), self.meter.rate(done, total)
        if self.echo:
            self.echo(done, total, message, seconds_left(done, total, rate))
        if done < total and now - self.last < _INTERVAL:
            return
        self.last = now
        self.file.write(
            json.dumps({"t": time.time(), "done": done, "total": total, "rate": rate, "message": message})
            + "\n"
        )
        self.file.flush()

    def kept(self, units: int) -> None:
        """So many units of what the next report calls done were there already: they tell nothing of the time
        left.
        """
        self.meter.kept(units)

    def curves(self):
        """A function (name, forwards, loss, state) that appends a point to the job's curves, from their
        beginning.
        """
        file = open(self.folder / "curves.jsonl", "w", encoding="utf-8")

        def note(name: str, forwards: float, loss: float, state) -> None:
            file.write(json.dumps([name, forwards, loss, list(state)]) + "\n")
            file.flush()

        return note

    def said(self):
        """A function (name, text) that appends to what this one has said so far, from the beginning."""
        file = open(self.folder / "said.jsonl", "w", encoding="utf-8")

        def note(name: str, text: str) -> None:
            if text:
                file.write(json.dumps([name, text]) + "\n")
                file.flush()

        return note


def curves_of(job: Job) -> dict[str, list[tuple[float, float, tuple[int, ...]]]]:
    """{method: [(forwards, loss, state)]} that a job has noted so far (`Progress.curves`)."""
    found: dict[str, list] = {}
    for name, forwards, loss, state in _noted(job, "curves.jsonl"):
        found.setdefault(name, []).append((forwards, loss, tuple(state)))
    return found


def unpaid(result: dict) -> list[str]:
    """The searches in a result of `peers` whose first states its budget did not pay for."""
    return [name for name, curve in result.get("curves", {}).items() if not curve]


def said_of(job: Job) -> dict[str, str]:
    """{name: text} that a job has noted so far (`Progress.said`)."""
    found: dict[str, str] = {}
    for name, text in _noted(job, "said.jsonl"):
        found[name] = found.get(name, "") + text
    return found


def _noted(job: Job, name: str) -> Iterator[list]:
    """The lines of a file of the job, but for one that is being written."""
    try:
        lines = (job.folder / name).read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError:
        return
    yield from (json.loads(line) for line in lines if line.endswith("\n"))
