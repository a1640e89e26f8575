"""Where Blockscape keeps its files: `BLOCKSCAPE_HOME`, or the platform's user data folder.

HOME/runs/<sha256>/    calibration runs, by key; <sha256>.bad-*: damaged ones, set aside; .lock: of who writes
HOME/matrices/         coupling matrices that were uploaded
HOME/texts/            texts that were pasted or uploaded
HOME/own/              models' own samples (core.calibration.own_samples); drawn anew where deleted
HOME/own-answers/      models' answers to prompts (core.calibration.own_answers); likewise
HOME/gguf/             what is read from GGUF files (core.weights.gguf_files); may be deleted
HOME/datasets/         local data files as the benchmark harness reads them; may be deleted
HOME/spectra/          states that a search has listed
HOME/jobs/             work and its progress (core.jobs.job)
HOME/results.sqlite    measurements (core.store.results); results.lock: held by who makes its tables
HOME/exports/          pruned checkpoints without an explicit place
HOME/healing.lock      held by the healing whose turn it is
"""

import fcntl
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from core.errors import InputError, first_line

ASSETS = Path(__file__).resolve().parents[2] / "assets"
DEMO = ASSETS / "demo"
DEMO_RUN = DEMO / "run"
SHIPPED_RUNS = {"smollm2": ASSETS / "smollm2" / "run", "demo": DEMO_RUN}  # by name, the first to open first
MEASURED = "measured.json.gz"  # beside a shipped run: what is measured of its model
OWN_SAMPLES = "own.npz"  # beside a shipped run: the samples of its model that it was calibrated on
# of a run: what may be added to it later
SECANTS, PAIRS, BRANCHES = EXTRAS = ("secants.npz", "pairs.npz", "branches.npz")
OPENS = "BLOCKSCAPE_OPENS"  # environment: the name of the shipped run that opens first
_PREFIX = re.compile(r"[0-9a-f]{8,64}")


def home() -> Path:
    """The folder of everything that is kept; it need not exist yet."""
    return Path(
        os.environ.get("BLOCKSCAPE_HOME") or platformdirs.user_data_dir("blockscape", appauthor=False)
    )


def keep(kind: str, content: bytes, suffix: str, stem: str = "") -> Path:
    """A file with this content, named by its digest, whole or absent.

    It is HOME/<kind>/<sha256><suffix>, or with a stem HOME/<kind>/<sha256>/<stem><suffix>.
    """
    digest = hashlib.sha256(content).hexdigest()
    target = home() / kind / (f"{digest}/{stem}{suffix}" if stem else f"{digest}{suffix}")
    # written anew only when damaged: jobs see its time of change
    if not (target.is_file() and target.read_bytes() == content):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, staging = tempfile.mkstemp(dir=target.parent)
        with os.fdopen(handle, "wb") as f:
            f.write(content)
        os.replace(staging, target)
    return target


def check_free(out: Path) -> None:
    """Errors: InputError when `out` exists and is not an empty folder, or is a link to elsewhere."""
    if out.is_symlink():
        raise InputError(f"{str(out)!r} is a symbolic link; give a new folder for the pruned model.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{str(out)!r} already exists; give a new folder for the pruned model.")


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Errors: InputError for what the system says when `out` cannot be written: a full disk, no right to."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{str(out)!r} cannot be written: {first_line(error)}; make room, or choose a folder on another "
            "disk."
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process or thread at a time inside; the kernel frees the lock however its holder ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def in_turn(path: Path, waiting: Callable[[], None], every: float = 0.5) -> Iterator[None]:
    """As `locked`; `waiting` is called every so many seconds until it is one's turn, and what it raises ends
    the wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting()
                time.sleep(every)
        yield


def shipped_runs() -> dict[str, Path]:
    """{name: folder} of the calibrations that come with Blockscape, in the order in which they open."""
    first = os.environ.get(OPENS)
    names = sorted(SHIPPED_RUNS, key=lambda name: name != first)
    return {name: SHIPPED_RUNS[name] for name in names if (SHIPPED_RUNS[name] / "run.json").exists()}


def run_folders() -> list[Path]:
    """Every run at hand, the shipped ones first, then the store's newest first."""
    stored = [
        p.parent for p in (home() / "runs").glob("*/run.json") if re.fullmatch(r"[0-9a-f]{64}", p.parent.name)
    ]
    stored.sort(key=lambda p: (p / "run.json").stat().st_mtime, reverse=True)
    return [*shipped_runs().values(), *stored]


def _key(folder: Path) -> str:
    """The key that a run folder claims; empty when it cannot be read."""
    try:
        return str(json.loads((folder / "run.json").read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def find_run(reference: str) -> Path:
    """A run folder from a path, the name of a shipped run, or the first 8 or more hex digits of its key.

    Errors: InputError when nothing or more than one run fits.
    """
    if reference in SHIPPED_RUNS:
        return SHIPPED_RUNS[reference]
    if _PREFIX.fullmatch(reference):
        fits = [p for p in run_folders() if _key(p).startswith(reference)]
        if len({_key(p) for p in fits}) == 1:
            # what was added to a shipped one is a copy of it
            return max(fits, key=lambda p: sum((p / name).exists() for name in EXTRAS))
        if fits:
            raise InputError(f"The run key {reference!r} fits {len(fits)} runs; give more of its digits.")
    folder = Path(reference)
    if len(reference) < 4096 and "\0" not in reference and os.path.isfile(folder / "run.json"):
        return folder
    raise InputError(
        f"No run {reference[:200]!r}: it is neither a folder with a run.json nor the start of a stored key "
        f"(8 hex digits or more); calibrate one with 'python -m core calibrate'."
    )
