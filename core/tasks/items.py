"""Multiple-choice tasks: items from JSON lines with task, context, options, answer."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from core.store.folders import DEMO

BUNDLED = DEMO / "tasks.jsonl"


@dataclass(frozen=True)
class TaskItem:
    """Which option is the likeliest continuation of the context?"""

    task: str
    context: str
    options: tuple[str, ...]
    answer: int


def read_tasks(path: Path = BUNDLED) -> list[TaskItem]:
    """All items of a file, in its order."""
    with open(path, encoding="utf-8") as f:
        return [
            TaskItem(row["task"], row["context"], tuple(row["options"]), row["answer"])
            for row in map(json.loads, f)
        ]


def chance_levels(items: list[TaskItem]) -> dict[str, float]:
    """{task: accuracy of guessing}."""
    chances: dict[str, list[float]] = {}
    for item in items:
        chances.setdefault(item.task, []).append(1 / len(item.options))
    return {task: sum(values) / len(values) for task, values in chances.items()}


def tasks_digest(path: Path = BUNDLED) -> str:
    """SHA-256 of the file: what names its measurements."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
