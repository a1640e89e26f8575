"""Measurements in one SQLite file, the value of every item kept.

HOME/results.sqlite (WAL). A measurement is named by what changes its values:
the model's weights, the removed blocks, the data and its split, the metric and
the settings. An item is written once: what was measured is never measured again,
and states are compared on the same items.
"""

import gzip
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from core.ising.units import Name, name_text, read_name
from core.store import folders

_SCHEMA = """
CREATE TABLE IF NOT EXISTS measurement (
    id INTEGER PRIMARY KEY, model TEXT, removed TEXT, data TEXT, split TEXT, metric TEXT, settings TEXT,
    seconds REAL DEFAULT 0, versions TEXT,
    UNIQUE (model, removed, data, split, metric, settings)
);
CREATE TABLE IF NOT EXISTS item (
    measurement INTEGER, item INTEGER, value REAL NOT NULL, PRIMARY KEY (measurement, item)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answer (
    model TEXT, removed TEXT, prompt TEXT, settings TEXT, text TEXT NOT NULL,
    PRIMARY KEY (model, removed, prompt, settings)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS response (
    source TEXT, request TEXT, value TEXT NOT NULL, PRIMARY KEY (source, request)
) WITHOUT ROWID;
"""


# metrics of what is measured of a state on sequences, one value each: core.model.losses.Distances
LOSS, KL, SAME = "loss", "kl", "same"
RULERS = (LOSS, KL)  # what a search may go by, the lowest first
JS = "js"  # Jensen-Shannon divergence to the original, nats a token: what FinerCut goes by
_MADE = 3  # user_version of a file that has these tables, and what ships; more whenever either changes


@dataclass(frozen=True)
class Key:
    """What names a measurement; `model`, `data` and `settings` are hashes or canonical JSON."""

    model: str
    removed: tuple[Name, ...]  # as core.ising.units stores a state: 3 a block, "12a" a branch
    data: str
    split: str
    metric: str
    settings: str = "{}"

    def columns(self) -> tuple[str, ...]:
        """Its fields as the table holds them."""
        model, removed, *rest = astuple(self)
        return (model, name_text(removed), *rest)


@dataclass(frozen=True)
class Measurement:
    """The values of one measurement, item by item."""

    key: Key
    items: np.ndarray  # int64 [n], sorted
    values: np.ndarray  # float64 [n]
    seconds: float
    versions: Mapping[str, str] = field(default_factory=dict)  # of what measured its first item

    def to_json(self) -> dict:
        """All of it, as a file that ships holds it."""
        values = dict(zip(self.items.tolist(), self.values.tolist()))
        return {
            **asdict(self.key),
            "seconds": self.seconds,
            "versions": dict(self.versions),
            "values": values,
        }

    @property
    def mean(self) -> float:
        """The mean over the items."""
        return float(self.values.mean())

    @property
    def se(self) -> float:
        """Standard error of the mean; NaN for a single item."""
        return _standard_error(self.values)

    def minus(self, other: "Measurement") -> tuple[float, float, int]:
        """(mean, standard error, n) of the paired difference over the items both have."""
        _, mine, theirs = np.intersect1d(self.items, other.items, return_indices=True)
        difference = self.values[mine] - other.values[theirs]
        if not len(difference):
            return math.nan, math.nan, 0
        return float(difference.mean()), _standard_error(difference), len(difference)


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


class Results:
    """The store's measurements; several processes may use it at once."""

    def __init__(self, path: Path | None = None):
        self.path = path or folders.home() / "results.sqlite"

    @property
    def _is_empty(self) -> bool:
        """Whether nothing was measured here and nothing ships: no file need be made to say so."""
        return not self.path.exists() and next(_shipped_files(), None) is None

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=30)
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] < _MADE:
                self._make(connection)
            with connection:
                yield connection
        finally:
            connection.close()

    def _make(self, connection: sqlite3.Connection) -> None:
        """The tables of a new file. SQLite does not wait when two processes change the journal at once: it
        says that the file is locked, so one process makes them.
        """
        with folders.locked(self.path.with_name("results.lock")):
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(_SCHEMA)
            for key, values, seconds, versions in _shipped():
                _put(connection, key, values, seconds, versions)
            connection.execute(f"PRAGMA user_version={_MADE}")

    def put(
        self, key: Key, values: dict[int, float], seconds: float = 0.0, versions: dict | None = None
    ) -> int:
        """Add items of a measurement; those already there stay as they are. Returns how many were new."""
        with self._connection() as c:
            return _put(c, key, values, seconds, versions or {})

    def put_all(self, found: Iterable[tuple[Key, dict[int, float]]]) -> int:
        """`put` of several measurements at once, all or none. Returns how many items were new."""
        with self._connection() as c:
            return sum(_put(c, key, values, 0.0, {}) for key, values in found)

    def items(self, key: Key) -> set[int]:
        """The items already measured."""
        with self._connection() as c:
            rows = c.execute(
                f"SELECT item FROM item JOIN measurement ON id = measurement WHERE {_WHERE}", key.columns()
            )
            return {row[0] for row in rows}

    @property
    def stamp(self) -> tuple:
        """Changes whenever something was written: what was read under the same stamp is still so."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return tuple((s.st_mtime_ns, s.st_size) for s in (f.stat() for f in files if f.exists()))

    def of_model(
        self, model: str, *, split: str | None = None, but: str | None = None, like: Key | None = None
    ) -> list[Measurement]:
        """What is measured on the model with these weights.

        split: only this one; but: the one that is left out; like: only what differs from it in the removed
        blocks alone.

        A search leaves hundreds of thousands of items on the split it chooses on: who does not want them
        leaves them out here.
        """
        if self._is_empty:
            return []
        where, values = "model = ?", [model]
        for condition, value in (("split = ?", split), ("split != ?", but)):
            if value is not None:
                where, values = f"{where} AND {condition}", [*values, value]
        if like is not None:
            where += " AND data = ? AND split = ? AND metric = ? AND settings = ?"
            values += like.columns()[2:]
        return list(_measurements(self.path, self.stamp, where, tuple(values)))

    def _read(self, where: str, values: tuple) -> Iterator[Measurement]:
        """What the table holds under a condition, whose first value is the model."""
        with self._connection() as c:
            rows = c.execute(
                "SELECT id, removed, data, split, metric, settings, seconds, versions, item, value FROM "
                "measurement JOIN item ON id = measurement "
                f"WHERE {where} ORDER BY id, item",
                values,
            ).fetchall()
        state_of = cache(read_name)
        found: dict[int, tuple] = {}
        for number, removed, data, split, metric, settings, seconds, versions, item, value in rows:
            if number not in found:
                key = Key(values[0], state_of(removed), data, split, metric, settings)
                found[number] = (key, [], [], seconds, versions)
            found[number][1].append(item)
            found[number][2].append(value)
        for key, items, own, seconds, versions in found.values():
            yield Measurement(key, _fixed(items), _fixed(own), seconds, json.loads(versions))

    def seconds_per_token(self, model: str) -> float | None:
        """Of a forward of the original, from what it took to measure its losses; None where nothing was."""
        if self._is_empty:
            return None
        with self._connection() as c:
            rows = c.execute(
                "SELECT seconds, settings, COUNT(*) FROM measurement JOIN item ON id = measurement "
                "WHERE model = ? AND removed = '' AND metric = 'loss' AND seconds > 0 GROUP BY id",
                (model,),
            ).fetchall()
        tokens = sum(items * json.loads(settings).get("length", 0) for _, settings, items in rows)
        return sum(seconds for seconds, _, _ in rows) / tokens if tokens else None

    def put_answer(
        self, model: str, removed: tuple[Name, ...], prompt: str, settings: str, text: str
    ) -> None:
        """Keep what a model without these blocks answers to a prompt; a later answer replaces it."""
        with self._connection() as c:
            c.execute(
                "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?)",
                (model, name_text(removed), prompt, settings, text),
            )

    def answers(self, model: str, settings: str | None = None) -> dict[tuple[tuple[Name, ...], str], str]:
        """{(removed blocks, prompt): text} of a model, in these settings; None: in any, of several the answer
        whose settings say most of how it came about.
        """
        if not self.path.exists():
            return {}
        with self._connection() as c:
            rows = c.execute(
                "SELECT removed, prompt, text FROM answer WHERE model = ? AND "
                "settings = coalesce(?, settings) ORDER BY length(settings)",
                (model, settings),
            ).fetchall()
        return {(read_name(r), prompt): text for r, prompt, text in rows}

    def put_responses(self, source: str, values: dict[str, str]) -> int:
        """Add what a model said, {request: value}; a request already answered stays as it is.

        source: names the model, its removed blocks and all else that changes what it says; request: names
        what it was asked. Returns how many were new.
        """
        with self._connection() as c:
            rows = [(source, request, value) for request, value in values.items()]
            return c.executemany("INSERT OR IGNORE INTO response VALUES (?, ?, ?)", rows).rowcount

    def responses(self, source: str) -> dict[str, str]:
        """{request: value} of a source."""
        if not self.path.exists():
            return {}
        with self._connection() as c:
            return dict(c.execute("SELECT request, value FROM response WHERE source = ?", (source,)))


def _put(c: sqlite3.Connection, key: Key, values: dict[int, float], seconds: float, versions: dict) -> int:
    c.execute(
        "INSERT OR IGNORE INTO measurement (model, removed, data, split, metric, settings, versions) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*key.columns(), json.dumps(versions)),
    )
    (number,) = c.execute(f"SELECT id FROM measurement WHERE {_WHERE}", key.columns()).fetchone()
    c.execute("UPDATE measurement SET seconds = seconds + ? WHERE id = ?", (seconds, number))
    rows = [(number, int(item), float(value)) for item, value in values.items()]
    return c.executemany("INSERT OR IGNORE INTO item VALUES (?, ?, ?)", rows).rowcount


@lru_cache(maxsize=4)
def _measurements(path: Path, stamp: tuple, where: str, values: tuple) -> tuple[Measurement, ...]:
    """Read once while the file stays as it is: pages ask for the same again at every M."""
    return tuple(Results(path)._read(where, values))


def _fixed(values: list) -> np.ndarray:
    """An array that nobody changes, since all who ask are given the same."""
    array = np.array(values)
    array.flags.writeable = False
    return array


def _shipped_files() -> Iterator[Path]:
    return (f for run in folders.shipped_runs().values() if (f := run.parent / folders.MEASURED).is_file())


def _shipped() -> Iterator[tuple[Key, dict[int, float], float, dict]]:
    """(key, values, seconds, versions) of every measurement that comes with Blockscape."""
    for file in _shipped_files():
        for m in json.loads(gzip.decompress(file.read_bytes())):
            key = Key(
                m["model"], tuple(m["removed"]), *(m[n] for n in ("data", "split", "metric", "settings"))
            )
            yield key, {int(i): v for i, v in m["values"].items()}, m["seconds"], m["versions"]


_WHERE = "model = ? AND removed = ? AND data = ? AND split = ? AND metric = ? AND settings = ?"
