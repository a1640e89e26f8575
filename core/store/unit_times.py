"""How long a token takes at a context, and what one branch of each kind has of it, as it was measured
(`python -m core speed`): kept with the measurements, named by the model's weights.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from core.store.results import Key, Results
from core.store.runs import canonical_key

METRIC = "milliseconds_a_token"  # of the whole model; behind a colon, of one branch of a kind


def model_key(model: Mapping[str, Any]) -> str:
    """The name of a run's model (run.meta["model"]) in the store of results."""
    return canonical_key({"config": model["config"], "weights": model["weights"]})


def keep_times(model: str, context: int, device: str, whole: float, kinds: Mapping[str, float]) -> None:
    """Keep milliseconds a token at `context`: of the whole model under the key `model`, and of one branch of
    each kind. What is known of this device already stays.
    """
    settings = json.dumps({"context": context, "device": device})
    for metric, value in {METRIC: whole, **{f"{METRIC}:{kind}": ms for kind, ms in kinds.items()}}.items():
        Results().put(Key(model, (), "speed", "", metric, settings), {0: value})


def unit_times(model: Mapping[str, Any], context: int) -> tuple[float, np.ndarray] | None:
    """(milliseconds a token of the whole model at `context`, float64 [N] of each of its units), of the device
    that was measured last; None where it was never measured.

    model: run.meta["model"], by block or by branch. A kind that has one branch only, or costs less than the
    clock shows, counts as 0: it stays in what nothing removes.
    """
    if not model.get("weights"):
        return None
    by_device: dict[str, dict[str, float]] = {}
    for m in Results().of_model(model_key(model), split=""):
        own, _, kind = m.key.metric.partition(":")
        settings = json.loads(m.key.settings) if own == METRIC else {}
        if settings.get("context") == context:
            by_device.setdefault(settings["device"], {})[kind] = m.mean
    if not by_device:
        return None
    times = list(by_device.values())[-1]
    return times.get("", 0.0), np.array(
        [sum(times.get(kind, 0.0) for kind in _kinds(unit)) for unit in model["blocks"]]
    )


def _kinds(unit: Mapping[str, Any]) -> list[str]:
    """Of the branches of a unit."""
    return [part["kind"] for part in unit.get("branches", ())] or unit["kind"].split(" + ")
