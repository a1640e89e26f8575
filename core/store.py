"""Where Blockscape keeps its files: `BLOCKSCAPE_HOME`, or the platform's user data folder.

HOME/runs/<sha256>/    calibration runs, by key
HOME/exports/          pruned checkpoints without an explicit place
"""

import os
import re
from pathlib import Path

import platformdirs

from core.errors import InputError

ASSETS = Path(__file__).resolve().parents[1] / "assets"
DEMO = ASSETS / "demo"
DEMO_RUN = DEMO / "run"
_PREFIX = re.compile(r"[0-9a-f]{8,64}")


def home() -> Path:
    return Path(os.environ.get("BLOCKSCAPE_HOME") or platformdirs.user_data_dir("blockscape", appauthor=False))


def run_folders() -> list[Path]:
    """Every run at hand, the bundled demo first, then the store's newest first."""
    stored = [p.parent for p in (home() / "runs").glob("*/run.json")]
    stored.sort(key=lambda p: (p / "run.json").stat().st_mtime, reverse=True)
    return ([DEMO_RUN] if (DEMO_RUN / "run.json").exists() else []) + stored


def find_run(reference: str) -> Path:
    """A run folder from a path, `demo`, or the first 8 or more hex digits of its key.

    Errors: InputError when nothing or more than one run fits.
    """
    if reference == "demo":
        return DEMO_RUN
    if _PREFIX.fullmatch(reference):
        from core.runs import read_key  # runs builds on the store

        fits = {read_key(p): p for p in run_folders() if read_key(p).startswith(reference)}
        if len(fits) == 1:
            return next(iter(fits.values()))
        if len(fits) > 1:
            raise InputError(f"The run key {reference!r} fits {len(fits)} runs; give more of its digits.")
    folder = Path(reference)
    if (folder / "run.json").is_file():
        return folder
    raise InputError(
        f"No run {reference!r}: it is neither a folder with a run.json nor the start of a stored key "
        f"(8 hex digits or more); calibrate one with 'python -m core calibrate'."
    )
