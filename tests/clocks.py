"""What a test may take: seconds of the processor where the claim is about work, however busy the machine is;
else the fastest of a few attempts, for others may take the processor once.
"""

import os
import time
from collections.abc import Callable


def spent() -> float:
    """Seconds of the processor that this process and its children which have ended took so far."""
    return sum(os.times()[:4])


def fastest(attempt: Callable[[], float | None], bar: float, most: int = 3) -> float:
    """Seconds of the fastest of at most so many attempts, of which none follows one below the bar.

    attempt: returns the seconds that count, or None where all of it does.
    """
    best = float("inf")
    for _ in range(most):
        began = time.monotonic()
        own = attempt()
        best = min(best, time.monotonic() - began if own is None else own)
        if best < bar:
            break
    return best
