"""Results of other tools as rows: the harness's result files, and lists of removed blocks with scores.

An imported number has no value per item, so nothing is paired with it: it is kept under its own metric
names (imported:TASK:METRIC) with the file it came from, and never counts as measured here.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import InputError
from core.ising.units import Name, Units, in_order, read_names, written
from core.store.results import Key, Results
from core.store.runs import file_sha256

_SIZE = 64 * 2**20
_PREFIX = "imported:"
_SPLIT = "imported"


@dataclass(frozen=True)
class Imported:
    """One score from elsewhere. se, n, shots: None where the file does not say; tool: what wrote it."""

    removed: tuple[Name, ...]
    task: str
    metric: str
    value: float
    source: str  # the file's name
    tool: str
    se: float | None = None
    n: int | None = None
    shots: int | None = None
    version: str | None = None  # of the task


@dataclass(frozen=True)
class Listed:
    """A state of a list from elsewhere: its label may be empty, and it may have no scores."""

    removed: tuple[Name, ...]
    label: str
    scores: dict[str, float]


def read_results(path: Path, removed: Sequence[Name] = (), units: Units | None = None) -> list[Imported]:
    """The rows of a file: a results .json of lm-evaluation-harness, or a list of states with scores.

    A list is .json ([{"removed": [3, 7], "scores": {"mmlu": 0.61}}], scores may also stand beside `removed`)
    or .csv (a column `removed` as in "3,7-9", every other numeric column a score). removed: of the model that
    a harness file is about, which does not say. units: of the model, to check them.
    Errors: InputError naming the entry that is wrong, and for `removed` beside a list, which says it itself.
    """
    path = Path(path)
    text = _text(path)
    if (
        path.suffix == ".json"
        and isinstance(content := _json(text, path), dict)
        and isinstance(content.get("results"), dict)
    ):
        return _harness_rows(content, in_order(removed), path)
    if removed:
        raise InputError(
            f"{path.name!r} is a list, which says itself what is removed; leave the blocks "
            f"{written(in_order(removed))[:60]} out, they are for a harness file."
        )
    return _states(_entries(text, path), path, units)


def read_listed(path: Path, units: Units | None = None) -> list[Listed]:
    """The states of a list as `read_results` takes it, or of what `states --json` prints.

    The field or column `label` names one, scores are optional.
    Errors: InputError naming the entry that is wrong, and for an empty list.
    """
    path = Path(path)
    found = list(_listed(_entries(_text(path), path), path, units))
    if not found:
        raise InputError(f"{path.name!r} lists no states; give at least one.")
    return found


def read_states(path: Path, units: Units | None = None) -> list[tuple[Name, ...]]:
    """The states alone, as `read_listed` takes them. Errors: InputError."""
    return [listed.removed for listed in read_listed(path, units)]


def _json(text: str, path: Path) -> object:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path.name!r} is not JSON ({str(error)[:80]}); give a harness results file, or a list of "
            "states."
        ) from None


def _entries(text: str, path: Path) -> Iterable[tuple[int, object]]:
    """(number, entry) of a list of states."""
    if path.suffix == ".csv":
        return _csv_entries(text, path)
    content = _json(text, path)
    entries = content.get("states") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise InputError(
            f"{path.name!r} has neither 'results' nor a list of states; give a harness results file, or a "
            "list of states."
        )
    return enumerate(entries, 1)


def _text(path: Path) -> str:
    if path.suffix not in (".json", ".csv") or not path.is_file():
        raise InputError(f"No results file {str(path)[:200]!r}; give a .json or .csv file.")
    if path.stat().st_size > _SIZE:
        raise InputError(f"{path.name!r} is larger than 64 MiB; give the results file, not the samples.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path.name!r} is not UTF-8 text; save it as UTF-8.") from None


def _no_constant(name: str):
    raise ValueError(f"{name} is no number")


def _harness_rows(content: dict, removed: tuple[Name, ...], path: Path) -> list[Imported]:
    tool = f"lm-evaluation-harness {content.get('lm_eval_version') or 'of unknown version'}"
    rows = []
    for task, scores in content["results"].items():
        for name, value in scores.items() if isinstance(scores, dict) else ():
            metric, comma, chosen = name.partition(",")
            if not comma or metric.endswith("_stderr") or not _is_number(value):
                continue
            about = {part: _of(content, part, task) for part in ("n-samples", "n-shot", "versions")}
            n = (
                about["n-samples"].get("effective")
                if isinstance(about["n-samples"], dict)
                else scores.get("sample_len")
            )
            se = scores.get(f"{metric}_stderr,{chosen}")
            rows.append(
                Imported(
                    removed,
                    task,
                    name,
                    float(value),
                    path.name,
                    tool,
                    se=float(se) if _is_number(se) else None,
                    n=n if isinstance(n, int) else None,
                    shots=about["n-shot"] if isinstance(about["n-shot"], int) else None,
                    version=None if about["versions"] is None else str(about["versions"]),
                )
            )
    if not rows:
        raise InputError(
            f"The results in {path.name!r} hold no number named METRIC,FILTER; give a results file of "
            "lm-evaluation-harness."
        )
    return rows


def _of(content: dict, part: str, task: str):
    return content[part].get(task) if isinstance(content.get(part), dict) else None


def _csv_entries(text: str, path: Path) -> Iterable[tuple[int, dict]]:
    try:
        reader = csv.DictReader(io.StringIO(text), strict=True)
        names = list(reader.fieldnames or [])
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(
                f"{path.name!r} has several columns {twice[:40]!r}; give each a name of its own."
            )
        if "removed" not in names:
            raise InputError(
                f"{path.name!r} has no column 'removed'; name one, with lists such as \"3,7-9\" in it."
            )
        for number, row in enumerate(reader, 1):
            if None in row or None in row.values():
                raise InputError(
                    f"Entry {number} of {path.name!r} has not as many cells as there are columns; quote "
                    "lists with commas."
                )
            yield (
                number,
                {
                    name: value if name in ("removed", "label") else _cell(value)
                    for name, value in row.items()
                    if value or name == "removed"
                },
            )
    except csv.Error as error:
        raise InputError(
            f"{path.name!r} is not CSV ({error}); save it as CSV with a column 'removed'."
        ) from None


def _cell(value: str):
    return float(value) if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value) else value


def _states(entries: Iterable[tuple[int, object]], path: Path, units: Units | None) -> list[Imported]:
    rows = []
    first: dict[tuple[tuple[Name, ...], str], int] = {}  # where each score of each state stands
    for number, listed in enumerate(_listed(entries, path, units), 1):
        if not listed.scores:
            raise InputError(
                f"Entry {number} of {path.name!r} holds no score; give each score a name and a finite number."
            )
        for name in listed.scores:
            if first.setdefault((listed.removed, name), number) != number:
                raise InputError(
                    f"Entry {number} of {path.name!r} gives {name[:40]!r} of the state "
                    f"{written(listed.removed) or 'original'!r}, and so does entry "
                    f"{first[listed.removed, name]}; give it once."
                )
        rows += [
            Imported(listed.removed, name, "score", value, path.name, "list of states")
            for name, value in listed.scores.items()
        ]
    if not rows:
        raise InputError(f"{path.name!r} lists no states; give at least one with a score.")
    return rows


def _listed(entries: Iterable[tuple[int, object]], path: Path, units: Units | None) -> Iterator[Listed]:
    for number, entry in entries:
        where = f"Entry {number} of {path.name!r}"
        if not isinstance(entry, dict) or "removed" not in entry:
            raise InputError(
                f'{where} names no removed blocks; write for example {{"removed": [3, 7], "scores": '
                '{"mmlu": 0.61}}.'
            )
        given = entry.get(
            "scores", {name: value for name, value in entry.items() if name not in ("removed", "label")}
        )
        scores = (
            {str(name)[:200]: float(value) for name, value in given.items() if _is_number(value)}
            if isinstance(given, dict)
            else {}
        )
        label = "" if entry.get("label") is None else " ".join(str(entry["label"]).split())[:80]
        yield Listed(_removed(entry["removed"], where, units), label, scores)


def _removed(value: object, where: str, units: Units | None) -> tuple[Name, ...]:
    """The stored name of a list of units, or of text as core.ising.units.read_names takes it; checked where
    the model's units are known.

    Nothing removed is a state too.
    """
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    if not text.strip():
        return ()
    try:
        return read_names(text) if units is None else units.stored(units.parse(text))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float is as large as
        return False


def keep(model: str, path: Path, rows: Sequence[Imported]) -> int:
    """Keep the rows of a file as results of the model with this key (core.compare.comparison.model_key).

    Returns how many are new.
    """
    digest, found = file_sha256(Path(path)), []
    for row in rows:
        about = {name: getattr(row, name) for name in ("source", "tool", "se", "n", "shots", "version")}
        key = Key(
            model,
            row.removed,
            digest,
            _SPLIT,
            f"{_PREFIX}{row.task}:{row.metric}",
            json.dumps(about, sort_keys=True),
        )
        found.append((key, {0: row.value}))
    return Results().put_all(found)


def kept(model: str) -> list[Imported]:
    """Every imported row of the model with this key."""
    rows = []
    for found in Results().of_model(model, split=_SPLIT):
        if found.key.metric.startswith(_PREFIX):
            task, _, metric = found.key.metric.removeprefix(_PREFIX).rpartition(":")
            rows.append(
                Imported(
                    found.key.removed, task, metric, float(found.values[0]), **json.loads(found.key.settings)
                )
            )
    return rows
