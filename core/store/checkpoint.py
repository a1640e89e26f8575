"""What long work has done so far, kept on disk: named groups of arrays, and the plan they came from."""

import hashlib
import io
import json
import os
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

# groups of a calibration: rows from a sequence on, and the first column of each block in them
ROWS, COLUMNS, FIRST = "branches-", "columns", "first"


class Checkpoint:
    """Named groups of arrays in memory, and every two seconds in a folder.

        FOLDER/<sha256>.npz    groups computed since the file before, with their plan and key
        FOLDER/<sha256>.bad    what a file was renamed to whose content is not what its name says

    A file's name is the SHA-256 of its content and is given by one rename: it is whole, or it
    is set aside and its groups are absent, to be computed again. Files of another `key` are
    left alone. `plan` becomes the plan of what was found (the work goes on as it began).
    """

    INTERVAL = float(os.environ.get("BLOCKSCAPE_CHECKPOINT_SECONDS", 2))

    def __init__(self, folder: Path | None, plan: dict, key: str = ""):
        self.folder, self.plan, self.key = folder, plan, key
        self.items: dict[str, dict[str, np.ndarray]] = {}
        self.unsaved: dict[str, np.ndarray] = {}
        self.damaged = 0  # files set aside
        self.last = time.monotonic()
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(folder.glob("*.npz")):
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() != file.stem:
                os.replace(file, file.with_suffix(".bad"))
                self.damaged += 1
            else:
                self._take(content)

    def _take(self, content: bytes) -> None:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            if about["key"] != self.key:
                return
            self.plan = about["plan"]
            for name in arrays.files:
                group, bar, field = name.partition("|")
                if bar:
                    self.items.setdefault(group, {})[field] = arrays[name]

    def __contains__(self, group: str) -> bool:
        return group in self.items

    def __getitem__(self, group: str) -> dict[str, np.ndarray]:
        return self.items[group]

    def put(self, group: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep a group under its name, without a `|`; on disk at the latest with the next `flush`."""
        self.items[group] = arrays
        self.unsaved |= {f"{group}|{field}": value for field, value in arrays.items()}
        if time.monotonic() - self.last > self.INTERVAL:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet, as one more file."""
        if self.folder is not None and self.unsaved:
            buffer = io.BytesIO()
            about = np.array(json.dumps({"key": self.key, "plan": self.plan}))
            np.savez(buffer, allow_pickle=False, about=about, **self.unsaved)
            content = buffer.getvalue()
            # a file of its own: several processes may share the folder
            handle, part = tempfile.mkstemp(prefix=".part-", dir=self.folder)
            with os.fdopen(handle, "wb") as f:
                f.write(content)
                f.flush()
                os.fsync(f.fileno())
            os.replace(part, self.folder / f"{hashlib.sha256(content).hexdigest()}.npz")
        self.unsaved, self.last = {}, time.monotonic()


def rows_so_far(folder: Path) -> np.ndarray | None:
    """float32 [m, N]: the gradient rows a running calibration has saved, in order, columns of a block's
    branches added up; None before the first.
    """
    rows: dict[int, np.ndarray] = {}
    first = None
    for file in folder.glob("*.npz"):
        try:
            with np.load(file, allow_pickle=False) as arrays:
                rows |= {
                    int(name.removeprefix(ROWS).removesuffix("|A")): arrays[name]
                    for name in arrays.files
                    if name.startswith(ROWS) and name.endswith("|A")
                }
                first = arrays[f"{COLUMNS}|{FIRST}"] if f"{COLUMNS}|{FIRST}" in arrays.files else first
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            # the worker has just ended and cleared its folder
            continue
    if not rows or first is None:  # one that was begun before a row had columns of branches
        return None
    return np.add.reduceat(np.concatenate([rows[start] for start in sorted(rows)]), first, axis=-1)
