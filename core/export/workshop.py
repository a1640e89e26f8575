"""Where an export is made before it has its name: on the same disk, and so that a kill loses nothing."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import InputError
from core.store.folders import writing

SHELF = "shelf"  # in a workshop: what is whole of an export that was not done
_EARLIER = "earlier"  # in what is made: the export that it replaces


@contextmanager
def workshop(work: Path, out: Path) -> Iterator[Path]:
    """A folder on the disk of `out` for a job to write in: `work`, that of its checkpoints, else one beside
    `out` that has the job's name, and stays as long as something is in it for who goes on.

    Errors: InputError where the system says no.
    """
    with writing(out):
        place = _place(work, out)
        place.mkdir(parents=True, exist_ok=True)
    try:
        yield place
    except BaseException:
        with suppress(OSError):
            if place != work:
                place.rmdir()
        raise
    if place != work:
        shutil.rmtree(place, ignore_errors=True)


def _there(out: Path) -> Path:
    """The folder nearest to it that exists."""
    return next(folder for folder in out.absolute().parents if folder.exists())


def on_same_disk(work: Path, out: Path) -> bool:
    """Whether what is made in `work` can be given the name `out` as it is."""
    return _there(out).stat().st_dev == work.stat().st_dev


def check_disk(size: int, place: Path) -> None:
    """Errors: InputError where the disk of `place`, which need not exist, has no room for so many bytes."""
    folder = place if place.is_dir() else _there(place)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise InputError(
            f"The checkpoint takes {size / 1e9:.2f} GB and {free / 1e9:.2f} GB are free at {str(folder)!r}; "
            "free some, or give another place."
        )


def _place(work: Path, out: Path) -> Path:
    return work if on_same_disk(work, out) else out.with_name(f".{out.name}-{work.parent.name}")


def put_back(work: Path, out: Path) -> None:
    """The export that a worker was just replacing when it was killed gets its name again; else nothing of
    that worker is left but its shelf. Errors: as `workshop`.
    """
    with writing(out):
        place = _place(work, out)
        for staging in place.iterdir() if place.is_dir() else ():
            if staging.name.startswith(f".{out.name}-"):
                clear(staging, out)


def named(checkpoint: Path, staging: Path, out: Path) -> None:
    """What was made in `staging` gets its name; what has had it is moved there until `clear`."""
    if out.exists():
        os.replace(out, staging / _EARLIER)
    os.replace(checkpoint, out)


def clear(staging: Path, out: Path) -> None:
    """Nothing is left of `staging`; what was moved there gets its name again where nothing else has it."""
    earlier = staging / _EARLIER
    if earlier.exists() and not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)  # removed meanwhile
        os.replace(earlier, out)
    shutil.rmtree(staging, ignore_errors=True)


def taken(file: Path, folder: Path) -> None:
    """A file of the shelf is in the folder too; where the disk knows no second names, there alone."""
    try:
        os.link(file, folder / file.name)
    except OSError:
        os.replace(file, folder / file.name)
