"""Measured states side by side: what the store knows about a model, one row a state."""

import math
from dataclasses import dataclass, field

from core.results import Measurement, Results
from core.runs import Run, canonical_key


@dataclass(frozen=True)
class Score:
    """An accuracy with its 95 % Wilson interval."""

    accuracy: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Row:
    """What is measured of one state; None where nothing is."""

    removed: tuple[int, ...]
    parameters: int
    bytes: int
    loss: Measurement | None = None
    increase: tuple[float, float, int] | None = None  # against the original, on the same sequences: nats, standard error, n
    tasks: dict[str, Score] = field(default_factory=dict)
    tokens_per_second: float | None = None

    @property
    def tied(self) -> bool:
        """The loss cannot be told from the original's: the increase is within two standard errors."""
        return self.increase is not None and abs(self.increase[0]) <= 2 * self.increase[1]


def model_key(run: Run) -> str:
    """The name of a run's model in the store of results."""
    return canonical_key({"config": run.meta["model"]["config"], "weights": run.meta["model"]["weights"]})


def wilson(successes: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a proportion."""
    p, scale = successes / n, 1 + z * z / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def compare(run: Run, states: list[tuple[int, ...]], results: Results) -> list[Row]:
    """One row for the original and for every state, from the measurements of the run's model.

    Where a state was measured on several texts or settings, the one with most items in
    common with the original counts.
    """
    return _rows(run, states, results.of_model(model_key(run)))


def _rows(run: Run, states: list[tuple[int, ...]], found: list[Measurement]) -> list[Row]:
    model = run.meta["model"]
    originals = {(m.key.data, m.key.settings): m for m in found if m.key.metric == "loss" and not m.key.removed}
    rows = []
    for state in [(), *states]:
        own = [m for m in found if m.key.removed == state]
        losses = [m for m in own if m.key.metric == "loss"]
        loss = max(
            losses,
            key=lambda m: m.minus(originals[m.key.data, m.key.settings])[2] if (m.key.data, m.key.settings) in originals else 0,
            default=None,
        )
        base = originals.get((loss.key.data, loss.key.settings)) if loss else None
        tasks = {}
        for m in own:
            if m.key.metric.startswith("task:"):
                n = len(m.values)
                tasks[m.key.metric.removeprefix("task:")] = Score(m.mean, *wilson(float(m.values.sum()), n), n)
        speeds = [m.mean for m in own if m.key.metric == "tokens_per_second"]
        rows.append(
            Row(
                state,
                model["parameters"] - sum(model["blocks"][b]["parameters"] for b in state),
                model["bytes"] - sum(model["blocks"][b]["bytes"] for b in state),
                loss, loss.minus(base) if state and base else None, tasks, max(speeds, default=None),
            )
        )  # fmt: skip
    return rows


def measured_increases(run: Run, results: Results) -> dict[tuple[int, ...], tuple[float, float, int]]:
    """{state: (loss increase, standard error, n)} of every measured state of the run's model."""
    found = results.of_model(model_key(run))
    states = {m.key.removed for m in found if m.key.metric == "loss" and m.key.removed}
    return {row.removed: row.increase for row in _rows(run, sorted(states), found) if row.increase and row.increase[2]}
