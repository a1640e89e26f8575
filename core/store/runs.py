"""A calibration run on disk: per-sample gradient rows and where they come from.

    RUN/run.json        format, key, request, model, texts, gate, labels, plan, versions, times, files, digest
    RUN/A.npz           A float32 [m, N]; sample int64 [m]; domain int16 [m]; loss float32 [m]
    RUN/A_sampled.npz   the same with labels sampled from the model; optional
    RUN/singles.npz     increase float64 [N], se float64 [N], sequences int; optional
    RUN/secants.npz     A float32 [N + 1, S, N], loss float32 [N + 1, S]; optional
    RUN/pairs.npz       blocks int16 [P, 2], part float32 [P, S]; optional
    RUN/branches.npz    the same by branch (U of them): A float32 [m, U], sampled float32 [m, U], increase
                        float64 [U], se float64 [U], sequences int, block float64 [N], secants float32 [N + 1,
                        S, U]; optional, and all but A

`run.json` holds the SHA-256 of every array file, and last its own: a file that
was cut off or changed is refused, never read silently.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from core.errors import InputError
from core.ising.units import BLOCK, BRANCH, VIEWS, Units, units_of
from core.store import folders
from core.store.sealed_json import seal, unseal

FORMAT = 1
BRANCH_SINGLES = 32  # sequences that branches are removed alone on, at most: they are twice as many
_TRIES = 5  # of reading a run that is replaced meanwhile
_ARRAYS = ("A.npz", "A_sampled.npz", "singles.npz", *folders.EXTRAS)


@dataclass(frozen=True)
class Rows:
    """Gate gradients: `A[s, i]` = d loss_s / d alpha_i at alpha = 1 (nats)."""

    A: np.ndarray  # float32 [m, N]
    sample: np.ndarray  # int64 [m], index of the sequence
    domain: np.ndarray  # int16 [m], index into the run's domain names
    loss: np.ndarray  # float32 [m], nats per predicted token


@dataclass(frozen=True)
class Singles:
    """Measured loss increase (nats) of removing each block alone, with its paired standard error."""

    increase: np.ndarray  # float64 [N]
    se: np.ndarray  # float64 [N]
    sequences: int


@dataclass(frozen=True)
class Secants:
    """Gate gradients at the intact model and with each block removed, on the same sequences.

    `A[0, s, j]` = d loss_s / d alpha_j at alpha = 1, `A[1 + i, s, j]` the same with alpha_i = 0 (nats).
    """

    A: np.ndarray  # float32 [N + 1, S, N]
    loss: np.ndarray  # float32 [N + 1, S], nats per predicted token


@dataclass(frozen=True)
class Pairs:
    """Measured two-body parts: L(ij) - L(i) - L(j) + L() of some pairs, on the same sequences."""

    blocks: np.ndarray  # int16 [P, 2], i < j
    part: np.ndarray  # float32 [P, S], nats per predicted token


@dataclass(frozen=True)
class Branches:
    """What a run knows of the U branches of its blocks, in depth order: the columns of a block's branches add
    up to the block's.
    """

    A: np.ndarray  # float32 [m, U], of the rows
    sampled: np.ndarray | None = None  # float32 [m, U], of the sampled rows
    singles: Singles | None = None  # of each branch alone
    block: np.ndarray | None = None  # float64 [N], nats: of whole blocks on the same sequences
    secants: np.ndarray | None = None  # float32 [N + 1, S, U]: intact, and with each block removed


@dataclass(frozen=True)
class Run:
    """One calibration: gradient rows, and what names and explains them.

    rows are of the texts' own tokens; sampled, of labels sampled from the model, and singles, measured single
    removals, secants and pairs, measured two-body parts, are there where they were asked for. Seen by branch
    (`seen`) N counts branches, and all arrays are theirs.
    """

    meta: dict  # what run.json holds
    rows: Rows
    sampled: Rows | None = None
    singles: Singles | None = None
    secants: Secants | None = None
    pairs: Pairs | None = None
    branches: Branches | None = None
    folder: Path | None = field(default=None, compare=False)
    whole: "Run | None" = field(
        default=None, compare=False
    )  # of one that is seen by branch: the same by block

    @property
    def key(self) -> str:
        """The name of all that changes its rows beyond rounding."""
        return self.meta["key"]

    @property
    def blocks(self) -> int:
        """N, how many units a state is made of: the model's blocks, or seen by branch their branches."""
        return self.rows.A.shape[1]

    @property
    def by(self) -> str:
        """The view: by block or by branch."""
        return BLOCK if self.whole is None else BRANCH

    @cached_property
    def units(self) -> Units:
        """What a state removes."""
        return self.units_by(self.by)

    def units_by(self, by: str) -> Units:
        """What a state removes in this view, whether or not the run has data for it."""
        return units_of(_kinds(self.whole or self), by)

    @property
    def view_key(self) -> str:
        """The key of the run as it is seen: by block and by branch other things follow from it."""
        return view_key(self.key, self.by)

    @property
    def block_costs(self) -> np.ndarray | None:
        """float64 [blocks], nats: of whole blocks on the sequences that the single removals are of; None
        where nothing was measured.
        """
        run = self.whole or self
        if self.whole is not None and run.branches is not None and run.branches.block is not None:
            return run.branches.block
        return None if run.singles is None else run.singles.increase

    @property
    def views(self) -> tuple[str, ...]:
        """The views that this run has the data for."""
        return (BLOCK,) if (self.whole or self).branches is None else VIEWS

    def seen(self, by: str) -> "Run":
        """The same run with these units.

        Errors: InputError for a run that does not know branches, or another view.
        """
        if by == self.by:
            return self
        if self.whole is not None and by == BLOCK:
            return self.whole
        units = self.units_by(by)
        if units.by == BLOCK:  # every block has one branch: both views are one
            return self
        if self.branches is None:
            raise InputError(
                f"The run {self.key[:8]} knows whole blocks only, as an earlier version calibrated them; "
                "calibrate again to see attention and FFN apart."
            )
        own, model = self.branches, self.meta["model"]
        blocks = [
            {**part, "index": u, "name": units.names[u], "branches": [part]}
            for u, part in enumerate(part for b in model["blocks"] for part in b["branches"])
        ]
        return replace(
            self,
            meta={**self.meta, "model": {**model, "blocks": blocks}},
            rows=replace(self.rows, A=own.A),
            sampled=None
            if self.sampled is None or own.sampled is None
            else replace(self.sampled, A=own.sampled),
            singles=own.singles,
            secants=None
            if self.secants is None or own.secants is None
            else Secants(own.secants, self.secants.loss),
            pairs=None,
            whole=self,
        )

    @property
    def name(self) -> str:
        """What it is called where people choose one."""
        return f"{self.meta['model']['name']} · {len(self.rows.A)} samples"

    @property
    def block_names(self) -> list[str]:
        """The kind of each block, as in "attention + FFN"."""
        return [block["kind"] for block in self.meta["model"]["blocks"]]


def view_key(key: str, by: str) -> str:
    """The key of a run with this one, as it is seen."""
    return key if by == BLOCK else f"{key}-{by}"


def read_view(key: str) -> tuple[str, str]:
    """(the run's own key, the view) of a `view_key`."""
    found = re.fullmatch(rf"([0-9a-f]{{8,64}}|{'|'.join(folders.SHIPPED_RUNS)})-({BRANCH})", key)
    return (found[1], found[2]) if found else (key, BLOCK)


def _kinds(run: Run) -> list[list[str]]:
    """The kinds of the branches of each block."""
    blocks = run.meta["model"]["blocks"]
    return [[part["kind"] for part in b.get("branches", ())] or [b["kind"]] for b in blocks]


def by_block(A: np.ndarray, units: Units) -> np.ndarray:
    """float32 [..., N]: columns of branches [..., U], those of a block added up."""
    return np.add.reduceat(A, [own[0] for own in units.of_block], axis=-1)


def canonical_key(parts: dict) -> str:
    """SHA-256 of canonical JSON: the name of everything that changes rows beyond rounding."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex digits."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _read_meta(folder: Path, whole: bool = True) -> dict:
    """run.json; `whole=False` is content with one that is a run's, changed or not."""
    try:
        text = (folder / "run.json").read_text(encoding="utf-8")
        meta = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"The run in {str(folder)!r} cannot be read ({error.__class__.__name__}); calibrate it again."
        ) from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT or "key" not in meta:
        found = meta.get("format") if isinstance(meta, dict) else None
        raise InputError(
            f"{str(folder / 'run.json')!r} has format {found!r} and this version reads format {FORMAT}; "
            "calibrate it again."
        )
    if whole and unseal(text) is None:
        raise InputError(
            f"{str(folder / 'run.json')!r} was cut off or changed since it was written; calibrate the run "
            "again."
        )
    return meta


def _read_arrays(folder: Path, meta: dict, name: str) -> dict[str, np.ndarray]:
    """{name: array} of a file that run.json lists."""
    path = folder / name
    if not path.is_file() or file_sha256(path) != meta["files"][name]:
        raise InputError(
            f"{str(path)!r} is missing, cut off or changed since it was written; calibrate the run again."
        )
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def load_run(folder: Path) -> Run:
    """Read a run; every array file must match the digest in run.json. One that is replaced while it is read,
    as by a job that adds to it, is read again.
    """
    for _ in range(_TRIES):
        before = _stamp(folder)
        try:
            return _load_run(folder)
        except InputError:
            if before is not None and _stamp(folder) == before:  # so it lies there
                raise
            time.sleep(0.01)
    return _load_run(folder)


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Changes when another run gets the place of this one; None while there is none."""
    try:
        found = folder.stat()
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_ctime_ns


def _load_run(folder: Path) -> Run:
    """As `load_run`, of one that stays as it is."""
    meta = _read_meta(folder)
    try:
        read = {name: _read_arrays(folder, meta, name) for name in _ARRAYS if name in meta["files"]}
        sampled, singles = read.get("A_sampled.npz"), read.get("singles.npz")
        # a run without them is not whole
        meta["model"]["name"], meta["model"]["blocks"], meta["texts"], meta["seed"]
        return Run(
            meta=meta,
            rows=Rows(**read["A.npz"]),
            sampled=Rows(**sampled) if sampled else None,
            singles=Singles(singles["increase"], singles["se"], int(singles["sequences"]))
            if singles
            else None,
            secants=Secants(**read[folders.SECANTS]) if folders.SECANTS in read else None,
            pairs=Pairs(**read[folders.PAIRS]) if folders.PAIRS in read else None,
            branches=_branches(read[folders.BRANCHES], singles) if folders.BRANCHES in read else None,
            folder=folder,
        )
    except (KeyError, TypeError, AttributeError, ValueError, OSError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The run in {str(folder)!r} is not complete ({error}); calibrate it again."
        ) from error


def _branches(arrays: dict[str, np.ndarray], singles: dict[str, np.ndarray] | None) -> Branches:
    own = None
    if singles and "increase" in arrays:
        count = arrays["sequences"] if "sequences" in arrays else singles["sequences"]
        own = Singles(arrays["increase"], arrays["se"], int(count))
    return Branches(arrays["A"], arrays.get("sampled"), own, arrays.get("block"), arrays.get("secants"))


def _branch_arrays(b: Branches) -> dict[str, np.ndarray]:
    """As branches.npz holds them."""
    own = vars(b.singles) if b.singles else {}
    found = {"A": b.A, "sampled": b.sampled, "block": b.block, "secants": b.secants, **own}
    return {name: array for name, array in found.items() if array is not None}


def check_run_place(folder: Path) -> None:
    """Errors: InputError when `folder` holds more than a run's own files: writing one would destroy it."""
    if not os.path.lexists(folder):
        return
    own = {"run.json", *_ARRAYS}
    if folder.is_symlink() or not folder.is_dir() or {p.name for p in folder.iterdir()} - own:
        raise InputError(f"{str(folder)!r} exists and holds more than a Blockscape run; give another --out.")
    if (folder / "run.json").exists():
        _read_meta(folder, whole=False)  # a run.json of somebody else's is not ours to replace


def save_run(run: Run, folder: Path) -> Path:
    """Write a run as a whole: a new folder beside the target, then one rename.

    Errors: InputError when `folder` exists and is not a run (nothing is overwritten then).
    """
    check_run_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        files = {"A.npz": vars(run.rows)}
        if run.sampled is not None:
            files["A_sampled.npz"] = vars(run.sampled)
        if run.singles is not None:
            files["singles.npz"] = vars(run.singles)
        if run.secants is not None:
            files[folders.SECANTS] = vars(run.secants)
        if run.pairs is not None:
            files[folders.PAIRS] = vars(run.pairs)
        if run.branches is not None:
            files[folders.BRANCHES] = _branch_arrays(run.branches)
        digests = {}
        for name, arrays in files.items():
            np.savez_compressed(staging / name, **arrays)
            digests[name] = file_sha256(staging / name)
        meta = {**run.meta, "format": FORMAT, "files": digests}
        (staging / "run.json").write_text(seal(meta), encoding="utf-8")
        staging.chmod(0o755)
        if folder.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            os.replace(folder, retired / "run")
            os.replace(staging, folder)
            shutil.rmtree(retired)
        else:
            os.replace(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def rewrite_meta(folder: Path, change: Callable[[dict], dict]) -> None:
    """Change what run.json says of a whole run, sealed anew, in one step; its key and arrays stay.

    Errors: InputError for a run.json that is damaged, OSError for a folder that cannot be written.
    """
    in_store = folder.parent.resolve() == (folders.home() / "runs").resolve()
    # of a run that is replaced by a larger one meanwhile, what it said would lie beside other arrays
    with folders.locked(folder.parent / ".lock") if in_store else nullcontext():
        meta = change(_read_meta(folder))
        handle, staging = tempfile.mkstemp(prefix=f".{folder.name}-", dir=folder.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as f:
            f.write(seal(meta))
        os.chmod(staging, 0o644)
        os.replace(staging, folder / "run.json")


def stored_run(key: str) -> Run:
    """The run of this key in the store.

    Errors: InputError when it is not there, damaged, or another run's.
    """
    run = load_run(_place(key))
    if run.key != key:
        raise InputError(f"The stored run {key[:8]} holds the run {run.key[:8]}; calibrate it again.")
    return run


def shipped_run(key: str) -> Run | None:
    """The run of this key that comes with Blockscape; None where none does, or it is damaged."""
    for folder in folders.shipped_runs().values():
        try:
            run = load_run(folder)
        except InputError:
            continue
        if run.key == key:
            return run
    return None


def keep_run(run: Run) -> Path:
    """Write a run into the store under its key, unless it is there; a damaged one is set aside first.

    One process at a time: the others find what the first has written.
    """
    folder = _place(run.key)
    with folders.locked(folder.parent / ".lock"):
        # of a writer that was killed: the lock says that nobody writes
        for stale in folder.parent.glob(f".{run.key}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        _set_aside(run.key)
        return folder if folder.exists() else save_run(run, folder)


def extend_run(run: Run) -> Path:
    """Write a run that holds more than the stored one of its key in that one's place, in one step; what only
    that one holds, as another job has added it meanwhile, stays.
    """
    folder = _place(run.key)
    with folders.locked(folder.parent / ".lock"):
        try:
            run = _with_more(run, stored_run(run.key))
        except InputError:  # not there, or damaged
            pass
        return save_run(run, folder)


def _with_more(run: Run, known: Run) -> Run:
    """The run with the secants and pairs of another one of its key, where that has more of them."""
    found = run
    if _count_secants(known) > _count_secants(run):
        own = known.branches.secants if known.branches else None
        branches = replace(run.branches, secants=own) if run.branches else None
        found = replace(found, secants=known.secants, branches=branches, meta=_told(found, known, "secants"))
    if known.pairs and (run.pairs is None or known.pairs.part.shape[1] > run.pairs.part.shape[1]):
        found = replace(found, pairs=known.pairs, meta=_told(found, known, "pairs"))
    return found


def _told(run: Run, known: Run, what: str) -> dict:
    """What the run says of itself, with what the other one says of these."""
    return {**run.meta, **{name: value for name, value in known.meta.items() if name == what}}


def _count_secants(run: Run) -> tuple[bool, int]:
    """(whether they are by branch, of how many sequences they are)."""
    count = run.secants.A.shape[1] if run.secants else 0
    return run.branches is not None and run.branches.secants is not None, count


def set_aside(key: str) -> Path | None:
    """Move the stored run of this key to `<key>.bad-...` if it is damaged: where it is then, or None."""
    with folders.locked(_place(key).parent / ".lock"):
        return _set_aside(key)


def _set_aside(key: str) -> Path | None:
    folder = _place(key)
    if not os.path.lexists(folder):
        return None
    try:
        stored_run(key)
        return None
    except InputError:
        aside = Path(tempfile.mkdtemp(prefix=f"{key}.bad-", dir=folder.parent))
        os.replace(folder, aside)  # an empty folder gives way
        return aside


def _place(key: str) -> Path:
    return folders.home() / "runs" / key
