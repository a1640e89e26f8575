"""What can be explored, behind one face: a calibration run, or a bare coupling matrix."""

import hashlib
import os
import re
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from core.energy.couplings import ESTIMATORS, Meaning, available, couplings
from core.energy.learned import UNREADABLE, learned_at, learned_by, learned_names, read_learned
from core.energy.mix import check_mix, domain_rows, mix_text
from core.errors import InputError
from core.ising.energies import check_matrix
from core.ising.matrix_files import SUFFIXES, read_matrix
from core.ising.units import BLOCK, Units, whole
from core.store import folders
from core.store.results import KL
from core.store.runs import Run, load_run, read_view

LEARNED = (
    "the posterior mean of the couplings after states of M = {} were measured: x^T H x is the expected "
    "{}, best there"
)
MATRIX = "matrix"  # the only estimator of a bare matrix
BEST_FIRST = ("pairs", "secant", "hybrid")  # where there is neither: the first that a run has
OPENING_COST = 0.5  # nats: a model that lost more has little to say


@dataclass(frozen=True)
class Source:
    """A run or a matrix; `key` names its content: equal keys give equal couplings, so a run that is seen by
    branch has another than the same by block (core.store.runs.view_key).

    given: the estimators of the run's own data. run, matrix (float64 [N, N]): one of the two is there.
    """

    key: str
    name: str
    blocks: int
    given: tuple[str, ...]
    run: Run | None = None
    matrix: np.ndarray | None = None

    @property
    def estimators(self) -> tuple[str, ...]:
        """What its couplings may be taken from: the run's own data, and landscapes learned since."""
        return self.given if self.run is None else (*self.given, *learned_names(self.key))

    @property
    def default(self) -> str:
        """The couplings a first view takes: of those that the run has data for, the ones that order measured
        states best (docs/study-smollm2.md), else the paper's.
        """
        return next((name for name in BEST_FIRST if name in self.given), self.given[0])

    @property
    def units(self) -> Units:
        """What a state removes; of a bare matrix blocks of no known kind."""
        return whole(self.blocks) if self.run is None else self.run.units

    @property
    def by(self) -> str:
        """The view: by block or by branch."""
        return self.units.by

    @property
    def views(self) -> tuple[str, ...]:
        """The views there are."""
        return (BLOCK,) if self.run is None else self.run.views

    def seen(self, by: str) -> "Source":
        """The same source in another view. Errors: InputError where it does not know branches."""
        if self.run is None:
            if by == BLOCK:
                return self
            raise InputError(f"{self.name} is a bare matrix, which does not say what its blocks are made of.")
        return _run_source(self.run.seen(by))

    def about(self, estimator: str) -> Meaning:
        """Label, unit and meaning of one of its estimators."""
        if self.run is None:
            return Meaning("as given", "as given", "the matrix as given")
        m = learned_at(estimator)
        if m is not None:
            if learned_by(estimator) == KL:
                return Meaning(
                    f"learned at M = {m} by KL", "KL, nats", LEARNED.format(m, "KL to the original")
                )
            return Meaning(f"learned at M = {m}", "nats", LEARNED.format(m, "loss increase"))
        return ESTIMATORS[estimator]

    def mixes(self, estimator: str) -> bool:
        """Whether a domain mix weighs these couplings."""
        return self.run is not None and estimator in ESTIMATORS and ESTIMATORS[estimator].mixes

    def couplings(self, estimator: str, mix: Mapping[str, float] | None = None) -> np.ndarray:
        """float64 [N, N]. Errors: InputError for an estimator or a domain mix this source does not have."""
        if self.run is not None and learned_at(estimator) is not None:
            if mix is not None:
                raise InputError(
                    "A learned landscape was measured on the texts as sampled; leave the mix "
                    f"{mix_text(mix)[:40]!r} out."
                )
            return read_learned(self.key, estimator).couplings
        if self.run is not None:
            return couplings(self.run, estimator, mix)
        self.check_mix(mix)
        assert self.matrix is not None  # where there is no run
        return self.matrix

    @property
    def domains(self) -> dict[str, int]:
        """{domain: rows of it} of a run's texts; empty for a bare matrix."""
        return {} if self.run is None else domain_rows(self.run)

    def check_mix(self, mix: Mapping[str, float] | None) -> dict[str, float] | None:
        """The mix as shares of sum 1, None as sampled.

        Errors: InputError for a domain mix this source does not have.
        """
        if mix is None:
            return None
        if self.run is None:
            raise InputError(
                f"{self.name} is a bare matrix, which has no domains to mix; leave the mix "
                f"{mix_text(mix)[:40]!r} out."
            )
        return check_mix(self.run, mix)

    @property
    def opening(self) -> int:
        """The M a first view opens at: a third of the blocks, above which gradients predict poorly; fewer
        where single removals were measured and the cheapest cost more than OPENING_COST together.
        """
        third = max(1, min(self.blocks - 1, round(self.blocks / 3)))
        if self.run is None or self.run.singles is None:
            return third
        together = np.cumsum(np.sort(self.run.singles.increase.clip(min=0.0)))
        return max(1, min(third, int((together <= OPENING_COST).sum())))


def open_source(reference: str | Path) -> Source:
    """A source from a run folder, a matrix file, the name of a shipped run, or the start of a stored key,
    also of a key as it is seen (core.store.runs.view_key).

    Warns where a matrix file was not read as it stands (core.ising.matrix_files). Errors: InputError.
    """
    reference = str(reference)
    if Path(reference).suffix in SUFFIXES:
        return _matrix_source(read_matrix(Path(reference), warnings.warn), Path(reference).stem)
    stored = (
        [p for p in _matrix_files() if p.stem.startswith(reference)]
        if re.fullmatch(r"[0-9a-f]{8,64}", reference)
        else []
    )
    if len(stored) == 1:
        return _read_stored(stored[0])
    own, by = read_view(reference)
    return _run_source(load_run(folders.find_run(own)).seen(by))


def _run_source(run: Run) -> Source:
    return Source(run.view_key, run.name, run.blocks, tuple(available(run)), run=run)


def store_matrix(H: np.ndarray, name: str) -> Source:
    """Keep a matrix [N, N] in the store, so that links to it survive a reload. Errors: as `check_matrix`."""
    H = check_matrix(H, name)
    source = _matrix_source(H, name)
    target = folders.home() / "matrices" / f"{source.key}.npz"
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, staging = tempfile.mkstemp(suffix=".npz", dir=target.parent)
    with os.fdopen(handle, "wb") as f:
        np.savez_compressed(f, H=H, name=name)
    os.replace(staging, target)
    return source


def stored_matrices() -> dict[str, str]:
    """{key: name} of the matrices in the store; damaged ones by their key, since they can be deleted too."""
    found = {}
    for path in _matrix_files():
        try:
            found[path.stem] = _stored_name(path, path.stat().st_mtime_ns)
        except InputError:
            found[path.stem] = f"damaged, {path.stem[:8]}"
    return found


def delete_matrix(key: str) -> None:
    """Take an uploaded matrix out of the store, for good; one that is gone already is no error."""
    for path in _matrix_files():
        if path.stem == key:
            path.unlink(missing_ok=True)


def list_sources() -> dict[str, str]:
    """{key: name} of everything at hand, the shipped runs first; unreadable runs are left out."""
    found: dict[str, str] = {}
    for folder in folders.run_folders():
        try:
            key, name = _name_of(folder, _signature(folder))
            found.setdefault(key, name)
        except (InputError, OSError):
            continue
    for path in _matrix_files():
        try:
            found[path.stem] = _stored_name(path, path.stat().st_mtime_ns)
        except InputError:
            continue
    return found


def _signature(folder: Path) -> tuple:
    """Changes when a file of the run is written: names are asked for often, and digests take time."""
    return tuple(sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.iterdir()))


@lru_cache(maxsize=1000)
def _name_of(folder: Path, signature: tuple) -> tuple[str, str]:
    run = load_run(folder)
    return run.key, run.name


@lru_cache(maxsize=1000)
def _stored_name(path: Path, changed: int) -> str:
    return _read_stored(path).name


def _read_stored(path: Path) -> Source:
    """A matrix of the store. Errors: InputError when it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            source = _matrix_source(check_matrix(arrays["H"]), str(arrays["name"]))
    except UNREADABLE as error:
        raise InputError(f"The stored matrix {path.stem[:8]} is damaged; upload it again.") from error
    if source.key != path.stem:
        raise InputError(
            f"The stored matrix {path.stem[:8]} has changed since it was stored; upload it again."
        )
    return source


def _matrix_files() -> list[Path]:
    return sorted(p for p in (folders.home() / "matrices").glob("*.npz") if len(p.stem) == 64)


def _matrix_source(H: np.ndarray, name: str) -> Source:
    key = hashlib.sha256(np.ascontiguousarray(H, dtype="<f8").tobytes() + name.encode()).hexdigest()
    return Source(key, name, len(H), (MATRIX,), matrix=H)
