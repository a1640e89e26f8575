"""Progress on stderr."""

import sys
import time

from core.jobs.costs import BYTES, counted


class Progress:
    """One line on stderr, rewritten on a terminal and at most every two seconds elsewhere."""

    def __init__(self):
        self.last = time.monotonic()
        self.live = sys.stderr.isatty()

    def __call__(self, done: int, total: int, message: str, left: float | None = None) -> None:
        """left: seconds to the end, as the job's own meter has them (core.jobs.progress); None: not known."""
        now = time.monotonic()
        if done < total and now - self.last < (0.1 if self.live else 2.0):
            return
        self.last = now
        far = counted(done, total) if total >= BYTES else f"{done}/{total}"
        line = f"{message}: {far}" + (
            f", about {left:.0f} s left" if left is not None and done < total else ""
        )
        print(
            f"\r\033[K{line}" if self.live else line,
            end="" if self.live and done < total else "\n",
            file=sys.stderr,
            flush=True,
        )
