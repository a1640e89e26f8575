"""The warm process of the tests: what it does for another is what that was to do."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests import warm


def test_output_and_exit_code_are_the_forks(tmp_path):
    """Without a job's id the worker ends in a traceback, here with the fork's frames."""
    with warm.server(tmp_path) as environment:
        deadline = time.monotonic() + 120
        while not Path(environment["BLOCKSCAPE_WARM"]).exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        done = subprocess.run(
            [sys.executable, "-m", "core.jobs"],
            cwd=warm.ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1 and done.stdout == ""
    assert "tests/warm.py" in done.stderr and done.stderr.endswith("IndexError: list index out of range\n")
