"""Scores of tasks as data: each with its metric's name, its interval, and which way is better.

A row is what core.measure.harness makes of one task: {metric (METRIC,FILTER), value, se, low, high,
higher_is_better, chance, n, shots, version, metrics}; low and high are a 95 % interval.
"""

import math
from collections.abc import Sequence

# of the harness's own metrics those that are better where they are lower
_LOWER = {"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter"}
Z = 1.96  # of a 95 % interval


def todays(row: dict) -> dict:
    """A row as it is written today; one of before stood under `accuracy`, whatever its metric was."""
    if "accuracy" not in row:
        return row
    rest = {name: value for name, value in row.items() if name not in ("accuracy", "se")}
    metric, value, se = row["metric"].split(",")[0], row["accuracy"], row["se"]
    low = high = None
    if se is not None and metric == "perplexity":  # its error was that of the items' log-likelihoods
        low, high, se = value * math.exp(-Z * se), value * math.exp(Z * se), value * se
    elif se is not None:
        low, high = value - Z * se, value + Z * se
    return {
        **rest,
        "value": value,
        "se": se,
        "low": low,
        "high": high,
        "higher_is_better": metric not in _LOWER,
    }


def called(metric: str) -> str:
    """METRIC,FILTER as people read it: acc_norm, or exact_match (strict-match)."""
    name, _, chosen = metric.partition(",")
    return name if chosen in ("", "none") else f"{name} ({chosen})"


def title(task: str, row: dict) -> str:
    """A task with its metric, which way is better where that is down, items and chance."""
    down = "" if row["higher_is_better"] else ", lower is better"
    chance = "" if row["chance"] is None else f", chance {row['chance']:.2f}"
    return f"{task} {called(row['metric'])}{down} (n = {row['n']}{chance})"


def told(row: dict) -> str:
    """The value with its interval, where it has one."""
    digits = ".3f" if abs(row["value"]) < 10 else ".4g"
    interval = "" if row["low"] is None else f" [{row['low']:{digits}} {row['high']:{digits}}]"
    return f"{row['value']:{digits}}{interval}"


def best_first(states: Sequence[dict], task: str) -> list[dict]:
    """States as the harness's results list them, the original first, then the best by this task's metric;
    those whose score is no number come last.
    """

    def place(state: dict) -> tuple[bool, bool, float]:
        row = state["tasks"][task]
        worth = -row["value"] if row["higher_is_better"] else row["value"]
        return bool(state["removed"]), math.isnan(worth), worth

    return sorted(states, key=place)
