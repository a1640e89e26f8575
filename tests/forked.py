"""Workers that are forked from the test, so that torch is there at once, and can be made to wait for a kill:
what a test does to one is then at the same place of its work on every machine, however busy it is.
"""

import gc
import os
import signal
import time
from collections.abc import Callable

import torch

from core.jobs.files import folder_of, on_its_way
from core.jobs.progress import Progress
from core.jobs.worker import work
from tests.jobs.test_jobs import until


def fork(do: Callable[[], object]) -> int:
    """The process id of a child in a process group of its own that does it and ends."""
    child = os.fork()
    if child:
        until(lambda: os.getpgid(child) == child)  # a kill finds the group
        return child
    try:
        os.setsid()
        gc.freeze()  # what the tests have made is no garbage of the child's
        # threads of this process, if an earlier test has had several, are not in the fork: it would wait for
        # them for ever
        torch.set_num_threads(1)
        do()
    finally:
        os._exit(0)


def forked_worker(job_id: str) -> int:
    """The real worker: its process id."""

    def do() -> None:
        log = os.open(folder_of(job_id) / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        work(job_id)

    with on_its_way(folder_of(job_id)):
        return fork(do)


class Forks:
    """What start() makes of a job: workers forked from here.

    children: their process ids.  message, pause, most: a worker that reports this message waits so many
    seconds at each report, and at so many it waits to be killed.
    """

    def __init__(self):
        self.children: list[int] = []
        self.message, self.pause, self.most, self.seen = "", 0.0, 0, 0

    def spawn(self, job_id: str) -> None:
        self.children.append(forked_worker(job_id))

    def hold(self, message: str, pause: float, most: int = 0) -> None:
        """Workers that are started from now on."""
        self.message, self.pause, self.most = message, pause, most

    def let_go(self) -> None:
        """Those that are started from now on work freely."""
        self.hold("", 0.0)

    def report(self, message: str) -> None:
        """In a worker: it has reported this."""
        if self.message and self.message in message:
            self.seen += 1
            time.sleep(self.pause)
            if self.seen == self.most:
                signal.pause()

    def reap(self) -> None:
        """Wait for the end of the last."""
        os.waitpid(self.children[-1], 0)

    def kill(self) -> None:
        """SIGKILL to the last and what it has started, at its end."""
        os.killpg(self.children[-1], signal.SIGKILL)
        self.reap()


def forks_of(monkeypatch) -> Forks:
    """start() forks its workers from here, as they say."""
    forks, report = Forks(), Progress.report

    def told(self, done, total, message):
        report(self, done, total, message)
        forks.report(message)

    monkeypatch.setattr("core.jobs.control.spawn", forks.spawn)
    monkeypatch.setattr(Progress, "report", told)
    return forks
