"""How many threads a worker computes with: as many as it may use processors at the same time.

That is what the system allows, not what happens to be free: a job of hours that took its threads from a
passing load would keep one of two processors idle through all of it. Two jobs at once each take all; the
system shares the processors between them, threads that wait sleep (OMP_WAIT_POLICY), and whichever is left
has them to itself.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def usable_processors(root: Path = ROOT) -> int:
    """Those that this process is bound to, at most as many as the quota of a control group of it or above it
    pays for, rounded up; root: of the file system, for tests.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *(math.ceil(share) for share in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Processors that each control group's quota pays for (cgroups v2 `cpu.max`, v1 `cpu.cfs_quota_us`)."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):  # no Linux
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            places, read = ("sys/fs/cgroup", "sys/fs/cgroup/unified"), _share_v2
        elif "cpu" in controllers.split(","):
            places, read = ("sys/fs/cgroup/cpu", f"sys/fs/cgroup/{controllers}"), _share_v1
        else:
            continue
        for place in places:
            # a container often sees its own group as the outermost, under a path of outside
            parts = Path(path.lstrip("/")).parts
            for depth in range(len(parts) + 1):
                share = read(root / place / Path(*parts[:depth]))
                if share:
                    yield share


def _share_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _share_v1(group: Path) -> float | None:
    try:
        quota, period = (
            int((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii")) for name in ("quota", "period")
        )
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
