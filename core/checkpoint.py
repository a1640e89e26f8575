"""What long work has done so far, kept on disk: named groups of arrays, and the plan they were computed with."""

import json
import os
import time
from pathlib import Path

import numpy as np


class Checkpoint:
    """Named groups of arrays in memory, and every two seconds in a folder: numbered files, each whole or absent."""

    INTERVAL = float(os.environ.get("BLOCKSCAPE_CHECKPOINT_SECONDS", 2))

    def __init__(self, folder: Path | None, plan: dict):
        self.folder, self.plan, self.items, self.unsaved = folder, plan, {}, {}
        self.last = time.monotonic()
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "plan.json").exists():
            (folder / ".plan").write_text(json.dumps(plan), encoding="utf-8")
            os.replace(folder / ".plan", folder / "plan.json")
        self.plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        self.files = 0
        while (folder / f"{self.files}.npz").exists():
            with np.load(folder / f"{self.files}.npz", allow_pickle=False) as arrays:
                for name in arrays.files:
                    group, _, key = name.partition("|")
                    self.items.setdefault(group, {})[key] = arrays[name]
            self.files += 1

    def __contains__(self, group: str) -> bool:
        return group in self.items

    def __getitem__(self, group: str) -> dict[str, np.ndarray]:
        return self.items[group]

    def put(self, group: str, arrays: dict[str, np.ndarray]) -> None:
        self.items[group] = arrays
        self.unsaved |= {f"{group}|{key}": value for key, value in arrays.items()}
        if time.monotonic() - self.last > self.INTERVAL:
            self.flush()

    def flush(self) -> None:
        if self.folder is not None and self.unsaved:
            with open(self.folder / ".part", "wb") as f:
                np.savez(f, **self.unsaved)
                f.flush()
                os.fsync(f.fileno())
            os.replace(self.folder / ".part", self.folder / f"{self.files}.npz")
            self.files += 1
        self.unsaved, self.last = {}, time.monotonic()
