"""Read by a worker at its start when this folder is on PYTHONPATH: a cheap, torch-free stand-in for
core.job_kinds.benchmark.

Everything else of the worker (lock, progress, result) is the real one. STAND_IN_LATE: seconds that it takes
to its lock.
"""

import os
import sys
import time
import types
from pathlib import Path


def run(request: dict, progress) -> dict:
    """`steps` steps of `pause` seconds; one line in the request's file for every computation begun."""
    with open(request["count"], "a") as f:
        f.write("computed\n")
    for step in range(request["steps"]):
        progress.report(step, request["steps"], "working")
        time.sleep(request["pause"])
    return {"number": request["number"], "file": Path(request["count"]).name}


time.sleep(float(os.environ.get("STAND_IN_LATE", 0)))
sys.modules["core.job_kinds.benchmark"] = types.ModuleType("core.job_kinds.benchmark")
sys.modules["core.job_kinds.benchmark"].run = run
