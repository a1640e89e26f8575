"""What a calibration will take, from what a `describe` job has measured."""

import math

from core.texts.packing import shares


def calibration_cost(description: dict, samples: int, singles: int) -> tuple[float, int]:
    """(seconds, peak bytes) of a calibration on the machine that made the description.

    Rows cost a forward and backward a batch; all single removals what the description has measured, or a
    forward each where it is of a version that did not share hidden states. More sequences take more time,
    not more memory: batches are equal.
    """
    batch, blocks = description["batch"], len(description["blocks"])
    rows = math.ceil(samples / batch) * description["rows_seconds"]
    each = description.get("singles_seconds", (blocks + 1) * description["forward_seconds"])
    single_removals = math.ceil(singles / batch) * each
    own = sum(_of_own(description, count) for count in (samples, singles)) * description["own_seconds"]
    return description["load_seconds"] + own + rows + single_removals, description["memory"]


def lacking(description: dict, split: str, samples: int) -> list[tuple[str, int, int]]:
    """[(part, sequences that its weight asks for, sequences there are)] of the parts of the texts that give
    too few.
    """
    asked = _asked(description, samples)
    return [
        (p["name"], n, p["have"][split]) for p, n in asked if p["have"] is not None and n > p["have"][split]
    ]


def _of_own(description: dict, samples: int) -> int:
    return sum(n for part, n in _asked(description, samples) if part["have"] is None)


def _asked(description: dict, samples: int) -> list[tuple[dict, int]]:
    """(part, how many of the samples it gives) of all that are drawn from."""
    parts = description["parts"]
    return list(zip(parts, shares(samples, [p["weight"] for p in parts])))
