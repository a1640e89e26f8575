"""What the harness found, as rows: core.tasks.scores says what a row is."""

import math
from collections.abc import Sequence
from numbers import Real

import numpy as np

from core.compare.comparison import wilson
from core.tasks.presets import Preset
from core.tasks.scores import Z


def rows_of(found: dict, preset: Preset) -> dict:
    """{tasks: {task: row}, groups: {group: {METRIC,FILTER: value}}} of what lm_eval's `evaluate` returns."""
    tasks = {}
    for name, samples in found["samples"].items():
        metrics = _numbers(found["results"][name])
        metric = preset.quoted(name) if preset.quoted(name) in metrics else next(iter(metrics))
        base, _, chosen = metric.partition(",")
        options = [len(s["arguments"]) for s in samples]
        of_options = found["configs"][name].get("output_type") == "multiple_choice"
        tasks[name] = {
            "metric": metric,
            "value": metrics[metric],
            **interval(metrics[metric], [s[base] for s in samples if s["filter"] == chosen and base in s]),
            "higher_is_better": found["higher_is_better"].get(name, {}).get(base) is not False,
            "chance": sum(1 / n for n in options) / len(options) if of_options else None,
            "n": len({s["doc_id"] for s in samples}),
            "shots": found["n-shot"][name],
            "version": str(found["versions"].get(name)),
            "metrics": metrics,
        }
    return {
        "tasks": tasks,
        "groups": {name: _numbers(scores) for name, scores in found.get("groups", {}).items()},
    }


def is_mean(value: float, items: Sequence) -> bool:
    """Whether what the harness makes of the items is their mean."""
    return _are_numbers(items) and math.isclose(value, float(np.mean(items)), rel_tol=1e-9, abs_tol=1e-12)


def interval(value: float, items: Sequence) -> dict[str, float | None]:
    """{se, low, high}: standard error and 95 % interval of what the harness makes of a task's items.

    Wilson's for shares, 1.96 standard errors to each side for other means; a perplexity is exp(-mean of
    log-likelihoods), and so are its ends. None where the items do not say, or no float is as large.
    """
    if len(items) < 2 or not _are_numbers(items):
        return {"se": None, "low": None, "high": None}
    values = np.asarray(items, dtype=np.float64)
    if not np.isfinite(values).all():  # of a model that overflows
        return {"se": None, "low": None, "high": None}
    mean, se = float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
    if is_mean(value, items):
        shares = bool(np.isin(values, (0, 1)).all())
        low, high = wilson(values.sum(), len(values), Z) if shares else (mean - Z * se, mean + Z * se)
        return {"se": se, "low": float(low), "high": float(high)}
    if -mean + Z * se < 700 and math.isclose(value, math.exp(-mean), rel_tol=1e-9):
        return {"se": value * se, "low": math.exp(-mean - Z * se), "high": math.exp(-mean + Z * se)}
    return {"se": None, "low": None, "high": None}


def _are_numbers(items: Sequence) -> bool:
    return bool(items) and all(isinstance(v, Real) for v in items)


def _numbers(scores: dict) -> dict[str, float]:
    return {
        k: float(v)
        for k, v in scores.items()
        if "," in k and "_stderr" not in k and isinstance(v, int | float)
    }
